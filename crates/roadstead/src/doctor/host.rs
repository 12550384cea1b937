//! Who serves, as far as headers tell.

use ::http::HeaderMap;

macro_rules! hosts {
    ($($name:ident = $shown:literal, $code:literal,)+) => {
        /// What serves files, or stands in front of what does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[expect(missing_docs, reason = "each is called what it is called")]
        pub enum Host {
            $($name,)+
        }

        impl Host {
            /// All that are recognised.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What people call it.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $shown,)+
                }
            }

            /// What scripts call it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)+
                }
            }
        }
    };
}

hosts! {
    Nginx = "nginx", "nginx",
    Caddy = "Caddy", "caddy",
    Apache = "Apache httpd", "apache",
    Lighttpd = "lighttpd", "lighttpd",
    StaticWebServer = "static-web-server", "static-web-server",
    Python = "Python's http.server", "python",
    S3 = "Amazon S3", "s3",
    Minio = "MinIO", "minio",
    R2 = "Cloudflare R2", "r2",
    Gcs = "Google Cloud Storage", "gcs",
    AzureBlob = "Azure Blob Storage", "azure-blob",
    AzureStaticWebApps = "Azure Static Web Apps", "azure-static-web-apps",
    CloudFront = "Amazon CloudFront", "cloudfront",
    Netlify = "Netlify", "netlify",
    Cloudflare = "Cloudflare", "cloudflare",
    Fastly = "Fastly", "fastly",
    Varnish = "Varnish", "varnish",
    GithubPages = "GitHub Pages", "github-pages",
    GitlabPages = "GitLab Pages", "gitlab-pages",
    Vercel = "Vercel", "vercel",
    Firebase = "Firebase Hosting", "firebase",
    Kubo = "Kubo (an IPFS gateway)", "kubo",
    Distribution = "a registry server", "distribution",
}

/// The most telling sign first: a bucket behind a CDN shows both, and the bucket's own headers say what can be set where.
const SIGNS: &[(&str, &str, Host)] = &[
    ("x-github-request-id", "", Host::GithubPages),
    ("server", "github.com", Host::GithubPages),
    ("x-ipfs-path", "", Host::Kubo),
    ("x-ipfs-roots", "", Host::Kubo),
    ("x-nf-request-id", "", Host::Netlify),
    ("server", "netlify", Host::Netlify),
    ("x-vercel-id", "", Host::Vercel),
    ("server", "vercel", Host::Vercel),
    ("x-minio-", "", Host::Minio),
    ("server", "minio", Host::Minio),
    ("x-goog-", "", Host::Gcs),
    ("x-guploader-uploadid", "", Host::Gcs),
    ("x-ms-version", "", Host::AzureBlob),
    ("x-ms-blob-type", "", Host::AzureBlob),
    ("server", "windows-azure-blob", Host::AzureBlob),
    ("server", "windows-azure-web", Host::AzureBlob),
    ("x-firebase-", "", Host::Firebase),
    ("gitlab-lb", "", Host::GitlabPages),
    ("server", "amazons3", Host::S3),
    ("x-amz-cf-id", "", Host::CloudFront),
    ("server", "cloudfront", Host::CloudFront),
    ("x-amz-request-id", "", Host::S3),
    ("server", "cloudflare", Host::Cloudflare),
    ("cf-ray", "", Host::Cloudflare),
    ("x-fastly-request-id", "", Host::Fastly),
    ("x-served-by", "cache-", Host::Fastly),
    ("server", "nginx", Host::Nginx),
    ("server", "openresty", Host::Nginx),
    ("server", "caddy", Host::Caddy),
    ("server", "apache", Host::Apache),
    ("server", "lighttpd", Host::Lighttpd),
    ("server", "static-web-server", Host::StaticWebServer),
    ("server", "simplehttp", Host::Python),
    ("x-varnish", "", Host::Varnish),
    ("via", "varnish", Host::Varnish),
    // Whatever hands out a tree says so, too: last.
    ("docker-distribution-api-version", "", Host::Distribution),
];

/// Of some hosts the name tells, where headers don't: they say nothing of themselves.
const NAMES: &[(&str, Host)] = &[
    (".azurestaticapps.net", Host::AzureStaticWebApps),
    (".web.core.windows.net", Host::AzureBlob),
    (".blob.core.windows.net", Host::AzureBlob),
];

impl Host {
    /// The host at this name, with or without a port.
    #[must_use]
    pub fn at(name: &str) -> Option<Self> {
        let name = name.split(':').next().unwrap_or(name).to_ascii_lowercase();
        NAMES.iter().find(|(end, _)| name.ends_with(end)).map(|(_, host)| *host)
    }

    /// The host that these headers are of.
    #[must_use]
    pub fn recognise(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| {
            let found = headers.iter().filter(|(header, _)| {
                // A sign that ends in a hyphen is the beginning of many.
                if name.ends_with('-') { header.as_str().starts_with(name) } else { header.as_str() == name }
            });
            found.map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase()).next()
        };
        // R2 speaks S3's language through Cloudflare's doors.
        let bucket = text("x-amz-request-id").is_some() || text("x-amz-version-id").is_some();
        if bucket && text("cf-ray").is_some() {
            return Some(Self::R2);
        }
        SIGNS
            .iter()
            .find(|(name, part, _)| text(name).is_some_and(|value| value.contains(part)))
            .map(|(.., host)| *host)
    }
}

#[cfg(test)]
mod tests {
    use ::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn hosts_are_told_apart() {
        for (headers, host) in [
            (&[("docker-distribution-api-version", "registry/2.0"), ("server", "nginx/1.22.1")][..], Some(Host::Nginx)),
            (&[("docker-distribution-api-version", "registry/2.0")], Some(Host::Distribution)),
            (&[("server", "cloudflare"), ("cf-ray", "8")], Some(Host::Cloudflare)),
            (&[("server", "cloudflare"), ("cf-ray", "8"), ("x-amz-request-id", "1")], Some(Host::R2)),
            (&[("server", "AmazonS3"), ("x-amz-cf-id", "1")], Some(Host::S3)),
            (&[("server", "cloudflare"), ("x-github-request-id", "1")], Some(Host::GithubPages)),
            (&[("x-goog-generation", "1")], Some(Host::Gcs)),
            (&[("server", "Windows-Azure-Web/1.0 Microsoft-HTTPAPI/2.0")], Some(Host::AzureBlob)),
            (&[("server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0")], Some(Host::AzureBlob)),
            (&[("x-served-by", "cache-fra-1")], Some(Host::Fastly)),
            (&[("server", "SimpleHTTP/0.6 Python/3.11")], Some(Host::Python)),
            (&[("server", "something")], None),
            (&[], None),
        ] {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(Host::recognise(&headers), host, "{headers:?}");
        }
    }

    #[test]
    fn some_are_known_by_name() {
        for (name, host) in [
            ("calm-sea-0a1b2c3d4.5.azurestaticapps.net", Some(Host::AzureStaticWebApps)),
            ("Account.z6.web.core.windows.net:443", Some(Host::AzureBlob)),
            ("azurestaticapps.net.example", None),
            ("localhost:5000", None),
        ] {
            assert_eq!(Host::at(name), host, "{name}");
        }
    }

    #[test]
    fn every_host_has_a_sign() {
        for host in Host::ALL {
            let told = SIGNS.iter().any(|(.., of)| of == host) || NAMES.iter().any(|(_, of)| of == host);
            assert!(*host == Host::R2 || told, "{host:?}");
        }
    }
}
