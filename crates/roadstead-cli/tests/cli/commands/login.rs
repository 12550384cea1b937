use super::*;
use roadstead_parts::Generation;

#[test]
fn in_and_out() {
    let place = Place::new();
    let registry = Generation::V2.registry().users(&[("anna", "secret")]).start();
    let authority = registry.authority();
    let words = Words::of(&place, &[]);
    let login = ["login", &authority, "--username", "anna", "--password-stdin"];
    snapshot(
        &words,
        &place.run_with_input(&login, "wrong\n"),
        expect![[r#"
        $ roadstead login 127.0.0.1:PORT --username anna --password-stdin
        --- stderr
        error: 127.0.0.1:PORT does not accept this name and password for anna; nothing was stored
          because: http://127.0.0.1:PORT/v2/ answers 401 Unauthorized
          because: UNAUTHORIZED: authentication required
        --- exit code 4
    "#]],
    );
    assert!(!place.path().join(".docker/config.json").exists());
    snapshot(
        &words,
        &place.run_with_input(&login, "secret\n"),
        expect![[r#"
        $ roadstead login 127.0.0.1:PORT --username anna --password-stdin
        --- stderr
        logged in to 127.0.0.1:PORT as anna; kept in PLACE/.docker/config.json
    "#]],
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(place.path().join(".docker/config.json")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    snapshot(
        &words,
        &place.run(&["login", "--get-login", &authority]),
        expect![[r#"
        $ roadstead login --get-login 127.0.0.1:PORT
        anna
    "#]],
    );
    // Known now: another answer than 401.
    snapshot(
        &words,
        &place.run(&["add", &format!("{authority}/app:1")]),
        expect![[r#"
        $ roadstead add 127.0.0.1:PORT/app:1
        --- stderr
        error: 127.0.0.1:PORT/app:1 was not found
          because: http://127.0.0.1:PORT/v2/app/manifests/1 answers 404 Not Found
          because: MANIFEST_UNKNOWN: manifest unknown
        --- exit code 3
    "#]],
    );
    snapshot(
        &words,
        &place.run(&["logout", &authority]),
        expect![[r#"
        $ roadstead logout 127.0.0.1:PORT
        --- stderr
        logged out of 127.0.0.1:PORT; forgotten by PLACE/.docker/config.json
    "#]],
    );
    snapshot(
        &words,
        &place.run(&["login", "--get-login", &authority]),
        expect![[r#"
        $ roadstead login --get-login 127.0.0.1:PORT
        --- stderr
        error: nobody is logged in to 127.0.0.1:PORT
        --- exit code 1
    "#]],
    );
    assert_eq!(place.run(&["add", "-q", &format!("{authority}/app:1")]).code(), 4);
}

#[test]
fn nobody_to_ask() {
    let place = Place::new();
    let words = Words::of(&place, &[]);
    snapshot(
        &words,
        &place.run(&["login", "127.0.0.1:1", "--username", "anna"]),
        expect![[r#"
        $ roadstead login 127.0.0.1:PORT --username anna
        --- stderr
        error: there is no terminal to ask for the password of anna: pipe it in with --password-stdin
        --- exit code 1
    "#]],
    );
    snapshot(
        &words,
        &place.run(&["login", "127.0.0.1:1", "--password-stdin"]),
        expect![[r#"
        $ roadstead login 127.0.0.1:PORT --password-stdin
        --- stderr
        error: the following required arguments were not provided:
          --username <USER>

        Usage: roadstead login --username <USER> --password-stdin <REGISTRY[/PATH]>

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
}
