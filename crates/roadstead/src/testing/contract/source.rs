//! The promises of [`Source`].

use bytes::Bytes;
use futures::TryStreamExt as _;

use super::{Promises, ends};
use crate::image::{ByteStream, RepositorySource, Source, SourceError};
use crate::oci::{Algorithm, Descriptor, Digest, Reference, Repository, Tag};
use crate::testing::{Fault, Image};

/// A source under test: what it is called, and an image that it holds.
pub struct Subject<'a> {
    /// The implementation, for messages.
    pub implementation: &'a str,
    /// The source.
    pub source: &'a dyn Source,
    /// The repository with the image.
    pub repository: Repository,
    /// The tag of the image.
    pub tag: Tag,
    /// The image.
    pub image: &'a Image,
    /// What refers to the image there, if the medium can tell.
    pub referrers: Option<Vec<Digest>>,
}

impl Subject<'_> {
    fn open(&self) -> Box<dyn RepositorySource> {
        self.source.repository(&self.repository)
    }

    fn good<T>(&self, what: &str, result: Result<T, SourceError>) -> T {
        result.unwrap_or_else(|error| panic!("{}: {what}: {error} ({error:?})", self.implementation))
    }

    fn expect_not_found<T>(&self, what: &str, result: Result<T, SourceError>) {
        match result {
            Err(SourceError::NotFound { .. }) => {}
            Err(other) => panic!("{}: {what}: expected that it isn't found, got {other:?}", self.implementation),
            Ok(_) => panic!("{}: {what} was found", self.implementation),
        }
    }

    /// The descriptors of all blobs, with sizes, as a copier knows them.
    fn blobs(&self) -> Vec<Descriptor> {
        let named = self.image.manifests().flat_map(|manifest| manifest.blobs().cloned().collect::<Vec<_>>());
        named.filter(|blob| self.image.blobs.contains_key(&blob.digest)).collect()
    }
}

/// Every promise of this module that needs no faults.
///
/// # Panics
///
/// If a promise is broken.
pub async fn run_all(subject: &Subject<'_>) {
    let mut promises = Promises::new(subject.implementation.to_owned());
    macro_rules! keeps {
        ($($promise:ident),* $(,)?) => { $( promises.check(stringify!($promise), $promise(subject)).await; )* };
    }
    keeps!(
        a_tag_resolves_to_its_manifest,
        a_digest_resolves_to_itself,
        what_is_not_there_is_not_found,
        manifests_come_exactly,
        a_manifest_of_another_size_is_refused,
        blobs_come_whole,
        blobs_come_from_any_offset,
        tags_are_listed_once,
        repositories_are_listed_or_unsupported,
        referrers_are_those_of_the_subject,
    );
    promises.done();
}

/// A tag resolves to the descriptor of its manifest.
pub async fn a_tag_resolves_to_its_manifest(subject: &Subject<'_>) {
    let reference = Reference::Tag(subject.tag.clone());
    let resolved = subject.good("resolve", subject.open().resolve(&reference).await);
    let expected = subject.image.descriptor();
    assert_eq!(resolved.digest, expected.digest, "{}: digest of {reference}", subject.implementation);
    assert_eq!(resolved.media_type, expected.media_type, "{}: type of {reference}", subject.implementation);
    assert!(
        resolved.size.is_none_or(|size| Some(size) == expected.size),
        "{}: {reference} has {:?} bytes, not {:?}",
        subject.implementation,
        resolved.size,
        expected.size
    );
}

/// Every manifest resolves by its digest.
pub async fn a_digest_resolves_to_itself(subject: &Subject<'_>) {
    for manifest in subject.image.manifests() {
        let reference = Reference::Digest(*manifest.digest());
        let resolved = subject.good("resolve", subject.open().resolve(&reference).await);
        assert_eq!(resolved.digest, *manifest.digest(), "{}", subject.implementation);
        assert_eq!(resolved.media_type, manifest.media_type().as_str(), "{}", subject.implementation);
    }
}

/// What isn't there is [`SourceError::NotFound`], in a repository that exists and in one that doesn't.
pub async fn what_is_not_there_is_not_found(subject: &Subject<'_>) {
    let absent = Algorithm::Sha256.digest(b"in no image");
    let nowhere: Repository = "no/such/repository".parse().expect("a repository name");
    for repository in [subject.open(), subject.source.repository(&nowhere)] {
        let tag: Tag = "no-such-tag".parse().expect("a tag");
        subject.expect_not_found("resolving no tag", repository.resolve(&Reference::Tag(tag)).await);
        subject.expect_not_found("resolving no digest", repository.resolve(&Reference::Digest(absent)).await);
        let manifest = Descriptor::new("application/vnd.oci.image.manifest.v1+json", absent, 10);
        subject.expect_not_found("no manifest", repository.manifest(&manifest).await);
        let blob = Descriptor::new("application/vnd.oci.image.layer.v1.tar+gzip", absent, 10);
        subject.expect_not_found("no blob", repository.blob(&blob, 0).await);
    }
}

/// A manifest's bytes are kept exactly, so its digest and type are too.
pub async fn manifests_come_exactly(subject: &Subject<'_>) {
    for expected in subject.image.manifests() {
        let manifest = subject.good("manifest", subject.open().manifest(&expected.descriptor()).await);
        assert_eq!(manifest.bytes(), expected.bytes(), "{}: {}", subject.implementation, expected.digest());
        assert_eq!(manifest.digest(), expected.digest(), "{}", subject.implementation);
        assert_eq!(manifest.media_type(), expected.media_type(), "{}", subject.implementation);
    }
}

/// A manifest that is not as large as its parent says is refused.
pub async fn a_manifest_of_another_size_is_refused(subject: &Subject<'_>) {
    let mut expected = subject.image.descriptor();
    expected.size = expected.size.map(|size| size + 1);
    let result = subject.open().manifest(&expected).await;
    assert!(matches!(result, Err(SourceError::Manifest { .. })), "{}: {result:?}", subject.implementation);
}

/// A blob's bytes are kept exactly.
pub async fn blobs_come_whole(subject: &Subject<'_>) {
    for blob in subject.blobs() {
        let stream = subject.good("blob", subject.open().blob(&blob, 0).await);
        let bytes = subject.good("reading a blob", read(stream).await);
        assert_eq!(bytes, subject.image.blobs[&blob.digest], "{}: {}", subject.implementation, blob.digest);
    }
}

/// A transfer can go on at any byte, also behind the last one.
pub async fn blobs_come_from_any_offset(subject: &Subject<'_>) {
    for blob in subject.blobs() {
        let expected = &subject.image.blobs[&blob.digest];
        for offset in [1, expected.len() / 2, expected.len().saturating_sub(1), expected.len()] {
            let offset = offset.min(expected.len());
            let stream = subject.good("blob", subject.open().blob(&blob, offset as u64).await);
            let bytes = subject.good("reading a blob", read(stream).await);
            assert_eq!(bytes, expected.slice(offset..), "{}: {} from {offset}", subject.implementation, blob.digest);
        }
    }
}

/// The tag is listed, and no tag is listed twice.
pub async fn tags_are_listed_once(subject: &Subject<'_>) {
    let tags: Vec<Tag> = subject.good("tags", subject.open().tags().try_collect().await);
    let times = tags.iter().filter(|tag| **tag == subject.tag).count();
    assert_eq!(times, 1, "{}: {} in {tags:?}", subject.implementation, subject.tag);
    let different: std::collections::BTreeSet<_> = tags.iter().collect();
    assert_eq!(different.len(), tags.len(), "{}: {tags:?}", subject.implementation);
}

/// The repository is listed where the medium knows its repositories.
pub async fn repositories_are_listed_or_unsupported(subject: &Subject<'_>) {
    match subject.source.repositories().await {
        Err(SourceError::Unsupported(_)) => {}
        other => {
            let listed: Vec<Repository> =
                subject.good("repositories", subject.good("repositories", other).try_collect().await);
            let times = listed.iter().filter(|name| **name == subject.repository).count();
            assert_eq!(times, 1, "{}: {} in {listed:?}", subject.implementation, subject.repository);
        }
    }
}

/// What refers to the image is listed, and nothing refers to what nobody refers to.
pub async fn referrers_are_those_of_the_subject(subject: &Subject<'_>) {
    let absent = Algorithm::Sha256.digest(b"in no image");
    let none = subject.good("referrers", subject.open().referrers(&absent).await);
    assert!(none.is_empty(), "{}: {none:?} refer to nothing", subject.implementation);
    if let Some(expected) = &subject.referrers {
        let found = subject.good("referrers", subject.open().referrers(&subject.image.digest()).await);
        let mut found: Vec<_> = found.iter().map(|referrer| referrer.digest).collect();
        let mut expected = expected.clone();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{}", subject.implementation);
    }
}

/// Every fault of the medium shows as an error, and none makes the source hang, take endless memory, or pass a wrong
/// manifest on. `inject` makes requests for that digest go wrong, or right again.
///
/// Bytes of a blob are passed on as they come, since the sink judges them; but a stream that was cut must not end as if
/// it were complete, or a sink that knows no size would have nothing but the digest to tell.
///
/// # Panics
///
/// If a promise is broken.
pub async fn faults_show(subject: &Subject<'_>, inject: &dyn Fn(Digest, Option<Fault>)) {
    let mut promises = Promises::new(subject.implementation.to_owned());
    promises.check("a_faulty_manifest_is_refused", a_faulty_manifest_is_refused(subject, inject)).await;
    promises.check("a_faulty_blob_is_passed_on_as_it_is", a_faulty_blob_is_passed_on_as_it_is(subject, inject)).await;
    promises.done();
}

async fn a_faulty_manifest_is_refused(subject: &Subject<'_>, inject: &dyn Fn(Digest, Option<Fault>)) {
    let expected = subject.image.descriptor();
    for fault in Fault::ALL {
        inject(expected.digest, Some(fault));
        let result = ends("a faulty manifest", subject.open().manifest(&expected)).await;
        inject(expected.digest, None);
        match (fault, result) {
            (_, Ok(manifest)) => {
                panic!("{}: {fault:?}: passed on as {:?}", subject.implementation, manifest.digest());
            }
            (Fault::Missing, Err(error)) => subject.expect_not_found("a missing manifest", Err::<(), _>(error)),
            (Fault::WrongBytes | Fault::Long | Fault::NeverEnding, Err(error)) => assert!(
                matches!(error, SourceError::Manifest { .. } | SourceError::Invalid { .. }),
                "{}: {fault:?}: {error:?}",
                subject.implementation
            ),
            // A medium that knows the length takes what is short for what was cut.
            (Fault::Short | Fault::Cut, Err(_)) => {}
        }
    }
    subject.good("a manifest after its faults", subject.open().manifest(&expected).await);
}

async fn a_faulty_blob_is_passed_on_as_it_is(subject: &Subject<'_>, inject: &dyn Fn(Digest, Option<Fault>)) {
    let blobs = subject.blobs();
    let blob = blobs.iter().max_by_key(|blob| blob.size).expect("an image with blobs");
    let expected = &subject.image.blobs[&blob.digest];
    for fault in Fault::ALL {
        inject(blob.digest, Some(fault));
        let result =
            ends("a faulty blob", async { read_up_to(subject.open().blob(blob, 0).await?, 1 << 20).await }).await;
        inject(blob.digest, None);
        match (fault, result) {
            (Fault::Missing, result) => subject.expect_not_found("a missing blob", result),
            (Fault::Cut, Ok(bytes)) => {
                panic!("{}: a cut blob ended after {} bytes without error", subject.implementation, bytes.len());
            }
            (_, Ok(bytes)) => assert_ne!(&bytes, expected, "{}: {fault:?} had no effect", subject.implementation),
            (_, Err(_)) => {}
        }
    }
    let stream = subject.good("a blob after its faults", subject.open().blob(blob, 0).await);
    assert_eq!(&subject.good("reading", read(stream).await), expected, "{}", subject.implementation);
}

async fn read(stream: ByteStream) -> Result<Bytes, SourceError> {
    read_up_to(stream, usize::MAX).await
}

/// The bytes of a stream, or its beginning if there are more than `limit`.
async fn read_up_to(mut stream: ByteStream, limit: usize) -> Result<Bytes, SourceError> {
    let mut all = Vec::new();
    while let Some(piece) = stream.try_next().await? {
        all.extend(piece);
        if all.len() > limit {
            break;
        }
    }
    Ok(all.into())
}
