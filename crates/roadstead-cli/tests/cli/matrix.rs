//! Every kind of image, added from real registries, served by `serve` and by nginx, pulled and run by every client.

mod expected;
mod kinds;
mod report;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use roadstead::testing::MemorySource;
use roadstead_parts::{Client, Generation, Nginx, Port, clients};

use crate::support::{Place, push, write_tree};
use expected::{Expected, expected};
use kinds::{Kind, Origin, kinds};
use report::Cell;

/// How a client names what it pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Tag,
    Digest,
}

/// A server over the tree, and what it is asked for.
struct Server {
    name: &'static str,
    authority: String,
    by: &'static [By],
}

#[test]
fn every_client_pulls_every_kind_of_image_from_every_server() {
    let (place, kinds) = (Place::new(), kinds());
    fill(&place, &kinds);

    let (_serve, served) = place.serve(&place.tree());
    let config = |form: &[&str], port: &Port| {
        let listen = port.address().to_string();
        let text = place.run(&[&["config", "nginx", "--listen", &listen], form].concat()).ok();
        text.text().to_owned()
    };
    // The two forms share their rules, so one is asked for tags and the other for digests.
    let port = Port::free();
    let site = Nginx::start_http(&config(&[], &port), port);
    let port = Port::free();
    let standalone = Nginx::start_unprivileged(&config(&["--standalone"], &port), port);
    let servers = [
        Server { name: "serve", authority: served, by: &[By::Tag, By::Digest] },
        Server { name: "nginx (conf.d)", authority: site.authority(), by: &[By::Tag] },
        Server { name: "nginx (standalone)", authority: standalone.authority(), by: &[By::Digest] },
    ];

    let clients = clients();
    let (next, cells) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // A client's pulls come one after the other; as many clients work at a time as there are processors.
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(client) = clients.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = std::time::Instant::now();
                    for kind in &kinds {
                        let cell = Cell::of(*client, kind, &servers);
                        cells.lock().unwrap().push(cell);
                    }
                    eprintln!("{} {:?}", client.name(), started.elapsed());
                }
            });
        }
    });
    report::conclude(&clients.map(Client::name), &kinds, &cells.into_inner().unwrap());
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
                eprintln!("{origin:?} {name}: {taken:?}");
                //assert_eq!(taken.is_ok(), origins.contains(&origin), "{origin:?} and {name}: {taken:?}");
                if !taken.is_ok() {continue;}
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
