//! Files of credentials and the helpers that they name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use roadstead::http::credentials::{Credential, CredentialFile, Credentials, Helpers, Kept};
use roadstead::oci::{ImageReference, Registry, Repository};
use tokio::sync::{Mutex, MutexGuard};

use crate::support::chain;

/// A folder for files and programs. Programs are made and started by one test at a time: a program that another thread's
/// child still holds open for writing can't be started.
struct Folder {
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::const_new(());

impl Folder {
    async fn new() -> Self {
        Self { _alone: ALONE.lock().await, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.path("config.json");
        fs::write(&path, text).expect("a file can be written");
        path
    }

    fn helper(&self, name: &str, script: &str) {
        let path = self.path(&format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a program can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("and made executable");
    }

    fn helpers(&self) -> Helpers {
        Helpers::new(vec!["relative".into(), self.path("nowhere"), self.folder.path().to_owned()])
    }

    /// A helper that keeps one file for each server.
    fn keeper(&self, name: &str) {
        let store = self.path("kept");
        fs::create_dir_all(&store).expect("a folder can be made");
        let store = store.display();
        self.helper(
            name,
            &format!(
                r#"case "$1" in
store) read -r line; server=$(printf %s "$line" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' | tr / _); printf %s "$line" > "{store}/$server" ;;
get) read -r server || :; file="{store}/$(printf %s "$server" | tr / _)"; [ -f "$file" ] || {{ echo "credentials not found in native keychain"; exit 1; }}; cat "$file" ;;
erase) read -r server || :; rm "{store}/$(printf %s "$server" | tr / _)" ;;
esac"#
            ),
        );
    }
}

fn hub() -> Registry {
    Registry::docker_hub()
}

fn registry(text: &str) -> Registry {
    text.parse().expect("a registry")
}

fn password(username: &str, password: &str) -> Credential {
    Credential::Password { username: username.to_owned(), password: password.into() }
}

async fn find(files: &[&Path], helpers: Helpers, image: &str) -> Result<Option<Credential>, String> {
    let image: ImageReference = image.parse().expect("an image reference");
    let files = files.iter().map(|path| (*path).to_owned()).collect();
    let found = Credentials::in_files(files, helpers).find(&image.registry, Some(&image.repository)).await;
    found.map_err(|error| chain(&error))
}

#[tokio::test]
async fn the_first_file_that_knows_a_registry_counts() {
    let folder = Folder::new().await;
    let first = folder.path("first.json");
    let second = folder.path("second.json");
    fs::write(&first, r#"{"auths":{"a.io":{"auth":"YTox"}}}"#).unwrap();
    fs::write(&second, r#"{"auths":{"a.io":{"auth":"YToy"},"b.io":{"auth":"Yjoy"}}}"#).unwrap();
    let missing = folder.path("missing.json");
    let files: [&Path; 3] = [&missing, &first, &second];
    assert_eq!(find(&files, Helpers::default(), "a.io/x").await, Ok(Some(password("a", "1"))));
    assert_eq!(find(&files, Helpers::default(), "b.io/x").await, Ok(Some(password("b", "2"))));
    assert_eq!(find(&files, Helpers::default(), "c.io/x").await, Ok(None));
}

#[tokio::test]
async fn helpers_are_asked() {
    let folder = Folder::new().await;
    folder.helper(
        "one",
        r#"read -r server || :; echo "{\"ServerURL\":\"$server\",\"Username\":\"one\",\"Secret\":\"$server\"}""#,
    );
    folder.helper("all", r#"echo '{"ServerURL":"","Username":"<token>","Secret":"t"}'"#);
    let file = folder.file(
        r#"{"credHelpers":{"a.io":"one","docker.io":"one"},"credsStore":"all","auths":{"b.io":{"auth":"Yjoy"},"a.io":{}}}"#,
    );
    let find = async |image: &str| find(&[&file], folder.helpers(), image).await;
    assert_eq!(find("a.io/x").await, Ok(Some(password("one", "a.io"))));
    assert_eq!(find("alpine").await, Ok(Some(password("one", "https://index.docker.io/v1/"))));
    assert_eq!(find("b.io/x").await, Ok(Some(password("b", "2"))), "an entry comes before the store");
    assert_eq!(find("c.io/x").await, Ok(Some(Credential::IdentityToken("t".into()))));
}

#[tokio::test]
async fn helpers_that_fail() {
    let folder = Folder::new().await;
    folder.helper("none", "echo credentials not found in native keychain; exit 1");
    folder.helper("locked", "echo the key ring is locked; exit 1");
    folder.helper("mute", "echo why >&2; exit 3");
    folder.helper("odd", "echo hunter2");
    folder.helper("slow", "sleep 100");
    folder.helper("long", "yes hunter2");
    let file = folder.file(
        r#"{"credHelpers":{"none.io":"none","locked.io":"locked","mute.io":"mute","odd.io":"odd","slow.io":"slow",
            "long.io":"long","missing.io":"missing","path.io":"../../bin/x"},"credsStore":"missing"}"#,
    );
    let helpers = folder.helpers().within(Duration::from_millis(500));
    for (image, said) in [
        ("none.io/x", None),
        ("other.io/x", None),
        ("locked.io/x", Some("docker-credential-locked failed: it says: the key ring is locked")),
        ("mute.io/x", Some("docker-credential-mute failed: it says: why")),
        ("odd.io/x", Some("its answer is not")),
        ("slow.io/x", Some("no answer within")),
        ("long.io/x", Some("it said more than")),
        ("missing.io/x", Some("docker-credential-missing failed: it is not installed")),
        ("path.io/x", Some("no name of a helper")),
    ] {
        let found = find(&[&file], helpers.clone(), image).await;
        match said {
            None => assert_eq!(found, Ok(None), "{image}"),
            Some(said) => {
                let error = found.expect_err(image);
                assert!(error.contains(said) && !error.contains("hunter2"), "{image}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn login_and_logout_in_a_file() {
    let folder = Folder::new().await;
    let path = folder.path("deep/down/config.json");
    let file = CredentialFile::new(path.clone(), Helpers::default());
    let kept = file.store(&registry("r.io:5000"), None, &password("u", "p:q")).await.unwrap();
    assert_eq!(kept, Kept::File(path.clone()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let part: Repository = "org".parse().unwrap();
    file.store(&registry("r.io:5000"), Some(&part), &password("o", "x")).await.unwrap();
    assert_eq!(find(&[&path], Helpers::default(), "r.io:5000/a").await, Ok(Some(password("u", "p:q"))));
    assert_eq!(find(&[&path], Helpers::default(), "r.io:5000/org/a").await, Ok(Some(password("o", "x"))));
    assert_eq!(file.username(&registry("r.io:5000"), None).await.unwrap().as_deref(), Some("u"));

    assert!(file.erase(&registry("r.io:5000"), None).await.unwrap());
    assert_eq!(find(&[&path], Helpers::default(), "r.io:5000/a").await, Ok(None));
    assert_eq!(find(&[&path], Helpers::default(), "r.io:5000/org/a").await, Ok(Some(password("o", "x"))));
    assert!(!file.erase(&registry("r.io:5000"), None).await.unwrap(), "there is nothing left");
    assert!(file.erase(&registry("r.io:5000"), Some(&part)).await.unwrap());
}

#[tokio::test]
async fn what_is_not_known_in_a_file_stays() {
    let folder = Folder::new().await;
    let path = folder.file(
        r#"{"proxies":{"default":{"httpProxy":"x"}},"auths":{"docker.io":{"auth":"b2xkOm9sZA=="},"a.io":{"auth":"YTox","email":"a@b"}},"z":[1,2.50]}"#,
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let link = folder.path("link.json");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let file = CredentialFile::new(link.clone(), Helpers::default());
    file.store(&hub(), None, &password("new", "new")).await.unwrap();
    file.store(&registry("a.io"), None, &Credential::IdentityToken("t".into())).await.unwrap();
    assert!(link.is_symlink(), "a link stays a link");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::read_to_string(&path).unwrap().replace(['\t', '\n'], ""),
        concat!(
            r#"{"proxies": {"default": {"httpProxy": "x"}},"#,
            r#""auths": {"a.io": {"email": "a@b","identitytoken": "t"},"#,
            r#""https://index.docker.io/v1/": {"auth": "bmV3Om5ldw=="}},"z": [1,2.5]}"#
        )
    );

    for broken in ["{", r#"{"auths":7}"#, "[]"] {
        let path = folder.file(broken);
        let file = CredentialFile::new(path.clone(), Helpers::default());
        assert!(file.store(&hub(), None, &password("u", "p")).await.is_err(), "{broken}");
        assert_eq!(fs::read_to_string(&path).unwrap(), broken, "a file that is not understood is left alone");
    }
}

#[tokio::test]
async fn login_and_logout_with_a_helper() {
    let folder = Folder::new().await;
    folder.keeper("one");
    folder.keeper("all");
    let path = folder.file(r#"{"credHelpers":{"a.io":"one"},"credsStore":"all"}"#);
    let file = CredentialFile::new(path.clone(), folder.helpers());
    let one = file.store(&registry("a.io"), None, &password("u", "hunter2")).await.unwrap();
    assert_eq!(one, Kept::Helper("one".to_owned()));
    let all = file.store(&hub(), None, &password("v", "hunter3")).await.unwrap();
    assert_eq!(all, Kept::Helper("all".to_owned()));
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("hunter") && !text.contains("\"auth\""), "{text}");
    assert_eq!(find(&[&path], folder.helpers(), "a.io/x").await, Ok(Some(password("u", "hunter2"))));
    assert_eq!(find(&[&path], folder.helpers(), "alpine").await, Ok(Some(password("v", "hunter3"))));
    assert!(file.erase(&hub(), None).await.unwrap());
    assert_eq!(find(&[&path], folder.helpers(), "alpine").await, Ok(None));
    assert!(!file.erase(&hub(), None).await.unwrap());
}
