//! A whole move of the audit trail out of a legacy file, beside COPY of a prepared CSV into a table of the same shape.

use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use changeover::backend::Family;
use changeover::{ModuleName, ModuleScope, PersistenceOptions, TenantId, connect_with, registry};
use changeover_cutover::phase::Phase;
use changeover_cutover::{Cutover, Goal, Step, Terms, declare};
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use futures::{SinkExt as _, StreamExt as _};
use tokio_postgres::Client;

use crate::AnyError;
use crate::target::durable_database;

/// The schema of the oldest programs.
const LEGACY: &str = include_str!("../../crates/sqlite/tests/legacy.sql");

/// Moves `rows` audit events of about 800 bytes and prints what each part of it reached.
pub async fn run(rows: usize) -> Result<(), AnyError> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("legacy.db");
    println!("\ncutover: {rows} audit events of about 800 bytes");
    fill(&file, rows)?;
    let db = durable_database().await?;
    let options = PersistenceOptions::new()
        .with("persistence.default", "old")
        .with("backends.old.kind", "sqlite")
        .with("backends.old.path", file.display().to_string())
        .with("backends.new.kind", "postgres")
        .with("backends.new.url", db.url())
        .with("backends.new.migrate_on_start", "true");
    let stores = connect_with(options, registry()).await?;
    let scope = ModuleScope { module: ModuleName::new("audit")?, namespace: None };
    let (old, new) = (stores.backend("old").await?, stores.backend("new").await?);
    for backend in [&old, &new] {
        backend.migrations(&scope, Family::Audit)?.up().await?;
    }
    let side = old.cutover(&scope)?;
    let changeover_core::cutover::CutoverSide::Old { source, .. } = &side else {
        return Err("a SQLite file is moved from".into());
    };
    let tables = declare::present(declare::ours(Family::Audit, true, &scope), &source.facts().await?);
    let begin = Instant::now();
    let marks: Arc<Mutex<Vec<(Phase, Duration)>>> = Arc::default();
    let pauses: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let (seen, stood) = (Arc::clone(&marks), Arc::clone(&pauses));
    let cutover =
        Cutover::new(&scope, tables, side, new.cutover(&scope)?, "bench")?.watching(move |step| match step {
            Step::Phase(phase) => lock(&seen).push((*phase, begin.elapsed())),
            Step::Paused(pause) => lock(&stood).push(pause.took),
            _ => {}
        });
    let before = high_water();
    cutover.run(&Terms::new(TenantId::new("default")?), Goal::Switched).await?;
    let marks = lock(&marks).clone();
    let at = |phase: Phase| marks.iter().find(|it| it.0 == phase).map_or(Duration::ZERO, |it| it.1);
    let copied = rate(rows, at(Phase::CatchingUp).saturating_sub(at(Phase::Copying)));
    let verified = rate(rows, at(Phase::Fenced).saturating_sub(at(Phase::Verifying)));
    let client = changeover_testkit::tokio_postgres::connect(db.url(), tokio_postgres::NoTls).await?;
    let (client, driver) = client;
    tokio::spawn(driver);
    let raw = rate(rows, copy_csv(&client, &folder.path().join("rows.csv")).await?);
    println!("  COPY of a prepared CSV        {raw:>9.0} rows/s");
    println!("  copy, validated               {copied:>9.0} rows/s   ratio {:.2} (goal 0.9)", copied / raw);
    println!(
        "  comparison of all rows        {verified:>9.0} rows/s   {:.2} of the copy (goal 1.5)",
        verified / copied
    );
    let pause = lock(&pauses).iter().copied().max().unwrap_or_default();
    println!(
        "  pause of the writers          {pause:>9.0?}            the last comparison is whole where it fits"
    );
    println!(
        "  memory, at the highest        {:>9} KiB      {before} KiB before (goal 64 MiB)",
        high_water()
    );
    stores.close().await;
    Ok(())
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(rows: usize, took: Duration) -> f64 {
    rows as f64 / took.as_secs_f64().max(0.001)
}

/// `VmHWM` of this process, KiB; 0 where there is no /proc.
fn high_water() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn fill(file: &Path, rows: usize) -> Result<(), AnyError> {
    let mut conn = SqliteConnection::establish(&file.to_string_lossy())?;
    conn.batch_execute(LEGACY)?;
    conn.batch_execute(&format!(
        "PRAGMA synchronous = OFF; \
         INSERT INTO audit_events (event_id, event_type, event_category, event_outcome, event_timestamp, event_date, \
             service_name, actor_type, actor_id, resource_type, resource_id, event_data, correlation_id) \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         SELECT printf('%08x-0000-4000-8000-%012x', i * 2654435761 % 4294967296, i), 'order.placed', 'order', 'success', \
             strftime('%Y-%m-%dT%H:%M:%f', 1704067200 + i, 'unixepoch') || '123Z', date(1704067200 + i, 'unixepoch'), \
             'orders', 'user', 'user-' || (i % 1000), 'order', 'o-' || i, \
             json_object('amount', i * 0.25, 'currency', 'EUR', 'items', json_array(1, 2, 3), 'note', hex(randomblob(220))), \
             'c-' || (i / 5) FROM n; \
         PRAGMA wal_checkpoint(TRUNCATE)"
    ))?;
    Ok(())
}

/// The rows that arrived, out as CSV and into a table of the same columns, keys and indexes.
async fn copy_csv(client: &Client, csv: &Path) -> Result<Duration, AnyError> {
    use tokio::io::AsyncWriteExt as _;
    client
        .batch_execute(
            "CREATE TABLE plain_events (LIKE audit_store.audit_events INCLUDING ALL); \
             CREATE TABLE plain_ids (LIKE audit_store.audit_event_id INCLUDING ALL)",
        )
        .await?;
    let mut took = Duration::ZERO;
    for (from, to) in
        [("audit_store.audit_events", "plain_events"), ("audit_store.audit_event_id", "plain_ids")]
    {
        let mut file = tokio::fs::File::create(csv).await?;
        let out = client.copy_out(&format!("COPY (SELECT * FROM {from}) TO STDOUT (FORMAT csv)")).await?;
        let mut out = pin!(out);
        while let Some(part) = out.next().await {
            file.write_all(&part?).await?;
        }
        file.flush().await?;
        let begin = Instant::now();
        let mut file = tokio::fs::File::open(csv).await?;
        let sink = client
            .copy_in::<_, std::io::Cursor<Vec<u8>>>(&format!("COPY {to} FROM STDIN (FORMAT csv)"))
            .await?;
        let mut sink = pin!(sink);
        loop {
            use tokio::io::AsyncReadExt as _;
            let mut part = vec![0; 256 * 1024];
            let read = file.read(&mut part).await?;
            if read == 0 {
                break;
            }
            part.truncate(read);
            sink.send(std::io::Cursor::new(part)).await?;
        }
        sink.finish().await?;
        took += begin.elapsed();
    }
    Ok(took)
}
