//! Pages of other origins that log in and pull.

use roadstead::server::{Limits, TOKEN_PATH};

use crate::support::{Answer, Registry, Setup, user};

/// A browser hands an answer over to the page, with the headers that it needs.
#[track_caller]
fn is_readable(answer: &Answer, header: Option<&str>) {
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    if let Some(header) = header {
        let exposed = answer.header("access-control-expose-headers").to_ascii_lowercase();
        assert!(exposed.split(", ").any(|name| name == header), "{header} is not in {exposed}");
        answer.header(header);
    }
}

#[test]
fn a_page_logs_in_and_pulls() {
    let registry = Registry::with(Setup {
        cors: true,
        grants: "[[grant]]\nusers = [\"ann\"]\nrepositories = [\"app\"]\nrights = [\"pull\", \"push\"]",
        ..Setup::default()
    });
    registry.push(&user("ann"), "app", "1", "one").0.is(201);
    // A browser asks first whether it may send a password, and sends none with that.
    for path in ["/v2/", TOKEN_PATH, "/v2/app/manifests/1", "/v2/app/tags/list"] {
        let wants = [("origin", "https://ui.example"), ("access-control-request-method", "GET")];
        let wants = [&wants[..], &[("access-control-request-headers", "authorization")]].concat();
        let preflight = registry.ask("OPTIONS", path, &wants, b"").is(204);
        is_readable(&preflight, None);
        assert!(preflight.header("access-control-allow-headers").contains("Authorization"), "{path}");
    }
    is_readable(&registry.get("/v2/").is(401), Some("www-authenticate"));
    is_readable(&registry.get("/v2/app/manifests/1").is(401), Some("www-authenticate"));
    is_readable(&registry.ask_token("ann", "wrong", &[]).is(401), Some("www-authenticate"));
    is_readable(&registry.form("grant_type=nonsense").is(400), None);
    let got = registry.ask_token("ann", "annann", &["repository:app:pull"]).is(200);
    is_readable(&got, None);
    let token = registry.token("ann", &["repository:app:pull"]);
    is_readable(&registry.as_who(&token, "GET", "/v2/app/manifests/1").is(200), Some("docker-content-digest"));
    is_readable(&registry.as_who(&token, "GET", "/v2/app/manifests/2").is(404), None);
    is_readable(&registry.as_who(&token, "BREW", "/v2/app/manifests/1").is(405), None);
    is_readable(&registry.as_who(&user("bob"), "GET", "/v2/app/manifests/1").is(403), None);
    is_readable(&registry.as_who(&user("bob"), "POST", "/v2/app/blobs/uploads/").is(403), None);
    is_readable(&registry.push_blob(&user("ann"), "app", b"blob").is(201), Some("location"));
    // No header stands twice, which browsers refuse.
    let twice = registry.as_who(&token, "GET", "/v2/app/manifests/1").is(200);
    assert_eq!(twice.count("access-control-allow-origin"), 1);
}

#[test]
fn a_page_that_asks_too_often_learns_so() {
    let limits = Limits { requests_per_client: Some(1), ..Limits::default() };
    let registry = Registry::with(Setup { cors: true, limits, ..Setup::default() });
    let refused = (0..10).map(|_| registry.get("/v2/app/manifests/1")).find(|answer| answer.status == 429).unwrap();
    is_readable(&refused, Some("retry-after"));
    let closed = Registry::new();
    assert_eq!(closed.get("/v2/").is(401).find("access-control-allow-origin"), None, "nobody asked for it");
}
