//! The `roadstead` command.
//!
//! This file runs a command and turns its outcome into an exit code. `args` says what can be typed, `commands` holds one file
//! a command, `output` everything that people and scripts read. The environment, the home folder and the terminal are
//! looked at here and nowhere in the library.

mod access_args;
mod args;
mod bucket_args;
mod commands;
mod copy_args;
mod environment;
mod exit;
mod listen_args;
mod log_args;
mod output;
mod registry_args;
mod site_args;
mod transfer;
mod transport;

use args::{Args, Command};
use output::Output;

fn main() -> std::process::ExitCode {
    let args = Args::read();
    let output = Output::new(&args.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            output.error(&anyhow::Error::new(e).context("the runtime can't be started"));
            return exit::FAILURE.into();
        }
    };
    let code = runtime.block_on(run(args, &output));
    // Whatever still runs on threads for blocking work has lost its reader.
    runtime.shutdown_background();
    code.into()
}

async fn run(args: Args, output: &Output) -> exit::Code {
    let global = &args.global;
    // These two run until they are told to stop, and take the signal for that.
    let serves = matches!(args.command, Command::Serve(_) | Command::Quickstart(_));
    let command = async {
        match args.command {
            Command::Add(add) => commands::add::run(add, global, output).await,
            Command::Copy(copy) => commands::copy::run(&copy, global, output).await,
            Command::Save(save) => commands::save::run(save, global, output).await,
            Command::List(list) => commands::list::run(list, global, output).await,
            Command::Inspect(inspect) => commands::inspect::run(inspect, global, output).await,
            Command::Tag(tag) => commands::tag::run(tag, global, output).await,
            Command::Index(index) => commands::index::run(index, global, output).await,
            Command::Remove(remove) => commands::remove::run(remove, global, output).await,
            Command::Prune(prune) => commands::prune::run(prune, global, output).await,
            Command::Verify(verify) => commands::verify::run(verify, global, output).await,
            Command::Diff(diff) => commands::diff::run(diff, global, output).await,
            Command::Du(du) => commands::du::run(du, global, output).await,
            Command::Private(private) => commands::private::run(private, global, output).await,
            Command::Config(config) => commands::config::run(*config, global, output).await,
            Command::Publish(publish) => commands::publish::run(*publish, global, output).await,
            Command::Doctor(doctor) => commands::doctor::run(*doctor, global, output).await,
            Command::Serve(serve) => commands::serve::run(serve, global, output).await,
            Command::Quickstart(quickstart) => commands::quickstart::run(quickstart, global, output).await,
            Command::User(user) => commands::user::run(user, global, output),
            Command::Login(login) => commands::login::run(login, output).await,
            Command::Logout(logout) => commands::logout::run(logout, output).await,
        }
    };
    let done = tokio::select! {
        done = command => done,
        () = interrupted(), if !serves => {
            output.note("interrupted; what was complete stays, and the same command goes on from there");
            return exit::INTERRUPTED;
        }
    };
    match done {
        Ok(()) => exit::SUCCESS,
        Err(e) => {
            if !exit::is_silent(&e) {
                output.error(&e);
            }
            exit::code(&e)
        }
    }
}

/// Waits for Ctrl-C or a request to terminate.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without a handler a signal ends the process, which is all that was wanted.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
