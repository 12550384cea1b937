//! What `docker save` of old writes: layers as they are, and no manifest.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write as _};
use std::path::Path;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Scale, digest, spell};

/// How many layers there are, and of how many bytes each: 600 MB in all.
const LAYERS: u64 = 4;
const FULL: u64 = 150_000_128;
const TINY: u64 = 150_016;

/// What a tar archive is made of.
const BLOCK: u64 = 512;

pub(super) fn write(path: &Path, scale: Scale) -> anyhow::Result<()> {
    let size = if scale == Scale::Full { FULL } else { TINY };
    // It gets its name when it is whole.
    let begun = path.with_extension("begun");
    let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(&begun)?));
    let (mut names, mut diff_ids) = (Vec::new(), Vec::new());
    for seed in 1..=LAYERS {
        let content = Words::new(seed).take(size);
        let layer = io::Cursor::new(header("words", size)?).chain(content).chain(io::repeat(0).take(2 * BLOCK));
        let mut layer = Hashed { inner: layer, hasher: Sha256::new() };
        let name = format!("{seed}/layer.tar");
        append(&mut archive, &name, BLOCK + size + 2 * BLOCK, &mut layer)?;
        names.push(name);
        diff_ids.push(spell(&layer.hasher.finalize()));
    }
    let config = json!({
        "os": "linux", "architecture": "amd64", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = config.to_string();
    let name = format!("{}.json", digest(config.as_bytes()).trim_start_matches("sha256:"));
    append(&mut archive, &name, config.len() as u64, &mut config.as_bytes())?;
    let table = json!([{ "Config": name, "RepoTags": ["bench/saved:1"], "Layers": names }]).to_string();
    append(&mut archive, "manifest.json", table.len() as u64, &mut table.as_bytes())?;
    archive.into_inner()?.flush()?;
    Ok(fs::rename(begun, path)?)
}

fn append(archive: &mut tar::Builder<impl io::Write>, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(size);
    archive.append_data(&mut header, name, content)
}

fn header(name: &str, size: u64) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}

/// Words of a small language, some far more frequent than others, and now and then noise, so that it can be compressed about as
/// well as programs and libraries.
struct Words {
    generator: fastrand::Rng,
    words: Vec<Vec<u8>>,
    ready: Vec<u8>,
    at: usize,
}

impl Words {
    fn new(seed: u64) -> Self {
        let mut generator = fastrand::Rng::with_seed(seed);
        let word = |generator: &mut fastrand::Rng| {
            let length = generator.usize(2..14);
            { 0..length }.map(|_| generator.u8(..)).collect()
        };
        let words = (0..20_000).map(|_| word(&mut generator)).collect();
        Self { generator, words, ready: Vec::new(), at: 0 }
    }
}

impl Read for Words {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.ready.len() {
            self.ready.clear();
            self.at = 0;
            while self.ready.len() < 64 << 10 {
                // A power of a fraction favours the first.
                let place = self.generator.f64().powi(3) * self.words.len() as f64;
                self.ready.extend_from_slice(&self.words[place as usize]);
            }
            let words = self.ready.len();
            self.ready.resize(words + (8 << 10), 0);
            self.generator.fill(&mut self.ready[words..]);
        }
        let length = buffer.len().min(self.ready.len() - self.at);
        buffer[..length].copy_from_slice(&self.ready[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

/// Digests what is read.
struct Hashed<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}
