//! Manifests as they are found, and as somebody hostile writes them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use roadstead::oci::{
    Algorithm, Descriptor, Digest, Kind, MAX_BLOB_SIZE, MAX_DESCRIPTORS, MAX_MANIFEST_SIZE, Manifest, ManifestError,
    MediaType,
};
use roadstead::testing::{Format, ImageBuilder};
use serde_json::{Value, json};

fn parse(json: impl Into<Bytes>) -> Result<Manifest, ManifestError> {
    Manifest::parse(json.into(), Algorithm::Sha256)
}

fn parse_value(json: &Value) -> Result<Manifest, ManifestError> {
    parse(json.to_string())
}

fn digest(content: &str) -> Digest {
    Algorithm::Sha256.digest(content.as_bytes())
}

fn entry(content: &str) -> Value {
    json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(content), "size": content.len() })
}

fn image() -> Value {
    json!({ "schemaVersion": 2, "config": entry("config"), "layers": [entry("layer")] })
}

fn index() -> Value {
    json!({ "schemaVersion": 2, "manifests": [entry("child")] })
}

fn schema1() -> Value {
    json!({ "schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [{ "blobSum": digest("layer") }], "history": [] })
}

fn typed(mut json: Value, media_type: &str) -> Value {
    json["mediaType"] = json!(media_type);
    json
}

fn with(mut json: Value, field: &str, value: Value) -> Value {
    json[field] = value;
    json
}

/// The kind of an error, which is what callers tell apart.
fn why(error: &ManifestError) -> &'static str {
    match error {
        ManifestError::TooLarge(_) => "too large",
        ManifestError::Encoding(_) => "encoding",
        ManifestError::Json { .. } => "json",
        ManifestError::MediaType(_) => "media type",
        ManifestError::Untypable => "untypable",
        ManifestError::Ambiguous(_) => "ambiguous",
        ManifestError::SchemaVersion(_) => "schema version",
        ManifestError::TooMany(_) => "too many",
        ManifestError::Size { .. } => "size",
        ManifestError::Schema1(_) => "schema 1",
        ManifestError::Digest { .. } => "digest",
        ManifestError::WrongSize { .. } => "wrong size",
    }
}

fn refused(json: impl Into<Bytes>) -> &'static str {
    let json = json.into();
    match parse(json.clone()) {
        Ok(manifest) => {
            panic!("accepted as {}: {}", manifest.media_type(), String::from_utf8_lossy(&json[..json.len().min(300)]))
        }
        Err(error) => {
            assert!(error.to_string().len() < 1_000, "a message of {} bytes", error.to_string().len());
            why(&error)
        }
    }
}

#[test]
fn the_media_type_is_a_function_of_the_bytes() {
    let (oci, docker) = (MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST);
    let custom: MediaType = "application/vnd.example.thing+json".parse().unwrap();
    for (json, kind, media_type) in [
        (image(), Kind::Image, &oci),
        (typed(image(), oci.as_str()), Kind::Image, &oci),
        (typed(image(), docker.as_str()), Kind::Image, &docker),
        (typed(image(), custom.as_str()), Kind::Image, &custom),
        (typed(image(), "Application/VND.oci.image.MANIFEST.v1+json"), Kind::Image, &oci),
        (typed(image(), ""), Kind::Image, &oci),
        (with(image(), "mediaType", Value::Null), Kind::Image, &oci),
        (index(), Kind::Index, &MediaType::OCI_INDEX),
        (typed(index(), MediaType::OCI_INDEX.as_str()), Kind::Index, &MediaType::OCI_INDEX),
        (typed(index(), MediaType::DOCKER_LIST.as_str()), Kind::Index, &MediaType::DOCKER_LIST),
        (json!({ "manifests": [] }), Kind::Index, &MediaType::OCI_INDEX),
        (schema1(), Kind::Schema1, &MediaType::DOCKER_SCHEMA1_UNSIGNED),
        (
            json!({ "mediaType": MediaType::OCI_ARTIFACT, "blobs": [entry("blob")] }),
            Kind::Image,
            &MediaType::OCI_ARTIFACT,
        ),
        (json!({ "mediaType": MediaType::OCI_ARTIFACT }), Kind::Image, &MediaType::OCI_ARTIFACT),
    ] {
        let parsed = parse_value(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
        assert_eq!((parsed.kind(), parsed.media_type()), (kind, media_type), "{json}");
        assert_eq!(*parsed.digest(), Algorithm::Sha256.digest(json.to_string().as_bytes()), "{json}");
    }
}

#[test]
fn every_named_type_contradicts_every_other_structure() {
    for media_type in MediaType::MANIFESTS {
        let meant = if [MediaType::OCI_INDEX, MediaType::DOCKER_LIST].contains(&media_type) {
            "index"
        } else if media_type.as_str().contains("manifest.v1+") && media_type.as_str().contains("docker") {
            "schema 1"
        } else if media_type == MediaType::OCI_ARTIFACT {
            "artifact"
        } else {
            "image"
        };
        let blobs = json!({ "blobs": [entry("blob")] });
        for (structure, json) in [("image", image()), ("index", index()), ("schema 1", schema1()), ("artifact", blobs)]
        {
            let result = parse_value(&typed(json, media_type.as_str()));
            match result {
                Ok(_) => assert_eq!(structure, meant, "{media_type} was accepted"),
                Err(error) => {
                    assert_ne!(structure, meant, "{media_type}: {error}");
                    assert_eq!(why(&error), "ambiguous", "{media_type} as {structure}");
                }
            }
        }
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for json in [
        with(image(), "manifests", json!([])),
        with(image(), "manifests", json!([entry("x")])),
        with(index(), "layers", json!([])),
        with(index(), "config", entry("x")),
        with(image(), "schemaVersion", json!(1)),
        with(index(), "schemaVersion", json!(1)),
        with(image(), "fsLayers", json!([])),
        with(image(), "blobs", json!([])),
        with(image(), "Layers", json!([])),
        with(image(), "MANIFESTS", json!([])),
        with(image(), "mediatype", json!("application/vnd.oci.image.index.v1+json")),
        with(image(), "layer\u{17f}", json!([])),
        with(image(), "config", with(entry("x"), "Digest", json!(digest("y")))),
        with(image(), "subject", with(entry("x"), "SIZE", json!(5))),
    ] {
        assert_eq!(refused(json.to_string()), "ambiguous", "{json}");
    }
    let twice = |field: &str, value: Value| {
        let json = image().to_string();
        format!("{},\"{field}\":{value}}}", json.strip_suffix('}').unwrap())
    };
    for json in [
        twice("layers", json!([])),
        twice("config", entry("x")),
        twice("schemaVersion", json!(2)),
        format!(r#"{{"manifests":[{{"digest":"{0}","digest":"{0}","size":1}}]}}"#, digest("x")),
        format!(r#"{{"manifests":[{{"digest":"{0}","size":1,"size":2}}]}}"#, digest("x")),
    ] {
        assert_eq!(refused(json.clone()), "json", "{json}");
    }
    // The same field in Unicode escapes is the same field.
    assert_eq!(refused(twice("l\\u0061yers", json!([]))), "json");
}

#[test]
fn what_has_no_type_is_refused() {
    for json in ["{}", r#"{"schemaVersion":2}"#, r#"{"layers":[]}"#, r#"{"config":null,"layers":null}"#] {
        assert_eq!(refused(json), "untypable", "{json}");
    }
    assert_eq!(refused(json!({ "config": entry("x") }).to_string()), "untypable");
    for version in [0, 3, u64::MAX] {
        assert_eq!(refused(with(image(), "schemaVersion", json!(version)).to_string()), "schema version");
    }
}

#[test]
fn what_is_no_manifest_is_refused() {
    for json in [
        "",
        " ",
        "null",
        "[]",
        "1",
        "\"manifest\"",
        "{",
        "{}{}",
        "<!DOCTYPE html><html><body>Sign in</body></html>",
        "\n  <HTML>",
        "\u{feff}{\"manifests\":[]}",
        r#"{"manifests":{}}"#,
        r#"{"manifests":[null]}"#,
        r#"{"manifests":[1]}"#,
        r#"{"manifests":[{}]}"#,
        r#"{"manifests":[],}"#,
        r#"{"manifests":[],"annotations":[]}"#,
        r#"{"manifests":[],"annotations":{"a":1}}"#,
        r#"{"manifests":[],"schemaVersion":"2"}"#,
        r#"{"manifests":[],"schemaVersion":-2}"#,
        r#"{"manifests":[],"mediaType":5}"#,
        r#"{"manifests":[],"x":1e}"#,
    ] {
        assert_eq!(refused(json.to_owned()), "json", "{json}");
    }
    let html = parse("<html>").unwrap_err().to_string();
    assert!(html.contains("HTML page"), "{html}");
}

#[test]
fn nulls_are_absent() {
    let json = with(with(image(), "manifests", Value::Null), "annotations", Value::Null);
    let json = with(with(json, "subject", Value::Null), "artifactType", Value::Null);
    let parsed = parse_value(&json).unwrap();
    assert_eq!(parsed.kind(), Kind::Image);
    assert!(parsed.subject().is_none() && parsed.annotations().is_empty());
    let child = with(with(entry("x"), "annotations", Value::Null), "platform", Value::Null);
    assert!(parse_value(&json!({ "manifests": [child] })).is_ok());
}

#[test]
fn media_types_that_could_hurt_are_refused() {
    for hostile in [
        "text/html",
        "text/html; charset=utf-8",
        "application/json; charset=utf-8",
        "..",
        "../..",
        "application/..",
        "application/../../../etc",
        "application/a/b",
        "application/\"quoted\"",
        "application/'quoted'",
        "application/x\r\nSet-Cookie: a=b",
        "application/x\n",
        "application/x\0",
        "application/%2e%2e",
        "application/ x",
        "application\\x",
        "/etc/passwd",
        "application/é",
        "APPLICATION",
        &format!("application/{}", "a".repeat(1_000_000)),
    ] {
        assert_eq!(refused(typed(image(), hostile).to_string()), "media type", "{hostile:.50?}");
        assert_eq!(refused(typed(index(), hostile).to_string()), "media type", "{hostile:.50?}");
    }
}

#[test]
fn sizes_are_bounded() {
    let sized = |size: &str| format!(r#"{{"manifests":[{{"digest":"{}","size":{size}}}]}}"#, digest("x"));
    for size in ["-1", "1.5", "1e3", "18446744073709551616", "\"5\"", "99999999999999999999999999", "NaN"] {
        assert_eq!(refused(sized(size)), "json", "{size}");
    }
    for size in ["null", "18446744073709551615", "9223372036854775807", &(MAX_BLOB_SIZE + 1).to_string()] {
        assert_eq!(refused(sized(size)), "size", "{size}");
    }
    for size in ["0", "5", &MAX_BLOB_SIZE.to_string()] {
        assert!(parse(sized(size)).is_ok(), "{size}");
    }
    for field in ["config", "subject"] {
        let bad = with(image(), field, json!({ "mediaType": "a", "digest": digest("x"), "size": MAX_BLOB_SIZE + 1 }));
        assert_eq!(refused(bad.to_string()), "size", "{field}");
    }
}

#[test]
fn numbers_of_descriptors_are_bounded() {
    let many = |count: usize| {
        let entry = json!({ "digest": digest("x"), "size": 1 });
        json!({ "manifests": vec![entry; count] }).to_string()
    };
    assert_eq!(parse(many(MAX_DESCRIPTORS)).unwrap().manifests().len(), MAX_DESCRIPTORS);
    assert_eq!(refused(many(MAX_DESCRIPTORS + 1)), "too many");
    let layers = vec![json!({ "digest": digest("x"), "size": 1 }); MAX_DESCRIPTORS + 1];
    assert_eq!(refused(with(image(), "layers", json!(layers)).to_string()), "too many");
}

#[test]
fn the_size_of_a_manifest_is_bounded() {
    let limit = usize::try_from(MAX_MANIFEST_SIZE).unwrap();
    let padded = |length: usize| {
        let json = index().to_string();
        format!("{json}{}", " ".repeat(length - json.len()))
    };
    assert!(parse(padded(limit)).is_ok());
    assert_eq!(refused(padded(limit + 1)), "too large");
}

#[test]
fn only_utf_8_is_read() {
    for place in [r#"{"manifests":[],"x":"?"}"#, r#"{"manifests":[],"?":1}"#, r#"{"manifests":[],"mediaType":"?"}"#] {
        for hostile in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"] {
            let (before, after) = place.split_once('?').unwrap();
            let json = [before.as_bytes(), hostile, after.as_bytes()].concat();
            assert_eq!(refused(json), "encoding", "{hostile:x?} in {place}");
        }
    }
    // Half of a surrogate pair, escaped, is no text either.
    assert_eq!(refused(r#"{"manifests":[],"annotations":{"a":"\ud800"}}"#), "json");
}

#[test]
fn nesting_is_bounded_in_every_field() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        for field in ["x", "annotations", "config", "platform", "manifests"] {
            let nested = format!(r#"{{"manifests":[],"{field}":{}1{}}}"#, open.repeat(200_000), close.repeat(200_000));
            assert_eq!(refused(nested), "json", "{field}");
        }
        // Never closed: the end must not be looked for.
        assert_eq!(refused(format!(r#"{{"x":{}"#, open.repeat(500_000))), "json");
    }
}

#[test]
fn digests_that_can_not_be_verified_are_refused() {
    for hostile in ["", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../x", "sha384:00"] {
        assert_eq!(
            refused(json!({ "manifests": [{ "digest": hostile, "size": 1 }] }).to_string()),
            "json",
            "{hostile}"
        );
    }
}

#[test]
fn the_view_keeps_what_copying_needs() {
    let json = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_INDEX,
        "artifactType": "application/vnd.example",
        "subject": entry("subject"),
        "annotations": { "a": "b" },
        "manifests": [
            with(typed(entry("1"), MediaType::OCI_MANIFEST.as_str()), "platform", json!({ "os": "linux", "architecture": "arm64", "variant": "v8" })),
            typed(entry("2"), MediaType::OCI_INDEX.as_str()),
            typed(entry("3"), "application/vnd.oci.image.layer.v1.tar"),
        ],
        "unknown": { "kept": true },
    });
    let parsed = parse_value(&json).unwrap();
    assert_eq!(parsed.bytes(), json.to_string().as_bytes());
    assert_eq!(parsed.children().map(|child| child.digest).collect::<Vec<_>>(), [digest("1"), digest("2")]);
    assert_eq!(parsed.blobs().map(|blob| blob.digest).collect::<Vec<_>>(), [digest("3")]);
    assert_eq!(parsed.subject().unwrap().digest, digest("subject"));
    assert_eq!(parsed.artifact_type(), Some("application/vnd.example"));
    assert_eq!(parsed.annotations()["a"], "b");
    assert_eq!(parsed.manifests()[0].platform.as_ref().unwrap().to_string(), "linux/arm64");

    let image = parse_value(&image()).unwrap();
    assert_eq!(image.blobs().map(|blob| blob.digest).collect::<Vec<_>>(), [digest("config"), digest("layer")]);
    assert_eq!(image.artifact_type(), Some("application/vnd.oci.image.layer.v1.tar"), "the config's media type");
}

#[test]
fn a_manifest_is_the_one_that_was_asked_for() {
    let bytes = Bytes::from(image().to_string());
    for algorithm in Algorithm::ALL {
        let right = Manifest::parse(bytes.clone(), algorithm).unwrap().descriptor();
        assert!(Manifest::verify(bytes.clone(), &right).is_ok());
        let unsized_ = Descriptor { size: None, ..right.clone() };
        assert!(Manifest::verify(bytes.clone(), &unsized_).is_ok());
        let longer = Descriptor { size: right.size.map(|size| size + 1), ..right.clone() };
        assert_eq!(why(&Manifest::verify(bytes.clone(), &longer).unwrap_err()), "wrong size");
        let spaced = [&bytes[..], b" "].concat();
        assert_eq!(why(&Manifest::verify(spaced.into(), &right).unwrap_err()), "digest");
        let other = Descriptor { digest: algorithm.digest(b"other"), ..right };
        assert_eq!(why(&Manifest::verify(bytes.clone(), &other).unwrap_err()), "digest");
    }
}

/// A signed manifest around `payload`, whose signature says that it covers `length` bytes and `tail`.
fn signed(payload: &str, length: usize, tail: &str) -> String {
    let protected = json!({ "formatLength": length, "formatTail": URL_SAFE_NO_PAD.encode(tail) }).to_string();
    let signature = json!([{ "protected": URL_SAFE_NO_PAD.encode(protected), "signature": "" }]);
    format!("{},\"signatures\":{signature}}}", payload.strip_suffix('}').expect("a JSON object"))
}

#[test]
fn a_signed_manifest_is_named_by_its_payload() {
    let image = ImageBuilder::new().layer("base").layer("top").format(Format::Schema1Signed).build();
    assert_eq!(image.manifest.kind(), Kind::Schema1);
    assert_eq!(image.manifest.media_type(), &MediaType::DOCKER_SCHEMA1);
    assert_eq!(image.manifest.layers().len(), 2);
    assert!(image.manifest.layers().iter().all(|layer| layer.size.is_none()));
    let payload = schema1().to_string();
    let parsed = parse(signed(&payload, payload.len() - 1, "}")).unwrap();
    assert_eq!(*parsed.digest(), digest(&payload));
}

#[test]
fn a_signature_can_not_lend_content_the_digest_of_other_content() {
    let (payload, wanted) = (schema1().to_string(), image().to_string());
    let length = payload.len() - 1;
    for (covered, tail) in [
        // A payload that the signature brings along, whole or nearly so.
        (0, wanted.as_str()),
        (1, &wanted[1..]),
        // Fields behind what is covered.
        (length - 10, "}"),
        (length, ",\"x\":1}"),
        (length, ""),
        (length, "}}"),
        (length + 1, "}"),
        (1 << 20, "}"),
        (usize::MAX, "}"),
    ] {
        assert_eq!(refused(signed(&payload, covered, tail)), "schema 1", "{covered} {tail}");
    }
    // Something besides the signatures behind what is covered: it would count, and nobody signed it.
    let more = signed(&payload, length, "}").replace(",\"signatures\"", ",\"more\":[],\"signatures\"");
    assert_eq!(refused(more), "schema 1");
    let after = signed(&payload, length, "}");
    assert_eq!(refused(format!("{},\"more\":1}}", after.strip_suffix('}').unwrap())), "schema 1");
}

#[test]
fn signatures_that_can_not_be_read_are_refused() {
    let with_signatures = |signatures: Value| with(schema1(), "signatures", signatures).to_string();
    assert_eq!(refused(with_signatures(json!([{}]))), "json");
    assert_eq!(refused(with_signatures(json!([{ "protected": "!" }]))), "schema 1");
    assert_eq!(refused(with_signatures(json!([{ "protected": URL_SAFE_NO_PAD.encode("{}") }]))), "schema 1");
    for length in ["-1", "1.5", "\"1\"", "18446744073709551616"] {
        let protected = format!(r#"{{"formatLength":{length},"formatTail":"fQ"}}"#);
        assert_eq!(refused(with_signatures(json!([{ "protected": URL_SAFE_NO_PAD.encode(protected) }]))), "schema 1");
    }
    // No signatures at all is an unsigned manifest.
    let unsigned = parse(with_signatures(json!([]))).unwrap();
    assert_eq!(unsigned.media_type(), &MediaType::DOCKER_SCHEMA1_UNSIGNED);
}
