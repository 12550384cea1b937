//! Every client, engines too, pulls by tag and digest from what `publish` left in a bucket, and from nothing else.

use std::process::Command;

use roadstead::testing::{Image, ImageBuilder, IndexBuilder, MemorySource};
use roadstead_parts::{Azurite, BucketServer, FakeGcs, Nginx, Port, clients};

use crate::matrix::alone_in_the_engines;
use crate::published::Scene;
use crate::published_badly::open_to_all;
use crate::support::{Place, Ran, write_tree};

/// Images that no other test has, so that every client fetches all of them.
fn images(server: &str) -> [(&'static str, Image); 2] {
    let of = |platform: &'static str| {
        ImageBuilder::new().platform(platform).layer(format!("{platform} from {server}")).build()
    };
    let index = ["linux/amd64", "linux/arm64"].map(of).into_iter().fold(IndexBuilder::new(), IndexBuilder::image);
    let tool = ImageBuilder::new().layer("shared").layer(format!("a tool from {server}")).build();
    [("base", index.build()), ("org/tool", tool)]
}

/// Has all clients pull from what lies below a URL. In front is what puts the bucket's name into paths, where a real
/// service has it in the host's name. `publish` is told where that is.
fn every_client_pulls(server: &str, below: &str, images: &[(&str, Image)], publish: impl Fn(&[&str]) -> Ran) {
    let _alone = alone_in_the_engines();
    let port = Port::free();
    let http = format!("server {{ listen {}; location / {{ proxy_pass {below}/; }} }}", port.address());
    let nginx = Nginx::start_http(&http, port);
    let again = publish(&["--check", &nginx.url()]).ok();
    assert!(again.stderr.contains("nothing has changed"), "{again}");
    for client in clients() {
        for (name, image) in images {
            let repository = format!("{}/{name}", nginx.authority());
            let by_tag = client.pull(&format!("{repository}:1"));
            by_tag.unwrap_or_else(|failure| panic!("{server}, {} by tag: {failure}", client.name()));
            client.forget(&format!("{repository}:1")).unwrap();
            let by_digest = client.pull_by_digest(&repository, &image.digest().to_string());
            by_digest.unwrap_or_else(|failure| panic!("{server}, {} by digest: {failure}", client.name()));
        }
    }
}

fn from_buckets_of(server: BucketServer) {
    let images = images(&format!("{server:?}"));
    let named: Vec<_> = images.iter().map(|(name, image)| (format!("{name}:1"), image)).collect();
    let named: Vec<_> = named.iter().map(|(name, image)| (name.as_str(), *image)).collect();
    let scene = Scene::new(server, &named);
    scene.run(&["publish", "s3://images"]).ok();
    open_to_all(&scene);
    let publish = |more: &[&str]| scene.run(&[&["publish", "s3://images"], more].concat());
    every_client_pulls(&format!("{server:?}"), &format!("{}/images", scene.buckets.url()), &images, publish);
}

/// The same from a place of another service that is everybody's to read.
fn from(server: &str, at: &str, below: &str, variables: &[(&'static str, String)]) {
    let (place, source, images) = (Place::new(), MemorySource::new(), images(server));
    images.iter().for_each(|(name, image)| source.add(&format!("{name}:1"), image));
    write_tree(&place.tree(), &source);
    let publish = |more: &[&str]| {
        let mut command: Command = place.command(&[&["publish", at], more].concat());
        Ran::of(command.envs(variables.iter().cloned()))
    };
    publish(&[]).ok();
    every_client_pulls(server, below, &images, publish);
}

#[test]
fn from_versitygw() {
    from_buckets_of(BucketServer::Versitygw);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn from_minio() {
    from_buckets_of(BucketServer::Minio);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn from_azurite() {
    let azurite = Azurite::start(&[]);
    azurite.create_public("public");
    let variables = [
        ("AZURE_STORAGE_SERVICE_ENDPOINT", azurite.url()),
        ("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT.to_owned()),
        ("AZURE_STORAGE_KEY", Azurite::KEY.to_owned()),
    ];
    from("azurite", "az://public", &format!("{}/public", azurite.url()), &variables);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn from_fake_gcs_server() {
    let server = FakeGcs::start(&["public"]);
    let variables = [("STORAGE_EMULATOR_HOST", server.url())];
    from("fake-gcs-server", "gs://public", &format!("{}/public", server.url()), &variables);
}
