//! Image references and all that they are made of: whatever is accepted is the same when it is read again, and can be a key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead::oci::{ImageReference, Reference, Registry, Repository, Tag};
use roadstead::store::Key;

fuzz_target!(|text: &str| {
    if let Ok(image) = text.parse::<ImageReference>() {
        assert_eq!(image.to_string().parse::<ImageReference>().expect("it was accepted before"), image);
        assert!(image.tag.is_some() || image.digest.is_some());
        let key = format!("v2/{}/manifests/{}", image.repository, image.reference());
        assert!(key.parse::<Key>().is_ok(), "{key}");
    }
    if let Ok(registry) = text.parse::<Registry>() {
        assert_eq!(registry.to_string(), text);
        assert!(!registry.host().is_empty() && registry.port() != Some(0));
        assert!(!registry.host().contains(['/', '@', '?', '#', '[', ']']));
    }
    if let Ok(repository) = text.parse::<Repository>() {
        assert!(repository.as_str().parse::<Key>().is_ok());
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert!(!tag.as_str().contains(['/', ':']) && !tag.as_str().starts_with('.'));
        assert_eq!(text.parse::<Reference>().expect("a tag is a reference"), Reference::Tag(tag));
    }
});
