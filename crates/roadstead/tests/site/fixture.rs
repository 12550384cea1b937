//! A tree with something of everything, and servers over it.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
use roadstead::oci::{Algorithm, Manifest, Reference, Repository, Tag};
use roadstead::server::{Origin, ServeOptions, Server};
use roadstead::store::LocalStore;
use roadstead::testing::{Format, Image, ImageBuilder, IndexBuilder, MemorySource};
use roadstead::tree::Tree;
use roadstead_parts::{Invocation, part};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::client::Address;

/// A tree in a folder that everyone may read, as nginx's workers must.
pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    pub(crate) tree: Tree,
    pub(crate) runtime: Runtime,
    pub(crate) image: Image,
    pub(crate) index: Image,
    pub(crate) sha512: Image,
    /// Of Docker's schema 1: its digest is not that of its bytes.
    pub(crate) signed: Image,
    /// Of a type that no specification has.
    pub(crate) odd: Image,
    /// Refers to `image`.
    pub(crate) artifact: Image,
    source: MemorySource,
}

/// The repositories: one component to five, and names that are also words of the API.
pub(crate) const REPOSITORIES: [&str; 6] =
    ["app", "a/b/c/d/e", "x/manifests/y", "blobs", "tags/list-of/referrers", "a__b/c-d.e"];

impl Fixture {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
        let image = ImageBuilder::new().greeting("hello").build();
        let index =
            IndexBuilder::new().format(Format::Docker).image(ImageBuilder::new().format(Format::Docker).build());
        let artifact = ImageBuilder::new().artifact_type("application/x.test").subject(&image.descriptor()).build();
        let sha512 = ImageBuilder::new().algorithm(Algorithm::Sha512).greeting("long").build();
        let signed = ImageBuilder::new().format(Format::Schema1Signed).greeting("signed").name("app").build();
        let odd = ImageBuilder::new().greeting("odd").build();
        let text = String::from_utf8(odd.manifest.bytes().to_vec()).unwrap();
        let text = text.replace(odd.manifest.media_type().as_str(), "application/vnd.example.odd.v1+json");
        let odd = Image { manifest: Manifest::parse(text.into(), Algorithm::Sha256).unwrap(), ..odd };
        let store = Arc::new(LocalStore::create(folder.path()).unwrap());
        let tree = runtime.block_on(Tree::create(store)).unwrap();
        let fixture = Self {
            folder,
            tree,
            runtime,
            image,
            index: index.build(),
            sha512,
            signed,
            odd,
            artifact,
            source: MemorySource::new(),
        };
        for repository in REPOSITORIES {
            fixture.add(repository, &["1.0.html", "latest"], &fixture.image);
        }
        fixture.add("app", &["index"], &fixture.index);
        fixture.add("app", &["long"], &fixture.sha512);
        fixture.add("app", &["old"], &fixture.signed);
        fixture.add("app", &["odd"], &fixture.odd);
        fixture.add("app", &[], &fixture.artifact);
        std::fs::write(fixture.folder.path().join("index.html"), "<p>hello").unwrap();
        std::fs::write(fixture.folder.path().join("secret.key"), "secret").unwrap();
        std::fs::create_dir(fixture.folder.path().join("empty")).unwrap();
        fixture
    }

    /// Copies an image into the tree, as another process would.
    pub(crate) fn add(&self, repository: &str, tags: &[&str], image: &Image) {
        self.source.add(repository, image);
        let name: Repository = repository.parse().unwrap();
        let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        self.runtime.block_on(async {
            let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
            let sink = self.tree.repository(&name).await.unwrap();
            let reference = Reference::Digest(image.digest());
            copier.copy(&*self.source.repository(&name), &reference, &*sink, &tags).await.unwrap();
            sink.finish().await.unwrap();
        });
    }

    /// A manifest that lies in the tree, and its largest blob.
    pub(crate) fn blob(&self) -> (String, &[u8]) {
        let (digest, bytes) = self.image.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
        (digest.to_string(), bytes)
    }

    /// The tree's names as plain files, for a place that knows no links.
    pub(crate) fn plain_files(&self) -> TempDir {
        let site = tempfile::tempdir().unwrap();
        let copy = Invocation::new(part::installed("cp")).args(["-R", "-L"]);
        let [v2, page] = ["v2", "index.html"].map(|name| self.folder.path().join(name));
        copy.arg(v2).arg(page).arg(site.path()).run().unwrap();
        site
    }

    pub(crate) fn serve(&self, options: ServeOptions) -> Serving {
        serve(&self.runtime, self.tree.clone(), options)
    }
}

/// Serves from an origin, at a free port.
pub(crate) fn serve(runtime: &Runtime, origin: impl Into<Origin>, options: ServeOptions) -> Serving {
    let options = ServeOptions { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()], ..options };
    serve_there(runtime, origin, options)
}

/// The same where the options say.
pub(crate) fn serve_there(runtime: &Runtime, origin: impl Into<Origin>, options: ServeOptions) -> Serving {
    let server = runtime.block_on(Server::bind(origin, options)).unwrap();
    let mut addresses: Vec<_> = server.places().map(Address::of).collect();
    let status = server.status_addr().map(Address::Tcp);
    let address = addresses.remove(0);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = runtime.spawn(server.run(async {
        let _ = stopped.await;
    }));
    Serving { address, others: addresses, status, stop, running }
}

/// A server that runs until this is dropped or stopped.
pub(crate) struct Serving {
    pub(crate) address: Address,
    /// Where else it listens.
    pub(crate) others: Vec<Address>,
    /// Where it tells of itself.
    pub(crate) status: Option<Address>,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) running: tokio::task::JoinHandle<()>,
}
