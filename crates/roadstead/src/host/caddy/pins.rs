//! Names that the configuration has, with what they lead to: faster than to look, but to be made anew for each image.
//!
//! A `map` is searched from its beginning, some nanoseconds for each name. Where there are more than a thousand, the paths'
//! beginnings choose one of several maps first, each a fraction of a microsecond. As few routes as can be stand in each
//! other: each costs one to two microseconds.
//!
//! One that isn't there, and one that leads to what is gone, is answered as if there were none of them.

use super::{matcher, ranges, sent, simple};
use crate::host::text::Text;
use crate::oci::Reference;
use crate::site::{PathPattern, Rule, Site};

/// How many names a map has at most.
const NAMES: usize = 1000;

struct Pin {
    /// The path without regard to case, as `path` compares it.
    folded: String,
    path: String,
    /// Where below `content/manifests` it leads: media type and digest.
    place: String,
}

/// Answers for the names of a form of path that the survey has: tags, or digests.
pub(super) fn names(text: &mut Text, site: &Site, rule: &Rule) {
    let by_digest = rule.pattern == PathPattern::ManifestByDigest;
    let prefix = site.name_prefix.as_ref().map(|prefix| format!("{prefix}/")).unwrap_or_default();
    let mut pins = Vec::new();
    for (repository, named) in site.survey.names() {
        let media_type = named.media_type.as_str();
        // Some characters mean something in a path that is rewritten.
        let plain = media_type.bytes().all(|c| c.is_ascii_alphanumeric() || b"/.+-_".contains(&c));
        if plain && by_digest == matches!(named.reference, Reference::Digest(_)) {
            let path = format!("/v2/{prefix}{repository}/manifests/{}", named.reference);
            let place = format!("{media_type}/{}", named.digest);
            pins.push(Pin { folded: path.to_ascii_lowercase(), path, place });
        }
    }
    pins.sort_unstable_by(|a, b| (&a.folded, &a.path).cmp(&(&b.folded, &b.path)));
    let Some(found) = &rule.found else { return };
    if pins.is_empty() {
        return;
    }
    let name = format!("{}_pinned", matcher(rule.pattern));
    text.open(&format!("@{name}"));
    text.line("method GET HEAD");
    text.line(if by_digest { "path */manifests/sha256:* */manifests/sha512:*" } else { "path */manifests/*" });
    text.close();
    text.open(&format!("route @{name}"));
    maps(text, &pins, &name, None, &mut 0);
    // Searched for once.
    text.open("vars");
    text.line(&format!("roadstead_pin {{{name}}}"));
    text.line("roadstead_path {path}");
    text.close();
    let place = "/content/manifests/{vars.roadstead_pin}";
    let pinned = "not vars roadstead_pin \"\"";
    // What is sent is what has the digest, wherever the tag leads by now.
    let media_type = "application/{path.3}";
    simple(text, "simple", &[pinned]);
    text.open("route @simple");
    text.line(&format!("rewrite * {place}"));
    sent(text, site, found, "{file}", Some(media_type));
    // Newer ones take but one rewrite of a route's own.
    text.open("route");
    text.line("rewrite * {vars.roadstead_path}");
    text.close();
    text.close();
    text.line(&format!("@pinned {pinned}"));
    text.open("route @pinned");
    text.line(&format!("@found file {place}"));
    text.open("handle @found");
    text.open("route");
    text.line(&format!("rewrite * {place}"));
    text.line(&format!("header Content-Type {media_type}"));
    ranges(text, site, found, "{file}");
    text.close();
    text.close();
    text.close();
    text.close();
}

/// Maps that between them have all the names, and of which each request sees one at most: that of the matcher, if there is one.
fn maps(text: &mut Text, pins: &[Pin], name: &str, matcher: Option<&str>, count: &mut usize) {
    let (Some(first), Some(last)) = (pins.first(), pins.last()) else { return };
    let matcher = matcher.map(|matcher| format!("@{matcher} ")).unwrap_or_default();
    if pins.len() <= NAMES || first.folded == last.folded {
        text.open(&format!("map {matcher}{{path}} {{{name}}}"));
        for pin in pins {
            text.line(&format!("{} {}", pin.path, pin.place));
        }
        text.close();
        return;
    }
    // A route in a route costs more than a matcher beside others.
    let within = !matcher.is_empty();
    if within {
        text.open(format!("route {matcher}").trim_end());
    }
    let same = first.folded.bytes().zip(last.folded.bytes()).take_while(|(a, b)| a == b).count();
    let next = |pin: &Pin| pin.folded.as_bytes().get(same).copied();
    for pins in pins.chunk_by(|a, b| next(a) == next(b)) {
        *count += 1;
        let part = format!("{name}{count}");
        // One that is the beginning of all others stands alone.
        let some = pins[0].folded.get(..=same).map_or_else(|| pins[0].folded.clone(), |some| format!("{some}*"));
        text.line(&format!("@{part} path {some}"));
        maps(text, pins, name, Some(&part), count);
    }
    if within {
        text.close();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn pins(names: impl IntoIterator<Item = String>) -> Vec<Pin> {
        let pin = |path: String| Pin { folded: path.to_ascii_lowercase(), place: "t/d".to_owned(), path };
        let mut pins: Vec<_> = names.into_iter().map(pin).collect();
        pins.sort_unstable_by(|a, b| (&a.folded, &a.path).cmp(&(&b.folded, &b.path)));
        pins
    }

    /// The names of each map. What is asked of a path before its map is seen must be true of each.
    fn rendered(pins: &[Pin]) -> Vec<Vec<String>> {
        let mut text = Text::default();
        maps(&mut text, pins, "name", None, &mut 0);
        let (mut found, mut matchers, mut choices) = (Vec::<Vec<String>>::new(), BTreeMap::new(), Vec::new());
        for line in text.finish().lines().map(str::trim) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                [kind @ ("map" | "route"), matcher, ..] => {
                    choices.push(matchers.get(matcher).cloned().unwrap_or_else(|| "*".to_owned()));
                    found.extend((kind == "map").then(Vec::new));
                }
                [matcher, "path", choice] => drop(matchers.insert(matcher.to_owned(), choice.to_owned())),
                ["}"] => drop(choices.pop()),
                [path, "t/d"] => {
                    let folded = path.to_ascii_lowercase();
                    let seen = |choice: &String| match choice.strip_suffix('*') {
                        Some(beginning) => folded.starts_with(beginning),
                        None => folded == *choice,
                    };
                    assert!(choices.iter().all(seen), "{path} behind {choices:?}");
                    found.last_mut().unwrap().push(path.to_owned());
                }
                _ => panic!("{line}"),
            }
        }
        found
    }

    #[test]
    fn few_names_are_one_map() {
        let found = rendered(&pins((0..NAMES).map(|n| format!("/v2/app/manifests/{n}"))));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].len(), NAMES);
    }

    #[test]
    fn many_names_are_many_maps_and_none_is_lost() {
        let names = (0..5000).map(|n| format!("/v2/app/manifests/{n}"));
        let names: Vec<_> = names.chain(["/v2/app/manifests/1.".into(), "/v2/App".into(), "/v2/app".into()]).collect();
        let found = rendered(&pins(names.clone()));
        assert!(found.len() > 5 && found.iter().all(|names| names.len() <= NAMES), "{}", found.len());
        let mut all = found.concat();
        all.sort_unstable();
        let mut names = names;
        names.sort_unstable();
        assert_eq!(all, names);
    }

    #[test]
    fn names_that_differ_in_case_alone_end() {
        let spelled = |n: u32| (0..11).map(|bit| if n >> bit & 1 == 1 { 'A' } else { 'a' }).collect();
        let found = rendered(&pins((0..2048).map(spelled)));
        assert_eq!(found.len(), 1);
    }
}
