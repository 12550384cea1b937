//! Everything below a key, in order.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use md5::Digest as _;

use super::{Key, Listed, Store, StoreError};

/// The MD5 of an object's bytes: what most buckets call the version of what was put in one request. It tells honest bytes apart,
/// and vouches for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Md5([u8; 16]);

impl Md5 {
    /// That of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(md5::Md5::digest(bytes).into())
    }

    /// That of all bytes that went into a sum.
    pub(crate) fn of_sum(sum: md5::Md5) -> Self {
        Self(sum.finalize().into())
    }

    /// That of bytes as they come.
    pub(crate) async fn of_stream(
        mut bytes: BoxStream<'_, Result<bytes::Bytes, StoreError>>,
    ) -> Result<Self, StoreError> {
        let mut sum = md5::Md5::new();
        while let Some(piece) = bytes.try_next().await? {
            sum.update(&piece);
        }
        Ok(Self::of_sum(sum))
    }

    /// What a service says in base64, if it can be an MD5.
    pub(crate) fn of_base64(text: &str) -> Option<Self> {
        Some(Self(BASE64.decode(text).ok()?.try_into().ok()?))
    }

    /// As services say it.
    pub(crate) fn to_base64(self) -> String {
        BASE64.encode(self.0)
    }

    /// What an entity tag says, if it can be an MD5. That of an object in parts can't.
    pub(crate) fn of_tag(tag: &str) -> Option<Self> {
        let hex = tag.trim_matches('"');
        if hex.len() != 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 16];
        for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// An object as a [walk](Store::walk) comes upon it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its key.
    pub key: Key,
    /// Its size in bytes; of a link, that of what it leads to.
    pub size: u64,
    /// What it links to.
    pub target: Option<Key>,
    /// The MD5 of its bytes, where the store says it unasked.
    pub md5: Option<Md5>,
}

/// Walks through folders, each sorted: what lies in one is held until the walk has left it.
pub(super) fn folders<'a, S: Store + ?Sized>(store: &'a S, prefix: &Key) -> BoxStream<'a, Result<Named, StoreError>> {
    let begin = (vec![Listed::Prefix(prefix.clone())], store);
    stream::try_unfold(begin, |(mut open, store)| async move {
        loop {
            match open.pop() {
                None => return Ok(None),
                Some(Listed::Prefix(folder)) => {
                    let mut inside: Vec<Listed> = store.list(&folder).try_collect().await?;
                    // As if the key of each folder ended with the slash that goes on.
                    let order = |listed: &Listed| match listed {
                        Listed::Object(key) => key.to_string(),
                        Listed::Prefix(key) => format!("{key}/"),
                    };
                    inside.sort_by_cached_key(|listed| std::cmp::Reverse(order(listed)));
                    open.append(&mut inside);
                }
                Some(Listed::Object(key)) => match store.head(&key).await {
                    Ok(Some(entry)) => {
                        let named = Named { key, size: entry.size, target: entry.target, md5: None };
                        return Ok(Some((named, (open, store))));
                    }
                    Ok(None) | Err(StoreError::Escape { .. }) => {}
                    Err(error) => return Err(error),
                },
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_are_sums() {
        let sum = Md5::of(b"content");
        assert_eq!(Md5::of_tag("\"9a0364b9e99bb480dd25e1f0284c8555\""), Some(sum));
        assert_eq!(Md5::of_tag("9A0364B9E99BB480DD25E1F0284C8555"), Some(sum));
        assert_eq!(Md5::of_base64(&sum.to_base64()), Some(sum));
        for other in ["", "\"\"", "9a0364b9e99bb480dd25e1f0284c8555-2", "+a0364b9e99bb480dd25e1f0284c8555", "é"] {
            assert_eq!(Md5::of_tag(other), None, "{other:?}");
            assert_eq!(Md5::of_base64(other), None, "{other:?}");
        }
    }
}
