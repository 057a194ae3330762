//! A module: the backend that owns it, found at its first use, and its stores.

use std::fmt;
use std::sync::Arc;

use changeover_core::backend::Family;
use changeover_core::{
    AuditRepository, Error, EventStore, ModuleName, ModuleScope, OpenBackend, PlaybookCatalog, Result,
    TenantId,
};

use crate::db::Shared;
use crate::home::{Home, Owner};
use crate::stores::{Audit, Events, Playbooks};

/// A module of the service, for one tenant. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    shared: Arc<Shared>,
    home: Arc<Home>,
    tenant: TenantId,
}

impl Module {
    pub(crate) fn new(shared: Arc<Shared>, home: Arc<Home>, tenant: TenantId) -> Self {
        Self { shared, home, tenant }
    }

    /// Its name.
    pub fn name(&self) -> &ModuleName {
        &self.home.scope.module
    }

    /// The module as a backend sees it.
    pub fn scope(&self) -> &ModuleScope {
        &self.home.scope
    }

    /// The name of the backend that the settings give it. The stores may say otherwise: [`Module::owner`].
    pub fn configured_backend(&self) -> &str {
        &self.home.backend
    }

    /// The name of the backend that owns it as the stores record it, and that backend; where nothing is recorded, as
    /// before a first migration, the one that the settings give it.
    pub async fn owner(&self) -> Result<(String, Arc<dyn OpenBackend>)> {
        let owner = self.home.owner(&self.shared).await?;
        Ok((owner.name, owner.backend))
    }

    /// Its event store.
    pub fn events(&self) -> Events {
        self.home.ask(Family::Events);
        Events::of(self.clone())
    }

    /// Its audit trail.
    pub fn audit(&self) -> Audit {
        self.home.ask(Family::Audit);
        Audit::of(self.clone())
    }

    /// Its playbooks.
    pub fn playbooks(&self) -> Playbooks {
        self.home.ask(Family::Playbooks);
        Playbooks::of(self.clone())
    }

    /// Whose records these are.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The owner, with the schemas of the families in use migrated where its settings say so.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) async fn opened(&self) -> Result<(String, Arc<dyn OpenBackend>)> {
        for family in self.home.families() {
            self.home.migrated(&self.shared, family).await?;
        }
        self.owner().await
    }

    /// The name of the backend that owns it as far as that is known without asking: else that of the settings.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn owner_name(&self) -> &str {
        self.home.known_owner()
    }

    /// Whether both are the same module of the same tenant, on the same backends.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.home, &other.home) && self.tenant == other.tenant
    }

    pub(crate) async fn open_events(&self) -> Result<Arc<dyn EventStore>> {
        let Owner { name, backend } = self.home.migrated(&self.shared, Family::Events).await?;
        backend.events(&self.home.scope, &self.tenant).await.map_err(|error| self.place(error, &name))
    }

    pub(crate) async fn open_audit(&self) -> Result<Arc<dyn AuditRepository>> {
        let Owner { name, backend } = self.home.migrated(&self.shared, Family::Audit).await?;
        backend.audit(&self.home.scope, &self.tenant).await.map_err(|error| self.place(error, &name))
    }

    pub(crate) async fn open_playbooks(&self) -> Result<Arc<dyn PlaybookCatalog>> {
        let Owner { name, backend } = self.home.migrated(&self.shared, Family::Playbooks).await?;
        backend.playbooks(&self.home.scope, &self.tenant).await.map_err(|error| self.place(error, &name))
    }

    fn place(&self, error: Error, backend: &str) -> Error {
        error.with("module", self.name().as_str()).with("backend", backend)
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("name", self.name())
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}
