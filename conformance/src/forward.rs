//! A store in front of a store that passes everything on: what every layer starts from.

use async_trait::async_trait;
use changeover_core::events::{
    AllPage, Append, Appended, Head, HeadOf, ReadAll, ReadStream, Readiness, StreamPage, Subscribe,
};
use changeover_core::{Capabilities, Checkpoint, ConsumerName, EventStore, Result, Subscription};
use std::sync::Arc;

pub(crate) struct Forward(pub(crate) Arc<dyn EventStore>);

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that leaves a method out changes the store behind it"
)]
#[async_trait]
impl EventStore for Forward {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn append(&self, request: Append) -> Result<Appended> {
        self.0.append(request).await
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.0.read_stream(request).await
    }

    async fn read_all(&self, request: ReadAll) -> Result<AllPage> {
        self.0.read_all(request).await
    }

    async fn head(&self, of: HeadOf) -> Result<Head> {
        self.0.head(of).await
    }

    async fn tracked(&self, consumer: ConsumerName) -> Result<Option<Checkpoint>> {
        self.0.tracked(consumer).await
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Subscription> {
        self.0.subscribe(request).await
    }

    async fn ready(&self) -> Result<Readiness> {
        self.0.ready().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}
