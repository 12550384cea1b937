//! What clients ask beside a pull: ranges, referrers, lists, and what isn't there.

use ::http::header::CONTENT_RANGE;

use super::cause::{Cause, Finding};
use super::judge::{Judge, Outcome, shown_type, status};
use super::media;
use super::profile::Family;
use super::question::{Accept, Question, Verb};
use crate::oci::{Digest, Tag};

impl Judge<'_> {
    /// Whether a download that was cut goes on.
    pub(super) fn resume(&mut self) -> Outcome<Option<()>> {
        if matches!(self.family, Family::GoContainerregistry | Family::OrasGo) {
            return Ok(None);
        }
        let asked =
            self.exam.seen.iter().find(|(question, _)| matches!(question, Question::Blob { from: Some(_), .. }));
        let Some((question @ Question::Blob { digest, from: Some(from) }, _)) = asked else { return Ok(None) };
        let answer = self.heard(question)?;
        let whole = self.exam.seen.answer(&Question::blob(*digest));
        match answer.status {
            206 => {
                let range = answer.first(CONTENT_RANGE).unwrap_or_default();
                let (from_byte, compared) = (*from, usize::try_from(*from).unwrap_or(usize::MAX));
                let begins = whole.and_then(|whole| whole.content.start.get(compared..)).unwrap_or_default();
                let length = begins.len().min(answer.content.start.len());
                let same = begins[..length] == answer.content.start[..length];
                if range.starts_with(&format!("bytes {from_byte}-")) && same {
                    return Ok(Some(()));
                }
                self.note(Cause::RangeWrong, question, format!("{question} gives other bytes than those"));
            }
            200 => {
                self.note(Cause::RangeIgnored, question, format!("{question} begins anew: Range is ignored"));
            }
            other => self.note(Cause::RangeWrong, question, format!("{question} is answered {other}")),
        }
        Ok(Some(()))
    }

    /// Whether what refers to the image is found.
    pub(super) fn referrers(&mut self) -> Outcome<Option<()>> {
        let Some(digest) = self.exam.digest else { return Ok(None) };
        let question = Question::Referrers(digest);
        let (oras, ggcr) = (self.family == Family::OrasGo, self.family == Family::GoContainerregistry);
        let containerd = matches!(self.family, Family::Containerd { referrers: true, .. });
        let specification = self.family == Family::Specification;
        if !(oras || ggcr || containerd || specification) {
            return Ok(None);
        }
        let answer = self.heard(&question)?;
        let said = |says: String| Finding::new(Cause::Referrers, &question, says);
        let is_index = media::essence(answer) == Some("application/vnd.oci.image.index.v1+json".to_owned());
        match answer.status {
            200 if is_index => {
                if let Err(error) = crate::oci::Referrers::parse(&answer.content.start) {
                    return Err(said(format!("{question} gives no list of referrers: {error}")));
                }
                Ok(Some(()))
            }
            200 if containerd || specification => {
                Err(said(format!("{question} is answered 200 with {}, not with an image index", shown_type(answer))))
            }
            200 => {
                self.notes.push(said(format!("{question} gives no image index, so the fallback tag is asked for")));
                self.fallback(&digest)
            }
            404 if oras && media::says_name_unknown(&answer.content.start) => {
                Err(said(format!("{question} is answered 404 with NAME_UNKNOWN, which oras takes for an error")))
            }
            404 => {
                self.notes.push(said(format!("{question} is answered 404, so the fallback tag is asked for")));
                self.fallback(&digest)
            }
            400 if ggcr => {
                self.notes.push(said(format!("{question} is answered 400, so the fallback tag is asked for")));
                self.fallback(&digest)
            }
            other if containerd => {
                self.notes.push(said(format!("{question} is answered {other}, so there seem to be none")));
                Ok(Some(()))
            }
            other => {
                Err(said(format!("{question} is answered {other}; 404 would make clients ask for the fallback tag")))
            }
        }
    }

    /// The tag that holds a list of referrers where the API has none.
    fn fallback(&mut self, digest: &Digest) -> Outcome<Option<()>> {
        let question = Question::manifest(Verb::Get, Tag::referrers_fallback(digest), Accept::OneLine);
        let answer = self.heard(&question)?;
        let is_list = || crate::oci::Referrers::parse(&answer.content.start).is_ok();
        match answer.status {
            404 => Ok(Some(())),
            200 if is_list() => Ok(Some(())),
            200 => Err(Finding::new(Cause::Referrers, &question, format!("{question} gives no list of referrers"))),
            other => Err(Finding::new(Cause::Referrers, &question, format!("{question} is answered {other}"))),
        }
    }

    /// Whether tags are listed.
    pub(super) fn tags(&mut self) -> Outcome<Option<()>> {
        if matches!(self.family, Family::Containerd { .. }) {
            return Ok(None);
        }
        let question = Question::Tags;
        let answer = self.heard(&question)?;
        if !answer.is_success() {
            let finding = status(&question, answer);
            // Who may not read anything need not be told how a list looks.
            let refused = matches!(finding.cause, Cause::Login | Cause::Forbidden);
            return Err(if refused { finding } else { Finding { cause: Cause::TagsWrong, ..finding } });
        }
        match media::tags(&answer.content.start) {
            Some(_) => Ok(Some(())),
            None => Err(Finding::new(Cause::TagsWrong, &question, format!("{question} gives no list of tags"))),
        }
    }

    /// Whether what isn't there is answered as that.
    pub(super) fn missing(&mut self) -> Outcome<Option<()>> {
        let tag = Question::manifest(Verb::Get, Question::absent_tag(), Accept::OneLine);
        let blob = Question::blob(Question::absent_digest());
        let whole = self.exam.seen.answer(&self.exam.question()).map(|answer| answer.status);
        for question in [tag, blob] {
            let answer = self.heard(&question)?;
            match answer.status {
                404 => {}
                // Nothing is known of what is missing where all is refused.
                401 | 403 if whole == Some(answer.status) => return Ok(None),
                200..=299 => {
                    let with = if answer.is_html() { " and an HTML page" } else { "" };
                    let says = format!("{question}, which is not there, is answered {}{with}", answer.status);
                    return Err(Finding::new(Cause::MissingAnswered, &question, says));
                }
                401 | 403 => {
                    let says = format!("{question}, which is not there, is answered {}", answer.status);
                    self.note(Cause::MissingForbidden, &question, says);
                }
                other => {
                    let says = format!("{question}, which is not there, is answered {other}");
                    self.note(Cause::MissingStatus, &question, says);
                }
            }
        }
        Ok(Some(()))
    }
}
