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

mod events;
mod log;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use changeover_core::backend::{Check, Family, Migrations};
use changeover_core::{
    AuditRepository, Backend, BackendSettings, Closing, Error, ErrorKind, EventStore, LogId, ModuleScope,
    OpenBackend, PlaybookCatalog, Result, TenantId, Timestamp,
};

use crate::events::MemoryEvents;
use crate::log::Log;

/// The word in the settings.
const KIND: &str = "memory";

/// The records of all modules, and the kind of backend that serves them. Clones share the records.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    logs: Mutex<HashMap<ModuleScope, Log>>,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Memory {
    /// No records yet, and the clock of this machine.
    pub fn new() -> Self {
        Self::with_clock(Timestamp::now)
    }

    /// No records yet, and a clock of the caller's own, which may go backwards: `recorded_at` never does.
    pub fn with_clock(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { logs: Mutex::default(), clock: Box::new(clock) }))
    }

    /// The same, the log of `scope` being empty and having this identity: for who keeps the records elsewhere and
    /// brings them back by appending them again.
    #[must_use]
    pub fn with_log(self, scope: ModuleScope, id: LogId) -> Self {
        self.0.lock().insert(scope, Log::new(id));
        self
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
}

#[async_trait]
impl Backend for Memory {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn keys(&self) -> &'static [changeover_core::SettingKey] {
        &[]
    }

    async fn open(&self, settings: &BackendSettings) -> Result<Arc<dyn OpenBackend>> {
        settings.check(self.keys())?;
        Ok(Arc::new(OpenMemory { shared: Arc::clone(&self.0), closed: Closing::default() }))
    }
}

struct OpenMemory {
    shared: Arc<Shared>,
    closed: Closing,
}

impl OpenMemory {
    fn serves_events_only<T>(family: Family) -> Result<T> {
        let message = format!(
            "{} are not offered here: this version of the backend serves events only",
            family.as_str()
        );
        Err(Error::new(ErrorKind::Unsupported, message).with("backend", KIND))
    }
}

#[async_trait]
impl OpenBackend for OpenMemory {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn events(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn EventStore>> {
        Ok(Arc::new(MemoryEvents::new(&self.shared, &self.closed, scope.clone(), tenant.clone())))
    }

    async fn audit(&self, _scope: &ModuleScope, _tenant: &TenantId) -> Result<Arc<dyn AuditRepository>> {
        Self::serves_events_only(Family::Audit)
    }

    async fn playbooks(&self, _scope: &ModuleScope, _tenant: &TenantId) -> Result<Arc<dyn PlaybookCatalog>> {
        Self::serves_events_only(Family::Playbooks)
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

    async fn check(&self) -> Vec<Check> {
        let detail = format!("{} modules in memory; nothing outlives the process", self.shared.lock().len());
        vec![Check { name: KIND.to_owned(), ok: !self.closed.is_closed(), detail }]
    }

    async fn close(&self) {
        self.closed.close();
    }
}
