//! The kinds of images that there are.

use roadstead::image::{GREETING, greeting_image};
use roadstead::oci::Algorithm;
use roadstead::testing::{Format, Image, ImageBuilder, IndexBuilder};

/// One kind of image, under a name of its own.
pub(super) struct Kind {
    /// What people call it.
    pub(super) name: &'static str,
    pub(super) repository: &'static str,
    pub(super) tag: &'static str,
    pub(super) image: Image,
    /// What it prints when it runs, if it is something to run.
    pub(super) greeting: Option<&'static str>,
    /// The registries that take it.
    pub(super) origins: &'static [Origin],
}

/// A registry that the images are added from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Debian's docker-registry, 2.8.
    Distribution2,
    /// distribution 3.
    Distribution3,
    /// `roadstead serve`, over a tree that the library wrote.
    Serve,
}

impl Origin {
    pub(super) const ALL: [Self; 3] = [Self::Distribution2, Self::Distribution3, Self::Serve];
    const BOTH: &'static [Self] = &[Self::Distribution2, Self::Distribution3, Self::Serve];
    const OLDER: &'static [Self] = &[Self::Distribution2, Self::Serve];
    const NEITHER: &'static [Self] = &[Self::Serve];
}

/// What the machine runs.
fn native() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}

/// An image whose one layer is no other kind's, so that an engine has to fetch it.
fn image(greeting: &str) -> ImageBuilder {
    ImageBuilder::new().platform(native()).greeting(greeting)
}

/// The same for two platforms, the layers of one kind being no other's.
fn platforms(greeting: &str, format: Format) -> [Image; 2] {
    ["linux/amd64", "linux/arm64"]
        .map(|platform| ImageBuilder::new().platform(platform).greeting(greeting).format(format).build())
}

fn index(format: Format, images: impl IntoIterator<Item = Image>) -> Image {
    images.into_iter().fold(IndexBuilder::new().format(format), IndexBuilder::image).build()
}

/// Every kind. The repositories have one component to five, and names that are also words of the API.
pub(super) fn kinds() -> Vec<Kind> {
    let kind = |name, repository, greeting: &'static str, image: Image, origins| Kind {
        name,
        repository,
        tag: "1.0",
        image,
        greeting: Some(greeting),
        origins,
    };
    let subject = image("subject\n").build();
    let signature = ImageBuilder::new()
        .artifact_type("application/vnd.example.signature")
        .subject(&subject.descriptor())
        .blob("text/plain", "signed")
        .build();
    vec![
        Kind { tag: "latest", ..kind("quickstart's image", "hello", GREETING, greeting_image().into(), Origin::BOTH) },
        kind(
            "Docker image (v2, schema 2)",
            "org/docker",
            "docker\n",
            image("docker\n").format(Format::Docker).build(),
            Origin::BOTH,
        ),
        kind("OCI image", "org/team/oci", "oci\n", image("oci\n").build(), Origin::BOTH),
        kind(
            "OCI image without `mediaType`",
            "org/team/app/untyped",
            "untyped\n",
            image("untyped\n").format(Format::OciWithoutMediaType).build(),
            Origin::BOTH,
        ),
        kind(
            "Docker manifest list",
            "org/team/app/part/list",
            "list\n",
            index(Format::Docker, platforms("list\n", Format::Docker)),
            Origin::BOTH,
        ),
        kind(
            "OCI index",
            "manifests/blobs/tags",
            "index\n",
            index(Format::Oci, platforms("index\n", Format::Oci)),
            Origin::BOTH,
        ),
        kind(
            "OCI index without `mediaType`",
            "blobs/uploads",
            "untyped index\n",
            index(Format::OciWithoutMediaType, platforms("untyped index\n", Format::OciWithoutMediaType)),
            Origin::BOTH,
        ),
        kind(
            "index within an index",
            "tags/list",
            "nested\n",
            index(Format::Oci, [index(Format::Oci, platforms("nested\n", Format::Oci))]),
            Origin::BOTH,
        ),
        kind(
            "BuildKit's index with attestations",
            "referrers/manifests/x",
            "attested\n",
            platforms("attested\n", Format::Oci)
                .into_iter()
                .fold(IndexBuilder::new(), IndexBuilder::attested_image)
                .build(),
            Origin::BOTH,
        ),
        kind("zstd layers", "layers/zstd", "zstd\n", image("zstd\n").zstd().build(), Origin::BOTH),
        kind("uncompressed layers", "layers/plain", "plain\n", image("plain\n").uncompressed().build(), Origin::BOTH),
        kind(
            "sha512 digests",
            "digests/sha512",
            "sha512\n",
            image("sha512\n").algorithm(Algorithm::Sha512).build(),
            Origin::NEITHER,
        ),
        Kind {
            tag: "1.0.html",
            ..kind("tag that ends in `.html`", "page", "page\n", image("page\n").build(), Origin::BOTH)
        },
        Kind {
            tag: "latest",
            ..kind(
                "Docker image (v2, schema 1, signed)",
                "old",
                "old\n",
                image("old\n").format(Format::Schema1Signed).name("old").build(),
                Origin::OLDER,
            )
        },
        kind("image with a referrer", "signed", "subject\n", subject, Origin::BOTH),
        Kind {
            tag: "signature",
            greeting: None,
            ..kind("artifact with a `subject`", "signed", "", signature, Origin::BOTH)
        },
    ]
}
