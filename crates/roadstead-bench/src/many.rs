//! Many small images from one registry, in one call.

use std::fs;
use std::path::Path;

use roadstead_parts::part;

use crate::contest::{Ground, Side, compare};
use crate::corpus::{IMAGES, MANY};
use crate::measure::{Figures, Program};
use crate::registry::Registry;
use crate::report::{Bar, Row, Unit};

/// How the first copy's time may compare with that of each peer, in their order.
const COLD: [Bar; 2] = [Bar::NoMoreThanPeer(1.0 / 2.0); 2];
/// The same of a copy that finds nothing changed. regsync then sends the requests that we send, and no others, so that only
/// what lies around them can be saved: a program that did nothing but send them would not be twenty times as fast.
const AGAIN: [Bar; 2] = [Bar::NoMoreThanPeer(1.0 / 20.0), Bar::NoMoreThanPeer(1.0 / 3.0)];

pub(crate) fn measure(roadstead: &Path, work: &Path, registry: &Registry, runs: usize) -> anyhow::Result<Vec<Row>> {
    let ground = Ground { work, runs };
    let destination = ground.destination();
    let repository = format!("{}/{MANY}", registry.authority());
    let instructions = work.join("regsync.yaml");
    fs::write(&instructions, regsync(&registry.authority(), &destination))?;

    let images = (0..IMAGES).map(|number| format!("{repository}:build-{number:03}"));
    let ours = Program::new(roadstead).args(["--quiet", "--tree"]).arg(destination.join("roadstead")).arg("add");
    let ours = images.fold(ours, Program::arg);
    let skopeo = Program::new(&part::installed("skopeo"))
        .args(["sync", "--src", "docker", "--dest", "dir", "--src-tls-verify=false"])
        .arg(&repository)
        .arg(destination.join("skopeo"));
    let regsync = Program::new(&part::built("bin/regsync")).args(["once", "-c"]).arg(&instructions);
    let sides = || {
        [("roadstead", &ours), ("skopeo", &skopeo), ("regsync", &regsync)]
            .map(|(name, program)| Side::new(name, program.clone(), false))
    };
    let prepare = |ground: &Ground<'_>| {
        ground.clear()?;
        // skopeo wants the folder to be there.
        Ok(fs::create_dir_all(ground.destination().join("skopeo"))?)
    };

    let mut rows = Vec::new();
    let mut cold = sides();
    ground.alternate(&mut cold, prepare)?;
    rows.extend(beside(&format!("cold import, {IMAGES} small images in one call"), &cold, COLD));

    // skopeo copies everything again, and only into an empty folder.
    let fresh = |_: &Ground<'_>| {
        fs::remove_dir_all(destination.join("skopeo"))?;
        Ok(fs::create_dir(destination.join("skopeo"))?)
    };
    prepare(&ground)?;
    let mut again = sides();
    for side in &again {
        side.program.run(&ground.log())?;
    }
    ground.alternate(&mut again, fresh)?;
    rows.extend(beside("the same again, nothing changed", &again, AGAIN));
    let (_, seen) = registry.requests(|| ours.run(&ground.log()))?;
    rows.push(Row {
        what: "requests of that: one for each image, and one greeting".into(),
        command: ours.to_string(),
        unit: Unit::Count,
        ours: Figures::one(seen.len() as f64),
        peer: None,
        bar: Some(Bar::AtMost((IMAGES + 1) as f64)),
    });
    ground.clear()?;
    for row in &mut rows {
        row.name(&destination.display().to_string(), "DEST");
        row.name(&registry.authority(), "REGISTRY");
        row.name(&work.display().to_string(), "WORK");
        shorten(&mut row.command);
    }
    Ok(rows)
}

fn beside(what: &str, [ours, peers @ ..]: &[Side; 3], bars: [Bar; 2]) -> Vec<Row> {
    peers.iter().zip(bars).map(|(peer, bar)| compare(what.to_owned(), ours, peer, Some(bar))).collect()
}

/// Leaves out all names but the first and the last.
fn shorten(command: &mut String) {
    let mut words: Vec<&str> = command.split(' ').collect();
    let is_image = |word: &&str| word.contains(":build-");
    if let (Some(first), Some(last)) = (words.iter().position(is_image), words.iter().rposition(is_image))
        && last > first + 1
    {
        words.splice(first + 1..last, ["…"]);
        *command = words.join(" ");
    }
}

/// What regsync is told to copy.
fn regsync(registry: &str, destination: &Path) -> String {
    format!(
        "version: 1
creds:
  - registry: \"{registry}\"
    tls: disabled
defaults:
  parallel: 4
sync:
  - source: \"{registry}/{MANY}\"
    target: \"ocidir://{}/regsync\"
    type: repository
",
        destination.display()
    )
}
