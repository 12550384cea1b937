//! The pages about hosts, against the table of hosts.

use std::fmt::Write as _;
use std::path::Path;

use roadstead::host::{Group, HOSTS};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/hosts");
const BEGIN: &str = "<!-- made by the test `every_host_has_its_page_and_its_line`: UPDATE_DOCS=1 -->";
const END: &str = "<!-- end of the index -->";

#[test]
#[expect(clippy::disallowed_methods, reason = "whether the document is to be written is said by the environment")]
fn every_host_has_its_page_and_its_line() {
    let mut index = String::new();
    for group in Group::ALL {
        let members: Vec<_> = HOSTS.iter().filter(|host| host.group() == group).collect();
        if members.is_empty() {
            continue;
        }
        write!(index, "\n\n| {} | |\n|---|---|\n", group.title()).unwrap();
        for host in members {
            let page = host.page();
            assert!(Path::new(FOLDER).join(format!("{page}.md")).is_file(), "docs/hosts/{page}.md is missing");
            writeln!(index, "| [`{}`]({page}.md) | {} |", host.name(), host.summary()).unwrap();
        }
    }
    index.push('\n');
    let path = Path::new(FOLDER).join("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let (before, (shown, after)) = parts.expect("the page has a place for the index");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{index}{END}{after}")).unwrap();
    } else {
        assert_eq!(shown, index, "docs/hosts/README.md shows another index: run the test with UPDATE_DOCS=1");
    }
}
