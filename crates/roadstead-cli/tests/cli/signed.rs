//! cosign finds a signature exactly where the doctor says that it does: whatever a host answers when asked for referrers.

use roadstead::testing::Reply;
use roadstead_parts::{Bundle, Cosign};

use crate::standalone::filled;
use crate::support::Hostile;

/// What is answered for referrers: status, media type, body.
const ANSWERS: [(u16, &str, &str); 8] = [
    (404, "text/plain", "not found\n"),
    (404, "text/html", "<!doctype html><p>Nothing here"),
    (404, "application/json", r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no"}]}"#),
    (400, "text/plain", "bad\n"),
    (403, "text/plain", "forbidden\n"),
    (405, "text/plain", "not allowed\n"),
    (500, "text/plain", "failed\n"),
    (200, "text/html", "<!doctype html><p>Hello"),
];

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn cosign_finds_signatures_where_the_doctor_says_so() {
    let (place, image) = filled();
    let cosign = Cosign::new();
    let (served, authority) = place.serve_pushes();
    cosign.sign(&format!("{authority}/app:1.0"), Bundle::Referrer).unwrap();
    drop(served);
    let mut agreed = Vec::new();
    for (status, media_type, body) in ANSWERS {
        let tree = place.tree().canonicalize().unwrap();
        let host = Hostile::start(&image, move |seen, _| {
            if seen.path().contains("/referrers/") {
                return Reply::status(status).header("content-type", media_type).body(body);
            }
            let path = if seen.path() == "/v2/" { "/v2/index.html" } else { seen.path() };
            let Ok(file) = tree.join(&path[1..]).canonicalize() else { return Reply::status(404) };
            let content = file.strip_prefix(tree.join("content/manifests")).ok().and_then(|path| path.parent());
            let media_type = content.map_or("application/octet-stream", |content| content.to_str().unwrap());
            match std::fs::read(&file) {
                Ok(bytes) => Reply::ok(bytes).header("content-type", media_type),
                Err(_) => Reply::status(404),
            }
        });
        let reference = format!("{}/app:1.0", host.authority());
        let found = cosign.verify(&reference, Bundle::Referrer);
        let said =
            place.run(&["doctor", &format!("http://{reference}"), "--client", "cosign", "--format", "json"]).ok();
        let said: serde_json::Value = serde_json::from_str(said.text()).unwrap();
        let result = said["clients"][0]["steps"]["referrers"]["result"].as_str().unwrap();
        assert_eq!(found.is_ok(), result != "fails", "{status}, {media_type}: {result}, {found:?}");
        agreed.push(found.is_ok());
    }
    assert!(agreed.contains(&true) && agreed.contains(&false), "{agreed:?}");
}
