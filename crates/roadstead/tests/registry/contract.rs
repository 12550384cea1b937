//! A registry keeps the promises of a source.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use roadstead::oci::Digest;
use roadstead::testing::contract::source::{self, Subject};
use roadstead::testing::{Fault, FaultServer, ImageBuilder, IndexBuilder, Layer, Reply, noise};

use crate::support::{Setup, registry_of};

#[tokio::test]
async fn registry() {
    let of = |platform| {
        let large = Layer::new().file("large", noise(1, 300_000), 0o644);
        ImageBuilder::new().layer(large).platform(platform).build()
    };
    let image = IndexBuilder::new().attested_image(of("linux/amd64")).image(of("linux/arm64")).build();
    let referrer = ImageBuilder::new()
        .artifact_type("application/x.y")
        .subject(&image.descriptor())
        .blob("text/plain", "x")
        .build();
    let referrers = IndexBuilder::new().image(referrer.clone()).build();

    let faults: Arc<Mutex<HashMap<Digest, Fault>>> = Arc::default();
    let (served, injected, subject) = (image.clone(), Arc::clone(&faults), image.digest());
    let server = FaultServer::start(move |seen| {
        match seen.path() {
            "/v2/_catalog" => return Reply::ok(r#"{"repositories":["app"]}"#),
            path if path == format!("/v2/app/referrers/{subject}") => {
                return Reply::ok(referrers.manifest.bytes().clone())
                    .header("content-type", "application/vnd.oci.image.index.v1+json");
            }
            _ => {}
        }
        let reply = registry_of(&served, seen);
        let digest = seen.path().rsplit('/').next().and_then(|last| last.parse::<Digest>().ok());
        let fault = digest.and_then(|digest| injected.lock().expect("no test panics with it").get(&digest).copied());
        match fault {
            None => reply,
            Some(Fault::WrongBytes) => reply.edit(|body| body[0] ^= 1),
            Some(Fault::Short) => reply.edit(|body| body.truncate(body.len() - 1)),
            Some(Fault::Long) => reply.edit(|body| body.push(b' ')),
            // However often it is asked, nothing comes from the middle on.
            Some(Fault::Cut) => match seen.range_start() {
                None => reply.cut_after(100),
                Some(_) => reply.cut_after(0),
            },
            Some(Fault::Missing) => Reply::status(404),
            Some(Fault::NeverEnding) => reply.endless(),
        }
    })
    .await;
    let setup = Setup::new();
    let source = setup.source(&server);
    let subject = Subject {
        implementation: "registry",
        source: &source,
        repository: "app".parse().expect("a name"),
        tag: "1".parse().expect("a tag"),
        image: &image,
        referrers: Some(vec![referrer.digest()]),
    };
    source::run_all(&subject).await;
    source::faults_show(&subject, &|digest, fault| {
        let mut faults = faults.lock().expect("no test panics with it");
        match fault {
            Some(fault) => faults.insert(digest, fault),
            None => faults.remove(&digest),
        };
    })
    .await;
}
