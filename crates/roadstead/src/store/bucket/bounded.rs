//! Signatures of Azure's that end at a given moment, by the service's clock: what is sent with one comes until then, or never.
//!
//! Whoever has the account's key signs them with that. Whoever has a token asks the service for a key to sign with, which takes
//! the right to do so for the whole account (`generateUserDelegationKey`); the roles that may write objects have it, if they were
//! given for the account. Whoever was handed a signature has nothing to make another one with.
//!
//! Source: Azure Storage REST API reference, "Create a service SAS", "Create a user delegation SAS", "Get User Delegation Key".

use std::fmt;
use std::time::{Duration, SystemTime};

use ::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

use super::azure::{AzureKey, SignError, VERSION};
use super::client::{Call, Calls, Failed};
use super::{BucketError, Service, sign, xml};
use crate::http::Secret;

/// What a signature is for.
#[derive(Debug, Clone, Copy)]
enum Grant<'a> {
    /// To read (what is copied), create, write and delete everything in the container.
    Container,
    /// To read one object.
    Object(&'a str),
}

impl Grant<'_> {
    /// What it allows, and of what kind that is.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Container => ("rcwd", "c"),
            Self::Object(_) => ("r", "b"),
        }
    }
}

/// For how long a key is asked for, and by how much the clocks may differ.
const KEY_LIFE: Duration = Duration::from_hours(12);
const SKEW: Duration = Duration::from_mins(10);

/// A key that the service gave to whoever has a token.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Delegation {
    signed_oid: String,
    signed_tid: String,
    signed_start: String,
    signed_expiry: String,
    signed_service: String,
    signed_version: String,
    value: String,
}

impl fmt::Debug for Delegation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delegation").field("until", &self.signed_expiry).finish_non_exhaustive()
    }
}

/// What is known of a key for whoever has a token.
#[derive(Debug, Default)]
pub(super) enum Delegated {
    #[default]
    Unasked,
    /// It isn't theirs to have.
    Refused,
    Until(SystemTime, Box<Delegation>),
}

/// With what a signature is made.
enum Key<'a> {
    Account(&'a Secret),
    Delegated(&'a Delegation),
}

/// `YYYY-MM-DDTHH:MM:SSZ`.
fn moment(time: SystemTime) -> String {
    let text = sign::timestamp(time);
    let [year, month, day] = [&text[..4], &text[4..6], &text[6..8]];
    let [hour, minute, second] = [&text[9..11], &text[11..13], &text[13..15]];
    format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")
}

/// A signature that ends then, for what is in a container.
fn signature(
    (account, container): (&str, &str),
    grant: Grant<'_>,
    key: &Key<'_>,
    ends: SystemTime,
) -> Result<Secret, SignError> {
    let (allowed, kind) = grant.words();
    let mut resource = format!("/blob/{account}/{container}");
    if let Grant::Object(object) = grant {
        resource = format!("{resource}/{object}");
    }
    let ends = moment(ends);
    let (secret, said) = match key {
        Key::Account(secret) => (secret.reveal(), Vec::new()),
        Key::Delegated(by) => {
            let said = [
                ("skoid", &by.signed_oid),
                ("sktid", &by.signed_tid),
                ("skt", &by.signed_start),
                ("ske", &by.signed_expiry),
                ("sks", &by.signed_service),
                ("skv", &by.signed_version),
            ];
            (by.value.as_str(), said.map(|(name, value)| (name, value.as_str())).to_vec())
        }
    };
    let mut lines = vec![allowed, "", &ends, &resource];
    match key {
        // A stored policy.
        Key::Account(_) => lines.push(""),
        // Whose key, from when to when; and for whom, of which nothing is said.
        Key::Delegated(_) => lines.extend(said.iter().map(|(_, value)| *value).chain(["", "", ""])),
    }
    // Addresses, protocols, version, what kind it is, no snapshot, no scope of encryption, and five headers of answers.
    lines.extend(["", "", VERSION, kind, "", "", "", "", "", "", ""]);
    let secret = BASE64.decode(secret.trim()).map_err(|_| SignError::Key)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).map_err(|_| SignError::Key)?;
    mac.update(lines.join("\n").as_bytes());
    let proof = BASE64.encode(mac.finalize().into_bytes());
    let all = [("sv", VERSION), ("sr", kind), ("sp", allowed), ("se", &ends), ("sig", &proof)];
    Ok(sign::query(&all.into_iter().chain(said).collect::<Vec<_>>()).into())
}

#[derive(Debug)]
pub(super) struct Bounds {
    delegated: tokio::sync::Mutex<Delegated>,
}

impl Bounds {
    pub(super) fn new() -> Self {
        Self { delegated: tokio::sync::Mutex::default() }
    }
}

impl Calls {
    /// Whether something can be sent that the service refuses when it comes too late.
    pub(super) async fn refuses_late(&self) -> Result<bool, BucketError> {
        match &self.service {
            Service::S3 { credentials, .. } => Ok(credentials.is_some()),
            Service::Azure { .. } => Ok(self.until(SystemTime::UNIX_EPOCH).await?.is_some()),
            Service::Google { .. } => Ok(false),
        }
    }

    /// What proves to Azure who asks, and ends then; `None` if there is nothing to make it of.
    pub(super) async fn until(&self, ends: SystemTime) -> Result<Option<AzureKey>, BucketError> {
        Ok(self.granted(Grant::Container, ends).await?.map(AzureKey::Signature))
    }

    /// What lets anybody read an object of Azure's, and ends then; `None` if there is nothing to make it of.
    pub(super) async fn readable_until(&self, object: &str, ends: SystemTime) -> Result<Option<Secret>, BucketError> {
        self.granted(Grant::Object(object), ends).await
    }

    async fn granted(&self, grant: Grant<'_>, ends: SystemTime) -> Result<Option<Secret>, BucketError> {
        let Service::Azure { account, container, credentials: Some(source), bounds } = &self.service else {
            return Ok(None);
        };
        let signed = match source.key().await.map_err(BucketError::Credentials)? {
            AzureKey::Signature(_) => return Ok(None),
            AzureKey::Account(secret) => signature((account, container), grant, &Key::Account(&secret), ends),
            AzureKey::Token(_) => match self.delegation(bounds).await? {
                Some(by) => signature((account, container), grant, &Key::Delegated(&by), ends),
                None => return Ok(None),
            },
        };
        signed.map(Some).map_err(|error| BucketError::Credentials(error.to_string().into()))
    }

    /// The key to sign with, asked for when there is none that lasts.
    async fn delegation(&self, bounds: &Bounds) -> Result<Option<Delegation>, BucketError> {
        let now = self.client.shared().options.clock.wall();
        let mut known = bounds.delegated.lock().await;
        match &*known {
            Delegated::Refused => return Ok(None),
            Delegated::Until(end, by) if now + KEY_LIFE / 2 < *end => return Ok(Some((**by).clone())),
            Delegated::Until(..) | Delegated::Unasked => {}
        }
        let end = now + KEY_LIFE;
        let asked = format!(
            r#"<?xml version="1.0" encoding="utf-8"?><KeyInfo><Start>{}</Start><Expiry>{}</Expiry></KeyInfo>"#,
            moment(now - SKEW),
            moment(end)
        );
        let call = Call::of_service(Method::POST, String::new(), "s3:PutObject")
            .parameter("restype", "service")
            .parameter("comp", "userdelegationkey")
            .body(asked.into());
        // What signs a call is asked for by none but those that have an end.
        match Box::pin(self.ask(&call)).await {
            Ok((answer, _)) => {
                let by: Delegation = xml::read(&answer).map_err(BucketError::Answer)?;
                *known = Delegated::Until(end, Box::new(by.clone()));
                Ok(Some(by))
            }
            Err(Failed { error: BucketError::Refused { status, code, .. }, .. }) if status.is_client_error() => {
                tracing::debug!(%status, code, "there is no key to sign with, so nothing that is sent has an end");
                *known = Delegated::Refused;
                Ok(None)
            }
            Err(failed) => Err(failed.error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(moment(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_698_000)), "2026-11-26T13:00:00Z");
    }

    #[test]
    fn what_a_signature_says_is_what_is_signed() {
        let ends = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_698_000);
        let text =
            |key: &Key<'_>| signature(("acme", "images"), Grant::Container, key, ends).unwrap().reveal().to_owned();
        let by_account = text(&Key::Account(&"YQ==".into()));
        let said = "se=2026-11-26T13%3A00%3A00Z&sig=";
        assert!(by_account.starts_with(said) && by_account.ends_with("&sp=rcwd&sr=c&sv=2021-12-02"), "{by_account}");
        let by: Delegation = xml::read(
            b"<UserDelegationKey><SignedOid>me</SignedOid><SignedTid>us</SignedTid><SignedStart>2026-11-26T12:00:00Z</SignedStart>\
              <SignedExpiry>2026-11-27T12:00:00Z</SignedExpiry><SignedService>b</SignedService>\
              <SignedVersion>2021-12-02</SignedVersion><Value>YQ==</Value></UserDelegationKey>",
        )
        .unwrap();
        let delegated = text(&Key::Delegated(&by));
        for part in ["skoid=me", "sktid=us", "skt=2026-11-26T12%3A00%3A00Z", "sks=b", "skv=2021-12-02", "sp=rcwd"] {
            assert!(delegated.contains(part), "{delegated}");
        }
        let proof = |text: &str| text.split('&').find(|part| part.starts_with("sig=")).unwrap().to_owned();
        assert_ne!(proof(&by_account), proof(&delegated));
        assert!(!format!("{by:?}").contains("YQ"), "{by:?}");
        let bad = signature(("a", "b"), Grant::Container, &Key::Account(&"no base64!".into()), ends);
        assert!(matches!(bad, Err(SignError::Key)));
    }
}
