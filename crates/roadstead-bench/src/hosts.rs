//! Web servers with the configurations that are made for them, each beside itself with a plain root.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use roadstead_parts::{Extent, Folder, Invocation, Nginx, Port, WebServer, part};

use crate::corpus::{LARGE, REPOSITORY};
use crate::measure::Figures;
use crate::registry::Registry;
use crate::report::{Bar, Peer, Row, Unit};
use crate::serving::rate;

/// A server with what is made for it.
pub(crate) struct Form {
    server: &'static str,
    /// The host of `config`, and options.
    config: &'static [&'static str],
    /// What it is to reach of the server's rate for plain files, by tag and by digest.
    bars: [f64; 2],
}

/// The servers that a machine has from Debian.
pub(crate) const FORMS: &[Form] = &[
    Form { server: "nginx", config: &["nginx"], bars: [0.6, 0.9] },
    Form { server: "caddy", config: &["caddy"], bars: [0.6, 0.6] },
    Form { server: "caddy", config: &["caddy", "--pinned"], bars: [0.9, 0.9] },
    Form { server: "apache", config: &["apache"], bars: [0.6, 0.9] },
    Form { server: "lighttpd", config: &["lighttpd"], bars: [0.6, 0.9] },
];

/// Those that are newer there, and take long to build.
pub(crate) const NEWER: &[Form] = &[
    Form { server: "caddy-2.11", config: &["caddy"], bars: [0.6, 0.6] },
    Form { server: "caddy-2.11", config: &["caddy", "--pinned"], bars: [0.9, 0.9] },
];

/// Tags beside the one that is asked for, as many before it as behind.
const TAGS: usize = 1000;

pub(crate) fn measure(
    roadstead: &Path,
    registry: &Registry,
    runs: usize,
    seconds: u64,
    forms: &[Form],
) -> anyhow::Result<Vec<Row>> {
    let folder = Folder::new();
    let tree = folder.join("registry");
    let tool = || Invocation::new(roadstead).arg("--tree").arg(&tree);
    tool().arg("add").arg(registry.image(LARGE)).run()?;
    let manifests = tree.join("v2").join(REPOSITORY).join("manifests");
    let target = std::fs::read_link(manifests.join(LARGE))?;
    for number in 0..TAGS {
        let beginning = if number % 2 == 0 { "a" } else { "z" };
        std::os::unix::fs::symlink(&target, manifests.join(format!("{beginning}{number}")))?;
    }
    let digest = tool().args(["inspect", "--format", "json", &format!("{REPOSITORY}:{LARGE}")]).run()?.stdout;
    let digest = serde_json::from_str::<serde_json::Value>(&digest)?["digest"].as_str().unwrap_or_default().to_owned();

    let mut rows = Vec::new();
    for &Form { server: name, config, bars } in forms {
        let form = config.join(" ");
        let newer = if name == config[0] { String::new() } else { format!(" in {name}") };
        let into = Folder::new();
        let port = Port::free();
        let listen = port.address().to_string();
        let config = tool().arg("config").args(config);
        config.args(["--listen", &listen, "--output"]).arg(into.path()).run()?;
        let configured = Running::start(name, &files(&into)?, port);
        let port = Port::free();
        let plain = Running::start(name, &plain(name, &tree, &port), port);
        for ((what, reference), bar) in [("by tag", LARGE), ("by digest", digest.as_str())].into_iter().zip(bars) {
            let path = format!("/v2/{REPOSITORY}/manifests/{reference}");
            let sides = [&configured, &plain].map(|server| Side::new(server, &path, seconds));
            let [mut ours, mut theirs] = [(); 2].map(|()| Asked::default());
            for round in 0..runs {
                for turn in 0..2 {
                    let first = (round + turn) % 2 == 0;
                    let (side, asked) = if first { (&sides[0], &mut ours) } else { (&sides[1], &mut theirs) };
                    side.ask(asked)?;
                }
            }
            let row = |what: String, unit, [ours, theirs]: [Vec<f64>; 2], bar| {
                let peer = Peer {
                    name: format!("{name}, plain root"),
                    command: sides[1].wrk.to_string(),
                    figures: Figures::new(theirs),
                };
                let command = sides[0].wrk.to_string();
                let mut row = Row { what, command, unit, ours: Figures::new(ours), peer: Some(peer), bar };
                row.name(&part::installed("wrk").display().to_string(), "wrk");
                row.name(&configured.authority(), "CONFIGURED");
                row.name(&plain.authority(), "PLAIN");
                row
            };
            let rates = [ours.rates, theirs.rates];
            let bar = Some(Bar::NoLessThanPeer(bar));
            rows.push(row(
                format!("a 1.6 kB manifest {what}, `config {form}`{newer}"),
                Unit::RequestsPerSecond,
                rates,
                bar,
            ));
            let times = [ours.times, theirs.times];
            rows.push(row("processor time of the server for one of these".to_owned(), Unit::Seconds, times, None));
        }
    }
    Ok(rows)
}

/// A server, and how it is asked.
struct Side<'a> {
    server: &'a Running,
    wrk: Invocation,
}

/// What came of it, each time.
#[derive(Default)]
struct Asked {
    /// Requests a second.
    rates: Vec<f64>,
    /// The server's processor time for a request, in seconds.
    times: Vec<f64>,
}

impl<'a> Side<'a> {
    fn new(server: &'a Running, path: &str, seconds: u64) -> Self {
        let wrk = Invocation::new(part::installed("wrk"))
            .args(["-t1", "-c32", &format!("-d{seconds}s"), "--timeout", "60s"])
            .arg(format!("http://{}{path}", server.authority()));
        Self { server, wrk }
    }

    fn ask(&self, asked: &mut Asked) -> anyhow::Result<()> {
        let before = self.server.processor_time();
        let printed = self.wrk.run()?.stdout;
        let time = self.server.processor_time() - before;
        asked.rates.push(rate(&printed, Unit::RequestsPerSecond)?);
        let requests = printed.lines().find_map(|line| line.split_once(" requests in ")?.0.trim().parse::<f64>().ok());
        let requests = requests.with_context(|| format!("wrk printed no number of requests: {printed}"))?;
        asked.times.push(time.as_secs_f64() / requests);
        Ok(())
    }
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

    fn processor_time(&self) -> Duration {
        match self {
            Self::Nginx(nginx) => nginx.processor_time(),
            Self::Other(server) => server.processor_time(),
        }
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
        "caddy" | "caddy-2.11" => format!(
            "http://:{number} {{\n bind 127.0.0.1\n root * {tree:?}\n header Content-Type {TYPE}\n file_server\n}}\n"
        ),
        "apache" => format!(
            "Listen {address}\n<VirtualHost {address}>\nDocumentRoot {tree:?}\nMaxKeepAliveRequests 0\n\
             <Directory \"/\">\nAllowOverride None\n</Directory>\n\
             <Directory {tree:?}>\nOptions FollowSymLinks\nAllowOverride None\nRequire all granted\nForceType {TYPE}\n\
             </Directory>\n</VirtualHost>\n"
        ),
        _ => format!(
            "$SERVER[\"socket\"] == \"{address}\" {{\n server.document-root = {tree:?}\n mimetype.assign = ( \"\" => \"{TYPE}\" )\n}}\n"
        ),
    };
    vec![("plain.conf".to_owned(), text)]
}
