//! A registry with one image, broken in one way.

use std::sync::Arc;

use roadstead::doctor::{Diagnosis, DoctorError, Options, PROFILES, Subject, examine};
use roadstead::http::{Client, ClientOptions, EndpointOptions, Timeouts};
use roadstead::oci::{Algorithm, Digest, Kind};
use roadstead::testing::{FaultServer, Format, Image, ImageBuilder, IndexBuilder, Reply, Seen};

use crate::cases::Case;

/// The image, by what faults are about.
pub(crate) struct World {
    pub(crate) image: Image,
    /// An image of the same name, of yesterday.
    pub(crate) old: Image,
    /// The manifest that an engine on this machine runs.
    pub(crate) ours: Digest,
    /// The manifest of another platform, or none.
    pub(crate) other: Option<Digest>,
    pub(crate) config: Option<Digest>,
    pub(crate) layer: Digest,
    /// A server that has the same, and no fault.
    pub(crate) elsewhere: String,
}

/// What kind of image there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    Index,
    IndexWithoutType,
    DockerList,
    Image,
    ImageWithoutType,
    DockerImage,
    Schema1,
    Nested,
    Zstd,
    Sha512,
    Artifact,
}

impl Made {
    /// An image whose layers no other has: engines don't fetch twice.
    fn build(self, seed: &str) -> Image {
        let image = |platform: &str, format| {
            let layer = format!("{seed}, {platform}, {self:?}");
            ImageBuilder::new()
                .greeting(&layer)
                .layer(layer.clone())
                .platform(platform)
                .format(format)
                .name("app")
                .build()
        };
        let both = |format| {
            let image = |platform| image(platform, if format == Format::Docker { format } else { Format::Oci });
            IndexBuilder::new().image(image("linux/amd64")).image(image("linux/arm64")).format(format).build()
        };
        match self {
            Self::Index => both(Format::Oci),
            Self::IndexWithoutType => both(Format::OciWithoutMediaType),
            Self::DockerList => both(Format::Docker),
            Self::Image => image("linux/amd64", Format::Oci),
            Self::ImageWithoutType => image("linux/amd64", Format::OciWithoutMediaType),
            Self::DockerImage => image("linux/amd64", Format::Docker),
            Self::Schema1 => image("linux/amd64", Format::Schema1Signed),
            Self::Nested => IndexBuilder::new().image(both(Format::Oci)).build(),
            Self::Zstd => ImageBuilder::new().zstd().greeting(seed).layer(seed.to_owned()).build(),
            Self::Sha512 => {
                ImageBuilder::new().algorithm(Algorithm::Sha512).greeting(seed).layer(seed.to_owned()).build()
            }
            Self::Artifact => {
                let builder = ImageBuilder::new().artifact_type("application/vnd.example.report");
                builder.blob("text/plain", seed.to_owned()).build()
            }
        }
    }
}

impl World {
    fn new(made: Made, seed: &str, elsewhere: String) -> Self {
        let (image, old) = (made.build(seed), made.build(&format!("{seed}, of old")));
        let images: Vec<_> = image.manifests().filter(|manifest| manifest.kind() != Kind::Index).cloned().collect();
        let ours = &images[0];
        Self {
            ours: *ours.digest(),
            other: images.get(1).map(|other| *other.digest()),
            config: ours.config().map(|config| config.digest),
            layer: ours.layers()[0].digest,
            old,
            elsewhere,
            image,
        }
    }

    /// Whether a request is for the manifest that the tag leads to.
    pub(crate) fn is_top(&self, seen: &Seen) -> bool {
        self.is_tag(seen) || seen.path() == format!("/v2/app/manifests/{}", self.image.digest())
    }

    pub(crate) fn is_tag(&self, seen: &Seen) -> bool {
        seen.path() == "/v2/app/manifests/1.0"
    }

    /// Whether a request is for a manifest that an index names.
    pub(crate) fn is_child(&self, seen: &Seen) -> bool {
        is_manifest(seen) && self.image.children.iter().any(|child| seen.path().ends_with(&child.digest().to_string()))
    }

    pub(crate) fn is_for(&self, seen: &Seen, digest: Digest) -> bool {
        seen.path().ends_with(&digest.to_string())
    }

    fn honest(&self, seen: &Seen) -> Reply {
        let path = seen.path().replace("%3A", ":");
        if path == "/v2/" {
            return Reply::ok("{}").header("content-type", "application/json");
        }
        if path == "/v2/_catalog" {
            return Reply::ok(r#"{"repositories":["app"]}"#).header("content-type", "application/json");
        }
        if path == "/v2/app/tags/list" {
            return Reply::ok(r#"{"name":"app","tags":["1.0"]}"#).header("content-type", "application/json");
        }
        if let Some(reference) = path.strip_prefix("/v2/app/manifests/") {
            let named = |manifest: &&roadstead::oci::Manifest| manifest.digest().to_string() == reference;
            let found = if reference == "1.0" {
                Some(&self.image.manifest)
            } else {
                self.image.manifests().chain(self.old.manifests()).find(named)
            };
            return found.map_or_else(absent, |manifest| {
                Reply::ok(manifest.bytes().clone())
                    .header("content-type", manifest.media_type().as_str())
                    .header("docker-content-digest", manifest.digest().to_string())
            });
        }
        if let Some(digest) = path.strip_prefix("/v2/app/blobs/") {
            let mut blobs = self.image.blobs.iter().chain(&self.old.blobs);
            let found = blobs.find(|(held, _)| held.to_string() == digest);
            return found.map_or_else(absent, |(_, bytes)| {
                Reply::ranged(seen, bytes.clone()).header("content-type", "application/octet-stream")
            });
        }
        if path.starts_with("/v2/app/referrers/sha256:") {
            let empty = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
            return Reply::ok(empty).header("content-type", "application/vnd.oci.image.index.v1+json");
        }
        absent()
    }
}

pub(crate) fn is_manifest(seen: &Seen) -> bool {
    seen.path().contains("/manifests/")
}

pub(crate) fn is_blob(seen: &Seen) -> bool {
    seen.path().contains("/blobs/")
}

pub(crate) fn is_referrers(seen: &Seen) -> bool {
    seen.path().contains("/referrers/")
}

/// A 404 without a body that means anything.
pub(crate) fn absent() -> Reply {
    Reply::status(404).header("content-type", "text/plain").body("not found\n")
}

/// A page for people.
pub(crate) fn page(status: u16) -> Reply {
    Reply::status(status).header("content-type", "text/html").body("<!doctype html><title>Hello</title>")
}

/// A broken registry, and the one beside it that isn't.
pub(crate) struct Broken {
    server: FaultServer,
    _elsewhere: FaultServer,
    pub(crate) digest: Digest,
}

impl Broken {
    pub(crate) async fn start(case: &Case) -> Self {
        let beside = World::new(case.made, case.name, String::new());
        let elsewhere = FaultServer::start(move |seen| beside.honest(seen)).await;
        let world = Arc::new(World::new(case.made, case.name, elsewhere.authority()));
        let digest = world.image.digest();
        let fault = case.fault;
        let server = FaultServer::start(move |seen| {
            // As every host: what HEAD says is what GET says.
            fault(&world, seen, world.honest(seen))
        })
        .await;
        Self { server, _elsewhere: elsewhere, digest }
    }

    pub(crate) fn tagged(&self) -> String {
        format!("{}/app:1.0", self.server.authority())
    }

    pub(crate) fn repository(&self) -> String {
        format!("{}/app", self.server.authority())
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> usize {
        self.server.requests().len()
    }

    /// What the doctor says.
    pub(crate) async fn examined(&self, by_digest: bool) -> Result<Diagnosis, DoctorError> {
        let reference = if by_digest { self.digest.to_string() } else { "1.0".to_owned() };
        examined(&self.server.authority(), &reference).await
    }
}

/// What the doctor says of an image in a registry.
pub(crate) async fn examined(authority: &str, reference: &str) -> Result<Diagnosis, DoctorError> {
    let second = std::time::Duration::from_secs(1);
    let timeouts = Timeouts { connect: second, answer: second, stall: second };
    let client = Client::new(ClientOptions { timeouts, ..ClientOptions::default() }).unwrap();
    let options = EndpointOptions { plain_http: true, ..EndpointOptions::default() };
    let endpoint = client.endpoint(&authority.parse().unwrap(), options).unwrap();
    let subject = Subject { repository: Some("app".parse().unwrap()), reference: Some(reference.parse().unwrap()) };
    let options = Options { platform: None, deep: false, profiles: PROFILES.iter().collect() };
    examine(&endpoint, &subject, &options, &|_| {}).await
}
