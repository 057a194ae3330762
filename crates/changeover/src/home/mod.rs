//! Where a module lives: the backend that the settings give it, the owner that the stores record, and what is migrated.

mod find;
mod patience;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use changeover_core::backend::Family;
use changeover_core::{Applied, Detail, Error, ErrorKind, ModuleScope, OpenBackend, Result};
use tokio::time::Instant;

use self::find::Found;
pub(crate) use self::find::{FILE, SERVER};
pub(crate) use self::patience::Patience;
use crate::db::Shared;
use crate::shadow::Shadow;

/// What the settings say, and what the stores say.
pub(crate) struct Home {
    pub(crate) scope: ModuleScope,
    /// The name of the backend that the settings give it.
    pub(crate) backend: String,
    known: Mutex<Known>,
    /// Held while the stores are asked: one caller asks for all. Since when, and why, nobody takes writes.
    looking: tokio::sync::Mutex<Option<(Instant, String)>>,
    asked: [AtomicBool; FAMILIES.len()],
    /// The families that were migrated on a backend, or had to be there already.
    migrated: tokio::sync::Mutex<BTreeSet<(String, Family)>>,
    /// What compares its reads, where the settings want that.
    pub(crate) shadow: Option<Arc<Shadow>>,
}

const FAMILIES: [Family; 3] = [Family::Events, Family::Audit, Family::Playbooks];

/// How old what is known of a server may be that a module may be taken back from: who only waits there is told by nobody.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The owner, kept once it is recorded in a store, until somebody meets `Moved`.
struct Known {
    /// How often it was forgotten.
    generation: u64,
    owner: Option<(String, Arc<dyn OpenBackend>)>,
    looked: Instant,
}

#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) backend: Arc<dyn OpenBackend>,
    /// What [`Home::forget`] is told by whom it did not serve.
    pub(crate) generation: u64,
    /// Otherwise it is the configured one, for want of a record.
    recorded: bool,
}

impl Home {
    pub(crate) fn new(scope: ModuleScope, backend: String, shadow: Option<Arc<Shadow>>) -> Self {
        let known = Mutex::new(Known { generation: 0, owner: None, looked: Instant::now() });
        let (looking, migrated) = Default::default();
        Self { scope, backend, known, looking, asked: Default::default(), migrated, shadow }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program asked for the store of this family.
    pub(crate) fn ask(&self, family: Family) {
        let families = FAMILIES.iter().zip(&self.asked).filter(|(known, _)| **known == family);
        families.for_each(|(_, asked)| asked.store(true, Ordering::Relaxed));
    }

    /// The families that the module keeps: a built-in one that of its name, a module of the user's own those that were
    /// asked for, events if none was.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn families(&self) -> Vec<Family> {
        let name = self.scope.module.as_str();
        if let Some(own) = FAMILIES.into_iter().find(|family| family.as_str() == name) {
            return vec![own];
        }
        let asked = FAMILIES.into_iter().zip(&self.asked).filter(|(_, asked)| asked.load(Ordering::Relaxed));
        let asked: Vec<_> = asked.map(|(family, _)| family).collect();
        if asked.is_empty() { vec![Family::Events] } else { asked }
    }

    /// Who was the owner of an older generation is none any more.
    pub(crate) fn generation(&self) -> u64 {
        self.known().generation
    }

    /// The owner of this generation answered `Moved`: it is asked for anew.
    pub(crate) fn forget(&self, generation: u64) {
        let mut known = self.known();
        if known.generation == generation {
            known.generation += 1;
            known.owner = None;
        }
    }

    /// The owner. While a cutover lets nobody write, it is waited for as long as there is patience; then `Moved`.
    pub(crate) async fn owner(&self, shared: &Shared, patience: &mut Patience) -> Result<Owner> {
        loop {
            let between = match self.look(shared, patience).await? {
                Ok(owner) => return Ok(owner),
                Err(between) => between,
            };
            if !patience.pause().await {
                return Err(self.nobody(&between, patience.waited()));
            }
        }
    }

    /// One look, or what another caller saw a moment ago.
    async fn look(&self, shared: &Shared, patience: &Patience) -> Result<Result<Owner, String>> {
        let mut looking = self.looking.lock().await;
        let generation = {
            let known = self.known();
            if let Some((name, backend)) = known.owner.clone() {
                let generation = known.generation;
                return Ok(Ok(Owner { name, backend, generation, recorded: true }));
            }
            known.generation
        };
        if let Some((at, between)) = &*looking
            && at.elapsed() < patience.tolerance()
        {
            return Ok(Err(between.clone()));
        }
        *looking = None;
        Ok(match find::find(self, shared).await? {
            Found::Owner(name, backend) => {
                let mut known = self.known();
                // Unless somebody met `Moved` meanwhile: then it may be old already.
                if known.generation == generation {
                    known.owner = Some((name.clone(), Arc::clone(&backend)));
                    known.looked = Instant::now();
                }
                Ok(Owner { name, backend, generation, recorded: true })
            }
            Found::Nothing => {
                let (name, backend) = (self.backend.clone(), shared.backend(&self.backend).await?);
                Ok(Owner { name, backend, generation, recorded: false })
            }
            Found::Between(between) => {
                *looking = Some((Instant::now(), between.clone()));
                Err(between)
            }
        })
    }

    /// What a caller is told who waited long enough.
    pub(crate) fn nobody(&self, between: &str, waited: Duration) -> Error {
        let module = &self.scope.module;
        let message = format!(
            "module {module} is being moved, and no backend has taken its calls for {:.1} s: {between}; repeat the call \
             later; `changeover cutover status` shows how far the move is",
            waited.as_secs_f64()
        );
        let error = Error::new(ErrorKind::Moved, message).applied(Applied::No);
        error.with_detail(Detail::Moved { owner: "none".to_owned() }).with("module", module.as_str())
    }

    /// Asks a server, from which the module may be taken back to a file, now and then whether it is still the owner.
    pub(crate) async fn look_again(&self, shared: &Shared) {
        let server = {
            let mut known = self.known();
            let Some((_, backend)) = &known.owner else { return };
            let beside = shared.plan.backends.values().any(|plan| plan.kind == FILE);
            if backend.kind() != SERVER || !beside || known.looked.elapsed() < LOOK_AGAIN {
                return;
            }
            let found = (Arc::clone(backend), known.generation);
            // One caller asks; the others go on meanwhile.
            known.looked = Instant::now();
            found
        };
        self.is_still(&*server.0, server.1).await;
    }

    /// Whether the owner of this generation is still the owner; else it is forgotten. Who cannot be asked still is.
    pub(crate) async fn is_still(&self, backend: &dyn OpenBackend, generation: u64) -> bool {
        match backend.owner(&self.scope).await {
            Ok(Some(owner)) if owner != backend.kind() => {
                self.forget(generation);
                false
            }
            _ => self.generation() == generation,
        }
    }

    /// The owner, with the family's schema migrated where the settings of the backend say so: before the owner is asked
    /// for if nothing is recorded, since the record of owners is part of the schema.
    pub(crate) async fn migrated(
        &self,
        shared: &Shared,
        family: Family,
        patience: &mut Patience,
    ) -> Result<Owner> {
        loop {
            let owner = self.owner(shared, patience).await?;
            let mut migrated = self.migrated.lock().await;
            let key = (owner.name.clone(), family);
            if migrated.contains(&key) {
                return Ok(owner);
            }
            match migrate(shared, &owner.name, &self.scope, family).await {
                // It was the owner when it was asked: what is left of an archived file takes no schema.
                Err(error) if error.kind() == ErrorKind::Moved && owner.recorded => {
                    drop(migrated);
                    self.forget(owner.generation);
                    if patience.pause().await {
                        continue;
                    }
                    return Err(error);
                }
                done => done?,
            }
            if owner.recorded {
                migrated.insert(key);
                return Ok(owner);
            }
            drop(migrated);
            let now = self.owner(shared, patience).await?;
            if now.name != owner.name {
                continue;
            }
            if !now.recorded {
                self.check_schema(&now, family).await?;
            }
            self.migrated.lock().await.insert(key);
            return Ok(now);
        }
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
}

async fn migrate(shared: &Shared, name: &str, scope: &ModuleScope, family: Family) -> Result<()> {
    if !shared.plan.backends.get(name).is_some_and(|plan| plan.migrate_on_start) {
        return Ok(());
    }
    for migration in shared.backend(name).await?.migrations(scope, family)?.up().await? {
        tracing::info!(backend = name, module = %scope.module, migration = migration.id, "migrated");
    }
    Ok(())
}
