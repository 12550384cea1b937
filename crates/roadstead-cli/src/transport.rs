//! Places that images come from and go to, as skopeo writes them: a transport, a colon, and what the transport makes of the
//! rest. Without a transport it is `docker://`.
//!
//! What is typed is parsed here, once; [`Reader`] opens places to read from, [`Writer`] those to write to.

mod files;
mod offer;
mod reader;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use roadstead::http::{BaseUrl, BaseUrlError};
use roadstead::oci::{Digest, ImageReference, NameError, Reference, Registry, Repository, Tag};

use crate::bucket_args::TreePlace;

pub(crate) use offer::{Called, Offer};
pub(crate) use reader::{Readable, Reader};
pub(crate) use writer::{Destined, Writer};

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `docker://`
    Registry(ImageReference),
    /// `docker-daemon:`
    Engine(InEngine),
    /// `docker-archive:`
    DockerArchive(Archive),
    /// `oci-archive:`
    OciArchive(Archive),
    /// `oci:`
    Layout {
        folder: PathBuf,
        /// A tag, or a whole name.
        reference: Option<String>,
    },
    /// `dir:`
    Dir(PathBuf),
    /// A transport with many repositories.
    Repositories(Within),
}

/// What of an engine is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InEngine {
    /// Every image that has a name.
    All,
    Image(ImageReference),
    /// An image by its ID, the digest of its config.
    Id(Digest),
}

/// An archive, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archive {
    /// A file, a folder of archives, or a pattern of their names. `None` is standard input or output.
    pub(crate) path: Option<PathBuf>,
    /// A tag, or a whole name.
    pub(crate) reference: Option<String>,
}

/// A part of a medium that has repositories: all, one, or one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Within {
    pub(crate) medium: Medium,
    pub(crate) repository: Option<Repository>,
    pub(crate) reference: Option<Reference>,
}

/// A medium that has repositories. Each is a [`Source`](roadstead::image::Source), opened by [`Reader`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Medium {
    /// The tree of `--tree`.
    OwnTree,
    /// A tree in another folder, or in a bucket.
    Tree(TreePlace),
    /// A tree that something serves below a URL.
    Served(BaseUrl),
    /// What another registry keeps in a folder or, distribution, in a bucket.
    Kept(Keeper, TreePlace),
}

/// Whose folder it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// `registry:2`, `registry:3`
    Distribution,
    StaticContainerRegistry,
    Registrish,
}

impl Keeper {
    const ALL: [Self; 3] = [Self::Distribution, Self::StaticContainerRegistry, Self::Registrish];

    /// The transport, as it is typed.
    const fn transport(self) -> &'static str {
        match self {
            Self::Distribution => "distribution:",
            Self::StaticContainerRegistry => "static-container-registry:",
            Self::Registrish => "registrish:",
        }
    }
}

/// Why a text is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{0}: expects {1}")]
    Incomplete(&'static str, &'static str),
    #[error(
        "podman's storage is read by podman alone: run `podman save --format oci-archive {name} | roadstead add oci-archive:-`, or `podman push {name} oci-archive:{file}.tar:{name}` and take oci-archive:{file}.tar"
    )]
    Podman { name: String, file: String },
    #[error("{0:?} is no URL of a tree: expected http[s]://HOST[:PORT][/PATH]//[REPOSITORY[:TAG]]")]
    Url(String),
    #[error(
        "{0:?} names no bucket: expected s3://BUCKET[/PREFIX]//[REPOSITORY[:TAG]], az://CONTAINER… or gs://BUCKET…"
    )]
    Bucket(String),
    #[error(transparent)]
    BaseUrl(#[from] BaseUrlError),
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        Self::with_transport(text)?.map_or_else(|| Ok(Self::Registry(text.parse()?)), Ok)
    }
}

impl Place {
    /// A place where names without a transport are those of the tree, as commands that tend it understand them.
    pub(crate) fn in_tree(text: &str) -> Result<Self, PlaceError> {
        Self::with_transport(text)?.map_or_else(|| tree(text).map(Self::Repositories), Ok)
    }

    /// `None` if no transport is named.
    fn with_transport(text: &str) -> Result<Option<Self>, PlaceError> {
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Some(Self::Registry(name.parse()?)));
        }
        let Some((transport, rest)) = text.split_once(':') else { return Ok(None) };
        if let Some(keeper) = Keeper::ALL.into_iter().find(|keeper| text.starts_with(keeper.transport())) {
            return kept(keeper, rest).map(Self::Repositories).map(Some);
        }
        let expect =
            |transport, what| if rest.is_empty() { Err(PlaceError::Incomplete(transport, what)) } else { Ok(()) };
        Ok(Some(match transport {
            "docker-daemon" => Self::Engine(match (rest, rest.parse::<Digest>()) {
                ("", _) => InEngine::All,
                (_, Ok(id)) => InEngine::Id(id),
                (name, Err(_)) => InEngine::Image(name.parse()?),
            }),
            "docker-archive" => {
                expect("docker-archive", "FILE[:REFERENCE]")?;
                Self::DockerArchive(archive(rest))
            }
            "oci-archive" => {
                expect("oci-archive", "FILE[:REFERENCE]")?;
                Self::OciArchive(archive(rest))
            }
            "oci" => {
                expect("oci", "FOLDER[:REFERENCE]")?;
                let (folder, reference) = path_and_reference(rest);
                Self::Layout { folder, reference }
            }
            "dir" => {
                expect("dir", "FOLDER")?;
                Self::Dir(rest.into())
            }
            "tree" => {
                expect("tree", "REPOSITORY[:TAG], or FOLDER-OR-URL//[REPOSITORY[:TAG]]")?;
                Self::Repositories(tree(rest)?)
            }
            "containers-storage" => {
                let name = rest.rsplit(']').next().unwrap_or(rest);
                let name = if name.is_empty() { "IMAGE" } else { name };
                let file = name.rsplit('/').next().unwrap_or(name);
                let file = file.split([':', '@']).next().unwrap_or(file).to_owned();
                return Err(PlaceError::Podman { name: name.to_owned(), file });
            }
            _ => return Ok(None),
        }))
    }
}

fn archive(text: &str) -> Archive {
    match text.strip_prefix('-') {
        Some("") => Archive { path: None, reference: None },
        Some(rest) if rest.starts_with(':') => Archive { path: None, reference: Some(rest[1..].to_owned()) },
        _ => {
            let (path, reference) = path_and_reference(text);
            Archive { path: Some(path), reference }
        }
    }
}

/// A place in a tree: `REPOSITORY[:TAG]` in that of `--tree`, or what comes before `//` says which.
fn tree(text: &str) -> Result<Within, PlaceError> {
    // A URL has two slashes of its own.
    let (url, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https" | "s3" | "az" | "gs"), rest)) => (Some(scheme), rest),
        _ => (None, text),
    };
    let medium = |at: &str| match url {
        None => Ok::<_, PlaceError>(Medium::Tree(TreePlace::Folder(at.into()))),
        Some(scheme @ ("s3" | "az" | "gs")) => {
            let bucket = format!("{scheme}://{at}").parse().map_err(|_| PlaceError::Bucket(text.to_owned()))?;
            Ok(Medium::Tree(TreePlace::Bucket(bucket)))
        }
        Some(scheme) => Ok(Medium::Served(format!("{scheme}://{at}").parse()?)),
    };
    let (medium, name) = match rest.rsplit_once("//") {
        Some((at, name)) => (medium(at)?, name),
        None if matches!(url, Some("s3" | "az" | "gs")) => return Err(PlaceError::Bucket(text.to_owned())),
        None if url.is_some() => return Err(PlaceError::Url(text.to_owned())),
        None => (Medium::OwnTree, rest),
    };
    let (repository, reference) = name_within(name)?;
    Ok(Within { medium, repository, reference })
}

/// A place in another registry's folder: `FOLDER[//[REPOSITORY[:TAG]]]`.
fn kept(keeper: Keeper, text: &str) -> Result<Within, PlaceError> {
    let bucket = text
        .split_once("://")
        .filter(|(scheme, _)| keeper == Keeper::Distribution && matches!(*scheme, "s3" | "az" | "gs"));
    let rest = bucket.map_or(text, |(_, rest)| rest);
    let (at, name) = rest.rsplit_once("//").unwrap_or((rest, ""));
    if at.is_empty() {
        return Err(PlaceError::Incomplete(keeper.transport().trim_end_matches(':'), "FOLDER[//REPOSITORY[:TAG]]"));
    }
    let at = match bucket {
        Some((scheme, _)) => {
            let bucket = format!("{scheme}://{at}").parse();
            TreePlace::Bucket(bucket.map_err(|_| PlaceError::Bucket(text.to_owned()))?)
        }
        None => TreePlace::Folder(at.into()),
    };
    let (repository, reference) = name_within(name)?;
    Ok(Within { medium: Medium::Kept(keeper, at), repository, reference })
}

/// `[REPOSITORY[:TAG|@DIGEST]]`
fn name_within(name: &str) -> Result<(Option<Repository>, Option<Reference>), NameError> {
    if name.is_empty() {
        return Ok((None, None));
    }
    let (repository, reference) = match (name.split_once('@'), name.split_once(':')) {
        // Of `name:tag@digest` the digest decides.
        (Some((name, digest)), _) => (name.split(':').next().unwrap_or(name), Some(digest)),
        (None, Some((name, tag))) => (name, Some(tag)),
        (None, None) => (name, None),
    };
    Ok((Some(repository.parse()?), reference.map(str::parse).transpose()?))
}

/// A path, and the reference behind a colon. What is there wins: no colon within the path of something that exists begins a
/// reference. Else it is the first one that a valid reference follows.
fn path_and_reference(text: &str) -> (PathBuf, Option<String>) {
    let is_there = |path: &str| !path.is_empty() && Path::new(path).symlink_metadata().is_ok();
    let split = |at: usize| (PathBuf::from(&text[..at]), Some(text[at + 1..].to_owned()));
    let is_reference = |at: &usize| {
        let reference = &text[at + 1..];
        *at > 0 && (reference.parse::<Tag>().is_ok() || reference.parse::<ImageReference>().is_ok())
    };
    if is_there(text) {
        return (text.into(), None);
    }
    let colons: Vec<usize> = text.match_indices(':').map(|(at, _)| at).filter(is_reference).collect();
    if let Some(at) = colons.iter().rev().find(|at| is_there(&text[..**at])) {
        return split(*at);
    }
    let folders = Path::new(text).ancestors().filter_map(Path::to_str).find(|above| is_there(above));
    let beyond = folders.map_or(0, str::len);
    colons.into_iter().find(|at| *at >= beyond).map_or_else(|| (text.into(), None), split)
}

impl Place {
    /// The transport, as it is typed.
    pub(crate) const fn transport(&self) -> &'static str {
        match self {
            Self::Registry(_) => "docker://",
            Self::Engine(_) => "docker-daemon:",
            Self::DockerArchive(_) => "docker-archive:",
            Self::OciArchive(_) => "oci-archive:",
            Self::Layout { .. } => "oci:",
            Self::Dir(_) => "dir:",
            Self::Repositories(Within { medium: Medium::Kept(keeper, _), .. }) => keeper.transport(),
            Self::Repositories(_) => "tree:",
        }
    }

    /// Whether reading it takes standard input.
    pub(crate) fn reads_stdin(&self) -> bool {
        matches!(self, Self::DockerArchive(Archive { path: None, .. }) | Self::OciArchive(Archive { path: None, .. }))
    }

    /// The registry that is asked, if one is.
    pub(crate) fn registry(&self) -> Option<&Registry> {
        match self {
            Self::Registry(image) => Some(&image.registry),
            Self::Repositories(Within { medium: Medium::Served(url), .. }) => Some(url.registry()),
            _ => None,
        }
    }
}

/// As it is typed.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(image) => write!(f, "docker://{image}"),
            Self::Engine(InEngine::All) => f.write_str("docker-daemon:"),
            Self::Engine(InEngine::Image(image)) => write!(f, "docker-daemon:{image}"),
            Self::Engine(InEngine::Id(id)) => write!(f, "docker-daemon:{id}"),
            Self::DockerArchive(archive) => write!(f, "docker-archive:{archive}"),
            Self::OciArchive(archive) => write!(f, "oci-archive:{archive}"),
            Self::Layout { folder, reference: None } => write!(f, "oci:{}", folder.display()),
            Self::Layout { folder, reference: Some(reference) } => write!(f, "oci:{}:{reference}", folder.display()),
            Self::Dir(folder) => write!(f, "dir:{}", folder.display()),
            Self::Repositories(within) => within.fmt(f),
        }
    }
}

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}", path.display())?,
            None => f.write_str("-")?,
        }
        self.reference.as_ref().map_or(Ok(()), |reference| write!(f, ":{reference}"))
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.medium.fmt(f)?;
        if let Some(repository) = &self.repository {
            repository.fmt(f)?;
        }
        match &self.reference {
            None => Ok(()),
            Some(Reference::Tag(tag)) => write!(f, ":{tag}"),
            Some(Reference::Digest(digest)) => write!(f, "@{digest}"),
        }
    }
}

/// With what separates it from a repository.
impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnTree => f.write_str("tree:"),
            Self::Tree(at) => write!(f, "tree:{at}//"),
            Self::Served(url) => write!(f, "tree:{url}//"),
            Self::Kept(keeper, at) => write!(f, "{}{at}//", keeper.transport()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn what_is_typed_and_what_is_meant() {
        for (typed, meant) in [
            ("alpine", "docker://docker.io/library/alpine:latest"),
            ("docker://r.io:5000/a/b:1", "docker://r.io:5000/a/b:1"),
            ("localhost:5000/app", "docker://localhost:5000/app:latest"),
            ("docker-daemon:", "docker-daemon:"),
            ("docker-daemon:alpine", "docker-daemon:docker.io/library/alpine:latest"),
            ("docker-archive:-", "docker-archive:-"),
            ("docker-archive:-:alpine:1", "docker-archive:-:alpine:1"),
            ("docker-archive:-x.tar", "docker-archive:-x.tar"),
            ("dir:a:b", "dir:a:b"),
            ("tree:app:1", "tree:app:1"),
            ("tree:./t//", "tree:./t//"),
            ("tree:/srv/t//org/app", "tree:/srv/t//org/app"),
            ("tree:https://r.io:5000//app:1", "tree:https://r.io:5000//app:1"),
            ("tree:http://r.io//", "tree:http://r.io//"),
            ("tree:s3://bucket/a/b//app:1", "tree:s3://bucket/a/b//app:1"),
            ("tree:s3://bucket//", "tree:s3://bucket//"),
            ("tree:az://images/a//app:1", "tree:az://images/a//app:1"),
            ("tree:gs://images/a//app:1", "tree:gs://images/a//app:1"),
            ("distribution:gs://images//", "distribution:gs://images//"),
            ("distribution:az://images/a", "distribution:az://images/a//"),
            ("tree:https://user.github.io/a/b//app:1", "tree:https://user.github.io/a/b//app:1"),
            ("distribution:/var/lib/registry", "distribution:/var/lib/registry//"),
            ("distribution:data//org/app", "distribution:data//org/app"),
            ("distribution:s3://bucket/a", "distribution:s3://bucket/a//"),
            ("distribution:s3://bucket//org/app:1", "distribution:s3://bucket//org/app:1"),
            ("static-container-registry:.//app:1", "static-container-registry:.//app:1"),
            ("registrish:v2//", "registrish:v2//"),
        ] {
            assert_eq!(place(typed).to_string(), meant);
            assert_eq!(place(meant), place(typed));
        }
        let id = format!("docker-daemon:sha256:{}", "a".repeat(64));
        assert!(matches!(place(&id), Place::Engine(InEngine::Id(_))));
        for bad in [
            "",
            "docker-archive:",
            "oci:",
            "oci-archive:",
            "dir:",
            "tree:",
            "tree:A",
            "tree:https://r.io",
            "tree:s3://bucket",
            "tree:s3://b@d//app",
            "tree:https://u:p@r.io//",
            "distribution:",
            "registrish://app",
            "docker://",
        ] {
            assert!(bad.parse::<Place>().is_err(), "{bad:?} was accepted");
        }
        let refused = "containers-storage:[overlay@/x]quay.io/org/app:1".parse::<Place>().unwrap_err().to_string();
        assert!(refused.contains("podman push quay.io/org/app:1 oci-archive:app.tar:quay.io/org/app:1"), "{refused}");
    }

    #[test]
    fn where_a_path_ends() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for there in ["a", "a:1", "b:2.tar"] {
            std::fs::write(at(there), "").unwrap();
        }
        std::fs::create_dir(at("c:3")).unwrap();
        for (typed, path, reference) in [
            // What is there.
            ("a", "a", None),
            ("a:1", "a:1", None),
            ("a:2", "a", Some("2")),
            ("a:1:2", "a:1", Some("2")),
            ("a:x.io/y:2", "a", Some("x.io/y:2")),
            ("b:2.tar:x", "b:2.tar", Some("x")),
            ("c:3/new.tar", "c:3/new.tar", None),
            ("c:3/new.tar:x:1", "c:3/new.tar", Some("x:1")),
            // What isn't.
            ("new.tar", "new.tar", None),
            ("new.tar:1", "new.tar", Some("1")),
            ("new.tar:docker.io/library/x:1", "new.tar", Some("docker.io/library/x:1")),
            ("new.tar:localhost:5000/x:1", "new.tar", Some("localhost:5000/x:1")),
            ("new.tar:Not/A:name", "new.tar:Not/A", Some("name")),
            ("new.tar:Not/A", "new.tar:Not/A", None),
            ("new.tar:", "new.tar:", None),
        ] {
            let (found, name) = path_and_reference(&at(typed));
            assert_eq!((found.to_str().unwrap(), name.as_deref()), (&*at(path), reference), "{typed}");
        }
        assert_eq!(path_and_reference("no/such:1"), ("no/such".into(), Some("1".to_owned())));
        assert_eq!(path_and_reference(":1"), (":1".into(), None));
    }
}
