use roadstead::testing::{Reply, noise};
use roadstead_parts::{Certificates, Generation};

use super::*;
use crate::support::Hostile;

fn image() -> Image {
    ImageBuilder::new().greeting("hello\n").build()
}

/// What doctor says of a registry that changes its answers so.
#[track_caller]
fn check(image: &Image, arguments: &[&str], registry: &Hostile, expected: Expect) {
    let place = Place::new();
    let arguments: Vec<String> =
        arguments.iter().map(|argument| argument.replace("REGISTRY", &registry.authority())).collect();
    let ran = place.run(&[&["doctor".to_owned()], &arguments[..]].concat());
    snapshot(&Words::of(&place, &[("image", image)]), &ran, expected);
}

#[test]
fn every_client_pulls_from_serve() {
    let scene = Scene::filled();
    let (_served, authority) = scene.place.serve(&scene.place.tree());
    let mut words = scene.words.clone();
    words.say(&authority, "SERVED");
    snapshot(&words, &scene.place.run(&["doctor", &format!("http://{authority}/base:3.20")]), expect![[""]]);
    // The image is found, and so is the way to speak to loopback.
    let ran = scene.place.run(&["doctor", &authority, "--client", "crane", "--deep"]).ok();
    assert!(ran.text().contains("found in the registry's own lists"), "{ran}");
    let digest = scene.index.digest();
    scene.place.run(&["doctor", &format!("{authority}/base@{digest}")]).ok();
}

#[test]
fn what_is_wrong_and_the_change_that_mends_it() {
    let image = image();
    let registry = Hostile::start(&image, |seen, reply| {
        let reply = reply.header("server", "nginx/1.22.1");
        if seen.path().contains("/manifests/") {
            return reply.without("content-type").header("content-type", "text/plain");
        }
        reply
    });
    check(&image, &["http://REGISTRY/app:1.0"], &registry, expect![[""]]);
    check(&image, &["http://REGISTRY/app:1.0", "--client", "crane"], &registry, expect![[""]]);
    check(&image, &["http://REGISTRY/app:1.0", "--client", "crio", "--format", "json"], &registry, expect![[""]]);
}

#[test]
fn both_halves_of_a_hybrid() {
    let image = image();
    let layer = image.manifest.layers()[0].digest.to_string();
    let bucket = Hostile::start(&image, move |seen, reply| {
        let reply = reply.header("server", "AmazonS3");
        if seen.path().ends_with(&layer) { reply.header("content-encoding", "gzip") } else { reply }
    });
    let authority = bucket.authority();
    let registry = Hostile::start(&image, move |seen, reply| {
        let reply = reply.header("server", "Netlify");
        if seen.path().contains("/blobs/") {
            return Reply::redirect(format!("http://{authority}{}", seen.path()));
        }
        reply
    });
    check(&image, &["http://REGISTRY/app:1.0", "--client", "podman"], &registry, expect![[""]]);
}

#[test]
fn every_byte_if_that_is_asked_for() {
    let image = ImageBuilder::new().layer(noise(7, 300_000)).build();
    let registry = Hostile::start(&image, |seen, reply| {
        if !seen.path().contains("/blobs/") || reply.content().len() < 200_000 {
            return reply;
        }
        reply.edit(|body| *body.last_mut().unwrap() ^= 1)
    });
    let place = Place::new();
    let url = format!("http://{}/app:1.0", registry.authority());
    place.run(&["doctor", &url]).ok();
    let deep = place.run(&["doctor", &url, "--deep", "--client", "oras"]);
    assert_eq!(deep.code(), 9, "{deep}");
    assert!(deep.text().contains("damaged"), "{deep}");
}

#[test]
fn what_is_no_registry() {
    let image = image();
    let site = Hostile::start(&image, |_, _| {
        Reply::status(404).header("content-type", "text/html").body("<!doctype html><p>Nothing here")
    });
    check(&image, &["http://REGISTRY"], &site, expect![[""]]);
    let empty = Hostile::start(&image, |seen, reply| if seen.path() == "/v2/" { reply } else { Reply::status(404) });
    check(&image, &["http://REGISTRY"], &empty, expect![[""]]);
    check(&image, &["http://REGISTRY/app", "--client", "podman"], &empty, expect![[""]]);
}

#[test]
fn a_manifest_without_end() {
    let image = image();
    let registry = Hostile::start(&image, |seen, reply| {
        if !seen.path().ends_with("/1.0") || seen.method == "HEAD" {
            return reply;
        }
        reply.body(vec![b' '; 1 << 20]).endless()
    });
    let place = Place::new();
    let ran = place.run(&["doctor", &format!("http://{}/app:1.0", registry.authority()), "--client", "skopeo"]);
    assert_eq!(ran.code(), 9, "{ran}");
    assert!(ran.text().contains("too-large: GET …/manifests/1.0"), "{ran}");
}

#[test]
fn nobody_answers() {
    let image = image();
    let place = Place::new();
    // Listens, and never says anything.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    snapshot(
        &Words::of(&place, &[("image", &image)]),
        &place.run(&["doctor", &url, "--timeout", "1"]),
        expect![[""]],
    );
    let certificates = Certificates::issue(&["IP:127.0.0.1"]);
    let registry = Generation::V2.registry().tls(&certificates).start();
    let url = format!("https://{}/app:1.0", registry.authority());
    snapshot(&Words::of(&place, &[("image", &image)]), &place.run(&["doctor", &url]), expect![[""]]);
    let trusted = certificates.trusted().to_str().unwrap();
    let ran = place.run(&["doctor", &url, "--cert-dir", trusted]);
    assert_eq!(ran.code(), 9, "it has no such image\n{ran}");
}

#[test]
fn what_can_not_be_asked() {
    let place = Place::new();
    let words = Words::of(&place, &[]);
    let check = |arguments: &[&str], expected: Expect| {
        snapshot(&words, &place.run(&[&["doctor"], arguments].concat()), expected);
    };
    check(&["app"], expect![[""]]);
    check(&["ftp://host.example/app"], expect![[""]]);
    check(&["https://host.example/registry/v2/"], expect![[""]]);
    check(&["https://host.example/app:"], expect![[""]]);
    check(&["https://host.example", "--client", "lynx"], expect![[""]]);
    check(&["https://host.example", "--mirror", "other.example"], expect![[""]]);
}
