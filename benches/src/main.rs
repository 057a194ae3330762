//! The same work over every backend, beside the raw database, in paired rounds.
//!
//! Each point runs raw and ours in turn (A B B A ...), so that a noisy neighbour hits both; what counts is the ratio.
//! Goals are those of the performance document. Run it with `just bench`, or one part: `just bench append-postgres`.

mod append;
mod audit;
mod cutover;
mod measure;
mod pgbench;
mod pooler;
mod raw_sqlite;
mod read;
mod retrieval;
mod search;
mod target;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Measures Changeover beside the raw database.
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  bench\n  bench append-postgres --seconds 3 --rounds 7\n  bench read --events 1000000\n  bench audit search\n  bench retrieval --through sqlite"
)]
struct Arguments {
    /// What to measure; all that is beside the raw database if nothing is named.
    parts: Vec<Part>,
    /// How long one round of one side takes.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// How many pairs of rounds a point has.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many events are read by `read`, and how many audit records are queried.
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    /// How many playbooks the largest search is among.
    #[arg(long, default_value_t = 50_000)]
    playbooks: usize,
    /// How many audit events `cutover` moves.
    #[arg(long, default_value_t = 200_000)]
    moved: usize,
    /// The backend that `retrieval` searches.
    #[arg(long, default_value = "memory")]
    through: retrieval::Through,
    /// The folder of the corpus and queries of `retrieval`; else `../shared/data/retrieval_openshift`.
    #[arg(long)]
    data: Option<std::path::PathBuf>,
}

/// A part of the measurements.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Appends on PostgreSQL, beside pgbench.
    AppendPostgres,
    /// The same through a pooler in transaction mode, beside itself without; only if named.
    Pooler,
    /// Appends on SQLite, beside diesel on a bare connection.
    AppendSqlite,
    /// Loading streams and reading the whole log.
    Read,
    /// Recording and querying audit events.
    Audit,
    /// Searching playbooks by vector.
    Search,
    /// A cutover of the audit trail; only if named.
    Cutover,
    /// How well playbooks are found, on real runbooks and alerts.
    Retrieval,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match measure(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: Arguments) -> Result<(), AnyError> {
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    if arguments.parts.contains(&Part::Retrieval) {
        retrieval::run(arguments.through, arguments.data).await?;
    }
    if arguments.parts == [Part::Retrieval] {
        return Ok(());
    }
    let cores = std::thread::available_parallelism()?;
    println!("{cores} cores, {} rounds of {} s a side", arguments.rounds, arguments.seconds);
    let plan = measure::Plan { seconds: arguments.seconds, rounds: arguments.rounds };
    if wanted(Part::AppendPostgres) {
        append::postgres(plan).await?;
    }
    if arguments.parts.contains(&Part::Pooler) {
        pooler::postgres(plan).await?;
    }
    if wanted(Part::AppendSqlite) {
        append::sqlite(plan).await?;
    }
    if wanted(Part::Read) {
        read::all(plan, arguments.events).await?;
    }
    if wanted(Part::Audit) {
        audit::postgres(plan, arguments.events).await?;
        audit::sqlite(plan, arguments.events).await?;
    }
    if wanted(Part::Search) {
        search::all(plan, arguments.playbooks).await?;
    }
    if arguments.parts.contains(&Part::Cutover) {
        cutover::run(plan, arguments.moved).await?;
    }
    Ok(())
}
