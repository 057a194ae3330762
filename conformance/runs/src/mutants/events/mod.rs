//! Event stores that are broken on purpose.

mod append;
mod read;
mod subscribe;

use std::sync::Arc;

use async_trait::async_trait;
use changeover_conformance::{Family, Subject};
use changeover_core::events::{
    AllPage, Append, Appended, Head, HeadOf, ReadAll, ReadStream, Readiness, RecordedEvent, StreamPage,
    Subscribe,
};
use changeover_core::{Capabilities, Checkpoint, ConsumerName, EventStore, Result, Subscription, TenantId};

use super::{Place, Spoils};

pub(super) fn subjects() -> Vec<Subject> {
    [append::subjects(), read::subjects(), subscribe::subjects()].concat()
}

fn subject<F: Flaw>() -> Subject {
    Subject::of::<Place<Over<F>>>()
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

/// A flaw of the event store as one of a backend.
#[derive(Default)]
struct Over<F>(F);

impl<F: Flaw> Spoils for Over<F> {
    const NAME: &'static str = F::NAME;
    const STORE: &'static [Family] = &[Family::Events];

    fn tenant(&self, tenant: &TenantId) -> TenantId {
        self.0.tenant(tenant)
    }

    fn events(self: Arc<Self>, inner: Arc<dyn EventStore>) -> Arc<dyn EventStore> {
        Arc::new(Broken { inner, flaw: self })
    }
}

struct Broken<F> {
    inner: Arc<dyn EventStore>,
    flaw: Arc<Over<F>>,
}

#[async_trait]
impl<F: Flaw> EventStore for Broken<F> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn append(&self, mut request: Append) -> Result<Appended> {
        self.flaw.0.asked(&mut request);
        let answer = self.inner.append(request.clone()).await;
        self.flaw.0.answered(&*self.inner, request, answer).await
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        let mut page = self.flaw.0.read_stream(&*self.inner, request).await?;
        page.events.iter_mut().for_each(|event| self.flaw.0.shown(event));
        Ok(page)
    }

    async fn read_all(&self, request: ReadAll) -> Result<AllPage> {
        let mut page = self.flaw.0.read_all(&*self.inner, request).await?;
        page.events.iter_mut().for_each(|event| self.flaw.0.shown(event));
        Ok(page)
    }

    async fn head(&self, of: HeadOf) -> Result<Head> {
        self.flaw.0.head(&*self.inner, of).await
    }

    async fn tracked(&self, consumer: ConsumerName) -> Result<Option<Checkpoint>> {
        self.flaw.0.tracked(&*self.inner, consumer).await
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Subscription> {
        self.flaw.0.subscribe(Arc::clone(&self.inner), request).await
    }

    async fn ready(&self) -> Result<Readiness> {
        self.inner.ready().await
    }

    async fn close(&self) -> Result<()> {
        self.flaw.0.close(&*self.inner).await
    }
}
