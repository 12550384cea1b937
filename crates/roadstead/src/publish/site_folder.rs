//! A folder that becomes a site, file by file: what both forms of it have in common.
//!
//! It is made by one writer at a time. A file appears whole, and replaces another in one instant. The mark says that the folder
//! was made here, and which files beside the tree's own were written, so that those are told from what somebody else put there
//! or changed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use tempfile::NamedTempFile;

use super::PublishError;
use crate::oci::{Algorithm, Digest};

/// What marks a folder as made here. It lies beside what is deployed.
const MARK: &str = ".roadstead-site";

/// Its first line.
const MADE: &str = "made by roadstead publish";

/// What stands before the name of a folder in which the tree's files are; before that of a file its digest does.
const TREE: &str = "tree";

/// The most bytes of it: a line for each file of a configuration.
const MAX_MARK: u64 = 1 << 20;

/// The largest file of a configuration that is looked at. What is larger isn't ours.
const MAX_FILE: u64 = 64 << 20;

/// Such a folder.
pub(super) struct SiteFolder(PathBuf);

/// What was written here, as the mark says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ours {
    /// The folders in which the tree's files may be. More than one only if the writer was killed before it had removed the others.
    publics: BTreeSet<String>,
    /// The files beside them: their names, and the digests of all that may have been written under each. More than one likewise.
    files: BTreeMap<String, BTreeSet<Digest>>,
}

/// What becomes of the files beside the tree's own.
pub(super) struct Beside<'a> {
    public: &'a str,
    files: Vec<(&'a str, &'a str)>,
    /// Changed since they were written here, by somebody who meant it: they stay as they are.
    kept: BTreeSet<String>,
    ours: Ours,
}

impl SiteFolder {
    /// The folder at a path, which is made if it isn't there. Files of a killed writer are removed.
    pub(super) fn open(root: &Path) -> Result<Self, PublishError> {
        let folder = Self(root.to_owned());
        let mark = root.join(MARK);
        fs::create_dir_all(root).map_err(unwritable(root))?;
        let entries = fs::read_dir(root).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(unwritable(root))?;
        if mark.symlink_metadata().is_err() {
            if !entries.is_empty() {
                return Err(PublishError::Foreign(root.to_owned()));
            }
            fs::write(&mark, format!("{MADE}\n")).map_err(unwritable(&mark))?;
        }
        for entry in entries {
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(MARK.as_bytes()) && path != mark {
                fs::remove_file(&path).map_err(unwritable(&path))?;
            }
        }
        Ok(folder)
    }

    /// Where a file lies.
    pub(super) fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Whether a file is there, of this size if it is known.
    pub(super) fn has(&self, name: impl AsRef<Path>, size: Option<u64>) -> bool {
        let there = fs::symlink_metadata(self.at(name));
        there.is_ok_and(|there| there.is_file() && size.is_none_or(|size| size == there.len()))
    }

    /// Makes a file have these bytes. Returns whether they had to be written.
    pub(super) fn put(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<bool, PublishError> {
        let (name, at) = (name.as_ref(), self.at(&name));
        if self.has(name, Some(bytes.len() as u64)) && fs::read(&at).is_ok_and(|there| there == *bytes) {
            return Ok(false);
        }
        let mut file = self.begin(name)?;
        file.write_all(bytes).map_err(unwritable(&at))?;
        self.finish(file, name)?;
        Ok(true)
    }

    /// A file that gets its name later. It lies beside the mark: what is deployed never has half a file.
    pub(super) fn begin(&self, name: impl AsRef<Path>) -> Result<NamedTempFile, PublishError> {
        let at = self.at(name);
        fs::create_dir_all(at.parent().unwrap_or(&self.0)).map_err(unwritable(&at))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(MARK).permissions(Permissions::from_mode(0o666));
        builder.tempfile_in(&self.0).map_err(unwritable(&at))
    }

    /// Gives it its name.
    pub(super) fn finish(&self, file: NamedTempFile, name: impl AsRef<Path>) -> Result<(), PublishError> {
        let at = self.at(name);
        file.persist(&at).map(drop).map_err(|error| unwritable(&at)(error.error))
    }

    /// Gives a file of the folder a second name; says whether that could be done.
    pub(super) fn link(&self, first: &Path, name: &Path) -> bool {
        let at = self.at(name);
        // What is there has another size.
        let made = at.parent().is_some_and(|folder| fs::create_dir_all(folder).is_ok());
        made && (fs::remove_file(&at).is_ok() || !at.exists()) && fs::hard_link(self.at(first), &at).is_ok()
    }

    /// Removes what lies below `v2` in the folder `public` and isn't held, what names others first. Returns how many files.
    pub(super) fn remove_others(&self, public: &str, held: &HashSet<String>) -> Result<u64, PublishError> {
        let public = self.at(public);
        let mut others = Vec::new();
        let mut folders = vec![public.join("v2")];
        let mut index = 0;
        while let Some(folder) = folders.get(index).cloned() {
            index += 1;
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(unwritable(&folder))?,
            };
            for entry in entries {
                let entry = entry.map_err(unwritable(&folder))?;
                let path = entry.path();
                if entry.file_type().map_err(unwritable(&path))?.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&public).ok().and_then(Path::to_str);
                if !name.is_some_and(|name| held.contains(name)) {
                    others.push((rank(&path), path));
                }
            }
        }
        others.sort_unstable();
        for (_, path) in &others {
            fs::remove_file(path).map_err(unwritable(path))?;
        }
        // Those that are not empty stay.
        folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
        Ok(others.len() as u64)
    }

    /// Decides what becomes of the files beside the tree's own, which are in the folder `public`: each is a name and a text. Of
    /// these nothing is written.
    ///
    /// A file that was changed stays if what would be written is what was written before: the change is about that. Where both
    /// differ nobody can tell which is right.
    pub(super) fn compare<'a>(
        &self,
        public: &'a str,
        files: &[(&'a str, &'a str)],
        force: bool,
    ) -> Result<Beside<'a>, PublishError> {
        let (mut ours, mut kept) = (self.ours()?, BTreeSet::new());
        for (name, text) in files {
            let wanted = Algorithm::Sha256.digest(text.as_bytes());
            let Some(there) = self.digest(name)? else { continue };
            let written = ours.files.get(*name);
            if force || there == wanted || written.is_some_and(|written| written.contains(&there)) {
                continue;
            }
            if !written.is_some_and(|written| written.contains(&wanted)) {
                return Err(PublishError::Changed { path: self.at(name), ours: written.is_some() });
            }
            kept.insert((*name).to_owned());
        }
        if ours.publics.insert(public.to_owned()) {
            self.record(&ours)?;
        }
        Ok(Beside { public, files: files.to_vec(), kept, ours })
    }

    /// Writes them, and removes what was written before and belongs to another form or host.
    pub(super) fn write_beside(&self, beside: Beside<'_>) -> Result<Written, PublishError> {
        let Beside { public, files, mut kept, ours } = beside;
        let mut written = Written::default();
        let mut new = Ours { publics: BTreeSet::from([public.to_owned()]), ..Ours::default() };
        for (name, text) in &files {
            let digest = Algorithm::Sha256.digest(text.as_bytes());
            new.files.entry((*name).to_owned()).or_default().insert(digest);
        }
        // Whoever comes after a kill has to know both.
        let mut both = ours.clone();
        new.files.iter().for_each(|(name, digests)| both.files.entry(name.clone()).or_default().extend(digests));
        self.record(&both)?;
        for (name, text) in files.iter().filter(|(name, _)| !kept.contains(*name)) {
            if self.put(name, text.as_bytes())? {
                written.written += 1;
                written.bytes += text.len() as u64;
            } else {
                written.unchanged += 1;
            }
        }
        for other in ours.publics.iter().filter(|other| *other != public) {
            written.removed += self.remove_others(other, &HashSet::new())?;
        }
        for (name, digests) in
            ours.files.into_iter().filter(|(name, _)| !new.files.contains_key(name)).collect::<Vec<_>>()
        {
            match self.digest(&name)? {
                Some(there) if digests.contains(&there) => {
                    let at = self.at(&name);
                    fs::remove_file(&at).map_err(unwritable(&at))?;
                    self.remove_empty(&name);
                    written.removed += 1;
                }
                Some(_) => {
                    kept.insert(name.clone());
                    new.files.insert(name, digests);
                }
                None => {}
            }
        }
        ours.publics
            .iter()
            .filter(|other| *other != public)
            .for_each(|other| self.remove_empty(&format!("{other}/v2")));
        self.record(&new)?;
        written.kept = kept.into_iter().collect();
        Ok(written)
    }

    /// Removes the folders that something alone was in, up to that of the site.
    fn remove_empty(&self, name: &str) {
        let above = Path::new(name).ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
        above.take_while(|above| fs::remove_dir(self.at(above)).is_ok()).for_each(drop);
    }

    /// The digest of a file beside the tree's own; `None` if nothing is there.
    fn digest(&self, name: &str) -> Result<Option<Digest>, PublishError> {
        let at = self.at(name);
        let there = match fs::symlink_metadata(&at) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            there => there.map_err(unwritable(&at))?,
        };
        if !there.is_file() || there.len() > MAX_FILE {
            return Ok(Some(Algorithm::Sha512.digest(b"")));
        }
        fs::read(&at).map(|bytes| Some(Algorithm::Sha256.digest(&bytes))).map_err(unwritable(&at))
    }

    /// What the mark says. Lines that can't have been written here count as nothing: the files that they mean are somebody's.
    fn ours(&self) -> Result<Ours, PublishError> {
        let mark = self.at(MARK);
        let size = fs::metadata(&mark).map_err(unwritable(&mark))?.len();
        if size > MAX_MARK {
            return Err(unwritable(&mark)(io::Error::other(format!("it has more than {MAX_MARK} bytes"))));
        }
        let text = fs::read(&mark).map_err(unwritable(&mark))?;
        let mut ours = Ours::default();
        for line in String::from_utf8_lossy(&text).lines().skip(1) {
            let Some((what, name)) = line.split_once("  ") else { continue };
            if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
                continue;
            }
            match what.parse() {
                Ok(digest) if !name.is_empty() && name != MARK => {
                    ours.files.entry(name.to_owned()).or_default().insert(digest);
                }
                Err(_) if what == TREE => drop(ours.publics.insert(name.to_owned())),
                _ => {}
            }
        }
        Ok(ours)
    }

    fn record(&self, ours: &Ours) -> Result<(), PublishError> {
        let mut text = format!("{MADE}\n");
        for public in &ours.publics {
            let _ = writeln!(text, "{TREE}  {public}");
        }
        for (name, digests) in &ours.files {
            for digest in digests {
                let _ = writeln!(text, "{digest}  {name}");
            }
        }
        self.put(MARK, text.as_bytes()).map(drop)
    }
}

/// What became of the files beside the tree's own.
#[derive(Default)]
pub(super) struct Written {
    pub(super) written: u64,
    pub(super) bytes: u64,
    pub(super) unchanged: u64,
    pub(super) removed: u64,
    pub(super) kept: Vec<String>,
}

/// When a file is removed: what others are named by goes before these.
fn rank(path: &Path) -> usize {
    let parts = || path.iter().rev().map(|part| part.to_str().unwrap_or_default());
    match (parts().next(), parts().nth(1)) {
        (_, Some("blobs")) => 2,
        (Some(name), Some("manifests")) if name.contains(':') => 1,
        _ => 0,
    }
}

pub(super) fn unwritable(path: &Path) -> impl Fn(io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::Unwritable { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, SiteFolder) {
        let folder = tempfile::tempdir().unwrap();
        let site = SiteFolder::open(&folder.path().join("site")).unwrap();
        (folder, site)
    }

    fn write(site: &SiteFolder, files: &[(&str, &str)]) -> Written {
        site.write_beside(site.compare("public", files, false).unwrap()).unwrap()
    }

    fn counts(written: &Written) -> (u64, u64, u64) {
        (written.written, written.unchanged, written.removed)
    }

    #[test]
    fn what_was_written_for_another_host_goes_and_nothing_else() {
        let (_keep, site) = folder();
        assert_eq!(
            counts(&write(&site, &[("host.toml", "1"), ("public/_headers", "2"), ("edge/run.js", "3")])),
            (3, 0, 0)
        );
        fs::write(site.at("public/index.html"), "mine").unwrap();
        fs::write(site.at("host.json"), "mine").unwrap();
        assert_eq!(counts(&write(&site, &[("public/_headers", "2"), ("other.toml", "4")])), (1, 1, 2));
        assert!(!site.at("host.toml").exists() && !site.at("edge").exists());
        for (name, text) in [("public/index.html", "mine"), ("host.json", "mine"), ("other.toml", "4")] {
            assert_eq!(fs::read_to_string(site.at(name)).unwrap(), text);
        }
        // What was changed by hand is no longer ours alone.
        fs::write(site.at("other.toml"), "mine").unwrap();
        let last = write(&site, &[]);
        assert_eq!((counts(&last), last.kept), ((0, 0, 1), vec!["other.toml".to_owned()]));
        assert!(site.at("other.toml").exists() && !site.at("public/_headers").exists());
    }

    #[test]
    fn a_change_by_hand_stays_until_it_would_have_to_be_mixed() {
        let (_keep, site) = folder();
        write(&site, &[("host.json", "one")]);
        fs::write(site.at("host.json"), "mine").unwrap();
        let again = write(&site, &[("host.json", "one")]);
        assert_eq!((counts(&again), again.kept), ((0, 0, 0), vec!["host.json".to_owned()]));
        let Err(PublishError::Changed { ours: true, .. }) = site.compare("public", &[("host.json", "two")], false)
        else {
            panic!("it was written over")
        };
        assert_eq!(fs::read_to_string(site.at("host.json")).unwrap(), "mine");
        site.write_beside(site.compare("public", &[("host.json", "two")], true).unwrap()).unwrap();
        assert_eq!(fs::read_to_string(site.at("host.json")).unwrap(), "two");
        // A file that was never ours.
        fs::write(site.at("foreign"), "mine").unwrap();
        assert!(matches!(
            site.compare("public", &[("foreign", "x")], false),
            Err(PublishError::Changed { ours: false, .. })
        ));
        write(&site, &[("foreign", "mine"), ("host.json", "two")]);
    }

    #[test]
    fn a_killed_writer_leaves_nothing_and_is_not_mistaken_for_somebody_else() {
        let (_keep, site) = folder();
        write(&site, &[("host.json", "one")]);
        fs::write(site.at(".roadstead-siteAbCdEf"), "half").unwrap();
        // Between its two records: the new text is there, or still the old one.
        for text in ["one", "two"] {
            let mut both = site.ours().unwrap();
            both.files
                .insert("host.json".to_owned(), ["one", "two"].map(|t| Algorithm::Sha256.digest(t.as_bytes())).into());
            site.record(&both).unwrap();
            fs::write(site.at("host.json"), text).unwrap();
            let site = SiteFolder::open(&site.0).unwrap();
            assert!(!site.at(".roadstead-siteAbCdEf").exists());
            assert!(write(&site, &[("host.json", "three")]).kept.is_empty());
        }
    }

    #[test]
    fn a_mark_can_not_make_us_remove_what_lies_elsewhere() {
        let (keep, site) = folder();
        let outside = keep.path().join("outside");
        fs::write(&outside, "x").unwrap();
        let digest = Algorithm::Sha256.digest(b"x");
        let hostile = format!(
            "{MADE}\n{digest}  ../outside\n{digest}  {}\n{digest}  {MARK}\n{TREE}  ..\n{TREE}  /\nnonsense\n\u{0}\n",
            outside.display()
        );
        fs::write(site.at(MARK), hostile).unwrap();
        assert_eq!(counts(&write(&site, &[])), (0, 0, 0));
        assert!(outside.exists());
    }

    #[test]
    fn what_names_others_goes_first() {
        let paths = [
            ("v2/app/blobs/sha256:x", 2),
            ("v2/app/manifests/sha256:x", 1),
            ("v2/app/manifests/latest", 0),
            ("v2/app/manifests/sha256-x", 0),
            ("v2/app/tags/list", 0),
            ("v2/app/referrers/sha256:x", 0),
            ("v2/_catalog", 0),
        ];
        for (path, expected) in paths {
            assert_eq!(rank(Path::new(path)), expected, "{path}");
        }
    }
}
