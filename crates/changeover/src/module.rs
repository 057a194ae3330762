//! A module: the backend that owns it, found at its first use, and its stores.

use std::fmt;
use std::sync::Arc;

use changeover_core::backend::Family;
use changeover_core::{Error, ErrorKind, EventStore, ModuleName, ModuleScope, OpenBackend, Result, TenantId};
use tokio::sync::OnceCell;

use crate::db::Shared;
use crate::typed::{StreamEvent, TypedStreams};

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
        Events { source: Opening::Module(self.clone()), store: Arc::default() }
    }

    /// Whose records these are.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The owner, with the family's schema migrated where its settings say so.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) async fn opened(&self, family: Family) -> Result<(String, Arc<dyn OpenBackend>)> {
        let owner = self.home.migrated(&self.shared, family).await?;
        Ok((owner.name, owner.backend))
    }

    /// Whether both are the same module of the same tenant, on the same backends.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.home, &other.home) && self.tenant == other.tenant
    }

    async fn open_events(&self) -> Result<Arc<dyn EventStore>> {
        let owner = self.home.migrated(&self.shared, Family::Events).await?;
        owner
            .backend
            .events(&self.home.scope, &self.tenant)
            .await
            .map_err(|error| self.place(error, &owner.name))
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

/// The event store of a module and tenant, opened at its first use. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    source: Opening,
    store: Arc<OnceCell<Arc<dyn EventStore>>>,
}

#[derive(Clone)]
enum Opening {
    Module(Module),
    Given(Arc<dyn EventStore>),
}

impl Events {
    /// The store itself, opened (and its schema migrated, where the backend's settings say so) if this is the first
    /// use.
    pub async fn store(&self) -> Result<Arc<dyn EventStore>> {
        match &self.source {
            Opening::Given(store) => Ok(Arc::clone(store)),
            Opening::Module(module) => self.store.get_or_try_init(|| module.open_events()).await.cloned(),
        }
    }

    /// The module, unless the store was given.
    pub fn module(&self) -> Option<&Module> {
        match &self.source {
            Opening::Module(module) => Some(module),
            Opening::Given(_) => None,
        }
    }

    /// Streams of events of the type `E`.
    pub fn typed<E: StreamEvent>(&self) -> TypedStreams<E> {
        TypedStreams::new(self.clone())
    }
}

/// Any store, for tests and stores of one's own.
impl From<Arc<dyn EventStore>> for Events {
    fn from(store: Arc<dyn EventStore>) -> Self {
        Self { source: Opening::Given(store), store: Arc::default() }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("module", &self.module()).finish_non_exhaustive()
    }
}

/// Where a module lives: what the settings say, and what the stores say.
pub(crate) struct Home {
    pub(crate) scope: ModuleScope,
    backend: String,
    /// Kept once it is recorded in a store.
    owner: OnceCell<Owner>,
    events_migrated: OnceCell<()>,
}

#[derive(Clone)]
struct Owner {
    name: String,
    backend: Arc<dyn OpenBackend>,
}

impl Home {
    pub(crate) fn new(scope: ModuleScope, backend: String) -> Self {
        Self { scope, backend, owner: OnceCell::new(), events_migrated: OnceCell::new() }
    }

    async fn owner(&self, shared: &Shared) -> Result<Owner> {
        if let Some(owner) = self.owner.get() {
            return Ok(owner.clone());
        }
        let Some(owner) = self.find_owner(shared).await? else {
            return Ok(Owner { name: self.backend.clone(), backend: shared.backend(&self.backend).await? });
        };
        // Who comes second found the same.
        let _ = self.owner.set(owner.clone());
        Ok(owner)
    }

    /// The owner, with the family's schema migrated where the settings of the backend say so: before the owner is
    /// asked for, since the record of owners is part of the schema.
    async fn migrated(&self, shared: &Shared, family: Family) -> Result<Owner> {
        let migrate = || async {
            migrate(shared, &self.backend, &self.scope, family).await?;
            let owner = self.owner(shared).await?;
            if owner.name != self.backend {
                migrate(shared, &owner.name, &self.scope, family).await?;
            }
            if self.owner.initialized() { Ok(()) } else { self.check_schema(&owner, family).await }
        };
        self.events_migrated.get_or_try_init(migrate).await?;
        self.owner(shared).await
    }

    /// A database without the schema has no record of owners: nothing of it may be kept, or the module would stay
    /// unclaimed after somebody migrated.
    async fn check_schema(&self, owner: &Owner, family: Family) -> Result<()> {
        let Ok(migrations) = owner.backend.migrations(&self.scope, family) else { return Ok(()) };
        if migrations.status().await?.iter().all(|migration| migration.applied_at.is_some()) {
            return Ok(());
        }
        let message = format!(
            "the schema of module {} is not there or not up to date; run `changeover migrate up`",
            self.scope.module
        );
        Err(Error::new(ErrorKind::SchemaMismatch, message).with("backend", &owner.name))
    }

    /// The stores say who owns a module; the settings are a hint. `None` if nothing is recorded.
    async fn find_owner(&self, shared: &Shared) -> Result<Option<Owner>> {
        let configured = shared.backend(&self.backend).await?;
        let place =
            |error: Error| error.with("module", self.scope.module.as_str()).with("backend", &self.backend);
        let recorded = configured.owner(&self.scope).await.map_err(place)?;
        let Some(name) = recorded else { return Ok(None) };
        if name == configured.kind() {
            return Ok(Some(Owner { name: self.backend.clone(), backend: configured }));
        }
        if name != NOBODY {
            return self.follow(shared, &name).await;
        }
        for (other, plan) in &shared.plan.backends {
            if *other == self.backend || plan.kind == configured.kind() {
                continue;
            }
            let backend = shared.backend(other).await?;
            if backend.owner(&self.scope).await?.is_some_and(|owner| owner == backend.kind()) {
                return self.follow(shared, backend.kind()).await;
            }
        }
        if configured.claim(&self.scope).await.map_err(place)? {
            return Ok(Some(Owner { name: self.backend.clone(), backend: configured }));
        }
        // Somebody was faster, or the tables hold rows that nobody owns.
        match configured.owner(&self.scope).await.map_err(place)? {
            Some(owner) if owner == NOBODY => Err(place(Error::new(
                ErrorKind::Config,
                "nobody owns the module, and its tables hold rows already; see `changeover doctor`",
            ))),
            Some(owner) if owner != configured.kind() => self.follow(shared, &owner).await,
            _ => Ok(Some(Owner { name: self.backend.clone(), backend: configured })),
        }
    }

    /// Goes to the one configured backend of the recorded kind.
    async fn follow(&self, shared: &Shared, kind: &str) -> Result<Option<Owner>> {
        let module = &self.scope.module;
        let mut candidates = shared.plan.backends.iter().filter(|(_, plan)| plan.kind == kind);
        let (Some((name, _)), None) = (candidates.next(), candidates.next()) else {
            let message = format!(
                "module {module} is owned by {kind} as backend {} records, and the settings have not exactly one \
                 backend of this kind; set persistence.{module} to the backend that owns it",
                self.backend
            );
            return Err(Error::new(ErrorKind::Config, message));
        };
        tracing::warn!(
            %module,
            configured = self.backend,
            owner = name,
            "the stores record another owner than the settings name, and are followed; correct persistence.{module}"
        );
        Ok(Some(Owner { name: name.clone(), backend: shared.backend(name).await? }))
    }
}

/// The recorded owner of a module that no backend has claimed.
const NOBODY: &str = "none";

async fn migrate(shared: &Shared, name: &str, scope: &ModuleScope, family: Family) -> Result<()> {
    if !shared.plan.backends.get(name).is_some_and(|plan| plan.migrate_on_start) {
        return Ok(());
    }
    for migration in shared.backend(name).await?.migrations(scope, family)?.up().await? {
        tracing::info!(backend = name, module = %scope.module, migration = migration.id, "migrated");
    }
    Ok(())
}
