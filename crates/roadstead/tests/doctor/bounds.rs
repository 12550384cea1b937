//! However hostile a host is, what is asked of it and kept of it has an end.

use roadstead::doctor::{DoctorError, MAX_REQUESTS, Mark, Step};
use roadstead::testing::{FaultServer, ImageBuilder, IndexBuilder, Reply, Seen};

use crate::broken::{Broken, examined};
use crate::cases::cases;

#[tokio::test]
async fn a_healthy_registry_costs_few_requests_and_every_client_can_pull() {
    let case = &cases()[0];
    let broken = Broken::start(case).await;
    let diagnosis = broken.examined(false).await.unwrap();
    let failing = diagnosis.judgements.iter().filter(|judgement| !diagnosis.pulls(judgement));
    assert_eq!(failing.map(|judgement| judgement.profile.name).collect::<Vec<_>>(), Vec::<&str>::new());
    for judgement in &diagnosis.judgements {
        for step in Step::ALL {
            let verdict = judgement.of(step);
            assert!(verdict.mark <= Mark::Works, "{} {}: {verdict:?}", judgement.profile.name, step.name());
        }
    }
    assert_eq!(diagnosis.requests, broken.requests());
    assert!(diagnosis.requests < 40, "{}", diagnosis.requests);
}

#[tokio::test]
async fn an_index_of_thousands_is_looked_at_in_part() {
    let mut index = IndexBuilder::new();
    for number in 0..600 {
        index = index.image(ImageBuilder::new().layer(format!("{number}")).platform("linux/arm64").build());
    }
    let image = index.image(ImageBuilder::new().layer("ours").build()).build();
    let server = FaultServer::start(move |seen: &Seen| {
        let path = seen.path();
        let manifest = image.manifests().find(|manifest| path.ends_with(&manifest.digest().to_string()));
        let manifest = if path.ends_with("/1.0") { Some(&image.manifest) } else { manifest };
        match (manifest, image.blobs.iter().find(|(digest, _)| path.ends_with(&digest.to_string()))) {
            (Some(manifest), _) => {
                Reply::ok(manifest.bytes().clone()).header("content-type", manifest.media_type().as_str())
            }
            (_, Some((_, bytes))) => Reply::ranged(seen, bytes.clone()),
            _ if path == "/v2/" => Reply::ok("{}"),
            // Nine hops for each that is not there.
            _ => Reply::redirect(format!("{path}x")),
        }
    })
    .await;
    let diagnosis = examined(&server.authority(), "1.0").await.unwrap();
    assert!(server.requests().len() <= MAX_REQUESTS, "{}", server.requests().len());
    let docker = &diagnosis.judgements[0];
    assert!(diagnosis.pulls(docker), "{docker:?}");
    assert!(!diagnosis.judgements.iter().any(|judgement| judgement.of(Step::Children).mark == Mark::Fails));
}

#[tokio::test]
async fn an_index_for_other_machines_is_judged_for_one_of_these() {
    let image = |platform: &'static str| ImageBuilder::new().layer(platform).platform(platform).build();
    let image = IndexBuilder::new().image(image("linux/arm64")).image(image("linux/s390x")).build();
    let server = FaultServer::start(move |seen: &Seen| {
        let path = seen.path();
        let named = |digest: &roadstead::oci::Digest| path.ends_with(&digest.to_string()) || path.ends_with("/1.0");
        if let Some(manifest) = image.manifests().filter(|manifest| named(manifest.digest())).last() {
            return Reply::ok(manifest.bytes().clone()).header("content-type", manifest.media_type().as_str());
        }
        match image.blobs.iter().find(|(digest, _)| named(digest)) {
            Some((_, bytes)) => Reply::ranged(seen, bytes.clone()),
            None => Reply::status(if path == "/v2/" { 200 } else { 404 }),
        }
    })
    .await;
    let diagnosis = examined(&server.authority(), "1.0").await.unwrap();
    assert_eq!(diagnosis.platform.to_string(), "linux/arm64");
    assert!(diagnosis.all_pull(), "{:?}", diagnosis.findings());
}

/// Something comes again and again, so that it is never silent, and never done.
#[tokio::test]
async fn a_host_that_answers_by_drops_is_given_up() {
    use std::io::{Read as _, Write as _};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000000\r\n\r\n";
                let mut more = stream.write_all(head.as_bytes());
                while more.is_ok() {
                    std::thread::park_timeout(std::time::Duration::from_millis(100));
                    more = stream.write_all(b" ");
                }
            });
        }
    });
    let diagnosis = examined(&authority, "1.0").await.unwrap();
    for judgement in &diagnosis.judgements {
        assert!(!diagnosis.pulls(judgement), "{judgement:?}");
    }
    let codes: Vec<_> = diagnosis.findings().iter().map(|finding| finding.cause.code()).collect();
    assert!(codes.contains(&"stalled"), "{codes:?}");
}

#[tokio::test]
async fn a_host_that_never_answers_is_given_up() {
    let server = FaultServer::start(|_| Reply::ok("never").silent_after(0)).await;
    // Headers come, and no body ever; then nothing at all.
    let diagnosis = examined(&server.authority(), "1.0").await.unwrap();
    assert!(diagnosis.judgements.iter().all(|judgement| !diagnosis.pulls(judgement)));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = examined(&listener.local_addr().unwrap().to_string(), "1.0").await.unwrap_err();
    assert!(matches!(error, DoctorError::NoAnswer(_)), "{error}");
    assert_eq!(error.to_string(), "GET /v2/ gets no answer within 1 s");
}
