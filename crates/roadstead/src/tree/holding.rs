//! What each repository holds, as one walk over the store's keys shows it: for whoever compares two trees.
//!
//! A directory spells what a tag leads to in a link. A bucket's list has sizes and, where objects were put in one request, their
//! MD5; since a tag is a copy of the manifest that it names, the manifest of the same repository with that MD5 is what it leads
//! to. What a list doesn't tell is asked for: encryption with keys of one's own changes what a bucket calls versions.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::keys::Content;
use super::{Tree, TreeError, keys};
use crate::oci::{Digest, MAX_MANIFEST_SIZE, Reference, Repository, Tag};
use crate::store::{Key, Md5, Named};

/// The largest list.
const MAX_LIST_SIZE: u64 = 256 << 20;

/// How many objects are read at once.
const READ_AT_ONCE: usize = 4;

/// How many names are asked about at once.
const QUESTIONS_AT_ONCE: usize = 16;

/// What a repository holds, by names and sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The repository.
    pub repository: Repository,
    /// Its blobs, and their sizes in bytes.
    pub blobs: BTreeMap<Digest, u64>,
    /// Its manifests by digest, and their sizes; lists of referrers that a fallback names are not among them.
    pub manifests: BTreeMap<Digest, u64>,
    /// Its tags, fallbacks aside, and what they lead to.
    pub tags: BTreeMap<Tag, Digest>,
    /// Tags that lead to nothing that is a manifest. Its list names them all the same.
    pub astray: BTreeSet<Tag>,
    /// The list of its tags.
    pub tags_list: Option<Md5>,
    /// Its lists of referrers, by subject.
    pub referrers: BTreeMap<Digest, ListOfReferrers>,
    /// Its records of what indexes lack.
    pub records: BTreeMap<Digest, Md5>,
}

impl Holding {
    /// A repository that holds nothing.
    #[must_use]
    pub const fn of(repository: Repository) -> Self {
        Self {
            repository,
            blobs: BTreeMap::new(),
            manifests: BTreeMap::new(),
            tags: BTreeMap::new(),
            astray: BTreeSet::new(),
            tags_list: None,
            referrers: BTreeMap::new(),
            records: BTreeMap::new(),
        }
    }
}

/// What clients find who ask for what refers to a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListOfReferrers {
    /// The list.
    pub list: Option<Md5>,
    /// What the fallback tag names.
    pub fallback: Option<Md5>,
}

/// What a walk over the keys of a tree comes upon.
pub(crate) enum Surveyed {
    /// The list of repositories.
    Catalog(Option<Md5>),
    /// The keys of a repository.
    Repository(Box<Keys>),
    /// Something that no tree puts there.
    Stranger(Key),
}

/// The keys of a repository, and what is seen of each.
pub(crate) struct Keys {
    pub(crate) repository: Repository,
    blobs: BTreeMap<Digest, (u64, Option<Md5>)>,
    manifests: BTreeMap<Digest, Named>,
    tags: BTreeMap<Tag, Named>,
    tags_list: Option<Named>,
    referrers: BTreeMap<Digest, Named>,
    records: BTreeMap<Digest, Named>,
}

impl Keys {
    fn of(repository: Repository) -> Self {
        Self {
            repository,
            blobs: BTreeMap::new(),
            manifests: BTreeMap::new(),
            tags: BTreeMap::new(),
            tags_list: None,
            referrers: BTreeMap::new(),
            records: BTreeMap::new(),
        }
    }

    /// The blobs.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = (Digest, u64)> {
        self.blobs.iter().map(|(digest, (size, _))| (*digest, *size))
    }

    /// The blobs that both have, with different sizes.
    pub(crate) fn sizes_differ<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Digest> + 'a {
        let differs = |digest: &Digest, size: u64| other.blobs.get(digest).is_some_and(|(there, _)| *there != size);
        self.blobs().filter(move |(digest, size)| differs(digest, *size)).map(|(digest, _)| digest)
    }

    /// Whether a catalogue names the repository.
    pub(crate) fn has_manifests(&self) -> bool {
        !self.manifests.is_empty() || !self.tags.is_empty()
    }

    /// Takes a key that belongs to the repository, and gives back one that doesn't.
    fn add(&mut self, folder: &str, named: Named) -> Option<Key> {
        let name = named.key.name().to_owned();
        match (folder, name.parse::<Reference>()) {
            (keys::BLOBS, Ok(Reference::Digest(digest))) => {
                self.blobs.insert(digest, (named.size, named.md5));
            }
            (keys::MANIFESTS, Ok(Reference::Digest(digest))) => {
                self.manifests.insert(digest, named);
            }
            (keys::MANIFESTS, Ok(Reference::Tag(tag))) => {
                self.tags.insert(tag, named);
            }
            (keys::REFERRERS, Ok(Reference::Digest(digest))) => {
                self.referrers.insert(digest, named);
            }
            (keys::TAGS, _) if name == "list" => self.tags_list = Some(named),
            _ => return Some(named.key),
        }
        None
    }
}

/// Where a repository stands among others in a [survey](Tree::survey): behind all whose names go on behind its own.
pub(crate) fn place(repository: &Repository) -> Vec<u8> {
    [repository.as_str().as_bytes(), b"/\xff"].concat()
}

impl Tree {
    /// The keys of all repositories, each in its [place]. Holds those of one repository, of the repositories that its name goes on
    /// behind, and the records of all.
    pub(crate) fn survey(&self) -> BoxStream<'_, Result<Surveyed, TreeError>> {
        struct Walk<'a> {
            keys: BoxStream<'a, Result<Named, TreeError>>,
            open: Vec<Keys>,
            done: VecDeque<Surveyed>,
            records: BTreeMap<Repository, BTreeMap<Digest, Named>>,
            ended: bool,
        }
        impl Walk<'_> {
            /// Lets go of repositories that nothing behind `key` belongs to.
            fn leave(&mut self, key: Option<&Key>) {
                while let Some(top) = self.open.last() {
                    let folder = keys::repository(&top.repository).index();
                    if key.is_some_and(|key| key.as_str().starts_with(folder.as_str())) {
                        break;
                    }
                    if let Some(mut keys) = self.open.pop() {
                        keys.records = self.records.remove(&keys.repository).unwrap_or_default();
                        self.done.push_back(Surveyed::Repository(Box::new(keys)));
                    }
                }
            }
        }
        let begin = async move {
            let keys = self.0.store.walk(&keys::root()).map_err(TreeError::from).boxed();
            let records = self.records().await?;
            Ok::<_, TreeError>(Walk { keys, open: Vec::new(), done: VecDeque::new(), records, ended: false })
        };
        let walk = stream::once(begin).map_ok(move |walk| {
            stream::try_unfold(walk, move |mut walk| async move {
                loop {
                    if let Some(done) = walk.done.pop_front() {
                        return Ok::<_, TreeError>(Some((done, walk)));
                    }
                    if walk.ended {
                        return Ok(None);
                    }
                    let Some(named) = walk.keys.try_next().await? else {
                        walk.leave(None);
                        walk.ended = true;
                        continue;
                    };
                    if named.key == keys::catalog() {
                        walk.done.push_back(Surveyed::Catalog(self.md5(&named, MAX_LIST_SIZE).await?));
                        continue;
                    }
                    walk.leave(Some(&named.key));
                    if named.key == keys::ping(self.0.store.naming()) {
                        continue;
                    }
                    let belongs = keys::named(&named.key).filter(|(_, folder, _)| keys::is_folder(folder));
                    let Some((repository, folder, _)) = belongs else {
                        walk.done.push_back(Surveyed::Stranger(named.key));
                        continue;
                    };
                    let folder = folder.to_owned();
                    if walk.open.last().is_none_or(|top| top.repository != repository) {
                        walk.open.push(Keys::of(repository));
                    }
                    let stranger = walk.open.last_mut().and_then(|top| top.add(&folder, named));
                    walk.done.extend(stranger.map(Surveyed::Stranger));
                }
            })
        });
        walk.try_flatten().boxed()
    }

    /// The records of what indexes lack. Where the private folder is closed, nothing is known of any.
    async fn records(&self) -> Result<BTreeMap<Repository, BTreeMap<Digest, Named>>, TreeError> {
        let mut records: BTreeMap<Repository, BTreeMap<Digest, Named>> = BTreeMap::new();
        let mut walk = self.0.store.walk(&keys::records());
        loop {
            match walk.try_next().await {
                Ok(None) => return Ok(records),
                Ok(Some(named)) => {
                    if let Some((repository, index)) = keys::recorded(&named.key) {
                        records.entry(repository).or_default().insert(index, named);
                    }
                }
                Err(error) if error.is_permission_denied() => return Ok(BTreeMap::new()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The MD5 of a small object, which is read if the walk didn't say; `None` if it is gone.
    async fn md5(&self, named: &Named, limit: u64) -> Result<Option<Md5>, TreeError> {
        if named.md5.is_some() {
            return Ok(named.md5);
        }
        let Some(object) = self.0.store.get(&named.key, None).await? else { return Ok(None) };
        if object.entry.size > limit {
            return Ok(None);
        }
        Ok(Some(Md5::of(&object.body.into_bytes(limit, &named.key).await?)))
    }

    /// What a repository holds, as its keys say and, where they don't, answers to questions.
    ///
    /// # Errors
    ///
    /// If the store can't be read; with `strict` also if a tag leads to no manifest.
    pub(crate) async fn holding(&self, keys: Keys, strict: bool) -> Result<Holding, TreeError> {
        let mut holding = Holding::of(keys.repository.clone());
        let by_sum: HashMap<(Md5, u64), Digest> =
            { keys.manifests.iter() }.filter_map(|(digest, named)| Some(((named.md5?, named.size), *digest))).collect();
        let repository = &keys.repository;
        let led = stream::iter(keys.tags).map(|(tag, named)| {
            let by_sum = &by_sum;
            async move {
                let known = match &named.target {
                    Some(target) => match keys::content(target) {
                        Some(Content::Manifest(_, digest)) => Some(digest),
                        _ if strict => return Err(TreeError::Misled { key: named.key, target: target.clone() }),
                        _ => return Ok((tag, None)),
                    },
                    None => named.md5.and_then(|md5| by_sum.get(&(md5, named.size)).copied()),
                };
                let digest = match known {
                    Some(digest) => Some(digest),
                    None if strict => self.resolve(repository, &tag.clone().into()).await?.map(|at| at.digest),
                    None => self.resolve_sound(repository, &tag.clone().into()).await?.map(|at| at.digest),
                };
                Ok((tag, digest.map(|digest| (digest, named))))
            }
        });
        let mut led = std::pin::pin!(led.buffered(QUESTIONS_AT_ONCE));
        let (mut fallbacks, mut lists) = (BTreeMap::new(), Vec::new());
        while let Some((tag, leads)) = led.try_next().await? {
            let Some((digest, named)) = leads else {
                holding.astray.extend((!tag.is_referrers_fallback()).then_some(tag));
                continue;
            };
            if tag.is_referrers_fallback() {
                fallbacks.insert(tag, self.md5(&named, MAX_MANIFEST_SIZE).await?);
                lists.push(digest);
            } else {
                holding.tags.insert(tag, digest);
            }
        }
        for (subject, named) in keys.referrers {
            let list = self.md5(&named, MAX_MANIFEST_SIZE).await?;
            let fallback = fallbacks.get(&Tag::referrers_fallback(&subject)).copied().flatten();
            holding.referrers.insert(subject, ListOfReferrers { list, fallback });
        }
        for (index, named) in keys.records {
            holding.records.extend(self.md5(&named, MAX_LIST_SIZE).await?.map(|md5| (index, md5)));
        }
        if let Some(named) = keys.tags_list {
            holding.tags_list = self.md5(&named, MAX_LIST_SIZE).await?;
        }
        holding.blobs = keys.blobs.into_iter().map(|(digest, (size, _))| (digest, size)).collect();
        holding.manifests = keys.manifests.into_iter().map(|(digest, named)| (digest, named.size)).collect();
        let tagged: Vec<Digest> = holding.tags.values().copied().collect();
        for list in lists {
            // An index that has a tag is no mere list.
            if !tagged.contains(&list) {
                holding.manifests.remove(&list);
            }
        }
        Ok(holding)
    }

    /// What of a repository has the size that it has in `own`, and other bytes. Where the list says an MD5 that is that of the other
    /// tree's bytes, these are it; the rest is read here.
    pub(crate) async fn differing(&self, keys: &Keys, from: &Self, own: &Keys) -> Result<BTreeSet<Digest>, TreeError> {
        let repository = &keys.repository;
        let blobs = keys.blobs.iter().filter_map(|(digest, (size, md5))| {
            let same = own.blobs.get(digest).is_some_and(|(wanted, _)| wanted == size);
            same.then_some((keys::blob(repository, digest), *digest, *md5, false))
        });
        let manifests = keys.manifests.iter().filter_map(|(digest, named)| {
            let same = own.manifests.get(digest).is_some_and(|wanted| wanted.size == named.size);
            same.then_some((named.key.clone(), *digest, named.md5, true))
        });
        let both: Vec<_> = blobs.chain(manifests).collect();
        let judged = stream::iter(both).map(|(key, digest, md5, is_manifest)| async move {
            // What a list calls an MD5 is another thing where a service encrypts with keys of its owner's.
            let mut told = false;
            if let Some(md5) = md5
                && let Some(object) = from.0.store.get(&key, None).await?
            {
                told = Md5::of_stream(object.body.into_stream(&key)).await? == md5;
            }
            let is_right = if told {
                true
            } else if is_manifest {
                self.find_sound(repository, &digest).await?.is_some()
            } else if let Some(object) = self.0.store.get(&key, None).await? {
                object.body.digest(digest.algorithm().hasher(), &key, |_| {}).await? == digest
            } else {
                true
            };
            Ok::<_, TreeError>((!is_right).then_some(digest))
        });
        let judged: Vec<Option<Digest>> = judged.buffer_unordered(READ_AT_ONCE).try_collect().await?;
        Ok(judged.into_iter().flatten().collect())
    }
}
