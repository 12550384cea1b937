//! The images that are moved: plain files at the paths of the distribution API, made once and kept.
//!
//! No program that is measured has a hand in them. The layers are gzip over tar over data of which half can't be
//! compressed, from a generator with a fixed seed: the digests are the same on every machine with the same compressor.

mod saved;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Changes when the images do, so that older ones are not taken for them.
const VERSION: u32 = 2;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How many platforms the index has.
pub(crate) const PLATFORMS: usize = 16;

/// The repository of the images that are measured one by one.
pub(crate) const REPOSITORY: &str = "bench/image";
/// The repository of many small images, with a list of its tags.
pub(crate) const MANY: &str = "bench/many";
/// How many those are.
pub(crate) const IMAGES: usize = 200;
/// On how many bases they stand.
const BASES: u64 = 10;
/// Six layers.
pub(crate) const LARGE: &str = "large";
/// Five of those, and another.
pub(crate) const SIBLING: &str = "sibling";
/// An index of many small images.
pub(crate) const INDEX: &str = "index";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Full,
    Tiny,
}

impl Scale {
    /// The sizes of the large image's layers, about, in bytes: those of an image made from a Debian system's `/usr`.
    fn layers(self) -> [u64; 6] {
        let unit = match self {
            Self::Full => 1_000_000,
            Self::Tiny => 1_000,
        };
        [13, 236, 227, 65, 46, 21].map(|size| size * unit)
    }
}

#[derive(Debug)]
pub(crate) struct Corpus {
    /// The web server's root.
    pub(crate) root: PathBuf,
    /// What `docker save` writes of an image whose layers are not compressed.
    pub(crate) archive: PathBuf,
    /// The digest of the large image's largest layer.
    pub(crate) largest: String,
    /// Paths of manifests with their types and digests, which the web server says.
    pub(crate) manifests: Vec<Served>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Served {
    pub(crate) path: String,
    pub(crate) media_type: String,
    pub(crate) digest: String,
}

impl Corpus {
    /// Makes the images, unless they are there.
    pub(crate) fn prepare(work: &Path, scale: Scale) -> anyhow::Result<Self> {
        let root = work.join(format!("corpus-{VERSION}-{scale:?}").to_lowercase());
        let noted = root.join("made.json");
        if !noted.exists() {
            // The note comes last: without it, what is there was not finished.
            match fs::remove_dir_all(&root) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
                _ => {}
            }
            let note = make(&root, scale)?;
            fs::write(&noted, serde_json::to_vec(&note)?)?;
        }
        let (largest, manifests) = serde_json::from_slice(&fs::read(&noted)?)?;
        let archive = work.join(format!("saved-{VERSION}-{scale:?}.tar").to_lowercase());
        if !archive.exists() {
            saved::write(&archive, scale)?;
        }
        Ok(Self { root, archive, largest, manifests })
    }
}

fn make(root: &Path, scale: Scale) -> anyhow::Result<(String, Vec<Served>)> {
    let mut maker = Maker::new(root, REPOSITORY)?;
    let sizes = scale.layers();
    let mut layers = Vec::new();
    for (seed, size) in (1..).zip(sizes) {
        layers.push(maker.layer(seed, size)?);
    }
    let largest = layers[1].digest.clone();
    maker.docker_image(LARGE, &layers)?;
    layers[5] = maker.layer(100, sizes[5])?;
    maker.docker_image(SIBLING, &layers)?;

    let mut entries = Vec::new();
    for (seed, number) in (200..).zip(0..PLATFORMS) {
        let layers = [maker.layer(seed, 20_000)?, maker.layer(seed + 100, 40_000)?];
        let platform = json!({"os": "linux", "architecture": "arm", "variant": format!("v{number}")});
        entries.push(maker.oci_image(&layers, &platform)?);
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    maker.manifest(&serde_json::to_vec(&index)?, OCI_INDEX, Some(INDEX))?;
    let mut manifests = maker.manifests;
    manifests.extend(make_many(root)?);
    Ok((largest, manifests))
}

/// Images as a farm of builds makes them: a base of a few layers, and two of their own.
fn make_many(root: &Path) -> anyhow::Result<Vec<Served>> {
    let mut maker = Maker::new(root, MANY)?;
    let bases: Vec<Vec<Layer>> = (0..BASES)
        .map(|base| (0..4).map(|layer| maker.layer(1000 + 10 * base + layer, 60_000 << layer)).collect())
        .collect::<io::Result<_>>()?;
    let mut tags = Vec::new();
    for (number, base) in (0..IMAGES).zip(bases.iter().cycle()) {
        let seed = 2000 + 2 * number as u64;
        let mut layers = base.clone();
        layers.extend([maker.layer(seed, 2_000)?, maker.layer(seed + 1, 30_000)?]);
        let tag = format!("build-{number:03}");
        maker.docker_image(&tag, &layers)?;
        tags.push(tag);
    }
    fs::create_dir_all(maker.repository.join("tags"))?;
    fs::write(maker.repository.join("tags/list"), serde_json::to_vec(&json!({"name": MANY, "tags": tags}))?)?;
    Ok(maker.manifests)
}

/// A layer: its digest and size, and the digest of what it is compressed from.
#[derive(Clone)]
struct Layer {
    digest: String,
    size: u64,
    diff_id: String,
}

struct Maker {
    name: &'static str,
    repository: PathBuf,
    manifests: Vec<Served>,
}

impl Maker {
    fn new(root: &Path, name: &'static str) -> io::Result<Self> {
        let repository = root.join("v2").join(name);
        fs::create_dir_all(repository.join("blobs"))?;
        fs::create_dir_all(repository.join("manifests"))?;
        Ok(Self { name, repository, manifests: Vec::new() })
    }

    fn layer(&self, seed: u64, size: u64) -> io::Result<Layer> {
        let temporary = self.repository.join("blobs/new");
        let compressed = Hashing::new(BufWriter::with_capacity(1 << 20, File::create(&temporary)?));
        let gzip = GzEncoder::new(compressed, Compression::fast());
        let mut tar = tar::Builder::new(Hashing::new(gzip));
        let mut header = tar::Header::new_ustar();
        header.set_path(format!("data-{seed}"))?;
        header.set_mode(0o644);
        header.set_size(size * 2);
        header.set_cksum();
        tar.append(
            &header,
            HalfRandom { generator: fastrand::Rng::with_seed(seed), block: Vec::new(), at: 0 }.take(size * 2),
        )?;
        let (gzip, diff_id, _) = tar.into_inner()?.finish();
        let (mut file, digest, size) = gzip.finish()?.finish();
        file.flush()?;
        fs::rename(temporary, self.repository.join("blobs").join(&digest))?;
        Ok(Layer { digest, size, diff_id })
    }

    fn config(&self, layers: &[Layer], platform: &Value) -> anyhow::Result<Value> {
        let mut config = platform.clone();
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        config["config"] = json!({});
        let bytes = serde_json::to_vec(&config)?;
        let digest = digest(&bytes);
        fs::write(self.repository.join("blobs").join(&digest), &bytes)?;
        Ok(json!({"size": bytes.len(), "digest": digest}))
    }

    /// An image in Docker's form, its manifest laid out as Docker does: 1.6 kB for six layers.
    fn docker_image(&mut self, tag: &str, layers: &[Layer]) -> anyhow::Result<()> {
        let mut config = self.config(layers, &json!({"os": "linux", "architecture": "amd64"}))?;
        config["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
        let entry = |layer: &Layer| {
            let media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip";
            json!({"mediaType": media_type, "size": layer.size, "digest": layer.digest})
        };
        let layers: Vec<Value> = layers.iter().map(entry).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": layers});
        self.manifest(serde_json::to_string_pretty(&manifest)?.as_bytes(), DOCKER_MANIFEST, Some(tag))?;
        Ok(())
    }

    fn oci_image(&mut self, layers: &[Layer], platform: &Value) -> anyhow::Result<Value> {
        let mut config = self.config(layers, platform)?;
        config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
        let entry = |layer: &Layer| json!({"mediaType": media_type, "size": layer.size, "digest": layer.digest});
        let layers: Vec<Value> = layers.iter().map(entry).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        let bytes = serde_json::to_vec(&manifest)?;
        let digest = self.manifest(&bytes, OCI_MANIFEST, None)?;
        Ok(json!({"mediaType": OCI_MANIFEST, "size": bytes.len(), "digest": digest, "platform": platform}))
    }

    fn manifest(&mut self, bytes: &[u8], media_type: &str, tag: Option<&str>) -> io::Result<String> {
        let digest = digest(bytes);
        for reference in [Some(digest.as_str()), tag].into_iter().flatten() {
            fs::write(self.repository.join("manifests").join(reference), bytes)?;
            let path = format!("/v2/{}/manifests/{reference}", self.name);
            self.manifests.push(Served { path, media_type: media_type.to_owned(), digest: digest.clone() });
        }
        Ok(digest)
    }
}

/// Random bytes and a repeated line by turns, without end.
struct HalfRandom {
    generator: fastrand::Rng,
    block: Vec<u8>,
    at: usize,
}

impl Read for HalfRandom {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const HALF: usize = 32 << 10;
        if self.at == self.block.len() {
            self.block.resize(2 * HALF, 0);
            self.at = 0;
            let (random, text) = self.block.split_at_mut(HALF);
            self.generator.fill(random);
            text.chunks_mut(16).for_each(|chunk| chunk.copy_from_slice(&b"as good as gold\n"[..chunk.len()]));
        }
        let length = buffer.len().min(self.block.len() - self.at);
        buffer[..length].copy_from_slice(&self.block[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

/// Counts and digests what goes through.
struct Hashing<W> {
    inner: W,
    hasher: Sha256,
    written: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), written: 0 }
    }

    fn finish(self) -> (W, String, u64) {
        (self.inner, spell(&self.hasher.finalize()), self.written)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..length]);
        self.written += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    spell(&Sha256::digest(bytes))
}

fn spell(digest: &[u8]) -> String {
    digest.iter().fold("sha256:".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
        text
    })
}
