//! What publishing takes of memory, however large the layers are. (`just bench` has the requests and the memory of 5
//! GB.)

use std::process::Stdio;
use std::time::Duration;

use roadstead::testing::{ImageBuilder, MemorySource};
use roadstead_parts::{BucketServer, wait_until};

use crate::published::{BUCKET, Scene, image};
use crate::support::{peak_memory, write_tree};

#[test]
fn memory_does_not_grow_with_what_is_published() {
    const LAYERS: u8 = 6;
    const LAYER: usize = 70 << 20;
    const LIMIT: u64 = 128 << 20;
    let scene = Scene::new(BucketServer::Versitygw, &[("app:1", &image("one"))]);
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let large = (0..LAYERS).fold(ImageBuilder::new(), |image, layer| image.blob(tar, vec![layer; LAYER])).build();
    let source = MemorySource::new();
    source.add("large:1", &large);
    write_tree(&scene.place.tree(), &source);
    for to in [BUCKET, "there", "car:there.car", "ipfs:"] {
        let more: &[&str] = if to == "ipfs:" { &["--dry-run"] } else { &[] };
        let mut command = scene.command(&[&["publish", to], more].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let (mut peak, mut status) = (0, None);
        wait_until(Duration::from_secs(120), || {
            // It only grows, so the last look counts; a process that has ended has none.
            peak = peak_memory(child.id()).unwrap_or(peak);
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{to}: {status:?}");
        assert!((1..=LIMIT).contains(&peak), "{to}: {peak} bytes, {LIMIT} at most");
    }
}
