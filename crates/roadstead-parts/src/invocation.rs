use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display, Write as _};
use std::fs::File;
use std::io::{Read, Seek, Write as _};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::part;

/// One call of a program: what to run, with which arguments, in which surroundings.
///
/// The program sees only the variables that are given here, apart from `PATH`, `HOME` and `LC_ALL`: a proxy, a
/// credential helper or a default of the person who runs the tests changes nothing. `Display` prints a line that can be
/// pasted into a shell.
#[derive(Debug, Clone)]
pub struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    path_prefix: Option<PathBuf>,
    input: Option<Vec<u8>>,
    root: bool,
    deadline: Duration,
}

impl Invocation {
    /// Calls this program.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            path_prefix: None,
            input: None,
            root: false,
            deadline: Duration::from_secs(180),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name, value.as_ref().to_owned()));
        self
    }

    /// Puts a folder in front of `PATH`, for a program that looks for its companions there.
    #[must_use]
    pub fn path_prefix(mut self, folder: impl Into<PathBuf>) -> Self {
        self.path_prefix = Some(folder.into());
        self
    }

    /// Gives it something to read on its standard input, which is empty otherwise.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Runs it as root: directly if the tests are, else through `sudo`, which must not ask for a password.
    #[must_use]
    pub fn as_root(mut self) -> Self {
        self.root = true;
        self
    }

    /// Ends it, with everything that it has started, when it takes longer than this; three minutes if not said.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// When it ends with another status than 0, or not before its deadline. The failure holds the command and all that
    /// it printed.
    pub fn run(&self) -> Result<Output, Failure> {
        // Files instead of pipes: no thread is needed to empty them, and a grandchild that keeps one open holds nobody
        // up.
        let mut stdout = tempfile::tempfile().expect("the folder for temporary files can be written to");
        let mut stderr = tempfile::tempfile().expect("the folder for temporary files can be written to");
        // coreutils' timeout starts a process group and ends all of it, as root where the program runs as root.
        let limit = [format!("--kill-after={}", 5), self.deadline.as_secs().to_string()];
        let status = self
            .command(|line| line.arg(part::installed("timeout")).args(&limit))
            .stdin(self.stdin())
            .stdout(stdout.try_clone().expect("a file can be shared"))
            .stderr(stderr.try_clone().expect("a file can be shared"))
            .status()
            .unwrap_or_else(|error| panic!("`{self}` can't be started: {error}"));
        let output = Output { stdout: content(&mut stdout), stderr: content(&mut stderr) };
        if status.success() {
            Ok(output)
        } else {
            Err(Failure { command: self.to_string(), status, deadline: self.deadline, output, log: None })
        }
    }

    fn stdin(&self) -> Stdio {
        let Some(bytes) = &self.input else { return Stdio::null() };
        let mut file = tempfile::tempfile().expect("the folder for temporary files can be written to");
        file.write_all(bytes).and_then(|()| file.rewind()).expect("a temporary file can be written to");
        file.into()
    }

    /// The whole command line; `wrap` adds what stands between the environment and the program.
    pub(crate) fn command(&self, wrap: impl FnOnce(&mut Command) -> &mut Command) -> Command {
        let environment = part::installed("env");
        let mut command = if self.root && user() != 0 {
            let mut sudo = Command::new(part::installed("sudo"));
            sudo.arg("-n").arg(environment);
            sudo
        } else {
            Command::new(environment)
        };
        command.arg("-i").args(self.variables().iter().map(|(name, value)| assignment(name, value)));
        wrap(&mut command).arg(&self.program).args(&self.arguments);
        command
    }

    fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut path = part::search_path().clone();
        if let Some(prefix) = &self.path_prefix {
            let mut longer = prefix.clone().into_os_string();
            longer.push(":");
            longer.push(path);
            path = longer;
        }
        let mut variables = vec![("PATH", path), ("HOME", "/nonexistent".into()), ("LC_ALL", "C".into())];
        variables.extend(self.environment.iter().cloned());
        variables
    }
}

impl Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.environment {
            write!(f, "{name}={} ", Quoted(value))?;
        }
        write!(f, "{}", Quoted(self.program.as_os_str()))?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", Quoted(argument)))
    }
}

/// What a program printed.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// On its standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// On its standard error, likewise.
    pub stderr: String,
}

/// A program that did not succeed. `Debug` reads like `Display`, so that `unwrap` in a test prints it legibly.
pub struct Failure {
    command: String,
    status: ExitStatus,
    deadline: Duration,
    output: Output,
    log: Option<String>,
}

impl Failure {
    /// What the program printed before it failed.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Whether it was ended because it took too long.
    pub fn timed_out(&self) -> bool {
        // 124 says that SIGTERM was enough; where SIGKILL was needed, `timeout` goes with its group.
        self.status.code() == Some(124) || self.status.signal() == Some(9)
    }

    /// Adds the last lines of the log of the daemon that did the work.
    pub(crate) fn with_log(mut self, log: String) -> Self {
        self.log = Some(log);
        self
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, deadline, output, log } = self;
        if self.timed_out() {
            writeln!(f, "`{command}` was ended after {} s", deadline.as_secs())?;
        } else {
            writeln!(f, "`{command}` failed with {status}")?;
        }
        write!(f, "--- stdout\n{}\n--- stderr\n{}", output.stdout.trim_end(), output.stderr.trim_end())?;
        log.iter().try_for_each(|log| write!(f, "\n--- log of the daemon\n{log}"))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl Error for Failure {}

/// The number of the user who runs the tests.
pub(crate) fn user() -> u32 {
    Path::new("/proc/self").metadata().expect("/proc is mounted").uid()
}

/// The number of that user's group.
pub(crate) fn group() -> u32 {
    Path::new("/proc/self").metadata().expect("/proc is mounted").gid()
}

fn assignment(name: &str, value: &OsStr) -> OsString {
    let mut assignment = OsString::from(name);
    assignment.push("=");
    assignment.push(value);
    assignment
}

/// Everything that was written to a file so far, through whatever handle.
pub(crate) fn content(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a temporary file can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An argument as one writes it in a shell.
struct Quoted<'a>(&'a OsStr);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string_lossy();
        if !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_=+/.,:@%".contains(c)) {
            return f.write_str(&text);
        }
        f.write_char('\'')?;
        f.write_str(&text.replace('\'', r"'\''"))?;
        f.write_char('\'')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Invocation {
        Invocation::new("/bin/sh").args(["-c", script])
    }

    #[test]
    fn a_failure_tells_the_command_the_status_and_what_was_printed() {
        let failure = shell("echo on out; echo on err >&2; exit 3").env("K", "a b").run().unwrap_err();
        assert_eq!(
            failure.to_string(),
            "`K='a b' /bin/sh -c 'echo on out; echo on err >&2; exit 3'` failed with exit status: 3\n\
             --- stdout\non out\n--- stderr\non err"
        );
        assert_eq!(format!("{failure:?}"), failure.to_string());
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_its_children() {
        let failure = shell("sleep 600 & echo $!; wait").deadline(Duration::from_secs(1)).run().unwrap_err();
        assert!(failure.timed_out(), "{failure}");
        let child = failure.output().stdout.trim();
        // An orphan whose parent does not fetch its status stays as a zombie.
        let ended = || {
            let status = std::fs::read_to_string(format!("/proc/{child}/stat"));
            status.map_or(true, |line| line.rsplit(") ").next().is_some_and(|state| state.starts_with('Z')))
        };
        assert!(crate::wait_until(Duration::from_secs(10), ended), "process {child} lives");
    }

    #[test]
    fn nothing_is_inherited_from_the_environment() {
        let output = Invocation::new("/usr/bin/env").env("ONE", "1").run().unwrap();
        let mut names: Vec<_> = output.stdout.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["HOME", "LC_ALL", "ONE", "PATH"]);
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(Invocation::new("/bin/cat").input("hello").run().unwrap().stdout, "hello");
    }
}
