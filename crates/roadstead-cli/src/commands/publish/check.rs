//! Pulls what was published, as a client would.

use std::time::{Duration, Instant};

use anyhow::bail;
use futures::TryStreamExt as _;
use roadstead::http::{BaseUrl, Clock, SystemClock};
use roadstead::image::{RepositorySource, Source as _, SourceError};
use roadstead::medium::registry::RegistrySource;
use roadstead::oci::{Descriptor, Digest, Repository, Tag};
use roadstead::tree::{Private, Tree};

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
    let began = SystemClock.now();
    for Expected { repository, tag, digest } in expected {
        let from = source.repository(repository);
        let named = settled(&SystemClock, began, *digest, async || from.resolve(&tag.clone().into()).await).await?;
        if named.digest != *digest {
            bail!("{url} says that {repository}:{tag} is {}, and {digest} was published", named.digest);
        }
        whole(&*from, repository, *digest, tree).await?;
    }
    Ok(())
}

/// Pulls one image of those that the tree has, if it has a tag.
pub(super) async fn pull_any(
    url: &BaseUrl,
    without: &Private,
    tree: &Tree,
    registry: &RegistryArgs,
) -> anyhow::Result<()> {
    let mut repositories = tree.repositories();
    while let Some(repository) = repositories.try_next().await? {
        let shown = !without.contains(&repository);
        if let Some((tag, named)) = tree.tags(&repository).await?.pop_first().filter(|_| shown) {
            return pull(url, &[Expected { repository, tag, digest: named.digest }], tree, registry).await;
        }
    }
    Ok(())
}

/// What a tag names, asked again and again as long as a cache in front may know neither the new tag nor its move.
async fn settled(
    clock: &dyn Clock,
    began: Instant,
    expected: Digest,
    ask: impl AsyncFn() -> Result<Descriptor, SourceError>,
) -> Result<Descriptor, SourceError> {
    loop {
        let named = ask().await;
        let is_right = named.as_ref().is_ok_and(|named| named.digest == expected);
        let may_be_stale = named.as_ref().err().is_none_or(SourceError::is_not_found);
        if is_right || !may_be_stale || clock.now().duration_since(began) > STALE {
            return named;
        }
        clock.sleep(PAUSE).await;
    }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use roadstead::oci::Algorithm;
    use roadstead::testing::TestClock;

    use super::*;

    /// Asks, where the answer to the question with this number is the new one.
    async fn asked(right_from: u32, stale: impl Fn() -> Result<Descriptor, SourceError>) -> (bool, u32, Duration) {
        let (new, count, clock) = (Algorithm::Sha256.digest(b"new"), Cell::new(0), TestClock::default());
        let began = clock.now();
        let named = settled(&clock, began, new, async || {
            count.set(count.get() + 1);
            if count.get() >= right_from { Ok(Descriptor::new("", new, 3)) } else { stale() }
        });
        let named = named.await;
        (named.is_ok_and(|named| named.digest == new), count.get(), clock.now().duration_since(began))
    }

    fn absent() -> Result<Descriptor, SourceError> {
        Err(SourceError::NotFound { what: "app:1".into(), source: None })
    }

    #[tokio::test]
    async fn a_cache_is_given_a_minute_and_some_more() {
        let old = || Ok(Descriptor::new("", Algorithm::Sha256.digest(b"old"), 3));
        assert_eq!(asked(1, old).await, (true, 1, Duration::ZERO), "who answers right is not waited for");
        let (right, count, waited) = asked(13, old).await;
        assert!(right && count == 13 && waited >= Duration::from_secs(60), "{count} {waited:?}");
        let (right, _, waited) = asked(3, absent).await;
        assert!(right && waited >= Duration::from_secs(10), "a miss may be cached, too: {waited:?}");
        let (right, _, waited) = asked(u32::MAX, old).await;
        assert!(!right && waited > STALE && waited < STALE * 2, "{waited:?}");
    }

    #[tokio::test]
    async fn who_refuses_is_not_asked_again() {
        let refused = || Err(SourceError::Denied { place: "host".into(), what: "app:1".into(), source: None });
        assert_eq!(asked(2, refused).await, (false, 1, Duration::ZERO));
    }
}
