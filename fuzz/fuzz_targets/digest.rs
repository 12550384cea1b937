//! Digests: whatever is accepted is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead::oci::{Digest, Reference};

fuzz_target!(|text: &str| {
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        assert_eq!(digest.as_bytes().len(), digest.algorithm().digest_len());
        assert_eq!(text.parse::<Reference>().expect("a digest is a reference"), Reference::Digest(digest));
    }
});
