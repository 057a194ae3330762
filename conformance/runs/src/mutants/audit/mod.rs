//! Audit repositories that are broken on purpose.

mod keep;
mod read;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use changeover_conformance::{Family, Subject};
use changeover_core::audit::{
    AuditEvent, AuditFilter, AuditPage, AuditQuery, ChainReport, Create, Created, Retain, Retained,
    VerifyChain,
};
use changeover_core::events::Readiness;
use changeover_core::{AuditRepository, Capabilities, Result, TenantId, Uuid};

use super::{Place, Spoils};

pub(super) fn subjects() -> Vec<Subject> {
    [write::subjects(), read::subjects(), keep::subjects()].concat()
}

fn subject<F: Flaw>() -> Subject {
    Subject::of::<Place<Over<F>>>()
}

/// What is wrong with a repository. What a flaw leaves out is as it should be.
#[async_trait]
trait Flaw: Default + Send + Sync + 'static {
    const NAME: &'static str;

    async fn create(&self, store: &dyn AuditRepository, request: Create) -> Result<Created> {
        store.create(request).await
    }

    async fn query(&self, store: &dyn AuditRepository, request: AuditQuery) -> Result<AuditPage> {
        store.query(request).await
    }

    async fn count(&self, store: &dyn AuditRepository, filter: AuditFilter) -> Result<u64> {
        store.count(filter).await
    }

    async fn verify(&self, store: &dyn AuditRepository, request: VerifyChain) -> Result<ChainReport> {
        store.verify(request).await
    }

    async fn retain(&self, store: &dyn AuditRepository, request: Retain) -> Result<Retained> {
        store.retain(request).await
    }

    /// Spoils each event that is read.
    fn shown(&self, _event: &mut AuditEvent) {}

    async fn close(&self, store: &dyn AuditRepository) -> Result<()> {
        store.close().await
    }

    /// Whose records are shown to a tenant.
    fn tenant(&self, tenant: &TenantId) -> TenantId {
        tenant.clone()
    }
}

/// A flaw of the repository as one of a backend.
#[derive(Default)]
struct Over<F>(F);

impl<F: Flaw> Spoils for Over<F> {
    const NAME: &'static str = F::NAME;
    const STORE: &'static [Family] = &[Family::Audit];

    fn tenant(&self, tenant: &TenantId) -> TenantId {
        self.0.tenant(tenant)
    }

    fn audit(self: Arc<Self>, inner: Arc<dyn AuditRepository>) -> Arc<dyn AuditRepository> {
        Arc::new(Broken { inner, flaw: self })
    }
}

struct Broken<F> {
    inner: Arc<dyn AuditRepository>,
    flaw: Arc<Over<F>>,
}

#[async_trait]
impl<F: Flaw> AuditRepository for Broken<F> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create(&self, request: Create) -> Result<Created> {
        self.flaw.0.create(&*self.inner, request).await
    }

    async fn get(&self, event_id: Uuid) -> Result<Option<AuditEvent>> {
        let mut found = self.inner.get(event_id).await?;
        if let Some(event) = &mut found {
            self.flaw.0.shown(event);
        }
        Ok(found)
    }

    async fn query(&self, request: AuditQuery) -> Result<AuditPage> {
        let mut page = self.flaw.0.query(&*self.inner, request).await?;
        for event in &mut page.events {
            self.flaw.0.shown(event);
        }
        Ok(page)
    }

    async fn count(&self, filter: AuditFilter) -> Result<u64> {
        self.flaw.0.count(&*self.inner, filter).await
    }

    async fn verify(&self, request: VerifyChain) -> Result<ChainReport> {
        self.flaw.0.verify(&*self.inner, request).await
    }

    async fn retain(&self, request: Retain) -> Result<Retained> {
        self.flaw.0.retain(&*self.inner, request).await
    }

    async fn ready(&self) -> Result<Readiness> {
        self.inner.ready().await
    }

    async fn close(&self) -> Result<()> {
        self.flaw.0.close(&*self.inner).await
    }
}
