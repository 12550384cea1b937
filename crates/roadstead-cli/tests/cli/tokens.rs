//! A real registry that wants tokens, and a token service of our own that signs them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use roadstead::http::credentials::{Credential, Credentials};
use roadstead::http::{Client, ClientOptions, EndpointOptions};
use roadstead::image::{Copier, CopyOptions, Event, Events, Sink as _, Source as _};
use roadstead::medium::registry::RegistrySource;
use roadstead::oci::{Reference, Tag};
use roadstead::store::LocalStore;
use roadstead::testing::{FaultServer, ImageBuilder, Reply, TestClock};
use roadstead::tree::Tree;
use roadstead_parts::{Distribution, Folder, Generation};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{Place, State, push};

/// `ann:hunter2`
const BASIC: &str = "Basic YW5uOmh1bnRlcjI=";

/// How long tokens are good for, in seconds.
const LIFETIME: u64 = 60;

fn key() -> SigningKey {
    SigningKey::from_slice(&[0x52; 32]).unwrap()
}

/// The public half, as a set of keys.
fn keys() -> String {
    let point = key().verifying_key().to_sec1_point(false);
    // An uncompressed point is 0x04 and the two coordinates.
    let (x, y) = point.as_bytes()[1..].split_at(32);
    let key = json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "test",
        "x": BASE64.encode(x), "y": BASE64.encode(y) });
    json!({ "keys": [key] }).to_string()
}

/// RFC 7519: a token that lets its holder pull from `app`.
fn token(number: usize, age: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() - age;
    let access = json!([{ "type": "repository", "name": "app", "actions": ["pull"] }]);
    let claims = json!({ "iss": "test", "aud": "test", "sub": "ann", "jti": number.to_string(), "iat": now, "nbf": now,
        "exp": now + LIFETIME, "access": access });
    let part = |part: Value| BASE64.encode(part.to_string());
    let signed = format!("{}.{}", part(json!({ "typ": "JWT", "alg": "ES256", "kid": "test" })), part(claims));
    let signature: Signature = key().sign(signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(signature.to_bytes()))
}

/// A registry with an image of four layers as `app:1.0`, and the service that gives out tokens for it.
struct Scene {
    runtime: Runtime,
    service: FaultServer,
    registry: Distribution,
    given: Arc<AtomicUsize>,
    /// The number of a token that has run out long before it is given, as one has that waited in a queue.
    stale: Arc<Mutex<Option<usize>>>,
    _data: Folder,
}

impl Scene {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (given, stale): (Arc<AtomicUsize>, Arc<Mutex<Option<usize>>>) = Default::default();
        let (count, old) = (Arc::clone(&given), Arc::clone(&stale));
        let service = runtime.block_on(FaultServer::start(move |seen| {
            if seen.header("authorization") != BASIC || !seen.target.contains("scope=repository%3Aapp%3Apull") {
                return Reply::status(401).body(r#"{"details":"incorrect username or password"}"#);
            }
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            let age = if *old.lock().unwrap() == Some(number) { 3600 } else { 0 };
            Reply::ok(json!({ "token": token(number, age), "expires_in": LIFETIME }).to_string())
        }));
        let image = ["one", "two", "three", "four"].into_iter().fold(ImageBuilder::new(), ImageBuilder::layer).build();
        let data = Folder::new();
        push(&Generation::V3.registry().data(data.path()).start().authority(), "app", "1.0", &image).unwrap();
        let (realm, keys) = (service.url("/token"), keys());
        let registry = Generation::V3.registry().data(data.path()).tokens(&realm, &keys).start();
        Self { runtime, service, registry, given, stale, _data: data }
    }
}

#[test]
fn a_registry_with_a_token_service() {
    let (scene, place) = (Scene::new(), Place::new());
    let image = format!("{}/app:1.0", scene.registry.authority());
    for credentials in [&[][..], &["--creds", "ann:hunter3"]] {
        let refused = place.run(&[&["add", "-q", &image], credentials].concat());
        assert_eq!(refused.code(), 4, "{refused}");
        assert!(refused.stderr.contains("incorrect username or password"), "{refused}");
    }
    let added = place.run(&["add", "-q", "--creds", "ann:hunter2", &image]).ok();
    assert!(added.text().starts_with("app:1.0@sha256:"), "{added}");
    assert_eq!(scene.given.load(Ordering::SeqCst), 1, "one token for everything: {:?}", scene.service.lines());
    State::of(&place.tree());
}

/// Lets a minute pass with each blob.
struct Slow(Arc<TestClock>);

impl Events for Slow {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::BlobDone { .. }) {
            self.0.advance(Duration::from_secs(LIFETIME));
        }
    }
}

#[test]
fn tokens_are_renewed_while_a_long_copy_goes_on() {
    // Once by the clock alone; once the registry refuses what the service gave out in the middle.
    for stale in [None, Some(3)] {
        let (scene, place, clock) = (Scene::new(), Place::new(), Arc::new(TestClock::default()));
        *scene.stale.lock().unwrap() = stale;
        let client = Client::new(ClientOptions { clock: clock.clone(), ..ClientOptions::default() }).unwrap();
        let credentials =
            Credentials::only(Credential::Password { username: "ann".to_owned(), password: "hunter2".into() });
        let options = EndpointOptions { credentials, plain_http: false };
        let endpoint = client.endpoint(&scene.registry.authority().parse().unwrap(), options).unwrap();
        let source = RegistrySource::new(endpoint, Vec::new());
        scene.runtime.block_on(async {
            let app = "app".parse().unwrap();
            let store = LocalStore::create(&place.tree()).unwrap().without_sync();
            let sink = Tree::create(Arc::new(store)).await.unwrap().repository(&app).await.unwrap();
            let copier = Copier::new(CopyOptions { jobs: 1, ..CopyOptions::default() }, Arc::new(Slow(clock)));
            let tag: Tag = "1.0".parse().unwrap();
            copier.copy(&*source.repository(&app), &Reference::Tag(tag.clone()), &*sink, &[tag]).await.unwrap();
            sink.finish().await.unwrap();
        });
        // For the manifest and the first blob, for each of the other four, and for the one that was refused.
        let expected = 5 + usize::from(stale.is_some());
        assert_eq!(scene.given.load(Ordering::SeqCst), expected, "{stale:?}: {:?}", scene.service.lines());
        State::of(&place.tree());
    }
}
