//! What refers to an image is found from every server, and a subject without referrers has an empty list.

use roadstead::testing::MemorySource;
use roadstead_parts::{Crane, Oras};

use super::Servers;
use super::kinds::kinds;
use crate::support::{Place, write_tree};

#[test]
fn oras_discovers_referrers_from_every_server() {
    let (place, source) = (Place::new(), MemorySource::new());
    for kind in kinds().iter().filter(|kind| kind.repository == "signed") {
        source.add(&format!("signed:{}", kind.tag), &kind.image);
    }
    write_tree(&place.tree(), &source);
    let servers = Servers::over(&place);
    for server in servers.list() {
        let discover = |tag: &str, api: &str| {
            let reference = format!("{}/signed:{tag}", server.authority);
            let found = Oras.oras(&[
                "discover",
                "--plain-http",
                "--format=json",
                &format!("--distribution-spec={api}"),
                &reference,
            ]);
            found.unwrap_or_else(|failure| panic!("{}, {api}: {failure}", server.name)).stdout
        };
        // The API, and the tag that stood in for it before.
        for api in ["v1.1-referrers-api", "v1.1-referrers-tag"] {
            let found = discover("1.0", api);
            assert!(found.contains("application/vnd.example.signature"), "{}, {api}: {found}", server.name);
        }
        let found = discover("signature", "v1.1-referrers-api");
        assert!(!found.contains("artifactType"), "{}: {found}", server.name);

        let tags = Crane.crane(&["ls", "--insecure", &format!("{}/signed", server.authority)]).unwrap().stdout;
        assert_eq!(tags, "1.0\nsignature\n", "{}", server.name);
        let repositories = Crane.crane(&["catalog", "--insecure", &server.authority]).unwrap().stdout;
        assert_eq!(repositories, "signed\n", "{}", server.name);
    }
}
