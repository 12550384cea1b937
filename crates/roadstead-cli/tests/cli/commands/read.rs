use super::*;
use std::process::Stdio;

#[test]
fn lists() {
    let scene = Scene::filled();
    scene.check(
        &["list"],
        expect![[r#"
            $ roadstead list
            REPOSITORY   TAG    DIGEST         TYPE
            base         3.20   <index>   OCI index
            org/tool     1      <one>   Docker image
            org/tool     2      <two>   Docker image
        "#]],
    );
    scene.check(
        &["list", "--long"],
        expect![[r#"
        $ roadstead list --long
        REPOSITORY   TAG    DIGEST         TYPE           PLATFORMS                                SIZE
        base         3.20   <index>   OCI index      linux/amd64, linux/arm/v7, linux/arm64   3.06 kB
        org/tool     1      <one>   Docker image   linux/amd64                              1.19 kB
        org/tool     2      <two>   Docker image   linux/amd64                              1.19 kB
    "#]],
    );
    scene.check(
        &["ls", "--flat"],
        expect![[r#"
        $ roadstead ls --flat
        base:3.20
        org/tool:1
        org/tool:2
    "#]],
    );
    scene.check(
        &["list", "org/tool:2"],
        expect![[r#"
            $ roadstead list org/tool:2
            REPOSITORY   TAG   DIGEST         TYPE
            org/tool     2     <two>   Docker image
        "#]],
    );
    scene.check(
        &["list", "org/tool"],
        expect![[r#"
            $ roadstead list org/tool
            REPOSITORY   TAG   DIGEST         TYPE
            org/tool     1     <one>   Docker image
            org/tool     2     <two>   Docker image
        "#]],
    );
    scene.check(
        &["list", "--format", "json", "org/tool:1"],
        expect![[r#"
        $ roadstead list --format json org/tool:1
        [
          {
            "repository": "org/tool",
            "tag": "1",
            "digest": "sha256:<one>",
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "platforms": [
              "linux/amd64"
            ],
            "size": 1193,
            "absent": 0
          }
        ]
    "#]],
    );
    scene.check(
        &["list", "org/tool:9"],
        expect![[r#"
        $ roadstead list org/tool:9
        --- stderr
        error: org/tool:9 is not in the tree
          hint: `roadstead list` shows what there is
        --- exit code 3
    "#]],
    );
    scene.check(
        &["list", "nothing"],
        expect![[r#"
        $ roadstead list nothing
        --- stderr
        error: nothing is not in the tree
          hint: `roadstead list` shows what there is
        --- exit code 3
    "#]],
    );
}

#[test]
fn a_tree_that_is_empty_or_absent_or_none() {
    let scene = Scene::new();
    scene.check(
        &["list"],
        expect![[r#"
        $ roadstead list
        --- stderr
        error: there is no registry tree at registry
          hint: make one with `roadstead add IMAGE`, or name another one with --tree DIR
        --- exit code 3
    "#]],
    );
    scene.check(
        &["--tree", "elsewhere", "serve"],
        expect![[r#"
        $ roadstead --tree elsewhere serve
        --- stderr
        error: there is no registry tree at elsewhere
          hint: make one with `roadstead add IMAGE`, or name another one with --tree DIR
        --- exit code 3
    "#]],
    );
    scene.run(&["add", "-q", "REGISTRY/org/tool:1"]).ok();
    scene.run(&["remove", "-q", "org/tool:1"]).ok();
    scene.check(
        &["list"],
        expect![[r#"
        $ roadstead list
        --- stderr
        the tree is empty; `roadstead add IMAGE` fills it
    "#]],
    );
    scene.check(
        &["list", "--format", "json"],
        expect![[r#"
        $ roadstead list --format json
        []
    "#]],
    );
    std::fs::create_dir(scene.place.path().join("folder")).unwrap();
    std::fs::write(scene.place.path().join("folder/file"), "").unwrap();
    scene.check(
        &["--tree", "folder", "list"],
        expect![[r#"
        $ roadstead --tree folder list
        --- stderr
        error: there is no registry tree at PLACE/folder
          hint: make one with `roadstead add IMAGE`, or name another one with --tree DIR
        --- exit code 3
    "#]],
    );
    scene.check(
        &["--tree", "folder/file", "list"],
        expect![[r#"
        $ roadstead --tree folder/file list
        --- stderr
        error: opening folder/file failed
          because: Not a directory (os error 20)
        --- exit code 8
    "#]],
    );
}

#[test]
fn a_tree_of_a_newer_format() {
    let scene = Scene::filled();
    let file = scene.place.tree().join(".roadstead/format");
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "{\"format\":999}").unwrap();
    scene.check(
        &["list"],
        expect![[r#"
        $ roadstead list
        --- stderr
        error: the tree at PLACE/registry has format 999, and this version of roadstead knows formats up to 1
          hint: install the newest version of roadstead
        --- exit code 1
    "#]],
    );
}

#[test]
fn manifests() {
    let scene = Scene::filled();
    scene.check(
        &["inspect", "org/tool:1"],
        expect![[r#"
            $ roadstead inspect org/tool:1
            Name:        org/tool:1
            Digest:      sha256:<one>
            Type:        application/vnd.docker.distribution.manifest.v2+json
            Platform:    linux/amd64
            Size:        1.19 kB
            Created:     1970-01-01T00:00:00Z
            Config:      sha256:<one-config>      418 B   application/vnd.docker.container.image.v1+json
            Layers:      sha256:<one-layer-0>       96 B   application/vnd.docker.image.rootfs.diff.tar.gzip
                         sha256:<one-layer-1>       98 B   application/vnd.docker.image.rootfs.diff.tar.gzip
            History:     1970-01-01       96 B   roadstead testing
                         1970-01-01       98 B   roadstead testing
        "#]],
    );
    scene.check(
        &["inspect", "base:3.20"],
        expect![[r#"
            $ roadstead inspect base:3.20
            Name:        base:3.20
            Digest:      sha256:<index>
            Type:        application/vnd.oci.image.index.v1+json
            Size:        3.06 kB
            Manifests:   linux/amd64    sha256:<index-child-0>      781 B   application/vnd.oci.image.manifest.v1+json
                         linux/arm64    sha256:<index-child-1>      781 B   application/vnd.oci.image.manifest.v1+json
                         linux/arm/v7   sha256:<index-child-2>      794 B   application/vnd.oci.image.manifest.v1+json
        "#]],
    );
    scene.check(
        &["inspect", "--format", "json", "org/tool:1"],
        expect![[r#"
            $ roadstead inspect --format json org/tool:1
            {
              "name": "org/tool:1",
              "platform": "linux/amd64",
              "digest": "sha256:<one>",
              "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
              "size": 581,
              "totalSize": 1193,
              "config": {
                "digest": "sha256:<one-config>",
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": 418
              },
              "image": {
                "created": "1970-01-01T00:00:00Z",
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {
                  "type": "layers",
                  "diff_ids": [
                    "sha256:37a370ceb483add9f34adee20c244942013b5e770922f32932af65eb2d57204e",
                    "sha256:8f7a3930f6719624aed2e47f59ff7507879c9db4fa38c8e648b7a61c3afb4a1b"
                  ]
                },
                "history": [
                  {
                    "created": "1970-01-01T00:00:00Z",
                    "created_by": "roadstead testing"
                  },
                  {
                    "created": "1970-01-01T00:00:00Z",
                    "created_by": "roadstead testing"
                  }
                ]
              },
              "layers": [
                {
                  "digest": "sha256:<one-layer-0>",
                  "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                  "size": 96
                },
                {
                  "digest": "sha256:<one-layer-1>",
                  "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                  "size": 98
                }
              ]
            }
        "#]],
    );
    scene.check(
        &["inspect", "org/tool"],
        expect![[r#"
        $ roadstead inspect org/tool
        --- stderr
        error: org/tool:latest is not in the tree
          hint: `roadstead list` shows what there is
        --- exit code 3
    "#]],
    );
    scene.check(&["inspect", "org/tool:bad:name"], expect![[r#"
        $ roadstead inspect org/tool:bad:name
        --- stderr
        error: invalid value 'org/tool:bad:name' for '<NAME>': "org/tool:bad:name" is not a name in a tree: "bad:name" is not an image reference

        For more information, try '--help'.
        --- exit code 2
    "#]]);
}

#[test]
fn a_manifest_byte_for_byte() {
    let scene = Scene::filled();
    let by_tag = scene.run(&["inspect", "--raw", "base:3.20"]).ok();
    assert_eq!(by_tag.stdout, scene.index.manifest.bytes()[..]);
    let by_digest = scene.run(&["inspect", "--raw", &format!("base@{}", scene.index.digest())]).ok();
    assert_eq!(by_digest.stdout, by_tag.stdout);
}

#[test]
fn a_reader_that_has_seen_enough() {
    let scene = Scene::filled();
    for arguments in [&["list"][..], &["list", "--flat"], &["inspect", "base:3.20"], &["inspect", "--raw", "base:3.20"]]
    {
        let mut child = scene.place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn configurations() {
    let scene = Scene::filled();
    let site = scene.run(&["config", "nginx"]).ok();
    assert!(site.text().contains("server {") && !site.text().contains("events {"), "{site}");
    let standalone = scene.run(&["config", "nginx", "--standalone", "--listen", "127.0.0.1:8080"]).ok();
    assert!(
        standalone.text().contains("events {") && standalone.text().contains("listen 127.0.0.1:8080;"),
        "{standalone}"
    );
    scene.check(
        &["config", "nginx", "--output", "roadstead.conf"],
        expect![[r#"
        $ roadstead config nginx --output roadstead.conf
        --- stderr
        wrote roadstead.conf: put it into /etc/nginx/conf.d/, then nginx -s reload
    "#]],
    );
    scene.check(
        &["config", "nginx", "--output", "roadstead.conf"],
        expect![[r#"
        $ roadstead config nginx --output roadstead.conf
        --- stderr
        error: roadstead.conf is there already: --force replaces it
        --- exit code 1
    "#]],
    );
    scene.check(
        &["config", "nginx", "--output", "roadstead.conf", "--force", "-q"],
        expect![[r#"
        $ roadstead config nginx --output roadstead.conf --force -q
    "#]],
    );
    assert_eq!(std::fs::read(scene.place.path().join("roadstead.conf")).unwrap(), site.stdout);
    let before = std::fs::read(scene.place.path().join("roadstead.conf")).unwrap();
    for force in [&[][..], &["--force"]] {
        let several = scene.run(&[&["config", "nginx", "--snippet", "-o", "roadstead.conf"], force].concat());
        assert!(several.code() == 1 && several.stderr.contains("roadstead.conf is no folder"), "{several}");
    }
    let no_folder = scene.run(&["config", "nginx", "-o", "absent/roadstead.conf"]);
    assert!(
        no_folder.code() == 1 && no_folder.stderr.contains("absent/roadstead.conf can't be written"),
        "{no_folder}"
    );
    assert_eq!(std::fs::read(scene.place.path().join("roadstead.conf")).unwrap(), before);
    let elsewhere = scene.run(&["--tree", "absent", "config", "nginx"]).ok();
    assert!(elsewhere.stderr.contains("there is no registry tree at absent yet"), "{elsewhere}");
    let near = scene.run(&["config", "ngnix"]);
    assert_eq!(near.code(), 2);
    assert!(near.to_string().contains("a similar value exists: 'nginx'"), "{near}");
    let listed = scene.run(&["config"]).ok();
    for host in roadstead::host::HOSTS {
        let line = listed.text().lines().find(|line| line.split_whitespace().next() == Some(host.name()));
        assert!(line.is_some_and(|line| line.ends_with(host.summary())), "{}\n{listed}", host.name());
    }
}

#[test]
fn options_that_a_host_has_no_use_for_are_refused() {
    let scene = Scene::filled();
    scene.check(
        &["config", "netlify", "--listen", "127.0.0.1:80"],
        expect![[r#"
        $ roadstead config netlify --listen 127.0.0.1:PORT
        --- stderr
        error: --listen has no meaning here: netlify isn't told where to listen
        --- exit code 2
    "#]],
    );
    scene.check(
        &["config", "nginx", "--snippet", "--listen", "127.0.0.1:80"],
        expect![[r#"
        $ roadstead config nginx --snippet --listen 127.0.0.1:PORT
        --- stderr
        error: --listen has no meaning here: nginx listens where the server does that the snippet is for
        --- exit code 2
    "#]],
    );
    scene.check(
        &["config", "nginx", "--pinned"],
        expect![[r#"
        $ roadstead config nginx --pinned
        --- stderr
        error: --pinned has no meaning here: nginx has no configuration that names tags for speed
        --- exit code 2
    "#]],
    );
    scene.check(
        &["config", "netlify", "--server-root", "/srv"],
        expect![[r#"
        $ roadstead config netlify --server-root /srv
        --- stderr
        error: --server-root has no meaning here: netlify serves a folder of plain files, wherever that is
        --- exit code 2
    "#]],
    );
    scene.check(
        &["config", "gitlab-pages", "--cors", "-q"],
        expect![[r#"
        $ roadstead config gitlab-pages --cors -q
        --- stderr
        error: gitlab-pages can't take "yes" as --cors: it lets nobody set a header
        --- exit code 2
    "#]],
    );
    scene.check(&["config", "nginx", "--blobs-at", "https://blobs.example"], expect![[r#"
        $ roadstead config nginx --blobs-at https://blobs.example
        --- stderr
        error: nginx can't take "https://blobs.example/v2/{name}/blobs/{reference}" as --blobs-at: it is for hosts of plain files, which this is not
        --- exit code 2
    "#]]);
    scene.check(&["config", "ipfs", "--listen", "127.0.0.1:80"], expect![[r#"
        $ roadstead config ipfs --listen 127.0.0.1:PORT
        --- stderr
        ipfs: it sends no media types that clients know, so most can't pull from it:

          podman, skopeo, CRI-O             with --flavour schema1: one platform
          Docker 20.10                      with --flavour schema1: one platform
          crane                             images of one platform as they are; no indexes
          Docker from 28.2, containerd,     not from here
          Kubernetes on containerd, oras

        All of them pull through `roadstead serve --upstream URL`, which anybody can run, and from hosts that can send headers:
        nginx, a bucket, and the like.

        error: --listen has no meaning here: ipfs isn't told where to listen
        --- exit code 2
    "#]]);
    scene.check(
        &["config", "s3", "--listen", "127.0.0.1:80"],
        expect![[r#"
        $ roadstead config s3 --listen 127.0.0.1:PORT
        --- stderr
        error: --listen has no meaning here: s3 isn't told where to listen
        --- exit code 2
    "#]],
    );
    for option in ["--listen=127.0.0.1:80", "--cors", "--edge", "--blobs-at=https://x.example", "--around=nginx"] {
        let ran = scene.run(&["config", "ipfs", "--flavour", "schema1", "-o", "site", option]);
        assert!(ran.code() == 2 && ran.stderr.contains(option.split('=').next().unwrap()), "{ran}");
    }
    scene.check(
        &["serve", "--tls-verify=false"],
        expect![[r#"
        $ roadstead serve --tls-verify=false
        --- stderr
        error: --tls-verify is about the host of --upstream, and none is named
        --- exit code 2
    "#]],
    );
    scene.check(
        &["serve", "--cert-dir", "certs"],
        expect![[r#"
        $ roadstead serve --cert-dir certs
        --- stderr
        error: --cert-dir is about the host of --upstream, and none is named
        --- exit code 2
    "#]],
    );
}

#[test]
fn a_folder_whose_name_nginx_takes_for_a_variable() {
    let scene = Scene::filled();
    std::fs::rename(scene.place.tree(), scene.place.path().join("$host")).unwrap();
    scene.check(&["--tree", "$host", "config", "nginx"], expect![[r#"
        $ roadstead --tree $host config nginx
        --- stderr
        error: nginx can't take "PLACE/$host" as the tree's place: a $ begins a variable, and can't be written otherwise: give the folder another name, or a link that has one, and name that
        --- exit code 1
    "#]]);
    scene.run(&["--tree", "$host", "config", "nginx", "--server-root", "$roadstead_tree"]).ok();
}

#[test]
fn help() {
    let scene = Scene::new();
    scene.check(
        &["-h"],
        expect![[r#"
            $ roadstead -h
            A container registry made of plain files

            Usage: roadstead [OPTIONS] <COMMAND>

            Commands:
              add         Copy images into the tree: from registries, archives, layouts, engines, other trees
              copy        Copy images from anywhere to anywhere [alias: cp]
              save        Write images of the tree into an archive, for `docker load`
              list        List what the tree holds [alias: ls]
              inspect     Show what a name in the tree leads to
              tag         Give an image of the tree another name
              index       Make one image of several platforms out of images for one each
              remove      Remove tags, manifests or repositories [alias: rm]
              prune       Remove what nothing reaches, and the tags that a rule lets go
              verify      Check every byte, name and list of the tree
              diff        Compare what two trees name
              du          Show how much space repositories take
              private     Say which repositories are not for everybody, or list the patterns that say so
              config      Print the configuration with which a host serves the tree
              publish     Make a bucket, another folder, a host's site or IPFS offer what the tree has
              serve       Answer pulls from the tree, or from what another host has
              doctor      Say which clients can pull from a registry, which can't, and why
              quickstart  See it work: an image in a tree, served, pulled and verified
              user        Say who may log in to `roadstead serve`
              login       Log in to a registry
              logout      Log out of a registry
              help        Print this message or the help of the given subcommand(s)

            Options:
              -h, --help     Print help (see more with '--help')
              -V, --version  Print version

            Global options:
                  --tree <DIR>       The registry tree: a folder, or a bucket: s3://BUCKET[/PREFIX],
                                     az://CONTAINER[/PREFIX], gs://BUCKET[/PREFIX] [env: ROADSTEAD_TREE=]
                                     [default: registry]
              -q, --quiet            Say nothing but results and errors
              -v, --verbose...       Say more; twice, everything
                  --format <FORMAT>  How results are printed: text or json; and for commands that copy, perhaps
                                     beside it, what manifests are converted to: oci or v2s2 (Docker's version
                                     2, schema 2), or keep for none

            Exit codes:
                0  done
                1  failed in a way that has no code of its own; of `diff`: the trees differ
                2  the command line can't be read
                3  an image, tag, platform, tree or file isn't there
                4  the registry wants a login, or refuses the one it got
                5  the registry or the engine denies access
                6  the registry or the engine can't be reached, or its certificate isn't trusted
                7  content is not what its digest says, or no manifest, or no archive
                8  the tree can't be read or written, or another destination can't
                9  of `doctor`: a client that was asked about can't pull
              130  interrupted
        "#]],
    );
}
