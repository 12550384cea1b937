//! Media types: whatever is accepted is harmless as a path of two components and as a header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead::oci::MediaType;
use roadstead::store::Key;

fuzz_target!(|text: &str| {
    if let Ok(media_type) = text.parse::<MediaType>() {
        let written = media_type.as_str();
        assert_eq!(written.parse::<MediaType>().expect("it was accepted before"), media_type);
        assert!(written.bytes().all(|c| c.is_ascii_graphic() && !b"\"'\\;,%<>".contains(&c)), "{written:?}");
        let key: Key = written.parse().expect("a media type is a key");
        assert_eq!(key.components().count(), 2);
    }
});
