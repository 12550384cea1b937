use std::path::Path;

use crate::{Folder, Invocation, Isolation, Port, Served, part};

/// A server that speaks the API of Amazon S3, with buckets of one account.
#[derive(Debug)]
pub struct Buckets {
    served: Served,
    port: Port,
}

/// Which server that is: each has ideas of its own about names, conditions and parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketServer {
    /// versitygw: objects are files in folders, so a name can't begin with another one and a slash.
    Versitygw,
    /// MinIO, which takes minutes to build.
    Minio,
}

impl BucketServer {
    /// Starts it with an empty bucket for each name.
    ///
    /// # Panics
    ///
    /// When it does not start; the message has its log.
    pub fn start(self, buckets: &[&str]) -> Buckets {
        let (folder, port) = (Folder::new(), Port::free());
        for bucket in buckets {
            // Both take a folder in theirs for a bucket.
            std::fs::create_dir_all(folder.join("data").join(bucket)).expect("the folder is ours");
        }
        let data = folder.join("data");
        let address = port.address().to_string();
        let invocation = match self {
            Self::Versitygw => Invocation::new(part::built("bin/versitygw"))
                .env("ROOT_ACCESS_KEY", Buckets::ID)
                .env("ROOT_SECRET_KEY", Buckets::SECRET)
                .args(["--port", &address, "posix"])
                .arg(data),
            Self::Minio => Invocation::new(part::built("bin/minio"))
                .env("MINIO_ROOT_USER", Buckets::ID)
                .env("MINIO_ROOT_PASSWORD", Buckets::SECRET)
                .env("HOME", folder.path())
                .args(["server", "--address", &address])
                .arg(data),
        };
        let served = Served::start(&invocation, Isolation::None, folder, || port.answers());
        Buckets { served, port }
    }
}

impl Buckets {
    /// The id of the access key that may do everything.
    pub const ID: &'static str = "roadstead-test";
    /// Its secret.
    pub const SECRET: &'static str = "roadstead-test-secret";

    /// The URL of the service, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// The folder of a bucket.
    pub fn folder(&self, bucket: &str) -> std::path::PathBuf {
        Path::new(self.served.folder()).join("data").join(bucket)
    }
}
