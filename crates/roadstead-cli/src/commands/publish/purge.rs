//! Tells caches what has changed.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::exit;

/// Runs a command that reads the paths, one a line. What it prints goes where notes go.
pub(super) async fn run(command: &str, paths: &[String]) -> anyhow::Result<()> {
    let (command, mut lines) = (command.to_owned(), paths.join("\n"));
    lines.push('\n');
    let ran = tokio::task::spawn_blocking(move || {
        let printed = std::io::stderr().as_fd().try_clone_to_owned()?;
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(&command).stdin(Stdio::piped()).stdout(printed);
        let mut child = shell.spawn().context("sh can't be started")?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(lines.as_bytes()) {
                // It need not want to know.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
                _ => {}
            }
        }
        anyhow::Ok((child.wait()?, command))
    });
    let (status, command) = ran.await??;
    if status.success() {
        return Ok(());
    }
    let problem = format!(
        "everything is published, but caches were not told: `{command}` ended with {status}; what changed is printed \
         above, or below v2/, and is asked for again after a minute in any case"
    );
    Err(exit::failure(exit::FAILURE, problem))
}
