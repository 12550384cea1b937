//! Where a bucket is: what people type, and the URLs that this makes.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

use super::super::Key;
use super::sign;

/// A bucket, and perhaps a prefix that all keys begin with: `s3://BUCKET[/PREFIX]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketUrl {
    bucket: Box<str>,
    prefix: Option<Key>,
}

/// A text names no bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no bucket: expected s3://BUCKET or s3://BUCKET/PREFIX")]
pub struct BucketUrlError(String);

impl FromStr for BucketUrl {
    type Err = BucketUrlError;

    fn from_str(text: &str) -> Result<Self, BucketUrlError> {
        let parse = || {
            let rest = text.strip_prefix("s3://")?;
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            // Old buckets have capitals and underscores; nothing here can leave the place in a URL that is meant for it.
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if !(3..=255).contains(&bucket.len()) || !bucket.bytes().all(legal) || bucket.starts_with('.') {
                return None;
            }
            let prefix = match prefix {
                "" => None,
                prefix => Some(prefix.strip_suffix('/').unwrap_or(prefix).parse().ok()?),
            };
            Some(Self { bucket: bucket.into(), prefix })
        };
        parse().ok_or_else(|| BucketUrlError(crate::oci::excerpt(text)))
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.prefix {
            Some(prefix) => write!(f, "s3://{}/{prefix}", self.bucket),
            None => write!(f, "s3://{}", self.bucket),
        }
    }
}

impl BucketUrl {
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
        let text = endpoint.map_or_else(amazon, str::to_owned);
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

    /// The source of a copy, if a [location](Self::location) is of the same service.
    pub(super) fn source<'a>(&self, location: &'a str) -> Option<&'a str> {
        location.strip_prefix(&self.service)
    }

    /// The URL of an object, or of the bucket itself.
    pub(super) fn url(&self, object: Option<&str>, parameters: &[(&str, &str)]) -> Url {
        let mut url = self.bucket.clone();
        if let Some(object) = object {
            // Encoded already, and without the components that a URL would resolve.
            url.set_path(&format!("{}{}", self.bucket.path(), sign::encode(object, true)));
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
        ] {
            assert_eq!(text.parse::<BucketUrl>().unwrap().to_string(), shown);
        }
        for bad in
            ["", "s3:", "s3://", "s3:///p", "s3://ab", "s3://b@d/p", "s3://bucket//", "s3://bucket/../x", "gs://bucket"]
        {
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
