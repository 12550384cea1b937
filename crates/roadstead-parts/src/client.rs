use std::collections::BTreeSet;

use crate::Failure;

/// A program that pulls images.
///
/// References are written `AUTHORITY/REPOSITORY:TAG` or `AUTHORITY/REPOSITORY@DIGEST`, without a transport. Everything
/// is plain HTTP on loopback.
///
/// An engine does not fetch a blob again that it holds, from wherever it came: an image whose layers are no other
/// test's, or [`Client::forget`] between two pulls, makes sure that a pull proves something about the server.
pub trait Client: Send + Sync {
    /// The program's name and what distinguishes it from others here, for messages.
    fn name(&self) -> &str;

    /// Pulls an image, with all of its content that the program wants for this platform.
    ///
    /// # Errors
    ///
    /// When the program fails.
    fn pull(&self, reference: &str) -> Result<Pulled, Failure>;

    /// Pulls an image by its digest.
    ///
    /// # Errors
    ///
    /// As [`Client::pull`].
    fn pull_by_digest(&self, repository: &str, digest: &str) -> Result<Pulled, Failure> {
        self.pull(&format!("{repository}@{digest}"))
    }

    /// Removes what was pulled under this reference, so that the next pull fetches it again. Absence is no failure.
    ///
    /// # Errors
    ///
    /// When the program fails.
    fn forget(&self, reference: &str) -> Result<(), Failure>;

    /// The same program as one that also runs images, if it does.
    fn engine(&self) -> Option<&dyn Engine> {
        None
    }
}

/// A program that pushes images.
pub trait Pusher: Client {
    /// Pulls an image from one registry and pushes it to another. Programs that keep images then keep this one no more.
    ///
    /// What is pushed is the image for this platform where the program keeps no more of one.
    ///
    /// # Errors
    ///
    /// When the program fails.
    fn push(&self, from: &str, to: &str) -> Result<(), Failure>;
}

/// A program that runs images as containers.
pub trait Engine: Client {
    /// Runs an image that was pulled under this reference, with its own command, without a network, and returns its
    /// standard output.
    ///
    /// # Errors
    ///
    /// When the program fails, or the container's process does.
    fn run(&self, reference: &str) -> Result<String, Failure>;
}

/// What a client says that it pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The digests of the manifest that the reference stood for, as far as the client tells: one, or an index and the
    /// manifest that was chosen from it.
    pub digests: BTreeSet<String>,
}

impl Pulled {
    /// Finds digests in what a program printed, wherever they stand.
    pub(crate) fn from_text(text: &str) -> Self {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != ':');
        let digests = words.filter(|word| is_digest(word)).map(str::to_owned).collect();
        Self { digests }
    }
}

fn is_digest(word: &str) -> bool {
    let digits = match word.split_once(':') {
        Some(("sha256", digits)) if digits.len() == 64 => digits,
        Some(("sha512", digits)) if digits.len() == 128 => digits,
        _ => return false,
    };
    digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// The part of a reference before the first slash.
pub(crate) fn authority(reference: &str) -> &str {
    reference.split_once('/').map_or(reference, |(authority, _)| authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_wherever_they_stand() {
        let (one, two) = ("a".repeat(64), "b".repeat(128));
        let text = format!("[\"127.0.0.1:5000/x@sha256:{one}\"]\nDigest: sha512:{two} sha256:short");
        let expected = BTreeSet::from([format!("sha256:{one}"), format!("sha512:{two}")]);
        assert_eq!(Pulled::from_text(&text).digests, expected);
    }
}
