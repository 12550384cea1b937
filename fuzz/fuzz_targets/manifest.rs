//! Manifests: whatever is accepted is what its descriptor says, and reads in one way only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead::oci::{Algorithm, Kind, Manifest};

fuzz_target!(|bytes: &[u8]| {
    for algorithm in Algorithm::ALL {
        let Ok(manifest) = Manifest::parse(bytes.to_vec().into(), algorithm) else { continue };
        assert_eq!(&manifest.bytes()[..], bytes);
        let again = Manifest::verify(bytes.to_vec().into(), &manifest.descriptor()).expect("it is what it says");
        assert_eq!(again.media_type(), manifest.media_type());
        let (layers, children) = (manifest.layers().len(), manifest.manifests().len());
        match manifest.kind() {
            Kind::Image => assert_eq!(children, 0),
            Kind::Index => assert!(layers == 0 && manifest.config().is_none()),
            Kind::Schema1 => assert!(children == 0 && manifest.config().is_none()),
        }
        if manifest.kind() != Kind::Schema1 {
            assert_eq!(*manifest.digest(), algorithm.digest(bytes));
        }
    }
});
