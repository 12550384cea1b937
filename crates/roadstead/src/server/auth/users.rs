//! Users: an htpasswd file, and the one way to find out whether a password is right.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::AccessError;
use super::state::{self, State, Watched};
use crate::http::Secret;

/// The most bytes of a password: bcrypt looks at no more.
pub const MAX_PASSWORD: usize = 72;

/// The most characters of a name.
const MAX_NAME: usize = 128;

/// How costly a new hash is, as a power of two: some 50 ms.
const COST: u32 = 10;

/// The costliest hashes that are taken, so that a line of the file can't make a login cost minutes.
const MAX_COST: u32 = 14;
const MAX_ROUNDS: u32 = 500_000;

/// How many passwords are looked at at once, and how many may wait for that.
const AT_ONCE: usize = 2;
const WAITING: usize = 64;

/// How long a password that was right is taken without looking again, and how many of them are remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
const MAX_REMEMBERED: usize = 4096;

/// Looked at where there is no user at all: nobody knows what it is of.
const NOBODY: &str = "$2y$10$PsUpy5ER15IFuLD84HPCNOS1JuGh5Q9DcaGZdPXTzJwXoQIrg4ERG";

/// A name that a user may have: of visible ASCII characters, none of which means something in the files.
fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, ':' | '#' | '*' | '?' | '"' | '\\' | '/');
    match name {
        "" => Err("a user needs a name"),
        "anonymous" => Err("anonymous is who comes without a name"),
        _ if name.len() > MAX_NAME => Err("the name is too long"),
        _ if name.starts_with('@') => Err("@ begins the name of a group"),
        _ if !name.chars().all(plain) => {
            Err("a name has letters, digits and punctuation, but no space, and none of : # * ? / \" \\")
        }
        _ => Ok(()),
    }
}

/// What keeps a hash from being looked at, in words behind "the password of NAME".
fn check_hash(hash: &str) -> Result<(), String> {
    let fields: Vec<&str> = hash.split('$').collect();
    match fields.as_slice() {
        ["", "2a" | "2b" | "2y", cost, _] => {
            let cost: u32 = cost.parse().map_err(|_| "is no bcrypt hash".to_owned())?;
            let whole = hash.len() == 60 && hash.is_ascii();
            match cost {
                _ if !whole => Err("is no bcrypt hash".to_owned()),
                4..=MAX_COST => Ok(()),
                _ => Err(format!("has a cost of {cost}, at most {MAX_COST} is taken")),
            }
        }
        ["", "5" | "6", .., salt, _] if (4..=5).contains(&fields.len()) && !salt.is_empty() => {
            let Some(rounds) = (fields.len() == 5).then(|| fields[2]) else { return Ok(()) };
            let rounds = rounds.strip_prefix("rounds=").and_then(|rounds| rounds.parse::<u32>().ok());
            match rounds {
                Some(1000..=MAX_ROUNDS) => Ok(()),
                Some(rounds) => Err(format!("has {rounds} rounds, from 1000 to {MAX_ROUNDS} are taken")),
                None => Err("is no sha-crypt hash".to_owned()),
            }
        }
        _ => Err("is kept in a way that isn't taken: only bcrypt ($2y$) and sha-crypt ($5$, $6$) are".to_owned()),
    }
}

/// Whether a password is that of a hash.
fn matches(password: &[u8], hash: &str) -> bool {
    if hash.starts_with("$2") {
        return bcrypt::non_truncating_verify(password, hash).unwrap_or(false);
    }
    sha_crypt::PasswordVerifier::verify_password(&sha_crypt::ShaCrypt::default(), password, hash).is_ok()
}

/// What the file holds.
#[derive(Default)]
pub(super) struct Listed(HashMap<Box<str>, Box<str>>);

impl Listed {
    /// Reads the file. A line that can't be used lets nobody in, and the others stay.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut users = HashMap::new();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            match entry(line) {
                Ok(None) => {}
                // As Apache has it, the first of several lines counts.
                Ok(Some((name, hash))) => {
                    users.entry(name.into()).or_insert_with(|| hash.into());
                }
                Err(problem) => tracing::warn!(line = index + 1, "a line of the users lets nobody in: {problem}"),
            }
        }
        Self(users)
    }
}

/// The user of a line; `None` if it is a comment.
fn entry(line: &[u8]) -> Result<Option<(&str, &str)>, String> {
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?.trim_ascii();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    // Nothing behind the colon is ever shown.
    let (name, rest) = line.split_once(':').ok_or("it isn't NAME:HASH")?;
    check_name(name)?;
    let hash = rest.split(':').next().unwrap_or_default();
    check_hash(hash).map_err(|problem| format!("the password of {name} {problem}"))?;
    Ok(Some((name, hash)))
}

/// The file of users, for those who change it.
#[derive(Debug, Clone)]
pub struct UserFile(State);

impl UserFile {
    /// The users of a state folder.
    #[must_use]
    pub const fn new(state: State) -> Self {
        Self(state)
    }

    /// The names, sorted. Lines that let nobody in aren't among them.
    ///
    /// # Errors
    ///
    /// [`AccessError`] if the file can't be read.
    pub fn names(&self) -> Result<Vec<String>, AccessError> {
        let listed = Listed::parse(&state::read(&self.0.users())?.unwrap_or_default());
        let mut names: Vec<String> = listed.0.into_keys().map(String::from).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Adds a user, or gives one another password. Other lines stay as they are. Returns whether the user is new. Takes a
    /// moment: the hash is made to be slow.
    ///
    /// # Errors
    ///
    /// [`AccessError::Name`] and [`AccessError::Password`] if they can't be used, others if the file can't be changed.
    pub fn set(&self, name: &str, password: &Secret) -> Result<bool, AccessError> {
        check_name(name).map_err(|problem| AccessError::Name { name: name.to_owned(), problem })?;
        let text = password.reveal();
        if text.is_empty() {
            return Err(AccessError::Password("is empty".to_owned()));
        }
        if text.len() > MAX_PASSWORD {
            return Err(AccessError::Password(format!("has more than {MAX_PASSWORD} bytes")));
        }
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(AccessError::Password("has a control character in it".to_owned()));
        }
        let hashed = bcrypt::hash_with_result(text, COST);
        let hash = hashed.map_err(|_| AccessError::NoRandom)?.format_for_version(bcrypt::Version::TwoY);
        self.change(name, Some(&format!("{name}:{hash}")))
    }

    /// Removes a user. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// [`AccessError`] if the file can't be changed.
    pub fn remove(&self, name: &str) -> Result<bool, AccessError> {
        self.change(name, None)
    }

    /// Puts a line in place of those of a user. Returns whether there was none before, or of a removal, whether there was one.
    fn change(&self, name: &str, line: Option<&str>) -> Result<bool, AccessError> {
        let path = self.0.users();
        let _lock = self.0.lock()?;
        let text = state::read(&path)?.unwrap_or_default();
        let of_user =
            |line: &&[u8]| line.trim_ascii().strip_prefix(name.as_bytes()).is_some_and(|l| l.starts_with(b":"));
        let mut kept: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let before = kept.len();
        kept.retain(|line| !of_user(line));
        let had = kept.len() < before;
        while kept.last().is_some_and(|line| line.is_empty()) {
            kept.pop();
        }
        kept.extend(line.map(str::as_bytes));
        let mut text = kept.join(&b'\n');
        text.push(b'\n');
        if had || line.is_some() {
            self.0.replace(&path, &text)?;
        }
        Ok(if line.is_some() { !had } else { had })
    }
}

/// What came of looking at a name and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// They belong together. Whoever got in by them stays in until the mark changes.
    Right(Mark),
    /// They don't, or there is no such user.
    Wrong,
    /// Too many are being looked at.
    Busy,
}

/// What changes with a user's password, and tells nothing of it.
pub(super) type Mark = [u8; 8];

/// The users, asked whether somebody is one of them.
pub(super) struct Users {
    listed: Watched<Listed>,
    /// Nothing outside of this process is made with it.
    key: [u8; 32],
    looking: Arc<Semaphore>,
    waiting: Semaphore,
    right: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Users {
    pub(super) fn new(state: &State) -> Result<Self, AccessError> {
        let listed = Watched::new(state.users(), Listed::default, Listed::default, |bytes| Ok(Listed::parse(bytes)))?;
        let mut key = [0; 32];
        state::random(&mut key)?;
        let looking = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Self { listed, key, looking, waiting: Semaphore::new(WAITING), right: Mutex::default() })
    }

    /// The mark of a user; `None` if there is none of that name.
    pub(super) fn mark(&self, name: &str) -> Option<Mark> {
        let listed = self.listed.get();
        listed.0.get(name).map(|hash| mark(hash))
    }

    /// The mark of a user whose password was found right a moment ago, and is what it was.
    pub(super) fn recall(&self, name: &str, password: &Secret) -> Option<Mark> {
        let listed = self.listed.get();
        let hash = listed.0.get(name)?;
        self.remembers(&self.proof(name, hash, password)).then(|| mark(hash))
    }

    fn proof(&self, name: &str, hash: &str, password: &Secret) -> [u8; 32] {
        let mut proof = self.mac(hash);
        proof.update(name.as_bytes());
        proof.update(&[0]);
        proof.update(password.reveal().as_bytes());
        proof.finalize().into_bytes().into()
    }

    /// Looks whether a password is right. A name that nobody has costs what one costs that somebody has.
    pub(super) async fn login(&self, name: &str, password: &Secret) -> Login {
        let listed = self.listed.get();
        let known = listed.0.get(name);
        let Ok(_waiting) = self.waiting.try_acquire() else { return Login::Busy };
        let Ok(looking) = Arc::clone(&self.looking).acquire_owned().await else { return Login::Busy };
        // Where there is no such user, the hash of another one is looked at, always of the same for the same name.
        let hash = known.cloned().unwrap_or_else(|| self.stand_in(&listed, name));
        let (password, shown) = (password.clone(), password);
        let looked = tokio::task::spawn_blocking(move || {
            let _looking = looking;
            // sha-crypt takes time in proportion to the square of the length.
            let bytes = password.reveal().as_bytes();
            matches(&bytes[..bytes.len().min(4 * MAX_PASSWORD)], &hash) && bytes.len() <= 4 * MAX_PASSWORD
        });
        let right = looked.await.unwrap_or(false);
        match known {
            Some(hash) if right => {
                self.remember(self.proof(name, hash, shown));
                Login::Right(mark(hash))
            }
            _ => Login::Wrong,
        }
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length will do");
        mac.update(text.as_bytes());
        mac.update(&[0]);
        mac
    }

    fn stand_in(&self, listed: &Listed, name: &str) -> Box<str> {
        let weight = |other: &str| {
            let mut mac = self.mac(name);
            mac.update(other.as_bytes());
            mac.finalize().into_bytes()
        };
        let stand_in = listed.0.values().min_by_key(|hash| weight(hash));
        stand_in.cloned().unwrap_or_else(|| NOBODY.into())
    }

    fn remembers(&self, proof: &[u8; 32]) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(proof).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    fn remember(&self, proof: [u8; 32]) {
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= MAX_REMEMBERED {
            right.retain(|_, at| at.elapsed() < REMEMBERED);
        }
        if right.len() < MAX_REMEMBERED {
            right.insert(proof, Instant::now());
        }
    }
}

/// The mark of a hash. Its salt makes it another one with every password that is set.
fn mark(hash: &str) -> Mark {
    use sha2::Digest as _;
    let digest = Sha256::digest(hash.as_bytes());
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path().join("state"));
        (folder, state)
    }

    /// "secret", by `openssl passwd -6`.
    const SHA512: &str =
        "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1";

    #[test]
    fn lines_that_let_nobody_in() {
        for (line, problem) in [
            ("ann", "it isn't NAME:HASH"),
            (":x", "a user needs a name"),
            ("anonymous:x", "anonymous is who comes without a name"),
            ("ann:secret", "isn't taken"),
            ("ann:$apr1$x$y", "isn't taken"),
            ("ann:{SHA}xx", "isn't taken"),
            ("ann:$2y$99$aaa", "is no bcrypt hash"),
            ("ann:$6$rounds=999999999$salt$hash", "has 999999999 rounds"),
            ("a b:$6$salt$hash", "no space"),
        ] {
            let error = entry(line.as_bytes()).unwrap_err();
            assert!(error.contains(problem), "{line}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(entry(b"# ann:x"), Ok(None));
        assert_eq!(entry(b" \r"), Ok(None));
        assert_eq!(entry(b"ann:$6$salt$hash\r"), Ok(Some(("ann", "$6$salt$hash"))));
    }

    #[tokio::test]
    async fn users_come_and_go() {
        let (_folder, state) = state();
        let file = UserFile::new(state.clone());
        let users = Users::new(&state).unwrap();
        assert_eq!(users.login("ann", &"secret".into()).await, Login::Wrong);
        assert!(file.set("ann", &"secret".into()).unwrap());
        let Login::Right(first) = users.login("ann", &"secret".into()).await else { panic!("it is right") };
        assert_eq!(users.mark("ann"), Some(first));
        assert_eq!(users.recall("ann", &"secret".into()), Some(first));
        assert_eq!(users.recall("ann", &"Secret".into()), None);
        assert_eq!(users.recall("bob", &"secret".into()), None);
        assert_eq!(users.login("ann", &"Secret".into()).await, Login::Wrong);
        assert_eq!(users.login("bob", &"secret".into()).await, Login::Wrong);
        assert_eq!(users.login("ann", &"".into()).await, Login::Wrong);
        assert_eq!(users.login("ann", &"x".repeat(100_000).into()).await, Login::Wrong);
        std::fs::write(state.users(), [&std::fs::read(state.users()).unwrap()[..], b"# a comment\n"].concat()).unwrap();
        assert!(!file.set("ann", &"other".into()).unwrap());
        assert_eq!(users.login("ann", &"secret".into()).await, Login::Wrong);
        let Login::Right(second) = users.login("ann", &"other".into()).await else { panic!("it is right") };
        assert_ne!(first, second);
        assert_eq!(users.recall("ann", &"secret".into()), None, "what was right is so no more");
        assert_eq!(file.names().unwrap(), ["ann"]);
        assert!(std::fs::read_to_string(state.users()).unwrap().starts_with("# a comment\nann:$2y$"));
        assert!(file.remove("ann").unwrap());
        assert!(!file.remove("ann").unwrap());
        assert_eq!(users.login("ann", &"other".into()).await, Login::Wrong);
        assert_eq!(users.mark("ann"), None);
    }

    #[tokio::test]
    async fn hashes_of_others() {
        let (_folder, state) = state();
        state.create().unwrap();
        // By `htpasswd -B`.
        let apache = "$2y$05$ndWevcIAIqPLAIpao6gRuujeCZhoeiSYTWEPTEI3PRsS9fe21cKtO";
        std::fs::write(state.users(), format!("bob:{SHA512}\ncarl:{apache}\n")).unwrap();
        let users = Users::new(&state).unwrap();
        assert!(matches!(users.login("bob", &"secret".into()).await, Login::Right(_)));
        assert_eq!(users.login("bob", &"secret2".into()).await, Login::Wrong);
        assert!(matches!(users.login("carl", &"secret".into()).await, Login::Right(_)));
    }

    #[test]
    fn what_can_be_no_user() {
        let (_folder, state) = state();
        let file = UserFile::new(state);
        for name in ["", "a:b", "a b", "anonymous", "*", "@ops", "a\nb", &"a".repeat(200)] {
            assert!(matches!(file.set(name, &"secret".into()), Err(AccessError::Name { .. })), "{name:?}");
        }
        for password in ["", "a\nb", &"a".repeat(73)] {
            assert!(matches!(file.set("ann", &password.into()), Err(AccessError::Password(_))), "{password:?}");
        }
    }

    #[test]
    fn looking_costs_the_same_whether_or_not_there_is_a_user() {
        // Not by time, which no test can judge: by which hash is looked at.
        let (_folder, state) = state();
        let users = Users::new(&state).unwrap();
        assert!(check_hash(NOBODY).is_ok());
        assert_eq!(&*users.stand_in(&Listed::default(), "x"), NOBODY);
        let listed = Listed([("a", "$6$1$1"), ("b", "$6$2$2")].map(|(name, hash)| (name.into(), hash.into())).into());
        let chosen: Vec<_> = (0..50).map(|n| users.stand_in(&listed, &n.to_string())).collect();
        assert!(chosen.iter().any(|hash| **hash == *"$6$1$1") && chosen.iter().any(|hash| **hash == *"$6$2$2"));
        assert_eq!(users.stand_in(&listed, "7"), chosen[7]);
    }
}
