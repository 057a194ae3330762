//! The suite proves itself: stores that are broken on purpose, each in one way, and the cases that must find each out.
//!
//! A mutant is the reference backend with a [`Flaw`] in front of it. Every case runs on every mutant; the cases that
//! fail must be those listed in [`expected`], all of them and no others.

mod append;
mod expected;
mod read;
mod subscribe;

use std::sync::Arc;

use async_trait::async_trait;
use changeover_conformance::{Column, Faults, Harness, Mutant, Outcome, StartError, Subject, run};
use changeover_core::backend::{Check, Family, Migrations};
use changeover_core::events::{
    AllPage, Append, Appended, Head, HeadOf, ReadAll, ReadStream, Readiness, RecordedEvent, StreamPage,
    Subscribe,
};
use changeover_core::{
    AuditRepository, Backend, BackendSettings, Capabilities, Checkpoint, ConsumerName, EventStore,
    ModuleScope, OpenBackend, PlaybookCatalog, Result, Subscription, TenantId,
};
use changeover_memory::Memory;
use futures::StreamExt;

/// Runs every case on every mutant, `parallel` mutants at a time. Silences panics meanwhile: cases fail here on
/// purpose, hundreds of times.
pub async fn mutants(parallel: usize) -> Vec<Mutant> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = futures::stream::iter(subjects()).map(killers).buffered(parallel.max(1)).collect().await;
    std::panic::set_hook(hook);
    found
}

async fn killers(subject: Subject) -> Mutant {
    let killed_by = match run(subject, 4).await {
        Column::Ran(results) => {
            let failed = results.into_iter().filter(|case| case.result != Outcome::Passed);
            failed.map(|case| case.id).collect()
        }
        Column::NotStarted(_) | Column::NotCertified(_) => Vec::new(),
    };
    let expected = expected::of(subject.name).iter().map(|id| (*id).to_owned()).collect();
    Mutant { name: subject.name.to_owned(), expected, killed_by }
}

fn subjects() -> Vec<Subject> {
    [append::subjects(), read::subjects(), subscribe::subjects()].concat()
}

/// What is wrong with a store. What a flaw leaves out is as it should be.
#[async_trait]
trait Flaw: Default + Send + Sync + 'static {
    const NAME: &'static str;

    /// Spoils an append before it is judged.
    fn asked(&self, _request: &mut Append) {}

    /// Spoils its answer.
    async fn answered(
        &self,
        _store: &dyn EventStore,
        _request: Append,
        answer: Result<Appended>,
    ) -> Result<Appended> {
        answer
    }

    /// Spoils each event that is read.
    fn shown(&self, _event: &mut RecordedEvent) {}

    async fn read_stream(&self, store: &dyn EventStore, request: ReadStream) -> Result<StreamPage> {
        store.read_stream(request).await
    }

    async fn read_all(&self, store: &dyn EventStore, request: ReadAll) -> Result<AllPage> {
        store.read_all(request).await
    }

    async fn head(&self, store: &dyn EventStore, of: HeadOf) -> Result<Head> {
        store.head(of).await
    }

    async fn tracked(&self, store: &dyn EventStore, consumer: ConsumerName) -> Result<Option<Checkpoint>> {
        store.tracked(consumer).await
    }

    async fn subscribe(&self, store: Arc<dyn EventStore>, request: Subscribe) -> Result<Subscription> {
        store.subscribe(request).await
    }

    async fn close(&self, store: &dyn EventStore) -> Result<()> {
        store.close().await
    }

    /// Whose records are shown to a tenant.
    fn tenant(&self, tenant: &TenantId) -> TenantId {
        tenant.clone()
    }
}

fn subject<F: Flaw>() -> Subject {
    Subject::of::<Place<F>>()
}

/// The place of one case.
struct Place<F> {
    memory: Memory,
    flaw: Arc<F>,
}

#[async_trait]
impl<F: Flaw> Harness for Place<F> {
    const NAME: &str = F::NAME;

    async fn start() -> Result<Self, StartError> {
        Ok(Self { memory: Memory::new(), flaw: Arc::default() })
    }

    async fn client(&self) -> Arc<dyn OpenBackend> {
        // Opening memory asks nobody: it fails only on settings it does not know, and is given none.
        let inner = self.memory.open(&BackendSettings::new("memory")).await.expect("memory opens");
        Arc::new(Broken { inner, flaw: Arc::clone(&self.flaw) })
    }

    fn faults(&self) -> &dyn Faults {
        &changeover_conformance::NoFaults
    }
}

struct Broken<F, T: ?Sized> {
    inner: Arc<T>,
    flaw: Arc<F>,
}

#[async_trait]
impl<F: Flaw> OpenBackend for Broken<F, dyn OpenBackend> {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn events(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn EventStore>> {
        let inner = self.inner.events(scope, &self.flaw.tenant(tenant)).await?;
        Ok(Arc::new(Broken { inner, flaw: Arc::clone(&self.flaw) }))
    }

    async fn audit(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn AuditRepository>> {
        self.inner.audit(scope, tenant).await
    }

    async fn playbooks(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn PlaybookCatalog>> {
        self.inner.playbooks(scope, tenant).await
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

    async fn check(&self) -> Vec<Check> {
        self.inner.check().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl<F: Flaw> EventStore for Broken<F, dyn EventStore> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn append(&self, mut request: Append) -> Result<Appended> {
        self.flaw.asked(&mut request);
        let answer = self.inner.append(request.clone()).await;
        self.flaw.answered(&*self.inner, request, answer).await
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        let mut page = self.flaw.read_stream(&*self.inner, request).await?;
        page.events.iter_mut().for_each(|event| self.flaw.shown(event));
        Ok(page)
    }

    async fn read_all(&self, request: ReadAll) -> Result<AllPage> {
        let mut page = self.flaw.read_all(&*self.inner, request).await?;
        page.events.iter_mut().for_each(|event| self.flaw.shown(event));
        Ok(page)
    }

    async fn head(&self, of: HeadOf) -> Result<Head> {
        self.flaw.head(&*self.inner, of).await
    }

    async fn tracked(&self, consumer: ConsumerName) -> Result<Option<Checkpoint>> {
        self.flaw.tracked(&*self.inner, consumer).await
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Subscription> {
        self.flaw.subscribe(Arc::clone(&self.inner), request).await
    }

    async fn ready(&self) -> Result<Readiness> {
        self.inner.ready().await
    }

    async fn close(&self) -> Result<()> {
        self.flaw.close(&*self.inner).await
    }
}
