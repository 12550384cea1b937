//! Every kind of image, added from real registries, served by `serve`, by nginx and through a host without headers, pulled and
//! run by every client.

mod expected;
mod hosts;
mod kinds;
mod outcome;
mod referrers;
mod report;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use roadstead::testing::MemorySource;
use roadstead_parts::{Client, Containerd, Dockerd, Generation, Nginx, PlainServer, Port, Served, clients};

use crate::support::{Place, push, write_tree};
use kinds::{Kind, Origin, kinds};
use outcome::Cell;

/// How a client names what it pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Tag,
    Digest,
}

/// A server over the tree.
struct Server {
    name: &'static str,
    authority: String,
    says: Says,
}

/// What a server says digests of, without which clients take a SHA-256 of the bytes for the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Nothing,
    /// What a digest names.
    Digests,
    /// What a tag names, too.
    Tags,
}

/// Everything that serves one tree.
struct Servers {
    serve: (Served, String),
    site: Nginx,
    standalone: Nginx,
    _plain: PlainServer,
    upstream: (Served, String),
}

impl Servers {
    fn over(place: &Place) -> Self {
        let config = |form: &[&str], port: &Port| {
            let listen = port.address().to_string();
            place.run(&[&["config", "nginx", "--listen", &listen], form].concat()).ok().text().to_owned()
        };
        let port = Port::free();
        let site = Nginx::start_http(&config(&[], &port), port);
        let port = Port::free();
        let standalone = Nginx::start_unprivileged(&config(&["--standalone"], &port), port);
        let plain = PlainServer::start(&place.tree());
        let upstream = place.serve_upstream(&plain.url());
        Self { serve: place.serve(&place.tree()), site, standalone, _plain: plain, upstream }
    }

    fn list(&self) -> [Server; 4] {
        let server = |name, authority| Server { name, authority, says: Says::Tags };
        let upstream = server("serve --upstream", self.upstream.1.clone());
        [
            server("serve", self.serve.1.clone()),
            server("nginx (conf.d)", self.site.authority()),
            server("nginx (standalone)", self.standalone.authority()),
            Server { says: Says::Digests, ..upstream },
        ]
    }
}

/// Keeps the other matrix away: both put the same images into the same engines, and what one forgets is gone for the other.
pub(crate) fn alone_in_the_engines() -> MutexGuard<'static, ()> {
    static ENGINES: Mutex<()> = Mutex::new(());
    ENGINES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn every_client_pulls_every_kind_of_image_from_every_server() {
    pull_everything(&clients(), "every_client_pulls_every_kind_of_image_from_every_server");
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn the_newest_engines_pull_every_kind_of_image_from_every_server() {
    let (docker, containerd) = (Dockerd::start_29(), Containerd::start_2());
    let cri = containerd.cri();
    pull_everything(&[&docker, &containerd, &cri], "the_newest_engines_pull_every_kind_of_image_from_every_server");
}

fn pull_everything(clients: &[&dyn Client], test: &str) {
    let _alone = alone_in_the_engines();
    let (place, kinds) = (Place::new(), kinds());
    expected::check_names(&kinds.iter().map(|kind| kind.name).collect::<Vec<_>>());
    fill(&place, &kinds);
    let servers = Servers::over(&place);
    let listed = servers.list();

    let (next, cells) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // A client's pulls come one after the other; as many clients work at a time as there are processors.
    let workers = thread::available_parallelism().map_or(2, usize::from).min(clients.len());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(client) = clients.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for kind in &kinds {
                        let cell = Cell::of(*client, kind, &listed);
                        cells.lock().unwrap().push(cell);
                    }
                }
            });
        }
    });
    let names: Vec<&str> = clients.iter().map(|client| client.name()).collect();
    report::conclude(test, &names, &kinds, &cells.into_inner().unwrap());
    for (name, log) in [("conf.d", servers.site.log()), ("standalone", servers.standalone.log())] {
        assert_eq!(log, "", "nginx ({name}) has something to complain about");
    }
}

/// Adds every kind to the place's tree, from every registry that takes it.
fn fill(place: &Place, kinds: &[Kind]) {
    let (old, new) = (Generation::V2.registry().start(), Generation::V3.registry().start());
    let own = Place::new();
    let source = MemorySource::new();
    for kind in kinds {
        source.add(&format!("{}:{}", kind.repository, kind.tag), &kind.image);
    }
    write_tree(&own.tree(), &source);
    let (_serve, serve) = own.serve(&own.tree());

    for origin in Origin::ALL {
        let authority = match origin {
            Origin::Distribution2 => old.authority(),
            Origin::Distribution3 => new.authority(),
            Origin::Serve => serve.clone(),
        };
        let mut images = Vec::new();
        for Kind { name, repository, tag, image, origins, .. } in kinds {
            if origin != Origin::Serve {
                let taken = push(&authority, repository, tag, image);
                assert_eq!(taken.is_ok(), origins.contains(&origin), "{origin:?} and {name}: {taken:?}");
            }
            if origins.contains(&origin) {
                images.push(format!("{authority}/{repository}:{tag}"));
            }
        }
        let added = place.run(&[&["add".to_owned()], &images[..]].concat()).ok();
        for kind in kinds.iter().filter(|kind| kind.origins.contains(&origin)) {
            let line = format!("{}:{}@{}", kind.repository, kind.tag, kind.image.digest());
            assert!(added.text().lines().any(|added| added == line), "{line} is missing\n{added}");
        }
    }
}
