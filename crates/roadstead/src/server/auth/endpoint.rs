//! Where tokens are given out: to `GET` with a name and password by Basic, or without, and to `POST` with a form.
//!
//! Source: distribution's "Token Authentication Specification" (GET) and "OAuth2 Token Authentication" (POST).

use std::time::Duration;

use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use url::form_urlencoded;

use super::refusal::{Refusal, json};
use super::scope::{MAX_SCOPES, Scope};
use super::tokens::{Purpose, Subject};
use super::{Authorization, Caller, Guard, Inner, Right};
use crate::server::front::{Front, Presented};
use crate::server::pull::Response;

/// The most bytes of a form: a token of another issuer, as a password, takes a few thousand.
pub(in super::super) const MAX_FORM: usize = 64 << 10;

/// What is asked for.
#[derive(Default)]
struct Asked {
    scopes: Vec<Scope>,
    /// Whether a token is wanted too by which others can be got without the password.
    login: bool,
}

/// Who asks: whom a token will be about, until when, and what limits it.
type Identity = (Subject, Option<u64>, Option<Vec<Scope>>);

impl Guard {
    /// The answer to a request for a token, with the content of a `POST`.
    pub(in super::super) async fn token(
        &self,
        method: &Method,
        query: Option<&str>,
        form: Option<&[u8]>,
        presented: &Presented<'_>,
        front: &Front,
    ) -> Response {
        let given = match form {
            Some(form) => self.0.by_form(form, front).await,
            None => self.0.by_query(query, presented, front).await,
        };
        match given {
            Ok(body) => json(StatusCode::OK, body, method),
            Err(refusal) => refusal.response(method),
        }
    }
}

/// Nothing tells which of the two was wrong.
fn wrong() -> Refusal {
    let mut refusal = Refusal::unknown(String::new(), "incorrect username or password");
    refusal.lines = vec![(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"roadstead\", charset=\"UTF-8\""))];
    refusal
}

impl Inner {
    async fn by_query(&self, query: Option<&str>, presented: &Presented<'_>, front: &Front) -> Result<String, Refusal> {
        let mut asked = Asked::default();
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*key {
                "scope" => asked.add_scopes(&value)?,
                "offline_token" => asked.login = value == "true",
                _ => {}
            }
        }
        let identity = match Authorization::read(presented).map_err(Refusal::bad)? {
            None => (self.certified(front).unwrap_or(Subject::Anonymous), None, None),
            Some(Authorization::Basic { name, password }) => self.login(&name, &password, front, wrong).await?,
            Some(Authorization::Bearer(_)) => return Err(wrong()),
        };
        self.give(front, asked, identity).await
    }

    async fn by_form(&self, form: &[u8], front: &Front) -> Result<String, Refusal> {
        let mut asked = Asked::default();
        let (mut kind, mut name, mut password, mut login) = Default::default();
        for (key, value) in form_urlencoded::parse(form) {
            let field: &mut Option<String> = match &*key {
                "scope" => {
                    asked.add_scopes(&value)?;
                    continue;
                }
                "access_type" => {
                    asked.login = value == "offline";
                    continue;
                }
                "grant_type" => &mut kind,
                "username" => &mut name,
                "password" => &mut password,
                "refresh_token" => &mut login,
                _ => continue,
            };
            *field = Some(value.into_owned());
        }
        match (kind.as_deref(), name, password, login) {
            (Some("password"), Some(name), Some(password), _) => {
                let identity = self.login(&name, &password.into(), front, wrong).await?;
                self.give(front, asked, identity).await
            }
            (Some("refresh_token"), _, _, Some(token)) => {
                self.insist_on_secrecy(front)?;
                let claims = self.access.tokens.read(&token, Purpose::Login);
                let claims = claims.and_then(|claims| self.still(&claims.who, front).map(|()| claims));
                let who = claims.map_err(|problem| {
                    let mut refusal = wrong();
                    refusal.detail = format!("the login isn't taken: {problem}; log in again");
                    refusal
                })?;
                self.give(front, asked, (who.who, None, None)).await
            }
            _ => Err(Refusal::bad(
                "a form needs grant_type=password with username and password, or refresh_token with one",
            )),
        }
    }

    /// Signs a token for as much of what was asked for as may be.
    async fn give(&self, front: &Front, asked: Asked, identity: Identity) -> Result<String, Refusal> {
        let (subject, until, limits) = identity;
        let caller = Caller { subject, scopes: limits, spoke: true };
        caller.note(front);
        let mut access = Vec::new();
        for scope in asked.scopes {
            access.extend(self.granted(&caller, scope).await);
        }
        let failed = || Refusal::busy("no token can be made", Duration::ZERO);
        let granted: Vec<String> =
            access.iter().map(|scope| format!("{}:{}:{}", scope.kind, scope.name, scope.actions.join(","))).collect();
        let sign = |purpose, access| self.access.tokens.sign(purpose, caller.subject.clone(), access, until);
        let (token, seconds) = sign(Purpose::Access, access).ok_or_else(failed)?;
        let mut body = serde_json::json!({
            "token": token, "access_token": token, "expires_in": seconds, "scope": granted.join(" "),
        });
        // Of what an issuer said nobody can tell later whether it still says so.
        if asked.login && matches!(caller.subject, Subject::User(..)) {
            let (login, _) = sign(Purpose::Login, Vec::new()).ok_or_else(failed)?;
            body["refresh_token"] = login.into();
        }
        Ok(body.to_string())
    }

    /// What of a scope somebody may have.
    async fn granted(&self, caller: &Caller, scope: Scope) -> Option<Scope> {
        if scope.is_catalog() {
            let limited = caller.scopes.as_ref().is_some_and(|limits| !limits.iter().any(Scope::is_catalog));
            return (!limited).then_some(scope);
        }
        if scope.kind != "repository" {
            return None;
        }
        let repository = self.inside(&scope.name)?;
        let mut actions = Vec::new();
        for right in [Right::Pull, Right::Push, Right::Delete] {
            let action = right.action();
            let limited = caller.scopes.as_ref().is_some_and(|l| !l.iter().any(|l| l.covers(&scope.name, right)));
            if scope.covers(&scope.name, right) && !limited && self.allows(caller.who(), &repository, right).await {
                actions.push(action.to_owned());
            }
        }
        (!actions.is_empty()).then_some(Scope { actions, ..scope })
    }
}

impl Asked {
    fn add_scopes(&mut self, text: &str) -> Result<(), Refusal> {
        self.scopes.extend(text.split_ascii_whitespace().filter_map(Scope::parse));
        if self.scopes.len() > MAX_SCOPES {
            return Err(Refusal::bad(format!("more than {MAX_SCOPES} scopes")));
        }
        Ok(())
    }
}
