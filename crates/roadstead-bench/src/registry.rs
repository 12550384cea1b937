//! A registry that is not the limit: nginx over plain files.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use roadstead_parts::{Nginx, Port, wait_until};

use crate::corpus::{Corpus, REPOSITORY};

pub(crate) struct Registry {
    nginx: Nginx,
}

impl Registry {
    pub(crate) fn start(corpus: &Corpus) -> Self {
        let port = Port::free();
        let configuration = configuration(corpus, &port);
        Self { nginx: Nginx::start(&configuration, port) }
    }

    /// Its address and port.
    pub(crate) fn authority(&self) -> String {
        self.nginx.authority()
    }

    /// How the image with this tag is named.
    pub(crate) fn image(&self, tag: &str) -> String {
        format!("{}/{REPOSITORY}:{tag}", self.nginx.authority())
    }

    /// The requests that came while `work` was done: method and path.
    pub(crate) fn requests<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Vec<String>)> {
        let before = self.log().len();
        let done = work()?;
        // A line is written just after the answer's last byte: a client can be done before its line is there.
        let mut last = usize::MAX;
        let mut quiet = 0;
        wait_until(Duration::from_secs(5), || {
            let now = self.log().len();
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
            quiet == 5
        });
        Ok((done, self.log().split_off(before)))
    }

    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.nginx.folder().join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

/// Its workers are root, since the folder that is served may be closed to others.
fn configuration(corpus: &Corpus, port: &Port) -> String {
    let (mut types, mut digests) = (String::new(), String::new());
    for served in &corpus.manifests {
        let line = |map: &mut String, value| writeln!(map, "\"{}\" \"{value}\";", served.path);
        line(&mut types, &served.media_type).expect("writing to a string succeeds");
        line(&mut digests, &served.digest).expect("writing to a string succeeds");
    }
    format!(
        "user root;
worker_processes 2;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    log_format requests '$request_method $uri';
    access_log access.log requests;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    map_hash_bucket_size 256;
    map_hash_max_size 16384;
    map $uri $manifest_type {{ {types} }}
    map $uri $manifest_digest {{ {digests} }}
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    types {{ }}
    server {{
        listen {address};
        root {root:?};
        location = /v2/ {{ return 200 '{{}}'; }}
        location /v2/ {{ default_type application/octet-stream; }}
        location ~ /tags/list$ {{ default_type application/json; }}
        location ~ /manifests/[^/]+$ {{
            default_type '';
            add_header Content-Type $manifest_type;
            add_header Docker-Content-Digest $manifest_digest;
        }}
    }}
}}
",
        address = port.address(),
        root = corpus.root,
    )
}
