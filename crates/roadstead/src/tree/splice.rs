//! Lists that are changed where they lie, without a look at each of their names.
//!
//! A list of tags or repositories is a head, the names in quotation marks with commas between, sorted by bytes, and `]}`. No name
//! has a character that JSON escapes, or a comma. So one among a hundred thousand is found by halving the bytes, and a list
//! that is known to be right stays right if a name is put where it belongs.

use bytes::Bytes;

const END: &[u8] = b"]}";

/// A list, as its bytes lie.
pub(super) struct Spliced<'a> {
    bytes: &'a Bytes,
    /// Where the names begin, and where they end.
    begin: usize,
    end: usize,
}

impl<'a> Spliced<'a> {
    /// The list with that head; `None` if it isn't one.
    pub(super) fn new(bytes: &'a Bytes, head: &str) -> Option<Self> {
        let names = bytes.strip_prefix(head.as_bytes())?.strip_suffix(END)?;
        Some(Self { bytes, begin: head.len(), end: head.len() + names.len() })
    }

    /// Where a name stands, or else where it would have to begin; `None` if what is there is no name.
    fn find(&self, name: &str) -> Option<Result<usize, usize>> {
        let (mut low, mut high) = (self.begin, self.end);
        // Both are the beginning of a name, or the end of all.
        while low < high {
            let middle = low + (high - low) / 2;
            let begin = self.bytes[low..middle].iter().rposition(|byte| *byte == b',').map_or(low, |at| low + at + 1);
            let length = self.bytes[begin..self.end].iter().position(|byte| *byte == b',');
            let end = length.map_or(self.end, |length| begin + length);
            let there = self.bytes[begin..end].strip_prefix(b"\"")?.strip_suffix(b"\"")?;
            match there.cmp(name.as_bytes()) {
                std::cmp::Ordering::Equal => return Some(Ok(begin)),
                std::cmp::Ordering::Less => low = (end + 1).min(self.end),
                std::cmp::Ordering::Greater => high = begin,
            }
        }
        Some(Err(low))
    }

    /// The list with these names, which are sorted; `None` if it is none.
    pub(super) fn with<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Option<Bytes> {
        let mut new = Vec::new();
        let mut copied = 0;
        for name in names {
            let Err(at) = self.find(name)? else { continue };
            if new.capacity() == 0 {
                new.reserve(self.bytes.len() + self.bytes.len() / 64 + 256);
            }
            new.extend_from_slice(&self.bytes[copied..at]);
            copied = at;
            // Behind all others, its comma stands before it.
            if at == self.end && new.last() == Some(&b'"') {
                new.push(b',');
            }
            new.push(b'"');
            new.extend_from_slice(name.as_bytes());
            new.push(b'"');
            if at < self.end {
                new.push(b',');
            }
        }
        if new.is_empty() {
            return Some(self.bytes.clone());
        }
        new.extend_from_slice(&self.bytes[copied..]);
        Some(new.into())
    }

    /// The list without a name; `None` if it is none, or hasn't the name.
    pub(super) fn without(&self, name: &str) -> Option<Bytes> {
        let begin = self.find(name)?.ok()?;
        let after = begin + name.len() + 2;
        let (kept, rest) = if after < self.end {
            (begin, after + 1)
        } else {
            // The last takes the comma before it along.
            (begin.saturating_sub(1).max(self.begin), self.end)
        };
        Some([&self.bytes[..kept], &self.bytes[rest..]].concat().into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const HEAD: &str = r#"{"name":"app","tags":["#;

    fn list(names: &BTreeSet<String>) -> Bytes {
        let list = serde_json::json!({ "name": "app", "tags": names });
        Bytes::from(serde_json::to_vec(&list).unwrap())
    }

    /// Names whose order is easily got wrong: one begins another, and characters stand before and behind the comma.
    fn names() -> Vec<String> {
        let parts = ["1", "1.", "1-", "10", "A", "Z", "_", "a", "aa", "a-b", "z", "~/x"];
        parts.iter().flat_map(|a| parts.iter().map(move |b| format!("{a}{b}"))).collect()
    }

    #[test]
    fn what_is_spliced_is_what_would_be_written() {
        let names = names();
        for count in [0, 1, 2, 3, 20, names.len()] {
            let there: BTreeSet<String> = names.iter().step_by(2).take(count).cloned().collect();
            let bytes = list(&there);
            let spliced = Spliced::new(&bytes, HEAD).unwrap();
            for name in &names {
                let mut with = there.clone();
                with.insert(name.clone());
                assert_eq!(spliced.with([name.as_str()]).unwrap(), list(&with), "{name} in {count}");
                let mut without = there.clone();
                let removed = without.remove(name);
                assert_eq!(spliced.without(name), removed.then(|| list(&without)), "{name} out of {count}");
            }
            for some in names.chunks(5) {
                let new: BTreeSet<String> = some.iter().cloned().collect();
                let all = there.union(&new).cloned().collect();
                assert_eq!(spliced.with(new.iter().map(String::as_str)).unwrap(), list(&all), "{new:?} in {count}");
            }
        }
    }

    #[test]
    fn what_is_no_list_is_not_touched() {
        for bad in ["", "{}", r#"{"name":"app","tags":null}"#, r#"{"name":"other","tags":[]}"#] {
            assert!(Spliced::new(&Bytes::from_static(bad.as_bytes()), HEAD).is_none(), "{bad}");
        }
        for bad in [r#"{"name":"app","tags":[1]}"#, r#"{"name":"app","tags":["a,]}"#, r#"{"name":"app","tags":[,]}"#] {
            let bytes = Bytes::from_static(bad.as_bytes());
            assert!(Spliced::new(&bytes, HEAD).unwrap().with(["b"]).is_none(), "{bad}");
        }
    }
}
