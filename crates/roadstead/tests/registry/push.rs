//! Pushing to real registries.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Method, StatusCode};
use roadstead::http::{Endpoint, EndpointOptions, Request, Scope, SystemClock};
use roadstead::medium::registry::RegistrySink;
use roadstead::oci::{Digest, MediaType, Reference, Repository};
use roadstead::testing::contract::sink::{self, Limit, Reader, Subject};
use roadstead_parts::{Distribution, Generation};

use crate::support::Setup;

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

/// With real waits, since what a real registry needs is time.
fn endpoint(registry: &Distribution) -> Endpoint {
    let name = registry.authority().parse().expect("host and port");
    let setup = Setup::with(|options| options.clock = Arc::new(SystemClock));
    setup.client.endpoint(&name, EndpointOptions::default()).expect("a registry")
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
