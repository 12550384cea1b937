//! The work on a site, on three threads: one reads the tree, one compares what it read with the digests that name it, and one
//! makes blocks of it. On two processors the two that hash are all that counts.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::block::Link;
use super::buffers::Buffers;
use super::car::Sink;
use super::names::Folder;
use super::unixfs::FileBuilder;
use super::{Gathered, IpfsError, IpfsSite, Profile, Seen};
use crate::oci::{Digest, Hasher, Repository};
use crate::publish::folder::{MAX_LIST, place, prefixed};
use crate::store::Body;
use crate::tree::{Shown, TreeError, keys};

/// How many pieces may wait for each thread. With those of 256 KiB that a store reads, 4 MiB.
pub(super) const WAITING: usize = 16;

/// The folders below a repository's name. Another repository may lie below one of them.
const OWN: [&str; 4] = [keys::BLOBS, keys::MANIFESTS, keys::REFERRERS, keys::TAGS];

/// What the maker of blocks is told.
enum Step {
    /// A piece of the file that is being read.
    Piece(Bytes),
    /// The file is whole; the content's digest, if it has one.
    File(String, Option<Digest>),
    /// What has come before lies here, too.
    Again(String, Digest),
    /// Nothing comes into this folder any more.
    Close(String),
    /// That was all.
    End,
}

/// What the one who compares is told.
enum Check {
    /// What follows has this digest.
    Begin(Digest),
    Piece(Bytes),
    End,
}

/// Makes the blocks of a site. Contents that are `known` are not read, and make no blocks.
pub(super) async fn run(
    site: &IpfsSite,
    sink: Sink,
    known: HashMap<Digest, Link>,
    seen: Seen<'_>,
) -> Result<Gathered, IpfsError> {
    let (steps, to_make) = mpsc::channel(WAITING);
    let (checks, to_check) = mpsc::channel(WAITING);
    let mut reader =
        Reader { site, read: known.keys().copied().collect(), steps, checks, seen, buffers: Buffers::default() };
    let maker = Maker { profile: site.profile, sink, root: Folder::default(), contents: known, files: 0 };
    let making = tokio::task::spawn_blocking(move || maker.run(to_make));
    let checking = tokio::task::spawn_blocking(move || check(to_check));
    let read = reader.read().await;
    drop(reader);
    // If one of the others failed, all that the reader knows is that nobody listens.
    let (checked, made) = (joined(checking).await, joined(making).await);
    match (read, made, checked) {
        (Err(error), ..) if !matches!(error, IpfsError::BrokenOff) => Err(error),
        (_, _, Err(error)) | (_, Err(error), _) | (Err(error), ..) => Err(error),
        (Ok(()), Ok(made), Ok(())) => Ok(made),
    }
}

async fn joined<T>(task: JoinHandle<Result<T, IpfsError>>) -> Result<T, IpfsError> {
    match task.await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this with it.
            Err(_) => Err(IpfsError::BrokenOff),
        },
    }
}

/// Compares contents with their digests.
fn check(mut checks: mpsc::Receiver<Check>) -> Result<(), IpfsError> {
    let mut under_way: Option<(Digest, Hasher)> = None;
    while let Some(check) = checks.blocking_recv() {
        match check {
            Check::Begin(digest) => under_way = Some((digest, digest.algorithm().hasher())),
            Check::Piece(piece) => {
                if let Some((_, hasher)) = &mut under_way {
                    hasher.update(&piece);
                }
            }
            Check::End => {
                if let Some((digest, hasher)) = under_way.take()
                    && hasher.finish() != digest
                {
                    return Err(IpfsError::Damaged { digest });
                }
            }
        }
    }
    Ok(())
}

/// Makes blocks of what comes.
struct Maker {
    profile: Profile,
    sink: Sink,
    root: Folder,
    contents: HashMap<Digest, Link>,
    files: u64,
}

impl Maker {
    fn run(mut self, mut steps: mpsc::Receiver<Step>) -> Result<Gathered, IpfsError> {
        let mut file = FileBuilder::new(self.profile);
        let mut whole = false;
        while let Some(step) = steps.blocking_recv() {
            match step {
                Step::Piece(piece) => file.push(piece, &mut self.sink)?,
                Step::File(path, digest) => {
                    let built = std::mem::replace(&mut file, FileBuilder::new(self.profile));
                    let link = built.finish(&mut self.sink)?;
                    self.contents.extend(digest.map(|digest| (digest, link)));
                    self.put(&path, link)?;
                }
                Step::Again(path, digest) => {
                    let link = *self.contents.get(&digest).expect("it came before");
                    self.put(&path, link)?;
                }
                Step::Close(path) => self.root.close_at(&path, self.profile, &mut self.sink)?,
                Step::End => whole = true,
            }
        }
        if !whole {
            return Err(IpfsError::BrokenOff);
        }
        let root = self.root.close(self.profile, &mut self.sink)?;
        self.sink.finish()?;
        let Self { sink, contents, files, .. } = self;
        Ok(Gathered { root, contents, files, blocks: sink.blocks, bytes: sink.bytes })
    }

    fn put(&mut self, path: &str, link: Link) -> Result<(), IpfsError> {
        self.files += 1;
        self.root.put(path, link)
    }
}

/// Reads the tree.
struct Reader<'a> {
    site: &'a IpfsSite,
    /// Contents that need not be read again.
    read: HashSet<Digest>,
    steps: mpsc::Sender<Step>,
    checks: mpsc::Sender<Check>,
    seen: Seen<'a>,
    buffers: Buffers,
}

impl Reader<'_> {
    async fn read(&mut self) -> Result<(), IpfsError> {
        let tree = &self.site.tree;
        let passed_through = self.passed_through().await?;
        let mut last: Option<Repository> = None;
        let mut shown = tree.shown_without(&self.site.without);
        while let Some((file, _)) = shown.try_next().await? {
            let repository = match &file {
                Shown::Manifest(repository, ..) | Shown::Blob(repository, _) => Some(repository),
                Shown::TagsList(repository) | Shown::Referrers(repository, _) => Some(repository),
                Shown::Ping | Shown::Catalog => None,
            };
            if last.as_ref() != repository {
                if let Some(done) = last.take().filter(|done| !passed_through.contains(done)) {
                    self.close(&done).await?;
                }
                last = repository.cloned();
            }
            self.file(&file).await?;
        }
        self.step(Step::End).await
    }

    /// The repositories below whose own folders others lie.
    async fn passed_through(&self) -> Result<HashSet<Repository>, IpfsError> {
        let mut found = HashSet::new();
        let mut names = self.site.tree.repositories();
        while let Some(name) = names.try_next().await? {
            for own in OWN {
                let at = name.as_str().match_indices(own).map(|(at, _)| at);
                let whole = at.filter(|at| name.as_str()[at + own.len()..].starts_with('/'));
                let before = whole.filter_map(|at| name.as_str()[..at].strip_suffix('/'));
                found.extend(before.filter_map(|before| before.parse::<Repository>().ok()));
            }
        }
        Ok(found)
    }

    async fn close(&self, repository: &Repository) -> Result<(), IpfsError> {
        let tags = place(&Shown::TagsList(repository.clone()), self.site.name_prefix.as_ref());
        let folder = tags.strip_suffix("/tags/list").unwrap_or(&tags);
        for own in OWN {
            self.step(Step::Close(format!("{folder}/{own}"))).await?;
        }
        Ok(())
    }

    async fn file(&mut self, file: &Shown) -> Result<(), IpfsError> {
        let tree = &self.site.tree;
        let path = place(file, self.site.name_prefix.as_ref());
        let digest = match file {
            Shown::Manifest(_, _, pointer) => Some(pointer.digest),
            Shown::Blob(_, digest) => Some(*digest),
            _ => None,
        };
        if let Some(digest) = digest.filter(|digest| self.read.contains(digest)) {
            return self.step(Step::Again(path, digest)).await;
        }
        match file {
            Shown::Ping => self.piece(Bytes::from_static(b"{}")).await?,
            Shown::Manifest(_, _, pointer) => {
                // Whole and verified.
                let Some(manifest) = tree.manifest(pointer).await? else { return Ok(()) };
                self.piece(Bytes::copy_from_slice(manifest.bytes())).await?;
            }
            Shown::Blob(repository, digest) => {
                let Some(object) = tree.blob(repository, digest, None).await? else { return Ok(()) };
                self.blob(object.body, repository, digest).await?;
            }
            Shown::Referrers(..) | Shown::TagsList(_) | Shown::Catalog => {
                let key = file.key(tree);
                let found = match file {
                    Shown::Catalog => tree.catalog_without(&self.site.without).await?,
                    _ => tree.store().get(&key, None).await?,
                };
                let Some(object) = found else { return Ok(()) };
                let mut bytes = object.body.into_bytes(MAX_LIST, &key).await?;
                if let Some(prefix) = &self.site.name_prefix {
                    bytes = prefixed(file, &bytes, prefix).map_err(|source| TreeError::DamagedList { key, source })?;
                }
                self.piece(bytes).await?;
            }
        }
        self.read.extend(digest);
        self.step(Step::File(path, digest)).await
    }

    async fn blob(&self, body: Body, repository: &Repository, digest: &Digest) -> Result<(), IpfsError> {
        self.check(Check::Begin(*digest)).await?;
        let key = keys::blob(repository, digest);
        let mut pieces = match body {
            Body::File { file, range } => self.buffers.read(file, range, &key).boxed(),
            body => body.into_stream(&key),
        };
        while let Some(piece) = pieces.try_next().await? {
            self.check(Check::Piece(piece.clone())).await?;
            self.piece(piece).await?;
        }
        self.check(Check::End).await
    }

    async fn piece(&self, piece: Bytes) -> Result<(), IpfsError> {
        (self.seen)(piece.len() as u64);
        self.step(Step::Piece(piece)).await
    }

    async fn step(&self, step: Step) -> Result<(), IpfsError> {
        self.steps.send(step).await.map_err(|_| IpfsError::BrokenOff)
    }

    async fn check(&self, check: Check) -> Result<(), IpfsError> {
        self.checks.send(check).await.map_err(|_| IpfsError::BrokenOff)
    }
}
