//! Prunes beside a server that is pushed to, each a process of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use roadstead::oci::Algorithm;
use roadstead::testing::{Image, ImageBuilder, Layer, noise};
use roadstead_parts::{Invocation, part};

use crate::support::{Place, push, request};

const PUSHERS: usize = 3;
const IMAGES: usize = 12;

/// An image whose first layer is one of three that all pushers share.
fn image(pusher: usize, number: usize) -> Image {
    let shared = Layer::new().file("shared", noise(number as u64 % 3, 20_000), 0o644);
    ImageBuilder::new().layer(shared).layer(format!("{pusher} {number}")).build()
}

/// Lets three days pass for everything that has a name.
fn age(place: &Place) {
    let find = Invocation::new(part::installed("find")).arg(place.tree().join("v2")).arg(place.tree().join("content"));
    find.args(["-exec", "touch", "-h", "-d", "3 days ago", "{}", "+"]).run().unwrap();
}

/// What a push has brought, or relies on, stays, however old it is and whatever else nobody names; and that goes.
#[test]
fn prunes_beside_pushes_take_nothing_that_a_push_relies_on() {
    let place = Place::new();
    let (_served, authority) = place.serve_pushes();
    let ask = |method: &str, path: &str, body: &[u8]| request(&authority, method, path, "", body).unwrap();
    let location = |repository: &str| {
        let begun = ask("POST", &format!("/v2/{repository}/blobs/uploads/"), b"").expect(202).unwrap();
        begun.header("location").unwrap()
    };
    // Layers of images that are gone, and what nobody will ask for again.
    for number in 0..3 {
        push(&authority, "old", "gone", &image(PUSHERS, number)).unwrap();
        ask("DELETE", &format!("/v2/old/manifests/{}", image(PUSHERS, number).digest()), b"").expect(202).unwrap();
    }
    let garbage = Algorithm::Sha256.digest(b"garbage");
    ask("POST", &format!("/v2/old/blobs/uploads/?digest={garbage}"), b"garbage").expect(201).unwrap();
    age(&place);
    // An upload that goes on while all of this happens.
    let (slow, content) = (location("slow"), noise(9, 40_000));

    let done = AtomicBool::new(false);
    let prunes = thread::scope(|scope| {
        let pruning = scope.spawn(|| {
            let mut prunes = 0;
            while !done.load(Ordering::Relaxed) || prunes == 0 {
                place.run(&["prune", "--untagged"]).ok();
                prunes += 1;
            }
            prunes
        });
        let pushing: Vec<_> = (0..PUSHERS)
            .map(|pusher| {
                let authority = &authority;
                scope.spawn(move || {
                    for number in 0..IMAGES {
                        let (image, repository) = (image(pusher, number), format!("pushed/{pusher}"));
                        // The old one, as long as nobody has taken it away.
                        let shared = image.manifest.layers()[0].digest;
                        let mount = format!("/v2/{repository}/blobs/uploads/?mount={shared}&from=old");
                        request(authority, "POST", &mount, "", b"")?;
                        push(authority, &repository, &number.to_string(), &image)?;
                    }
                    Ok::<(), String>(())
                })
            })
            .collect();
        for piece in content.chunks(4000) {
            ask("PATCH", &slow, piece).expect(202).unwrap();
        }
        let pushed: Vec<Result<(), String>> = pushing.into_iter().map(|pusher| pusher.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        assert_eq!(pushed, vec![Ok(()); PUSHERS]);
        pruning.join().unwrap()
    });
    let digest = Algorithm::Sha256.digest(&content);
    ask("PUT", &format!("{slow}?digest={digest}"), b"").expect(201).unwrap();
    ask("GET", &format!("/v2/old/blobs/{garbage}"), b"").expect(404).unwrap_or_else(|e| panic!("{prunes} prunes: {e}"));
    place.run(&["verify"]).ok();
    let listed = place.run(&["list", "--flat"]).ok();
    assert_eq!(listed.text().lines().count(), PUSHERS * IMAGES, "{listed}");
    // Of the layers each image still has its own and the shared one.
    for pusher in 0..PUSHERS {
        for number in 0..IMAGES {
            for (blob, bytes) in &image(pusher, number).blobs {
                let path = place.tree().join(format!("v2/pushed/{pusher}/blobs/{blob}"));
                assert!(std::fs::read(&path).unwrap() == *bytes, "{}", path.display());
            }
        }
    }
}
