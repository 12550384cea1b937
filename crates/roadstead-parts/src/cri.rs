use std::fs;
use std::path::PathBuf;

use tempfile::NamedTempFile;

use crate::client::authority;
use crate::{Client, Containerd, Failure, Invocation, Pulled, part};

/// containerd's service for Kubernetes: a pull is the call that a kubelet makes.
///
/// All of its images share one namespace, so a pull removes afterwards what it has pulled: the next one fetches it
/// again.
#[derive(Debug)]
pub struct Cri<'a> {
    containerd: &'a Containerd,
    name: &'static str,
}

impl<'a> Cri<'a> {
    /// The namespace that containerd keeps for Kubernetes.
    const NAMESPACE: &'static str = "k8s.io";

    pub(crate) fn new(containerd: &'a Containerd, name: &'static str) -> Self {
        Self { containerd, name }
    }

    /// Says how a registry is reached, in containerd's form: the content of `hosts.toml` for this authority.
    pub fn configure(&self, authority: &str, hosts_toml: &str) {
        let path = self.settings(authority);
        let folder = path.parent().expect("a file has a folder");
        fs::create_dir_all(folder).expect("the daemon's folder is ours");
        // In one step, for the daemon reads it at each pull; written apart, for tests in parallel may write the same.
        let file = NamedTempFile::new_in(folder).expect("the daemon's folder is ours");
        fs::write(&file, hosts_toml).expect("the file is ours");
        file.persist(path).expect("the daemon's folder is ours");
    }

    fn settings(&self, authority: &str) -> PathBuf {
        self.containerd.folder().join(HOSTS).join(authority).join("hosts.toml")
    }

    /// Calls a method of `runtime.v1.ImageService` whose request is nothing but an image.
    fn call(&self, method: &str, reference: &str) -> Result<(), Failure> {
        let call = Invocation::new(part::installed("sh"))
            .arg(self.containerd.folder().join(SCRIPT))
            .arg(self.containerd.socket())
            .arg(format!("http://localhost/runtime.v1.ImageService/{method}"))
            .input(image_request(reference))
            .as_root();
        self.containerd.told(&call).map(drop)
    }
}

impl Client for Cri<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn pull(&self, reference: &str) -> Result<Pulled, Failure> {
        let authority = authority(reference);
        if !self.settings(authority).exists() {
            let server = format!("[host.\"http://{authority}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
            self.configure(authority, &server);
        }
        self.call("PullImage", reference)?;
        let pulled = self.containerd.pulled(Self::NAMESPACE, reference)?;
        self.forget(reference)?;
        Ok(pulled)
    }

    fn forget(&self, reference: &str) -> Result<(), Failure> {
        self.call("RemoveImage", reference)
    }
}

/// The folder of registry settings, below the daemon's.
pub(crate) const HOSTS: &str = "hosts";

/// The file of [`CALL`], below the daemon's folder.
pub(crate) const SCRIPT: &str = "cri.sh";

/// A gRPC call over a Unix socket. The outcome is in the trailers, which curl prints as it does headers; a failure's
/// text is percent-encoded there.
pub(crate) const CALL: &str = r#"
headers=$(curl --silent --show-error --http2-prior-knowledge --unix-socket "$1" --dump-header - --output /dev/null \
    --header 'content-type: application/grpc' --header 'te: trailers' --data-binary @- "$2") || exit
printf '%s\n' "$headers" >&2
printf '%s\n' "$headers" | grep -qi '^grpc-status: 0'
"#;

/// A gRPC frame (not compressed, the length in four bytes) around `PullImageRequest { image: ImageSpec { image } }`, or
/// a `RemoveImageRequest` of the same shape; both fields have the number 1.
fn image_request(image: &str) -> Vec<u8> {
    let message = field_1(&field_1(image.as_bytes()));
    let length = u32::try_from(message.len()).expect("a reference is short");
    [&[0], &length.to_be_bytes()[..], &message].concat()
}

/// A length-delimited protobuf field of the number 1.
fn field_1(content: &[u8]) -> Vec<u8> {
    let mut field = vec![1 << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        field.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(content);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reference_is_framed_with_its_length() {
        let request = image_request(&"r".repeat(200));
        assert_eq!(request[..5], [0, 0, 0, 0, 206]);
        assert_eq!(request[5..11], [0x0a, 0xcb, 0x01, 0x0a, 0xc8, 0x01]);
        assert_eq!(request.len(), 5 + 206);
    }
}
