//! Hosts: what serves a tree's files, and how each is told the site's rules.
//!
//! A host is a rendering of [`site::RULES`](crate::site::RULES) in that host's own language, and nothing else: it adds
//! no status, header or error of its own. A host that can't say what a rule asks for refuses, or names what is missing. One
//! that sends no headers at all says who can pull from it all the same.
//!
//! Rendering is pure. Writing the files, asking before one is replaced and talking to people is the caller's business.

mod headerless;
mod nginx;

use crate::site::Site;

/// Something that serves files.
pub trait Host: Sync {
    /// The name by which people choose it.
    fn name(&self) -> &'static str;

    /// What has to be known of a host that sends no header of ours; `None` of one that does.
    fn headerless(&self) -> Option<Headerless> {
        None
    }

    /// The site's configuration, the file that matters most first.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] if the host can't express what the site asks for. Then nothing was rendered.
    fn render(&self, site: &Site) -> Result<Vec<ConfigFile>, Unsupported>;
}

/// All of them.
pub static HOSTS: &[&dyn Host] =
    &[&nginx::Nginx, &headerless::GithubPages, &headerless::GitlabPages, &headerless::Ipfs];

/// A host that hands files out and sends no header of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headerless {
    /// Who can pull from it, and how everybody else can, in lines for people.
    pub clients: &'static str,
    /// What has to lie beside `v2`: names and texts.
    pub beside: &'static [(&'static str, &'static str)],
    /// The most bytes of a site.
    pub largest_site: Option<u64>,
    /// The most bytes of a file.
    pub largest_file: Option<u64>,
    /// Where that is written.
    pub limits_from: &'static str,
}

/// The host with a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn Host> {
    HOSTS.iter().copied().find(|host| host.name() == name)
}

/// A part of a host's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// The name that it should have, which may begin with folders.
    pub name: String,
    /// Where it belongs, in a sentence for people.
    pub place: String,
    /// Its text.
    pub text: String,
}

/// What a host can't do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// A value that the host's language has no way to write, or that would mean something else in it.
    #[error("{host} can't take {value:?} as {what}: {problem}")]
    Value {
        /// The host.
        host: &'static str,
        /// What the value is for.
        what: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A form that the host doesn't know.
    #[error("{host} has no configuration of the form {form:?}")]
    Form {
        /// The host.
        host: &'static str,
        /// The form.
        form: crate::site::Form,
    },
}
