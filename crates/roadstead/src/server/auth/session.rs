//! A request's caller, before the guard.

use super::scope::Scope;
use super::tokens::Subject;
use super::{Caller, Guard, Refusal, Right, STRIPES, challenge};
use crate::oci::{Repository, Tag};
use crate::server::front::Front;

/// A request's caller, before the guard.
#[derive(Clone)]
pub(in super::super) struct Session {
    pub(super) guard: Guard,
    pub(super) front: Front,
    pub(super) caller: Result<Caller, Refusal>,
}

impl Session {
    /// Lets pass who said who they are, be it with a token for nobody in particular, that covers `scope` if one is needed.
    pub(super) fn knows_itself(&self, scope: Option<&str>) -> Result<(), Refusal> {
        let caller = self.caller.as_ref().map_err(Clone::clone)?;
        let covered =
            scope.is_none() || caller.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(Scope::is_catalog));
        if caller.spoke && covered {
            return Ok(());
        }
        let error = caller.spoke.then_some("insufficient_scope");
        Err(Refusal::unknown(challenge(&self.front, scope, error), "a token is needed"))
    }

    /// Lets pass who may do something to a repository.
    pub(in super::super) async fn check(&self, repository: &Repository, right: Right) -> Result<(), Refusal> {
        let caller = self.caller.as_ref().map_err(Clone::clone)?;
        let guard = &self.guard.0;
        let shown = guard.shown(repository);
        let actions = match right {
            Right::Pull => "pull",
            Right::Push | Right::Overwrite => "pull,push",
            Right::Delete => "pull,push,delete",
        };
        let ask = |error, detail: String| {
            let scope = format!("repository:{shown}:{actions}");
            Err(Refusal::unknown(challenge(&self.front, Some(&scope), error), detail))
        };
        if !guard.allows(caller.who(), repository, right).await {
            let what = right.as_str();
            let detail = match right {
                Right::Overwrite => format!("{} may not move a tag of {shown}", caller.shown()),
                _ => format!("{} may not {what} {shown}", caller.shown()),
            };
            // Who has no name may have one.
            if caller.subject == Subject::Anonymous {
                return ask(None, detail);
            }
            return Err(Refusal::denied(detail));
        }
        if caller.scopes.as_ref().is_some_and(|scopes| !scopes.iter().any(|scope| scope.covers(&shown, right))) {
            return ask(
                Some("insufficient_scope"),
                format!("the token isn't for that: it has to say {actions} of {shown}"),
            );
        }
        Ok(())
    }

    /// Whose requests are counted together.
    pub(in super::super) fn client(&self) -> String {
        match &self.caller {
            Ok(caller) if caller.subject != Subject::Anonymous => caller.shown(),
            _ => self.front.client.to_string(),
        }
    }

    /// Waits until nobody else in this process writes these tags, and keeps others from it as long as what is returned is
    /// held.
    pub(in super::super) async fn hold_tags(&self, repository: &Repository, tags: &[Tag]) -> Held<'_> {
        use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let stripe =
            |tag: &Tag| usize::try_from(hasher.hash_one((repository, tag)) % STRIPES as u64).unwrap_or_default();
        let guard = &self.guard.0;
        let all = guard.tags.read().await;
        let mut wanted: Vec<usize> = tags.iter().map(stripe).collect();
        // In order, so that no two wait for each other.
        wanted.sort_unstable();
        wanted.dedup();
        let mut held = Vec::with_capacity(wanted.len());
        for stripe in wanted {
            held.push(guard.stripes[stripe].lock().await);
        }
        Held::Some { _all: all, _held: held }
    }

    /// The same for all tags.
    pub(in super::super) async fn hold_all_tags(&self) -> Held<'_> {
        Held::All { _all: self.guard.0.tags.write().await }
    }

    /// Whether any tag of a repository is fixed once it is there.
    pub(in super::super) fn fixes_tags_of(&self, repository: &Repository) -> bool {
        self.guard.0.access.grants.get().fix_tags_of(repository)
    }

    /// Lets pass what changes no tag that is fixed.
    pub(in super::super) fn check_fixed(&self, repository: &Repository, tag: &Tag) -> Result<(), Refusal> {
        if self.guard.0.access.grants.get().fix(repository, tag) {
            let shown = self.guard.0.shown(repository);
            return Err(Refusal::denied(format!("the tag {tag} of {shown} is fixed: nobody may move or delete it")));
        }
        Ok(())
    }
}

/// Tags that nobody else writes.
pub(in super::super) enum Held<'a> {
    Some { _all: tokio::sync::RwLockReadGuard<'a, ()>, _held: Vec<tokio::sync::MutexGuard<'a, ()>> },
    All { _all: tokio::sync::RwLockWriteGuard<'a, ()> },
}
