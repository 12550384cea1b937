//! What a removal takes along, and what it must not.

use roadstead::testing::{ImageBuilder, IndexBuilder};
use roadstead::tree::TreeError;

use crate::support::{image, repo, scenes};

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
