//! What starts one of the others: what it has in common, whichever starts it.
//!
//! A shell renders no rule. What it starts is `roadstead serve`, or a server with the configuration that the server's own
//! host renders to run from alone; so there is nothing here that could answer otherwise than they do.

use std::net::{Ipv4Addr, SocketAddr};

use super::plain;
use super::{ConfigFile, Unsupported, find};
use crate::site::{Around, Form, Site};

/// Where what belongs to the registry lies, on a machine and inside of a container.
pub(super) const CONFIGURATION: &str = "/etc/roadstead";

/// Where the tree lies inside of a container.
pub(super) const TREE: &str = "/srv/registry";

/// Where the users of `roadstead serve` are inside of a container.
pub(super) const USERS: &str = "/var/lib/roadstead";

/// Where a server may write its own files. No image has it: the mode that a folder has in an image would win over the one that
/// is asked for.
pub(super) const SCRATCH: &str = "/run/roadstead";

/// Where is listened inside of a container.
pub(super) const PORT: u16 = 5000;

/// Who answers inside of a container: nobody, who owns nothing of the tree.
pub(super) const USER: u32 = 65534;

/// What errors call it.
pub(super) const SOCKET: &str = "a socket that is passed";

/// What is to be started.
pub(super) struct Run {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// What it wants in the environment.
    pub(super) environment: Vec<(&'static str, String)>,
    /// What it reads, in the folder [`CONFIGURATION`].
    pub(super) configuration: Option<ConfigFile<'static>>,
}

/// Where the parts are, seen by what is started.
pub(super) struct Places<'a> {
    pub(super) program: &'a str,
    pub(super) tree: &'a str,
    pub(super) users: &'a str,
    /// As the server is told it.
    pub(super) listen: &'a str,
}

/// What is to be started for a site.
pub(super) fn run(site: &Site, places: &Places<'_>) -> Result<Run, Unsupported> {
    let Places { program, tree, users, listen } = *places;
    let (mut command, mut environment) = (vec![program.to_owned()], Vec::new());
    let configuration = match site.shell.around {
        Around::Serve => {
            command.extend(["--tree", tree, "serve", "--listen", listen].map(str::to_owned));
            if let Some(prefix) = &site.name_prefix {
                command.extend(["--name-prefix".to_owned(), prefix.to_string()]);
            }
            command.extend(site.cors.then(|| "--cors".to_owned()));
            if site.shell.users.is_some() {
                command.extend(["--state".to_owned(), users.to_owned()]);
            }
            command.extend(site.shell.serve_with.iter().cloned());
            None
        }
        around @ (Around::Nginx | Around::Caddy) => {
            let (root, listen) = (tree.to_owned(), listen.to_owned());
            let inner = Site { root, listen, form: Form::Standalone, ..site.clone() };
            // It has one file, as it runs from that alone.
            let Some(ConfigFile { name, place, text }) = find(around.name())
                .map(|host| host.render(&inner))
                .transpose()?
                .and_then(|files| files.into_iter().next())
            else {
                return Err(Unsupported::Form { host: around.name(), form: Form::Standalone });
            };
            let file = ConfigFile { name, place, text: text.to_string().into() };
            let path = format!("{CONFIGURATION}/{}", file.name);
            if around == Around::Nginx {
                command.extend(["-p", SCRATCH, "-c", &path, "-e", "stderr", "-g", "daemon off;"].map(str::to_owned));
            } else {
                command.extend(["run", "--config", &path, "--adapter", "caddyfile"].map(str::to_owned));
                environment = ["XDG_CONFIG_HOME", "XDG_DATA_HOME"].map(|name| (name, SCRATCH.to_owned())).to_vec();
            }
            Some(file)
        }
    };
    Ok(Run { command, environment, configuration })
}

/// What is to be started in a container.
pub(super) fn run_in_container(host: &'static str, site: &Site) -> Result<Run, Unsupported> {
    let usual = if site.shell.around == Around::Serve { "roadstead" } else { site.shell.around.name() };
    let program = program(host, site, usual)?;
    if site.shell.socket {
        return Err(refused(host, SOCKET, &site.listen, "nobody passes one there"));
    }
    let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).to_string();
    run(site, &Places { program, tree: TREE, users: USERS, listen: &listen })
}

/// As whom what is started runs: user and group.
pub(super) fn runs_as(site: &Site) -> (u32, u32) {
    site.shell.users.as_ref().map_or((USER, USER), |users| (users.user, users.group))
}

/// Where the users are on the machine, if there are to be any. Root is nobody as whom a server should run.
pub(super) fn users<'a>(host: &'static str, site: &'a Site) -> Result<Option<&'a str>, Unsupported> {
    const WHAT: &str = "the folder of users";
    let Some(users) = &site.shell.users else { return Ok(None) };
    let wrong = |problem| Err(refused(host, WHAT, &users.folder, problem));
    if site.shell.around != Around::Serve {
        return wrong("only `roadstead serve` asks users who they are");
    }
    if users.user == 0 || users.group == 0 {
        return wrong(
            "it belongs to root, as whom no server should run: give it to another user and group by `chown -R`",
        );
    }
    let folder = users.folder.trim_end_matches('/');
    if !folder.starts_with('/') || folder.split('/').any(|part| part == "..") {
        return wrong("expected an absolute path without `..`");
    }
    if folder.chars().any(char::is_control) {
        return wrong("it has a control character");
    }
    Ok(Some(folder))
}

pub(super) fn refused(host: &'static str, what: &'static str, value: &str, problem: &'static str) -> Unsupported {
    Unsupported::Value { host, what, value: value.to_owned(), problem }
}

/// Refuses a part of a configuration: a shell is one whole.
pub(super) fn whole(host: &'static str, site: &Site) -> Result<(), Unsupported> {
    plain::refuse_for(host, site)?;
    if site.form == Form::Site { Ok(()) } else { Err(Unsupported::Form { host, form: site.form }) }
}

/// Refuses what a shell has no use for.
pub(super) fn unused(host: &'static str, what: &'static str, value: Option<&String>) -> Result<(), Unsupported> {
    value.map_or(Ok(()), |value| Err(refused(host, what, value, "it has no use for one")))
}

/// The place of the tree on the machine: absolute, and the same however it is read.
pub(super) fn root(host: &'static str, site: &Site) -> Result<String, Unsupported> {
    let given = site.root.as_str();
    let wrong = |problem| Err(refused(host, "the tree's place", given, problem));
    let trimmed = given.trim_end_matches('/');
    if !given.starts_with('/') {
        return wrong("expected an absolute path");
    }
    if trimmed.is_empty() {
        return wrong("it is the whole file system");
    }
    if given.chars().any(char::is_control) {
        return wrong("it has a control character");
    }
    if trimmed.split('/').any(|part| part == "..") {
        return wrong("it has a `..` in it: name the place that is meant with --server-root");
    }
    Ok(trimmed.to_owned())
}

/// Where to listen on the machine.
pub(super) fn listen(host: &'static str, site: &Site) -> Result<SocketAddr, Unsupported> {
    let given = site.listen.as_str();
    let everywhere =
        || given.parse().ok().filter(|_| !given.starts_with('+')).map(|port: u16| (Ipv4Addr::UNSPECIFIED, port).into());
    let address: Option<SocketAddr> = given.parse().ok().or_else(everywhere);
    address.filter(|address| address.port() > 0).ok_or_else(|| {
        refused(host, "the address to listen on", given, "expected PORT, ADDRESS:PORT or [ADDRESS]:PORT")
    })
}

/// The program, of characters that mean themselves everywhere.
pub(super) fn program<'a>(host: &'static str, site: &'a Site, usual: &'a str) -> Result<&'a str, Unsupported> {
    let Some(given) = &site.shell.program else { return Ok(usual) };
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"/._+-".contains(&c);
    if given.is_empty() || given.starts_with('-') || !given.bytes().all(plain) {
        return Err(refused(host, "the program", given, "expected a path of letters, digits and ./_+-"));
    }
    Ok(given)
}

/// The image that has the program. Servers are published by who makes them; of Roadstead there is none but one's own.
pub(super) fn image<'a>(host: &'static str, site: &'a Site) -> Result<&'a str, Unsupported> {
    const WHAT: &str = "the container image";
    let given = match (&site.shell.image, site.shell.around) {
        (Some(given), _) => given,
        (None, Around::Nginx) => return Ok("docker.io/library/nginx:stable"),
        (None, Around::Caddy) => return Ok("docker.io/library/caddy:2"),
        (None, Around::Serve) => {
            return Err(refused(
                host,
                WHAT,
                "",
                "none is published: make one with the program and name it with --image",
            ));
        }
    };
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"/.:@_-".contains(&c);
    if given.is_empty() || !given.bytes().all(plain) || !given.as_bytes()[0].is_ascii_alphanumeric() {
        return Err(refused(host, WHAT, given, "expected the name of an image, such as registry.example/roadstead:1"));
    }
    Ok(given)
}

/// A text as a scalar of YAML: in double quotes, as in JSON, where nothing means anything else.
pub(super) fn yaml(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // Breaks of lines to YAML 1.1, and what stands at the beginning of a file.
            '\u{2028}' | '\u{2029}' | '\u{feff}' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Texts as a sequence of YAML, in one line.
pub(super) fn sequence<T: AsRef<str>>(texts: &[T]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| yaml(text.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::{Shell, Users};

    const SHELLS: [&str; 3] = ["compose", "kubernetes", "systemd"];

    fn site(around: Around) -> Site {
        let image = (around == Around::Serve).then(|| "registry.example/roadstead:1".to_owned());
        let shell = Shell { around, image, ..Shell::default() };
        Site { root: "/srv/tree".to_owned(), listen: "127.0.0.1:5000".to_owned(), shell, ..Site::default() }
    }

    /// The texts of a site's files, for which an image means nothing to some.
    fn render(host: &str, site: Site) -> Result<Vec<String>, Unsupported> {
        let image = site.shell.image.clone().filter(|_| host != "systemd");
        let site = Site { shell: Shell { image, ..site.shell.clone() }, ..site };
        let files = find(host).unwrap().render(&site)?;
        Ok(files.iter().map(|file| file.text.to_string()).collect())
    }

    #[test]
    fn what_a_server_reads_is_what_its_own_host_renders() {
        for around in [Around::Nginx, Around::Caddy] {
            for (host, tree, listen) in [("compose", TREE, "0.0.0.0:5000"), ("systemd", "/srv/tree", "127.0.0.1:5000")]
            {
                let site = Site { cors: true, name_prefix: "a/b".parse().ok(), ..site(around) };
                let inner =
                    Site { root: tree.to_owned(), listen: listen.to_owned(), form: Form::Standalone, ..site.clone() };
                let own = find(around.name()).unwrap().render(&inner).unwrap();
                let files = render(host, site).unwrap();
                assert_eq!(files[1], own[0].text.to_string(), "{host} around {}", around.name());
            }
        }
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        let base = || site(Around::Serve);
        let shell = |shell: Shell| Site { shell, ..base() };
        let root = |root: &str| Site { root: root.to_owned(), ..base() };
        let listen = |listen: &str| Site { listen: listen.to_owned(), ..base() };
        let program = |text: &str| shell(Shell { program: Some(text.to_owned()), ..base().shell });
        let sites = [
            root(""),
            root("registry"),
            root("/"),
            root("/srv/a\nb"),
            root("/srv/a\u{85}b"),
            root("/srv/../etc"),
            listen("unix:/run/x"),
            listen("0"),
            listen("127.0.0.1:0"),
            listen("5000\n"),
            listen("+5000"),
            program("$(id)"),
            program("a b"),
            program("-x"),
            program(""),
            Site { form: Form::Snippet, ..base() },
        ];
        for host in SHELLS {
            assert!(render(host, base()).is_ok(), "{host}");
            for site in &sites {
                assert!(render(host, site.clone()).is_err(), "{host} took {site:?}");
            }
        }
        for host in ["compose", "kubernetes"] {
            for image in [None, Some(""), Some("a b"), Some("a\nb"), Some("${X}"), Some("-a"), Some("a'b")] {
                let site = shell(Shell { image: image.map(str::to_owned), ..base().shell });
                assert!(render(host, site).is_err(), "{host} took {image:?}");
            }
        }
    }

    #[test]
    fn users_are_the_business_of_one_server_and_of_no_root() {
        let of = |around, folder: &str, user, group| {
            let users = Some(Users { folder: folder.to_owned(), user, group });
            let site = site(around);
            Site { shell: Shell { users, ..site.shell.clone() }, ..site }
        };
        for host in SHELLS {
            let text = render(host, of(Around::Serve, "/srv/tree.state/", 1000, 100)).unwrap().remove(0);
            for part in ["--state", "/srv/tree.state", "1000", "100"] {
                assert!(text.contains(part) && !text.contains("65534"), "{part} is missing: {text}");
            }
            for wrong in [
                of(Around::Nginx, "/srv/tree.state", 1000, 1000),
                of(Around::Serve, "/srv/tree.state", 0, 1000),
                of(Around::Serve, "/srv/tree.state", 1000, 0),
                of(Around::Serve, "tree.state", 1000, 1000),
                of(Around::Serve, "/srv/../tree.state", 1000, 1000),
                of(Around::Serve, "/srv/tree\n.state", 1000, 1000),
            ] {
                assert!(render(host, wrong.clone()).is_err(), "{host} took {wrong:?}");
            }
        }
    }

    #[test]
    fn a_scalar_is_one_whatever_is_in_it() {
        for text in ["", "a", "no", "- a: #b", "\"'\\", "${X} $Y %z", "a\nb\r\t\u{0}", "\u{85}\u{2028}\u{feff}", "ä☃"]
        {
            let quoted = yaml(text);
            assert!(!quoted.contains(|c: char| c.is_control() || c == '\u{2028}'), "{quoted}");
            // What is quoted so is JSON, too.
            assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        }
    }
}
