//! The suite proves itself: stores that are broken on purpose, each in one way, and the cases that must find each out.
//!
//! A mutant is the reference backend with a flaw in front of one of its stores. Every case of that store runs on it; the
//! cases that fail must be those listed in [`expected`], all of them and no others.

mod audit;
mod events;
mod expected;
mod playbooks;

use std::sync::Arc;

use async_trait::async_trait;
use changeover_conformance::{
    AuditTamper, Column, Family, Fault, Faults, Harness, Mutant, Outcome, StartError, Subject, run,
};
use changeover_core::backend::{Check, Migrations};
use changeover_core::cutover::CutoverSide;
use changeover_core::{
    AuditRepository, Backend, BackendSettings, EventStore, ModuleScope, OpenBackend, PlaybookCatalog, Result,
    TenantId,
};
use changeover_memory::Memory;
use futures::StreamExt;

use crate::memory::tamper_with;

/// Runs every case of these stores on every mutant of them, `parallel` mutants at a time. Silences panics meanwhile: cases
/// fail here on purpose, hundreds of times.
pub async fn mutants(stores: &[Family], parallel: usize) -> Vec<Mutant> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let chosen =
        subjects().into_iter().filter(|subject| subject.stores.iter().any(|store| stores.contains(store)));
    let found = futures::stream::iter(chosen).map(killers).buffered(parallel.max(1)).collect().await;
    std::panic::set_hook(hook);
    found
}

async fn killers(subject: Subject) -> Mutant {
    let killed_by = match run(subject, 4).await {
        Column::Ran(results) => {
            let failed = results.into_iter().filter(|case| matches!(case.result, Outcome::Failed(_)));
            failed.map(|case| case.id).collect()
        }
        Column::NotStarted(_) | Column::NotCertified(_) => Vec::new(),
    };
    let expected = expected::of(subject.name).iter().map(|id| (*id).to_owned()).collect();
    Mutant { name: subject.name.to_owned(), expected, killed_by }
}

fn subjects() -> Vec<Subject> {
    [events::subjects(), audit::subjects(), playbooks::subjects()].concat()
}

/// What is wrong with a backend: one of its stores, with something in front that spoils it. What is left out is as it
/// should be.
trait Spoils: Default + Send + Sync + 'static {
    const NAME: &'static str;
    /// The store that it spoils: its cases are asked, no others.
    const STORE: &'static [Family];

    /// Whose records are shown to a tenant.
    fn tenant(&self, tenant: &TenantId) -> TenantId {
        tenant.clone()
    }

    fn events(self: Arc<Self>, inner: Arc<dyn EventStore>) -> Arc<dyn EventStore> {
        inner
    }

    fn audit(self: Arc<Self>, inner: Arc<dyn AuditRepository>) -> Arc<dyn AuditRepository> {
        inner
    }

    fn playbooks(self: Arc<Self>, inner: Arc<dyn PlaybookCatalog>) -> Arc<dyn PlaybookCatalog> {
        inner
    }
}

/// The place of one case.
struct Place<F> {
    memory: Memory,
    flaw: Arc<F>,
}

#[async_trait]
impl<F: Spoils> Harness for Place<F> {
    const NAME: &str = F::NAME;
    const STORES: &[Family] = F::STORE;

    async fn start() -> Result<Self, StartError> {
        Ok(Self { memory: Memory::new(), flaw: Arc::default() })
    }

    async fn client(&self) -> Arc<dyn OpenBackend> {
        // Opening memory asks nobody: it fails only on settings it does not know, and is given none.
        let inner = self.memory.open(&BackendSettings::new("memory")).await.expect("memory opens");
        Arc::new(Broken { inner, flaw: Arc::clone(&self.flaw) })
    }

    fn faults(&self) -> &dyn Faults {
        self
    }
}

#[async_trait]
impl<F: Spoils> Faults for Place<F> {
    async fn tamper_audit(&self, tamper: AuditTamper) -> Fault<()> {
        let tenant = self.flaw.tenant(&self.tenant());
        tamper_with(&self.memory, &self.scope_of(Family::Audit), &tenant, tamper);
        Ok(())
    }
}

struct Broken<F> {
    inner: Arc<dyn OpenBackend>,
    flaw: Arc<F>,
}

#[async_trait]
impl<F: Spoils> OpenBackend for Broken<F> {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn events(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn EventStore>> {
        let inner = self.inner.events(scope, &self.flaw.tenant(tenant)).await?;
        Ok(Arc::clone(&self.flaw).events(inner))
    }

    async fn audit(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn AuditRepository>> {
        let inner = self.inner.audit(scope, &self.flaw.tenant(tenant)).await?;
        Ok(Arc::clone(&self.flaw).audit(inner))
    }

    async fn playbooks(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn PlaybookCatalog>> {
        let inner = self.inner.playbooks(scope, &self.flaw.tenant(tenant)).await?;
        Ok(Arc::clone(&self.flaw).playbooks(inner))
    }

    fn migrations(&self, scope: &ModuleScope, family: Family) -> Result<Arc<dyn Migrations>> {
        self.inner.migrations(scope, family)
    }

    async fn owner(&self, scope: &ModuleScope) -> Result<Option<String>> {
        self.inner.owner(scope).await
    }

    async fn claim(&self, scope: &ModuleScope) -> Result<bool> {
        self.inner.claim(scope).await
    }

    fn cutover(&self, scope: &ModuleScope) -> Result<CutoverSide> {
        self.inner.cutover(scope)
    }

    async fn check(&self) -> Vec<Check> {
        self.inner.check().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
