//! Where a module lives: the backend that the settings give it, the owner that the stores record, and what is migrated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use changeover_core::backend::Family;
use changeover_core::{Error, ErrorKind, ModuleScope, OpenBackend, Result};
use tokio::sync::OnceCell;

use crate::db::Shared;

/// What the settings say, and what the stores say.
pub(crate) struct Home {
    pub(crate) scope: ModuleScope,
    /// The name of the backend that the settings give it.
    pub(crate) backend: String,
    /// Kept once it is recorded in a store.
    owner: OnceCell<Owner>,
    uses: [Use; FAMILIES.len()],
}

const FAMILIES: [Family; 3] = [Family::Events, Family::Audit, Family::Playbooks];

/// What this process does with one family of the module's tables.
#[derive(Default)]
struct Use {
    asked: AtomicBool,
    migrated: OnceCell<()>,
}

#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) backend: Arc<dyn OpenBackend>,
}

impl Home {
    pub(crate) fn new(scope: ModuleScope, backend: String) -> Self {
        Self { scope, backend, owner: OnceCell::new(), uses: Default::default() }
    }

    fn using(&self, family: Family) -> &Use {
        let [events, audit, playbooks] = &self.uses;
        match family {
            Family::Events => events,
            Family::Audit => audit,
            Family::Playbooks => playbooks,
        }
    }

    /// The program asked for the store of this family.
    pub(crate) fn ask(&self, family: Family) {
        self.using(family).asked.store(true, Ordering::Relaxed);
    }

    /// The families that the module keeps: a built-in one that of its name, a module of the user's own those that were
    /// asked for, events if none was.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn families(&self) -> Vec<Family> {
        let name = self.scope.module.as_str();
        if let Some(own) = FAMILIES.into_iter().find(|family| family.as_str() == name) {
            return vec![own];
        }
        let asked = |family: &Family| self.using(*family).asked.load(Ordering::Relaxed);
        let asked: Vec<_> = FAMILIES.into_iter().filter(asked).collect();
        if asked.is_empty() { vec![Family::Events] } else { asked }
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn known_owner(&self) -> &str {
        self.owner.get().map_or(&self.backend, |owner| &owner.name)
    }

    pub(crate) async fn owner(&self, shared: &Shared) -> Result<Owner> {
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
    pub(crate) async fn migrated(&self, shared: &Shared, family: Family) -> Result<Owner> {
        let migrate = || async {
            migrate(shared, &self.backend, &self.scope, family).await?;
            let owner = self.owner(shared).await?;
            if owner.name != self.backend {
                migrate(shared, &owner.name, &self.scope, family).await?;
            }
            if self.owner.initialized() { Ok(()) } else { self.check_schema(&owner, family).await }
        };
        self.using(family).migrated.get_or_try_init(migrate).await?;
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
