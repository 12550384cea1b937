//! What goes, decided from values alone.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::SystemTime;

use super::PruneOptions;
use crate::oci::{Digest, Tag};
use crate::tree::graph::Graph;
use crate::tree::remove::Doomed;

/// Whether the rules are about a tag. Tags that cosign derives from a digest stay and go with what they are about.
pub(super) fn rule_is_about(options: &PruneOptions, tag: &Tag) -> bool {
    let matches = |patterns: &[super::Pattern]| patterns.iter().any(|pattern| pattern.matches(tag.as_str()));
    tag.cosign_subject().is_none() && (options.tags.is_empty() || matches(&options.tags)) && !matches(&options.except)
}

/// Those of the tags that no rule keeps. What nobody knows the age of counts as new; of tags that were written at the same
/// moment the greater one counts as newer.
pub(super) fn outdated(options: &PruneOptions, tags: Vec<(Tag, Option<SystemTime>)>) -> BTreeSet<Tag> {
    let mut tags: Vec<(Reverse<SystemTime>, Reverse<Tag>)> =
        tags.into_iter().map(|(tag, written)| (Reverse(written.unwrap_or(options.now)), Reverse(tag))).collect();
    tags.sort_unstable();
    let is_recent = |written: SystemTime| {
        let age = options.now.duration_since(written).unwrap_or_default();
        options.keep_within.is_some_and(|within| age <= within)
    };
    let behind = tags.into_iter().skip(options.keep_last.unwrap_or(0));
    behind.filter(|(Reverse(written), _)| !is_recent(*written)).map(|(_, Reverse(tag))| tag).collect()
}

impl Graph {
    /// The manifests that nothing names but their digest, and that refer to nothing that is there: what was added by digest
    /// alone, or what a killed writer left.
    pub(super) fn untagged_roots(&self) -> BTreeSet<Digest> {
        let is_root = |digest: &&Digest| {
            let refers = self.needs(digest).and_then(|needs| needs.subject);
            self.tagged(digest).is_empty()
                && self.parents(digest).is_empty()
                && !self.superseded.contains(digest)
                && !refers.is_some_and(|subject| self.manifests.contains_key(&subject))
        };
        self.manifests.keys().filter(is_root).copied().collect()
    }

    /// A tag that stays and whose manifest has no name by its digest.
    pub(in crate::tree) fn unnamed_of_tags(&self, doomed: &Doomed) -> Option<(&Tag, &Digest)> {
        let mut kept = self.tags.iter().filter(|(tag, _)| !doomed.tags.contains(*tag));
        kept.find(|(_, digest)| !self.is_named(digest))
    }

    /// Of the manifests that stay, those that lack children, with these; none are known of one whose bytes are gone.
    pub(super) fn absent(&self, doomed: &Doomed) -> Vec<(Digest, Option<Vec<Digest>>)> {
        let mut lacking = Vec::new();
        for (digest, node) in self.manifests.iter().filter(|(digest, _)| !doomed.manifests.contains(*digest)) {
            let children = node.needs.as_ref().map(|needs| &needs.children);
            let absent = children.map(|all| all.iter().filter(|child| !self.is_named(child)).copied().collect());
            if absent.as_ref().is_none_or(|absent: &Vec<Digest>| !absent.is_empty()) {
                lacking.push((*digest, absent));
            }
        }
        lacking
    }

    /// What goes with some tags, if of the untagged manifests only `roots` stay.
    pub(super) fn unreached(&self, tags: BTreeSet<Tag>, roots: &BTreeSet<Digest>) -> Doomed {
        let mut doomed = Doomed { tags, ..Doomed::default() };
        loop {
            let named = self.tags.iter().filter(|(tag, _)| !doomed.tags.contains(*tag)).map(|(_, digest)| *digest);
            let reached = self.reach(roots.iter().copied().chain(named));
            doomed.manifests = self.manifests.keys().filter(|digest| !reached.contains(digest)).copied().collect();
            let about_doomed = |tag: &&Tag| {
                !doomed.tags.contains(*tag)
                    && tag.cosign_subject().is_some_and(|subject| doomed.manifests.contains(&subject))
            };
            let signatures: Vec<Tag> = self.tags.keys().filter(about_doomed).cloned().collect();
            if signatures.is_empty() {
                return doomed;
            }
            doomed.tags.extend(signatures);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn outdated_of(change: impl Fn(&mut PruneOptions), ages: &[(&str, Option<u32>)]) -> Vec<String> {
        let mut options = PruneOptions::new(SystemTime::UNIX_EPOCH + 1000 * DAY);
        change(&mut options);
        let tags = ages.iter().map(|(tag, age)| (tag.parse::<Tag>().unwrap(), *age));
        let ruled = tags.filter(|(tag, _)| rule_is_about(&options, tag));
        let ruled = ruled.map(|(tag, age)| (tag, age.map(|days| options.now - days * DAY))).collect();
        outdated(&options, ruled).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_newest_stay() {
        let ages = [("a", Some(9)), ("b", Some(1)), ("c", Some(5)), ("d", Some(7)), ("unknown", None)];
        assert_eq!(outdated_of(|o| o.keep_last = Some(2), &ages), ["a", "c", "d"]);
        assert_eq!(outdated_of(|o| o.keep_last = Some(0), &ages).len(), 5);
        assert_eq!(outdated_of(|o| o.keep_last = Some(5), &ages).len(), 0);
        assert_eq!(outdated_of(|o| o.keep_within = Some(5 * DAY), &ages), ["a", "d"]);
        let both = |o: &mut PruneOptions| (o.keep_last, o.keep_within) = (Some(4), Some(DAY));
        assert_eq!(outdated_of(both, &ages), ["a"]);
    }

    #[test]
    fn of_equal_age_the_greater_is_newer() {
        let ages = [("1", Some(1)), ("3", Some(1)), ("2", Some(1))];
        assert_eq!(outdated_of(|o| o.keep_last = Some(1), &ages), ["1", "2"]);
    }

    #[test]
    fn patterns_say_what_the_rules_are_about() {
        let signature = format!("sha256-{}.sig", "0".repeat(64));
        let ages =
            [("v1", Some(9)), ("v2", Some(8)), ("latest", Some(9)), ("v-stable", Some(9)), (&signature, Some(9))];
        let rule = |o: &mut PruneOptions| {
            o.keep_last = Some(0);
            o.tags = vec!["v*".parse().unwrap()];
            o.except = vec!["*stable".parse().unwrap()];
        };
        assert_eq!(outdated_of(rule, &ages), ["v1", "v2"]);
    }
}
