//! What else loads such rows: COPY of a CSV that somebody prepared, and pgloader.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Instant;

use changeover_testkit::TestDatabase;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_postgres::Client;

use super::rate;
use crate::AnyError;

const TABLES: [&str; 2] = ["audit_event_id", "audit_events"];

/// Rows and months that arrived, as CSV.
pub struct Csv {
    files: Vec<PathBuf>,
    /// `CREATE TABLE` of each month.
    months: Vec<String>,
}

/// Writes what is in the database as CSV.
pub async fn prepare(db: &TestDatabase, folder: &Path) -> Result<Csv, AnyError> {
    let client = db.client().await?;
    let mut files = Vec::new();
    for table in TABLES {
        let path = folder.join(format!("{table}.csv"));
        let mut file = tokio::fs::File::create(&path).await?;
        let sql = format!("COPY (SELECT * FROM audit_store.{table}) TO STDOUT (FORMAT csv)");
        let mut out = pin!(client.copy_out(&sql).await?);
        while let Some(part) = out.next().await {
            file.write_all(&part?).await?;
        }
        file.flush().await?;
        files.push(path);
    }
    let sql = "SELECT format('CREATE TABLE IF NOT EXISTS %s PARTITION OF audit_store.audit_events %s', c.oid::regclass, \
                      pg_get_expr(c.relpartbound, c.oid)) \
                 FROM pg_class AS c JOIN pg_inherits AS i ON i.inhrelid = c.oid \
                WHERE i.inhparent = 'audit_store.audit_events'::regclass AND c.relkind = 'r'";
    let months = client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
    Ok(Csv { files, months })
}

/// COPY of each CSV in one piece into the same tables: same months, indexes and checks, no triggers, no foreign keys.
pub async fn copied(db: &TestDatabase, csv: &Csv, rows: usize) -> Result<f64, AnyError> {
    let mut client = db.client().await?;
    // The rows that were moved make room: the tables are those of the same database.
    client
        .batch_execute(
            "SET session_replication_role = replica; \
             TRUNCATE audit_store.audit_events, audit_store.audit_event_id CASCADE; CHECKPOINT",
        )
        .await?;
    client.batch_execute(&csv.months.join(";")).await?;
    let begin = Instant::now();
    let load = client.transaction().await?;
    for (table, file) in TABLES.iter().zip(&csv.files) {
        copy_in(load.client(), &format!("audit_store.{table}"), file).await?;
    }
    load.commit().await?;
    Ok(rate(rows, begin.elapsed()))
}

async fn copy_in(client: &Client, into: &str, csv: &Path) -> Result<(), AnyError> {
    let mut file = tokio::fs::File::open(csv).await?;
    let sql = format!("COPY {into} FROM STDIN (FORMAT csv)");
    let mut sink = pin!(client.copy_in::<_, std::io::Cursor<Vec<u8>>>(&sql).await?);
    loop {
        let mut part = vec![0; 256 * 1024];
        let read = file.read(&mut part).await?;
        if read == 0 {
            break;
        }
        part.truncate(read);
        sink.send(std::io::Cursor::new(part)).await?;
    }
    sink.finish().await?;
    Ok(())
}

/// The table that a user of pgloader would make: the columns of the file, typed, in a partition a month, indexed as ours.
const PLAIN: &str = "\
CREATE TABLE public.audit_events (
    event_id uuid NOT NULL, event_type text NOT NULL, event_category text NOT NULL, event_outcome text NOT NULL,
    event_timestamp timestamptz NOT NULL, event_date date NOT NULL, service_name text NOT NULL, service_version text,
    actor_type text NOT NULL, actor_id text, actor_name text, resource_type text NOT NULL, resource_id text NOT NULL,
    resource_name text, event_data jsonb NOT NULL, correlation_id text, parent_event_id uuid, trace_id text, span_id text,
    metadata jsonb, PRIMARY KEY (event_id, event_date)) PARTITION BY RANGE (event_date);
CREATE INDEX ON public.audit_events (event_type, event_timestamp DESC);
CREATE INDEX ON public.audit_events (event_category, event_timestamp DESC);
CREATE INDEX ON public.audit_events (correlation_id, event_timestamp DESC) WHERE correlation_id IS NOT NULL;
CREATE INDEX ON public.audit_events (service_name, event_timestamp DESC);
CREATE INDEX ON public.audit_events (event_timestamp DESC, event_id);
CREATE INDEX ON public.audit_events (resource_type, resource_id, event_timestamp DESC);
CREATE INDEX ON public.audit_events (actor_id, event_timestamp DESC) WHERE actor_id IS NOT NULL;
CREATE INDEX ON public.audit_events USING gin (event_data jsonb_path_ops);
CREATE INDEX ON public.audit_events (parent_event_id) WHERE parent_event_id IS NOT NULL;
DO $$ BEGIN
    FOR month IN 0..11 LOOP
        EXECUTE format('CREATE TABLE public.audit_events_%s PARTITION OF public.audit_events FOR VALUES FROM (%L) TO (%L)',
            month, date '2024-01-01' + make_interval(months => month), date '2024-01-01' + make_interval(months => month + 1));
    END LOOP;
END $$;";

/// pgloader with batches small enough to end well, or why it was not measured.
pub async fn pgloader(legacy: &Path, folder: &Path, rows: usize) -> Result<Result<f64, String>, AnyError> {
    if std::process::Command::new("pgloader").arg("--version").output().is_err() {
        return Ok(Err("it is not installed".to_owned()));
    }
    // It writes an underscore in the name of a database as %5F, and then does not find it.
    let admin = changeover_testkit::shared().await?.connect("postgres").await?;
    let name = format!("pgloader{}", std::process::id());
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    let loaded = load(&name, legacy, folder, rows).await;
    admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await?;
    loaded
}

async fn load(
    database: &str,
    legacy: &Path,
    folder: &Path,
    rows: usize,
) -> Result<Result<f64, String>, AnyError> {
    let server = changeover_testkit::shared().await?;
    let client = server.connect(database).await?;
    client.batch_execute(PLAIN).await?;
    let script = folder.join("pgloader.load");
    let text = format!(
        "LOAD DATABASE FROM sqlite://{} INTO {}\n  WITH data only, batch rows = 2000, batch size = 4 MB, prefetch rows = 2000, \
         workers = 2, concurrency = 1\n  INCLUDING ONLY TABLE NAMES LIKE 'audit_events';\n",
        legacy.display(),
        changeover_testkit::with_database(server.url(), database).replacen("postgres://", "postgresql://", 1),
    );
    std::fs::write(&script, text)?;
    let begin = Instant::now();
    let done = tokio::process::Command::new("pgloader").arg("--on-error-stop").arg(&script).output().await?;
    let took = begin.elapsed();
    let there: i64 = client.query_one("SELECT count(*) FROM public.audit_events", &[]).await?.get(0);
    if usize::try_from(there)? == rows {
        return Ok(Ok(rate(rows, took)));
    }
    let said = [&done.stdout[..], &done.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).lines().rev().take(6).collect::<Vec<_>>().join(" / ");
    Ok(Err(format!("it loaded {there} of {rows} rows and said: {said}")))
}
