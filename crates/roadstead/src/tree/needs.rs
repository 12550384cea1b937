//! What images name, as it was once read: a manifest never changes, so what was found of its digest stays true.
//!
//! Who removes from a large repository has to know of each manifest that stays which digests it names. A file of the
//! repository keeps that, so that only manifests are opened which have come since. Whatever is wrong with the file makes
//! it no file: it is written anew from the manifests.
//!
//! Who removes or repairs and has read many manifests writes it, and who has written many, in one addition or one by one
//! in a server: as soon as they are a sixteenth of what the file says, so that all writing together is some sixteen times
//! the last file.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::graph::{IMAGES, digests_in};
use super::{Tree, keys};
use crate::oci::{Algorithm, Digest, Manifest, Repository};
use crate::store::{Condition, Headers};

/// The largest such file, in bytes: some 100,000 images. Of more than fit, the rest is read each time.
const MAX_SIZE: usize = 16 << 20;

/// So many images that weren't known are worth writing the file,
const WORTH: usize = 100;
/// and of many, one for so many that are known, where it grows bit by bit.
const PART: usize = 16;

/// What a repository takes in memory beside its images, in bytes.
const REPOSITORY: usize = 512;

/// How the file begins.
const MAGIC: &[u8] = b"roadstead needs 1\n";

/// A digest of the only algorithm that is kept.
type Sha256 = [u8; 32];

/// The length of a digest, and of the hash of the file.
const HASH: usize = size_of::<Sha256>();
/// The length of a number in the file.
const WORD: usize = size_of::<u32>();

/// An image by its digest, and every digest that its text has.
pub(super) struct Image(Sha256, Box<[Sha256]>);

impl Image {
    /// `None` if one of them is of an algorithm that isn't kept.
    pub(super) fn new(digest: &Digest, names: impl IntoIterator<Item = Digest>) -> Option<Self> {
        Some(Self(sha256(digest)?, names.into_iter().map(|name| sha256(&name)).collect::<Option<_>>()?))
    }

    /// `None` if that can't be said: what is escaped may be a digest.
    fn of(manifest: &Manifest) -> Option<Self> {
        let is_plain = IMAGES.contains(manifest.media_type()) && !manifest.bytes().contains(&b'\\');
        is_plain.then(|| Self::new(manifest.digest(), digests_in(manifest.bytes(), |_| true))).flatten()
    }

    /// What the file has of it at most, which it takes in memory, too; in bytes.
    fn size(&self) -> usize {
        size(self.1.len())
    }
}

/// What the file has at most of an image with so many names, in bytes.
const fn size(names: usize) -> usize {
    HASH + 2 * WORD + (HASH + WORD) * names
}

/// The images that this process wrote or read and no file may know yet, by repository. Memory: 16 MiB at most.
#[derive(Default)]
pub(super) struct Noted(Mutex<All>);

#[derive(Default)]
struct All {
    repositories: HashMap<Repository, News>,
    /// Roughly what they take, in bytes.
    size: usize,
}

struct News {
    images: HashMap<Sha256, Box<[Sha256]>>,
    /// So many are worth writing the file.
    enough: usize,
}

impl Default for News {
    fn default() -> Self {
        Self { images: HashMap::new(), enough: WORTH }
    }
}

impl Noted {
    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, repository: &Repository, image: Image) {
        let (mut all, size) = (self.all(), image.size());
        // What is forgotten is read again.
        if all.size + REPOSITORY + size > MAX_SIZE {
            *all = All::default();
        }
        if !all.repositories.contains_key(repository) {
            all.repositories.insert(repository.clone(), News::default());
            all.size += REPOSITORY;
        }
        let news = all.repositories.get_mut(repository);
        if news.is_some_and(|news| news.images.insert(image.0, image.1).is_none()) {
            all.size += size;
        }
    }

    /// The images of a repository, if they are so many that they are worth it.
    fn take(&self, repository: &Repository) -> Option<Vec<Image>> {
        let mut all = self.all();
        let news = all.repositories.get_mut(repository).filter(|news| news.images.len() >= news.enough)?;
        let images: Vec<_> = news.images.drain().map(|(image, names)| Image(image, names)).collect();
        all.size -= images.iter().map(Image::size).sum::<usize>();
        Some(images)
    }

    /// The repositories of which there are so many.
    fn ready(&self) -> BTreeSet<Repository> {
        let ready =
            |(repository, news): (&Repository, &News)| (news.images.len() >= news.enough).then(|| repository.clone());
        self.all().repositories.iter().filter_map(ready).collect()
    }

    /// Says how many it takes next time.
    fn wait_for(&self, repository: &Repository, enough: usize) {
        if let Some(news) = self.all().repositories.get_mut(repository) {
            news.enough = enough;
        }
    }
}

fn sha256(digest: &Digest) -> Option<Sha256> {
    (digest.algorithm() == Algorithm::Sha256).then(|| digest.as_bytes().try_into().ok()).flatten()
}

/// What is known of images. Memory: 16 MiB at most.
#[derive(Default)]
pub(super) struct Known {
    /// Every digest that is named, and those of the images, in no order.
    digests: Vec<Sha256>,
    /// Where an image's names are among [`names`](Self::names).
    images: HashMap<Sha256, Range<usize>>,
    /// Places in [`digests`](Self::digests).
    names: Vec<u32>,
    /// How many of the images the file doesn't have.
    new: usize,
}

/// Which digests are asked about, by their places.
pub(super) struct Asked(Vec<Interest>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Interest {
    None,
    Blob,
    Manifest,
}

impl Known {
    /// What these images and those that are kept name.
    pub(super) fn with(&self, news: impl IntoIterator<Item = Image>, keep: impl Fn(&Sha256) -> bool) -> Self {
        let mut known = Self { new: self.new, ..Self::default() };
        let mut places = HashMap::new();
        for (image, range) in self.images.iter().filter(|(image, _)| keep(image)) {
            let names = self.names[range.clone()].iter().map(|at| &self.digests[*at as usize]);
            known.add(image, names, &mut places);
        }
        for Image(image, names) in news {
            known.add(&image, names.iter(), &mut places);
            known.new += 1;
        }
        known
    }

    fn add<'a>(
        &mut self,
        image: &Sha256,
        names: impl ExactSizeIterator<Item = &'a Sha256>,
        places: &mut HashMap<Sha256, u32>,
    ) {
        let more = size(names.len());
        if self.size() + more > MAX_SIZE || self.images.contains_key(image) {
            return;
        }
        let begin = self.names.len();
        let mut place = |digest: &Sha256, digests: &mut Vec<Sha256>| {
            *places.entry(*digest).or_insert_with(|| {
                digests.push(*digest);
                // There is no room for four thousand million.
                u32::try_from(digests.len() - 1).unwrap_or(u32::MAX)
            })
        };
        place(image, &mut self.digests);
        for name in names {
            let at = place(name, &mut self.digests);
            self.names.push(at);
        }
        self.images.insert(*image, begin..self.names.len());
    }

    /// How long the file would be.
    fn size(&self) -> usize {
        let words = 1 + self.names.len() + 2 * self.images.len();
        MAGIC.len() + HASH * (self.digests.len() + 1) + WORD * words
    }

    /// The places of manifests and blobs.
    pub(super) fn ask<'a>(
        &self,
        manifests: impl IntoIterator<Item = &'a Digest>,
        blobs: impl IntoIterator<Item = &'a Digest>,
    ) -> Asked {
        let manifests: HashSet<Sha256> = manifests.into_iter().filter_map(sha256).collect();
        let blobs: HashSet<Sha256> = blobs.into_iter().filter_map(sha256).collect();
        let interest = |digest: &Sha256| match () {
            () if manifests.contains(digest) => Interest::Manifest,
            () if blobs.contains(digest) => Interest::Blob,
            () => Interest::None,
        };
        Asked(self.digests.iter().map(interest).collect())
    }

    /// Which of the blobs that are asked about an image names, if it names none of the manifests. `None` if that isn't known.
    pub(super) fn blobs_of_other(&self, asked: &Asked, image: &Digest) -> Option<Vec<Digest>> {
        let names = &self.names[self.images.get(&sha256(image)?)?.clone()];
        let mut blobs = Vec::new();
        for at in names {
            match asked.0[*at as usize] {
                Interest::None => {}
                Interest::Blob => blobs.push(Digest::sha256(&self.digests[*at as usize])),
                Interest::Manifest => return None,
            }
        }
        Some(blobs)
    }

    /// The file: how it begins, how many digests there are, these; for each image its place, how many names it has, their
    /// places; the SHA-256 of all this. Numbers have four bytes, the lowest first.
    fn to_bytes(&self) -> Bytes {
        let mut file = Vec::with_capacity(self.size());
        let word = |file: &mut Vec<u8>, number: usize| {
            file.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
        };
        file.extend(MAGIC);
        word(&mut file, self.digests.len());
        file.extend(self.digests.iter().flatten());
        for (at, digest) in self.digests.iter().enumerate() {
            let Some(range) = self.images.get(digest) else { continue };
            word(&mut file, at);
            word(&mut file, range.len());
            file.extend(self.names[range.clone()].iter().flat_map(|name| name.to_le_bytes()));
        }
        let hash = Algorithm::Sha256.digest(&file);
        file.extend(hash.as_bytes());
        file.into()
    }

    /// What such a file says; `None` if it is none, or was cut.
    fn parse(file: &[u8]) -> Option<Self> {
        let (rest, hash) = file.split_last_chunk::<HASH>()?;
        if Algorithm::Sha256.digest(rest).as_bytes() != hash {
            return None;
        }
        let (count, rest) = rest.strip_prefix(MAGIC)?.split_first_chunk::<WORD>()?;
        let (digests, rest) = rest.split_at_checked(HASH.checked_mul(number(*count)?)?)?;
        let digests: Vec<Sha256> = digests.as_chunks().0.to_vec();
        let (words, []) = rest.as_chunks::<WORD>() else { return None };
        let mut known = Self { digests, ..Self::default() };
        let mut words = words.iter();
        while let Some(image) = words.next() {
            let image = *known.digests.get(number(*image)?)?;
            let begin = known.names.len();
            for _ in 0..number(*words.next()?)? {
                let name = u32::from_le_bytes(*words.next()?);
                known.digests.get(name as usize)?;
                known.names.push(name);
            }
            known.images.insert(image, begin..known.names.len());
        }
        Some(known)
    }
}

fn number(word: [u8; WORD]) -> Option<usize> {
    u32::from_le_bytes(word).try_into().ok()
}

impl Tree {
    /// The repositories of which much was [noted](Self::note_needs).
    pub(super) fn noted_needs(&self) -> BTreeSet<Repository> {
        self.0.noted.ready()
    }

    /// Notes what an image names that was written or read just now.
    pub(super) fn note_needs(&self, repository: &Repository, manifest: &Manifest) {
        if let Some(image) = Image::of(manifest) {
            self.0.noted.add(repository, image);
        }
    }

    /// Keeps what was [noted](Self::note_needs), if it is much. Whoever calls keeps removals away.
    pub(super) async fn keep_noted_needs(&self, repository: &Repository) {
        let Some(mut news) = self.0.noted.take(repository) else { return };
        let known = self.known_needs(repository).await;
        news.retain(|image| !known.images.contains_key(&image.0));
        let (count, enough) = (news.len(), WORTH.max(known.images.len() / PART));
        if count < enough {
            news.into_iter().for_each(|image| self.0.noted.add(repository, image));
            return self.0.noted.wait_for(repository, enough);
        }
        self.0.noted.wait_for(repository, WORTH.max((known.images.len() + count) / PART));
        self.keep_needs(repository, &known, news, |_| true).await;
    }

    /// What is known of a repository's images: nothing, if the file is absent, can't be read, or isn't whole.
    pub(super) async fn known_needs(&self, repository: &Repository) -> Known {
        let key = keys::needs(repository);
        let Ok(Some(object)) = self.list(&key).await else { return Known::default() };
        let file = object.body.into_bytes(MAX_SIZE as u64, &key).await;
        file.ok().and_then(|file| Known::parse(&file)).unwrap_or_default()
    }

    /// Keeps what was found of images that weren't known, if it is worth it. Whoever calls is [alone](Self::alone), or adds.
    pub(super) async fn keep_needs(
        &self,
        repository: &Repository,
        known: &Known,
        news: Vec<Image>,
        stays: impl Fn(&Digest) -> bool,
    ) {
        if known.new + news.len() >= WORTH {
            let known = known.with(news, |image| stays(&Digest::sha256(image)));
            // What is not kept is read again, so nobody has to know that it failed.
            _ = self
                .0
                .store
                .put(&keys::needs(repository), known.to_bytes(), &Headers::default(), Condition::Always)
                .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Algorithm::Sha256.digest(text.as_bytes())
    }

    fn image(name: &str, names: &[&str]) -> Image {
        Image::new(&digest(name), names.iter().map(|name| digest(name))).unwrap()
    }

    /// What is said of an image by who asks for the manifest `m` and the blob `b`.
    fn said(known: &Known, image: &str) -> Option<Vec<Digest>> {
        known.blobs_of_other(&known.ask([&digest("m")], [&digest("b")]), &digest(image))
    }

    #[test]
    fn what_images_name_is_read_back() {
        let known = Known::default().with(
            [image("one", &["a", "b"]), image("two", &["a", "m"]), image("b", &[]), image("three", &["one"])],
            |_| true,
        );
        let file = known.to_bytes();
        assert_eq!(file.len(), known.size());
        for known in [&known, &Known::parse(&file).unwrap()] {
            assert_eq!(said(known, "one"), Some(vec![digest("b")]));
            assert_eq!(said(known, "two"), None);
            assert_eq!(said(known, "three"), Some(vec![]));
            assert_eq!(said(known, "b"), Some(vec![]));
            assert_eq!(said(known, "a"), None);
        }
        let fewer =
            Known::parse(&file).unwrap().with([image("four", &["b"])], |kept| *kept != sha256(&digest("one")).unwrap());
        assert_eq!(said(&fewer, "one"), None);
        assert_eq!(said(&fewer, "three"), Some(vec![]));
        assert_eq!(said(&fewer, "four"), Some(vec![digest("b")]));
        assert!(Image::new(&digest("x"), [Algorithm::Sha512.digest(b"y")]).is_none());
    }

    #[test]
    fn a_file_that_is_not_whole_says_nothing() {
        let file = Known::default().with([image("one", &["a", "b"])], |_| true).to_bytes();
        for end in 0..file.len() {
            assert!(Known::parse(&file[..end]).is_none());
            let mut other = file.to_vec();
            other[end] ^= 1;
            assert!(Known::parse(&other).is_none());
        }
        // Nor does one that was made up, whatever its hash.
        for body in [vec![], vec![0xff; 4], vec![1, 0, 0, 0], [vec![0; 4], vec![0; 4]].concat(), vec![0; 7]] {
            let mut made_up = [MAGIC, &body].concat();
            made_up.extend(Algorithm::Sha256.digest(&made_up).as_bytes());
            assert!(Known::parse(&made_up).is_none(), "{body:?}");
        }
    }

    #[test]
    fn what_was_noted_is_taken_when_it_is_much() {
        let (noted, app, other) = (Noted::default(), "app".parse().unwrap(), "other".parse().unwrap());
        let name = |number: usize| format!("image {number}");
        for number in 0..WORTH - 1 {
            noted.add(&app, image(&name(number), &["a"]));
            noted.add(&app, image(&name(0), &["a"]));
        }
        assert!(noted.take(&app).is_none());
        noted.add(&other, image("another", &[]));
        noted.add(&app, image("the last", &["a"]));
        assert!(noted.take(&other).is_none());
        assert_eq!(noted.take(&app).unwrap().len(), WORTH);
        assert!(noted.take(&app).is_none());
        noted.wait_for(&app, 1);
        noted.add(&app, image("one more", &["a"]));
        assert_eq!(noted.take(&app).unwrap().len(), 1);
        // Memory doesn't grow: what is never taken is forgotten.
        for number in 0..1 << 16 {
            noted.add(&name(number).replace(' ', "-").parse().unwrap(), image("one", &["a", "b"]));
            assert!(noted.all().size <= MAX_SIZE);
        }
        assert!(noted.all().repositories.len() < 1 << 15);
    }

    #[test]
    fn no_more_is_kept_than_is_read() {
        let many: Vec<Digest> = (0_u32..1 << 19).map(|n| Algorithm::Sha256.digest(&n.to_le_bytes())).collect();
        let images = many.chunks(1 << 12).map(|names| Image::new(&names[0], names[1..].iter().copied()).unwrap());
        let known = Known::default().with(images, |_| true);
        let file = known.to_bytes();
        assert!(file.len() <= MAX_SIZE && file.len() > MAX_SIZE - (1 << 20), "{}", file.len());
        assert!(Known::parse(&file).is_some());
    }
}
