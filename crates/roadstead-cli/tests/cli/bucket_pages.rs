//! The pages about buckets: what they tell to type is typed, as far as it is ours, into a service that stands for the vendor's.

use std::process::Command;

use roadstead::testing::{ImageBuilder, MemorySource};
use roadstead_parts::{BucketServer, Buckets, FakeGcs};

use crate::support::{Place, Ran, write_tree};

/// The lines of a page's first block for a shell that are ours.
fn ours(page: &str, document: &str) -> String {
    let block = document.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let lines: Vec<&str> = block.lines().filter(|line| line.starts_with("roadstead ")).collect();
    assert!(lines.len() > 1, "{page}: {block}");
    lines.join("\n")
}

/// Types lines in a folder, where each of these files is left behind.
fn typed_in(place: &Place, script: &str, variables: &[(&str, &str)], written: &[&str]) {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_roadstead")).parent().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", script]).current_dir(place.path()).env_clear();
    shell.env("PATH", format!("{}:/usr/bin:/bin", program.display())).env("HOME", place.path());
    shell.envs(variables.iter().copied());
    Ran::of(&mut shell).ok();
    for file in written {
        let text = std::fs::read_to_string(place.path().join(file));
        assert!(text.is_ok_and(|text| !text.is_empty()), "{script}: {file} was not written");
    }
}

/// A page about what speaks the S3 API, with the image that it adds in a registry.
fn typed(page: &str, document: &str, written: &[&str]) -> Place {
    let (place, registry) = (Place::new(), Place::new());
    write_tree(&registry.tree(), &alpine(page));
    let (_served, authority) = registry.serve(&registry.tree());
    let buckets = BucketServer::Versitygw.start(&["my-images", "images"]);
    let script = ours(page, document).replace(" alpine:3.20", &format!(" {authority}/alpine:3.20"));
    let url = buckets.url();
    let variables = [
        ("AWS_ENDPOINT_URL", &*url),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", Buckets::ID),
        ("AWS_SECRET_ACCESS_KEY", Buckets::SECRET),
    ];
    typed_in(&place, &script, &variables, written);
    let stored = buckets.calls().iter().any(|(_, key)| key.contains("v2/alpine/manifests/3.20"));
    assert!(stored, "{page}: {:?}", buckets.calls());
    place
}

fn alpine(layer: &str) -> MemorySource {
    let source = MemorySource::new();
    source.add("alpine:3.20", &ImageBuilder::new().layer(layer.to_owned()).build());
    source
}

#[test]
fn s3_as_the_documentation_prints_it() {
    typed("s3", include_str!("../../../../docs/hosts/s3.md"), &["s3.sh"]);
}

#[test]
fn r2_as_the_documentation_prints_it() {
    typed("r2", include_str!("../../../../docs/hosts/r2.md"), &["worker/worker.js", "worker/wrangler.toml"]);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn google_cloud_storage_as_the_documentation_prints_it() {
    let (place, server) = (Place::new(), FakeGcs::start(&["my-images"]));
    write_tree(&place.tree(), &alpine("gcs"));
    let script = ours("gcs", include_str!("../../../../docs/hosts/gcs.md"));
    let script = format!("{script}\nroadstead --tree gs://my-images list --flat > listed\n");
    typed_in(&place, &script, &[("STORAGE_EMULATOR_HOST", &server.url())], &["gcs.sh", "listed"]);
    assert_eq!(std::fs::read_to_string(place.path().join("listed")).unwrap(), "alpine:3.20\n");
}

#[test]
fn cloudfront_as_the_documentation_prints_it() {
    let place = typed("cloudfront", include_str!("../../../../docs/hosts/cloudfront.md"), &["cloudfront.json"]);
    let template = std::fs::read_to_string(place.path().join("cloudfront.json")).unwrap();
    let template: serde_json::Value = serde_json::from_str(&template).unwrap();
    assert_eq!(template["AWSTemplateFormatVersion"], "2010-09-09");
}
