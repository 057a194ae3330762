//! The `changeover` command: its door is [`args`], its endings are [`exit`].

mod args;
mod audit;
mod config;
mod cutover;
mod demo;
mod doctor;
mod events;
mod exit;
mod families;
mod interrupt;
mod lines;
mod migrate;
mod output;
mod playbooks;
mod settings;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};
use crate::exit::{Failure, Status};
use crate::output::Out;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Out::new(cli.common.format, cli.common.quiet);
    let done = run(cli, &mut out);
    let flushed = out.flush();
    let status = match done.and_then(|status| flushed.map(|()| status)) {
        Ok(status) => status,
        Err(failure) => {
            if failure.status != Status::Done {
                eprintln!("changeover: {failure}");
            }
            failure.status
        }
    };
    status.into()
}

fn run(cli: Cli, out: &mut Out) -> Result<Status, Failure> {
    log_to_stderr(cli.common.quiet)?;
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::failed(format!("the runtime cannot be started: {error}")))?;
    runtime.block_on(dispatch(cli, out))
}

async fn dispatch(cli: Cli, out: &mut Out) -> Result<Status, Failure> {
    let Cli { common, command } = cli;
    match command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "changeover", &mut script);
            out.bytes(&script)?;
            Ok(Status::Done)
        }
        Command::Demo(options) => demo::run(options, out).await,
        Command::Config(args::Config::Show) => config::show(&settings::load(&common), out),
        Command::Doctor => doctor::run(&common, out).await,
        Command::Migrate(command) => {
            let db = settings::connect(&common, out)?;
            let done = migrate::run(command, &db, out).await;
            db.close().await;
            done
        }
        Command::Events(command) => {
            let db = settings::connect(&common, out)?;
            let done = events::run(command, &db, out).await;
            db.close().await;
            done
        }
        Command::Audit(command) => {
            let db = settings::connect(&common, out)?;
            let done = audit::run(command, &db, out).await;
            db.close().await;
            done
        }
        Command::Cutover(command) => cutover::run(command, &common, out).await,
        Command::Playbooks(command) => {
            let db = settings::connect(&common, out)?;
            let done = playbooks::run(command, &db, out).await;
            db.close().await;
            done
        }
    }
}

fn log_to_stderr(quiet: bool) -> Result<(), Failure> {
    let default = if quiet { "error" } else { "warn" };
    let filter = match std::env::var("CHANGEOVER_LOG") {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(&filter).map_err(|error| {
            Failure::usage(format!(
                "CHANGEOVER_LOG: {error}; allowed is error, warn, info, debug, trace or MODULE=LEVEL"
            ))
        })?,
        _ => EnvFilter::new(default),
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    Ok(())
}
