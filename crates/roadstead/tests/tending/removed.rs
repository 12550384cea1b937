//! What a removal takes along, and what it must not.

use std::collections::BTreeSet;

use roadstead::testing::{Image, ImageBuilder, IndexBuilder};
use roadstead::tree::TreeError;

use crate::support::{Scene, image, key, repo, scenes, signature};

/// An index of an image and of what refers to it looks like a list of referrers that a killed writer left, but for the tag,
/// or for the image, which refers to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_keeps_what_refers_to_its_own_images() {
    for scene in scenes().await {
        let app = image("app");
        let about = ImageBuilder::new().layer("about").subject(&app.descriptor()).build();
        let index = IndexBuilder::new().image_of_any_platform(app).image_of_any_platform(about.clone()).build();
        for name in ["tagged:1", "untagged"] {
            scene.add(name, &index).await;
            let repository = repo(name.split(':').next().unwrap());
            let refused = scene.tree.remove(&repository, Some(&about.digest().into())).await;
            assert!(matches!(refused, Err(TreeError::Needed { .. })), "{} of {name}: {refused:?}", scene.name());
            let there = scene.tree.find(&repository, &index.digest().into()).await.unwrap();
            assert!(there.is_some(), "{} of {name}: the index is gone", scene.name());
        }
    }
}

/// So many images that what they name is kept.
async fn crowd(scene: &Scene) -> Vec<Image> {
    let images: Vec<Image> = (0..130).map(|n| image(&n.to_string())).collect();
    for (n, image) in images.iter().enumerate() {
        scene.add(&format!("app:{n}"), image).await;
    }
    images
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_once_is_not_read_again() {
    for scene in scenes().await {
        let images = crowd(&scene).await;
        let app = repo("app");
        let remove = async |tag: &str| scene.tree.remove(&app, Some(&tag.parse().unwrap())).await;
        // Whoever wrote them knows what they need.
        let at = key(".roadstead/needs/app");
        assert!(scene.read(&at).await.is_some(), "{}: more than a hundred images are worth it", scene.name());
        scene.damage(&scene.manifest("app", &images[7])).await;
        remove("0").await.unwrap();
        scene.delete(at.as_str()).await;
        // Whoever verified them learnt it, and says so when told to repair.
        scene.verify().await;
        assert!(scene.read(&at).await.is_none(), "{}: looking writes nothing", scene.name());
        scene.tree.repair(&BTreeSet::new()).await.unwrap();
        assert!(scene.read(&at).await.is_some(), "{}", scene.name());
        scene.delete(at.as_str()).await;
        let refused = remove("1").await;
        assert!(matches!(refused, Err(TreeError::Damaged { .. })), "{}: {refused:?}", scene.name());
        scene.damage(&scene.manifest("app", &images[7])).await;

        let removed = remove("1").await.unwrap();
        assert_eq!(removed.manifests, [images[1].digest()], "{}", scene.name());
        let known = scene.read(&at).await.expect("more than a hundred images are worth it");
        // What the others need is known now, whatever happens to them, and what is new is read.
        scene.damage(&scene.manifest("app", &images[7])).await;
        scene.add("app:new", &ImageBuilder::new().layer("shared").layer("2").layer("new").build()).await;
        remove("2").await.unwrap();
        let shared = [&images[2].manifest.layers()[1].digest, &images[7].manifest.layers()[0].digest];
        for digest in shared {
            assert!(scene.read(&scene.blob("app", digest)).await.is_some(), "{}: {digest} is gone", scene.name());
        }
        let config = images[2].manifest.config().unwrap().digest;
        assert!(scene.read(&scene.blob("app", &config)).await.is_none(), "{}", scene.name());
        scene.damage(&scene.manifest("app", &images[7])).await;
        scene.is_sound("with what is known").await;

        // A file that isn't whole is none.
        scene.overwrite(&at, known.slice(..known.len() - 1)).await;
        remove("3").await.unwrap();
        assert!(scene.read(&at).await.is_some_and(|remade| remade != known), "{}", scene.name());
        scene.is_sound("after a cut file").await;
        scene.tree.remove(&app, None).await.unwrap();
        assert_eq!(scene.read(&at).await, None, "{}", scene.name());
        assert_eq!(scene.tags("app").await, [""; 0], "{}", scene.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_refers_to_an_image_and_what_names_it_are_found_among_those_that_are_known() {
    for scene in scenes().await {
        let images = crowd(&scene).await;
        let app = repo("app");
        scene.add("app", &signature(&images[5], "signed")).await;
        let index = IndexBuilder::new().image_of_any_platform(images[6].clone()).build();
        scene.add("app:index", &index).await;
        for round in 0..2 {
            scene.tree.remove(&app, Some(&round.to_string().parse().unwrap())).await.unwrap();
        }
        let removed = scene.tree.remove(&app, Some(&"5".parse().unwrap())).await.unwrap();
        assert_eq!(removed.manifests.len(), 2, "{}: {removed:?}", scene.name());
        let removed = scene.tree.remove(&app, Some(&"6".parse().unwrap())).await.unwrap();
        assert_eq!(removed.manifests.len(), 0, "{}: {removed:?}", scene.name());
        let removed = scene.tree.remove(&app, Some(&"index".parse().unwrap())).await.unwrap();
        assert_eq!(removed.manifests.len(), 2, "{}: {removed:?}", scene.name());
        scene.is_sound("after all").await;
    }
}
