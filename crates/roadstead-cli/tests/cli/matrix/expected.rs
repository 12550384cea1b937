//! What each client makes of each kind, and why not where it can't.

/// What is to happen with whatever server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// It pulls, and runs if it runs anything and the image is something to run.
    Works,
    /// The same, but the client calls it by a digest of its own making.
    Renames {
        /// For people.
        why: &'static str,
    },
    /// It can't.
    Refuses {
        /// What its messages have in common.
        says: &'static [&'static str],
        /// For people.
        why: &'static str,
    },
}

/// The exceptions, by kind: whoever is not named here works.
#[rustfmt::skip]
const EXCEPTIONS: &[(&str, &[&str], Expected)] = &[
    ("index within an index", &["docker (20.10)"], Expected::Refuses {
        says: &["no matching manifest for linux/"],
        why: "chooses only among the outer index's entries",
    }),
    ("index within an index", &["podman", "skopeo"], Expected::Refuses {
        says: &["Unexpectedly received a manifest list"],
        why: "chooses only among the outer index's entries",
    }),
    ("zstd layers", &["docker (20.10)"], Expected::Refuses {
        says: &["failed to register layer"],
        why: "reads zstd from version 23 on",
    }),
    ("sha512 digests", &["docker (20.10)", "crane"], Expected::Renames {
        why: "computes a manifest's sha256 itself where a tag is asked for",
    }),
    ("sha512 digests", &["containerd (ctr)", "containerd (CRI)"], Expected::Refuses {
        says: &["unexpected commit digest sha256:"],
        why: "stores by sha256 only",
    }),
    ("sha512 digests", &["podman", "skopeo"], Expected::Refuses {
        says: &["does not match expected sha512:", "saved with digest sha256:", "does not match provided manifest digest"],
        why: "stores by sha256 only",
    }),
    ("Docker image (v2, schema 1, signed)", &["containerd (ctr)", "containerd (CRI)"], Expected::Renames {
        why: "converts it into schema 2; 2.1 and later refuse it",
    }),
    ("Docker image (v2, schema 1, signed)", &["docker (29)", "containerd 2 (ctr)", "containerd 2 (CRI)"], Expected::Refuses {
        says: &["no longer supported"],
        why: "has given schema 1 up",
    }),
    ("Docker image (v2, schema 1, signed)", &["crane"], Expected::Refuses {
        says: &["unsupported MediaType", "does not match requested digest"],
        why: "has no schema 1",
    }),
    ("Docker image (v2, schema 1, signed)", &["oras"], Expected::Refuses {
        says: &["not found", "digest mismatch"],
        why: "has no schema 1, and takes it for a blob",
    }),
    ("artifact with a `subject`", &["docker (20.10)"], Expected::Refuses {
        says: &["unsupported media type application/vnd.oci.empty.v1+json"],
        why: "is no image: for artifact clients",
    }),
    ("artifact with a `subject`", &["containerd (ctr)", "containerd (CRI)"], Expected::Refuses {
        says: &["mismatched image rootfs and manifest layers"],
        why: "is no image: for artifact clients",
    }),
    ("artifact with a `subject`", &["podman"], Expected::Refuses {
        says: &["unsupported image-specific operation on artifact"],
        why: "is no image: for artifact clients",
    }),
];

/// What a client makes of a sha512 digest where no header repeats it, if that is something else.
pub(super) fn without_digests(client: &str) -> Option<Expected> {
    let why = "computes a sha256, and misses the digest that it has asked for";
    (client == "oras").then_some(Expected::Refuses { says: &["digest mismatch"], why })
}

pub(super) fn expected(client: &str, kind: &str) -> Expected {
    let mut exceptions = EXCEPTIONS.iter().filter(|(of, clients, _)| *of == kind && clients.contains(&client));
    exceptions.next().map_or(Expected::Works, |(_, _, expected)| *expected)
}

/// Fails if an exception is about no kind: a renamed one would silently lose its own.
pub(super) fn check_names(kinds: &[&str]) {
    for (kind, _, _) in EXCEPTIONS {
        assert!(kinds.contains(kind), "{kind} is no kind");
    }
}
