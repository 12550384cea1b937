//! A registry that has one image and answers for it as it is told.

use roadstead::testing::{FaultServer, Image, Reply, Seen};
use tokio::runtime::Runtime;

/// A registry that ends when it is dropped.
pub(crate) struct Hostile {
    server: FaultServer,
    _runtime: Runtime,
}

impl Hostile {
    /// Has an image as `app:1.0`; `change` makes of each honest answer what is sent.
    pub(crate) fn start(image: &Image, change: impl Fn(&Seen, Reply) -> Reply + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let image = image.clone();
        let server = runtime.block_on(FaultServer::start(move |seen| change(seen, honest(&image, seen))));
        Self { server, _runtime: runtime }
    }

    /// The same without a fault.
    pub(crate) fn honest(image: &Image) -> Self {
        Self::start(image, |_, reply| reply)
    }

    /// Host and port.
    pub(crate) fn authority(&self) -> String {
        self.server.authority()
    }

    /// What the image is called there.
    pub(crate) fn image(&self) -> String {
        format!("{}/app:1.0", self.server.authority())
    }

    /// Every request so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.server.lines()
    }
}

fn honest(image: &Image, seen: &Seen) -> Reply {
    let path = seen.path();
    if path == "/v2/" {
        return Reply::ok("{}");
    }
    if let Some(reference) = path.strip_prefix("/v2/app/manifests/") {
        let mut manifests = image.manifests();
        let found = if reference == "1.0" {
            Some(&image.manifest)
        } else {
            manifests.find(|manifest| manifest.digest().to_string() == reference)
        };
        if let Some(manifest) = found {
            return Reply::ok(manifest.bytes().clone())
                .header("content-type", manifest.media_type().as_str())
                .header("docker-content-digest", manifest.digest().to_string());
        }
        return error(404, "MANIFEST_UNKNOWN", "manifest unknown");
    }
    if let Some(digest) = path.strip_prefix("/v2/app/blobs/") {
        return match image.blobs.iter().find(|(held, _)| held.to_string() == digest) {
            Some((_, bytes)) => Reply::ranged(seen, bytes.clone()),
            None => error(404, "BLOB_UNKNOWN", "blob unknown"),
        };
    }
    error(404, "NAME_UNKNOWN", "repository name not known to registry")
}

/// An error as registries write it.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Reply {
    let body = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"{message}\"}}]}}");
    Reply::status(status).header("content-type", "application/json").body(body)
}
