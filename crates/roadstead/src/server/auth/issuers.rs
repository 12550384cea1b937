//! Others who say who somebody is: tokens that they sign (JWT), by keys that they publish (JWKS).
//!
//! Source: RFC 7519 (JWT), RFC 7517 (JWK), RFC 8725 (what to be careful about).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::scope::Scope;
use super::state;
use crate::http::Client;
use crate::tree::Pattern;

/// What signatures are taken. One that needs a secret is never among them: who can check it could make it.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// The most bytes and keys of a set.
const MAX_SET: u64 = 256 << 10;
const MAX_KEYS: usize = 100;

/// How long keys are taken for current, and how long before they are asked for again because one is missing.
const FRESH: Duration = Duration::from_hours(1);
const AGAIN: Duration = Duration::from_secs(60);

/// How long keys are still good when their place doesn't answer.
const STALE: Duration = Duration::from_hours(24);

/// How far the clocks of two machines may be apart.
pub(super) const LEEWAY: u64 = 60;

/// The longest name that is taken from a token.
const MAX_NAME: usize = 255;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuerText {
    name: String,
    issuer: String,
    audience: String,
    keys: String,
    #[serde(default)]
    user: Option<String>,
    #[serde(default, rename = "where")]
    conditions: BTreeMap<String, String>,
}

/// One who says who somebody is.
pub(super) struct Issuer {
    name: String,
    issuer: String,
    audience: String,
    place: Place,
    user: String,
    conditions: Vec<(String, Pattern)>,
    known: tokio::sync::Mutex<Known>,
}

/// Where the keys are.
enum Place {
    File(PathBuf),
    Url(http::Uri),
}

#[derive(Default)]
struct Known {
    keys: Arc<Vec<Jwk>>,
    got: Option<Instant>,
    asked: Option<Instant>,
}

/// What a token says, once it was found right.
#[derive(Debug)]
pub(super) struct Said {
    /// Whom it is about.
    pub(super) name: String,
    /// When it ends, in seconds since 1970.
    pub(super) expires: u64,
    /// What it is limited to, if it says.
    pub(super) access: Option<Vec<Scope>>,
}

impl Issuer {
    /// Reads what the file says; files of keys lie in `folder`.
    pub(super) fn of(text: IssuerText, folder: &Path) -> Result<Self, String> {
        let IssuerText { name, issuer, audience, keys, user, conditions } = text;
        let wrong = |problem: &str| format!("has a mistake in [[issuer]] {name:?}: {problem}");
        if name.is_empty() || name == "anonymous" || !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
            return Err(wrong("its name has letters, digits and - alone"));
        }
        if issuer.is_empty() || audience.is_empty() {
            return Err(wrong("issuer and audience say which tokens are meant for us, so they can't be empty"));
        }
        let loopback = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];
        let place = if keys.starts_with("https://") || loopback.iter().any(|start| keys.starts_with(start)) {
            Place::Url(keys.parse().map_err(|_| wrong("keys is no URL"))?)
        } else if keys.contains("://") {
            return Err(wrong("keys has to be an https:// URL or a file"));
        } else {
            Place::File(folder.join(keys))
        };
        let condition = |(claim, pattern): (String, String)| {
            let pattern = pattern.parse().map_err(|_| wrong(&format!("{claim} has an empty pattern")))?;
            Ok((claim, pattern))
        };
        let conditions = conditions.into_iter().map(condition).collect::<Result<_, String>>()?;
        let user = user.unwrap_or_else(|| "sub".to_owned());
        Ok(Self { name, issuer, audience, place, user, conditions, known: tokio::sync::Mutex::default() })
    }

    /// What the file calls it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether a token says that it comes from here. Nothing is proved by that.
    pub(super) fn is_of(&self, token: &str) -> bool {
        claimed_issuer(token).is_some_and(|issuer| issuer == self.issuer)
    }

    /// Checks a token. Why it isn't taken is for the log, and tells nothing of it.
    pub(super) async fn check(&self, token: &str, client: Option<&Client>) -> Result<Said, &'static str> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| "it is no token")?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err("it is signed in a way that isn't taken");
        }
        if header.crit.is_some() {
            return Err("it has a critical extension");
        }
        let fits = |key: &&Jwk| fits(key, header.alg, header.kid.as_deref());
        let mut keys = self.keys(client, false).await?;
        if !keys.iter().any(|key| fits(&key)) {
            // Issuers change their keys; a new one is asked for at once, though not at every nonsense.
            keys = self.keys(client, true).await?;
        }
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY;
        let mut why = "no key of its issuer made it";
        for key in keys.iter().filter(fits) {
            let Ok(key) = DecodingKey::from_jwk(key) else { continue };
            match jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation) {
                Ok(token) => return self.read(&token.claims),
                Err(error) => why = reason(&error),
            }
        }
        Err(why)
    }

    fn read(&self, claims: &Map<String, Value>) -> Result<Said, &'static str> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        for (claim, pattern) in &self.conditions {
            if !text(claim).is_some_and(|value| pattern.matches(value)) {
                return Err("it isn't one of those that the grants ask for");
            }
        }
        let name = text(&self.user).ok_or("it lacks the claim that says whom it is about")?;
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("whom it is about is no name");
        }
        let expires = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        let expires = expires as u64;
        let access = claims.get("access").map(Vec::<Scope>::deserialize);
        let access = access.transpose().map_err(|_| "its access can't be read")?;
        Ok(Said { name: name.to_owned(), expires, access })
    }

    /// The keys, perhaps those that were got a while ago.
    async fn keys(&self, client: Option<&Client>, again: bool) -> Result<Arc<Vec<Jwk>>, &'static str> {
        // One asks, and the others wait for what comes.
        let mut known = self.known.lock().await;
        let younger = |at: Option<Instant>, than: Duration| at.is_some_and(|at| at.elapsed() < than);
        let wait = if again { AGAIN } else { FRESH };
        if younger(known.got, wait) || younger(known.asked, AGAIN) {
            return known.usable();
        }
        known.asked = Some(Instant::now());
        match self.fetch(client).await {
            Ok(keys) => {
                known.keys = Arc::new(keys);
                known.got = Some(Instant::now());
            }
            Err(problem) => tracing::error!(issuer = self.name, "its keys can't be had: {problem}"),
        }
        known.usable()
    }

    async fn fetch(&self, client: Option<&Client>) -> Result<Vec<Jwk>, String> {
        let bytes = match &self.place {
            Place::File(path) => {
                let bytes = state::read(path).map_err(|error| error.to_string())?;
                Bytes::from(bytes.ok_or_else(|| format!("there is no {}", path.display()))?)
            }
            Place::Url(url) => {
                let client = client.ok_or("nothing can be asked for here")?;
                let request = http::Request::get(url).body(Bytes::new()).map_err(|error| error.to_string())?;
                let answer =
                    client.fetch(request, MAX_SET).await.map_err(|error| crate::server::auth::chain(&error))?;
                if answer.status() != http::StatusCode::OK {
                    return Err(format!("{url} answers {}", answer.status()));
                }
                answer.into_body()
            }
        };
        read_set(&bytes).ok_or_else(|| "what is there is no set of keys".to_owned())
    }
}

impl Known {
    fn usable(&self) -> Result<Arc<Vec<Jwk>>, &'static str> {
        if self.got.is_some_and(|got| got.elapsed() < STALE) {
            Ok(Arc::clone(&self.keys))
        } else {
            Err("the keys of its issuer can't be had")
        }
    }
}

/// Reads a set of keys. Those of a kind that isn't known are left out.
pub(super) fn read_set(bytes: &[u8]) -> Option<Vec<Jwk>> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(bytes).ok()?;
    Some(set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value(key).ok()).collect())
}

/// Whether a key may have made a signature.
fn fits(key: &Jwk, algorithm: Algorithm, kid: Option<&str>) -> bool {
    use jsonwebtoken::jwk::{AlgorithmParameters as P, EllipticCurve};
    let kind = match (&key.algorithm, algorithm) {
        (P::RSA(_), Algorithm::RS256) => KeyAlgorithm::RS256,
        (P::EllipticCurve(key), Algorithm::ES256) if key.curve == EllipticCurve::P256 => KeyAlgorithm::ES256,
        (P::OctetKeyPair(key), Algorithm::EdDSA) if key.curve == EllipticCurve::Ed25519 => KeyAlgorithm::EdDSA,
        _ => return false,
    };
    let common = &key.common;
    common.key_algorithm.as_ref().is_none_or(|of| *of == kind)
        && common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature)
        && kid.is_none_or(|kid| common.key_id.as_deref() == Some(kid))
}

/// Whom a token says that it comes from, unproved.
pub(super) fn claimed_issuer(token: &str) -> Option<String> {
    use base64::Engine as _;
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
    }
    let claims = token.split('.').nth(1)?;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
    Some(serde_json::from_slice::<Claims>(&claims).ok()?.iss)
}

/// Why a token isn't taken, without a word of what it says.
pub(super) fn reason(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind as E;
    match error.kind() {
        E::ExpiredSignature => "it has run out",
        E::ImmatureSignature => "its time hasn't come",
        E::InvalidAudience => "it is meant for somebody else",
        E::InvalidIssuer => "it comes from somebody else",
        E::MissingRequiredClaim(_) => "it lacks when it ends, whom it is for, or whom it is from",
        E::InvalidSignature => "its signature is wrong",
        _ => "it is no token that can be read",
    }
}
