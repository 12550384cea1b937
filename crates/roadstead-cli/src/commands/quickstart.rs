//! `roadstead quickstart`

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use roadstead::http::{Client, ClientOptions, EndpointOptions};
use roadstead::image::{Copied, Copier, CopyOptions, Silent, Sink as _, Source as _, greeting_image};
use roadstead::medium::registry::RegistrySource;
use roadstead::oci::{Reference, Registry, Repository, Tag};
use roadstead::server::{ServeOptions, Server};
use roadstead::store::{MemoryStore, Naming};
use roadstead::tree::Tree;

use crate::args::{Global, Printed};
use crate::listen_args;
use crate::output::Output;

/// What the image is called.
const NAME: &str = "hello";

/// See it work: an image in a tree, served, pulled and verified
///
/// Puts an image that ships in this program into the tree, serves the tree, pulls the image back over HTTP, verifies every
/// byte, prints what to type next, and goes on serving until Ctrl-C. Needs no network.
#[derive(Debug, clap::Args)]
pub(crate) struct Quickstart {
    /// Where to listen, ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000", value_parser = listen_args::address)]
    listen: SocketAddr,

    /// Stop when the image was pulled and verified, instead of serving it
    #[arg(long)]
    check: bool,
}

#[derive(serde::Serialize)]
struct Report {
    image: String,
    digest: String,
    url: String,
}

pub(crate) async fn run(args: Quickstart, global: &Global, output: &Output) -> anyhow::Result<()> {
    let tree = super::create_tree(&global.tree, &global.bucket, false).await?;
    let repository: Repository = NAME.parse().context("the image's name is a repository's")?;
    let added = add(&tree, &repository).await?;
    let shown = &global.tree;
    output.note(&format!("{NAME}:latest is in the tree at {shown}"));

    let server =
        Server::bind(tree, ServeOptions { listen: vec![args.listen.into()], ..ServeOptions::default() }).await?;
    let address = server.local_addr().context("the server listens at an address")?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async {
        // A sender that is gone stops the server as well.
        let _ = stopped.await;
    }));
    output.note(&format!("the tree is served on http://{address}"));

    let pulled = pull(address, &repository).await?;
    ensure!(
        pulled.descriptor.digest == added.descriptor.digest,
        "{} was pulled, but {} was served",
        pulled.descriptor.digest,
        added.descriptor.digest
    );
    let digest = pulled.descriptor.digest;
    output.note(&format!("pulled back over HTTP and verified: {digest}"));
    let image = format!("{}/{NAME}", place(address));
    if output.format == Printed::Json {
        output.json(&Report { image: image.clone(), digest: digest.to_string(), url: format!("http://{address}") })?;
    }
    if !args.check {
        output.note(&format!(
            "\nNow run it, from another terminal:\n\n  docker run --rm {image}\n  podman run --rm --tls-verify=false {image}\n\n\
             Then add images of your own; they are served at once:\n\n  roadstead --tree {shown} add alpine:3.20\n  \
             docker pull {}/alpine:3.20\n\nCtrl-C stops serving. The tree stays: `roadstead serve` serves it again, and\n\
             `roadstead config nginx` lets nginx do it.",
            place(address)
        ));
        crate::interrupted().await;
    }
    let _ = stop.send(());
    serving.await.context("the server failed")?;
    Ok(())
}

/// Where clients on this machine find the server.
fn place(address: SocketAddr) -> String {
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

async fn add(tree: &Tree, repository: &Repository) -> anyhow::Result<Copied> {
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    let sink = tree.repository(repository).await?;
    let latest = Reference::Tag(Tag::latest());
    let copied = copier.copy(&greeting_image(), &latest, &*sink, &[Tag::latest()]).await?;
    sink.finish().await?;
    Ok(copied)
}

/// Pulls as any client would, into a tree in memory, which verifies every byte.
async fn pull(address: SocketAddr, repository: &Repository) -> anyhow::Result<Copied> {
    let client = Client::new(ClientOptions::default())?;
    let registry: Registry = {
        // A wildcard is no address to connect to.
        let ip = match address.ip() {
            ip if !ip.is_unspecified() => ip,
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(ip, address.port()).to_string().parse()?
    };
    let options = EndpointOptions { plain_http: true, ..EndpointOptions::default() };
    let source = RegistrySource::new(client.endpoint(&registry, options)?, Vec::new());
    let tree = Tree::create(Arc::new(MemoryStore::new(Naming::Copies))).await?;
    let copier = Copier::new(CopyOptions::default(), Arc::new(Silent));
    let sink = tree.repository(repository).await?;
    let latest = Reference::Tag(Tag::latest());
    let copied = copier.copy(&*source.repository(repository), &latest, &*sink, &[Tag::latest()]).await?;
    sink.finish().await?;
    Ok(copied)
}
