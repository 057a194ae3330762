//! The reference backend: the contract of `changeover-core` in plain maps behind one lock, with no database beneath.
//!
//! The conformance suite judges the SQL backends by it, so it is written to be read: what it answers is what the
//! contract says. A user's own unit tests run on it too. Its records end with the process.
//!
//! A [`Memory`] holds the records; everything opened from it, or from a clone of it, sees the same ones. So two clients
//! of one store, or a store that is closed and opened again, can be had in a test:
//!
//! ```
//! use changeover_core::events::{Append, Expected, HeadOf, NewEvent, StreamId};
//! use changeover_core::{Backend, BackendSettings, Json, ModuleName, ModuleScope, TenantId, Uuid};
//! use changeover_memory::Memory;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let memory = Memory::new();
//! let scope = ModuleScope { module: ModuleName::new("orders")?, namespace: None };
//! let settings = BackendSettings::new("main");
//! let writer = memory.open(&settings).await?.events(&scope, &TenantId::new("acme")?).await?;
//! let reader = memory.open(&settings).await?.events(&scope, &TenantId::new("acme")?).await?;
//!
//! let stream = StreamId::new("Order", Uuid::now_v7())?;
//! let opened = NewEvent::new("OrderOpened", Json::parse(r#"{"total": 7}"#)?)?;
//! writer.append(Append::one(stream.clone(), Expected::NoStream, vec![opened])).await?;
//! assert_eq!(reader.head(HeadOf::Stream(stream)).await?.version.map(|version| version.get()), Some(1));
//! # Ok::<(), changeover_core::Error>(()) }).unwrap();
//! ```

mod audit;
mod catalog;
mod events;
mod latch;
mod log;
mod playbooks;
mod trail;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use changeover_core::audit::AuditEvent;
use changeover_core::backend::{Check, Family, Migrations};
use changeover_core::cutover::CutoverSide;
use changeover_core::{
    AuditRepository, Backend, BackendSettings, Capabilities, Closing, Error, ErrorKind, EventStore, LogId,
    ModuleScope, OpenBackend, PlaybookCatalog, Result, SettingKey, Support, TenantId, Timestamp, ValueKind,
};

use crate::audit::MemoryAudit;
use crate::catalog::Catalog;
use crate::events::MemoryEvents;
use crate::log::Log;
use crate::playbooks::MemoryPlaybooks;
use crate::trail::Trail;

/// The word in the settings.
const KIND: &str = "memory";
const HASH_CHAIN: &str = "hash_chain";
const KEYS: &[SettingKey] = &[SettingKey {
    key: HASH_CHAIN,
    value: ValueKind::Bool,
    default: Some("true"),
    required: false,
    secret: false,
    doc: "Whether audit records with a correlation id are chained by hash.",
}];

/// What this backend offers.
fn capabilities(hash_chain: bool) -> Capabilities {
    let chained =
        if hash_chain { Support::Yes } else { Support::No("the setting hash_chain of the backend is false") };
    Capabilities {
        durable: Support::No("the records end with the process"),
        shared: Support::No("the records belong to one process"),
        concurrent_writers: Support::No("one lock orders all writes"),
        transactions: Support::No("there is no database to hold tables of a user's own"),
        tenants: Support::Yes,
        push: Support::Yes,
        recorded_time: Support::Yes,
        hash_chain: chained,
        retention: Support::Yes,
    }
}

/// The records of all modules, and the kind of backend that serves them. Clones share the records.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    logs: Mutex<HashMap<ModuleScope, Log>>,
    catalogs: Mutex<HashMap<ModuleScope, Catalog>>,
    trails: Mutex<HashMap<ModuleScope, Trail>>,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Memory {
    /// No records yet, and the clock of this machine.
    pub fn new() -> Self {
        Self::with_clock(Timestamp::now)
    }

    /// No records yet, and a clock of the caller's own, which may go backwards: `recorded_at` never does.
    pub fn with_clock(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            logs: Mutex::default(),
            trails: Mutex::default(),
            catalogs: Mutex::default(),
            clock: Box::new(clock),
        }))
    }

    /// The same, the log of `scope` being empty and having this identity: for who keeps the records elsewhere and
    /// brings them back by appending them again.
    #[must_use]
    pub fn with_log(self, scope: ModuleScope, id: LogId) -> Self {
        self.0.lock().insert(scope, Log::new(id));
        self
    }

    /// Lets `edit` change, remove, move or add audit records of a tenant past the repository, as somebody does who writes
    /// to a database by hand: for tests of those who must find it out. The records come in recorded order; what the hash
    /// chains keep beside them (by sequence) stays as it is.
    pub fn edit_audit(
        &self,
        scope: &ModuleScope,
        tenant: &TenantId,
        edit: impl FnOnce(&mut Vec<AuditEvent>),
    ) {
        self.0.trails().entry(scope.clone()).or_default().edit(tenant, edit);
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Shared {
    /// The records. A lock that another thread's panic poisoned is used on: judging panics nowhere, and storing, which
    /// comes after it, only inserts.
    fn lock(&self) -> MutexGuard<'_, HashMap<ModuleScope, Log>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The audit trails, behind a lock that is used on in the same way.
    fn trails(&self) -> MutexGuard<'_, HashMap<ModuleScope, Trail>> {
        self.trails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The playbooks, likewise.
    fn catalogs(&self) -> MutexGuard<'_, HashMap<ModuleScope, Catalog>> {
        self.catalogs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Backend for Memory {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn keys(&self) -> &'static [SettingKey] {
        KEYS
    }

    async fn open(&self, settings: &BackendSettings) -> Result<Arc<dyn OpenBackend>> {
        settings.check(self.keys())?;
        let hash_chain = settings.bool(self.keys(), HASH_CHAIN)?;
        Ok(Arc::new(OpenMemory { shared: Arc::clone(&self.0), hash_chain, closed: Closing::default() }))
    }
}

struct OpenMemory {
    shared: Arc<Shared>,
    hash_chain: bool,
    closed: Closing,
}

#[async_trait]
impl OpenBackend for OpenMemory {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn events(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn EventStore>> {
        Ok(Arc::new(MemoryEvents::new(self, scope.clone(), tenant.clone())))
    }

    async fn audit(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn AuditRepository>> {
        Ok(Arc::new(MemoryAudit::new(self, scope.clone(), tenant.clone())))
    }

    async fn playbooks(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn PlaybookCatalog>> {
        Ok(Arc::new(MemoryPlaybooks::new(self, scope.clone(), tenant.clone())))
    }

    fn migrations(&self, _scope: &ModuleScope, _family: Family) -> Result<Arc<dyn Migrations>> {
        let message = "migrations are not offered here: records in memory have no schema";
        Err(Error::new(ErrorKind::Unsupported, message).with("backend", KIND))
    }

    async fn owner(&self, _scope: &ModuleScope) -> Result<Option<String>> {
        Ok(None)
    }

    /// Always the owner: nobody else can have these records.
    async fn claim(&self, _scope: &ModuleScope) -> Result<bool> {
        Ok(true)
    }

    fn cutover(&self, _scope: &ModuleScope) -> Result<CutoverSide> {
        let message = "a cutover is not offered here: records in memory are gone with the process";
        Err(Error::new(ErrorKind::Unsupported, message).with("backend", KIND))
    }

    async fn check(&self) -> Vec<Check> {
        let detail = format!("{} modules in memory; nothing outlives the process", self.shared.lock().len());
        vec![Check { name: KIND.to_owned(), ok: !self.closed.is_closed(), detail }]
    }

    async fn close(&self) {
        self.closed.close();
    }
}
