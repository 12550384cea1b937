//! Pushing to real registries.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Method, StatusCode};
use roadstead::http::credentials::{Credential, Credentials};
use roadstead::http::{Endpoint, EndpointOptions, Request, Scope, SystemClock};
use roadstead::image::{Copier, CopyOptions, Silent, Sink, Source};
use roadstead::medium::registry::{RegistrySink, RegistrySource};
use roadstead::oci::{Digest, MediaType, Reference, Repository, Tag};
use roadstead::store::{MemoryStore, Naming};
use roadstead::testing::contract::sink::{self, Limit, Reader, Subject};
use roadstead::testing::{ImageBuilder, Layer, MemorySource, noise};
use roadstead::tree::Tree;
use roadstead_parts::{Distribution, Generation};

use crate::support::{Setup, chain};

/// Asks as any client does.
struct HttpReader(Endpoint);

impl HttpReader {
    async fn get(&self, path: String) -> Option<Bytes> {
        let accept = MediaType::MANIFESTS.iter().map(MediaType::as_str).collect::<Vec<_>>().join(", ");
        let request = Request::new(Method::GET, path, Scope::None);
        let request = request.header(ACCEPT, HeaderValue::from_str(&accept).expect("media types are text"));
        let response = self.0.send(&request).await.expect("the registry answers");
        match response.status() {
            StatusCode::OK => Some(response.bytes(1 << 30).await.expect("the body comes")),
            StatusCode::NOT_FOUND => None,
            other => panic!("{other} for {request:?}"),
        }
    }
}

#[async_trait]
impl Reader for HttpReader {
    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Option<Bytes> {
        self.get(format!("/v2/{repository}/manifests/{reference}")).await
    }

    async fn blob(&self, repository: &Repository, digest: &Digest) -> Option<Bytes> {
        self.get(format!("/v2/{repository}/blobs/{digest}")).await
    }
}

/// Credentials, a large layer, a blob that the registry has already, a signature: there, and back with another program.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn there_and_back() {
    for generation in Generation::ALL {
        let registry = generation.registry().users(&[("user", "secret")]).start();
        let password = Credential::Password { username: "user".to_owned(), password: "secret".into() };
        let endpoint = endpoint_with(&registry, Credentials::only(password));
        let sink = RegistrySink::new(endpoint.clone());
        let large = Layer::new().file("large", noise(3, 20 << 20), 0o644);
        let image = ImageBuilder::new().layer(large).uncompressed().build();
        let signature = ImageBuilder::new().subject(&image.descriptor()).artifact_type("application/x.y").build();
        let source = MemorySource::new();
        source.add("app:1", &image);
        source.add("app", &signature);
        let from = source.repository(&"app".parse().unwrap());
        let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
        let tags: [Tag; 2] = ["1".parse().unwrap(), "latest".parse().unwrap()];
        for name in ["first/app", "second/app"] {
            let to = sink.repository(&name.parse().unwrap()).await.unwrap();
            for (reference, tags) in [(Reference::Tag(tags[0].clone()), &tags[..]), (signature.digest().into(), &[])] {
                let copied = copier.copy(&*from, &reference, &*to, tags).await;
                let copied = copied.unwrap_or_else(|error| panic!("{generation:?}: {}", chain(&error)));
                assert_eq!(copied.changed, !tags.is_empty(), "{generation:?}");
            }
            let from = RegistrySource::new(endpoint.clone(), Vec::new()).repository(&name.parse().unwrap());
            let referrers = from.referrers(&image.digest()).await.unwrap();
            assert_eq!(referrers.iter().map(|r| r.digest).collect::<Vec<_>>(), [signature.digest()], "{generation:?}");
            let back = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
            let repository = back.repository(&"app".parse().unwrap()).await.unwrap();
            let copied = copier.copy(&*from, &Reference::Tag(tags[1].clone()), &*repository, &[]).await.unwrap();
            assert_eq!(copied.descriptor.digest, image.digest(), "{generation:?}");
        }
        let mounted = registry.log().lines().filter(|line| line.contains("?mount=") && line.contains(" 201 ")).count();
        assert_eq!(mounted, 3, "{generation:?}: layer, config, and the signature's one blob");
    }
}

/// With real waits, since what a real registry needs is time.
fn endpoint(registry: &Distribution) -> Endpoint {
    endpoint_with(registry, Credentials::default())
}

fn endpoint_with(registry: &Distribution, credentials: Credentials) -> Endpoint {
    let name = registry.authority().parse().expect("host and port");
    let setup = Setup::with(|options| options.clock = Arc::new(SystemClock));
    setup.client.endpoint(&name, EndpointOptions { credentials, plain_http: false }).expect("a registry")
}

async fn keeps_its_promises(generation: Generation, limits: &'static [Limit]) {
    let registry = generation.registry().start();
    let endpoint = endpoint(&registry);
    let subject = Subject {
        implementation: format!("distribution {generation:?}"),
        sink: Arc::new(RegistrySink::new(endpoint.clone())),
        reader: Arc::new(HttpReader(endpoint)),
        limits,
    };
    sink::run_all(&subject).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn distribution_2() {
    keeps_its_promises(Generation::V2, &[Limit::Signatures, Limit::Sha512, Limit::Sparse]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn distribution_3() {
    keeps_its_promises(Generation::V3, &[Limit::Schema1, Limit::Sha512, Limit::Sparse]).await;
}
