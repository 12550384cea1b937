//! Who may push what, and what stays where it is.

use std::collections::BTreeSet;

use http::Method;

use super::answer::Problem;
use super::{Inner, Target};
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::server::auth::{Held, Right, Session};
use crate::tree::Pointer;

/// Lets pass who may make a request.
pub(super) async fn allow(session: Option<&Session>, method: &Method, target: &Target) -> Result<(), Problem> {
    let Some(session) = session else { return Ok(()) };
    let (repository, right) = match target {
        Target::Uploads(repository) | Target::Upload(repository, _) => (repository, Right::Push),
        Target::Manifest(repository, _) | Target::Blob(repository, _) if method == Method::DELETE => {
            (repository, Right::Delete)
        }
        Target::Manifest(repository, _) | Target::Blob(repository, _) => (repository, Right::Push),
    };
    session.check(repository, right).await.map_err(Problem::refused)
}

impl Inner {
    /// Lets tags pass that are about to name a manifest, if they may: one that names another has to be moved. Returns
    /// those that may only be given while nothing has that name; those that may not be moved, and name it already, are
    /// left out.
    pub(super) async fn judge_tags(
        &self,
        session: &Session,
        repository: &Repository,
        tags: &mut Vec<Tag>,
        digest: &Digest,
    ) -> Result<BTreeSet<Tag>, Problem> {
        let (mut fixed, mut left) = (BTreeSet::new(), Vec::new());
        for tag in tags.drain(..) {
            let named = self.tree.resolve(repository, &Reference::Tag(tag.clone())).await?;
            let may_move = match session.check_fixed(repository, &tag) {
                Ok(()) => session.check(repository, Right::Overwrite).await,
                refused => refused,
            };
            match (named, may_move) {
                (Some(named), Err(refusal)) if named.digest != *digest => return Err(Problem::refused(refusal)),
                (Some(_), Err(_)) => continue,
                (None, Err(_)) => _ = fixed.insert(tag.clone()),
                (_, Ok(())) => {}
            }
            left.push(tag);
        }
        *tags = left;
        Ok(fixed)
    }

    /// Holds what a delete takes away, if no fixed tag is among it.
    pub(super) async fn hold_to_delete<'a>(
        &self,
        session: &'a Session,
        target: &Target,
    ) -> Result<Option<Held<'a>>, Problem> {
        let Target::Manifest(repository, reference) = target else { return Ok(None) };
        if !session.fixes_tags_of(repository) {
            return Ok(None);
        }
        let digest = match reference {
            Reference::Tag(tag) => {
                session.check_fixed(repository, tag).map_err(Problem::refused)?;
                return Ok(None);
            }
            Reference::Digest(digest) => digest,
        };
        // The tags that name a manifest go with it, and an index would lack it.
        let held = session.hold_all_tags().await;
        for (tag, named) in self.tree.tags(repository).await? {
            if let Err(refusal) = session.check_fixed(repository, &tag)
                && self.reaches(repository, named, digest).await?
            {
                return Err(Problem::refused(refusal));
            }
        }
        Ok(Some(held))
    }

    /// Whether a manifest is another one, or names it by way of indexes.
    async fn reaches(&self, repository: &Repository, from: Pointer, to: &Digest) -> Result<bool, Problem> {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(pointer) = next.pop() {
            if pointer.digest == *to {
                return Ok(true);
            }
            let Some(manifest) = self.tree.manifest(&pointer).await? else { continue };
            for child in manifest.manifests() {
                let reference = Reference::Digest(child.digest);
                if seen.insert(child.digest)
                    && let Some(child) = self.tree.resolve(repository, &reference).await?
                {
                    next.push(child);
                }
            }
        }
        Ok(false)
    }
}
