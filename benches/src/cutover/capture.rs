//! What the capture costs a program that writes to the file and knows nothing of us.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use changeover_cutover::Goal as Upto;
use changeover_testkit::TestDatabase;
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};

use super::{Stage, file, terms};
use crate::AnyError;
use crate::measure::{Goal, Plan, Round, point};

/// Rows that the file holds before.
const ROWS: usize = 1_000;

/// Inserts with and without capture, in transactions of one and of a hundred rows.
pub async fn run(plan: Plan, folder: &Path) -> Result<(), AnyError> {
    let (free, captured) = (folder.join("free.db"), folder.join("captured.db"));
    for file in [&free, &captured] {
        file::fill(file, ROWS)?;
    }
    let db = TestDatabase::empty().await?;
    let stage = Stage::open(&captured, db.url()).await?;
    stage.cutover().await?.run(&terms()?, Upto::Verified).await?;
    stage.close().await;
    for rows in [1, 100] {
        // Numbers go on, so that no id comes twice.
        let (next, other) = (Cell::new(10_000_000 * rows), Cell::new(10_000_000 * rows));
        let raw = || writes(free.clone(), &next, rows, plan);
        let ours = || writes(captured.clone(), &other, rows, plan);
        // The ratio is of figures a second: 1.35 times the time is 0.74 times the figure.
        let name = format!("  an old program's writes, captured, x {rows}");
        point(plan, &name, "rows/s", Goal::AtLeast(0.74), raw, ours).await?;
    }
    Ok(())
}

/// Inserts for a round, so many rows in a transaction, on a connection as an old program opens it.
async fn writes(file: PathBuf, next: &Cell<usize>, rows: usize, plan: Plan) -> Result<Round, AnyError> {
    let first = next.get();
    let written = tokio::task::spawn_blocking(move || {
        let mut conn = SqliteConnection::establish(&file.to_string_lossy())?;
        conn.batch_execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")?;
        let begin = Instant::now();
        let mut written = 0;
        while begin.elapsed() < plan.round() {
            let sql = (0..rows).map(|at| {
                let row = file::row(&(first + written + at).to_string());
                format!("INSERT INTO audit_events ({}) SELECT {row};", file::COLUMNS)
            });
            let sql: String = sql.collect();
            conn.immediate_transaction(|conn| conn.batch_execute(&sql))?;
            written += rows;
        }
        Ok::<_, AnyError>((written, begin.elapsed()))
    });
    let (written, took) = written.await??;
    next.set(first + written);
    Ok(Round { figure: super::rate(written, took), errors: 0 })
}
