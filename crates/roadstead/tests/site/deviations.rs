//! What a server can't say: where its answers differ from the rules, and how. Each stands on the server's page, in these
//! words, and each is seen: a server that mends its ways fails the table until its line is taken out.

use crate::cases::Case;

struct Deviation {
    /// What the page says.
    said: &'static str,
    /// Which cases it touches.
    touches: fn(&Case) -> bool,
    /// What comes instead.
    instead: fn(&mut Case),
}

/// Changes what is expected of a host.
pub(crate) fn of(name: &str, cases: &mut [Case]) {
    // What stands in front of hosts has no page of its own.
    let host = name.trim_end_matches(PINNED);
    let host = if host == NEWER_CADDY { "caddy" } else { host };
    let page = roadstead::host::find(host).map_or("README", |host| host.page());
    let path = format!("{}/../../docs/hosts/{page}.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for Deviation { said, touches, instead } in list(name) {
        assert!(text.contains(said), "docs/hosts/{page}.md doesn't say: {said}");
        for case in cases.iter_mut().filter(|case| touches(case)) {
            instead(case);
        }
    }
}

/// Behind a host's name, of the configuration that names what the tree holds.
pub(crate) const PINNED: &str = ", pinned";

/// The program of a Caddy that is newer than Debian's.
pub(crate) const NEWER_CADDY: &str = "caddy-2.11";

fn list(name: &str) -> Vec<Deviation> {
    match name {
        "caddy" => [by_template(), list(&format!("caddy{PINNED}"))].into_iter().flatten().collect(),
        NEWER_CADDY => [list("caddy"), newer_caddy()].into_iter().flatten().collect(),
        "caddy-2.11, pinned" => list("caddy, pinned"),
        "caddy, pinned" => vec![
            Deviation {
                said: "the text of a 416 is Caddy's own",
                touches: |case| case.status == 416,
                instead: |case| case.body = None,
            },
            Deviation { said: "slashes that stand together count as one", touches: doubled, instead: found },
            Deviation {
                said: "a path with a null byte is a 404",
                touches: |case| case.path.contains("%00"),
                instead: |case| case.status = 404,
            },
            Deviation {
                said: "a path with a broken escape is a 400 without the specification's JSON",
                touches: |case| case.path == "/v2/%zz",
                instead: its_own,
            },
        ],
        "apache" => vec![
            Deviation {
                said: "a 416 has no `Content-Range`",
                touches: |case| case.status == 416,
                instead: |case| {
                    set(case, "content-range", None);
                    case.body = Some(b"range not satisfiable".to_vec());
                },
            },
            Deviation {
                said: "a range that ends before it begins is ignored",
                touches: |case| case.send.iter().any(|(_, value)| value == "bytes=500-0"),
                instead: found,
            },
            Deviation {
                said: "a path with a null byte is a 404 with Apache's own page, one with a broken escape such a 400",
                touches: |case| case.path.contains("%00") || case.path == "/v2/%zz",
                instead: |case| {
                    its_own(case);
                    case.status = if case.path == "/v2/%zz" { 400 } else { 404 };
                },
            },
        ],
        "lighttpd" => vec![
            Deviation {
                said: "a 416 is lighttpd's own page, without `Content-Range`",
                touches: |case| case.status == 416,
                instead: its_own,
            },
            Deviation {
                said: "lists and pages say `Accept-Ranges`, though they come whole",
                touches: |case| case.path == "/v2/_catalog" && case.method == "GET",
                instead: |case| set(case, "accept-ranges", Some("bytes")),
            },
            Deviation { said: "slashes that stand together count as one", touches: doubled, instead: found },
            Deviation {
                said: "a path with a null byte is a 400 without the specification's JSON",
                touches: |case| case.path.contains("%00"),
                instead: its_own,
            },
            Deviation {
                said: "an escape that is broken stands for itself, so that its path is a 404",
                touches: |case| case.path == "/v2/%zz",
                instead: |case| {
                    its_own(case);
                    case.status = 404;
                },
            },
            Deviation {
                said: "a `POST` that doesn't say its length is a 411",
                touches: |case| case.method == "POST",
                instead: |case| {
                    its_own(case);
                    case.status = 411;
                },
            },
        ],
        "apache-htaccess" => vec![
            Deviation {
                said: "`ETag` is Apache's own, so no digest is known in `If-None-Match` or `If-Range`",
                touches: |case| matches!(case.status, 200 | 206 | 304),
                instead: |case| {
                    case.headers.retain(|(name, _)| *name != "etag");
                    let conditional = case.send.iter().any(|(name, _)| *name == "If-Range");
                    if case.status == 304 || conditional {
                        found(case);
                    }
                },
            },
            Deviation {
                said: "what a tag names has no `Docker-Content-Digest`",
                touches: |case| names_a_tag(case) && matches!(case.status, 200 | 206),
                instead: |case| set(case, "docker-content-digest", None),
            },
            Deviation {
                said: "a 416 has no `Content-Range`",
                touches: |case| case.status == 416,
                instead: |case| {
                    set(case, "content-range", None);
                    case.body = Some(b"range not satisfiable".to_vec());
                },
            },
            Deviation {
                said: "a range that ends before it begins is ignored",
                touches: |case| case.send.iter().any(|(_, value)| value == "bytes=500-0"),
                instead: found,
            },
            Deviation {
                said: "`Allow` names `TRACE` as well, where the server has it",
                touches: |case| case.status == 405,
                instead: |case| set(case, "allow", Some("GET, HEAD, TRACE")),
            },
            Deviation {
                said: "a `HEAD` of what is missing says no length",
                touches: |case| case.method == "HEAD" && case.status == 404,
                instead: |case| case.body = None,
            },
            Deviation {
                said: "a name longer than a file's may be is a 403 with Apache's own page",
                touches: |case| case.path.len() > 300,
                instead: |case| {
                    its_own(case);
                    case.status = 403;
                },
            },
            Deviation {
                said: "`/v2` is sent to `/v2/`",
                touches: |case| case.path == "/v2",
                instead: |case| {
                    its_own(case);
                    case.status = 301;
                },
            },
            Deviation {
                said: "lists say `Accept-Ranges`",
                touches: |case| case.path == "/v2/_catalog" && case.method == "GET",
                instead: |case| set(case, "accept-ranges", Some("bytes")),
            },
        ],
        "varnish" => vec![
            Deviation {
                said: "lists say `Accept-Ranges`",
                touches: |case| case.path == "/v2/_catalog" && case.method == "GET",
                instead: |case| set(case, "accept-ranges", Some("bytes")),
            },
            Deviation {
                said: "a 416 has no text",
                touches: |case| case.status == 416,
                instead: |case| case.body = None,
            },
            Deviation {
                said: "a range that Varnish doesn't take is a 416, where it could be ignored",
                touches: |case| case.send.iter().any(|(_, value)| value == "bytes=0-1,4-5" || value == "items=0-1"),
                instead: |case| {
                    its_own(case);
                    case.status = 416;
                },
            },
            Deviation {
                said: "of several tags in `If-None-Match` only the first counts",
                touches: |case| case.send.iter().any(|(_, value)| value.starts_with("\"x\", ")),
                instead: found,
            },
        ],
        _ => Vec::new(),
    }
}

/// Of Caddy where a template answers for a tag.
fn by_template() -> Vec<Deviation> {
    vec![
        Deviation {
            said: "a tag's manifest comes whole, whatever range is asked for, and without `Accept-Ranges`",
            touches: |case| names_a_tag(case) && matches!(case.status, 200 | 206),
            instead: |case| {
                set(case, "accept-ranges", None);
                if case.status == 206 {
                    case.status = 200;
                    case.body = None;
                }
            },
        },
        Deviation {
            said: "a tag of a manifest with a sha512 digest, or of a signed one of schema 1, has no `Docker-Content-Digest`, and a \
                   sha256 of the bytes in its `ETag`",
            touches: |case| ["/v2/app/manifests/long", "/v2/app/manifests/old"].contains(&case.path.as_str()),
            instead: |case| {
                set(case, "docker-content-digest", None);
                case.headers.retain(|(name, _)| *name != "etag");
            },
        },
    ]
}

/// Of Caddy 2.11 where a template answers for a tag, beside what its elder can't say.
fn newer_caddy() -> Vec<Deviation> {
    vec![Deviation {
        said: "2.11.7 answers the same requests as it does, but for a 304 to a tag, which then has no `ETag`",
        touches: |case| names_a_tag(case) && case.status == 304,
        instead: |case| set(case, "etag", None),
    }]
}

fn names_a_tag(case: &Case) -> bool {
    let is_tag = |last: &str| !last.starts_with("sha") && !last.contains('/');
    case.path.rsplit_once("/manifests/").is_some_and(|(_, last)| is_tag(last))
}

fn doubled(case: &Case) -> bool {
    case.path.contains("//")
}

fn found(case: &mut Case) {
    case.status = 200;
    case.headers.clear();
    case.body = None;
}

fn its_own(case: &mut Case) {
    case.headers.clear();
    case.body = None;
}

fn set(case: &mut Case, name: &'static str, value: Option<&str>) {
    case.headers.retain(|(known, _)| *known != name);
    case.headers.push((name, value.map(str::to_owned)));
}
