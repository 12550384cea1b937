//! The real nginx.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use roadstead::host;
use roadstead::oci::Repository;
use roadstead::site::{Form, Site};

use crate::client::{Address, PATIENCE};

/// An nginx of its own, in its own folder.
pub(crate) struct Nginx {
    pub(crate) address: Address,
    folder: tempfile::TempDir,
    process: Child,
}

/// What a machine's `http {}` may hold already, and what must not change an answer.
const HTTP: &str = "
    access_log off;
    default_type application/octet-stream;
    types { text/html html; application/json json; }
    charset utf-8;
    gzip on;
    gzip_types *;
    gzip_min_length 1;
    gzip_proxied any;
    expires 1h;
    add_header X-Site yes always;
    open_file_cache max=100;
    error_page 404 405 416 /custom.html;
";

impl Nginx {
    pub(crate) fn start(tree: &Path, form: Form, name_prefix: Option<Repository>) -> Self {
        let folder = tempfile::Builder::new().prefix("ng").tempdir().unwrap();
        let socket = folder.path().join("s");
        let site = Site {
            root: tree.to_str().unwrap().to_owned(),
            listen: format!("unix:{}", socket.display()),
            form,
            name_prefix,
        };
        let files = host::find("nginx").unwrap().render(&site).unwrap();
        let mut main = String::new();
        for file in &files {
            std::fs::write(folder.path().join(&file.name), &file.text).unwrap();
        }
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temp: String = temp.iter().map(|name| format!("{name}_temp_path {name};\n")).collect();
        let own = "pid nginx.pid; error_log stderr warn; events { worker_connections 64; }";
        match form {
            Form::Standalone => main.clone_from(&files[0].text),
            Form::Site => main.push_str(&format!("{own} http {{ {temp} {HTTP} include roadstead.conf; }}")),
            Form::Snippet => {
                let mine = "location / { return 200 mine; } location ~ \\.html$ { return 403; } location = /custom.html { return 200 custom; }";
                let server = format!("listen {}; {mine} include roadstead-server.conf;", site.listen);
                main.push_str(&format!(
                    "{own} http {{ {temp} {HTTP} include roadstead-http.conf; server {{ {server} }} }}"
                ));
            }
        }
        std::fs::write(folder.path().join("main.conf"), main).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new("nginx")
            .args(["-p".as_ref(), folder.path().as_os_str(), "-c".as_ref(), "main.conf".as_ref()])
            .args(["-e", "stderr", "-g", "daemon off;"])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("nginx: {e}; apt-get install --no-install-recommends nginx-light"));
        let nginx = Self { address: Address::Unix(socket), folder, process };
        let deadline = Instant::now() + PATIENCE;
        while nginx.address.try_connect().is_err() {
            assert!(Instant::now() < deadline, "nginx does not start: {}", nginx.log());
            std::thread::yield_now();
        }
        nginx
    }

    /// What it complained about.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master process takes its workers with it only if it is asked, not if it is killed.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}
