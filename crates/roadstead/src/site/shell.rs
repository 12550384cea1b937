//! What a shell is around.

/// What hosts of the group `Shell` start, and how it is to be had.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shell {
    /// What answers.
    pub around: Around,
    /// The program of that name, if it isn't where it usually is.
    pub program: Option<String>,
    /// The container image with the program.
    pub image: Option<String>,
    /// The claim to the volume that holds the tree, where volumes are claimed.
    pub claim: Option<String>,
    /// More options of `roadstead serve`, each a word that needs no quotation.
    pub serve_with: Vec<String>,
}

/// What answers inside of a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Around {
    /// `roadstead serve`.
    #[default]
    Serve,
    /// nginx, with the configuration that it runs from alone.
    Nginx,
    /// Caddy, likewise.
    Caddy,
}

impl Around {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Serve, Self::Nginx, Self::Caddy];

    /// The word by which people choose it; that of the host whose configuration it is, if it has one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
        }
    }
}
