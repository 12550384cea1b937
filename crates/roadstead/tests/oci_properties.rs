//! What holds for every input: parsing never panics, names survive being written and read again, and two independent readers of
//! the specification agree with ours.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use bytes::Bytes;
use oci_spec::distribution::Reference as OtherReference;
use oci_spec::image::{ImageIndex, ImageManifest};
use proptest::prelude::*;
use roadstead::oci::{
    Algorithm, Digest, ImageReference, Kind, Manifest, MediaType, Platform, Reference, Registry, Repository, Tag,
};
use roadstead::store::Key;
use serde_json::{Value, json};

/// Parses a text, which must not panic; what it accepts is the same after it was written and read again.
fn round_trip<T>(text: &str) -> Result<(), TestCaseError>
where
    T: FromStr<Err: Display> + Display + PartialEq + Debug,
{
    match text.parse::<T>() {
        Ok(value) => {
            let written = value.to_string();
            let read = written.parse::<T>();
            prop_assert!(read.is_ok(), "{text:?} is written {written:?}, which is refused");
            prop_assert_eq!(read.ok(), Some(value));
        }
        Err(error) => prop_assert!(error.to_string().len() < 2_000, "a message of {} bytes", error.to_string().len()),
    }
    Ok(())
}

fn all_round_trips(text: &str) -> Result<(), TestCaseError> {
    round_trip::<Digest>(text)?;
    round_trip::<MediaType>(text)?;
    round_trip::<Platform>(text)?;
    round_trip::<Repository>(text)?;
    round_trip::<Tag>(text)?;
    round_trip::<Reference>(text)?;
    round_trip::<Registry>(text)?;
    round_trip::<ImageReference>(text)?;
    round_trip::<Key>(text)
}

/// Texts that are nearly names: the characters that matter, in any order.
fn nearly_a_name() -> impl Strategy<Value = String> {
    "[a-cA-C0-2.:/@_\\[\\] +%~-]{0,40}"
}

fn digest() -> impl Strategy<Value = String> {
    (any::<Vec<u8>>(), any::<bool>()).prop_map(|(content, long)| {
        let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
        algorithm.digest(&content).to_string()
    })
}

/// Image references that everybody agrees on.
fn image_reference() -> impl Strategy<Value = String> {
    let registry = prop_oneof![
        Just(String::new()),
        "[a-z]{1,8}\\.[a-z]{2,4}/",
        "[a-z]{1,8}(\\.[a-z0-9]{1,5}){1,3}:[1-9][0-9]{0,3}/",
        Just("localhost/".to_owned()),
        Just("localhost:5000/".to_owned()),
        Just("docker.io/".to_owned()),
        Just("index.docker.io/".to_owned()),
    ];
    let repository = "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,5}){0,3}";
    let tag = prop_oneof![Just(String::new()), ":[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}"];
    let digest = prop_oneof![Just(String::new()), digest().prop_map(|digest| format!("@{digest}"))];
    (registry, repository, tag, digest)
        .prop_map(|(registry, repository, tag, digest)| format!("{registry}{repository}{tag}{digest}"))
}

fn descriptor(media_type: &'static str) -> impl Strategy<Value = Value> {
    (digest(), 0..1_u64 << 40, annotations(), any::<bool>()).prop_map(move |(digest, size, annotations, annotated)| {
        let mut descriptor = json!({ "mediaType": media_type, "digest": digest, "size": size });
        if annotated {
            descriptor["annotations"] = annotations;
        }
        descriptor
    })
}

fn annotations() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map(".{0,10}", ".{0,10}", 0..4).prop_map(|annotations| json!(annotations))
}

fn platform() -> impl Strategy<Value = (&'static str, &'static str, Option<&'static str>)> {
    prop_oneof![
        Just(("linux", "amd64", None)),
        Just(("linux", "arm64", None)),
        Just(("linux", "arm", Some("v7"))),
        Just(("linux", "arm", Some("v6"))),
        Just(("linux", "s390x", None)),
        Just(("windows", "amd64", None)),
        Just(("linux", "386", None)),
    ]
}

fn manifest() -> impl Strategy<Value = Value> {
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip");
    (
        descriptor("application/vnd.oci.image.config.v1+json"),
        proptest::collection::vec(layer, 0..5),
        proptest::option::of(descriptor("application/vnd.oci.image.manifest.v1+json")),
        proptest::option::of(annotations()),
        proptest::option::of(Just("application/vnd.example+json")),
        any::<bool>(),
    )
        .prop_map(|(config, layers, subject, annotations, artifact_type, typed)| {
            let mut manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
            if let Some(subject) = subject {
                manifest["subject"] = subject;
            }
            if let Some(annotations) = annotations {
                manifest["annotations"] = annotations;
            }
            if let Some(artifact_type) = artifact_type {
                manifest["artifactType"] = json!(artifact_type);
            }
            if typed {
                manifest["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
            }
            manifest
        })
}

fn index() -> impl Strategy<Value = Value> {
    let entry = (descriptor("application/vnd.oci.image.manifest.v1+json"), proptest::option::of(platform())).prop_map(
        |(mut entry, platform)| {
            if let Some((os, architecture, variant)) = platform {
                entry["platform"] = json!({ "os": os, "architecture": architecture });
                if let Some(variant) = variant {
                    entry["platform"]["variant"] = json!(variant);
                }
            }
            entry
        },
    );
    (proptest::collection::vec(entry, 0..6), any::<bool>()).prop_map(|(manifests, typed)| {
        let mut index = json!({ "schemaVersion": 2, "manifests": manifests });
        if typed {
            index["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
        }
        index
    })
}

/// JSON of any form, with the names that manifests have.
fn nearly_a_manifest() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(1)),
        Just(json!(2)),
        ".{0,8}".prop_map(Value::from),
        digest().prop_map(Value::from),
        proptest::sample::select(MediaType::MANIFESTS.to_vec()).prop_map(|known| json!(known)),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let name = proptest::sample::select(vec![
            "schemaVersion",
            "mediaType",
            "config",
            "layers",
            "blobs",
            "manifests",
            "subject",
            "annotations",
            "fsLayers",
            "signatures",
            "digest",
            "size",
            "platform",
            "blobSum",
            "protected",
            "Layers",
            "x",
        ]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..8)
                .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_parsed_without_panic(text in any::<String>()) {
        all_round_trips(&text)?;
    }

    #[test]
    fn what_is_nearly_a_name_round_trips(text in nearly_a_name()) {
        all_round_trips(&text)?;
    }

    #[test]
    fn digests_round_trip(text in digest()) {
        let parsed: Digest = text.parse().expect("a digest");
        prop_assert_eq!(&parsed.to_string(), &text);
        prop_assert_eq!(serde_json::from_value::<Digest>(json!(text)).ok(), Some(parsed));
    }

    #[test]
    fn platforms_round_trip(text in "[a-zA-Z0-9_.-]{1,9}/[a-zA-Z0-9_.-]{1,9}(/[a-zA-Z0-9_.-]{1,5})?(:[0-9a-z.]{1,9})?") {
        round_trip::<Platform>(&text)?;
    }

    #[test]
    fn a_platform_in_json_can_be_written_on_a_command_line(
        os in any::<String>(), architecture in any::<String>(),
        variant in any::<Option<String>>(), version in any::<Option<String>>(),
    ) {
        let json = json!({ "os": os, "architecture": architecture, "variant": variant, "os.version": version });
        let platform: Platform = serde_json::from_value(json).expect("every platform is read");
        prop_assert_eq!(platform.to_string().parse::<Platform>().ok(), Some(platform));
    }

    #[test]
    fn another_reader_of_image_references_agrees(text in image_reference()) {
        let ours: ImageReference = text.parse().expect("an image reference");
        let other: OtherReference = text.parse().expect("an image reference");
        prop_assert_eq!(ours.repository.as_str(), other.repository());
        prop_assert_eq!(ours.digest.map(|digest| digest.to_string()), other.digest().map(str::to_owned));
        // The other one keeps Docker Hub's older name, and lets `latest` stand beside a digest.
        prop_assert_eq!(ours.registry.as_str(), other.registry().replace("index.docker.io", "docker.io"));
        if ours.digest.is_none() {
            prop_assert_eq!(ours.tag.as_ref().map(Tag::as_str), other.tag());
        }
        round_trip::<ImageReference>(&text)?;
    }

    #[test]
    fn another_reader_of_manifests_agrees(json in manifest()) {
        let bytes = Bytes::from(json.to_string());
        let ours = Manifest::parse(bytes.clone(), Algorithm::Sha256).expect("a manifest");
        let other = ImageManifest::from_reader(&bytes[..]).expect("a manifest");
        prop_assert_eq!(ours.kind(), Kind::Image);
        prop_assert_eq!(ours.media_type(), &MediaType::OCI_MANIFEST);
        let mut pairs = vec![(ours.config().cloned(), Some(other.config().clone()))];
        pairs.push((ours.subject().cloned(), other.subject().clone()));
        prop_assert_eq!(ours.layers().len(), other.layers().len());
        pairs.extend(ours.layers().iter().cloned().map(Some).zip(other.layers().iter().cloned().map(Some)));
        for (ours, other) in pairs {
            prop_assert_eq!(ours.is_some(), other.is_some());
            if let (Some(ours), Some(other)) = (ours, other) {
                prop_assert_eq!(ours.digest.to_string(), other.digest().to_string());
                prop_assert_eq!(ours.size, Some(other.size()));
                prop_assert_eq!(ours.media_type, other.media_type().to_string());
                prop_assert_eq!(ours.annotations.len(), other.annotations().as_ref().map_or(0, |all| all.len()));
            }
        }
        prop_assert_eq!(ours.annotations().len(), other.annotations().as_ref().map_or(0, |all| all.len()));
        let artifact_type = other.artifact_type().as_ref().unwrap_or(other.config().media_type()).to_string();
        prop_assert_eq!(ours.artifact_type(), Some(artifact_type.as_str()));
    }

    #[test]
    fn another_reader_of_indexes_agrees(json in index()) {
        let bytes = Bytes::from(json.to_string());
        let ours = Manifest::parse(bytes.clone(), Algorithm::Sha512).expect("an index");
        let other = ImageIndex::from_reader(&bytes[..]).expect("an index");
        prop_assert_eq!(ours.kind(), Kind::Index);
        prop_assert_eq!(ours.media_type(), &MediaType::OCI_INDEX);
        prop_assert_eq!(ours.manifests().len(), other.manifests().len());
        for (ours, other) in ours.manifests().iter().zip(other.manifests()) {
            prop_assert_eq!(ours.digest.to_string(), other.digest().to_string());
            prop_assert_eq!(ours.size, Some(other.size()));
            let platform = other.platform().as_ref().map(|platform| {
                let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
                Platform::new(&os, &architecture, platform.variant().as_deref(), None)
            });
            prop_assert_eq!(&ours.platform, &platform);
        }
    }

    #[test]
    fn any_bytes_are_parsed_without_panic(bytes in any::<Vec<u8>>()) {
        let _ = Manifest::parse(bytes.into(), Algorithm::Sha256);
    }

    #[test]
    fn what_is_nearly_a_manifest_is_read_in_one_way_or_refused(json in nearly_a_manifest()) {
        let bytes = Bytes::from(json.to_string());
        if let Ok(manifest) = Manifest::parse(bytes.clone(), Algorithm::Sha256) {
            prop_assert_eq!(manifest.bytes(), &bytes);
            prop_assert!(manifest.layers().is_empty() || manifest.manifests().is_empty());
            prop_assert!(manifest.media_type().as_str().starts_with("application/"));
            let again = Manifest::verify(bytes, &manifest.descriptor()).expect("it is what it says");
            prop_assert_eq!(again.media_type(), manifest.media_type());
        }
    }

    #[test]
    fn a_manifest_with_one_byte_changed_is_not_itself(json in manifest(), at in any::<prop::sample::Index>(), mask in 1_u8..) {
        let bytes = Bytes::from(json.to_string());
        let manifest = Manifest::parse(bytes.clone(), Algorithm::Sha256).expect("a manifest");
        let mut other = bytes.to_vec();
        let at = at.index(other.len());
        other[at] ^= mask;
        prop_assert!(Manifest::verify(other.into(), &manifest.descriptor()).is_err());
    }
}
