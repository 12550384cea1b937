//! What each client would make of what was seen. Nothing here asks anybody anything.

use super::cause::{Cause, Finding};
use super::media::{self, Named};
use super::observation::{Answer, End, NoAnswer, Seen};
use super::profile::{Family, Profile};
use super::question::{Accept, Question, Verb, short};
use crate::oci::{Descriptor, Digest, Kind, Manifest, Platform, Reference};

/// A part of what a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// `GET /v2/`
    Ping,
    /// What a tag leads to, and its manifest.
    Tag,
    /// A manifest by its digest.
    Digest,
    /// The manifests that an index names.
    Children,
    /// Config and layers.
    Blobs,
    /// Going on with a download that was cut.
    Resume,
    /// Signatures and the like.
    Referrers,
    /// The list of tags.
    Tags,
    /// What isn't there.
    Missing,
}

impl Step {
    /// All of them in order.
    pub const ALL: [Self; 9] = [
        Self::Ping,
        Self::Tag,
        Self::Digest,
        Self::Children,
        Self::Blobs,
        Self::Resume,
        Self::Referrers,
        Self::Tags,
        Self::Missing,
    ];

    /// What scripts and tables call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Tag => "tag",
            Self::Digest => "digest",
            Self::Children => "children",
            Self::Blobs => "blobs",
            Self::Resume => "resume",
            Self::Referrers => "referrers",
            Self::Tags => "tags",
            Self::Missing => "missing",
        }
    }
}

/// How a step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// The client doesn't do that, or there is nothing to do it with.
    Unasked,
    /// As it should.
    Works,
    /// With a detour, or with less than could be had.
    Impaired,
    /// Not judged, since what comes before it fails.
    Unknown,
    /// It fails.
    Fails,
}

/// How a step ends, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How.
    pub mark: Mark,
    /// Why, if not as it should.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// One that needs no reason.
    const fn bare(mark: Mark) -> Self {
        Self { mark, findings: Vec::new() }
    }
}

/// What was asked for, and what came.
#[derive(Debug)]
pub struct Exam<'a> {
    /// What came.
    pub seen: &'a Seen,
    /// The tag or the digest.
    pub reference: &'a Reference,
    /// The digest that the reference stands for, as far as could be found out.
    pub digest: Option<Digest>,
    /// The platform whose image is wanted.
    pub platform: &'a Platform,
}

/// What a client makes of it all.
#[derive(Debug)]
pub struct Judgement {
    /// The client.
    pub profile: &'static Profile,
    /// One for each of [`Step::ALL`].
    pub verdicts: [Verdict; Step::ALL.len()],
}

impl Judgement {
    /// How a step ends.
    #[must_use]
    pub fn of(&self, step: Step) -> &Verdict {
        &self.verdicts[step as usize]
    }

    /// Whether an image can be pulled by its tag.
    #[must_use]
    pub fn pulls_by_tag(&self) -> bool {
        [Step::Ping, Step::Tag, Step::Children, Step::Blobs].iter().all(|step| self.of(*step).mark < Mark::Unknown)
    }

    /// Whether an image can be pulled by its digest.
    #[must_use]
    pub fn pulls_by_digest(&self) -> bool {
        [Step::Ping, Step::Digest, Step::Children, Step::Blobs].iter().all(|step| self.of(*step).mark < Mark::Unknown)
    }
}

/// Judges for one client.
#[must_use]
pub fn judge(profile: &'static Profile, exam: &Exam<'_>) -> Judgement {
    let mut judge = Judge { family: profile.family, exam, notes: Vec::new() };
    let (ping, _) = judge.step(Judge::ping);
    let (tag, by_tag) = match exam.reference {
        tag @ Reference::Tag(_) => judge.step(|judge| judge.manifest(tag).map(Some)),
        Reference::Digest(_) => (Verdict::bare(Mark::Unasked), None),
    };
    let (digest, by_digest) = match exam.digest {
        Some(digest) => judge.step(|judge| judge.manifest(&digest.into()).map(Some)),
        None => (Verdict::bare(Mark::Unknown), None),
    };
    let (children, images) = match by_tag.or(by_digest) {
        None => (Verdict::bare(Mark::Unknown), None),
        Some(index) if index.kind() == Kind::Index => judge.step(|judge| judge.children(&index, 0).map(Some)),
        Some(image) => (Verdict::bare(Mark::Unasked), Some(vec![image])),
    };
    let (blobs, resume) = match images {
        None => (Verdict::bare(Mark::Unknown), Verdict::bare(Mark::Unknown)),
        Some(images) => (judge.step(|judge| judge.blobs(&images).map(Some)).0, judge.step(Judge::resume).0),
    };
    let (referrers, _) = judge.step(Judge::referrers);
    let (tags, _) = judge.step(Judge::tags);
    let (missing, _) = judge.step(Judge::missing);
    Judgement { profile, verdicts: [ping, tag, digest, children, blobs, resume, referrers, tags, missing] }
}

/// What a step comes to: something, nothing since there is nothing to do, or what is wrong.
pub(super) type Outcome<T> = Result<T, Finding>;

pub(super) struct Judge<'a> {
    pub(super) family: Family,
    pub(super) exam: &'a Exam<'a>,
    /// What hurts in this step, but not to death.
    pub(super) notes: Vec<Finding>,
}

impl<'a> Judge<'a> {
    /// Takes a step, and says how it ends; beside it what came of it, for the next.
    fn step<T>(&mut self, take: impl FnOnce(&mut Self) -> Outcome<Option<T>>) -> (Verdict, Option<T>) {
        let outcome = take(self);
        let mut findings = std::mem::take(&mut self.notes);
        let (mark, value) = match outcome {
            Err(finding) => {
                findings = vec![finding];
                (Mark::Fails, None)
            }
            Ok(value) if !findings.is_empty() => (Mark::Impaired, value),
            Ok(Some(value)) => (Mark::Works, Some(value)),
            Ok(None) => (Mark::Unasked, None),
        };
        findings.dedup();
        (Verdict { mark, findings }, value)
    }

    pub(super) fn note(&mut self, cause: Cause, question: &Question, says: impl Into<String>) {
        self.notes.push(Finding::new(cause, question, says));
    }

    /// The answer to a question, whatever its status.
    pub(super) fn heard(&self, question: &Question) -> Outcome<&'a Answer> {
        let finding = |cause, says: String| Finding::new(cause, question, says);
        match self.exam.seen.get(question) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(why)) => Err(no_answer(question, why)),
            None => Err(finding(
                Cause::NotAsked,
                format!("{question} was not asked: too much had been asked by then, or gone unanswered"),
            )),
        }
    }

    /// The answer to a question, if it is a success.
    pub(super) fn got(&mut self, question: &Question) -> Outcome<&'a Answer> {
        let answer = self.heard(question)?;
        if let Some(redirect) = answer.redirects.iter().find(|redirect| redirect.leaves_tls) {
            let says = format!("{question} is redirected from https to {}", redirect.to);
            self.note(Cause::RedirectLeavesTls, question, says);
        }
        if answer.is_success() { Ok(answer) } else { Err(status(question, answer)) }
    }

    fn ping(&mut self) -> Outcome<Option<()>> {
        let question = Question::Ping;
        let required = match self.family {
            Family::Containerd { .. } | Family::OrasGo => return Ok(None),
            Family::Graph { .. } => false,
            _ => true,
        };
        let answer = self.heard(&question)?;
        if answer.status == 200 || !required {
            return Ok(Some(()));
        }
        if answer.status == 401 && self.family != Family::Specification {
            return Ok(Some(()));
        }
        Err(status(&question, answer))
    }

    /// The bytes of a manifest, which `expected` names if it was asked for by that.
    pub(super) fn body(
        &mut self,
        question: &Question,
        answer: &Answer,
        expected: Option<&Digest>,
    ) -> Outcome<Manifest> {
        let finding = |cause, says: String| Err(Finding::new(cause, question, says));
        match &answer.content.end {
            End::Enough => {
                return finding(Cause::TooLarge, format!("{question} gives more bytes than a manifest can have"));
            }
            End::Trickle(seconds) => {
                return finding(Cause::Stalled, format!("{question}: the manifest was not there within {seconds} s"));
            }
            End::Broken(why) => return finding(Cause::Cut, format!("{question}: {why} before the manifest's end")),
            End::Undecodable => {
                return finding(Cause::Encoded, format!("{question} says Content-Encoding: gzip of what is not"));
            }
            End::Whole => {}
        }
        let named: Option<Digest> = answer.first("docker-content-digest").and_then(|text| text.parse().ok());
        let algorithm = expected.or(named.as_ref()).map_or(crate::oci::Algorithm::Sha256, Digest::algorithm);
        let parsed = Manifest::parse(answer.content.start.clone(), algorithm);
        let actual = parsed.as_ref().map(|manifest| *manifest.digest()).ok().or(answer.content.digest);
        if answer.is_html() && parsed.is_err() {
            return finding(Cause::NotAManifest, format!("{question} gives an HTML page instead of a manifest"));
        }
        if let Some(expected) = expected.filter(|expected| Some(**expected) != actual) {
            let actual = actual.map_or_else(String::new, |actual| format!(", which is {}", short(&actual)));
            return finding(
                Cause::Damaged,
                format!("{question} gives other bytes than those of {}{actual}", short(expected)),
            );
        }
        parsed.map_err(|error| Finding::new(Cause::NotAManifest, question, format!("{question}: {error}")))
    }

    /// The manifests of an index that a client goes on with.
    fn children(&mut self, index: &Manifest, depth: usize) -> Outcome<Vec<Manifest>> {
        let mut images = Vec::new();
        let wanted: Vec<&Descriptor> = if self.family.takes_all() {
            index.children().collect()
        } else {
            let chosen = choose(index, self.exam.platform).ok_or_else(|| {
                let question = self.exam.question();
                let says = format!("the index has no image for {}", self.exam.platform);
                Finding::new(Cause::PlatformAbsent, &question, says)
            })?;
            for other in index.children().filter(|child| child.digest != chosen.digest) {
                let question = Question::manifest(Verb::Get, other.digest, Accept::OneLine);
                if self.exam.seen.answer(&question).is_some_and(|answer| !answer.is_success()) {
                    let says = format!("{question}, which the index names, is not there");
                    self.note(Cause::ChildAbsent, &question, says);
                }
            }
            vec![chosen]
        };
        for child in wanted {
            let question = Question::manifest(Verb::Get, child.digest, self.accept());
            if self.family.takes_all() && self.exam.seen.get(&question).is_none() {
                // Of an index of hundreds, not everything is looked at.
                self.note(Cause::NotAsked, &question, "the index names more manifests than were looked at");
                break;
            }
            let manifest = self.child(child)?;
            if manifest.kind() == Kind::Index && !self.family.nests() {
                let question = Question::manifest(Verb::Get, child.digest, self.accept());
                let says = format!("{question} is an index within an index, which this client does not enter");
                return Err(Finding::new(Cause::KindUnknown, &question, says));
            }
            if manifest.kind() == Kind::Index && depth < 3 {
                images.extend(self.children(&manifest, depth + 1)?);
            } else {
                images.push(manifest);
            }
        }
        Ok(images)
    }

    fn child(&mut self, child: &Descriptor) -> Outcome<Manifest> {
        let accept = self.accept();
        let question = Question::manifest(Verb::Get, child.digest, accept);
        let answer = match self.got(&question) {
            Err(finding) if finding.cause == Cause::Absent => {
                let says = format!("{question}, which the index names, is not there");
                return Err(Finding::new(Cause::ChildAbsent, &question, says));
            }
            other => other?,
        };
        let manifest = self.body(&question, answer, Some(&child.digest))?;
        if child.size.is_some_and(|size| size != manifest.bytes().len() as u64) {
            let says = format!("{question} has another size than the index says");
            return Err(Finding::new(Cause::SizeWrong, &question, says));
        }
        self.reads_child(&question, answer, &manifest, child)?;
        Ok(manifest)
    }

    fn blobs(&mut self, images: &[Manifest]) -> Outcome<()> {
        for image in images {
            if let Some(config) = image.config().filter(|config| !media::is_image_config(&config.media_type))
                && !self.family.takes_artifacts()
            {
                let question = Question::blob(config.digest);
                let says = format!("{question} is the config of an artifact, and this client takes images only");
                return Err(Finding::new(Cause::KindUnknown, &question, says));
            }
            for blob in image.blobs().filter(|blob| !blob.is_nondistributable()) {
                let question = Question::blob(blob.digest);
                if self.family == (Family::Graph { old: true }) && blob.media_type.ends_with("zstd") {
                    let says = format!("{question} is compressed by zstd, which this client does not know");
                    return Err(Finding::new(Cause::KindUnknown, &question, says));
                }
                // Of other platforms not everything is looked at.
                if self.exam.seen.get(&question).is_some() || !self.family.takes_all() {
                    self.blob(&question, blob)?;
                }
            }
        }
        Ok(())
    }

    fn blob(&mut self, question: &Question, blob: &Descriptor) -> Outcome<()> {
        let finding = |cause, says: String| Err(Finding::new(cause, question, says));
        let answer = self.got(question)?;
        let content = &answer.content;
        let kept_encoded = || {
            finding(
                Cause::Encoded,
                format!("{question}: Content-Encoding: gzip makes clients unpack what they should not"),
            )
        };
        match (&content.end, content.digest) {
            (End::Trickle(seconds), _) => {
                return finding(Cause::Stalled, format!("{question}: the blob was not there within {seconds} s"));
            }
            (End::Broken(why), _) => return finding(Cause::Cut, format!("{question}: {why} before the blob's end")),
            (End::Undecodable, _) => return kept_encoded(),
            (_, Some(actual)) if actual != blob.digest => {
                if answer.is_gzip() {
                    return kept_encoded();
                }
                let what = if answer.is_html() { "an HTML page" } else { "other bytes" };
                return finding(Cause::Damaged, format!("{question} gives {what}, which is {}", short(&actual)));
            }
            // Of what was only begun, the first bytes tell.
            (End::Enough, None) if answer.is_gzip() && !media::begins_as(&blob.media_type, &content.start) => {
                return kept_encoded();
            }
            _ => {}
        }
        if let (Some(told), Some(size)) = (answer.content_length(), blob.size)
            && told != size
        {
            return finding(Cause::SizeWrong, format!("{question} has {told} bytes, the manifest says {size}"));
        }
        if answer.is_gzip() {
            self.note(Cause::EncodedOnTheWay, question, format!("{question} is compressed a second time on its way"));
        }
        Ok(())
    }

    /// How this client writes the types that it wants.
    pub(super) const fn accept(&self) -> Accept {
        match self.family {
            Family::Graph { .. } | Family::ContainersImage { .. } => Accept::Lines,
            _ => Accept::OneLine,
        }
    }
}

impl Exam<'_> {
    /// The question for what the reference names.
    pub(super) fn question(&self) -> Question {
        Question::manifest(Verb::Get, self.reference.clone(), Accept::OneLine)
    }
}

/// The entry of an index for a platform: one that says so, or else one that says nothing.
pub(super) fn choose<'m>(index: &'m Manifest, platform: &Platform) -> Option<&'m Descriptor> {
    let says = |child: &&Descriptor| child.platform.as_ref().is_some_and(|is| is.satisfies(platform));
    let silent = |child: &&Descriptor| child.platform.is_none();
    index.children().find(says).or_else(|| index.children().find(silent))
}

pub(super) fn no_answer(question: &Question, why: &NoAnswer) -> Finding {
    let (cause, says) = match why {
        NoAnswer::Unreachable(why) => (Cause::Unreachable, format!("{question} gets no answer: {why}")),
        NoAnswer::Tls(why) => (Cause::Tls, format!("{question}: TLS fails: {why}")),
        NoAnswer::NoTls => (Cause::NoTls, format!("{question} gets no answer: the host speaks no TLS at this port")),
        NoAnswer::Stalled(seconds) => (Cause::Stalled, format!("{question} gets no answer within {seconds} s")),
        NoAnswer::Loop => (Cause::RedirectLoop, format!("{question} is redirected in a circle, or without end")),
        NoAnswer::Redirect(problem) => (Cause::RedirectRefused, format!("{question} is redirected {problem}")),
        NoAnswer::Login(problem) => (Cause::Login, format!("{question} wants a login: {problem}")),
    };
    Finding::new(cause, question, says)
}

/// A status that is no success.
pub(super) fn status(question: &Question, answer: &Answer) -> Finding {
    let status = answer.status;
    let at = answer.redirects.last().map_or_else(String::new, |redirect| format!(" by {}", redirect.to));
    let cause = match status {
        401 => Cause::Login,
        403 => Cause::Forbidden,
        404 | 410 => Cause::Absent,
        429 => Cause::RateLimited,
        _ => Cause::Status,
    };
    Finding::new(cause, question, format!("{question} is answered {status}{at}"))
}

pub(super) fn shown_type(answer: &Answer) -> String {
    answer.content_type().map_or_else(|| "no Content-Type".to_owned(), crate::oci::excerpt)
}

/// The kind that a type names, for the clients that go by it.
pub(super) fn named(answer: &Answer) -> Option<Named> {
    Named::of(&media::essence(answer)?)
}
