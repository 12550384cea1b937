//! Digests: what names content, and the only thing that proves it.
//!
//! Source: image specification, *Content Descriptors*, section "Digests".

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};

/// A hash algorithm that may name content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// `sha256`, what nearly all content is named by.
    Sha256,
    /// `sha512`.
    Sha512,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name before the colon.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of a digest in bytes: 32 or 64.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Starts a hash of content that arrives piece by piece.
    #[must_use]
    pub fn hasher(self) -> Hasher {
        match self {
            Self::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Self::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    /// The digest of `content`.
    #[must_use]
    pub fn digest(self, content: &[u8]) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(content);
        hasher.finish()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A running hash. Cloning it keeps the state at that point, so that an interrupted transfer can go on.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// The state of a `sha256`.
    Sha256(sha2::Sha256),
    /// The state of a `sha512`.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Sha512(state) => state.update(bytes),
        }
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The state as a text, from which [another process](Self::from_state) can go on: `sha256:` or `sha512:`, and hexadecimal
    /// digits. Among them are the last bytes added, up to a block of the hash.
    #[must_use]
    pub fn state(&self) -> String {
        let mut text = format!("{}:", self.algorithm());
        match self {
            Self::Sha256(state) => push_hex(&state.serialize(), &mut text),
            Self::Sha512(state) => push_hex(&state.serialize(), &mut text),
        }
        text
    }

    /// The hash whose [`state`](Self::state) a text is; `None` if it is none.
    #[must_use]
    pub fn from_state(text: &str) -> Option<Self> {
        fn read<H: SerializableState>(hex: &str) -> Option<H> {
            let mut state = SerializedState::<H>::default();
            parse_hex(hex, &mut state)?;
            H::deserialize(&state).ok()
        }
        let (algorithm, hex) = text.split_once(':')?;
        match Algorithm::ALL.into_iter().find(|known| known.as_str() == algorithm)? {
            Algorithm::Sha256 => read(hex).map(Self::Sha256),
            Algorithm::Sha512 => read(hex).map(Self::Sha512),
        }
    }

    /// The digest of everything added.
    #[must_use]
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 64];
        let algorithm = match self {
            Self::Sha256(state) => {
                bytes[..32].copy_from_slice(&state.finalize());
                Algorithm::Sha256
            }
            Self::Sha512(state) => {
                bytes.copy_from_slice(&state.finalize());
                Algorithm::Sha512
            }
        };
        Digest { algorithm, bytes }
    }
}

/// A digest, `sha256:` followed by 64 or `sha512:` followed by 128 lower-case hexadecimal digits.
///
/// Only registered algorithms exist here: content that is named by anything else can't be verified, so it is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    /// The first [`Algorithm::digest_len`] bytes count, the others are zero.
    bytes: [u8; 64],
}

impl Digest {
    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw bytes, 32 or 64 of them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_len()]
    }

    /// The digest whose raw bytes are these.
    pub(crate) fn sha256(raw: &[u8; 32]) -> Self {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(raw);
        Self { algorithm: Algorithm::Sha256, bytes }
    }

    /// The hexadecimal digits after the colon.
    #[must_use]
    pub fn hex(&self) -> String {
        let mut hex = String::with_capacity(2 * self.algorithm.digest_len());
        self.push_hex(&mut hex);
        hex
    }

    /// The first twelve hexadecimal digits, for people: never to look anything up.
    #[must_use]
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }

    fn push_hex(&self, to: &mut String) {
        push_hex(self.as_bytes(), to);
    }
}

fn push_hex(bytes: &[u8], to: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        to.push(char::from(DIGITS[usize::from(byte >> 4)]));
        to.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Reads as many lower-case digits as there is room for, and no other number of them.
fn parse_hex(hex: &str, to: &mut [u8]) -> Option<()> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if hex.len() != 2 * to.len() {
        return None;
    }
    for (byte, pair) in to.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(())
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(7 + 2 * self.algorithm.digest_len());
        text.push_str(self.algorithm.as_str());
        text.push(':');
        self.push_hex(&mut text);
        f.pad(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon, or nothing before it.
    #[error("{0:?} is not a digest: expected ALGORITHM:HEX, such as sha256:…")]
    Shape(String),
    /// The algorithm is not one that can be verified here.
    #[error("{0:?} is a digest of an unsupported algorithm: sha256 and sha512 are known")]
    Algorithm(String),
    /// The digits are too few, too many, upper-case or not hexadecimal.
    #[error("{text:?} is not a digest: {algorithm} takes {expected} lower-case hexadecimal digits")]
    Digits {
        /// The text.
        text: String,
        /// Its algorithm.
        algorithm: Algorithm,
        /// How many digits it takes.
        expected: usize,
    },
}

/// Cuts hostile text to what an error message can bear.
pub(crate) fn excerpt(text: &str) -> String {
    const LIMIT: usize = 200;
    if text.len() <= LIMIT {
        return text.to_owned();
    }
    match text.char_indices().nth(LIMIT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let Some((name, hex)) = text.split_once(':') else {
            return Err(DigestError::Shape(excerpt(text)));
        };
        let Some(algorithm) = Algorithm::ALL.into_iter().find(|a| a.as_str() == name) else {
            return Err(if name.is_empty() {
                DigestError::Shape(excerpt(text))
            } else {
                DigestError::Algorithm(excerpt(text))
            });
        };
        let digits = || DigestError::Digits { text: excerpt(text), algorithm, expected: 2 * algorithm.digest_len() };
        let mut bytes = [0; 64];
        parse_hex(hex, &mut bytes[..algorithm.digest_len()]).ok_or_else(digits)?;
        Ok(Self { algorithm, bytes })
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(
            Algorithm::Sha256.digest(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert!(Algorithm::Sha512.digest(b"abc").to_string().starts_with("sha512:ddaf35a193617abacc417349ae204131"));
    }

    #[test]
    fn what_is_not_a_digest() {
        let good = Algorithm::Sha256.digest(b"x").to_string();
        for bad in [
            "",
            ":",
            "sha256",
            "sha256:",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &good.to_uppercase(),
            &good[..good.len() - 1],
            &format!("{good}0"),
            &good.replace("sha256", "sha512"),
            "sha256:../../../../../../../../../../../../../../../../../../../../etc",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn what_is_no_state_of_a_hash() {
        let good = Algorithm::Sha256.hasher().state();
        for bad in ["", "sha256", "sha256:", "md5:00", &good[..good.len() - 2], &good.replace("sha256", "sha512")] {
            assert!(Hasher::from_state(bad).is_none(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_hash_can_go_on_from_a_copy_of_its_state() {
        let mut first = Algorithm::Sha512.hasher();
        first.update(b"ab");
        let mut second = first.clone();
        second.update(b"c");
        let third = Hasher::from_state(&second.state()).unwrap();
        assert_eq!(second.finish(), Algorithm::Sha512.digest(b"abc"));
        assert_eq!(third.finish(), Algorithm::Sha512.digest(b"abc"));
        assert_eq!(first.finish(), Algorithm::Sha512.digest(b"ab"));
    }
}
