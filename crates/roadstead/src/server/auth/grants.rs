//! Who may do what: the file of grants.
//!
//! Grants only ever allow: what none of them allows is refused. What can't be had by any grant: a private repository without a
//! name, and a tag that is fixed, once it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::issuers::{Issuer, IssuerText};
use crate::oci::{Repository, Tag};
use crate::tree::Pattern;

/// What may be done to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Reading it.
    Pull,
    /// Adding blobs, manifests and new tags.
    Push,
    /// Moving a tag that is there.
    Overwrite,
    /// Deleting tags, manifests and blobs.
    Delete,
}

impl Right {
    /// Every right.
    pub const ALL: [Self; 4] = [Self::Pull, Self::Push, Self::Overwrite, Self::Delete];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Overwrite => "overwrite",
            Self::Delete => "delete",
        }
    }
}

/// The most patterns and names in the file, all together: each may be held against each request.
const MAX_ENTRIES: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    groups: BTreeMap<String, Vec<String>>,
    #[serde(default, rename = "grant")]
    grants: Vec<GrantText>,
    #[serde(default)]
    fixed: Vec<FixedText>,
    #[serde(default, rename = "issuer")]
    issuers: Vec<IssuerText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantText {
    users: Vec<String>,
    repositories: Vec<String>,
    rights: Vec<Right>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FixedText {
    repositories: Vec<String>,
    tags: Vec<String>,
}

/// Whom a grant is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    /// Whoever comes without a name.
    Anonymous,
    /// Everybody in the file of users.
    Users,
    /// A user.
    Named(String),
    /// Whoever an issuer says it is, by what it calls them.
    Issued(String, Pattern),
    /// Whom a certificate names.
    Certified(Pattern),
}

struct Grant {
    whom: Vec<Whom>,
    repositories: Vec<Pattern>,
    rights: BTreeSet<Right>,
}

struct Fixed {
    repositories: Vec<Pattern>,
    tags: Vec<Pattern>,
}

/// Who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who<'a> {
    /// Nobody knows.
    Anonymous,
    /// One of the file of users.
    User(&'a str),
    /// The name of an issuer, and whom it says this is.
    Issued(&'a str, &'a str),
    /// Whom a certificate names.
    Certified(&'a str),
}

/// The grants of a file.
pub(super) struct Grants {
    grants: Vec<Grant>,
    fixed: Vec<Fixed>,
    pub(super) issuers: Vec<Issuer>,
}

impl Default for Grants {
    /// Without a file: everybody may pull, every user may do everything.
    fn default() -> Self {
        let every = || vec!["**".parse().expect("a pattern")];
        let pull = Grant { whom: vec![Whom::Anonymous], repositories: every(), rights: [Right::Pull].into() };
        let all = Grant { whom: vec![Whom::Users], repositories: every(), rights: Right::ALL.into() };
        Self { grants: vec![pull, all], fixed: Vec::new(), issuers: Vec::new() }
    }
}

impl Grants {
    /// What counts where the file can't be read: nobody may do anything.
    pub(super) const fn closed() -> Self {
        Self { grants: Vec::new(), fixed: Vec::new(), issuers: Vec::new() }
    }

    /// Reads the file; what is wrong with it names the place.
    /// Files of keys lie in `folder`.
    pub(super) fn parse(bytes: &[u8], folder: &Path) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        let file: File =
            toml::from_str(text).map_err(|error| format!("can't be read: {}", error.to_string().trim_end()))?;
        let grants = file.grants.iter().map(|g| g.users.len() + g.repositories.len());
        let entries: usize = grants.chain(file.fixed.iter().map(|f| f.repositories.len() + f.tags.len())).sum();
        if entries + file.groups.values().map(Vec::len).sum::<usize>() > MAX_ENTRIES {
            return Err(format!("has more than {MAX_ENTRIES} names and patterns"));
        }
        let issuers: Vec<Issuer> =
            file.issuers.into_iter().map(|text| Issuer::of(text, folder)).collect::<Result<_, _>>()?;
        if issuers.iter().any(|issuer| issuer.name() == CERTIFICATE) {
            return Err(format!("has an issuer with the name {CERTIFICATE}, which stands for certificates of clients"));
        }
        for (index, issuer) in issuers.iter().enumerate() {
            if issuers[..index].iter().any(|other| other.name() == issuer.name()) {
                return Err(format!("has two issuers with the name {}", issuer.name()));
            }
        }
        let mut grants = Vec::new();
        for (index, text) in file.grants.into_iter().enumerate() {
            let wrong = |problem: String| format!("has a mistake in [[grant]] number {}: {problem}", index + 1);
            let mut whom = Vec::new();
            for user in &text.users {
                match user.strip_prefix('@') {
                    Some(group) => {
                        let members =
                            file.groups.get(group).ok_or_else(|| wrong(format!("there is no group {group}")))?;
                        for member in members {
                            whom.push(of(member, &issuers).map_err(wrong)?);
                        }
                    }
                    None => whom.push(of(user, &issuers).map_err(wrong)?),
                }
            }
            let repositories = patterns(&text.repositories, true).map_err(wrong)?;
            grants.push(Grant { whom, repositories, rights: text.rights.into_iter().collect() });
        }
        let mut fixed = Vec::new();
        for (index, text) in file.fixed.into_iter().enumerate() {
            let wrong = |problem: String| format!("has a mistake in [[fixed]] number {}: {problem}", index + 1);
            let repositories = patterns(&text.repositories, true).map_err(wrong)?;
            fixed.push(Fixed { repositories, tags: patterns(&text.tags, false).map_err(wrong)? });
        }
        Ok(Self { grants, fixed, issuers })
    }

    /// Whether somebody may do something to a repository.
    pub(super) fn allow(&self, who: Who<'_>, repository: &Repository, right: Right) -> bool {
        self.grants.iter().any(|grant| {
            grant.rights.contains(&right)
                && grant.whom.iter().any(|whom| whom.is(who))
                && grant.repositories.iter().any(|pattern| pattern.matches(repository.as_str()))
        })
    }

    /// Whether any grant is for certificates.
    pub(super) fn know_certificates(&self) -> bool {
        self.grants.iter().flat_map(|grant| &grant.whom).any(|whom| matches!(whom, Whom::Certified(_)))
    }

    /// Whether any grant is for whom a certificate names.
    pub(super) fn know_certificate(&self, name: &str) -> bool {
        self.grants.iter().flat_map(|grant| &grant.whom).any(|whom| whom.is(Who::Certified(name)))
    }

    /// Whether any tag of a repository is fixed once it is there.
    pub(super) fn fix_tags_of(&self, repository: &Repository) -> bool {
        self.fixed.iter().any(|fixed| fixed.repositories.iter().any(|p| p.matches(repository.as_str())))
    }

    /// Whether a tag is fixed once it is there.
    pub(super) fn fix(&self, repository: &Repository, tag: &Tag) -> bool {
        self.fixed.iter().any(|fixed| {
            fixed.tags.iter().any(|p| p.matches(tag.as_str()))
                && fixed.repositories.iter().any(|p| p.matches(repository.as_str()))
        })
    }
}

impl Whom {
    fn is(&self, who: Who<'_>) -> bool {
        match (self, who) {
            (Self::Anonymous, Who::Anonymous) | (Self::Users, Who::User(_)) => true,
            (Self::Named(name), Who::User(user)) => name == user,
            (Self::Issued(issuer, pattern), Who::Issued(by, name)) => issuer == by && pattern.matches(name),
            (Self::Certified(pattern), Who::Certified(name)) => pattern.matches(name),
            _ => false,
        }
    }
}

/// What a name begins with that a certificate says.
pub(super) const CERTIFICATE: &str = "certificate";

/// Whom a name in the file means.
fn of(name: &str, issuers: &[Issuer]) -> Result<Whom, String> {
    match name.split_once(':') {
        Some((issuer, pattern)) => {
            let no_pattern = || format!("{name} has no pattern behind the colon");
            if issuer == CERTIFICATE {
                return Ok(Whom::Certified(pattern.parse().map_err(|_| no_pattern())?));
            }
            if !issuers.iter().any(|known| known.name() == issuer) {
                return Err(format!("{name} begins with the name of an issuer, and there is no [[issuer]] {issuer}"));
            }
            Ok(Whom::Issued(issuer.to_owned(), pattern.parse().map_err(|_| no_pattern())?))
        }
        None => match name {
            "anonymous" => Ok(Whom::Anonymous),
            "*" => Ok(Whom::Users),
            "" => Err("a user without a name".to_owned()),
            _ if name.contains(['*', '?', '@']) && !name.contains(|c: char| c.is_ascii_alphanumeric()) => {
                Err(format!("{name} is no user: * is every user"))
            }
            _ => Ok(Whom::Named(name.to_owned())),
        },
    }
}

/// Patterns of repositories, or of tags. One that could match nothing is refused: it would protect nothing, and look as if it did.
fn patterns(texts: &[String], of_repositories: bool) -> Result<Vec<Pattern>, String> {
    let known = |c: char| match c {
        'a'..='z' | '0'..='9' | '.' | '_' | '-' | '*' | '?' => true,
        '/' => of_repositories,
        'A'..='Z' => !of_repositories,
        _ => false,
    };
    let one = |text: &String| {
        if let Some(c) = text.chars().find(|c| !known(*c)) {
            return Err(format!("{text:?} matches nothing: no name has {c:?} in it"));
        }
        if text.starts_with('/') || text.ends_with('/') || text.contains("//") {
            return Err(format!("{text:?} matches nothing: a slash stands between two components of a name"));
        }
        text.parse().map_err(|error: crate::tree::PatternError| error.to_string())
    };
    texts.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        groups.ops = ["ann", "ci:org/ops"]

        [[issuer]]
        name = "ci"
        issuer = "https://ci.example"
        audience = "registry"
        keys = "keys.json"

        [[grant]]
        users = ["anonymous", "*"]
        repositories = ["public/**"]
        rights = ["pull"]

        [[grant]]
        users = ["@ops"]
        repositories = ["**"]
        rights = ["pull", "push", "overwrite", "delete"]

        [[grant]]
        users = ["bob", "ci:org/*", "certificate:Builder *", "certificate:*.example"]
        repositories = ["team/*"]
        rights = ["pull", "push"]

        [[fixed]]
        repositories = ["team/**"]
        tags = ["v*", "LTS"]
    "#;

    fn parse(bytes: &[u8]) -> Result<Grants, String> {
        Grants::parse(bytes, Path::new("state"))
    }

    #[test]
    fn who_may_what() {
        use Right::*;
        use Who::*;
        let grants = parse(FILE.as_bytes()).unwrap();
        for (who, repository, right, expected) in [
            (Anonymous, "public/a/b", Pull, true),
            (Anonymous, "public/a", Push, false),
            (Anonymous, "team/a", Pull, false),
            (User("carl"), "public/a", Pull, true),
            (User("carl"), "team/a", Pull, false),
            (User("ann"), "any", Delete, true),
            (User("bob"), "team/a", Push, true),
            (User("bob"), "team/a", Overwrite, false),
            (User("bob"), "team/a/b", Push, false),
            (Issued("ci", "org/app"), "team/a", Push, true),
            (Issued("ci", "other/app"), "team/a", Push, false),
            (Issued("other", "org/app"), "team/a", Push, false),
            (Issued("ci", "org/ops"), "any", Delete, true),
            // Users are those of the file, and nobody whom an issuer calls so.
            (Issued("ci", "org/app"), "public/a", Pull, false),
            (Issued("ci", "ann"), "any", Delete, false),
            (User("anonymous"), "team/a", Pull, false),
            (Certified("Builder 7"), "team/a", Push, true),
            (Certified("Builder 7"), "team/a", Overwrite, false),
            (Certified("a.example"), "team/a", Push, true),
            (Certified("builder 7"), "team/a", Push, false),
            (Certified("ann"), "any", Delete, false),
            (Certified("bob"), "team/a", Push, false),
            (Certified("Builder 7"), "public/a", Pull, false),
            (User("a.example"), "team/a", Push, false),
            (Issued("certificate", "a.example"), "team/a", Push, false),
        ] {
            assert_eq!(
                grants.allow(who, &repository.parse().unwrap(), right),
                expected,
                "{who:?} {repository} {right:?}"
            );
        }
        assert!(grants.know_certificates() && grants.know_certificate("Builder 7"));
        assert!(!grants.know_certificate("ann") && !Grants::default().know_certificates());
        for (repository, tag, expected) in
            [("team/a", "v1", true), ("team/a/b", "LTS", true), ("team/a", "1", false), ("other", "v1", false)]
        {
            let fixed = grants.fix(&repository.parse().unwrap(), &tag.parse().unwrap());
            assert_eq!(fixed, expected, "{repository}:{tag}");
        }
    }

    #[test]
    fn without_a_file_users_may_everything_and_others_pull() {
        let grants = Grants::default();
        let app = "app".parse().unwrap();
        for right in Right::ALL {
            assert!(grants.allow(Who::User("ann"), &app, right));
            assert!(!Grants::closed().allow(Who::User("ann"), &app, right));
            assert_eq!(grants.allow(Who::Anonymous, &app, right), right == Right::Pull);
            assert!(!grants.allow(Who::Issued("ci", "x"), &app, right));
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, problem) in [
            ("[[grant]]\nusers = [\"a\"]\nrepositories = [\"x\"]\nrights = [\"write\"]", "unknown variant `write`"),
            ("[[grants]]", "unknown field `grants`"),
            ("[[grant]]\nusers = [\"@x\"]\nrepositories = [\"x\"]\nrights = []", "no group x"),
            ("[[grant]]\nusers = [\"ci:x\"]\nrepositories = [\"x\"]\nrights = []", "no [[issuer]] ci"),
            ("[[grant]]\nusers = [\"a\"]\nrepositories = [\"X\"]\nrights = []", "matches nothing"),
            ("[[fixed]]\nrepositories = [\"x\"]\ntags = [\"a/b\"]", "matches nothing"),
            ("[[grant]]\nusers = [\"certificate:\"]\nrepositories = [\"x\"]\nrights = []", "no pattern behind"),
            (
                "[[issuer]]\nname = \"certificate\"\nissuer = \"https://a\"\naudience = \"a\"\nkeys = \"a\"",
                "certificates of clients",
            ),
            ("[[grant]]\nusers = [\"\"]\nrepositories = [\"x\"]\nrights = []", "without a name"),
        ] {
            let error = parse(text.as_bytes()).err().unwrap_or_else(|| panic!("{text} was taken"));
            assert!(error.contains(problem), "{text}: {error}");
        }
        assert!(parse(b"\xff").is_err());
        assert!(parse(b"").unwrap().grants.is_empty());
    }
}
