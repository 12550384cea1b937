//! What an image is called in the tree.

use roadstead::oci::{ImageReference, NameError, Registry, Repository, Tag};

/// What names are made of where none is given.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Naming {
    /// Put everything below this name: PREFIX/alpine
    #[arg(long, value_name = "PREFIX")]
    name_prefix: Option<Repository>,

    /// Keep the registry's name in front: docker.io/library/alpine; a port's colon becomes an underscore
    #[arg(long)]
    keep_registry: bool,
}

/// A name in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) repository: Repository,
    pub(crate) tag: Option<Tag>,
}

impl std::str::FromStr for Target {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (repository, tag) = match text.split_once(':') {
            None => (text, None),
            Some((repository, tag)) => (repository, Some(tag.parse()?)),
        };
        Ok(Self { repository: repository.parse()?, tag })
    }
}

impl Naming {
    /// What an image is called without `--tag`: the path without its registry, official images without `library/`.
    pub(crate) fn target(&self, image: &ImageReference) -> Result<Target, NameError> {
        let own = &image.repository;
        let repository = if self.keep_registry {
            format!("{}/{own}", component(&image.registry)).parse()?
        } else if image.registry.is_docker_hub() {
            own.as_str().strip_prefix("library/").unwrap_or(own.as_str()).parse()?
        } else {
            own.clone()
        };
        self.below_prefix(&Target { repository, tag: image.tag.clone() })
    }

    /// A name below the prefix, if there is one.
    pub(crate) fn below_prefix(&self, target: &Target) -> Result<Target, NameError> {
        let repository = match &self.name_prefix {
            Some(prefix) => target.repository.below(prefix)?,
            None => target.repository.clone(),
        };
        Ok(Target { repository, tag: target.tag.clone() })
    }
}

/// A registry's name as a component of a repository's: lower-case, an underscore before the port, and an IPv6 address in
/// eight groups joined by hyphens, since a repository's name has no colon.
fn component(registry: &Registry) -> String {
    let host = match registry.host().parse::<std::net::Ipv6Addr>() {
        Ok(address) => {
            let groups = address.segments().map(|group| format!("{group:x}"));
            format!("ipv6-{}", groups.join("-"))
        }
        Err(_) => registry.host().to_ascii_lowercase(),
    };
    match registry.port() {
        Some(port) => format!("{host}_{port}"),
        None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(image: &str, prefix: Option<&str>, keep_registry: bool) -> String {
        let naming = Naming { name_prefix: prefix.map(|prefix| prefix.parse().unwrap()), keep_registry };
        naming.target(&image.parse().unwrap()).unwrap().repository.to_string()
    }

    #[test]
    fn names_without_a_word() {
        for (image, plain, kept) in [
            ("alpine", "alpine", "docker.io/library/alpine"),
            ("org/app:1", "org/app", "docker.io/org/app"),
            ("ghcr.io/org/app", "org/app", "ghcr.io/org/app"),
            ("localhost:5000/library/app", "library/app", "localhost_5000/library/app"),
            ("[::1]:5000/app", "app", "ipv6-0-0-0-0-0-0-0-1_5000/app"),
            ("GHCR/app", "app", "ghcr/app"),
        ] {
            assert_eq!(called(image, None, false), plain);
            assert_eq!(called(image, None, true), kept);
            assert_eq!(called(image, Some("mirror/x"), false), format!("mirror/x/{plain}"));
        }
    }
}
