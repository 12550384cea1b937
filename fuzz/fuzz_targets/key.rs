//! Keys: whatever is accepted stays below the folder that it is joined to.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use roadstead::store::Key;

fuzz_target!(|text: &str| {
    if let Ok(key) = text.parse::<Key>() {
        assert_eq!(key.as_str(), text);
        let path = Path::new("/root").join(text);
        assert!(path.starts_with("/root") && path != Path::new("/root"));
        let components: Vec<_> = Path::new(text).components().collect();
        assert_eq!(components.len(), key.components().count());
        assert!(components.iter().all(|component| matches!(component, Component::Normal(_))));
        if let Some(parent) = key.parent() {
            assert_eq!(parent.child(key.name()).expect("it is one"), key);
        }
    }
});
