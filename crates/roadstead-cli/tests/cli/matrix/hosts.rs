//! One and the same tree on every host, pulled by every client.
//!
//! A host that is to join says how it is started over a tree: a line in [`START`], or in [`EMULATED`] or [`BUCKETS`] where
//! that takes long to install. Each of `roadstead::host::HOSTS` has one, or is named in [`NOT_HERE`] with the reason. One table
//! has all; each test makes the rows of its own.

mod start;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use roadstead::host::HOSTS;
use roadstead_parts::{Client, Containerd, Crane, Dockerd, Skopeo, clients};

use self::start::{BUCKETS, Deploy, EMULATED, NOT_HERE, START};
use super::expected::{Expected, expected};
use super::kinds::{Kind, kinds};
use super::outcome::Cell;
use super::{Says, Server, alone_in_the_engines, fill, report};
use crate::support::Place;

/// The kinds that differ to a host: types, digests, names, and what refers to what. How layers are compressed doesn't.
const KINDS: [&str; 13] = [
    "Docker image (v2, schema 2)",
    "OCI image",
    "OCI image without `mediaType`",
    "Docker manifest list",
    "OCI index",
    "OCI index without `mediaType`",
    "index within an index",
    "BuildKit's index with attestations",
    "sha512 digests",
    "Docker image (v2, schema 1, signed)",
    "tag that ends in `.html`",
    "image with a referrer",
    "artifact with a `subject`",
];

/// What is the matter with hosts that say no digest at all.
const WITHOUT_DIGESTS: &str = "says no digests, without which oras takes nothing that sha512 names";

/// The test that makes the table, for the rows of hosts that are always there.
const TABLE: &str = "every_client_pulls_one_tree_from_every_host";

#[test]
fn every_client_pulls_one_tree_from_every_host() {
    pull_from(START, &clients(), TABLE);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn every_client_pulls_one_tree_from_every_emulated_host() {
    pull_from(EMULATED, &clients(), TABLE);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn every_client_pulls_one_tree_from_every_bucket() {
    pull_from(BUCKETS, &clients(), TABLE);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn the_newest_clients_pull_one_tree_from_every_host() {
    let (docker, containerd) = (Dockerd::start_29(), Containerd::start_2());
    let cri = containerd.cri();
    pull_from(START, &[&docker, &containerd, &cri], "the_newest_clients_pull_one_tree_from_every_host");
}

#[test]
fn every_host_is_started_or_said_to_be_elsewhere() {
    let started = START.iter().chain(EMULATED).chain(BUCKETS).map(|deploy| deploy.name);
    let known: BTreeSet<&str> = started.chain(NOT_HERE.iter().map(|(name, _)| *name)).collect();
    for host in HOSTS {
        assert!(known.contains(host.name()), "{} is neither started here nor said to be elsewhere", host.name());
    }
    assert_eq!(known.len(), HOSTS.len() + 1, "besides the hosts there is `serve`");
}

fn pull_from(hosts: &'static [Deploy], clients: &[&dyn Client], table: &str) {
    let _alone = alone_in_the_engines();
    let (place, mut kinds) = (Place::new(), kinds());
    kinds.retain(|kind| KINDS.contains(&kind.name));
    assert_eq!(kinds.len(), KINDS.len(), "a kind has another name");
    // That they run is proven where all kinds are.
    kinds.iter_mut().for_each(|kind| kind.greeting = None);
    fill(&place, &kinds);
    let tags: Vec<String> = (0..300).map(|number| format!("many/tags:v{number:03}")).collect();
    place.run(&[&["tag".to_owned(), "org/team/oci:1.0".to_owned()], &tags[..]].concat()).ok();

    let deployed: Vec<_> = hosts.iter().map(|host| (host, (host.start)(&place))).collect();
    for (host, running) in &deployed {
        lists(host, &running.authority);
    }
    let servers: Vec<_> = deployed
        .iter()
        .map(|(host, running)| {
            let authority = running.authority.clone();
            Server { name: host.name, authority, says: host.says }
        })
        .collect();
    let cells = pull_all(clients, &kinds, &servers);
    // What a host is said not to be good for is counted, not asserted: the table is what is expected.
    let must = |name: &str| hosts.iter().any(|host| host.name == name && host.but.is_none());
    let surprises = cells.iter().filter(|(host, _, _)| must(host)).flat_map(|(_, _, cell)| &cell.surprises);
    let surprises: Vec<_> = surprises.map(String::as_str).collect();
    assert!(surprises.is_empty(), "{} surprises\n\n{}", surprises.len(), surprises.join("\n\n"));

    let names: Vec<&str> = clients.iter().map(|client| client.name()).collect();
    let head = format!("| | {} | run by | but |\n|---|{}---|---|\n", names.join(" | "), "---|".repeat(names.len()));
    let rows = hosts.iter().map(|host| {
        let mut row = format!("| {} |", host.name);
        for client in &names {
            let takes = |kind: &str| !matches!(expected(client, kind), Expected::Refuses { .. });
            let mine = cells.iter().filter(|(of, by, cell)| *of == host.name && by == client && takes(cell.kind));
            let pulled = |cell: &Cell| cell.surprises.is_empty() && !matches!(cell.expected, Expected::Refuses { .. });
            let pulled = mine.filter(|(_, _, cell)| pulled(cell)).count();
            let can = kinds.iter().filter(|kind| takes(kind.name)).count();
            write!(row, " {pulled} of {can} |").unwrap();
        }
        let but = host.but.unwrap_or(if host.says == Says::Nothing { WITHOUT_DIGESTS } else { "" });
        write!(row, " {} | {but} |", host.by).unwrap();
        (host.name, row)
    });
    let order: Vec<&str> = std::iter::once("serve").chain(HOSTS.iter().map(|host| host.name())).collect();
    report::rows("hosts/README.md", table, &head, &order, &rows.collect());
}

/// Pulls every kind from every server by every client: the server, the client, what came of it.
fn pull_all<'a>(clients: &[&'a dyn Client], kinds: &[Kind], servers: &'a [Server]) -> Vec<(&'a str, &'a str, Cell)> {
    let (next, cells) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = thread::available_parallelism().map_or(2, usize::from).min(clients.len());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(client) = clients.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for (server, kind) in servers.iter().flat_map(|server| kinds.iter().map(move |kind| (server, kind)))
                    {
                        let cell = Cell::of(*client, kind, std::slice::from_ref(server));
                        cells.lock().unwrap().push((server.name, client.name(), cell));
                    }
                }
            });
        }
    });
    cells.into_inner().unwrap()
}

/// All three hundred tags are listed to whoever asks.
fn lists(Deploy { name: host, but, .. }: &Deploy, authority: &str) {
    let repository = format!("{authority}/many/tags");
    let listed = Crane.crane(&["ls", "--insecure", &repository]).unwrap_or_else(|failure| panic!("{host}: {failure}"));
    assert_eq!(listed.stdout.lines().count(), 300, "{host}: {}", listed.stdout);
    let listed = Skopeo.skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{repository}")]);
    let listed = listed.unwrap_or_else(|failure| panic!("{host}: {failure}"));
    assert_eq!(listed.stdout.matches("\"v").count(), 300, "{host}: {}", listed.stdout);
    let last = Crane.crane(&["digest", "--insecure", &format!("{repository}:v299")]);
    assert!(but.is_some() || last.is_ok_and(|digest| digest.stdout.starts_with("sha256:")), "{host}");
}
