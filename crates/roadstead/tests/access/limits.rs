use roadstead::server::{Limits, PushOptions};

use crate::support::{Registry, Setup, user};

#[test]
fn wrong_passwords_are_counted_and_right_ones_that_are_known_get_through() {
    let registry = Registry::new();
    registry.ask_token("ann", "annann", &[]).is(200);
    let mut refused = 0;
    while registry.ask_token("bob", "wrong", &[]).status == 401 {
        refused += 1;
        assert!(refused < 100, "nobody counts");
    }
    assert!(refused >= 20, "{refused}");
    let busy = registry.ask_token("carl", "carlcarl", &[]).refused(429, "TOOMANYREQUESTS");
    // When the next may be tried: one is forgotten each five seconds.
    assert!((1..=5).contains(&busy.header("retry-after").parse::<u64>().unwrap()), "{}", busy.header("retry-after"));
    registry.ask_token("ann", "annann", &[]).is(200);
    registry.get("/v2/app/manifests/1").is(404);
}

#[test]
fn many_wrong_passwords_at_once_keep_nobody_from_pulling() {
    let registry = Registry::new();
    registry.push(&user("ann"), "app", "1", "one").0.is(201);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let registry = &registry;
            scope.spawn(move || registry.ask_token(&format!("nobody{number}"), "wrong", &[]).status)
        };
        let asked: Vec<_> = (0..150).map(ask).collect();
        registry.get("/v2/app/manifests/1").is(200);
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    assert!(statuses.contains(&429), "as many as come are looked at");
}

#[test]
fn requests_of_a_client_are_counted() {
    let limits = Limits { requests_per_client: Some(1), ..Limits::default() };
    let registry = Registry::with(Setup { limits, proxies: vec!["127.0.0.1/32"], ..Setup::default() });
    let ask = |method: &str, client: &str| registry.ask(method, "/v2/", &[("x-forwarded-for", client)], b"").status;
    let statuses: Vec<u16> = (0..20).map(|_| ask("GET", "192.0.2.1")).collect();
    assert_eq!(statuses[..2], [401, 401]);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(ask("GET", "192.0.2.2"), 401, "another client has its own");
    let statuses: Vec<u16> = (0..20).map(|_| ask("POST", "192.0.2.3")).collect();
    assert!(statuses.contains(&429), "by the other transport, too: {statuses:?}");
    let busy = || registry.ask("GET", "/v2/", &[("x-forwarded-for", "192.0.2.4")], b"");
    let busy = (0..20).map(|_| busy()).find(|answer| answer.status == 429).unwrap();
    assert_eq!(busy.header("retry-after"), "1");
}

#[test]
fn blobs_have_a_limit() {
    let push = PushOptions { max_blob_size: 1000, ..PushOptions::default() };
    let registry = Registry::with(Setup { push, ..Setup::default() });
    let ann = &user("ann");
    registry.push_blob(ann, "app", &[b'x'; 1000]).is(201);
    registry.push_blob(ann, "app", &[b'x'; 1001]).refused(413, "SIZE_INVALID");
    let begun = registry.as_who(ann, "POST", "/v2/app/blobs/uploads/").is(202);
    let location = begun.header("location").to_owned();
    registry.ask("PATCH", &location, &[("authorization", ann)], &[b'x'; 600]).is(202);
    registry.ask("PATCH", &location, &[("authorization", ann)], &[b'x'; 600]).refused(413, "SIZE_INVALID");
}

#[test]
fn one_client_can_not_take_all_turns() {
    let push = PushOptions { max_running_per_client: 0, ..PushOptions::default() };
    let registry = Registry::with(Setup { push, ..Setup::default() });
    registry.push_blob(&user("ann"), "app", b"x").refused(429, "TOOMANYREQUESTS");
    let push = PushOptions { max_running_per_client: 1, ..PushOptions::default() };
    let registry = Registry::with(Setup { push, ..Setup::default() });
    for _ in 0..3 {
        registry.push_blob(&user("ann"), "app", b"x").is(201);
    }
}
