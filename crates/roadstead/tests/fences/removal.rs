//! A tag is removed while images come that need what it needs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
use roadstead::oci::{Reference, Repository, Tag};
use roadstead::publish::{Plan, PlanOptions, PublishError, TransferOptions};
use roadstead::store::{MemoryStore, Naming, Store};
use roadstead::testing::{Image, ImageBuilder, MemorySource};
use roadstead::tree::{PruneOptions, Tree, TreeError};

use crate::explore::{Bounds, Done, Scene, explore, sample};
use crate::world::{World, names, read};

pub(crate) fn image(text: &str) -> Image {
    ImageBuilder::new().layer("shared").layer(text.to_owned()).build()
}

fn app() -> Repository {
    "app".parse().unwrap()
}

/// Adds an image to a tree.
pub(crate) async fn add(tree: &Tree, name: &str, image: &Image) -> Done {
    let source = MemorySource::new();
    source.add(name, image);
    let (repository, tag) = name.split_once(':').unwrap();
    let (repository, tag): (Repository, Tag) = (repository.parse().unwrap(), tag.parse().unwrap());
    let from = source.repository(&repository);
    let copied = async {
        let to = tree.repository(&repository).await?;
        let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
        copier.copy(&*from, &Reference::Tag(tag.clone()), &*to, &[tag]).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(to.finish().await?)
    };
    copied.await.map_err(|error| shown(&*error))
}

pub(crate) fn shown(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Does something at once, in a store that nobody disturbs.
pub(crate) fn prepared(work: impl AsyncFnOnce(&Tree)) -> MemoryStore {
    let store = MemoryStore::new(Naming::Copies);
    let prepare = async {
        let tree = Tree::create(Arc::new(store.clone()) as Arc<dyn Store>).await.unwrap();
        work(&tree).await;
    };
    prepare.now_or_never().expect("memory does not wait");
    store
}

pub(crate) async fn open(world: &World, actor: usize) -> Result<Tree, String> {
    Tree::open(Arc::new(world.client(actor))).await.map_err(|e| shown(&e))
}

/// The tags that the bucket offers, and that its list names.
pub(crate) fn tags(store: &MemoryStore, repository: &str) -> (Vec<String>, Vec<String>) {
    let folder = format!("v2/{repository}/manifests");
    let offered = names(store, &folder).into_iter().filter_map(|name| Some(name.rsplit_once('/')?.1.to_owned()));
    let offered = offered.filter(|name| !name.contains(':')).collect();
    let list = read(store, &format!("v2/{repository}/tags/list"));
    let list: serde_json::Value = list.map_or_else(Default::default, |list| serde_json::from_slice(&list).unwrap());
    let named = list["tags"].as_array().into_iter().flatten().map(|tag| tag.as_str().unwrap().to_owned());
    (offered, named.collect())
}

async fn publish(world: &World, actor: usize, from: &Tree) -> Done {
    let how = TransferOptions { jobs: 1, bandwidth: None, clobber: true, events: Arc::new(Silent) };
    let to = open(world, actor).await?;
    for _ in 0..4 {
        let plan = Plan::compare(from, Some(&to), &PlanOptions::default()).await.map_err(|e| shown(&e))?;
        let errors = plan.carry_out(from, &to, &how).await;
        match &*errors {
            [] => return Ok(()),
            [PublishError::Overtaken { .. }] => {}
            [error, ..] => return Err(shown(error)),
        }
    }
    Err("it is compared again and again".to_owned())
}

/// Somebody publishes what is there under another tag, which takes nothing but that tag.
fn publisher(world: World) -> LocalBoxFuture<'static, Done> {
    async move {
        let from = Tree::create(Arc::new(MemoryStore::new(Naming::Links))).await.unwrap();
        add(&from, "app:new", &image("old")).await.unwrap();
        publish(&world, 0, &from).await
    }
    .boxed_local()
}

/// Somebody adds an image that shares a layer with what is there.
fn adder(world: World) -> LocalBoxFuture<'static, Done> {
    async move { add(&open(&world, 0).await?, "app:new", &image("new")).await }.boxed_local()
}

fn second_adder(world: World) -> LocalBoxFuture<'static, Done> {
    async move { add(&open(&world, 2).await?, "app:third", &image("old")).await }.boxed_local()
}

fn remover(world: World) -> LocalBoxFuture<'static, Done> {
    async move {
        let removed = open(&world, 1).await?.remove(&app(), Some(&"old".parse().unwrap())).await;
        match removed {
            // Killed or fenced behind its last name, or done twice.
            Ok(_) | Err(TreeError::Unknown(_)) => Ok(()),
            Err(error) => Err(shown(&error)),
        }
    }
    .boxed_local()
}

/// What no tag leads to is removed.
fn pruner(world: World) -> LocalBoxFuture<'static, Done> {
    async move {
        let tree = open(&world, 1).await?;
        let options =
            PruneOptions { untagged: true, older_than: Duration::ZERO, ..PruneOptions::new(SystemTime::UNIX_EPOCH) };
        tree.prune(&options, &|_| {}).await.map(drop).map_err(|e| shown(&e))
    }
    .boxed_local()
}

fn one_image() -> MemoryStore {
    prepared(async |tree| add(tree, "app:old", &image("old")).await.unwrap())
}

/// An image that no tag names any more.
fn untagged() -> MemoryStore {
    prepared(async |tree| {
        add(tree, "app:old", &image("old")).await.unwrap();
        add(tree, "app:kept", &image("kept")).await.unwrap();
        tree.delete_tag(&app(), &"old".parse().unwrap()).await.unwrap();
    })
}

/// What was acknowledged is there, and what was removed is not.
fn judge(store: &MemoryStore, ends: &[Option<Done>]) -> Result<(), String> {
    let (offered, named) = tags(store, "app");
    for (end, tag) in [(&ends[0], "new")].into_iter().chain(ends.get(2).map(|end| (end, "third"))) {
        if *end == Some(Ok(())) && !(offered.iter().any(|there| there == tag) && named.iter().any(|there| there == tag))
        {
            return Err(format!("{tag} was acknowledged; offered are {offered:?}, and listed {named:?}"));
        }
    }
    if ends[1] == Some(Ok(())) && offered.iter().any(|tag| tag == "old") {
        return Err(format!("a tag that was removed is there: {offered:?}"));
    }
    // Whoever ended by itself has left no sign.
    if ends.iter().all(|end| *end == Some(Ok(()))) {
        let left = names(store, ".roadstead/writers");
        let gate = String::from_utf8(read(store, ".roadstead/format").unwrap().to_vec()).unwrap();
        if offered != named || !left.is_empty() || gate.contains("removing") {
            return Err(format!("offered are {offered:?}, and listed {named:?}; {left:?} is left, and {gate}"));
        }
    }
    Ok(())
}

/// One change of turn, and one kill or stop.
const FAULTS: Bounds = Bounds { switches: 1, faults: 1 };

/// Changes of turn alone.
const ORDERS: Bounds = Bounds { switches: 2, faults: 0 };

#[test]
fn a_tag_for_what_is_being_removed() {
    let scene = Scene { prepare: one_image, actors: vec![publisher, remover], judge };
    assert!(explore(&scene, FAULTS) > 400);
    assert!(explore(&scene, ORDERS) > 100);
}

#[test]
fn an_image_that_shares_a_layer_with_what_is_being_removed() {
    let scene = Scene { prepare: one_image, actors: vec![adder, remover], judge };
    assert!(explore(&scene, FAULTS) > 400);
    assert!(explore(&scene, ORDERS) > 50);
}

#[test]
fn a_tag_for_what_is_being_pruned() {
    let scene = Scene { prepare: untagged, actors: vec![publisher, pruner], judge };
    assert!(explore(&scene, FAULTS) > 300);
}

#[test]
fn two_writers_beside_a_removal() {
    let scene = Scene { prepare: one_image, actors: vec![publisher, remover, second_adder], judge };
    assert!(explore(&scene, FAULTS) > 2000);
}

/// How many schedules there are of more than anybody waits for, unless `ROADSTEAD_SCHEDULES` says so: a number, or
/// `all`.
const SCHEDULES: usize = 3_000;

#[test]
#[ignore = "takes minutes"]
#[expect(clippy::disallowed_methods, reason = "how long it may take is known to whoever runs the tests")]
fn two_writers_beside_a_removal_with_more_changes_of_turn() {
    let scene = Scene { prepare: one_image, actors: vec![publisher, remover, second_adder], judge };
    let wanted = std::env::var("ROADSTEAD_SCHEDULES");
    let number = match wanted.as_deref() {
        Err(_) => Some(SCHEDULES),
        Ok("all") => None,
        Ok(number) => Some(number.parse().expect("a number of schedules, or `all`")),
    };
    for bounds in [ORDERS, Bounds { switches: 2, faults: 1 }] {
        match number {
            Some(number) => sample(&scene, bounds, number),
            None => {
                explore(&scene, bounds);
            }
        }
    }
}
