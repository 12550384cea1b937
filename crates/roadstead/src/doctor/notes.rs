//! What no client fails of, and somebody should know.

use std::time::{Duration, SystemTime};

use ::http::Version;
use ::http::header::{AGE, CACHE_CONTROL, DATE};

use super::cause::{Cause, Finding};
use super::judge::Exam;
use super::question::{Accept, Colon, Question, Verb};
use crate::oci::Reference;

/// How far clocks may differ without a word.
const SKEW: Duration = Duration::from_secs(300);

/// How long a tag may be kept by a cache without a word.
const KEPT: u64 = 300;

pub(super) fn of(exam: &Exam<'_>, now: SystemTime) -> Vec<Finding> {
    let get = exam.question();
    let mut notes = Vec::new();
    let tag = exam.seen.answer(&get);
    if let Some(answer) = tag {
        if answer.version <= Version::HTTP_10 {
            notes.push(Finding::new(Cause::Http10, &get, "the host speaks HTTP/1.0: each request takes a connection"));
        }
        let date = answer.first(DATE).and_then(|date| httpdate::parse_http_date(date).ok());
        let age = Duration::from_secs(answer.first(AGE).and_then(|age| age.trim().parse().ok()).unwrap_or(0));
        if let Some(date) = date {
            let date = date + age;
            let skew = now.duration_since(date).or_else(|_| date.duration_since(now)).unwrap_or_default();
            if skew > SKEW {
                let says = format!("the host's clock and this machine's differ by {} s", skew.as_secs());
                notes.push(Finding::new(Cause::ClockSkew, &get, says));
            }
        }
        if age.as_secs() > KEPT && matches!(exam.reference, Reference::Tag(_)) {
            let says = format!("{get} is answered by a cache, with what is {} s old", age.as_secs());
            notes.push(Finding::new(Cause::TagCached, &get, says));
        }
        let kept = answer.text(CACHE_CONTROL).and_then(|control| lifetime(&control));
        if let (Reference::Tag(_), Some(kept)) = (exam.reference, kept.filter(|kept| *kept > KEPT)) {
            let says = format!("{get} may be kept by caches for {kept} s, so that the tag may lag behind");
            notes.push(Finding::new(Cause::TagCached, &get, says));
        }
    }
    let lines = Question::manifest(Verb::Get, exam.reference.clone(), Accept::Lines);
    if let (Some(one), Some(lines_answer)) = (tag, exam.seen.answer(&lines))
        && (one.status, one.content.digest) != (lines_answer.status, lines_answer.content.digest)
        && lines_answer.status != 429
    {
        let says = "the answer depends on whether Accept is one line or several, as Docker and podman write it";
        notes.push(Finding::new(Cause::AcceptSplit, &lines, says));
    }
    if let Some(digest) = exam.digest {
        let raw = exam.seen.answer(&Question::manifest(Verb::Get, digest, Accept::OneLine));
        let escaped = Question::Manifest {
            verb: Verb::Get,
            reference: digest.into(),
            accept: Accept::OneLine,
            colon: Colon::Escaped,
        };
        if let (Some(raw), Some(answer)) = (raw, exam.seen.answer(&escaped))
            && raw.is_success()
            && !answer.is_success()
        {
            let says =
                format!("{escaped} is answered {}, though every client writes the colon as it is", answer.status);
            notes.push(Finding::new(Cause::ColonEscaped, &escaped, says));
        }
    }
    notes
}

/// How long shared caches may keep an answer unasked.
fn lifetime(control: &str) -> Option<u64> {
    let directives: Vec<String> = control.split(',').map(|one| one.trim().to_ascii_lowercase()).collect();
    if directives.iter().any(|one| matches!(one.as_str(), "no-cache" | "no-store" | "private")) {
        return None;
    }
    let value = |name: &str| directives.iter().find_map(|one| one.strip_prefix(name)?.strip_prefix('=')?.parse().ok());
    value("s-maxage").or_else(|| value("max-age"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_caches_keep_an_answer() {
        for (control, kept) in [
            ("public, max-age=3600", Some(3600)),
            ("max-age=60, s-maxage=900", Some(900)),
            ("max-age=3600, no-cache", None),
            ("private, max-age=3600", None),
            ("", None),
            ("max-age=x", None),
        ] {
            assert_eq!(lifetime(control), kept, "{control}");
        }
    }
}
