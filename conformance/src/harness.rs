//! What a backend brings to the suite: a place for each case, clients on it, and a door for faults.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use changeover_core::audit::{Create, NewAuditEvent};
use changeover_core::backend::Family;
use changeover_core::events::Append;
use changeover_core::playbooks::{NewPlaybook, PlaybookId, PlaybookVersion};
use changeover_core::{ErrorKind, ModuleName, ModuleScope, OpenBackend, TenantId, Uuid};

/// Why a place could not be made ready.
pub type StartError = Box<dyn StdError + Send + Sync>;

/// One set-up of a backend: a column of the matrix.
#[async_trait]
pub trait Harness: Sized + Send + Sync + 'static {
    /// The name of the column: `memory`, `sqlite-native`. The part before the first `-` names the backend.
    const NAME: &str;

    /// The stores that the backend brings. The matrix shows the others as not offered; nothing of them is asked.
    const STORES: &[Family] = &[Family::Events, Family::Audit, Family::Playbooks];

    /// An empty, migrated place that no other case sees. Dropping the harness clears it away.
    async fn start() -> Result<Self, StartError>;

    /// A new client with a pool of its own on the place's data. Stores are bare: nothing retries for them.
    async fn client(&self) -> Arc<dyn OpenBackend>;

    /// The module that the cases of the event store use.
    fn scope(&self) -> ModuleScope {
        self.scope_of(Family::Events)
    }

    /// The module that the cases of a store use: the built-in one.
    fn scope_of(&self, store: Family) -> ModuleScope {
        // Cannot fail: the names of families are valid identifiers.
        ModuleScope { module: ModuleName::new(store.as_str()).expect("a valid name"), namespace: None }
    }

    /// The tenant that cases use.
    fn tenant(&self) -> TenantId {
        // Cannot fail: the name is neither empty nor long.
        TenantId::new("default").expect("a valid name")
    }

    /// What only the owner of the database can do to it.
    fn faults(&self) -> &dyn Faults {
        &NoFaults
    }
}

/// A [`Harness`] as the cases see it, so that they are compiled once and not once a backend.
#[async_trait]
pub trait AnyHarness: Send + Sync {
    /// As [`Harness::NAME`].
    fn name(&self) -> &'static str;

    /// As [`Harness::client`].
    async fn client(&self) -> Arc<dyn OpenBackend>;

    /// As [`Harness::scope`].
    fn scope(&self) -> ModuleScope;

    /// As [`Harness::scope_of`].
    fn scope_of(&self, store: Family) -> ModuleScope;

    /// As [`Harness::tenant`].
    fn tenant(&self) -> TenantId;

    /// As [`Harness::faults`].
    fn faults(&self) -> &dyn Faults;
}

#[async_trait]
impl<H: Harness> AnyHarness for H {
    fn name(&self) -> &'static str {
        H::NAME
    }

    async fn client(&self) -> Arc<dyn OpenBackend> {
        Harness::client(self).await
    }

    fn scope(&self) -> ModuleScope {
        Harness::scope(self)
    }

    fn scope_of(&self, store: Family) -> ModuleScope {
        Harness::scope_of(self, store)
    }

    fn tenant(&self) -> TenantId {
        Harness::tenant(self)
    }

    fn faults(&self) -> &dyn Faults {
        Harness::faults(self)
    }
}

/// A fault that cannot be caused here, and why: stands in the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported(pub &'static str);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The answer to the wish for a fault. Whatever else goes wrong in causing one panics.
pub type Fault<T> = Result<T, Unsupported>;

/// How a client is opened, where a case needs it otherwise than usual. `None`: as usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// The most connections of the pool.
    pub pool_size: Option<u32>,
    /// How long a caller waits for a connection.
    pub acquire_timeout: Option<Duration>,
    /// How long a statement may take or wait for a lock.
    pub operation_timeout: Option<Duration>,
}

/// A row written past the store, for what a broken or foreign program leaves behind.
#[derive(Clone, Debug, PartialEq)]
pub struct RawRow {
    /// The table, as the store names it.
    pub table: &'static str,
    /// The key of an existing row (an event id).
    pub key: String,
    /// The column to overwrite.
    pub column: &'static str,
    /// The bytes to put there.
    pub value: Vec<u8>,
}

/// What somebody does to audit records past the repository, with the rights of the database's owner: rules of the schema
/// and triggers do not hold them up, and what is kept of the hash chain beside the records stays as it was.
#[derive(Clone, Debug, PartialEq)]
pub enum AuditTamper {
    /// Overwrites the event's data with `{"tampered":true}`.
    Edit(Uuid),
    /// Removes the event, as if it had never been there.
    Remove(Uuid),
    /// Lets two events change places in the recorded order, each with its own link.
    Swap(Uuid, Uuid),
    /// Puts an event in behind the others.
    Insert(Box<NewAuditEvent>),
}

/// Something that stays as it is until it is let go. Dropping it lets go by rolling back.
#[async_trait]
pub trait Held: Send {
    /// Makes it last.
    async fn commit(self: Box<Self>);

    /// Undoes it.
    async fn roll_back(self: Box<Self>);
}

/// What only the owner of a database can do to it. Each method that a harness leaves out answers [`Unsupported`].
#[async_trait]
pub trait Faults: Send + Sync {
    /// Why the methods that a harness leaves out cause nothing.
    fn otherwise(&self) -> Unsupported {
        Unsupported("this harness causes no faults of this kind")
    }

    /// Does `append` (of the harness's module and tenant) in a transaction of its own and keeps that open.
    async fn hold_append(&self, _append: Append) -> Fault<Box<dyn Held>> {
        Err(self.otherwise())
    }

    /// Opens a writing transaction in the same database that has nothing to do with the store, and keeps it open.
    async fn hold_unrelated_transaction(&self) -> Fault<Box<dyn Held>> {
        Err(self.otherwise())
    }

    /// Takes the lock that every writer needs, as another program would, and keeps it.
    async fn hold_write_lock(&self) -> Fault<Box<dyn Held>> {
        Err(self.otherwise())
    }

    /// A client whose connections lead over a line that [`Faults::cut_connections`], [`Faults::cut_at_commit`],
    /// [`Faults::freeze`] and [`Faults::thaw`] act on.
    async fn fragile_client(&self, _options: OpenOptions) -> Fault<Arc<dyn OpenBackend>> {
        Err(self.otherwise())
    }

    /// Cuts the open connections of the fragile clients; new ones can be made.
    async fn cut_connections(&self) -> Fault<()> {
        Err(self.otherwise())
    }

    /// Lets the next write of a fragile client be carried out and cuts the line before its answer comes back. The records
    /// of that write are of the type `OrderPlaced`.
    async fn cut_at_commit(&self) -> Fault<()> {
        Err(self.otherwise())
    }

    /// Makes the database silent towards fragile clients: connections stay, nothing is answered.
    async fn freeze(&self) -> Fault<()> {
        Err(self.otherwise())
    }

    /// Ends [`Faults::freeze`].
    async fn thaw(&self) -> Fault<()> {
        Err(self.otherwise())
    }

    /// Lets the server end all sessions of the clients, as an administrator would.
    async fn kill_sessions(&self) -> Fault<()> {
        Err(self.otherwise())
    }

    /// Lets the server end the sessions that wait for notifications.
    async fn kill_listeners(&self) -> Fault<()> {
        Err(self.otherwise())
    }

    /// Makes the database read-only, or writable again.
    async fn set_read_only(&self, _on: bool) -> Fault<()> {
        Err(self.otherwise())
    }

    /// Lets the database have no room for more data, or as much as it needs again.
    async fn set_disk_full(&self, _on: bool) -> Fault<()> {
        Err(self.otherwise())
    }

    /// A client of an empty database without the schema.
    async fn unmigrated_client(&self) -> Fault<Arc<dyn OpenBackend>> {
        Err(self.otherwise())
    }

    /// Records one more migration than this program knows, as a newer program would.
    async fn make_schema_newer(&self) -> Fault<()> {
        Err(self.otherwise())
    }

    /// Rows of each table of the place, over all tenants.
    async fn row_counts(&self) -> Fault<BTreeMap<String, u64>> {
        Err(self.otherwise())
    }

    /// Overwrites a value past the store.
    async fn plant(&self, _row: RawRow) -> Fault<()> {
        Err(self.otherwise())
    }

    /// Tries to change and to delete the stored events by SQL, as every role the store's users have, and says for each
    /// attempt that was let through what it was.
    async fn tamper(&self) -> Fault<Vec<String>> {
        Err(self.otherwise())
    }

    /// Does `request` (of the harness's audit module and tenant) in a transaction of its own and keeps that open.
    async fn hold_create(&self, _request: Create) -> Fault<Box<dyn Held>> {
        Err(self.otherwise())
    }

    /// In one transaction of the store: writes a row into a table of the user's own, records `request` (of the harness's
    /// audit module and tenant), and commits, or rolls back if `commit` is false. Says how it ended and how many rows the
    /// user's table has then.
    async fn business_write(
        &self,
        _request: Create,
        _commit: bool,
    ) -> Fault<(changeover_core::Result<()>, u64)> {
        Err(self.otherwise())
    }

    /// Does this to the audit records of the harness's module and tenant.
    async fn tamper_audit(&self, _tamper: AuditTamper) -> Fault<()> {
        Err(self.otherwise())
    }

    /// Tries to change and to delete the stored audit records by SQL, as every role the store's users have, and says for
    /// each attempt that was let through what it was.
    async fn change_audit(&self) -> Fault<Vec<String>> {
        Err(self.otherwise())
    }

    /// Puts `rows` audit records into the place, past the repository (half of them of one month, ten a
    /// correlation id and a resource, whose names begin with `bulk-`), and names the queries whose plan goes through a whole table: by
    /// correlation id, by resource, by id, and the newest of a month.
    async fn audit_full_scans(&self, _rows: u64) -> Fault<Vec<String>> {
        Err(self.otherwise())
    }

    /// A client whose sessions have this time zone.
    async fn client_in_time_zone(&self, _zone: &str) -> Fault<Arc<dyn OpenBackend>> {
        Err(self.otherwise())
    }

    /// A client whose clock (the one `recorded_at` is taken from) is off by this many microseconds.
    async fn client_with_clock_off_by(&self, _micros: i64) -> Fault<Arc<dyn OpenBackend>> {
        Err(self.otherwise())
    }

    /// As [`Harness::client`], with the refusal where that would panic.
    async fn try_client(&self) -> Fault<changeover_core::Result<Arc<dyn OpenBackend>>> {
        Err(self.otherwise())
    }

    /// Does `append` (of the harness's module and tenant) in a process of its own; the kind of its error, if it failed.
    async fn append_in_another_process(&self, _append: Append) -> Fault<Result<(), ErrorKind>> {
        Err(self.otherwise())
    }

    /// The reads of single streams whose plan, on the tables as they are now, goes through a whole table.
    async fn full_scans(&self) -> Fault<Vec<String>> {
        Err(self.otherwise())
    }

    /// Every column, index and rule of the place's tables, a line each, in a fixed order.
    async fn schema(&self) -> Fault<Vec<String>> {
        Err(self.otherwise())
    }

    /// Tries by SQL what the schema itself must refuse (a version or an event id twice, version 0, an event without its
    /// stream) and says for each attempt that was let through what it was.
    async fn break_rules(&self) -> Fault<Vec<String>> {
        Err(self.otherwise())
    }

    /// Inserts a version of a playbook by SQL, as people do who manage the catalog by hand: every column as it stands there,
    /// its hash computed where none is given, without a vector. The refusal, where the database refuses it.
    async fn insert_playbook_by_sql(&self, _playbook: NewPlaybook) -> Fault<Result<(), String>> {
        Err(self.otherwise())
    }

    /// Overwrites the content of a stored version past every rule; its hash stays as it was.
    async fn overwrite_playbook_content(
        &self,
        _playbook_id: &PlaybookId,
        _version: &PlaybookVersion,
        _content: &str,
    ) -> Fault<()> {
        Err(self.otherwise())
    }

    /// Tries by SQL what the tables of the catalog must refuse (other content, name, description, labels or hash of a stored
    /// version; its removal; a second latest version; a status that is none; a rate above 1 or with four decimals; more
    /// successes than executions; no count; a vector of another size) and says for each attempt that was let through what
    /// it was.
    async fn break_playbook_rules(&self) -> Fault<Vec<String>> {
        Err(self.otherwise())
    }

    /// The reads of single playbooks (latest, exact, by hash, versions) whose plan, on the tables as they are now, goes
    /// through a whole table.
    async fn playbook_full_scans(&self) -> Fault<Vec<String>> {
        Err(self.otherwise())
    }

    /// A client opened otherwise than usual.
    async fn client_with(&self, _options: OpenOptions) -> Fault<Arc<dyn OpenBackend>> {
        Err(self.otherwise())
    }
}

/// The door of a harness that causes no faults.
#[derive(Clone, Copy, Debug)]
pub struct NoFaults;

impl Faults for NoFaults {}
