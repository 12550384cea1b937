//! The lines that the pages about hosts print, typed as they stand there.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use roadstead::testing::{Image, ImageBuilder};
use roadstead_parts::{
    Certificates, Client, Containerd, Crane, Folder, Invocation, Isolation, Nginx, Oras, Port, Served, Skopeo, part,
};

use crate::support::{Hostile, Place};

/// A tree with one image, `app:1.0`.
pub(crate) fn filled() -> (Place, Image) {
    let image = ImageBuilder::new().layer("all by itself").build();
    let place = Place::new();
    place.run(&["add", "-q", &Hostile::honest(&image).image()]).ok();
    (place, image)
}

/// The first lines of a page's paragraph that are for a shell, about another tree, port and folder of configurations.
fn lines(page: &str, paragraph: &str, place: &Place, port: &Port) -> String {
    let path = format!("{}/../../docs/hosts/{page}.md", env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(path).unwrap();
    let lines = document.split(paragraph).nth(1).and_then(|rest| rest.split("```").nth(1)).unwrap();
    let lines = lines.strip_prefix("sh\n").unwrap();
    let address = port.address().to_string();
    lines
        .replace("127.0.0.1:5000", &address)
        .replace("--listen 5000", &format!("--listen {address}"))
        .replace("0.0.0.0:5000", &address)
        .replace("/srv/registry", place.tree().to_str().unwrap())
}

fn pulls(port: &Port, image: &Image) {
    let pulled = Crane.pull(&format!("{}/app:1.0", port.address())).unwrap();
    assert!(pulled.digests.contains(&image.digest().to_string()), "{pulled:?}");
}

/// Typed by somebody who owns nothing of the tree.
fn all_by_itself(page: &str, expected: &[&str], benign: &[&str]) {
    let (place, image) = filled();
    let port = Port::free();
    let lines = lines(page, "**All by itself**", &place, &port);
    assert!(expected.iter().all(|part| lines.contains(part)), "{lines}");

    let folder = Folder::new();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    // Where it was built need not be open to everyone.
    fs::copy(env!("CARGO_BIN_EXE_roadstead"), folder.join("roadstead")).unwrap();
    let script = format!("set -e\ncd '{0}'\nexport HOME=$PWD\nPATH=$PWD:$PATH\n{lines}", folder.path().display());
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--", "sh", "-c", &script];
    let program = Invocation::new(part::installed("setpriv")).args(nobody);
    let server = Served::start(&program, Isolation::Namespaces, folder, || port.answers());

    pulls(&port, &image);
    let log = server.log();
    let complaints: Vec<&str> = log.lines().filter(|line| !benign.iter().any(|known| line.contains(known))).collect();
    assert_eq!(complaints, <[&str; 0]>::default());
}

#[test]
fn nginx_as_the_documentation_prints_it() {
    // Debian's own path for errors, which only root may write, may be tried before the configuration names another.
    all_by_itself("nginx", &["--standalone", "nginx -p "], &["wrote nginx/nginx.conf", "/var/log/nginx/error.log"]);
}

#[test]
fn caddy_as_the_documentation_prints_it() {
    let told = [
        "wrote Caddyfile",
        "\"level\":\"info\"",
        "admin endpoint disabled",
        "automatic HTTPS is completely",
        "input is not formatted",
    ];
    all_by_itself("caddy", &["--standalone", "caddy run "], &told);
}

#[test]
fn lighttpd_as_the_documentation_prints_it() {
    all_by_itself(
        "lighttpd",
        &["--standalone", "lighttpd -D "],
        &["wrote lighttpd/", "server started", "unexpected TLS ClientHello"],
    );
}

/// Apache has no form that runs by itself: its folder of configurations is another, and what controls it is short.
#[test]
fn apache_as_the_documentation_prints_it() {
    let (place, image) = filled();
    let port = Port::free();
    let lines = lines("apache", "**A virtual host of its own**", &place, &port);
    assert!(lines.contains("config apache") && lines.contains("apachectl configtest"), "{lines}");
    let folder = Folder::new();
    let path = folder.path().display().to_string();
    let modules: String = ["mpm_event", "authz_core", "headers", "lua"]
        .iter()
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .collect();
    folder.write(
        "apache2.conf",
        format!(
            "ServerRoot {path}\nServerName localhost\nPidFile apache.pid\nDefaultRuntimeDir {path}\nErrorLog /dev/stderr\n\
             User www-data\nGroup www-data\n{modules}IncludeOptional sites-enabled/*.conf\n"
        ),
    );
    folder.write("sites-enabled/none", "");
    folder.write(
        "apachectl",
        format!(
            "#!/bin/sh\ncase $1 in configtest) exec apache2 -t -f {path}/apache2.conf ;;\n\
             *) exec apache2 -D FOREGROUND -f {path}/apache2.conf ;; esac\n"
        ),
    );
    fs::set_permissions(folder.join("apachectl"), Permissions::from_mode(0o755)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_roadstead"), folder.join("roadstead")).unwrap();
    let lines = lines.replace("/etc/apache2", &path);
    let script = format!("set -e\nPATH={path}:$PATH\n{lines}");
    let program = Invocation::new(part::installed("sh")).args(["-c", &script]);
    let apache = Served::start(&program, Isolation::Namespaces, folder, || port.answers());
    pulls(&port, &image);
    assert!(!apache.log().contains("error]"), "{}", apache.log());
}

/// What `nginx.md` says of names and passwords: a server that asks for them, in front of the one that answers.
#[test]
fn a_server_in_front_that_asks_who_is_there() {
    let (place, image) = filled();
    let (behind, front) = (Port::free(), Port::free());
    let listen = behind.address().to_string();
    let answers = place.run(&["config", "nginx", "--listen", &listen]).ok().text().to_owned();
    let into = Folder::new();
    let hashed = Invocation::new(part::installed("htpasswd")).args(["-n", "-b", "-d", "somebody", "secret"]).run();
    let users = into.write("users", hashed.unwrap().stdout);
    let document = include_str!("../../../../docs/hosts/nginx.md");
    let asks = document.split("## Who may pull").nth(1).and_then(|rest| rest.split("```nginx\n").nth(1)).unwrap();
    let asks = asks.split("```").next().unwrap();
    let asks = asks.replace("127.0.0.1:5000", &listen).replace("127.0.0.1:5001", &front.address().to_string());
    let asks = asks.replace("/etc/nginx/users", &users.display().to_string());
    let nginx = Nginx::start_http(&format!("{answers}\n{asks}"), front);
    let source = format!("docker://{}/app:1.0", nginx.authority());
    let inspect =
        |arguments: &[&str]| Skopeo.skopeo(&[&["inspect", "--tls-verify=false"], arguments, &[&source]].concat());
    let known = inspect(&["--creds", "somebody:secret"]).unwrap();
    assert!(known.stdout.contains(&image.digest().to_string()), "{}", known.stdout);
    for unknown in [&["--creds", "somebody:else"][..], &["--no-creds"]] {
        let refused = inspect(unknown).unwrap_err().to_string();
        assert!(refused.contains("unauthorized") || refused.contains("401"), "{refused}");
    }
    drop(behind);
}

/// The server with TLS that `nginx.md` puts the paths into, pulled from by clients that verify whom they speak to.
#[test]
fn inside_a_server_with_tls() {
    let (place, image) = filled();
    let (port, certificates, into) = (Port::free(), Certificates::issue(&["IP:127.0.0.1"]), Folder::new());
    let folder = into.path().display().to_string();
    place.run(&["config", "nginx", "--snippet", "-o", &folder]).ok();
    let document = include_str!("../../../../docs/hosts/nginx.md");
    let server = document.split("```nginx\nhttp {").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let server = server.trim_end().strip_suffix('}').unwrap();
    let server = server
        .replace("/etc/nginx/roadstead", &folder)
        .replace("listen 443 ", &format!("listen {} ", port.address()))
        .replace("/etc/nginx/cert.pem", &certificates.certificate().display().to_string())
        .replace("/etc/nginx/key.pem", &certificates.key().display().to_string())
        .replace("location / { … }", "location / { return 200 mine; }");
    let nginx = Nginx::start_http(&server, port);
    let (authority, trusted) = (nginx.authority(), certificates.trusted().display().to_string());
    let digest = image.digest().to_string();
    let inspected = Skopeo.skopeo(&["inspect", "--cert-dir", &trusted, &format!("docker://{authority}/app:1.0")]);
    assert!(inspected.unwrap().stdout.contains(&digest));
    let authority_file = certificates.authority().display().to_string();
    let reference = format!("{authority}/app:1.0");
    let resolved = Oras.oras(&["resolve", "--ca-file", &authority_file, &reference]).unwrap().stdout;
    assert_eq!(resolved.trim(), digest);
    let kubernetes = Containerd::shared().cri();
    let verifies = format!("[host.\"https://{authority}\"]\nca = {authority_file:?}\n");
    kubernetes.configure(&authority, &verifies);
    assert!(kubernetes.pull(&reference).unwrap().digests.contains(&digest));
    let url = format!("https://{reference}");
    place.run(&["doctor", &url, "--cert-dir", &trusted]).ok();
    assert_eq!(nginx.log(), "");
}

/// What `nginx.md` says of other paths than `/v2/`: containerd can be told, and nobody else.
#[test]
fn below_another_path() {
    let (place, image) = filled();
    let (behind, front) = (Port::free(), Port::free());
    let listen = behind.address().to_string();
    let answers = place.run(&["config", "nginx", "--listen", &listen]).ok().text().to_owned();
    let document = include_str!("../../../../docs/hosts/nginx.md");
    let chapter = document.split("## Another path than /v2/").nth(1).unwrap();
    let printed = |language: &str| {
        let block = chapter.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
        let block = block.unwrap().replace("127.0.0.1:5000", &listen);
        block.replace("127.0.0.1:5002", &front.address().to_string())
    };
    let (server, hosts) = (printed("nginx"), printed("toml").replace("https://registry.example", "http://REGISTRY"));
    let nginx = Nginx::start_http(&format!("{answers}\n{server}"), front);
    let authority = nginx.authority();
    let kubernetes = Containerd::shared().cri();
    kubernetes.configure(&authority, &hosts.replace("REGISTRY", &authority));
    let reference = format!("{authority}/app:1.0");
    let pulled = kubernetes.pull(&reference).unwrap();
    assert!(pulled.digests.contains(&image.digest().to_string()), "{pulled:?}");
    for client in [&Skopeo as &dyn Client, &Crane, &Oras] {
        for reference in [&reference, &format!("{authority}/registry/app:1.0")] {
            assert!(client.pull(reference).is_err(), "{} pulls {reference}", client.name());
        }
    }
    drop(behind);
}
