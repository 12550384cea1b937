//! An image that a place has.

use std::sync::Arc;

use roadstead::image::{Held, RepositorySource, SourceError};
use roadstead::oci::{ImageReference, Reference, Repository, Tag};

/// An image, where it is read from, and what it is called there.
#[derive(Clone)]
pub(crate) struct Offer {
    pub(crate) from: Arc<dyn RepositorySource>,
    pub(crate) reference: Reference,
    pub(crate) called: Called,
    /// The image as people write it.
    pub(crate) shown: String,
}

/// What a place calls an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Called {
    /// By a whole name.
    Image(ImageReference),
    /// As in a tree, which knows no registry.
    Within(Repository, Option<Tag>),
    /// By a tag alone, or not at all.
    Bare {
        /// What the place itself is called, if a repository may be called that.
        place: Option<Repository>,
        tag: Option<Tag>,
    },
    /// By something that no repository and no tag can be called.
    Other(String),
}

impl Called {
    pub(crate) fn tag(&self) -> Option<&Tag> {
        match self {
            Self::Image(image) => image.tag.as_ref(),
            Self::Within(_, tag) | Self::Bare { tag, .. } => tag.as_ref(),
            Self::Other(_) => None,
        }
    }
}

impl Offer {
    /// What is the same for one image under several names.
    pub(crate) fn identity(&self) -> String {
        self.from.describe(&self.reference)
    }
}

/// The images of a collection as offers: all of them, or those that `reference` means. `place` is what the collection is
/// called, for those that have no name.
pub(super) fn held(
    from: &Arc<dyn RepositorySource>,
    images: Vec<Held>,
    reference: Option<&str>,
    shown: &str,
    place: Option<&Repository>,
) -> Result<Vec<Offer>, SourceError> {
    let known = list(&images);
    let images = match reference {
        None => images,
        Some(reference) => choose(&images, reference).map_err(|problem| {
            let cause = match problem {
                Problem::Absent => known,
                Problem::Ambiguous => format!("several images have that tag: {known}"),
            };
            SourceError::NotFound { what: format!("{shown}:{reference}"), source: Some(cause.into()) }
        })?,
    };
    if images.is_empty() {
        return Err(SourceError::Invalid { what: shown.to_owned(), problem: "it holds no images".to_owned() });
    }
    let alone = images.iter().filter(|image| image.name.is_none()).count() == 1;
    let offers = images.into_iter().map(|Held { name, descriptor }| {
        let shown = match &name {
            Some(name) => format!("{shown}:{}", printable(name)),
            None if alone => shown.to_owned(),
            None => format!("{shown}@{}", descriptor.digest),
        };
        let called = match name {
            // One that is alone is the latest; of several without a name none is.
            None => Called::Bare { place: place.cloned(), tag: alone.then(Tag::latest) },
            Some(name) => match (name.parse::<Tag>(), name.parse::<ImageReference>()) {
                (Ok(tag), _) => Called::Bare { place: place.cloned(), tag: Some(tag) },
                (_, Ok(image)) => Called::Image(image),
                _ => Called::Other(printable(&name)),
            },
        };
        Offer { from: from.clone(), reference: descriptor.digest.into(), called, shown }
    });
    Ok(offers.collect())
}

/// The names that there are, for a message.
fn list(images: &[Held]) -> String {
    const SHOWN: usize = 10;
    let mut names = images.iter().filter_map(|image| image.name.as_deref());
    // Whoever made the medium chose them.
    let shown: Vec<String> = { names.by_ref() }.take(SHOWN).map(printable).collect();
    match (shown.is_empty(), names.count()) {
        (true, _) => "no image there has a name".to_owned(),
        (false, 0) => format!("there are {}", shown.join(", ")),
        (false, more) => format!("there are {} and {more} more", shown.join(", ")),
    }
}

/// A foreign name as a message can bear it.
fn printable(name: &str) -> String {
    const LONGEST: usize = 200;
    name.chars().take(LONGEST).flat_map(char::escape_debug).collect()
}

enum Problem {
    Absent,
    Ambiguous,
}

/// The image that somebody means: by its name as it is, by the same name in other words, or by its tag, if that is only one's.
fn choose(images: &[Held], reference: &str) -> Result<Vec<Held>, Problem> {
    let of = |is_meant: &dyn Fn(&str) -> bool| {
        let mut meant = images.iter().filter(|image| image.name.as_deref().is_some_and(is_meant));
        let first = meant.next()?;
        let alone = meant.all(|other| other.descriptor.digest == first.descriptor.digest);
        Some(if alone { Ok(vec![first.clone()]) } else { Err(Problem::Ambiguous) })
    };
    let whole = reference.parse::<ImageReference>().ok();
    of(&|name| name == reference)
        .or_else(|| of(&|name| name.contains(':') && name.parse::<ImageReference>().ok() == whole))
        .or_else(|| {
            of(&|name| {
                name.parse::<ImageReference>().is_ok_and(|name| name.tag.is_some_and(|tag| tag.as_str() == reference))
            })
        })
        .unwrap_or(Err(Problem::Absent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead::oci::{Algorithm, Descriptor};

    #[test]
    fn which_image_is_meant() {
        let held = |name: &str| {
            let descriptor = Descriptor::new("x", Algorithm::Sha256.digest(name.as_bytes()), 1);
            Held { name: Some(name.to_owned()), descriptor }
        };
        let images = ["alpine:3.20", "docker.io/library/debian:12", "r.io/app:1", "r.io/other:1", "edge"].map(held);
        for (typed, meant) in [
            ("alpine:3.20", Ok("alpine:3.20")),
            ("docker.io/library/alpine:3.20", Ok("alpine:3.20")),
            ("debian:12", Ok("docker.io/library/debian:12")),
            ("12", Ok("docker.io/library/debian:12")),
            ("edge", Ok("edge")),
            ("r.io/app:1", Ok("r.io/app:1")),
            ("1", Err("several")),
            ("alpine", Err("absent")),
            ("3.21", Err("absent")),
        ] {
            let found = match choose(&images, typed) {
                Ok(found) => Ok(found[0].name.clone().unwrap()),
                Err(Problem::Absent) => Err("absent"),
                Err(Problem::Ambiguous) => Err("several"),
            };
            assert_eq!(found.as_deref().map_err(|problem| *problem), meant, "{typed}");
        }
    }
}
