//! An operator rehearses the cutover of an old file: the drill says what stands in the way, the operator decides, and drills
//! again until all is well.
//!
//! ```text
//! cargo run -p changeover-examples --bin cutover_rehearsal -- postgres://USER:PASSWORD@HOST/DATABASE
//! ```

mod file;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use changeover::backend::Family;
use changeover::cutover::Terms;
use changeover::cutover::convert::{Accepted, Loss};
use changeover::cutover::hazards::Treatment;
use changeover::cutover::plan::Plan;
use changeover::drill::{Done, Drill, Options, Outcome};
use changeover::{
    Db, Error, ErrorKind, Move, PersistenceOptions, Result, connect_to_look, connect_with, registry,
};

const ADDRESS: &str = "CHANGEOVER_EXAMPLE_POSTGRES_URL";

const HELP: &str = "\
cutover_rehearsal [ADDRESS]

Makes an old SQLite file of which a few rows are bad, and rehearses its cutover to PostgreSQL until it goes through.
Nothing is moved: the drill works on a copy, and in a database that it makes and drops.

ADDRESS  of an empty PostgreSQL database (16 or later), with a login that may make roles and databases:
         postgres://USER:PASSWORD@HOST/DATABASE; without it, CHANGEOVER_EXAMPLE_POSTGRES_URL

If you have no PostgreSQL, one in a container:
  docker run --rm -d -p 5432:5432 -e POSTGRES_PASSWORD=secret postgres:18
  cutover_rehearsal postgres://postgres:secret@127.0.0.1:5432/postgres
";

#[tokio::main]
async fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let address = words.next().or_else(|| std::env::var(ADDRESS).ok());
    let address = address.filter(|address| !address.is_empty() && !address.starts_with('-'));
    let (Some(address), None) = (address, words.next()) else {
        eprintln!("cutover_rehearsal: it needs a PostgreSQL: give its address, or set {ADDRESS}\n\n{HELP}");
        return ExitCode::FAILURE;
    };
    match run(&address).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cutover_rehearsal: {error}");
            ExitCode::FAILURE
        }
    }
}

fn settings(file: &Path, address: &str) -> PersistenceOptions {
    PersistenceOptions::new()
        .with("persistence.default", "old")
        .with("backends.old.kind", "sqlite")
        .with("backends.old.path", file.display().to_string())
        .with("backends.new.kind", "postgres")
        .with("backends.new.url", address)
}

/// Whether the last rehearsal went through.
async fn run(address: &str) -> Result<bool> {
    let folder =
        tempfile::tempdir().map_err(|error| Error::invalid(format!("a temporary folder: {error}")))?;
    let file = folder.path().join("orders.db");
    file::make(&file)?;
    migrate(&file, address).await?;
    let db = connect_to_look(settings(&file, address), registry())?;
    let nothing = Accepted::default();

    say("# As it is");
    rehearse(&db, nothing).await?;

    say("\n# A date that never was, and half a document: corrected in the file");
    file::correct(&file)?;
    rehearse(&db, nothing).await?;

    say("\n# A key that stands twice: the last value is kept, and that is accepted by name");
    let went = rehearse(&db, Accepted::of(&[Loss::JsonDuplicateKeys])).await?;
    db.close().await;
    say("");
    say(if went {
        "rehearsed: changeover cutover run events --accept json_duplicate_keys"
    } else {
        "the cutover does not go through yet"
    });
    Ok(went)
}

/// The tables in PostgreSQL, which `changeover migrate up` makes.
async fn migrate(file: &Path, address: &str) -> Result<()> {
    let db = connect_with(settings(file, address), registry()).await?;
    let module = db.module("events")?;
    db.backend("new").await?.migrations(module.scope(), Family::Events)?.up().await?;
    db.close().await;
    Ok(())
}

/// One drill, told. Whatever comes of it, nothing is left of it but its entry in the record.
async fn rehearse(db: &Db, accepted: Accepted) -> Result<bool> {
    let terms = Terms { accepted, ..Terms::new(db.tenant().clone()) };
    let drill = Drill::new(db, Move::of("events", "the example"), Options::of(terms));
    let outcome = drill.run().await;
    drill.clear().await?;
    match outcome? {
        Outcome::Stopped(plan) => bad(&plan),
        Outcome::Undecided { error, .. } => say(&format!("stopped: {}", error.message())),
        Outcome::Done(done) => {
            good(&done);
            return Ok(true);
        }
    }
    Ok(false)
}

fn bad(plan: &Plan) {
    for it in plan.findings.iter().filter(|it| it.treatment == Treatment::Quarantine) {
        say(&format!("{} {}, {}: {} (hazard {})", it.table, it.key, it.column, it.found, it.hazard));
    }
    say(&format!("stopped: {} rows would stay out", plan.quarantined()));
}

fn good(done: &Done) {
    let it = &done.drilled;
    for wrote in &done.wrote {
        say(wrote);
    }
    say(&format!(
        "{} rows went there, back and there again; {} rows were written back",
        it.rows(),
        it.written_back
    ));
    say(&format!("copied in {} ms, compared in {} ms", it.copy_ms, it.compare_ms));
    say(&format!(
        "nobody could write for {} ms at the switch, {} ms at the revert",
        it.pause_ms, it.revert_pause_ms
    ));
    say(&format!("data root {}", it.source_root));
    say(&format!("entry {} of the record", done.entry));
}

/// A line for the reader. One who has gone away does not end the rehearsal.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What the file's own library said.
fn broken(error: &impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the file: {error}"))
}
