//! The lines that `docs/hosts/nginx.md` prints for an nginx all by itself, typed by somebody who owns nothing of the tree.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use roadstead::testing::ImageBuilder;
use roadstead_parts::{Client as _, Crane, Folder, Invocation, Isolation, Port, Served, part};

use crate::support::{Hostile, Place};

#[test]
fn as_the_documentation_prints_it() {
    let document = include_str!("../../../../docs/hosts/nginx.md");
    let lines = document.split("**All by itself**").nth(1).and_then(|rest| rest.split("```").nth(1)).unwrap();
    let lines = lines.strip_prefix("sh\n").unwrap();
    assert!(lines.contains("--standalone") && lines.contains("nginx -p "), "{lines}");

    let image = ImageBuilder::new().layer("all by itself").build();
    let place = Place::new();
    place.run(&["add", "-q", &Hostile::honest(&image).image()]).ok();
    let port = Port::free();
    let lines = lines.replace("127.0.0.1:5000", &port.address().to_string());
    let lines = lines.replace("/srv/registry", place.tree().to_str().unwrap());

    let folder = Folder::new();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    // Where it was built need not be open to everyone.
    fs::copy(env!("CARGO_BIN_EXE_roadstead"), folder.join("roadstead")).unwrap();
    let script = format!("set -e\ncd '{0}'\nPATH=$PWD:$PATH\n{lines}", folder.path().display());
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--", "sh", "-c", &script];
    let program = Invocation::new(part::installed("setpriv")).args(nobody);
    let nginx = Served::start(&program, Isolation::Namespaces, folder, || port.answers());

    let pulled = Crane.pull(&format!("{}/app:1.0", port.address())).unwrap();
    assert!(pulled.digests.contains(&image.digest().to_string()), "{pulled:?}");
    let log = nginx.log();
    // Debian's own path for errors, which only root may write, may be tried before the configuration names another.
    let expected =
        |line: &&str| !line.starts_with("wrote nginx/nginx.conf") && !line.contains("/var/log/nginx/error.log");
    let complaints: Vec<&str> = log.lines().filter(expected).collect();
    assert_eq!(complaints, <[&str; 0]>::default());
}
