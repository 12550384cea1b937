//! Fields that some readers see and others don't.
//!
//! Most registries and clients are written in Go, whose JSON reader takes `Layers` and even `layer\u{17f}` (with the long s)
//! for `layers`, and the last one wins. A manifest that spells a field so is one thing to them and another thing to
//! everybody else, so it is refused. The same pass limits how deep a manifest nests, in the fields that nobody reads too.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// Where in a manifest an object stands, which decides what its fields may be called.
#[derive(Clone, Copy)]
enum Place {
    Manifest,
    Descriptor,
    Platform,
    Elsewhere,
}

impl Place {
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Manifest => &[
                "schemaVersion",
                "mediaType",
                "artifactType",
                "config",
                "layers",
                "blobs",
                "manifests",
                "subject",
                "annotations",
                "fsLayers",
                "history",
                "signatures",
            ],
            Self::Descriptor => {
                &["mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform", "blobSum"]
            }
            Self::Platform => &["architecture", "os", "os.version", "os.features", "variant"],
            Self::Elsewhere => &[],
        }
    }

    /// Where the value of a field stands. The elements of an array stand where it does.
    fn below(self, field: &str) -> Self {
        match (self, field) {
            (Self::Manifest, "config" | "layers" | "blobs" | "manifests" | "subject" | "fsLayers") => Self::Descriptor,
            (Self::Descriptor, "platform") => Self::Platform,
            _ => Self::Elsewhere,
        }
    }
}

/// Whether Go's reader takes `name` for the field `known`: its letters are folded, and two letters beyond ASCII fold to
/// letters of ASCII.
fn is_taken_for(name: &str, known: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(fold).eq(known.chars().map(fold))
}

struct Walk<'a> {
    place: Place,
    ambiguous: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(Walk { ..self })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            if self.place.fields().iter().any(|known| *known != name && is_taken_for(&name, known)) {
                self.ambiguous.set(true);
            }
            fields.next_value_seed(Walk { place: self.place.below(&name), ambiguous: self.ambiguous })?;
        }
        Ok(())
    }
}

/// Whether every reader sees the same fields in a manifest.
pub(super) fn is_unambiguous(json: &str) -> Result<bool, serde_json::Error> {
    let ambiguous = Cell::new(false);
    let mut reader = serde_json::Deserializer::from_str(json);
    Walk { place: Place::Manifest, ambiguous: &ambiguous }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(!ambiguous.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_takes_for_another_field() {
        for json in [
            r#"{"Layers":[]}"#,
            r#"{"layers":[],"LAYERS":[]}"#,
            "{\"layer\u{17f}\":[]}",
            "{\"manife\u{17f}ts\":[]}",
            r#"{"mediatype":"x"}"#,
            r#"{"layers":[{"digest":"a","Digest":"b"}]}"#,
            r#"{"config":{"SIZE":1}}"#,
            r#"{"manifests":[{"platform":{"OS":"linux"}}]}"#,
            r#"{"\u004cayers":[]}"#,
        ] {
            assert!(!is_unambiguous(json).unwrap(), "{json}");
        }
        for json in [
            r#"{"layers":[],"annotations":{"Layers":"x","layers":"y"}}"#,
            r#"{"layers":[{"annotations":{"Digest":"x"}}]}"#,
            r#"{"unknown":{"Layers":[]},"Other":1}"#,
            "[]",
            "1.5",
            "null",
        ] {
            assert!(is_unambiguous(json).unwrap(), "{json}");
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let nested = |depth: usize| format!(r#"{{"x":{}1{}}}"#, open.repeat(depth), close.repeat(depth));
            assert!(is_unambiguous(&nested(100)).is_ok());
            assert!(is_unambiguous(&nested(100_000)).is_err());
        }
    }
}
