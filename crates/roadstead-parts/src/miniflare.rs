use std::path::Path;

use crate::{Folder, Invocation, Isolation, Port, Served, part};

/// A bucket of Cloudflare R2 and a Worker in front of it: Miniflare, which runs the real workerd. It comes with `wrangler`,
/// which takes minutes to install, and needs Node.
#[derive(Debug)]
pub struct Miniflare {
    served: Served,
    port: Port,
}

/// An object of a bucket, as R2 keeps what is put through its S3 API.
#[derive(Debug, Clone)]
pub struct R2Object {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `x-amz-meta-docker-content-digest`.
    pub digest: Option<String>,
}

impl Miniflare {
    /// Runs a Worker, a module whose bucket is called `TREE`, over these objects.
    ///
    /// # Panics
    ///
    /// When it does not start; the message has its log.
    pub fn start(worker: &Path, objects: &[R2Object]) -> Self {
        let (folder, port) = (Folder::new(), Port::free());
        let text = |text: &Option<String>| text.as_ref().map_or("null".to_owned(), |text| format!("{text:?}"));
        let entries: Vec<_> = objects
            .iter()
            .enumerate()
            .map(|(index, object)| {
                let file = folder.join(format!("object-{index}"));
                std::fs::write(&file, &object.bytes).expect("the folder is ours");
                // Keys, types and digests are of characters that JSON and Rust write alike.
                format!(
                    r#"{{"key":{:?},"file":{:?},"contentType":{},"cacheControl":{},"digest":{}}}"#,
                    object.key,
                    file,
                    text(&object.content_type),
                    text(&object.cache_control),
                    text(&object.digest)
                )
            })
            .collect();
        let objects = folder.write("objects.json", format!("[{}]", entries.join(",\n")));
        let wrangler = part::built("npm/wrangler/node_modules/.bin/wrangler");
        let modules = wrangler.ancestors().nth(2).expect("it lies in node_modules/.bin");
        let invocation = Invocation::new(part::installed("node"))
            .env("HOME", folder.path())
            .arg(folder.write("miniflare.mjs", include_str!("miniflare.mjs")))
            .arg(modules.join("miniflare/dist/src/index.js"))
            .arg(worker)
            .arg(objects)
            .arg(port.number().to_string());
        let served = Served::start(&invocation, Isolation::Namespaces, folder, || port.answers());
        Self { served, port }
    }

    /// The port that it listens on.
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        self.served.log()
    }
}
