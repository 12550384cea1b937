//! Conditions and ranges.
//!
//! Source: RFC 9110, sections 13 (*Conditional Requests*) and 14 (*Range Requests*).

use std::ops::Range;

/// Which bytes of an object are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selected {
    /// All of them.
    Whole,
    /// A part, which isn't empty.
    Part(Range<u64>),
    /// None that there are.
    Unsatisfiable,
}

/// Reads a `Range` header over an object of `size` bytes.
///
/// Several ranges in one request are answered with the whole, which section 14.2 allows: no client of a registry asks for
/// them, and their answers have a format of their own. A range of bytes that makes no sense is refused rather than
/// ignored, as nginx does it: a client that resumes must not take the beginning for the rest.
pub(super) fn select(header: &[u8], size: u64) -> Selected {
    let Some(ranges) = header.get(..6).filter(|unit| unit.eq_ignore_ascii_case(b"bytes=")).map(|_| &header[6..]) else {
        return Selected::Whole;
    };
    if ranges.contains(&b',') {
        return Selected::Whole;
    }
    let Some(dash) = ranges.iter().position(|c| *c == b'-') else {
        return Selected::Unsatisfiable;
    };
    let (first, last) = (ranges[..dash].trim_ascii(), ranges[dash + 1..].trim_ascii());
    let range = match (first.is_empty(), number(first), last.is_empty(), number(last)) {
        (true, _, _, Some(suffix)) => size.saturating_sub(suffix)..size,
        (_, Some(first), true, _) => first..size,
        (_, Some(first), _, Some(last)) => first..last.saturating_add(1).min(size),
        _ => 0..0,
    };
    if range.is_empty() { Selected::Unsatisfiable } else { Selected::Part(range) }
}

/// A decimal number; one too large for any file stays so.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        digit.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}

/// Whether an `If-None-Match` header names the representation with this tag (without quotes). Weakly compared, as
/// section 13.1.2 says.
pub(super) fn none_match_names(header: &[u8], tag: &str) -> bool {
    header.trim_ascii() == b"*"
        || header.split(|c| *c == b',').any(|candidate| {
            let candidate = candidate.trim_ascii();
            is_quoted(candidate.strip_prefix(b"W/").unwrap_or(candidate), tag)
        })
}

/// Whether an `If-Range` header names the representation with this tag: strongly compared, and dates never are.
pub(super) fn if_range_names(header: &[u8], tag: &str) -> bool {
    is_quoted(header.trim_ascii(), tag)
}

fn is_quoted(candidate: &[u8], tag: &str) -> bool {
    candidate.strip_prefix(b"\"").and_then(|c| c.strip_suffix(b"\"")) == Some(tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        use Selected::{Part, Unsatisfiable, Whole};
        for (header, size, expected) in [
            ("bytes=0-0", 10, Part(0..1)),
            ("bytes=2-5", 10, Part(2..6)),
            ("Bytes=2-", 10, Part(2..10)),
            ("bytes=2-99999999999999999999999", 10, Part(2..10)),
            ("bytes=-3", 10, Part(7..10)),
            ("bytes=-30", 10, Part(0..10)),
            ("bytes= 1 - 2 ", 10, Part(1..3)),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=5-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-1", 0, Unsatisfiable),
            ("bytes=", 10, Unsatisfiable),
            ("bytes=-", 10, Unsatisfiable),
            ("bytes=a-b", 10, Unsatisfiable),
            ("bytes=+1-2", 10, Unsatisfiable),
            ("bytes=0-1,4-5", 10, Whole),
            ("items=0-1", 10, Whole),
            ("", 10, Whole),
            ("byt", 10, Whole),
        ] {
            assert_eq!(select(header.as_bytes(), size), expected, "{header:?} of {size}");
        }
    }

    #[test]
    fn entity_tags() {
        for (header, expected) in [
            ("\"sha256:ab\"", true),
            ("W/\"sha256:ab\"", true),
            ("\"x\", \"sha256:ab\"", true),
            ("*", true),
            ("sha256:ab", false),
            ("\"sha256:a\"", false),
            ("", false),
        ] {
            assert_eq!(none_match_names(header.as_bytes(), "sha256:ab"), expected, "{header:?}");
        }
        assert!(if_range_names(b"\"sha256:ab\"", "sha256:ab"));
        assert!(!if_range_names(b"W/\"sha256:ab\"", "sha256:ab"));
        assert!(!if_range_names(b"Sat, 21 Nov 2026 00:00:00 GMT", "sha256:ab"));
    }

    proptest::proptest! {
        #[test]
        fn a_selected_range_lies_inside(header in "bytes=[0-9 ,a-]{0,30}", size in 0_u64..100) {
            if let Selected::Part(range) = select(header.as_bytes(), size) {
                proptest::prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
