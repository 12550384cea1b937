//! What no client fails of, and what only constructed answers show.

use std::collections::BTreeSet;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use roadstead::doctor::{
    Accept, Answer, Cause, Content, End, Exam, Judgement, Mark, NoAnswer, PROFILES, Question, Redirect, Seen, Step,
    Verb, judge,
};
use roadstead::oci::{Digest, Reference};
use roadstead::testing::{FaultServer, Image, ImageBuilder, Reply, noise};

use crate::broken::examined;

#[tokio::test]
async fn what_caches_clocks_and_old_servers_do() {
    let image = ImageBuilder::new().layer("noted").build();
    let server = FaultServer::start(move |seen| {
        let path = seen.path();
        if path.contains("%3A") || path.contains("-is-not-there") {
            return Reply::status(404);
        }
        let blob = image.blobs.iter().find(|(digest, _)| path.ends_with(&digest.to_string()));
        let reply = match blob {
            Some((_, bytes)) => Reply::ok(bytes.clone()),
            None if path.contains("/manifests/") => {
                Reply::ok(image.manifest.bytes().clone()).header("content-type", image.manifest.media_type().as_str())
            }
            None => Reply::status(404),
        };
        // The first line of several names what this server does not have.
        let several = seen.headers.get_all("accept").iter().count() > 1;
        if several && path.ends_with("/1.0") {
            return Reply::status(406);
        }
        reply.header("cache-control", "public, max-age=3600").header("date", "Sun, 06 Nov 1994 08:49:37 GMT").http_1_0()
    })
    .await;
    let diagnosis = examined(&server.authority(), "1.0").await.unwrap();
    let notes: BTreeSet<&str> = diagnosis.notes.iter().map(|finding| finding.cause.code()).collect();
    assert_eq!(notes, BTreeSet::from(["accept-split", "clock-skew", "colon-escaped", "http-1.0", "tag-cached"]));
    let crane = diagnosis.judgements.iter().find(|judgement| judgement.profile.name == "crane").unwrap();
    assert_eq!(crane.of(Step::Resume).mark, Mark::Unasked);
    let containerd = diagnosis.judgements.iter().find(|judgement| judgement.profile.name == "containerd-2").unwrap();
    assert_eq!(containerd.of(Step::Resume).findings[0].cause, Cause::RangeIgnored);
}

/// Answers as a host without fault gives them.
fn healthy(image: &Image) -> Seen {
    let mut seen = Seen::default();
    seen.insert(Question::Ping, Ok(Answer::new(200)));
    for reference in [Reference::Tag("1.0".parse().unwrap()), Reference::Digest(image.digest())] {
        for accept in [Accept::OneLine, Accept::Lines] {
            for verb in [Verb::Get, Verb::Head] {
                let media_type = HeaderValue::from_str(image.manifest.media_type().as_str()).unwrap();
                let digest = HeaderValue::from_str(&image.digest().to_string()).unwrap();
                let mut answer = Answer::new(200)
                    .header(CONTENT_TYPE, media_type)
                    .header(HeaderName::from_static("docker-content-digest"), digest)
                    .header(http::header::CONTENT_LENGTH, image.manifest.bytes().len().into());
                answer.content = whole(image.manifest.bytes(), image.digest());
                seen.insert(Question::manifest(verb, reference.clone(), accept), Ok(answer));
            }
        }
    }
    for (digest, bytes) in &image.blobs {
        let mut answer = Answer::new(200);
        answer.content = whole(bytes, *digest);
        seen.insert(Question::blob(*digest), Ok(answer));
    }
    seen
}

fn whole(bytes: &bytes::Bytes, digest: Digest) -> Content {
    Content { start: bytes.clone(), length: bytes.len() as u64, end: End::Whole, digest: Some(digest) }
}

fn judged(image: &Image, seen: &Seen) -> Vec<Judgement> {
    let (reference, platform) = (Reference::Tag("1.0".parse().unwrap()), "linux/amd64".parse().unwrap());
    let exam = Exam { seen, reference: &reference, digest: Some(image.digest()), platform: &platform };
    PROFILES.iter().map(|profile| judge(profile, &exam)).collect()
}

#[test]
fn a_redirect_out_of_tls_is_followed_and_told() {
    let image = ImageBuilder::new().layer("redirected").build();
    let mut seen = healthy(&image);
    let layer = Question::blob(image.manifest.layers()[0].digest);
    let mut answer = seen.answer(&layer).unwrap().clone();
    let to = "http://bucket.example/x".to_owned();
    answer.redirects.push(Redirect { status: 307, to, elsewhere: true, leaves_tls: true });
    seen.insert(layer, Ok(answer));
    for judgement in judged(&image, &seen) {
        let blobs = judgement.of(Step::Blobs);
        assert_eq!(blobs.mark, Mark::Impaired, "{}", judgement.profile.name);
        assert_eq!(blobs.findings[0].cause, Cause::RedirectLeavesTls);
        assert!(judgement.pulls_by_tag());
    }
}

#[test]
fn a_blob_that_is_kept_encoded_shows_in_its_first_bytes() {
    let image = ImageBuilder::new().layer(noise(3, 200_000)).build();
    let layer = image.manifest.layers()[0].digest;
    for (start, mark) in [(&b"a file in an archive"[..], Mark::Fails), (&[0x1f, 0x8b, 8][..], Mark::Impaired)] {
        let mut seen = healthy(&image);
        let mut answer = Answer::new(200).header(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer.content = Content { start: start.into(), length: 65_537, end: End::Enough, digest: None };
        seen.insert(Question::blob(layer), Ok(answer));
        for judgement in judged(&image, &seen) {
            assert_eq!(judgement.of(Step::Blobs).mark, mark, "{}", judgement.profile.name);
        }
    }
}

#[test]
fn no_answer_is_told_apart() {
    let image = ImageBuilder::new().layer("unanswered").build();
    for (why, cause) in [
        (NoAnswer::Unreachable("refused".to_owned()), Cause::Unreachable),
        (NoAnswer::Tls("expired".to_owned()), Cause::Tls),
        (NoAnswer::NoTls, Cause::NoTls),
        (NoAnswer::Stalled(3), Cause::Stalled),
        (NoAnswer::Loop, Cause::RedirectLoop),
        (NoAnswer::Redirect("nowhere".to_owned()), Cause::RedirectRefused),
        (NoAnswer::Login("no".to_owned()), Cause::Login),
    ] {
        let mut seen = healthy(&image);
        seen.insert(Question::blob(image.manifest.layers()[0].digest), Err(why));
        for judgement in judged(&image, &seen) {
            let blobs = judgement.of(Step::Blobs);
            assert_eq!((blobs.mark, blobs.findings[0].cause), (Mark::Fails, cause), "{}", judgement.profile.name);
        }
    }
}
