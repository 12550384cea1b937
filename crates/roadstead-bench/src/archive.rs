//! From a docker archive into files: 600 MB of layers that are not compressed.

use std::fs;
use std::path::Path;

use roadstead_parts::part;

use crate::contest::{Ground, Side, compare};
use crate::measure::{Figures, Program};
use crate::report::{Bar, Peer, Row, Unit};

/// What it may take of memory.
const PEAK: Bar = Bar::AtMost((64 << 20) as f64);
/// How long a copy without compression may take beside a bare hash of the same file: as long as four fifths of its rate do.
const HASH: Bar = Bar::NoMoreThanPeer(1.0 / 0.8);

pub(crate) fn measure(roadstead: &Path, work: &Path, archive: &Path, runs: usize) -> anyhow::Result<Vec<Row>> {
    let ground = Ground { work, runs };
    let destination = ground.destination();
    let source = format!("docker-archive:{}", archive.display());
    let add = |compress: &str| {
        Program::new(roadstead)
            .args(["--quiet", "--tree"])
            .arg(&destination)
            .args(["add", "--no-sync", "--compress", compress])
            .arg(&source)
    };
    let skopeo = Program::new(&part::installed("skopeo"))
        .args(["copy", "--quiet", "--dest-compress", "--dest-compress-format=gzip", "--dest-compress-level=6"])
        .arg(&source)
        .arg(format!("dir:{}", destination.display()));
    let hash = Program::new(&part::installed("sh")).args(["-c", "cat \"$0\" | openssl dgst -sha256"]).arg(archive);

    let mut sides = [
        Side::new("roadstead", add("gzip:6"), false),
        Side::new("skopeo", skopeo, false),
        Side::new("roadstead", add("none"), false),
        Side::new("cat and openssl", hash, false),
    ];
    ground.alternate(&mut sides, Ground::clear)?;
    let [gzip, skopeo, none, hash] = &sides;
    let mut sizes = Vec::new();
    for side in [gzip, skopeo] {
        ground.clear()?;
        side.program().run(&ground.log())?;
        sizes.push(Figures::one(size(&destination)? as f64));
    }
    ground.clear()?;
    let what = "600 MB in a docker archive";
    let peak = |side: &Side| Row {
        what: "peak memory of that".to_owned(),
        command: side.command(),
        unit: Unit::Bytes,
        ours: side.figures(|run| run.peak as f64),
        peer: None,
        bar: Some(PEAK),
    };
    let mut rows = vec![
        compare(format!("{what}, gzip at level 6"), gzip, skopeo, Some(Bar::NoMoreThanPeer(1.0))),
        Row {
            what: "size of what came of it".to_owned(),
            command: gzip.command(),
            unit: Unit::Bytes,
            ours: sizes[0].clone(),
            peer: Some(Peer { name: "skopeo".into(), command: skopeo.command(), figures: sizes[1].clone() }),
            bar: Some(Bar::NoMoreThanPeer(1.0)),
        },
        peak(gzip),
        compare(format!("{what}, not compressed"), none, hash, Some(HASH)),
        peak(none),
    ];
    for row in &mut rows {
        row.name(&destination.display().to_string(), "DEST");
        row.name(&archive.display().to_string(), "ARCHIVE");
    }
    Ok(rows)
}

/// The bytes in all files below a folder.
fn size(folder: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sum += size(&entry.path())?;
        } else if kind.is_file() {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}
