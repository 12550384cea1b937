//! Manifests that are none, or more than anybody should read.

use super::*;

#[test]
fn a_size_is_negative() {
    let text = std::str::from_utf8(image().manifest.bytes()).unwrap().replacen("\"size\":", "\"size\":-", 1);
    manifest(
        OCI,
        text,
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
          because: not a manifest: the content is no JSON object of that form
          because: invalid value: integer `-299`, expected u64 at line 1 column 235
        --- exit code 7
    "#]],
    );
}

#[test]
fn a_size_is_absurd() {
    let text = std::str::from_utf8(image().manifest.bytes()).unwrap().replacen(
        "\"size\":",
        "\"size\":99999999999999999999",
        1,
    );
    manifest(
        OCI,
        text,
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
          because: not a manifest: the content is no JSON object of that form
          because: invalid type: floating point `1e+23`, expected u64 at line 1 column 254
        --- exit code 7
    "#]],
    );
    let text =
        std::str::from_utf8(image().manifest.bytes()).unwrap().replacen("\"size\":", "\"size\":9000000000000000", 1);
    manifest(
        OCI,
        text,
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
          because: the manifest gives sha256:<image-config> no size that can be true
        --- exit code 7
    "#]],
    );
}

#[test]
fn a_million_layers() {
    let text = std::str::from_utf8(image().manifest.bytes()).unwrap().to_owned();
    let (before, layers) = text.split_once("\"layers\":[").unwrap();
    let layer = &layers[..=layers.find('}').unwrap()];
    let many = vec![layer; 1_000_000].join(",");
    manifest(
        OCI,
        format!("{before}\"layers\":[{many}]}}"),
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: the manifest of 127.0.0.1:PORT/app:1.0 can't be read from the source
          because: 127.0.0.1:PORT/app:1.0: http://127.0.0.1:PORT/v2/app/manifests/1.0: more than 4194304 bytes came
        --- exit code 7
    "#]],
    );
    let many = vec![layer; 20_000].join(",");
    manifest(
        OCI,
        format!("{before}\"layers\":[{many}]}}"),
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
          because: the manifest names 20000 blobs or manifests: at most 10000 are accepted
        --- exit code 7
    "#]],
    );
}

#[test]
fn a_manifest_is_not_utf_8() {
    let mut bytes = image().manifest.bytes().to_vec();
    bytes[5] = 0xff;
    manifest(
        OCI,
        bytes,
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
          because: not a manifest: the content is not UTF-8
          because: invalid utf-8 sequence of 1 bytes from index 5
        --- exit code 7
    "#]],
    );
}

#[test]
fn json_is_nested_without_end() {
    let text = format!("{{\"schemaVersion\":2,\"x\":{}", "[".repeat(1_000_000));
    manifest(
        OCI,
        text,
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
          because: not a manifest: the content is no JSON object of that form
          because: recursion limit exceeded at line 1 column 150
        --- exit code 7
    "#]],
    );
}

#[test]
fn indexes_are_nested_without_end() {
    let nested = (0..40).fold(image(), |inner, _| IndexBuilder::new().image(inner).build());
    changed(
        &nested,
        expect![[r#"
        $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
        --- stderr
        error: 127.0.0.1:PORT/app:1.0 has indexes nested more than 8 deep
        --- exit code 7
    "#]],
        |_, reply| reply,
    );
}

#[test]
fn media_types_that_are_none() {
    let text = std::str::from_utf8(image().manifest.bytes()).unwrap().to_owned();
    for (media_type, expected) in [
        (
            "text/html",
            expect![[r#"
            $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
            --- stderr
            error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
              because: the manifest names its own media type badly
              because: "text/html" can't be a manifest's media type: expected application/ and a name of RFC 6838, without parameters
            --- exit code 7
        "#]],
        ),
        (
            "application/../../etc/passwd",
            expect![[r#"
            $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
            --- stderr
            error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
              because: the manifest names its own media type badly
              because: "application/../../etc/passwd" can't be a manifest's media type: expected application/ and a name of RFC 6838, without parameters
            --- exit code 7
        "#]],
        ),
        (
            "application/a\\\"b",
            expect![[r#"
            $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
            --- stderr
            error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
              because: the manifest names its own media type badly
              because: "application/a\"b" can't be a manifest's media type: expected application/ and a name of RFC 6838, without parameters
            --- exit code 7
        "#]],
        ),
        (
            "application/a\\r\\nX-Header: b",
            expect![[r#"
            $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
            --- stderr
            error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
              because: the manifest names its own media type badly
              because: "application/a\r\nX-Header: b" can't be a manifest's media type: expected application/ and a name of RFC 6838, without parameters
            --- exit code 7
        "#]],
        ),
        (
            "application/..",
            expect![[r#"
            $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
            --- stderr
            error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
              because: the manifest names its own media type badly
              because: "application/.." can't be a manifest's media type: expected application/ and a name of RFC 6838, without parameters
            --- exit code 7
        "#]],
        ),
    ] {
        manifest(OCI, text.replacen(OCI, media_type, 1), expected);
    }
}

#[test]
fn manifests_that_can_not_be_typed() {
    for (text, expected) in [
        (
            "{}",
            expect![[r#"
            $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
            --- stderr
            error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
              because: the manifest can't be typed: it has neither config and layers, nor manifests
            --- exit code 7
        "#]],
        ),
        (
            "",
            expect![[r#"
            $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
            --- stderr
            error: the manifest of 127.0.0.1:PORT/app:1.0 can't be read from the source
              because: not a manifest: the content is no JSON object of that form
              because: EOF while parsing a value at line 1 column 0
            --- exit code 7
        "#]],
        ),
        (
            "[]",
            expect![[r#"
                $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
                --- stderr
                error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
                  because: not a manifest: the content is no JSON object of that form
                  because: a list where an object is expected
                --- exit code 7
            "#]],
        ),
        (
            r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#,
            expect![[r#"
            $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
            --- stderr
            error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
              because: the manifest is ambiguous: it has both layers and manifests
            --- exit code 7
        "#]],
        ),
        (
            r#"[2,"application/vnd.oci.image.index.v1+json",null,null,null,null,[],null,null,null,null]"#,
            expect![[r#"
                $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
                --- stderr
                error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
                  because: not a manifest: the content is no JSON object of that form
                  because: a list where an object is expected
                --- exit code 7
            "#]],
        ),
        (
            r#"{"schemaVersion":3,"manifests":[]}"#,
            expect![[r#"
            $ roadstead add --quiet 127.0.0.1:PORT/app:1.0
            --- stderr
            error: manifest sha256:<manifest> of 127.0.0.1:PORT/app:1.0 can't be read from the source
              because: the manifest has schemaVersion 3: 1 and 2 are known
            --- exit code 7
        "#]],
        ),
    ] {
        manifest(OCI, text, expected);
    }
}
