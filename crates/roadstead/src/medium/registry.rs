//! A registry as a source and as a sink of images, over the distribution API.
//!
//! A source may have mirrors, which are asked first: what a mirror lacks, or can't say since it is down, the registry
//! itself is asked for. Every place has its own credentials, and a mirror never sees another's.
//!
//! A sink shows each blob and manifest as soon as it is sent, children before parents: a registry has nothing to hold them
//! back with. Blobs that the registry has in another repository are mounted from there; others are [sent](upload) in one
//! request, or in parts.
//!
//! Source: distribution specification, "Pull", "Push" and "Content Discovery".

mod fault;
mod lists;
mod referrers;
mod repository;
mod sink;
mod upload;

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::http::{BaseUrl, Endpoint, Scope};
use crate::image::{RepositorySource, Source, SourceError};
use crate::oci::Repository;
use fault::is_mended_elsewhere;
use repository::RegistryRepository;
pub use sink::RegistrySink;

/// A registry, with its mirrors.
#[derive(Debug, Clone)]
pub struct RegistrySource {
    places: Arc<Places>,
}

/// Where to ask: mirrors in order, then the registry.
#[derive(Debug)]
struct Places {
    mirrors: Vec<Endpoint>,
    upstream: Endpoint,
    /// What people write before the name of a repository: `ghcr.io/`.
    shown: String,
}

impl Places {
    fn new(upstream: Endpoint, mirrors: Vec<Endpoint>) -> Self {
        Self { shown: format!("{}/", upstream.registry()), mirrors, upstream }
    }

    /// Asks one place after the other, until one can say. What the registry itself says is final.
    async fn ask<'a, T, F, A>(&'a self, question: F) -> Result<T, SourceError>
    where
        F: Fn(&'a Endpoint) -> A,
        A: Future<Output = Result<T, SourceError>>,
    {
        for mirror in &self.mirrors {
            match question(mirror).await {
                Err(error) if is_mended_elsewhere(&error) => {
                    tracing::debug!(mirror = %mirror.registry(), %error, "asking the next place");
                }
                said => return said,
            }
        }
        question(&self.upstream).await
    }
}

impl RegistrySource {
    /// The registry behind `upstream`, and its mirrors in the order in which they are asked.
    #[must_use]
    pub fn new(upstream: Endpoint, mirrors: Vec<Endpoint>) -> Self {
        Self { places: Arc::new(Places::new(upstream, mirrors)) }
    }

    /// A tree that this registry's host hands out below a URL, or whatever else lies there as the paths of a registry. The host
    /// need know no header and no query: digests and media types come from the bytes, and a blob without ranges from its
    /// beginning.
    #[must_use]
    pub fn below(&self, url: &BaseUrl) -> Self {
        let (upstream, shown) = (self.places.upstream.below(url.path()), format!("tree:{url}//"));
        Self { places: Arc::new(Places { mirrors: Vec::new(), upstream, shown }) }
    }
}

#[async_trait]
impl Source for RegistrySource {
    async fn repositories(&self) -> Result<BoxStream<'_, Result<Repository, SourceError>>, SourceError> {
        lists::repositories(&self.places).await
    }

    fn repository(&self, name: &Repository) -> Box<dyn RepositorySource> {
        Box::new(RegistryRepository::new(Arc::clone(&self.places), name.clone(), Scope::Pull(name.clone())))
    }
}
