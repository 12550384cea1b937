//! What is copied to where: names, and that no two images get the same one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use roadstead::oci::{Reference, Repository, Tag};

use super::names::{Naming, Target};
use crate::exit;
use crate::output::Output;
use crate::transport::{Called, Offer};

/// What to copy, by repository of the tree.
pub(super) type Plan = BTreeMap<Repository, Vec<Planned>>;

/// One image to copy, and the names that it gets.
pub(super) struct Planned {
    pub(super) offer: Offer,
    identity: String,
    pub(super) tags: BTreeSet<Tag>,
}

/// Gives names, and remembers them.
pub(super) struct Planner<'a> {
    naming: &'a Naming,
    /// What `--tag` says.
    targets: &'a [Target],
    output: &'a Output,
    /// What has each name so far.
    taken: HashMap<(Repository, Tag), Taken>,
}

/// What has a name.
struct Taken {
    identity: String,
    reference: Reference,
    shown: String,
}

impl<'a> Planner<'a> {
    pub(super) fn new(naming: &'a Naming, targets: &'a [Target], output: &'a Output) -> Self {
        Self { naming, targets, output, taken: HashMap::new() }
    }

    /// Plans to copy an image.
    ///
    /// # Errors
    ///
    /// If it can't have the name that it would get.
    pub(super) fn add(&mut self, plan: &mut Plan, offer: &Offer) -> anyhow::Result<()> {
        let identity = offer.identity();
        let targets = match self.targets {
            [] => vec![self.target(offer)?],
            targets => targets.iter().map(|target| self.naming.below_prefix(target)).collect::<Result<_, _>>()?,
        };
        let mut named = Vec::new();
        for Target { repository, tag } in targets {
            let tag = tag.or_else(|| offer.called.tag().cloned());
            let tag = tag.or_else(|| (!self.targets.is_empty()).then(Tag::latest));
            if let Some(tag) = &tag {
                self.take(&repository, tag, offer, &identity)?;
            }
            named.push((repository, tag));
        }
        for (repository, tag) in named {
            let planned = plan.entry(repository).or_default();
            // The same image under several tags is copied once, and the same word twice is one word.
            match planned.iter_mut().find(|planned| planned.identity == identity) {
                Some(planned) => planned.tags.extend(tag),
                None => {
                    let tags = tag.into_iter().collect();
                    planned.push(Planned { offer: offer.clone(), identity: identity.clone(), tags });
                }
            }
        }
        Ok(())
    }

    /// What an image is called in the tree if nobody says it.
    fn target(&self, offer: &Offer) -> anyhow::Result<Target> {
        let shown = &offer.shown;
        let own = match &offer.called {
            Called::Image(image) => return Ok(self.naming.target(image)?),
            Called::Within(repository, tag) => Target { repository: repository.clone(), tag: tag.clone() },
            Called::Bare { place: Some(place), tag } => Target { repository: place.clone(), tag: tag.clone() },
            Called::Bare { place: None, .. } => {
                return Err(exit::usage(format!("{shown} has no repository's name: name it with --tag")));
            }
            Called::Other(name) => {
                return Err(exit::usage(format!(
                    "{shown} is called \"{name}\" there, which is no name for a repository: name it with --tag"
                )));
            }
        };
        let target = self.naming.below_prefix(&own)?;
        if let Called::Bare { .. } = &offer.called {
            let tag = target.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
            self.output.note(&format!(
                "{shown} has no repository's name, and is {}{tag} in the tree; --tag names it otherwise",
                target.repository
            ));
        }
        Ok(target)
    }

    /// Takes a name for an image.
    fn take(&mut self, repository: &Repository, tag: &Tag, offer: &Offer, identity: &str) -> anyhow::Result<()> {
        if tag.is_referrers_fallback() {
            anyhow::bail!(
                "{repository}:{tag} is where clients look for referrers, which the tree lists by itself; name the image otherwise \
                 with --tag"
            );
        }
        let Offer { reference, shown, .. } = offer;
        let taken = self.taken.entry((repository.clone(), tag.clone())).or_insert_with(|| Taken {
            identity: identity.to_owned(),
            reference: reference.clone(),
            shown: shown.clone(),
        });
        // Two archives may hold the same image.
        let is_same = matches!(reference, Reference::Digest(_)) && *reference == taken.reference;
        if taken.identity != identity && !is_same {
            anyhow::bail!(
                "{} and {shown} would both be {repository}:{tag}; use --keep-registry, or add them one by one with --tag",
                taken.shown
            );
        }
        Ok(())
    }
}
