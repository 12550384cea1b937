//! The names that lie in a site, while it is being gathered.

use std::collections::BTreeMap;

use super::block::Link;
use super::car::Sink;
use super::{IpfsError, Profile, unixfs};

/// A folder that is not closed yet.
#[derive(Default)]
pub(super) struct Folder(BTreeMap<String, Entry>);

enum Entry {
    Link(Link),
    Folder(Folder),
}

impl Folder {
    /// Gives a path to a file.
    pub(super) fn put(&mut self, path: &str, link: Link) -> Result<(), IpfsError> {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut folder = self;
        for component in folders.split('/').filter(|component| !component.is_empty()) {
            let below = folder.0.entry(component.to_owned()).or_insert_with(|| Entry::Folder(Self::default()));
            let Entry::Folder(below) = below else { return Err(IpfsError::Changing) };
            folder = below;
        }
        match folder.0.insert(name.to_owned(), Entry::Link(link)) {
            Some(Entry::Folder(_)) => Err(IpfsError::Changing),
            _ => Ok(()),
        }
    }

    /// Closes the folder at a path, if there is one: nothing comes into it any more, and its names need no memory.
    pub(super) fn close_at(&mut self, path: &str, profile: Profile, sink: &mut Sink) -> Result<(), IpfsError> {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut folder = self;
        for component in folders.split('/').filter(|component| !component.is_empty()) {
            let Some(Entry::Folder(below)) = folder.0.get_mut(component) else { return Ok(()) };
            folder = below;
        }
        if let Some(entry @ Entry::Folder(_)) = folder.0.get_mut(name)
            && let Entry::Folder(whole) = std::mem::replace(entry, Entry::Folder(Self::default()))
        {
            *entry = Entry::Link(whole.close(profile, sink)?);
        }
        Ok(())
    }

    /// Closes this folder and all below. Their depth is that of a repository's name.
    pub(super) fn close(self, profile: Profile, sink: &mut Sink) -> Result<Link, IpfsError> {
        let mut links = BTreeMap::new();
        for (name, entry) in self.0 {
            let link = match entry {
                Entry::Link(link) => link,
                Entry::Folder(folder) => folder.close(profile, sink)?,
            };
            links.insert(name, link);
        }
        unixfs::directory(profile, &links, sink)
    }
}
