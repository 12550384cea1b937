use std::path::Path;

use crate::{Folder, Invocation, Isolation, Port, Served, part};

/// A server that speaks the API of Amazon S3, with buckets of one account.
#[derive(Debug)]
pub struct Buckets {
    served: Served,
    port: Port,
}

/// The log of a server that keeps one, in its folder.
const LOG: &str = "access.log";

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
                .env("VGW_ACCESS_LOG", folder.join(LOG))
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

    /// What was asked so far, in the order of the answers: the API's name of each call, and the object that it was about. Only
    /// versitygw tells.
    pub fn calls(&self) -> Vec<(String, String)> {
        let log = std::fs::read_to_string(self.served.folder().join(LOG)).unwrap_or_default();
        let call = |line: &str| {
            let mut words = line.split(' ').skip_while(|word| !word.starts_with("s3_"));
            Some((words.next()?.trim_start_matches("s3_").to_owned(), words.next()?.to_owned()))
        };
        log.lines().filter_map(call).collect()
    }

    /// The folder of a bucket.
    pub fn folder(&self, bucket: &str) -> std::path::PathBuf {
        Path::new(self.served.folder()).join("data").join(bucket)
    }
}
