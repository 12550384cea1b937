//! A bucket that anybody may pull from, by what `config s3` says, and nothing beyond that.

use std::sync::Arc;

use futures::TryStreamExt as _;
use roadstead::host;
use roadstead::image::{Copier, CopyOptions, Silent, Sink as _, Source as _};
use roadstead::oci::{Reference, Repository};
use roadstead::site::Site;
use roadstead::store::bucket::BucketOptions;
use roadstead::store::{Condition, Headers, Key, Store as _};
use roadstead::testing::{ImageBuilder, IndexBuilder, MemorySource};
use roadstead::tree::Tree;
use roadstead_parts::{
    BucketServer, Buckets, Client, Crane, Extent, Folder, Invocation, Nginx, Oras, Port, Skopeo, WebServer, part,
};

use crate::support::{open, options};

async fn anybody_may_pull_and_no_more(server: BucketServer, cors: bool) {
    let buckets = server.start(&["public"]);
    let owner = open("s3://public", options(&buckets.url()));
    let tree = Tree::create(Arc::new(owner.clone())).await.unwrap();
    let of = |platform| ImageBuilder::new().layer("public").platform(platform).build();
    let index = IndexBuilder::new().image(of("linux/amd64")).image(of("linux/arm64")).build();
    let (name, source): (Repository, _) = ("org/app".parse().unwrap(), MemorySource::new());
    source.add("org/app:1", &index);
    let to = tree.repository(&name).await.unwrap();
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    let tag: roadstead::oci::Tag = "1".parse().unwrap();
    copier.copy(&*source.repository(&name), &Reference::Tag(tag.clone()), &*to, &[tag]).await.unwrap();
    to.finish().await.unwrap();

    let anybody = open("s3://public", BucketOptions { credentials: None, ..options(&buckets.url()) });
    let key = |text: &str| text.parse::<Key>().unwrap();
    let tagged = key("v2/org/app/manifests/1");
    assert!(anybody.get(&tagged, None).await.is_err(), "{server:?}: nobody was let in yet");

    let folder = Folder::new();
    let site = Site { root: "s3://public".to_owned(), cors, ..Site::default() };
    let script = host::find("s3").unwrap().render(&site).unwrap().remove(0);
    let script = Invocation::new(part::installed("sh"))
        .env("ENDPOINT_URL", buckets.url())
        .env("AWS_ACCESS_KEY_ID", Buckets::ID)
        .env("AWS_SECRET_ACCESS_KEY", Buckets::SECRET)
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("HOME", folder.path())
        .arg(folder.write(&script.name, script.text.to_string()));
    script.run().unwrap_or_else(|failure| panic!("{server:?}: {failure}"));

    let entry = anybody.head(&tagged).await.unwrap().unwrap();
    assert_eq!(entry.headers.content_type.unwrap().as_str(), index.manifest.media_type().as_str(), "{server:?}");
    assert_eq!(entry.headers.digest, Some(index.digest()), "{server:?}");
    assert!(anybody.head(&key("v2/org/app/manifests/2")).await.unwrap().is_none(), "{server:?}: missing is missing");
    let closed = |error: Option<roadstead::store::StoreError>, what: &str| {
        let error = error.unwrap_or_else(|| panic!("{server:?}: anybody may {what}"));
        assert!(error.is_permission_denied(), "{server:?}: {what}: {error:?}");
    };
    closed(anybody.get(&key(".roadstead/format"), None).await.err(), "read what is private");
    let written = anybody.put(&tagged, "other".into(), &Headers::default(), Condition::Always).await;
    closed(written.err(), "write");
    owner.head(&tagged).await.unwrap().expect("it is still there");
    let deleted = anybody.delete(&tagged).await;
    closed(deleted.err(), "delete");
    let listed: Vec<_> = anybody.list(&key("v2")).try_collect().await.unwrap();
    assert!(!listed.is_empty(), "{server:?}: the price of a 404");
    if cors {
        let asked = "curl --silent --show-error --include --header 'Origin: https://ui.example' \"$0\"";
        let url = format!("{}/public/{tagged}", buckets.url());
        let answer = Invocation::new(part::installed("sh")).args(["-c", asked, &url]).run().unwrap().stdout;
        assert!(answer.to_ascii_lowercase().contains("access-control-allow-origin: *"), "{server:?}: {answer}");
    }

    // Clients ask for /v2/ where a name begins, which here is that of another server.
    let port = Port::free();
    let at = port.address();
    let http = format!("server {{ listen {at}; location / {{ proxy_pass {}/public/; }} }}", buckets.url());
    let nginx = Nginx::start_http(&http, port);
    for client in [&Skopeo as &dyn Client, &Crane, &Oras] {
        for reference in [":1".to_owned(), format!("@{}", index.digest())] {
            let pulled = client.pull(&format!("{}/org/app{reference}", nginx.authority()));
            pulled.unwrap_or_else(|failure| panic!("{server:?}, {}: {failure}", client.name()));
        }
    }
    for language in ["haproxy", "vcl"] {
        resolves_behind(language, &nginx, &index.digest().to_string());
    }
}

/// The proxies of `s3.md`, in front of what stands for the bucket's name: they say the digest that the bucket has.
fn resolves_behind(language: &str, bucket: &Nginx, digest: &str) {
    const NAME: &str = "my-images.s3.eu-central-1.amazonaws.com";
    let page = include_str!("../../../../docs/hosts/s3.md");
    let printed = page.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let port = Port::free();
    let authority = bucket.authority();
    let (host, number) = authority.split_once(':').unwrap();
    // There is no certificate for the test's bucket.
    let tls = format!(" ssl verify required ca-file /etc/ssl/certs/ca-certificates.crt sni str({NAME})");
    let text = printed.replace("127.0.0.1:8080", &port.address().to_string()).replace(&tls, "");
    let text =
        text.replace(&format!("{NAME}:443"), &authority).replace(".port = \"80\"", &format!(".port = \"{number}\""));
    let text = text.replace(&format!(".host = \"{NAME}\""), &format!(".host = \"{host}\""));
    let name = if language == "vcl" { "varnish" } else { "haproxy" };
    let at = port.address();
    assert!(Oras.oras(&["resolve", "--plain-http", &format!("{authority}/org/app:1")]).is_err(), "nobody is needed");
    let _running = WebServer::start(name, &[("proxy.conf".to_owned(), text)], Extent::Standalone, port);
    let resolved = Oras.oras(&["resolve", "--plain-http", &format!("{at}/org/app:1")]);
    let resolved = resolved.unwrap_or_else(|failure| panic!("{name}: {failure}"));
    assert_eq!(resolved.stdout.trim(), digest, "{name}");
    for client in [&Skopeo as &dyn Client, &Crane, &Oras] {
        let pulled = client.pull(&format!("{at}/org/app:1"));
        pulled.unwrap_or_else(|failure| panic!("{name}, {}: {failure}", client.name()));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the aws command, which takes long to install"]
async fn anybody_may_pull_from_versitygw() {
    anybody_may_pull_and_no_more(BucketServer::Versitygw, true).await;
}

/// Which lets every page read everything anyway, and refuses to be told so.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the parts of `scripts/parts --all`"]
async fn anybody_may_pull_from_minio() {
    anybody_may_pull_and_no_more(BucketServer::Minio, false).await;
}
