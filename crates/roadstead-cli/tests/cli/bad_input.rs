//! What goes wrong names the side, the image and the digest, ends with the right code, and leaves the tree as it was.

mod manifests;

use bytes::Bytes;
use expect_test::{Expect, expect};
use roadstead::testing::{Image, ImageBuilder, IndexBuilder, Reply, Seen};
use roadstead_parts::{Certificates, Generation};

use crate::support::{Hostile, Place, Ran, State, Words, error, snapshot};

fn image() -> Image {
    ImageBuilder::new().greeting("hello\n").build()
}

/// A place whose tree has something that must not suffer.
fn place() -> Place {
    let place = Place::new();
    place.run(&["add", "-q", &Hostile::honest(&ImageBuilder::new().layer("good").build()).image()]).ok();
    place
}

/// Runs `add`, and checks that the tree is as it was.
#[track_caller]
fn add(place: &Place, arguments: &[&str]) -> Ran {
    let before = State::of(&place.tree()).without_blobs();
    let ran = place.run(&[&["add", "--quiet"], arguments].concat());
    assert_ne!(ran.code(), 0, "{ran}");
    let after = State::of(&place.tree()).without_blobs();
    assert!(before == after, "{:?} became {:?}\n{ran}", before.paths(), after.paths());
    assert_eq!(place.run(&["list", "--flat"]).ok().text(), "app:1.0\n");
    ran
}

/// What `add` says of an image whose registry changes its answers so.
#[track_caller]
fn changed(image: &Image, expected: Expect, change: impl Fn(&Seen, Reply) -> Reply + Send + Sync + 'static) {
    let place = place();
    let registry = Hostile::start(image, change);
    let ran = add(&place, &[&registry.image()]);
    snapshot(&Words::of(&place, &[("image", image)]), &ran, expected);
}

/// What `add` says of a registry whose tag is these bytes, of this type.
#[track_caller]
fn manifest(media_type: &'static str, bytes: impl Into<Bytes>, expected: Expect) {
    let bytes = bytes.into();
    let digest = roadstead::oci::Algorithm::Sha256.digest(&bytes);
    let (place, image) = (place(), image());
    let registry = Hostile::start(&image, move |seen, reply| {
        if !seen.path().contains("/manifests/") {
            return reply;
        }
        Reply::ok(bytes.clone()).header("content-type", media_type).header("docker-content-digest", digest.to_string())
    });
    let ran = add(&place, &[&registry.image()]);
    let mut words = Words::of(&place, &[("image", &image)]);
    words.say(&digest.to_string(), "sha256:<manifest>");
    snapshot(&words, &ran, expected);
}

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn no_such_image() {
    let place = place();
    let registry = Hostile::honest(&image());
    let other = registry.image().replace("/app:", "/other:");
    snapshot(
        &Words::of(&place, &[]),
        &add(&place, &[&other]),
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/other:1.0
        --- stderr
        error: 127.0.0.1:PORT/other:1.0 was not found
          because: http://127.0.0.1:PORT/v2/other/manifests/1.0 answers 404 Not Found
          because: NAME_UNKNOWN: repository name not known to registry
        --- exit code 3
    "#]],
    );
}

#[test]
fn no_such_tag() {
    let place = place();
    let registry = Hostile::honest(&image());
    let other = registry.image().replace(":1.0", ":2.0");
    snapshot(
        &Words::of(&place, &[]),
        &add(&place, &[&other]),
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:2.0
        --- stderr
        error: 127.0.0.1:PORT/app:2.0 was not found
          because: http://127.0.0.1:PORT/v2/app/manifests/2.0 answers 404 Not Found
          because: MANIFEST_UNKNOWN: manifest unknown
        --- exit code 3
    "#]],
    );
}

#[test]
fn no_such_platform() {
    let (place, index) = (place(), IndexBuilder::new().image(image()).build());
    let registry = Hostile::honest(&index);
    let ran = add(&place, &["--platform", "linux/s390x", &registry.image()]);
    snapshot(
        &Words::of(&place, &[("index", &index)]),
        &ran,
        expect![[r#"
        $ roadstead add --quiet --platform linux/s390x 127.0.0.1:PORT/app:1.0
        --- stderr
        error: 127.0.0.1:PORT/app:1.0 has nothing for linux/s390x, only for linux/amd64
        --- exit code 3
    "#]],
    );
}

#[test]
fn nobody_listens() {
    let place = place();
    let port = roadstead_parts::Port::free();
    let ran = add(&place, &[&format!("{}/app:1.0", port.address())]);
    snapshot(
        &Words::of(&place, &[]),
        &ran,
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: the manifest of 127.0.0.1:PORT/app:1.0 can't be read from the source
          because: http://127.0.0.1:PORT/v2/app/manifests/1.0 can't be reached
          because: Connection refused (os error 111)
        --- exit code 6
    "#]],
    );
}

#[test]
fn a_certificate_that_nobody_trusts() {
    let place = place();
    let certificates = Certificates::issue(&["IP:127.0.0.1"]);
    let registry = Generation::V2.registry().tls(&certificates).start();
    let ran = add(&place, &[&format!("{}/app:1.0", registry.authority())]);
    snapshot(
        &Words::of(&place, &[]),
        &ran,
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: the manifest of 127.0.0.1:PORT/app:1.0 can't be read from the source
          because: https://127.0.0.1:PORT/v2/app/manifests/1.0 can't be reached
          because: invalid peer certificate: UnknownIssuer
          hint: to trust its authority, put that certificate as ca.crt into a folder and pass --cert-dir DIR; --tls-verify=false trusts anybody
        --- exit code 6
    "#]],
    );
    // The hint is right: with either, the registry is asked, and has no such image.
    let image = format!("{}/app:1.0", registry.authority());
    let folder = certificates.trusted().to_str().unwrap();
    assert_eq!(add(&place, &["--cert-dir", folder, &image]).code(), 3);
    assert_eq!(add(&place, &["--tls-verify=false", &image]).code(), 3);
}

#[test]
fn a_login_is_wanted() {
    changed(
        &image(),
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: 127.0.0.1:PORT wants a login for 127.0.0.1:PORT/app:1.0
          because: http://127.0.0.1:PORT/v2/app/manifests/1.0 answers 401 Unauthorized
          because: UNAUTHORIZED: authentication required
          hint: log in with `roadstead login 127.0.0.1:PORT`, or pass --creds USER[:PASSWORD]
        --- exit code 4
    "#]],
        |_, _| {
            Reply::challenge("Basic realm=\"here\"")
                .body("{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}")
        },
    );
}

#[test]
fn a_login_is_wrong() {
    let place = place();
    let registry = Generation::V2.registry().users(&[("anna", "secret")]).start();
    let ran = add(&place, &["--creds", "anna:wrong", &format!("{}/app:1.0", registry.authority())]);
    assert!(!ran.to_string().replace("--creds anna:wrong", "").contains("wrong"), "{ran}");
    snapshot(
        &Words::of(&place, &[]),
        &ran,
        expect![[r#"
        $ roadstead add --quiet --creds anna:wrong 127.0.0.1:PORT/app:1.0
        --- stderr
        error: 127.0.0.1:PORT wants a login for 127.0.0.1:PORT/app:1.0
          because: http://127.0.0.1:PORT/v2/app/manifests/1.0 answers 401 Unauthorized
          because: UNAUTHORIZED: authentication required
          hint: log in with `roadstead login 127.0.0.1:PORT`, or pass --creds USER[:PASSWORD]
        --- exit code 4
    "#]],
    );
}

#[test]
fn access_is_denied() {
    changed(
        &image(),
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: 127.0.0.1:PORT denies access to 127.0.0.1:PORT/app:1.0
          because: http://127.0.0.1:PORT/v2/app/manifests/1.0 answers 403 Forbidden
          because: DENIED: requested access to the resource is denied
          hint: the account that is logged in to 127.0.0.1:PORT lacks the right to pull it, or the name is wrong: some registries answer so for what doesn't exist
        --- exit code 5
    "#]],
        |_, _| error(403, "DENIED", "requested access to the resource is denied"),
    );
}

#[test]
fn a_manifest_is_not_what_its_digest_says() {
    changed(
        &image(),
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: manifest sha256:<image> of 127.0.0.1:PORT/app:1.0 can't be read from the source
          because: the manifest's digest is sha256:b05d0cd779dbc654ea6a8c7b8a201c8bf02e632614645b6635b77d8eb759e003, expected sha256:<image>
        --- exit code 7
    "#]],
        |seen, reply| {
            if seen.method == "GET" && seen.path().contains("/manifests/") {
                reply.edit(|bytes| bytes.push(b' '))
            } else {
                reply
            }
        },
    );
}

fn layer_of(image: &Image) -> String {
    format!("/v2/app/blobs/{}", image.manifest.layers()[0].digest)
}

#[test]
fn a_blob_is_too_short() {
    let layer = layer_of(&image());
    changed(
        &image(),
        expect![[r#"
            $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
            --- stderr
            error: 127.0.0.1:PORT/app:1.0 is refused, since the source sent something else: blob sha256:<image-layer-0> ended after 184 bytes, expected 185
            --- exit code 7
        "#]],
        move |seen, reply| {
            if seen.path() == layer { reply.edit(|bytes| bytes.truncate(bytes.len() - 1)) } else { reply }
        },
    );
}

#[test]
fn a_blob_is_too_long() {
    let layer = layer_of(&image());
    changed(
        &image(),
        expect![[r#"
            $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
            --- stderr
            error: 127.0.0.1:PORT/app:1.0 is refused, since the source sent something else: blob sha256:<image-layer-0> is longer than the 185 bytes expected
            --- exit code 7
        "#]],
        move |seen, reply| {
            if seen.path() == layer { reply.edit(|bytes| bytes.push(0)) } else { reply }
        },
    );
}

#[test]
fn a_blob_never_ends() {
    let layer = layer_of(&image());
    changed(
        &image(),
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: 127.0.0.1:PORT/app:1.0 is refused, since the source sent something else: blob sha256:<image-layer-0> is longer than the 185 bytes expected
        --- exit code 7
    "#]],
        move |seen, reply| if seen.path() == layer { reply.endless() } else { reply },
    );
}

#[test]
fn a_blob_has_other_bytes() {
    let layer = layer_of(&image());
    changed(
        &image(),
        expect![[r#"
            $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
            --- stderr
            error: 127.0.0.1:PORT/app:1.0 is refused, since the source sent something else: blob sha256:<image-layer-0> has other bytes than its digest says: they are sha256:93a9c457ed736c265082fdc4b7f1adac0999d9d98e615701578017ff4dc4015d
            --- exit code 7
        "#]],
        move |seen, reply| {
            if seen.path() == layer { reply.edit(|bytes| bytes[0] ^= 1) } else { reply }
        },
    );
}

#[test]
fn a_blob_is_missing() {
    let layer = layer_of(&image());
    changed(
        &image(),
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: blob sha256:<image-layer-0> of 127.0.0.1:PORT/app:1.0 can't be read from the source
          because: 127.0.0.1:PORT/app: blob sha256:<image-layer-0> was not found
          because: http://127.0.0.1:PORT/v2/app/blobs/sha256:<image-layer-0> answers 404 Not Found
          because: BLOB_UNKNOWN: blob unknown to registry
        --- exit code 3
    "#]],
        move |seen, reply| {
            if seen.path() == layer { error(404, "BLOB_UNKNOWN", "blob unknown to registry") } else { reply }
        },
    );
}

#[test]
fn a_registry_that_is_a_website() {
    changed(
        &image(),
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: the manifest of 127.0.0.1:PORT/app:1.0 can't be read from the source
          because: not a manifest: the content is no JSON object of that form (it is an HTML page)
          because: expected value at line 1 column 1
        --- exit code 7
    "#]],
        |_, _| Reply::ok("<!doctype html><title>Welcome</title>").header("content-type", "text/html"),
    );
}
