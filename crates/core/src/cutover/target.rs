//! The new store: the authority on who owns the module, and where rows arrive.

use std::time::Duration;

use async_trait::async_trait;

use super::{Change, Raw, Table, Value};
use crate::{Error, ErrorKind, Json, LogId, Result, TenantId, Timestamp, Uuid};

/// The new store of one module, as a cutover uses it.
///
/// Every method is one transaction, which changes nothing unless the lease it is given is the current one (`Contention`,
/// `applied: No`, says who has it). Every method that changes anything appends the entry it is given to the record in the same
/// transaction. An answer that was lost is `applied: Unknown`: ask [`CutoverTarget::run`], never repeat blindly.
#[async_trait]
pub trait CutoverTarget: Send + Sync {
    /// What the new store is, and what the declared tables are there.
    async fn facts(&self, tables: &[Table]) -> Result<TargetFacts>;

    /// Who owns the module; `None` if the store does not know it.
    async fn authority(&self) -> Result<Option<Authority>>;

    /// The last run of the module.
    async fn run(&self) -> Result<Option<Run>>;

    /// Makes a run, in the phase `prepared`, and the lease of it.
    ///
    /// # Behavior
    /// - Makes the authority row of a module that the store does not know, and sets its owner to `sqlite`, its epoch and its log id as
    ///   given, if the owner was `none` and the tables are empty. Owner `postgres`, rows in a table, a module whose last run has not
    ///   ended: `AlreadyExists` or `Invalid`, and nothing changes.
    /// - Takes foreign keys off the tables, indexes that the copy does not need, and their row security back far enough for the copier
    ///   (kept in the run, so that `index`, `link`, `switch` and `abort` put back exactly what was there).
    async fn begin(&self, new: &NewRun, entry: Entry) -> Result<Lease>;

    /// Takes the lease of a run: at once if it is free, one's own, or has run out by the server's clock; else `Contention` that
    /// names the holder and when it ends. Every new lease has a higher token.
    async fn lease(&self, run: Uuid, holder: &str, ttl: Duration) -> Result<Lease>;

    /// Moves the end of the lease on by its `ttl`.
    async fn renew(&self, lease: &Lease) -> Result<()>;

    /// Gives the lease up.
    async fn release(&self, lease: &Lease) -> Result<()>;

    /// Goes from one phase to another; `Invalid` if the run is in neither. In `to` already: nothing happens.
    async fn enter(&self, lease: &Lease, from: &[&str], to: &str, entry: Entry) -> Result<()>;

    /// Stores a chunk together with its checkpoint and its quarantined rows.
    ///
    /// # Behavior
    /// - A chunk whose number is not the next of its table changes nothing (`ChunkDone::Repeated`).
    /// - A row whose key or whose other unique values are there already: `ChunkDone::Conflict` names the row and the key of
    ///   the stored one; nothing of the chunk is stored. Keys in `replace` are removed first.
    /// - Rows that another constraint of the store refuses: `ChunkDone::Refused` names each; nothing of the chunk is stored.
    /// - Any other refusal of a row by the store is `Invalid` with the column in its text: the conversion is at fault.
    async fn copy(&self, lease: &Lease, chunk: &CopyChunk) -> Result<ChunkDone>;

    /// How far the run has come.
    async fn progress(&self, run: Uuid) -> Result<Progress>;

    /// Stores what changed in the old store up to a captured change: the rows of all keys are removed, then those that are there
    /// now are stored; quarantine entries of the keys are removed, then those given are made.
    ///
    /// # Behavior
    /// - `upto` below what was applied changes nothing.
    /// - Conflicts as of [`CutoverTarget::copy`].
    async fn apply(&self, lease: &Lease, apply: &Apply) -> Result<ChunkDone>;

    /// Keys of stored rows whose reference names no stored row; at most `limit`.
    async fn unlinked(
        &self,
        table: &Table,
        reference: usize,
        parent: &Table,
        limit: u32,
    ) -> Result<Vec<Vec<Value>>>;

    /// Bytes of the store's log that its replica furthest behind has not replayed; 0 without replicas. `Config` if that cannot be
    /// seen.
    async fn replicas_behind(&self) -> Result<u64>;

    /// Builds what `begin` left off for the copy; how many indexes that was. Called when everything is copied, before changes are
    /// followed. It takes as long as the rows need, and the lease is kept meanwhile. Again: nothing happens.
    async fn index(&self, lease: &Lease, entry: Entry) -> Result<usize>;

    /// Puts the foreign keys back, checked against all rows, and deferred to the commit until the switch. `Invalid` names the constraint
    /// that the rows break. Again: nothing happens.
    async fn link(&self, lease: &Lease, entry: Entry) -> Result<()>;

    /// Moves sequences, heads and high-waters on, and computes what the store derives from the rows. Repeatable.
    async fn seal(&self, lease: &Lease, seal: &Seal, entry: Entry) -> Result<()>;

    /// Makes the new store the owner: the beginning of its time.
    ///
    /// # Behavior
    /// - Under the module's exclusive lock: owner `sqlite` and epoch `switch.epoch`, everything up to `switch.applied` applied, no
    ///   undecided quarantine, phase `sealed`: owner `postgres`, epoch one more, phase `switched`, capture of changes for a revert on,
    ///   row security and constraints as they were before the run. `false`: authority was another; nothing changed.
    /// - Anything else that is missing: `Invalid` says what.
    async fn switch(&self, lease: &Lease, switch: &Switch, entry: Entry) -> Result<bool>;

    /// Goes back to following from `verifying`, `fenced`, `drained` or `sealed`, the copy kept: if the authority is `sqlite` with `epoch`, the
    /// epoch goes on by two, so that a switch under way fails, the phase is `catching_up`, and the foreign keys are off the tables again as
    /// after `begin`. The epoch that the old store has to reach (by `reopen` with capture); `None` if the authority was another.
    async fn unfence(&self, lease: &Lease, epoch: i64, entry: Entry) -> Result<Option<i64>>;

    /// Gives a run up before its switch: the epoch goes on by two (owner stays `sqlite`), so that a switch under way fails; the
    /// target's tables are emptied, constraints and row security put back, phase `idle`. The epoch the old store has to reach; `None` if the
    /// authority's epoch was not `epoch` any more. Needs no lease: it ends whoever has it.
    async fn abort(&self, run: Uuid, epoch: i64, entry: Entry) -> Result<Option<i64>>;

    /// The first step of a revert: owner `none`, epoch one more, phase `revert_fenced`; waits for writers in flight. `None` if the
    /// authority was not `postgres` with `epoch`. The number of the last captured change of the new store.
    async fn fence(&self, lease: &Lease, epoch: i64, entry: Entry) -> Result<Option<i64>>;

    /// Changes of the new store after `after`, at most `limit`, with the rows as they are now, all in one snapshot.
    async fn changes(&self, after: i64, limit: u32) -> Result<BackChanges>;

    /// Takes the first step of a revert back, since the old store did not take what it had to: owner `postgres` again, epoch one
    /// more, phase `switched`. The old store was not opened. The authority's epoch; `None` if it was not `none` with `epoch`.
    async fn stay(&self, lease: &Lease, epoch: i64, entry: Entry) -> Result<Option<i64>>;

    /// The last step of a revert in the new store: owner `sqlite`, epoch one more, phase `idle`, target emptied and capture off. The epoch that
    /// the old store has to reach; `None` if the authority was not `none` with `epoch`.
    async fn give_back(&self, lease: &Lease, epoch: i64, entry: Entry) -> Result<Option<i64>>;

    /// Ends the way back: phase `finalized`, capture off. `Invalid` unless switched.
    async fn finalize(&self, lease: &Lease, entry: Entry) -> Result<()>;

    /// Quarantined rows of the last run in the order of their numbers, at most `limit` after `filter.after`.
    async fn quarantined(&self, filter: &QuarantineFilter) -> Result<Vec<Quarantined>>;

    /// Decides about quarantined rows; how many there were. `repaired` rows come with their new values, which are stored in the
    /// target in the same transaction.
    async fn decide(&self, run: Uuid, ids: &[i64], decision: &Decision, entry: Entry) -> Result<u64>;

    /// Appends to the record.
    async fn record(&self, run: Uuid, entry: Entry) -> Result<()>;

    /// The record of a run (of all runs without one), in its order, after number `after`, at most `limit`.
    async fn entries(&self, run: Option<Uuid>, after: i64, limit: u32) -> Result<Vec<Recorded>>;

    /// Appends to the record what was done elsewhere (a drill, on copies): `about` is its id, and no run of this store. The
    /// number of the entry. Nothing else is changed.
    async fn record_drill(&self, about: Uuid, entry: Entry) -> Result<i64> {
        let _ = (about, entry);
        Err(no_drills())
    }

    /// The store's clock, by which entries are dated.
    async fn now(&self) -> Result<Timestamp> {
        Err(no_drills())
    }

    /// Makes an empty database of this name on the same server, for a drill. `Invalid` without the right to, with what to do.
    async fn make_scratch(&self, name: &str) -> Result<()> {
        let _ = name;
        Err(no_drills())
    }

    /// Removes what [`CutoverTarget::make_scratch`] made, whoever is connected to it; nothing happens if it is not there.
    async fn drop_scratch(&self, name: &str) -> Result<()> {
        let _ = name;
        Err(no_drills())
    }

    /// Writes rows of a table once more as they are, at most `rows`, so that a capture sees them; how many. For a drill.
    async fn touch(&self, table: &Table, rows: u32) -> Result<u64> {
        let _ = (table, rows);
        Err(no_drills())
    }
}

fn no_drills() -> Error {
    Error::new(ErrorKind::Unsupported, "this store takes no part in drills")
}

/// What the new store is.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TargetFacts {
    /// Where it is, for people: never with a password.
    pub place: String,
    /// Version of the server.
    pub version: String,
    /// What it lacks for this cutover, each with what to do.
    pub lacks: Vec<String>,
    /// The tables of the declarations, in their order.
    pub tables: Vec<TargetTable>,
    /// Bytes free for data, where they can be had.
    pub free_bytes: Option<u64>,
    /// What tells the database from every other one, however it is reached; empty where nothing does.
    pub identity: String,
}

/// A table of the new store.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TargetTable {
    /// Its name: `schema.table`.
    pub name: String,
    /// Whether it is there.
    pub exists: bool,
    /// Whether it holds a row.
    pub has_rows: bool,
    /// Its columns.
    pub columns: Vec<TargetColumn>,
    /// Its constraints but foreign keys, and its other unique indexes: name and definition of each, sorted.
    pub constraints: Vec<String>,
}

/// A column of the new store.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TargetColumn {
    /// Its name.
    pub name: String,
    /// As `format_type()` says: `timestamp with time zone`, `numeric(4,3)`.
    pub type_name: String,
    /// Whether null is refused.
    pub not_null: bool,
    /// Whether it gets a value by itself when none is given.
    pub has_default: bool,
    /// Whether it is generated.
    pub generated: bool,
}

/// Who owns a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// `none`, `sqlite`, `postgres`.
    pub owner: String,
    /// Grows whenever the owner changes, or a cutover is given up.
    pub epoch: i64,
    /// Identity of the module's log.
    pub log: LogId,
}

/// A run to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// Its id.
    pub run: Uuid,
    /// The declarations, complete.
    pub tables: Vec<Table>,
    /// The same as a document, kept in the run: what a later program compares its own with.
    pub declarations: Json,
    /// The tenant of a file that has none.
    pub tenant: TenantId,
    /// Nonce of the old file.
    pub nonce: Uuid,
    /// Where the old file is, for people.
    pub place: String,
    /// The epoch of the old file, which the authority's becomes.
    pub epoch: i64,
    /// The log id of the old file, which the authority's becomes.
    pub log: Option<LogId>,
    /// Schema digest and other facts of the source at the plan; a resume refuses a source that differs.
    pub fingerprint: Json,
    /// What was accepted: names of losses, `max_quarantined`, limits.
    pub terms: Json,
    /// Who holds the lease, for people.
    pub holder: String,
    /// How long the lease lasts without renewal.
    pub ttl: Duration,
}

/// The right to move a run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub run: Uuid,
    /// Rises with every lease of the module.
    pub token: i64,
    /// How long it lasts without renewal.
    pub ttl: Duration,
}

/// A run as recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id.
    pub run: Uuid,
    /// Its phase: `prepared`, `copying`, ... (`changeover_cutover::Phase`).
    pub phase: String,
    /// As of [`NewRun`].
    pub declarations: Json,
    /// As of [`NewRun`].
    pub tenant: TenantId,
    /// As of [`NewRun`].
    pub nonce: Uuid,
    /// As of [`NewRun`].
    pub place: String,
    /// As of [`NewRun`].
    pub fingerprint: Json,
    /// As of [`NewRun`].
    pub terms: Json,
    /// Who has the lease, and until when by the server's clock; `None` if nobody.
    pub holder: Option<(String, Timestamp)>,
    /// The last captured change of the old store that was applied.
    pub applied: i64,
    /// The last captured change of the old store, once it is fenced: the number `fenced_at` in the facts of an entry.
    pub fenced_at: Option<i64>,
    /// When it was made, by the server's clock.
    pub started_at: Timestamp,
    /// The last change of the new store that was written back (a hint; the old store decides): the number `back_seq` in the
    /// facts of an entry.
    pub back_seq: i64,
}

/// Rows to be stored with their checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyChunk {
    /// Index of the table in the declarations.
    pub table: usize,
    /// Number of the chunk in its table, from 1.
    pub number: i64,
    /// Key of the last row read: where the next chunk begins.
    pub last: Vec<Raw>,
    /// Whether the table is copied with this chunk.
    pub end: bool,
    /// Rows read.
    pub source_rows: u64,
    /// Bytes read.
    pub source_bytes: u64,
    /// The last captured change that the read contains.
    pub seq: i64,
    /// The rows, in the order of [`Table::columns`].
    pub rows: Vec<Vec<Value>>,
    /// Rows that stay out.
    pub quarantined: Vec<Quarantined>,
    /// Keys of stored rows that this chunk replaces.
    pub replace: Vec<Vec<Value>>,
}

/// What became of rows.
#[derive(Clone, Debug, PartialEq)]
pub enum ChunkDone {
    /// Stored.
    Stored,
    /// Stored before; nothing happened.
    Repeated,
    /// Nothing was stored.
    Conflict {
        /// Index of the row (of the change, in an apply).
        row: usize,
        /// Table and key of the stored row that is in its way.
        stored: (usize, Vec<Value>),
        /// The constraint.
        constraint: String,
    },
    /// Nothing was stored: constraints refuse these rows, each for itself.
    Refused(Vec<RefusedRow>),
}

/// A row that a constraint of the store refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    /// Index of the row (of the change, in an apply).
    pub row: usize,
    /// What refuses it: `the constraint short_check`, `column name`.
    pub by: String,
}

/// Changes to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Apply {
    /// What the keys are now, each once.
    pub changes: Vec<Change<Value>>,
    /// Source keys whose quarantine entries are removed first: table and key.
    pub looked_at: Vec<(usize, Vec<Raw>)>,
    /// Rows that stay out.
    pub quarantined: Vec<Quarantined>,
    /// The last captured change that is dealt with.
    pub upto: i64,
}

/// How far a run has come.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Progress {
    /// For each table of the declarations: chunks stored, key of the last row read, whether the end was reached, rows and bytes read.
    pub tables: Vec<TableProgress>,
    /// The lowest captured change that a read contained: where following begins.
    pub first_seq: Option<i64>,
    /// The last captured change that was applied.
    pub applied: i64,
    /// Rows in quarantine: all, and undecided.
    pub quarantined: (u64, u64),
}

/// How far one table has come.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TableProgress {
    /// Chunks stored.
    pub chunks: i64,
    /// Key of the last row read.
    pub last: Option<Vec<Raw>>,
    /// Whether the end was reached.
    pub end: bool,
    /// Rows read.
    pub rows: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// What the new store has to go on from.
#[derive(Clone, Debug, PartialEq)]
pub struct Seal {
    /// For each table of the declarations the highest rowid or sequence number ever given in the old store, if known.
    pub high_water: Vec<Option<i64>>,
    /// The highest position ever given in the log.
    pub log_high_water: Option<i64>,
    /// Tenants that the rows belong to.
    pub tenants: Vec<TenantId>,
}

/// The terms of the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The epoch the authority must have.
    pub epoch: i64,
    /// What must have been applied.
    pub applied: i64,
}

/// Changes of the new store on their way back.
#[derive(Clone, Debug, PartialEq)]
pub struct BackChanges {
    /// Each key once, in the order of its last change.
    pub keys: Vec<BackKey>,
    /// The number of the last change that is dealt with by these; `after` if there was none.
    pub upto: i64,
    /// The last change there is.
    pub last_seq: i64,
}

/// A row of the new store on its way back.
#[derive(Clone, Debug, PartialEq)]
pub struct BackKey {
    /// Number of its last change.
    pub seq: i64,
    /// What it is.
    pub change: Change<Value>,
}

/// A row that stays out of the new store, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Quarantined {
    /// Its number in the new store; 0 before it is stored.
    pub id: i64,
    /// Index of the table.
    pub table: usize,
    /// Its key, raw.
    pub key: Vec<Raw>,
    /// The row, raw, in the order of [`Table::source_columns`].
    pub row: Vec<Raw>,
    /// Every reason.
    pub reasons: Vec<Reason>,
    /// `undecided`, `approved`, `rejected`, `repaired`.
    pub decision: String,
    /// Who decided.
    pub decided_by: Option<String>,
}

/// Why a row stays out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The column of the old store; empty where it is about the row.
    pub column: String,
    /// Number of the hazard in the list of hazards (docs), 0 for `dependent`.
    pub hazard: u16,
    /// What is wrong, without the value.
    pub problem: String,
}

/// Which quarantined rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuarantineFilter {
    /// Of this table.
    pub table: Option<usize>,
    /// With this decision.
    pub decision: Option<String>,
    /// With these numbers.
    pub ids: Vec<i64>,
    /// After this number.
    pub after: i64,
    /// At most so many.
    pub limit: u32,
}

/// What is decided about quarantined rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// They stay out, and that is accepted.
    Approve,
    /// They may not stay out: the run cannot switch until the old store is corrected.
    Reject,
    /// These values are stored instead, one row a number, in the order of [`Table::columns`].
    Repair(Vec<Vec<Value>>),
}

/// Something for the record.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What happened: a short fixed word like `fenced`.
    pub what: String,
    /// Who did it, for people.
    pub who: String,
    /// Facts, an object.
    pub facts: Json,
}

/// An entry of the record. Each names the hash of the one before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Its number, rising.
    pub number: i64,
    /// The run it belongs to.
    pub run: Uuid,
    /// When it was recorded, by the server's clock.
    pub at: Timestamp,
    /// What was recorded.
    pub entry: Entry,
    /// Hash of the entry before it, hex; 64 zeros for the first.
    pub previous: String,
    /// SHA-256, in hex, of `previous`, number, run, time, `what`, `who` and the canonical text of the facts, each followed by a newline.
    pub hash: String,
}

/// A second way to look at the new store, for the verifier alone: other statements, other code.
#[async_trait]
pub trait TargetWitness: Send + Sync {
    /// Rows whose key is after `after` up to and including `until`, in the order of the key, at most `limit`: each value as the store
    /// prints it with pinned settings (UTC, ISO dates, hex bytes, shortest floats): first the columns of `key`, then `columns`.
    async fn rows(
        &self,
        table: &str,
        key: &[String],
        columns: &[String],
        after: Option<&[String]>,
        until: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<Vec<Option<String>>>>;

    /// The rows with these keys, in one snapshot and in the order of `of`, each as [`TargetWitness::rows`] gives it; `None`
    /// where there is none.
    async fn by_keys(
        &self,
        table: &str,
        key: &[String],
        columns: &[String],
        of: &[Vec<String>],
    ) -> Result<Vec<Option<Vec<Option<String>>>>>;

    /// The number of rows.
    async fn count(&self, table: &str) -> Result<u64>;
}
