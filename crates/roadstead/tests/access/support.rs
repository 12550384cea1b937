use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use roadstead::http::Client;
use roadstead::oci::{Algorithm, Digest};
use roadstead::server::{
    Access, AccessOptions, Limits, Origin, PushOptions, ServeOptions, Server, State, TOKEN_PATH, UserFile,
};
use roadstead::store::{MemoryStore, Naming};
use roadstead::tree::Tree;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Made by `htpasswd -B`, as cheap as can be.
const USERS: &str = "\
ann:$2y$04$00k1/8EpA1FZD2n8aSLJm.bTE6adWOTxIz4dXedjy/uRShywormw.
bob:$2y$04$7eY5w7uu0jd/N7/nPmpj7.gUAqdQ575VOz3jDwHwNCsHHEg96mjv.
carl:$2y$04$.44waCxRbPHJKgedM28eROSWXfm0Sv9.y2JqHmjmF.uSpY0rOguU6
";

/// A registry with the users ann, bob and carl, whose passwords are their names twice.
pub(crate) struct Registry {
    address: SocketAddr,
    pub(crate) tree: Tree,
    pub(crate) state: State,
    pub(crate) runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

/// What differs between registries.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) grants: &'static str,
    pub(crate) proxies: Vec<&'static str>,
    pub(crate) cors: bool,
    pub(crate) push: PushOptions,
    pub(crate) limits: Limits,
    pub(crate) client: Option<Client>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn granting(grants: &'static str) -> Self {
        Self::with(Setup { grants, ..Setup::default() })
    }

    pub(crate) fn with(setup: Setup) -> Self {
        Self::prepared(setup, |_| {})
    }

    /// The same after something was done to the folder of its state.
    pub(crate) fn prepared(setup: Setup, prepare: impl FnOnce(&State)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path().join("state"));
        fs::create_dir(state.folder()).unwrap();
        fs::write(state.users(), USERS).unwrap();
        if !setup.grants.is_empty() {
            fs::write(state.grants(), setup.grants).unwrap();
        }
        prepare(&state);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (tree, server) = runtime.block_on(async {
            let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
            let options = ServeOptions {
                listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
                trusted_proxies: setup.proxies.iter().map(|net| net.parse().unwrap()).collect(),
                push: Some(PushOptions { delete: true, ..setup.push }),
                limits: setup.limits,
                cors: setup.cors,
                ..ServeOptions::default()
            };
            let access =
                Access::new(AccessOptions { state: state.clone(), insecure_passwords: false, client: setup.client });
            let origin = Origin::WholeTree(tree.clone());
            (tree, Server::bind_guarded(origin, options, Some(access.unwrap())).await.unwrap())
        });
        let address = server.local_addr().unwrap();
        runtime.spawn(server.run(std::future::pending()));
        Self { address, tree, state, runtime, _folder: folder }
    }

    pub(crate) fn users(&self) -> UserFile {
        UserFile::new(self.state.clone())
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: registry:5000\r\nconnection: close\r\n").into_bytes();
        if method != "GET" && method != "HEAD" {
            request.extend(format!("content-length: {}\r\n", body.len()).bytes());
        }
        for (name, value) in headers {
            request.extend(format!("{name}: {value}\r\n").bytes());
        }
        request.extend(b"\r\n");
        request.extend(body);
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // A server that refuses early may not read to the end.
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {text:?}"));
        let status = head[9..12].parse().unwrap();
        let what = format!("{method} {path} {headers:?}: {text}");
        Answer { status, head: head.to_owned(), body: body.to_owned(), what }
    }

    /// A request with what a client says of itself.
    pub(crate) fn as_who(&self, who: &str, method: &str, path: &str) -> Answer {
        self.ask(method, path, &[("authorization", who)], b"")
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// What the token endpoint says to a name and a password.
    pub(crate) fn ask_token(&self, name: &str, password: &str, scopes: &[&str]) -> Answer {
        let scopes: String = scopes.iter().map(|scope| format!("&scope={scope}")).collect();
        self.as_who(&basic(name, password), "GET", &format!("{TOKEN_PATH}?service=roadstead{scopes}"))
    }

    /// A token of one of the users, ready to be sent.
    pub(crate) fn token(&self, name: &str, scopes: &[&str]) -> String {
        format!("Bearer {}", self.ask_token(name, &name.repeat(2), scopes).is(200).json()["token"].as_str().unwrap())
    }

    /// A token of nobody.
    pub(crate) fn strangers_token(&self, scope: &str) -> String {
        let answer = self.get(&format!("{TOKEN_PATH}?service=roadstead&scope={scope}")).is(200);
        format!("Bearer {}", answer.json()["token"].as_str().unwrap())
    }

    pub(crate) fn form(&self, form: &str) -> Answer {
        self.ask("POST", TOKEN_PATH, &[("content-type", "application/x-www-form-urlencoded")], form.as_bytes())
    }

    /// Pushes a blob.
    pub(crate) fn push_blob(&self, who: &str, repository: &str, bytes: &[u8]) -> Answer {
        let digest = Algorithm::Sha256.digest(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.ask("POST", &path, &[("authorization", who)], bytes)
    }

    /// Pushes an image of its own under a tag, or by its digest, and returns what the last request was answered, and its digest.
    pub(crate) fn push(&self, who: &str, repository: &str, tag: &str, text: &str) -> (Answer, Digest) {
        let config = self.push_blob(who, repository, b"{}");
        if config.status != 201 {
            return (config, Algorithm::Sha256.digest(b""));
        }
        let (config, layer) = (Algorithm::Sha256.digest(b"{}"), Algorithm::Sha256.digest(text.as_bytes()));
        self.push_blob(who, repository, text.as_bytes()).is(201);
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{{"mediaType":"application/vnd.x","digest":"{config}","size":2}},"layers":[{{"mediaType":"application/vnd.y","digest":"{layer}","size":{}}}]}}"#,
            text.len()
        );
        let path = format!("/v2/{repository}/manifests/{tag}");
        let headers = [("authorization", who), ("content-type", IMAGE)];
        (self.ask("PUT", &path, &headers, manifest.as_bytes()), Algorithm::Sha256.digest(manifest.as_bytes()))
    }
}

pub(crate) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{name}:{password}")))
}

/// A user as such.
pub(crate) fn user(name: &str) -> String {
    basic(name, &name.repeat(2))
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

    /// Is refused with a code of the specification.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.is(status);
        assert_eq!(answer.json()["errors"][0]["code"], code, "{}", answer.what);
        answer
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.what))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        { lines }.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// How often a header stands in it.
    pub(crate) fn count(&self, name: &str) -> usize {
        let names = self.head.lines().filter_map(|line| line.split_once(": "));
        names.filter(|(known, _)| known.eq_ignore_ascii_case(name)).count()
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {}", self.what))
    }
}
