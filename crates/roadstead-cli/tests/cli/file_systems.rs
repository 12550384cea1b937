//! File systems that can't hold a tree: refused before anything is copied, with what they lack and the way out.

use std::process::{Command, Stdio};

use roadstead_parts::part;

use crate::support::{Place, Ran};

/// Runs `quickstart --check` on a fresh file system, mounted where only this test sees it, and lists what is left there.
fn refused(make: &str, mount: &str, lacks: &str) {
    let place = Place::new();
    let script = format!(
        r#"
        truncate -s 40M image && {make} image >&2 && mkdir mounted && {mount} image mounted >&2 || exit 99
        "$0" --tree mounted/registry quickstart --check --listen 127.0.0.1:0
        code=$?
        ls -A mounted/registry
        umount mounted
        exit $code
    "#
    );
    let mut command = Command::new(part::installed("unshare"));
    command.args(["--mount", "--propagation=private", "sh", "-c", &script, env!("CARGO_BIN_EXE_roadstead")]);
    let ran = Ran::of(command.current_dir(place.path()).stdin(Stdio::null()));
    assert_eq!(ran.code(), 8, "{ran}");
    assert_eq!(ran.text(), "", "something was left behind\n{ran}");
    for said in ["mounted/registry", lacks, "keep the tree on a file system that does"] {
        assert!(ran.stderr.contains(said), "{said:?} is not said\n{ran}");
    }
}

#[test]
fn one_without_symbolic_links() {
    let (make, mount) = (part::installed("mkfs.vfat"), part::installed("fusefat"));
    refused(&make.display().to_string(), &format!("{} -o rw+", mount.display()), "has no symbolic links");
}

#[test]
fn one_without_colons_in_names() {
    let (make, mount) = (part::installed("mkntfs"), part::installed("ntfs-3g"));
    let make = format!("{} --quick --force --quiet", make.display());
    refused(&make, &format!("{} -o windows_names", mount.display()), "does not allow : in names");
}
