//! Audit repositories that are broken on purpose.

use std::sync::Arc;

use async_trait::async_trait;
use changeover_conformance::{Family, Subject};
use changeover_core::audit::{
    AuditEvent, AuditFilter, AuditPage, AuditQuery, ChainReport, Create, Created, Retain, Retained,
    VerifyChain,
};
use changeover_core::events::Readiness;
use changeover_core::{AuditRepository, Capabilities, Error, ErrorKind, Result, TenantId, Uuid};

use super::{Place, Spoils};

pub(super) fn subjects() -> Vec<Subject> {
    vec![subject::<ConflictSwallowed>()]
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
        self.inner.get(event_id).await
    }

    async fn query(&self, request: AuditQuery) -> Result<AuditPage> {
        self.flaw.0.query(&*self.inner, request).await
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
        self.inner.close().await
    }
}

#[derive(Default)]
struct ConflictSwallowed;

#[async_trait]
impl Flaw for ConflictSwallowed {
    const NAME: &'static str = "a taken id with other content is taken for a repeated one";

    async fn create(&self, store: &dyn AuditRepository, request: Create) -> Result<Created> {
        let repeated = request.events.len();
        match store.create(request).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Created { stored: 0, repeated }),
            other => other,
        }
    }
}
