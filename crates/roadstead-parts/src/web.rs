use std::path::PathBuf;

use crate::{Folder, Invocation, Isolation, Port, Served, part};

/// A web server other than nginx, with a configuration that was made for it.
#[derive(Debug)]
pub struct WebServer {
    served: Served,
    port: Port,
}

/// How much of a server's configuration was made; the rest is what a machine has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A site, beside others that there may be.
    Site,
    /// What belongs inside a site that has something of its own: it answers every other path with `mine`.
    Snippet,
    /// Everything.
    Standalone,
}

impl WebServer {
    /// Starts a program (`caddy`, the newer `caddy-2.11`, `apache`, `lighttpd`, or one that stands in front of others:
    /// `haproxy`, `varnish`) with files (names and texts, the main one first) that let it listen on `port`, or, in a snippet,
    /// leave that to the site around.
    ///
    /// # Panics
    ///
    /// When it does not start; the message has what it said.
    pub fn start(name: &str, files: &[(String, String)], extent: Extent, port: Port) -> Self {
        let folder = Folder::new();
        for (file, text) in files {
            // Where a machine has its configurations, here is a folder.
            folder.write(file, text.replace("/etc/lighttpd/", &format!("{}/", folder.path().display())));
        }
        let main = &files[0].0;
        let program = match name {
            "caddy" => caddy(part::installed("caddy"), &folder, main, extent, &port),
            "caddy-2.11" => caddy(part::built("caddy-2.11/caddy"), &folder, main, extent, &port),
            "apache" => apache(&folder, main, extent, &port),
            "lighttpd" => lighttpd(&folder, main, extent, &port),
            "haproxy" => Invocation::new(part::installed("haproxy")).args(["-db", "-f"]).arg(folder.join(main)),
            "varnish" => Invocation::new(part::installed("varnishd"))
                .args(["-F", "-T", "none", "-s", "malloc,64m", "-a", &port.address().to_string(), "-n"])
                .arg(folder.join("work"))
                .arg("-f")
                .arg(folder.join(main)),
            other => panic!("{other} is no server that can be started here"),
        };
        let served = Served::start(&program, Isolation::Namespaces, folder, || port.answers());
        Self { served, port }
    }

    /// `127.0.0.1:PORT`: what stands before the repository in an image reference.
    pub fn authority(&self) -> String {
        self.port.address().to_string()
    }

    /// The processor time that it has had so far: [`Served::processor_time`].
    ///
    /// # Panics
    ///
    /// As that does.
    pub fn processor_time(&self) -> std::time::Duration {
        self.served.processor_time()
    }

    /// What it has printed so far, above the level of notices.
    pub fn log(&self) -> String {
        let log = self.served.log();
        log.lines().filter(|line| !NOTICES.iter().any(|notice| line.contains(notice))).collect()
    }
}

/// What servers say when nothing is wrong, or is wrong with a request.
const NOTICES: [&str; 9] = [
    "server started (lighttpd",
    "\"level\":\"info\"",
    "Caddyfile input is not formatted",
    "admin endpoint disabled",
    "automatic HTTPS is completely disabled",
    "skipped because it requires TLS",
    "exiting; byeee",
    ":notice]",
    "AH10244: invalid URI path",
];

fn caddy(program: PathBuf, folder: &Folder, main: &str, extent: Extent, port: &Port) -> Invocation {
    let around = "{\n admin off\n auto_https off\n log {\n level ERROR\n }\n}\n";
    let whole = match extent {
        Extent::Standalone => folder.join(main),
        Extent::Site => folder.write("main.caddy", format!("{around}import {main}\n")),
        Extent::Snippet => folder.write(
            "main.caddy",
            format!(
                "{around}http://:{} {{\n bind 127.0.0.1\n encode gzip\n import {main}\n respond mine\n}}\n",
                port.number()
            ),
        ),
    };
    Invocation::new(program)
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(whole)
}

pub(crate) fn apache(folder: &Folder, main: &str, extent: Extent, port: &Port) -> Invocation {
    let path = folder.path().display();
    let modules = [
        "mpm_event",
        "authn_core",
        "authz_core",
        "dir",
        "mime",
        "negotiation",
        "autoindex",
        "filter",
        "deflate",
        "expires",
        "headers",
        "lua",
        "rewrite",
        "setenvif",
        "include",
        "cgi",
    ];
    let modules: String = modules
        .iter()
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .collect();
    // What a machine may have already, and what must not change an answer.
    let around = format!(
        "ServerRoot {path}\nServerName localhost\nPidFile apache.pid\nDefaultRuntimeDir {path}\nErrorLog /dev/stderr\n\
         LogLevel error\nStartServers 2\nServerLimit 2\nThreadsPerChild 64\nMaxRequestWorkers 128\nMinSpareThreads 1\nMaxSpareThreads 128\n\
         User www-data\nGroup www-data\n{modules}TypesConfig /etc/mime.types\n\
         AddOutputFilterByType DEFLATE application/json text/html\nAddDefaultCharset utf-8\nIndexOptions FancyIndexing\n"
    );
    let rest = match extent {
        Extent::Site => format!("Include {main}\n"),
        Extent::Snippet => {
            let address = port.address();
            folder.write("own/index.html", "mine");
            format!(
                "Listen {address}\n<VirtualHost {address}>\nDocumentRoot {path}/own\nMergeSlashes Off\nInclude {main}\n\
                 <Directory {path}/own>\nRequire all granted\n</Directory>\n</VirtualHost>\n"
            )
        }
        Extent::Standalone => String::new(),
    };
    let whole = folder.write("main.conf", around + &rest);
    Invocation::new(part::installed("apache2")).args(["-D", "FOREGROUND", "-f"]).arg(whole)
}

fn lighttpd(folder: &Folder, main: &str, extent: Extent, port: &Port) -> Invocation {
    let path = folder.path().display();
    folder.write("own/index.html", "mine");
    // The port is the site's own where that has one: then the server as such listens elsewhere.
    let own = if extent == Extent::Snippet {
        format!("server.bind = \"127.0.0.1\"\nserver.port = {}", port.number())
    } else {
        format!("server.bind = \"{path}/own.sock\"")
    };
    let around = format!(
        "server.modules = ( \"mod_access\" )\n{own}\n\
         server.document-root = \"{path}/own\"\nserver.username = \"www-data\"\nserver.groupname = \"www-data\"\n\
         url.access-deny = ( \"~\", \".inc\" )\nmimetype.assign = ( \".html\" => \"text/html\" )\n\
         index-file.names = ( \"index.html\" )\ninclude \"{main}\"\n"
    );
    let whole = if extent == Extent::Standalone { folder.join(main) } else { folder.write("main.conf", around) };
    // Its relative paths begin where it is started.
    Invocation::new(part::installed("env"))
        .arg("-C")
        .arg(folder.path())
        .arg(part::installed("lighttpd"))
        .arg("-D")
        .arg("-f")
        .arg(whole)
}
