//! Builds the image that the tests of this crate push and pull: BusyBox from the machine, and nothing of Roadstead.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use roadstead_parts::{Folder, Invocation, Skopeo, part};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An OCI image layout of one image whose only layer is nobody else's, so that no engine has it already.
pub(crate) struct Image {
    layout: Folder,
    /// The digest of its manifest.
    pub(crate) digest: String,
    /// What it prints when it runs.
    pub(crate) greeting: String,
}

impl Image {
    pub(crate) fn build() -> Self {
        static BUILT: AtomicU64 = AtomicU64::new(0);
        let greeting = format!("hello from {} of {}", BUILT.fetch_add(1, Ordering::Relaxed), std::process::id());
        let (layout, root) = (Folder::new(), Folder::new());
        root.write("greeting", format!("{greeting}\n"));
        fs::copy(part::built("bin/busybox"), root.join("busybox")).unwrap();
        let archive = layout.join("layer.tar");
        Invocation::new(part::installed("tar"))
            .arg("-C")
            .arg(root.path())
            .arg("-cf")
            .arg(&archive)
            .arg(".")
            .run()
            .unwrap();

        let layer = fs::read(&archive).unwrap();
        fs::remove_file(archive).unwrap();
        let layer = blob(&layout, "application/vnd.oci.image.layer.v1.tar", &layer);
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Cmd": ["/busybox", "cat", "/greeting"] },
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let config = blob(&layout, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer] });
        let manifest = blob(&layout, media_type, manifest.to_string().as_bytes());
        let digest = manifest["digest"].as_str().unwrap().to_owned();
        layout.write("index.json", json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string());
        layout.write("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string());
        Self { layout, digest, greeting: greeting + "\n" }
    }

    /// The image as skopeo names it.
    pub(crate) fn source(&self) -> String {
        format!("oci:{}", self.layout.path().display())
    }

    /// Pushes it to a registry without TLS and without credentials.
    pub(crate) fn push(&self, reference: &str) {
        Skopeo.copy(&self.source(), &format!("docker://{reference}")).unwrap();
    }
}

fn blob(layout: &Folder, media_type: &str, content: &[u8]) -> Value {
    let digits: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    layout.write(format!("blobs/sha256/{digits}"), content);
    json!({ "mediaType": media_type, "digest": format!("sha256:{digits}"), "size": content.len() })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
