//! A legacy file, an empty database, and the cutover between them.

use std::sync::Arc;
use std::time::Duration;

use changeover_core::backend::Family;
use changeover_core::cutover::{CutoverSide, Recorded, Table};
use changeover_core::events::{Append, Expected, NewEvent, StreamId};
use changeover_core::{Backend, BackendSettings, EventStore, Json, OpenBackend, TenantId, Uuid};
use changeover_cutover::{Cutover, Terms, declare};
use changeover_postgres::{Postgres, migrations_key};
use changeover_testkit::{OwnServer, TestDatabase, database};

use crate::support::{File, scope, tenant};

pub struct Stage {
    pub file: File,
    pub db: TestDatabase,
    pub old: Arc<dyn OpenBackend>,
    pub new: Arc<dyn OpenBackend>,
    pub family: Family,
}

pub fn new_settings(url: &str) -> BackendSettings {
    BackendSettings::new("new").with("url", url).with("pool.min_idle", "0").with("pool.max_size", "4")
}

/// A database with the schema of all families, owned by nobody.
pub async fn empty_target() -> TestDatabase {
    database(&format!("moves {}", migrations_key()), migrate).await.unwrap()
}

async fn migrate(url: String) -> changeover_core::Result<()> {
    let backend = Postgres.open(&new_settings(&url)).await?;
    for family in [Family::Events, Family::Audit, Family::Playbooks] {
        backend.migrations(&scope(family.as_str()), family)?.up().await?;
    }
    backend.close().await;
    Ok(())
}

/// Our declarations of what an adopted file has.
pub async fn tables_of(family: Family, old: &CutoverSide) -> Vec<Table> {
    let facts = match old {
        CutoverSide::Old { source, .. } => source.facts().await.unwrap(),
        CutoverSide::New { .. } => panic!("a SQLite file is moved from"),
    };
    declare::present(declare::ours(family, true, &scope(family.as_str())), &facts)
}

impl Stage {
    /// The module of a family in a legacy file that holds the rows of `sql`.
    pub async fn legacy(family: Family, sql: &str) -> Self {
        let file = File::legacy();
        file.run(sql);
        Self::of(family, file).await
    }

    /// A file that cannot be brought up to date.
    pub async fn of_damaged(file: File) -> Self {
        let old = file.open().await;
        let db = empty_target().await;
        let new = Postgres.open(&new_settings(db.url())).await.unwrap();
        Self { file, db, old, new, family: Family::Events }
    }

    pub async fn of(family: Family, file: File) -> Self {
        Self::with(family, file, empty_target().await).await
    }

    /// The module of events in a legacy file, and a database on a server that is the test's own.
    pub async fn on(server: &OwnServer, sql: &str) -> Self {
        let file = File::legacy();
        file.run(sql);
        Self::with(Family::Events, file, server.database("moves", migrate).await.unwrap()).await
    }

    /// The same, with the database on the server's small disk.
    pub async fn on_disk(server: &OwnServer, sql: &str) -> Self {
        let file = File::legacy();
        file.run(sql);
        let db = server.database("moves", migrate).await.unwrap();
        server.move_to_disk(&db).await.unwrap();
        Self::with(Family::Events, file, db).await
    }

    /// The same database, and the file as somebody found it.
    pub async fn found_again(self, file: File) -> Self {
        self.old.close().await;
        let old = file.open().await;
        Self { file, old, ..self }
    }

    async fn with(family: Family, file: File, db: TestDatabase) -> Self {
        let old = file.migrated(family.as_str(), family).await;
        let new = Postgres.open(&new_settings(db.url())).await.unwrap();
        Self { file, db, old, new, family }
    }

    /// A coordinator of its own, by way of another address if one is given.
    pub async fn cutover_by(&self, who: &str, url: &str) -> Cutover {
        self.cutover_with(who, &new_settings(url)).await
    }

    /// The same, with settings of the new store.
    pub async fn cutover_with(&self, who: &str, settings: &BackendSettings) -> Cutover {
        let new = Postgres.open(settings).await.unwrap();
        let scope = scope(self.family.as_str());
        let side = self.old.cutover(&scope).unwrap();
        let tables = tables_of(self.family, &side).await;
        Cutover::new(&scope, tables, side, new.cutover(&scope).unwrap(), who).unwrap()
    }

    pub async fn cutover(&self) -> Cutover {
        self.cutover_by("a test", self.db.url()).await
    }

    pub async fn old_events(&self) -> Arc<dyn EventStore> {
        self.old.events(&scope("events"), &tenant()).await.unwrap()
    }

    pub async fn new_events(&self) -> Arc<dyn EventStore> {
        self.new.events(&scope("events"), &tenant()).await.unwrap()
    }

    /// Whoever has the lease had it long enough.
    pub async fn lease_runs_out(&self) {
        let sql = "UPDATE cutover.run SET until = clock_timestamp() WHERE until IS NOT NULL";
        self.db.execute(sql).await.unwrap();
    }

    /// One number out of the new store.
    pub async fn number(&self, sql: &str) -> i64 {
        self.db.query(sql, &[]).await.unwrap()[0].get(0)
    }
}

/// Quick where a test waits; with a pause long enough for every row to be compared in it on a slow machine.
pub fn terms() -> Terms {
    Terms {
        lease: Duration::from_secs(2),
        max_pause: Duration::from_mins(1),
        patience: Duration::from_secs(20),
        chunk_rows: 50,
        ..Terms::new(TenantId::new("default").unwrap())
    }
}

/// The words of a record, in its order.
pub fn words(record: &[Recorded]) -> Vec<&str> {
    record.iter().map(|it| it.entry.what.as_str()).collect()
}

pub fn stream(number: u128) -> StreamId {
    StreamId::new("Order", Uuid::from_u128(0xabc0_0000 + number)).unwrap()
}

/// An event whose payload tells its number.
pub fn event(id: Uuid, number: u64) -> NewEvent {
    let data = Json::parse(&format!(r#"{{"n":{number}}}"#)).unwrap();
    NewEvent { id, ..NewEvent::new("Placed", data).unwrap() }
}

/// Appends to a stream, whatever its version.
pub async fn append(store: &dyn EventStore, to: StreamId, event: NewEvent) -> changeover_core::Result<()> {
    store.append(Append::one(to, Expected::Any, vec![event])).await.map(drop)
}

/// Streams with events, as an old program wrote them: `streams` streams of `events` events each.
pub fn history(streams: u32, events: u32) -> String {
    format!(
        "WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {streams}) \
         INSERT INTO event_stream SELECT printf('00000000-0000-4000-8000-%012d', n), 'Order', \
             printf('00000000-0000-4000-9000-%012d', n), '2024-01-02 03:04:05', {events} FROM s; \
         WITH RECURSIVE e (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM e WHERE n < {streams} * {events} - 1) \
         INSERT INTO domain_event SELECT printf('00000000-0000-4000-a000-%012d', n), \
             printf('00000000-0000-4000-8000-%012d', n % {streams} + 1), 'Placed', 1, n / {streams} + 1, \
             json_object('n', n, 'price', 1.5), '{{}}', '2024-01-02T03:04:05.123456Z', NULL, NULL FROM e;"
    )
}
