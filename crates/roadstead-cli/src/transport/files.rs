//! Several archives by one name: a folder of them, or a pattern.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use roadstead::image::SourceError;
use roadstead::oci::Repository;

/// What archives are called in a folder, by their ends.
const ENDS: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"];

/// The archives that `path` means, sorted: itself, if it is one; those in it, if it is a folder; those that fit, if its last
/// component is a pattern with `*` and `?` and no file is called that. `shown` is the place as it was typed.
pub(super) fn archives(path: &Path, shown: &str) -> Result<Vec<Result<PathBuf, SourceError>>, SourceError> {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => SourceError::NotFound { what: shown.to_owned(), source: None },
        _ => SourceError::Failed { what: format!("reading {shown}"), source: e.into() },
    };
    let pattern = path.file_name().and_then(|name| name.to_str()).filter(|name| name.contains(['*', '?']));
    let (folder, pattern) = match pattern {
        _ if path.is_dir() => (path, None),
        Some(pattern) if !path.exists() => (path.parent().unwrap_or(Path::new("")), Some(pattern)),
        _ => return Ok(vec![Ok(path.to_owned())]),
    };
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut found = Vec::new();
    for entry in fs::read_dir(listed).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let fits = match pattern {
            Some(pattern) => (pattern.starts_with('.') || !name.starts_with('.')) && matches(pattern, name),
            None => !name.starts_with('.') && ENDS.iter().any(|end| name.ends_with(end)),
        };
        let kind = entry.file_type().map_err(failed)?;
        if fits && !kind.is_dir() {
            found.push((folder.join(name), kind.is_symlink()));
        }
    }
    if found.is_empty() {
        let cause = format!("no file there ends in {}", ENDS.join(", "));
        let cause = if pattern.is_some() { "no file has such a name".to_owned() } else { cause };
        return Err(SourceError::NotFound { what: shown.to_owned(), source: Some(cause.into()) });
    }
    found.sort_unstable();
    // A folder from elsewhere may lead out of itself.
    let refused = |path: PathBuf| SourceError::Invalid {
        what: path.display().to_string(),
        problem: "it is a symbolic link, and those are not followed".to_owned(),
    };
    Ok(found.into_iter().map(|(path, is_link)| if is_link { Err(refused(path)) } else { Ok(path) }).collect())
}

/// Whether a name fits a pattern, in which `*` stands for any characters and `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on if it doesn't fit: only the last star may need to stand for more.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some('?') => (p, n) = (p + 1, n + 1),
            Some(c) if *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                (p, n) = (after, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The repository that images without a name go to: what the file or folder is called, without the ends of archives.
pub(super) fn repository(path: &Path) -> Option<Repository> {
    let name = path.file_name()?.to_str()?;
    let name = ENDS.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, fits, fits_not) in [
            ("*.tar", &["a.tar", ".tar", "a.tar.tar"][..], &["a.tar.gz", "tar"][..]),
            ("a?c*", &["abc", "a.cd"], &["ac", "abd"]),
            ("*", &["", "x"], &[]),
            ("a*b*c", &["abc", "aXbbYc"], &["ab", "acb", "abcd"]),
            ("ä?.tar", &["äö.tar"], &["ä.tar"]),
        ] {
            fits.iter().for_each(|name| assert!(matches(pattern, name), "{pattern} and {name}"));
            fits_not.iter().for_each(|name| assert!(!matches(pattern, name), "{pattern} and {name}"));
        }
    }

    #[test]
    fn what_a_folder_holds() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.tar.gz", "a.tar", "c.tgz", "notes.txt", ".hidden.tar", "what?.tar"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("folder.tar")).unwrap();
        std::os::unix::fs::symlink("a.tar", folder.path().join("link.tar")).unwrap();
        let found = |name: &str| {
            let found = archives(&folder.path().join(name), "it").map_err(|e| e.to_string())?;
            let name = |path: Result<PathBuf, SourceError>| match path {
                Ok(path) => path.file_name().unwrap().to_str().unwrap().to_owned(),
                Err(e) => e.to_string().rsplit('/').next().unwrap().to_owned(),
            };
            Ok(found.into_iter().map(name).collect::<Vec<_>>())
        };
        let expect = |names: &[&str]| Ok::<_, String>(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let link = "link.tar: it is a symbolic link, and those are not followed";
        assert_eq!(found(""), expect(&["a.tar", "b.tar.gz", "c.tgz", link, "what?.tar"]));
        assert_eq!(found("*.t*"), expect(&["a.tar", "b.tar.gz", "c.tgz", link, "notes.txt", "what?.tar"]));
        assert_eq!(found("?.tar"), expect(&["a.tar"]));
        // A file that is called so is meant.
        assert_eq!(found("what?.tar"), expect(&["what?.tar"]));
        // Who reads it says that it isn't there.
        assert_eq!(found("none.tar"), expect(&["none.tar"]));
        for absent in ["*.zip", "folder.tar", "none/*.tar"] {
            assert_eq!(found(absent), Err("it was not found".to_owned()), "{absent}");
        }
    }

    #[test]
    fn names_of_places() {
        let of = |path: &str| repository(Path::new(path)).map(|name| name.to_string());
        assert_eq!(of("/x/app.tar.gz").as_deref(), Some("app"));
        assert_eq!(of("layout").as_deref(), Some("layout"));
        assert_eq!(of("a-1.2.tzst").as_deref(), Some("a-1.2"));
        for none in ["App.tar", ".", "/", "a b.tar", ".tar"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
