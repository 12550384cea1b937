//! Hosts: what serves a tree's files, and how each is told the site's rules.
//!
//! A host is a rendering of [`site::RULES`](crate::site::RULES) in that host's own language, and nothing else: it adds
//! no status, header or error of its own. A host that can't say what a rule asks for refuses, or names what is missing.
//!
//! Rendering is pure. Writing the files, asking before one is replaced and talking to people is the caller's business.

mod azure;
mod budget;
mod cloudflare;
mod edge;
mod firebase;
mod netlify;
mod nginx;
mod plain;
#[cfg(test)]
mod tests;
mod vercel;

pub use budget::Budget;

use crate::oci::Reference;
use crate::site::{Form, Measure, Site};

/// Something that serves files.
pub trait Host: Sync {
    /// The name by which people choose it.
    fn name(&self) -> &'static str;

    /// The folder, below that of the configuration, in which the host wants the tree as plain files; `None` if it serves the
    /// tree itself. Such a host can't look at links, so it has to be told what there is: [`Site::survey`].
    fn public(&self) -> Option<&'static str> {
        None
    }

    /// What it takes at most. What a site needs is compared with it before anything is rendered.
    fn budgets(&self) -> &'static [Budget] {
        &[]
    }

    /// Whether it takes a name for that of a page, and may answer one for another: no such file must be in the folder.
    fn serves_as_page(&self, _form: Form, _reference: &Reference) -> bool {
        false
    }

    /// The site's configuration, the file that matters most first.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] if the host can't express what the site asks for. Then nothing was rendered.
    fn render(&self, site: &Site) -> Result<Vec<ConfigFile>, Unsupported>;
}

/// All of them.
pub static HOSTS: &[&dyn Host] = &[
    &nginx::Nginx,
    &cloudflare::Pages,
    &cloudflare::Workers,
    &netlify::Netlify,
    &firebase::Firebase,
    &azure::StaticWebApps,
    &vercel::Vercel,
];

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
    /// More than the host takes.
    #[error(
        "{host} takes {at_most} {measure} at most, and {needed} are needed{for_what}: {way_out} (limit: {source_of_limit})"
    )]
    Budget {
        /// The host.
        host: &'static str,
        /// What is limited.
        measure: Measure,
        /// The limit.
        at_most: u64,
        /// What the site needs.
        needed: u64,
        /// What needs it.
        for_what: String,
        /// What can be done about it.
        way_out: &'static str,
        /// Where the host says so.
        source_of_limit: &'static str,
    },
    /// A form that the host doesn't know.
    #[error("{host} has no configuration of the form {form:?}")]
    Form {
        /// The host.
        host: &'static str,
        /// The form.
        form: Form,
    },
}
