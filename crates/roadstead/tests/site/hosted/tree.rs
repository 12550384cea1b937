//! What the sites hold: every type of manifest, nested repositories, hundreds of tags.

use roadstead::testing::{Format, Image, ImageBuilder, IndexBuilder};

use crate::fixture::Fixture;

/// How many tags one repository has.
const TAGS: usize = 300;

fn tool() -> Image {
    let of = |platform: &str| ImageBuilder::new().platform(platform).greeting("tool").build();
    IndexBuilder::new().image(of("linux/amd64")).image(of("linux/arm64")).build()
}

fn docker() -> Image {
    ImageBuilder::new().format(Format::Docker).greeting("docker").build()
}

fn untyped() -> Image {
    ImageBuilder::new().format(Format::OciWithoutMediaType).greeting("untyped").build()
}

/// Adds all that the fixture hasn't.
pub(super) fn fill(fixture: &Fixture) {
    let tags: Vec<String> = (0..TAGS).map(|n| format!("v{n:03}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    fixture.add("org/team/tool", &tags, &tool());
    fixture.add("org/team/tool", &["docker", "index"], &docker());
    fixture.add("org/team/tool", &["untyped", "UPPER_case-1"], &untyped());
    fixture.add("docker-only", &["1", "2"], &docker());
    fixture.add("old", &["signed"], &ImageBuilder::new().format(Format::Schema1Signed).greeting("signed").build());
}

/// What clients pull: an index and a plain image all of them, the others only those without a daemon.
pub(super) fn pulled(fixture: &Fixture) -> Vec<(&'static str, &'static str, Image)> {
    vec![
        ("org/team/tool", "v299", tool()),
        ("org/team/tool", "docker", docker()),
        ("a/b/c/d/e", "1.0.html", fixture.image.clone()),
        ("org/team/tool", "untyped", untyped()),
    ]
}
