//! The months that a backend keeps audit records in.

use changeover_core::{Error, ErrorKind, OpenBackend, Result};

use crate::module::Module;
use crate::stores::Audit;

/// How the records of an audit trail are kept by month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditMonths {
    /// The months that are there, in their order.
    pub there: Vec<AuditMonth>,
    /// Of this month and the next three, those that are not: each is made by its first record, which waits for it, or by
    /// [`Audit::create_months`].
    pub missing: Vec<String>,
}

/// A month of an audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditMonth {
    /// Like `2024-01`.
    pub month: String,
    /// What it takes in the database, for all tenants.
    pub bytes: u64,
}

impl Audit {
    /// The months that records are kept in. `Unsupported` where they are not kept by month.
    pub async fn months(&self) -> Result<AuditMonths> {
        let backend = self.backend().await?;
        #[cfg(feature = "postgres")]
        if let (Some(postgres), Some(module)) = (postgres(&*backend), self.module()) {
            let there = postgres.audit_months(module.scope()).await?;
            let there = there.into_iter().map(|(month, bytes)| AuditMonth { month, bytes }).collect();
            return Ok(AuditMonths { there, missing: postgres.missing_audit_months(module.scope()).await? });
        }
        Err(unsupported(backend.kind()))
    }

    /// Makes the months that are missing, from this one to the third from now; returns which it made.
    pub async fn create_months(&self) -> Result<Vec<String>> {
        let backend = self.backend().await?;
        #[cfg(feature = "postgres")]
        if let (Some(postgres), Some(module)) = (postgres(&*backend), self.module()) {
            return postgres.create_audit_months(module.scope()).await;
        }
        Err(unsupported(backend.kind()))
    }

    /// The open backend of the module, its schema made where the settings say so.
    async fn backend(&self) -> Result<std::sync::Arc<dyn OpenBackend>> {
        self.repository().await?.ready().await?;
        match self.module().map(Module::owner) {
            Some(owner) => Ok(owner.await?.1),
            None => Err(unsupported("a repository that was given")),
        }
    }
}

#[cfg(feature = "postgres")]
fn postgres(backend: &dyn OpenBackend) -> Option<&changeover_postgres::OpenPostgres> {
    let opened: &dyn std::any::Any = backend;
    opened.downcast_ref()
}

fn unsupported(kind: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{kind} does not keep audit records by month"))
}
