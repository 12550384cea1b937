//! The benchmark can be run: every figure that it promises is there. What the figures are is not asked.

use std::path::{Path, PathBuf};

use roadstead_bench::Part;

fn figures(work: &str, only: &[Part]) -> usize {
    let options = roadstead_bench::Options {
        roadstead: PathBuf::from(env!("CARGO_BIN_EXE_roadstead")),
        work: Path::new(env!("CARGO_TARGET_TMPDIR")).join(work),
        runs: 1,
        seconds: 1,
        quick: true,
        only: only.to_vec(),
    };
    let report = roadstead_bench::run(&options).unwrap_or_else(|e| panic!("{e:?}"));
    for row in &report.rows {
        assert!(row.ours.median.is_finite() && row.ours.median >= 0.0, "{row:?}");
    }
    report.rows.len()
}

#[test]
fn every_figure_can_be_measured() {
    let parts = [Part::Import, Part::Archive, Part::Many, Part::Tend, Part::Serve, Part::Hosts];
    assert_eq!(figures("bench", &parts), 61);
}

#[test]
fn every_figure_about_pushes_and_configurations_can_be_measured() {
    assert_eq!(figures("bench-push", &[Part::Push, Part::Config]), 18 + 2 * roadstead::host::HOSTS.len());
}

#[test]
#[ignore = "needs a newer Caddy, which takes long to build"]
fn every_figure_about_newer_hosts_can_be_measured() {
    assert_eq!(figures("bench-newer", &[Part::NewerHosts]), 8);
}

#[test]
#[ignore = "needs minio, rclone, aws and ipfs, which take long to install"]
fn every_figure_about_publishing_can_be_measured() {
    assert_eq!(
        figures("bench-publish", &[Part::PublishSmall, Part::PublishLarge, Part::PublishUnchanged, Part::Ipfs]),
        4 + 4 + 2 + 2 + 2 + 2
    );
}
