use roadstead::testing::{Reply, noise};
use roadstead_parts::{Certificates, Generation, Skopeo};

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
    snapshot(
        &words,
        &scene.place.run(&["doctor", &format!("http://{authority}/base:3.20")]),
        expect![[r#"
        $ roadstead doctor http://SERVED/base:3.20
        http://SERVED/base:3.20
        sha256:<index>
        served by a registry server

        CLIENT                    PULLS   PING   TAG   DIGEST   CHILDREN   BLOBS   RESUME   REFERRERS   TAGS   MISSING
        Docker 20.10              yes     ok     ok    ok       ok         ok      ok       -           ok     ok
        Docker 28+, graph store   yes     ok     ok    ok       ok         ok      ok       -           ok     ok
        containerd 1.6, 1.7       yes     -      ok    ok       ok         ok      ok       -           -      ok
        containerd 2, Docker 29   yes     -      ok    ok       ok         ok      ok       ok          -      ok
        podman, CRI-O             yes     ok     ok    ok       ok         ok      ok       -           ok     ok
        skopeo                    yes     ok     ok    ok       ok         ok      ok       -           ok     ok
        crane, cosign             yes     ok     ok    ok       ok         ok      -        ok          ok     ok
        oras, helm                yes     -      ok    ok       ok         ok      -        ok          ok     ok
        the specification         met     ok     ok    ok       ok         ok      ok       ok          ok     ok

        Every client that was asked about can pull (26 requests).
    "#]],
    );
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
    check(
        &image,
        &["http://REGISTRY/app:1.0"],
        &registry,
        expect![[r#"
        $ roadstead doctor http://127.0.0.1:PORT/app:1.0
        http://127.0.0.1:PORT/app:1.0
        sha256:<image>
        served by nginx

        CLIENT                    PULLS     PING   TAG       DIGEST    CHILDREN   BLOBS   RESUME   REFERRERS   TAGS      MISSING
        Docker 20.10              NO        ok     FAILS 1   FAILS 1   ?          ?       ?        -           FAILS 3   ok
        Docker 28+, graph store   NO        ok     FAILS 1   FAILS 1   ?          ?       ?        -           FAILS 3   ok
        containerd 1.6, 1.7       NO        -      FAILS 1   FAILS 1   ?          ?       ?        -           -         ok
        containerd 2, Docker 29   NO        -      FAILS 1   FAILS 1   ?          ?       ?        ok (2)      -         ok
        podman, CRI-O             NO        ok     FAILS 1   FAILS 1   ?          ?       ?        -           FAILS 3   ok
        skopeo                    NO        ok     FAILS 1   FAILS 1   ?          ?       ?        -           FAILS 3   ok
        crane, cosign             yes       ok     ok        ok        -          ok      -        ok (2)      FAILS 3   ok
        oras, helm                NO        -      FAILS 1   FAILS 1   ?          ?       ?        FAILS 2     FAILS 3   ok
        the specification         not met   ok     FAILS 1   FAILS 1   ?          ?       ?        ok (2)      FAILS 3   ok

         1  type-wrong: GET …/manifests/sha256:<image> has the type text/plain, not application/vnd.oci.image.manifest.v1+json.
            Likewise HEAD …/manifests/1.0, GET …/manifests/1.0, HEAD …/manifests/sha256:<image>.
            Serve the tree with `roadstead config nginx`; by hand: `types {} default_type "";` and `add_header` with the type and the digest that the link's target spells, in the location of manifests.
         2  referrers: GET …/referrers/sha256:<image> is answered 404 with NAME_UNKNOWN, which oras takes for an error.
            Serve an image index, if only an empty one, or answer 404 with a body that is no registry's error.
         3  tags-wrong: GET …/tags/list is answered 404.
            Serve tags/list as the tree has it: `{"name": …, "tags": […]}`.
         4  colon-escaped: GET …/manifests/sha256%3A<image> is answered 404, though every client writes the colon as it is.
            Treat `%3A` as a colon: some proxies write it so.

        These can't pull: Docker 20.10; Docker 28+, graph store; containerd 1.6, 1.7; containerd 2, Docker 29; podman, CRI-O; skopeo; oras, helm (18 requests).
        --- exit code 9
    "#]],
    );
    check(
        &image,
        &["http://REGISTRY/app:1.0", "--client", "crane"],
        &registry,
        expect![[r#"
        $ roadstead doctor http://127.0.0.1:PORT/app:1.0 --client crane
        http://127.0.0.1:PORT/app:1.0
        sha256:<image>
        served by nginx

        CLIENT          PULLS   PING   TAG   DIGEST   CHILDREN   BLOBS   RESUME   REFERRERS   TAGS      MISSING
        crane, cosign   yes     ok     ok    ok       -          ok      -        ok (2)      FAILS 1   ok

         1  tags-wrong: GET …/tags/list is answered 404.
            Serve tags/list as the tree has it: `{"name": …, "tags": […]}`.
         2  referrers: GET …/referrers/sha256:<image> is answered 404, so the fallback tag is asked for.
            Serve an image index, if only an empty one, or answer 404 with a body that is no registry's error.
         3  colon-escaped: GET …/manifests/sha256%3A<image> is answered 404, though every client writes the colon as it is.
            Treat `%3A` as a colon: some proxies write it so.

        Every client that was asked about can pull (18 requests).
    "#]],
    );
    check(
        &image,
        &["http://REGISTRY/app:1.0", "--client", "crio", "--format", "json"],
        &registry,
        expect![[r#"
        $ roadstead doctor http://127.0.0.1:PORT/app:1.0 --client crio --format json
        {
          "url": "http://127.0.0.1:PORT",
          "repository": "app",
          "reference": "1.0",
          "found": false,
          "platform": "linux/amd64",
          "deep": false,
          "pulls": false,
          "clients": [
            {
              "name": "podman",
              "title": "podman, CRI-O",
              "isClient": true,
              "pulls": false,
              "steps": {
                "ping": {
                  "result": "works",
                  "findings": []
                },
                "tag": {
                  "result": "fails",
                  "findings": [
                    0
                  ]
                },
                "digest": {
                  "result": "fails",
                  "findings": [
                    1
                  ]
                },
                "children": {
                  "result": "unknown",
                  "findings": []
                },
                "blobs": {
                  "result": "unknown",
                  "findings": []
                },
                "resume": {
                  "result": "unknown",
                  "findings": []
                },
                "referrers": {
                  "result": "unasked",
                  "findings": []
                },
                "tags": {
                  "result": "fails",
                  "findings": [
                    2
                  ]
                },
                "missing": {
                  "result": "works",
                  "findings": []
                }
              }
            }
          ],
          "requests": 18,
          "findings": [
            {
              "code": "type-wrong",
              "request": "GET …/manifests/1.0",
              "says": "GET …/manifests/1.0 has the type text/plain, not application/vnd.oci.image.manifest.v1+json",
              "remedy": "Serve the tree with `roadstead config nginx`; by hand: `types {} default_type \"\";` and `add_header` with the type and the digest that the link's target spells, in the location of manifests."
            },
            {
              "code": "type-wrong",
              "request": "GET …/manifests/sha256:<image>",
              "says": "GET …/manifests/sha256:<image> has the type text/plain, not application/vnd.oci.image.manifest.v1+json",
              "remedy": "Serve the tree with `roadstead config nginx`; by hand: `types {} default_type \"\";` and `add_header` with the type and the digest that the link's target spells, in the location of manifests."
            },
            {
              "code": "tags-wrong",
              "request": "GET …/tags/list",
              "says": "GET …/tags/list is answered 404",
              "remedy": "Serve tags/list as the tree has it: `{\"name\": …, \"tags\": […]}`."
            },
            {
              "code": "colon-escaped",
              "request": "GET …/manifests/sha256%3A<image>",
              "says": "GET …/manifests/sha256%3A<image> is answered 404, though every client writes the colon as it is",
              "remedy": "Treat `%3A` as a colon: some proxies write it so."
            }
          ],
          "digest": "sha256:<image>",
          "host": "nginx"
        }
        --- exit code 9
    "#]],
    );
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
    check(
        &image,
        &["http://REGISTRY/app:1.0", "--client", "podman"],
        &registry,
        expect![[r#"
        $ roadstead doctor http://127.0.0.1:PORT/app:1.0 --client podman
        http://127.0.0.1:PORT/app:1.0
        sha256:<image>
        served by Netlify
        blobs at http://127.0.0.1:PORT (Amazon S3)

        CLIENT          PULLS   PING   TAG   DIGEST   CHILDREN   BLOBS     RESUME   REFERRERS   TAGS      MISSING
        podman, CRI-O   NO      ok     ok    ok       -          FAILS 1   ok       -           FAILS 2   ok

         1  encoded: GET …/blobs/sha256:<image-layer-0>: Content-Encoding: gzip makes clients unpack what they should not.
            Store the object again without Content-Encoding: `aws s3 cp s3://… s3://… --metadata-directive REPLACE`.
         2  tags-wrong: GET …/tags/list is answered 404.
            Serve tags/list as the tree has it: `{"name": …, "tags": […]}`.
         3  colon-escaped: GET …/manifests/sha256%3A<image> is answered 404, though every client writes the colon as it is.
            Treat `%3A` as a colon: some proxies write it so.

        No client that was asked about can pull (22 requests).
        --- exit code 9
    "#]],
    );
}

#[test]
fn a_login_stays_at_home() {
    let image = image();
    let bucket = Hostile::start(&image, |seen, reply| {
        // As Amazon S3 does, which takes it for a signature of its own.
        if seen.header("authorization").is_empty() { reply } else { Reply::status(400) }
    });
    let authority = bucket.authority();
    let registry = Hostile::start(&image, move |seen, reply| match seen.header("authorization") {
        "Basic dXNlcjpzZWNyZXQ=" if seen.path().contains("/blobs/") => {
            Reply::redirect(format!("http://{authority}{}", seen.path()))
        }
        "Basic dXNlcjpzZWNyZXQ=" => reply,
        _ => Reply::challenge("Basic realm=\"registry\""),
    });
    let place = Place::new();
    let url = format!("http://{}/app:1.0", registry.authority());
    place.run(&["doctor", &url, "--creds", "user:secret"]).ok();
    check(
        &image,
        &["http://REGISTRY/app:1.0", "--client", "podman"],
        &registry,
        expect![[r#"
            $ roadstead doctor http://127.0.0.1:PORT/app:1.0 --client podman
            http://127.0.0.1:PORT/app:1.0

            CLIENT          PULLS   PING   TAG       DIGEST   CHILDREN   BLOBS   RESUME   REFERRERS   TAGS      MISSING
            podman, CRI-O   NO      ok     FAILS 1   ?        ?          ?       ?        -           FAILS 1   -

             1  login: GET …/manifests/1.0 is answered 401.
                Likewise GET …/tags/list.
                Log in with `roadstead login`, or pass --creds; for pulls without a login, let everybody read.

            No client that was asked about can pull (9 requests).
            --- exit code 9
        "#]],
    );
    // Its referrers are answered 404, its tags likewise: no client's pull minds, and the specification does.
    let strict = ["doctor", &url, "--creds", "user:secret", "--client", "crane", "--client", "specification"];
    assert_eq!(place.run(&strict).code(), 9);
    let wrong = place.run(&["doctor", &url, "--creds", "user:wrong", "--client", "oras"]);
    assert_eq!(wrong.code(), 9, "{wrong}");
    assert!(wrong.text().contains("login: GET …/manifests/1.0 is answered 401"), "{wrong}");
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
    check(
        &image,
        &["http://REGISTRY"],
        &site,
        expect![[r#"
        $ roadstead doctor http://127.0.0.1:PORT
        --- stderr
        error: http://127.0.0.1:PORT: this is no registry: GET /v2/ is answered 404 with an HTML page, and GET /v2/_catalog is answered 404 with an HTML page
          hint: Serve the folder `v2` of a tree as /v2/, at the root of the host.
        --- exit code 9
    "#]],
    );
    let empty = Hostile::start(&image, |seen, reply| if seen.path() == "/v2/" { reply } else { Reply::status(404) });
    check(
        &image,
        &["http://REGISTRY"],
        &empty,
        expect![[r#"
        $ roadstead doctor http://127.0.0.1:PORT
        --- stderr
        error: http://127.0.0.1:PORT: no image could be found to ask for: GET /v2/_catalog is answered 404; say which: URL/REPOSITORY:TAG
        --- exit code 3
    "#]],
    );
    let endless = Hostile::start(&image, |seen, reply| {
        if seen.path() == "/v2/_catalog" { Reply::ok(vec![b'a'; 1 << 20]).endless() } else { reply }
    });
    check(
        &image,
        &["http://REGISTRY"],
        &endless,
        expect![[r#"
        $ roadstead doctor http://127.0.0.1:PORT
        --- stderr
        error: http://127.0.0.1:PORT: no image could be found to ask for: GET /v2/_catalog is answered 200 with what is no list; say which: URL/REPOSITORY:TAG
        --- exit code 3
    "#]],
    );
    check(
        &image,
        &["http://REGISTRY/app", "--client", "podman"],
        &empty,
        expect![[r#"
        $ roadstead doctor http://127.0.0.1:PORT/app --client podman
        http://127.0.0.1:PORT/app:latest

        CLIENT          PULLS   PING   TAG       DIGEST   CHILDREN   BLOBS   RESUME   REFERRERS   TAGS      MISSING
        podman, CRI-O   NO      ok     FAILS 1   ?        ?          ?       ?        -           FAILS 2   ok

         1  absent: GET …/manifests/latest is answered 404.
            Put it there, or name another image.
         2  tags-wrong: GET …/tags/list is answered 404.
            Serve tags/list as the tree has it: `{"name": …, "tags": […]}`.

        No client that was asked about can pull (9 requests).
        --- exit code 9
    "#]],
    );
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
        expect![[r#"
            $ roadstead doctor http://127.0.0.1:PORT --timeout 1
            --- stderr
            error: http://127.0.0.1:PORT: GET /v2/ gets no answer within TIME s
              hint: Find out what keeps the host from answering; --timeout waits longer.
            --- exit code 6
        "#]],
    );
    let plain = Hostile::honest(&image);
    snapshot(
        &Words::of(&place, &[("image", &image)]),
        &place.run(&["doctor", &format!("https://{}/app:1.0", plain.authority())]),
        expect![[r#"
            $ roadstead doctor https://127.0.0.1:PORT/app:1.0
            --- stderr
            error: https://127.0.0.1:PORT: GET /v2/ gets no answer: the host speaks no TLS at this port
              hint: Give the host TLS; or ask for http:// here, and tell clients that it has none (`insecure-registries` for docker, `--tls-verify=false` for podman and skopeo).
            --- exit code 6
        "#]],
    );
    let certificates = Certificates::issue(&["IP:127.0.0.1"]);
    let registry = Generation::V2.registry().tls(&certificates).start();
    let url = format!("https://{}/app:1.0", registry.authority());
    snapshot(
        &Words::of(&place, &[("image", &image)]),
        &place.run(&["doctor", &url]),
        expect![[r#"
        $ roadstead doctor https://127.0.0.1:PORT/app:1.0
        --- stderr
        error: https://127.0.0.1:PORT: GET /v2/: TLS fails: invalid peer certificate: UnknownIssuer
          hint: Give the host a certificate that everybody trusts, with all certificates between it and its authority; or hand clients the authority's (`--cert-dir` here, `certs.d` for docker and podman).
        --- exit code 6
    "#]],
    );
    let trusted = certificates.trusted().to_str().unwrap();
    let ran = place.run(&["doctor", &url, "--cert-dir", trusted]);
    assert_eq!(ran.code(), 9, "it has no such image\n{ran}");
}

/// What is wrong with a certificate is said, whoever issued it; no client of these pulls from any of them.
#[test]
fn certificates_that_nobody_should_trust() {
    let place = Place::new();
    for (certificates, trusts, says) in [
        (Certificates::issue(&["IP:127.0.0.1"]), false, "UnknownIssuer"),
        (Certificates::issue(&["DNS:other.example"]), true, "certificate not valid for name"),
        (Certificates::expired(&["IP:127.0.0.1"]), true, "certificate expired"),
    ] {
        let registry = Generation::V2.registry().tls(&certificates).start();
        let (url, trusted) = (format!("{}/app:1.0", registry.url()), certificates.trusted().to_str().unwrap());
        let trust: &[&str] = if trusts { &["--cert-dir", trusted] } else { &[] };
        let ran = place.run(&[&["doctor", &url], trust].concat());
        assert_eq!(ran.code(), 6, "{ran}");
        assert!(ran.stderr.contains("TLS fails: ") && ran.stderr.contains(says), "{says} is not said\n{ran}");
        let image = format!("docker://{}/app:1.0", registry.authority());
        let cert_dir = if trusts { trusted.to_owned() } else { place.path().display().to_string() };
        let refused = Skopeo.skopeo(&["inspect", "--cert-dir", &cert_dir, &image]).unwrap_err().to_string();
        assert!(refused.contains("x509: "), "{refused}");
    }
}

#[test]
fn what_can_not_be_asked() {
    let place = Place::new();
    let words = Words::of(&place, &[]);
    let check = |arguments: &[&str], expected: Expect| {
        snapshot(&words, &place.run(&[&["doctor"], arguments].concat()), expected);
    };
    check(
        &["app"],
        expect![[r#"
        $ roadstead doctor app
        --- stderr
        error: invalid value 'app' for '<URL>': "app" is no URL: write https://HOST[:PORT][/REPOSITORY[:TAG]]

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    check(
        &["ftp://host.example/app"],
        expect![[r#"
        $ roadstead doctor ftp://host.example/app
        --- stderr
        error: invalid value 'ftp://host.example/app' for '<URL>': "ftp://host.example" is no URL that a registry can lie below: it has to begin with https:// or http://

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    check(
        &["https://host.example/registry/v2/"],
        expect![[r#"
        $ roadstead doctor https://host.example/registry/v2/
        --- stderr
        error: invalid value 'https://host.example/registry/v2/' for '<URL>': clients ask for /v2/ at the root of a host, so nothing can be pulled from below a path

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    check(
        &["https://host.example/app:"],
        expect![[r#"
        $ roadstead doctor https://host.example/app:
        --- stderr
        error: invalid value 'https://host.example/app:' for '<URL>': "app:" is no REPOSITORY[:TAG]: "" is not a tag: expected up to 128 letters, digits, _ . and -, the first no . or -

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    check(
        &["https://host.example", "--client", "lynx"],
        expect![[r#"
        $ roadstead doctor https://host.example --client lynx
        --- stderr
        error: invalid value 'lynx' for '--client <NAME>': there are buildah, buildkit, containerd, containerd-1, containerd-2, cosign, crane, cri-o, crio, docker, docker-20.10, docker-28, docker-29, docker-graph, helm, ko, kubernetes, nerdctl, notation, oci, oras, podman, skopeo, specification

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    check(
        &["https://host.example", "--mirror", "other.example"],
        expect![[r#"
        $ roadstead doctor https://host.example --mirror other.example
        --- stderr
        error: --mirror has no meaning here: name the mirror itself
        --- exit code 2
    "#]],
    );
}
