//! Web servers with the configurations that are made for them, each beside itself with a plain root.

use std::path::Path;

use roadstead_parts::{Extent, Folder, Invocation, Nginx, Port, WebServer, part};

use crate::corpus::{LARGE, REPOSITORY};
use crate::measure::Figures;
use crate::registry::Registry;
use crate::report::{Bar, Peer, Row, Unit};
use crate::serving::rate;

pub(crate) fn measure(roadstead: &Path, registry: &Registry, runs: usize, seconds: u64) -> anyhow::Result<Vec<Row>> {
    let folder = Folder::new();
    let tree = folder.join("registry");
    let tool = || Invocation::new(roadstead).arg("--tree").arg(&tree);
    tool().arg("add").arg(registry.image(LARGE)).run()?;
    let digest = tool().args(["inspect", "--format", "json", &format!("{REPOSITORY}:{LARGE}")]).run()?.stdout;
    let digest = serde_json::from_str::<serde_json::Value>(&digest)?["digest"].as_str().unwrap_or_default().to_owned();

    let mut rows = Vec::new();
    for name in ["nginx", "caddy", "apache", "lighttpd"] {
        let into = Folder::new();
        let port = Port::free();
        let listen = port.address().to_string();
        tool().args(["config", name, "--listen", &listen, "--output"]).arg(into.path()).run()?;
        let configured = Running::start(name, &files(&into)?, port);
        let port = Port::free();
        let plain = Running::start(name, &plain(name, &tree, &port), port);
        for (what, reference, bar) in [("by tag", LARGE, 0.6), ("by digest", digest.as_str(), 0.9)] {
            let path = format!("/v2/{REPOSITORY}/manifests/{reference}");
            let wrk = |server: &Running, seconds: u64| {
                Invocation::new(part::installed("wrk"))
                    .args(["-t1", "-c32", &format!("-d{seconds}s"), "--timeout", "60s"])
                    .arg(format!("http://{}{path}", server.authority()))
            };
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for round in 0..runs {
                for turn in 0..2 {
                    let ours_turn = (round + turn) % 2 == 0;
                    let (server, figures) = if ours_turn { (&configured, &mut ours) } else { (&plain, &mut theirs) };
                    figures.push(rate(&wrk(server, seconds).run()?.stdout, Unit::RequestsPerSecond)?);
                }
            }
            let mut row = Row {
                what: format!("a 1.6 kB manifest {what}, `config {name}`"),
                command: wrk(&configured, seconds).to_string(),
                unit: Unit::RequestsPerSecond,
                ours: Figures::new(ours),
                peer: Some(Peer {
                    name: format!("{name}, plain root"),
                    command: wrk(&plain, seconds).to_string(),
                    figures: Figures::new(theirs),
                }),
                bar: Some(Bar::NoLessThanPeer(bar)),
            };
            row.name(&part::installed("wrk").display().to_string(), "wrk");
            row.name(&configured.authority(), "CONFIGURED");
            row.name(&plain.authority(), "PLAIN");
            rows.push(row);
        }
    }
    Ok(rows)
}

enum Running {
    Nginx(Nginx),
    Other(WebServer),
}

impl Running {
    fn start(name: &str, files: &[(String, String)], port: Port) -> Self {
        if name == "nginx" {
            return Self::Nginx(Nginx::start_http(&files[0].1, port));
        }
        Self::Other(WebServer::start(name, files, Extent::Site, port))
    }

    fn authority(&self) -> String {
        match self {
            Self::Nginx(nginx) => nginx.authority(),
            Self::Other(server) => server.authority(),
        }
    }
}

/// What `roadstead config` wrote, scripts last.
fn files(folder: &Folder) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder.path())? {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read_to_string(entry.path())?));
    }
    files.sort_by_key(|(name, _)| (name.ends_with(".lua"), name.clone()));
    Ok(files)
}

/// A site that serves the same files with one type for all.
fn plain(name: &str, tree: &Path, port: &Port) -> Vec<(String, String)> {
    const TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
    let (address, number) = (port.address(), port.number());
    let text = match name {
        "nginx" => format!(
            "sendfile on; keepalive_requests 1000000; types {{ }} server {{ listen {address}; root {tree:?}; default_type {TYPE}; }}"
        ),
        "caddy" => format!(
            "http://:{number} {{\n bind 127.0.0.1\n root * {tree:?}\n header Content-Type {TYPE}\n file_server\n}}\n"
        ),
        "apache" => format!(
            "Listen {address}\n<VirtualHost {address}>\nDocumentRoot {tree:?}\nMaxKeepAliveRequests 0\n\
             <Directory {tree:?}>\nOptions FollowSymLinks\nAllowOverride None\nRequire all granted\nForceType {TYPE}\n\
             </Directory>\n</VirtualHost>\n"
        ),
        _ => format!(
            "$SERVER[\"socket\"] == \"{address}\" {{\n server.document-root = {tree:?}\n mimetype.assign = ( \"\" => \"{TYPE}\" )\n}}\n"
        ),
    };
    vec![("plain.conf".to_owned(), text)]
}
