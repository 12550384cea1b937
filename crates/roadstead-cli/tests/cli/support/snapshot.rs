//! Runs as text that is the same on every machine.

use std::collections::BTreeMap;

use expect_test::Expect;
use roadstead::testing::Image;

use super::{Place, Ran};

/// What stands for what differs from run to run: digests, addresses, folders, durations.
#[derive(Clone)]
pub(crate) struct Words(BTreeMap<String, String>);

impl Words {
    /// Digests stand as what they are in the image, and the place's folder as `PLACE`.
    pub(crate) fn of(place: &Place, images: &[(&str, &Image)]) -> Self {
        let mut words = Self(BTreeMap::new());
        words.say(place.path().to_str().unwrap(), "PLACE");
        for (name, image) in images {
            words.image(name, image);
        }
        words
    }

    /// Shows a text as another one.
    pub(crate) fn say(&mut self, text: &str, as_what: &str) {
        self.0.entry(text.to_owned()).or_insert_with(|| as_what.to_owned());
    }

    fn image(&mut self, name: &str, image: &Image) {
        let mut digests = vec![(image.digest(), name.to_owned())];
        for (number, child) in image.children.iter().enumerate() {
            digests.push((*child.digest(), format!("{name}-child-{number}")));
        }
        for manifest in image.manifests() {
            let of = digests.iter().find(|(digest, _)| digest == manifest.digest()).unwrap().1.clone();
            digests.extend(manifest.config().map(|config| (config.digest, format!("{of}-config"))));
            let layers = manifest.layers().iter().enumerate();
            digests.extend(layers.map(|(number, layer)| (layer.digest, format!("{of}-layer-{number}"))));
        }
        for (digest, label) in digests {
            self.say(&digest.to_string(), &format!("sha256:<{label}>"));
            // As in tables, which leave the algorithm out.
            self.say(&digest.short(), &format!("<{label}>"));
        }
    }

    fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // The longest first: a short digest is a part of a whole one.
        let mut words: Vec<_> = self.0.iter().collect();
        words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        for (word, label) in words {
            text = text.replace(word, label);
        }
        let text = replace_after(&text, "127.0.0.1:", "PORT", |c| c.is_ascii_digit());
        let text = replace_after(&text, "localhost:", "PORT", |c| c.is_ascii_digit());
        sort_blobs(&replace_before(&text, " s\n", "TIME", |c| c.is_ascii_digit() || c == '.'))
    }
}

/// Compares a run with what is written; `UPDATE_EXPECT=1` writes it.
#[expect(clippy::needless_pass_by_value, reason = "so that calls read like an assertion")]
#[track_caller]
pub(crate) fn snapshot(words: &Words, ran: &Ran, expected: Expect) {
    expected.assert_eq(&words.apply(&ran.to_string()));
}

/// Blobs are copied in parallel, and told as they are done.
fn sort_blobs(text: &str) -> String {
    // By a label, or by the digits of a digest that nobody gave one.
    let is_blob = |line: &str| {
        let name = line.strip_prefix("  ").unwrap_or_default();
        name.starts_with('<') || name.bytes().take_while(u8::is_ascii_hexdigit).count() == 12
    };
    let mut lines: Vec<&str> = text.lines().collect();
    for run in lines.chunk_by_mut(|a, b| is_blob(a) && is_blob(b)) {
        run.sort_unstable();
    }
    lines.join("\n") + "\n"
}

fn replace_after(text: &str, mark: &str, by: &str, what: impl Fn(char) -> bool) -> String {
    let mut parts = text.split(mark);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(&what);
        result.push_str(mark);
        if rest.len() < part.len() {
            result.push_str(by);
        }
        result.push_str(rest);
    }
    result
}

fn replace_before(text: &str, mark: &str, by: &str, what: impl Fn(char) -> bool) -> String {
    let mut parts: Vec<String> = text.split(mark).map(str::to_owned).collect();
    let last = parts.len() - 1;
    for part in &mut parts[..last] {
        let rest = part.trim_end_matches(&what);
        if rest.len() < part.len() {
            *part = format!("{rest}{by}");
        }
    }
    parts.join(mark)
}
