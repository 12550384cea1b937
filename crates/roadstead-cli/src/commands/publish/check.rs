//! Pulls what was published, as a client would.

use std::time::{Duration, Instant};

use anyhow::bail;
use futures::TryStreamExt as _;
use roadstead::http::BaseUrl;
use roadstead::image::{RepositorySource, Source as _};
use roadstead::medium::registry::RegistrySource;
use roadstead::oci::{Digest, Repository, Tag};
use roadstead::tree::Tree;

use crate::registry_args::RegistryArgs;

/// For how long a cache may answer what was, and some more.
const STALE: Duration = Duration::from_secs(75);

/// How long to wait before it is asked again.
const PAUSE: Duration = Duration::from_secs(5);

/// A tag and what it has to name.
pub(super) struct Expected {
    pub(super) repository: Repository,
    pub(super) tag: Tag,
    pub(super) digest: Digest,
}

/// Resolves each tag, and fetches what is below it: manifests whole, of each blob the beginning.
pub(super) async fn pull(
    url: &BaseUrl,
    expected: &[Expected],
    tree: &Tree,
    registry: &RegistryArgs,
) -> anyhow::Result<()> {
    let endpoint = registry.lone_endpoint(url.registry(), url.plain_http(), Default::default())?;
    let source = RegistrySource::new(endpoint, Vec::new()).below(url);
    let began = Instant::now();
    for Expected { repository, tag, digest } in expected {
        let from = source.repository(repository);
        let named = loop {
            let named = from.resolve(&tag.clone().into()).await;
            let is_right = named.as_ref().is_ok_and(|named| named.digest == *digest);
            // A cache in front may know neither the new tag nor its move.
            let may_be_stale = named.as_ref().err().is_none_or(|error| error.is_not_found());
            if is_right || !may_be_stale || began.elapsed() > STALE {
                break named?;
            }
            tokio::time::sleep(PAUSE).await;
        };
        if named.digest != *digest {
            bail!("{url} says that {repository}:{tag} is {}, and {digest} was published", named.digest);
        }
        whole(&*from, repository, *digest, tree).await?;
    }
    Ok(())
}

/// Follows a manifest down to its blobs.
async fn whole(from: &dyn RepositorySource, repository: &Repository, root: Digest, tree: &Tree) -> anyhow::Result<()> {
    let mut next = vec![root];
    let mut seen = std::collections::BTreeSet::from([root]);
    while let Some(digest) = next.pop() {
        let expected = from.resolve(&digest.into()).await?;
        let manifest = from.manifest(&expected).await?;
        for blob in manifest.blobs().filter(|blob| !blob.is_nondistributable()) {
            if seen.insert(blob.digest) && blob.size != Some(0) {
                let mut bytes = from.blob(blob, 0).await?;
                if bytes.try_next().await?.is_none() {
                    bail!("the blob {} of {repository} is empty", blob.digest);
                }
            }
        }
        let left_out = tree.left_out(repository, &digest).await?;
        let children = manifest.children().map(|child| child.digest).filter(|child| !left_out.contains(child));
        next.extend(children.filter(|child| seen.insert(*child)));
    }
    Ok(())
}
