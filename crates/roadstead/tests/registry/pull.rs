//! Pulling from an open registry: manifests, blobs, lists.

use futures::TryStreamExt;
use roadstead::http::EndpointOptions;
use roadstead::image::{Source, SourceError};
use roadstead::medium::registry::RegistrySource;
use roadstead::oci::{Algorithm, Descriptor, Reference, Tag};
use roadstead::testing::{FaultServer, ImageBuilder, Reply, noise};

use crate::support::{Setup, chain, read, registry_of};

fn tag(text: &str) -> Reference {
    Reference::Tag(text.parse().expect("a tag"))
}

#[tokio::test]
async fn an_open_registry_without_tls_on_loopback() {
    let image = ImageBuilder::new().layer(noise(1, 300_000)).build();
    let expected = image.clone();
    let server = FaultServer::start(move |seen| registry_of(&image, seen)).await;
    let app = Setup::new().app(&server);

    let descriptor = app.resolve(&tag("1")).await.unwrap();
    assert_eq!(descriptor, expected.descriptor());
    let manifest = app.manifest(&descriptor).await.unwrap();
    for blob in manifest.blobs() {
        let bytes = read(&*app, blob, 0).await.unwrap();
        assert_eq!(Algorithm::Sha256.digest(&bytes), blob.digest);
    }
    let tags: Vec<Tag> = app.tags().try_collect().await.unwrap();
    assert_eq!(tags, ["1".parse().unwrap()]);
    assert_eq!(app.referrers(&descriptor.digest).await.unwrap(), []);

    let lines = server.lines();
    assert_eq!(lines[0], "HEAD /v2/app/manifests/1");
    assert_eq!(lines.iter().filter(|line| line.contains("/manifests/1")).count(), 1, "{lines:?}");
    let seen = &server.requests()[0];
    assert_eq!(seen.headers.get_all("accept").iter().count(), 1, "one line, since some servers read only one");
    assert!(seen.header("accept").contains("application/vnd.docker.distribution.manifest.list.v2+json"));
    assert_eq!(seen.header("user-agent"), concat!("roadstead/", env!("CARGO_PKG_VERSION")));
    assert!(server.requests().iter().all(|seen| seen.header("accept-encoding").is_empty()));
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let image = ImageBuilder::new().layer("x").build();
    let server = FaultServer::start(move |seen| registry_of(&image, seen)).await;
    let app = Setup::new().app(&server);
    let error = app.resolve(&tag("2")).await.unwrap_err();
    assert!(matches!(error, SourceError::NotFound { .. }), "{error:?}");
    let text = chain(&error);
    assert!(text.contains("/app:2") && text.contains("MANIFEST_UNKNOWN: manifest unknown"), "{text}");

    let digest = Algorithm::Sha256.digest(b"no");
    let error = read(&*app, &Descriptor::new("", digest, 2), 0).await.unwrap_err();
    assert!(matches!(error, SourceError::NotFound { .. }), "{error:?}");
    let text = chain(&error);
    assert!(text.contains(&digest.to_string()) && text.contains("BLOB_UNKNOWN"), "{text}");
}

#[tokio::test]
async fn nobody_listens() {
    let server = FaultServer::start(|_| Reply::status(200)).await;
    let setup = Setup::new();
    let source = setup.source(&server);
    drop(server);
    let app = source.repository(&"app".parse().unwrap());
    // The port is free as soon as the server's task is gone.
    let error = loop {
        match app.resolve(&tag("1")).await.unwrap_err() {
            error @ SourceError::Unreachable { .. } => break error,
            _ => tokio::task::yield_now().await,
        }
    };
    let text = chain(&error);
    assert!(text.contains("refused"), "{text}");
    assert!(setup.clock.slept().is_empty(), "a port where nobody listens is not asked again");
}

#[tokio::test]
async fn a_server_that_hangs_up_on_tls() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = listener.local_addr().unwrap().to_string().parse().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let came = connection.read(&mut buffer).await.unwrap_or(0);
            if came > 0 && buffer[0] != 0x16 {
                let _ = connection.write_all(b"HTTP/1.0 404 Not Found\r\n\r\n").await;
            }
        }
    });
    let endpoint = Setup::new().client.endpoint(&registry, EndpointOptions::default()).unwrap();
    let app = RegistrySource::new(endpoint, Vec::new()).repository(&"app".parse().unwrap());
    let error = app.resolve(&tag("1")).await.unwrap_err();
    assert!(matches!(error, SourceError::NotFound { .. }), "expected the answer over plain HTTP, got {error:?}");
    server.abort();
}
