//! Where the records of one family of a module lie, and for whom: found once, before the first statement.

use std::sync::atomic::{AtomicU8, Ordering};

use changeover_core::backend::Family;
use changeover_core::{Error, ErrorKind, ModuleScope, Result, TenantId};
use diesel::SqliteConnection;

use crate::classify::Failure;
use crate::migrate::Schema;
use crate::schema::prefix_of;
use crate::settings::Options;

const UNKNOWN: u8 = 0;
const NATIVE: u8 = 1;
const ADOPTED: u8 = 2;

/// The tables of one family of a module, asked for one tenant.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) tenant: TenantId,
    /// What stands before the names of its tables.
    pub(crate) prefix: String,
    /// The one tenant of an adopted file.
    adopted_tenant: TenantId,
    schema: Schema,
    /// What the schema was found to be, when it was the one this program knows; it is not asked again.
    found: AtomicU8,
}

impl Place {
    pub(crate) fn new(scope: &ModuleScope, family: Family, tenant: &TenantId, options: &Options) -> Self {
        Self {
            tenant: tenant.clone(),
            prefix: prefix_of(scope),
            adopted_tenant: options.tenant.clone(),
            schema: Schema::new(scope, family, &options.name),
            found: AtomicU8::new(UNKNOWN),
        }
    }

    /// Whether the tables are those of legacy programs. `SchemaMismatch` without the schema, `Unsupported` for a tenant
    /// that an adopted file does not serve.
    pub(crate) fn is_adopted(&self, conn: &mut SqliteConnection) -> Result<bool, Failure> {
        let adopted = match self.found.load(Ordering::Relaxed) {
            UNKNOWN => {
                self.schema.verify(conn)?;
                let adopted = self.schema.is_adopted(conn)?;
                self.found.store(if adopted { ADOPTED } else { NATIVE }, Ordering::Relaxed);
                adopted
            }
            found => found == ADOPTED,
        };
        if adopted && self.tenant != self.adopted_tenant {
            return Err(other_tenant(&self.adopted_tenant, &self.tenant).into());
        }
        Ok(adopted)
    }

    /// Looks at the schema anew, then as [`Place::is_adopted`].
    pub(crate) fn verify(&self, conn: &mut SqliteConnection) -> Result<bool, Failure> {
        self.found.store(UNKNOWN, Ordering::Relaxed);
        self.is_adopted(conn)
    }
}

/// What a tenant is told whom an adopted file does not serve.
pub(crate) fn other_tenant(served: &TenantId, asked: &TenantId) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "an adopted file has no tenant column: this one serves tenant {:?} only, asked for was {:?}; set \
             `tenant`, or keep more tenants in a native file",
            served.as_str(),
            asked.as_str()
        ),
    )
}
