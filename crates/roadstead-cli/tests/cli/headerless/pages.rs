//! The walk-throughs of `docs/hosts`, run as they stand.

use std::path::Path;

use roadstead::testing::MemorySource;
use roadstead_parts::{Invocation, Kubo, Port, part};

use super::image;
use crate::support::{Place, write_tree};

/// What stands in front of a block that a machine alone can't run.
const NOT_RUN: &str = "<!-- not run: ";

/// The commands of a page, in order.
fn commands(page: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/hosts").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut script = String::new();
    let mut before = "";
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            if !before.starts_with(NOT_RUN) {
                script.push_str(&block.join("\n"));
                script.push('\n');
            }
        }
        before = line;
    }
    assert!(!script.is_empty(), "{page} has no commands");
    script
}

/// Runs a page in a folder with a tree that has `alpine:3.20`, each port of the page being a free one.
fn walk_through(page: &str, ports: &[(&str, u16)], environment: &[(&'static str, &Path)]) {
    let place = Place::new();
    let source = MemorySource::new();
    // The pages say linux/amd64, and nothing here runs it.
    source.add("alpine:3.20", &image("alpine\n").platform("linux/amd64").build());
    write_tree(&place.tree(), &source);
    let mut script = commands(page);
    for (port, free) in ports {
        assert!(script.contains(&format!(":{port}")) || script.contains(&format!(" {port} ")), "{page} has no {port}");
        script = script.replace(port, &free.to_string());
    }
    let folder = place.path().display();
    let script = format!("trap 'kill $(jobs -p) 2>/dev/null || :' EXIT\ncd {folder}\n{script}");
    let shell = Invocation::new(part::installed("bash")).args(["-euxc", &script]);
    let program = Path::new(env!("CARGO_BIN_EXE_roadstead")).parent().unwrap();
    let shell = environment.iter().fold(shell.path_prefix(program), |shell, (name, value)| shell.env(name, value));
    let shell = shell.env("HOME", place.path());
    shell.run().unwrap_or_else(|failure| panic!("{page}: {failure}"));
}

#[test]
fn of_github_pages() {
    let ports = [Port::free(), Port::free(), Port::free()];
    let [site, plain, serve] = [0, 1, 2].map(|index: usize| ports[index].number());
    walk_through("github-pages.md", &[("8000", site), ("8001", plain), ("5000", serve)], &[]);
}

#[test]
fn of_gitlab_pages() {
    let port = Port::free();
    walk_through("gitlab-pages.md", &[("8000", port.number())], &[]);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn of_ipfs() {
    let (kubo, port) = (Kubo::start(), Port::free());
    let ports = [("8080", kubo.gateway()), ("5000", port.number())];
    walk_through("ipfs.md", &ports, &[("IPFS_PATH", kubo.repository())]);
}
