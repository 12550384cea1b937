//! A tree into an archive for IPFS, beside Kubo's own command and the disk.

use std::path::Path;

use roadstead_parts::part;

use crate::contest::{Ground, Side, compare};
use crate::corpus::Scale;
use crate::made::MadeTree;
use crate::measure::Program;
use crate::report::{Bar, Row};

/// How our time may compare: names alone with Kubo's, and an archive with copying the bytes.
const NAMES: Bar = Bar::NoMoreThanPeer(1.0 / 1.5);
const ARCHIVE: Bar = Bar::NoMoreThanPeer(1.1);

impl Scale {
    /// How many layers of how many bytes get names.
    const fn named(self) -> (usize, usize) {
        match self {
            Self::Full => (60, 83 << 20),
            Self::Tiny => (2, 1 << 20),
        }
    }
}

pub(crate) fn measure(roadstead: &Path, work: &Path, runs: usize, scale: Scale) -> anyhow::Result<Vec<Row>> {
    let ground = Ground { work, runs };
    ground.clear()?;
    let tree = ground.destination().join("tree");
    let (count, size) = scale.named();
    let made = MadeTree::new(&tree)?;
    let mut generator = fastrand::Rng::with_seed(17);
    let mut bytes = vec![0; size];
    let mut layers = Vec::new();
    for _ in 0..count {
        generator.fill(&mut bytes);
        layers.push(made.blob("bench/named", &bytes)?);
    }
    made.manifest("bench/named", "1", &layers)?;
    drop(bytes);
    let node = ground.destination().join("node");
    let kubo = Program::new(&part::built("bin/ipfs")).env("IPFS_PATH", &node).env("IPFS_TELEMETRY", "off");
    kubo.clone().args(["init", "--empty-repo", "--profile=test"]).run(&ground.log())?;

    let ours = Program::new(roadstead).args(["--quiet", "--tree"]).arg(&tree).arg("publish");
    let content = tree.join("content");
    let what = format!("{} MB in {count} layers", count * size / 1_000_000);
    let mut names = [
        Side::new("roadstead", ours.clone().args(["ipfs:", "--dry-run"]), false),
        Side::new("ipfs", kubo.args(["add", "--quieter", "--only-hash", "-r"]).arg(&content), false),
    ];
    ground.alternate(&mut names, |_| Ok(()))?;
    let (car, copy) = (ground.destination().join("site.car"), ground.destination().join("copy"));
    let copied = format!("cat {}/blobs/* > {}", content.display(), copy.display());
    let mut archives = [
        Side::new("roadstead", ours.arg(format!("car:{}", car.display())), true),
        Side::new("cat", Program::new(&part::installed("sh")).arg("-c").arg(copied), true),
    ];
    ground.alternate(&mut archives, |ground| {
        let remove = Program::new(&part::installed("rm")).arg("-f").arg(&car).arg(&copy);
        remove.run(&ground.log())?;
        ground.sync().run(&ground.log())?;
        Ok(())
    })?;
    let mut rows = vec![
        compare(format!("CIDs of {what}"), &names[0], &names[1], Some(NAMES)),
        compare(format!("an archive of {what}"), &archives[0], &archives[1], Some(ARCHIVE)),
    ];
    ground.clear()?;
    for row in &mut rows {
        row.name(&ground.destination().display().to_string(), "DEST");
    }
    Ok(rows)
}
