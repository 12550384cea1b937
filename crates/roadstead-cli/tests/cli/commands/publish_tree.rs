use super::*;

#[test]
fn a_tree_is_made_in_another_folder_and_kept_up_to_date() {
    let scene = Scene::filled();
    scene.check(
        &["publish", "copy", "--dry-run", "--bandwidth", "1k"],
        expect![[r#"
        $ roadstead publish copy --dry-run --bandwidth 1k
        put base blob sha256:<index-child-2-layer-0> 104 B
        put base blob sha256:<index-child-1-layer-0> 104 B
        put base blob sha256:<index-child-2-config> 289 B
        put base blob sha256:<index-child-0-config> 276 B
        put base blob sha256:<index-child-0-layer-0> 104 B
        put base blob sha256:<index-child-1-config> 276 B
        put org/tool blob sha256:<one-config> 418 B
        put org/tool blob sha256:<two-layer-1> 98 B
        put org/tool blob sha256:<one-layer-0> 96 B
        put org/tool blob sha256:<one-layer-1> 98 B
        put org/tool blob sha256:<two-config> 418 B
        put base@sha256:<index-child-0> 401 B
        put base@sha256:<index-child-1> 401 B
        put base@sha256:<index-child-2> 401 B
        put base@sha256:<index> 706 B
        put org/tool@sha256:<one> 581 B
        put org/tool@sha256:<two> 581 B
        tag base:3.20 sha256:<index>
        tag org/tool:1 sha256:<one>
        tag org/tool:2 sha256:<two>
        list the tags of base
        list the tags of org/tool
        list base
        list org/tool
        --- stderr
        copy: would write 11 blobs, 6 manifests, 3 tags, 3 lists (5.35 kB)
        5.35 kB at 1.00 kB/s: TIME s
    "#]],
    );
    assert!(!scene.place.path().join("copy").exists(), "a dry run writes nothing");
    let ran = scene.run(&["publish", "copy", "-q"]).ok();
    assert!(ran.stderr.is_empty() && ran.text().starts_with("/v2/_catalog\n/v2/base/manifests/3.20\n"), "{ran}");
    scene.run(&["diff", "registry", "copy"]).ok();
    scene.run(&["--tree", "copy", "verify"]).ok();
    let copy = State::of(&scene.place.path().join("copy"));
    scene.check(
        &["publish", "copy"],
        expect![[r#"
        $ roadstead publish copy
        --- stderr
        copy: nothing has changed
    "#]],
    );
    assert!(State::of(&scene.place.path().join("copy")) == copy);

    // Bytes are copied, so that nobody who can write to one tree changes the other.
    let inode = |tree: &str| {
        use std::os::unix::fs::MetadataExt as _;
        let blob = std::fs::read_dir(scene.place.path().join(tree).join("content/blobs")).unwrap().next().unwrap();
        blob.unwrap().metadata().unwrap().ino()
    };
    assert_ne!(inode("registry"), inode("copy"));

    scene.run(&["tag", "org/tool:1", "org/tool:new"]).ok();
    scene.run(&["tag", "org/tool:1", "org/tool:2"]).ok();
    scene.check(
        &["publish", "copy", "-n"],
        expect![[r#"
        $ roadstead publish copy -n
        move org/tool:2 sha256:<one> from sha256:<two>
        tag org/tool:new sha256:<one>
        list the tags of org/tool
        --- stderr
        copy: would write 2 tags, 1 list
    "#]],
    );
    scene.check(
        &["publish", "copy", "--no-clobber"],
        expect![[r#"
            $ roadstead publish copy --no-clobber
            --- stderr
            error: tags name something else there, and may not move: org/tool:2
            --- exit code 1
        "#]],
    );
    assert!(State::of(&scene.place.path().join("copy")) == copy);
    scene.check(
        &["publish", "copy", "--format", "json"],
        expect![[r#"
            $ roadstead publish copy --format json
            {
              "destination": "copy",
              "dryRun": false,
              "blobs": 0,
              "copied": 0,
              "manifests": 0,
              "tags": 2,
              "lists": 1,
              "deleted": 0,
              "bytes": 0,
              "changed": [
                "/v2/org/tool/manifests/2",
                "/v2/org/tool/manifests/new",
                "/v2/org/tool/tags/list"
              ],
              "failed": []
            }
            --- stderr
            copy: wrote 2 tags, 1 list
        "#]],
    );
    scene.run(&["diff", "registry", "copy"]);
}

#[test]
fn what_the_tree_lacks_stays_until_somebody_says_otherwise() {
    let scene = Scene::filled();
    scene.run(&["publish", "copy"]).ok();
    scene.run(&["remove", "org/tool:2"]).ok();
    scene.run(&["remove", "--all-tags", "base"]).ok();
    scene.check(
        &["publish", "copy"],
        expect![[r#"
        $ roadstead publish copy
        --- stderr
        copy: nothing has changed
    "#]],
    );
    scene.check(
        &["publish", "copy", "--delete", "--max-delete", "2"],
        expect![[r#"
        $ roadstead publish copy --delete --max-delete 2
        --- stderr
        error: 4 names would be deleted, and --max-delete is 2: nothing was done
        --- exit code 1
    "#]],
    );
    scene.check(
        &["publish", "copy", "--delete"],
        expect![[r#"
            $ roadstead publish copy --delete
            /v2/_catalog
            /v2/org/tool/blobs/sha256:<two-layer-1>
            /v2/org/tool/blobs/sha256:<two-config>
            /v2/org/tool/manifests/2
            /v2/org/tool/manifests/sha256:<two>
            /v2/org/tool/tags/list
            --- stderr
            copy: deleted 4 names
        "#]],
    );
    let listed = scene.run(&["--tree", "copy", "list", "--flat"]).ok();
    assert_eq!(listed.text(), "base:3.20\norg/tool:1\n", "a repository that the tree does not have is somebody else's");
    scene.run(&["publish", "copy", "--delete", "--repository", "**"]).ok();
    scene.run(&["diff", "registry", "copy"]).ok();
    scene.run(&["--tree", "copy", "verify"]).ok();
    let prune = scene.run(&["--tree", "copy", "prune", "--older-than", "0"]).ok();
    assert!(prune.stderr.contains("nothing to prune"), "{prune}");
}

#[test]
fn some_repositories_are_published() {
    let scene = Scene::filled();
    scene.run(&["publish", "copy", "--repository", "org/*"]).ok();
    let listed = scene.run(&["--tree", "copy", "list", "--flat"]).ok();
    assert_eq!(listed.text(), "org/tool:1\norg/tool:2\n");
    scene.check(
        &["publish", "copy", "--repository", "nobody"],
        expect![[r#"
        $ roadstead publish copy --repository nobody
        --- stderr
        error: a repository that matches nobody is not in the tree
          hint: `roadstead list` shows what there is
        --- exit code 3
    "#]],
    );
    scene.check(
        &["publish", "registry"],
        expect![[r#"
        $ roadstead publish registry
        --- stderr
        error: registry is the tree that is published
        --- exit code 2
    "#]],
    );
    scene.check(
        &["publish", "oci:file"],
        expect![[r#"
            $ roadstead publish oci:file
            --- stderr
            error: invalid value 'oci:file' for '<DESTINATION>': expected s3://BUCKET[/PREFIX], az://CONTAINER[/PREFIX], gs://BUCKET[/PREFIX], a folder, site:DIR, ipfs:[ADDRESS] or car:FILE

            For more information, try '--help'.
            --- exit code 2
        "#]],
    );
    scene.check(
        &["publish", "copy", "--edge"],
        expect![[r#"
        $ roadstead publish copy --edge
        --- stderr
        error: --edge is for folders of plain files: write site:copy
        --- exit code 2
    "#]],
    );
    scene.check(
        &["publish", "copy", "--max-bandwidth", "1Mbit"],
        expect![[r#"
            $ roadstead publish copy --max-bandwidth 1Mbit
            --- stderr
            error: invalid value '1Mbit' for '--max-bandwidth <RATE>': "1Mbit" is no number of bytes a second; examples: 500kB/s, 10M, 1MiB/s

            For more information, try '--help'.
            --- exit code 2
        "#]],
    );
}

#[test]
fn what_is_damaged_is_named_and_the_rest_is_published() {
    let scene = Scene::filled();
    let layer = scene.index.children[0].layers()[0].digest;
    let path = scene.place.tree().join(format!("content/blobs/{layer}"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    scene.check(&["publish", "copy"], expect![[r#"
        $ roadstead publish copy
        /v2/_catalog
        /v2/base/manifests/3.20
        /v2/base/tags/list
        /v2/org/tool/manifests/1
        /v2/org/tool/manifests/2
        /v2/org/tool/tags/list
        --- stderr
          <index-child-0-config>    276 B
          <index-child-1-config>    276 B
          <index-child-1-layer-0>    104 B
          <index-child-2-config>    289 B
          <index-child-2-layer-0>    104 B
          <one-config>    418 B
          <one-layer-0>     96 B
          <one-layer-1>     98 B
          <two-config>    418 B
          <two-layer-1>     98 B
        10 blobs copied (2.18 kB), TIME s
        error: the blob sha256:<index-child-0-layer-0> is damaged: its bytes have another digest; `roadstead verify` says what else is
        --- exit code 7
    "#]]);
    let listed = scene.run(&["--tree", "copy", "list", "--flat"]).ok();
    assert_eq!(listed.text(), "org/tool:1\norg/tool:2\n");
    scene.run(&["--tree", "copy", "verify"]).ok();
    std::fs::remove_file(&path).unwrap();
    scene.check(&["publish", "copy"], expect![[r#"
        $ roadstead publish copy
        --- stderr
        error: base is not published
          because: manifest sha256:<index-child-0> needs the blob sha256:<index-child-0-layer-0>, which the tree does not have
          hint: `roadstead verify` says what else is lost
        --- exit code 7
    "#]]);
}

#[test]
fn what_was_left_out_is_left_out_there() {
    let scene = Scene::new();
    scene.run(&["add", "-q", "--platform", "linux/amd64", "REGISTRY/base:3.20"]).ok();
    scene.run(&["publish", "copy"]).ok();
    scene.run(&["--tree", "copy", "verify"]).ok();
    let record = |tree: &str| {
        let index = scene.index.digest();
        std::fs::read_to_string(scene.place.path().join(tree).join(".roadstead/left-out/base").join(index.to_string()))
    };
    assert_eq!(record("registry").unwrap(), record("copy").unwrap());
    scene.run(&["add", "-q", "REGISTRY/base:3.20"]).ok();
    scene.run(&["publish", "copy"]).ok();
    assert!(record("copy").is_err());
    scene.run(&["--tree", "copy", "verify"]).ok();
    scene.run(&["diff", "registry", "copy"]).ok();
    let again = scene.run(&["publish", "copy"]).ok();
    assert!(again.stderr.contains("nothing has changed"), "{again}");
}
