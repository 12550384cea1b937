//! Who this program is to Google: what its libraries call application default credentials. A file that a variable names or
//! `gcloud` has written, for a service account, a user, or a workload elsewhere; else the machine.
//!
//! Source: Google's AIP-4110 to 4117 (authentication of client libraries).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, anyhow, bail, ensure};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use roadstead::http::{BoxError, Client, Secret};
use roadstead::store::bucket::GoogleCredentialSource;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::services::{Giver, Services, Token, Tokens, read, secure};
use crate::environment::Environment;

/// What is asked for: to read, write and delete objects.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

/// What a token has to be good for that another one is made with.
const WIDE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

const TOKENS: &str = "https://oauth2.googleapis.com/token";

/// How a bucket is reached.
pub(super) struct Google {
    pub(super) endpoint: Option<String>,
    pub(super) credentials: Option<Arc<dyn GoogleCredentialSource>>,
}

/// How a bucket is reached, by what the environment says. An emulator is asked by nobody in particular.
pub(super) fn resolve(
    environment: &Environment,
    client: &Client,
    typed: Option<&str>,
    anonymous: bool,
) -> anyhow::Result<Google> {
    let emulator = environment.text("STORAGE_EMULATOR_HOST").filter(|host| !host.is_empty() && typed.is_none());
    let credentials: Option<Arc<dyn GoogleCredentialSource>> = if anonymous || emulator.is_some() {
        None
    } else {
        Some(Arc::new(Tokens::new(Defaults::new(environment, client.clone())?)))
    };
    let with_scheme = |host: String| if host.contains("://") { host } else { format!("http://{host}") };
    Ok(Google { endpoint: typed.map(str::to_owned).or(emulator.map(with_scheme)), credentials })
}

#[async_trait]
impl GoogleCredentialSource for Tokens {
    async fn token(&self) -> Result<Secret, BoxError> {
        self.get().await
    }
}

/// Where credentials are looked for.
struct Defaults {
    services: Services,
    /// The file that is meant, or that is taken if it is there.
    named: Option<PathBuf>,
    usual: Option<PathBuf>,
    machine: String,
    /// Where users' tokens are renewed.
    tokens: String,
}

impl fmt::Debug for Defaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Defaults").field("named", &self.named).finish_non_exhaustive()
    }
}

impl Defaults {
    fn new(environment: &Environment, client: Client) -> anyhow::Result<Self> {
        let gcloud = environment.path("CLOUDSDK_CONFIG").or_else(|| Some(environment.home()?.join(".config/gcloud")));
        let machine = environment.text("GCE_METADATA_HOST").filter(|host| !host.is_empty());
        Ok(Self {
            services: Services::new(client)?,
            named: environment.path("GOOGLE_APPLICATION_CREDENTIALS"),
            usual: gcloud.map(|folder| folder.join("application_default_credentials.json")),
            machine: format!("http://{}", machine.as_deref().unwrap_or("169.254.169.254")),
            tokens: TOKENS.to_owned(),
        })
    }
}

/// A file of credentials.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum File {
    ServiceAccount {
        client_email: String,
        private_key: String,
        private_key_id: Option<String>,
        token_uri: Option<String>,
    },
    AuthorizedUser {
        client_id: String,
        client_secret: String,
        refresh_token: String,
    },
    /// A workload elsewhere, in a job of GitHub or GitLab or in another cloud.
    ExternalAccount {
        audience: String,
        subject_token_type: String,
        token_url: String,
        credential_source: Source,
        service_account_impersonation_url: Option<String>,
    },
    ImpersonatedServiceAccount {
        source_credentials: Box<File>,
        service_account_impersonation_url: String,
    },
}

/// Where a workload finds what says who it is.
#[derive(Deserialize)]
struct Source {
    file: Option<PathBuf>,
    url: Option<String>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    format: Json,
}

#[async_trait]
impl Giver for Defaults {
    async fn give(&self) -> anyhow::Result<Token> {
        let usual = self.usual.as_ref().filter(|file| file.is_file());
        if let Some(path) = self.named.as_ref().or(usual) {
            let text = read(path).await?;
            let given = async {
                // What is wrong with it may have what is secret in it.
                let file: Json = serde_json::from_str(&text).map_err(|_| anyhow!("it is no JSON"))?;
                let kind = file["type"].as_str().unwrap_or_default().to_owned();
                let file: File = serde_json::from_value(file).map_err(|_| {
                    anyhow!(
                        "{kind:?} is no kind of credentials that is known, or it lacks something: expected service_account, \
                         authorized_user, external_account or impersonated_service_account"
                    )
                })?;
                self.by_file(&file, SCOPE).await
            };
            return given.await.with_context(|| format!("{} gives no token", path.display()));
        }
        self.of_the_machine().await.map_err(|error| {
            anyhow!(
                "neither GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login` nor the machine has any \
                 ({error:#})"
            )
        })
    }
}

impl Defaults {
    async fn by_file(&self, file: &File, scope: &str) -> anyhow::Result<Token> {
        match file {
            File::ServiceAccount { client_email, private_key, private_key_id, token_uri } => {
                let url = token_uri.as_deref().unwrap_or(TOKENS);
                let assertion = assertion(client_email, private_key, private_key_id.as_deref(), url, scope)?;
                let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                let form = [("grant_type", grant), ("assertion", &assertion)];
                Token::of(&self.services.ask(&secure(url)?, &[], Some(&form)).await?)
            }
            File::AuthorizedUser { client_id, client_secret, refresh_token } => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", client_id),
                    ("client_secret", client_secret),
                    ("refresh_token", refresh_token),
                ];
                Token::of(&self.services.ask(&secure(&self.tokens)?, &[], Some(&form)).await?)
            }
            File::ExternalAccount {
                audience,
                subject_token_type,
                token_url,
                credential_source,
                service_account_impersonation_url,
            } => {
                let subject = self.subject(credential_source).await?;
                let needed = if service_account_impersonation_url.is_some() { WIDE_SCOPE } else { scope };
                let form = [
                    ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                    ("audience", audience),
                    ("scope", needed),
                    ("subject_token_type", subject_token_type),
                    ("subject_token", subject.trim()),
                ];
                let token = Token::of(&self.services.ask(&secure(token_url)?, &[], Some(&form)).await?)?;
                match service_account_impersonation_url {
                    Some(url) => self.impersonate(url, &token, scope).await,
                    None => Ok(token),
                }
            }
            File::ImpersonatedServiceAccount { source_credentials, service_account_impersonation_url } => {
                ensure!(
                    !matches!(**source_credentials, File::ImpersonatedServiceAccount { .. }),
                    "it is for a service account that is another one's disguise"
                );
                let token = Box::pin(self.by_file(source_credentials, WIDE_SCOPE)).await?;
                self.impersonate(service_account_impersonation_url, &token, scope).await
            }
        }
    }

    /// What says who a workload is.
    async fn subject(&self, source: &Source) -> anyhow::Result<String> {
        let text = match source {
            Source { file: Some(file), .. } => read(file).await?,
            Source { url: Some(url), headers, .. } => {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                self.services.text(&secure(url)?, &headers, None).await?
            }
            _ => bail!("it has its tokens from a program or from another cloud, and only files and URLs are read"),
        };
        if source.format["type"] != "json" {
            return Ok(text);
        }
        let field = source.format["subject_token_field_name"].as_str().unwrap_or_default();
        let said: Json = serde_json::from_str(&text).map_err(|_| anyhow!("what says who this is, is no JSON"))?;
        said[field].as_str().map(str::to_owned).with_context(|| format!("what says who this is, has no {field:?}"))
    }

    /// The token of a service account for somebody who may act as that.
    async fn impersonate(&self, url: &str, token: &Token, scope: &str) -> anyhow::Result<Token> {
        let bearer = format!("Bearer {}", token.reveal());
        let body = ("application/json", json!({ "scope": [scope] }).to_string());
        let said = self.services.text(&secure(url)?, &[("authorization", &bearer)], Some(body)).await?;
        let said: Json = serde_json::from_str(&said).map_err(|_| anyhow!("the answer is no JSON"))?;
        Token::new(said["accessToken"].as_str().unwrap_or_default())
    }

    async fn of_the_machine(&self) -> anyhow::Result<Token> {
        let path = "computeMetadata/v1/instance/service-accounts/default/token";
        let mut url = secure(&format!("{}/{path}", self.machine))?;
        url.query_pairs_mut().append_pair("scopes", SCOPE);
        Token::of(&self.services.ask(&url, &[("metadata-flavor", "Google")], None).await?)
    }
}

/// What a service account signs to get a token: a JSON Web Token by RSA and SHA-256.
fn assertion(account: &str, key: &str, id: Option<&str>, url: &str, scope: &str) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut header = json!({ "alg": "RS256", "typ": "JWT" });
    if let Some(id) = id {
        header["kid"] = id.into();
    }
    let claims = json!({ "iss": account, "scope": scope, "aud": url, "iat": now, "exp": now + 3600 });
    let text = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let unusable = || anyhow!("the key of {account} is no RSA key that can be used");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| unusable())?;
    let key = any_supported_type(&key).map_err(|_| unusable())?;
    let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or_else(unusable)?;
    let signature = signer.sign(text.as_bytes()).map_err(|_| unusable())?;
    Ok(format!("{text}.{}", BASE64.encode(signature)))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize};
    use roadstead::http::ClientOptions;
    use roadstead::testing::{FaultServer, Reply, Seen};

    use super::*;

    /// Whose file says this.
    fn whoever(folder: &tempfile::TempDir, file: &Json, server: &FaultServer) -> Defaults {
        let path = folder.path().join("credentials.json");
        std::fs::write(&path, file.to_string()).unwrap();
        let client = Client::new(ClientOptions::default()).unwrap();
        Defaults {
            services: Services::new(client).unwrap(),
            named: Some(path),
            usual: None,
            machine: server.url(""),
            tokens: server.url("/token"),
        }
    }

    fn form(seen: &Seen) -> std::collections::BTreeMap<String, String> {
        url::form_urlencoded::parse(&seen.body).into_owned().collect()
    }

    fn token(text: &str) -> Reply {
        Reply::ok(json!({ "access_token": text, "expires_in": 3599, "token_type": "Bearer" }).to_string())
    }

    #[tokio::test]
    async fn a_service_account_signs_for_its_token() {
        let (folder, server) = (tempfile::tempdir().unwrap(), FaultServer::start(|_: &Seen| token("its-token")).await);
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let file = json!({
            "type": "service_account", "client_email": "ci@acme.example", "private_key": key.serialize_pem(),
            "private_key_id": "k1", "token_uri": server.url("/of-the-file"), "project_id": "acme",
        });
        let tokens = Tokens::new(whoever(&folder, &file, &server));
        for _ in 0..2 {
            assert_eq!(tokens.get().await.unwrap().reveal(), "its-token");
        }
        assert_eq!(server.lines(), ["POST /of-the-file"], "what is known is not asked for");
        let assertion = form(&server.requests()[0])["assertion"].clone();
        let (text, signature) = assertion.rsplit_once('.').unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.der_bytes());
        public.verify(text.as_bytes(), &BASE64.decode(signature).unwrap()).unwrap();
        let (header, claims) = text.split_once('.').unwrap();
        let read = |part: &str| serde_json::from_slice::<Json>(&BASE64.decode(part).unwrap()).unwrap();
        assert_eq!(read(header), json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" }));
        let claims = read(claims);
        assert_eq!((&claims["iss"], &claims["scope"]), (&json!("ci@acme.example"), &json!(SCOPE)));
        assert_eq!(claims["aud"], server.url("/of-the-file"));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
    }

    #[tokio::test]
    async fn a_user_s_token_is_renewed() {
        let (folder, server) = (tempfile::tempdir().unwrap(), FaultServer::start(|_: &Seen| token("renewed")).await);
        let file = json!({ "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r" });
        assert_eq!(whoever(&folder, &file, &server).give().await.unwrap().reveal(), "renewed");
        let seen = &server.requests()[0];
        assert_eq!((seen.path(), form(seen)["refresh_token"].as_str()), ("/token", "r"));
    }

    #[tokio::test]
    async fn a_workload_elsewhere_exchanges_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let server = FaultServer::start(|seen: &Seen| match seen.path() {
            "/oidc" => Reply::ok(r#"{"value":"of-the-job"}"#),
            "/sts" => token("federated"),
            _ => Reply::ok(r#"{"accessToken":"of-the-account","expireTime":"2030-01-01T00:00:00Z"}"#),
        })
        .await;
        let source = json!({
            "url": server.url("/oidc?audience=x"), "headers": { "Authorization": "Bearer job" },
            "format": { "type": "json", "subject_token_field_name": "value" },
        });
        let file = json!({
            "type": "external_account", "audience": "//iam.googleapis.com/pool", "token_url": server.url("/sts"),
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "credential_source": source,
            "service_account_impersonation_url": server.url("/act"),
        });
        assert_eq!(whoever(&folder, &file, &server).give().await.unwrap().reveal(), "of-the-account");
        let requests = server.requests();
        assert_eq!(requests[0].header("authorization"), "Bearer job");
        assert_eq!(form(&requests[1])["subject_token"], "of-the-job");
        assert_eq!(requests[2].header("authorization"), "Bearer federated");
        assert_eq!(serde_json::from_slice::<Json>(&requests[2].body).unwrap(), json!({ "scope": [SCOPE] }));
    }

    #[tokio::test]
    async fn the_machine_is_somebody_where_no_file_is() {
        let (folder, server) = (tempfile::tempdir().unwrap(), FaultServer::start(|_: &Seen| token("its")).await);
        let machine = Defaults { named: None, ..whoever(&folder, &json!({}), &server) };
        assert_eq!(machine.give().await.unwrap().reveal(), "its");
        assert_eq!(server.requests()[0].header("metadata-flavor"), "Google");
    }

    #[tokio::test]
    async fn what_is_no_use_is_named_and_kept_secret() {
        let folder = tempfile::tempdir().unwrap();
        let server = FaultServer::start(|_: &Seen| Reply::status(400).body(r#"{"error":"invalid_grant"}"#)).await;
        for (file, expected) in [
            (json!({ "type": "gdch_service_account", "private_key": "hidden" }), "is no kind of credentials"),
            (json!({ "type": "service_account", "client_email": "a@b", "private_key": "hidden" }), "key of a@b"),
            (
                json!({ "type": "authorized_user", "client_id": "c", "client_secret": "hidden", "refresh_token": "hidden" }),
                "invalid_grant",
            ),
            (
                json!({
                    "type": "external_account", "audience": "a", "token_url": "http://far.example/",
                    "subject_token_type": "t", "credential_source": { "executable": { "command": "hidden" } },
                }),
                "only files and URLs are read",
            ),
        ] {
            let error = format!("{:#}", whoever(&folder, &file, &server).give().await.unwrap_err());
            assert!(error.contains(expected) && error.contains("credentials.json"), "{error}");
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
