//! Services that say who this program is: the identity services of clouds, and what is next to a machine of theirs.
//!
//! Written here and not taken from crates: those for Azure and Google bring an RSA whose timing tells its keys
//! (RUSTSEC-2023-0071), and what is asked for is a form and a field of the answer.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use roadstead::http::{BoxError, Client, ClientOptions, HttpError, RetryPolicy, Secret, Timeouts};
use serde_json::Value as Json;
use tokio::sync::Mutex;
use url::Url;

/// The largest file, answer or output of a program that credentials are looked for in.
pub(super) const MAX_SIZE: u64 = 1 << 20;

/// A token that doesn't say how long it lasts is asked for again after this.
const UNSAID: Duration = Duration::from_secs(300);

/// How services are asked.
#[derive(Debug)]
pub(super) struct Services {
    client: Client,
    /// For what is on this machine or next to it.
    nearby: Client,
}

impl Services {
    /// Those that a client reaches, and those that are nearer than its proxies.
    pub(super) fn new(client: Client) -> anyhow::Result<Self> {
        // A machine that isn't in a cloud has nobody at the address of its metadata, and should not wait for that long. No proxy
        // knows whose metadata are meant either.
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { connect: second, answer: 5 * second, stall: 5 * second };
        let retry = RetryPolicy { attempts: 2, ..RetryPolicy::default() };
        let nearby = Client::new(ClientOptions { timeouts, retry, ..ClientOptions::default() })?;
        Ok(Self { client, nearby })
    }

    /// An answer of whatever status.
    pub(super) async fn fetch(&self, request: Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let host = request.uri().host().unwrap_or_default().trim_matches(['[', ']']);
        // Containers find theirs at fd00:ec2::23 or 169.254.170.2 and .23, machines at 169.254.169.254 or fd00:ec2::254.
        let is_nearby = match host.parse() {
            Ok(std::net::IpAddr::V4(address)) => address.is_link_local() || address.is_loopback(),
            Ok(std::net::IpAddr::V6(address)) => address.is_unique_local() || address.is_loopback(),
            Err(_) => host == "metadata.google.internal",
        };
        let client = if is_nearby { &self.nearby } else { &self.client };
        client.fetch(request, MAX_SIZE).await
    }

    /// What a service says of a form, or without one of a question, under headers that it wants.
    pub(super) async fn ask(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
        form: Option<&[(&str, &str)]>,
    ) -> anyhow::Result<Json> {
        let body = form.map(|form| url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish());
        let typed = body.as_ref().map(|_| "application/x-www-form-urlencoded");
        let text = self.text(url, headers, body.map(|body| (typed.unwrap_or_default(), body))).await?;
        serde_json::from_str(&text).map_err(|_| anyhow!("{} answers with no JSON", shown(url)))
    }

    /// The text of an answer to a question, or to a body of some type.
    pub(super) async fn text(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
        body: Option<(&str, String)>,
    ) -> anyhow::Result<String> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::builder().method(method).uri(url.as_str()).header(ACCEPT, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some((content_type, _)) = &body {
            request = request.header(CONTENT_TYPE, *content_type);
        }
        let request = request.body(body.map(|(_, body)| body).unwrap_or_default().into());
        let request = request.map_err(|_| anyhow!("{} can't be asked with what was given", shown(url)))?;
        let answer = self.fetch(request).await.with_context(|| format!("{} gives no token", shown(url)))?;
        let (status, text) = (answer.status(), String::from_utf8_lossy(answer.body()).into_owned());
        if !status.is_success() {
            bail!("{} answers {status}{}", shown(url), reason(&text));
        }
        Ok(text)
    }
}

/// A URL without what may be secret in it.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// What a service says about its refusal, as OAuth has it or as Google's other services do.
fn reason(text: &str) -> String {
    let said: Json = serde_json::from_str(text).unwrap_or_default();
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let parts = [text(&said["error"]), text(&said["error_description"]), text(&said["error"]["message"])];
    let said = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
    let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    if said.is_empty() { said } else { format!(" ({said})") }
}

/// The URL of a service that secrets are sent to: by TLS, unless it is on this machine or next to it.
pub(super) fn secure(text: &str) -> anyhow::Result<Url> {
    let url: Url = text.parse().map_err(|_| anyhow!("{text:?} is no URL of a service that gives tokens"))?;
    let is_near = match url.host() {
        Some(url::Host::Domain(name)) => matches!(name, "localhost" | "metadata.google.internal"),
        Some(url::Host::Ipv4(address)) => address.is_loopback() || address.is_link_local(),
        Some(url::Host::Ipv6(address)) => address.is_loopback() || address.is_unique_local(),
        None => false,
    };
    ensure!(
        url.scheme() == "https" || (url.scheme() == "http" && is_near),
        "{} is asked for a token without TLS, and is not this machine",
        shown(&url)
    );
    Ok(url)
}

/// A token, and until when it is good.
pub(super) struct Token {
    text: Secret,
    until: Instant,
}

impl Token {
    /// A token that says nothing of its end.
    pub(super) fn new(text: &str) -> anyhow::Result<Self> {
        Self::lasting(text, None)
    }

    fn lasting(text: &str, lasts: Option<u64>) -> anyhow::Result<Self> {
        ensure!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()), "what was given is no token");
        // It is renewed well before it ends, since a request may take long.
        let lasts = lasts.map_or(UNSAID, |seconds| {
            let lasts = Duration::from_secs(seconds.min(86_400));
            lasts.saturating_sub(UNSAID).max(lasts / 2)
        });
        Ok(Self { text: text.into(), until: Instant::now() + lasts })
    }

    /// The token in an answer as OAuth has it.
    pub(super) fn of(answer: &Json) -> anyhow::Result<Self> {
        let seconds = &answer["expires_in"];
        let seconds = seconds.as_u64().or_else(|| seconds.as_str()?.parse().ok());
        Self::lasting(answer["access_token"].as_str().unwrap_or_default(), seconds)
    }

    pub(super) fn reveal(&self) -> &str {
        self.text.reveal()
    }
}

/// Who gives tokens.
#[async_trait]
pub(super) trait Giver: fmt::Debug + Send + Sync {
    /// A fresh one.
    async fn give(&self) -> anyhow::Result<Token>;
}

/// Tokens, each kept as long as it lasts.
#[derive(Debug)]
pub(super) struct Tokens {
    giver: Box<dyn Giver>,
    known: Mutex<Option<Token>>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Tokens {
    pub(super) fn new(giver: impl Giver + 'static) -> Self {
        Self { giver: Box::new(giver), known: Mutex::default() }
    }

    /// One that is good now.
    pub(super) async fn get(&self) -> Result<Secret, BoxError> {
        let mut known = self.known.lock().await;
        let token = match known.take().filter(|token| Instant::now() < token.until) {
            Some(token) => token,
            None => self.giver.give().await?,
        };
        let text = token.text.clone();
        *known = Some(token);
        Ok(text)
    }
}

/// A small file with something secret.
pub(super) async fn read(path: impl AsRef<Path>) -> anyhow::Result<String> {
    let path = path.as_ref();
    let read = async {
        let size = tokio::fs::metadata(path).await?.len();
        ensure!(size <= MAX_SIZE, "it is too large for a file of credentials");
        Ok(tokio::fs::read_to_string(path).await?)
    };
    read.await.with_context(|| format!("{} can't be read", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_by_tls_or_stay_here() {
        for near in ["https://login.example/t", "http://127.0.0.1:1/t", "http://[::1]/t", "http://169.254.169.254/t"] {
            assert!(secure(near).is_ok(), "{near}");
        }
        for far in ["http://login.example/t", "http://10.0.0.1/t", "ftp://localhost/", "login.example", ""] {
            assert!(secure(far).is_err(), "{far}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let oauth = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client\r\nsecret"}"#;
        assert_eq!(reason(oauth), " (invalid_client: AADSTS7000215: Invalid client  secret)");
        assert_eq!(reason(r#"{"error":{"code":403,"message":"denied"}}"#), " (denied)");
        assert_eq!(reason("<html>"), "");
    }

    #[test]
    fn tokens_and_their_ends() {
        let of = |text| Token::of(&serde_json::from_str(text).unwrap());
        let long = of(r#"{"access_token":"t","expires_in":"3599"}"#).unwrap();
        assert!(long.until > Instant::now() + Duration::from_secs(3000));
        let short = of(r#"{"access_token":"t","expires_in":60}"#).unwrap();
        assert!(short.until <= Instant::now() + Duration::from_secs(30));
        assert_eq!(format!("{short:?} {:?}", short.text), "Token [redacted]");
        for bad in [r#"{}"#, r#"{"access_token":""}"#, r#"{"access_token":"a b"}"#] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
