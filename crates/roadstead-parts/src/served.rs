use std::fmt::{self, Debug};
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::invocation::Invocation;
use crate::wait::poll;
use crate::{Folder, part};

/// A program that runs in the background until this value is dropped.
///
/// Between it and the test stands a small supervisor that reads from a pipe which the test holds. When the pipe closes,
/// because the value is dropped or because the test process is gone, whatever ended it, the supervisor sends SIGTERM,
/// after five seconds SIGKILL, and removes the folder. So nothing is left behind by a test that panics, aborts or is
/// interrupted, nor by a daemon that is kept in a `static` and therefore never dropped.
///
/// Container engines leave mounts and orphans behind. They run in mount and PID namespaces of their own
/// ([`Isolation::Namespaces`]): when the first process of those ends, the kernel ends all others and undoes all mounts.
///
/// In a test that panics, the log goes to standard error.
pub struct Served {
    name: String,
    supervisor: Child,
    pipe: Option<ChildStdin>,
    log: File,
    folder: Folder,
}

/// How far a program is kept apart from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Not at all; for a program of a single process. Needs no rights.
    None,
    /// Own mounts and processes, which end with it; for all that starts workers or containers. Runs as root.
    Namespaces,
}

/// A process, as the kernel describes it.
struct Process {
    id: u32,
    parent: u32,
    /// Its own processor time, and that of its children which have ended.
    ticks: u64,
}

fn processes() -> Vec<Process> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // Behind the name, which stands in parentheses and may have any character in it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
        Some(Process { id, parent: fields.get(1)?.parse().ok()?, ticks })
    };
    std::fs::read_dir("/proc").expect("there is /proc").filter_map(read).collect()
}

impl Served {
    /// How long a program may take until it is ready. Starting takes a second at most on an idle machine; this is for
    /// one that is busy.
    const PATIENCE: Duration = Duration::from_secs(90);

    /// Starts a program whose files are in `folder`, and waits until `ready` says yes.
    ///
    /// # Panics
    ///
    /// When it ends before it is ready, or is not ready after a minute and a half. The message has its log.
    pub fn start(
        invocation: &Invocation,
        isolation: Isolation,
        folder: Folder,
        mut ready: impl FnMut() -> bool,
    ) -> Self {
        let name = invocation.to_string();
        let log = File::options()
            .create_new(true)
            .read(true)
            .append(true)
            .open(folder.join("log"))
            .expect("the folder is ours and has no log yet");
        let invocation = if isolation == Isolation::Namespaces { &invocation.clone().as_root() } else { invocation };
        let mut command = invocation.command(|line| {
            line.arg(part::installed("sh")).args(["-c", CLEANER, "cleaner"]).arg(folder.path());
            if isolation == Isolation::Namespaces {
                line.arg(part::installed("unshare")).args([
                    "--mount",
                    "--propagation=private",
                    "--pid",
                    "--fork",
                    "--kill-child",
                    "--mount-proc",
                ]);
            }
            line.arg(part::installed("sh")).args(["-c", SUPERVISOR, "supervisor"])
        });
        let mut supervisor = command
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log.try_clone().expect("a file can be shared"))
            // A Ctrl-C in the terminal is for the test; the supervisor hears of it through the pipe, after which it
            // cleans up.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("`{name}` can't be started: {error}"));
        let pipe = supervisor.stdin.take();
        let mut served = Self { name, supervisor, pipe, log, folder };
        let ended = poll(Self::PATIENCE, || match served.supervisor.try_wait() {
            Ok(Some(status)) => ControlFlow::Break(Some(status)),
            _ if ready() => ControlFlow::Break(None),
            _ => ControlFlow::Continue(()),
        });
        match ended {
            Some(None) => served,
            Some(Some(status)) => {
                panic!("`{}` ended with {status} before it was ready\n--- log\n{}", served.name, served.log())
            }
            None => panic!(
                "`{}` was not ready after {} s\n--- log\n{}",
                served.name,
                Self::PATIENCE.as_secs(),
                served.log()
            ),
        }
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The processor time that it has had so far, its supervisor, its workers and those that have ended included. The kernel
    /// counts in hundredths of a second.
    ///
    /// # Panics
    ///
    /// When `/proc` can't be read.
    pub fn processor_time(&self) -> Duration {
        let mut ticks = 0;
        let mut wanted = vec![self.supervisor.id()];
        let processes = processes();
        while let Some(parent) = wanted.pop() {
            ticks += processes.iter().find(|process| process.id == parent).map_or(0, |process| process.ticks);
            wanted.extend(processes.iter().filter(|process| process.parent == parent).map(|process| process.id));
        }
        Duration::from_millis(10 * ticks)
    }

    /// Everything that it has printed so far, on either output; bytes that are no UTF-8 are replaced.
    pub fn log(&self) -> String {
        let length = self.log.metadata().expect("the log is open").len();
        let mut bytes = vec![0; usize::try_from(length).expect("a log fits into memory")];
        // By position: the handle's own belongs to the program too.
        self.log.read_exact_at(&mut bytes, 0).expect("a log only grows");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of the log, for a message about something that the program was to do.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Ends it as dropping does, and returns the status that it ended with (as a shell tells it: 128 and the signal's
    /// number if a signal ended it) and its log.
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.pipe = None;
        let status = self.supervisor.wait().expect("nobody else waits for the supervisor");
        (status, self.log())
    }
}

impl Drop for Served {
    #[expect(clippy::print_stderr, reason = "a failing test shows what its parts had to say")]
    fn drop(&mut self) {
        self.pipe = None;
        // Fails only if it was waited for before.
        drop(self.supervisor.wait());
        if thread::panicking() {
            eprintln!("--- log of `{}`\n{}", self.name, self.log());
        }
    }
}

impl Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("name", &self.name).field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Removes the folder after everything has ended: outside the namespaces, whose mounts are gone by then.
const CLEANER: &str = r#"
folder=$1
shift
"$@"
status=$?
rm -rf -- "$folder"
exit $status
"#;

/// Starts the program and ends it when the pipe closes. In a PID namespace this is the first process, whose end is
/// everybody's end.
const SUPERVISOR: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- &
program=$!
{
  while read -r _ <&3; do :; done
  kill -TERM "$program"
  sleep 5
  kill -KILL "$program"
} 2>/dev/null &
watcher=$!
exec 3<&-
wait "$program" 2>/dev/null
status=$?
kill "$watcher" 2>/dev/null
exit $status
"#;
