//! Every command as it is typed, and all that it prints.

use expect_test::{Expect, expect};
use roadstead::testing::{Format, Image, ImageBuilder, IndexBuilder, MemorySource};
use roadstead_parts::Served;

use crate::support::{Place, Ran, State, Words, snapshot, write_tree};

mod add;
mod convert;
mod copy;
mod doctor;
mod login;
mod names;
mod private;
mod publish;
mod publish_tree;
mod read;
mod referrers;
mod remove;
mod save;
mod serve;
mod sources;
mod tend;

/// A registry with a few images, and a place to add them to.
struct Scene {
    place: Place,
    words: Words,
    authority: String,
    index: Image,
    _registry: (Place, Served),
}

impl Scene {
    /// `base:3.20` is an index of three platforms, `org/tool:1` and `org/tool:2` are images of one platform.
    fn new() -> Self {
        let image = |platform: &'static str| ImageBuilder::new().platform(platform).layer(platform).build();
        let index = ["linux/amd64", "linux/arm64", "linux/arm/v7"].map(image);
        let index = index.into_iter().fold(IndexBuilder::new(), IndexBuilder::image).build();
        let tool = |text: &'static str| ImageBuilder::new().format(Format::Docker).layer("shared").layer(text).build();
        let (one, two) = (tool("one"), tool("two"));
        let source = MemorySource::new();
        source.add("base:3.20", &index);
        source.add("org/tool:1", &one);
        source.add("org/tool:2", &two);
        let registry = Place::new();
        write_tree(&registry.tree(), &source);
        let (served, authority) = registry.serve(&registry.tree());
        let place = Place::new();
        let mut words = Words::of(&place, &[("index", &index), ("one", &one), ("two", &two)]);
        words.say(&authority, "REGISTRY");
        words.say(&authority.replace(':', "_"), "REGISTRY_PORT");
        Self { place, words, authority, index, _registry: (registry, served) }
    }

    /// The same with all of it added.
    fn filled() -> Self {
        let scene = Self::new();
        scene.run(&["add", "-q", "REGISTRY/base:3.20", "REGISTRY/org/tool:1", "REGISTRY/org/tool:2"]).ok();
        scene
    }

    /// Runs a command, in whose arguments `REGISTRY` is the registry.
    fn run(&self, arguments: &[&str]) -> Ran {
        self.place.run(&self.arguments(arguments))
    }

    fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        arguments.iter().map(|argument| argument.replace("REGISTRY", &self.authority)).collect()
    }

    /// Runs a command, and compares all that it prints.
    #[track_caller]
    fn check(&self, arguments: &[&str], expected: Expect) {
        snapshot(&self.words, &self.run(arguments), expected);
    }

    fn state(&self) -> State {
        State::of(&self.place.tree())
    }
}
