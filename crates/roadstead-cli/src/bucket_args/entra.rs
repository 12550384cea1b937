//! Who this program is to Microsoft Entra ID: a service principal, a workload, whoever is logged in with `az`, or the identity
//! of the app or the machine.
//!
//! Source: Microsoft identity platform, "OAuth 2.0 client credentials flow"; "Use managed identities on a virtual machine";
//! "Use managed identities for App Service".

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use async_trait::async_trait;
use roadstead::http::{Client, Secret};

use super::services::{Giver, MAX_SIZE, Services, Token, read, secure};
use crate::environment::Environment;

/// What is asked for.
const RESOURCE: &str = "https://storage.azure.com/";
const SCOPE: &str = "https://storage.azure.com/.default";

/// What the identity of a machine is asked at.
const MACHINE: &str = "http://169.254.169.254/metadata/identity/oauth2/token";

/// How long `az` may take, which starts slowly.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that says who this program is.
#[derive(Debug)]
pub(super) struct Entra {
    services: Services,
    authority: Option<String>,
    tenant: Option<String>,
    client: Option<String>,
    secret: Option<Secret>,
    /// The file with the token of a workload.
    federated: Option<String>,
    /// Where an app asks for its identity, and with what.
    app: Option<(String, Secret)>,
    machine: String,
    /// The command.
    az: String,
}

impl Entra {
    pub(super) fn new(environment: &Environment, client: Client) -> anyhow::Result<Self> {
        let variable = |name| environment.text(name).filter(|text| !text.is_empty());
        Ok(Self {
            services: Services::new(client)?,
            authority: variable("AZURE_AUTHORITY_HOST"),
            tenant: variable("AZURE_TENANT_ID"),
            client: variable("AZURE_CLIENT_ID"),
            secret: variable("AZURE_CLIENT_SECRET").map(Secret::from),
            federated: variable("AZURE_FEDERATED_TOKEN_FILE"),
            app: variable("IDENTITY_ENDPOINT").zip(variable("IDENTITY_HEADER").map(Secret::from)),
            machine: MACHINE.to_owned(),
            az: "az".to_owned(),
        })
    }

    /// A token for a service principal, by its secret or by what a workload has been given.
    async fn principal(&self, tenant: &str, proof: &[(&str, &str)]) -> anyhow::Result<Token> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        ensure!(tenant.bytes().all(legal), "AZURE_TENANT_ID is {tenant:?}, which is no tenant");
        let client = self.client.as_deref().context("AZURE_CLIENT_ID is not set")?;
        let authority = self.authority.as_deref().unwrap_or("https://login.microsoftonline.com");
        let url = secure(&format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/')))?;
        let form = [&[("grant_type", "client_credentials"), ("client_id", client), ("scope", SCOPE)], proof].concat();
        Token::of(&self.services.ask(&url, &[], Some(&form)).await?)
    }

    /// A token for a managed identity.
    async fn managed(&self, endpoint: &str, version: &str, header: (&str, &str)) -> anyhow::Result<Token> {
        let mut url = secure(endpoint)?;
        url.query_pairs_mut().append_pair("api-version", version).append_pair("resource", RESOURCE);
        if let Some(client) = &self.client {
            url.query_pairs_mut().append_pair("client_id", client);
        }
        Token::of(&self.services.ask(&url, &[header], None).await?)
    }

    /// A token for whoever is logged in; `None` if there is no such command.
    async fn logged_in(&self) -> anyhow::Result<Option<Token>> {
        let mut az = tokio::process::Command::new(&self.az);
        az.args(["account", "get-access-token", "--resource", RESOURCE, "--output", "json"]);
        az.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = match tokio::time::timeout(PATIENCE, az.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Ok(Err(error)) => return Err(anyhow::Error::from(error).context("the az command can't be run")),
            Err(_) => return Err(anyhow!("the az command does not answer")),
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned();
            return Err(anyhow!("the az command says: {}", said.chars().take(200).collect::<String>()));
        }
        ensure!(output.stdout.len() as u64 <= MAX_SIZE, "the az command says too much");
        let said: serde_json::Value =
            serde_json::from_slice(&output.stdout).map_err(|_| anyhow!("the az command prints no token"))?;
        Token::new(said["accessToken"].as_str().unwrap_or_default()).map(Some)
    }
}

#[async_trait]
impl Giver for Entra {
    async fn give(&self) -> anyhow::Result<Token> {
        if let Some(tenant) = &self.tenant {
            if let Some(secret) = &self.secret {
                return self.principal(tenant, &[("client_secret", secret.reveal())]).await;
            }
            if let Some(file) = &self.federated {
                let assertion = read(file).await?;
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                let proof = [("client_assertion_type", kind), ("client_assertion", assertion.trim())];
                return self.principal(tenant, &proof).await;
            }
        }
        if let Some((endpoint, header)) = &self.app {
            return self.managed(endpoint, "2019-08-01", ("x-identity-header", header.reveal())).await;
        }
        // Whoever is logged in is meant before the machine is, which takes a second to find out that it is in no cloud.
        let by_hand = match self.logged_in().await {
            Ok(Some(token)) => return Ok(token),
            Ok(None) => anyhow!("there is no az command"),
            Err(error) => error,
        };
        let machine = self.managed(&self.machine, "2018-02-01", ("metadata", "true")).await;
        machine.map_err(|error| {
            anyhow!(
                "neither variables, a workload identity, the az command nor the machine has any ({by_hand:#}; {error:#})"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use roadstead::http::ClientOptions;
    use roadstead::testing::{FaultServer, Reply, Seen};

    use super::*;
    use crate::bucket_args::services::Tokens;

    /// For which nothing is set.
    fn nobody(machine: &str) -> Entra {
        let client = Client::new(ClientOptions::default()).unwrap();
        Entra {
            services: Services::new(client).unwrap(),
            authority: None,
            tenant: None,
            client: None,
            secret: None,
            federated: None,
            app: None,
            machine: machine.to_owned(),
            az: "/nonexistent/az".to_owned(),
        }
    }

    fn token(text: &str) -> Reply {
        Reply::ok(format!("{{\"access_token\":\"{text}\",\"expires_in\":\"3599\",\"token_type\":\"Bearer\"}}"))
    }

    #[tokio::test]
    async fn a_principal_proves_itself_once() {
        let server = FaultServer::start(|_: &Seen| token("its-token")).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("assertion");
        std::fs::write(&file, "an.assertion.signed\n").unwrap();
        let secret = Entra { secret: Some("the secret&".into()), ..nobody("") };
        let workload = Entra { federated: Some(file.to_str().unwrap().to_owned()), ..nobody("") };
        for (entra, proof) in
            [(secret, "client_secret=the+secret%26"), (workload, "client_assertion=an.assertion.signed")]
        {
            let entra = Entra {
                authority: Some(server.url("")),
                tenant: Some("a-tenant".to_owned()),
                client: Some("an-app".to_owned()),
                ..entra
            };
            let tokens = Tokens::new(entra);
            for _ in 0..2 {
                assert_eq!(tokens.get().await.unwrap().reveal(), "its-token");
            }
            let seen = server.requests().pop().unwrap();
            assert_eq!(seen.path(), "/a-tenant/oauth2/v2.0/token");
            let form = String::from_utf8(seen.body.to_vec()).unwrap();
            assert!(form.contains(proof) && form.contains("client_id=an-app"), "{form}");
            assert!(!format!("{tokens:?}").contains("secret&") && !format!("{tokens:?}").contains("its-token"));
        }
        assert_eq!(server.requests().len(), 2, "what is known is not asked for");
    }

    #[tokio::test]
    async fn a_refusal_says_why_and_keeps_the_secret() {
        let server = FaultServer::start(|_: &Seen| {
            Reply::status(401).body(r#"{"error":"invalid_client","error_description":"AADSTS7000215"}"#)
        })
        .await;
        let entra = Entra {
            authority: Some(server.url("")),
            tenant: Some("t".to_owned()),
            client: Some("c".to_owned()),
            secret: Some("hidden".into()),
            ..nobody("")
        };
        let error = format!("{:#}", entra.give().await.unwrap_err());
        assert!(error.contains("AADSTS7000215") && !error.contains("hidden"), "{error}");
        let far = Entra { authority: Some("http://login.example".to_owned()), ..entra };
        let error = format!("{:#}", far.give().await.unwrap_err());
        assert!(error.contains("without TLS"), "{error}");
    }

    #[tokio::test]
    async fn the_machine_or_the_app_is_somebody() {
        let server = FaultServer::start(|seen: &Seen| match seen.path() {
            "/app" => token("of-the-app"),
            _ => token("of-the-machine"),
        })
        .await;
        let machine = Entra { client: Some("chosen".to_owned()), ..nobody(&server.url("/machine")) };
        assert_eq!(machine.give().await.unwrap().reveal(), "of-the-machine");
        let seen = server.requests().pop().unwrap();
        assert_eq!(seen.header("metadata"), "true");
        assert!(seen.target.contains("resource=https%3A%2F%2Fstorage.azure.com%2F"), "{}", seen.target);
        assert!(seen.target.contains("client_id=chosen"), "{}", seen.target);
        let app = Entra { app: Some((server.url("/app"), "word".into())), ..nobody(&server.url("/machine")) };
        assert_eq!(app.give().await.unwrap().reveal(), "of-the-app");
        assert_eq!(server.requests().pop().unwrap().header("x-identity-header"), "word");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn whoever_is_logged_in_is_meant() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let az = folder.path().join("az");
        let write = |text: &str| {
            let other = folder.path().join("new");
            std::fs::write(&other, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::rename(&other, &az).unwrap();
        };
        let server = FaultServer::start(|_: &Seen| Reply::status(404)).await;
        let entra = Entra { az: az.to_str().unwrap().to_owned(), ..nobody(&server.url("/machine")) };
        let asked = "account get-access-token --resource https://storage.azure.com/ --output json";
        write(&format!(r#"[ "$*" = '{asked}' ] && echo '{{"accessToken": "of-somebody", "expiresOn": "x"}}'"#));
        assert_eq!(entra.give().await.unwrap().reveal(), "of-somebody");
        write("echo 'ERROR: Please run az login' >&2; exit 1");
        let error = format!("{:#}", entra.give().await.unwrap_err());
        assert!(error.contains("Please run az login"), "{error}");
    }
}
