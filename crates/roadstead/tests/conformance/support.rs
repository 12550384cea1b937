use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use roadstead::http::{Client, ClientOptions};
use roadstead::oci::{Algorithm, Digest, ErrorCode};
use roadstead::server::{PushOptions, ServeOptions, Server};
use roadstead::store::bucket::{BucketOptions, Keys};
use roadstead::store::{BucketStore, LocalStore, MemoryStore, Naming, Store};
use roadstead::tree::Tree;
use roadstead_parts::{BucketServer, Buckets};

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A tree's place in a bucket.
pub(crate) fn bucket(buckets: &Buckets) -> BucketStore {
    let keys = Keys { id: Buckets::ID.to_owned(), secret: Buckets::SECRET.into(), token: None };
    let options =
        BucketOptions { endpoint: Some(buckets.url()), credentials: Some(Arc::new(keys)), ..BucketOptions::default() };
    let client = Client::new(ClientOptions::default()).unwrap();
    BucketStore::open("s3://images/tree".parse().unwrap(), client, options).unwrap()
}

/// A registry that takes pushes.
pub(crate) struct Registry {
    pub(crate) name: &'static str,
    address: SocketAddr,
    pub(crate) tree: Tree,
    pub(crate) runtime: tokio::runtime::Runtime,
    /// Where its files lie, or what it has in the way of uploads.
    folder: Option<tempfile::TempDir>,
    _buckets: Option<Buckets>,
}

impl Registry {
    fn over(name: &'static str, store: Arc<dyn Store>, folder: Option<tempfile::TempDir>, push: PushOptions) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (tree, server) = runtime.block_on(async {
            let tree = Tree::create(store).await.unwrap();
            let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()];
            let options = ServeOptions { listen, push: Some(push), ..ServeOptions::default() };
            (tree.clone(), Server::bind(tree, options).await.unwrap())
        });
        let address = server.local_addr().unwrap();
        runtime.spawn(server.run(std::future::pending()));
        Self { name, address, tree, runtime, folder, _buckets: None }
    }

    /// One over each store.
    pub(crate) fn each_with(push: &PushOptions) -> Vec<Self> {
        let folder = tempfile::tempdir().unwrap();
        let local = Arc::new(LocalStore::create(folder.path()).unwrap());
        let memory = |naming| Arc::new(MemoryStore::new(naming));
        let buckets = BucketServer::Versitygw.start(&["images"]);
        vec![
            Self::over("directory", local, Some(folder), push.clone()),
            Self::over("memory with links", memory(Naming::Links), None, push.clone()),
            Self::over("memory with copies", memory(Naming::Copies), None, push.clone()),
            Self::over_bucket("bucket", bucket(&buckets), Some(buckets), push),
        ]
    }

    /// One over a bucket of a real server, which it keeps running if it is told to.
    pub(crate) fn over_bucket(
        name: &'static str,
        store: BucketStore,
        buckets: Option<Buckets>,
        push: &PushOptions,
    ) -> Self {
        let spool = tempfile::tempdir().unwrap();
        let push = PushOptions { spool: Some(spool.path().join("uploads")), ..push.clone() };
        let registry = Self::over(name, Arc::new(store), Some(spool), push);
        Self { _buckets: buckets, ..registry }
    }

    /// Where the tree of the first one lies.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.folder.as_ref().unwrap().path()
    }

    pub(crate) fn each() -> Vec<Self> {
        Self::each_with(&PushOptions { delete: true, ..PushOptions::default() })
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// What lies in the folder of the first one, its temporary files and locks aside.
    pub(crate) fn files(&self) -> Vec<std::path::PathBuf> {
        fn below(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() && !path.ends_with("tmp") && !path.ends_with("locks") {
                    below(&path, found);
                } else {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        if let Some(folder) = &self.folder {
            below(folder.path(), &mut found);
        }
        found.sort();
        found
    }

    /// What comes back for these bytes until the server ends the connection.
    pub(crate) fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // One that is refused before its end may be reset.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        // A reset after the answer is an end, too.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: registry\r\nconnection: close\r\n").into_bytes();
        if !headers.iter().any(|(name, _)| *name == "transfer-encoding") {
            request.extend(format!("content-length: {}\r\n", body.len()).bytes());
        }
        for (name, value) in headers {
            request.extend(format!("{name}: {value}\r\n").bytes());
        }
        request.extend(b"\r\n");
        request.extend(body);
        let text = self.raw(&request);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {text:?}"));
        let status = head[9..12].parse().unwrap();
        let what = format!("{}: {method} {path}: {text}", self.name);
        Answer { status, head: head.to_owned(), body: body.to_owned(), what }
    }

    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, headers, b"")
    }

    /// Takes away what lies under a path.
    pub(crate) fn delete(&self, path: &str) {
        self.ask("DELETE", path, &[], b"").is(202);
    }

    /// Waits until something lies under a path.
    #[track_caller]
    pub(crate) fn comes(&self, path: &str) {
        let came = roadstead_parts::wait_until(Duration::from_secs(60), || self.get(path, &[]).status == 200);
        assert!(came, "{}: {path} never comes", self.name);
    }

    /// Pushes a blob, and returns its digest.
    pub(crate) fn blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Algorithm::Sha256.digest(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.ask("POST", &path, &[], bytes).is(201);
        digest
    }

    /// A manifest whose blobs are there.
    pub(crate) fn image(&self, repository: &str, more: &str) -> String {
        let (config, layer) = (self.blob(repository, b"{}"), self.blob(repository, b"layer"));
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{{"mediaType":"application/vnd.x.config","digest":"{config}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":5}}]{more}}}"#
        )
    }

    pub(crate) fn put(&self, repository: &str, reference: &str, media_type: &str, manifest: &str) -> Answer {
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.ask("PUT", &path, &[("content-type", media_type)], manifest.as_bytes())
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
    what: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.what);
        self
    }

    /// The code of an answer that has to be an error as *Error Codes* says.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/json", "{}", self.what);
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}", self.what));
        let code = body["errors"][0]["code"].as_str().unwrap_or_else(|| panic!("{}", self.what)).to_owned();
        assert!(ErrorCode::ALL.iter().any(|known| known.as_str() == code), "{}", self.what);
        code
    }

    /// Is refused with a code of the specification.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) {
        let answer = self.is(status);
        assert_eq!(answer.code(), code, "{}", answer.what);
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = { lines }.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.what)).1
    }

    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}
