//! `roadstead publish ipfs:` and `car:FILE`

use std::path::Path;

use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use roadstead::http::ClientOptions;
use roadstead::oci::{Reference, Registry, Repository};
use roadstead::publish::ipfs::{ApiAddress, Gathered, IpfsError, IpfsSite, Kubo, Pin, Profile, RemotePin, Sent};
use roadstead::site::Survey;
use roadstead::tree::{Private, Tree};

use super::{ATTEMPTS, Publish};
use crate::args::{Global, Printed};
use crate::environment::Environment;
use crate::exit;
use crate::output::progress::Meter;
use crate::output::{Output, size};

/// What a tree becomes in IPFS.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options for IPFS")]
pub(crate) struct IpfsArgs {
    /// What settles the CIDs: unixfs-v1-2025, or unixfs-v0-2015 for those that `ipfs add` gives unless told otherwise
    #[arg(long, value_name = "PROFILE", default_value = Profile::default().as_str(), value_parser = profile())]
    cid_profile: Profile,

    /// Also put it here among the node's own files, where `ipfs files` shows it
    #[arg(long, value_name = "PATH", value_parser = mfs_path)]
    mfs: Option<String>,

    /// What the pin on the node, and that of a pinning service, is called
    #[arg(long, value_name = "NAME", default_value = "roadstead")]
    pin_name: String,

    /// Remove other pins of this name from the node: what was published before
    #[arg(long)]
    unpin_old: bool,

    /// Also have a pinning service keep it, one that `ipfs pin remote service ls` names
    #[arg(long, value_name = "SERVICE")]
    remote_pin: Option<String>,

    /// Wait until the pinning service has all of it
    #[arg(long, requires = "remote_pin")]
    wait: bool,

    /// The name that a DNSLink gives to it, for the record that is printed
    #[arg(long, value_name = "HOST", value_parser = dnslink)]
    dnslink: Option<String>,
}

fn profile() -> impl clap::builder::TypedValueParser<Value = Profile> {
    let of_name = |name: String| Profile::ALL.into_iter().find(|profile| profile.as_str() == name).unwrap_or_default();
    PossibleValuesParser::new(Profile::ALL.map(Profile::as_str)).map(of_name)
}

fn mfs_path(text: &str) -> Result<String, &'static str> {
    let path = text.trim_end_matches('/');
    if path.starts_with('/') { Ok(path.to_owned()) } else { Err("expected a path below /, such as /registry") }
}

fn dnslink(text: &str) -> Result<String, &'static str> {
    match text.parse::<Registry>() {
        Ok(_) if text.contains('.') && !text.contains(':') => Ok(text.to_owned()),
        _ => Err("expected a name in the DNS, such as registry.example.com"),
    }
}

impl IpfsArgs {
    /// Whether anything of it was asked for, which is for IPFS alone.
    pub(super) fn given(&self) -> Option<&'static str> {
        let Self { cid_profile, mfs, pin_name, unpin_old, remote_pin, wait, dnslink } = self;
        let given = [
            ("--cid-profile", *cid_profile != Profile::default()),
            ("--mfs", mfs.is_some()),
            ("--pin-name", pin_name != "roadstead"),
            ("--unpin-old", *unpin_old),
            ("--remote-pin", remote_pin.is_some()),
            ("--wait", *wait),
            ("--dnslink", dnslink.is_some()),
        ];
        given.into_iter().find_map(|(option, given)| given.then_some(option))
    }
}

/// Where it goes.
#[derive(Debug, Clone)]
pub(super) enum Place<'a> {
    /// A node, at an address or where the environment says.
    Node(Option<&'a ApiAddress>),
    /// An archive.
    Car(&'a Path),
}

/// What was published, as scripts read it.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    cid: String,
    cid_profile: &'static str,
    files: u64,
    blocks: u64,
    /// Of an archive with all blocks.
    car_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<Sent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_pin: Option<RemotePin>,
    dnslink: String,
    upstream: String,
}

pub(super) async fn run(typed: &Publish, to: Place<'_>, global: &Global, output: &Output) -> anyhow::Result<()> {
    let (args, dry_run, name_prefix) = (&typed.ipfs, typed.dry_run, typed.name_prefix.clone());
    let node = match &to {
        Place::Car(_) if args.mfs.is_some() || args.unpin_old || args.remote_pin.is_some() => {
            return Err(exit::usage("--mfs, --unpin-old and --remote-pin are for a node: ipfs:"));
        }
        Place::Node(address) if !dry_run => {
            let node = Kubo::new(
                typed.registry.tls().options(ClientOptions::default())?,
                address.cloned().map_or_else(node_at, Ok)?,
            )?;
            // Before anything is read that may take long.
            node.version().await?;
            Some(node)
        }
        _ => None,
    };
    let tree = crate::commands::open(global).await?;
    let without = typed.private.check(&tree, "IPFS").await?;
    let site = IpfsSite { tree: tree.clone(), profile: args.cid_profile, name_prefix, without: without.clone() };
    let meter = Meter::new(output);
    let seen = |bytes| meter.add(bytes);
    let mut steady = Steady {
        tree: &tree,
        without: &without,
        place: global.tree.to_string(),
        before: Survey::without(&tree, &without).await?,
        attempts: 0,
    };
    let (mut sent, mut remote_pin) = (None, None);
    let gathered = match (&to, &node) {
        (Place::Car(path), _) if !dry_run => site.write_car(path, &seen, async || steady.is_settled().await).await?,
        (_, None) => loop {
            let gathered = site.gather(&seen).await?;
            if steady.is_settled().await? {
                break gathered;
            }
        },
        (_, Some(node)) => {
            let (gathered, what) = send(node, output, &site, args, &mut steady, &seen).await?;
            sent = Some(what);
            if let Some(path) = &args.mfs {
                node.put_at(&gathered, path).await?;
            }
            if let Some(service) = &args.remote_pin {
                remote_pin = Some(node.pin_remotely(&gathered, service, &args.pin_name, args.wait).await?);
            }
            gathered
        }
    };
    meter.finish();
    let cid = gathered.root();
    let report = Report {
        dnslink: format!(
            "_dnslink.{} TXT \"dnslink=/ipfs/{cid}\"",
            args.dnslink.as_deref().unwrap_or("registry.example.com")
        ),
        upstream: match &args.dnslink {
            Some(host) => format!("http://127.0.0.1:8080/ipns/{host}"),
            None => format!("http://127.0.0.1:8080/ipfs/{cid}"),
        },
        cid,
        cid_profile: args.cid_profile.as_str(),
        files: gathered.files(),
        blocks: gathered.blocks(),
        car_bytes: gathered.bytes(),
        sent,
        remote_pin,
    };
    if output.format == Printed::Json {
        return output.json(&report);
    }
    say(&report, &to, args, dry_run, output);
    output.note(&advice(&report, &steady.before, site.name_prefix.as_ref()));
    output.result(&report.cid)
}

/// Sends what the node lacks, and has it kept there. If it turns out to lack more than it seemed to, everything is sent.
async fn send(
    node: &Kubo,
    output: &Output,
    site: &IpfsSite,
    args: &IpfsArgs,
    steady: &mut Steady<'_>,
    seen: &(impl Fn(u64) + Sync),
) -> anyhow::Result<(Gathered, Sent)> {
    let pin = Pin { name: &args.pin_name, alone: args.unpin_old };
    let mut all = false;
    loop {
        let gathered = site.gather(seen).await?;
        if !steady.is_settled().await? {
            continue;
        }
        let sent = match node.send(site, &gathered, all, seen).await {
            Err(IpfsError::Changing) if !steady.is_settled().await? => continue,
            sent => sent?,
        };
        match node.pin(&gathered, &pin).await {
            Ok(()) => return Ok((gathered, sent)),
            Err(error) if sent.present > 0 => {
                output
                    .note(&format!("sending everything, since the node lacks blocks that it seemed to have: {error}"));
                all = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a tree is still what it was.
struct Steady<'a> {
    tree: &'a Tree,
    without: &'a Private,
    place: String,
    before: Survey,
    attempts: u32,
}

impl Steady<'_> {
    /// Whether it has stayed the same since it was last looked at.
    async fn is_settled(&mut self) -> anyhow::Result<bool> {
        let now = Survey::without(self.tree, self.without).await?;
        if now == self.before {
            return Ok(true);
        }
        self.before = now;
        self.attempts += 1;
        anyhow::ensure!(
            self.attempts < ATTEMPTS,
            "{} changes again and again: try it when nobody adds to it",
            self.place
        );
        Ok(false)
    }
}

/// Where the environment says that the node of this machine listens: what `ipfs` itself reads.
fn node_at() -> anyhow::Result<ApiAddress> {
    let environment = Environment::of_this_process();
    let folder = environment.path("IPFS_PATH").or_else(|| Some(environment.home()?.join(".ipfs")));
    let Some(file) = folder.map(|folder| folder.join("api")) else { return Ok(ApiAddress::default()) };
    match std::fs::read_to_string(&file) {
        Ok(text) => text.trim().parse().with_context(|| format!("{} can't be used", file.display())),
        // No daemon has run there.
        Err(_) => Ok(ApiAddress::default()),
    }
}

fn say(report: &Report, to: &Place<'_>, args: &IpfsArgs, dry_run: bool, output: &Output) {
    let what = format!("{} files in {} blocks ({})", report.files, report.blocks, size(report.car_bytes));
    let line = match (to, &report.sent) {
        (Place::Car(path), _) if !dry_run => format!("{}: {what}", path.display()),
        (_, Some(sent)) => format!(
            "{what}: {} blocks sent ({}), {} contents already there",
            sent.blocks,
            size(sent.bytes),
            sent.present
        ),
        _ => format!("would be {what}"),
    };
    output.note(&line);
    if let (Some(state), Some(service)) = (report.remote_pin, &args.remote_pin) {
        output.note(&format!("{service}: {}", format!("{state:?}").to_lowercase()));
    }
}

/// What to do with a CID.
fn advice(report: &Report, survey: &Survey, name_prefix: Option<&Repository>) -> String {
    let mut lines =
        format!("{}\nroadstead serve --upstream {} --listen 127.0.0.1:5000", report.dnslink, report.upstream);
    let tagged = survey.repositories.iter().find_map(|(repository, names)| {
        let tag = names.iter().find(|named| matches!(named.reference, Reference::Tag(_)))?;
        Some((repository, &tag.reference))
    });
    if let Some((repository, tag)) = tagged {
        let prefix = name_prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        lines.push_str(&format!("\npodman pull --tls-verify=false 127.0.0.1:5000/{prefix}{repository}:{tag}"));
    }
    lines
}
