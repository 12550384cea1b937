//! Hosts: what serves a tree's files, and how each is told the site's rules.
//!
//! A host is a rendering of [`site::RULES`](crate::site::RULES) in that host's own language, and nothing else: it adds
//! no status, header or error of its own. A host that can't say what a rule asks for refuses, or names what is missing. One
//! that sends no headers at all says who can pull from it all the same.
//!
//! Rendering is pure. Writing the files, asking before one is replaced and talking to people is the caller's business.

mod amplify;
mod apache;
mod azure;
mod azure_blob;
mod bucket;
mod budget;
mod by_name;
mod caddy;
mod cloudflare;
mod cloudfront;
mod compose;
mod edge;
mod firebase;
mod gcs;
mod h2o;
mod headerless;
mod htaccess;
mod kubernetes;
mod lighttpd;
mod lua;
mod netlify;
mod nginx;
mod plain;
mod r2;
mod render;
mod s3;
mod script;
mod shell;
mod static_web_server;
mod systemd;
#[cfg(test)]
mod tests;
mod text;
mod vercel;

pub use budget::Budget;

use std::fmt::{self, Write as _};

use crate::oci::Reference;
use crate::site::{Form, Measure, Site};

/// Something that serves files.
pub trait Host: Sync {
    /// The name by which people choose it.
    fn name(&self) -> &'static str;

    /// What kind of thing it is.
    fn group(&self) -> Group;

    /// How it serves a tree, in half a line for a list.
    fn summary(&self) -> &'static str;

    /// The page about it: a file in `docs/hosts`, without `.md`. Hosts may share one.
    fn page(&self) -> &'static str {
        self.name()
    }

    /// What has to be known of a host that sends no header of ours; `None` of one that does.
    fn headerless(&self) -> Option<Headerless> {
        None
    }

    /// The folder, below that of the configuration, in which the host wants the tree as plain files; `None` if it serves the
    /// tree itself. Such a host can't look at links, so it has to be told what there is: [`Site::survey`].
    fn public(&self) -> Option<&'static str> {
        None
    }

    /// Whether it can do without a survey and has a use for one all the same: [`Site::pinned`].
    fn pins(&self) -> bool {
        false
    }

    /// What it takes at most. What a site needs is compared with it before anything is rendered.
    fn budgets(&self) -> &'static [Budget] {
        &[]
    }

    /// Whether it limits files: if not, nothing about a site depends on what there is beside manifests.
    fn limits_files(&self) -> bool {
        self.budgets().iter().any(|budget| budget.measure.is_of_files())
    }

    /// Whether it takes a name for that of a page, and may answer one for another, or for that of a program, and may run it: no
    /// such file must be in the folder.
    fn serves_as_page(&self, _form: Form, _reference: &Reference) -> bool {
        false
    }

    /// The site's configuration, the file that matters most first.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] if the host can't express what the site asks for. Then nothing was rendered.
    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported>;
}

/// What kind of thing a host is. Lists of hosts are ordered by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Group {
    /// A web server, over the tree's folder or over one of plain files.
    Server,
    /// A service for web sites, to which a copy of the files is deployed.
    Site,
    /// An object store or a CDN.
    Bucket,
    /// What serves files, but no headers of ours.
    Headerless,
    /// What runs one of the others.
    Shell,
}

impl Group {
    /// All of them, in their order.
    pub const ALL: [Self; 5] = [Self::Server, Self::Site, Self::Bucket, Self::Headerless, Self::Shell];

    /// What people call it, in the plural.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Server => "servers",
            Self::Site => "sites",
            Self::Bucket => "buckets and CDNs",
            Self::Headerless => "hosts without headers",
            Self::Shell => "shells around",
        }
    }
}

/// All of them.
pub static HOSTS: &[&dyn Host] = &[
    &nginx::Nginx,
    &caddy::Caddy,
    &apache::Apache,
    &lighttpd::Lighttpd,
    &static_web_server::StaticWebServer,
    &h2o::H2o,
    &cloudflare::Pages,
    &cloudflare::Workers,
    &netlify::Netlify,
    &firebase::Firebase,
    &azure::StaticWebApps,
    &vercel::Vercel,
    &amplify::Amplify,
    &render::Render,
    &htaccess::Htaccess,
    &r2::R2,
    &s3::S3,
    &cloudfront::CloudFront,
    &gcs::Gcs,
    &azure_blob::AzureBlob,
    &headerless::GithubPages,
    &headerless::GitlabPages,
    &headerless::Ipfs,
    &compose::Compose,
    &kubernetes::Kubernetes,
    &systemd::Systemd,
];

/// The media types that nearly all manifests have, most frequent first. A server that can't read a link looks for a digest in
/// the folder of each; every other type must be found in another way.
const MANIFEST_TYPES: [&str; 5] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

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
#[derive(Debug)]
pub struct ConfigFile<'a> {
    /// The name that it should have, which may begin with folders.
    pub name: String,
    /// Where it belongs, in a sentence for people.
    pub place: String,
    /// Its text.
    pub text: FileText<'a>,
}

/// The text of a file, to be shown once: one that tells of every manifest is made while it is shown, since it may be larger than
/// all that is known of a tree.
pub struct FileText<'a>(Box<dyn fmt::Display + Send + Sync + 'a>);

impl<'a> FileText<'a> {
    /// A text that is made by whoever writes it.
    fn written(write: impl Fn(&mut fmt::Formatter<'_>) -> fmt::Result + Send + Sync + 'a) -> Self {
        Self(Box::new(fmt::from_fn(write)))
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        struct Count(u64);
        impl fmt::Write for Count {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0 += text.len() as u64;
                Ok(())
            }
        }
        let mut count = Count(0);
        let _ = write!(count, "{self}");
        count.0
    }
}

impl From<String> for FileText<'_> {
    fn from(text: String) -> Self {
        Self(Box::new(text))
    }
}

impl From<&'static str> for FileText<'_> {
    fn from(text: &'static str) -> Self {
        Self(Box::new(text))
    }
}

impl fmt::Display for FileText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for FileText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
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
    #[error("{host} {}", lacks(*form))]
    Form {
        /// The host.
        host: &'static str,
        /// The form.
        form: Form,
    },
}

/// What it is not to have a form, and where there is one.
const fn lacks(form: Form) -> &'static str {
    match form {
        Form::Site => "has no site of its own",
        Form::Snippet => "has no part for inside a server that is there (--snippet)",
        Form::Standalone => "has no form in which it runs all by itself (--standalone)",
        Form::Edge => "runs no script for each request (--edge): cloudflare-workers and netlify do",
    }
}
