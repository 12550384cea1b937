//! Credential helpers: programs that keep passwords where the system keeps them.
//!
//! Source: docker-credential-helpers, "Development": a verb as argument, one message on standard input, one on standard
//! output; on failure the reason is on standard output.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::Credential;
use crate::http::secret::Secret;
use crate::oci::excerpt;

/// The most that a helper may say.
const MAX_OUTPUT: u64 = 1 << 20;

/// The user name of an identity token.
const TOKEN_USER: &str = "<token>";

/// Why a helper gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelperError {
    /// Its name would be a path.
    #[error("that is no name of a helper")]
    Name,
    /// It is not installed.
    #[error("it is not installed in any folder of programs")]
    Missing,
    /// It can't be started or talked to.
    #[error("it can't be run")]
    Run(#[source] io::Error),
    /// It takes too long.
    #[error("it gave no answer within {0} s")]
    Slow(u64),
    /// It says too much.
    #[error("it said more than {MAX_OUTPUT} bytes")]
    TooMuch,
    /// It failed, with what it said.
    #[error("it says: {0}")]
    Failed(String),
    /// Its answer is not what it should be. The answer may hold a password, so it is not kept.
    #[error("its answer is not the JSON of a credential")]
    Answer,
}

/// Where helpers are found, and how long they may take.
#[derive(Debug, Clone)]
pub struct Helpers {
    folders: Arc<[PathBuf]>,
    limit: Duration,
}

impl Default for Helpers {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Helpers {
    /// Helpers in these folders, as `PATH` lists them.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>) -> Self {
        // Long enough for somebody to unlock a key ring.
        Self { folders: folders.into(), limit: Duration::from_secs(60) }
    }

    /// The same with another limit.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// What a helper knows about a registry.
    pub(super) async fn get(&self, name: &str, server: &str) -> Result<Option<Credential>, HelperError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            #[serde(rename = "Username")]
            username: String,
            #[serde(rename = "Secret")]
            secret: String,
        }
        let answer = match self.run(name, "get", server.as_bytes()).await {
            Ok(answer) => answer,
            Err(HelperError::Failed(said)) if is_not_found(&said) => return Ok(None),
            Err(error) => return Err(error),
        };
        let answer: Answer = serde_json::from_slice(&answer).map_err(|_| HelperError::Answer)?;
        if answer.username.is_empty() && answer.secret.is_empty() {
            return Ok(None);
        }
        let secret = Secret::from(answer.secret);
        Ok(Some(if answer.username == TOKEN_USER {
            Credential::IdentityToken(secret)
        } else {
            Credential::Password { username: answer.username, password: secret }
        }))
    }

    /// Gives a helper something to keep.
    pub(super) async fn store(&self, name: &str, server: &str, credential: &Credential) -> Result<(), HelperError> {
        let (username, secret) = match credential {
            Credential::Password { username, password } => (username.as_str(), password),
            Credential::IdentityToken(token) => (TOKEN_USER, token),
        };
        let message = serde_json::json!({ "ServerURL": server, "Username": username, "Secret": secret.reveal() });
        self.run(name, "store", message.to_string().as_bytes()).await.map(drop)
    }

    /// Tells a helper to forget. Returns whether it knew anything.
    pub(super) async fn erase(&self, name: &str, server: &str) -> Result<bool, HelperError> {
        // Some helpers succeed at forgetting what they never knew.
        if self.get(name, server).await?.is_none() {
            return Ok(false);
        }
        match self.run(name, "erase", server.as_bytes()).await {
            Ok(_) => Ok(true),
            Err(HelperError::Failed(said)) if is_not_found(&said) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn program(&self, name: &str) -> Result<PathBuf, HelperError> {
        let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(harmless) {
            return Err(HelperError::Name);
        }
        let file = format!("docker-credential-{name}{}", std::env::consts::EXE_SUFFIX);
        // An empty entry of PATH means the folder one happens to be in, where nobody should look for keepers of passwords.
        let folders = self.folders.iter().filter(|folder| folder.is_absolute());
        folders.map(|folder| folder.join(&file)).find(|program| program.is_file()).ok_or(HelperError::Missing)
    }

    async fn run(&self, name: &str, verb: &str, message: &[u8]) -> Result<Vec<u8>, HelperError> {
        let mut child = Command::new(self.program(name)?)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(HelperError::Run)?;
        let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let work = async {
            let write = async {
                if let Some(stdin) = &mut stdin {
                    // One that exits without listening has its say on standard output all the same.
                    let _ = stdin.write_all(message).await;
                }
                drop(stdin);
            };
            let ((), output, complaint) = tokio::join!(write, read(stdout), read(stderr));
            let (output, complaint) = (output?, complaint?);
            let status = child.wait().await.map_err(HelperError::Run)?;
            if status.success() {
                return Ok(output);
            }
            let said = [output, complaint].map(|said| String::from_utf8_lossy(&said).trim().to_owned());
            let said = said.into_iter().find(|said| !said.is_empty()).unwrap_or_else(|| status.to_string());
            Err(HelperError::Failed(excerpt(&said.replace(char::is_control, " "))))
        };
        let limit = self.limit;
        tokio::time::timeout(limit, work).await.unwrap_or(Err(HelperError::Slow(limit.as_secs())))
    }
}

async fn read(from: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, HelperError> {
    let mut output = Vec::new();
    if let Some(from) = from {
        from.take(MAX_OUTPUT + 1).read_to_end(&mut output).await.map_err(HelperError::Run)?;
    }
    if output.len() as u64 > MAX_OUTPUT { Err(HelperError::TooMuch) } else { Ok(output) }
}

/// The words by which the protocol says that there is nothing.
fn is_not_found(said: &str) -> bool {
    said.contains("credentials not found") || said.contains("no credentials")
}
