//! One and the same tree on every host, pulled by every client.
//!
//! A host that is to join says how it is started over a tree: a line in [`START`]. Each of `roadstead::host::HOSTS` has one,
//! or is named in [`NOT_HERE`] with the reason.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use roadstead::host::HOSTS;
use roadstead_parts::{
    Client, Containerd, Crane, Dockerd, Emulator, Extent, Folder, Nginx, Port, Skopeo, WebServer, clients,
};

use super::expected::{Expected, expected};
use super::kinds::{Kind, kinds};
use super::outcome::Cell;
use super::{Server, alone_in_the_engines, fill, report};
use crate::support::Place;

/// A host that serves the tree of a place, as long as this lives.
struct Deployed {
    authority: String,
    _running: Box<dyn Any + Sync + Send>,
}

impl Deployed {
    fn new(authority: String, running: impl Any + Sync + Send) -> Self {
        Self { authority, _running: Box::new(running) }
    }
}

/// Starts a host over the tree of a place.
type Start = fn(&Place) -> Deployed;

const START: &[(&str, Start)] = &[
    ("serve", |place| {
        let (serve, authority) = place.serve(&place.tree());
        Deployed::new(authority, serve)
    }),
    ("nginx", |place| {
        let port = Port::free();
        let (_, text) = config(place, "nginx", &port).remove(0);
        let nginx = Nginx::start_http(&text, port);
        Deployed::new(nginx.authority(), nginx)
    }),
    ("caddy", |place| web_server(place, "caddy")),
    ("apache", |place| web_server(place, "apache")),
    ("lighttpd", |place| web_server(place, "lighttpd")),
    ("apache-htaccess", |place| {
        let site = Folder::new();
        let to = format!("site:{}", site.join("site").display());
        place.run(&["publish", &to, "--host", "apache-htaccess"]).ok();
        let running = Emulator::SharedHosting.start(&site.join("site"));
        Deployed::new(running.authority(), (running, site))
    }),
];

/// Hosts that aren't started here, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("static-web-server", EMULATED),
    ("cloudflare-pages", EMULATED),
    ("cloudflare-workers", EMULATED),
    ("netlify", EMULATED),
    ("firebase", EMULATED),
    ("azure-static-web-apps", EMULATED),
    ("vercel", "nothing runs its configuration without its vendor"),
    ("r2", "crates/roadstead/tests/site/r2.rs has clients pull from it"),
    ("s3", BUCKET),
    ("cloudfront", "nothing runs it without its vendor; crates/roadstead/tests/site/cloudfront.rs runs its functions"),
    ("github-pages", HEADERLESS),
    ("gitlab-pages", HEADERLESS),
    ("ipfs", HEADERLESS),
    ("compose", SHELL),
    ("kubernetes", SHELL),
    ("systemd", SHELL),
];

const EMULATED: &str = "it takes minutes to install; crates/roadstead/tests/site/hosted.rs has clients pull from it";
const BUCKET: &str = "a policy for a service; crates/roadstead/tests/bucket runs it";
const HEADERLESS: &str =
    "few clients pull from it; `headerless.rs` says which, and that all do through `serve --upstream`";
const SHELL: &str = "it starts serve, nginx or caddy, which are here; that it does is proven in `shells.rs`";

fn web_server(place: &Place, name: &str) -> Deployed {
    let port = Port::free();
    let server = WebServer::start(name, &config(place, name, &port), Extent::Site, port);
    Deployed::new(server.authority(), server)
}

/// The files that `roadstead config` writes, scripts last.
fn config(place: &Place, name: &str, port: &Port) -> Vec<(String, String)> {
    let folder = Folder::new();
    let listen = port.address().to_string();
    let into = folder.path().display().to_string();
    place.run(&["config", name, "--listen", &listen, "--output", &into]).ok();
    let mut files: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect();
    files.sort_by_key(|(name, _)| (name.ends_with(".lua"), name.clone()));
    files
}

/// The kinds that differ to a host: types, names, and what refers to what. How layers are compressed doesn't.
const KINDS: [&str; 9] = [
    "Docker image (v2, schema 2)",
    "OCI image",
    "OCI image without `mediaType`",
    "Docker manifest list",
    "OCI index",
    "OCI index without `mediaType`",
    "tag that ends in `.html`",
    "image with a referrer",
    "artifact with a `subject`",
];

#[test]
fn every_client_pulls_one_tree_from_every_host() {
    pull_from_every_host(&clients(), "every_client_pulls_one_tree_from_every_host");
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn the_newest_clients_pull_one_tree_from_every_host() {
    let (docker, containerd) = (Dockerd::start_29(), Containerd::start_2());
    let cri = containerd.cri();
    pull_from_every_host(&[&docker, &containerd, &cri], "the_newest_clients_pull_one_tree_from_every_host");
}

fn pull_from_every_host(clients: &[&dyn Client], test: &str) {
    let _alone = alone_in_the_engines();
    let known: BTreeSet<&str> = START.iter().map(|(name, _)| *name).chain(NOT_HERE.iter().map(|(n, _)| *n)).collect();
    for host in HOSTS {
        assert!(known.contains(host.name()), "{} is neither started here nor said to be elsewhere", host.name());
    }
    let (place, mut kinds) = (Place::new(), kinds());
    kinds.retain(|kind| KINDS.contains(&kind.name));
    assert_eq!(kinds.len(), KINDS.len(), "a kind has another name");
    // That they run is proven where all kinds are.
    kinds.iter_mut().for_each(|kind| kind.greeting = None);
    fill(&place, &kinds);
    let tags: Vec<String> = (0..300).map(|number| format!("many/tags:v{number:03}")).collect();
    place.run(&[&["tag".to_owned(), "org/team/oci:1.0".to_owned()], &tags[..]].concat()).ok();

    let deployed: Vec<_> = START.iter().map(|(name, start)| (*name, start(&place))).collect();
    for (name, host) in &deployed {
        lists(name, &host.authority);
    }
    let servers: Vec<_> = deployed
        .iter()
        .map(|(name, host)| Server { name, authority: host.authority.clone(), knows_algorithms: true })
        .collect();
    let cells = pull_all(clients, &kinds, &servers);
    let surprises: Vec<_> = cells.iter().flat_map(|(_, _, cell)| &cell.surprises).map(String::as_str).collect();
    assert!(surprises.is_empty(), "{} surprises\n\n{}", surprises.len(), surprises.join("\n\n"));

    let names: Vec<&str> = clients.iter().map(|client| client.name()).collect();
    let mut table = format!("| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for (server, _) in &deployed {
        write!(table, "| {server} |").unwrap();
        for client in &names {
            let mine = cells.iter().filter(|(host, by, _)| host == server && by == client);
            let pulled = mine.filter(|(_, _, cell)| !matches!(cell.expected, Expected::Refuses { .. })).count();
            let can =
                kinds.iter().filter(|kind| !matches!(expected(client, kind.name), Expected::Refuses { .. })).count();
            write!(table, " {pulled} of {can} |").unwrap();
        }
        table.push('\n');
    }
    report::document("hosts/README.md", test, &table);
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
fn lists(host: &str, authority: &str) {
    let repository = format!("{authority}/many/tags");
    let listed = Crane.crane(&["ls", "--insecure", &repository]).unwrap_or_else(|failure| panic!("{host}: {failure}"));
    assert_eq!(listed.stdout.lines().count(), 300, "{host}: {}", listed.stdout);
    let listed = Skopeo.skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{repository}")]);
    let listed = listed.unwrap_or_else(|failure| panic!("{host}: {failure}"));
    assert_eq!(listed.stdout.matches("\"v").count(), 300, "{host}: {}", listed.stdout);
    let last = Crane.crane(&["digest", "--insecure", &format!("{repository}:v299")]);
    assert!(last.is_ok_and(|digest| digest.stdout.starts_with("sha256:")), "{host}");
}
