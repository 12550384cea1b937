use super::*;

#[test]
fn a_site_is_written_and_kept_as_the_tree_is() {
    let scene = Scene::filled();
    scene.check(
        &["publish", "site:site", "--host", "cloudflare-pages"],
        expect![[r#"
        $ roadstead publish site:site --host cloudflare-pages
        --- stderr
        site: 27 files written (9.71 kB), 0 unchanged, 0 removed
    "#]],
    );
    let site = State::of(&scene.place.path().join("site"));
    scene.check(
        &["publish", "site:site", "--host", "cloudflare-pages", "--format", "json"],
        expect![[r#"
        $ roadstead publish site:site --host cloudflare-pages --format json
        {
          "written": 0,
          "bytes": 0,
          "unchanged": 27,
          "removed": 0
        }
    "#]],
    );
    assert_eq!(State::of(&scene.place.path().join("site")), site);
    let public = scene.place.path().join("site/public");
    assert!(!public.join("content").exists() && !public.join(".roadstead").exists());
    assert!(public.join("v2/base/manifests/3.20").symlink_metadata().unwrap().is_file(), "a link");

    std::fs::write(scene.place.path().join("site/public/index.html"), "mine").unwrap();
    scene.run(&["remove", "-q", "org/tool:1"]).ok();
    scene.check(
        &["publish", "site:site", "--host", "cloudflare-pages"],
        expect![[r#"
        $ roadstead publish site:site --host cloudflare-pages
        --- stderr
        site: 2 files written (1.95 kB), 21 unchanged, 4 removed
    "#]],
    );
    assert!(!public.join("v2/org/tool/manifests/1").exists());
    assert!(public.join("v2/org/tool/manifests/2").is_file());
    assert_eq!(std::fs::read_to_string(public.join("index.html")).unwrap(), "mine");
}

#[test]
fn what_is_not_written() {
    let scene = Scene::filled();
    std::fs::create_dir(scene.place.path().join("mine")).unwrap();
    std::fs::write(scene.place.path().join("mine/file"), "mine").unwrap();
    scene.check(
        &["publish", "site:mine", "--host", "netlify"],
        expect![[r#"
        $ roadstead publish site:mine --host netlify
        --- stderr
        error: mine is not empty, and was not made by roadstead: name another folder
        --- exit code 8
    "#]],
    );
    scene.check(&["publish", "site:site", "--host", "cloudflare-pages", "--limit", "files=3"], expect![[r#"
        $ roadstead publish site:site --host cloudflare-pages --limit files=3
        --- stderr
        error: cloudflare-pages takes 3 files at most, and 24 are needed: --blobs-at takes the blobs out of the site (limit: https://developers.cloudflare.com/pages/platform/limits/)
        --- exit code 1
    "#]]);
    scene.check(&["publish", "site:site", "--host", "cloudflare-pages", "--limit", "everything"], expect![[r#"
        $ roadstead publish site:site --host cloudflare-pages --limit everything
        --- stderr
        error: invalid value 'everything' for '--limit <MEASURE=NUMBER>': "everything" is not MEASURE=NUMBER, the measure being one of files, file-size, site-size, header-rules, redirects, pattern-redirects, line-length, config-size

        For more information, try '--help'.
        --- exit code 2
    "#]]);
    scene.check(
        &["publish", "site:site", "--host", "cloudflare-pages", "--blobs-at", "http://blobs.example"],
        expect![[r#"
            $ roadstead publish site:site --host cloudflare-pages --blobs-at http://blobs.example
            --- stderr
            error: cloudflare-pages can't take "http://blobs.example/v2/{name}/blobs/{reference}" as a place elsewhere: its redirects lead to https:// alone; those of cloudflare-workers with --edge lead anywhere
            --- exit code 1
        "#]],
    );
    scene.check(
        &["publish", "site:site", "--host", "firebase", "--edge"],
        expect![[r#"
        $ roadstead publish site:site --host firebase --edge
        --- stderr
        error: firebase runs no script for each request (--edge): cloudflare-workers and netlify do
        --- exit code 1
    "#]],
    );
    scene.check(
        &["publish", "site:site", "--host", "nginx"],
        expect![[r#"
            $ roadstead publish site:site --host nginx
            --- stderr
            error: invalid value 'nginx' for '--host <HOST>'
              [possible values: static-web-server, h2o, cloudflare-pages, cloudflare-workers, netlify, firebase, azure-static-web-apps, vercel, amplify, render, apache-htaccess, azure-blob, gitlab-pages]

            For more information, try '--help'.
            --- exit code 2
        "#]],
    );
    scene.check(
        &["publish", "site", "--host", "netlify"],
        expect![[r#"
        $ roadstead publish site --host netlify
        --- stderr
        error: --host is for folders of plain files: write site:site
        --- exit code 2
    "#]],
    );
    scene.check(
        &["publish", "site:"],
        expect![[r#"
        $ roadstead publish site:
        --- stderr
        error: invalid value 'site:' for '<DESTINATION>': expected s3://BUCKET[/PREFIX], az://CONTAINER[/PREFIX], gs://BUCKET[/PREFIX], a folder, site:DIR, ipfs:[ADDRESS] or car:FILE

        For more information, try '--help'.
        --- exit code 2
    "#]],
    );
    scene.check(
        &["publish", "site:site"],
        expect![[r#"
        $ roadstead publish site:site
        --- stderr
        error: site:DIR is made for a host that takes a folder: name it with --host
        --- exit code 2
    "#]],
    );
    scene.check(
        &["publish", "site:site", "--host", "netlify", "--delete"],
        expect![[r#"
        $ roadstead publish site:site --host netlify --delete
        --- stderr
        error: --delete has no meaning for site:DIR, which is made to hold the tree
        --- exit code 2
    "#]],
    );
    assert!(!scene.place.path().join("site").exists());
}

#[test]
fn what_another_host_was_told_goes() {
    let scene = Scene::filled();
    let site = scene.place.path().join("site");
    let publish = |arguments: &[&str]| {
        scene.run(&[&["publish", "site:site"], arguments].concat()).ok();
        let mut files: Vec<_> = State::of(&site).paths().into_iter().map(|path| path.to_string()).collect();
        files.retain(|path| !path.contains("/v2/") || path.contains(".htaccess"));
        files
    };
    let rules = publish(&["--host", "cloudflare-workers"]);
    assert!(rules.iter().any(|path| path.ends_with("_headers")), "{rules:?}");
    let script = publish(&["--host", "cloudflare-workers", "--edge"]);
    assert!(script.iter().any(|path| path.ends_with(".js")), "{script:?}");
    assert!(!script.iter().any(|path| path.ends_with("_headers")), "{script:?}");
    std::fs::write(site.join("public/mine.html"), "mine").unwrap();
    let fresh = Scene::filled();
    fresh.run(&["publish", "site:site", "--host", "netlify"]).ok();
    let mut expected: Vec<_> =
        State::of(&fresh.place.path().join("site")).paths().into_iter().map(|path| path.to_string()).collect();
    expected.retain(|path| !path.contains("/v2/"));
    let mut netlify = publish(&["--host", "netlify"]);
    netlify.retain(|path| !path.ends_with("mine.html"));
    assert_eq!(netlify, expected, "only what netlify was told, and what isn't ours");
    assert!(site.join("public/mine.html").exists());
    // Vercel wants the files in another folder.
    publish(&["--host", "vercel"]);
    assert!(site.join(".vercel/output/static/v2/base/manifests/3.20").exists());
    assert!(!site.join("public/v2").exists(), "the tree is there twice");
}

#[test]
fn what_somebody_changed_is_not_written_over() {
    let scene = Scene::filled();
    let publish =
        |more: &[&str]| scene.run(&[&["publish", "site:site", "--host", "cloudflare-workers"], more].concat());
    publish(&[]).ok();
    let own = scene.place.path().join("site/wrangler.jsonc");
    std::fs::write(&own, "{\"name\": \"mine\"}").unwrap();
    scene.run(&["remove", "-q", "org/tool:1"]).ok();
    let kept = publish(&[]).ok();
    assert!(kept.stderr.contains("site/wrangler.jsonc: changed by hand, and left as it is"), "{kept}");
    assert_eq!(std::fs::read_to_string(&own).unwrap(), "{\"name\": \"mine\"}");
    let value: serde_json::Value = serde_json::from_str(publish(&["--format", "json"]).ok().text()).unwrap();
    assert_eq!(value["kept"], serde_json::json!(["wrangler.jsonc"]));
    // With a script it says something else, which can't be mixed.
    let before = State::of(&scene.place.path().join("site"));
    snapshot(
        &scene.words,
        &publish(&["--edge"]),
        expect![[r#"
        $ roadstead publish site:site --host cloudflare-workers --edge
        --- stderr
        error: site/wrangler.jsonc was changed since roadstead wrote it, and it would have to say something else now: --force replaces it, or put your changes elsewhere
        --- exit code 8
    "#]],
    );
    assert_eq!(State::of(&scene.place.path().join("site")), before);
    publish(&["--edge", "--force"]).ok();
    assert_ne!(std::fs::read_to_string(&own).unwrap(), "{\"name\": \"mine\"}");
}

#[test]
fn a_damaged_blob_is_not_published() {
    let scene = Scene::filled();
    let blobs = scene.place.tree().join("content/blobs");
    let blob = std::fs::read_dir(blobs).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[0] ^= 1;
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, bytes).unwrap();
    let ran = scene.run(&["publish", "site:site", "--host", "netlify"]);
    assert_eq!(ran.code(), 7, "{ran}");
    assert!(ran.stderr.contains(blob.file_name().unwrap().to_str().unwrap()), "{ran}");
}

#[test]
fn under_a_prefix_files_and_lists_say_the_names_that_clients_use() {
    let scene = Scene::filled();
    scene.run(&["publish", "site:site", "--host", "firebase", "--name-prefix", "mirror"]).ok();
    let v2 = scene.place.path().join("site/public/v2");
    let read = |path: &str| std::fs::read_to_string(v2.join(path)).unwrap();
    assert_eq!(read("_catalog"), r#"{"repositories":["mirror/base","mirror/org/tool"]}"#);
    assert_eq!(read("mirror/org/tool/tags/list"), r#"{"name":"mirror/org/tool","tags":["1","2"]}"#);
    assert!(v2.join("mirror/base/manifests/3.20").is_file());
}

#[test]
fn a_tree_with_nothing_in_it() {
    let scene = Scene::filled();
    for image in ["base", "org/tool"] {
        scene.run(&["remove", "-q", "--all-tags", image]).ok();
    }
    for host in roadstead::host::HOSTS.iter().filter(|host| host.public().is_some()) {
        for command in [&["publish", "site:site", "--force", "--host"][..], &["config"]] {
            let said = scene.run(&[command, &[host.name()]].concat()).ok();
            assert!(said.stderr.contains("nothing can be pulled from it: the tree has no image"), "{said}");
        }
    }
    let flavoured = scene.run(&["config", "github-pages", "--flavour", "schema1", "-o", "flavoured"]).ok();
    assert!(flavoured.stderr.contains("flavoured: nothing can be pulled from it"), "{flavoured}");
}

#[test]
fn pages_of_other_origins_may_read_a_site_that_says_so() {
    let scene = Scene::filled();
    let headers = || std::fs::read_to_string(scene.place.path().join("site/public/_headers")).unwrap();
    let publish = ["publish", "site:site", "--host", "cloudflare-pages"];
    scene.run(&publish).ok();
    assert!(!headers().contains("Access-Control"));
    scene.run(&[&publish[..], &["--cors"]].concat()).ok();
    let everywhere = "\n/*\n  X-Content-Type-Options: nosniff\n  Access-Control-Allow-Origin: *\n";
    assert!(headers().contains(everywhere), "{}", headers());
    for to in ["elsewhere", "s3://bucket"] {
        let refused = scene.run(&["publish", to, "--cors"]);
        assert_eq!(refused.code(), 2, "{refused}");
        assert!(refused.stderr.contains("--cors is for folders of plain files"), "{refused}");
    }
}

/// What the hosts' pages tell to type is typed, as far as it is ours.
#[test]
fn the_pages_of_the_hosts_of_plain_files() {
    let pages = [
        include_str!("../../../../../docs/hosts/plain-files.md"),
        include_str!("../../../../../docs/hosts/cloudflare-pages.md"),
        include_str!("../../../../../docs/hosts/cloudflare-workers.md"),
        include_str!("../../../../../docs/hosts/netlify.md"),
        include_str!("../../../../../docs/hosts/firebase.md"),
        include_str!("../../../../../docs/hosts/azure-static-web-apps.md"),
        include_str!("../../../../../docs/hosts/vercel.md"),
        include_str!("../../../../../docs/hosts/static-web-server.md"),
        include_str!("../../../../../docs/hosts/apache-htaccess.md"),
        include_str!("../../../../../docs/hosts/h2o.md"),
        include_str!("../../../../../docs/hosts/amplify.md"),
        include_str!("../../../../../docs/hosts/render.md"),
        include_str!("../../../../../docs/hosts/azure-blob.md"),
    ];
    for page in pages {
        let scene = Scene::filled();
        let lines: Vec<_> = page.lines().filter(|line| line.starts_with("roadstead ")).collect();
        assert!(!lines.is_empty(), "no command in {page:.40}");
        for line in lines {
            let words: Vec<_> = line.split_whitespace().skip(1).map(|word| word.trim_matches('\'')).collect();
            scene.run(&words).ok();
        }
    }
}
