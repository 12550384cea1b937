//! What is said to a registry about who asks.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ::http::HeaderValue;
use reqwest::Url;

use super::challenge::Challenge;
use super::client::Shared;
use super::credentials::{Credential, Credentials};
use super::error::HttpError;
use super::token::{self, Token, TokenService};
use crate::oci::{Registry, Repository};

/// What a request needs to be allowed to do.
///
/// Source: distribution's "Token Scope Documentation".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Nothing but being known: `GET /v2/`.
    None,
    /// Reading the catalogue.
    Catalog,
    /// Reading a repository.
    Pull(Repository),
    /// Reading and writing a repository.
    Push(Repository),
    /// Writing one repository, and taking blobs out of another one.
    Mount {
        /// Where they go.
        to: Repository,
        /// Where they are.
        from: Repository,
    },
}

impl Scope {
    /// The repository, whose own credentials there may be.
    fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Pull(repository) | Self::Push(repository) | Self::Mount { to: repository, .. } => Some(repository),
            Self::None | Self::Catalog => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Catalog => f.write_str("registry:catalog:*"),
            Self::Pull(repository) => write!(f, "repository:{repository}:pull"),
            Self::Push(repository) => write!(f, "repository:{repository}:pull,push"),
            Self::Mount { to, from } => write!(f, "repository:{to}:pull,push repository:{from}:pull"),
        }
    }
}

/// How a registry wants to be asked, learnt from its first 401.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Method {
    Basic,
    Bearer(TokenService),
}

/// What is known for one scope.
#[derive(Debug, Default)]
struct Grant {
    /// The credential; the outer `None` means that nobody has looked.
    credential: Option<Option<Credential>>,
    /// What a challenge asked for beyond the scope itself.
    further: Vec<String>,
    token: Option<Token>,
}

/// Answers the challenges of one registry.
///
/// Nothing is sent before it is asked for, so an open registry costs no helper, no token and no password. After the first
/// challenge every request brings what is needed, and each scope has one token that is renewed by whoever finds it stale
/// while the others wait for that one request.
#[derive(Debug)]
pub(crate) struct Authenticator {
    registry: Registry,
    credentials: Credentials,
    method: Mutex<Option<Method>>,
    grants: Mutex<HashMap<Scope, Arc<tokio::sync::Mutex<Grant>>>>,
}

impl Authenticator {
    pub(crate) fn new(registry: Registry, credentials: Credentials) -> Self {
        Self { registry, credentials, method: Mutex::default(), grants: Mutex::default() }
    }

    /// Whether the registry has wanted to know who asks.
    pub(crate) fn was_asked(&self) -> bool {
        self.method.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// What to send with a request, as far as is known.
    pub(crate) async fn current(
        &self,
        shared: &Shared,
        base: &Url,
        scope: &Scope,
    ) -> Result<Option<HeaderValue>, HttpError> {
        let method = self.method.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match method {
            None => Ok(None),
            Some(method) => self.authorize(shared, base, scope, &method, None).await,
        }
    }

    /// What to send after a 401 for a request that brought `sent`; `None` if there is nothing better.
    pub(crate) async fn answer(
        &self,
        shared: &Shared,
        base: &Url,
        scope: &Scope,
        challenges: &[Challenge],
        sent: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, HttpError> {
        let Some(method) = self.choose(challenges, base)? else {
            return Ok(None);
        };
        *self.method.lock().unwrap_or_else(PoisonError::into_inner) = Some(method.clone());
        if let Some(wanted) = challenges.iter().find(|c| c.scheme == "bearer").and_then(|c| c.parameter("scope")) {
            let grant = self.grant(scope);
            let mut grant = grant.lock().await;
            let own = scope.to_string();
            let further: Vec<_> = wanted
                .split_ascii_whitespace()
                .filter(|w| !own.split(' ').any(|own| own == *w))
                .map(str::to_owned)
                .collect();
            if !further.is_empty() && further != grant.further {
                grant.further = further;
                grant.token = None;
            }
        }
        let authorization = self.authorize(shared, base, scope, &method, sent).await?;
        // The same again would be refused again.
        Ok(authorization.filter(|authorization| Some(authorization) != sent))
    }

    fn choose(&self, challenges: &[Challenge], base: &Url) -> Result<Option<Method>, HttpError> {
        let login = |problem: String| HttpError::Login { registry: self.registry.to_string(), problem };
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(bearer) = of("bearer") {
            let realm = bearer.parameter("realm").ok_or_else(|| login("it names no token service".to_owned()))?;
            let realm: Url = realm.parse().map_err(|_| login("its token service is at no URL".to_owned()))?;
            token::check_realm(&realm, base).map_err(login)?;
            let service = bearer.parameter("service").map(str::to_owned);
            return Ok(Some(Method::Bearer(TokenService { realm, service })));
        }
        if of("basic").is_some() {
            return Ok(Some(Method::Basic));
        }
        match challenges.first() {
            None => Ok(None),
            Some(_) => Err(login("it knows neither Basic nor Bearer authentication".to_owned())),
        }
    }

    fn grant(&self, scope: &Scope) -> Arc<tokio::sync::Mutex<Grant>> {
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(grants.entry(scope.clone()).or_default())
    }

    async fn authorize(
        &self,
        shared: &Shared,
        base: &Url,
        scope: &Scope,
        method: &Method,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, HttpError> {
        let grant = self.grant(scope);
        let mut grant = grant.lock().await;
        let registry = || self.registry.to_string();
        if grant.credential.is_none() {
            let found = self.credentials.find(&self.registry, scope.repository()).await;
            grant.credential = Some(found.map_err(|source| HttpError::Credentials { registry: registry(), source })?);
        }
        let credential = grant.credential.clone().flatten();
        let service = match (method, credential.as_ref()) {
            (Method::Basic, Some(Credential::Password { username, password })) => {
                return Ok(Some(token::basic(username, password)));
            }
            (Method::Basic, Some(Credential::IdentityToken(_))) => {
                let problem = "it wants a password, and there is only an identity token".to_owned();
                return Err(HttpError::Login { registry: registry(), problem });
            }
            (Method::Basic, None) => return Ok(None),
            (Method::Bearer(service), _) => service,
        };
        if let Some(known) = &grant.token
            && known.stale_at > shared.options.clock.now()
        {
            let authorization = token::bearer(&known.text);
            // Whoever waited for the lock may find that the refused token has been replaced meanwhile.
            if refused.is_none() || authorization.as_ref() != refused {
                return Ok(authorization);
            }
        }
        let own = scope.to_string();
        let own = own.split_ascii_whitespace().map(str::to_owned);
        let scopes: Vec<String> = own.chain(grant.further.iter().cloned()).collect();
        let fresh = token::fetch(shared, service, base, &scopes, credential.as_ref()).await;
        let fresh = fresh.map_err(|source| HttpError::Token { registry: registry(), source: Box::new(source) })?;
        let Some(authorization) = token::bearer(&fresh.text) else {
            let problem = "its token is no header value".to_owned();
            return Err(HttpError::Login { registry: registry(), problem });
        };
        grant.token = Some(fresh);
        Ok(Some(authorization))
    }
}
