use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::{Certificates, Folder, Invocation, Isolation, Port, Served, part};

/// The distribution project's registry, over a folder.
#[derive(Debug)]
pub struct Distribution {
    served: Served,
    port: Port,
    data: PathBuf,
    scheme: &'static str,
}

/// Which generation of it: they differ in what they accept and answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// 2.8, from Debian: still takes signed schema 1 manifests.
    V2,
    /// 3, the current one.
    V3,
}

impl Generation {
    /// Every one, for tests that run against each.
    pub const ALL: [Self; 2] = [Self::V2, Self::V3];

    /// Prepares a registry of this generation.
    pub fn registry<'a>(self) -> Builder<'a> {
        Builder { generation: self, data: None, users: &[], tokens: None, certificates: None, read_only: false }
    }
}

/// What a [`Distribution`] is to be, until it is started.
#[derive(Debug)]
#[must_use]
pub struct Builder<'a> {
    generation: Generation,
    data: Option<&'a Path>,
    users: &'a [(&'a str, &'a str)],
    tokens: Option<(&'a str, &'a str)>,
    certificates: Option<&'a Certificates>,
    read_only: bool,
}

impl<'a> Builder<'a> {
    /// Keeps the content in this folder, which outlives the registry. Without it, everything is gone when the registry
    /// is.
    pub fn data(mut self, folder: &'a Path) -> Self {
        self.data = Some(folder);
        self
    }

    /// Asks for HTTP Basic credentials: user names and their passwords.
    pub fn users(mut self, users: &'a [(&'a str, &'a str)]) -> Self {
        self.users = users;
        self
    }

    /// Asks for tokens of the service at `realm`, signed by one of `keys`, a JSON Web Key Set. Issuer and service are both
    /// called `test`. The older generation reads no such keys.
    pub fn tokens(mut self, realm: &'a str, keys: &'a str) -> Self {
        assert_eq!(self.generation, Generation::V3, "it knows certificates only");
        self.tokens = Some((realm, keys));
        self
    }

    /// Speaks TLS only.
    pub fn tls(mut self, certificates: &'a Certificates) -> Self {
        self.certificates = Some(certificates);
        self
    }

    /// Refuses to be written to.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// When it does not start; the message has its log.
    pub fn start(self) -> Distribution {
        let (folder, port) = (Folder::new(), Port::free());
        let data = self.data.map_or_else(|| folder.join("data"), Path::to_owned);
        let config = folder.write("config.yml", self.config(&folder, &port, &data));
        let invocation = match self.generation {
            Generation::V2 => Invocation::new(part::installed("docker-registry")),
            Generation::V3 => Invocation::new(part::built("bin/registry")).env("OTEL_TRACES_EXPORTER", "none"),
        };
        let served = Served::start(&invocation.arg("serve").arg(config), Isolation::None, folder, || port.answers());
        Distribution { served, port, data, scheme: if self.certificates.is_some() { "https" } else { "http" } }
    }

    fn config(&self, folder: &Folder, port: &Port, data: &Path) -> String {
        let mut config = format!(
            "version: 0.1\nlog: {{level: warn}}\n\
             storage:\n  filesystem: {{rootdirectory: '{}'}}\n  delete: {{enabled: true}}\n",
            data.display()
        );
        let mut line = |text: std::fmt::Arguments<'_>| config.write_fmt(text).expect("writing to a string succeeds");
        if self.read_only {
            line(format_args!("  maintenance: {{readonly: {{enabled: true}}}}\n"));
        }
        if self.generation == Generation::V2 {
            // It reads schema 1 unasked, and takes it only so.
            line(format_args!("compatibility: {{schema1: {{enabled: true}}}}\n"));
        }
        line(format_args!("http:\n  addr: {}\n", port.address()));
        if let Some(certificates) = self.certificates {
            let (certificate, key) = (certificates.certificate(), certificates.key());
            line(format_args!("  tls: {{certificate: '{}', key: '{}'}}\n", certificate.display(), key.display()));
        }
        if !self.users.is_empty() {
            let users = folder.write("htpasswd", htpasswd(self.users));
            line(format_args!("auth:\n  htpasswd: {{realm: test, path: '{}'}}\n", users.display()));
        }
        if let Some((realm, keys)) = self.tokens {
            let keys = folder.write("keys.json", keys);
            let keys = keys.display();
            line(format_args!("auth:\n  token: {{realm: '{realm}', service: test, issuer: test, jwks: '{keys}'}}\n"));
        }
        config
    }
}

impl Distribution {
    /// `127.0.0.1:PORT`: what stands before the repository in an image reference.
    pub fn authority(&self) -> String {
        self.port.address().to_string()
    }

    /// The root of its URLs, without a slash at the end.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.authority())
    }

    /// The folder of its content: `docker/registry/v2/…`.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its log so far: a line for each request, in the form that web servers share, among others.
    pub fn log(&self) -> String {
        self.served.log()
    }
}

/// The lines of a password file, in the only form that the registry reads: bcrypt, here of the lowest cost.
fn htpasswd(users: &[(&str, &str)]) -> String {
    let program = part::installed("htpasswd");
    let line = |(user, password): &(&str, &str)| {
        // The password goes through standard input: arguments can be read by every process of the machine, which a test
        // had better not make a habit.
        let output = Invocation::new(&program).args(["-i", "-n", "-B", "-C", "4", user]).input(*password).run();
        output.unwrap_or_else(|failure| panic!("{failure}")).stdout.trim().to_owned() + "\n"
    };
    users.iter().map(line).collect()
}
