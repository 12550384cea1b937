//! The tree over HTTP.

use std::path::Path;

use anyhow::{Context as _, bail};
use roadstead_parts::{Crane, Distribution, Folder, Generation, Invocation, Isolation, Nginx, Port, Served, part};

use crate::corpus::{Corpus, LARGE, REPOSITORY};
use crate::measure::Figures;
use crate::registry::Registry;
use crate::report::{Bar, Peer, Row, Unit};

pub(crate) fn measure(
    roadstead: &Path,
    registry: &Registry,
    corpus: &Corpus,
    runs: usize,
    seconds: u64,
) -> anyhow::Result<Vec<Row>> {
    let folder = Folder::new();
    let tree = folder.join("registry");
    let tool = || Invocation::new(roadstead).arg("--tree").arg(&tree);
    tool().arg("add").arg(registry.image(LARGE)).run()?;

    let port = Port::free();
    let listen = port.address().to_string();
    let serve = tool().args(["serve", "--listen", &listen]);
    let serve = Serve {
        command: serve.to_string(),
        _served: Served::start(&serve, Isolation::None, Folder::new(), || port.answers()),
        port,
    };

    let port = Port::free();
    let listen = port.address().to_string();
    let ours = tool().args(["config", "nginx", "--standalone", "--listen", &listen]).run()?.stdout;
    let configured = Nginx::start(&ours, port);

    let port = Port::free();
    let plain = Nginx::start_http(&plain(&tree, &port), port);

    let distribution = Generation::V3.registry().start();
    let copied = format!("{}/{REPOSITORY}:{LARGE}", distribution.authority());
    Crane.crane(&["copy", "--insecure", &registry.image(LARGE), &copied])?;

    let servers = Servers { serve, configured, plain, distribution };
    let manifest = format!("/v2/{REPOSITORY}/manifests/{LARGE}");
    let blob = format!("/v2/{REPOSITORY}/blobs/{}", corpus.largest);
    let mut rows =
        servers.compare("a 1.6 kB manifest by tag", &manifest, 32, Unit::RequestsPerSecond, runs, seconds)?;
    rows.extend(servers.compare("a 236 MB blob", &blob, 8, Unit::BytesPerSecond, runs, seconds)?);
    for row in &mut rows {
        row.name(&roadstead.display().to_string(), "roadstead");
        row.name(&part::installed("wrk").display().to_string(), "wrk");
        row.name(&tree.display().to_string(), "TREE");
        for (authority, name) in servers.authorities() {
            row.name(&authority, name);
        }
    }
    Ok(rows)
}

struct Serve {
    command: String,
    port: Port,
    _served: Served,
}

struct Servers {
    serve: Serve,
    configured: Nginx,
    plain: Nginx,
    distribution: Distribution,
}

/// As fast as nginx can be: everything kept open, one type for all.
fn plain(tree: &Path, port: &Port) -> String {
    format!(
        "sendfile on; tcp_nopush on; keepalive_requests 1000000; open_file_cache max=1000; types {{ }}
server {{ listen {}; root {tree:?}; default_type application/vnd.docker.distribution.manifest.v2+json; }}",
        port.address()
    )
}

impl Servers {
    fn authorities(&self) -> [(String, &'static str); 4] {
        [
            (self.serve.port.address().to_string(), "SERVE"),
            (self.configured.authority(), "CONFIGURED"),
            (self.plain.authority(), "PLAIN"),
            (self.distribution.authority(), "DISTRIBUTION"),
        ]
    }

    fn compare(
        &self,
        what: &str,
        path: &str,
        connections: u32,
        unit: Unit,
        runs: usize,
        seconds: u64,
    ) -> anyhow::Result<Vec<Row>> {
        let wrk = |url: &str, seconds: u64| {
            Invocation::new(part::installed("wrk"))
                .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--timeout", "60s"])
                .args(["-H", "Accept: application/vnd.docker.distribution.manifest.v2+json"])
                .arg(format!("{url}{path}"))
        };
        // What a peer is, and the bar for us beside it: for manifests its own configuration, for blobs distribution.
        let small = unit == Unit::RequestsPerSecond;
        let faster = Some(Bar::NoLessThanPeer(1.0));
        let serve = format!("http://{}", self.serve.port.address());
        let peers = [
            ("nginx, `config nginx`", self.configured.url(), faster.filter(|_| small)),
            ("nginx, plain root", self.plain.url(), faster.filter(|_| small)),
            ("distribution 3", self.distribution.url(), faster),
        ];
        let mut ours = Vec::new();
        let mut theirs = [const { Vec::new() }; 3];
        for round in 0..runs {
            for turn in 0..=peers.len() {
                let side = (round + turn) % (peers.len() + 1);
                let (url, figures) = match side.checked_sub(1) {
                    None => (&serve, &mut ours),
                    Some(peer) => (&peers[peer].1, &mut theirs[peer]),
                };
                figures.push(rate(&wrk(url, seconds).run()?.stdout, unit)?);
            }
        }
        let ours = Figures::new(ours);
        let row = |((name, url, bar), figures): ((&str, String, Option<Bar>), Vec<f64>)| Row {
            what: format!("serving {what}"),
            command: format!("{}; {}", self.serve.command, wrk(&serve, seconds)),
            unit,
            ours: ours.clone(),
            peer: Some(Peer {
                name: name.into(),
                command: wrk(&url, seconds).to_string(),
                figures: Figures::new(figures),
            }),
            bar,
        };
        Ok(peers.into_iter().zip(theirs).map(row).collect())
    }
}

/// The rate that wrk prints.
pub(crate) fn rate(printed: &str, unit: Unit) -> anyhow::Result<f64> {
    if let Some(line) = printed.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors")) {
        bail!("not everything was answered: {}", line.trim());
    }
    let name = if unit == Unit::RequestsPerSecond { "Requests/sec:" } else { "Transfer/sec:" };
    let value = printed.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let value = value.with_context(|| format!("wrk printed no {name} {printed}"))?;
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &value[digits.len()..] {
        "" | "B" => 1.0,
        "KB" => 1024.0,
        "MB" => 1024.0 * 1024.0,
        "GB" => 1024.0 * 1024.0 * 1024.0,
        other => bail!("wrk printed the unit {other}"),
    };
    Ok(digits.parse::<f64>().with_context(|| format!("wrk printed {value}"))? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let printed = "Running 1s test\nRequests/sec:  12345.6\nTransfer/sec:      3.50GB\n";
        assert_eq!(rate(printed, Unit::RequestsPerSecond).unwrap(), 12345.6);
        assert_eq!(rate(printed, Unit::BytesPerSecond).unwrap(), 3.5 * 1024.0 * 1024.0 * 1024.0);
        assert!(rate("  Non-2xx or 3xx responses: 7\nRequests/sec: 1", Unit::RequestsPerSecond).is_err());
    }
}
