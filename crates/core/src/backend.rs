//! How a backend is named, opened, migrated and found. No globals: a [`Registry`] holds what a program knows.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::audit::AuditRepository;
use crate::cutover::CutoverSide;
use crate::error::{Error, ErrorKind, Result};
use crate::events::EventStore;
use crate::playbooks::PlaybookCatalog;
use crate::settings::{BackendSettings, SettingKey};
use crate::text::{ModuleName, Namespace, TenantId};
use crate::time::Timestamp;

/// A kind of backend: `sqlite`, `postgres`, or one of a user's own.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The word in the settings.
    fn kind(&self) -> &'static str;

    /// The keys it understands beside `kind`.
    fn keys(&self) -> &'static [SettingKey];

    /// Opens it.
    ///
    /// # Behavior
    /// - Mistakes in the settings are `Config`, all of them at once; so is a runtime the backend cannot work on.
    /// - A database that cannot be reached is `Unavailable`. One without the schema opens: its stores answer
    ///   `SchemaMismatch` until it is migrated.
    async fn open(&self, settings: &BackendSettings) -> Result<Arc<dyn OpenBackend>>;

    /// The same settings for another place: a file of this path, a database of this name on the same server. `Unsupported` where
    /// there is none.
    fn elsewhere(&self, settings: &BackendSettings, place: &str) -> Result<BackendSettings> {
        let _ = place;
        let message = format!("backend {}: the kind {} knows no other place", settings.name(), self.kind());
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}

/// A module as a backend sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModuleScope {
    /// Its name, which also names its log and its owner row.
    pub module: ModuleName,
    /// What its tables are told apart by; `None` for the built-in modules, whose tables have the plain names.
    pub namespace: Option<Namespace>,
}

/// The family of tables a store needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Streams and events.
    Events,
    /// Audit records.
    Audit,
    /// Playbooks.
    Playbooks,
}

impl Family {
    /// `events`, `audit`, `playbooks`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Audit => "audit",
            Self::Playbooks => "playbooks",
        }
    }
}

/// A backend with its pool. Stores opened from it share that pool.
#[async_trait]
pub trait OpenBackend: Any + Send + Sync {
    /// The word in the settings.
    fn kind(&self) -> &'static str;

    /// The event store of a module and tenant. `Unsupported` where this set-up cannot serve it (another tenant than
    /// the one an adopted file belongs to).
    async fn events(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn EventStore>>;

    /// The audit repository of a module and tenant.
    async fn audit(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn AuditRepository>>;

    /// The playbook catalog of a module and tenant.
    async fn playbooks(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn PlaybookCatalog>>;

    /// The migrations of one family of a module's tables. `Unsupported` where there is no schema.
    fn migrations(&self, scope: &ModuleScope, family: Family) -> Result<Arc<dyn Migrations>>;

    /// Which backend the database records as the module's owner: `none`, `sqlite`, `postgres`; `None` where it keeps no
    /// such record.
    async fn owner(&self, scope: &ModuleScope) -> Result<Option<String>>;

    /// Makes this backend the module's owner if nobody owns it and its tables are empty; says whether it is the owner
    /// now.
    async fn claim(&self, scope: &ModuleScope) -> Result<bool>;

    /// The module as a cutover moves it from here, or to here. `Unsupported` where neither can be.
    fn cutover(&self, scope: &ModuleScope) -> Result<CutoverSide>;

    /// This backend once more, with stores that also read while another backend owns the module, to compare the two during
    /// a cutover: what they read may be half there. Their writes are refused as ever. `None` where stores have no such look.
    fn beside(&self) -> Option<Arc<dyn OpenBackend>> {
        None
    }

    /// What an operator wants to know: each line a fact, checked now.
    async fn check(&self) -> Vec<Check>;

    /// Closes the pool: every store of it is `Unavailable` from then on. Twice is fine.
    async fn close(&self);
}

/// One line of a check-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found, and what to do if it is not well.
    pub detail: String,
}

/// The schema of one family of one module in one database. Migrations are append-only.
#[async_trait]
pub trait Migrations: Send + Sync {
    /// Every known migration in order, and every applied one that is unknown here.
    async fn status(&self) -> Result<Vec<MigrationStatus>>;

    /// Applies what is missing, each in a transaction of its own; returns what it applied.
    ///
    /// # Behavior
    /// - Again: nothing happens. Two runners at once: one works, the other waits, and then finds nothing to do.
    /// - A failed migration is rolled back wholly and not recorded.
    /// - An applied migration whose text changed, a missing earlier one, or a schema newer than the program:
    ///   `SchemaMismatch`, and nothing is applied.
    async fn up(&self) -> Result<Vec<MigrationStatus>>;

    /// Takes back the last `steps` migrations. Where tables would go that hold records, `Invalid` unless
    /// `accept_data_loss`; nothing is taken back then. Where an earlier schema cannot be had (an adopted file),
    /// `Unsupported`.
    async fn down(&self, steps: u32, accept_data_loss: bool) -> Result<Vec<MigrationStatus>>;
}

/// One migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its id, like `events/0001_events`.
    pub id: String,
    /// What it does.
    pub description: String,
    /// SHA-256 of its text, in hex.
    pub checksum: String,
    /// When it was applied; `None`: not yet.
    pub applied_at: Option<Timestamp>,
    /// What is wrong with it: changed since, unknown to this program.
    pub problem: Option<String>,
}

/// The kinds of backends a program knows.
#[derive(Clone, Default)]
pub struct Registry {
    backends: Vec<Arc<dyn Backend>>,
}

impl Registry {
    /// A registry that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more kind. A kind given twice: the later one holds.
    #[must_use]
    pub fn with(mut self, backend: impl Backend) -> Self {
        self.backends.retain(|known| known.kind() != backend.kind());
        self.backends.push(Arc::new(backend));
        self
    }

    /// The kinds, in the order they were added.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.backends.iter().map(|backend| backend.kind()).collect()
    }

    /// The backend of a kind. `Config`, with the kinds there are, if it is unknown.
    pub fn get(&self, kind: &str) -> Result<&dyn Backend> {
        self.backends.iter().find(|backend| backend.kind() == kind).map(|backend| &**backend).ok_or_else(
            || {
                let known = self.kinds().join(", ");
                Error::new(
                    ErrorKind::Config,
                    format!("unknown kind of backend {kind:?}; registered are {known}"),
                )
            },
        )
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.kinds()).finish()
    }
}
