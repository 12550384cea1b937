//! What `az storage` and Microsoft's libraries find in the environment: the account, its key, a shared access signature or a
//! connection string with all of that; and otherwise who this program is to Microsoft Entra ID.

use std::sync::Arc;

use anyhow::bail;
use async_trait::async_trait;
use roadstead::http::{BoxError, Client};
use roadstead::store::bucket::{AzureCredentialSource, AzureKey, AzureOptions, BucketUrl};
use url::Url;

use super::entra::Entra;
use super::services::Tokens;
use crate::environment::Environment;

/// How a container is reached.
pub(super) struct Azure {
    pub(super) endpoint: Option<String>,
    pub(super) options: AzureOptions,
}

/// What the environment says of an account.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    account: Option<String>,
    endpoint: Option<String>,
    key: Option<AzureKey>,
}

impl Settings {
    fn read(environment: &Environment) -> anyhow::Result<Self> {
        let variable = |name| environment.text(name).filter(|text| !text.is_empty());
        if let Some(text) = variable("AZURE_STORAGE_CONNECTION_STRING") {
            return Self::connection(&text);
        }
        let key = variable("AZURE_STORAGE_KEY").or_else(|| variable("AZURE_STORAGE_ACCOUNT_KEY"));
        let signature = variable("AZURE_STORAGE_SAS_TOKEN");
        let signature = signature.map(|text| AzureKey::Signature(text.into()));
        let endpoint = variable("AZURE_STORAGE_SERVICE_ENDPOINT");
        let account = variable("AZURE_STORAGE_ACCOUNT").or_else(|| variable("AZURE_STORAGE_ACCOUNT_NAME"));
        Ok(Self {
            account: account.or_else(|| endpoint.as_deref().and_then(account_of)),
            endpoint,
            key: key.map(|text| AzureKey::Account(text.into())).or(signature),
        })
    }

    /// `AccountName=…;AccountKey=…;…`, as the portal shows it.
    fn connection(text: &str) -> anyhow::Result<Self> {
        let value = |name: &str| {
            let mut pairs = text.split(';').filter_map(|pair| pair.trim().split_once('='));
            pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let account = value("AccountName").or_else(|| value("BlobEndpoint").and_then(|endpoint| account_of(&endpoint)));
        let named = |account: &String| {
            let protocol = value("DefaultEndpointsProtocol").unwrap_or_else(|| "https".to_owned());
            let suffix = value("EndpointSuffix").unwrap_or_else(|| "core.windows.net".to_owned());
            format!("{protocol}://{account}.blob.{suffix}")
        };
        let endpoint = value("BlobEndpoint").or_else(|| account.as_ref().map(named));
        if endpoint.is_none() {
            bail!("AZURE_STORAGE_CONNECTION_STRING has neither AccountName nor BlobEndpoint");
        }
        let signature = value("SharedAccessSignature").map(|text| AzureKey::Signature(text.into()));
        let key = value("AccountKey").map(|text| AzureKey::Account(text.into())).or(signature);
        Ok(Self { account, endpoint, key })
    }
}

/// The account that an endpoint is of: what its path begins with, where several are at one host, else its host.
fn account_of(endpoint: &str) -> Option<String> {
    let url = Url::parse(endpoint).ok()?;
    let path = url.path_segments().and_then(|mut path| path.next()).filter(|first| !first.is_empty());
    path.or_else(|| url.host_str()?.split('.').next()).map(str::to_owned)
}

/// How a container is reached, by what was typed and what the environment says.
pub(super) fn resolve(
    environment: &Environment,
    client: &Client,
    at: &BucketUrl,
    account: Option<&str>,
    anonymous: bool,
) -> anyhow::Result<Azure> {
    let mut settings = Settings::read(environment)?;
    let typed = at.host().and_then(|host| host.split('.').next());
    if let (Some(typed), Some(account)) = (typed, account)
        && typed != account
    {
        bail!("{at} is of the account {typed}, and --account says {account}");
    }
    if let Some(meant) = typed.or(account) {
        if settings.account.as_deref().is_some_and(|other| other != meant) {
            // Another account's key is nothing to show to this one.
            settings = Settings::default();
        }
        settings.account = Some(meant.to_owned());
    }
    if at.host().is_some() {
        settings.endpoint = None;
    }
    let credentials: Option<Arc<dyn AzureCredentialSource>> = match settings.key {
        _ if anonymous => None,
        Some(key) => Some(Arc::new(key)),
        None => Some(Arc::new(Tokens::new(Entra::new(environment, client.clone())?))),
    };
    let options = AzureOptions { account: settings.account, credentials };
    Ok(Azure { endpoint: settings.endpoint, options })
}

#[async_trait]
impl AzureCredentialSource for Tokens {
    async fn key(&self) -> Result<AzureKey, BoxError> {
        self.get().await.map(AzureKey::Token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings() {
        let read = |text| Settings::connection(text).unwrap();
        let portal =
            read("DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=YQ==;EndpointSuffix=core.windows.net");
        assert_eq!(portal.endpoint.as_deref(), Some("https://acme.blob.core.windows.net"));
        assert_eq!((portal.account.as_deref(), portal.key), (Some("acme"), Some(AzureKey::Account("YQ==".into()))));
        let shared = read("BlobEndpoint=http://127.0.0.1:1/acme;SharedAccessSignature=sv=1&sig=x");
        assert_eq!(shared.endpoint.as_deref(), Some("http://127.0.0.1:1/acme"));
        assert_eq!(
            (shared.account.as_deref(), shared.key),
            (Some("acme"), Some(AzureKey::Signature("sv=1&sig=x".into())))
        );
        let of_host = read("BlobEndpoint=https://acme.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x");
        assert_eq!(of_host.account.as_deref(), Some("acme"), "so that it is shown to no other account");
        assert!(Settings::connection("UseDevelopmentStorage=true").is_err());
    }
}
