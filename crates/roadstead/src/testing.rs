//! What tests need and users of the library may want for theirs: images built by code, a source that misbehaves on
//! demand, and the contract suites that every `Source`, `Sink` and `Store` must pass.
//!
//! Nothing is checked in as a file: an image is written where it is used, so that a test shows what it depends on. What the
//! builders make is real: Docker, containerd and podman accept and run it. Functions here panic where a test would.

pub mod contract;
mod fault_server;
mod image;
mod index;
mod layer;
mod memory_source;
mod schema1;

pub use fault_server::{FaultServer, Reply, Seen, TestClock};
pub use image::{Format, Image, ImageBuilder};
pub use index::IndexBuilder;
pub use layer::{Compression, Layer, noise};
pub use memory_source::{Calls, Fault, MemorySource};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::oci::{Algorithm, Digest, Manifest, MediaType};

    fn named<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> BTreeSet<Digest> {
        manifests.flat_map(Manifest::blobs).map(|blob| blob.digest).collect()
    }

    #[test]
    fn an_image_holds_exactly_what_it_names() {
        for algorithm in Algorithm::ALL {
            for format in Format::RUNNABLE {
                for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                    let image = ImageBuilder::new()
                        .layer(Layer::new().folder("etc", 0o755).symlink("etc/link", "target"))
                        .layer("text")
                        .greeting("ahoy")
                        .compression(compression)
                        .algorithm(algorithm)
                        .format(format)
                        .build();
                    let held: BTreeSet<_> = image.blobs.keys().copied().collect();
                    assert_eq!(named(image.manifests()), held, "{format:?} {compression:?} {algorithm}");
                    for blob in image.manifest.blobs() {
                        assert_eq!(blob.digest, algorithm.digest(&image.blobs[&blob.digest]));
                        assert!(blob.size.is_none_or(|size| size == image.blobs[&blob.digest].len() as u64));
                    }
                }
            }
        }
    }

    #[test]
    fn the_same_image_has_the_same_digest_and_another_has_another() {
        let image = |text: &'static str| ImageBuilder::new().layer(text).build().digest();
        assert_eq!(image("a"), image("a"));
        assert_ne!(image("a"), image("b"));
        assert_eq!(noise(1, 100), noise(1, 100));
        assert_ne!(noise(1, 100), noise(2, 100));
    }

    #[test]
    fn indexes_of_every_kind() {
        let image = |platform| ImageBuilder::new().layer(platform).platform(platform).build();
        let attested = IndexBuilder::new()
            .attested_image(image("linux/amd64"))
            .attested_image(image("linux/arm64"))
            .format(Format::OciWithoutMediaType)
            .build();
        let attestations: Vec<_> = attested.manifest.children().filter_map(crate::oci::Descriptor::attests).collect();
        assert_eq!(attestations, [image("linux/amd64").digest(), image("linux/arm64").digest()]);
        assert_eq!(attested.manifest.children().filter(|c| c.platform.as_ref().unwrap().is_unknown()).count(), 2);
        assert_eq!(attested.manifest.media_type(), &MediaType::OCI_INDEX);

        let list = IndexBuilder::new().format(Format::Docker).image(image("linux/arm/v7")).build();
        assert_eq!(list.manifest.media_type(), &MediaType::DOCKER_LIST);

        let sparse = IndexBuilder::new().image(list.clone()).absent(&image("linux/s390x")).build();
        assert_eq!(sparse.manifest.children().count(), 2);
        assert_eq!(sparse.children.len(), 2);
        assert_eq!(named(sparse.manifests()), sparse.blobs.keys().copied().collect());

        let referrer = ImageBuilder::new()
            .artifact_type("application/vnd.example.signature")
            .subject(&list.descriptor())
            .blob("text/plain", "signed")
            .build();
        assert_eq!(referrer.manifest.subject(), Some(&list.descriptor()));
        assert_eq!(referrer.manifest.artifact_type(), Some("application/vnd.example.signature"));
    }
}
