//! From settings to open backends. Modules that name one backend share it and its pool.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use changeover_core::{
    Closing, Error, ErrorKind, ModuleName, ModuleScope, OpenBackend, Registry, Result, TenantId,
};
use tokio::sync::OnceCell;

use crate::home::Home;
use crate::module::Module;
use crate::settings::{BackendPlan, ModulePlan, PersistenceOptions, Plan};
use crate::shadow::{Shadow, ShadowReport};
use crate::stores::{Audit, Events, Playbooks};

/// Checks the settings and opens every backend that some module or `persistence.default` names.
///
/// `Config` with every mistake in the settings; `Unavailable` if a backend cannot be reached. The first line of the
/// log says where records go if there are no settings.
pub async fn connect_with(options: PersistenceOptions, registry: Registry) -> Result<Db> {
    let db = connect_lazily(options, registry)?;
    if let Some(notice) = db.notice() {
        tracing::info!("{notice}");
    }
    db.shared.open_used().await?;
    Ok(db)
}

/// As [`connect_with`], but each backend is opened at its first use: for tools that work on one backend while another
/// cannot be reached.
#[expect(clippy::needless_pass_by_value, reason = "the registry stays with the connection")]
pub fn connect_lazily(options: PersistenceOptions, registry: Registry) -> Result<Db> {
    let plan = options.plan(&registry)?;
    Ok(Db::of(plan, registry))
}

/// As [`connect_lazily`], but opening a backend makes and changes nothing: no file is created and no schema is brought up
/// to date. For check-ups.
#[expect(clippy::needless_pass_by_value, reason = "as connect_lazily")]
pub fn connect_to_look(options: PersistenceOptions, registry: Registry) -> Result<Db> {
    let mut plan = options.plan(&registry)?;
    for backend in plan.backends.values_mut() {
        for key in ["create", "migrate_on_start"] {
            if registry.get(&backend.kind)?.keys().iter().any(|known| known.names(key)) {
                backend.settings = backend.settings.clone().with(key, "false");
            }
        }
        backend.migrate_on_start = false;
    }
    Ok(Db::of(plan, registry))
}

/// The open backends of a service and the modules on them, for one tenant. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    shared: Arc<Shared>,
    tenant: TenantId,
}

impl Db {
    /// One module between two backends of these settings, which may lie elsewhere; nothing is opened by this.
    pub(crate) fn of_module(
        &self,
        scope: &ModuleScope,
        on: &str,
        backends: BTreeMap<String, BackendPlan>,
    ) -> Self {
        let module = ModulePlan { backend: on.to_owned(), namespace: scope.namespace.clone() };
        let plan = Plan {
            tenant: self.tenant.clone(),
            production: true,
            default: None,
            modules: [(scope.module.clone(), module)].into(),
            backends,
            drill_within: None,
            shadows: BTreeMap::new(),
            notice: None,
        };
        Self::of(plan, self.shared.registry.clone())
    }

    /// What a backend of the settings is opened with; `place`: in another place.
    pub(crate) fn plan_of(&self, name: &str, place: Option<&str>) -> Result<BackendPlan> {
        let Some(BackendPlan { kind, settings, .. }) = self.shared.plan.backends.get(name) else {
            return Err(self.shared.no_backend(name));
        };
        let settings = match place {
            Some(place) => self.shared.registry.get(kind)?.elsewhere(settings, place)?,
            None => settings.clone(),
        };
        Ok(BackendPlan { kind: kind.clone(), settings, migrate_on_start: false })
    }

    /// How young the drill of a cutover has to be before a run is begun, where the settings demand one.
    pub fn drill_within(&self) -> Option<Duration> {
        self.shared.plan.drill_within
    }

    fn of(plan: Plan, registry: Registry) -> Self {
        let backends = plan.backends.keys().map(|name| (name.clone(), OnceCell::new())).collect();
        let tenant = plan.tenant.clone();
        let shared =
            Shared { plan, registry, backends, homes: Mutex::default(), closing: Closing::default() };
        Self { shared: Arc::new(shared), tenant }
    }

    /// The event store of a module; `events` is the built-in one. Nothing is asked of the database before the first use.
    ///
    /// `Invalid` if the name cannot be that of a module, `Config` if the settings give it no backend.
    pub fn events(&self, module: &str) -> Result<Events> {
        Ok(self.module(module)?.events())
    }

    /// The audit trail of a module; `audit` is the built-in one. Otherwise as [`Db::events`].
    pub fn audit(&self, module: &str) -> Result<Audit> {
        Ok(self.module(module)?.audit())
    }

    /// The playbooks of a module; `playbooks` is the built-in one. Otherwise as [`Db::events`].
    pub fn playbooks(&self, module: &str) -> Result<Playbooks> {
        Ok(self.module(module)?.playbooks())
    }

    /// A module: its stores and its transactions. Errors as [`Db::events`].
    pub fn module(&self, name: &str) -> Result<Module> {
        Ok(Module::new(Arc::clone(&self.shared), self.shared.home(name)?, self.tenant.clone()))
    }

    /// The same backends for another tenant.
    #[must_use]
    pub fn for_tenant(&self, tenant: TenantId) -> Self {
        Self { shared: Arc::clone(&self.shared), tenant }
    }

    /// Whose records these are.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The line that says where records go, if there are no settings.
    pub fn notice(&self) -> Option<&'static str> {
        self.shared.plan.notice
    }

    /// The modules that the settings name.
    pub fn modules(&self) -> impl Iterator<Item = &ModuleName> {
        self.shared.plan.modules.keys()
    }

    /// The backends that the settings name, each with its kind.
    pub fn backends(&self) -> impl Iterator<Item = (&str, &str)> {
        self.shared.plan.backends.iter().map(|(name, plan)| (name.as_str(), plan.kind.as_str()))
    }

    /// The backend of this name, opened if no module is on it. `Config` if the settings have none of this name.
    pub async fn backend(&self, name: &str) -> Result<Arc<dyn OpenBackend>> {
        self.shared.backend(name).await
    }

    /// What the comparison of reads with the store that a module is moved to has found so far, over all tenants; `None` if
    /// the settings have no `[shadow.MODULE]`. Errors as [`Db::events`].
    pub fn shadow(&self, module: &str) -> Result<Option<ShadowReport>> {
        Ok(self.shared.home(module)?.shadow.as_ref().map(|shadow| shadow.report()))
    }

    /// Closes every backend: all stores are `Unavailable` from then on, and comparisons of reads end. Twice is fine.
    pub async fn close(&self) {
        self.shared.closing.close();
        for shadow in self.shared.shadows() {
            shadow.ended().await;
        }
        for cell in self.shared.backends.values() {
            if let Some(backend) = cell.get() {
                backend.close().await;
            }
        }
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backends: Vec<_> = self.backends().collect();
        f.debug_struct("Db")
            .field("tenant", &self.tenant)
            .field("backends", &backends)
            .finish_non_exhaustive()
    }
}

/// What all tenants and modules share.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    registry: Registry,
    backends: BTreeMap<String, OnceCell<Arc<dyn OpenBackend>>>,
    homes: Mutex<BTreeMap<String, Arc<Home>>>,
    pub(crate) closing: Closing,
}

impl Shared {
    async fn open_used(&self) -> Result<()> {
        let mut errors = Vec::new();
        for name in self.plan.used_backends() {
            errors.extend(self.backend(name).await.err());
        }
        let Some(first) = errors.pop() else { return Ok(()) };
        for cell in self.backends.values() {
            if let Some(opened) = cell.get() {
                opened.close().await;
            }
        }
        let all_config = first.kind() == ErrorKind::Config && errors.iter().all(|e| e.kind() == first.kind());
        if errors.is_empty() || !all_config {
            return Err(first);
        }
        // All mistakes at once, also those that only a backend can see.
        let lines: Vec<_> = errors.iter().chain([&first]).map(Error::message).collect();
        Err(Error::new(ErrorKind::Config, lines.join("\n")))
    }

    pub(crate) async fn backend(&self, name: &str) -> Result<Arc<dyn OpenBackend>> {
        let (Some(plan), Some(cell)) = (self.plan.backends.get(name), self.backends.get(name)) else {
            return Err(self.no_backend(name));
        };
        cell.get_or_try_init(|| self.open(name, plan)).await.cloned()
    }

    fn no_backend(&self, name: &str) -> Error {
        let names: Vec<_> = self.plan.backends.keys().map(String::as_str).collect();
        let message = format!("there is no backend {name:?}; configured are {}", names.join(", "));
        Error::new(ErrorKind::Config, message)
    }

    async fn open(&self, name: &str, plan: &BackendPlan) -> Result<Arc<dyn OpenBackend>> {
        let backend = self.registry.get(&plan.kind)?;
        backend.open(&plan.settings).await.map_err(|error| error.with("backend", name))
    }

    /// Where a module lives: found once, for all tenants.
    fn home(&self, module: &str) -> Result<Arc<Home>> {
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(home) = homes.get(module) {
            return Ok(Arc::clone(home));
        }
        let (scope, backend) = self.plan.module(module)?;
        let shadow = self.plan.shadows.get(&scope.module).map(|plan| Arc::new(Shadow::new(&scope, plan)));
        let home = Arc::new(Home::new(scope, backend.to_owned(), shadow));
        homes.insert(module.to_owned(), Arc::clone(&home));
        Ok(home)
    }

    fn shadows(&self) -> Vec<Arc<Shadow>> {
        let homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.values().filter_map(|home| home.shadow.clone()).collect()
    }
}
