//! Looking after a tree: verifying it, and small changes of a large one.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use roadstead_parts::part;
use serde_json::json;

use crate::contest::{Ground, Side, compare};
use crate::corpus::{Scale, digest};
use crate::measure::{Figures, Program, Run};
use crate::report::{Bar, Row, Unit};

/// What a look or a removal may take on a tree of ten thousand tags, and thinning that out, in seconds.
const LOOK: f64 = 0.1;
const PRUNE: f64 = 5.0;
/// What verifying may take of memory.
const PEAK: f64 = (64 << 20) as f64;

/// On how many bases the images stand.
const BASES: usize = 10;

impl Scale {
    /// How many tags.
    const fn tags(self) -> usize {
        match self {
            Self::Full => 10_000,
            Self::Tiny => 50,
        }
    }

    /// How many large blobs are verified, of how many bytes.
    const fn large(self) -> (usize, usize) {
        match self {
            Self::Full => (64, 16 << 20),
            Self::Tiny => (4, 16 << 10),
        }
    }
}

pub(crate) fn measure(roadstead: &Path, work: &Path, runs: usize, scale: Scale) -> anyhow::Result<Vec<Row>> {
    let ground = Ground { work, runs };
    let tree = ground.destination();
    let tool = Program::new(roadstead).args(["--quiet", "--tree"]).arg(&tree);
    let mut rows = verify(&ground, &tool, scale)?;
    for repositories in [1, 50] {
        ground.clear()?;
        let tags = scale.tags() / repositories;
        let mut made = MadeTree::new(&tree)?;
        for repository in 0..repositories {
            (0..tags).try_for_each(|tag| made.image(&name(repository), &format!("tag-{tag:05}")))?;
        }
        // Lists are derived.
        complete(&ground, &tool)?;
        let what = |what: &str| match repositories {
            1 => format!("{what}, {} tags of one repository", scale.tags()),
            many => format!("{what}, {many} repositories of {tags} tags"),
        };
        let first = name(0);
        let last = format!("{first}:tag-{:05}", tags - 1);
        for (title, program) in
            [("list", tool.clone().arg("list")), ("inspect", tool.clone().arg("inspect").arg(&last))]
        {
            let timed: Vec<Run> = (0..runs).map(|_| program.run(&ground.log())).collect::<Result<_, _>>()?;
            rows.push(row(what(title), &program, &timed, LOOK));
        }
        let removal = |tag: usize| tool.clone().arg("remove").arg(format!("{first}:tag-{tag:05}"));
        let timed: Vec<Run> = (0..runs).map(|tag| removal(tag).run(&ground.log())).collect::<Result<_, _>>()?;
        rows.push(row(what("remove of a tag"), &removal(0), &timed, LOOK));
        let program = tool.clone().args(["prune", "--keep-last"]).arg((tags / 2).to_string());
        rows.push(row(what("prune of half the tags"), &program, &[program.run(&ground.log())?], PRUNE));
    }
    ground.clear()?;
    for row in &mut rows {
        row.name(&tree.display().to_string(), "TREE");
    }
    Ok(rows)
}

fn row(what: String, program: &Program, runs: &[Run], most: f64) -> Row {
    let ours = Figures::new(runs.iter().map(|run| run.wall.as_secs_f64()).collect());
    Row { what, command: program.to_string(), unit: Unit::Seconds, ours, peer: None, bar: Some(Bar::AtMost(most)) }
}

fn name(repository: usize) -> String {
    format!("bench/tend-{repository}")
}

/// Makes the lists of a tree that has none.
fn complete(ground: &Ground<'_>, tool: &Program) -> anyhow::Result<()> {
    tool.clone().args(["verify", "--repair"]).run(&ground.log())?;
    Ok(())
}

/// All bytes of a tree, beside openssl on as many processors.
fn verify(ground: &Ground<'_>, tool: &Program, scale: Scale) -> anyhow::Result<Vec<Row>> {
    ground.clear()?;
    let (count, size) = scale.large();
    let tree = MadeTree::new(&ground.destination())?;
    let mut generator = fastrand::Rng::with_seed(7);
    let mut layers = Vec::new();
    for _ in 0..count {
        let mut bytes = vec![0; size];
        generator.fill(&mut bytes);
        layers.push(tree.blob(&name(0), &bytes)?);
    }
    tree.manifest(&name(0), "large", &layers)?;
    complete(ground, tool)?;
    let processors = std::thread::available_parallelism()?;
    let openssl = format!(
        "find {}/content/blobs -type f -print0 | xargs -0 -n 4 -P {processors} {} dgst -sha256",
        ground.destination().display(),
        part::installed("openssl").display()
    );
    let mut sides = [
        Side::new("roadstead", tool.clone().arg("verify"), false),
        Side::new("openssl", Program::new(&part::installed("sh")).arg("-c").arg(openssl), false),
    ];
    ground.alternate(&mut sides, |_| Ok(()))?;
    let [ours, openssl] = &sides;
    let what = format!("verify of {} MB in {count} blobs, warm", (count * size) / 1_000_000);
    Ok(vec![
        compare(what, ours, openssl, Some(Bar::NoMoreThanPeer(1.0))),
        Row {
            what: "peak memory of that".into(),
            command: ours.command(),
            unit: Unit::Bytes,
            ours: ours.figures(|run| run.peak as f64),
            peer: None,
            bar: Some(Bar::AtMost(PEAK)),
        },
    ])
}

/// A tree written file by file, as its format says, since ten thousand additions would take longer than all that is measured.
pub(crate) struct MadeTree {
    root: PathBuf,
    images: usize,
}

#[derive(Clone)]
struct Blob {
    digest: String,
    size: usize,
}

impl MadeTree {
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root.join("v2"))?;
        fs::create_dir_all(root.join("content/blobs"))?;
        fs::create_dir_all(root.join(".roadstead"))?;
        fs::write(root.join(".roadstead/format"), r#"{"format":1}"#)?;
        Ok(Self { root: root.to_owned(), images: 0 })
    }

    /// A small image on one of a few bases.
    pub(crate) fn image(&mut self, repository: &str, tag: &str) -> io::Result<()> {
        self.images += 1;
        let base = self.images % BASES;
        let mut layers = Vec::new();
        for layer in 0..4 {
            layers.push(self.blob(repository, format!("layer {layer} of base {base}").as_bytes())?);
        }
        layers.push(self.blob(repository, format!("layer of {repository}:{tag}").as_bytes())?);
        self.manifest(repository, tag, &layers)
    }

    /// Another tag for an image that has one.
    pub(crate) fn again(&self, repository: &str, tag: &str, new: &str) -> io::Result<()> {
        let folder = self.root.join(format!("v2/{repository}/manifests"));
        symlink(fs::read_link(folder.join(tag))?, folder.join(new))
    }

    /// The manifests of a repository in another one as deep, with its list of tags; without their blobs.
    pub(crate) fn copy(&self, repository: &str, tag: &str, other: &str) -> io::Result<()> {
        let into = self.root.join(format!("v2/{other}/manifests"));
        fs::create_dir_all(&into)?;
        for entry in fs::read_dir(self.root.join(format!("v2/{repository}/manifests")))? {
            let entry = entry?;
            symlink(fs::read_link(entry.path())?, into.join(entry.file_name()))?;
        }
        let tags = self.root.join(format!("v2/{other}/tags"));
        fs::create_dir_all(&tags)?;
        fs::write(tags.join("list"), json!({"name": other, "tags": [tag]}).to_string())
    }

    /// The catalogue of so many repositories.
    pub(crate) fn catalog(&self, count: usize, name: impl Fn(usize) -> String) -> io::Result<()> {
        let names: Vec<String> = (0..count).map(name).collect();
        fs::write(self.root.join("v2/_catalog"), json!({"repositories": names}).to_string())
    }

    fn blob(&self, repository: &str, bytes: &[u8]) -> io::Result<Blob> {
        let digest = digest(bytes);
        self.keep(repository, "blobs", &format!("content/blobs/{digest}"), &digest, bytes)?;
        Ok(Blob { digest, size: bytes.len() })
    }

    fn manifest(&self, repository: &str, tag: &str, layers: &[Blob]) -> io::Result<()> {
        const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
        let config = json!({
            "os": "linux", "architecture": "amd64", "config": {"Labels": {"name": tag, "of": repository}},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| &layer.digest).collect::<Vec<_>>()},
        });
        let config = self.blob(repository, config.to_string().as_bytes())?;
        let entry =
            |media_type: &str, blob: &Blob| json!({"mediaType": media_type, "digest": blob.digest, "size": blob.size});
        let layers: Vec<_> = layers.iter().map(|blob| entry("application/vnd.oci.image.layer.v1.tar", blob)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": TYPE,
            "config": entry("application/vnd.oci.image.config.v1+json", &config), "layers": layers,
        });
        let bytes = manifest.to_string();
        let digest = digest(bytes.as_bytes());
        let content = format!("content/manifests/{TYPE}/{digest}");
        self.keep(repository, "manifests", &content, &digest, bytes.as_bytes())?;
        self.link(repository, "manifests", tag, &content)
    }

    /// Writes content unless it is there, and names it.
    fn keep(&self, repository: &str, folder: &str, content: &str, digest: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.root.join(content);
        if !path.exists() {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&path, bytes)?;
        }
        self.link(repository, folder, digest, content)
    }

    fn link(&self, repository: &str, folder: &str, name: &str, content: &str) -> io::Result<()> {
        let key = format!("v2/{repository}/{folder}/{name}");
        let path = self.root.join(&key);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let target = "../".repeat(key.matches('/').count()) + content;
        match symlink(target, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }
}
