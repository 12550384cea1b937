use std::sync::Arc;

use futures::TryStreamExt as _;
use roadstead::http::{Client, ClientOptions};
use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
use roadstead::oci::{Reference, Repository, Tag};
use roadstead::store::bucket::{BucketOptions, Keys};
use roadstead::store::{BucketStore, Key, Listed, Store as _};
use roadstead::testing::{Image, ImageBuilder, IndexBuilder, MemorySource, TestClock};
use roadstead::tree::Tree;
use roadstead_parts::{Buckets, Crane, Nginx, Oras, Port, Skopeo};

/// Who may do everything on the servers of the tests.
pub(crate) fn keys() -> Keys {
    Keys { id: Buckets::ID.to_owned(), secret: Buckets::SECRET.into(), token: None }
}

pub(crate) fn options(endpoint: &str) -> BucketOptions {
    BucketOptions {
        endpoint: Some(endpoint.to_owned()),
        credentials: Some(Arc::new(keys())),
        ..BucketOptions::default()
    }
}

/// The store in a bucket, or below a prefix of one.
pub(crate) fn open(at: &str, options: BucketOptions) -> BucketStore {
    let client = Client::new(ClientOptions::default()).unwrap();
    BucketStore::open(at.parse().unwrap(), client, options).unwrap()
}

/// A client that doesn't wait.
pub(crate) fn impatient() -> Client {
    Client::new(ClientOptions { clock: Arc::new(TestClock::default()), ..ClientOptions::default() }).unwrap()
}

/// Every object of a store. Its server keeps nothing in files that would be called like it.
pub(crate) fn objects(store: &BucketStore) -> Vec<String> {
    let store = store.clone();
    let listing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut folders: Vec<Key> = [".roadstead", "v2"].map(|name| name.parse().unwrap()).into();
            let mut found = Vec::new();
            while let Some(folder) = folders.pop() {
                let mut listed = store.list(&folder);
                while let Some(entry) = listed.try_next().await.unwrap() {
                    match entry {
                        Listed::Object(key) => found.push(key.to_string()),
                        Listed::Prefix(key) => folders.push(key),
                    }
                }
            }
            found
        })
    });
    listing.join().unwrap()
}

/// Makes a tree with an image and has clients pull it by tag and digest from where anybody may read its objects, below a URL.
pub(crate) async fn clients_pull(store: BucketStore, below: &str) -> Image {
    let tree = Tree::create(Arc::new(store)).await.unwrap();
    let of = |platform| ImageBuilder::new().layer("public").platform(platform).build();
    let index = IndexBuilder::new().image(of("linux/amd64")).image(of("linux/arm64")).build();
    let (name, source): (Repository, _) = ("org/app".parse().unwrap(), MemorySource::new());
    source.add("org/app:1", &index);
    let to = tree.repository(&name).await.unwrap();
    let (copier, tag) = (Copier::new(CopyOptions::default(), Arc::new(Silent)), "1".parse::<Tag>().unwrap());
    copier.copy(&*source.repository(&name), &Reference::Tag(tag.clone()), &*to, &[tag]).await.unwrap();
    to.finish().await.unwrap();

    // Clients ask for /v2/ where a host's name ends, which is where an emulator has an account or a bucket.
    let port = Port::free();
    let at = port.address();
    let http = format!("server {{ listen {at}; location / {{ proxy_pass {below}/; }} }}");
    let nginx = Nginx::start_http(&http, port);
    for client in [&Skopeo as &dyn roadstead_parts::Client, &Crane, &Oras] {
        for reference in [":1".to_owned(), format!("@{}", index.digest())] {
            let pulled = client.pull(&format!("{}/org/app{reference}", nginx.authority()));
            pulled.unwrap_or_else(|failure| panic!("{below}, {}: {failure}", client.name()));
        }
    }
    index
}
