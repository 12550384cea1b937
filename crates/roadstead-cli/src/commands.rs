//! One file a command: what it takes, and what it does.

pub(crate) mod add;
pub(crate) mod config;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod du;
pub(crate) mod index;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod private;
pub(crate) mod prune;
pub(crate) mod publish;
pub(crate) mod quickstart;
pub(crate) mod remove;
pub(crate) mod save;
pub(crate) mod serve;
pub(crate) mod tag;
pub(crate) mod user;
pub(crate) mod verify;

use std::sync::Arc;

use anyhow::anyhow;
use roadstead::oci::{Reference, Repository};
use roadstead::store::{LocalStore, Store};
use roadstead::tree::{Tree, TreeError};

use crate::args::Global;
use crate::bucket_args::{BucketArgs, TreePlace};

/// The tree of `--tree`, which must be there.
async fn open(global: &Global) -> anyhow::Result<Tree> {
    open_tree(&global.tree, &global.bucket).await
}

/// The tree at a place, which must be there.
pub(crate) async fn open_tree(at: &TreePlace, buckets: &BucketArgs) -> anyhow::Result<Tree> {
    let store: Arc<dyn Store> = match at {
        TreePlace::Folder(folder) if !folder.exists() => {
            return Err(TreeError::Absent(folder.display().to_string()).into());
        }
        TreePlace::Folder(folder) => Arc::new(LocalStore::open(folder)?),
        TreePlace::Bucket(at) => Arc::new(buckets.open(at)?),
    };
    Ok(Tree::open(store).await?)
}

/// The tree at a place, which is made if it isn't there.
pub(crate) async fn create_tree(at: &TreePlace, buckets: &BucketArgs, no_sync: bool) -> anyhow::Result<Tree> {
    let store: Arc<dyn Store> = match at {
        TreePlace::Folder(folder) => {
            let store = LocalStore::create(folder)?;
            Arc::new(if no_sync { store.without_sync() } else { store })
        }
        TreePlace::Bucket(at) => Arc::new(buckets.open(at)?),
    };
    Ok(Tree::create(store).await?)
}

/// A name in a tree: a repository, and perhaps a tag or a digest. Nothing is added to it, since a tree knows no registry.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    pub(crate) repository: Repository,
    pub(crate) reference: Option<Reference>,
}

impl std::str::FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (repository, reference) = match text.split_once('@') {
            // Of `name:tag@digest` the digest decides.
            Some((name, digest)) => (name.split(':').next().unwrap_or(name), Some(digest)),
            None => match text.split_once(':') {
                Some((name, tag)) => (name, Some(tag)),
                None => (text, None),
            },
        };
        // In one line, since the parser of the command line shows no causes.
        let within = |error| anyhow!("{text:?} is not a name in a tree: {error}");
        Ok(Self {
            repository: repository.parse().map_err(within)?,
            reference: reference.map(str::parse).transpose().map_err(within)?,
        })
    }
}
