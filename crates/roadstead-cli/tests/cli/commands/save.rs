use super::*;

#[test]
fn what_docker_loads() {
    let scene = Scene::filled();
    scene.check(
        &["save", "org/tool:1", "base:3.20", "--platform", "linux/arm64", "-o", "one.tar"],
        expect![[r#"
        $ roadstead save org/tool:1 base:3.20 --platform linux/arm64 -o one.tar
        --- stderr
        tree:PLACE/registry//org/tool:1 is sha256:<one>
        error: tree:PLACE/registry//org/tool:1 has nothing for linux/arm64, only for linux/amd64
        --- exit code 3
    "#]],
    );
    scene.check(
        &["save", "-q", "org/tool", "-o", "tools.tar"],
        expect![[r#"
        $ roadstead save -q org/tool -o tools.tar
        docker-archive:tools.tar:docker.io/org/tool:1@sha256:<one>
        docker-archive:tools.tar:docker.io/org/tool:2@sha256:<two>
    "#]],
    );
    let tools = std::fs::read(scene.place.path().join("tools.tar")).unwrap();
    let piped = scene.run(&["save", "org/tool:2", "org/tool:1"]).ok();
    assert!(piped.stdout == tools, "the same images make the same archive, in whatever order");
    assert!(piped.stderr.contains("docker-archive:-:docker.io/org/tool:2@sha256:"), "{piped}");
    scene.check(
        &["save", "-q", "--type", "oci-archive", "base:3.20", "-o", "base.tar"],
        expect![[r#"
        $ roadstead save -q --type oci-archive base:3.20 -o base.tar
        oci-archive:base.tar:docker.io/library/base:3.20@sha256:<index>
    "#]],
    );
}

#[test]
fn what_can_not_be_saved() {
    let scene = Scene::filled();
    scene.check(
        &["save", "none:1", "-o", "x.tar"],
        expect![[r#"
        $ roadstead save none:1 -o x.tar
        --- stderr
        error: tree:PLACE/registry//none:1 was not found
        --- exit code 3
    "#]],
    );
    scene.check(
        &["save", "-q", "org/tool:1", "org/tool:9", "-o", "x.tar"],
        expect![[r#"
        $ roadstead save -q org/tool:1 org/tool:9 -o x.tar
        --- stderr
        error: tree:PLACE/registry//org/tool:9 was not found
        --- exit code 3
    "#]],
    );
    let nowhere = scene.run(&["save", "-q", "org/tool:1", "-o", "none/x.tar"]);
    assert_eq!(nowhere.code(), 8, "{nowhere}");
    assert!(nowhere.stderr.contains("none/x.tar can't be written"), "{nowhere}");
    assert!(!scene.place.path().join("x.tar").exists(), "what failed has left an archive");
}
