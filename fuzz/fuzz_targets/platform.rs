//! Platforms: from a command line and from JSON; both end as the same thing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead::oci::Platform;

fuzz_target!(|text: &str| {
    let parsed = [text.parse::<Platform>().ok(), serde_json::from_str::<Platform>(text).ok()];
    for platform in parsed.into_iter().flatten() {
        assert_eq!(platform.to_string().parse::<Platform>().expect("it was accepted before"), platform);
        assert!(platform.satisfies(&platform));
    }
});
