//! Where a bucket is: what people type, and the URLs that this makes.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

use super::super::Key;
use super::sign;

/// Whose API a bucket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon S3's, as many others do: `s3://`.
    S3,
    /// Azure Blob Storage's, where a bucket is called a container: `az://`.
    Azure,
    /// Google Cloud Storage's: `gs://`.
    Google,
}

impl Cloud {
    /// What URLs of its buckets begin with.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3://",
            Self::Azure => "az://",
            Self::Google => "gs://",
        }
    }

    /// Whether a bucket can have this name.
    fn allows(self, bucket: &str) -> bool {
        match self {
            // Old buckets have capitals and underscores; nothing here can leave the place in a URL that is meant for it.
            Self::S3 => {
                let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
                (3..=255).contains(&bucket.len()) && bucket.bytes().all(legal) && !bucket.starts_with('.')
            }
            Self::Google => {
                let legal =
                    |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
                (3..=222).contains(&bucket.len()) && bucket.bytes().all(legal) && !bucket.starts_with('.')
            }
            Self::Azure => {
                let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                let plain = bucket.strip_prefix('$').unwrap_or(bucket);
                (3..=63).contains(&plain.len()) && plain.bytes().all(legal)
            }
        }
    }
}

/// Whether this is the host of a storage account, in one of Microsoft's clouds.
fn is_account_host(host: &str) -> bool {
    let clouds = [
        ".blob.core.windows.net",
        ".blob.core.usgovcloudapi.net",
        ".blob.core.chinacloudapi.cn",
        ".blob.storage.azure.net",
    ];
    clouds.iter().filter_map(|cloud| host.strip_suffix(cloud)).any(|account| {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
        account.bytes().all(legal) && account.starts_with(|first: char| first.is_ascii_alphanumeric())
    })
}

/// A bucket, and perhaps a prefix that all keys begin with: `s3://BUCKET[/PREFIX]`, `gs://BUCKET[/PREFIX]`,
/// `az://CONTAINER[/PREFIX]` or `az://ACCOUNT.blob.core.windows.net/CONTAINER[/PREFIX]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketUrl {
    cloud: Cloud,
    /// The host of the service, where the URL names it.
    host: Option<Box<str>>,
    bucket: Box<str>,
    prefix: Option<Key>,
}

/// A text names no bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no bucket: expected s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX] or \
     az://[ACCOUNT.blob.core.windows.net/]CONTAINER[/PREFIX]"
)]
pub struct BucketUrlError(String);

impl FromStr for BucketUrl {
    type Err = BucketUrlError;

    fn from_str(text: &str) -> Result<Self, BucketUrlError> {
        let parse = || {
            let (cloud, rest) = [Cloud::S3, Cloud::Azure, Cloud::Google]
                .into_iter()
                .find_map(|c| Some((c, text.strip_prefix(c.scheme())?)))?;
            // No container has a dot in its name, and every host has. One that isn't Microsoft's is no place to send a token to
            // because somebody wrote it into a URL: that takes an endpoint.
            let (host, rest) = match rest.split_once('/') {
                Some((host, rest)) if cloud == Cloud::Azure && host.contains('.') => (Some(host), rest),
                _ => (None, rest),
            };
            if host.is_some_and(|host| !is_account_host(host)) {
                return None;
            }
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if !cloud.allows(bucket) {
                return None;
            }
            let prefix = match prefix {
                "" => None,
                prefix => Some(prefix.strip_suffix('/').unwrap_or(prefix).parse().ok()?),
            };
            Some(Self { cloud, host: host.map(Into::into), bucket: bucket.into(), prefix })
        };
        parse().ok_or_else(|| BucketUrlError(crate::oci::excerpt(text)))
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cloud.scheme())?;
        if let Some(host) = &self.host {
            write!(f, "{host}/")?;
        }
        match &self.prefix {
            Some(prefix) => write!(f, "{}/{prefix}", self.bucket),
            None => f.write_str(&self.bucket),
        }
    }
}

impl BucketUrl {
    /// Whose API the bucket speaks.
    #[must_use]
    pub fn cloud(&self) -> Cloud {
        self.cloud
    }

    /// The host of the service, where the URL names it.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What the names of all objects begin with, and a slash.
    #[must_use]
    pub fn prefix(&self) -> Option<&Key> {
        self.prefix.as_ref()
    }

    /// The name of the object under a key.
    pub(super) fn object(&self, key: &Key) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}/{key}"),
            None => key.to_string(),
        }
    }

    /// The bucket's name and that of an object, as the source of a copy is spelled.
    pub(super) fn source(&self, object: &str) -> String {
        sign::encode(&format!("{}/{object}", self.bucket), true)
    }
}

/// Where the bucket's name stands in a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addressing {
    /// In the host's name, if the host is Amazon's and the bucket's name may stand there; else in the path.
    #[default]
    Auto,
    /// In the path.
    Path,
    /// In front of the host's name.
    Virtual,
}

/// The URL of a bucket, which the names of its objects are added to.
#[derive(Debug, Clone)]
pub(super) struct Base {
    bucket: Url,
    /// The URL of the service, with a slash at its end.
    service: String,
}

impl Base {
    /// The URL of a bucket at an endpoint, or at Amazon's for the region.
    ///
    /// # Errors
    ///
    /// What is wrong with the endpoint or the region.
    pub(super) fn new(at: &BucketUrl, endpoint: Option<&str>, region: &str, style: Addressing) -> Result<Self, String> {
        let bucket = &at.bucket;
        let amazon = || {
            let country = if region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://s3.{region}.amazonaws.com{country}")
        };
        let text = match (endpoint, at.host()) {
            (Some(endpoint), _) => endpoint.to_owned(),
            (None, Some(host)) => format!("https://{host}"),
            (None, None) if at.cloud == Cloud::Google => "https://storage.googleapis.com".to_owned(),
            (None, None) => amazon(),
        };
        let problem = || format!("{text:?} is no endpoint: expected http(s)://HOST[:PORT]");
        if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) || region.is_empty()
        {
            return Err(format!("{region:?} is no region"));
        }
        let mut url: Url = text.parse().map_err(|_| problem())?;
        let plain = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !plain || url.query().is_some() || url.fragment().is_some() {
            return Err(problem());
        }
        // A certificate for all buckets covers one label, and so no name with a dot.
        let is_label = bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let in_host = match style {
            _ if at.cloud != Cloud::S3 => false,
            Addressing::Auto => endpoint.is_none() && is_label,
            Addressing::Path => false,
            Addressing::Virtual => true,
        };
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{path}/"));
        let service = url.to_string();
        if in_host {
            let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
            url.set_host(Some(&host)).map_err(|_| format!("{bucket} can't stand in front of {text}"))?;
        } else {
            url.set_path(&format!("{path}/{bucket}/"));
        }
        Ok(Self { bucket: url, service })
    }

    /// Where the object under a key of a bucket of the service lies, in one spelling however the service is asked.
    pub(super) fn location(&self, at: &BucketUrl, key: &Key) -> String {
        format!("{}{}", self.service, at.source(&at.object(key)))
    }

    /// The name of the account that a service is of: the first label of its host, or of its path where several are at one host.
    pub(super) fn account(&self) -> Option<&str> {
        let path = self.service.splitn(4, '/').nth(3)?.trim_end_matches('/');
        let host = self.bucket.host_str()?.split_once('.')?.0;
        Some(path.split('/').next().filter(|name| !name.is_empty()).unwrap_or(host))
    }

    /// The source of a copy, if a [location](Self::location) is of the same service.
    pub(super) fn source<'a>(&self, location: &'a str) -> Option<&'a str> {
        location.strip_prefix(&self.service)
    }

    /// Whether a URL is one of the service, at the same host and port.
    pub(super) fn is_of_service(&self, url: &Url) -> bool {
        url.origin() == self.bucket.origin() && url.username().is_empty() && url.password().is_none()
    }

    /// The URL of something of the service that is no object as it lies there, by its encoded path.
    pub(super) fn of_service(&self, path: &str, parameters: &[(&str, &str)]) -> Url {
        let mut url = self.bucket.clone();
        let service = self.service.splitn(4, '/').nth(3).unwrap_or_default();
        url.set_path(&format!("/{service}{path}"));
        if !parameters.is_empty() {
            url.set_query(Some(&sign::query(parameters)));
        }
        url
    }

    /// The URL of an object, or of the bucket itself.
    pub(super) fn url(&self, object: Option<&str>, parameters: &[(&str, &str)]) -> Url {
        let mut url = self.bucket.clone();
        match object {
            // Encoded already, and without the components that a URL would resolve.
            Some(object) => url.set_path(&format!("{}{}", self.bucket.path(), sign::encode(object, true))),
            // To Azure, what is behind a slash is an object.
            None if parameters.iter().any(|(name, _)| *name == "restype") => {
                url.set_path(self.bucket.path().trim_end_matches('/'));
            }
            None => {}
        }
        if !parameters.is_empty() {
            url.set_query(Some(&sign::query(parameters)));
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type() {
        for (text, shown) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://my.bucket/a/b/", "s3://my.bucket/a/b"),
            ("s3://Old_Bucket/p", "s3://Old_Bucket/p"),
            ("az://images", "az://images"),
            ("az://$web/a/", "az://$web/a"),
            ("gs://my.bucket_1/a/", "gs://my.bucket_1/a"),
            ("az://acme.blob.core.windows.net/images/a/b", "az://acme.blob.core.windows.net/images/a/b"),
        ] {
            assert_eq!(text.parse::<BucketUrl>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "s3:",
            "s3://",
            "s3:///p",
            "s3://ab",
            "s3://b@d/p",
            "s3://bucket//",
            "s3://bucket/../x",
            "gs://Bucket",
            "gs://",
            "az://Images",
            "az://a.blob.core.windows.net",
            "az://a.blob.core.windows.net/",
            "az://u@a.blob.core.windows.net/images",
            "az://evil.example/images",
            "az://.blob.core.windows.net/images",
            "az://images//",
        ] {
            assert!(bad.parse::<BucketUrl>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn keys_and_objects() {
        let key: Key = "v2/x".parse().unwrap();
        let plain: BucketUrl = "s3://bucket".parse().unwrap();
        let below: BucketUrl = "s3://bucket/a".parse().unwrap();
        assert_eq!(plain.object(&key), "v2/x");
        assert_eq!(below.object(&key), "a/v2/x");
        assert_eq!(below.source("a/b c"), "bucket/a/b%20c");
    }

    #[test]
    fn locations() {
        let key: Key = "v2/a:b".parse().unwrap();
        let base = |at: &BucketUrl, endpoint, style| Base::new(at, endpoint, "eu-west-1", style).unwrap();
        let (one, other): (BucketUrl, BucketUrl) = ("s3://one/p".parse().unwrap(), "s3://other".parse().unwrap());
        for endpoint in [None, Some("https://h:9000"), Some("https://h:9000/x/")] {
            for style in [Addressing::Auto, Addressing::Path, Addressing::Virtual] {
                let at = base(&one, endpoint, style).location(&one, &key);
                let asked = base(&other, endpoint, Addressing::Path);
                assert_eq!(asked.source(&at), Some("one/p/v2/a%3Ab"), "{endpoint:?} {style:?}");
                for elsewhere in ["https://h", "https://h:9", "http://h:9000", "https://h.example:9000"] {
                    assert_eq!(base(&other, Some(elsewhere), style).source(&at), None, "{elsewhere}");
                }
            }
        }
    }

    #[test]
    fn urls() {
        let url = |at: &str, endpoint, style| {
            let base = Base::new(&at.parse().unwrap(), endpoint, "eu-west-1", style);
            base.map(|base| base.url(Some("v2/a:b"), &[("uploads", "")]).to_string())
        };
        for (at, endpoint, style, expected) in [
            ("s3://b-1", None, Addressing::Auto, "https://b-1.s3.eu-west-1.amazonaws.com/v2/a%3Ab?uploads="),
            ("s3://b.1", None, Addressing::Auto, "https://s3.eu-west-1.amazonaws.com/b.1/v2/a%3Ab?uploads="),
            ("s3://b-1", None, Addressing::Path, "https://s3.eu-west-1.amazonaws.com/b-1/v2/a%3Ab?uploads="),
            (
                "s3://b-1",
                Some("http://localhost:9000/"),
                Addressing::Auto,
                "http://localhost:9000/b-1/v2/a%3Ab?uploads=",
            ),
            ("s3://b-1", Some("https://r2.example"), Addressing::Virtual, "https://b-1.r2.example/v2/a%3Ab?uploads="),
            ("s3://b-1", Some("https://h/x"), Addressing::Auto, "https://h/x/b-1/v2/a%3Ab?uploads="),
        ] {
            assert_eq!(url(at, endpoint, style).as_deref(), Ok(expected));
        }
        for bad in ["localhost:9000", "ftp://h", "https://u:p@h", "https://h/?x", "http://"] {
            assert!(url("s3://b-1", Some(bad), Addressing::Auto).is_err(), "{bad:?} was accepted");
        }
        assert!(Base::new(&"s3://b-1".parse().unwrap(), None, "evil.example/", Addressing::Auto).is_err());
    }
}
