//! SQLite: files of our own schema, and files that legacy programs made.

mod stores;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use changeover_conformance::{
    AuditTamper, Fault, Faults, Harness, Held, OpenOptions, RawRow, StartError, Unsupported,
};
use changeover_core::audit::Create;
use changeover_core::backend::Family;
use changeover_core::events::Append;
use changeover_core::playbooks::{NewPlaybook, PlaybookId, PlaybookVersion};
use changeover_core::{Backend, BackendSettings, ErrorKind, OpenBackend, Result};
use changeover_sqlite::{OpenSqlite, Sqlite, Transaction};
use diesel::connection::SimpleConnection;

use diesel::sql_types::{BigInt, Binary, Text};
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use tempfile::TempDir;

use crate::another_process;

/// The schema of legacy programs, as they made it.
const LEGACY: &str = include_str!("../../../crates/sqlite/tests/legacy.sql");

const NO_RULES: Unsupported =
    Unsupported("adoption never alters the tables of legacy programs, so they keep no rules");

/// A file in a folder of its own: `sqlite-native`, or `sqlite-adopted` where legacy programs made it.
pub struct SqliteHarness<const ADOPTED: bool> {
    folder: TempDir,
}

/// `sqlite-native`.
pub type SqliteNative = SqliteHarness<false>;
/// `sqlite-adopted`.
pub type SqliteAdopted = SqliteHarness<true>;

#[async_trait]
impl<const ADOPTED: bool> Harness for SqliteHarness<ADOPTED> {
    const NAME: &str = if ADOPTED { "sqlite-adopted" } else { "sqlite-native" };

    async fn start() -> Result<Self, StartError> {
        let place = Self { folder: tempfile::tempdir()? };
        if ADOPTED {
            raw(&place.path()).batch_execute(LEGACY)?;
        }
        let client = Sqlite.open(&place.settings()).await?;
        for store in [Family::Events, Family::Audit, Family::Playbooks] {
            client.migrations(&place.scope_of(store), store)?.up().await?;
        }
        client.close().await;
        Ok(place)
    }

    async fn client(&self) -> Arc<dyn OpenBackend> {
        must("open the file", Sqlite.open(&self.settings()).await)
    }

    fn faults(&self) -> &dyn Faults {
        self
    }
}

impl<const ADOPTED: bool> SqliteHarness<ADOPTED> {
    fn path(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    fn settings(&self) -> BackendSettings {
        settings(&self.path())
    }
}

fn settings(path: &Path) -> BackendSettings {
    // The suite asks for answers, not for what survives a power cut; `start` migrates, and what is not migrated stays so.
    BackendSettings::new("sqlite")
        .with("path", path.to_string_lossy())
        .with("synchronous", "normal")
        .with("migrate_on_start", "false")
}

/// A connection of another program.
fn raw(path: &Path) -> SqliteConnection {
    let mut conn = must("open the file raw", SqliteConnection::establish(&path.to_string_lossy()));
    must("set the time-out", conn.batch_execute("PRAGMA busy_timeout = 5000"));
    conn
}

/// What the harness needs to work; else the case fails with the reason.
pub(crate) fn must<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}

/// An append or a create that waits for its commit in a transaction of the store.
struct HeldWrite(Transaction);

#[async_trait]
impl Held for HeldWrite {
    async fn commit(self: Box<Self>) {
        must("commit what was held", self.0.commit().await);
    }

    async fn roll_back(self: Box<Self>) {}
}

/// A writing transaction of another program.
struct HeldLock(SqliteConnection);

#[async_trait]
impl Held for HeldLock {
    async fn commit(mut self: Box<Self>) {
        must("commit", self.0.batch_execute("COMMIT"));
    }

    async fn roll_back(mut self: Box<Self>) {
        must("roll back", self.0.batch_execute("ROLLBACK"));
    }
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    text: String,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn rows<T: QueryableByName<diesel::sqlite::Sqlite> + 'static>(
    conn: &mut SqliteConnection,
    sql: &str,
) -> Vec<T> {
    must("read raw", sql_query(sql).load(conn))
}

/// The statements that were carried out, of those that must be refused.
fn let_through(path: &Path, statements: &[&str]) -> Vec<String> {
    let mut conn = raw(path);
    must("foreign keys", conn.batch_execute("PRAGMA foreign_keys = ON"));
    let mut carried_out = |sql: &str| match conn.batch_execute(sql) {
        Ok(()) => true,
        Err(error) => {
            let told = error.to_string();
            // A statement that makes no sense is not one that was refused.
            assert!(!told.contains("no such") && !told.contains("syntax"), "{sql}: {told}");
            false
        }
    };
    statements.iter().filter(|sql| carried_out(sql)).map(|sql| (*sql).to_owned()).collect()
}

#[async_trait]
impl<const ADOPTED: bool> Faults for SqliteHarness<ADOPTED> {
    fn otherwise(&self) -> Unsupported {
        Unsupported(
            "a file that is opened in the own process: no line or server that could fail, and the machine's own disk",
        )
    }

    async fn hold_append(&self, append: Append) -> Fault<Box<dyn Held>> {
        let client = must("open the file", OpenSqlite::open(&self.settings()).await);
        let mut transaction = must("begin", client.begin(&self.scope(), &self.tenant()).await);
        must("append", transaction.append(append));
        Ok(Box::new(HeldWrite(transaction)))
    }

    async fn hold_create(&self, request: Create) -> Fault<Box<dyn Held>> {
        let client = must("open the file", OpenSqlite::open(&self.settings()).await);
        let mut transaction = must("begin", client.begin(&self.scope(), &self.tenant()).await);
        must("record", transaction.record(&self.scope_of(Family::Audit), request));
        Ok(Box::new(HeldWrite(transaction)))
    }

    async fn business_write(&self, request: Create, commit: bool) -> Fault<(Result<()>, u64)> {
        let sql = "CREATE TABLE IF NOT EXISTS shipment (id INTEGER PRIMARY KEY, note TEXT)";
        must("make a table", raw(&self.path()).batch_execute(sql));
        let client = must("open the file", OpenSqlite::open(&self.settings()).await);
        let mut transaction = must("begin", client.begin(&self.scope(), &self.tenant()).await);
        let insert = sql_query("INSERT INTO shipment (note) VALUES ('sent')");
        let connection = transaction.connection();
        let inserted = connection.spawn_blocking(move |conn| insert.execute(conn)).await;
        must("insert", inserted);
        let recorded = transaction.record(&self.scope_of(Family::Audit), request);
        let ended = match (recorded, commit) {
            (Ok(()), true) => transaction.commit().await.map(drop),
            (recorded, _) => {
                drop(transaction);
                recorded
            }
        };
        let rows = rows::<Count>(&mut raw(&self.path()), "SELECT count(*) AS count FROM shipment");
        Ok((ended, rows.first().map_or(0, |row| row.count.unsigned_abs())))
    }

    async fn tamper_audit(&self, tamper: AuditTamper) -> Fault<()> {
        if ADOPTED {
            return Err(Unsupported(
                "the tables of legacy programs have no room for a chain that could show it",
            ));
        }
        match tamper {
            AuditTamper::Edit(id) => stores::edit(&self.path(), id),
            AuditTamper::Remove(id) => stores::remove(&self.path(), id),
            AuditTamper::Swap(one, other) => stores::swap(&self.path(), one, other),
            AuditTamper::Insert(event) => {
                // A program that knows of no chain.
                let settings = self.settings().with("hash_chain", "false");
                let client = must("open the file", Sqlite.open(&settings).await);
                let store = client.audit(&self.scope_of(Family::Audit), &self.tenant()).await;
                let store = must("open the repository", store);
                must("insert", store.create(Create { events: vec![*event] }).await);
            }
        }
        Ok(())
    }

    async fn change_audit(&self) -> Fault<Vec<String>> {
        if ADOPTED {
            return Err(NO_RULES);
        }
        Ok(stores::change_audit(&self.path()))
    }

    async fn insert_playbook_by_sql(&self, playbook: NewPlaybook) -> Fault<Result<(), String>> {
        Ok(stores::insert_playbook(&self.path(), ADOPTED, &playbook))
    }

    async fn overwrite_playbook_content(
        &self,
        playbook_id: &PlaybookId,
        version: &PlaybookVersion,
        content: &str,
    ) -> Fault<()> {
        stores::overwrite_content(&self.path(), playbook_id.as_str(), version.as_str(), content);
        Ok(())
    }

    async fn break_playbook_rules(&self) -> Fault<Vec<String>> {
        if ADOPTED {
            return Err(NO_RULES);
        }
        Ok(stores::break_playbooks(&self.path()))
    }

    async fn hold_unrelated_transaction(&self) -> Fault<Box<dyn Held>> {
        let mut conn = raw(&self.path());
        must("begin", conn.batch_execute("BEGIN IMMEDIATE; CREATE TABLE unrelated (number INTEGER)"));
        Ok(Box::new(HeldLock(conn)))
    }

    async fn hold_write_lock(&self) -> Fault<Box<dyn Held>> {
        let mut conn = raw(&self.path());
        must("begin", conn.batch_execute("BEGIN IMMEDIATE"));
        Ok(Box::new(HeldLock(conn)))
    }

    async fn unmigrated_client(&self) -> Fault<Arc<dyn OpenBackend>> {
        let path = self.folder.path().join("unmigrated.db");
        if ADOPTED {
            must("make a legacy file", raw(&path).batch_execute(LEGACY));
        }
        let settings = settings(&path);
        Ok(must("open the file", Sqlite.open(&settings).await))
    }

    async fn make_schema_newer(&self) -> Fault<()> {
        let mode = if ADOPTED { "adopted" } else { "native" };
        let sql = format!(
            "INSERT INTO _migrations (id, description, checksum, applied_at, mode) \
             VALUES ('events/9999_future', 'of a newer program', '{:064}', '2030-01-01T00:00:00.000000Z', '{mode}')",
            0
        );
        must("record a migration", raw(&self.path()).batch_execute(&sql));
        Ok(())
    }

    async fn row_counts(&self) -> Fault<BTreeMap<String, u64>> {
        let mut conn = raw(&self.path());
        let tables: Vec<Line> = rows(
            &mut conn,
            "SELECT name AS text FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        );
        let counted = tables.into_iter().map(|table| {
            let sql = format!("SELECT count(*) AS count FROM \"{}\"", table.text);
            let count = rows::<Count>(&mut conn, &sql).first().map_or(0, |row| row.count.unsigned_abs());
            (table.text, count)
        });
        Ok(counted.collect())
    }

    async fn plant(&self, row: RawRow) -> Fault<()> {
        if !ADOPTED {
            return Err(Unsupported("the tables refuse such a value"));
        }
        let sql = format!("UPDATE {} SET {} = CAST(? AS TEXT) WHERE event_id = ?", row.table, row.column);
        let update = sql_query(sql).bind::<Binary, _>(row.value).bind::<Text, _>(row.key);
        assert_eq!(must("plant", update.execute(&mut raw(&self.path()))), 1, "one row is overwritten");
        Ok(())
    }

    async fn tamper(&self) -> Fault<Vec<String>> {
        if ADOPTED {
            return Err(NO_RULES);
        }
        Ok(let_through(
            &self.path(),
            &[
                "UPDATE domain_event SET event_data = '{}'",
                "UPDATE domain_event SET recorded_at = '2000-01-01T00:00:00.000000Z'",
                "DELETE FROM domain_event",
                "REPLACE INTO domain_event SELECT * FROM domain_event",
                "UPDATE event_stream SET aggregate_type = 'Other'",
                "DELETE FROM event_stream",
            ],
        ))
    }

    async fn try_client(&self) -> Fault<Result<Arc<dyn OpenBackend>>> {
        Ok(Sqlite.open(&self.settings()).await)
    }

    async fn append_in_another_process(&self, append: Append) -> Fault<Result<(), ErrorKind>> {
        Ok(another_process::append(&Sqlite, &self.settings(), &self.tenant(), &append).await)
    }

    async fn schema(&self) -> Fault<Vec<String>> {
        let sql = "SELECT type || ' ' || name || ': ' || coalesce(sql, '') AS text FROM sqlite_master ORDER BY text";
        Ok(rows::<Line>(&mut raw(&self.path()), sql).into_iter().map(|line| line.text).collect())
    }

    async fn break_rules(&self) -> Fault<Vec<String>> {
        if ADOPTED {
            return Err(NO_RULES);
        }
        let copy = |changed: &str| {
            let columns = "tenant_id, event_id, stream_id, event_type, event_version, aggregate_version, event_data, \
                           metadata, occurred_at, recorded_at";
            let values = columns.split(", ").map(str::trim).map(|column| {
                let new = changed.split("; ").find_map(|part| part.strip_prefix(column)?.strip_prefix(" = "));
                new.unwrap_or(column).to_owned()
            });
            let values: Vec<_> = values.collect();
            format!(
                "INSERT INTO domain_event ({columns}) SELECT {} FROM domain_event LIMIT 1",
                values.join(", ")
            )
        };
        let id = "event_id = '01890000-0000-7000-8000-000000000001'";
        let attempts = [
            copy("aggregate_version = 99"),
            copy(id),
            copy(&format!("{id}; aggregate_version = 0")),
            copy(&format!(
                "{id}; aggregate_version = 99; stream_id = '01890000-0000-7000-8000-000000000002'"
            )),
            copy(&format!("{id}; aggregate_version = 99; event_data = 'null'")),
            copy(&format!("{id}; aggregate_version = 99; event_type = ''")),
            copy(&format!("{id}; aggregate_version = 99; event_version = 0")),
            copy(&format!("{id}; aggregate_version = 99; occurred_at = 'now'")),
        ];
        Ok(let_through(&self.path(), &attempts.each_ref().map(String::as_str)))
    }

    async fn client_with(&self, options: OpenOptions) -> Fault<Arc<dyn OpenBackend>> {
        let mut settings = self.settings();
        if let Some(size) = options.pool_size {
            settings = settings.with("pool.readers", size.to_string());
        }
        let text = |time: Duration| format!("{}ms", time.as_millis());
        if let Some(time) = options.acquire_timeout {
            // Waiting for another program must end before the wait for a connection.
            settings = settings.with("pool.connect_timeout", text(time)).with("busy_timeout", text(time / 2));
        }
        if let Some(time) = options.operation_timeout {
            // The time-out of a whole operation here is the wait for another program.
            settings = settings.with("busy_timeout", text(time));
        }
        Ok(must("open the file", Sqlite.open(&settings).await))
    }
}
