//! Buckets on the command line: where a tree is, and how a bucket is reached. Options, variables and files are those of the
//! `aws` command, for containers of Azure those of `az storage`, and for Google's buckets those of `gcloud` and its libraries.

mod azure;
mod chain;
mod entra;
mod google;
mod profile;
mod services;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ValueEnum, value_parser};
use roadstead::http::{Client, ClientOptions, RetryPolicy, Roots, Timeouts, TlsOptions};
use roadstead::store::BucketStore;
use roadstead::store::bucket::{Addressing, AzureOptions, BucketOptions, BucketUrl, Cloud, CredentialSource};

use crate::environment::Environment;
use chain::Chain;
use profile::Profile;

/// How often a bucket is asked in a row before it counts as failing: services slow down whoever is too fast, for minutes.
const ATTEMPTS: u32 = 12;

/// How often it is asked while a client waits for an answer.
const RETRY_FOR_CLIENTS: RetryPolicy = RetryPolicy {
    attempts: 5,
    first_delay: Duration::from_millis(300),
    max_delay: Duration::from_secs(3),
    max_retry_after: Duration::from_secs(5),
};

/// Where a tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TreePlace {
    Folder(PathBuf),
    Bucket(BucketUrl),
}

impl TreePlace {
    /// What reads one from the command line.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(Self::try_from)
    }
}

impl TryFrom<OsString> for TreePlace {
    type Error = String;

    fn try_from(typed: OsString) -> Result<Self, String> {
        match typed.to_str() {
            Some(text) if ["s3://", "az://", "gs://"].iter().any(|scheme| text.starts_with(scheme)) => {
                text.parse().map(Self::Bucket).map_err(|e| format!("{e}"))
            }
            Some(text) if ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) => Err(
                "a tree is in a folder, in a bucket of S3 or Google, s3://BUCKET[/PREFIX] or gs://BUCKET[/PREFIX], or in an \
                 Azure container, az://CONTAINER[/PREFIX]"
                    .to_owned(),
            ),
            _ => Ok(Self::Folder(typed.into())),
        }
    }
}

impl fmt::Display for TreePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Bucket(bucket) => bucket.fmt(f),
        }
    }
}

/// How a bucket is reached, and what is written to it.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Bucket options (with s3://…, az://… and gs://…)")]
pub(crate) struct BucketArgs {
    /// The service, if it isn't Amazon's: R2, MinIO, Garage, Ceph, B2, Wasabi, Scaleway, … [env: AWS_ENDPOINT_URL_S3,
    /// AWS_ENDPOINT_URL]
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    endpoint_url: Option<String>,

    /// The bucket's region [env: AWS_REGION, AWS_DEFAULT_REGION]
    #[arg(long, global = true, value_name = "REGION", hide_short_help = true)]
    region: Option<String>,

    /// A profile in ~/.aws/config and ~/.aws/credentials [env: AWS_PROFILE]
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    profile: Option<String>,

    /// The storage account that az://CONTAINER is of; az://ACCOUNT.blob.core.windows.net/CONTAINER says it, too [env:
    /// AZURE_STORAGE_ACCOUNT]
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    account: Option<String>,

    /// Ask as nobody in particular, as anybody may where a bucket is public
    #[arg(long, global = true, hide_short_help = true)]
    no_sign_request: bool,

    /// Where the bucket's name stands in URLs
    #[arg(long, global = true, value_enum, default_value_t = Style::Auto, value_name = "STYLE", hide_short_help = true)]
    addressing_style: Style,

    /// File of certificates to trust instead of the system's [env: AWS_CA_BUNDLE]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    ca_bundle: Option<PathBuf>,

    /// Canned access control list of what is written, such as public-read; many buckets refuse any
    #[arg(long, global = true, value_name = "ACL", hide_short_help = true)]
    acl: Option<String>,

    /// Storage class of what is written, or access tier: Hot, Cool, Cold
    #[arg(long, global = true, value_name = "CLASS", hide_short_help = true)]
    storage_class: Option<String>,

    /// Encryption by the service of what is written
    #[arg(long, global = true, value_name = "METHOD", num_args = 0..=1, require_equals = true, default_missing_value = "AES256", hide_short_help = true)]
    sse: Option<String>,

    /// Key for --sse=aws:kms
    #[arg(long, global = true, value_name = "ID", requires = "sse", hide_short_help = true)]
    sse_kms_key_id: Option<String>,

    /// Pay for the requests, where the bucket's owner doesn't
    #[arg(long, global = true, value_name = "requester", value_parser = ["requester"], num_args = 0..=1, require_equals = true, default_missing_value = "requester", hide_short_help = true)]
    request_payer: Option<String>,

    /// Seconds within which a connection has to stand
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30, value_parser = value_parser!(u16).range(1..), hide_short_help = true)]
    cli_connect_timeout: u16,

    /// Seconds within which an answer has to begin, and to go on
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 120, value_parser = value_parser!(u16).range(1..), hide_short_help = true)]
    cli_read_timeout: u16,

    /// Nothing else writes to the bucket meanwhile: needed to remove anything, and where a service knows no conditional writes
    #[arg(long, global = true, hide_short_help = true)]
    exclusive: bool,
}

/// Where the bucket's name stands in URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Style {
    /// In the host's name at Amazon's, else in the path
    Auto,
    /// In the path
    Path,
    /// In the host's name
    Virtual,
}

impl BucketArgs {
    /// A bucket that a tree is in.
    pub(crate) fn open(&self, at: &BucketUrl) -> anyhow::Result<BucketStore> {
        self.open_with(at, RetryPolicy { attempts: ATTEMPTS, ..RetryPolicy::default() })
    }

    /// The same for a server, whose clients wait meanwhile, and come again themselves.
    pub(crate) fn open_for_clients(&self, at: &BucketUrl) -> anyhow::Result<BucketStore> {
        self.open_with(at, RETRY_FOR_CLIENTS)
    }

    fn open_with(&self, at: &BucketUrl, retry: RetryPolicy) -> anyhow::Result<BucketStore> {
        let (client, options) = self.resolve(&Environment::of_this_process(), at, retry)?;
        Ok(BucketStore::open(at.clone(), client, options)?)
    }

    /// The same bucket as others reach it, by another endpoint if one is named.
    pub(crate) fn open_for_others(&self, at: &BucketUrl, endpoint: Option<&str>) -> anyhow::Result<BucketStore> {
        let (client, mut options) = self.resolve(&Environment::of_this_process(), at, RETRY_FOR_CLIENTS)?;
        options.endpoint = endpoint.map(str::to_owned).or(options.endpoint);
        Ok(BucketStore::open(at.clone(), client, options)?)
    }

    fn resolve(
        &self,
        environment: &Environment,
        at: &BucketUrl,
        retry: RetryPolicy,
    ) -> anyhow::Result<(Client, BucketOptions)> {
        let variable =
            |names: &[&str]| names.iter().find_map(|name| environment.text(name)).filter(|text| !text.is_empty());
        let ca_bundle = self.ca_bundle.clone().or_else(|| environment.path("AWS_CA_BUNDLE"));
        let roots = match ca_bundle {
            Some(file) if !file.is_file() => bail!("{}: there is no such file of certificates", file.display()),
            Some(file) => Roots::Paths { file: Some(file), directories: Vec::new() },
            None => environment.roots(),
        };
        let tls = TlsOptions { roots, ..TlsOptions::default() };
        let [connect, answer] =
            [self.cli_connect_timeout, self.cli_read_timeout].map(|seconds| Duration::from_secs(seconds.into()));
        let timeouts = Timeouts { connect, answer, stall: answer.min(Timeouts::default().stall) };
        let client = ClientOptions { tls, retry, timeouts, proxies: environment.proxies(), ..ClientOptions::default() };
        let client = Client::new(client)?;
        if at.cloud() == Cloud::Azure {
            if self.region.is_some() || self.profile.is_some() || self.request_payer.is_some() {
                bail!("--region, --profile and --request-payer are for s3://, and {at} is a container of Azure");
            }
            let azure = azure::resolve(environment, &client, at, self.account.as_deref(), self.no_sign_request)?;
            let options = BucketOptions {
                endpoint: self.endpoint_url.clone().or(azure.endpoint),
                acl: self.acl.clone(),
                storage_class: self.storage_class.clone(),
                encryption: self.sse.clone(),
                alone: self.exclusive,
                azure: azure.options,
                ..BucketOptions::default()
            };
            return Ok((client, options));
        }
        if at.cloud() == Cloud::Google {
            if self.region.is_some() || self.profile.is_some() || self.request_payer.is_some() || self.account.is_some()
            {
                bail!("--region, --profile, --request-payer and --account are not for {at}, a bucket of Google");
            }
            let google = google::resolve(environment, &client, self.endpoint_url.as_deref(), self.no_sign_request)?;
            let options = BucketOptions {
                endpoint: google.endpoint,
                acl: self.acl.clone(),
                storage_class: self.storage_class.clone(),
                encryption: self.sse.clone(),
                alone: self.exclusive,
                google: google.credentials,
                ..BucketOptions::default()
            };
            return Ok((client, options));
        }
        let named = self.profile.clone().or_else(|| variable(&["AWS_PROFILE"]));
        let profile = Profile::read(environment, named.as_deref())?;
        let credentials: Option<Arc<dyn CredentialSource>> = if self.no_sign_request {
            None
        } else {
            Some(Arc::new(Chain::new(environment, client.clone(), self.profile.as_deref())?))
        };
        let options = BucketOptions {
            endpoint: self
                .endpoint_url
                .clone()
                .or_else(|| variable(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]))
                .or(profile.endpoint_url),
            region: self.region.clone().or_else(|| variable(&["AWS_REGION", "AWS_DEFAULT_REGION"])).or(profile.region),
            addressing: match self.addressing_style {
                Style::Auto => Addressing::Auto,
                Style::Path => Addressing::Path,
                Style::Virtual => Addressing::Virtual,
            },
            credentials,
            acl: self.acl.clone(),
            storage_class: self.storage_class.clone(),
            encryption: self.sse.clone(),
            kms_key: self.sse_kms_key_id.clone(),
            requester_pays: self.request_payer.is_some(),
            alone: self.exclusive,
            azure: AzureOptions::default(),
            google: None,
        };
        Ok((client, options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_trees_are() {
        let place = |text: &str| TreePlace::try_from(OsString::from(text));
        assert_eq!(place("registry").unwrap(), TreePlace::Folder("registry".into()));
        assert_eq!(place("s3:/x").unwrap(), TreePlace::Folder("s3:/x".into()));
        assert_eq!(place("s3://bucket/a/").unwrap().to_string(), "s3://bucket/a");
        assert_eq!(place("az://container/a/").unwrap().to_string(), "az://container/a");
        assert_eq!(place("gs://bucket/a/").unwrap().to_string(), "gs://bucket/a");
        for bad in ["s3://", "gs://", "https://host/x"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }
}
