//! Writers that know nothing of each other, as in processes on several machines: each has a store and a tree of its own, and so
//! locks that keep nobody else away.

use std::sync::Arc;

use futures::future::join_all;
use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
use roadstead::oci::{Reference, Repository, Tag};
use roadstead::store::bucket::BucketOptions;
use roadstead::testing::contract::store::bytes_of;
use roadstead::testing::{ImageBuilder, MemorySource};
use roadstead::tree::{Tree, TreeError};
use roadstead_parts::{BucketServer, Buckets};

use crate::support::{open, options};

const WRITERS: usize = 6;
const IMAGES: usize = 4;

async fn tree(buckets: &Buckets) -> Tree {
    Tree::create(Arc::new(open("s3://shared/tree", options(&buckets.url())))).await.unwrap()
}

async fn nothing_is_lost(server: BucketServer) {
    let buckets = server.start(&["shared"]);
    let subject = ImageBuilder::new().layer("what all are about").build();
    let writers = (0..WRITERS).map(|writer| {
        let (subject, buckets) = (subject.clone(), &buckets);
        async move {
            let tree = tree(buckets).await;
            let copier = Copier::new(CopyOptions { referrers: true, ..CopyOptions::default() }, Arc::new(Silent));
            for image in 0..IMAGES {
                let source = MemorySource::new();
                let own = ImageBuilder::new().layer("shared").layer(format!("{writer}.{image}")).build();
                source.add(&format!("app:{writer}-{image}"), &own);
                source.add(&format!("own/{writer}-{image}:1"), &own);
                let referrer = ImageBuilder::new()
                    .artifact_type("application/vnd.example.signature")
                    .subject(&subject.descriptor())
                    .blob("text/plain", format!("{writer}.{image}"))
                    .build();
                source.add("app:subject", &subject);
                source.add(&format!("app:referrer-{writer}-{image}"), &referrer);
                for (name, tag) in [
                    ("app".to_owned(), format!("{writer}-{image}")),
                    (format!("own/{writer}-{image}"), "1".to_owned()),
                    ("app".to_owned(), "subject".to_owned()),
                ] {
                    let (name, tag): (Repository, Tag) = (name.parse().unwrap(), tag.parse().unwrap());
                    let (from, to) = (source.repository(&name), tree.repository(&name).await.unwrap());
                    copier.copy(&*from, &Reference::Tag(tag.clone()), &*to, &[tag]).await.unwrap();
                    to.finish().await.unwrap();
                }
            }
        }
    });
    join_all(writers).await;

    let tree = tree(&buckets).await;
    let app: Repository = "app".parse().unwrap();
    let read = async |object: Result<Option<roadstead::store::Object>, TreeError>| {
        String::from_utf8(bytes_of(object.unwrap().expect("the list is there")).await.to_vec()).unwrap()
    };
    let (tags, catalog) = (read(tree.tags_list(&app).await).await, read(tree.catalog().await).await);
    let referrers = read(tree.referrers(&app, &subject.digest()).await).await;
    let fallback = Reference::Tag(Tag::referrers_fallback(&subject.digest()));
    let fallback = tree.find(&app, &fallback).await.unwrap().unwrap();
    assert_eq!(fallback.bytes(), referrers.as_bytes(), "{server:?}: the fallback is another list");
    assert_eq!(referrers.matches("\"digest\"").count(), WRITERS * IMAGES, "{server:?}: {referrers}");
    for writer in 0..WRITERS {
        for image in 0..IMAGES {
            assert!(tags.contains(&format!("\"{writer}-{image}\"")), "{server:?}: {tags}");
            assert!(catalog.contains(&format!("\"own/{writer}-{image}\"")), "{server:?}: {catalog}");
        }
    }

    assert!(tree.remove(&app, None).await.unwrap().bytes > 0);
    assert!(tree.tags_list(&app).await.unwrap().is_none());
    // Who vouches for being alone needs no permission of others.
    let alone = BucketOptions { alone: true, ..options(&buckets.url()) };
    let alone = Tree::open(Arc::new(open("s3://shared/tree", alone))).await.unwrap();
    assert!(alone.remove(&"own/0-0".parse().unwrap(), None).await.unwrap().bytes > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_in_versitygw() {
    nothing_is_lost(BucketServer::Versitygw).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn nothing_is_lost_in_minio() {
    nothing_is_lost(BucketServer::Minio).await;
}
