//! The audit repository over a [`Trail`]: the lock and the closed handles.

use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::audit::{
    AuditEvent, AuditFilter, AuditPage, AuditQuery, ChainReport, Create, Created, Retain, Retained,
    VerifyChain,
};
use changeover_core::events::Readiness;
use changeover_core::{Applied, AuditRepository, Capabilities, ModuleScope, Result, TenantId, Uuid};

use crate::latch::Latch;
use crate::trail::Trail;
use crate::{OpenMemory, Shared, capabilities};

/// The handle of one module and tenant.
pub(crate) struct MemoryAudit {
    shared: Arc<Shared>,
    scope: ModuleScope,
    tenant: TenantId,
    hash_chain: bool,
    latch: Latch,
}

impl MemoryAudit {
    pub(crate) fn new(backend: &OpenMemory, scope: ModuleScope, tenant: TenantId) -> Self {
        let latch = Latch::new(&backend.closed);
        Self { shared: Arc::clone(&backend.shared), scope, tenant, hash_chain: backend.hash_chain, latch }
    }

    /// Does `work` on the trail, unless the handle was closed, and names the operation in its error.
    async fn with_trail<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Trail) -> Result<T>,
    ) -> Result<T> {
        self.latch.check(operation).await?;
        work(self.shared.trails().entry(self.scope.clone()).or_default())
            .map_err(|error| error.during(operation))
    }
}

#[async_trait]
impl AuditRepository for MemoryAudit {
    fn capabilities(&self) -> Capabilities {
        capabilities(self.hash_chain)
    }

    async fn create(&self, request: Create) -> Result<Created> {
        let now = (self.shared.clock)();
        self.with_trail("audit.create", |trail| trail.create(&self.tenant, request, now, self.hash_chain))
            .await
            .map_err(|error| error.applied(Applied::No))
    }

    async fn get(&self, event_id: Uuid) -> Result<Option<AuditEvent>> {
        self.with_trail("audit.get", |trail| Ok(trail.get(&self.tenant, event_id))).await
    }

    async fn query(&self, request: AuditQuery) -> Result<AuditPage> {
        self.with_trail("audit.query", |trail| trail.query(&self.tenant, &request)).await
    }

    async fn count(&self, filter: AuditFilter) -> Result<u64> {
        self.with_trail("audit.count", |trail| trail.count(&self.tenant, &filter)).await
    }

    async fn verify(&self, request: VerifyChain) -> Result<ChainReport> {
        self.with_trail("audit.verify", |trail| {
            self.capabilities().hash_chain.require("a hash chain")?;
            Ok(trail.verify(&self.tenant, &request))
        })
        .await
    }

    async fn retain(&self, request: Retain) -> Result<Retained> {
        self.with_trail("audit.retain", |trail| trail.retain(&self.tenant, &request))
            .await
            .map_err(|error| error.applied(Applied::No))
    }

    async fn ready(&self) -> Result<Readiness> {
        let notes = vec!["records in memory, which end with the process".to_owned()];
        self.with_trail("audit.ready", |_| Ok(Readiness { notes })).await
    }

    async fn close(&self) -> Result<()> {
        self.latch.close();
        Ok(())
    }
}
