//! What the tests of this file share.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use roadstead::http::credentials::Credentials;
use roadstead::http::{Client, ClientOptions, EndpointOptions, Timeouts};
use roadstead::image::{RepositorySource, Source, SourceError};
use roadstead::medium::registry::RegistrySource;
use roadstead::oci::Descriptor;
use roadstead::testing::{FaultServer, Image, Reply, Seen, TestClock};

/// A client whose waits take no time.
pub(crate) struct Setup {
    pub(crate) client: Client,
    pub(crate) clock: Arc<TestClock>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut ClientOptions)) -> Self {
        let clock = Arc::new(TestClock::default());
        let timeouts = Timeouts { stall: Duration::from_millis(300), ..Timeouts::default() };
        let mut options = ClientOptions { clock: clock.clone(), timeouts, ..ClientOptions::default() };
        change(&mut options);
        Self { client: Client::new(options).expect("these settings are sound"), clock }
    }

    /// A server as a registry, without credentials.
    pub(crate) fn source(&self, server: &FaultServer) -> RegistrySource {
        self.source_with(server, Credentials::default())
    }

    pub(crate) fn source_with(&self, server: &FaultServer, credentials: Credentials) -> RegistrySource {
        let registry = server.authority().parse().expect("host and port");
        let options = EndpointOptions { credentials, plain_http: false };
        RegistrySource::new(self.client.endpoint(&registry, options).expect("a registry"), Vec::new())
    }

    /// The repository `app` of a server.
    pub(crate) fn app(&self, server: &FaultServer) -> Box<dyn RepositorySource> {
        self.source(server).repository(&"app".parse().expect("a name"))
    }
}

/// What a sound registry answers that has one image under the tag `1` in the repository `app`.
pub(crate) fn registry_of(image: &Image, seen: &Seen) -> Reply {
    let Some(path) = seen.path().strip_prefix("/v2/app/") else {
        return Reply::status(if seen.path() == "/v2/" { 200 } else { 404 });
    };
    if path == "tags/list" {
        return Reply::ok(r#"{"name":"app","tags":["1"]}"#);
    }
    if let Some(reference) = path.strip_prefix("manifests/") {
        let all = image.manifests().find(|m| m.digest().to_string() == reference);
        let Some(manifest) = all.or((reference == "1").then_some(&image.manifest)) else {
            return Reply::status(404).body(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#);
        };
        return Reply::ok(manifest.bytes().clone())
            .header("content-type", manifest.media_type().as_str())
            .header("docker-content-digest", manifest.digest().to_string());
    }
    if let Some(digest) = path.strip_prefix("blobs/") {
        let found = image.blobs.iter().find(|(known, _)| known.to_string() == digest);
        let Some((_, blob)) = found else {
            return Reply::status(404).body(r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}"#);
        };
        return Reply::ranged(seen, blob.clone());
    }
    Reply::status(404)
}

/// Reads a blob to its end.
pub(crate) async fn read(
    repository: &dyn RepositorySource,
    blob: &Descriptor,
    from: u64,
) -> Result<Vec<u8>, SourceError> {
    repository
        .blob(blob, from)
        .await?
        .try_fold(Vec::new(), |mut whole, chunk| async move {
            whole.extend_from_slice(&chunk);
            Ok(whole)
        })
        .await
}

/// An error with all its causes, as people see it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
