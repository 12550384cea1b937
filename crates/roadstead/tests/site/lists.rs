//! Lists in pages, lists by type, and what others do to the tree meanwhile.

use roadstead::server::ServeOptions;

use crate::client::get;
use crate::fixture::Fixture;

#[test]
fn tags_come_in_pages_that_lead_to_each_other() {
    let fixture = Fixture::new();
    let serving = fixture.serve(ServeOptions::default());
    let mut path = "/v2/app/tags/list?n=1".to_owned();
    let mut tags = Vec::new();
    loop {
        let answer = get(&serving.address, &path);
        assert_eq!(answer.status, 200, "{path}");
        let page: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(page["name"], "app");
        assert!(page["tags"].as_array().unwrap().len() <= 1, "{page}");
        tags.extend(page["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()));
        let Some(link) = answer.header("link") else { break };
        path = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap().to_owned();
    }
    assert_eq!(tags, ["1.0.html", "index", "latest", "long", "odd", "old"]);
    let none = get(&serving.address, "/v2/app/tags/list?n=0");
    assert_eq!((none.text(), none.header("link")), (r#"{"name":"app","tags":[]}"#.to_owned(), None));
    assert_eq!(get(&serving.address, "/v2/nobody/tags/list?n=1").status, 404);
    let second = get(&serving.address, "/v2/_catalog?n=1&last=a%2Fb%2Fc%2Fd%2Fe");
    assert_eq!(second.text(), r#"{"repositories":["a__b/c-d.e"]}"#);
    assert!(second.header("link").is_some());
}

#[test]
fn referrers_are_filtered_and_say_so() {
    let fixture = Fixture::new();
    let serving = fixture.serve(ServeOptions::default());
    let subject = fixture.image.digest();
    for (query, count, filtered) in [
        ("", 1, None),
        ("?artifactType=application/x.test", 1, Some("artifactType")),
        ("?artifactType=application%2Fx.test", 1, Some("artifactType")),
        ("?artifactType=application/x.other", 0, Some("artifactType")),
    ] {
        let answer = get(&serving.address, &format!("/v2/app/referrers/{subject}{query}"));
        let index: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), count, "{query}: {index}");
        assert_eq!(answer.header("oci-filters-applied").as_deref(), filtered, "{query}");
    }
    let none = get(&serving.address, &format!("/v2/app/referrers/sha256:{}?artifactType=a/b", "0".repeat(64)));
    assert_eq!(none.header("oci-filters-applied").as_deref(), Some("artifactType"));
}

#[test]
fn what_another_process_changes_shows_in_the_next_answer() {
    let fixture = Fixture::new();
    let serving = fixture.serve(ServeOptions::default());
    let digest = |tag: &str| {
        let answer = get(&serving.address, &format!("/v2/app/manifests/{tag}"));
        (answer.status, answer.header("docker-content-digest"))
    };
    let tags = || get(&serving.address, "/v2/app/tags/list?last=latest").text();
    assert_eq!(digest("new"), (404, None));
    assert_eq!(tags(), r#"{"name":"app","tags":["long","odd","old"]}"#);
    fixture.add("app", &["new"], &fixture.image);
    assert_eq!(digest("new"), (200, Some(fixture.image.digest().to_string())));
    assert_eq!(tags(), r#"{"name":"app","tags":["long","new","odd","old"]}"#);
    fixture.add("app", &["new"], &fixture.index);
    assert_eq!(digest("new"), (200, Some(fixture.index.digest().to_string())));
    let (name, tag) = ("app".parse().unwrap(), "new".parse().unwrap());
    fixture.runtime.block_on(fixture.tree.remove(&name, Some(&tag))).unwrap();
    assert_eq!(digest("new"), (404, None));
}
