//! `cutover`: a module on its way from one store to the other.

mod drill;
mod plan;
mod quarantine;
mod report;
mod run;
mod shown;
mod status;
mod steps;

use std::fs;
use std::path::Path;

use changeover::cutover::{Cutover, declare};
use changeover::{Db, Json, Move};

use crate::args::{Common, Cutover as Command, Of, Stores};
use crate::exit::{Failure, Status};
use crate::output::Out;
use crate::settings;

pub use drill::drilled;

pub async fn run(command: Command, common: &Common, out: &mut Out) -> Result<Status, Failure> {
    if let Command::Report(options) = &command
        && let Some(file) = &options.check
    {
        return report::check(file, out);
    }
    // Nothing may come into being by a look: a missing file is an error, and no schema is brought up to date.
    let db = settings::connect_to_look(common, out)?;
    let done = with(command, &db, out).await;
    db.close().await;
    done
}

async fn with(command: Command, db: &Db, out: &mut Out) -> Result<Status, Failure> {
    match command {
        Command::Plan(options) => plan::plan(*options, db, out).await,
        Command::Run(options) => run::run(*options, db, out).await,
        Command::Drill(options) => drill::drill(*options, db, out).await,
        Command::Status { of } => status::status(&open(db, &of).await?, out).await,
        Command::Verify { of } => status::verify(&open(db, &of).await?, out).await,
        Command::Abort { of } => run::abort(&of, db, out).await,
        Command::Revert { of } => run::revert(&of, db, out).await,
        Command::Finalize { of, keep_file } => run::finalize(&of, keep_file, db, out).await,
        Command::Quarantine(command) => quarantine::run(command, db, out).await,
        Command::Report(options) => report::report(*options, db, out).await,
    }
}

async fn open(db: &Db, of: &Of) -> Result<Cutover, Failure> {
    open_module(db, of.module.as_str(), &of.stores).await
}

async fn open_module(db: &Db, module: &str, stores: &Stores) -> Result<Cutover, Failure> {
    Ok(db.cutover(&moved(module, stores)?).await?)
}

/// What is moved.
fn moved(module: &str, stores: &Stores) -> Result<Move, Failure> {
    let tables = match &stores.tables {
        Some(file) => Some(declare::parse(&read(file)?, &file.display().to_string())?.tables),
        None => None,
    };
    Ok(Move {
        module: module.to_owned(),
        old: stores.old.clone(),
        new: stores.new.clone(),
        tables,
        who: stores.who.replace(char::is_control, " "),
    })
}

fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", file.display())))
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text)
        .map_err(|error| Failure::failed(format!("{} cannot be written: {error}", file.display())))
}

/// The fingerprint in a plan that was written before.
fn fingerprint(file: &Path) -> Result<Json, Failure> {
    let wrong = |why: &str| Failure::usage(format!("{} is no plan of a cutover: {why}", file.display()));
    let plan: serde_json::Value =
        serde_json::from_str(&read(file)?).map_err(|error| wrong(&error.to_string()))?;
    match plan.get("fingerprint") {
        Some(fingerprint) if fingerprint.is_object() => Ok(Json::of(fingerprint)?),
        _ => Err(wrong("it has no fingerprint")),
    }
}
