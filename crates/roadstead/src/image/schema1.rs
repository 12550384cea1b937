//! Signed manifests of schema 1, made from images of today: the one kind that some clients understand without being told its type.
//!
//! The layers stay the blobs that they are. The history is turned round, each entry with an identifier made of what lies below it,
//! and the last one carries the config without its `rootfs` and `history`; instructions that changed no file name a layer that
//! is empty. Docker wrote the same for engines that knew nothing newer.
//!
//! The signature covers all bytes, and says which those are (`formatLength`, `formatTail`), so that it can stand among them. No
//! client asks who signed. The same image, name and key make the same bytes: the nonce follows from the content (RFC 6979), and
//! the time is that of nothing.
//!
//! Source: Docker, *Image Manifest Version 2, Schema 1*; libtrust's *JSON Signature*; RFC 7515, RFC 7517, and RFC 7518, section 3.4.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::Signature;
use p256::ecdsa::signature::Signer as _;
use serde::Serialize as _;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::convert::runs;
use crate::oci::{Algorithm, Digest, Manifest, ManifestError, Repository, Tag};

/// The layer without a file, as every registry has it: an empty tar archive, compressed by gzip.
pub const EMPTY_LAYER: [u8; 32] = [
    31, 139, 8, 0, 0, 9, 110, 136, 0, 255, 98, 24, 5, 163, 96, 20, 140, 88, 0, 8, 0, 0, 255, 255, 46, 175, 181, 239, 0,
    4, 0, 0,
];

/// When something was made of which nobody knows when.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Why an image has no form in schema 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Schema1Error {
    /// It is an artifact, an index, or whatever else doesn't run.
    #[error("{0} is not an image that runs")]
    NotAnImage(Digest),
    /// It has layers that lie elsewhere.
    #[error("{0} has layers that may not be passed on, and schema 1 can't say where they are")]
    Foreign(Digest),
    /// Its config is none.
    #[error("the config of {image} can't be read")]
    Config {
        /// The image.
        image: Digest,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// What came of it is no manifest, such as one that would be too large.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// The fields of a config that become others.
#[derive(serde::Deserialize)]
struct Config {
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    history: Option<Vec<Instruction>>,
}

#[derive(Default, serde::Deserialize)]
struct Instruction {
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    created_by: Option<String>,
    #[serde(default)]
    author: Option<String>,
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    empty_layer: Option<bool>,
}

impl Instruction {
    fn is_empty(&self) -> bool {
        self.empty_layer == Some(true)
    }
}

/// The signed manifest of an image under a name. Of its layers one may be [`EMPTY_LAYER`].
///
/// # Errors
///
/// [`Schema1Error`] if it has no form there.
pub fn schema1(
    repository: &Repository,
    tag: &Tag,
    image: &Manifest,
    config: &[u8],
    key: &SigningKey,
) -> Result<Manifest, Schema1Error> {
    let digest = *image.digest();
    if !runs(image) {
        return Err(Schema1Error::NotAnImage(digest));
    }
    if image.layers().iter().any(|layer| layer.is_nondistributable()) {
        return Err(Schema1Error::Foreign(digest));
    }
    let unreadable = |source| Schema1Error::Config { image: digest, source };
    let read: Config = serde_json::from_slice(config).map_err(unreadable)?;
    let history = history(read.history.unwrap_or_default(), image.layers().len());
    let mut layers = image.layers().iter();
    let empty = Algorithm::Sha256.digest(&EMPTY_LAYER);
    let (mut fs_layers, mut entries, mut parent) = (Vec::new(), Vec::new(), None::<String>);
    for (position, instruction) in history.iter().enumerate() {
        let blob = if instruction.is_empty() { empty } else { layers.next().map_or(empty, |layer| layer.digest) };
        let below = parent.take();
        let mut seed = format!("{} {}", blob.hex(), below.as_deref().unwrap_or_default()).into_bytes();
        let entry = if position + 1 == history.len() {
            seed.push(b' ');
            seed.extend_from_slice(config);
            let id = Algorithm::Sha256.digest(&seed).hex();
            last_entry(config, &id, below.as_deref(), instruction.is_empty()).map_err(unreadable)?
        } else {
            let id = Algorithm::Sha256.digest(&seed).hex();
            let entry = entry(instruction, &id, below.as_deref());
            parent = Some(id);
            entry
        };
        fs_layers.push(json!({ "blobSum": blob }));
        entries.push(json!({ "v1Compatibility": entry }));
    }
    fs_layers.reverse();
    entries.reverse();
    let payload = pretty(&json!({
        "schemaVersion": 1,
        "name": repository,
        "tag": tag,
        "architecture": read.architecture.unwrap_or_default(),
        "fsLayers": fs_layers,
        "history": entries,
    }));
    Ok(Manifest::parse(key.sign(&payload).into(), Algorithm::Sha256)?)
}

/// What is told of the layers, base first. A history that doesn't fit them tells nothing, and an image without any has at least
/// one entry.
fn history(told: Vec<Instruction>, layers: usize) -> Vec<Instruction> {
    let with_layer = told.iter().filter(|instruction| !instruction.is_empty()).count();
    if !told.is_empty() && with_layer == layers {
        return told;
    }
    let none = layers == 0;
    let made = || Instruction { empty_layer: Some(none), ..Instruction::default() };
    std::iter::repeat_with(made).take(layers.max(1)).collect()
}

fn entry(instruction: &Instruction, id: &str, parent: Option<&str>) -> String {
    let mut entry = json!({ "id": id });
    if let Some(parent) = parent {
        entry["parent"] = parent.into();
    }
    let optional = [("comment", &instruction.comment), ("author", &instruction.author)];
    for (name, text) in optional {
        if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
            entry[name] = text.into();
        }
    }
    entry["created"] = instruction.created.as_deref().unwrap_or(NEVER).into();
    entry["container_config"] = json!({ "Cmd": [instruction.created_by.as_deref().unwrap_or_default()] });
    if instruction.is_empty() {
        entry["throwaway"] = true.into();
    }
    entry.to_string()
}

/// The config, each field as it is written there, but for those that schema 1 says otherwise.
fn last_entry(config: &[u8], id: &str, parent: Option<&str>, throwaway: bool) -> Result<String, serde_json::Error> {
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(config)?;
    fields.retain(|name, _| !["rootfs", "history", "id", "parent", "throwaway"].contains(&&**name));
    fields.insert("id".to_owned(), serde_json::value::to_raw_value(id)?);
    if let Some(parent) = parent {
        fields.insert("parent".to_owned(), serde_json::value::to_raw_value(parent)?);
    }
    if throwaway {
        fields.insert("throwaway".to_owned(), serde_json::value::to_raw_value(&true)?);
    }
    serde_json::to_string(&fields)
}

/// JSON indented by three spaces, as Docker writes it.
pub(crate) fn pretty(value: &Value) -> String {
    let formatter = serde_json::ser::PrettyFormatter::with_indent(INDENT.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(Vec::new(), formatter);
    value.serialize(&mut serializer).expect("a vector takes every write");
    String::from_utf8(serializer.into_inner()).expect("JSON is UTF-8")
}

const INDENT: &str = "   ";

/// A key for signatures: ECDSA over P-256.
pub struct SigningKey(p256::ecdsa::SigningKey);

/// A text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no JSON Web Key of the curve P-256 with its secret part")]
pub struct SigningKeyError;

#[derive(serde::Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    d: String,
}

impl SigningKey {
    /// A key that nobody else has.
    ///
    /// # Panics
    ///
    /// If the system gives no random numbers.
    #[must_use]
    pub fn generate() -> Self {
        let source = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        loop {
            let mut secret = [0; 32];
            source.fill(&mut secret).expect("the system gives random numbers");
            // All but one of four thousand million are below the order of the curve.
            if let Some(key) = Self::from_secret(&secret) {
                return key;
            }
        }
    }

    /// The key with this secret number; `None` if it is none of the curve's.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Option<Self> {
        p256::ecdsa::SigningKey::from_slice(secret).ok().map(Self)
    }

    /// Reads what [`to_jwk`](Self::to_jwk) and libtrust write.
    ///
    /// # Errors
    ///
    /// [`SigningKeyError`], which says nothing of the text.
    pub fn from_jwk(text: &str) -> Result<Self, SigningKeyError> {
        let jwk: Jwk = serde_json::from_str(text).map_err(|_| SigningKeyError)?;
        let secret = URL_SAFE_NO_PAD.decode(jwk.d.trim_end_matches('=')).map_err(|_| SigningKeyError)?;
        let secret = <[u8; 32]>::try_from(secret).map_err(|_| SigningKeyError)?;
        let of_the_curve = jwk.kty == "EC" && jwk.crv == "P-256";
        Self::from_secret(&secret).filter(|_| of_the_curve).ok_or(SigningKeyError)
    }

    /// The key, its secret part too, as a JSON Web Key in a line.
    #[must_use]
    pub fn to_jwk(&self) -> String {
        let mut jwk = self.public();
        jwk["d"] = URL_SAFE_NO_PAD.encode(self.0.to_bytes()).into();
        format!("{jwk}\n")
    }

    /// The public part, with the identifier that libtrust gives it and compares.
    fn public(&self) -> Value {
        // An uncompressed point is 0x04 and the two coordinates.
        let point = self.0.verifying_key().to_sec1_point(false);
        let (x, y) = point.as_bytes()[1..].split_at(32);
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        json!({ "crv": "P-256", "kid": key_id(point.as_bytes()), "kty": "EC", "x": x, "y": y })
    }

    /// Splices a signature into a JSON object that is indented by three spaces, in front of its closing brace.
    pub(crate) fn sign(&self, payload: &str) -> String {
        let head = payload.strip_suffix('}').expect("a JSON object").trim_end();
        let tail = &payload[head.len()..];
        let protected = json!({
            "formatLength": head.len(),
            "formatTail": URL_SAFE_NO_PAD.encode(tail),
            "time": "1970-01-01T00:00:00Z",
        });
        let protected = URL_SAFE_NO_PAD.encode(protected.to_string());
        let signed = format!("{protected}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature: Signature = self.0.sign(signed.as_bytes());
        let signatures = pretty(&json!([{
            "header": { "jwk": self.public(), "alg": "ES256" },
            "signature": URL_SAFE_NO_PAD.encode(signature.to_bytes()),
            "protected": protected,
        }]));
        let signatures = signatures.replace('\n', &format!("\n{INDENT}"));
        format!("{head},\n{INDENT}\"signatures\": {signatures}\n}}")
    }
}

/// libtrust's fingerprint of an uncompressed point: the first 240 bits of the SHA-256 of the key in DER, in twelve groups of
/// base 32.
fn key_id(point: &[u8]) -> String {
    /// `SubjectPublicKeyInfo` of a key on P-256, up to the point.
    const DER: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Algorithm::Sha256.digest(&[&DER, point].concat());
    let groups = digest.as_bytes()[..30].chunks(5).map(|five| {
        let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        (0..8).rev().map(|place| char::from(DIGITS[(bits >> (5 * place)) as usize & 31])).collect::<String>()
    });
    let text: String = groups.collect();
    text.as_bytes().chunks(4).map(|four| String::from_utf8_lossy(four)).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Kind, MediaType};
    use crate::testing::ImageBuilder;

    fn key() -> SigningKey {
        SigningKey::from_secret(&[0x52; 32]).unwrap()
    }

    fn made(config: &str, layers: usize) -> Value {
        let image = (0..layers).fold(ImageBuilder::new(), |image, n| image.layer(format!("layer {n}"))).build();
        let (name, tag) = ("org/app".parse().unwrap(), "1".parse().unwrap());
        let manifest = schema1(&name, &tag, &image.manifest, config.as_bytes(), &key()).unwrap();
        assert_eq!((manifest.kind(), manifest.media_type()), (Kind::Schema1, &MediaType::DOCKER_SCHEMA1));
        serde_json::from_slice(manifest.bytes()).unwrap()
    }

    #[test]
    fn the_empty_layer_is_the_one_that_everybody_has() {
        let digest = Algorithm::Sha256.digest(&EMPTY_LAYER).hex();
        assert_eq!(digest, "a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4");
    }

    #[test]
    fn history_is_turned_round_and_the_config_kept() {
        let config = r#"{"architecture":"amd64","config":{"Cmd":["a"],"N":1.50},"rootfs":{},"history":[
            {"created_by":"ADD base","created":"2026-01-02T03:04:05Z"},{"created_by":"ENV a=b","empty_layer":true,"author":"me"},
            {"created_by":"COPY"}]}"#;
        let manifest = made(config, 2);
        assert_eq!((&manifest["name"], &manifest["tag"]), (&json!("org/app"), &json!("1")));
        let entries: Vec<Value> = manifest["history"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| serde_json::from_str(entry["v1Compatibility"].as_str().unwrap()).unwrap())
            .collect();
        assert_eq!(entries.len(), 3);
        assert_eq!((&entries[0]["parent"], &entries[1]["parent"]), (&entries[1]["id"], &entries[2]["id"]));
        assert_eq!(entries[2].get("parent"), None);
        assert_eq!((&entries[1]["throwaway"], &entries[1]["author"]), (&json!(true), &json!("me")));
        assert_eq!(entries[2]["container_config"]["Cmd"], json!(["ADD base"]));
        assert_eq!(
            (&entries[0]["config"]["Cmd"], entries[0].get("rootfs"), entries[0].get("history")),
            (&json!(["a"]), None, None)
        );
        let text = manifest["history"][0]["v1Compatibility"].as_str().unwrap();
        assert!(text.contains("1.50"), "a number was written anew: {text}");
        let empty = format!("sha256:{}", Algorithm::Sha256.digest(&EMPTY_LAYER).hex());
        assert_eq!(manifest["fsLayers"][1]["blobSum"], json!(empty));
    }

    #[test]
    fn a_history_that_does_not_fit_is_made_up() {
        for (config, layers, entries) in [
            (r#"{}"#, 3, 3),
            (r#"{"history":[]}"#, 1, 1),
            (r#"{"history":[{"empty_layer":true}]}"#, 2, 2),
            (r#"{"history":[{},{},{}]}"#, 2, 2),
        ] {
            let manifest = made(config, layers);
            assert_eq!(manifest["history"].as_array().unwrap().len(), entries, "{config}");
            assert_eq!(manifest["fsLayers"].as_array().unwrap().len(), entries, "{config}");
        }
    }

    #[test]
    fn keys_are_written_and_read() {
        let key = SigningKey::generate();
        let again = SigningKey::from_jwk(&key.to_jwk()).unwrap();
        assert_eq!(again.to_jwk(), key.to_jwk());
        assert_ne!(SigningKey::generate().to_jwk(), key.to_jwk());
        for bad in ["", "{}", r#"{"kty":"EC","crv":"P-256","d":"AA"}"#, &key.to_jwk().replace("P-256", "P-384")] {
            assert!(SigningKey::from_jwk(bad).is_err(), "{bad}");
        }
    }
}
