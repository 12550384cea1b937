//! What a server writes of the requests that it answers.

use std::path::PathBuf;

use anyhow::Context as _;
use roadstead::server::{AccessLog, LogFormat};
use tokio::signal::unix::{SignalKind, signal};

/// The access log.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options for the access log")]
pub(crate) struct LogArgs {
    /// Append a line for each request to this file, or write it to the standard output (-). The file is opened anew on
    /// SIGHUP
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,

    /// How a line is written: as Apache and nginx do, or as JSON
    #[arg(long, value_name = "FORMAT", default_value = "combined", requires = "access_log")]
    access_log_format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Combined,
    Json,
}

impl LogArgs {
    /// Opens the log, if there is to be one.
    pub(crate) fn open(&self) -> anyhow::Result<Option<AccessLog>> {
        let format = match self.access_log_format {
            Format::Combined => LogFormat::Combined,
            Format::Json => LogFormat::Json,
        };
        Ok(match &self.access_log {
            None => None,
            Some(path) if path.as_os_str() == "-" => Some(AccessLog::to_writer(std::io::stdout(), format)),
            Some(path) => {
                let log = AccessLog::to_file(path, format);
                Some(log.with_context(|| format!("the access log {} can't be opened", path.display()))?)
            }
        })
    }

    /// Opens the file anew whenever the process is told to. Where there is none, a hangup ends the process, as ever.
    pub(crate) async fn follow_hangups(&self, log: Option<&AccessLog>) {
        let is_file = self.access_log.as_ref().is_some_and(|path| path.as_os_str() != "-");
        if let Some(log) = log.filter(|_| is_file)
            && let Ok(mut hangups) = signal(SignalKind::hangup())
        {
            while hangups.recv().await.is_some() {
                log.reopen();
            }
        }
        std::future::pending::<()>().await;
    }
}
