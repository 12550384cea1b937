//! Tokens: how a token service is asked for one, and where it may live.
//!
//! Source: distribution's "Token Authentication Specification" (GET) and "OAuth2 Token Authentication" (POST).

use std::time::{Duration, Instant};

use ::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ::http::{HeaderValue, Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use reqwest::Url;
use url::form_urlencoded;

use super::client::Shared;
use super::credentials::Credential;
use super::error::HttpError;
use super::redirect::{is_link_local, is_loopback};
use super::response::Exchange;
use super::secret::Secret;
use super::transport::Purpose;

/// The longest answer of a token service. Tokens that list many grants are some ten kilobytes.
const MAX_TOKEN_BODY: u64 = 1 << 20;

/// What the specification says a token is good for if the service does not.
const DEFAULT_LIFETIME: u64 = 60;

/// The longest that a token is believed to be good for; a day is far beyond any run, and keeps the arithmetic in range.
const MAX_LIFETIME: u64 = 24 * 60 * 60;

/// A token service, as a registry names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenService {
    pub(crate) realm: Url,
    pub(crate) service: Option<String>,
}

/// A token, and the time from which on it is not sent any more.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) text: Secret,
    pub(crate) stale_at: Instant,
}

/// Checks where a registry sends its clients for tokens, since they bring their passwords.
///
/// Only TLS will do, or loopback for a registry that is itself on loopback. A link-local address is never right: there
/// live the services that hand out a machine's own credentials.
pub(crate) fn check_realm(realm: &Url, registry: &Url) -> Result<(), String> {
    if is_link_local(realm) {
        return Err("its token service is at a link-local address".to_owned());
    }
    match realm.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(realm) && is_loopback(registry) => Ok(()),
        "http" => Err("its token service is not reached over TLS".to_owned()),
        _ => Err("its token service is at no HTTP URL".to_owned()),
    }
}

/// Asks for a token that is good for `scopes`.
pub(crate) async fn fetch(
    shared: &Shared,
    service: &TokenService,
    registry: &Url,
    scopes: &[String],
    credential: Option<&Credential>,
) -> Result<Token, HttpError> {
    let check = |hop: &Url| check_realm(hop, registry);
    let asked_at = shared.options.clock.now();
    let realm = service.realm.clone();
    let mut exchange = match credential {
        Some(Credential::IdentityToken(token)) => {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", "roadstead");
            form.extend_pairs(service.service.iter().map(|service| ("service", service)));
            if !scopes.is_empty() {
                form.append_pair("scope", &scopes.join(" "));
            }
            form.append_pair("refresh_token", token.reveal());
            let mut exchange = Exchange::new(Method::POST, realm);
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            exchange.headers.insert(CONTENT_TYPE, form_type);
            exchange.body = Some(Bytes::from(form.finish()));
            exchange
        }
        other => {
            let mut realm = realm;
            {
                let mut query = realm.query_pairs_mut();
                query.extend_pairs(service.service.iter().map(|service| ("service", service)));
                query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
                if let Some(Credential::Password { username, .. }) = other {
                    query.append_pair("account", username);
                }
            }
            if realm.query() == Some("") {
                realm.set_query(None);
            }
            let mut exchange = Exchange::new(Method::GET, realm);
            if let Some(Credential::Password { username, password }) = other {
                exchange.headers.insert(AUTHORIZATION, basic(username, password));
            }
            exchange
        }
    };
    exchange.purpose = Purpose::Token;
    exchange.check = Some(&check);
    let response = exchange.send_with_retries(shared).await?;
    if response.status() != StatusCode::OK {
        return Err(response.into_error().await);
    }
    let url = response.shown();
    let body = response.bytes(MAX_TOKEN_BODY).await?;
    read(&body, asked_at).map_err(|problem| HttpError::Invalid { url, problem })
}

/// Reads the answer. Both `token` and `access_token` are in use, and some services send both.
fn read(body: &[u8], asked_at: Instant) -> Result<Token, String> {
    #[derive(serde::Deserialize)]
    struct Body {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    // The parser's own words may quote the body, and with it a token.
    let body: Body = serde_json::from_slice(body).map_err(|_| "the token service's answer is not what it should be")?;
    let given = [body.token, body.access_token].into_iter().flatten().find(|token| !token.is_empty());
    let text = given.ok_or("the token service's answer holds no token")?;
    let lifetime = Duration::from_secs(body.expires_in.unwrap_or(DEFAULT_LIFETIME).min(MAX_LIFETIME));
    // Given up a little early, so that it does not run out on the way; counted from before it was asked for, as the two
    // clocks may differ.
    let margin = (lifetime / 5).min(Duration::from_secs(10));
    Ok(Token { text: text.into(), stale_at: asked_at + (lifetime - margin) })
}

/// The value of an `Authorization` header for a name and password. RFC 7617.
pub(crate) fn basic(username: &str, password: &Secret) -> HeaderValue {
    let encoded = BASE64.encode(format!("{username}:{}", password.reveal()));
    secret_value(&format!("Basic {encoded}")).expect("base64 is visible ASCII")
}

/// The value of an `Authorization` header for a token, if one can hold it.
pub(crate) fn bearer(token: &Secret) -> Option<HeaderValue> {
    secret_value(&format!("Bearer {}", token.reveal()))
}

fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_token_services_may_live() {
        let url = |text: &str| text.parse::<Url>().unwrap();
        let check = |realm: &str, registry: &str| check_realm(&url(realm), &url(registry));
        for (realm, registry) in [
            ("https://auth.example/token", "https://r.example/"),
            ("https://10.0.0.1/token", "https://r.example/"),
            ("http://127.0.0.1:5001/token", "http://127.0.0.1:5000/"),
            ("http://localhost:5001/token", "http://[::1]:5000/"),
            ("https://auth.example/token", "http://127.0.0.1:5000/"),
        ] {
            assert_eq!(check(realm, registry), Ok(()), "{realm} for {registry}");
        }
        for (realm, registry) in [
            ("http://auth.example/token", "https://r.example/"),
            ("http://auth.example/token", "http://127.0.0.1:5000/"),
            ("http://r.example/token", "http://r.example/"),
            ("http://127.0.0.1/token", "https://r.example/"),
            ("https://169.254.169.254/token", "https://r.example/"),
            ("http://169.254.169.254/token", "http://127.0.0.1/"),
            ("https://[fe80::1]/token", "https://r.example/"),
            ("https://[::ffff:a9fe:a9fe]/token", "https://r.example/"),
            ("file:///token", "https://r.example/"),
        ] {
            assert!(check(realm, registry).is_err(), "{realm} for {registry} was allowed");
        }
    }

    #[test]
    fn answers_of_token_services() {
        let now = Instant::now();
        let read = |body: &str| read(body.as_bytes(), now).map(|t| (t.text.reveal().to_owned(), t.stale_at - now));
        let s = Duration::from_secs;
        assert_eq!(read(r#"{"token":"a"}"#), Ok(("a".to_owned(), s(50))));
        assert_eq!(read(r#"{"access_token":"b","expires_in":300}"#), Ok(("b".to_owned(), s(290))));
        assert_eq!(read(r#"{"token":"a","access_token":"b","expires_in":10}"#), Ok(("a".to_owned(), s(8))));
        assert_eq!(read(r#"{"token":"","access_token":"b"}"#).unwrap().0, "b");
        assert_eq!(read(r#"{"token":"a","expires_in":0}"#).unwrap().1, s(0));
        assert!(read(r#"{"token":"a","expires_in":18446744073709551615}"#).unwrap().1 < s(100_000));
        for bad in ["", "{}", "[]", r#"{"token":7}"#, r#"{"token":""}"#, "<html>secret"] {
            let problem = read(bad).unwrap_err();
            assert!(!problem.contains("secret"), "{problem}");
        }
        assert_eq!(bearer(&"a\nb".into()), None, "a token that is no header value");
        assert!(!format!("{:?}", basic("u", &"p".into())).contains("dTpw"));
    }
}
