//! A backend made of one event store, for those who bring nothing else.

use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::backend::{Check, Family, Migrations};
use changeover_core::cutover::CutoverSide;
use changeover_core::{
    AuditRepository, Error, ErrorKind, EventStore, ModuleScope, OpenBackend, PlaybookCatalog, Result,
    TenantId,
};

/// A backend of one event store for one tenant. Everything else is `Unsupported`.
pub struct EventsOnly {
    tenant: TenantId,
    store: Arc<dyn EventStore>,
}

impl EventsOnly {
    /// A backend that serves `store` to `tenant`.
    pub fn serving(tenant: TenantId, store: Arc<dyn EventStore>) -> Arc<dyn OpenBackend> {
        Arc::new(Self { tenant, store })
    }
}

fn unsupported<T>(what: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, format!("{what}: this backend is one event store of one tenant")))
}

#[async_trait]
impl OpenBackend for EventsOnly {
    fn kind(&self) -> &'static str {
        "events-only"
    }

    async fn events(&self, _scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn EventStore>> {
        if *tenant == self.tenant { Ok(Arc::clone(&self.store)) } else { unsupported("another tenant") }
    }

    async fn audit(&self, _scope: &ModuleScope, _tenant: &TenantId) -> Result<Arc<dyn AuditRepository>> {
        unsupported("audit")
    }

    async fn playbooks(&self, _scope: &ModuleScope, _tenant: &TenantId) -> Result<Arc<dyn PlaybookCatalog>> {
        unsupported("playbooks")
    }

    fn migrations(&self, _scope: &ModuleScope, _family: Family) -> Result<Arc<dyn Migrations>> {
        unsupported("migrations")
    }

    async fn owner(&self, _scope: &ModuleScope) -> Result<Option<String>> {
        Ok(None)
    }

    async fn claim(&self, _scope: &ModuleScope) -> Result<bool> {
        Ok(true)
    }

    fn cutover(&self, _scope: &ModuleScope) -> Result<CutoverSide> {
        unsupported("a cutover")
    }

    async fn check(&self) -> Vec<Check> {
        let (ok, detail) = match self.store.ready().await {
            Ok(readiness) => (true, readiness.notes.join("; ")),
            Err(error) => (false, error.to_string()),
        };
        vec![Check { name: "events".to_owned(), ok, detail }]
    }

    async fn close(&self) {
        // Closing a store twice is fine, and a failure to close changes nothing for a client that goes away.
        let _ = self.store.close().await;
    }
}
