//! The promises of [`Sink`], seen by a reader who looks at any moment.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{self, StreamExt as _};

use super::{Promises, ends};
use crate::image::{ByteStream, Claim, PutError, RepositorySink, Sink, Source as _, SourceError};
use crate::oci::{Algorithm, Descriptor, Digest, Manifest, Reference, Repository, Tag};
use crate::testing::{Fault, Format, Image, ImageBuilder, IndexBuilder, Layer, MemorySource, noise};

/// What a reader sees of a sink's medium, such as a web server over a tree.
#[async_trait]
pub trait Reader: Send + Sync {
    /// The bytes of a manifest, if a reader finds it there.
    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Option<Bytes>;

    /// The bytes of a blob, if a reader finds it there.
    async fn blob(&self, repository: &Repository, digest: &Digest) -> Option<Bytes>;
}

/// A sink under test.
#[derive(Clone)]
pub struct Subject {
    /// The implementation, for messages.
    pub implementation: String,
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// Its reader.
    pub reader: Arc<dyn Reader>,
    /// What its medium refuses. That it does so is checked, too.
    pub limits: &'static [Limit],
}

/// Something that a medium may refuse by its nature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Manifests of schema 1.
    Schema1,
    /// The signatures of schema 1, which it replaces by its own. They are no part of what the digest says.
    Signatures,
    /// Manifests whose digest is of sha512.
    Sha512,
    /// Indexes of which a child is absent.
    Sparse,
}

/// Every promise of this module, over an empty sink that holds several repositories.
///
/// # Panics
///
/// If a promise is broken.
pub async fn run_all(subject: &Subject) {
    let mut promises = Promises::new(subject.implementation.clone());
    macro_rules! keeps {
        ($($promise:ident),* $(,)?) => { $( promises.check(stringify!($promise), $promise(subject)).await; )* };
    }
    keeps!(
        images_of_every_kind_are_kept,
        nothing_shows_before_what_it_names,
        a_tag_shows_when_it_is_set,
        a_tag_moves,
        the_same_call_twice_has_no_effect,
        faulty_blobs_leave_nothing,
        a_blob_without_a_size_is_judged_by_its_digest,
        a_blob_gets_its_digest_at_its_end,
        what_is_dropped_shows_no_tag,
        a_claim_finds_what_is_there,
        what_lies_nowhere_is_not_adopted,
        a_manifest_is_found_again,
        a_tag_that_is_looked_up_is_the_right_one,
        children_may_be_left_out,
        images_beside_each_other,
        one_blob_at_the_same_time,
        many_tags_at_the_same_time,
    );
    promises.done();
}

fn repository(name: &str) -> Repository {
    format!("contract/{name}").parse().unwrap_or_else(|error| panic!("{error}"))
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A stream of these bytes in pieces.
#[must_use]
pub fn stream_of(bytes: &Bytes) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(70_000).map(Bytes::copy_from_slice).map(Ok).collect();
    stream::iter(pieces).boxed()
}

impl Subject {
    async fn open(&self, name: &Repository) -> Box<dyn RepositorySink> {
        self.good("repository", self.sink.repository(name).await)
    }

    fn good<T, E: std::error::Error>(&self, what: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|error| panic!("{}: {what}: {error} ({error:?})", self.implementation))
    }

    async fn put_blobs(&self, sink: &dyn RepositorySink, image: &Image) {
        for (digest, bytes) in &image.blobs {
            let expected = Descriptor::new("application/octet-stream", *digest, bytes.len() as u64);
            self.good("put_blob", sink.put_blob(&expected, stream_of(bytes)).await);
        }
    }

    /// Writes a whole image in order.
    async fn put(&self, name: &Repository, image: &Image, tags: &[&str]) {
        let sink = self.open(name).await;
        self.put_blobs(&*sink, image).await;
        for manifest in image.manifests() {
            self.good("put_manifest", sink.put_manifest(manifest).await);
        }
        for name in tags {
            self.good("tag", sink.tag(&tag(name), &image.descriptor()).await);
        }
        self.good("finish", sink.finish().await);
    }

    /// Expects that a manifest is refused, although its blobs are taken, and then isn't there.
    async fn expect_refusal(&self, name: &Repository, image: &Image) {
        let sink = self.open(name).await;
        self.put_blobs(&*sink, image).await;
        let put = sink.put_manifest(&image.manifest).await;
        assert!(put.is_err(), "{}: {name}@{} was not refused", self.implementation, image.digest());
        assert_eq!(self.by_digest(name, &image.digest()).await, None, "{}: {name}", self.implementation);
    }

    async fn by_digest(&self, name: &Repository, digest: &Digest) -> Option<Bytes> {
        self.reader.manifest(name, &Reference::Digest(*digest)).await
    }

    async fn by_tag(&self, name: &Repository, name_of_tag: &str) -> Option<Bytes> {
        self.reader.manifest(name, &Reference::Tag(tag(name_of_tag))).await
    }

    async fn expect_tag(&self, name: &Repository, name_of_tag: &str, image: &Image) {
        let found = self.by_tag(name, name_of_tag).await;
        assert_eq!(found.as_ref(), Some(image.manifest.bytes()), "{}: {name}:{name_of_tag}", self.implementation);
        self.expect_whole(name, image).await;
    }

    async fn expect_whole(&self, name: &Repository, image: &Image) {
        for manifest in image.manifests() {
            let found = self.by_digest(name, manifest.digest()).await;
            assert_eq!(found.as_ref(), Some(manifest.bytes()), "{}: {name}@{}", self.implementation, manifest.digest());
        }
        for (digest, bytes) in &image.blobs {
            let found = self.reader.blob(name, digest).await;
            assert_eq!(found.as_ref(), Some(bytes), "{}: blob {digest} of {name}", self.implementation);
        }
    }

    /// What a reader sees must be whole: a manifest that shows has everything below it, and a blob that shows has its bytes.
    async fn expect_consistent(&self, name: &Repository, image: &Image, when: &str) {
        for manifest in image.manifests() {
            if self.by_digest(name, manifest.digest()).await.is_none() {
                continue;
            }
            for child in manifest.children() {
                let there = self.by_digest(name, &child.digest).await.is_some();
                assert!(there, "{}: {when}: {} shows before its child", self.implementation, manifest.digest());
            }
            for blob in manifest.blobs() {
                let there = self.reader.blob(name, &blob.digest).await.is_some();
                assert!(there, "{}: {when}: {} shows before its blob", self.implementation, manifest.digest());
            }
        }
        for (digest, bytes) in &image.blobs {
            if let Some(found) = self.reader.blob(name, digest).await {
                assert_eq!(&found, bytes, "{}: {when}: blob {digest}", self.implementation);
            }
        }
    }
}

/// A small image whose blobs no other promise uses.
fn image(name: &'static str) -> Image {
    let seed = name.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(257) + u64::from(byte));
    ImageBuilder::new()
        .layer(name)
        .layer(Layer::new().file("more", noise(seed, 200_000), 0o644))
        .label("for", name)
        .build()
}

fn index(name: &'static str) -> Image {
    let of = |platform| ImageBuilder::new().layer(format!("{name} {platform}")).platform(platform).build();
    IndexBuilder::new().image(of("linux/amd64")).image(of("linux/arm64")).build()
}

/// Images and indexes of every format, algorithm and compression can be read after they were written.
pub async fn images_of_every_kind_are_kept(subject: &Subject) {
    let mut images = vec![("attested", IndexBuilder::new().attested_image(image("attested")).build())];
    images.push(("nested", IndexBuilder::new().image(index("nested")).build()));
    images.push(("list", IndexBuilder::new().format(Format::Docker).image(image("list")).build()));
    images.push(("sha512", ImageBuilder::new().layer("sha512").algorithm(Algorithm::Sha512).zstd().build()));
    images.push(("schema1", ImageBuilder::new().layer("schema1").format(Format::Schema1Signed).build()));
    images.push(("docker", ImageBuilder::new().layer("docker").format(Format::Docker).uncompressed().build()));
    images.push(("untyped", ImageBuilder::new().layer("untyped").format(Format::OciWithoutMediaType).build()));
    images.push(("artifact", ImageBuilder::new().artifact_type("application/x.y").blob("text/plain", "x").build()));
    images.push(("empty", IndexBuilder::new().build()));
    for (kind, image) in &images {
        let name = repository(&format!("kinds/{kind}"));
        let limit = match *kind {
            "sha512" => Some(Limit::Sha512),
            "schema1" => Some(Limit::Schema1),
            _ => None,
        };
        if limit.is_some_and(|limit| subject.limits.contains(&limit)) {
            subject.expect_refusal(&name, image).await;
            continue;
        }
        if *kind == "schema1" && subject.limits.contains(&Limit::Signatures) {
            subject.put(&name, image, &["latest"]).await;
            let found = subject.by_tag(&name, "latest").await.map(|bytes| Manifest::parse(bytes, Algorithm::Sha256));
            let found = found.and_then(Result::ok).map(|manifest| *manifest.digest());
            assert_eq!(found, Some(image.digest()), "{}: {name}", subject.implementation);
            continue;
        }
        subject.put(&name, image, &["1.0.html", "latest"]).await;
        subject.expect_tag(&name, "latest", image).await;
        subject.expect_tag(&name, "1.0.html", image).await;
    }
}

/// At no step does a manifest show before what it names.
pub async fn nothing_shows_before_what_it_names(subject: &Subject) {
    let (name, image) = (repository("order"), index("order"));
    let sink = subject.open(&name).await;
    for (digest, bytes) in &image.blobs {
        let expected = Descriptor::new("application/octet-stream", *digest, bytes.len() as u64);
        subject.good("put_blob", sink.put_blob(&expected, stream_of(bytes)).await);
        subject.expect_consistent(&name, &image, "after a blob").await;
    }
    for manifest in image.manifests() {
        subject.good("put_manifest", sink.put_manifest(manifest).await);
        subject.expect_consistent(&name, &image, "after a manifest").await;
    }
    subject.good("commit", sink.commit().await);
    subject.expect_consistent(&name, &image, "after the commit").await;
    subject.good("finish", sink.finish().await);
    subject.expect_whole(&name, &image).await;
    assert_eq!(subject.by_tag(&name, "latest").await, None, "{}: a tag that nobody set", subject.implementation);
}

/// A tag shows after it was set, with everything below it, and not before.
pub async fn a_tag_shows_when_it_is_set(subject: &Subject) {
    let (name, image) = (repository("tag"), index("tag"));
    let sink = subject.open(&name).await;
    subject.put_blobs(&*sink, &image).await;
    for manifest in image.manifests() {
        subject.good("put_manifest", sink.put_manifest(manifest).await);
    }
    assert_eq!(subject.by_tag(&name, "1").await, None, "{}: a tag before it was set", subject.implementation);
    assert!(subject.good("tag", sink.tag(&tag("1"), &image.descriptor()).await), "{}: new", subject.implementation);
    subject.good("finish", sink.finish().await);
    subject.expect_tag(&name, "1", &image).await;
}

/// A tag can be set anew, and says whether that changed what it names.
pub async fn a_tag_moves(subject: &Subject) {
    let (name, first, second) = (repository("move"), image("move 1"), image("move 2"));
    subject.put(&name, &first, &["1", "stays"]).await;
    let sink = subject.open(&name).await;
    let describe = &subject.implementation;
    assert!(!subject.good("tag", sink.tag(&tag("1"), &first.descriptor()).await), "{describe}: the same");
    subject.put_blobs(&*sink, &second).await;
    subject.good("put_manifest", sink.put_manifest(&second.manifest).await);
    assert!(subject.good("tag", sink.tag(&tag("1"), &second.descriptor()).await), "{describe}: another");
    subject.good("finish", sink.finish().await);
    subject.expect_tag(&name, "1", &second).await;
    subject.expect_tag(&name, "stays", &first).await;
}

/// Every call may come again.
pub async fn the_same_call_twice_has_no_effect(subject: &Subject) {
    let (name, image) = (repository("twice"), index("twice"));
    let sink = subject.open(&name).await;
    for _ in 0..2 {
        subject.put_blobs(&*sink, &image).await;
        for manifest in image.manifests() {
            subject.good("put_manifest", sink.put_manifest(manifest).await);
            subject.good("put_manifest", sink.put_manifest(manifest).await);
        }
        subject.good("commit", sink.commit().await);
        subject.good("commit", sink.commit().await);
        subject.good("tag", sink.tag(&tag("1"), &image.descriptor()).await);
        subject.good("finish", sink.finish().await);
        subject.good("finish", sink.finish().await);
        subject.expect_tag(&name, "1", &image).await;
    }
    drop(sink);
    subject.put(&name, &image, &["1"]).await;
    subject.expect_tag(&name, "1", &image).await;
}

/// Bytes that are wrong, short, long, cut or without end are refused for what they are, leave nothing, and are no obstacle to
/// the right ones afterwards.
pub async fn faulty_blobs_leave_nothing(subject: &Subject) {
    let name = repository("faults");
    let image = image("faults");
    let source = MemorySource::new();
    source.add("faults", &image);
    let from = source.repository(&"faults".parse().expect("a repository name"));
    for fault in Fault::ALL {
        for (digest, bytes) in &image.blobs {
            if fault == Fault::Missing {
                continue;
            }
            let expected = Descriptor::new("application/octet-stream", *digest, bytes.len() as u64);
            source.inject(*digest, fault);
            let sink = subject.open(&name).await;
            let stream = subject.good("blob", from.blob(&expected, 0).await);
            let result = ends("a faulty blob", sink.put_blob(&expected, stream)).await;
            let right = match fault {
                Fault::Cut => matches!(result, Err(PutError::Source(_))),
                _ => matches!(result, Err(PutError::Mismatch { .. })),
            };
            assert!(right, "{}: {fault:?} of blob {digest}: {result:?}", subject.implementation);
            subject.good("commit", sink.commit().await);
            assert_eq!(
                subject.reader.blob(&name, digest).await,
                None,
                "{}: {fault:?} of blob {digest} left something",
                subject.implementation
            );
            let claim = subject.good("claim", sink.claim(&expected).await);
            assert_eq!(claim, Claim::Missing, "{}: {fault:?} of blob {digest}", subject.implementation);
        }
        source.mend();
    }
    subject.put(&name, &image, &["1"]).await;
    subject.expect_tag(&name, "1", &image).await;
}

/// Schema 1 names no sizes: the digest alone decides.
pub async fn a_blob_without_a_size_is_judged_by_its_digest(subject: &Subject) {
    let name = repository("sizeless");
    let (good, bad) = (noise(60, 100_000), noise(61, 100_000));
    let expected = Descriptor { size: None, ..Descriptor::new("", Algorithm::Sha256.digest(&good), 0) };
    let sink = subject.open(&name).await;
    let result = sink.put_blob(&expected, stream_of(&bad)).await;
    assert!(matches!(result, Err(PutError::Mismatch { .. })), "{}: {result:?}", subject.implementation);
    assert_eq!(subject.good("claim", sink.claim(&expected).await), Claim::Missing, "{}", subject.implementation);
    subject.good("put_blob", sink.put_blob(&expected, stream_of(&good)).await);
    subject.good("finish", sink.finish().await);
    assert_eq!(subject.reader.blob(&name, &expected.digest).await, Some(good), "{}", subject.implementation);
}

/// A blob that nobody knew before its last byte is kept under its digest, and one that breaks off leaves nothing.
pub async fn a_blob_gets_its_digest_at_its_end(subject: &Subject) {
    let name = repository("unknown");
    let bytes = noise(62, 150_000);
    let sink = subject.open(&name).await;
    let cut = stream_of(&bytes).take(1).chain(stream::iter([Err(SourceError::Unsupported("cut".to_owned()))]));
    let result = sink.add_blob(Algorithm::Sha256, cut.boxed()).await;
    assert!(matches!(result, Err(PutError::Source(_))), "{}: {result:?}", subject.implementation);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let added = subject.good("add_blob", sink.add_blob(algorithm, stream_of(&bytes)).await);
        assert_eq!(added, (algorithm.digest(&bytes), bytes.len() as u64), "{}", subject.implementation);
        subject.good("finish", sink.finish().await);
        assert_eq!(subject.reader.blob(&name, &added.0).await, Some(bytes.clone()), "{}", subject.implementation);
    }
}

/// A sink that is dropped in the middle leaves no tag, and nothing that is not whole; whoever begins anew succeeds.
pub async fn what_is_dropped_shows_no_tag(subject: &Subject) {
    let (name, image) = (repository("dropped"), index("dropped"));
    let sink = subject.open(&name).await;
    subject.put_blobs(&*sink, &image).await;
    for manifest in image.manifests() {
        subject.good("put_manifest", sink.put_manifest(manifest).await);
    }
    drop(sink);
    assert_eq!(subject.by_tag(&name, "1").await, None, "{}", subject.implementation);
    subject.expect_consistent(&name, &image, "after it was dropped").await;
    subject.put(&name, &image, &["1"]).await;
    subject.expect_tag(&name, "1", &image).await;
}

/// A blob is missing, then present; in another repository it is found, and shows there too once committed.
pub async fn a_claim_finds_what_is_there(subject: &Subject) {
    let (first, second) = (repository("claim/first"), repository("claim/second"));
    let bytes = noise(70, 50_000);
    let blob = Descriptor::new("application/octet-stream", Algorithm::Sha256.digest(&bytes), bytes.len() as u64);
    let describe = &subject.implementation;
    let sink = subject.open(&first).await;
    assert_eq!(subject.good("claim", sink.claim(&blob).await), Claim::Missing, "{describe}: before it was put");
    subject.good("put_blob", sink.put_blob(&blob, stream_of(&bytes)).await);
    subject.good("finish", sink.finish().await);
    assert_eq!(subject.good("claim", sink.claim(&blob).await), Claim::Present, "{describe}: after it was put");
    let longer = Descriptor { size: Some(bytes.len() as u64 + 1), ..blob.clone() };
    assert_eq!(subject.good("claim", sink.claim(&longer).await), Claim::Missing, "{describe}: of another size");
    drop(sink);

    let sink = subject.open(&second).await;
    match subject.good("claim", sink.claim(&blob).await) {
        Claim::Present => panic!("{describe}: present in a repository that never had it"),
        Claim::Linked => {}
        // A medium may keep its repositories apart.
        Claim::Missing => subject.good("put_blob", sink.put_blob(&blob, stream_of(&bytes)).await),
    }
    subject.good("finish", sink.finish().await);
    assert_eq!(subject.reader.blob(&second, &blob.digest).await, Some(bytes), "{describe}: in the other repository");
    assert_eq!(subject.good("claim", sink.claim(&blob).await), Claim::Present, "{describe}: after it was linked");
}

/// A location that the sink can't use is none, and leaves nothing.
pub async fn what_lies_nowhere_is_not_adopted(subject: &Subject) {
    let name = repository("nowhere");
    let sink = subject.open(&name).await;
    let blob = Descriptor::new("application/octet-stream", Algorithm::Sha256.digest(b"nowhere"), 4 << 20);
    for location in ["", "nowhere", "https://nowhere.invalid/bucket/object"] {
        let adopted = subject.good("adopt", sink.adopt(&blob, location).await);
        assert!(!adopted, "{}: {location:?}", subject.implementation);
    }
    subject.good("finish", sink.finish().await);
    assert!(subject.reader.blob(&name, &blob.digest).await.is_none(), "{}", subject.implementation);
}

/// The sink knows the manifests that it has, exactly.
pub async fn a_manifest_is_found_again(subject: &Subject) {
    let (name, image) = (repository("found"), index("found"));
    let sink = subject.open(&name).await;
    let found = subject.good("manifest", sink.manifest(&image.digest()).await);
    assert!(found.is_none(), "{}: before it was put", subject.implementation);
    drop(sink);
    subject.put(&name, &image, &[]).await;
    let sink = subject.open(&name).await;
    for manifest in image.manifests() {
        let found = subject.good("manifest", sink.manifest(manifest.digest()).await);
        let found = found.as_ref().map(Manifest::bytes);
        assert_eq!(found, Some(manifest.bytes()), "{}: {}", subject.implementation, manifest.digest());
    }
}

/// What the sink says that a tag names is what it names; it may say nothing.
pub async fn a_tag_that_is_looked_up_is_the_right_one(subject: &Subject) {
    let name = repository("looked-up");
    for image in [image("looked up first"), image("looked up second")] {
        subject.put(&name, &image, &["1"]).await;
        let sink = subject.open(&name).await;
        for (name, digest) in [("1", Some(image.digest())), ("2", None)] {
            let named = subject.good("look_up", sink.look_up(&tag(name)).await);
            let wrong = named.filter(|named| Some(named.digest) != digest);
            assert!(wrong.is_none(), "{}: {name} would be {wrong:?}", subject.implementation);
        }
    }
}

/// An index may lack children on purpose, and get them later.
pub async fn children_may_be_left_out(subject: &Subject) {
    let name = repository("sparse");
    let (present, absent) = (image("sparse present"), image("sparse absent"));
    let sparse = IndexBuilder::new().image(present.clone()).absent(&absent).build();
    if subject.limits.contains(&Limit::Sparse) {
        subject.put(&name, &present, &[]).await;
        subject.expect_refusal(&name, &sparse).await;
        subject.put(&name, &absent, &[]).await;
        subject.put(&name, &sparse, &["1"]).await;
        return subject.expect_tag(&name, "1", &sparse).await;
    }
    let sink = subject.open(&name).await;
    subject.put_blobs(&*sink, &sparse).await;
    subject.good("leave_out", sink.leave_out(&sparse.digest(), &[absent.digest()]).await);
    subject.good("leave_out", sink.leave_out(&sparse.digest(), &[absent.digest()]).await);
    for manifest in sparse.manifests() {
        subject.good("put_manifest", sink.put_manifest(manifest).await);
    }
    subject.good("tag", sink.tag(&tag("1"), &sparse.descriptor()).await);
    subject.good("finish", sink.finish().await);
    subject.expect_tag(&name, "1", &sparse).await;
    assert_eq!(subject.by_digest(&name, &absent.digest()).await, None, "{}", subject.implementation);
    drop(sink);

    let sink = subject.open(&name).await;
    subject.put_blobs(&*sink, &absent).await;
    subject.good("put_manifest", sink.put_manifest(&absent.manifest).await);
    subject.good("leave_out", sink.leave_out(&sparse.digest(), &[]).await);
    subject.good("leave_out", sink.leave_out(&sparse.digest(), &[]).await);
    subject.good("finish", sink.finish().await);
    subject.expect_whole(&name, &absent).await;
}

async fn all(what: &str, tasks: Vec<tokio::task::JoinHandle<()>>) {
    for done in ends(what, join_all(tasks)).await {
        if let Err(panicked) = done {
            std::panic::resume_unwind(panicked.into_panic());
        }
    }
}

/// Images that are written at the same time, to one repository and to several, by several sinks, are all whole.
pub async fn images_beside_each_other(subject: &Subject) {
    let shared = Layer::new().file("shared", noise(80, 100_000), 0o644);
    let of = |number: usize| {
        ImageBuilder::new().layer(shared.clone()).layer(format!("own {number}")).label("n", &number.to_string()).build()
    };
    let tasks = (0..12).map(|number| {
        let (subject, image) = (subject.clone(), of(number));
        tokio::spawn(async move {
            let name = repository(&format!("beside/{}", number % 3));
            subject.put(&name, &image, &[&format!("v{number}"), "last"]).await;
        })
    });
    all("images beside each other", tasks.collect()).await;
    for number in 0..12 {
        let name = repository(&format!("beside/{}", number % 3));
        subject.expect_tag(&name, &format!("v{number}"), &of(number)).await;
        let last = subject.by_tag(&name, "last").await;
        let candidates: Vec<_> = (0..12).filter(|other| other % 3 == number % 3).map(of).collect();
        assert!(
            candidates.iter().any(|image| Some(image.manifest.bytes()) == last.as_ref()),
            "{}: {name}:last names none of the images",
            subject.implementation
        );
    }
}

/// One blob that comes several times at once is there once.
pub async fn one_blob_at_the_same_time(subject: &Subject) {
    let name = repository("same-blob");
    let image = image("same blob");
    let sink: Arc<dyn RepositorySink> = subject.open(&name).await.into();
    let tasks = (0..8).map(|_| {
        let (subject, sink, image) = (subject.clone(), sink.clone(), image.clone());
        tokio::spawn(async move {
            subject.put_blobs(&*sink, &image).await;
            subject.good("put_manifest", sink.put_manifest(&image.manifest).await);
            subject.good("commit", sink.commit().await);
            subject.expect_whole(&repository("same-blob"), &image).await;
        })
    });
    all("one blob at the same time", tasks.collect()).await;
    subject.good("finish", sink.finish().await);
    subject.expect_whole(&name, &image).await;
}

/// Tags that are set at the same time are all set, and each covers what was put before it.
pub async fn many_tags_at_the_same_time(subject: &Subject) {
    let name = repository("many-tags");
    let sink: Arc<dyn RepositorySink> = subject.open(&name).await.into();
    let of = |number: usize| ImageBuilder::new().layer("many tags").label("n", &number.to_string()).build();
    let tasks = (0..16).map(|number| {
        let (subject, sink, image) = (subject.clone(), sink.clone(), of(number));
        tokio::spawn(async move {
            let (name, tag_name) = (repository("many-tags"), format!("t{number}"));
            subject.put_blobs(&*sink, &image).await;
            subject.good("put_manifest", sink.put_manifest(&image.manifest).await);
            subject.good("tag", sink.tag(&tag(&tag_name), &image.descriptor()).await);
            subject.expect_tag(&name, &tag_name, &image).await;
        })
    });
    all("many tags at the same time", tasks.collect()).await;
    subject.good("finish", sink.finish().await);
    for number in 0..16 {
        subject.expect_tag(&name, &format!("t{number}"), &of(number)).await;
    }
}
