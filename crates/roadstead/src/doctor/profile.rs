//! The clients, by what they ask and what they make of the answers.

/// A family of clients that pull in the same way.
#[derive(Debug)]
pub struct Profile {
    /// What scripts call it.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Names that mean it, too; some mean several.
    pub also: &'static [&'static str],
    pub(super) family: Family,
}

/// The code that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Docker's graph store.
    Graph {
        /// Whether it is of before version 23: it still knows schema 1, and not yet zstd.
        old: bool,
    },
    /// containerd, also within Docker.
    Containerd {
        /// Whether it still knows schema 1.
        schema1: bool,
        /// Whether it looks for referrers.
        referrers: bool,
    },
    /// containers/image.
    ContainersImage {
        /// Whether it keeps what it pulls as an image, and so looks into the config.
        stores: bool,
    },
    /// go-containerregistry.
    GoContainerregistry,
    /// oras-go.
    OrasGo,
    /// No client: what the distribution specification asks of a registry.
    Specification,
}

impl Family {
    /// Whether it goes from an index within an index to an image.
    pub(super) const fn nests(self) -> bool {
        !matches!(self, Self::Graph { old: true } | Self::ContainersImage { .. })
    }

    /// Whether it takes what no container can be made of.
    pub(super) const fn takes_artifacts(self) -> bool {
        let makes_containers = matches!(
            self,
            Self::Graph { .. } | Self::Containerd { schema1: true, .. } | Self::ContainersImage { stores: true }
        );
        !makes_containers
    }

    /// Whether it can keep what sha512 names.
    pub(super) const fn keeps_sha512(self) -> bool {
        !matches!(self, Self::Containerd { schema1: true, .. } | Self::ContainersImage { .. })
    }

    /// Whether it takes all that an index names, rather than the image of one platform.
    pub(super) const fn takes_all(self) -> bool {
        matches!(self, Self::GoContainerregistry | Self::OrasGo | Self::Specification)
    }
}

impl Profile {
    /// Whether it is a client, rather than the specification.
    #[must_use]
    pub fn is_client(&self) -> bool {
        self.family != Family::Specification
    }

    /// Whether a name means it.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.also.contains(&name)
    }
}

/// All of them, in the order of tables.
pub static PROFILES: &[Profile] = &[
    Profile { name: "docker-20.10", title: "Docker 20.10", also: &["docker"], family: Family::Graph { old: true } },
    Profile {
        name: "docker-graph",
        title: "Docker 28+, graph store",
        also: &["docker", "docker-28"],
        family: Family::Graph { old: false },
    },
    Profile {
        name: "containerd-1",
        title: "containerd 1.6, 1.7",
        also: &["containerd", "kubernetes"],
        family: Family::Containerd { schema1: true, referrers: false },
    },
    Profile {
        name: "containerd-2",
        title: "containerd 2, Docker 29",
        also: &["docker", "docker-29", "containerd", "kubernetes", "nerdctl", "buildkit"],
        family: Family::Containerd { schema1: false, referrers: true },
    },
    Profile {
        name: "podman",
        title: "podman, CRI-O",
        also: &["cri-o", "crio", "buildah", "kubernetes"],
        family: Family::ContainersImage { stores: true },
    },
    Profile { name: "skopeo", title: "skopeo", also: &[], family: Family::ContainersImage { stores: false } },
    Profile { name: "crane", title: "crane, cosign", also: &["cosign", "ko"], family: Family::GoContainerregistry },
    Profile { name: "oras", title: "oras, helm", also: &["helm", "notation"], family: Family::OrasGo },
    Profile { name: "specification", title: "the specification", also: &["oci"], family: Family::Specification },
];
