//! The tokens that we sign ourselves, and read again.
//!
//! They are for nobody else, so one secret does for both. What they allow is looked up with each request: a token only says who
//! somebody is, and what its holder wanted to do at most.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::issuers::reason;
use super::scope::Scope;
use super::users::Mark;

/// Who signs them, and whom they are for.
pub(super) const ISSUER: &str = "roadstead";

/// How long a token is good for, in seconds. An upload that began with it may go on longer.
pub(super) const LIFETIME: u64 = 300;

/// How long the token is good for by which others are got without the password.
const LOGIN_LIFETIME: u64 = 365 * 24 * 60 * 60;

/// How far a clock may be set back, or ahead, until tokens run out by it.
const LEEWAY: u64 = 30;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Purpose {
    /// To be sent with requests.
    Access,
    /// To be changed for others, in place of a password.
    Login,
}

/// Whom a token is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Subject {
    Anonymous,
    /// One of the file of users, for as long as their password is the same.
    User(String, Mark),
    /// The name of an issuer, and whom it said this was.
    Issued(String, String),
    /// Whom a certificate names, and which one that is.
    Certified(String, String),
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    iss: String,
    aud: String,
    iat: u64,
    exp: u64,
    #[serde(rename = "use")]
    purpose: Purpose,
    pub(super) who: Subject,
    pub(super) access: Vec<Scope>,
}

/// Signs tokens, and reads them.
pub(super) struct Tokens {
    sign: EncodingKey,
    read: DecodingKey,
}

impl Tokens {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { sign: EncodingKey::from_secret(key), read: DecodingKey::from_secret(key) }
    }

    /// A token, and how many seconds it is good for: no longer than to `until`, in seconds since 1970.
    pub(super) fn sign(
        &self,
        purpose: Purpose,
        who: Subject,
        access: Vec<Scope>,
        until: Option<u64>,
    ) -> Option<(String, u64)> {
        let now = now();
        let lifetime = if purpose == Purpose::Login { LOGIN_LIFETIME } else { LIFETIME };
        let exp = until.unwrap_or(u64::MAX).min(now + lifetime);
        let (iss, aud) = (ISSUER.to_owned(), ISSUER.to_owned());
        let claims = Claims { iss, aud, iat: now, exp, purpose, who, access };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.sign).ok()?;
        Some((token, exp.saturating_sub(now)))
    }

    /// What a token says; why it isn't taken tells nothing of it.
    pub(super) fn read(&self, token: &str, purpose: Purpose) -> Result<Claims, &'static str> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.leeway = LEEWAY;
        let read = jsonwebtoken::decode::<Claims>(token, &self.read, &validation);
        let claims = read.map_err(|error| reason(&error))?.claims;
        if claims.purpose != purpose {
            return Err("it is for something else");
        }
        // The clock was set back: nobody knows how old it is, and another one is got without anybody being asked.
        if purpose == Purpose::Access && claims.iat > now().saturating_add(LEEWAY) {
            return Err("it is from the future");
        }
        Ok(claims)
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_for_one_thing_and_end() {
        let tokens = Tokens::new(&[7; 32]);
        let who = Subject::User("ann".to_owned(), [1; 8]);
        let access = vec![Scope::parse("repository:a:pull").unwrap()];
        let (token, seconds) = tokens.sign(Purpose::Access, who.clone(), access.clone(), None).unwrap();
        assert_eq!(seconds, LIFETIME);
        let claims = tokens.read(&token, Purpose::Access).unwrap();
        assert_eq!((claims.who, claims.access), (who.clone(), access));
        assert_eq!(tokens.read(&token, Purpose::Login).unwrap_err(), "it is for something else");
        assert_eq!(Tokens::new(&[8; 32]).read(&token, Purpose::Access).unwrap_err(), "its signature is wrong");
        let (old, seconds) = tokens.sign(Purpose::Access, who, Vec::new(), Some(now() - 100)).unwrap();
        assert_eq!(seconds, 0);
        assert_eq!(tokens.read(&old, Purpose::Access).unwrap_err(), "it has run out");

        let early = |purpose| {
            let (token, _) = tokens.sign(purpose, Subject::Anonymous, Vec::new(), None).unwrap();
            let mut claims = tokens.read(&token, purpose).unwrap();
            (claims.iat, claims.exp) = (claims.iat + 3600, claims.exp + 3600);
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &tokens.sign).unwrap()
        };
        let refused = tokens.read(&early(Purpose::Access), Purpose::Access).unwrap_err();
        assert_eq!(refused, "it is from the future");
        // A login would have to be made by a person.
        tokens.read(&early(Purpose::Login), Purpose::Login).unwrap();
    }

    #[test]
    fn nothing_unsigned_or_signed_otherwise_is_read() {
        use base64::Engine as _;
        let tokens = Tokens::new(&[7; 32]);
        let (token, _) = tokens.sign(Purpose::Access, Subject::Anonymous, Vec::new(), None).unwrap();
        let [_, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
        let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let none = part(r#"{"alg":"none","typ":"JWT"}"#);
        let longer = part(r#"{"alg":"HS512","typ":"JWT"}"#);
        let header = part(r#"{"alg":"HS256","typ":"JWT"}"#);
        for forged in [
            format!("{none}.{claims}."),
            format!("{none}.{claims}.{signature}"),
            format!("{longer}.{claims}.{signature}"),
            format!("{header}.{}.{signature}", part("{}")),
            format!("{header}.{claims}"),
            format!("{token}.x"),
            String::new(),
            "...".to_owned(),
            "\u{0}".repeat(30_000),
        ] {
            assert!(tokens.read(&forged, Purpose::Access).is_err(), "{forged:.80}");
        }
    }
}
