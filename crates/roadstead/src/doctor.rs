//! Says from outside which clients can pull from a registry, which can't, and why.
//!
//! ```text
//!   Question ──► probe ──► Seen          asked once, however many clients would ask it; bounded; the only part that acts
//!                            │
//!   PROFILES ─────────────► judge ──► Verdict     what each client would make of the answers: pure
//!                                       │
//!                                    Finding ──► remedy      the change that mends it, for the host that was recognised
//! ```
//!
//! What clients do is taken from their sources and from pulls; `docs/clients.md` has the table that a test makes by running
//! this module and the real clients over the same broken servers. *Rejected:* asking once for each client, as each would:
//! eight times the requests, and verdicts that differ because the host did.
//!
//! Clients fetch blobs whole; a doctor that is asked nothing more reads the first bytes of large ones.

mod beside;
mod cause;
mod host;
mod judge;
mod media;
mod notes;
mod observation;
mod probe;
mod profile;
mod pull;
mod question;
mod remedy;

use std::collections::BTreeSet;

use crate::http::Endpoint;
use crate::oci::{Descriptor, Digest, Kind, Manifest, Platform, Reference, Repository, Tag};

pub use cause::{Cause, Finding};
pub use host::Host;
pub use judge::{Exam, Judgement, Mark, Step, Verdict, judge};
pub use observation::{Answer, Content, End, NoAnswer, Outcome, Redirect, Seen};
pub use profile::{PROFILES, Profile};
pub use question::{Accept, Colon, Question, SAMPLE, Verb};
pub use remedy::remedy;

use probe::Prober;

/// The most requests that are sent, redirects included.
pub const MAX_REQUESTS: usize = 250;

/// The same, where every byte of an image is wanted.
pub const MAX_REQUESTS_DEEP: usize = 5_000;

/// The most manifests of an index that are looked at.
const MAX_CHILDREN: usize = 40;

/// The most blobs that are looked at.
const MAX_BLOBS: usize = 80;

/// The most bytes that are read of a blob whose size nobody knows: a layer of schema 1.
const UNSIZED: u64 = 64 << 30;

/// The most repositories that are asked for a tag.
const MAX_REPOSITORIES: usize = 4;

/// What is asked about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The repository; without one, one of the catalogue.
    pub repository: Option<Repository>,
    /// The tag or digest; without one, one of the list of tags.
    pub reference: Option<Reference>,
}

/// How thoroughly.
#[derive(Debug, Clone)]
pub struct Options {
    /// The platform whose image is looked at first; by itself `linux/amd64`, or what an index without that begins with.
    pub platform: Option<Platform>,
    /// Whether every byte of the image is read, for all platforms.
    pub deep: bool,
    /// For which clients it is judged.
    pub profiles: Vec<&'static Profile>,
}

/// What came out.
#[derive(Debug)]
pub struct Diagnosis {
    /// The repository.
    pub repository: Repository,
    /// The tag or digest.
    pub reference: Reference,
    /// Whether it was found in the registry's own lists.
    pub found: bool,
    /// What the reference leads to, as far as anybody can tell.
    pub digest: Option<Digest>,
    /// The platform whose image was looked at.
    pub platform: Platform,
    /// Who serves manifests.
    pub host: Option<Host>,
    /// Who serves blobs, if that is another place: its URL, and who it is.
    pub blobs_at: Option<(String, Option<Host>)>,
    /// One for each client that was asked about.
    pub judgements: Vec<Judgement>,
    /// What no client fails of.
    pub notes: Vec<Finding>,
    /// How many requests were sent.
    pub requests: usize,
}

impl Diagnosis {
    /// The host that a finding is about.
    #[must_use]
    pub fn host_of(&self, finding: &Finding) -> Option<Host> {
        match &self.blobs_at {
            Some((_, host)) if finding.question.is_blob() => *host,
            _ => self.host,
        }
    }

    /// The judgements that count: all that were chosen or, where nobody chose, all but the specification's.
    pub fn counted(&self) -> impl Iterator<Item = &Judgement> {
        let all = self.judgements.len() == PROFILES.len();
        self.judgements.iter().filter(move |judgement| !all || judgement.profile.is_client())
    }

    /// Whether a client can pull what was asked about; whether the specification is met.
    #[must_use]
    pub fn pulls(&self, judgement: &Judgement) -> bool {
        if !judgement.profile.is_client() {
            return judgement.verdicts.iter().all(|verdict| verdict.mark < Mark::Unknown);
        }
        match self.reference {
            Reference::Tag(_) => judgement.pulls_by_tag(),
            Reference::Digest(_) => judgement.pulls_by_digest(),
        }
    }

    /// Whether all of them can.
    #[must_use]
    pub fn all_pull(&self) -> bool {
        self.counted().all(|judgement| self.pulls(judgement))
    }

    /// Everything that was found, each once, what clients fail of first.
    #[must_use]
    pub fn findings(&self) -> Vec<&Finding> {
        let at = |step| self.judgements.iter().map(move |judgement| judgement.of(step));
        let verdicts = || Step::ALL.into_iter().flat_map(at);
        let failed = verdicts().filter(|verdict| verdict.mark == Mark::Fails);
        let others = verdicts().filter(|verdict| verdict.mark != Mark::Fails);
        let mut findings: Vec<&Finding> = Vec::new();
        for finding in failed.chain(others).flat_map(|verdict| &verdict.findings).chain(&self.notes) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
        findings
    }
}

/// Why there is nothing to judge.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// Nobody answers.
    #[error("{}", .0.says)]
    NoAnswer(Finding),
    /// It answers, and not as a registry.
    #[error("this is no registry: {}", .0.says)]
    NotARegistry(Finding),
    /// There is no telling what to ask for.
    #[error("no image could be found to ask for: {0}")]
    NoImage(String),
}

/// Examines a registry. `watch` hears each question before it is asked.
///
/// # Errors
///
/// [`DoctorError`], if there is nothing that could be judged.
pub async fn examine(
    endpoint: &Endpoint,
    subject: &Subject,
    options: &Options,
    watch: &(dyn Fn(&Question) + Send + Sync),
) -> Result<Diagnosis, DoctorError> {
    let most = if options.deep { MAX_REQUESTS_DEEP } else { MAX_REQUESTS };
    let platform = options.platform.clone().unwrap_or_else(|| Platform::new("linux", "amd64", None, None));
    let mut visit = Visit { prober: Prober::new(endpoint, most, watch), seen: Seen::default(), options, platform };
    let (repository, reference, found) = visit.find(subject).await?;
    visit.ask_all(&repository, &reference).await;
    let Visit { prober, seen, platform, .. } = visit;

    let digest = digest(&seen, &reference);
    let exam = Exam { seen: &seen, reference: &reference, digest, platform: &platform };
    let judgements = options.profiles.iter().map(|profile| judge(profile, &exam)).collect();
    let mut notes = notes::of(&exam, std::time::SystemTime::now());
    notes.extend(probe::ipv6(endpoint).await);
    let host = seen.iter().filter(|(question, _)| !question.is_blob());
    let host = host.filter_map(|(_, outcome)| outcome.as_ref().ok());
    let host = host.filter(|answer| answer.redirects.is_empty()).find_map(|answer| Host::recognise(&answer.headers));
    let host = Host::at(&endpoint.registry().to_string()).or(host);
    let blobs_at = seen.iter().filter(|(question, _)| question.is_blob()).find_map(|(_, outcome)| {
        let answer = outcome.as_ref().ok()?;
        let last = answer.redirects.iter().rfind(|redirect| redirect.elsewhere)?;
        let place = last.to.split('/').take(3).collect::<Vec<_>>().join("/");
        let name = place.rsplit('/').next().unwrap_or_default();
        let host = Host::at(name).or_else(|| Host::recognise(&answer.headers));
        Some((place, host))
    });
    Ok(Diagnosis {
        repository,
        reference,
        found,
        digest,
        platform,
        host,
        blobs_at,
        judgements,
        notes,
        requests: prober.sent(),
    })
}

/// The digest that a reference stands for: of the bytes, else what the headers say.
fn digest(seen: &Seen, reference: &Reference) -> Option<Digest> {
    match reference {
        Reference::Digest(digest) => Some(*digest),
        Reference::Tag(_) => tops(seen, reference).into_iter().next(),
    }
}

/// All that a reference is said to stand for, what its bytes say first.
fn tops(seen: &Seen, reference: &Reference) -> Vec<Digest> {
    if let Reference::Digest(digest) = reference {
        return vec![*digest];
    }
    let ask = |verb, accept| seen.answer(&Question::manifest(verb, reference.clone(), accept));
    let (one, lines) = (Accept::OneLine, Accept::Lines);
    let answers: Vec<&Answer> =
        [ask(Verb::Get, one), ask(Verb::Get, lines), ask(Verb::Head, one), ask(Verb::Head, lines)]
            .into_iter()
            .flatten()
            .filter(|answer| answer.is_success())
            .collect();
    let bodies = answers.iter().filter_map(|answer| Some(*manifest(answer)?.digest()));
    let headers = answers.iter().filter_map(|answer| answer.first("docker-content-digest")?.parse().ok());
    let mut digests: Vec<Digest> = Vec::new();
    for digest in bodies.chain(headers) {
        if !digests.contains(&digest) {
            digests.push(digest);
        }
    }
    digests
}

/// The manifest that an answer holds, if it holds one.
fn manifest(answer: &Answer) -> Option<Manifest> {
    let whole = answer.is_success() && answer.content.end == End::Whole && !answer.content.start.is_empty();
    // Whoever names it by sha512 does so in the header, too.
    let named: Option<Digest> = answer.first("docker-content-digest").and_then(|text| text.parse().ok());
    let algorithm = named.map_or(crate::oci::Algorithm::Sha256, |digest| digest.algorithm());
    whole.then(|| Manifest::parse(answer.content.start.clone(), algorithm).ok()).flatten()
}

/// One look at a registry.
struct Visit<'a> {
    prober: Prober<'a>,
    seen: Seen,
    options: &'a Options,
    platform: Platform,
}

impl Visit<'_> {
    async fn ask(&mut self, repository: &Repository, questions: impl IntoIterator<Item = Question>) {
        let questions: Vec<_> = questions.into_iter().map(|question| (question, None)).collect();
        self.prober.ask(repository, &questions, &mut self.seen).await;
    }

    /// What to look at, and whether the registry's lists said so.
    async fn find(&mut self, subject: &Subject) -> Result<(Repository, Reference, bool), DoctorError> {
        let nowhere: Repository = "doctor".parse().expect("that is a repository's name");
        let repository = subject.repository.as_ref();
        let second = if repository.is_some() { Question::Tags } else { Question::Catalog };
        self.ask(repository.unwrap_or(&nowhere), [Question::Ping, second.clone()]).await;
        if let (Some(Err(why)), None | Some(Err(_))) = (self.seen.get(&Question::Ping), self.seen.get(&second))
            && !matches!(why, NoAnswer::Loop | NoAnswer::Redirect(_) | NoAnswer::Login(_))
        {
            return Err(DoctorError::NoAnswer(judge::no_answer(&Question::Ping, why)));
        }
        if let (Some(repository), Some(reference)) = (repository, &subject.reference) {
            return Ok((repository.clone(), reference.clone(), false));
        }
        if let Some(repository) = repository {
            let listed = self.tag();
            let found = listed.is_some();
            return Ok((repository.clone(), listed.unwrap_or_else(Tag::latest).into(), found));
        }
        let catalog = self.seen.answer(&Question::Catalog).filter(|answer| answer.is_success());
        let Some(repositories) = catalog.and_then(|answer| media::repositories(&answer.content.start)) else {
            return Err(self.nothing());
        };
        let repositories = repositories.iter().filter_map(|name| name.parse::<Repository>().ok());
        for repository in repositories.take(MAX_REPOSITORIES) {
            // Answers to the same question about another repository.
            self.seen.forget(&Question::Tags);
            self.ask(&repository, [Question::Tags]).await;
            if let Some(tag) = self.tag() {
                return Ok((repository, tag.into(), true));
            }
        }
        Err(DoctorError::NoImage("_catalog names no repository with a tag; say which: URL/REPOSITORY:TAG".to_owned()))
    }

    /// One of the tags: `latest`, else the last that isn't made of a digest.
    fn tag(&self) -> Option<Tag> {
        let answer = self.seen.answer(&Question::Tags).filter(|answer| answer.is_success())?;
        let tags: Vec<Tag> = media::tags(&answer.content.start)?.iter().filter_map(|tag| tag.parse().ok()).collect();
        let ordinary = |tag: &&Tag| !tag.is_referrers_fallback() && tag.cosign_subject().is_none();
        tags.iter().find(|tag| **tag == Tag::latest()).or_else(|| tags.iter().rfind(ordinary)).cloned()
    }

    /// Why there is no repository to be found.
    fn nothing(&self) -> DoctorError {
        let heard = |question: &Question| match self.seen.get(question) {
            Some(Ok(answer)) if answer.is_html() => {
                format!("{question} is answered {} with an HTML page", answer.status)
            }
            Some(Ok(answer)) if answer.is_success() && *question == Question::Catalog => {
                format!("{question} is answered {} with what is no list", answer.status)
            }
            Some(Ok(answer)) => format!("{question} is answered {}", answer.status),
            Some(Err(why)) => judge::no_answer(question, why).says,
            None => format!("{question} was not asked"),
        };
        let ping = self.seen.answer(&Question::Ping);
        let is_registry = ping.is_some_and(|answer| !answer.is_html() && matches!(answer.status, 200 | 401));
        let says = format!("{}, and {}", heard(&Question::Ping), heard(&Question::Catalog));
        if is_registry {
            return DoctorError::NoImage(format!("{}; say which: URL/REPOSITORY:TAG", heard(&Question::Catalog)));
        }
        DoctorError::NotARegistry(Finding::new(Cause::NotARegistry, &Question::Ping, says))
    }

    /// Asks whatever any client would.
    async fn ask_all(&mut self, repository: &Repository, reference: &Reference) {
        let (one, lines) = (Accept::OneLine, Accept::Lines);
        let ask = |verb, accept| Question::manifest(verb, reference.clone(), accept);
        let first = [
            ask(Verb::Get, one),
            ask(Verb::Get, lines),
            ask(Verb::Head, one),
            ask(Verb::Head, lines),
            Question::Tags,
            Question::manifest(Verb::Get, Question::absent_tag(), one),
            Question::blob(Question::absent_digest()),
            Question::Referrers(Question::absent_digest()),
        ];
        self.ask(repository, first).await;

        let tops = tops(&self.seen, reference);
        let by_digest = tops.iter().take(3).flat_map(|digest| {
            let escaped =
                Question::Manifest { verb: Verb::Get, reference: (*digest).into(), accept: one, colon: Colon::Escaped };
            [
                Question::manifest(Verb::Get, *digest, one),
                Question::manifest(Verb::Get, *digest, lines),
                Question::manifest(Verb::Head, *digest, one),
                Question::Referrers(*digest),
                Question::manifest(Verb::Get, Tag::referrers_fallback(digest), one),
                escaped,
            ]
        });
        self.ask(repository, by_digest).await;

        let mut level = self.known(tops.iter().map(|digest| (*digest).into()).chain([reference.clone()]));
        self.settle_platform(level.first());
        let mut images: Vec<Manifest> = Vec::new();
        let mut asked = 0;
        for _ in 0..3 {
            let mut children: Vec<Digest> = Vec::new();
            let mut questions = Vec::new();
            for index in level.iter().filter(|manifest| manifest.kind() == Kind::Index) {
                let chosen = judge::choose(index, &self.platform).map(|chosen| chosen.digest);
                questions.extend(chosen.map(|chosen| Question::manifest(Verb::Get, chosen, lines)));
                let others = index.children().map(|child| child.digest).filter(|child| Some(*child) != chosen);
                children.extend(chosen.into_iter().chain(others));
            }
            let room = if self.options.deep { usize::MAX } else { MAX_CHILDREN - asked };
            children.truncate(room);
            asked += children.len();
            questions.extend(children.iter().map(|child| Question::manifest(Verb::Get, *child, one)));
            self.ask(repository, questions).await;
            images.extend(level.into_iter().filter(|manifest| manifest.kind() != Kind::Index));
            level = self.known(children.into_iter().map(Reference::Digest));
        }
        self.ask_blobs(repository, &images).await;
    }

    /// If nobody named a platform, an index that has nothing for the usual one says which.
    fn settle_platform(&mut self, index: Option<&Manifest>) {
        let Some(index) = index.filter(|index| index.kind() == Kind::Index && self.options.platform.is_none()) else {
            return;
        };
        if judge::choose(index, &self.platform).is_none() {
            let mut platforms = index.children().filter_map(|child| child.platform.clone());
            self.platform = platforms.find(|platform| !platform.is_unknown()).unwrap_or_else(|| self.platform.clone());
        }
    }

    /// The manifests among what has come, in this order.
    fn known(&self, references: impl IntoIterator<Item = Reference>) -> Vec<Manifest> {
        let mut seen = BTreeSet::new();
        let answers = references.into_iter().filter_map(|reference| {
            [Accept::OneLine, Accept::Lines].into_iter().find_map(|accept| {
                manifest(self.seen.answer(&Question::manifest(Verb::Get, reference.clone(), accept))?)
            })
        });
        answers.filter(|manifest| seen.insert(*manifest.digest())).collect()
    }

    async fn ask_blobs(&mut self, repository: &Repository, images: &[Manifest]) {
        let mut questions: Vec<(Question, Option<u64>)> = Vec::new();
        let blobs = images.iter().flat_map(Manifest::blobs).filter(|blob| !blob.is_nondistributable());
        let room = if self.options.deep { usize::MAX } else { MAX_BLOBS };
        for blob in blobs.take(room) {
            // One byte more than there should be, to see whether it comes.
            let limit = self.options.deep.then(|| blob.size.unwrap_or(UNSIZED) + 1);
            questions.push((Question::blob(blob.digest), limit));
        }
        let largest = images.first().and_then(|image| {
            let sized = image.layers().iter().filter(|blob| !blob.is_nondistributable());
            sized.max_by_key(|blob| blob.size.unwrap_or(2))
        });
        if let Some(Descriptor { digest, size, .. }) = largest
            && size.unwrap_or(2) >= 2
        {
            let from = (size.unwrap_or(2) / 2).min(SAMPLE / 2);
            questions.push((Question::Blob { digest: *digest, from: Some(from) }, None));
        }
        self.prober.ask(repository, &questions, &mut self.seen).await;
    }
}
