//! `roadstead login` and `logout`, against a registry that wants `ann` and `hunter2`.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use roadstead::testing::{FaultServer, Reply};

struct Setup {
    home: tempfile::TempDir,
    registry: FaultServer,
}

impl Setup {
    async fn new() -> Self {
        let registry = FaultServer::start(|seen| match seen.header("authorization") {
            "Basic YW5uOmh1bnRlcjI=" => Reply::ok("{}"),
            _ => Reply::challenge("Basic realm=r")
                .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#),
        })
        .await;
        Self { home: tempfile::tempdir().expect("a temporary folder"), registry }
    }

    fn file(&self) -> PathBuf {
        self.home.path().join(".docker/config.json")
    }

    /// Runs a command in a home of its own; returns its exit code, standard output and standard error.
    fn run(&self, args: &[&str], input: &str) -> (i32, String, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_roadstead"))
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads its input");
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
        (output.status.code().expect("no signal ends it"), text(output.stdout), text(output.stderr))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_not_kept() {
    let setup = Setup::new().await;
    let place = setup.registry.authority();
    let (code, stdout, stderr) = setup.run(&["login", &place, "-u", "ann", "--password-stdin"], "hunter3\n");
    assert_eq!((code, stdout.as_str()), (4, ""), "{stderr}");
    assert!(
        stderr.contains(&format!("{place} does not accept this name and password for ann; nothing was stored")),
        "{stderr}"
    );
    assert!(stderr.contains("UNAUTHORIZED: authentication required"), "{stderr}");
    assert!(!stderr.contains("hunter"), "{stderr}");
    assert!(!setup.file().exists(), "{}", setup.file().display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_get_login_logout() {
    let setup = Setup::new().await;
    let place = setup.registry.authority();
    let (code, _, stderr) = setup.run(&["login", &place, "-u", "ann", "--password-stdin"], "hunter2\r\n");
    assert_eq!(code, 0, "{stderr}");
    assert!(!stderr.contains("hunter2"), "{stderr}");
    let text = fs::read_to_string(setup.file()).expect("docker's file");
    assert_eq!(
        text.replace(['\t', '\n'], ""),
        format!(r#"{{"auths": {{"{place}": {{"auth": "YW5uOmh1bnRlcjI="}}}}}}"#)
    );

    let (code, stdout, stderr) = setup.run(&["login", "--get-login", &place], "");
    assert_eq!((code, stdout.as_str()), (0, "ann\n"), "{stderr}");

    let (code, _, stderr) = setup.run(&["logout", &place], "");
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(fs::read_to_string(setup.file()).expect("docker's file"), "{\n\t\"auths\": {}\n}\n");
    // Being logged out is what was asked for; having no name to print is a failure.
    for (args, expected) in [(["logout", &*place].as_slice(), 0), (&["login", "--get-login", &place], 1)] {
        let (code, _, stderr) = setup.run(args, "");
        assert_eq!(code, expected, "{stderr}");
        assert!(stderr.contains(&format!("nobody is logged in to {place}")), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_terminal_nobody_is_asked() {
    let setup = Setup::new().await;
    let place = setup.registry.authority();
    for (args, said) in [
        (["login", &*place].as_slice(), "--username USER and --password-stdin"),
        (&["login", &place, "-u", "ann"], "pipe it in with --password-stdin"),
        (&["login", &place, "-u", "a:b", "-p", "x"], "colon"),
    ] {
        let (code, _, stderr) = setup.run(args, "");
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
    }
    assert!(setup.registry.lines().is_empty(), "{:?}", setup.registry.lines());
}
