//! The event store of a module that may move.

use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::backend::Family;
use changeover_core::events::{
    AllPage, Append, Appended, Head, HeadOf, ReadAll, ReadStream, Readiness, StreamPage, Subscribe,
};
use changeover_core::{
    Capabilities, Checkpoint, ConsumerName, EventStore, ModuleScope, OpenBackend, Result, Subscription,
    TenantId,
};

use super::{Kept, Routed, follow};
use crate::home::Patience;

#[async_trait]
impl Kept for dyn EventStore {
    const FAMILY: Family = Family::Events;

    async fn open(backend: &dyn OpenBackend, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<Self>> {
        backend.events(scope, tenant).await
    }

    async fn close(&self) -> Result<()> {
        EventStore::close(self).await
    }
}

#[deny(clippy::missing_trait_methods, reason = "what is left out would not follow the module")]
#[async_trait]
impl EventStore for Routed<dyn EventStore> {
    fn capabilities(&self) -> Capabilities {
        self.current().store.capabilities()
    }

    async fn append(&self, request: Append) -> Result<Appended> {
        let append = |store: Arc<dyn EventStore>| {
            let request = request.clone();
            async move { store.append(request).await }
        };
        self.call(append).await
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.read(request).await
    }

    async fn read_all(&self, request: ReadAll) -> Result<AllPage> {
        self.read(request).await
    }

    async fn head(&self, of: HeadOf) -> Result<Head> {
        self.read(of).await
    }

    async fn tracked(&self, consumer: ConsumerName) -> Result<Option<Checkpoint>> {
        let tracked = |store: Arc<dyn EventStore>| {
            let consumer = consumer.clone();
            async move { store.tracked(consumer).await }
        };
        self.call(tracked).await
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Subscription> {
        follow::subscribe(self, request).await
    }

    async fn ready(&self) -> Result<Readiness> {
        self.call_within(Patience::short(), |current| async move { current.store.ready().await }).await
    }

    async fn close(&self) -> Result<()> {
        self.end().await
    }
}
