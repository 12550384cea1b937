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

/// Every destination of `publish` goes by it, and writes nothing before it was told what becomes of what is private.
#[test]
fn whatever_is_published_leaves_out_what_is_private() {
    let scene = Scene::filled();
    scene.run(&["private", "org/*"]).ok();
    let there = || {
        let entries = std::fs::read_dir(scene.place.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let before = there();
    let sites = roadstead::host::HOSTS.iter().filter(|host| host.public().is_some());
    let sites = sites.map(|host| vec!["publish", "site:site", "--host", host.name()]);
    let others = [vec!["publish", "elsewhere"], vec!["publish", "car:x.car"], vec!["publish", "ipfs:", "--dry-run"]];
    for publish in sites.chain(others) {
        let refused = scene.run(&publish);
        assert_eq!(refused.code(), 1, "{refused}");
        for part in ["one repository of ", "org/tool, by .roadstead/private", "--without-private", "--authenticated"] {
            assert!(refused.stderr.contains(part), "{part} is not said\n{refused}");
        }
        assert_eq!(there(), before, "{refused}");
        let both = scene.run(&[&publish[..], &["--without-private", "--authenticated"]].concat());
        assert_eq!(both.code(), 2, "{both}");
    }

    let hosts = roadstead::host::HOSTS.iter().filter_map(|host| Some((host.name(), host.public()?)));
    for (host, public) in hosts {
        let to = format!("site:{host}");
        scene.run(&["publish", &to, "--host", host, "--without-private"]).ok();
        let v2 = scene.place.path().join(host).join(public).join("v2");
        assert!(v2.join("base").exists() && !v2.join("org").exists(), "{host}");
        assert_eq!(std::fs::read_to_string(v2.join("_catalog")).unwrap(), r#"{"repositories":["base"]}"#, "{host}");
        scene.run(&["publish", &to, "--host", host, "--authenticated"]).ok();
        assert!(v2.join("org/tool/manifests/1").exists(), "{host}");
        // And what became private meanwhile goes.
        scene.run(&["publish", &to, "--host", host, "--without-private"]).ok();
        assert!(!v2.join("org").exists(), "{host}");
    }

    scene.run(&["publish", "elsewhere", "--without-private"]).ok();
    let listed = |tree: &str| scene.run(&["--tree", tree, "list", "--flat"]).ok().text().to_owned();
    assert_eq!(listed("elsewhere"), "base:3.20\n");
    let catalog = scene.place.path().join("elsewhere/v2/_catalog");
    assert_eq!(std::fs::read_to_string(catalog).unwrap(), r#"{"repositories":["base"]}"#);
    scene.run(&["publish", "elsewhere", "--authenticated"]).ok();
    assert_eq!(listed("elsewhere"), "base:3.20\norg/tool:1\norg/tool:2\n");

    // What has no private repositories has another name than what has them, and what was removed the same as what was left out.
    let cid =
        |more: &[&str]| scene.run(&[&["publish", "ipfs:", "--dry-run"], more].concat()).ok().text().trim().to_owned();
    let (without, whole) = (cid(&["--without-private"]), cid(&["--authenticated"]));
    assert_ne!(without, whole);
    for (option, named) in [("--without-private", &without), ("--authenticated", &whole)] {
        let written = scene.run(&["--format", "json", "publish", "car:x.car", option]).ok();
        assert!(written.text().contains(named.as_str()), "{option}: {written}");
        let archive = std::fs::read(scene.place.path().join("x.car")).unwrap();
        let names_it = archive.windows(8).any(|part| part == b"org/tool");
        assert_eq!(names_it, option == "--authenticated", "{option}");
    }
    scene.run(&["remove", "-q", "--all-tags", "org/tool"]).ok();
    assert_eq!(cid(&["--without-private"]), without);
}
