//! Writers of one bucket, all of whose lists name in the end what all have written.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
use roadstead::oci::{Reference, Repository};
use roadstead::store::MemoryStore;
use roadstead::testing::{Image, ImageBuilder, MemorySource};

use crate::explore::{Bounds, Done, Scene, explore};
use crate::removal::{add, image, open, prepared, shown, tags};
use crate::world::{World, read};

fn first(world: World) -> LocalBoxFuture<'static, Done> {
    async move { add(&open(&world, 0).await?, "app:first", &image("first")).await }.boxed_local()
}

fn second(world: World) -> LocalBoxFuture<'static, Done> {
    async move { add(&open(&world, 1).await?, "app:second", &image("second")).await }.boxed_local()
}

fn first_own(world: World) -> LocalBoxFuture<'static, Done> {
    async move { add(&open(&world, 0).await?, "own/first:1", &image("base")).await }.boxed_local()
}

fn second_own(world: World) -> LocalBoxFuture<'static, Done> {
    async move { add(&open(&world, 1).await?, "own/second:1", &image("base")).await }.boxed_local()
}

fn signature(text: &str) -> Image {
    let signature = ImageBuilder::new().artifact_type("application/vnd.example.signature");
    signature.subject(&image("base").descriptor()).blob("text/plain", text.to_owned()).build()
}

/// Copies a signature, which no tag names.
async fn sign(world: &World, actor: usize, text: &str) -> Done {
    let (source, app): (MemorySource, Repository) = (MemorySource::new(), "base".parse().unwrap());
    source.add("base", &signature(text));
    let tree = open(world, actor).await?;
    let from = source.repository(&app);
    let copied = async {
        let to = tree.repository(&app).await?;
        let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
        copier.copy(&*from, &Reference::Digest(signature(text).digest()), &*to, &[]).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(to.finish().await?)
    };
    copied.await.map_err(|error| shown(&*error))
}

fn first_signer(world: World) -> LocalBoxFuture<'static, Done> {
    async move { sign(&world, 0, "first").await }.boxed_local()
}

fn second_signer(world: World) -> LocalBoxFuture<'static, Done> {
    async move { sign(&world, 1, "second").await }.boxed_local()
}

fn base() -> MemoryStore {
    prepared(async |tree| add(tree, "base:1", &image("base")).await.unwrap())
}

fn all_are(ends: &[Option<Done>], names: [&str; 2], listed: impl Fn(&str) -> bool) -> Result<(), String> {
    for (end, name) in ends.iter().zip(names) {
        match end {
            Some(Err(error)) => return Err(format!("{name} failed, though nobody took it for dead: {error}")),
            Some(Ok(())) if !listed(name) => return Err(format!("{name} was acknowledged and is not listed")),
            _ => {}
        }
    }
    Ok(())
}

fn tags_are_listed(store: &MemoryStore, ends: &[Option<Done>]) -> Result<(), String> {
    let (offered, named) = tags(store, "app");
    all_are(ends, ["first", "second"], |name| {
        offered.iter().any(|tag| tag == name) && named.iter().any(|tag| tag == name)
    })
}

fn repositories_are_listed(store: &MemoryStore, ends: &[Option<Done>]) -> Result<(), String> {
    let catalog = String::from_utf8(read(store, "v2/_catalog").unwrap().to_vec()).unwrap();
    all_are(ends, ["own/first", "own/second"], |name| catalog.contains(&format!("\"{name}\"")))
}

fn signatures_are_listed(store: &MemoryStore, ends: &[Option<Done>]) -> Result<(), String> {
    let subject = image("base").digest();
    let list = read(store, &format!("v2/base/referrers/{subject}")).unwrap_or_default();
    let fallback = read(store, &format!("v2/base/manifests/{}", subject.to_string().replace(':', "-")));
    if ends.iter().all(Option::is_some) && fallback.as_ref() != Some(&list) {
        return Err(format!("the fallback is another list: {fallback:?} in place of {list:?}"));
    }
    let list = String::from_utf8(list.to_vec()).unwrap();
    all_are(ends, ["first", "second"], |name| list.contains(&signature(name).digest().to_string()))
}

const KILLS: Bounds = Bounds { switches: 1, faults: 1 };
const ORDERS: Bounds = Bounds { switches: 2, faults: 0 };

#[test]
fn of_tags() {
    let scene = Scene { prepare: base, actors: vec![first, second], judge: tags_are_listed };
    explore(&scene, ORDERS);
    explore(&scene, KILLS);
}

#[test]
fn of_repositories() {
    let scene = Scene { prepare: base, actors: vec![first_own, second_own], judge: repositories_are_listed };
    explore(&scene, ORDERS);
    explore(&scene, KILLS);
}

#[test]
fn of_referrers() {
    let scene = Scene { prepare: base, actors: vec![first_signer, second_signer], judge: signatures_are_listed };
    explore(&scene, ORDERS);
    explore(&scene, KILLS);
}
