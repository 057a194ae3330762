//! The old side of a cutover, as tests use it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use changeover_core::cutover::{
    CaptureTable, ChunkRead, CutoverSide, CutoverSource, Meta, Raw, RawKey, RawRow, ReadRows, SourceColumn,
    SourceWitness,
};
use changeover_core::{OpenBackend, Uuid};
use changeover_sqlite::OpenSqlite;
use diesel::connection::SimpleConnection;

use super::{File, module};

/// Long enough for anything that is to happen.
pub const LONG: Duration = Duration::from_secs(30);

/// Short enough to be waited for.
pub const SHORT: Duration = Duration::from_millis(200);

pub type Sides = (Arc<dyn CutoverSource>, Arc<dyn SourceWitness>);

pub fn sides(open: &OpenSqlite, name: &str) -> Sides {
    match open.cutover(&module(name)).unwrap() {
        CutoverSide::Old { source, witness } => (source, witness),
        CutoverSide::New { .. } => panic!("a SQLite file is moved from"),
    }
}

/// The old side of a file that no store has open, in the journal mode asked for.
pub async fn alone(file: &File, name: &str, journal: &str) -> Sides {
    let open = file.open_unmigrated().await;
    let sides = sides(&open, name);
    open.close().await;
    drop(open);
    let until = Instant::now() + LONG;
    while file.other_program().batch_execute(&format!("PRAGMA journal_mode = {journal}")).is_err() {
        assert!(Instant::now() < until, "the file stays in use");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(super::text(file, "SELECT journal_mode FROM pragma_journal_mode"), journal);
    sides
}

pub fn named(name: &str) -> SourceColumn {
    SourceColumn::Named(name.to_owned())
}

pub fn all_named(names: &[&str]) -> Vec<SourceColumn> {
    names.iter().map(|name| named(name)).collect()
}

pub fn raw(text: &str) -> Raw {
    Raw::Text(text.as_bytes().to_vec())
}

pub fn captured(table: &str, key: &[SourceColumn]) -> CaptureTable {
    CaptureTable { name: table.to_owned(), table: table.to_owned(), key: key.to_vec() }
}

/// The tables of the module events of an adopted file.
pub fn events() -> Vec<CaptureTable> {
    vec![captured("event_stream", &[named("stream_id")]), captured("domain_event", &[SourceColumn::Rowid])]
}

/// As [`events`], of a native file.
pub fn native_events() -> Vec<CaptureTable> {
    let streams = captured("event_stream", &all_named(&["tenant_id", "stream_id"]));
    vec![streams, captured("domain_event", &[named("position")])]
}

pub fn playbooks() -> Vec<CaptureTable> {
    vec![captured("playbook_catalog", &all_named(&["tenant_id", "playbook_id", "version"]))]
}

pub async fn prepared(source: &dyn CutoverSource, tables: &[CaptureTable]) -> Meta {
    source.prepare(Uuid::now_v7(), 1, tables, LONG).await.unwrap()
}

/// Table and key of every captured change after `after`.
pub async fn dirty(source: &dyn CutoverSource, after: i64) -> Vec<(String, RawKey)> {
    let dirty = source.dirty(after, 100_000).await.unwrap();
    dirty.keys.into_iter().map(|dirty| (dirty.table, dirty.key)).collect()
}

pub fn reading(table: &str, columns: &[SourceColumn], key: &[SourceColumn], rows: u32) -> ChunkRead {
    let (columns, key) = (columns.to_vec(), key.to_vec());
    ChunkRead { table: table.to_owned(), columns, key, after: None, rows, bytes: 1 << 30 }
}

/// All rows, chunk by chunk.
pub async fn chunks(source: &dyn CutoverSource, read: &ChunkRead) -> Vec<Vec<(RawKey, RawRow)>> {
    let mut read = read.clone();
    let mut all = Vec::new();
    loop {
        let chunk = source.chunk(&read).await.unwrap();
        read.after = chunk.rows.last().map(|(key, _)| key.clone()).or(read.after);
        all.push(chunk.rows);
        if chunk.end {
            return all;
        }
    }
}

/// All rows by key, the key as a text that shows class and bytes.
pub async fn copy(source: &dyn CutoverSource, read: &ChunkRead) -> BTreeMap<String, RawRow> {
    let rows = chunks(source, read).await.into_iter().flatten();
    rows.map(|(key, row)| (shown(&key), row)).collect()
}

pub fn by_key(read: &ChunkRead, keys: Vec<RawKey>) -> ReadRows {
    ReadRows { table: read.table.clone(), columns: read.columns.clone(), key: read.key.clone(), keys }
}

/// A key with class and bytes.
pub fn shown(key: &[Raw]) -> String {
    let one = |value: &Raw| match value {
        Raw::Null => "null".to_owned(),
        Raw::Integer(value) => format!("integer {value}"),
        Raw::Real(value) => format!("real {value}"),
        Raw::Text(bytes) | Raw::Blob(bytes) => format!("{} {bytes:?}", value.class()),
    };
    key.iter().map(one).collect::<Vec<_>>().join(", ")
}
