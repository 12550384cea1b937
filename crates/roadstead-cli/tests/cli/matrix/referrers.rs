//! What refers to an image is found from every server, and a subject without referrers has an empty list.

use roadstead::testing::{ImageBuilder, IndexBuilder, MemorySource};
use roadstead_parts::{Bundle, Cosign, Crane, Distribution, Generation, Notation, Oras};

use super::Servers;
use super::kinds::kinds;
use crate::support::{Place, push, write_tree};

#[test]
fn oras_discovers_referrers_from_every_server() {
    let (place, source) = (Place::new(), MemorySource::new());
    for kind in kinds().iter().filter(|kind| kind.repository == "signed") {
        source.add(&format!("signed:{}", kind.tag), &kind.image);
    }
    write_tree(&place.tree(), &source);
    let servers = Servers::over(&place);
    for server in servers.list() {
        let discover = |tag: &str, api: &str| {
            let reference = format!("{}/signed:{tag}", server.authority);
            let found = Oras.oras(&[
                "discover",
                "--plain-http",
                "--format=json",
                &format!("--distribution-spec={api}"),
                &reference,
            ]);
            found.unwrap_or_else(|failure| panic!("{}, {api}: {failure}", server.name)).stdout
        };
        // The API, and the tag that stood in for it before.
        for api in ["v1.1-referrers-api", "v1.1-referrers-tag"] {
            let found = discover("1.0", api);
            assert!(found.contains("application/vnd.example.signature"), "{}, {api}: {found}", server.name);
        }
        let found = discover("signature", "v1.1-referrers-api");
        assert!(!found.contains("artifactType"), "{}: {found}", server.name);

        let tags = Crane.crane(&["ls", "--insecure", &format!("{}/signed", server.authority)]).unwrap().stdout;
        assert_eq!(tags, "1.0\nsignature\n", "{}", server.name);
        let repositories = Crane.crane(&["catalog", "--insecure", &server.authority]).unwrap().stdout;
        assert_eq!(repositories, "signed\n", "{}", server.name);
    }
}

/// A registry without the referrers API, where the image `app:1` of two platforms is.
fn registry() -> (Distribution, String) {
    let image = |platform: &'static str| ImageBuilder::new().platform(platform).layer(platform).build();
    let index = ["linux/amd64", "linux/arm64"].map(image).into_iter().fold(IndexBuilder::new(), IndexBuilder::image);
    let (registry, index) = (Generation::V3.registry().start(), index.build());
    push(&registry.authority(), "app", "1", &index).unwrap();
    let by_digest = format!("{}/app@{}", registry.authority(), index.digest());
    (registry, by_digest)
}

/// Attaches a file to what a reference names, and returns the digest of what then refers to it.
fn attach(place: &Place, reference: &str, artifact_type: &str) -> String {
    std::fs::write(place.path().join("attached"), artifact_type).unwrap();
    let file = format!("{}:text/plain", place.path().join("attached").display());
    let words = ["attach", "--plain-http", "--disable-path-validation", "--format=go-template={{.digest}}"];
    let attached = Oras.oras(&[&words[..], &["--artifact-type", artifact_type, reference, &file]].concat());
    attached.unwrap_or_else(|failure| panic!("{failure}")).stdout.trim().to_owned()
}

#[test]
fn what_oras_attaches_comes_along() {
    let (registry, image) = registry();
    let place = Place::new();
    let bom = attach(&place, &image, "application/spdx+json");
    let of_bom = attach(&place, &format!("{}/app@{bom}", registry.authority()), "application/vnd.example.signature");
    let child = Oras.oras(&["resolve", "--plain-http", "--platform=linux/arm64", &image]).unwrap().stdout;
    let of_child =
        attach(&place, &format!("{}/app@{}", registry.authority(), child.trim()), "application/vnd.example.of.child");
    place.run(&["add", "--referrers", &format!("{}/app:1", registry.authority())]).ok();
    for server in Servers::over(&place).list() {
        let discover = |reference: &str| {
            let reference = format!("{}/app{reference}", server.authority);
            Oras.oras(&["discover", "--plain-http", "--format=tree", &reference]).unwrap().stdout
        };
        let found = discover(":1");
        for expected in ["application/spdx+json", &bom, "application/vnd.example.signature", &of_bom] {
            assert!(found.contains(expected), "{}: {expected} is missing\n{found}", server.name);
        }
        let found = discover(&format!("@{}", child.trim()));
        assert!(found.contains(&of_child), "{}: {of_child} is missing\n{found}", server.name);
        let tags = Crane.crane(&["ls", "--insecure", &format!("{}/app", server.authority)]).unwrap().stdout;
        assert_eq!(tags, "1\n", "{}", server.name);
    }
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn signatures_verify_from_every_server() {
    let (registry, image) = registry();
    let (place, cosign, stranger, notation) = (Place::new(), Cosign::new(), Cosign::new(), Notation::new());
    let bom = format!("{}/app@{}", registry.authority(), attach(&place, &image, "application/spdx+json"));
    for bundle in Bundle::ALL {
        cosign.sign(&image, bundle).unwrap();
        cosign.sign(&bom, bundle).unwrap();
    }
    notation.notation(&["sign", "--insecure-registry", &image]).unwrap();
    place.run(&["add", "--referrers", &format!("{}/app:1", registry.authority())]).ok();
    for server in Servers::over(&place).list() {
        let elsewhere = |reference: &str| reference.replace(&registry.authority(), &server.authority);
        let tag = format!("{}/app:1", server.authority);
        for bundle in Bundle::ALL {
            for reference in [&tag, &elsewhere(&image), &elsewhere(&bom)] {
                let verified = cosign.verify(reference, bundle);
                verified.unwrap_or_else(|failure| panic!("{}, {bundle:?}: {failure}", server.name));
            }
            stranger.verify(&tag, bundle).unwrap_err();
        }
        let verified = notation.notation(&["verify", "--insecure-registry", &elsewhere(&image)]);
        verified.unwrap_or_else(|failure| panic!("{}: {failure}", server.name));
    }
}
