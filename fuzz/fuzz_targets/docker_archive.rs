//! Archives of images: whatever they say, they are read or refused, and no manifest comes that has another digest.
#![no_main]

use std::io::Cursor;
use std::sync::LazyLock;

use futures::TryStreamExt as _;
use libfuzzer_sys::fuzz_target;
use roadstead::image::Collection as _;
use roadstead::medium::docker_archive::DockerArchive;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));

/// Lets the checksum of each block that looks like a header be right: a fuzzer hits no sums.
fn repair(bytes: &mut [u8]) {
    for block in bytes.as_chunks_mut::<512>().0.iter_mut().filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    repair(&mut bytes);
    RUNTIME.block_on(async {
        let Ok(archive) = DockerArchive::read(Cursor::new(bytes), "fuzz", FOLDER.path()).await else { return };
        let content = archive.content();
        for held in archive.images().await.expect("the archive was read") {
            let Ok(manifest) = content.manifest(&held.descriptor).await else { continue };
            assert_eq!(*manifest.digest(), held.descriptor.digest);
            for blob in manifest.blobs() {
                let Ok(stream) = content.blob(blob, 0).await else { continue };
                let pieces: Vec<_> = stream.try_collect().await.expect("what was indexed is there");
                let size: usize = pieces.iter().map(|piece| piece.len()).sum();
                assert!(blob.size.is_none_or(|expected| expected == size as u64));
            }
        }
    });
});
