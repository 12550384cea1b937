//! Tags, repositories and referrers, page by page.

use futures::TryStreamExt;
use roadstead::http::EndpointOptions;
use roadstead::image::{RepositorySource, Source, SourceError};
use roadstead::medium::registry::RegistrySource;
use roadstead::oci::{Algorithm, Descriptor};
use roadstead::testing::{FaultServer, Reply};

use crate::support::{Setup, chain, registry_of};

async fn tags(app: &dyn RepositorySource) -> Result<Vec<String>, String> {
    app.tags().map_ok(|tag| tag.to_string()).try_collect().await.map_err(|error| chain(&error))
}

#[tokio::test]
async fn tags_come_page_by_page() {
    let server = FaultServer::start(|seen| {
        let host = seen.header("host").to_owned();
        match seen.target.as_str() {
            "/v2/app/tags/list?n=1000" => Reply::ok(r#"{"name":"app","tags":["a","b"]}"#)
                .header("link", "</v2/app/tags/list?n=1000&last=b>; rel=\"next\""),
            "/v2/app/tags/list?n=1000&last=b" => Reply::ok(r#"{"name":"app","tags":null}"#)
                .header("link", format!("<http://{host}/v2/app/tags/list?n=1000&last=c>; rel=next")),
            "/v2/app/tags/list?n=1000&last=c" => {
                Reply::ok(r#"{"name":"app","tags":["c.html"]}"#).header("link", "<?last=d>; rel=next")
            }
            "/v2/app/tags/list?last=d" => Reply::ok(r#"{"tags":["d"]}"#),
            _ => Reply::status(404),
        }
    })
    .await;
    let app = Setup::new().app(&server);
    let mut stream = app.tags();
    assert_eq!(stream.try_next().await.unwrap().unwrap().as_str(), "a");
    assert_eq!(server.requests().len(), 1, "a page is read when it is wanted");
    drop(stream);
    assert_eq!(tags(&*app).await.unwrap(), ["a", "b", "c.html", "d"]);
}

#[tokio::test]
async fn lists_that_are_none() {
    for (body, link, problem) in [
        (r#"{"tags":["a"]}"#, "<>; rel=next", "the same page again"),
        (r#"{"tags":["a"]}"#, "<http://elsewhere.example/v2/app/tags/list>; rel=next", "another host"),
        (r#"{"tags":["a","../b"]}"#, "", "\"../b\", which is no name"),
        (r#"{"tags":7}"#, "", "no list"),
        ("", "", "no list"),
    ] {
        let server = FaultServer::start(move |_| Reply::ok(body).header("link", link)).await;
        let error = tags(&*Setup::new().app(&server)).await.unwrap_err();
        assert!(error.contains(problem), "{body} {link}: {error}");
    }
    let server = FaultServer::start(|_| Reply::status(404)).await;
    let error = Setup::new().app(&server).tags().try_next().await.unwrap_err();
    assert!(matches!(error, SourceError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn repositories() {
    let server = FaultServer::start(|seen| match seen.target.as_str() {
        "/v2/_catalog?n=1000" => {
            Reply::ok(r#"{"repositories":["a","b/c"]}"#).header("link", "</v2/_catalog?last=b/c>; rel=\"next\"")
        }
        "/v2/_catalog?last=b/c" => Reply::ok(r#"{"repositories":["d"]}"#),
        _ => Reply::status(404),
    })
    .await;
    let source = Setup::new().source(&server);
    let names: Vec<_> = source.repositories().await.unwrap().try_collect().await.unwrap();
    assert_eq!(names, ["a", "b/c", "d"].map(|name| name.parse().unwrap()));

    for status in [404, 405] {
        let server = FaultServer::start(move |_| Reply::status(status)).await;
        let source = Setup::new().source(&server);
        let error = source.repositories().await.map(drop).unwrap_err();
        assert!(matches!(error, SourceError::Unsupported(_)), "{status}: {error:?}");
    }
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An index that names one referrer for each text.
fn index(texts: &[&str]) -> String {
    let entries: Vec<_> = texts
        .iter()
        .map(|text| {
            let digest = Algorithm::Sha256.digest(text.as_bytes());
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{},"artifactType":"{text}"}}"#,
                text.len()
            )
        })
        .collect();
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","))
}

fn types(found: &[Descriptor]) -> Vec<&str> {
    found.iter().filter_map(|descriptor| descriptor.artifact_type.as_deref()).collect()
}

#[tokio::test]
async fn referrers_by_the_api() {
    let subject = Algorithm::Sha256.digest(b"subject");
    let server = FaultServer::start(move |seen| {
        let page = Reply::ok(if seen.target.ends_with("page=2") { index(&["x/c"]) } else { index(&["x/a", "x/b"]) });
        let page = page.header("content-type", INDEX);
        match seen.target.ends_with("page=2") {
            true => page,
            false => page.header("link", format!("</v2/app/referrers/{subject}?page=2>; rel=\"next\"")),
        }
    })
    .await;
    let found = Setup::new().app(&server).referrers(&subject).await.unwrap();
    assert_eq!(types(&found), ["x/a", "x/b", "x/c"]);
    assert_eq!(server.requests().len(), 2, "where the API answers, the tag has nothing to add: {:?}", server.lines());
}

#[tokio::test]
async fn referrers_without_end() {
    let subject = Algorithm::Sha256.digest(b"subject");
    let padding = " ".repeat(3 << 20);
    let server = FaultServer::start(move |seen| {
        let page = Reply::ok(format!("{}{padding}", index(&["x/a"]))).header("content-type", INDEX);
        let separator = if seen.target.contains('?') { "" } else { "?page=" };
        page.header("link", format!("<{}{separator}1>; rel=next", seen.target))
    })
    .await;
    let error = Setup::new().app(&server).referrers(&subject).await.unwrap_err();
    assert!(matches!(error, SourceError::Invalid { .. }), "{error:?}");
    assert!(server.requests().len() < 8, "{:?}", server.lines());
}

#[tokio::test]
async fn referrers_that_a_mirror_does_not_know() {
    let subject = Algorithm::Sha256.digest(b"subject");
    let registry = FaultServer::start(|_| Reply::ok(index(&["x/a"])).header("content-type", INDEX)).await;
    for status in [404, 200, 503] {
        let mirror = FaultServer::start(move |_| match status {
            200 => Reply::ok(index(&[])).header("content-type", INDEX),
            status => Reply::status(status),
        })
        .await;
        let client = Setup::new().client;
        let endpoint = |server: &FaultServer| {
            client.endpoint(&server.authority().parse().unwrap(), EndpointOptions::default()).unwrap()
        };
        let source = RegistrySource::new(endpoint(&registry), vec![endpoint(&mirror)]);
        let found = source.repository(&"app".parse().unwrap()).referrers(&subject).await.unwrap();
        assert_eq!(types(&found), ["x/a"], "the mirror says {status}");
        assert_ne!(mirror.requests().len(), 0);
    }
}

#[tokio::test]
async fn a_tag_that_may_be_absent_costs_one_question() {
    let image = roadstead::testing::ImageBuilder::new().build();
    let held = image.clone();
    let server = FaultServer::start(move |seen| registry_of(&held, seen)).await;
    let app = Setup::new().app(&server);
    assert_eq!(app.look_up(&"absent".parse().unwrap()).await.unwrap(), None);
    assert_eq!(server.lines(), ["HEAD /v2/app/manifests/absent"]);
    assert_eq!(app.look_up(&"1".parse().unwrap()).await.unwrap(), Some(image.descriptor()));

    // A registry that answers a HEAD with another status than a GET is asked again.
    let held = image.clone();
    let server = FaultServer::start(move |seen| match seen.method.as_str() {
        "HEAD" => Reply::status(405),
        _ => registry_of(&held, seen),
    })
    .await;
    let app = Setup::new().app(&server);
    assert_eq!(app.look_up(&"absent".parse().unwrap()).await.unwrap(), None);
    assert_eq!(app.look_up(&"1".parse().unwrap()).await.unwrap(), Some(image.descriptor()));
    let server = FaultServer::start(|_| Reply::status(403)).await;
    let error = Setup::new().app(&server).look_up(&"1".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, SourceError::Denied { .. }), "{error:?}");
}

#[tokio::test]
async fn referrers_by_the_tag() {
    let subject = Algorithm::Sha512.digest(b"subject");
    let tag = format!("/v2/app/manifests/sha512-{}", &subject.hex()[..64]);
    for status in [404, 400, 405, 200] {
        let tag = tag.clone();
        let server = FaultServer::start(move |seen| match seen.path() {
            path if path == tag => Reply::ok(index(&["x/a"])).header("content-type", INDEX),
            _ => Reply::status(status).header("content-type", "text/html").body("<html>"),
        })
        .await;
        let found = Setup::new().app(&server).referrers(&subject).await.unwrap();
        assert_eq!(types(&found), ["x/a"], "{status}");
    }
    let server = FaultServer::start(|_| Reply::status(404)).await;
    assert_eq!(Setup::new().app(&server).referrers(&subject).await.unwrap(), []);
    let server = FaultServer::start(|_| Reply::status(403)).await;
    let error = Setup::new().app(&server).referrers(&subject).await.unwrap_err();
    assert!(matches!(error, SourceError::Denied { .. }), "{error:?}");
}
