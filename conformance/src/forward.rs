//! A store in front of a store that passes everything on: what every layer starts from.

use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::audit::{
    AuditEvent, AuditFilter, AuditPage, AuditQuery, ChainReport, Create, Created, Retain, Retained,
    VerifyChain,
};
use changeover_core::events::{
    AllPage, Append, Appended, Head, HeadOf, ReadAll, ReadStream, Readiness, StreamPage, Subscribe,
};
use changeover_core::playbooks::{
    Change, GetPlaybook, ListPlaybooks, Playbook, PlaybookPage, Put, PutReport, Search, SearchResult,
    VersionsOf,
};
use changeover_core::{
    AuditRepository, Capabilities, Checkpoint, ConsumerName, EventStore, PlaybookCatalog, Result,
    Subscription, Uuid,
};

pub(crate) struct Forward<T: ?Sized>(pub(crate) Arc<T>);

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that leaves a method out changes the store behind it"
)]
#[async_trait]
impl EventStore for Forward<dyn EventStore> {
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

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that leaves a method out changes the store behind it"
)]
#[async_trait]
impl AuditRepository for Forward<dyn AuditRepository> {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn create(&self, request: Create) -> Result<Created> {
        self.0.create(request).await
    }

    async fn get(&self, event_id: Uuid) -> Result<Option<AuditEvent>> {
        self.0.get(event_id).await
    }

    async fn query(&self, request: AuditQuery) -> Result<AuditPage> {
        self.0.query(request).await
    }

    async fn count(&self, filter: AuditFilter) -> Result<u64> {
        self.0.count(filter).await
    }

    async fn verify(&self, request: VerifyChain) -> Result<ChainReport> {
        self.0.verify(request).await
    }

    async fn retain(&self, request: Retain) -> Result<Retained> {
        self.0.retain(request).await
    }

    async fn ready(&self) -> Result<Readiness> {
        self.0.ready().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that leaves a method out changes the store behind it"
)]
#[async_trait]
impl PlaybookCatalog for Forward<dyn PlaybookCatalog> {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn put(&self, request: Put) -> Result<PutReport> {
        self.0.put(request).await
    }

    async fn change(&self, request: Change) -> Result<Playbook> {
        self.0.change(request).await
    }

    async fn get(&self, request: GetPlaybook) -> Result<Option<Playbook>> {
        self.0.get(request).await
    }

    async fn list(&self, request: ListPlaybooks) -> Result<PlaybookPage> {
        self.0.list(request).await
    }

    async fn versions(&self, request: VersionsOf) -> Result<PlaybookPage> {
        self.0.versions(request).await
    }

    async fn search(&self, request: Search) -> Result<SearchResult> {
        self.0.search(request).await
    }

    async fn ready(&self) -> Result<Readiness> {
        self.0.ready().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}
