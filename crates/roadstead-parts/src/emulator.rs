use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::web::apache;
use crate::{Extent, Folder, Invocation, Isolation, Port, Served, part};

/// What hosts a folder of plain files: mostly a vendor's own emulator of what it hosts, which takes minutes to install and Node
/// to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emulator {
    /// Cloudflare Pages: wrangler, which runs the real workerd.
    CloudflarePages,
    /// Cloudflare Workers, with or without a script: wrangler as well.
    CloudflareWorkers,
    /// Netlify's development server. It can't replace a `Content-Type`, as the real one does.
    Netlify,
    /// Firebase's hosting emulator.
    Firebase,
    /// Azure Static Web Apps.
    StaticWebApps,
    /// static-web-server itself.
    StaticWebServer,
    /// h2o itself.
    H2o,
    /// Apache as a shared host runs it: what may be said is said by `.htaccess` files, and what others want by extensions is on.
    SharedHosting,
}

/// An emulator that serves a site until the value is dropped.
#[derive(Debug)]
pub struct Emulated {
    served: Served,
    port: Port,
}

impl Emulator {
    /// Serves a folder, the one with the configuration.
    ///
    /// # Panics
    ///
    /// When it does not start, or does not answer `/v2/` with 200; the message has its log.
    pub fn start(self, site: &Path) -> Emulated {
        let (folder, port) = (Folder::new(), Port::free());
        let number = port.number().to_string();
        let tool = |name: &str| part::built(&format!("npm/{name}/node_modules/.bin/{name}"));
        // Everything that these write lies below the home folder.
        let within = Invocation::new(part::installed("env")).arg("--chdir").arg(site);
        let within = within.env("HOME", folder.path()).env("CI", "1");
        let wrangler = |words: &[&str]| {
            let quiet =
                within.clone().env("WRANGLER_SEND_METRICS", "false").env("CLOUDFLARE_CF_FETCH_ENABLED", "false");
            quiet.arg(tool("wrangler")).args(words).args([
                "--ip",
                "127.0.0.1",
                "--port",
                &number,
                "--inspector-port",
                "0",
            ])
        };
        let invocation = match self {
            Self::CloudflarePages => wrangler(&["pages", "dev", "public", "--compatibility-date", "2026-01-01"]),
            Self::CloudflareWorkers => wrangler(&["dev"]),
            Self::Netlify => within.env("NETLIFY_TELEMETRY_DISABLED", "1").arg(tool("netlify")).args([
                "dev",
                "--offline",
                "--dir",
                "public",
                "--no-open",
                "--internal-disable-edge-functions",
                "--port",
                &number,
            ]),
            Self::Firebase => {
                // The port stands in the configuration: another one beside it, for the test alone.
                let text = std::fs::read_to_string(site.join("firebase.json")).expect("the site has a firebase.json");
                let own = format!(
                    r#"{{"emulators":{{"hosting":{{"host":"127.0.0.1","port":{number}}},"hub":{{"host":"127.0.0.1","port":0}},"logging":{{"host":"127.0.0.1","port":0}},"ui":{{"enabled":false}},"singleProjectMode":true}},{}"#,
                    text.trim_start().trim_start_matches('{')
                );
                std::fs::write(site.join("firebase.emulated.json"), own).expect("the site is ours");
                within.arg(tool("firebase")).args([
                    "emulators:start",
                    "--only",
                    "hosting",
                    "--project",
                    "demo-registry",
                    "--config",
                    "firebase.emulated.json",
                ])
            }
            Self::StaticWebApps => {
                within.arg(tool("swa")).args(["start", "public", "--host", "127.0.0.1", "--port", &number])
            }
            Self::StaticWebServer => {
                within.arg(part::built("bin/static-web-server")).args(["--host", "127.0.0.1", "--port", &number])
            }
            Self::H2o => {
                let text = std::fs::read_to_string(site.join("h2o.yaml")).expect("the site has an h2o.yaml");
                // It would become somebody to whom the test's folder isn't open.
                let own = text.replace("port: 5000", &format!("port: {number}")) + "user: root\n";
                within.arg(part::installed("h2o")).arg("-c").arg(folder.write("h2o.yaml", own))
            }
            Self::SharedHosting => {
                folder.write("shared.conf", shared_hosting(&site.join("public"), &port));
                apache(&folder, "shared.conf", Extent::Site, &port)
            }
        };
        let served = Served::start(&invocation, Isolation::Namespaces, folder, || answers(&port));
        Emulated { served, port }
    }
}

impl Emulated {
    /// `127.0.0.1:PORT`: what stands before the repository in an image reference.
    pub fn authority(&self) -> String {
        self.port.address().to_string()
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        self.served.log()
    }
}

/// What a shared host has in its own configuration: everything that could get into the way.
fn shared_hosting(public: &Path, port: &Port) -> String {
    let (address, public) = (port.address(), public.display());
    format!(
        r#"Listen {address}
<VirtualHost {address}>
    ServerName shared.invalid
    DocumentRoot "{public}"
    AllowEncodedSlashes NoDecode
    <Directory "{public}">
        Options Indexes FollowSymLinks MultiViews Includes ExecCGI
        AllowOverride FileInfo Indexes Options=Indexes,MultiViews,Includes,ExecCGI,SymLinksIfOwnerMatch
        Require all granted
        DirectoryIndex index.php index.html
        AddHandler cgi-script .cgi .pl
        AddHandler type-map .var
        AddType text/html .shtml .html
        AddType application/x-gzip .gz .tgz
        AddEncoding x-gzip .gz .tgz
        AddOutputFilter INCLUDES .shtml .html
        SetOutputFilter DEFLATE
        Header set Cache-Control "max-age=7200"
        Header set X-Content-Type-Options "nosniff"
        ExpiresActive On
        ExpiresDefault "access plus 1 hour"
    </Directory>
    <FilesMatch "\.ph(?:p|tml)|^0$">
        SetHandler cgi-script
    </FilesMatch>
    <Files ".ht*">
        Require all denied
    </Files>
</VirtualHost>
"#
    )
}

/// Whether it answers as a registry does: some accept connections long before they serve.
fn answers(port: &Port) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&port.address(), Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        std::io::Result::Ok(status)
    };
    ask().is_ok_and(|status| status.ends_with(b" 200"))
}
