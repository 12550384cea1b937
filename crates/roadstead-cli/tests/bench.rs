//! The benchmark can be run: every figure that it promises is there. What the figures are is not asked.

use std::path::{Path, PathBuf};

#[test]
fn every_figure_can_be_measured() {
    let options = roadstead_bench::Options {
        roadstead: PathBuf::from(env!("CARGO_BIN_EXE_roadstead")),
        work: Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench"),
        runs: 1,
        seconds: 1,
        quick: true,
        only: None,
    };
    let report = roadstead_bench::run(&options).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(report.rows.len(), 46, "{report}");
    for row in &report.rows {
        assert!(row.ours.median.is_finite() && row.ours.median >= 0.0, "{row:?}");
    }
}
