//! The binary, run in a folder of its own and with nothing of the environment.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::io::{Read as _, Seek as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use roadstead_parts::{Folder, Invocation, Isolation, Port, Served};

/// A folder to run the binary in. It is also the home folder, and where `./registry` comes to lie.
pub(crate) struct Place {
    folder: Folder,
}

/// What came of a run.
pub(crate) struct Ran {
    command: String,
    status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: Folder::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the tree is unless `--tree` says otherwise.
    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.join("registry")
    }

    /// A call that is yet to be made.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
        command.args(arguments).current_dir(self.path()).env_clear().env("HOME", self.path()).stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// Runs the binary with something on its standard input.
    pub(crate) fn run_with_input<A: AsRef<OsStr>>(&self, arguments: &[A], input: &str) -> Ran {
        let path = self.folder.write("standard-input", input);
        Ran::of(self.command(arguments).stdin(std::fs::File::open(path).unwrap()))
    }

    /// Runs `roadstead serve` over a tree until the value is dropped.
    pub(crate) fn serve(&self, tree: &Path) -> (Served, String) {
        self.serve_with(Invocation::new(env!("CARGO_BIN_EXE_roadstead")).arg("--tree").arg(tree).arg("serve"))
    }

    /// The same with an option.
    pub(crate) fn serve_option(&self, tree: &Path, option: &str) -> (Served, String) {
        let roadstead = Invocation::new(env!("CARGO_BIN_EXE_roadstead"));
        self.serve_with(roadstead.arg("--tree").arg(tree).args(["serve", option]))
    }

    /// The same with options.
    pub(crate) fn serve_options(&self, tree: &Path, options: &[&str]) -> (Served, String) {
        let roadstead = Invocation::new(env!("CARGO_BIN_EXE_roadstead"));
        self.serve_with(roadstead.arg("--tree").arg(tree).arg("serve").args(options))
    }

    /// Runs `roadstead serve` over a tree that everybody on this machine may push to.
    pub(crate) fn serve_pushes(&self) -> (Served, String) {
        let serve = ["serve", "--push", "--anonymous-push", "--allow-delete"];
        self.serve_with(Invocation::new(env!("CARGO_BIN_EXE_roadstead")).arg("--tree").arg(self.tree()).args(serve))
    }

    /// Runs `roadstead serve` in front of what lies below a URL.
    pub(crate) fn serve_upstream(&self, url: &str) -> (Served, String) {
        self.serve_with(Invocation::new(env!("CARGO_BIN_EXE_roadstead")).args(["serve", "--upstream", url]))
    }

    fn serve_with(&self, serve: Invocation) -> (Served, String) {
        let port = Port::free();
        let authority = port.address().to_string();
        let serve = serve.args(["--listen", &authority]);
        (Served::start(&serve, Isolation::None, Folder::new(), || port.answers()), authority)
    }
}

impl Ran {
    /// Runs a command to its end; one that hangs is ended after two minutes.
    pub(crate) fn of(command: &mut Command) -> Self {
        // Files, so that no pipe has to be emptied while it runs.
        let (mut stdout, mut stderr) = (temporary(), temporary());
        command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let status = wait(&mut child);
        Self {
            command: shown(command),
            status,
            stdout: content(&mut stdout),
            stderr: String::from_utf8(content(&mut stderr)).unwrap(),
        }
    }

    /// The exit code, or 128 and the signal's number, as a shell tells it.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().or_else(|| Some(128 + self.status.signal()?)).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// Fails the test unless it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }
}

impl Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.command)?;
        write!(f, "{}", String::from_utf8_lossy(&self.stdout))?;
        if !self.stderr.is_empty() {
            write!(f, "--- stderr\n{}", self.stderr)?;
        }
        if self.status.success() { Ok(()) } else { writeln!(f, "--- exit code {}", self.code()) }
    }
}

fn shown(command: &Command) -> String {
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once("roadstead".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Waits for the end of a process, two minutes at most.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    let ended = roadstead_parts::wait_until(std::time::Duration::from_secs(120), || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !ended {
        child.kill().unwrap();
        panic!("{child:?} did not end");
    }
    status.unwrap()
}

fn temporary() -> std::fs::File {
    let folder = Folder::new();
    std::fs::File::options().create_new(true).read(true).append(true).open(folder.join("output")).unwrap()
}

fn content(file: &mut std::fs::File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The largest number of bytes that a process ever had in memory; `None` once it has ended.
pub(crate) fn peak_memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().unwrap() << 10)
}
