use roadstead::server::TOKEN_PATH;

use crate::support::{Registry, Setup, basic, user};

#[test]
fn clients_are_asked_and_those_without_a_name_may_pull() {
    let registry = Registry::new();
    registry.push(&user("ann"), "app", "1", "one").0.is(201);
    let asked = registry.get("/v2/").refused(401, "UNAUTHORIZED");
    let realm = format!("Bearer realm=\"http://registry:5000{TOKEN_PATH}\",service=\"roadstead\"");
    assert_eq!(asked.header("www-authenticate"), realm);
    let token = registry.strangers_token("repository:app:pull");
    registry.as_who(&token, "GET", "/v2/").is(200);
    registry.as_who(&token, "GET", "/v2/app/manifests/1").is(200);
    registry.as_who(&token, "HEAD", "/v2/app/manifests/1").is(200);
    registry.as_who(&token, "GET", "/v2/app/tags/list").is(200);
    // Also without a token, as clients do that never ask for `/v2/`.
    let open = registry.get("/v2/app/manifests/1").is(200);
    assert_eq!(open.find("vary"), None, "what is everybody's may be kept for everybody");
    registry.get("/v2/none/manifests/1").refused(404, "MANIFEST_UNKNOWN");
    registry.as_who(&token, "GET", "/v2/none/manifests/1").refused(401, "UNAUTHORIZED");
    // But nothing else.
    for who in ["", &token] {
        for (method, path) in [
            ("POST", "/v2/app/blobs/uploads/"),
            ("PUT", "/v2/app/manifests/2"),
            ("DELETE", "/v2/app/manifests/1"),
            ("PATCH", "/v2/app/blobs/uploads/x"),
            ("GET", "/v2/app/blobs/uploads/x"),
        ] {
            let headers = [("authorization", who)];
            let headers = if who.is_empty() { &[][..] } else { &headers };
            let refused = registry.ask(method, path, headers, b"").refused(401, "UNAUTHORIZED");
            let challenge = refused.header("www-authenticate");
            let actions = if method == "DELETE" { "pull,push,delete" } else { "pull,push" };
            assert!(challenge.ends_with(&format!("scope=\"repository:app:{actions}\"")), "{challenge}");
        }
    }
}

#[test]
fn users_log_in_and_wrong_passwords_are_told_from_nothing() {
    let registry = Registry::new();
    let right = registry.ask_token("ann", "annann", &["repository:app:pull,push"]).is(200);
    assert_eq!(right.header("cache-control"), "no-store");
    let body = right.json();
    assert_eq!((&body["expires_in"], &body["scope"]), (&300.into(), &"repository:app:pull,push".into()));
    assert_eq!(body["token"], body["access_token"]);
    assert_eq!(body.get("refresh_token"), None);
    let token = format!("Bearer {}", body["token"].as_str().unwrap());
    registry.as_who(&token, "GET", "/v2/").is(200);
    registry.push(&token, "app", "1", "one").0.is(201);
    // As curl -u does.
    registry.as_who(&user("ann"), "GET", "/v2/").is(200);
    let wrong: Vec<_> = [("ann", "wrong"), ("nobody", "wrong"), ("nobody", "annann"), ("", ""), ("ann", "")]
        .into_iter()
        .map(|(name, password)| {
            let refused = registry.ask_token(name, password, &["repository:app:pull"]).refused(401, "UNAUTHORIZED");
            assert!(refused.header("www-authenticate").starts_with("Basic realm="));
            registry.as_who(&basic(name, password), "GET", "/v2/app/manifests/1").refused(401, "UNAUTHORIZED");
            refused.body
        })
        .collect();
    assert!(wrong.iter().all(|body| *body == wrong[0]), "{wrong:?}");
}

#[test]
fn forms_as_docker_and_containerd_send_them() {
    let registry = Registry::new();
    let password = "grant_type=password&service=roadstead&client_id=containerd&username=ann";
    let scope = "scope=repository%3Aapp%3Apull%2Cpush+repository%3Aother%3Apull";
    let given = registry.form(&format!("{password}&password=annann&access_type=offline&{scope}")).is(200).json();
    assert_eq!(given["scope"], "repository:app:pull,push repository:other:pull");
    let access = |body: &serde_json::Value| format!("Bearer {}", body["access_token"].as_str().unwrap());
    registry.push(&access(&given), "app", "1", "one").0.is(201);
    registry.form(&format!("{password}&password=wrong&{scope}")).refused(401, "UNAUTHORIZED");
    let login = given["refresh_token"].as_str().unwrap();
    let again = |login: &str| registry.form(&format!("grant_type=refresh_token&{scope}&refresh_token={login}"));
    registry.push(&access(&again(login).is(200).json()), "app", "2", "two").0.is(201);
    // One is no use for what the other is for.
    registry.as_who(&format!("Bearer {login}"), "GET", "/v2/").refused(401, "UNAUTHORIZED");
    again(given["token"].as_str().unwrap()).refused(401, "UNAUTHORIZED");
    for bad in ["", "grant_type=password", "grant_type=x", "username=ann&password=annann", "%ff%00=&&&="] {
        registry.form(bad).is(400);
    }
    registry.form(&"x".repeat(100_000)).is(400);
    // The same by GET, as `docker login` asks.
    let path = format!("{TOKEN_PATH}?account=ann&client_id=docker&offline_token=true&service=roadstead");
    let given = registry.as_who(&user("ann"), "GET", &path).is(200).json();
    again(given["refresh_token"].as_str().unwrap()).is(200);
    // Nobody in particular needs no login.
    assert_eq!(registry.get(&format!("{TOKEN_PATH}?offline_token=true")).is(200).json().get("refresh_token"), None);
}

#[test]
fn who_is_removed_or_gets_another_password_is_out_at_once() {
    let registry = Registry::new();
    let path = format!("{TOKEN_PATH}?offline_token=true&scope=repository:app:pull,push");
    let given = registry.as_who(&user("ann"), "GET", &path).is(200).json();
    let (token, login) = (given["token"].as_str().unwrap(), given["refresh_token"].as_str().unwrap());
    let token = format!("Bearer {token}");
    let again = || registry.form(&format!("grant_type=refresh_token&refresh_token={login}"));
    registry.as_who(&token, "GET", "/v2/").is(200);
    registry.users().set("ann", &"another".into()).unwrap();
    registry.as_who(&token, "GET", "/v2/").refused(401, "UNAUTHORIZED");
    registry.push_blob(&token, "app", b"x").refused(401, "UNAUTHORIZED");
    again().refused(401, "UNAUTHORIZED");
    registry.ask_token("ann", "annann", &[]).refused(401, "UNAUTHORIZED");
    let path = format!("{TOKEN_PATH}?scope=repository:app:pull");
    let given = registry.as_who(&basic("ann", "another"), "GET", &path).is(200).json();
    let token = format!("Bearer {}", given["token"].as_str().unwrap());
    registry.as_who(&token, "GET", "/v2/").is(200);
    registry.users().remove("ann").unwrap();
    registry.as_who(&token, "GET", "/v2/").refused(401, "UNAUTHORIZED");
    registry.as_who(&basic("ann", "another"), "GET", "/v2/").refused(401, "UNAUTHORIZED");
    // Others stay in.
    registry.as_who(&user("bob"), "GET", "/v2/").is(200);
}

#[test]
fn headers_that_nobody_should_send() {
    let registry = Registry::new();
    let token = registry.token("ann", &["repository:app:pull"]);
    for bad in ["", "Bearer", "Basic", "Basic !!!", "Basic bm9jb2xvbg==", "Digest x", "Negotiate eA==", "\u{ff}\u{fe}"]
    {
        registry.as_who(bad, "GET", "/v2/").is(400);
        registry.as_who(bad, "POST", "/v2/app/blobs/uploads/").is(400);
    }
    for bad in
        ["Bearer x", "Bearer ..", "Bearer eyJhbGciOiJub25lIn0.e30.", &format!("{token}x"), &token[..token.len() - 2]]
    {
        let refused = registry.as_who(bad, "GET", "/v2/app/manifests/1").refused(401, "UNAUTHORIZED");
        assert!(refused.header("www-authenticate").ends_with("error=\"invalid_token\""));
        assert!(!refused.body.contains(bad), "{}", refused.body);
    }
    let twice = [("authorization", &*token), ("Authorization", &*user("ann"))];
    registry.ask("GET", "/v2/", &twice, b"").is(400);
    // Paths that only look like the endpoint's, or a repository's.
    registry.get("/v2/_token/").is(404);
    registry.get("/v2/%5ftoken").is(404);
    registry.ask("PUT", TOKEN_PATH, &[], b"").is(405);
}

#[test]
fn passwords_are_taken_where_nobody_can_read_them() {
    let registry = Registry::with(Setup { proxies: vec!["127.0.0.1/32"], ..Setup::default() });
    let ask = |lines: &[(&str, &str)]| {
        let who = user("ann");
        let lines = [&[("authorization", &*who)], lines].concat();
        let answers = [registry.ask("GET", TOKEN_PATH, &lines, b""), registry.ask("GET", "/v2/", &lines, b"")];
        answers.map(|answer| answer.status)
    };
    let far = ("x-forwarded-for", "192.0.2.7");
    assert_eq!(ask(&[]), [200, 200], "from this machine");
    assert_eq!(ask(&[far, ("x-forwarded-proto", "https")]), [200, 200]);
    assert_eq!(ask(&[("forwarded", "for=192.0.2.7;proto=https")]), [200, 200]);
    assert_eq!(ask(&[far, ("x-forwarded-proto", "http")]), [403, 403]);
    assert_eq!(ask(&[far]), [403, 403]);
    let form = b"grant_type=password&username=ann&password=annann";
    registry.ask("POST", TOKEN_PATH, &[far], form).refused(403, "DENIED");
    registry.ask("POST", TOKEN_PATH, &[far, ("x-forwarded-proto", "https")], form).is(200);
    // What isn't a secret is given all the same.
    registry.ask("GET", TOKEN_PATH, &[far], b"").is(200);
    let lines = [far, ("x-forwarded-proto", "https"), ("x-forwarded-host", "r.example")];
    let asked = registry.ask("GET", "/v2/", &lines, b"").is(401);
    assert!(asked.header("www-authenticate").contains("realm=\"https://r.example/v2/_token\""));
    // Nobody believes a stranger.
    let registry = Registry::with(Setup { proxies: vec!["192.0.2.1/32"], ..Setup::default() });
    let asked = registry.ask("GET", "/v2/", &lines, b"").is(401);
    assert!(asked.header("www-authenticate").contains("realm=\"http://registry:5000/v2/_token\""));
}
