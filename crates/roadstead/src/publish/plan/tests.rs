//! Whatever part of a plan was carried out, what shows is whole; and planning again gives the rest.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::oci::Algorithm;

/// How many blobs and manifests there are in the world.
const BLOBS: usize = 6;
const MANIFESTS: usize = 10;

fn digest(what: &str, number: usize) -> Digest {
    Algorithm::Sha256.digest(format!("{what} {number}").as_bytes())
}

/// Everything that could be in a tree: each manifest needs blobs, and manifests with lower numbers.
#[derive(Debug, Clone)]
struct World {
    needs: Vec<Needs>,
}

impl World {
    fn number(&self, manifest: &Digest) -> usize {
        (0..MANIFESTS).find(|number| digest("manifest", *number) == *manifest).unwrap()
    }

    fn of(&self, manifest: &Digest) -> &Needs {
        &self.needs[self.number(manifest)]
    }
}

fn world() -> impl Strategy<Value = World> {
    let manifest = (
        proptest::collection::btree_set(0..BLOBS, 0..3),
        proptest::collection::vec(any::<Index>(), 0..3),
        proptest::option::weighted(0.3, any::<Index>()),
    );
    proptest::collection::vec(manifest, MANIFESTS).prop_map(|drawn| {
        let needs = drawn.into_iter().enumerate().map(|(number, (blobs, children, subject))| {
            let below = |index: Index| digest("manifest", index.index(number.max(1)));
            // The first ones are images, the others indexes.
            let children = children.into_iter().filter(|_| number >= MANIFESTS / 2).map(below).collect();
            let blobs = blobs.into_iter().map(|blob| (digest("blob", blob), Some(blob as u64 + 1))).collect();
            Needs { children, blobs, subject: subject.filter(|_| number > 0).map(below) }
        });
        World { needs: needs.collect() }
    })
}

/// A repository as it is, with what its lists and records say.
#[derive(Debug, Clone)]
struct Model {
    holding: Holding,
    left_out: BTreeMap<Digest, BTreeSet<Digest>>,
}

impl Model {
    fn empty(name: &str) -> Self {
        Self { holding: Holding::of(name.parse().unwrap()), left_out: BTreeMap::new() }
    }

    /// A sound repository with these roots, of which some children were left out on purpose.
    fn sound(name: &str, world: &World, roots: &[usize], tags: &[(usize, usize)], absent: &BTreeSet<usize>) -> Self {
        let mut model = Self::empty(name);
        let mut next: Vec<usize> = roots.iter().chain(tags.iter().map(|(_, manifest)| manifest)).copied().collect();
        let wanted: BTreeSet<usize> = next.iter().copied().collect();
        while let Some(number) = next.pop() {
            if model.holding.manifests.insert(digest("manifest", number), number as u64 + 1).is_some() {
                continue;
            }
            for child in &world.needs[number].children {
                let child = world.number(child);
                if !absent.contains(&child) || wanted.contains(&child) {
                    next.push(child);
                }
            }
        }
        let holding = &mut model.holding;
        for manifest in holding.manifests.keys() {
            let needs = world.of(manifest);
            holding.blobs.extend(needs.blobs.iter().map(|(blob, size)| (*blob, size.unwrap())));
            let lacking = needs.children.iter().filter(|child| !holding.manifests.contains_key(*child));
            let lacking: BTreeSet<Digest> = lacking.copied().collect();
            if !lacking.is_empty() {
                holding.records.insert(*manifest, Md5::of(&record(&lacking)));
                model.left_out.insert(*manifest, lacking);
            }
        }
        for (tag, manifest) in tags {
            holding.tags.insert(format!("t{tag}").parse().unwrap(), digest("manifest", *manifest));
        }
        model.list(world);
        model
    }

    fn referrers(&self, world: &World, subject: &Digest) -> Option<Md5> {
        let referring = self.holding.manifests.keys().filter(|digest| world.of(digest).subject == Some(*subject));
        let text: Vec<String> = referring.map(ToString::to_string).collect();
        (!text.is_empty()).then(|| Md5::of(text.join(" ").as_bytes()))
    }

    fn list(&mut self, world: &World) {
        for number in 0..MANIFESTS {
            self.list_referrers(world, &digest("manifest", number));
        }
        self.list_tags();
    }

    fn list_referrers(&mut self, world: &World, subject: &Digest) {
        if let Some(list) = self.referrers(world, subject) {
            let (list, fallback) = (Some(list), Some(list));
            self.holding.referrers.insert(*subject, ListOfReferrers { list, fallback });
        } else {
            self.holding.referrers.remove(subject);
        }
    }

    fn list_tags(&mut self) {
        let tags = self.holding.tags.keys().cloned().collect();
        let list = (!self.holding.manifests.is_empty()).then(|| list_of_tags(&self.holding.repository, tags));
        self.holding.tags_list = list.map(|list| Md5::of(&list));
    }

    fn do_step(&mut self, world: &World, source: &Self, step: &Step) {
        match step {
            Step::PutBlob { digest, size } | Step::CopyBlob { digest, size, .. } => {
                self.holding.blobs.insert(*digest, *size);
            }
            Step::LeaveOut { index, children, .. } => {
                self.holding.records.remove(index);
                self.left_out.remove(index);
                if !children.is_empty() {
                    self.holding.records.insert(*index, Md5::of(&record(children)));
                    self.left_out.insert(*index, children.clone());
                }
            }
            Step::PutManifest { digest, size, .. } => {
                assert_eq!(source.holding.manifests[digest], *size);
                self.holding.manifests.insert(*digest, *size);
            }
            Step::Referrers { subject } => self.list_referrers(world, subject),
            Step::Tag { tag, digest, before } => {
                assert_eq!(self.holding.tags.insert(tag.clone(), *digest), *before);
            }
            Step::TagsList { .. } => self.list_tags(),
            Step::Catalog => {}
            Step::DeleteTag { tag } => {
                self.holding.tags.remove(tag).unwrap();
                self.list_tags();
            }
            Step::DeleteManifest { digest } => {
                self.holding.manifests.remove(digest).unwrap();
            }
            Step::DeleteBlob { digest } => {
                self.holding.blobs.remove(digest).unwrap();
            }
        }
    }

    /// Whether everything that shows has what it needs.
    fn is_whole(&self, world: &World) -> Result<(), String> {
        for (tag, digest) in &self.holding.tags {
            if !self.holding.manifests.contains_key(digest) {
                return Err(format!("{tag} leads to nothing"));
            }
        }
        for manifest in self.holding.manifests.keys() {
            let needs = world.of(manifest);
            for (blob, size) in &needs.blobs {
                if self.holding.blobs.get(blob) != size.as_ref() {
                    return Err(format!("manifest {} lacks a blob", world.number(manifest)));
                }
            }
            for child in &needs.children {
                let is_left_out = || self.left_out.get(manifest).is_some_and(|left_out| left_out.contains(child));
                if !self.holding.manifests.contains_key(child) && !is_left_out() {
                    return Err(format!("index {} lacks {}", world.number(manifest), world.number(child)));
                }
            }
        }
        Ok(())
    }
}

fn plan(world: &World, tree: &Model, held: &Model, delete: bool) -> Vec<Step> {
    let facts = Facts {
        manifests: missing(&tree.holding, &held.holding).map(|digest| (*digest, world.of(digest).clone())).collect(),
        left_out: tree.left_out.clone(),
    };
    repository(&tree.holding, &facts, &held.holding, delete).unwrap().map(|work| work.steps).unwrap_or_default()
}

/// A step, whatever lies below it and is sent, too.
fn flat(step: &Step) -> Step {
    match step {
        Step::PutManifest { digest, size, .. } => Step::PutManifest { digest: *digest, size: *size, height: 0 },
        other => other.clone(),
    }
}

type Drawn = (Vec<usize>, Vec<(usize, usize)>, BTreeSet<usize>);

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        proptest::collection::vec(0..MANIFESTS, 0..3),
        proptest::collection::vec((0..4_usize, 0..MANIFESTS), 0..4).prop_map(|tags| {
            // One manifest for each tag.
            tags.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect()
        }),
        proptest::collection::btree_set(0..MANIFESTS, 0..2),
    )
}

proptest! {
    #[test]
    fn a_plan_that_stops_anywhere_leaves_everything_whole((world, tree, held, delete) in (
        world(), drawn(), drawn(), any::<bool>(),
    )) {
        let tree = Model::sound("app", &world, &tree.0, &tree.1, &tree.2);
        let held = Model::sound("app", &world, &held.0, &held.1, &held.2);
        // A destination that leaves out what the tree hasn't said anything about is the business of who wrote it.
        let steps = plan(&world, &tree, &held, false);
        let mut now = held.clone();
        for (done, step) in steps.iter().enumerate() {
            now.do_step(&world, &tree, step);
            now.is_whole(&world).map_err(|e| TestCaseError::fail(format!("after {done} of {steps:#?}: {e}")))?;
            let rest: Vec<Step> = steps[done + 1..].iter().map(flat).collect();
            let again = plan(&world, &tree, &now, false);
            // Nothing is done twice, but a list of referrers that has more than the tree knows is read again.
            let is_new = |step: &Step| !rest.contains(step) && !matches!(step, Step::Referrers { .. });
            let more: Vec<Step> = again.iter().map(flat).filter(is_new).collect();
            prop_assert!(more.is_empty(), "after {done} of {steps:#?} there is more to do: {more:#?}");
        }
        for tag in &tree.holding.tags {
            prop_assert_eq!(now.holding.tags.get(tag.0), Some(tag.1));
        }
        for tag in held.holding.tags.keys() {
            prop_assert!(now.holding.tags.contains_key(tag), "{} is lost", tag);
        }
        let left = plan(&world, &tree, &now, false);
        let is_foreign = |step: &Step| matches!(step, Step::Referrers { .. });
        prop_assert!(left.iter().all(is_foreign), "there is more to do at the end: {left:#?}");

        if delete {
            let last = plan(&world, &tree, &now, true);
            for step in last.iter().filter(|step| step.deletes()) {
                let kept = match step {
                    Step::DeleteTag { tag } => tree.holding.tags.contains_key(tag),
                    Step::DeleteManifest { digest } => tree.holding.manifests.contains_key(digest),
                    Step::DeleteBlob { digest } => tree.holding.blobs.contains_key(digest),
                    _ => false,
                };
                prop_assert!(!kept, "{step:?} deletes what the tree has");
            }
        }
    }

    #[test]
    fn a_blob_is_sent_once((world, one, other) in (world(), drawn(), drawn()), held in select(vec![true, false])) {
        let names = ["one", "other"];
        let trees = [
            Model::sound(names[0], &world, &one.0, &one.1, &one.2),
            Model::sound(names[1], &world, &other.0, &other.1, &other.2),
        ];
        let mut works: Vec<Work> = trees
            .iter()
            .filter_map(|tree| {
                let steps = plan(&world, tree, &Model::empty(tree.holding.repository.as_str()), false);
                (!steps.is_empty()).then(|| Work { repository: tree.holding.repository.clone(), steps })
            })
            .collect();
        let mut shares = Shares::default();
        let third = Model::sound("third", &world, &[0], &[], &BTreeSet::new());
        if held {
            shares.note(&third.holding.repository, third.holding.blobs.iter().map(|(d, s)| (*d, *s)));
        }
        share(&mut works, shares);
        let mut sent = BTreeSet::new();
        for step in works.iter().flat_map(|work| &work.steps) {
            if let Step::PutBlob { digest, .. } = step {
                prop_assert!(sent.insert(*digest), "{digest} is sent twice");
                prop_assert!(!(held && third.holding.blobs.contains_key(digest)), "{digest} is there");
            }
        }
        for work in &works {
            for step in &work.steps {
                if let Step::CopyBlob { digest, from, .. } = step {
                    let there = sent.contains(digest) || from.as_str() == "third";
                    prop_assert!(there && *from != work.repository, "{digest} can't be copied from {from}");
                }
            }
        }
    }
}

#[test]
fn what_is_lost_is_not_published() {
    let needs = Needs { blobs: vec![(digest("blob", 0), Some(7))], ..Needs::default() };
    let world = World { needs: vec![needs; MANIFESTS] };
    let mut tree = Model::sound("app", &world, &[0], &[], &BTreeSet::new());
    let facts = |_: &Model| Facts {
        manifests: BTreeMap::from([(digest("manifest", 0), world.needs[0].clone())]),
        ..Facts::default()
    };
    let held = Model::empty("app").holding;
    assert!(repository(&tree.holding, &facts(&tree), &held, false).is_ok());
    tree.holding.blobs.insert(digest("blob", 0), 6);
    let lack = repository(&tree.holding, &facts(&tree), &held, false).unwrap_err();
    assert!(matches!(lack, Lack::Size { expected: 7, actual: 6, .. }), "{lack}");
    tree.holding.blobs.clear();
    let lack = repository(&tree.holding, &facts(&tree), &held, false).unwrap_err();
    assert!(matches!(lack, Lack::Blob { .. }), "{lack}");
    tree.holding.manifests.clear();
    tree.holding.tags.insert("1".parse().unwrap(), digest("manifest", 0));
    let lack = repository(&tree.holding, &Facts::default(), &held, false).unwrap_err();
    assert!(matches!(lack, Lack::Tagged { .. }), "{lack}");
}

#[test]
fn an_entry_of_the_catalogue_that_is_missing_is_made() {
    let work = Work { repository: "a".parse().unwrap(), steps: vec![Step::TagsList { names: 1 }] };
    let mut works = vec![work];
    let ours = ["a", "b", "c"].map(|name| name.parse().unwrap()).into();
    catalog(&mut works, &ours, &BTreeSet::from(["c".to_owned()]));
    let steps: Vec<_> = works.iter().map(|work| (work.repository.as_str(), work.steps.len())).collect();
    assert_eq!(steps, [("a", 2), ("b", 1)]);
}
