//! What can be wrong with a host, one thing at a time.

use roadstead::testing::{Reply, Seen};

use crate::broken::{Made, World, absent, is_blob, is_manifest, is_referrers, page};

type Fault = fn(&World, &Seen, Reply) -> Reply;

/// One fault, and the image that it is shown with.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) made: Made,
    pub(crate) fault: Fault,
    /// Whether it is pulled by its digest as well.
    pub(crate) by_digest: bool,
    /// What else clients are asked to do.
    pub(crate) asks: Asks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    Nothing,
    Referrers,
    Lists,
}

fn case(made: Made, name: &'static str, fault: Fault) -> Case {
    Case { name, made, fault, by_digest: false, asks: Asks::Nothing }
}

impl Case {
    fn by_digest(self) -> Self {
        Self { by_digest: true, ..self }
    }

    fn referrers(self) -> Self {
        Self { asks: Asks::Referrers, ..self }
    }

    fn lists(self) -> Self {
        Self { asks: Asks::Lists, ..self }
    }
}

/// The answer with another type, or with none.
fn typed(reply: Reply, media_type: &str) -> Reply {
    let bare = reply.without("content-type");
    if media_type.is_empty() { bare } else { bare.header("content-type", media_type) }
}

fn top(world: &World, seen: &Seen, reply: Reply, change: impl Fn(Reply) -> Reply) -> Reply {
    if world.is_top(seen) { change(reply) } else { reply }
}

fn manifests(seen: &Seen, reply: Reply, change: impl Fn(Reply) -> Reply) -> Reply {
    if is_manifest(seen) { change(reply) } else { reply }
}

fn head(seen: &Seen, reply: Reply, status: u16) -> Reply {
    if seen.method == "HEAD" && is_manifest(seen) { Reply::status(status) } else { reply }
}

fn ping(seen: &Seen, reply: Reply, other: impl Fn() -> Reply) -> Reply {
    if seen.path() == "/v2/" { other() } else { reply }
}

/// A redirect to the same, again and again. It ends somewhere, since crane and oras would follow it for ever.
fn circle(seen: &Seen) -> Reply {
    let rounds = seen.target.split_once('?').map_or(0, |(_, rounds)| rounds.parse::<u32>().unwrap());
    if rounds < 30 { Reply::redirect(format!("{}?{}", seen.path(), rounds + 1)) } else { Reply::status(508) }
}

fn referrers(seen: &Seen, reply: Reply, other: impl Fn() -> Reply) -> Reply {
    if is_referrers(seen) { other() } else { reply }
}

fn lists(seen: &Seen, reply: Reply, other: impl Fn() -> Reply) -> Reply {
    if seen.path().ends_with("/tags/list") { other() } else { reply }
}

fn blobs(seen: &Seen, reply: Reply, change: impl Fn(Reply) -> Reply) -> Reply {
    if is_blob(seen) { change(reply) } else { reply }
}

/// All bytes of a body, other than they were.
fn flipped(reply: Reply) -> Reply {
    reply.edit(|body| body.iter_mut().for_each(|byte| *byte ^= 0x55))
}

fn gzipped(seen: &Seen, reply: Reply) -> Reply {
    if !seen.header("accept-encoding").contains("gzip") || reply.content().is_empty() {
        return reply;
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, reply.content()).unwrap();
    reply.header("content-encoding", "gzip").body(encoder.finish().unwrap())
}

const OTHER_DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// All cases, in the order of the document.
pub(crate) fn cases() -> Vec<Case> {
    use Made::{
        Artifact, DockerImage, DockerList, Image, ImageWithoutType, Index, IndexWithoutType, Nested, Schema1, Sha512,
        Zstd,
    };
    vec![
        case(Index, "nothing is wrong: OCI index", |_, _, r| r).by_digest().referrers(),
        case(IndexWithoutType, "nothing is wrong: OCI index without `mediaType`", |_, _, r| r),
        case(DockerList, "nothing is wrong: Docker manifest list", |_, _, r| r),
        case(Image, "nothing is wrong: OCI image", |_, _, r| r).lists(),
        case(ImageWithoutType, "nothing is wrong: OCI image without `mediaType`", |_, _, r| r),
        case(DockerImage, "nothing is wrong: Docker image", |_, _, r| r),
        case(Schema1, "nothing is wrong: signed schema 1", |_, _, r| r),
        case(Nested, "nothing is wrong: index within an index", |_, _, r| r),
        case(Zstd, "nothing is wrong: zstd layers", |_, _, r| r),
        case(Sha512, "nothing is wrong: sha512 digests", |_, _, r| r),
        case(Artifact, "nothing is wrong: an artifact", |_, _, r| r),
        // GET /v2/
        case(Image, "`/v2/` is answered 404", |_, s, r| ping(s, r, absent)),
        case(Image, "`/v2/` is answered 403", |_, s, r| ping(s, r, || Reply::status(403))),
        case(Image, "`/v2/` is answered 405", |_, s, r| ping(s, r, || Reply::status(405))),
        case(Image, "`/v2/` is answered 500", |_, s, r| ping(s, r, || Reply::status(500))),
        case(Image, "`/v2/` is answered 401 without a challenge", |_, s, r| ping(s, r, || Reply::status(401))),
        case(Image, "`/v2/` is an HTML page", |_, s, r| ping(s, r, || page(200))),
        case(Image, "`/v2/` is redirected to a page", |_, s, r| {
            if s.path() == "/welcome" { page(200) } else { ping(s, r, || Reply::redirect("/welcome")) }
        }),
        case(Image, "`/v2/` is redirected in a circle", |_, s, r| ping(s, r, || circle(s))),
        // Types
        case(Index, "index: type with charset", |w, s, r| {
            top(w, s, r, |r| typed(r, &format!("{}; charset=utf-8", w.image.manifest.media_type())))
        }),
        case(Image, "image: type with charset", |w, s, r| {
            top(w, s, r, |r| typed(r, &format!("{}; charset=utf-8", w.image.manifest.media_type())))
        }),
        case(Index, "index: application/octet-stream", |w, s, r| {
            top(w, s, r, |r| typed(r, "application/octet-stream"))
        }),
        case(Image, "image: application/octet-stream", |w, s, r| {
            top(w, s, r, |r| typed(r, "application/octet-stream"))
        })
        .by_digest(),
        case(Index, "index: text/plain", |w, s, r| top(w, s, r, |r| typed(r, "text/plain"))),
        case(Image, "image: text/plain", |w, s, r| top(w, s, r, |r| typed(r, "text/plain"))),
        case(Index, "index: application/json", |w, s, r| top(w, s, r, |r| typed(r, "application/json"))),
        case(Image, "image: application/json", |w, s, r| top(w, s, r, |r| typed(r, "application/json"))),
        case(Index, "index: text/html", |w, s, r| top(w, s, r, |r| typed(r, "text/html"))),
        case(Image, "image: text/html", |w, s, r| top(w, s, r, |r| typed(r, "text/html"))),
        case(Index, "index: no type", |w, s, r| top(w, s, r, |r| typed(r, ""))),
        case(Image, "image: no type", |w, s, r| top(w, s, r, |r| typed(r, ""))),
        case(Schema1, "schema 1: type with charset", |w, s, r| {
            top(w, s, r, |r| typed(r, &format!("{}; charset=utf-8", w.image.manifest.media_type())))
        }),
        case(Schema1, "schema 1: application/octet-stream", |w, s, r| {
            top(w, s, r, |r| typed(r, "application/octet-stream"))
        }),
        case(Schema1, "schema 1: text/plain", |w, s, r| top(w, s, r, |r| typed(r, "text/plain"))),
        case(Schema1, "schema 1: application/json", |w, s, r| top(w, s, r, |r| typed(r, "application/json"))),
        case(Schema1, "schema 1: text/html", |w, s, r| top(w, s, r, |r| typed(r, "text/html"))),
        case(Schema1, "schema 1: no type", |w, s, r| top(w, s, r, |r| typed(r, ""))),
        case(Schema1, "schema 1: no type, no digest header", |w, s, r| {
            top(w, s, r, |r| typed(r, "").without("docker-content-digest"))
        }),
        case(Image, "image: two types joined by a comma", |w, s, r| {
            top(w, s, r, |r| typed(r, &format!("application/octet-stream, {}", w.image.manifest.media_type())))
        }),
        case(Image, "image: two `Content-Type` lines, the right one last", |w, s, r| {
            let right = w.image.manifest.media_type().as_str();
            top(w, s, r, |r| typed(r, "application/octet-stream").header("content-type", right))
        }),
        case(Index, "index: the type of an image", |w, s, r| {
            top(w, s, r, |r| typed(r, "application/vnd.oci.image.manifest.v1+json"))
        }),
        case(Image, "OCI image: Docker's type", |w, s, r| {
            top(w, s, r, |r| typed(r, "application/vnd.docker.distribution.manifest.v2+json"))
        }),
        case(DockerImage, "Docker image: OCI's type", |w, s, r| {
            top(w, s, r, |r| typed(r, "application/vnd.oci.image.manifest.v1+json"))
        }),
        case(Index, "OCI index: Docker's type", |w, s, r| {
            top(w, s, r, |r| typed(r, "application/vnd.docker.distribution.manifest.list.v2+json"))
        }),
        case(DockerList, "Docker manifest list: OCI's type", |w, s, r| {
            top(w, s, r, |r| typed(r, "application/vnd.oci.image.index.v1+json"))
        }),
        case(Image, "image: type in capitals", |w, s, r| {
            top(w, s, r, |r| typed(r, "Application/vnd.OCI.image.manifest.v1+json"))
        }),
        case(Index, "manifests below the index: application/octet-stream", |w, s, r| {
            if w.is_child(s) { typed(r, "application/octet-stream") } else { r }
        }),
        case(Index, "manifests below the index: no type", |w, s, r| if w.is_child(s) { typed(r, "") } else { r }),
        // Docker-Content-Digest, Content-Length, HEAD
        case(Image, "no `Docker-Content-Digest`", |_, s, r| manifests(s, r, |r| r.without("docker-content-digest")))
            .by_digest(),
        case(Image, "`Docker-Content-Digest` of what is not there", |_, s, r| {
            manifests(s, r, |r| r.without("docker-content-digest").header("docker-content-digest", OTHER_DIGEST))
        })
        .by_digest(),
        case(Image, "`Docker-Content-Digest` is no digest", |_, s, r| {
            manifests(s, r, |r| r.without("docker-content-digest").header("docker-content-digest", "none"))
        })
        .by_digest(),
        case(Image, "HEAD of the tag names the image of yesterday", |w, s, r| {
            if s.method != "HEAD" || !w.is_tag(s) {
                return r;
            }
            let r = r.without("docker-content-digest").body(w.old.manifest.bytes().clone());
            r.header("docker-content-digest", w.old.digest().to_string())
        }),
        case(Image, "HEAD is answered 405", |_, s, r| head(s, r, 405)).by_digest(),
        case(Image, "HEAD is answered 501", |_, s, r| head(s, r, 501)),
        case(Image, "HEAD is answered 403", |_, s, r| head(s, r, 403)),
        case(Image, "HEAD is answered 404", |_, s, r| head(s, r, 404)).by_digest(),
        case(
            Image,
            "HEAD has no `Content-Length`",
            |_, s, r| {
                if s.method == "HEAD" && is_manifest(s) { r.chunked() } else { r }
            },
        )
        .by_digest(),
        case(Image, "HEAD has no `Content-Length` and no digest", |_, s, r| {
            if s.method == "HEAD" && is_manifest(s) { r.chunked().without("docker-content-digest") } else { r }
        }),
        case(Image, "HEAD has another `Content-Length`", |_, s, r| {
            if s.method == "HEAD" && is_manifest(s) { r.claiming(7) } else { r }
        }),
        case(Image, "HEAD has no `Content-Type`", |_, s, r| if s.method == "HEAD" { typed(r, "") } else { r }),
        case(Image, "manifests come in chunks", |_, s, r| manifests(s, r, Reply::chunked)),
        case(Image, "manifests are compressed on their way", |_, s, r| manifests(s, r, |r| gzipped(s, r))),
        // Manifests
        case(Image, "the tag is not there", |w, s, r| if w.is_tag(s) { absent() } else { r }).by_digest(),
        case(Image, "the tag is forbidden", |w, s, r| if w.is_tag(s) { Reply::status(403) } else { r }),
        case(
            Image,
            "the tag wants a login without saying how",
            |w, s, r| {
                if w.is_tag(s) { Reply::status(401) } else { r }
            },
        ),
        case(Image, "the tag is answered 429", |w, s, r| if w.is_tag(s) { Reply::status(429) } else { r }),
        case(Image, "digests are not there", |w, s, r| if is_manifest(s) && !w.is_tag(s) { absent() } else { r })
            .by_digest(),
        case(Image, "the tag is an HTML page", |w, s, r| if w.is_tag(s) { page(200) } else { r }),
        case(Image, "the manifest has other bytes", |w, s, r| top(w, s, r, |r| r.edit(|body| body.insert(1, b' '))))
            .by_digest(),
        case(Image, "manifests are redirected to another host", |w, s, r| {
            if is_manifest(s) { Reply::redirect(format!("http://{}{}", w.elsewhere, s.path())) } else { r }
        })
        .by_digest(),
        case(Image, "manifests are redirected in a circle", |_, s, r| if is_manifest(s) { circle(s) } else { r }),
        case(
            Image,
            "manifests are redirected to nowhere",
            |_, s, r| {
                if is_manifest(s) { Reply::status(307) } else { r }
            },
        ),
        case(Index, "the manifest of another platform is not there", |w, s, r| {
            if is_manifest(s) && w.other.is_some_and(|other| w.is_for(s, other)) { absent() } else { r }
        }),
        case(Index, "the manifest of this platform is not there", |w, s, r| {
            if is_manifest(s) && w.is_for(s, w.ours) { absent() } else { r }
        }),
        case(Index, "the manifest of this platform has other bytes", |w, s, r| {
            if is_manifest(s) && w.is_for(s, w.ours) { r.edit(|body| body.insert(1, b' ')) } else { r }
        }),
        // Blobs
        case(Image, "the config is not there", |w, s, r| {
            if is_blob(s) && w.config.is_some_and(|config| w.is_for(s, config)) { absent() } else { r }
        }),
        case(Image, "a layer is not there", |w, s, r| if is_blob(s) && w.is_for(s, w.layer) { absent() } else { r }),
        case(
            Image,
            "a layer is forbidden",
            |w, s, r| {
                if is_blob(s) && w.is_for(s, w.layer) { Reply::status(403) } else { r }
            },
        ),
        case(
            Image,
            "a layer has other bytes",
            |w, s, r| {
                if is_blob(s) && w.is_for(s, w.layer) { flipped(r) } else { r }
            },
        ),
        case(
            Image,
            "a layer is an HTML page",
            |w, s, r| if is_blob(s) && w.is_for(s, w.layer) { page(200) } else { r },
        ),
        case(Image, "blobs are text/html", |_, s, r| blobs(s, r, |r| typed(r, "text/html"))),
        case(Image, "blobs have no type", |_, s, r| blobs(s, r, |r| typed(r, ""))),
        case(Image, "blobs are kept with `Content-Encoding: gzip`", |w, s, r| {
            if is_blob(s) && w.is_for(s, w.layer) { r.header("content-encoding", "gzip") } else { r }
        }),
        case(Image, "blobs are compressed on their way", |_, s, r| {
            blobs(s, r, |r| if s.range_start().is_some() { r } else { gzipped(s, r) })
        }),
        case(Image, "blobs come in chunks", |_, s, r| blobs(s, r, Reply::chunked)),
        case(Image, "blobs come without ranges", |w, s, r| {
            let bytes = w.image.blobs.iter().find(|(digest, _)| w.is_for(s, **digest));
            match bytes {
                Some((_, bytes)) if is_blob(s) => Reply::ok(bytes.clone()),
                _ => r,
            }
        }),
        case(Image, "blobs are redirected to another host", |w, s, r| {
            if is_blob(s) { Reply::redirect(format!("http://{}{}", w.elsewhere, s.path())) } else { r }
        }),
        case(Image, "blobs are redirected by 302", |w, s, r| {
            if is_blob(s) {
                Reply::status(302).header("location", format!("http://{}{}", w.elsewhere, s.path()))
            } else {
                r
            }
        }),
        case(Image, "blobs are redirected in a circle", |_, s, r| if is_blob(s) { circle(s) } else { r }),
        case(Image, "blobs are redirected to what is not there", |w, s, r| {
            if is_blob(s) { Reply::redirect(format!("http://{}/nothing", w.elsewhere)) } else { r }
        }),
        // The whole host
        case(Image, "the host speaks HTTP/1.0", |_, _, r| r.http_1_0()),
        case(Image, "`%3A` is not understood", |_, s, r| if s.path().contains("%3A") { absent() } else { r }),
        case(Image, "a raw colon is not understood", |_, s, r| if s.path().contains(':') { absent() } else { r })
            .by_digest(),
        case(Image, "what is missing is answered 403", |_, s, r| {
            if s.path().contains("/nothing") || is_missing(s) { Reply::status(403) } else { r }
        })
        .referrers(),
        case(Image, "what is missing is a page, answered 200", |_, s, r| if is_missing(s) { page(200) } else { r })
            .referrers(),
        // Referrers
        case(Index, "referrers: 404, plain text", |_, s, r| referrers(s, r, absent)).referrers(),
        case(Index, "referrers: 404, an HTML page", |_, s, r| referrers(s, r, || page(404))).referrers(),
        case(Index, "referrers: 404, NAME_UNKNOWN", |_, s, r| {
            let body = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no"}]}"#;
            referrers(s, r, || Reply::status(404).header("content-type", "application/json").body(body))
        })
        .referrers(),
        case(Index, "referrers: 400", |_, s, r| referrers(s, r, || Reply::status(400))).referrers(),
        case(Index, "referrers: 403", |_, s, r| referrers(s, r, || Reply::status(403))).referrers(),
        case(Index, "referrers: 405", |_, s, r| referrers(s, r, || Reply::status(405))).referrers(),
        case(Index, "referrers: 500", |_, s, r| referrers(s, r, || Reply::status(500))).referrers(),
        case(Index, "referrers: 200, an HTML page", |_, s, r| referrers(s, r, || page(200))).referrers(),
        // Lists
        case(Image, "tags: 404", |_, s, r| lists(s, r, absent)).lists(),
        case(Image, "tags: an HTML page", |_, s, r| lists(s, r, || page(200))).lists(),
        case(Image, "tags: application/octet-stream", |_, s, r| {
            if s.path().ends_with("/tags/list") { typed(r, "application/octet-stream") } else { r }
        })
        .lists(),
    ]
}

/// Whether a request is for nothing that there is: fallback tags, referrers, and what nobody ever had.
fn is_missing(seen: &Seen) -> bool {
    let honest = ["/v2/", "/v2/_catalog", "/v2/app/tags/list", "/v2/app/manifests/1.0"];
    let by_digest = (is_manifest(seen) || is_blob(seen)) && seen.path().contains("sha256:");
    !(honest.contains(&seen.path()) || by_digest)
}
