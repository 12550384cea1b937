//! Every client pulls by tag and by digest, every engine runs what it pulled, and each says why when it can't.

use std::collections::BTreeSet;

use crate::image::Image;
use roadstead_parts::{Client, Containerd, Dockerd, Generation, clients};

fn pulls_and_runs(client: &dyn Client, generation: Generation) {
    let (image, registry) = (Image::build(), generation.registry().start());
    let repository = format!("{}/one/two", registry.authority());
    let (tagged, digested) = (format!("{repository}:1.0.html"), format!("{repository}@{}", image.digest));
    image.push(&tagged);
    let name = client.name();
    let expected = BTreeSet::from([image.digest.clone()]);

    let pulled = client.pull(&tagged).unwrap_or_else(|failure| panic!("{name}, {generation:?}: {failure}"));
    assert_eq!(pulled.digests, expected, "{name}, {generation:?}");
    if let Some(engine) = client.engine() {
        let printed = engine.run(&tagged).unwrap_or_else(|failure| panic!("{name}, {generation:?}: {failure}"));
        assert_eq!(printed, image.greeting, "{name}, {generation:?}");
    }
    client.forget(&tagged).unwrap_or_else(|failure| panic!("{name}, {generation:?}: {failure}"));

    let pulled = client.pull_by_digest(&repository, &image.digest);
    let pulled = pulled.unwrap_or_else(|failure| panic!("{name}, {generation:?}: {failure}"));
    assert_eq!(pulled.digests, expected, "{name}, {generation:?}");
    if let Some(engine) = client.engine() {
        let printed = engine.run(&digested).unwrap_or_else(|failure| panic!("{name}, {generation:?}: {failure}"));
        assert_eq!(printed, image.greeting, "{name}, {generation:?}");
    }
    // Once for the tag, once for the digest: what was forgotten is fetched again.
    let fetched = registry.log().matches("\"GET /v2/one/two/blobs/").count();
    assert!(fetched >= 4, "{name}, {generation:?}: {fetched} blobs were fetched\n{}", registry.log());
    client.forget(&digested).unwrap_or_else(|failure| panic!("{name}, {generation:?}: {failure}"));
}

#[test]
fn every_client_pulls_and_every_engine_runs() {
    for generation in Generation::ALL {
        for client in clients() {
            pulls_and_runs(client, generation);
        }
    }
}

#[test]
fn every_client_fails_on_an_image_that_is_not_there() {
    let registry = Generation::V2.registry().start();
    for client in clients() {
        let failure = client.pull(&format!("{}/no/such:image", registry.authority())).unwrap_err();
        let text = failure.to_string().to_lowercase();
        assert!(text.contains("unknown") || text.contains("not found"), "{}: {failure}", client.name());
    }
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn the_newest_engines_pull_and_run() {
    let (docker, containerd) = (Dockerd::start_29(), Containerd::start_2());
    let cri = containerd.cri();
    for generation in Generation::ALL {
        for client in [&docker as &dyn Client, &containerd, &cri] {
            pulls_and_runs(client, generation);
        }
    }
}
