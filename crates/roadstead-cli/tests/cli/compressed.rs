//! Layers that were compressed on the way, in blocks of their own, are unpacked by every client.

use roadstead::testing::{ImageBuilder, Layer, noise};
use roadstead_parts::clients;

use crate::support::{Place, save};

#[test]
fn every_client_unpacks_what_was_compressed() {
    const GREETING: &str = "whole to the last block\n";
    let native = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    // Of several blocks. Engines compare what they unpack with its diff ID.
    let large = Layer::new().file("large", [noise(1, 3 << 20), vec![b'x'; 3 << 20].into()].concat(), 0o644);
    let image = ImageBuilder::new().uncompressed().platform(native).layer(large).greeting(GREETING).build();
    let place = Place::new();
    save(&image, "compressed:gzip", &place.path().join("saved.tar"));
    place.run(&["add", "-q", "docker-archive:saved.tar"]).ok();
    let zstd = ["add", "-q", "docker-archive:saved.tar", "--compress", "zstd", "-t", "compressed:zstd"];
    place.run(&zstd).ok();
    let (_served, authority) = place.serve(&place.tree());
    for client in clients() {
        for method in ["gzip", "zstd"] {
            // Docker reads zstd from version 23 on.
            if method == "zstd" && client.name() == "docker (20.10)" {
                continue;
            }
            let reference = format!("{authority}/compressed:{method}");
            client.pull(&reference).unwrap_or_else(|e| panic!("{}, {method}: {e}", client.name()));
            if let Some(engine) = client.engine() {
                let printed = engine.run(&reference).unwrap_or_else(|e| panic!("{}, {method}: {e}", client.name()));
                assert_eq!(printed, GREETING, "{}, {method}", client.name());
            }
            client.forget(&reference).unwrap_or_else(|e| panic!("{}, {method}: {e}", client.name()));
        }
    }
}
