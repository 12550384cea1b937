//! How each client comes to the manifest that a reference stands for, and what it accepts as one.

use ::http::header::{CONTENT_TYPE, HeaderName};

use super::cause::{Cause, Finding};
use super::judge::{Judge, Outcome, named, shown_type};
use super::media::{self, Named};
use super::observation::Answer;
use super::profile::Family;
use super::question::{Accept, Question, Verb, short};
use crate::oci::{Algorithm, Descriptor, Digest, Kind, MAX_MANIFEST_SIZE, Manifest, Reference};

/// `Docker-Content-Digest`
const DIGEST_HEADER: HeaderName = HeaderName::from_static("docker-content-digest");

impl Judge<'_> {
    /// The manifest that a reference stands for.
    pub(super) fn manifest(&mut self, reference: &Reference) -> Outcome<Manifest> {
        let manifest = match self.family {
            Family::Graph { .. } => self.graph(reference),
            Family::Containerd { .. } => self.containerd(reference),
            Family::ContainersImage { .. } | Family::GoContainerregistry => self.fetched(reference),
            Family::OrasGo => self.oras(reference),
            Family::Specification => self.specified(reference),
        }?;
        let digests = [Some(*manifest.digest()), digest_of(reference).copied()];
        let named = manifest.blobs().chain(manifest.children()).map(|entry| entry.digest);
        let sha512 = digests.into_iter().flatten().chain(named).find(|digest| digest.algorithm() == Algorithm::Sha512);
        if let (Some(digest), false) = (sha512, self.family.keeps_sha512()) {
            let question = Question::manifest(Verb::Get, reference.clone(), self.accept());
            let says = format!("{} is a sha512, and this client keeps content by sha256 only", short(&digest));
            return Err(Finding::new(Cause::KindUnknown, &question, says));
        }
        Ok(manifest)
    }

    /// Docker's graph store asks `HEAD`, which may be refused, and then `GET` by digest.
    ///
    /// Source: distribution 2.8, `registry/client/repository.go`, `tags.Get` and `descriptorFromResponse`.
    fn graph(&mut self, reference: &Reference) -> Outcome<Manifest> {
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(_) => {
                let head = Question::manifest(Verb::Head, reference.clone(), Accept::Lines);
                let told = self.heard(&head)?;
                let named = told.first(&DIGEST_HEADER).is_some_and(|text| !text.is_empty());
                if told.status < 400 && named {
                    self.described(&head, told)?
                } else {
                    let get = Question::manifest(Verb::Get, reference.clone(), Accept::Lines);
                    let answer = self.got(&get)?;
                    if told.status >= 400 {
                        self.note(Cause::HeadRefused, &head, format!("{head} is answered {}", told.status));
                    } else {
                        self.note(Cause::DigestHeaderMissing, &head, without_digest(&head));
                    }
                    if answer.first(&DIGEST_HEADER).is_some_and(|text| !text.is_empty()) {
                        self.described(&get, answer)?
                    } else {
                        let manifest = self.body(&get, answer, None)?;
                        self.reads(&get, answer, &manifest)?;
                        *manifest.digest()
                    }
                }
            }
        };
        let question = Question::manifest(Verb::Get, digest, Accept::Lines);
        let answer = self.got(&question).map_err(|finding| self.blame_header(finding, reference, &digest))?;
        let manifest = match self.body(&question, answer, Some(&digest)) {
            // It writes into its log that it can't keep the manifest, and goes on.
            Err(finding) if finding.cause == Cause::Damaged && digest_of(reference).is_none() => {
                let manifest = self.body(&question, answer, None)?;
                self.notes.push(finding);
                manifest
            }
            other => other?,
        };
        self.reads(&question, answer, &manifest)?;
        self.stale(reference, &digest);
        Ok(manifest)
    }

    /// What headers alone say.
    fn described(&self, question: &Question, answer: &Answer) -> Outcome<Digest> {
        if answer.content_type().is_none() {
            return Err(Finding::new(Cause::TypeMissing, question, without_type(question)));
        }
        let digest = self.digest_header(question, answer)?;
        let digest =
            digest.ok_or_else(|| Finding::new(Cause::DigestHeaderMissing, question, without_digest(question)))?;
        if answer.content_length().is_none() {
            return Err(Finding::new(Cause::LengthMissing, question, without_length(question)));
        }
        Ok(digest)
    }

    /// containerd asks `HEAD`, which must not be refused, and then `GET` by digest.
    ///
    /// Source: containerd, `remotes/docker/resolver.go`, `Resolve`.
    fn containerd(&mut self, reference: &Reference) -> Outcome<Manifest> {
        let head = Question::manifest(Verb::Head, reference.clone(), Accept::OneLine);
        let get = Question::manifest(Verb::Get, reference.clone(), Accept::OneLine);
        let told = match self.got(&head) {
            Ok(told) => told,
            // Then, and only then, GET is asked for the same.
            Err(_) if self.heard(&head).is_ok_and(|told| told.status == 405) => {
                self.note(Cause::HeadRefused, &head, format!("{head} is answered 405"));
                self.got(&get)?
            }
            Err(finding) => return Err(self.blame_head(&head, &get, finding)),
        };
        let mut length = told.content_length();
        let mut typed = told;
        let mut typed_by = &head;
        let header = if matches!(reference, Reference::Tag(_)) { self.digest_header(&head, told)? } else { None };
        let known = match reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(_) => header,
        };
        let digest = match known {
            Some(digest) if length.is_some() => digest,
            _ => {
                let answer = self.got(&get)?;
                if known.is_none() {
                    self.note(Cause::DigestHeaderMissing, &head, without_digest(&head));
                } else {
                    self.note(Cause::LengthMissing, &head, without_length(&head));
                }
                (typed, typed_by) = (answer, &get);
                length = None;
                *self.body(&get, answer, None)?.digest()
            }
        };
        if length.is_some_and(|length| length > MAX_MANIFEST_SIZE) {
            let says = format!("{head} announces more bytes than a manifest can have");
            return Err(Finding::new(Cause::TooLarge, &head, says));
        }
        let question = Question::manifest(Verb::Get, digest, Accept::OneLine);
        // What the type does not show to be a manifest is asked for as a blob.
        let served = self.containerd_type(typed);
        let answer = match self.got(&question) {
            Ok(answer) => answer,
            Err(finding) => return Err(self.blame_header(finding, reference, &digest)),
        };
        let manifest = self.body(&question, answer, Some(&digest))?;
        if served.map(Named::kind) != Some(manifest.kind()) || !self.knows(&manifest) {
            return Err(self.wrong_type(typed_by, typed, &manifest));
        }
        if let Some(length) = length.filter(|length| *length != manifest.bytes().len() as u64) {
            let says = format!("{head} gives the length {length}, GET {}", manifest.bytes().len());
            return Err(Finding::new(Cause::LengthWrong, &head, says));
        }
        self.parameters(typed_by, typed, &manifest);
        self.stale(reference, &digest);
        Ok(manifest)
    }

    fn containerd_type(&self, answer: &Answer) -> Option<Named> {
        let exact = answer.content_type()?.split(';').next()?;
        // For a registry of 2019 that typed nothing and had nothing else.
        if exact == "text/plain" { Some(Named::Schema1) } else { Named::of(exact) }
    }

    /// containers/image and go-containerregistry ask `GET` at once.
    fn fetched(&mut self, reference: &Reference) -> Outcome<Manifest> {
        let question = Question::manifest(Verb::Get, reference.clone(), self.accept());
        let answer = self.got(&question)?;
        let manifest = self.body(&question, answer, digest_of(reference))?;
        self.reads(&question, answer, &manifest)?;
        Ok(manifest)
    }

    /// oras-go asks `GET` to copy, and makes a descriptor of the headers first.
    ///
    /// Source: oras-go 2, `registry/remote/repository.go`, `generateDescriptor`.
    fn oras(&mut self, reference: &Reference) -> Outcome<Manifest> {
        let question = Question::manifest(Verb::Get, reference.clone(), Accept::OneLine);
        let answer = self.got(&question)?;
        if answer.content_type().is_none() {
            return Err(Finding::new(Cause::TypeMissing, &question, without_type(&question)));
        }
        // It does not offer to take what is compressed, so that is not how it would come.
        if answer.content_length().is_none() && !answer.is_gzip() {
            return Err(Finding::new(Cause::LengthMissing, &question, without_length(&question)));
        }
        let header = self.digest_header(&question, answer)?;
        let manifest = self.body(&question, answer, digest_of(reference))?;
        if let Some(header) = header.filter(|header| header != manifest.digest()) {
            return Err(wrong_digest(&question, &header, &manifest));
        }
        self.reads(&question, answer, &manifest)?;
        let head = Question::manifest(Verb::Head, reference.clone(), Accept::OneLine);
        if let Some(told) = self.exam.seen.answer(&head) {
            if !told.is_success() {
                self.note(
                    Cause::HeadRefused,
                    &head,
                    format!("{head} is answered {}: `oras resolve` fails", told.status),
                );
            } else if told.first(&DIGEST_HEADER).is_none() && matches!(reference, Reference::Tag(_)) {
                self.note(
                    Cause::DigestHeaderMissing,
                    &head,
                    format!("{}: `oras resolve` fails", without_digest(&head)),
                );
            }
        }
        Ok(manifest)
    }

    /// What the specification asks of both methods.
    ///
    /// Source: distribution specification, "Pulling manifests" and "Checking if content exists in the registry".
    fn specified(&mut self, reference: &Reference) -> Outcome<Manifest> {
        let get = Question::manifest(Verb::Get, reference.clone(), Accept::OneLine);
        let head = Question::manifest(Verb::Head, reference.clone(), Accept::OneLine);
        let answer = self.got(&get)?;
        let manifest = self.body(&get, answer, digest_of(reference))?;
        let told = match self.got(&head) {
            Ok(told) => told,
            Err(finding) => return Err(self.blame_head(&head, &get, finding)),
        };
        for (question, answer) in [(&get, answer), (&head, told)] {
            if answer.content_type() != Some(manifest.media_type().as_str()) {
                return Err(self.wrong_type(question, answer, &manifest));
            }
            match self.digest_header(question, answer)? {
                None => self.note(Cause::DigestHeaderMissing, question, without_digest(question)),
                Some(header) if header != *manifest.digest() => {
                    return Err(wrong_digest(question, &header, &manifest));
                }
                Some(_) => {}
            }
        }
        match told.content_length() {
            None => self.note(Cause::LengthMissing, &head, without_length(&head)),
            Some(length) if length != manifest.bytes().len() as u64 => {
                let says = format!("{head} gives the length {length}, GET {}", manifest.bytes().len());
                return Err(Finding::new(Cause::LengthWrong, &head, says));
            }
            Some(_) => {}
        }
        Ok(manifest)
    }

    /// Whether a client takes what came, with the type that it came with, for the manifest that it is.
    fn reads(&mut self, question: &Question, answer: &Answer, manifest: &Manifest) -> Outcome<()> {
        let (right, served) = (media::right(manifest), named(answer));
        let fits = match self.family {
            Family::Graph { old } => match (manifest.kind(), served) {
                (Kind::Schema1, Some(Named::Schema1) | None) => old && answer.content_type().is_some(),
                _ => served.is_some() && served == right,
            },
            Family::ContainersImage { stores } => match (manifest.kind(), served) {
                (Kind::Schema1, Some(Named::Schema1) | None) => true,
                // What is an OCI manifest by its type may name a config of another type, until somebody reads it.
                (Kind::Image, Some(Named::OciManifest)) => !stores || served == right,
                (Kind::Image, _) => served.is_some() && served == right,
                _ => served.is_some() && served.map(Named::kind) == Some(manifest.kind()),
            },
            Family::GoContainerregistry => {
                let exact = answer.content_type().and_then(Named::of);
                match manifest.kind() {
                    Kind::Index => exact.map(Named::kind) == Some(Kind::Index),
                    Kind::Image => !matches!(exact.map(Named::kind), Some(Kind::Index | Kind::Schema1)),
                    Kind::Schema1 => false,
                }
            }
            _ => self.knows(manifest) && served.map(Named::kind) == Some(manifest.kind()),
        };
        if !fits {
            return Err(self.wrong_type(question, answer, manifest));
        }
        self.parameters(question, answer, manifest);
        Ok(())
    }

    /// Whether a client knows this kind of manifest at all.
    fn knows(&self, manifest: &Manifest) -> bool {
        match self.family {
            Family::Containerd { schema1: old, .. } | Family::Graph { old } => old || manifest.kind() != Kind::Schema1,
            Family::GoContainerregistry | Family::OrasGo => manifest.kind() != Kind::Schema1,
            _ => true,
        }
    }

    /// As [`reads`](Self::reads), for what an index names.
    pub(super) fn reads_child(
        &mut self,
        question: &Question,
        answer: &Answer,
        manifest: &Manifest,
        child: &Descriptor,
    ) -> Outcome<()> {
        match self.family {
            // What the index says counts.
            Family::Containerd { .. } | Family::GoContainerregistry => Ok(()),
            Family::OrasGo => {
                let header = self.digest_header(question, answer)?;
                if let Some(header) = header.filter(|header| header != manifest.digest()) {
                    return Err(wrong_digest(question, &header, manifest));
                }
                if media::essence(answer).as_deref() == Some(child.media_type.as_str()) {
                    Ok(())
                } else {
                    Err(self.wrong_type(question, answer, manifest))
                }
            }
            Family::Specification if answer.content_type() != Some(manifest.media_type().as_str()) => {
                Err(self.wrong_type(question, answer, manifest))
            }
            Family::Specification => Ok(()),
            _ => self.reads(question, answer, manifest),
        }
    }

    /// What is wrong with a type that a client can't read by.
    fn wrong_type(&self, question: &Question, answer: &Answer, manifest: &Manifest) -> Finding {
        let right = manifest.media_type();
        let exact = answer.content_type().and_then(|text| text.split(';').next()).map(str::trim);
        if answer.content_type().is_none() {
            return Finding::new(
                Cause::TypeMissing,
                question,
                format!("{}: it should be {right}", without_type(question)),
            );
        }
        if exact == Some(right.as_str()) {
            if media::has_parameters(answer) && self.knows(manifest) {
                let says = format!("{question} has the type {}, with something behind its name", shown_type(answer));
                return Finding::new(Cause::TypeParameters, question, says);
            }
            return Finding::new(Cause::KindUnknown, question, format!("{question} is a {}", kind(manifest)));
        }
        let lines = answer.headers.get_all(CONTENT_TYPE).iter().count();
        let twice = if lines > 1 { " (the first of several)" } else { "" };
        let says = format!("{question} has the type {}{twice}, not {right}", shown_type(answer));
        Finding::new(Cause::TypeWrong, question, says)
    }

    fn parameters(&mut self, question: &Question, answer: &Answer, manifest: &Manifest) {
        if media::has_parameters(answer) && self.knows(manifest) {
            let says = format!("{question} has the type {}, with something behind its name", shown_type(answer));
            self.note(Cause::TypeParameters, question, says);
        }
    }

    /// The digest that the header names, if there is one.
    fn digest_header(&self, question: &Question, answer: &Answer) -> Outcome<Option<Digest>> {
        match answer.first(&DIGEST_HEADER).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                let says = format!("{question} has a Docker-Content-Digest that is no digest");
                Finding::new(Cause::DigestHeaderMalformed, question, says)
            }),
        }
    }

    /// If what a header named isn't there, the header is to blame.
    fn blame_header(&self, finding: Finding, reference: &Reference, digest: &Digest) -> Finding {
        let Reference::Tag(_) = reference else { return finding };
        if Some(*digest) == self.exam.digest {
            return finding;
        }
        let head = Question::manifest(Verb::Head, reference.clone(), self.accept());
        let says = format!("{head} names {} in Docker-Content-Digest, which is not there", short(digest));
        Finding::new(Cause::DigestHeaderWrong, &head, says)
    }

    /// If `GET` is answered and `HEAD` is not, that is what is wrong.
    fn blame_head(&self, head: &Question, get: &Question, finding: Finding) -> Finding {
        let get = self.exam.seen.answer(get);
        match self.exam.seen.answer(head) {
            Some(told) if get.is_some_and(Answer::is_success) => {
                Finding::new(Cause::HeadRefused, head, format!("{head} is answered {}, GET is not", told.status))
            }
            _ => finding,
        }
    }

    /// Says so if `HEAD` and `GET` of a tag are of different images.
    fn stale(&mut self, reference: &Reference, digest: &Digest) {
        if let (Reference::Tag(_), Some(actual)) = (reference, self.exam.digest)
            && actual != *digest
        {
            let head = Question::manifest(Verb::Head, reference.clone(), self.accept());
            let says = format!("{head} names {}, while GET gives {}", short(digest), short(&actual));
            self.note(Cause::TagStale, &head, says);
        }
    }
}

const fn digest_of(reference: &Reference) -> Option<&Digest> {
    match reference {
        Reference::Digest(digest) => Some(digest),
        Reference::Tag(_) => None,
    }
}

fn kind(manifest: &Manifest) -> String {
    match manifest.kind() {
        Kind::Schema1 => "signed manifest of old (schema 1), which this client does not know".to_owned(),
        _ => format!("{}, which this client does not know", manifest.media_type()),
    }
}

fn wrong_digest(question: &Question, header: &Digest, manifest: &Manifest) -> Finding {
    let says =
        format!("{question} names {} in Docker-Content-Digest, and is {}", short(header), short(manifest.digest()));
    Finding::new(Cause::DigestHeaderWrong, question, says)
}

fn without_type(question: &Question) -> String {
    format!("{question} has no Content-Type")
}

fn without_digest(question: &Question) -> String {
    format!("{question} has no Docker-Content-Digest")
}

fn without_length(question: &Question) -> String {
    format!("{question} has no Content-Length")
}
