//! Where everything lies: the only code that knows a path.

use crate::oci::{Digest, MediaType, Reference, Repository, Tag};
use crate::store::{Key, Naming};

/// The folders of a repository, in which its names lie.
pub(crate) const MANIFESTS: &str = "manifests";
pub(crate) const BLOBS: &str = "blobs";
pub(crate) const TAGS: &str = "tags";
pub(crate) const REFERRERS: &str = "referrers";

/// Everything here is built from parsed names, whose grammars allow nothing that a key can't hold: components of a
/// repository have 255 bytes at most, tags 128, digests 135, the second half of a media type 127.
fn key(text: impl Into<String>) -> Key {
    Key::of_names(text.into())
}

/// A key of several parts. Made in one piece, since trees have many.
fn joined(parts: &[&str]) -> Key {
    Key::of_names(parts.join("/"))
}

/// The root of what clients ask for.
#[must_use]
pub fn root() -> Key {
    key("v2")
}

/// What answers `GET /v2/`: an index on a host with directories, an object of just that name in a bucket.
#[must_use]
pub fn ping(naming: Naming) -> Key {
    match naming {
        Naming::Links => key("v2/index.html"),
        Naming::Copies => root().index(),
    }
}

/// The list of repositories.
#[must_use]
pub fn catalog() -> Key {
    key("v2/_catalog")
}

/// The folder of a repository.
#[must_use]
pub fn repository(repository: &Repository) -> Key {
    key(format!("v2/{repository}"))
}

/// One of a repository's folders.
#[must_use]
pub(crate) fn folder(repository: &Repository, folder: &str) -> Key {
    key(format!("v2/{repository}/{folder}"))
}

/// The name of a manifest.
#[must_use]
pub fn manifest(repository: &Repository, reference: &Reference) -> Key {
    joined(&["v2", repository.as_str(), MANIFESTS, &reference.to_string()])
}

/// The name of a blob.
#[must_use]
pub fn blob(repository: &Repository, digest: &Digest) -> Key {
    joined(&["v2", repository.as_str(), BLOBS, &digest.to_string()])
}

/// The list of a repository's tags.
#[must_use]
pub fn tags_list(repository: &Repository) -> Key {
    key(format!("v2/{repository}/{TAGS}/list"))
}

/// The list of what refers to `subject`.
#[must_use]
pub fn referrers(repository: &Repository, subject: &Digest) -> Key {
    key(format!("v2/{repository}/{REFERRERS}/{subject}"))
}

/// The name under which clients look for that list where there is no referrers API.
#[must_use]
pub fn referrers_fallback(repository: &Repository, subject: &Digest) -> Key {
    manifest(repository, &Reference::Tag(Tag::referrers_fallback(subject)))
}

/// The bytes of a manifest, in a store with links.
#[must_use]
pub fn manifest_content(media_type: &MediaType, digest: &Digest) -> Key {
    let name = media_type.as_str();
    key(format!("content/{MANIFESTS}/{name}/{digest}"))
}

/// The bytes of a blob, in a store with links.
#[must_use]
pub fn blob_content(digest: &Digest) -> Key {
    key(format!("content/{BLOBS}/{digest}"))
}

/// Where the bytes lie, in a store with links.
#[must_use]
pub(crate) fn contents() -> Key {
    key("content")
}

/// What is private.
#[must_use]
pub(crate) fn private() -> Key {
    key(".roadstead")
}

/// Where temporary files lie, in a local directory.
#[must_use]
pub(crate) fn temporary() -> Key {
    key(".roadstead/tmp")
}

/// Whether something private is what a tree has there.
#[must_use]
pub(crate) fn is_private(key: &Key) -> bool {
    ["format", "left-out", "locks", "tmp", "holders", "uploads", "probe", "private", "writers", "needs"]
        .contains(&key.name())
}

/// The list of what is not for everybody.
#[must_use]
pub(crate) fn private_list() -> Key {
    key(super::Private::PLACE)
}

/// The repository, the folder and the name in it, of a name.
#[must_use]
pub(crate) fn named(key: &Key) -> Option<(Repository, &str, &str)> {
    let (rest, name) = key.as_str().strip_prefix("v2/")?.rsplit_once('/')?;
    let (repository, folder) = rest.rsplit_once('/')?;
    Some((repository.parse().ok()?, folder, name))
}

/// Whether this is what the folders of a repository are called.
pub(crate) fn is_folder(name: &str) -> bool {
    [BLOBS, MANIFESTS, REFERRERS, TAGS].contains(&name)
}

/// The records of what was left out.
#[must_use]
pub(crate) fn records() -> Key {
    key(".roadstead/left-out")
}

/// The repository and the index that a record is about.
#[must_use]
pub(crate) fn recorded(record: &Key) -> Option<(Repository, Digest)> {
    let (repository, index) = record.as_str().strip_prefix(".roadstead/left-out/")?.rsplit_once('/')?;
    Some((repository.parse().ok()?, index.parse().ok()?))
}

/// The hints for all blobs.
#[must_use]
pub(crate) fn all_hints() -> Key {
    key(".roadstead/holders")
}

/// The version of the format.
#[must_use]
pub(crate) fn format() -> Key {
    key(".roadstead/format")
}

/// Where writers say that they are at work, in a store whose locks don't reach them all.
#[must_use]
pub(crate) fn writers() -> Key {
    key(".roadstead/writers")
}

/// One of them.
#[must_use]
pub(crate) fn writer(word: &str) -> Key {
    key(format!(".roadstead/writers/{word}"))
}

/// What was left out of an index on purpose.
#[must_use]
pub(crate) fn left_out(repository: &Repository, index: &Digest) -> Key {
    key(format!(".roadstead/left-out/{repository}/{index}"))
}

/// The folder of the records of a repository's indexes.
#[must_use]
pub(crate) fn left_out_folder(repository: &Repository) -> Key {
    key(format!(".roadstead/left-out/{repository}"))
}

/// Says that a repository holds a blob, in a store without links. A hint: it may be out of date. Its name is one
/// component, so that one list shows all; a colon takes the slash's place, which no repository's name has.
#[must_use]
pub(crate) fn hint(repository: &Repository, blob: &Digest) -> Key {
    let name = repository.as_str().replace('/', ":");
    key(format!(".roadstead/holders/{blob}/{name}"))
}

/// What is known of the manifests of a repository. Its name is one component, as that of a hint.
#[must_use]
pub(crate) fn needs(repository: &Repository) -> Key {
    let name = repository.as_str().replace('/', ":");
    key(format!(".roadstead/needs/{name}"))
}

/// The repository that a hint names.
#[must_use]
pub(crate) fn hinted(hint: &Key) -> Option<Repository> {
    hint.name().replace(':', "/").parse().ok()
}

/// The repository and the blob that a hint is about.
#[must_use]
pub(crate) fn hint_of(hint: &Key) -> Option<(Repository, Digest)> {
    let (blob, _) = hint.as_str().strip_prefix(".roadstead/holders/")?.split_once('/')?;
    Some((hinted(hint)?, blob.parse().ok()?))
}

/// The hints for a blob.
#[must_use]
pub(crate) fn hints(blob: &Digest) -> Key {
    key(format!(".roadstead/holders/{blob}"))
}

/// What a link leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// A manifest, its type and digest spelled by the path.
    Manifest(MediaType, Digest),
    /// A blob.
    Blob(Digest),
}

/// What lies under a key of `content/`.
#[must_use]
pub fn content(key: &Key) -> Option<Content> {
    let rest = key.as_str().strip_prefix("content/")?;
    if let Some(digest) = rest.strip_prefix("blobs/") {
        return Some(Content::Blob(digest.parse().ok()?));
    }
    let (media_type, digest) = rest.strip_prefix("manifests/")?.rsplit_once('/')?;
    let parsed: MediaType = media_type.parse().ok()?;
    // A type is folded to lower case when it enters; a path with another spelling was not written by a tree.
    (parsed.as_str() == media_type).then_some(Content::Manifest(parsed, digest.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn content_is_read_back_from_its_key() {
        for algorithm in Algorithm::ALL {
            let digest = algorithm.digest(b"x");
            for media_type in MediaType::MANIFESTS {
                let at = manifest_content(&media_type, &digest);
                assert_eq!(content(&at), Some(Content::Manifest(media_type, digest)));
            }
            assert_eq!(content(&blob_content(&digest)), Some(Content::Blob(digest)));
        }
        let (repository, digest): (Repository, Digest) = ("a/b".parse().unwrap(), Algorithm::Sha256.digest(b"x"));
        assert_eq!(recorded(&left_out(&repository, &digest)), Some((repository, digest)));
        for bad in ["content/x", "content/manifests/application/x", "v2/app/blobs/x", "content/manifests/text/html/x"] {
            assert_eq!(content(&key(bad)), None, "{bad}");
        }
    }

    #[test]
    fn the_longest_names_make_keys() {
        let repository: Repository = ["a".repeat(255)][0].parse().unwrap();
        let digest = Algorithm::Sha512.digest(b"x");
        let media_type: MediaType = format!("application/{}", "x".repeat(127)).parse().unwrap();
        for key in [
            manifest_content(&media_type, &digest),
            referrers_fallback(&repository, &digest),
            left_out(&repository, &digest),
        ] {
            assert_eq!(key.as_str().parse(), Ok(key));
        }
    }
}
