//! The event store over a [`Log`]: the lock, the closed handles, and the task of a subscription.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use changeover_core::events::{
    AllPage, Append, Appended, EventFilter, Head, HeadOf, ReadAll, ReadStream, Readiness, StreamPage,
    Subscribe,
};
use changeover_core::{
    Applied, Capabilities, Checkpoint, ConsumerName, Error, ErrorKind, EventStore, Feed, Limit, LogId,
    ModuleScope, Result, Subscription, TenantId, Uuid, subscription,
};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::latch::Latch;
use crate::log::Log;
use crate::{OpenMemory, Shared, capabilities};

/// The handle of one module and tenant.
#[derive(Clone)]
pub(crate) struct MemoryEvents {
    shared: Arc<Shared>,
    scope: ModuleScope,
    tenant: TenantId,
    hash_chain: bool,
    latch: Latch,
}

impl MemoryEvents {
    pub(crate) fn new(backend: &OpenMemory, scope: ModuleScope, tenant: TenantId) -> Self {
        let latch = Latch::new(&backend.closed);
        Self { shared: Arc::clone(&backend.shared), scope, tenant, hash_chain: backend.hash_chain, latch }
    }

    /// Does `work` on the log, unless the handle was closed, and names the operation in its error.
    async fn with_log<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Log) -> Result<T>,
    ) -> Result<T> {
        self.latch.check(operation).await?;
        work(self.shared.lock().entry(self.scope.clone()).or_insert_with(|| Log::new(LogId(Uuid::new_v4()))))
            .map_err(|error| error.during(operation))
    }
}

#[async_trait]
impl EventStore for MemoryEvents {
    fn capabilities(&self) -> Capabilities {
        capabilities(self.hash_chain)
    }

    async fn append(&self, request: Append) -> Result<Appended> {
        let now = (self.shared.clock)();
        self.with_log("events.append", |log| log.append(&self.tenant, request, now))
            .await
            .map_err(|error| error.applied(Applied::No))
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.with_log("events.read_stream", |log| log.read_stream(&self.tenant, &request)).await
    }

    async fn read_all(&self, request: ReadAll) -> Result<AllPage> {
        self.with_log("events.read_all", |log| log.read_all(&self.tenant, &request)).await
    }

    async fn head(&self, of: HeadOf) -> Result<Head> {
        self.with_log("events.head", |log| Ok(log.head(&self.tenant, &of))).await
    }

    async fn tracked(&self, consumer: ConsumerName) -> Result<Option<Checkpoint>> {
        self.with_log("events.tracked", |log| Ok(log.tracked(&self.tenant, &consumer))).await
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Subscription> {
        let operation = "events.subscribe";
        let (start, stored) = self
            .with_log(operation, |log| {
                request.validate()?;
                let start = request.after.unwrap_or(Checkpoint::start(log.id()));
                log.position_of(start)?;
                Ok((start, log.watch()))
            })
            .await?;
        let runtime = Handle::try_current().map_err(|_| {
            let message = "a subscription needs a tokio runtime; subscribe within one";
            Error::new(ErrorKind::Config, message).during(operation)
        })?;
        let feed = MemoryFeed { store: self.clone(), filter: request.filter.clone(), stored };
        let (subscription, run) = subscription(feed, start, &request);
        let task = runtime.spawn(run).abort_handle();
        Ok(subscription.on_drop(move || task.abort()))
    }

    async fn ready(&self) -> Result<Readiness> {
        let notes = vec!["records in memory, which end with the process".to_owned()];
        self.with_log("events.ready", |_| Ok(Readiness { notes })).await
    }

    async fn close(&self) -> Result<()> {
        self.latch.close();
        Ok(())
    }
}

struct MemoryFeed {
    store: MemoryEvents,
    filter: EventFilter,
    stored: watch::Receiver<()>,
}

#[async_trait]
impl Feed for MemoryFeed {
    async fn page(&mut self, after: Checkpoint) -> Result<AllPage> {
        let request = ReadAll { after: Some(after), filter: self.filter.clone(), limit: Limit::default() };
        self.store.read_all(request).await
    }

    async fn wait(&mut self) {
        // Never an error: the log, which sends, lives as long as `store`. Nothing polls, since a watch loses nothing.
        let _ = self.stored.changed().await;
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.store.latch.closed()
    }
}
