use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::{Failure, Folder, Invocation, Isolation, Output, Port, Served, part};

/// nginx, whose workers run as another user (`www-data`) than the owner of the files, as on any real host.
///
/// It is started as `nginx -p FOLDER -c FILE -g 'daemon off;'` by root.
#[derive(Debug)]
pub struct Nginx {
    served: Served,
    port: Port,
}

impl Nginx {
    /// Starts it with a whole configuration that listens on `port`.
    ///
    /// # Panics
    ///
    /// When it does not start; the message has what it said.
    pub fn start(configuration: &str, port: Port) -> Self {
        let folder = Folder::new();
        let invocation = invocation(&folder, configuration);
        let served = Served::start(&invocation, Isolation::Namespaces, folder, || port.answers());
        Self { served, port }
    }

    /// Starts it with a whole configuration as an ordinary user, `www-data`, its master process too.
    ///
    /// # Panics
    ///
    /// As [`Nginx::start`].
    pub fn start_unprivileged(configuration: &str, port: Port) -> Self {
        let folder = Folder::new();
        // Its own folder is where it keeps its process number and temporary files.
        let everyone = Permissions::from_mode(0o777);
        fs::set_permissions(folder.path(), everyone).expect("the folder is ours");
        let user = ["--reuid=www-data", "--regid=www-data", "--clear-groups", "--"];
        let invocation = call(Invocation::new(part::installed("setpriv")).args(user), &folder, configuration);
        let served = Served::start(&invocation, Isolation::Namespaces, folder, || port.answers());
        Self { served, port }
    }

    /// Starts it with what belongs inside `http { … }`, such as a file for `conf.d`.
    ///
    /// # Panics
    ///
    /// As [`Nginx::start`].
    pub fn start_http(http: &str, port: Port) -> Self {
        Self::start(&within_http(http), port)
    }

    /// Says what `nginx -t` says about a whole configuration; the server does not start.
    ///
    /// # Errors
    ///
    /// When nginx refuses it.
    pub fn check(configuration: &str) -> Result<Output, Failure> {
        let folder = Folder::new();
        let verdict = invocation(&folder, configuration).arg("-t").as_root().run();
        // It makes its folders for temporary files all the same, and they are root's.
        Invocation::new(part::installed("rm")).args(["-r", "-f"]).arg(folder.path()).as_root().run()?;
        verdict
    }

    /// `127.0.0.1:PORT`: what stands before the repository in an image reference.
    pub fn authority(&self) -> String {
        self.port.address().to_string()
    }

    /// The root of its URLs, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.authority())
    }

    /// Its prefix, where relative paths of the configuration begin.
    pub fn folder(&self) -> &Path {
        self.served.folder()
    }

    /// The processor time that it has had so far: [`Served::processor_time`].
    ///
    /// # Panics
    ///
    /// As that does.
    pub fn processor_time(&self) -> std::time::Duration {
        self.served.processor_time()
    }

    /// What it has printed so far, and the error log of [`within_http`].
    pub fn log(&self) -> String {
        self.served.log()
    }
}

/// A whole configuration around what belongs inside `http { … }`: two workers of another user, and every path that
/// Debian compiled in replaced by one below the prefix, so that several run side by side. Errors go to standard error.
pub fn within_http(http: &str) -> String {
    format!(
        "user www-data;
worker_processes 2;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{http}
}}
"
    )
}

fn invocation(folder: &Folder, configuration: &str) -> Invocation {
    call(Invocation::new(part::installed("env")), folder, configuration)
}

/// `before`, and the call of nginx as what that runs.
fn call(before: Invocation, folder: &Folder, configuration: &str) -> Invocation {
    let file = folder.write("nginx.conf", configuration);
    // -e: until it has read the configuration, nginx writes errors to a path that Debian compiled in.
    before.arg(part::installed("nginx")).arg("-p").arg(folder.path()).arg("-c").arg(file).args([
        "-e",
        "stderr",
        "-g",
        "daemon off;",
    ])
}
