use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use roadstead::http::{Client, ClientOptions};
use roadstead::server::State;
use roadstead::testing::{FaultServer, Reply};
use roadstead_parts::{Folder, Invocation, part};
use serde_json::{Value, json};

use crate::support::{Registry, Setup, basic};

const GRANTS: &str = r#"
[[issuer]]
name = "ci"
issuer = "https://ci.example"
audience = "registry.example"
keys = "keys.json"
user = "repository"
where = { ref = "refs/heads/*" }

[[grant]]
users = ["ci:org/*"]
repositories = ["org/**"]
rights = ["pull", "push"]

[[grant]]
users = ["*"]
repositories = ["**"]
rights = ["pull"]
"#;

/// A key of an issuer.
struct Key {
    algorithm: Algorithm,
    key: EncodingKey,
    public: Value,
}

impl Key {
    fn new(algorithm: Algorithm) -> Self {
        let folder = Folder::new();
        let file = |name: &str| folder.join(name).display().to_string();
        let openssl = |arguments: &[&str]| {
            Invocation::new(part::installed("openssl")).args(arguments).run().unwrap();
        };
        let (pem, der) = (file("key.pem"), file("key.der"));
        let read = || fs::read(Path::new(&der)).unwrap();
        let key = match algorithm {
            Algorithm::RS256 => {
                openssl(&["genrsa", "-out", &pem, "2048"]);
                openssl(&["rsa", "-in", &pem, "-traditional", "-outform", "DER", "-out", &der]);
                EncodingKey::from_rsa_der(&read())
            }
            Algorithm::ES256 => {
                let pair = rcgen::KeyPair::generate().unwrap();
                // An uncompressed point is 0x04 and the two coordinates.
                let (x, y) = pair.public_key_raw()[1..].split_at(32);
                let public = json!({ "kty": "EC", "crv": "P-256", "x": BASE64.encode(x), "y": BASE64.encode(y) });
                return Self { algorithm, key: EncodingKey::from_ec_der(pair.serialized_der()), public };
            }
            _ => {
                openssl(&["genpkey", "-algorithm", "ED25519", "-outform", "DER", "-out", &der]);
                EncodingKey::from_ed_der(&read())
            }
        };
        let public = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        Self { algorithm, key, public }
    }

    /// The public half.
    fn public(&self) -> Value {
        let mut key = self.public.clone();
        key["kid"] = self.name().into();
        key["use"] = "sig".into();
        key
    }

    fn name(&self) -> String {
        format!("{:?}", self.algorithm)
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.name()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

fn publish(state: &State, keys: &[&Key]) {
    let mut keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
    // Of a kind that nobody knows here, as sets of keys have them.
    keys.push(json!({ "kty": "XYZ", "kid": "other", "alg": "XY999" }));
    fs::write(state.folder().join("keys.json"), json!({ "keys": keys }).to_string()).unwrap();
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims(change: &[(&str, Value)]) -> Value {
    let mut claims = json!({
        "iss": "https://ci.example", "aud": ["other", "registry.example"], "sub": "repo:org/app:ref:refs/heads/main",
        "repository": "org/app", "ref": "refs/heads/main", "iat": now(), "nbf": now(), "exp": now() + 600,
    });
    for (name, value) in change {
        claims[*name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(*name);
        }
    }
    claims
}

fn registry(keys: &[&Key]) -> Registry {
    Registry::prepared(Setup { grants: GRANTS, ..Setup::default() }, |state| publish(state, keys))
}

#[test]
fn tokens_of_an_issuer_let_in_by_each_way() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let key = Key::new(algorithm);
        let registry = registry(&[&key]);
        let token = key.sign(&claims(&[]));
        // As it is.
        let bearer = format!("Bearer {token}");
        registry.as_who(&bearer, "GET", "/v2/").is(200);
        registry.push(&bearer, "org/app", "1", "one").0.is(201);
        registry.push(&bearer, "org/app", "1", "two").0.refused(403, "DENIED");
        registry.push(&bearer, "other", "1", "one").0.refused(403, "DENIED");
        // As a password, by the issuer's name: `docker login -u ci`.
        let given = registry.ask_token("ci", &token, &["repository:org/app:pull,push", "repository:x:push"]).is(200);
        assert_eq!(given.json()["scope"], "repository:org/app:pull,push");
        let ours = format!("Bearer {}", given.json()["token"].as_str().unwrap());
        registry.push(&ours, "org/app", "2", "one").0.is(201);
        registry.as_who(&basic("ci", &token), "GET", "/v2/org/app/manifests/2").is(200);
        let offline = "/v2/_token?offline_token=true";
        assert_eq!(registry.as_who(&basic("ci", &token), "GET", offline).is(200).json().get("refresh_token"), None);
        registry.ask_token("ann", &token, &[]).refused(401, "UNAUTHORIZED");
        // What we sign lasts no longer than what it was given for.
        let short = key.sign(&claims(&[("exp", (now() + 20).into())]));
        let lasts = registry.ask_token("ci", &short, &[]).is(200).json()["expires_in"].as_u64().unwrap();
        assert!(lasts <= 20, "{lasts}");
    }
}

#[test]
fn tokens_that_are_not_taken() {
    let (key, other) = (Key::new(Algorithm::ES256), Key::new(Algorithm::ES256));
    let registry = registry(&[&key]);
    let part = |value: Value| BASE64.encode(value.to_string());
    let body = part(claims(&[]));
    let public = key.public().to_string();
    let hmac = |secret: &[u8]| {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(&[]), &EncodingKey::from_secret(secret)).unwrap()
    };
    let good = key.sign(&claims(&[]));
    let with = |change: &[(&str, Value)]| key.sign(&claims(change));
    for (what, token) in [
        ("of another key", other.sign(&claims(&[]))),
        ("unsigned", format!("{}.{body}.", part(json!({ "alg": "none", "typ": "JWT" })))),
        ("signed with the public key as a secret", hmac(public.as_bytes())),
        ("of another signature", format!("{}.{body}.{}", good.split('.').next().unwrap(), BASE64.encode([0; 64]))),
        ("of other claims", {
            let parts: Vec<&str> = good.split('.').collect();
            format!("{}.{}.{}", parts[0], part(claims(&[("repository", "org/other".into())])), parts[2])
        }),
        ("of another issuer", with(&[("iss", "https://evil.example".into())])),
        ("for somebody else", with(&[("aud", "other".into())])),
        ("for nobody", with(&[("aud", Value::Null)])),
        ("that has run out", with(&[("exp", (now() - 100).into())])),
        ("without an end", with(&[("exp", Value::Null)])),
        ("whose time hasn't come", with(&[("nbf", (now() + 600).into())])),
        ("of another branch", with(&[("ref", "refs/tags/v1".into())])),
        ("without a branch", with(&[("ref", Value::Null)])),
        ("of nobody", with(&[("repository", Value::Null)])),
        ("of something else", with(&[("repository", 7.into())])),
        ("of a name with a line break", with(&[("repository", "org/app\nx".into())])),
    ] {
        let refused = registry.as_who(&format!("Bearer {token}"), "GET", "/v2/");
        assert_eq!(refused.status, 401, "a token {what}: {}", refused.body);
        assert!(!refused.body.contains(&token), "{what}");
    }
    for bad in ["", "x", &good[..good.len() - 1], "a.b.c"] {
        assert_eq!(registry.ask_token("ci", bad, &[]).status, 401, "{bad}");
    }
    registry.as_who(&format!("Bearer {good}"), "GET", "/v2/").is(200);
    // Somebody else of the same issuer is let in, and may nothing.
    let stranger = format!("Bearer {}", with(&[("repository", "else/app".into())]));
    registry.as_who(&stranger, "GET", "/v2/").is(200);
    registry.push(&stranger, "org/app", "1", "one").0.refused(403, "DENIED");
    registry.as_who(&stranger, "GET", "/v2/org/app/manifests/1").refused(403, "DENIED");
}

#[test]
fn what_a_token_is_limited_to_counts() {
    let key = Key::new(Algorithm::ES256);
    let registry = registry(&[&key]);
    let access = json!([{ "type": "repository", "name": "org/app", "actions": ["pull"] }]);
    let token = key.sign(&claims(&[("access", access)]));
    registry.push(&format!("Bearer {token}"), "org/app", "1", "one").0.refused(401, "UNAUTHORIZED");
    let given = registry.ask_token("ci", &token, &["repository:org/app:pull,push"]).is(200).json();
    assert_eq!(given["scope"], "repository:org/app:pull");
    registry.as_who(&format!("Bearer {token}"), "GET", "/v2/org/app/manifests/1").is(404);
}

#[test]
fn an_issuer_that_is_trusted_no_more() {
    let key = Key::new(Algorithm::ES256);
    let registry = registry(&[&key]);
    let token = key.sign(&claims(&[]));
    let given = registry.ask_token("ci", &token, &["repository:org/app:pull,push"]).is(200).json();
    let ours = format!("Bearer {}", given["token"].as_str().unwrap());
    registry.push(&ours, "org/app", "1", "one").0.is(201);
    fs::write(registry.state.grants(), "").unwrap();
    registry.as_who(&ours, "GET", "/v2/").refused(401, "UNAUTHORIZED");
    registry.as_who(&format!("Bearer {token}"), "GET", "/v2/").refused(401, "UNAUTHORIZED");
}

#[test]
fn keys_that_are_asked_for() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (key, other) = (Key::new(Algorithm::ES256), Key::new(Algorithm::EdDSA));
    let set = json!({ "keys": [key.public()] }).to_string();
    let host = runtime.block_on(FaultServer::start(move |seen| match seen.target.as_str() {
        "/keys" => Reply::ok(set.clone()),
        "/page" => Reply::ok("<html>"),
        _ => Reply::status(404),
    }));
    let at = |place: &str| {
        let grants = GRANTS.replace("keys.json", &host.url(place));
        let client = Some(Client::new(ClientOptions::default()).unwrap());
        Registry::prepared(Setup { client, ..Setup::default() }, |state| fs::write(state.grants(), grants).unwrap())
    };
    let asked = |registry: &Registry, token: &str| registry.as_who(&format!("Bearer {token}"), "GET", "/v2/").status;
    let registry = at("/keys");
    assert!(host.lines().is_empty(), "nobody is asked before a token comes");
    for _ in 0..5 {
        assert_eq!(asked(&registry, &key.sign(&claims(&[]))), 200);
        assert_eq!(asked(&registry, &other.sign(&claims(&[]))), 401);
    }
    assert_eq!(host.lines().len(), 1, "once, whatever comes: {:?}", host.lines());
    for place in ["/page", "/none"] {
        assert_eq!(asked(&at(place), &key.sign(&claims(&[]))), 401, "{place}");
    }
}
