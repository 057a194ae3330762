//! The old store: read raw, its changes captured, fenced in itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;

use super::{Raw, RawKey, RawRow, SourceColumn};
use crate::{Error, ErrorKind, LogId, Result, Uuid};

/// The old store of one module, as a cutover uses it. What it keeps for that lies in the store itself, in `__cut_meta`
/// and `__cut_dirty`, one set a module, in SQL that old programs can parse (SQLite 3.8).
///
/// Every method is one transaction. Errors: `Unavailable` when the file cannot be had, `Contention` when others hold it
/// longer than the busy time-out, `Corrupt` when it is damaged.
#[async_trait]
pub trait CutoverSource: Send + Sync {
    /// What the store is and holds, without changing anything.
    ///
    /// # Behavior
    /// - Nothing is written, no file is made: a missing file is `NotFound`.
    /// - Counts are those of one snapshot.
    /// - A store that was put away ([`CutoverSource::archive`]) has the tables and columns that it had, without rows.
    async fn facts(&self) -> Result<SourceFacts>;

    /// A thorough check of the file (`PRAGMA integrity_check`, and rows counted with and without each index): what is wrong,
    /// empty when it is sound.
    async fn check(&self) -> Result<Vec<String>>;

    /// The next rows of a table.
    ///
    /// # Behavior
    /// - Rows come in the order of the key (of the rowid where that is the key), raw, and none twice.
    /// - At most `rows` rows; fewer only at the end or when `bytes` of content are reached (always at least one).
    /// - [`Chunk::seq`] is the last captured change that the snapshot of this read contains.
    async fn chunk(&self, read: &ChunkRead) -> Result<Chunk>;

    /// The rows with these keys as they are now, in the order of the keys, in one snapshot. A key compares by storage class
    /// and bytes.
    async fn rows(&self, read: &ReadRows) -> Result<Vec<Option<RawRow>>>;

    /// Keys of rows whose `columns` are not null and name no row of `parent`; at most `limit`.
    async fn orphans(
        &self,
        table: &str,
        key: &[SourceColumn],
        columns: &[String],
        parent: (&str, &[String]),
        limit: u32,
    ) -> Result<Vec<RawKey>>;

    /// Keys of rows that share the values of `columns` (none of them null) with another row, where `only_where`, if given,
    /// is neither null nor 0; at most `limit`.
    async fn duplicates(
        &self,
        table: &str,
        key: &[SourceColumn],
        columns: &[String],
        only_where: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RawKey>>;

    /// Begins the capture, with the gate open.
    ///
    /// # Behavior
    /// - One transaction makes `__cut_meta` and `__cut_dirty` where they are missing, sets run and epoch, and puts on each
    ///   table the triggers that log the key of every row that is inserted, changed or removed - the old and the new key of a
    ///   changed row, and the keys of rows that `REPLACE` displaces over any unique index - and the triggers of the fence.
    /// - Waits for a writer in flight, at most `within`; then `Contention`, and nothing is changed.
    /// - Again with the same run: nothing changes. With another run while one is under way: `AlreadyExists`.
    /// - The nonce of the file is made at the first time and stays.
    async fn prepare(&self, run: Uuid, epoch: i64, tables: &[CaptureTable], within: Duration)
    -> Result<Meta>;

    /// What the store says about the cutover of the module; `None` if it never had one.
    async fn meta(&self) -> Result<Option<Meta>>;

    /// Captured changes after `after` in their order, at most `limit`.
    async fn dirty(&self, after: i64, limit: u32) -> Result<Dirty>;

    /// Forgets captured changes up to `upto`.
    async fn trim(&self, upto: i64) -> Result<()>;

    /// Closes the gate: the end of the store's time as owner.
    ///
    /// # Behavior
    /// - One `IMMEDIATE` transaction, committed with `synchronous=FULL`: if the gate is open and the epoch is `epoch`, it is closed and
    ///   the epoch is one more. `Some(seq)`: the last captured change; nothing follows it.
    /// - `None`: the epoch is another or the gate is closed; nothing was changed.
    /// - From then on every insert, update and delete of anybody in the module's tables fails with a message that begins with
    ///   `E_FENCED` and says where the data went.
    /// - Waits for a writer in flight, at most `within`; then `Contention`, and nothing is changed.
    async fn fence(&self, epoch: i64, moved_to: &str, within: Duration) -> Result<Option<i64>>;

    /// Opens the gate if the store's epoch is below `epoch`, which it becomes; whether it did. Capture goes on only if `capture`.
    async fn reopen(&self, epoch: i64, capture: bool) -> Result<bool>;

    /// Writes changes that were made in the new store, through the gate: opened, written and closed in one transaction, so
    /// nobody sees it open.
    ///
    /// # Behavior
    /// - The gate is closed before and after; an open gate is `Invalid`, and nothing is written.
    /// - Rows are found by key, written whole, removed when the change has no row. Rowids are written as they are given.
    /// - With another epoch than the file's it is `Contention`, and nothing is written: whoever sends it is of an earlier time.
    /// - Remembers `batch.seq` in [`Meta::back_applied`]; a batch whose `seq` is not above it changes nothing.
    async fn write_back(&self, batch: &BackBatch) -> Result<()>;

    /// Takes the triggers of capture and the captured changes away; the fence stays as it is, `__cut_meta` too.
    async fn stop_capture(&self) -> Result<()>;

    /// Puts the store away: what it was becomes an archive beside it, and a tombstone stands in its place. Asked for when a
    /// module is finalized, and whenever that is repeated.
    ///
    /// # Behavior
    /// - Only with the last module: while a module is open here, its changes are captured, or a table holds rows that no
    ///   finalized module moved, the store stays ([`Archiving::Kept`] names them).
    /// - Only when nobody else has it open, which is waited for a short time.
    /// - The archive is the store byte for byte as it was when the last of it was in one file, read-only, and overwrites
    ///   nothing. What cannot be done for want of a right or of what the file system knows is `Kept` too.
    /// - The tombstone answers [`CutoverSource::meta`] as the store did. Whoever reads or writes what were its tables, by
    ///   whatever program, is told where the data went in a message that holds `E_FENCED`. A [`SourceWitness`] sees the rows of
    ///   the archive.
    /// - There is no moment without a store in its place. Killed anywhere, the store is whole: in its place, in the archive, or
    ///   under both names; called again it goes on.
    /// - Again: [`Archiving::Before`].
    async fn archive(&self) -> Result<Archiving> {
        Ok(Archiving::Kept("this store is none that could be archived".to_owned()))
    }

    /// The archive, if what is left of the store is a tombstone.
    async fn archived(&self) -> Result<Option<Archive>> {
        Ok(None)
    }

    /// Copies the store into a folder while others go on writing, for a drill. `Unsupported` where it cannot be.
    ///
    /// # Behavior
    /// - All that was committed before the call is in the copy, with rowids and storage classes; of what is committed
    ///   meanwhile whole transactions, or nothing.
    /// - Nothing is written to the store.
    /// - Once `stop` is set the copy is given up: `Unavailable`. What was written of it stays in the folder.
    async fn copy_into(&self, folder: &Path, stop: &Arc<AtomicBool>) -> Result<Cloned> {
        let _ = (folder, stop);
        Err(Error::new(ErrorKind::Unsupported, "this store cannot be copied while it is written to"))
    }
}

/// What came of [`CutoverSource::archive`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Archiving {
    /// The store is in the archive now.
    Done(Archive),
    /// It was there already.
    Before(Archive),
    /// It stays as it is: why, and what to do about that.
    Kept(String),
}

/// A store that was put away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Where it was put.
    pub place: PathBuf,
    /// Bytes that it had.
    pub bytes: u64,
    /// Whether it is still there.
    pub is_there: bool,
}

/// A copy of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloned {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes copied.
    pub bytes: u64,
    /// Whether writers had to wait for as long as it took.
    pub paused: bool,
}

/// What the store is.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceFacts {
    /// Where it is, for people.
    pub place: String,
    /// Identity of the file, once a cutover was prepared in it.
    pub nonce: Option<Uuid>,
    /// Identity of the module's log of events, where the file has one.
    pub log: Option<LogId>,
    /// The highest position ever given in the module's log, where the file keeps one.
    pub high_water: Option<i64>,
    /// Size of the file and of its `-wal`, bytes.
    pub bytes: u64,
    /// `UTF-8`, `UTF-16le`, `UTF-16be`.
    pub encoding: String,
    /// `wal`, `delete`, ...
    pub journal_mode: String,
    /// The library that reads it.
    pub version: String,
    /// Changes with every change of the schema, and with `VACUUM`, which may renumber rows.
    pub schema_cookie: i64,
    /// SHA-256 in hex of the texts in `sqlite_master` that are not of a cutover.
    pub schema_digest: String,
    /// The tables.
    pub tables: Vec<SourceTable>,
}

/// A table of the old store.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SourceTable {
    /// Its name.
    pub name: String,
    /// Name and declared type of each column, in their order; generated ones are among them.
    pub columns: Vec<(String, String)>,
    /// Which of the columns are generated.
    pub generated: Vec<String>,
    /// Columns of the primary key.
    pub primary_key: Vec<String>,
    /// Columns of each unique index without an expression, the primary key's included.
    pub unique: Vec<Vec<String>>,
    /// Unique indexes that are partial or over expressions, by name.
    pub odd_indexes: Vec<String>,
    /// Whether it has no rowid.
    pub without_rowid: bool,
    /// The column that is the rowid, if one is.
    pub rowid_alias: Option<String>,
    /// Rows.
    pub rows: u64,
    /// The highest rowid there is.
    pub max_rowid: Option<i64>,
    /// What `sqlite_sequence` says.
    pub sequence: Option<i64>,
    /// Names of triggers of others on it.
    pub triggers: Vec<String>,
}

/// What to read next.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkRead {
    /// The table.
    pub table: String,
    /// The columns, in the order wanted.
    pub columns: Vec<SourceColumn>,
    /// The columns that order it.
    pub key: Vec<SourceColumn>,
    /// Read after this key; `None`: from the beginning.
    pub after: Option<RawKey>,
    /// At most so many rows.
    pub rows: u32,
    /// Stop after so many bytes of content.
    pub bytes: u64,
}

/// Rows that were read.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Key and columns of each row.
    pub rows: Vec<(RawKey, RawRow)>,
    /// The last captured change that this snapshot contains; 0 without capture.
    pub seq: i64,
    /// [`SourceFacts::schema_cookie`] in this snapshot.
    pub schema_cookie: i64,
    /// Whether there was nothing after the last row.
    pub end: bool,
}

/// Rows to read by key.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadRows {
    /// The table.
    pub table: String,
    /// The columns, in the order wanted.
    pub columns: Vec<SourceColumn>,
    /// The columns of the key.
    pub key: Vec<SourceColumn>,
    /// The keys.
    pub keys: Vec<RawKey>,
}

/// A table to be captured and fenced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureTable {
    /// Name of the declaration, as the log calls it.
    pub name: String,
    /// The table.
    pub table: String,
    /// The columns that are logged: the declared key.
    pub key: Vec<SourceColumn>,
}

/// A row of `__cut_meta`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Identity of the file, made once.
    pub nonce: Uuid,
    /// The run that prepared it last.
    pub run: Uuid,
    /// The store's epoch; never goes back.
    pub epoch: i64,
    /// Whether the gate is open.
    pub open: bool,
    /// Whether changes are captured.
    pub captures: bool,
    /// The last captured change.
    pub seq: i64,
    /// The last change of the new store that was written back.
    pub back_applied: i64,
}

/// Captured changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Dirty {
    /// In the order of the changes; a key may come more than once.
    pub keys: Vec<DirtyKey>,
    /// The last captured change in this snapshot, whether it is among `keys` or not.
    pub last_seq: i64,
}

/// A key that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct DirtyKey {
    /// Number of the change, rising.
    pub seq: i64,
    /// [`CaptureTable::name`].
    pub table: String,
    /// The key, raw.
    pub key: RawKey,
}

/// Changes on their way back.
#[derive(Clone, Debug, PartialEq)]
pub struct BackBatch {
    /// The epoch at which the file was fenced.
    pub epoch: i64,
    /// The number of the last of them in the new store's capture.
    pub seq: i64,
    /// Each: the table, its key columns, its columns, and what becomes of the row.
    pub changes: Vec<BackChange>,
}

/// One row on its way back.
#[derive(Clone, Debug, PartialEq)]
pub struct BackChange {
    /// The table.
    pub table: String,
    /// The key: column and value.
    pub key: Vec<(SourceColumn, Raw)>,
    /// All columns that are known, the key's included; `None`: the row is to go.
    pub row: Option<Vec<(SourceColumn, Raw)>>,
}

/// A second way to look at the old store, for the verifier alone: other statements, other code.
#[async_trait]
pub trait SourceWitness: Send + Sync {
    /// Rows with keys after `after` up to and including `until`, in the order of the key, at most `limit`: each value as
    /// `typeof()` and `CAST(.. AS BLOB)` say, in the order of `columns`.
    async fn rows(
        &self,
        table: &str,
        key: &[SourceColumn],
        columns: &[SourceColumn],
        after: Option<&RawKey>,
        until: Option<&RawKey>,
        limit: u32,
    ) -> Result<Vec<Witnessed>>;

    /// The rows with these keys as they are now, in one snapshot and in the order of `of`; `None` where there is none.
    async fn by_keys(
        &self,
        table: &str,
        key: &[SourceColumn],
        columns: &[SourceColumn],
        of: &[RawKey],
    ) -> Result<Vec<Option<Witnessed>>>;

    /// The number of rows.
    async fn count(&self, table: &str) -> Result<u64>;
}

/// A row as a witness saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Witnessed {
    /// Its key.
    pub key: RawKey,
    /// Storage class as `typeof()` names it, and bytes as `CAST(.. AS BLOB)` gives them, but for reals 17 digits; `None` for
    /// null.
    pub values: Vec<Option<(&'static str, Vec<u8>)>>,
}
