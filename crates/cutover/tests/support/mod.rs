//! A file of legacy programs, the door to it, and a new store that only says what it is.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use changeover_core::backend::Family;
use changeover_core::cutover::{
    Apply, Authority, BackChanges, ChunkDone, CopyChunk, CutoverSide, CutoverSource, CutoverTarget, Decision,
    Entry, Lease, NewRun, Progress, QuarantineFilter, Quarantined, Recorded, Run, Seal, Switch, Table,
    TargetColumn, TargetFacts, TargetTable, Type, Value,
};
use changeover_core::{
    Backend, BackendSettings, Error, ModuleName, ModuleScope, OpenBackend, Result, TenantId, Uuid,
};
use changeover_sqlite::Sqlite;
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use tempfile::TempDir;

/// The schema of legacy programs, as they made it.
pub const LEGACY: &str = include_str!("../../../sqlite/tests/legacy.sql");

pub fn tenant() -> TenantId {
    TenantId::new("default").unwrap()
}

pub fn scope(name: &str) -> ModuleScope {
    ModuleScope { module: ModuleName::new(name).unwrap(), namespace: None }
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    n: i64,
}

/// A database file.
pub struct File {
    folder: TempDir,
}

/// A connection of another program to a file.
pub fn program(path: &Path) -> SqliteConnection {
    let mut conn = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
    conn.batch_execute("PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = OFF").unwrap();
    conn
}

/// One number out of a file.
pub fn number(conn: &mut SqliteConnection, sql: &str) -> i64 {
    diesel::RunQueryDsl::get_result::<Number>(diesel::sql_query(format!("SELECT ({sql}) AS n")), conn)
        .unwrap()
        .n
}

impl File {
    /// As legacy programs made it.
    pub fn legacy() -> Self {
        Self::of(LEGACY)
    }

    pub fn of(sql: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        file.run(sql);
        file
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    /// A connection of another program.
    pub fn program(&self) -> SqliteConnection {
        program(&self.path())
    }

    /// A program that is given nothing but the path.
    pub fn other(&self) -> impl Fn(&str) + Send + Sync + use<> {
        let path = self.path();
        move |sql| {
            let mut conn = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
            conn.batch_execute("PRAGMA busy_timeout = 5000").and_then(|()| conn.batch_execute(sql)).unwrap();
        }
    }

    /// What another program does to the file.
    pub fn run(&self, sql: &str) {
        self.program().batch_execute(sql).unwrap();
    }

    /// The same, where it may be refused: what it was told.
    pub fn try_run(&self, sql: &str) -> std::result::Result<(), String> {
        self.program().batch_execute(sql).map_err(|error| error.to_string())
    }

    /// One number out of it.
    pub fn number(&self, sql: &str) -> i64 {
        let mut conn = SqliteConnection::establish(&self.path().to_string_lossy()).unwrap();
        number(&mut conn, sql)
    }

    /// A connection in a write transaction, to its end.
    pub fn holds(&self) -> SqliteConnection {
        let mut conn = SqliteConnection::establish(&self.path().to_string_lossy()).unwrap();
        conn.batch_execute("PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE").unwrap();
        conn
    }

    /// A copy of the file as it is, whole.
    pub fn copied(&self) -> PathBuf {
        let copy = self.folder.path().join(format!("copy-{}.db", Uuid::new_v4()));
        self.run(&format!("VACUUM INTO '{}'", copy.display()));
        copy
    }

    /// Somebody puts an older copy back, and takes care to write it over the open file.
    pub fn put_back(&self, copy: &Path) {
        let (mut old, mut new) = (
            SqliteConnection::establish(&self.path().to_string_lossy()).unwrap(),
            SqliteConnection::establish(&copy.to_string_lossy()).unwrap(),
        );
        old.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        new.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        drop((old, new));
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(self.beside(end));
        }
        std::fs::copy(copy, self.path()).unwrap();
    }

    /// Bytes of its `-wal`.
    pub fn logged(&self) -> u64 {
        std::fs::metadata(self.beside("-wal")).map_or(0, |file| file.len())
    }

    /// The file as it is found again after its `-wal` lost everything behind so many bytes, on another disk.
    pub fn with_log_cut(&self, bytes: u64) -> Self {
        let found = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::copy(self.path(), found.path()).unwrap();
        std::fs::copy(self.beside("-wal"), found.beside("-wal")).unwrap();
        let log = std::fs::OpenOptions::new().write(true).open(found.beside("-wal")).unwrap();
        assert!(log.metadata().unwrap().len() > bytes, "there is something to lose");
        log.set_len(bytes).unwrap();
        found
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut path = self.path().into_os_string();
        path.push(end);
        path.into()
    }

    /// Bytes in the middle of the file are lost.
    pub fn damage(&self) {
        use std::io::{Seek as _, SeekFrom, Write as _};
        self.run("PRAGMA wal_checkpoint(TRUNCATE)");
        let mut file = std::fs::OpenOptions::new().write(true).open(self.path()).unwrap();
        let length = file.metadata().unwrap().len();
        file.seek(SeekFrom::Start(length / 2 / 4096 * 4096)).unwrap();
        file.write_all(&[0xa5; 4096]).unwrap();
    }

    pub async fn open(&self) -> Arc<dyn OpenBackend> {
        let path = self.path().to_string_lossy().into_owned();
        Sqlite.open(&BackendSettings::new("old").with("path", path)).await.unwrap()
    }

    /// Opened, and adopted or made by `migrate up`.
    pub async fn migrated(&self, module: &str, family: Family) -> Arc<dyn OpenBackend> {
        let open = self.open().await;
        open.migrations(&scope(module), family).unwrap().up().await.unwrap();
        open
    }

    pub async fn source(&self, module: &str) -> Arc<dyn CutoverSource> {
        source(&*self.open().await, module)
    }
}

pub fn source(open: &dyn OpenBackend, module: &str) -> Arc<dyn CutoverSource> {
    match open.cutover(&scope(module)).unwrap() {
        CutoverSide::Old { source, .. } => source,
        CutoverSide::New { .. } => panic!("a SQLite file is moved from"),
    }
}

/// A new store that has the declared tables, empty.
pub struct Declared;

fn no<T>() -> Result<T> {
    Err(Error::invalid("a plan asks a new store for its facts and for nothing else"))
}

fn type_name(to: &Type) -> String {
    match to {
        Type::Text { .. } => "text".into(),
        Type::Uuid => "uuid".into(),
        Type::Int { .. } => "bigint".into(),
        Type::Bool => "boolean".into(),
        Type::Double => "double precision".into(),
        Type::Decimal { precision, scale } => format!("numeric({precision},{scale})"),
        Type::Json { .. } => "jsonb".into(),
        Type::Timestamp(_) => "timestamp with time zone".into(),
        Type::Date => "date".into(),
        Type::Bytes { .. } => "bytea".into(),
        Type::Vector { dims } => format!("vector({dims})"),
    }
}

/// What [`Declared`] is.
pub fn declared(tables: &[Table]) -> TargetFacts {
    let columns = |table: &Table| {
        let column = |column: &changeover_core::cutover::Column| TargetColumn {
            name: column.name.clone(),
            type_name: type_name(&column.to),
            not_null: !column.nullable,
            ..TargetColumn::default()
        };
        table.columns.iter().map(column).collect()
    };
    let table = |table: &Table| TargetTable {
        name: table.target.clone(),
        exists: true,
        has_rows: false,
        columns: columns(table),
        constraints: Vec::new(),
    };
    TargetFacts { tables: tables.iter().map(table).collect(), ..TargetFacts::default() }
}

#[async_trait]
impl CutoverTarget for Declared {
    async fn facts(&self, tables: &[Table]) -> Result<TargetFacts> {
        Ok(declared(tables))
    }

    async fn authority(&self) -> Result<Option<Authority>> {
        no()
    }
    async fn run(&self) -> Result<Option<Run>> {
        no()
    }
    async fn begin(&self, _: &NewRun, _: Entry) -> Result<Lease> {
        no()
    }
    async fn lease(&self, _: Uuid, _: &str, _: Duration) -> Result<Lease> {
        no()
    }
    async fn renew(&self, _: &Lease) -> Result<()> {
        no()
    }
    async fn release(&self, _: &Lease) -> Result<()> {
        no()
    }
    async fn enter(&self, _: &Lease, _: &[&str], _: &str, _: Entry) -> Result<()> {
        no()
    }
    async fn copy(&self, _: &Lease, _: &CopyChunk) -> Result<ChunkDone> {
        no()
    }
    async fn progress(&self, _: Uuid) -> Result<Progress> {
        no()
    }
    async fn apply(&self, _: &Lease, _: &Apply) -> Result<ChunkDone> {
        no()
    }
    async fn unlinked(&self, _: &Table, _: usize, _: &Table, _: u32) -> Result<Vec<Vec<Value>>> {
        no()
    }
    async fn replicas_behind(&self) -> Result<u64> {
        no()
    }
    async fn index(&self, _: &Lease, _: Entry) -> Result<usize> {
        no()
    }
    async fn link(&self, _: &Lease, _: Entry) -> Result<()> {
        no()
    }
    async fn seal(&self, _: &Lease, _: &Seal, _: Entry) -> Result<()> {
        no()
    }
    async fn switch(&self, _: &Lease, _: &Switch, _: Entry) -> Result<bool> {
        no()
    }
    async fn unfence(&self, _: &Lease, _: i64, _: Entry) -> Result<Option<i64>> {
        no()
    }
    async fn abort(&self, _: Uuid, _: i64, _: Entry) -> Result<Option<i64>> {
        no()
    }
    async fn fence(&self, _: &Lease, _: i64, _: Entry) -> Result<Option<i64>> {
        no()
    }
    async fn changes(&self, _: i64, _: u32) -> Result<BackChanges> {
        no()
    }
    async fn stay(&self, _: &Lease, _: i64, _: Entry) -> Result<Option<i64>> {
        no()
    }
    async fn give_back(&self, _: &Lease, _: i64, _: Entry) -> Result<Option<i64>> {
        no()
    }
    async fn finalize(&self, _: &Lease, _: Entry) -> Result<()> {
        no()
    }
    async fn quarantined(&self, _: &QuarantineFilter) -> Result<Vec<Quarantined>> {
        no()
    }
    async fn decide(&self, _: Uuid, _: &[i64], _: &Decision, _: Entry) -> Result<u64> {
        no()
    }
    async fn record(&self, _: Uuid, _: Entry) -> Result<()> {
        no()
    }
    async fn entries(&self, _: Option<Uuid>, _: i64, _: u32) -> Result<Vec<Recorded>> {
        no()
    }
}
