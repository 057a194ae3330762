//! Which modules there are, and which tables each has.

use std::collections::BTreeSet;

use changeover::backend::{Family, MigrationStatus, Migrations};
use changeover::{Db, Error, ErrorKind, Module, ModuleName, OpenBackend};

const ALL: [Family; 3] = [Family::Events, Family::Audit, Family::Playbooks];

/// The modules of the settings, and the built-in ones for which the settings have a backend.
pub fn modules(db: &Db) -> Result<BTreeSet<ModuleName>, Error> {
    let mut modules: BTreeSet<_> = db.modules().cloned().collect();
    for family in ALL {
        // Without a backend it is not in use.
        if db.module(family.as_str()).is_ok() {
            modules.insert(ModuleName::new(family.as_str())?);
        }
    }
    Ok(modules)
}

/// Whether the settings do not name the module.
pub fn is_implied(db: &Db, module: &ModuleName) -> bool {
    !db.modules().any(|named| named == module)
}

/// A built-in module has the family of its name; a module of the user's own has events, and what else it was given.
pub async fn of(module: &Module, backend: &dyn OpenBackend) -> Result<Vec<Family>, Error> {
    if let Some(own) = ALL.into_iter().find(|family| family.as_str() == module.name().as_str()) {
        return Ok(vec![own]);
    }
    let mut families = vec![Family::Events];
    for family in [Family::Audit, Family::Playbooks] {
        if is_there(module, backend, family).await? {
            families.push(family);
        }
    }
    Ok(families)
}

/// Whether the family has tables there.
pub async fn is_there(module: &Module, backend: &dyn OpenBackend, family: Family) -> Result<bool, Error> {
    match backend.migrations(module.scope(), family) {
        Ok(migrations) => is_applied(&*migrations).await,
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether some migration is applied, beside what all families share.
pub async fn is_applied(migrations: &dyn Migrations) -> Result<bool, Error> {
    let own = |migration: &MigrationStatus| !migration.id.starts_with("base/");
    let status = migrations.status().await?;
    Ok(status.iter().any(|migration| migration.applied_at.is_some() && own(migration)))
}
