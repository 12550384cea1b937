use std::fs;

use roadstead::oci::Algorithm;

use crate::support::{IMAGE, Registry, user};

const GRANTS: &str = r#"
[[grant]]
users = ["anonymous", "*"]
repositories = ["public/**"]
rights = ["pull"]

[[grant]]
users = ["ann"]
repositories = ["**"]
rights = ["pull", "push", "overwrite", "delete"]

[[grant]]
users = ["bob"]
repositories = ["team/*"]
rights = ["pull", "push"]

[[fixed]]
repositories = ["team/**"]
tags = ["v*"]
"#;

#[test]
fn each_right_is_one_of_its_own() {
    let registry = Registry::granting(GRANTS);
    let (ann, bob, carl) = (&user("ann"), &user("bob"), &user("carl"));
    registry.push(ann, "public/app", "1", "one").0.is(201);
    registry.push(ann, "team/app", "1", "one").0.is(201);
    registry.push(ann, "other/app", "1", "one").0.is(201);
    // Pulling.
    for (who, repository, status) in [
        ("", "public/app", 200),
        ("", "team/app", 401),
        ("", "team/none", 401),
        (&**bob, "team/app", 200),
        (bob, "other/app", 403),
        (bob, "other/none", 403),
        (carl, "team/app", 403),
        (carl, "public/app", 200),
    ] {
        let headers = [("authorization", who)];
        let headers = if who.is_empty() { &[][..] } else { &headers };
        for path in ["manifests/1", "tags/list", &format!("blobs/{}", Algorithm::Sha256.digest(b"{}"))] {
            for method in ["GET", "HEAD"] {
                registry.ask(method, &format!("/v2/{repository}/{path}"), headers, b"").is(status);
            }
        }
        let referrers = format!("/v2/{repository}/referrers/{}", Algorithm::Sha256.digest(b"{}"));
        registry.ask("GET", &referrers, headers, b"").is(status);
    }
    let mine = registry.as_who(bob, "GET", "/v2/team/app/manifests/1").is(200);
    assert_eq!(mine.header("vary"), "authorization");
    let blob = format!("/v2/team/app/blobs/{}", Algorithm::Sha256.digest(b"one"));
    assert!(registry.as_who(bob, "GET", &blob).is(200).header("cache-control").starts_with("private"));
    // Pushing, and moving what is there.
    registry.push(bob, "team/app", "2", "two").0.is(201);
    registry.push(bob, "team/app", "2", "two").0.is(201);
    registry.push(bob, "team/app", "2", "other").0.refused(403, "DENIED");
    registry.push(bob, "other/app", "2", "two").0.refused(403, "DENIED");
    registry.push(bob, "public/app", "2", "two").0.refused(403, "DENIED");
    registry.push(carl, "team/app", "3", "two").0.refused(403, "DENIED");
    registry.push(ann, "team/app", "2", "other").0.is(201);
    // Several tags at once: all or none.
    let (_, digest) = registry.push(bob, "team/app", "new", "more");
    let manifest = registry.as_who(bob, "GET", "/v2/team/app/manifests/new").is(200).body;
    let path = format!("/v2/team/app/manifests/{digest}?tag=fresh&tag=2");
    registry.ask("PUT", &path, &[("authorization", &**bob)], manifest.as_bytes()).refused(403, "DENIED");
    registry.as_who(bob, "GET", "/v2/team/app/manifests/fresh").is(404);
    // Deleting.
    registry.as_who(bob, "DELETE", "/v2/team/app/manifests/1").refused(403, "DENIED");
    registry.as_who(ann, "DELETE", "/v2/team/app/manifests/1").is(202);
}

#[test]
fn fixed_tags_stay() {
    let registry = Registry::granting(GRANTS);
    let ann = &user("ann");
    let (pushed, digest) = registry.push(ann, "team/app", "v1", "one");
    pushed.is(201);
    registry.push(ann, "team/app", "v1", "one").0.is(201);
    registry.push(ann, "team/app", "v1", "two").0.refused(403, "DENIED");
    registry.as_who(ann, "DELETE", "/v2/team/app/manifests/v1").refused(403, "DENIED");
    registry.as_who(ann, "DELETE", &format!("/v2/team/app/manifests/{digest}")).refused(403, "DENIED");
    let (_, other) = registry.push(ann, "team/app", "latest", "two");
    // What is below one stays, too.
    let size = registry.as_who(ann, "GET", "/v2/team/app/manifests/latest").is(200).body.len();
    let index = "application/vnd.oci.image.index.v1+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[{{"mediaType":"{IMAGE}","digest":"{other}","size":{size}}}]}}"#
    );
    let headers = [("authorization", &**ann), ("content-type", index)];
    registry.ask("PUT", "/v2/team/app/manifests/v2", &headers, manifest.as_bytes()).is(201);
    registry.as_who(ann, "DELETE", &format!("/v2/team/app/manifests/{other}")).refused(403, "DENIED");
    let (_, other) = registry.push(ann, "team/app", "latest", "three");
    registry.as_who(ann, "DELETE", &format!("/v2/team/app/manifests/{other}")).is(202);
    registry.push(ann, "elsewhere", "v1", "one").0.is(201);
    registry.push(ann, "elsewhere", "v1", "two").0.is(201);
    registry.as_who(ann, "GET", "/v2/team/app/manifests/v1").is(200);
}

#[test]
fn of_many_who_push_a_tag_that_none_may_move_one_gets_it() {
    let registry = Registry::granting(GRANTS);
    let bob = &user("bob");
    registry.push(bob, "team/app", "warm", "up").0.is(201);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let push = |number: usize| {
            let registry = &registry;
            scope.spawn(move || registry.push(bob, "team/app", "1", &format!("image {number}")).0.status)
        };
        let pushes: Vec<_> = (0..8).map(push).collect();
        pushes.into_iter().map(|push| push.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 201 | 403)), "{statuses:?}");
}

#[test]
fn tokens_do_no_more_than_they_were_got_for() {
    let registry = Registry::granting(GRANTS);
    registry.push(&user("ann"), "team/app", "1", "one").0.is(201);
    let given = |name: &str, scopes: &[&str]| {
        registry.ask_token(name, &name.repeat(2), scopes).is(200).json()["scope"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        given("ann", &["repository:x:*", "repository:y:pull"]),
        "repository:x:pull,push,delete repository:y:pull"
    );
    assert_eq!(given("bob", &["repository:team/x:*", "repository:x:pull,push"]), "repository:team/x:pull,push");
    assert_eq!(
        given("carl", &["repository:public/x:pull,push", "registry:catalog:*", "plugin:x:pull"]),
        "repository:public/x:pull registry:catalog:*"
    );
    assert_eq!(given("carl", &["repository:../x:pull", "repository:x%00:pull", "x", "repository:X:pull"]), "");
    let many: Vec<String> = (0..40).map(|number| format!("repository:x{number}:pull")).collect();
    registry.ask_token("ann", "annann", &many.iter().map(String::as_str).collect::<Vec<_>>()).is(400);
    let reads = registry.token("ann", &["repository:team/app:pull"]);
    registry.as_who(&reads, "GET", "/v2/team/app/manifests/1").is(200);
    let refused = registry.push(&reads, "team/app", "2", "two").0.refused(401, "UNAUTHORIZED");
    let challenge = refused.header("www-authenticate");
    assert!(challenge.ends_with("scope=\"repository:team/app:pull,push\",error=\"insufficient_scope\""), "{challenge}");
    registry.as_who(&reads, "GET", "/v2/team/app2/manifests/1").refused(401, "UNAUTHORIZED");
    registry.as_who(&reads, "GET", "/v2/_catalog").refused(401, "UNAUTHORIZED");
    let writes = registry.token("ann", &["repository:team/app:pull,push"]);
    registry.push(&writes, "team/app", "2", "two").0.is(201);
    registry.as_who(&writes, "DELETE", "/v2/team/app/manifests/2").refused(401, "UNAUTHORIZED");
    let deletes = registry.token("ann", &["repository:team/app:delete"]);
    registry.as_who(&deletes, "DELETE", "/v2/team/app/manifests/2").is(202);
}

#[test]
fn the_catalogue_holds_what_its_reader_may_pull() {
    let registry = Registry::granting(GRANTS);
    for name in ["other/app", "public/app", "team/app", "team/b"] {
        registry.push(&user("ann"), name, "1", "one").0.is(201);
    }
    let list = |who: &str, query: &str| {
        registry.as_who(who, "GET", &format!("/v2/_catalog{query}")).is(200).json()["repositories"].to_string()
    };
    registry.get("/v2/_catalog").refused(401, "UNAUTHORIZED");
    assert_eq!(list(&registry.strangers_token("registry:catalog:*"), ""), r#"["public/app"]"#);
    assert_eq!(list(&registry.token("bob", &["registry:catalog:*"]), ""), r#"["public/app","team/app","team/b"]"#);
    assert_eq!(list(&user("ann"), ""), r#"["other/app","public/app","team/app","team/b"]"#);
    let page = registry.as_who(&user("bob"), "GET", "/v2/_catalog?n=2").is(200);
    assert_eq!(page.json()["repositories"].to_string(), r#"["public/app","team/app"]"#);
    assert_eq!(page.header("link"), "</v2/_catalog?n=2&last=team%2Fapp>; rel=\"next\"");
    assert_eq!(list(&user("bob"), "?n=2&last=team%2Fapp"), r#"["team/b"]"#);
    assert_eq!(list(&user("bob"), "?n=9&last=other%2Fapp"), r#"["public/app","team/app","team/b"]"#);
}

#[test]
fn what_is_private_is_nothing_for_those_without_a_name() {
    let registry = Registry::new();
    for name in ["open", "secret/app"] {
        registry.push(&user("ann"), name, "1", "one").0.is(201);
    }
    registry.get("/v2/secret/app/manifests/1").is(200);
    registry.runtime.block_on(registry.tree.make_private(&["secret/**".parse().unwrap()])).unwrap();
    // It is looked at once a second.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while registry.get("/v2/secret/app/manifests/1").status == 200 {
        assert!(std::time::Instant::now() < deadline, "it stays open");
    }
    registry.get("/v2/secret/app/manifests/1").refused(401, "UNAUTHORIZED");
    registry.get("/v2/open/manifests/1").is(200);
    registry.as_who(&user("bob"), "GET", "/v2/secret/app/manifests/1").is(200);
    let asked = registry.get("/v2/_token?scope=repository:secret/app:pull").is(200).json();
    assert_eq!(asked["scope"], "");
    let stranger = registry.strangers_token("registry:catalog:*");
    assert_eq!(registry.as_who(&stranger, "GET", "/v2/_catalog").json()["repositories"].to_string(), r#"["open"]"#);
    assert!(registry.as_who(&user("bob"), "GET", "/v2/_catalog").body.contains("secret/app"));
}

#[test]
fn blobs_are_mounted_from_what_their_taker_may_read() {
    let registry = Registry::granting(GRANTS);
    registry.push(&user("ann"), "other/app", "1", "one").0.is(201);
    registry.push(&user("ann"), "public/app", "1", "one").0.is(201);
    let digest = Algorithm::Sha256.digest(b"one");
    let mount = |who: &str, to: &str, from: &str| {
        registry.as_who(who, "POST", &format!("/v2/{to}/blobs/uploads/?mount={digest}{from}")).status
    };
    let bob = &user("bob");
    assert_eq!(mount(bob, "team/a", "&from=other/app"), 202, "it isn't bob's to read");
    assert_eq!(mount(bob, "team/a", "&from=none"), 202);
    assert_eq!(mount(bob, "team/a", ""), 202, "who has it is nobody's business");
    registry.as_who(bob, "HEAD", &format!("/v2/team/a/blobs/{digest}")).is(404);
    assert_eq!(mount(bob, "team/a", "&from=public/app"), 201);
    registry.as_who(bob, "HEAD", &format!("/v2/team/a/blobs/{digest}")).is(200);
    assert_eq!(mount(&user("ann"), "team/b", "&from=other/app"), 201);
    // The same by what a token was got for.
    let one = registry.token("ann", &["repository:team/c:pull,push"]);
    assert_eq!(mount(&one, "team/c", "&from=other/app"), 202);
    let both = registry.token("ann", &["repository:team/c:pull,push", "repository:other/app:pull"]);
    assert_eq!(mount(&both, "team/c", "&from=other/app"), 201);
}

#[test]
fn grants_count_from_when_they_are_written() {
    let registry = Registry::new();
    let token = registry.token("bob", &["repository:app:pull,push"]);
    registry.push(&token, "app", "1", "one").0.is(201);
    fs::write(registry.state.grants(), GRANTS).unwrap();
    registry.push(&token, "app", "2", "one").0.refused(403, "DENIED");
    registry.get("/v2/app/manifests/1").refused(401, "UNAUTHORIZED");
    // A file that can't be read, or is gone, opens nothing.
    fs::write(registry.state.grants(), "[[grant]]\nusers = 1").unwrap();
    registry.as_who(&user("ann"), "GET", "/v2/app/manifests/1").refused(403, "DENIED");
    fs::remove_file(registry.state.grants()).unwrap();
    registry.as_who(&user("ann"), "GET", "/v2/app/manifests/1").refused(403, "DENIED");
    fs::write(registry.state.grants(), GRANTS).unwrap();
    registry.as_who(&user("ann"), "GET", "/v2/app/manifests/1").is(200);
}
