//! Where access keys are found: the order that every AWS tool has. Variables, profiles (SSO and processes among them), the token
//! of a web identity, the container, the machine.
//!
//! What each of these places is like is reqsign's business; it gets the environment, files and the network from here.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use reqsign_aws_core::{Credential, DefaultCredentialProvider};
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Env, Error, FileRead, HttpSend, ProvideCredential as _,
    SigningCredential as _,
};
use roadstead::http::{BoxError, Client};
use roadstead::store::bucket::{CredentialSource, Keys};
use tokio::sync::Mutex;

use super::services::{MAX_SIZE, Services};
use crate::environment::Environment;

/// Every place that access keys may be in.
#[derive(Debug)]
pub(super) struct Chain {
    context: Context,
    provider: DefaultCredentialProvider,
    /// As long as they last.
    known: Mutex<Option<Credential>>,
}

impl Chain {
    pub(super) fn new(environment: &Environment, client: Client, profile: Option<&str>) -> anyhow::Result<Self> {
        let context = Context::new()
            .with_env(Variables { all: environment.all(), home: environment.home() })
            .with_file_read(Files)
            .with_http_send(Services::new(client)?)
            .with_command_execute(Programs);
        let mut provider = DefaultCredentialProvider::builder();
        if let Some(profile) = profile {
            // Whoever names one means it, whatever the variables say.
            provider = provider.no_env().with_profile(profile);
        }
        Ok(Self { context, provider: provider.build(), known: Mutex::default() })
    }
}

#[async_trait]
impl CredentialSource for Chain {
    async fn keys(&self) -> Result<Keys, BoxError> {
        let mut known = self.known.lock().await;
        let credential = match known.take().filter(Credential::is_valid) {
            Some(credential) => credential,
            None => {
                let found = self.provider.provide_credential(&self.context).await?;
                found.ok_or("neither variables, profiles, a web identity, the container nor the machine has any")?
            }
        };
        let keys = Keys {
            id: credential.access_key_id.clone(),
            secret: credential.secret_access_key.clone().into(),
            token: credential.session_token.clone().map(Into::into),
        };
        *known = Some(credential);
        Ok(keys)
    }
}

/// The environment, as it was when the program began.
struct Variables {
    all: HashMap<String, String>,
    home: Option<PathBuf>,
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Variables")
    }
}

impl Env for Variables {
    fn var(&self, key: &str) -> Option<String> {
        self.all.get(key).cloned()
    }

    fn vars(&self) -> HashMap<String, String> {
        self.all.clone()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        self.home.clone()
    }
}

#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> Result<Vec<u8>, Error> {
        let read = async {
            let size = tokio::fs::metadata(path).await?.len();
            anyhow::ensure!(size <= MAX_SIZE, "it is too large for a file of credentials");
            Ok(tokio::fs::read(path).await?)
        };
        read.await.map_err(|error: anyhow::Error| Error::unexpected(format!("{path} can't be read")).with_source(error))
    }
}

impl HttpSend for Services {
    async fn http_send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, Error> {
        self.fetch(request)
            .await
            .map_err(|error| Error::unexpected("no answer from a service that gives credentials").with_source(error))
    }
}

#[derive(Debug)]
struct Programs;

impl CommandExecute for Programs {
    async fn command_execute<'a>(&'a self, program: &'a str, args: &'a [&'a str]) -> Result<CommandOutput, Error> {
        let output = tokio::process::Command::new(program).args(args).kill_on_drop(true).output().await;
        let output = output.with_context(|| format!("{program} can't be run"));
        let output = output.map_err(|error| Error::unexpected("no credentials from a program").with_source(error))?;
        Ok(CommandOutput { status: output.status.code().unwrap_or(-1), stdout: output.stdout, stderr: output.stderr })
    }
}
