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
    /// Whether somebody else listens, and passes the socket.
    pub socket: bool,
    /// More options of `roadstead serve`, each a word that needs no quotation.
    pub serve_with: Vec<String>,
    /// Where `roadstead serve` finds its users.
    pub users: Option<Users>,
}

/// The folder with a server's users, on the machine. The server writes its key there, so it runs as the folder's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users {
    /// The folder.
    pub folder: String,
    /// The number of its owner.
    pub user: u32,
    /// The number of its group.
    pub group: u32,
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
