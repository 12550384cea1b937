//! Several processes that write to one tree at once.

use roadstead::testing::{ImageBuilder, Layer, MemorySource, noise};

use crate::support::{Place, Ran, write_tree};

const WRITERS: usize = 12;

#[test]
fn writers_in_several_processes_lose_nothing_of_each_other() {
    let source = MemorySource::new();
    let base = Layer::new().file("base", noise(1, 300_000), 0o644);
    for writer in 0..WRITERS {
        let own = Layer::new().file("own", noise(100 + writer as u64, 50_000), 0o644);
        let image = ImageBuilder::new().layer(base.clone()).layer(own).build();
        source.add(&format!("app:{writer}"), &image);
    }
    let (upstream, place) = (Place::new(), Place::new());
    write_tree(&upstream.tree(), &source);
    let (_served, authority) = upstream.serve(&upstream.tree());

    // Each writes a tag of a repository that all share, and a repository of its own, with a layer that all share; the
    // tree isn't there yet, so they make it together as well.
    let ran: Vec<Ran> = std::thread::scope(|scope| {
        let add = |writer: usize| {
            let (place, image) = (&place, format!("{authority}/app:{writer}"));
            scope.spawn(move || {
                place.run(&["add", &image, "--tag", &format!("shared:{writer}"), "--tag", &format!("own/{writer}:1")])
            })
        };
        let running: Vec<_> = (0..WRITERS).map(add).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    ran.into_iter().for_each(|ran| drop(ran.ok()));

    let mut names: Vec<String> = (0..WRITERS).flat_map(|w| [format!("shared:{w}"), format!("own/{w}:1")]).collect();
    names.sort_unstable();
    let listed = place.run(&["list", "--flat"]).ok();
    let mut found: Vec<&str> = listed.text().lines().collect();
    found.sort_unstable();
    assert_eq!(found, names);
    // What clients are told is what is there.
    let read = |path: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(place.tree().join(path)).unwrap()).unwrap()
    };
    assert_eq!(read("v2/shared/tags/list")["tags"].as_array().unwrap().len(), WRITERS);
    assert_eq!(read("v2/_catalog")["repositories"].as_array().unwrap().len(), WRITERS + 1);
    let left: Vec<_> = std::fs::read_dir(place.tree().join(".roadstead/tmp")).unwrap().collect();
    assert!(left.is_empty(), "temporary files are left: {left:?}");

    // And what one process removes, another one that still needs it keeps.
    for writer in 1..WRITERS {
        place.run(&["remove", &format!("shared:{writer}"), &format!("own/{writer}:1")]).ok();
    }
    let elsewhere = Place::new();
    let (_served, authority) = place.serve(&place.tree());
    elsewhere.run(&["add", &format!("{authority}/shared:0"), &format!("{authority}/own/0:1")]).ok();
}
