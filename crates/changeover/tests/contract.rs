//! The stores of the facade, which follow their module, keep the contract like those of the backend beneath.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::sync::Arc;

use async_trait::async_trait;
use changeover::backend::{Check, Family, Migrations};
use changeover::{
    AuditRepository, Db, EventStore, ModuleScope, OpenBackend, PersistenceOptions, PlaybookCatalog, Result,
    TenantId,
};
use changeover_conformance::{Harness, StartError};
use changeover_core::cutover::CutoverSide;
use tempfile::TempDir;

/// Processes on one file.
struct Facade {
    dir: TempDir,
}

impl Facade {
    async fn process(&self) -> Process {
        let file = self.dir.path().join("a.db");
        let options = PersistenceOptions::new()
            .with("persistence.default", "file")
            .with("backends.file.kind", "sqlite")
            .with("backends.file.path", file.to_str().unwrap());
        let db = changeover::connect_with(options, changeover::registry()).await.unwrap();
        let beneath = db.backend("file").await.unwrap();
        Process { db, beneath }
    }
}

#[async_trait]
impl Harness for Facade {
    const NAME: &str = "facade";

    async fn start() -> Result<Self, StartError> {
        let this = Self { dir: tempfile::tempdir()? };
        let process = this.process().await;
        for family in [Family::Events, Family::Audit, Family::Playbooks] {
            process.beneath.migrations(&this.scope_of(family), family)?.up().await?;
        }
        process.db.close().await;
        Ok(this)
    }

    async fn client(&self) -> Arc<dyn OpenBackend> {
        Arc::new(self.process().await)
    }
}

/// A process, as the cases know backends: its stores are those of the facade.
struct Process {
    db: Db,
    beneath: Arc<dyn OpenBackend>,
}

#[async_trait]
impl OpenBackend for Process {
    fn kind(&self) -> &'static str {
        self.beneath.kind()
    }

    async fn events(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn EventStore>> {
        self.db.for_tenant(tenant.clone()).events(scope.module.as_str())?.store().await
    }

    async fn audit(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn AuditRepository>> {
        self.db.for_tenant(tenant.clone()).audit(scope.module.as_str())?.repository().await
    }

    async fn playbooks(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn PlaybookCatalog>> {
        self.db.for_tenant(tenant.clone()).playbooks(scope.module.as_str())?.catalog().await
    }

    fn migrations(&self, scope: &ModuleScope, family: Family) -> Result<Arc<dyn Migrations>> {
        self.beneath.migrations(scope, family)
    }

    async fn owner(&self, scope: &ModuleScope) -> Result<Option<String>> {
        self.beneath.owner(scope).await
    }

    async fn claim(&self, scope: &ModuleScope) -> Result<bool> {
        self.beneath.claim(scope).await
    }

    fn cutover(&self, scope: &ModuleScope) -> Result<CutoverSide> {
        self.beneath.cutover(scope)
    }

    async fn check(&self) -> Vec<Check> {
        self.beneath.check().await
    }

    async fn close(&self) {
        self.db.close().await;
    }
}

mod facade {
    changeover_conformance::event_store_suite!(crate::Facade);
    changeover_conformance::audit_suite!(crate::Facade);
    changeover_conformance::playbook_suite!(crate::Facade);
}
