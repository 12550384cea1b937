use super::*;

#[test]
fn patterns_are_added_listed_and_removed() {
    let scene = Scene::filled();
    scene.check(
        &["private"],
        expect![[r#"
        $ roadstead private
        --- stderr
        no repository is private
    "#]],
    );
    scene.check(
        &["private", "org/**", "base", "later/*"],
        expect![[r#"
        $ roadstead private org/** base later/*
        --- stderr
        org/**: private, one repository so far
        base: private, one repository so far
        later/*: private, 0 repositories so far
    "#]],
    );
    scene.check(
        &["private"],
        expect![[r#"
        $ roadstead private
        org/**
        base
        later/*
    "#]],
    );
    scene.check(
        &["private", "--format", "json"],
        expect![[r#"
        $ roadstead private --format json
        {
          "patterns": [
            "org/**",
            "base",
            "later/*"
          ],
          "repositories": [
            "base",
            "org/tool"
          ]
        }
    "#]],
    );
    scene.check(
        &["private", "--remove", "base"],
        expect![[r#"
        $ roadstead private --remove base
    "#]],
    );
    scene.check(
        &["private", "org/tool"],
        expect![[r#"
        $ roadstead private org/tool
        --- stderr
        org/tool: private, one repository so far
    "#]],
    );
    scene.check(
        &["private", "--remove", "org/**"],
        expect![[r#"
        $ roadstead private --remove org/**
        --- stderr
        org/tool is private still, by another pattern
    "#]],
    );
    scene.check(
        &["private", "--remove", "never"],
        expect![[r#"
        $ roadstead private --remove never
        --- stderr
        error: never is not in .roadstead/private of PLACE/registry
        --- exit code 3
    "#]],
    );
    scene.check(
        &["private", "Org/tool"],
        expect![[r#"
        $ roadstead private Org/tool
        --- stderr
        error: PLACE/registry/.roadstead/private, line 3: "Org/tool" matches no repository: no name has 'O' in it
        --- exit code 7
    "#]],
    );
    scene.check(
        &["private", "--remove"],
        expect![[r#"
        $ roadstead private --remove
        --- stderr
        error: the following required arguments were not provided:
          <PATTERN>...

        Usage: roadstead private --remove <PATTERN>...

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    scene.check(
        &["--tree", "none", "private", "a"],
        expect![[r#"
        $ roadstead --tree none private a
        --- stderr
        error: there is no registry tree at none
          hint: make one with `roadstead add IMAGE`, or name another one with --tree DIR
        --- exit code 3
    "#]],
    );
}

#[test]
fn a_tree_with_private_repositories_is_not_shown_unasked() {
    let scene = Scene::filled();
    scene.run(&["private", "org/**"]).ok();
    scene.check(&["config", "nginx"], expect![[r#"
        $ roadstead config nginx
        --- stderr
        error: one repository of PLACE/registry is private (org/tool, by .roadstead/private): nginx would show them to anybody; `roadstead publish` and `roadstead serve` can leave them out (--without-private), and --authenticated says that only those get there who may see them
        --- exit code 1
    "#]]);
    scene.check(&["config", "nginx", "--without-private"], expect![[r#"
        $ roadstead config nginx --without-private
        --- stderr
        error: --without-private is for what is published and for `roadstead serve`: nginx answers with whatever the tree holds
        --- exit code 2
    "#]]);
    scene.check(&["config", "systemd"], expect![[r#"
        $ roadstead config systemd
        --- stderr
        error: one repository of PLACE/registry is private (org/tool, by .roadstead/private): systemd would show them to anybody; --without-private leaves them out, and --authenticated says that only those get there who may see them
        --- exit code 1
    "#]]);
    scene.check(&["publish", "site:site", "--host", "netlify"], expect![[r#"
        $ roadstead publish site:site --host netlify
        --- stderr
        error: one repository of PLACE/registry is private (org/tool, by .roadstead/private): netlify would show them to anybody; --without-private leaves them out, and --authenticated says that only those get there who may see them
        --- exit code 1
    "#]]);
    scene.check(&["serve", "--listen", "127.0.0.1:0"], expect![[r#"
        $ roadstead serve --listen 127.0.0.1:PORT
        --- stderr
        error: one repository of PLACE/registry is private (org/tool, by .roadstead/private): this server would show them to anybody; --without-private leaves them out, and --authenticated says that only those get there who may see them
        --- exit code 1
    "#]]);
    scene.check(
        &["serve", "--upstream", "http://127.0.0.1:1", "--authenticated"],
        expect![[r#"
        $ roadstead serve --upstream http://127.0.0.1:PORT --authenticated
        --- stderr
        error: --authenticated is about a tree, and with --upstream there is none
        --- exit code 2
    "#]],
    );
    for host in roadstead::host::HOSTS {
        let ran = scene.run(&["config", host.name()]);
        assert!(ran.code() == 1 && ran.stderr.contains("org/tool"), "{ran}");
    }
    let flavoured = ["config", "github-pages", "--flavour", "schema1", "-o", "flavoured"];
    let refused = scene.run(&flavoured);
    assert!(refused.code() == 1 && refused.stderr.contains("org/tool"), "{refused}");
    assert!(!scene.place.path().join("site").exists() && !scene.place.path().join("flavoured").exists());

    scene.run(&["config", "nginx", "--authenticated"]).ok();
    for option in ["--authenticated", "--without-private"] {
        let unit = scene.run(&["config", "systemd", option]).ok();
        let command = unit.text().lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert!(command.contains(" serve ") && command.ends_with(option), "{command}");
    }
    // What nothing matches yet can be published, but a server would show it as soon as it comes.
    scene.run(&["private", "--remove", "org/**"]).ok();
    scene.run(&["private", "later/*"]).ok();
    scene.check(&["config", "nginx"], expect![[r#"
        $ roadstead config nginx
        --- stderr
        error: PLACE/registry keeps a place for private repositories (later/*, by .roadstead/private): nginx would show them to anybody; `roadstead publish` and `roadstead serve` can leave them out (--without-private), and --authenticated says that only those get there who may see them
        --- exit code 1
    "#]]);
    scene.run(&["publish", "site:site", "--host", "netlify"]).ok();
}

#[test]
fn what_is_private_goes_from_a_site() {
    let scene = Scene::filled();
    let v2 = scene.place.path().join("site/public/v2");
    let publish = |more: &[&str]| scene.run(&[&["publish", "site:site", "--host", "cloudflare-pages"], more].concat());
    publish(&[]).ok();
    assert!(v2.join("org/tool/manifests/1").exists());
    scene.run(&["private", "org/*"]).ok();
    assert_eq!(publish(&[]).code(), 1);
    publish(&["--without-private"]).ok();
    assert!(!v2.join("org").exists() && v2.join("base/manifests/3.20").exists());
    assert_eq!(std::fs::read_to_string(v2.join("_catalog")).unwrap(), r#"{"repositories":["base"]}"#);
    let headers = std::fs::read_to_string(scene.place.path().join("site/public/_headers")).unwrap();
    assert!(!headers.contains("org/"), "{headers}");
    publish(&["--authenticated"]).ok();
    assert!(v2.join("org/tool/manifests/1").exists());

    let flavoured = ["config", "github-pages", "--flavour", "schema1", "-o", "flavoured", "--without-private"];
    scene.run(&flavoured).ok();
    let flavoured = scene.place.path().join("flavoured/v2");
    assert!(!flavoured.join("org").exists() && flavoured.join("base").exists());
}

#[test]
fn a_server_leaves_out_what_is_private() {
    let scene = Scene::filled();
    scene.run(&["private", "org/*"]).ok();
    let serve = |option: &str| scene.place.serve_option(&scene.place.tree(), option);
    let copied = Place::new();
    let (_served, authority) = serve("--without-private");
    copied.run(&["add", "-q", &format!("{authority}/base:3.20")]).ok();
    let absent = copied.run(&["add", "-q", &format!("{authority}/org/tool:1")]);
    assert_eq!(absent.code(), 3, "{absent}");
    let (_whole, authority) = serve("--authenticated");
    copied.run(&["add", "-q", &format!("{authority}/org/tool:1")]).ok();
}

#[test]
fn a_list_that_is_none_stops_everything_that_would_show_the_tree() {
    let scene = Scene::filled();
    std::fs::write(scene.place.tree().join(".roadstead/private"), "base\n# fine\n/org/tool\n").unwrap();
    scene.check(&["publish", "site:site", "--host", "netlify", "--without-private"], expect![[r#"
        $ roadstead publish site:site --host netlify --without-private
        --- stderr
        error: PLACE/registry/.roadstead/private, line 3: "/org/tool" matches no repository: a slash stands between two components of a name
        --- exit code 7
    "#]]);
    for command in [&["config", "nginx"][..], &["serve", "--listen", "127.0.0.1:0"], &["private"], &["private", "a"]] {
        let ran = scene.run(command);
        assert!(ran.code() == 7 && ran.stderr.contains(".roadstead/private, line 3"), "{ran}");
    }
    assert!(!scene.place.path().join("site").exists());
}
