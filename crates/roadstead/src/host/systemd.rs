//! systemd: a service that may read the tree, write nothing, and become nobody else.
//!
//! The tree is bound onto itself: so it is there, read-only, wherever it lies, while all else below the home folders is
//! not. A folder above it that is closed to others doesn't matter then.
//!
//! With a socket of its own, systemd listens in place of the service, which needs no right to do so then.

use std::net::SocketAddr;

use super::shell::{self, Places};
use super::{ConfigFile, Group, Host, Unsupported};
use crate::site::{Around, Site};

/// systemd.
pub(super) struct Systemd;

const NAME: &str = "systemd";

impl Host for Systemd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Shell
    }

    fn summary(&self) -> &'static str {
        "a closed-in unit of systemd, around roadstead serve, nginx or Caddy"
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        shell::whole(NAME, site)?;
        shell::unused(NAME, "a container image", site.shell.image.as_ref())?;
        shell::unused(NAME, "a claim to a volume", site.shell.claim.as_ref())?;
        let (around, users) = (site.shell.around, shell::users(NAME, site)?.map(unquoted).transpose()?);
        let (root, listen) = (root(site)?, listen(site)?);
        let usual = match around {
            Around::Serve => "/usr/local/bin/roadstead",
            Around::Nginx => "/usr/sbin/nginx",
            Around::Caddy => "/usr/bin/caddy",
        };
        let program = shell::program(NAME, site, usual)?;
        if !program.starts_with('/') {
            return Err(shell::refused(NAME, "the program", program, "expected an absolute path"));
        }
        let told = listen.told();
        let run = shell::run(site, &Places { program, tree: &root, users: users.unwrap_or_default(), listen: &told })?;
        let command: Vec<_> = run.command.iter().map(|argument| word(&argument.replace('$', "$$"))).collect();
        // Quoted whatever it is: a colon would separate two places.
        let quoted = |place: &str| format!("\"{}\"", place.replace('%', "%%"));
        let tree = quoted(&root);
        let mut text = format!(
            "# A registry of plain files. Made by roadstead; the same whatever the tree holds.
[Unit]
Description=Registry of plain files
Wants=network-online.target
After=network-online.target
RequiresMountsFor={tree}
{}
[Service]
Type=exec
ExecStart={}
Restart=on-failure
RestartSec=2
",
            if site.shell.socket { "Requires=roadstead.socket\n" } else { "" },
            command.join(" ")
        );
        for (name, value) in &run.environment {
            text.push_str(&format!("Environment={name}={value}\n"));
        }
        if run.configuration.is_some() {
            // It makes the folder `SCRATCH`.
            text.push_str("RuntimeDirectory=roadstead\n");
        }
        if around == Around::Nginx {
            // Running transfers are finished first.
            text.push_str("KillSignal=SIGQUIT\nKillMode=mixed\n");
        }
        if let Some(folder) = users {
            let ((user, group), folder) = (shell::runs_as(site), quoted(folder));
            text.push_str(&format!("\nUser={user}\nGroup={group}\nBindPaths={folder}\nReadWritePaths={folder}\n"));
        } else {
            text.push_str("\nDynamicUser=yes\n");
        }
        text.push_str(&format!("BindReadOnlyPaths={tree}\n{CLOSED}"));
        // nginx compiles the expressions of its configuration.
        if around != Around::Nginx {
            text.push_str("MemoryDenyWriteExecute=yes\n");
        }
        // Only one of them can be told of Unix sockets.
        let families = if around == Around::Serve { " AF_UNIX" } else { "" };
        text.push_str(&format!("RestrictAddressFamilies=AF_INET AF_INET6{families}\n"));
        let privileged = matches!(listen, Place::Own(address) if address.port() < 1024);
        let capability = if privileged { "CAP_NET_BIND_SERVICE" } else { "" };
        text.push_str(&format!("CapabilityBoundingSet={capability}\nAmbientCapabilities={capability}\n"));
        let also = if site.shell.socket { "Also=roadstead.socket\n" } else { "" };
        text.push_str(&format!("\n[Install]\nWantedBy=multi-user.target\n{also}"));
        let unit = ConfigFile {
            name: "roadstead.service".to_owned(),
            place:
                "put it into /etc/systemd/system/, then systemctl daemon-reload and systemctl enable --now roadstead"
                    .to_owned(),
            text: text.into(),
        };
        let configuration = run
            .configuration
            .map(|file| ConfigFile { place: format!("put it into {}/", shell::CONFIGURATION), ..file });
        let socket = listen.unit().map(|text| ConfigFile {
            name: "roadstead.socket".to_owned(),
            place: "put it beside roadstead.service".to_owned(),
            text: text.into(),
        });
        Ok(std::iter::once(unit).chain(configuration).chain(socket).collect())
    }
}

/// What no registry of plain files needs.
const CLOSED: &str = "\
ProtectSystem=strict
ProtectHome=tmpfs
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
NoNewPrivileges=yes
LockPersonality=yes
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
UMask=0077
";

/// Where is listened, and by whom.
enum Place {
    /// By the service.
    Own(SocketAddr),
    /// By systemd.
    Tcp(SocketAddr),
    /// The same at a Unix socket.
    Unix { path: String, mode: String },
}

fn listen(site: &Site) -> Result<Place, Unsupported> {
    if !site.shell.socket {
        return shell::listen(NAME, site).map(Place::Own);
    }
    if site.shell.around != Around::Serve {
        return Err(shell::refused(NAME, shell::SOCKET, &site.listen, "only `roadstead serve` takes one"));
    }
    let Some(text) = site.listen.strip_prefix("unix:") else { return shell::listen(NAME, site).map(Place::Tcp) };
    let (path, mode) = text.rsplit_once(",mode=").unwrap_or((text, "660"));
    let wrong = |problem| Err(shell::refused(NAME, "the socket", &site.listen, problem));
    if u32::from_str_radix(mode, 8).ok().is_none_or(|mode| mode > 0o777) {
        return wrong("expected a mode such as 660");
    }
    // As many bytes as a Unix socket's address has room for.
    if !path.starts_with('/') || path.len() > 107 || path.split('/').any(|part| part == "..") {
        return wrong("expected an absolute path of at most 107 bytes without `..`");
    }
    if path.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return wrong("it has a space or a control character");
    }
    Ok(Place::Unix { path: unquoted(path)?.to_owned(), mode: mode.to_owned() })
}

impl Place {
    /// What `--listen` is told.
    fn told(&self) -> String {
        match self {
            Self::Own(address) => address.to_string(),
            Self::Tcp(_) | Self::Unix { .. } => "systemd".to_owned(),
        }
    }

    /// The unit of what systemd listens at.
    fn unit(&self) -> Option<String> {
        let lines = match self {
            Self::Own(_) => return None,
            Self::Tcp(address) => {
                // It listens before the network is there.
                let own = address.ip().is_unspecified() || address.ip().is_loopback();
                format!("ListenStream={address}\n{}", if own { "" } else { "FreeBind=yes\n" })
            }
            Self::Unix { path, mode } => {
                format!("ListenStream={}\nSocketMode={mode}\n", path.replace('%', "%%"))
            }
        };
        Some(format!(
            "# Where roadstead.service is reached. Made by roadstead.
[Unit]
Description=Socket of a registry of plain files

[Socket]
{lines}
[Install]
WantedBy=sockets.target
"
        ))
    }
}

/// The place of the tree.
fn root(site: &Site) -> Result<String, Unsupported> {
    let root = shell::root(NAME, site)?;
    unquoted(&root)?;
    Ok(root)
}

/// A place in which there is no quotation mark: options that take a path don't agree on how one is written.
fn unquoted(place: &str) -> Result<&str, Unsupported> {
    if place.contains(['"', '\'', '\\']) {
        let problem = "not every option of systemd can be told a quotation mark or a backslash";
        return Err(shell::refused(NAME, "a place", place, problem));
    }
    Ok(place)
}

/// A word of a unit: `%` begins a specifier, a space ends a word, and a semicolon a command.
fn word(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"/._:+=@,-%$".contains(&c);
    let text = text.replace('%', "%%");
    if !text.is_empty() && text.bytes().all(plain) { text } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(root: &str) -> Result<String, Unsupported> {
        let site = Site { root: root.to_owned(), listen: "127.0.0.1:5000".to_owned(), ..Site::default() };
        Systemd.render(&site).map(|files| files[0].text.to_string())
    }

    #[test]
    fn a_place_is_one_word_and_means_itself() {
        let text = render("/srv/100% $HOME; tree:a").unwrap();
        for line in [
            "ExecStart=/usr/local/bin/roadstead --tree \"/srv/100%% $$HOME; tree:a\" serve --listen 127.0.0.1:5000\n",
            "BindReadOnlyPaths=\"/srv/100%% $HOME; tree:a\"\n",
            "RequiresMountsFor=\"/srv/100%% $HOME; tree:a\"\n",
        ] {
            assert!(text.contains(&format!("\n{line}")), "{text}");
        }
    }

    #[test]
    fn what_options_read_differently_is_refused() {
        for root in ["/srv/a\"b", "/srv/a'b", "/srv/a\\b", "/srv/a\nb", "/srv/a\rExecStart=/bin/sh"] {
            assert!(render(root).is_err(), "{root:?}");
        }
    }

    #[test]
    fn a_port_for_the_privileged_needs_that_capability_alone() {
        let site = |listen: &str| Site { root: "/srv".to_owned(), listen: listen.to_owned(), ..Site::default() };
        let low = Systemd.render(&site("443")).unwrap()[0].text.to_string();
        assert!(low.contains("\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n"), "{low}");
        let high = Systemd.render(&site("5000")).unwrap()[0].text.to_string();
        assert!(high.contains("\nCapabilityBoundingSet=\nAmbientCapabilities=\n"), "{high}");
        let passed = Systemd.render(&passed("443")).unwrap()[0].text.to_string();
        assert!(passed.contains("\nAmbientCapabilities=\n"), "{passed}");
    }

    /// A site whose socket is passed.
    fn passed(listen: &str) -> Site {
        let shell = crate::site::Shell { socket: true, ..crate::site::Shell::default() };
        Site { root: "/srv".to_owned(), listen: listen.to_owned(), shell, ..Site::default() }
    }

    #[test]
    fn a_socket_is_where_was_said() {
        for (listen, lines) in [
            ("127.0.0.1:5000", "[Socket]\nListenStream=127.0.0.1:5000\n\n"),
            ("[::]:443", "[Socket]\nListenStream=[::]:443\n\n"),
            ("192.0.2.1:443", "[Socket]\nListenStream=192.0.2.1:443\nFreeBind=yes\n\n"),
            ("unix:/run/a%b", "[Socket]\nListenStream=/run/a%%b\nSocketMode=660\n\n"),
            ("unix:/run/x,mode=666", "[Socket]\nListenStream=/run/x\nSocketMode=666\n\n"),
        ] {
            let site = passed(listen);
            let files = Systemd.render(&site).unwrap();
            let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
            assert_eq!(names, ["roadstead.service", "roadstead.socket"]);
            assert!(files[1].text.to_string().contains(lines), "{listen}: {}", files[1].text);
            let unit = files[0].text.to_string();
            for line in ["\nRequires=roadstead.socket\n", " --listen systemd\n", "\nAlso=roadstead.socket\n"] {
                assert!(unit.contains(line), "{unit}");
            }
        }
        for listen in ["", "unix:", "unix:x", "unix:/a b", "unix:/a\nb", "unix:/a,mode=9", "unix:/../a", "unix:/a\"b"] {
            assert!(Systemd.render(&passed(listen)).is_err(), "{listen:?}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        assert!(Systemd.render(&passed(&long)).is_err());
        let mut nginx = passed("5000");
        nginx.shell.around = Around::Nginx;
        assert!(Systemd.render(&nginx).is_err());
    }
}
