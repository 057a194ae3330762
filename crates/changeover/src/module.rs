//! A module: the backend that owns it, found at its first use, and its stores.

use std::fmt;
use std::sync::Arc;

use changeover_core::backend::Family;
use changeover_core::{Closing, Error, ModuleName, ModuleScope, OpenBackend, Result, TenantId};

use crate::db::Shared;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::home::Owner;
use crate::home::{Home, Patience};
use crate::routed::{Current, Kept, is_moved};
use crate::shadow::Shadow;
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
    ///
    /// `Moved` while a cutover, or its way back, lets no backend take writes; `Config` if the stores contradict each other.
    pub async fn owner(&self) -> Result<(String, Arc<dyn OpenBackend>)> {
        let owner = self.home.owner(&self.shared, &mut Patience::short()).await?;
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
    pub(crate) async fn opened(&self, patience: &mut Patience) -> Result<Owner> {
        for family in self.home.families() {
            self.home.migrated(&self.shared, family, patience).await?;
        }
        self.home.owner(&self.shared, patience).await
    }

    /// The store of the owner. As long as there is patience it is looked for anew when the module moves meanwhile.
    pub(crate) async fn reach<S: Kept + ?Sized>(&self, patience: &mut Patience) -> Result<Current<S>> {
        loop {
            let generation = self.home.generation();
            match self.open(patience).await {
                Err(error) if is_moved(&error) => {
                    self.home.forget(generation);
                    if !patience.pause().await {
                        return Err(error);
                    }
                }
                answer => return answer,
            }
        }
    }

    async fn open<S: Kept + ?Sized>(&self, patience: &mut Patience) -> Result<Current<S>> {
        let owner = self.home.migrated(&self.shared, S::FAMILY, patience).await?;
        let store = S::open(&*owner.backend, &self.home.scope, &self.tenant).await;
        let place = |error: Error| error.with("module", self.name().as_str()).with("backend", &owner.name);
        let store = store.map_err(place)?;
        Ok(Current { store, backend: owner.backend, name: owner.name, generation: owner.generation })
    }

    /// Looks whether a server is still the owner, if that is due.
    pub(crate) async fn look_again(&self) {
        self.home.look_again(&self.shared).await;
    }

    /// What is known of it: where it lives.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// What compares its reads, where the settings want that.
    pub(crate) fn shadow(&self) -> Option<&Arc<Shadow>> {
        self.home.shadow.as_ref()
    }

    /// A backend by its name, opened.
    pub(crate) async fn backend(&self, name: &str) -> Result<Arc<dyn OpenBackend>> {
        self.shared.backend(name).await
    }

    /// The close of all backends.
    pub(crate) fn closing(&self) -> &Closing {
        &self.shared.closing
    }

    /// Whether both are the same module of the same tenant, on the same backends.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.home, &other.home) && self.tenant == other.tenant
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
