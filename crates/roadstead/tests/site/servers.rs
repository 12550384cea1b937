//! The real web servers, each with what its host renders.

use std::path::Path;

use roadstead::host::{self, HOSTS};
use roadstead::oci::Repository;
use roadstead::site::{Form, Site, Survey};
use roadstead_parts::{Extent, Port, WebServer};

use crate::client::Address;
use crate::fixture::Fixture;
use crate::nginx::Nginx;

/// A server over a tree.
pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) address: Address,
    running: Running,
}

enum Running {
    Nginx(Nginx),
    Other(WebServer),
}

impl Host {
    /// Starts a host, if it has this form.
    pub(crate) fn start(
        name: &str,
        tree: &Path,
        form: Form,
        name_prefix: Option<Repository>,
        cors: bool,
    ) -> Option<Self> {
        let host = host::find(name).unwrap();
        if name == "nginx" {
            let nginx = Nginx::start(tree, form, name_prefix, cors);
            return Some(Self { name: "nginx", address: nginx.address.clone(), running: Running::Nginx(nginx) });
        }
        let root = tree.to_str().unwrap().to_owned();
        Self::with(host, host.name(), Site { root, form, name_prefix, cors, ..Site::default() })
    }

    /// Starts a program of Caddy's with a configuration that names what the tree holds now, or that is fixed.
    pub(crate) fn caddy(
        program: &'static str,
        fixture: &Fixture,
        form: Form,
        name_prefix: Option<Repository>,
        pinned: bool,
    ) -> Self {
        let root = fixture.folder.path().to_str().unwrap().to_owned();
        let survey =
            if pinned { fixture.runtime.block_on(Survey::of(&fixture.tree)).unwrap() } else { Survey::default() };
        let site = Site { root, form, name_prefix, pinned, survey, ..Site::default() };
        Self::with(host::find("caddy").unwrap(), program, site).unwrap()
    }

    fn with(host: &dyn host::Host, program: &'static str, site: Site) -> Option<Self> {
        let (port, form) = (Port::free(), site.form);
        let listen = port.address();
        let site = Site { listen: listen.to_string(), ..site };
        let files: Vec<_> =
            host.render(&site).ok()?.into_iter().map(|file| (file.name, file.text.to_string())).collect();
        let extent = match form {
            Form::Site | Form::Edge => Extent::Site,
            Form::Snippet => Extent::Snippet,
            Form::Standalone => Extent::Standalone,
        };
        let server = WebServer::start(program, &files, extent, port);
        Some(Self { name: program, address: Address::Tcp(listen), running: Running::Other(server) })
    }

    /// What it complained about.
    pub(crate) fn log(&self) -> String {
        match &self.running {
            Running::Nginx(nginx) => nginx.log(),
            Running::Other(server) => server.log(),
        }
    }
}

/// The names of the servers that serve a tree as it lies: each can be started here.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let serves_trees = |host: &&&dyn host::Host| host.group() == host::Group::Server && host.public().is_none();
    HOSTS.iter().filter(serves_trees).map(|host| host.name())
}
