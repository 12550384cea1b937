//! Compose: one service, for `docker compose` and what else reads its files.
//!
//! A server's configuration lies beside and is mounted. Written into the file (`configs:` with `content:`) it would be one
//! file less; but Compose replaces variables in it, of which a configuration of nginx is full, and older ones don't know it.

use super::shell::{self, CONFIGURATION, PORT, SCRATCH, TREE, USERS, sequence, yaml};
use super::{ConfigFile, Group, Host, Unsupported};
use crate::site::{Around, Site};

/// Compose.
pub(super) struct Compose;

const NAME: &str = "compose";

impl Host for Compose {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Shell
    }

    fn summary(&self) -> &'static str {
        "a service of docker compose, around roadstead serve, nginx or Caddy"
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        shell::whole(NAME, site)?;
        shell::unused(NAME, "a claim to a volume", site.shell.claim.as_ref())?;
        let (around, users) = (site.shell.around, shell::users(NAME, site)?);
        let (user, group) = shell::runs_as(site);
        let (root, listen) = (shell::root(NAME, site)?, shell::listen(NAME, site)?);
        let run = shell::run_in_container(NAME, site)?;
        let mut text = format!(
            "# A registry of plain files. Made by roadstead; the same whatever the tree holds.
services:
  registry:
    image: {image}
    entrypoint: {command}
    user: \"{user}:{group}\"
    restart: unless-stopped
    read_only: true
    cap_drop: [ALL]
",
            image = yaml(shell::image(NAME, site)?),
            command = sequence(&run.command),
        );
        if around == Around::Caddy {
            // Or the kernel doesn't start it: the file in Caddy's image says that it needs this, though it listens above 1024.
            text.push_str("    cap_add: [NET_BIND_SERVICE]\n");
        }
        text.push_str("    security_opt: [\"no-new-privileges:true\"]\n");
        if around != Around::Serve {
            text.push_str(&format!("    tmpfs: [\"{SCRATCH}:mode=1777\"]\n"));
        }
        if !run.environment.is_empty() {
            text.push_str("    environment:\n");
        }
        for (name, value) in &run.environment {
            text.push_str(&format!("      {name}: {}\n", yaml(value)));
        }
        text.push_str(&format!(
            "    ports:
      - {{target: {PORT}, host_ip: \"{}\", published: \"{}\"}}
    volumes:
",
            listen.ip(),
            listen.port()
        ));
        let file = run.configuration.as_ref().map(|file| file.name.as_str());
        let beside = file.map(|name| (format!("./{name}"), format!("{CONFIGURATION}/{name}")));
        // A dollar begins a variable of Compose; two are one dollar.
        let plain = |place: &str| place.replace('$', "$$");
        let users_too = users.map(|folder| (plain(folder), USERS.to_owned(), false));
        let read = [(plain(&root), TREE.to_owned())].into_iter().chain(beside);
        for (source, target, read_only) in read.map(|(source, target)| (source, target, true)).chain(users_too) {
            text.push_str(&format!(
                "      - type: bind
        source: {}
        target: {target}
        read_only: {read_only}
        bind: {{create_host_path: false}}
",
                yaml(&source)
            ));
        }
        // Where there are users, nobody can ask without a name.
        if users.is_none() {
            text.push_str(&format!(
                "    healthcheck:
      test: {}
      interval: 30s
      timeout: 10s
      start_period: 10s
",
                sequence(&health(around, &run.command[0]))
            ));
        }
        let compose = ConfigFile {
            name: "compose.yaml".to_owned(),
            place: "run it with docker compose up -d in its folder".to_owned(),
            text: text.into(),
        };
        let beside = run.configuration.map(|file| ConfigFile { place: "beside compose.yaml".to_owned(), ..file });
        Ok(std::iter::once(compose).chain(beside).collect())
    }
}

/// What tells whether it answers, with what its image has: of ours nothing is known but that the program is there.
fn health(around: Around, program: &str) -> Vec<String> {
    let own = format!("http://127.0.0.1:{PORT}");
    if around == Around::Serve {
        return ["CMD", program, "doctor", "--quiet", "--client", "specification", &own].map(str::to_owned).to_vec();
    }
    let ask = format!("wget -q -O /dev/null {own}/v2/ || curl -fs -o /dev/null {own}/v2/");
    vec!["CMD-SHELL".to_owned(), ask]
}
