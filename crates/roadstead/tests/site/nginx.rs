//! The real nginx.

use std::path::Path;

use roadstead::host;
use roadstead::oci::Repository;
use roadstead::site::{Form, Site};
use roadstead_parts::{Folder, Invocation, Isolation, Served, part};

use crate::client::Address;

/// An nginx of its own, in its own folder.
pub(crate) struct Nginx {
    pub(crate) address: Address,
    served: Served,
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
    pub(crate) fn start(tree: &Path, form: Form, name_prefix: Option<Repository>, cors: bool) -> Self {
        let folder = Folder::new();
        let socket = folder.path().join("s");
        let site = Site {
            root: tree.to_str().unwrap().to_owned(),
            listen: format!("unix:{}", socket.display()),
            form,
            name_prefix,
            cors,
            ..Site::default()
        };
        let files = host::find("nginx").unwrap().render(&site).unwrap();
        let mut main = String::new();
        for file in &files {
            folder.write(&file.name, file.text.to_string());
        }
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temp: String = temp.iter().map(|name| format!("{name}_temp_path {name};\n")).collect();
        let own = "pid nginx.pid; error_log stderr warn; events { worker_connections 64; }";
        match form {
            Form::Standalone => main = files[0].text.to_string(),
            Form::Site => main.push_str(&format!("{own} http {{ {temp} {HTTP} include roadstead.conf; }}")),
            Form::Edge => unreachable!("nginx runs no scripts"),
            Form::Snippet => {
                let mine = "location / { return 200 mine; } location ~ \\.html$ { return 403; } location = /custom.html { return 200 custom; }";
                let server = format!("listen {}; {mine} include roadstead-server.conf;", site.listen);
                main.push_str(&format!(
                    "{own} http {{ {temp} {HTTP} include roadstead-http.conf; server {{ {server} }} }}"
                ));
            }
        }
        let program = Invocation::new(part::installed("nginx"))
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(folder.write("main.conf", main))
            .args(["-e", "stderr", "-g", "daemon off;"]);
        let address = Address::Unix(socket);
        let served = Served::start(&program, Isolation::Namespaces, folder, || address.try_connect().is_ok());
        Self { address, served }
    }

    /// What it complained about.
    pub(crate) fn log(&self) -> String {
        self.served.log()
    }
}
