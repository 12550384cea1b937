//! What a token is good for, as clients ask for it and tokens say it.
//!
//! Source: distribution's "Token Scope Documentation".

use serde::{Deserialize, Serialize};

use super::Right;

/// The most scopes of a request. A push that mounts blobs from several repositories asks for some five.
pub(super) const MAX_SCOPES: usize = 32;

/// One thing, and what may be done to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scope {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) actions: Vec<String>,
}

impl Scope {
    /// Reads `repository:NAME:ACTION,ACTION`; `None` if it isn't one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        // A name may have a colon in it, where clients put a host before it.
        let (name, actions) = rest.rsplit_once(':')?;
        let actions = actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned).collect();
        Some(Self { kind: kind.to_owned(), name: name.to_owned(), actions })
    }

    pub(super) fn is_catalog(&self) -> bool {
        self.kind == "registry" && self.name == "catalog" && self.actions.iter().any(|action| action == "*")
    }

    /// Whether it covers an action on a repository, by its name as it appears outside.
    pub(super) fn covers(&self, repository: &str, right: Right) -> bool {
        let action = right.action();
        self.kind == "repository"
            && self.name == repository
            && self.actions.iter().any(|given| given == action || given == "*")
    }
}

impl Right {
    /// What a scope calls it.
    pub(super) const fn action(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push | Self::Overwrite => "push",
            Self::Delete => "delete",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes() {
        let scope = Scope::parse("repository:a/b:pull,push").unwrap();
        for (name, right, expected) in [
            ("a/b", Right::Pull, true),
            ("a/b", Right::Overwrite, true),
            ("a/b", Right::Delete, false),
            ("a", Right::Pull, false),
            ("a/b/c", Right::Pull, false),
        ] {
            assert_eq!(scope.covers(name, right), expected, "{name} {right:?}");
        }
        assert!(Scope::parse("repository:h:5000/a:*").unwrap().covers("h:5000/a", Right::Delete));
        assert!(Scope::parse("registry:catalog:*").unwrap().is_catalog());
        assert!(!Scope::parse("registry:catalog:pull").unwrap().is_catalog());
        for bad in ["", "repository", "repository:a"] {
            assert_eq!(Scope::parse(bad), None, "{bad}");
        }
    }
}
