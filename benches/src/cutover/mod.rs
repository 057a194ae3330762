//! A whole move of the audit trail out of a legacy file, beside what else loads such a file.

mod capture;
mod file;
mod memory;
mod pause;
mod raw;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use changeover::backend::Family;
use changeover::{Db, ModuleName, ModuleScope, Move, PersistenceOptions, TenantId, connect_with, registry};
use changeover_cutover::phase::Phase;
use changeover_cutover::{Cutover, Goal, Step, Terms};

use crate::AnyError;
use crate::measure::Plan;
use crate::target::durable_database;

/// Writes a second that a service has while its module moves.
const WRITES_A_SECOND: u32 = 1_000;

/// Moves `rows` audit events of about 800 bytes and prints what each part of it reached.
pub async fn run(plan: Plan, rows: usize) -> Result<(), AnyError> {
    // pgloader does not read a path with a part that begins with a point.
    let folder = tempfile::Builder::new().prefix("bench-").tempdir()?;
    let legacy = folder.path().join("legacy.db");
    file::fill(&legacy, rows)?;
    let megabytes = std::fs::metadata(&legacy)?.len() / 1_000_000;
    let db = durable_database().await?;
    println!("\ncutover: {rows} audit events of about 800 bytes, a file of {megabytes} MB");
    let stage = Stage::open(&legacy, db.url()).await?;
    let moved = stage.moved(rows).await?;
    stage.close().await;

    let csv = raw::prepare(&db, folder.path()).await?;
    let copied = raw::copied(&db, &csv, rows).await?;
    line("\\copy of a prepared CSV, the same table", copied, "");
    match raw::pgloader(&legacy, folder.path(), rows).await? {
        Ok(loaded) => {
            line("pgloader, small batches, 20 columns", loaded, "");
            line("copy, validated", moved.copied, &against(moved.copied / loaded, 1.7, "of pgloader"));
        }
        Err(why) => println!("  pgloader: NOT MEASURED, {why}"),
    }
    line("copy, validated", moved.copied, &against(moved.copied / copied, 0.9, "of \\copy"));
    line(
        "comparison of all rows",
        moved.verified,
        &against(moved.verified / moved.copied, 1.5, "of the copy"),
    );
    for (name, memory) in [("copy", moved.memory_of_copy), ("comparison", moved.memory_of_comparison)] {
        let above = memory.highest.saturating_sub(memory.before) / 1024;
        let whole = memory.highest / 1024;
        println!(
            "  memory of the {name}: {above} MiB at the highest, {whole} MiB with the program (goal <= 64 MiB, no growth)"
        );
    }
    drop(db);

    pause::run(&folder.path().join("served.db"), rows.min(100_000)).await?;
    capture::run(plan, folder.path()).await
}

fn line(what: &str, figure: f64, note: &str) {
    println!("  {what:<42} {figure:>9.0} rows/s  {note}");
}

fn against(ratio: f64, goal: f64, of: &str) -> String {
    format!("{ratio:.2} {of} (goal >= {goal}: {})", if ratio >= goal { "met" } else { "missed" })
}

/// A legacy file and a database, and the module between them.
struct Stage {
    db: Db,
}

/// What a move reached.
struct Moved {
    copied: f64,
    verified: f64,
    memory_of_copy: memory::Memory,
    memory_of_comparison: memory::Memory,
}

impl Stage {
    async fn open(file: &Path, url: &str) -> Result<Self, AnyError> {
        let options = PersistenceOptions::new()
            .with("persistence.default", "old")
            .with("backends.old.kind", "sqlite")
            .with("backends.old.path", file.display().to_string())
            .with("backends.new.kind", "postgres")
            .with("backends.new.url", url)
            .with("backends.new.migrate_on_start", "true");
        let db = connect_with(options, registry()).await?;
        let scope = ModuleScope { module: ModuleName::new("audit")?, namespace: None };
        for name in ["old", "new"] {
            db.backend(name).await?.migrations(&scope, Family::Audit)?.up().await?;
        }
        Ok(Self { db })
    }

    async fn cutover(&self) -> Result<Cutover, AnyError> {
        Ok(self.db.cutover(&Move::of("audit", "bench")).await?)
    }

    /// The whole move, with nobody writing.
    async fn moved(&self, rows: usize) -> Result<Moved, AnyError> {
        let begin = Instant::now();
        let marks: Arc<Mutex<Vec<(Phase, Duration, u64)>>> = Arc::default();
        let seen = Arc::clone(&marks);
        let cutover = self.cutover().await?.watching(move |step| {
            if let Step::Phase(phase) = step {
                lock(&seen).push((*phase, begin.elapsed(), memory::highest_since_last()));
            }
        });
        let before = memory::now();
        cutover.run(&terms()?, Goal::Switched).await?;
        let marks = lock(&marks).clone();
        let part = |from: Phase, to: Phase| -> Result<(f64, memory::Memory), AnyError> {
            let at = |phase| marks.iter().find(|it| it.0 == phase).ok_or("a phase is missing");
            let (first, last) = (at(from)?, at(to)?);
            Ok((rate(rows, last.1.saturating_sub(first.1)), memory::Memory { before, highest: last.2 }))
        };
        let (copied, memory_of_copy) = part(Phase::Copying, Phase::CatchingUp)?;
        let (verified, memory_of_comparison) = part(Phase::Verifying, Phase::Fenced)?;
        Ok(Moved { copied, verified, memory_of_copy, memory_of_comparison })
    }

    async fn close(self) {
        self.db.close().await;
    }
}

fn terms() -> Result<Terms, AnyError> {
    Ok(Terms::new(TenantId::new("default")?))
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(rows: usize, took: Duration) -> f64 {
    rows as f64 / took.as_secs_f64().max(0.001)
}
