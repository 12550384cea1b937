//! Pushes into a server over files, beside distribution 3; and what pushes leave of it for others.

mod discard;
mod exchange;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use roadstead_parts::{Distribution, Generation, Invocation, Port, part};

use crate::contest::Ground;
use crate::corpus::{IMAGES, LARGE, MANY, REPOSITORY, Scale};
use crate::made::MadeTree;
use crate::measure::{Figures, Program};
use crate::registry::Registry;
use crate::report::{Bar, Peer, Row, Unit};
use discard::Discard;
use exchange::{Exchange, Image, Slow};

/// How a push may compare with the same into distribution: of a large image, and of many small ones by many clients.
const LARGE_PUSH: Bar = Bar::NoMoreThanPeer(1.0 / 1.5);
const MANY_PUSH: Bar = Bar::NoMoreThanPeer(1.0 / 3.0);
/// What a thousand slow uploads may take of memory, and how much longer others may wait beside them.
const SLOW_PEAK: Bar = Bar::AtMost((200 << 20) as f64);
const BESIDE_SLOW: Bar = Bar::NoMoreThanPeer(2.0);
/// How much longer a new tag may take where there are a thousand times as many.
const NEW_TAG: Bar = Bar::NoMoreThanPeer(3.0);
/// How long a server may take to start, in seconds.
const START: Bar = Bar::AtMost(1.0);

/// How many clients push small images at a time.
const CLIENTS: usize = 16;

impl Scale {
    const fn slow_uploads(self) -> usize {
        match self {
            Self::Full => 1000,
            Self::Tiny => 20,
        }
    }

    /// How many tags a small and a large repository have, and how many repositories a large tree.
    const fn names(self) -> [usize; 3] {
        match self {
            Self::Full => [100, 100_000, 100_000],
            Self::Tiny => [2, 20, 20],
        }
    }
}

pub(crate) fn measure(
    roadstead: &Path,
    work: &Path,
    registry: &Registry,
    runs: usize,
    seconds: u64,
    scale: Scale,
) -> anyhow::Result<Vec<Row>> {
    let ground = Ground { work, runs };
    let bench = Bench { ground, roadstead };
    let mut rows = bench.large(registry)?;
    rows.extend(bench.many(registry)?);
    rows.extend(bench.pulls(registry, seconds, scale)?);
    rows.extend(bench.names(scale)?);
    ground.clear()?;
    for row in &mut rows {
        row.name(&part::installed("wrk").display().to_string(), "wrk");
        row.name(&ground.destination().display().to_string(), "TREE");
        row.name(&work.display().to_string(), "WORK");
        row.name(&roadstead.display().to_string(), "roadstead");
    }
    Ok(rows)
}

struct Bench<'a> {
    ground: Ground<'a>,
    roadstead: &'a Path,
}

/// Who takes pushes.
enum Taker {
    Ours(Server),
    Distribution(Distribution),
    Discard(Discard),
}

impl Taker {
    fn authority(&self) -> String {
        match self {
            Self::Ours(server) => server.port.address().to_string(),
            Self::Distribution(distribution) => distribution.authority(),
            Self::Discard(discard) => discard.authority(),
        }
    }
}

/// Which of them.
#[derive(Clone, Copy)]
enum Kind {
    Ours,
    Distribution,
    Keep,
    Discard,
}

/// What pushes into one of them took, in seconds.
#[derive(Default)]
struct Pushed {
    acknowledged: Vec<f64>,
    /// Until the disk had everything.
    synced: Vec<f64>,
}

/// The folders of servers that are pushed into.
struct Stores {
    name: &'static str,
    /// Whether they stay when their server has ended.
    stay: bool,
}

/// `roadstead serve --push`, until it is dropped.
struct Server {
    child: Child,
    port: Port,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(roadstead: &Path, tree: &Path) -> anyhow::Result<Self> {
        let port = Port::free();
        let child = Command::new(roadstead)
            .args(["--quiet", "--tree"])
            .arg(tree)
            .args(["serve", "--push", "--anonymous-push", "--max-pushes", "4096", "--listen"])
            .arg(port.address().to_string())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()?;
        let mut server = Self { child, port };
        let begun = Instant::now();
        while !server.port.answers() {
            if let Some(status) = server.child.try_wait()? {
                bail!("`roadstead serve --push` ended with {status}");
            }
            if begun.elapsed() > Duration::from_secs(60) {
                bail!("`roadstead serve --push` does not listen after a minute");
            }
            std::thread::yield_now();
        }
        Ok(server)
    }

    /// The largest resident set so far, in bytes.
    fn peak(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel says no VmHWM")?;
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024.0)
    }
}

/// Everything of an image that a tree has under a tag.
fn read_image(tree: &Path, tag: &str) -> anyhow::Result<Image> {
    let repository = tree.join("v2").join(MANY);
    let manifest = fs::read(repository.join("manifests").join(tag))?;
    let said: serde_json::Value = serde_json::from_slice(&manifest)?;
    let layers = said["layers"].as_array().context("an image has layers")?;
    let digests = std::iter::once(&said["config"]).chain(layers).filter_map(|blob| blob["digest"].as_str());
    let blobs = digests.map(|digest| Ok((digest.to_owned(), fs::read(repository.join("blobs").join(digest))?)));
    Ok(Image {
        tag: tag.to_owned(),
        media_type: said["mediaType"].as_str().context("it says its type")?.to_owned(),
        blobs: blobs.collect::<anyhow::Result<_>>()?,
        manifest,
    })
}

/// Pushes images over as many connections as there are clients. Returns how long that took.
fn push_over_connections(server: SocketAddr, images: &[Image]) -> anyhow::Result<Duration> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let client = || {
            let mut exchange = Exchange::open(server)?;
            while let Some(image) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
                exchange.push(MANY, image)?;
            }
            Ok(())
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let ended = clients.into_iter().map(|client| client.join().unwrap_or_else(|_| bail!("a client panicked")));
        ended.collect::<anyhow::Result<()>>()
    })?;
    Ok(begun.elapsed())
}

impl Bench<'_> {
    fn data(&self) -> PathBuf {
        self.ground.destination()
    }

    fn tool(&self, tree: &Path) -> Program {
        Program::new(self.roadstead).args(["--quiet", "--tree"]).arg(tree)
    }

    /// Starts a server whose store is a folder.
    fn start(&self, kind: Kind, folder: &Path) -> anyhow::Result<Taker> {
        Ok(match kind {
            Kind::Ours => Taker::Ours(Server::start(self.roadstead, folder)?),
            Kind::Distribution => Taker::Distribution(Generation::V3.registry().data(folder).start()),
            Kind::Keep => {
                fs::create_dir_all(folder)?;
                Taker::Discard(Discard::start(Some(folder))?)
            }
            Kind::Discard => Taker::Discard(Discard::start(None)?),
        })
    }

    /// Pushes into empty stores by turns: ours, distribution's, files without names, and none. Whoever calls removes them when
    /// all is done, if they have many small files: ext4 without a journal looks at each inode that was freed within a minute
    /// or more before it gives away another, which takes longer than the pushes.
    fn pushes(&self, stores: &Stores, push: impl Fn(&str) -> anyhow::Result<Duration>) -> anyhow::Result<[Pushed; 4]> {
        const KINDS: [Kind; 4] = [Kind::Ours, Kind::Distribution, Kind::Keep, Kind::Discard];
        let sync = Program::new(&part::installed("sync")).arg("-f").arg(self.ground.work);
        let mut all: [Pushed; 4] = Default::default();
        for round in 0..self.ground.runs {
            for turn in 0..KINDS.len() {
                let side = (round + turn) % KINDS.len();
                let taker = self.start(KINDS[side], &self.data().join(format!("{}-{round}-{turn}", stores.name)))?;
                sync.run(&self.ground.log())?;
                let acknowledged = push(&taker.authority())?;
                let after = sync.run(&self.ground.log())?;
                all[side].acknowledged.push(acknowledged.as_secs_f64());
                all[side].synced.push((acknowledged + after.wall).as_secs_f64());
                drop(taker);
                if !stores.stay {
                    self.ground.clear()?;
                }
            }
        }
        Ok(all)
    }

    /// What pushes took beside distribution, and beside nothing.
    fn rows(
        &self,
        what: &str,
        command: &str,
        bar: Bar,
        stores: &Stores,
        push: impl Fn(&str) -> anyhow::Result<Duration>,
    ) -> anyhow::Result<Vec<Row>> {
        let [ours, distribution, keep, discard] = self.pushes(stores, push)?;
        let synced = format!("{command} && sync -f DEST");
        let row = |after: &str, command: &str, ours: &[f64], peer: (&str, &[f64]), bar| Row {
            what: format!("{what}{after}"),
            command: command.to_owned(),
            unit: Unit::Seconds,
            ours: Figures::new(ours.to_vec()),
            peer: Some(Peer {
                name: peer.0.into(),
                command: command.to_owned(),
                figures: Figures::new(peer.1.to_vec()),
            }),
            bar,
        };
        let ours_alone = |name, peer: &Pushed| row("", command, &ours.acknowledged, (name, &peer.acknowledged), None);
        Ok(vec![
            row(", and `sync -f`", &synced, &ours.synced, ("distribution 3", &distribution.synced), Some(bar)),
            ours_alone("distribution 3", &distribution),
            ours_alone("a server that hashes, writes and syncs bytes", &keep),
            ours_alone("a server that keeps nothing", &discard),
        ])
    }

    /// The large image by crane.
    fn large(&self, registry: &Registry) -> anyhow::Result<Vec<Row>> {
        let layout = self.ground.work.join("layout");
        let crane = part::built("bin/crane");
        if layout.exists() {
            fs::remove_dir_all(&layout)?;
        }
        let pull = Program::new(&crane).args(["pull", "--insecure", "--format=oci", &registry.image(LARGE)]);
        pull.arg(&layout).run(&self.ground.log())?;
        let push = |authority: &str| {
            let image = format!("{authority}/{REPOSITORY}:{LARGE}");
            Program::new(&crane).args(["push", "--insecure"]).arg(&layout).arg(image)
        };
        let command = push("SERVER").to_string();
        // A disk that is thin takes longer for bytes where it never had any.
        let stores = Stores { name: "large", stay: false };
        self.ground.clear()?;
        let rows = self.rows("push of 600 MB in 6 layers", &command, LARGE_PUSH, &stores, |authority| {
            Ok(push(authority).run(&self.ground.log())?.wall)
        })?;
        fs::remove_dir_all(&layout)?;
        Ok(rows)
    }

    /// Many small images by many clients: processes, of `roadstead copy` for all, since that starts quickly; and connections that
    /// cost nearly nothing, since even such processes take most of the time.
    fn many(&self, registry: &Registry) -> anyhow::Result<Vec<Row>> {
        let tree = self.ground.work.join("many");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        let names: Vec<String> = (0..IMAGES).map(|number| format!("build-{number:03}")).collect();
        let add = names
            .iter()
            .fold(self.tool(&tree).arg("add"), |add, name| add.arg(format!("{}/{MANY}:{name}", registry.authority())));
        add.run(&self.ground.log())?;
        let list = self.ground.work.join("many.txt");
        fs::write(&list, names.join("\n"))?;
        let push = |authority: &str| {
            let one = self.tool(&tree).arg("copy").arg(format!("tree:{MANY}:{{}}"));
            let one = one.arg(format!("docker://{authority}/{MANY}:{{}}"));
            Program::new(&part::installed("xargs"))
                .args(["-P", &CLIENTS.to_string(), "-I", "{}", "-a"])
                .arg(&list)
                .args(one.words().iter().map(String::as_str))
        };
        let what = format!("push of {IMAGES} small images by {CLIENTS} clients");
        let stores = Stores { name: "processes", stay: true };
        let mut rows = self.rows(&what, &push("SERVER").to_string(), MANY_PUSH, &stores, |authority| {
            Ok(push(authority).run(&self.ground.log())?.wall)
        })?;
        let images: Vec<Image> = names.iter().map(|name| read_image(&tree, name)).collect::<Result<_, _>>()?;
        let what = format!("push of {IMAGES} small images over {CLIENTS} connections");
        let command = "HEAD, POST, PUT of each blob and PUT of each manifest";
        let stores = Stores { name: "connections", stay: true };
        rows.extend(self.rows(&what, command, MANY_PUSH, &stores, |authority| {
            push_over_connections(authority.parse()?, &images)
        })?);
        fs::remove_dir_all(&tree)?;
        fs::remove_file(&list)?;
        Ok(rows)
    }

    /// What was pushed, pulled again; alone, and beside many uploads that hardly move.
    fn pulls(&self, registry: &Registry, seconds: u64, scale: Scale) -> anyhow::Result<Vec<Row>> {
        self.ground.clear()?;
        let Taker::Ours(server) = self.start(Kind::Ours, &self.data())? else { bail!("that is ours") };
        let distribution = Generation::V3.registry().start();
        let crane = part::built("bin/crane");
        let authorities = [server.port.address().to_string(), distribution.authority()];
        for authority in &authorities {
            let to = format!("{authority}/{REPOSITORY}:{LARGE}");
            let copy = Program::new(&crane).args(["copy", "--insecure", &registry.image(LARGE), &to]);
            copy.run(&self.ground.log())?;
        }
        let layout = self.ground.work.join("layout");
        let pull = |authority: &str| {
            let image = format!("{authority}/{REPOSITORY}:{LARGE}");
            Program::new(&crane).args(["pull", "--insecure", "--format=oci", &image]).arg(&layout)
        };
        let latency = |authority: &str| {
            Invocation::new(part::installed("wrk"))
                .args(["-t1", "-c32", "--latency", &format!("-d{seconds}s")])
                .args(["-H", "Accept: application/vnd.docker.distribution.manifest.v2+json"])
                .arg(format!("http://{authority}/v2/{REPOSITORY}/manifests/{LARGE}"))
        };
        let (mut pulls, mut waits) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
        for round in 0..self.ground.runs {
            for turn in 0..2 {
                let side = (round + turn) % 2;
                if layout.exists() {
                    fs::remove_dir_all(&layout)?;
                }
                pulls[side].push(pull(&authorities[side]).run(&self.ground.log())?.wall.as_secs_f64());
                waits[side].push(percentile(&latency(&authorities[side]).run()?.stdout)?);
            }
        }
        fs::remove_dir_all(&layout)?;
        let slow = Slow::start(server.port.address(), REPOSITORY, scale.slow_uploads())?;
        let mut beside = Vec::new();
        for _ in 0..self.ground.runs {
            beside.push(percentile(&latency(&authorities[0]).run()?.stdout)?);
        }
        let peak = server.peak()?;
        let uploads = slow.end()?;
        let [our_pulls, their_pulls] = pulls.map(Figures::new);
        let [our_waits, their_waits] = waits.map(Figures::new);
        let row = |what: String, command: String, ours: Figures, peer: Option<(&str, Figures)>, bar| Row {
            what,
            command: command.clone(),
            unit: Unit::Seconds,
            ours,
            peer: peer.map(|(name, figures)| Peer { name: name.into(), command, figures }),
            bar: Some(bar),
        };
        let wrk = latency("SERVER").to_string();
        let same = Bar::NoMoreThanPeer(1.0);
        Ok(vec![
            row(
                "pull of 600 MB in 6 layers".into(),
                pull("SERVER").to_string(),
                our_pulls,
                Some(("distribution 3", their_pulls)),
                same,
            ),
            row(
                "99 of 100 manifests, 32 connections".into(),
                wrk.clone(),
                our_waits.clone(),
                Some(("distribution 3", their_waits)),
                same,
            ),
            row(
                format!("the same beside {uploads} slow uploads"),
                wrk.clone(),
                Figures::new(beside),
                Some(("without them", our_waits)),
                BESIDE_SLOW,
            ),
            Row {
                what: "peak memory of that".into(),
                command: wrk,
                unit: Unit::Bytes,
                ours: Figures::one(peak),
                peer: None,
                bar: Some(SLOW_PEAK),
            },
        ])
    }

    /// New tags where there are few and where there are many, and the start over many repositories.
    fn names(&self, scale: Scale) -> anyhow::Result<Vec<Row>> {
        let [few, many, repositories] = scale.names();
        self.ground.clear()?;
        let tree = self.data();
        let mut made = MadeTree::new(&tree)?;
        for (repository, tags) in [("bench/few", few), ("bench/many", many)] {
            made.image(repository, "tag-000000")?;
            (1..tags).try_for_each(|tag| made.again(repository, "tag-000000", &format!("tag-{tag:06}")))?;
        }
        self.tool(&tree).args(["verify", "--repair"]).run(&self.ground.log())?;
        let server = Server::start(self.roadstead, &tree)?;
        let mut times = [const { Vec::new() }; 2];
        for round in 0..self.ground.runs.max(5) {
            for (repository, times) in ["bench/few", "bench/many"].into_iter().zip(&mut times) {
                let manifest = fs::read(tree.join(format!("v2/{repository}/manifests/tag-000000")))?;
                let media_type = "application/vnd.oci.image.manifest.v1+json";
                let mut exchange = Exchange::open(server.port.address())?;
                let begun = Instant::now();
                exchange.put_manifest(repository, &format!("new-{round}"), media_type, &manifest)?;
                times.push(begun.elapsed().as_secs_f64());
            }
        }
        drop(server);
        let [few_times, many_times] = times.map(Figures::new);

        self.ground.clear()?;
        let mut made = MadeTree::new(&tree)?;
        made.image("bench/app-000000", "latest")?;
        for repository in 1..repositories {
            made.copy("bench/app-000000", "latest", &format!("bench/app-{repository:06}"))?;
        }
        made.catalog(repositories, |repository| format!("bench/app-{repository:06}"))?;
        let mut starts = Vec::new();
        for _ in 0..self.ground.runs {
            let begun = Instant::now();
            let _server = Server::start(self.roadstead, &tree)?;
            starts.push(begun.elapsed().as_secs_f64());
        }
        let command = "PUT /v2/NAME/manifests/TAG".to_owned();
        Ok(vec![
            Row {
                what: format!("a new tag beside {many}"),
                command: command.clone(),
                unit: Unit::Seconds,
                ours: many_times,
                peer: Some(Peer { name: format!("beside {few}"), command, figures: few_times }),
                bar: Some(NEW_TAG),
            },
            Row {
                what: format!("start over {repositories} repositories"),
                command: "roadstead --tree TREE serve --push --anonymous-push".into(),
                unit: Unit::Seconds,
                ours: Figures::new(starts),
                peer: None,
                bar: Some(START),
            },
        ])
    }
}

/// How long the slowest of a hundred answers took, in seconds, as wrk prints it.
fn percentile(printed: &str) -> anyhow::Result<f64> {
    if let Some(line) = printed.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors")) {
        bail!("not everything was answered: {}", line.trim());
    }
    let value = printed.lines().find_map(|line| line.trim().strip_prefix("99%")).map(str::trim);
    let value = value.with_context(|| format!("wrk printed no 99%: {printed}"))?;
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &value[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        other => bail!("wrk printed the unit {other}"),
    };
    Ok(digits.parse::<f64>().with_context(|| format!("wrk printed {value}"))? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        assert_eq!(percentile("  Latency Distribution\n     50%   10.00us\n     99%    2.50ms\n").unwrap(), 2.5e-3);
        assert!(percentile("     99%    2.50ms\n  Socket errors: connect 0, read 1").is_err());
    }
}
