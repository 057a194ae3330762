//! The audit repository of a module that may move.

use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::audit::{
    AuditEvent, AuditFilter, AuditPage, AuditQuery, ChainReport, Create, Created, Retain, Retained,
    VerifyChain,
};
use changeover_core::backend::Family;
use changeover_core::events::Readiness;
use changeover_core::{AuditRepository, Capabilities, ModuleScope, OpenBackend, Result, TenantId, Uuid};

use super::{Kept, Routed};
use crate::home::Patience;
use crate::shadow::Get;

#[async_trait]
impl Kept for dyn AuditRepository {
    const FAMILY: Family = Family::Audit;

    async fn open(backend: &dyn OpenBackend, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<Self>> {
        backend.audit(scope, tenant).await
    }

    async fn close(&self) -> Result<()> {
        AuditRepository::close(self).await
    }
}

#[deny(clippy::missing_trait_methods, reason = "what is left out would not follow the module")]
#[async_trait]
impl AuditRepository for Routed<dyn AuditRepository> {
    fn capabilities(&self) -> Capabilities {
        self.current().store.capabilities()
    }

    async fn create(&self, request: Create) -> Result<Created> {
        let create = |store: Arc<dyn AuditRepository>| {
            let request = request.clone();
            async move { store.create(request).await }
        };
        self.call(create).await
    }

    async fn get(&self, event_id: Uuid) -> Result<Option<AuditEvent>> {
        self.read(Get(event_id)).await
    }

    async fn query(&self, request: AuditQuery) -> Result<AuditPage> {
        self.read(request).await
    }

    async fn count(&self, filter: AuditFilter) -> Result<u64> {
        self.read(filter).await
    }

    async fn verify(&self, request: VerifyChain) -> Result<ChainReport> {
        let verify = |store: Arc<dyn AuditRepository>| {
            let request = request.clone();
            async move { store.verify(request).await }
        };
        self.call(verify).await
    }

    async fn retain(&self, request: Retain) -> Result<Retained> {
        let retain = |store: Arc<dyn AuditRepository>| {
            let request = request.clone();
            async move { store.retain(request).await }
        };
        self.call(retain).await
    }

    async fn ready(&self) -> Result<Readiness> {
        self.call_within(Patience::short(), |current| async move { current.store.ready().await }).await
    }

    async fn close(&self) -> Result<()> {
        self.end().await
    }
}
