//! Who asks, and what they may do.
//!
//! A server with an [`Access`] asks clients who they are, in the one way that all of them understand: `GET /v2/` is answered
//! with a challenge that names a token endpoint of our own, whoever comes there without a name gets a token too, and a name and
//! password are taken there and with any request. What a token says is who its holder is, and what they wanted to do at most;
//! what they may do is looked up with each request. So whoever is removed from the users, or gets another password, is out at
//! once, and so is whoever a grant is taken from.
//!
//! - `users`: an htpasswd file, and passwords;
//! - `grants`: who may do what;
//! - `issuers`: others who may say who somebody is;
//! - `tokens`, `scope`: what we sign, and what it is good for;
//! - `endpoint`: where tokens are given out;
//! - `pace`: how often a client may ask.
//!
//! Source: distribution's "Token Authentication Specification".

mod endpoint;
#[cfg(feature = "testing")]
mod fed;
mod grants;
mod issuers;
mod pace;
mod refusal;
mod scope;
mod session;
mod state;
mod tokens;
mod users;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Method;
use http::header::{CACHE_CONTROL, HeaderValue, VARY};

pub(super) use self::endpoint::MAX_FORM;
#[cfg(feature = "testing")]
pub use self::fed::feed;
pub use self::grants::Right;
use self::grants::{CERTIFICATE, Grants, Who};
pub(super) use self::pace::{Pace, Running};
pub(super) use self::refusal::Refusal;
use self::scope::Scope;
pub(super) use self::session::{Held, Session};
pub use self::state::State;
use self::state::Watched;
pub(super) use self::state::{Stamp, stamp};
use self::tokens::{Purpose, Subject, Tokens};
use self::users::{Login, Users};
pub use self::users::{MAX_PASSWORD, UserFile};
use super::certificate::Certificate;
use super::front::{Front, Presented};
use super::pull::{Pull, Request, Response};
use crate::http::{Client, Secret};
use crate::oci::Repository;
use crate::site::Path;
use crate::tree::{Private, Tree};

/// Where tokens are given out. Below `/v2/`, which is what proxies pass on; no name begins with an underscore.
pub const TOKEN_PATH: &str = "/v2/_token";

/// Why access can't be arranged as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A file or folder can't be read or written.
    #[error("{} can't be used", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file isn't what it should be.
    #[error("{} {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong, in words behind its name.
        problem: String,
    },
    /// A user can't have such a name.
    #[error("{name:?} can be no user: {problem}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        problem: &'static str,
    },
    /// A password can't be used. It is not in here.
    #[error("the password {0}")]
    Password(String),
    /// The system has no random numbers.
    #[error("the system gives no random bytes")]
    NoRandom,
}

/// How access is arranged.
#[derive(Debug, Clone)]
pub struct AccessOptions {
    /// Where users, grants and the key are.
    pub state: State,
    /// Whether passwords are taken that anybody on the network could have read.
    pub insecure_passwords: bool,
    /// Asks issuers for their keys. Without one, keys come from files alone.
    pub client: Option<Client>,
}

/// Decides about who may do what. Files that it goes by are read again when they change.
pub struct Access {
    options: AccessOptions,
    users: Users,
    grants: Watched<Grants>,
    tokens: Tokens,
}

/// Wrong passwords that a client may try at once, and how long it takes until it may try one more.
const WRONG_AT_ONCE: u32 = 20;
const WRONG_EVERY: Duration = Duration::from_secs(5);

/// For how long it counts what is private.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How many locks the tags of a tree share.
const STRIPES: usize = 256;

impl Access {
    /// Reads the files. The key for tokens is made if there is none.
    ///
    /// # Errors
    ///
    /// [`AccessError`] if a file can't be read, or is no such file.
    pub fn new(options: AccessOptions) -> Result<Self, AccessError> {
        let state = &options.state;
        let folder = state.folder().to_owned();
        let parse = move |bytes: &[u8]| Grants::parse(bytes, &folder);
        let grants = Watched::new(state.grants(), Grants::default, Grants::closed, parse)?;
        Ok(Self { users: Users::new(state)?, grants, tokens: Tokens::new(&state.key()?), options })
    }

    /// Whether a grant is for whom a certificate names.
    #[must_use]
    pub fn knows_certificates(&self) -> bool {
        self.grants.get().know_certificates()
    }

    /// Whether a folder has users or grants, so that a server has somebody to ask for.
    ///
    /// # Errors
    ///
    /// [`AccessError`] if a file can't be read.
    pub fn is_arranged(state: &State) -> Result<bool, AccessError> {
        Ok(!UserFile::new(state.clone()).names()?.is_empty() || state::read(&state.grants())?.is_some())
    }
}

/// Stands before a server's answers. Clones share everything.
#[derive(Clone)]
pub(super) struct Guard(Arc<Inner>);

struct Inner {
    access: Access,
    /// Whose list of private repositories counts.
    tree: Option<Tree>,
    name_prefix: Option<Repository>,
    private: tokio::sync::Mutex<Option<(Instant, Arc<Private>)>>,
    wrong: Pace,
    /// Held while tags are judged and written, so that nobody comes in between.
    tags: tokio::sync::RwLock<()>,
    stripes: Vec<tokio::sync::Mutex<()>>,
}

/// What of a request's caller is known.
#[derive(Debug, Clone)]
struct Caller {
    subject: Subject,
    /// What their token is limited to; `None` if nothing limits it.
    scopes: Option<Vec<Scope>>,
    /// Whether they said anything about themselves.
    spoke: bool,
}

impl Caller {
    const fn stranger() -> Self {
        Self { subject: Subject::Anonymous, scopes: None, spoke: false }
    }

    fn who(&self) -> Who<'_> {
        match &self.subject {
            Subject::Anonymous => Who::Anonymous,
            Subject::User(name, _) => Who::User(name),
            Subject::Issued(issuer, name) => Who::Issued(issuer, name),
            Subject::Certified(name, _) => Who::Certified(name),
        }
    }

    /// Says for the log who it is.
    fn note(&self, front: &Front) {
        if self.subject != Subject::Anonymous {
            // Nobody is two at once.
            let _ = front.user.set(self.shown());
        }
    }

    /// The name, for people.
    fn shown(&self) -> String {
        match &self.subject {
            Subject::Anonymous => "whoever comes without a name".to_owned(),
            Subject::User(name, _) => name.clone(),
            Subject::Issued(issuer, name) => format!("{issuer}:{name}"),
            Subject::Certified(name, _) => format!("{CERTIFICATE}:{name}"),
        }
    }
}

impl Guard {
    pub(super) fn new(access: Access, tree: Option<Tree>, name_prefix: Option<Repository>) -> Self {
        Self(Arc::new(Inner {
            access,
            tree,
            name_prefix,
            private: tokio::sync::Mutex::default(),
            wrong: Pace::new(WRONG_EVERY, WRONG_AT_ONCE),
            tags: tokio::sync::RwLock::default(),
            stripes: std::iter::repeat_with(tokio::sync::Mutex::default).take(STRIPES).collect(),
        }))
    }

    /// Finds out who asks.
    pub(super) async fn session(&self, presented: &Presented<'_>, front: &Front) -> Session {
        let caller = self.0.caller(presented, front).await;
        if let Ok(caller) = &caller {
            caller.note(front);
        }
        Session { guard: self.clone(), front: front.clone(), caller }
    }

    /// The answer to what reads, or asks for a token.
    pub(super) async fn pull(
        &self,
        pull: &Pull,
        request: &Request<'_>,
        presented: &Presented<'_>,
        front: &Front,
    ) -> Response {
        if request.path == TOKEN_PATH && matches!(*request.method, Method::GET | Method::HEAD) {
            return self.token(request.method, request.query, None, presented, front).await;
        }
        let is_read = matches!(*request.method, Method::GET | Method::HEAD);
        let path = Path::parse(request.path, self.0.name_prefix.as_ref());
        let (true, Ok(path)) = (is_read, path) else { return pull.answer(request).await };
        // Pages are for everybody, and what can't be there is there for nobody.
        if matches!(path, Path::Page(_) | Path::Missing(_)) {
            return pull.answer(request).await;
        }
        let session = self.session(presented, front).await;
        let refused = |refusal: Refusal| refusal.response(request.method);
        match &path {
            Path::Page(_) | Path::Missing(_) => pull.answer(request).await,
            Path::Ping => match session.knows_itself(None) {
                Ok(()) => pull.answer(request).await,
                Err(refusal) => refused(refusal),
            },
            Path::Catalog => match session.knows_itself(Some("registry:catalog:*")) {
                Ok(()) => {
                    let (private, grants) = (self.0.private().await, self.0.access.grants.get());
                    let who = session.caller.as_ref().map_or(Who::Anonymous, Caller::who);
                    let sees = |repository: &Repository| {
                        private.as_ref().is_some_and(|private| allow(&grants, private, who, repository, Right::Pull))
                    };
                    to_one(pull.answer_to(request, Some(&sees)).await)
                }
                Err(refusal) => refused(refusal),
            },
            Path::Manifest(repository, _)
            | Path::Blob(repository, _)
            | Path::TagsList(repository)
            | Path::Referrers(repository, _) => match session.check(repository, Right::Pull).await {
                Ok(()) if self.0.is_open(repository).await => pull.answer(request).await,
                Ok(()) => to_one(pull.answer(request).await),
                Err(refusal) => refused(refusal),
            },
        }
    }
}

/// An answer that isn't everybody's: nobody on the way keeps it for others.
fn to_one(mut response: Response) -> Response {
    for (name, value) in &mut response.headers {
        if *name == CACHE_CONTROL
            && let Some(rest) = value.to_str().ok().and_then(|text| text.strip_prefix("public"))
            && let Ok(private) = HeaderValue::try_from(format!("private{rest}"))
        {
            *value = private;
        }
    }
    response.headers.push((VARY, HeaderValue::from_static("authorization")));
    response
}

/// Whether somebody may do something. What is private is nothing for those without a name, whatever a grant says.
fn allow(grants: &Grants, private: &Private, who: Who<'_>, repository: &Repository, right: Right) -> bool {
    !(who == Who::Anonymous && private.contains(repository)) && grants.allow(who, repository, right)
}

impl Inner {
    /// What is private; `None` if nobody can tell, and then everything is.
    async fn private(&self) -> Option<Arc<Private>> {
        let Some(tree) = &self.tree else { return Some(Arc::default()) };
        let mut known = self.private.lock().await;
        if let Some((read, private)) = &*known
            && read.elapsed() < LOOK_AGAIN
        {
            return Some(Arc::clone(private));
        }
        match tree.private().await {
            Ok(private) => {
                let private = Arc::new(private);
                *known = Some((Instant::now(), Arc::clone(&private)));
                Some(private)
            }
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::error!(error, "nobody is let in while it can't be told what is private");
                None
            }
        }
    }

    async fn allows(&self, who: Who<'_>, repository: &Repository, right: Right) -> bool {
        match self.private().await {
            Some(private) => allow(&self.access.grants.get(), &private, who, repository, right),
            None => false,
        }
    }

    /// Whether everybody may read it.
    async fn is_open(&self, repository: &Repository) -> bool {
        self.allows(Who::Anonymous, repository, Right::Pull).await
    }

    /// The repository that a name from outside means.
    fn inside(&self, name: &str) -> Option<Repository> {
        match Path::parse(&format!("/v2/{name}/tags/list"), self.name_prefix.as_ref()) {
            Ok(Path::TagsList(repository)) => Some(repository),
            _ => None,
        }
    }

    /// A repository's name as it appears outside.
    fn shown(&self, repository: &Repository) -> String {
        self.name_prefix.as_ref().map_or_else(|| repository.to_string(), |prefix| format!("{prefix}/{repository}"))
    }

    /// Who asks, by what they say of themselves.
    async fn caller(&self, presented: &Presented<'_>, front: &Front) -> Result<Caller, Refusal> {
        let authorization = match Authorization::read(presented) {
            Ok(None) => {
                let certified = self.certified(front);
                return Ok(certified.map_or_else(Caller::stranger, |subject| Caller {
                    subject,
                    scopes: None,
                    spoke: true,
                }));
            }
            Ok(Some(authorization)) => authorization,
            Err(problem) => return Err(Refusal::bad(problem)),
        };
        match authorization {
            Authorization::Basic { name, password } => {
                let wrong = || Refusal::unknown(challenge(front, None, None), "incorrect username or password");
                let (subject, _, scopes) = self.login(&name, &password, front, wrong).await?;
                Ok(Caller { subject, scopes, spoke: true })
            }
            Authorization::Bearer(token) => {
                let refused = |problem: &str| {
                    let challenge = challenge(front, None, Some("invalid_token"));
                    Refusal::unknown(challenge, format!("the token isn't taken: {problem}"))
                };
                let grants = self.access.grants.get();
                if let Some(issuer) = grants.issuers.iter().find(|issuer| issuer.is_of(token.reveal())) {
                    self.insist_on_secrecy(front)?;
                    let said = issuer.check(token.reveal(), self.access.options.client.as_ref()).await;
                    let said = said.map_err(refused)?;
                    let subject = Subject::Issued(issuer.name().to_owned(), said.name);
                    return Ok(Caller { subject, scopes: said.access, spoke: true });
                }
                let claims = self.access.tokens.read(token.reveal(), Purpose::Access).map_err(refused)?;
                self.still(&claims.who, front).map_err(refused)?;
                Ok(Caller { subject: claims.who, scopes: Some(claims.access), spoke: true })
            }
        }
    }

    /// Whom the client's certificate names, if any grant is for them. Without one it is anybody's who has a
    /// certificate, and names nobody: they may still log in.
    fn certified(&self, front: &Front) -> Option<Subject> {
        let Certificate { name, print } = &**front.certificate.as_ref()?;
        let name = name.as_ref().filter(|name| self.access.grants.get().know_certificate(name))?;
        Some(Subject::Certified(name.clone(), print.clone()))
    }

    /// Whether a subject of a token is still who they were.
    fn still(&self, subject: &Subject, front: &Front) -> Result<(), &'static str> {
        match subject {
            Subject::Anonymous => Ok(()),
            Subject::User(name, mark) if self.access.users.mark(name) == Some(*mark) => Ok(()),
            Subject::User(..) => Err("its user is gone, or has another password"),
            Subject::Issued(issuer, _) if self.access.grants.get().issuers.iter().any(|i| i.name() == issuer) => Ok(()),
            Subject::Issued(..) => Err("its issuer isn't trusted any more"),
            Subject::Certified(..) if self.certified(front).as_ref() == Some(subject) => Ok(()),
            Subject::Certified(..) => Err("it is for whoever shows another certificate"),
        }
    }

    fn insist_on_secrecy(&self, front: &Front) -> Result<(), Refusal> {
        if front.private || self.access.options.insecure_passwords {
            return Ok(());
        }
        Err(Refusal::denied(
            "no password is taken without TLS, since everybody on the way could read it: ask by https, of \
             a server with --tls-cert or a proxy that --trust-proxy names",
        ))
    }

    /// Who a name and a password are, until when, and what limits them.
    async fn login(
        &self,
        name: &str,
        password: &Secret,
        front: &Front,
        wrong: impl FnOnce() -> Refusal,
    ) -> Result<(Subject, Option<u64>, Option<Vec<Scope>>), Refusal> {
        self.insist_on_secrecy(front)?;
        let user = |mark| (Subject::User(name.to_owned(), mark), None, None);
        if let Some(mark) = self.access.users.recall(name, password) {
            return Ok(user(mark));
        }
        let may_try = self.wrong.allows(front.client, Instant::now());
        may_try.map_err(|wait| Refusal::busy("too many wrong passwords came from there", wait))?;
        let grants = self.access.grants.get();
        let found = match grants.issuers.iter().find(|issuer| issuer.name() == name) {
            Some(issuer) => match issuer.check(password.reveal(), self.access.options.client.as_ref()).await {
                Ok(said) => Some((Subject::Issued(name.to_owned(), said.name), Some(said.expires), said.access)),
                Err(problem) => {
                    tracing::warn!(issuer = name, "a token isn't taken: {problem}");
                    None
                }
            },
            None => match self.access.users.login(name, password).await {
                Login::Right(mark) => Some(user(mark)),
                Login::Busy => return Err(Refusal::busy("too many passwords are being looked at", Duration::ZERO)),
                Login::Wrong => None,
            },
        };
        found.ok_or_else(|| {
            // Of several at once some may be too many by now.
            let _ = self.wrong.take(front.client, Instant::now());
            tracing::warn!(client = %front.client, "a wrong name or password");
            wrong()
        })
    }
}

/// What a client says of itself.
#[derive(Debug)]
enum Authorization {
    Basic { name: String, password: Secret },
    Bearer(Secret),
}

impl Authorization {
    /// Reads the header. What is wrong with it is said without it.
    fn read(presented: &Presented<'_>) -> Result<Option<Self>, &'static str> {
        let Some(value) = presented.authorization else { return Ok(None) };
        if presented.unclear {
            return Err("there is more than one Authorization");
        }
        let value = std::str::from_utf8(value).map_err(|_| "Authorization is not text")?.trim();
        let (scheme, rest) = value.split_once(' ').ok_or("Authorization has no scheme")?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Some(Self::Bearer(rest.into())));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err("Authorization has to be Basic or Bearer");
        }
        let decoded = BASE64.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or("Authorization can't be decoded")?;
        let (name, password) = decoded.split_once(':').ok_or("Authorization has no password")?;
        Ok(Some(Self::Basic { name: name.to_owned(), password: password.into() }))
    }
}

/// What tells a client where tokens are given out, and for what it needs one.
fn challenge(front: &Front, scope: Option<&str>, error: Option<&str>) -> String {
    let mut text = format!("Bearer realm=\"{}{TOKEN_PATH}\",service=\"{}\"", front.base, tokens::ISSUER);
    for (key, value) in [("scope", scope), ("error", error)] {
        if let Some(value) = value {
            text.push_str(&format!(",{key}=\"{value}\""));
        }
    }
    text
}

/// An error and its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
