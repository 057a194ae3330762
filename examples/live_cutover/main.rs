//! An order service moves from a SQLite file to PostgreSQL while it takes orders, and in the end every write that it was told
//! is stored is looked for there.
//!
//! ```text
//! cargo run -p changeover-examples --bin live_cutover -- postgres://USER:PASSWORD@HOST/DATABASE [--file PATH]
//! ```

mod check;
mod operator;
mod service;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use changeover::backend::Family;
use changeover::{Db, Error, PersistenceOptions, Result, connect_with, registry};

use operator::Move;
use service::{Service, Written};

const ADDRESS: &str = "CHANGEOVER_EXAMPLE_POSTGRES_URL";

const HELP: &str = "\
live_cutover [ADDRESS] [--file PATH]

Moves a service that takes orders from a new SQLite file to PostgreSQL, and compares.

ADDRESS      of an empty PostgreSQL database (16 or later), with a login that may make roles:
             postgres://USER:PASSWORD@HOST/DATABASE; without it, CHANGEOVER_EXAMPLE_POSTGRES_URL
--file PATH  where to make the SQLite file; without it, in a temporary folder that is removed

If you have no PostgreSQL, one in a container:
  docker run --rm -d -p 5432:5432 -e POSTGRES_PASSWORD=secret postgres:18
  live_cutover postgres://postgres:secret@127.0.0.1:5432/postgres
";

/// How long the service works before the first move, and after the last one.
const WHILE: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> ExitCode {
    let (address, file) = match arguments(std::env::args().skip(1)) {
        Ok(given) => given,
        Err(problem) => {
            eprintln!("live_cutover: {problem}\n\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    match run(&address, file).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("live_cutover: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The address and the file, from the command line and the environment.
fn arguments(mut words: impl Iterator<Item = String>) -> Result<(String, Option<PathBuf>), String> {
    let (mut address, mut file) = (None, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--file" if file.is_none() => match words.next() {
                Some(path) => file = Some(PathBuf::from(path)),
                None => return Err("--file needs a path".to_owned()),
            },
            _ if word.starts_with('-') || address.is_some() => {
                return Err(format!("{word:?} is not expected"));
            }
            _ => address = Some(word),
        }
    }
    let address = address.or_else(|| std::env::var(ADDRESS).ok()).filter(|address| !address.is_empty());
    let address =
        address.ok_or_else(|| format!("it needs a PostgreSQL: give its address, or set {ADDRESS}"))?;
    if let Some(file) = file.as_deref().filter(|file| file.exists()) {
        return Err(format!("{} is there; name a file that is not, one is made", file.display()));
    }
    Ok((address, file))
}

/// Settings of the service. A host of it that starts after the move need not know the file.
fn settings(file: Option<&Path>, address: &str) -> PersistenceOptions {
    let options = PersistenceOptions::new()
        .with("persistence.default", if file.is_some() { "old" } else { "new" })
        .with("backends.new.kind", "postgres")
        .with("backends.new.url", address);
    match file {
        Some(file) => {
            options.with("backends.old.kind", "sqlite").with("backends.old.path", file.display().to_string())
        }
        None => options,
    }
}

/// Whether PostgreSQL holds in the end what it should.
async fn run(address: &str, file: Option<PathBuf>) -> Result<bool> {
    let folder =
        tempfile::tempdir().map_err(|error| Error::invalid(format!("a temporary folder: {error}")))?;
    let file = file.unwrap_or_else(|| folder.path().join("orders.db"));

    let operator = connect_with(settings(Some(&file), address), registry()).await?;
    operator::migrate(&operator).await?;

    say(&format!("3 writers on one host, on {}", file.display()));
    let first = connect_with(settings(Some(&file), address), registry()).await?;
    let mut service = Service::default();
    service.start(&first, 3);
    tokio::time::sleep(WHILE).await;

    let events = operator::move_module(&operator, Family::Events).await?;
    let audit = operator::move_module(&operator, Family::Audit).await?;

    say("3 more writers on a second host, which knows PostgreSQL only");
    let second = connect_with(settings(None, address), registry()).await?;
    service.start(&second, 3);
    tokio::time::sleep(WHILE).await;
    let written = service.stop().await?;

    let is_right = tell(&second, &written, &events, &audit).await?;
    for db in [operator, first, second] {
        db.close().await;
    }
    Ok(is_right)
}

/// The pauses, the counts, and the word at the end.
async fn tell(db: &Db, written: &Written, events: &Move, audit: &Move) -> Result<bool> {
    say("");
    say(&pause("events", events, service::slowest(&written.events, events)));
    say(&pause("audit", audit, service::slowest(&written.audit, audit)));
    say("");
    say(&check::heading());
    let mut is_right = true;
    for (name, moved, counts) in [
        ("events", service::after(&written.events, events), check::events(db, &written.events).await?),
        ("audit", service::after(&written.audit, audit), check::audit(db, &written.audit).await?),
    ] {
        say(&counts.line(name, moved));
        is_right &= counts.is_right();
    }
    say("");
    say(if is_right {
        "every acknowledged write is in PostgreSQL, once and unchanged, and nothing else is"
    } else {
        "PostgreSQL does not hold what was acknowledged"
    });
    Ok(is_right)
}

fn pause(name: &str, moved: &Move, slowest: Duration) -> String {
    format!(
        "{name}: nobody could write for {} ms, as the coordinator saw it; the slowest write of the time took {} ms",
        moved.pause.as_millis(),
        slowest.as_millis()
    )
}

/// A line for the reader. One who has gone away does not end the move.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
