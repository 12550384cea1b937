//! Shells around a server: what they are told is read by their own readers, started as it says, and pulled from.

use std::fs;
use std::path::Path;

use roadstead::site::Around;
use roadstead_parts::{Folder, Invocation, part};

use crate::standalone::filled;

/// What comes before the lines of a page: mounts, processes and a network of one's own, and the machine that a page expects.
/// `$1` is the tree, `$2` where it shall be, `$3` the program, `$4` what stands in for systemd, Docker and Kubernetes, `$5` a
/// folder for all that is written.
const MACHINE: &str = r#"
set -eu
ip link set lo up
cp -a /etc "$5/etc"
mount --bind "$5/etc" /etc
mkdir -p "$5/tree" "$5/bin"
mount --bind "$1" "$5/tree"
for folder in /srv /run /usr/local/bin; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
mkdir -p "$2" /srv/work/target/release
mount --move "$5/tree" "$2"
cp "$3" /srv/work/target/release/roadstead
for name in systemctl docker kubectl; do install -m 755 "$4" "$5/bin/$name"; done
export HOME=/srv/work PATH="$5/bin:$PATH"
cd /srv/work
"#;

/// What comes after them: a pull, which says the digest, and what a unit's limits would have made of it.
const PULL: &str = r"
skopeo copy -q --src-tls-verify=false --digestfile digest docker://127.0.0.1:5000/app:1.0 dir:pulled >&2
if [ -e /run/trace/calls ]; then systemctl judge; fi
cat digest
";

/// Types lines on a machine with the tree at a place, pulls from what they started, and compares.
fn typed(lines: &str, place: &str) {
    typed_and_pulled(lines, PULL, place);
}

fn typed_and_pulled(lines: &str, pull: &str, place: &str) {
    for program in ["ip", "unshare", "setpriv", "curl", "skopeo", "nginx", "caddy", "strace", "systemd-analyze"] {
        part::installed(program);
    }
    part::installed("/usr/lib/python3/dist-packages/yaml/cyaml.py");
    part::built("bin/compose-spec");
    let (tree, image) = filled();
    let folder = Folder::new();
    let engine = folder.write("engine", format!("#!/usr/bin/python3\n{}", include_str!("shells/engine.py")));
    let script = format!("{MACHINE}{lines}{pull}");
    let namespaces =
        ["--mount", "--propagation=private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
    let ran = Invocation::new(part::installed("unshare"))
        .args(namespaces)
        .args(["sh", "-c", &script, "sh"])
        .arg(tree.tree())
        .args([place, env!("CARGO_BIN_EXE_roadstead")])
        .arg(engine)
        .arg(folder.path())
        .as_root()
        .run();
    let output = ran.unwrap_or_else(|failure| panic!("{lines}\n{failure}"));
    assert_eq!(output.stdout.lines().last(), Some(image.digest().to_string().as_str()), "{lines}\n{}", output.stdout);
}

/// The lines that a page prints below a paragraph, as they stand there.
fn lines(page: &str, paragraph: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/hosts").join(format!("{page}.md"));
    let document = fs::read_to_string(path).unwrap();
    let lines = document.split(paragraph).nth(1).and_then(|rest| rest.split("```sh\n").nth(1)?.split("```").next());
    lines.unwrap_or_else(|| panic!("{page}.md has no lines {paragraph}")).to_owned()
}

/// Types what a page prints for each server.
fn as_the_documentation_prints_it(page: &str) {
    for server in ["`roadstead serve`", "nginx", "Caddy"] {
        typed(&lines(page, &format!("**Around {server}**")), "/srv/registry");
    }
}

#[test]
fn systemd_as_the_documentation_prints_it() {
    as_the_documentation_prints_it("systemd");
}

#[test]
fn systemd_listens_as_the_documentation_prints_it() {
    typed(&lines("systemd", "**With a socket of systemd**"), "/srv/registry");
}

#[test]
fn compose_as_the_documentation_prints_it() {
    as_the_documentation_prints_it("compose");
}

#[test]
fn kubernetes_as_the_documentation_prints_it() {
    as_the_documentation_prints_it("kubernetes");
}

/// The machine's own users: what only they may see is seen by them, and by nobody else.
#[test]
fn users_are_let_in_by_every_shell() {
    let pull = PULL.replace("skopeo copy", "skopeo copy --src-creds ann:secret");
    let pull = format!("if skopeo inspect --tls-verify=false docker://127.0.0.1:5000/app:1.0; then exit 9; fi\n{pull}");
    let before = "install -m 755 target/release/roadstead /usr/local/bin/
        roadstead() { echo secret | command roadstead \"$@\"; }\n";
    for page in ["systemd", "compose", "kubernetes"] {
        let lines = lines(page, "**With users**").replace("user add ann", "user add ann --password-stdin");
        typed_and_pulled(&format!("{before}{lines}"), &pull, "/srv/registry");
    }
}

/// What would mean something else in a file, if it weren't written as it must be.
#[test]
fn a_tree_at_an_odd_place() {
    let install = "install -m 755 target/release/roadstead /usr/local/bin/\n";
    let config = format!("{install}roadstead --tree \"$2\" config");
    let place = "/srv/100% $HOME ${X} $(id): tree; #1";
    typed(
        &format!(
            "{config} systemd -o /etc/systemd/system/roadstead.service
             systemctl daemon-reload && systemctl enable --now roadstead\n"
        ),
        place,
    );
    let place = &format!("{place} \"q\" 'r' \\n ☃");
    typed(&format!("{config} compose --image roadstead -o compose.yaml && docker compose up -d\n"), place);
    typed(&format!("{config} kubernetes --image roadstead -o r.yaml && kubectl apply -f r.yaml\n"), place);
}

/// Runs the binary in a folder with a tree of that name that needn't be there, and gives what it printed.
fn config(arguments: &[&str]) -> String {
    let place = crate::support::Place::new();
    place.run(&[&["config"], arguments].concat()).ok().text().to_owned()
}

/// systemd's own judgement, from 0 to 10, of how much a service could do.
#[test]
fn a_unit_is_closed() {
    for around in Around::ALL {
        let unit = config(&["systemd", "--around", around.name(), "--server-root", "/srv/registry"]);
        let folder = Folder::new();
        let unit = folder.write("roadstead.service", unit);
        let judged = Invocation::new(part::installed("systemd-analyze"))
            .args(["security", "--offline=true", "--threshold=20", "--no-pager"])
            .arg(unit)
            .run();
        assert!(judged.is_ok(), "{}: {}", around.name(), judged.unwrap_err());
    }
}

#[test]
fn the_objects_of_kubernetes_fit_together() {
    for around in Around::ALL {
        let image: &[&str] = if around == Around::Serve { &["--image", "r.example/roadstead:1"] } else { &[] };
        let options = ["kubernetes", "--around", around.name(), "--claim", "the-tree", "--listen", "80"];
        let file = config(&[&options, image].concat());
        let objects = parsed(&file);
        let of = |kind: &str| objects.iter().find(|object| object["kind"] == kind);
        let (deployment, service) = (of("Deployment").unwrap(), of("Service").unwrap());
        assert_eq!(deployment["apiVersion"], "apps/v1");
        assert_eq!(service["apiVersion"], "v1");
        let template = &deployment["spec"]["template"];
        for selector in [&deployment["spec"]["selector"]["matchLabels"], &service["spec"]["selector"]] {
            assert!(selector.is_object() && *selector == template["metadata"]["labels"], "{file}");
        }
        let pod = &template["spec"];
        let container = &pod["containers"][0];
        let names = |list: &serde_json::Value| -> Vec<String> {
            list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&pod["volumes"]), names(&container["volumeMounts"]));
        let claim = serde_json::json!({"claimName": "the-tree", "readOnly": true});
        assert_eq!(pod["volumes"][0]["persistentVolumeClaim"], claim);
        let port = serde_json::json!([{"name": "http", "port": 80, "targetPort": "http"}]);
        assert_eq!(service["spec"]["ports"], port);
        assert_eq!(container["ports"][0]["name"], "http");
        if around == Around::Serve {
            assert!(of("ConfigMap").is_none() && objects.len() == 2, "{file}");
            continue;
        }
        let map = of("ConfigMap").unwrap();
        assert_eq!(map["apiVersion"], "v1");
        assert_eq!(pod["volumes"][1]["configMap"]["name"], map["metadata"]["name"]);
        let (name, text) = map["data"].as_object().unwrap().iter().next().unwrap();
        let mounted = container["volumeMounts"][1]["mountPath"].as_str().unwrap();
        let command = container["command"].as_array().unwrap();
        assert!(command.iter().any(|word| *word == format!("{mounted}/{name}")), "{file}");
        let own =
            config(&[around.name(), "--standalone", "--server-root", "/srv/registry", "--listen", "0.0.0.0:5000"]);
        assert_eq!(text.as_str().map(str::trim_end), Some(own.trim_end()));
    }
}

/// The documents of a YAML file.
fn parsed(yaml: &str) -> Vec<serde_json::Value> {
    part::installed("/usr/lib/python3/dist-packages/yaml/cyaml.py");
    let read = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let json = Invocation::new(part::installed("/usr/bin/python3")).args(["-c", read]).input(yaml).run().unwrap();
    serde_json::from_str(&json.stdout).unwrap()
}

#[test]
fn users_beside_a_tree_are_not_left_out_in_silence() {
    let (place, _) = filled();
    let with = |state: &str| place.run(&["config", "systemd", "--state", state]);
    assert_eq!(with("registry.state").code(), 2, "there are none yet");
    place.run(&["config", "systemd"]).ok();
    place.run_with_input(&["user", "add", "ann", "--password-stdin"], "secret\n").ok();
    let ran = place.run(&["config", "systemd"]);
    assert_eq!(ran.code(), 2, "{ran}");
    assert!(
        ran.to_string().contains("registry.state, whom systemd would not know: name the folder with --state"),
        "{ran}"
    );
    let inside = with("registry/users");
    assert!(inside.code() == 2 && inside.to_string().contains("lies in the tree"), "{inside}");
    // Who asks nobody has no use for them.
    place.run(&["config", "systemd", "--around", "nginx"]).ok();
    let nginx = place.run(&["config", "systemd", "--around", "nginx", "--state", "registry.state"]);
    assert!(nginx.to_string().contains("only `roadstead serve` asks users"), "{nginx}");
}

#[test]
fn options_of_shells_are_for_shells() {
    let place = crate::support::Place::new();
    for option in [["--around", "nginx"], ["--image", "a"], ["--program", "/a"], ["--claim", "a"], ["--state", "/a"]] {
        let ran = place.run(&["config", "nginx", option[0], option[1]]);
        assert_eq!(ran.code(), 2);
        assert!(ran.to_string().contains(&format!("{} is for shells around a server", option[0])), "{ran}");
    }
    let ran = place.run(&["config", "compose", "--image", "a", "--socket"]);
    assert!(ran.code() == 1 && ran.to_string().contains("nobody passes one there"), "{ran}");
    let ran = place.run(&["config", "compose"]);
    assert_eq!(ran.code(), 1);
    assert!(ran.to_string().contains("name it with --image"), "{ran}");
}
