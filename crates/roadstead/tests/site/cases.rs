//! The table: what a client asks for, and what it must get from whatever renders the rules.

use roadstead::testing::Image;

use crate::fixture::{Fixture, REPOSITORIES};

/// A request and what must come.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) send: Vec<(&'static str, String)>,
    pub(crate) status: u16,
    /// Exactly these, if a value is given; absent, if none.
    pub(crate) headers: Vec<(&'static str, Option<String>)>,
    /// The content of a `GET`; for a `HEAD`, what its length must say.
    pub(crate) body: Option<Vec<u8>>,
    /// Whether a part of a server in which others have a say answers it, too.
    pub(crate) everywhere: bool,
}

impl Case {
    fn get(path: impl Into<String>, status: u16) -> Self {
        Self {
            method: "GET",
            path: path.into(),
            send: Vec::new(),
            status,
            headers: vec![
                ("x-content-type-options", Some("nosniff".to_owned())),
                ("docker-distribution-api-version", Some("registry/2.0".to_owned())),
                ("content-encoding", None),
                ("last-modified", None),
            ],
            body: None,
            everywhere: true,
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, Some(value.into())));
        self
    }

    fn without(mut self, name: &'static str) -> Self {
        self.headers.push((name, None));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    fn send(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.send.push((name, value.into()));
        self
    }

    /// An error of the specification.
    fn error(path: impl Into<String>, status: u16, code: &str, message: &str) -> Self {
        Self::get(path, status)
            .with("content-type", "application/json")
            .with("cache-control", "no-cache")
            .without("docker-content-digest")
            .without("etag")
            .body(format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#))
    }

    fn outside(path: &str, status: u16, content_type: &str, body: &str) -> Self {
        let mut case = Self::get(path, status).with("content-type", content_type).body(body);
        case.headers[1].1 = None;
        case.everywhere = false;
        case
    }
}

const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const SHORT: &str = "public, max-age=60";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn manifest(path: String, image: &Image, caching: &str) -> Case {
    let digest = image.digest().to_string();
    Case::get(path, 200)
        .with("content-type", image.manifest.media_type().as_str())
        .with("docker-content-digest", &digest)
        .with("etag", format!("\"{digest}\""))
        .with("cache-control", caching)
        .with("accept-ranges", "bytes")
        .body(image.manifest.bytes().to_vec())
}

pub(crate) fn cases(fixture: &Fixture) -> Vec<Case> {
    let mut cases = Vec::new();
    let unknown_manifest = |path: &str| Case::error(path, 404, "MANIFEST_UNKNOWN", "manifest unknown to registry");
    let unknown_blob = |path: &str| Case::error(path, 404, "BLOB_UNKNOWN", "blob unknown to registry");
    let unknown_name = |path: &str| Case::error(path, 404, "NAME_UNKNOWN", "repository name not known to registry");
    let no_name = |path: &str| Case::error(path, 404, "NAME_INVALID", "invalid repository name");
    let unreadable =
        |path: &str| Case::error(path, 400, "NAME_INVALID", "invalid repository name").in_a_server_of_its_own();
    let no_endpoint = |path: &str| Case::error(path, 404, "UNSUPPORTED", "the operation is unsupported");
    let digest = fixture.image.digest().to_string();
    let (blob, bytes) = fixture.blob();
    let absent = format!("sha256:{}", "0".repeat(64));

    for path in ["/v2/", "/v2"] {
        let ping = Case::get(path, 200).with("content-type", "application/json").body("{}");
        cases.extend([ping.clone(), ping.method("HEAD")]);
    }
    let list = |path: &str| Case::get(path, 200).with("content-type", "application/json").with("cache-control", SHORT);
    let mut repositories = REPOSITORIES.to_vec();
    repositories.sort_unstable();
    let catalog = serde_json::json!({ "repositories": repositories }).to_string();
    cases.push(list("/v2/_catalog").without("accept-ranges").body(catalog));

    for repository in REPOSITORIES {
        let path = |rest: &str| format!("/v2/{repository}/{rest}");
        for tag in ["latest", "1.0.html"] {
            let case = manifest(path(&format!("manifests/{tag}")), &fixture.image, SHORT);
            cases.extend([case.clone(), case.method("HEAD")]);
        }
        let by_digest = manifest(path(&format!("manifests/{digest}")), &fixture.image, IMMUTABLE);
        cases.extend([by_digest.clone(), by_digest.method("HEAD")]);
        let layer = Case::get(path(&format!("blobs/{blob}")), 200)
            .with("content-type", "application/octet-stream")
            .with("docker-content-digest", &blob)
            .with("etag", format!("\"{blob}\""))
            .with("cache-control", IMMUTABLE)
            .with("accept-ranges", "bytes")
            .body(bytes);
        cases.extend([layer.clone(), layer.method("HEAD")]);
        if repository != "app" {
            let tags = format!(r#"{{"name":"{repository}","tags":["1.0.html","latest"]}}"#);
            cases.push(list(&path("tags/list")).body(tags));
        }
    }
    // Every type and algorithm, escaped colons, children of an index.
    for (tag, image) in
        [("index", &fixture.index), ("long", &fixture.sha512), ("old", &fixture.signed), ("odd", &fixture.odd)]
    {
        cases.push(manifest(format!("/v2/app/manifests/{tag}"), image, SHORT));
        for manifested in image.manifests() {
            let child = Image { manifest: manifested.clone(), ..image.clone() };
            for colon in [":", "%3A", "%3a"] {
                let escaped = manifested.digest().to_string().replace(':', colon);
                cases.push(manifest(format!("/v2/app/manifests/{escaped}"), &child, IMMUTABLE));
            }
        }
    }
    cases.push(manifest("/v2/app/manifests/%6c%61test".to_owned(), &fixture.image, SHORT));
    cases.push(Case { path: format!("/v2/app/blobs/{}", blob.replace(':', "%3A")), ..range(&blob, bytes, 0, 1) });

    // Ranges and conditions.
    let size = bytes.len();
    let path = format!("/v2/app/blobs/{blob}");
    cases.push(range(&blob, bytes, 0, size).send("Range", "bytes=0-"));
    cases.push(range(&blob, bytes, size - 5, size).send("Range", "bytes=-5"));
    cases.push(range(&blob, bytes, 3, size).send("Range", "bytes=3-999999999"));
    cases.push(range(&blob, bytes, 3, 9).send("Range", "bytes=3-8").send("If-Range", format!("\"{blob}\"")));
    for unsatisfiable in [format!("bytes={size}-"), "bytes=500-0".to_owned(), "bytes=99999999-".to_owned()] {
        let refused =
            Case::get(&path, 416).with("content-range", format!("bytes */{size}")).body("range not satisfiable\n");
        cases.push(refused.with("content-type", "application/octet-stream").send("Range", unsatisfiable));
    }
    let whole = || Case::get(&path, 200).without("content-range").body(bytes);
    cases.push(whole().send("Range", "bytes=0-1,4-5"));
    cases.push(whole().send("Range", "items=0-1"));
    cases.push(whole().send("Range", "bytes=0-1").send("If-Range", format!("\"{absent}\"")));
    cases.push(whole().send("If-None-Match", format!("\"{absent}\"")));
    cases.push(whole().send("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"));
    let tagged = |status| Case::get("/v2/app/manifests/latest", status).with("etag", format!("\"{digest}\""));
    cases.push(tagged(200).send("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"));
    cases.push(
        tagged(206)
            .send("Range", "bytes=1-4")
            .with("content-type", fixture.image.manifest.media_type().as_str())
            .body(&fixture.image.manifest.bytes()[1..5]),
    );
    for known in [format!("\"{digest}\""), format!("W/\"{digest}\""), format!("\"x\", \"{digest}\"")] {
        cases.push(
            tagged(304)
                .with("docker-content-digest", &digest)
                .with("cache-control", SHORT)
                .send("If-None-Match", known),
        );
    }
    cases.push(Case::get(&path, 304).with("etag", format!("\"{blob}\"")).send("If-None-Match", format!("\"{blob}\"")));

    // Referrers: those that there are, and none for everything else.
    let referrers = |path: String| {
        Case::get(path, 200).with("content-type", INDEX).with("cache-control", SHORT).without("docker-content-digest")
    };
    let empty = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#);
    cases.push(referrers(format!("/v2/app/referrers/{digest}")));
    cases.push(referrers(format!("/v2/app/referrers/{absent}")).body(&*empty));
    cases.push(referrers(format!("/v2/nobody/referrers/{absent}")).body(&*empty).method("HEAD"));
    cases.push(Case::error(
        "/v2/app/referrers/sha256:bad",
        400,
        "DIGEST_INVALID",
        "provided digest did not match uploaded content",
    ));

    // What isn't there.
    cases.extend([
        unknown_manifest("/v2/app/manifests/nope"),
        unknown_manifest("/v2/app/manifests/nope").method("HEAD"),
        unknown_manifest("/v2/app/manifests/nope.html"),
        unknown_manifest("/v2/nobody/manifests/latest"),
        unknown_manifest(&format!("/v2/app/manifests/{absent}")),
        unknown_manifest("/v2/app/manifests/sha256:baddigeststring"),
        // Other repositories have it.
        unknown_manifest(&format!("/v2/blobs/manifests/{}", fixture.index.digest())),
        unknown_manifest(&format!("/v2/blobs/manifests/{}", fixture.index.digest())).send("Range", "bytes=0-1"),
        unknown_manifest("/v2/app/manifests/"),
        unknown_manifest("/v2/app/manifests/.hidden"),
        unknown_manifest(&format!("/v2/app/manifests/{}", "t".repeat(128))),
        unknown_manifest(&format!("/v2/app/manifests/{}", "t".repeat(300))),
        unknown_manifest(&format!("/v2/app/manifests/{blob}")),
        unknown_blob(&format!("/v2/app/blobs/{absent}")),
        unknown_blob(&format!("/v2/app/blobs/{absent}")).method("HEAD"),
        unknown_blob(&format!("/v2/app/blobs/{digest}0")),
        unknown_blob("/v2/app/blobs/latest"),
        unknown_blob(&format!("/v2/nobody/blobs/{blob}")),
        unknown_name("/v2/nobody/tags/list"),
        no_name("/v2/App/manifests/latest"),
        no_name("/v2/.INVALID/tags/list"),
        no_name("/v2/a..b/manifests/latest"),
        // Whether slashes are merged is a whole server's affair.
        no_name("/v2//app/manifests/latest").in_a_server_of_its_own(),
        no_name("/v2/app//manifests/latest").in_a_server_of_its_own(),
        unreadable("/v2/app%00/manifests/latest"),
        unreadable("/v2/%zz"),
        no_endpoint("/v2/app"),
        no_endpoint("/v2/app/"),
        no_endpoint("/v2/app/manifests"),
        no_endpoint("/v2/index.html"),
        no_endpoint("/v2/app/tags/"),
        no_endpoint("/v2/_catalog/"),
    ]);

    // Nothing can be changed.
    for (method, path) in [
        ("POST", "/v2/app/blobs/uploads/"),
        ("PUT", "/v2/app/manifests/latest"),
        ("DELETE", "/v2/app/manifests/latest"),
        ("PATCH", "/v2/"),
        ("OPTIONS", "/v2/_catalog"),
        ("PUT", "/v2/app/tags/list"),
        ("DELETE", "/v2/nobody/manifests/1"),
    ] {
        let refused = Case::error(path, 405, "UNSUPPORTED", "the operation is unsupported");
        cases.push(refused.method(method).with("allow", "GET, HEAD"));
    }

    // What is not for everyone.
    for path in [
        "/content/",
        "/content/blobs/",
        &format!("/content/blobs/{blob}"),
        "/.roadstead/format",
        "/%2eroadstead/format",
        "/secret.key",
        "/empty/",
        "/empty",
        "/nothing.html",
        "/a/.b/c.html",
    ] {
        cases.push(Case::outside(path, 404, "text/plain; charset=utf-8", "not found\n"));
    }
    for path in ["/", "/index.html"] {
        cases.push(Case::outside(path, 200, "text/html; charset=utf-8", "<p>hello").with("cache-control", SHORT));
    }
    cases
}

impl Case {
    fn in_a_server_of_its_own(mut self) -> Self {
        self.everywhere = false;
        self
    }
}

/// A part of a blob, for one of several spellings of the same range.
fn range(digest: &str, bytes: &[u8], start: usize, end: usize) -> Case {
    let case = Case::get(format!("/v2/app/blobs/{digest}"), 206)
        .with("content-range", format!("bytes {start}-{}/{}", end - 1, bytes.len()))
        .with("content-type", "application/octet-stream")
        .with("docker-content-digest", digest)
        .body(&bytes[start..end]);
    if end - start == 1 { case.send("Range", format!("bytes={start}-{start}")) } else { case }
}
