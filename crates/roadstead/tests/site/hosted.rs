//! Folders of plain files, under the emulators that the hosts' vendors give away, and under the programs themselves.
//!
//! An emulator is not the host; what only the host does is said on its page.

mod htaccess;
mod netlify;
mod scripts;
mod tree;
mod vercel;

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use roadstead::host::{self, Host};
use roadstead::oci::Reference;
use roadstead::publish::{FolderOptions, PlainFolder, Published};
use roadstead::site::{Elsewhere, Form, Site, Survey};
use roadstead::tree::{Private, Shown};
use roadstead_parts::{
    Certificates, Client, Containerd, Crane, Dockerd, Emulated, Emulator, Folder, Nginx, Oras, Podman, Port, Skopeo,
};

use crate::cases::cases;
use crate::client::{Address, Answer, exchange, get};
use crate::conformance::{ask, run};
use crate::fixture::Fixture;

/// A site in a folder.
pub(crate) struct Hosted {
    fixture: Fixture,
    folder: Folder,
    site: Site,
    host: &'static dyn Host,
}

impl Hosted {
    /// Publishes the tree for a host.
    fn new(host: &str, change: impl FnOnce(&Fixture, &mut Site)) -> Self {
        let fixture = Fixture::new();
        tree::fill(&fixture);
        let host = host::find(host).unwrap();
        let survey = fixture.runtime.block_on(Survey::of(&fixture.tree)).unwrap();
        let mut site = Site { survey, ..Site::default() };
        change(&fixture, &mut site);
        let hosted = Self { fixture, folder: Folder::new(), site, host };
        let published = hosted.publish();
        assert_eq!((published.unchanged, published.removed), (0, 0), "{published:?}");
        let again = hosted.publish();
        assert_eq!((again.written, again.removed), (0, 0), "{again:?}");
        hosted
    }

    fn publish(&self) -> Published {
        let files = self.host.render(&self.site).unwrap_or_else(|error| panic!("{error}"));
        let files: Vec<_> = files.into_iter().map(|file| (file.name, file.text.to_string())).collect();
        let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let options = FolderOptions {
            public: self.host.public().unwrap(),
            name_prefix: self.site.name_prefix.as_ref(),
            blobs: self.site.blobs_at.is_none(),
            manifests: self.site.manifests_at.is_none(),
            leaves_out: &|reference| self.host.serves_as_page(self.site.form, reference),
            without: &Private::default(),
            force: false,
        };
        let folder = PlainFolder::create(&self.folder.join("site")).unwrap();
        self.fixture.runtime.block_on(folder.write(&self.fixture.tree, options, &files)).unwrap()
    }

    fn emulate(&self, emulator: Emulator) -> Emulated {
        emulator.start(&self.folder.join("site"))
    }

    /// Asks for everything that is there, and for what isn't.
    fn check(&self, emulated: &Emulated, says: Says) {
        let address = Address::Tcp(emulated.authority().parse().unwrap());
        let mut problems = BTreeSet::new();
        let shown: Vec<(Shown, u64)> = {
            let shown = futures::TryStreamExt::try_collect(self.fixture.tree.shown());
            self.fixture.runtime.block_on(shown).unwrap()
        };
        let mut wrong = |path: &str, what: String| {
            problems.insert(format!("{path}: {what}"));
        };
        for (file, _) in &shown {
            let key = file.key(&self.fixture.tree);
            let path = match file {
                Shown::Ping => "/v2/".to_owned(),
                _ => format!("/{key}"),
            };
            let answer = get(&address, &path);
            let elsewhere = matches!(file, Shown::Blob(..)) && self.site.blobs_at.is_some();
            // Two put no headers on what they redirect, which their pages say.
            let bare = elsewhere && ["firebase", "static-web-server"].contains(&self.host.name());
            match self.unread(&answer) {
                Some(what) if !bare => wrong(&path, what),
                None if bare && self.site.cors => wrong(&path, "the page says that it can't be read".to_owned()),
                _ => {}
            }
            if elsewhere {
                let location = answer.header("location").unwrap_or_default();
                if !matches!(answer.status, 302 | 307) || !location.ends_with(&path) {
                    wrong(&path, format!("{} to {location:?}", answer.status));
                }
                continue;
            }
            if answer.status != 200 {
                wrong(&path, format!("status {}", answer.status));
                continue;
            }
            let bytes = std::fs::read(self.fixture.folder.path().join(key.as_str())).unwrap();
            if answer.body != bytes {
                wrong(&path, format!("other bytes: {:.80}", answer.text()));
            }
            let (media_type, digest) = match file {
                Shown::Manifest(_, reference, pointer) => {
                    let told = says.tag_digests || matches!(reference, Reference::Digest(_)) && says.digests;
                    (Some(pointer.media_type.as_str()), told.then_some(pointer.digest))
                }
                Shown::Blob(_, digest) => (Some("application/octet-stream"), says.digests.then_some(*digest)),
                Shown::Referrers(..) => (Some("application/vnd.oci.image.index.v1+json"), None),
                _ => (Some("application/json"), None),
            };
            let came = answer.header("content-type");
            if came.as_deref() != media_type && says.types {
                wrong(&path, format!("the type is {came:?} instead of {media_type:?}"));
            }
            let came = answer.header("docker-content-digest");
            if digest.is_some_and(|digest| came != Some(digest.to_string())) {
                wrong(&path, format!("the digest is {came:?}"));
            }
            if answer.header("x-content-type-options").as_deref() != Some("nosniff") {
                wrong(&path, format!("nosniff is {:?}", answer.header("x-content-type-options")));
            }
        }
        let absent = format!("sha256:{}", "0".repeat(64));
        for path in [
            "/v2/app/manifests/nope".to_owned(),
            "/v2/app/manifests/1.0".to_owned(),
            format!("/v2/app/manifests/{absent}"),
            format!("/v2/app/referrers/{absent}"),
            "/v2/nobody/tags/list".to_owned(),
            "/.roadstead/format".to_owned(),
            "/.roadstead-site".to_owned(),
            "/content/blobs/".to_owned(),
            "/wrangler.jsonc".to_owned(),
            "/worker.js".to_owned(),
            "/firebase.json".to_owned(),
            "/netlify.toml".to_owned(),
            "/secret.key".to_owned(),
        ] {
            let answer = get(&address, &path);
            let referrers_of_none = says.no_referrers && path.contains("/referrers/");
            let expected = if referrers_of_none { 200 } else { 404 };
            if answer.status != expected {
                wrong(&path, format!("status {} instead of {expected}", answer.status));
            }
            // One has headers of its own for what is missing, as its page says.
            let bare = self.host.name() == "azure-static-web-apps";
            if let Some(what) = self.unread(&answer).filter(|_| path.starts_with("/v2/") && !bare) {
                wrong(&path, what);
            }
            let caching = answer.header("cache-control").unwrap_or_default();
            if caching.contains("immutable") {
                wrong(&path, format!("a miss is kept for ever: {caching}"));
            }
        }
        assert!(problems.is_empty(), "{}:\n{}", self.host.name(), problems.into_iter().collect::<Vec<_>>().join("\n"));
    }

    /// What keeps pages of other origins from reading an answer that they may read.
    fn unread(&self, answer: &Answer) -> Option<String> {
        let origin = answer.header("access-control-allow-origin");
        let exposed = answer.header("access-control-expose-headers").unwrap_or_default();
        let may = origin.as_deref() == Some("*") && exposed.contains("Docker-Content-Digest");
        (self.site.cors && !may).then(|| format!("origins {origin:?} may read it, and {exposed:?} of its headers"))
    }

    /// A browser that asks first is told what it may send.
    fn is_asked(&self, emulated: &Emulated) {
        let ask = "OPTIONS /v2/app/manifests/latest HTTP/1.1\r\nHost: registry\r\nOrigin: https://ui.example\r\n\
                   Access-Control-Request-Method: GET\r\nConnection: close\r\n\r\n";
        let answer = exchange(&Address::Tcp(emulated.authority().parse().unwrap()), ask);
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-methods").as_deref(), Some("GET, HEAD"), "{answer:?}");
        let allowed = answer.header("access-control-allow-headers").unwrap_or_default();
        assert!(allowed.contains("Accept"), "{answer:?}");
        assert_eq!(self.unread(&answer), None);
    }

    /// Pulls with real clients, by tag and by digest.
    fn pull(&self, emulated: &Emulated, but: &[&str]) {
        let _alone = alone_in_the_clients();
        let clients: [&dyn Client; 6] =
            [&Skopeo, &Crane, &Oras, Podman::shared(), Dockerd::shared(), Containerd::shared()];
        let clients: Vec<_> = clients.into_iter().filter(|client| !but.contains(&client.name())).collect();
        for (repository, tag, image) in tree::pulled(&self.fixture) {
            let name = format!("{}/{repository}", emulated.authority());
            let reference = format!("{name}:{tag}");
            for client in &clients {
                let who = client.name();
                client.forget(&reference).unwrap();
                let pulled =
                    client.pull(&reference).unwrap_or_else(|e| panic!("{who}, {reference}: {e}\n{}", emulated.log()));
                let digest = image.digest().to_string();
                // Some say the index, some what they took from it.
                let known = image.manifests().any(|manifest| pulled.digests.contains(&manifest.digest().to_string()));
                assert!(known, "{who}, {reference}: {pulled:?} instead of {digest}");
                client.forget(&reference).unwrap();
                client.pull_by_digest(&name, &digest).unwrap_or_else(|e| panic!("{who}, {name}@{digest}: {e}"));
                client.forget(&format!("{name}@{digest}")).unwrap();
            }
        }
    }
}

/// Keeps the pulls from other hosts away: clients keep what they pull in one place, and what one host's pulls forget is gone
/// for another's.
fn alone_in_the_clients() -> MutexGuard<'static, ()> {
    static CLIENTS: Mutex<()> = Mutex::new(());
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a host says of the rules.
#[derive(Clone, Copy)]
struct Says {
    /// The media types.
    types: bool,
    /// The digest of what a digest names.
    digests: bool,
    /// The digest of what a tag names, and all else that takes a script.
    tag_digests: bool,
    /// That nothing refers to something, instead of a 404.
    no_referrers: bool,
}

/// What rules over patterns say.
const RULES: Says = Says { types: true, digests: true, tag_digests: false, no_referrers: false };
/// What rules without captures say.
const TYPES: Says = Says { digests: false, ..RULES };
const SCRIPT: Says = Says { tag_digests: true, ..HTACCESS };
/// What rules with conditions say besides.
const HTACCESS: Says = Says { no_referrers: true, ..RULES };

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn cloudflare_pages() {
    let hosted = Hosted::new("cloudflare-pages", |_, site| site.cors = true);
    let emulated = hosted.emulate(Emulator::CloudflarePages);
    hosted.check(&emulated, RULES);
    // The emulator, unlike the host, says no length, without which this one resolves no tag.
    hosted.pull(&emulated, &["oras"]);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn cloudflare_pages_with_blobs_elsewhere() {
    hybrid("cloudflare-pages", Emulator::CloudflarePages, Form::Site, RULES);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn cloudflare_workers() {
    let hosted = Hosted::new("cloudflare-workers", |_, site| site.cors = true);
    let emulated = hosted.emulate(Emulator::CloudflareWorkers);
    hosted.check(&emulated, RULES);
    hosted.pull(&emulated, &[]);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn cloudflare_workers_with_a_script() {
    let hosted = Hosted::new("cloudflare-workers", |_, site| (site.form, site.cors) = (Form::Edge, true));
    let emulated = hosted.emulate(Emulator::CloudflareWorkers);
    hosted.check(&emulated, SCRIPT);
    hosted.is_asked(&emulated);
    hosted.pull(&emulated, &[]);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn cloudflare_workers_with_a_script_and_blobs_elsewhere() {
    hybrid("cloudflare-workers", Emulator::CloudflareWorkers, Form::Edge, SCRIPT);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn firebase() {
    let hosted = Hosted::new("firebase", |_, site| site.cors = true);
    let emulated = hosted.emulate(Emulator::Firebase);
    hosted.check(&emulated, TYPES);
    hosted.pull(&emulated, &[]);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn firebase_with_blobs_elsewhere() {
    hybrid("firebase", Emulator::Firebase, Form::Site, TYPES);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn azure_static_web_apps() {
    let hosted = Hosted::new("azure-static-web-apps", |_, site| site.cors = true);
    let emulated = hosted.emulate(Emulator::StaticWebApps);
    hosted.check(&emulated, TYPES);
    hosted.pull(&emulated, &[]);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn static_web_server() {
    let hosted = Hosted::new("static-web-server", |_, site| site.cors = true);
    let emulated = hosted.emulate(Emulator::StaticWebServer);
    hosted.check(&emulated, TYPES);
    hosted.pull(&emulated, &[]);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn static_web_server_with_blobs_elsewhere() {
    hybrid("static-web-server", Emulator::StaticWebServer, Form::Site, TYPES);
}

#[test]
fn h2o() {
    let hosted = Hosted::new("h2o", |_, site| site.cors = true);
    let emulated = hosted.emulate(Emulator::H2o);
    hosted.check(&emulated, TYPES);
    hosted.pull(&emulated, &[]);
}

#[test]
fn h2o_with_blobs_elsewhere() {
    hybrid("h2o", Emulator::H2o, Form::Site, TYPES);
}

/// The script answers as the built-in server does, by the same table.
#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn a_script_answers_by_the_rules() {
    let fixture = Fixture::new();
    let survey = fixture.runtime.block_on(Survey::of(&fixture.tree)).unwrap();
    let hosted = Hosted {
        folder: Folder::new(),
        site: Site { survey, form: Form::Edge, ..Site::default() },
        host: host::find("cloudflare-workers").unwrap(),
        fixture,
    };
    hosted.publish();
    let emulated = hosted.emulate(Emulator::CloudflareWorkers);
    let address = Address::Tcp(emulated.authority().parse().unwrap());
    let cases: Vec<_> = cases(&hosted.fixture).into_iter().filter(|case| case.everywhere).collect();
    run("cloudflare-workers with a script", &cases, |case| ask(&address, case, "Connection: close\r\n"));
}

/// Blobs come from another server, with TLS, as some hosts redirect to nothing else.
fn hybrid(host: &str, emulator: Emulator, form: Form, says: Says) {
    let mut blobs = None;
    let hosted = Hosted::new(host, |fixture, site| {
        let (server, url) = over_tls(fixture);
        site.blobs_at = Some(Elsewhere::blobs(&url).unwrap());
        (site.form, site.cors) = (form, true);
        blobs = Some(server);
    });
    let in_site = hosted.folder.join("site").join(hosted.host.public().unwrap()).join("v2/app/blobs");
    assert!(!in_site.exists(), "blobs are in the site");
    let emulated = hosted.emulate(emulator);
    hosted.check(&emulated, says);
    let (repository, tag, _) = tree::pulled(&hosted.fixture).remove(0);
    let _alone = alone_in_the_clients();
    // Those that can be told to trust any certificate.
    for client in [&Skopeo as &dyn Client, Podman::shared()] {
        let reference = format!("{}/{repository}:{tag}", emulated.authority());
        client.forget(&reference).unwrap();
        client.pull(&reference).unwrap_or_else(|e| panic!("{}, {reference}: {e}", client.name()));
        client.forget(&reference).unwrap();
    }
}

/// nginx over the tree, and its URL.
fn over_tls(fixture: &Fixture) -> ((Nginx, Certificates), String) {
    let (port, certificates) = (Port::free(), Certificates::issue(&["IP:127.0.0.1"]));
    let site =
        Site { root: fixture.folder.path().to_str().unwrap().to_owned(), form: Form::Snippet, ..Site::default() };
    let files = host::find("nginx").unwrap().render(&site).unwrap();
    let (inside, before) = (files[0].text.to_string(), files[1].text.to_string());
    // An address of its own, since some redirect to no port.
    let [high, low] = port.number().to_be_bytes();
    let address = format!("127.77.{high}.{low}");
    let url = format!("https://{address}");
    let (certificate, key) = (certificates.certificate(), certificates.key());
    let tls = format!("ssl_certificate {}; ssl_certificate_key {};", certificate.display(), key.display());
    let server =
        format!("{before} server {{ listen {} ssl; listen {address}:443 ssl; {tls} {inside} }}", port.address());
    ((Nginx::start_http(&server, port), certificates), url)
}
