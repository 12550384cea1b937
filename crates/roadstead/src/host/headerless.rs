//! Hosts that hand files out and send no header of ours: GitHub Pages, GitLab Pages, gateways of IPFS.
//!
//! There is nothing to render the rules into. What can be done is to say who can pull all the same, to write what keeps the host
//! from doing harm, and to know how much it takes.

use super::budget::Budget;
use super::{ConfigFile, Group, Headerless, Host, Unsupported, by_name, plain};
use crate::site::{Form, Measure, Site};

/// GitHub Pages.
pub(super) struct GithubPages;

/// GitLab Pages.
pub(super) struct GitlabPages;

/// A gateway of IPFS.
pub(super) struct Ipfs;

const GITLAB: &str = "gitlab-pages";

/// Who can pull what from a host whose types are none of a registry's. Measured with `application/octet-stream`, which GitHub
/// sends, and `application/json`, which Kubo finds in the bytes; `docs/hosts/github-pages.md` has it as a table.
const CLIENTS: &str = "\
it sends no media types that clients know, so most can't pull from it:

  podman, skopeo, CRI-O             with --flavour schema1: one platform
  Docker 20.10                      with --flavour schema1: one platform
  crane                             images of one platform as they are; no indexes
  Docker from 28.2, containerd,     not from here
  Kubernetes on containerd, oras

All of them pull through `roadstead serve --upstream URL`, which anybody can run, and from hosts that can send headers:
nginx, a bucket, and the like.";

/// Refuses what means something only to a web server of one's own.
fn only_a_site(host: &'static str, site: &Site) -> Result<(), Unsupported> {
    let problem =
        "names can't be changed on the way; put the images into the tree under the names that they shall have";
    plain::refuse_for(host, site)?;
    no_headers(host, site)?;
    match (&site.name_prefix, site.form) {
        (Some(prefix), _) => {
            Err(Unsupported::Value { host, what: "a prefix of names", value: prefix.to_string(), problem })
        }
        (None, Form::Site) => Ok(()),
        (None, form) => Err(Unsupported::Form { host, form }),
    }
}

/// Refuses what would be a header.
fn no_headers(host: &'static str, site: &Site) -> Result<(), Unsupported> {
    let problem = "it lets nobody set a header";
    let value = || "yes".to_owned();
    if site.cors { Err(Unsupported::Value { host, what: "--cors", value: value(), problem }) } else { Ok(()) }
}

/// The answer to every miss: which kind it is can't be told, and a host without one may answer with a page and 200.
const NOT_FOUND: (&str, &str) =
    ("404.html", "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown to registry\"}]}\n");

/// Without it, names that begin with `_` are left out of the pages of a branch.
const NO_JEKYLL: (&str, &str) = (".nojekyll", "");

/// What lies beside `v2`.
fn beside(files: &'static [(&'static str, &'static str)]) -> impl Iterator<Item = ConfigFile<'static>> {
    files.iter().map(|(name, text)| ConfigFile {
        name: (*name).to_owned(),
        place: "beside v2, in what is deployed".to_owned(),
        text: (*text).into(),
    })
}

fn with_example(name: &str, text: &'static str, host: Option<Headerless>) -> Vec<ConfigFile<'static>> {
    let example = ConfigFile {
        name: name.to_owned(),
        place: "an example of how it is deployed, at the root of the repository".to_owned(),
        text: text.into(),
    };
    let files = host.map_or(&[][..], |host| host.beside);
    std::iter::once(example).chain(beside(files)).collect()
}

impl Host for GithubPages {
    fn name(&self) -> &'static str {
        "github-pages"
    }

    fn group(&self) -> Group {
        Group::Headerless
    }

    fn summary(&self) -> &'static str {
        "plain files; with --flavour schema1 a signed site for podman and skopeo"
    }

    fn headerless(&self) -> Option<Headerless> {
        Some(Headerless {
            clients: CLIENTS,
            beside: &[NO_JEKYLL, NOT_FOUND],
            largest_site: Some(1 << 30),
            largest_file: Some(100 << 20),
            limits_from: "docs.github.com, GitHub Pages limits",
        })
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        only_a_site(self.name(), site)?;
        Ok(with_example(".github/workflows/registry.yml", include_str!("github-pages.yml"), self.headerless()))
    }
}

impl Host for GitlabPages {
    fn name(&self) -> &'static str {
        GITLAB
    }

    fn group(&self) -> Group {
        Group::Headerless
    }

    fn summary(&self) -> &'static str {
        "as GitHub Pages; with --manifests-at everybody pulls"
    }

    fn public(&self) -> Option<&'static str> {
        Some("public")
    }

    fn budgets(&self) -> &'static [Budget] {
        const SETTINGS: &str = "https://docs.gitlab.com/user/gitlab_com/#gitlab-pages";
        const REDIRECTS: &str = "https://docs.gitlab.com/user/project/pages/redirects/#create-redirects";
        &[
            Budget { measure: Measure::SiteSize, at_most: 1 << 30, source: SETTINGS },
            Budget { measure: Measure::Files, at_most: 200_000, source: SETTINGS },
            Budget { measure: Measure::PatternRedirects, at_most: 1_000, source: REDIRECTS },
            Budget { measure: Measure::ConfigSize, at_most: 64 << 10, source: REDIRECTS },
        ]
    }

    fn headerless(&self) -> Option<Headerless> {
        Some(Headerless {
            clients: CLIENTS,
            beside: &[NOT_FOUND],
            largest_site: Some(1 << 30),
            largest_file: None,
            limits_from: "docs.gitlab.com, GitLab.com settings, GitLab Pages",
        })
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        no_headers(GITLAB, site)?;
        let limits = plain::begin(self, site)?;
        let mut files = with_example(".gitlab-ci.yml", include_str!("gitlab-pages.yml"), None);
        let (name, text) = NOT_FOUND;
        let place = "in the folder that is deployed";
        files.push(ConfigFile { name: format!("public/{name}"), place: place.to_owned(), text: text.into() });
        let redirects = by_name::redirects(site, GITLAB, ":splat")?;
        if !redirects.is_empty() {
            let way_out = "fewer repositories, or a host whose redirects are patterns, such as cloudflare-pages";
            limits.check(Measure::PatternRedirects, redirects.len() as u64, String::new, way_out)?;
            let line = |(from, to)| format!("{from}* {to} 302\n");
            let text: String = redirects.into_iter().map(line).collect();
            limits.check(Measure::ConfigSize, text.len() as u64, String::new, way_out)?;
            files.push(ConfigFile { name: "public/_redirects".to_owned(), place: place.to_owned(), text: text.into() });
        }
        Ok(files)
    }
}

impl Host for Ipfs {
    fn name(&self) -> &'static str {
        "ipfs"
    }

    fn group(&self) -> Group {
        Group::Headerless
    }

    fn summary(&self) -> &'static str {
        "files in IPFS behind a gateway, as GitHub Pages"
    }

    fn headerless(&self) -> Option<Headerless> {
        Some(Headerless { clients: CLIENTS, beside: &[], largest_site: None, largest_file: None, limits_from: "" })
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        only_a_site(self.name(), site)?;
        let mut files = with_example("add.sh", include_str!("ipfs.sh"), self.headerless());
        files[0].place = "adds a folder of plain files to the node of this machine".to_owned();
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::ErrorCode;

    #[test]
    fn a_miss_is_said_in_the_words_of_the_specification() {
        assert_eq!(NOT_FOUND.1.trim_end(), ErrorCode::ManifestUnknown.body());
    }

    #[test]
    fn what_only_a_web_server_of_ones_own_knows_is_refused() {
        for host in [&GithubPages as &dyn Host, &GitlabPages, &Ipfs] {
            assert!(host.render(&Site::default()).is_ok_and(|files| !files.is_empty()), "{}", host.name());
            let prefixed = Site { name_prefix: "a".parse().ok(), ..Site::default() };
            // A site that is written from a tree has the names that it is told.
            let refused = matches!(host.render(&prefixed), Err(Unsupported::Value { .. }));
            assert_eq!(refused, host.public().is_none(), "{}", host.name());
            for form in [Form::Snippet, Form::Standalone] {
                let site = Site { form, ..Site::default() };
                assert!(matches!(host.render(&site), Err(Unsupported::Form { .. })), "{}", host.name());
            }
        }
    }
}
