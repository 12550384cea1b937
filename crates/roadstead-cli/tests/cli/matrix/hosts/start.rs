//! How each host is started over a tree.

use std::any::Any;
use std::fs;
use std::path::Path;

use roadstead_parts::{
    Azurite, BucketServer, Buckets, Emulator, Extent, FakeGcs, Folder, Invocation, Kubo, Miniflare, Nginx, PlainServer,
    Port, R2Object, WebServer, part,
};

use super::super::Says;
use crate::support::{Place, Ran};

/// A host that serves the tree of a place, as long as this lives.
pub(super) struct Deployed {
    pub(super) authority: String,
    _running: Box<dyn Any + Sync + Send>,
}

impl Deployed {
    fn new(authority: String, running: impl Any + Sync + Send) -> Self {
        Self { authority, _running: Box::new(running) }
    }
}

/// A host, and what takes its place on a machine.
pub(super) struct Deploy {
    pub(super) name: &'static str,
    /// What answers.
    pub(super) by: &'static str,
    /// Why some client can't pull what it pulls elsewhere. Without it, every client has to.
    pub(super) but: Option<&'static str>,
    /// Which digests it says. Where not those of tags, nobody knows that a tag stands for a sha512 digest.
    pub(super) says: Says,
    /// Starts it over the tree of a place.
    pub(super) start: fn(&Place) -> Deployed,
}

/// Those that are there wherever the tests are.
pub(super) const START: &[Deploy] = &[
    Deploy { name: "serve", by: "itself", but: None, says: Says::Tags, start: serve },
    Deploy { name: "nginx", by: "itself", but: None, says: Says::Tags, start: nginx },
    Deploy { name: "caddy", by: "itself", but: None, says: Says::Digests, start: |place| web_server(place, "caddy") },
    Deploy { name: "apache", by: "itself", but: None, says: Says::Tags, start: |place| web_server(place, "apache") },
    Deploy {
        name: "lighttpd",
        by: "itself",
        but: None,
        says: Says::Tags,
        start: |place| web_server(place, "lighttpd"),
    },
    Deploy {
        name: "h2o",
        by: "itself",
        but: None,
        says: Says::Nothing,
        start: |place| plain(place, "h2o", Emulator::H2o, &[]),
    },
    Deploy {
        name: "apache-htaccess",
        by: "Apache",
        but: None,
        says: Says::Digests,
        start: |place| plain(place, "apache-htaccess", Emulator::SharedHosting, &[]),
    },
];

/// Those that take minutes to install.
pub(super) const EMULATED: &[Deploy] = &[
    Deploy {
        name: "static-web-server",
        by: "itself",
        but: None,
        says: Says::Nothing,
        start: |place| plain(place, "static-web-server", Emulator::StaticWebServer, &[]),
    },
    Deploy {
        name: "cloudflare-pages",
        by: "`wrangler pages dev`",
        but: Some("the emulator, unlike the service, says no length, without which oras resolves no tag"),
        says: Says::Digests,
        start: |place| plain(place, "cloudflare-pages", Emulator::CloudflarePages, &[]),
    },
    Deploy {
        name: "cloudflare-workers",
        by: "`wrangler dev`",
        but: None,
        says: Says::Digests,
        start: |place| plain(place, "cloudflare-workers", Emulator::CloudflareWorkers, &[]),
    },
    Deploy {
        name: "netlify",
        by: "`netlify dev`",
        but: Some("the emulator, unlike the service, can't replace a `Content-Type`"),
        says: Says::Nothing,
        start: |place| plain(place, "netlify", Emulator::Netlify, &[]),
    },
    Deploy {
        name: "firebase",
        by: "`firebase emulators:start`",
        but: None,
        says: Says::Nothing,
        start: |place| plain(place, "firebase", Emulator::Firebase, &[]),
    },
    Deploy {
        name: "azure-static-web-apps",
        by: "`swa start`",
        but: None,
        says: Says::Nothing,
        start: |place| plain(place, "azure-static-web-apps", Emulator::StaticWebApps, &[]),
    },
    Deploy { name: "r2", by: "Miniflare", but: None, says: Says::Tags, start: r2 },
    Deploy {
        name: "github-pages",
        by: "`python3 -m http.server`",
        but: Some("nobody says media types; with `--flavour schema1` podman, skopeo and Docker 20.10 pull"),
        says: Says::Nothing,
        start: |place| {
            let server = PlainServer::start(&place.tree());
            Deployed::new(server.authority(), server)
        },
    },
    Deploy {
        name: "gitlab-pages",
        by: "`netlify dev`, which reads the same `_redirects`; manifests at nginx",
        but: None,
        says: Says::Tags,
        start: |place| {
            let manifests = nginx(place);
            let url = format!("http://{}", manifests.authority);
            let site = plain(place, "gitlab-pages", Emulator::Netlify, &["--manifests-at", &url]);
            Deployed::new(site.authority.clone(), (manifests, site))
        },
    },
    Deploy {
        name: "ipfs",
        by: "Kubo's gateway, nginx in front for the CID",
        but: Some(
            "media types are guessed from the bytes; with `--flavour schema1` podman, skopeo and Docker 20.10 pull",
        ),
        says: Says::Nothing,
        start: ipfs,
    },
];

/// Buckets, in servers that speak their vendors' APIs and take a while to install.
pub(super) const BUCKETS: &[Deploy] = &[
    Deploy {
        name: "s3",
        by: "versitygw, nginx in front for the bucket's name",
        but: None,
        says: Says::Nothing,
        start: s3,
    },
    Deploy {
        name: "gcs",
        by: "fake-gcs-server, nginx in front for the bucket's name",
        but: None,
        says: Says::Nothing,
        start: gcs,
    },
    Deploy {
        name: "azure-blob",
        by: "Azurite, nginx in front for the container's name; a container, since Azurite has no web sites",
        but: None,
        says: Says::Nothing,
        start: azure_blob,
    },
];

/// Hosts that aren't started here, and why.
pub(super) const NOT_HERE: &[(&str, &str)] = &[
    ("vercel", "nothing runs its configuration without its vendor"),
    ("amplify", "nothing runs its configuration without its vendor"),
    ("render", "nothing runs its configuration without its vendor"),
    ("cloudfront", "nothing runs it without its vendor; crates/roadstead/tests/site/cloudfront.rs runs its functions"),
    ("compose", SHELL),
    ("kubernetes", SHELL),
    ("systemd", SHELL),
];

const SHELL: &str = "it starts serve, nginx or caddy, which are here; that it does is proven in `shells.rs`";

fn serve(place: &Place) -> Deployed {
    let (serve, authority) = place.serve(&place.tree());
    Deployed::new(authority, serve)
}

fn nginx(place: &Place) -> Deployed {
    let port = Port::free();
    let (_, text) = config(place, "nginx", &port).remove(0);
    let nginx = Nginx::start_http(&text, port);
    Deployed::new(nginx.authority(), nginx)
}

/// A folder of plain files, as `publish` writes it.
fn plain(place: &Place, host: &str, emulator: Emulator, options: &[&str]) -> Deployed {
    let site = Folder::new();
    let to = format!("site:{}", site.join("site").display());
    place.run(&[&["publish", &to, "--host", host], options].concat()).ok();
    let running = emulator.start(&site.join("site"));
    Deployed::new(running.authority(), (running, site))
}

fn web_server(place: &Place, name: &str) -> Deployed {
    let port = Port::free();
    let server = WebServer::start(name, &config(place, name, &port), Extent::Site, port);
    Deployed::new(server.authority(), server)
}

/// The files that `roadstead config` writes, scripts last.
fn config(place: &Place, name: &str, port: &Port) -> Vec<(String, String)> {
    let folder = Folder::new();
    let listen = port.address().to_string();
    let into = folder.path().display().to_string();
    place.run(&["config", name, "--listen", &listen, "--output", &into]).ok();
    let mut files: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect();
    files.sort_by_key(|(name, _)| (name.ends_with(".lua"), name.clone()));
    files
}

/// Something that answers by paths of its own, with a name of its own in front of them.
fn behind_a_name(url: &str) -> Nginx {
    let port = Port::free();
    let http = format!("server {{ listen {}; location / {{ proxy_pass {url}/; }} }}", port.address());
    Nginx::start_http(&http, port)
}

/// A copy of the tree in a bucket that the script of `config s3` has opened.
fn s3(place: &Place) -> Deployed {
    const TREE: &str = "s3://images";
    let buckets = BucketServer::Versitygw.start(&["images"]);
    let folder = Folder::new();
    let run = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("ROADSTEAD_TREE", TREE).env("AWS_ENDPOINT_URL", buckets.url());
        command.env("AWS_ACCESS_KEY_ID", Buckets::ID).env("AWS_SECRET_ACCESS_KEY", Buckets::SECRET);
        Ran::of(&mut command).ok()
    };
    run(&["add", "--referrers", &format!("tree:{}//", place.tree().display())]);
    let script = folder.write("s3.sh", run(&["config", "s3"]).text());
    let script = Invocation::new(part::installed("sh")).arg(script).env("ENDPOINT_URL", buckets.url());
    let keys = [("AWS_ACCESS_KEY_ID", Buckets::ID), ("AWS_SECRET_ACCESS_KEY", Buckets::SECRET)];
    let script = keys.into_iter().fold(script, |script, (name, value)| script.env(name, value));
    let ran = script.env("AWS_DEFAULT_REGION", "us-east-1").env("HOME", folder.path()).run();
    ran.unwrap_or_else(|failure| panic!("{failure}"));
    let nginx = behind_a_name(&format!("{}/images", buckets.url()));
    Deployed::new(nginx.authority(), (buckets, nginx))
}

/// What `publish` makes of the tree in a bucket that anybody may read. Nothing enforces what the script of `config gcs` sets.
fn gcs(place: &Place) -> Deployed {
    let server = FakeGcs::start(&["images"]);
    Ran::of(place.command(&["publish", "gs://images"]).env("STORAGE_EMULATOR_HOST", server.url())).ok();
    let nginx = behind_a_name(&format!("{}/images", server.url()));
    Deployed::new(nginx.authority(), (server, nginx))
}

/// The same in a container, behind the proxy of the host's page.
fn azure_blob(place: &Place) -> Deployed {
    let azurite = Azurite::start(&[]);
    azurite.create_public("images");
    let mut publish = place.command(&["publish", "az://images"]);
    publish.env("AZURE_STORAGE_SERVICE_ENDPOINT", azurite.url()).env("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT);
    Ran::of(publish.env("AZURE_STORAGE_KEY", Azurite::KEY)).ok();
    let nginx = behind_a_name(&format!("{}/images", azurite.url()));
    Deployed::new(nginx.authority(), (azurite, nginx))
}

/// What the tree is as the objects of a bucket, behind the Worker of `config r2`.
fn r2(place: &Place) -> Deployed {
    let folder = Folder::new();
    let into = folder.path().display().to_string();
    place.run(&["config", "r2", "--server-root", "s3://images", "--output", &into]).ok();
    let mut objects = vec![object(&place.tree(), "v2/", "v2/index.html")];
    walk(&place.tree(), "v2", &mut objects);
    let running = Miniflare::start(&folder.join("worker.js"), &objects);
    Deployed::new(running.port().address().to_string(), (running, folder))
}

fn walk(tree: &Path, key: &str, objects: &mut Vec<R2Object>) {
    for entry in fs::read_dir(tree.join(key)).unwrap() {
        let below = format!("{key}/{}", entry.unwrap().file_name().into_string().unwrap());
        // Folders and links to files: the tree has no links to folders.
        if tree.join(&below).is_dir() {
            walk(tree, &below, objects);
        } else {
            objects.push(object(tree, &below, &below));
        }
    }
}

/// A file of the tree as an object: the place of what it names says type and digest.
fn object(tree: &Path, key: &str, file: &str) -> R2Object {
    let path = tree.join(file).canonicalize().unwrap();
    let content = path.strip_prefix(tree.canonicalize().unwrap().join("content")).ok();
    let content = content.map(|content| content.to_str().unwrap().to_owned());
    let (content_type, digest) = match content.as_deref().and_then(|content| content.rsplit_once('/')) {
        Some((place, digest)) => {
            (place.strip_prefix("manifests/").unwrap_or("application/octet-stream"), Some(digest.to_owned()))
        }
        None if key.contains("/referrers/") => ("application/vnd.oci.image.index.v1+json", None),
        None => ("application/json", None),
    };
    let bytes = fs::read(path).unwrap();
    R2Object { key: key.to_owned(), bytes, content_type: Some(content_type.to_owned()), cache_control: None, digest }
}

fn ipfs(place: &Place) -> Deployed {
    let (kubo, site) = (Kubo::start(), Folder::new());
    // The same files as for any other host without headers.
    place.run(&["publish", &format!("site:{}", site.join("site").display()), "--host", "gitlab-pages"]).ok();
    let cid = kubo.add(&site.join("site/public"));
    let nginx = behind_a_name(&kubo.url(&cid));
    Deployed::new(nginx.authority(), (kubo, nginx))
}
