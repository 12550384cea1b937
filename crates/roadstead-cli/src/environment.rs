//! The variables of the environment, read in this one place: the library gets values.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::Context as _;
use roadstead::http::{Proxies, Roots, Secret};
use roadstead::medium::daemon::DaemonHost;

/// The variables of the environment, so that tests have their own.
pub(crate) struct Environment(HashMap<OsString, OsString>);

impl Environment {
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read for the library")]
    pub(crate) fn of_this_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    fn get(&self, name: &str) -> Option<OsString> {
        self.0.get(OsStr::new(name)).cloned()
    }

    /// Everything that is text.
    pub(crate) fn all(&self) -> HashMap<String, String> {
        let text =
            |(name, value): (&OsString, &OsString)| Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()));
        self.0.iter().filter_map(text).collect()
    }

    /// A variable that is text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.get(name)?.into_string().ok()
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// The first of several spellings that is set, be it to nothing: an empty variable switches off.
    fn either(&self, names: [&str; 2]) -> Option<String> {
        names.into_iter().find_map(|name| self.text(name))
    }

    pub(crate) fn folders(&self, name: &str) -> Vec<PathBuf> {
        self.get(name).map(|list| std::env::split_paths(&list).collect()).unwrap_or_default()
    }

    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.path("HOME")
    }

    /// `~/.config`, or where it has been moved to.
    fn settings(&self) -> Option<PathBuf> {
        self.path("XDG_CONFIG_HOME").or_else(|| Some(self.home()?.join(".config")))
    }

    fn docker_file(&self) -> Option<PathBuf> {
        let folder = self.path("DOCKER_CONFIG").or_else(|| Some(self.home()?.join(".docker")))?;
        Some(folder.join("config.json"))
    }

    /// The files of credentials in the order in which podman looks: its own, then docker's.
    pub(crate) fn credential_files(&self) -> Vec<PathBuf> {
        let runtime = self.path("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
        let settings = self.settings().map(|folder| folder.join("containers/auth.json"));
        [runtime, settings, self.docker_file()].into_iter().flatten().collect()
    }

    pub(crate) fn proxies(&self) -> Proxies {
        let proxy = |names| self.either(names).map(Secret::from);
        Proxies {
            http: proxy(["HTTP_PROXY", "http_proxy"]),
            https: proxy(["HTTPS_PROXY", "https_proxy"]),
            all: proxy(["ALL_PROXY", "all_proxy"]),
            except: self.either(["NO_PROXY", "no_proxy"]).unwrap_or_default(),
        }
    }

    pub(crate) fn roots(&self) -> Roots {
        let (file, directories) = (self.path("SSL_CERT_FILE"), self.folders("SSL_CERT_DIR"));
        if file.is_none() && directories.is_empty() { Roots::System } else { Roots::Paths { file, directories } }
    }

    /// The folders of certificates by host, one's own before the machine's.
    pub(crate) fn certificate_folders(&self) -> Vec<PathBuf> {
        let own = self.settings().into_iter().flat_map(|folder| ["containers", "docker"].map(|who| folder.join(who)));
        let system = ["/etc/containers", "/etc/docker"].map(PathBuf::from);
        own.chain(system).map(|folder| folder.join("certs.d")).collect()
    }

    /// Where the Docker engine listens.
    pub(crate) fn engine(&self) -> anyhow::Result<DaemonHost> {
        match self.text("DOCKER_HOST").filter(|host| !host.is_empty()) {
            Some(host) => host.parse().context("DOCKER_HOST can't be used"),
            None => Ok(DaemonHost::default()),
        }
    }

    /// The folder for what has to be written before it can be read, or gathered before it can be written: as large as images
    /// are, so not where memory may be.
    pub(crate) fn spool(&self) -> PathBuf {
        self.path("TMPDIR").unwrap_or_else(|| "/var/tmp".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&'static str, &'static str)]) -> Environment {
        Environment(variables.iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    fn texts(paths: &[PathBuf]) -> Vec<&str> {
        paths.iter().map(|path| path.to_str().unwrap()).collect()
    }

    #[test]
    fn files_of_credentials() {
        let plain = environment(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/user/7")]);
        assert_eq!(
            texts(&plain.credential_files()),
            ["/run/user/7/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"]
        );
        let moved = environment(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c"), ("DOCKER_CONFIG", "/d")]);
        assert_eq!(texts(&moved.credential_files()), ["/c/containers/auth.json", "/d/config.json"]);
        assert_eq!(
            texts(&moved.certificate_folders()),
            ["/c/containers/certs.d", "/c/docker/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"]
        );
    }

    #[test]
    fn proxies_and_roots() {
        let set =
            environment(&[("https_proxy", "http://p:1"), ("HTTP_PROXY", ""), ("http_proxy", "x"), ("NO_PROXY", "a,b")]);
        let proxies = set.proxies();
        assert_eq!(proxies.https.unwrap().reveal(), "http://p:1");
        assert_eq!(proxies.http.unwrap().reveal(), "", "an empty variable switches off");
        assert_eq!(proxies.except, "a,b");
        assert_eq!(set.roots(), Roots::System);
        let set = environment(&[("SSL_CERT_FILE", "/f"), ("SSL_CERT_DIR", "/a:/b")]);
        assert_eq!(set.roots(), Roots::Paths { file: Some("/f".into()), directories: vec!["/a".into(), "/b".into()] });
    }

    #[test]
    fn engines() {
        let of = |variables| environment(variables).engine().map(|host| host.to_string()).map_err(|e| format!("{e:#}"));
        assert_eq!(of(&[]).unwrap(), "unix:///var/run/docker.sock");
        assert_eq!(of(&[("DOCKER_HOST", "")]).unwrap(), "unix:///var/run/docker.sock");
        assert_eq!(of(&[("DOCKER_HOST", "tcp://e:1")]).unwrap(), "tcp://e:1");
        assert!(of(&[("DOCKER_HOST", "ssh://e")]).unwrap_err().starts_with("DOCKER_HOST can't be used: "));
        assert_eq!(environment(&[("TMPDIR", "/t")]).spool(), PathBuf::from("/t"));
        assert_eq!(environment(&[("TMPDIR", "")]).spool(), PathBuf::from("/var/tmp"));
    }
}
