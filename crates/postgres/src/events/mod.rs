//! The event store of one module and tenant.

mod append;
mod read;
mod subscribe;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::backend::Family;
use changeover_core::events::{
    AllPage, Append, Appended, Head, HeadOf, ReadAll, ReadStream, Readiness, StreamPage, Subscribe,
};
use changeover_core::{
    Applied, Capabilities, Checkpoint, Closing, ConsumerName, Error, ErrorKind, EventStore, LogId,
    ModuleScope, Result, Subscription, TenantId, Uuid,
};
use tokio::sync::OnceCell;

pub(crate) use append::{Arrays, Outcome, answers};
pub(crate) use subscribe::Wakes;

use crate::gate::Gate;
use crate::lane::{Key, Lane, Writes};
use crate::module::{applied_ids, capabilities, check_schema, explained, facts, no_module, soon, unreadable};
use crate::pool::{Pools, closed};
use crate::statements::{Statements, channel};

/// A module's log as one tenant sees it; shared by the handles of that tenant.
pub(crate) struct Log {
    pub scope: ModuleScope,
    pub tenant: TenantId,
    pub statements: Statements,
    pools: Arc<Pools>,
    wakes: Arc<Wakes>,
    channel: String,
    /// Whether audit records of this set-up are chained by hash.
    chained: bool,
    gate: Gate,
    id: OnceCell<LogId>,
}

impl Log {
    pub(crate) fn new(
        scope: &ModuleScope,
        tenant: &TenantId,
        pools: Arc<Pools>,
        wakes: Arc<Wakes>,
        chained: bool,
        looks: bool,
    ) -> Self {
        Self {
            scope: scope.clone(),
            tenant: tenant.clone(),
            statements: Statements::of(scope),
            pools,
            wakes,
            channel: channel(scope),
            chained,
            gate: Gate::new(scope, looks),
            id: OnceCell::new(),
        }
    }

    /// The identity of the log, asked for once.
    pub(crate) async fn id(&self) -> Result<LogId> {
        self.id
            .get_or_try_init(|| async {
                let mut conn = self.pools.get().await?;
                let module = self.scope.module.as_str();
                let rows = conn.read(&self.statements.module, &[&module]).await?;
                let row = rows.first().ok_or_else(|| no_module(module))?;
                // Here, since everything asks for the id first: nothing is written or read by a schema of another
                // program.
                let ready = conn.read(&self.statements.ready, &[&module]).await?;
                let applied = applied_ids(ready.first().ok_or_else(unreadable)?)?;
                check_schema(Family::Events, module, applied.as_deref())?;
                Ok(LogId(row.try_get::<_, Uuid>(0).map_err(|_| unreadable())?))
            })
            .await
            .copied()
    }

    /// Stores the requests by one call, each on its own terms.
    pub(crate) async fn append_all(&self, requests: &[&Append]) -> Result<Vec<Result<Appended>>> {
        let log = self.id().await.map_err(|error| error.applied(Applied::No))?;
        let mut conn = self.pools.get().await.map_err(|error| error.applied(Applied::No))?;
        let arrays = Arrays::of(requests);
        let tenant = self.tenant.as_str();
        let rows = match conn.write(&self.statements.append, &arrays.params(&tenant)).await {
            Ok(rows) => rows,
            Err(error) => return Err(explained(&mut conn, &self.scope, error).await),
        };
        let outcomes = rows.iter().map(Outcome::of).collect::<Result<Vec<_>, _>>();
        Ok(answers(requests, &outcomes.map_err(|_| unreadable().applied(Applied::Unknown))?, log))
    }

    /// Tells subscribers, here and elsewhere, that there is something to read.
    pub(crate) fn announce(&self) {
        self.wakes.announce(&self.channel);
    }
}

impl Writes for Log {
    type Request = Append;
    type Answer = Appended;

    fn size(request: &Append) -> (usize, usize) {
        let events = request.streams.iter().flat_map(|part| &part.events);
        events.fold((0, 0), |(count, bytes), event| {
            (count + 1, bytes + event.data.as_str().len() + event.metadata.as_str().len())
        })
    }

    /// Streams, event ids and the consumer.
    fn keys(request: &Append, hasher: &RandomState) -> Vec<Key> {
        let streams = request.streams.iter().map(|part| hasher.hash_one(&part.stream));
        let events = request.streams.iter().flat_map(|part| &part.events).map(|it| hasher.hash_one(it.id));
        let consumer = request.track.iter().map(|track| hasher.hash_one(&track.consumer));
        streams.chain(events).chain(consumer).map(|hash| Key { hash, refers: false }).collect()
    }

    async fn store(&self, requests: &[&Append]) -> Result<Vec<Result<Appended>>> {
        self.append_all(requests).await
    }

    fn stored(&self, answers: &[Result<Appended>]) {
        if answers.iter().flatten().any(|answer| !answer.repeated) {
            self.announce();
        }
    }
}

/// A handle.
pub(crate) struct PostgresEvents {
    log: Arc<Log>,
    /// `None`: every append commits on its own.
    lane: Option<Arc<Lane<Log>>>,
    closing: Closing,
}

impl PostgresEvents {
    pub(crate) fn new(log: Arc<Log>, lane: Option<Arc<Lane<Log>>>) -> Self {
        Self { log, lane, closing: Closing::default() }
    }

    fn check_open(&self) -> Result<()> {
        if self.closing.is_closed() || self.log.pools.is_closed() { Err(closed()) } else { Ok(()) }
    }

    async fn append_one(&self, request: Append) -> Result<Appended> {
        self.check_open().map_err(|error| error.applied(Applied::No))?;
        check(&request, &self.log).await.map_err(|error| error.applied(Applied::No))?;
        if let Some(lane) = &self.lane {
            return lane.write(request).await;
        }
        // In a task of its own, so that a caller who goes away leaves nothing half done.
        let log = Arc::clone(&self.log);
        let task = tokio::spawn(async move {
            let answer = log.append_all(&[&request]).await?.pop().unwrap_or_else(|| Err(unreadable()))?;
            if !answer.repeated {
                log.announce();
            }
            Ok(answer)
        });
        task.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unexpected, "the task that writes has ended").applied(Applied::Unknown))
        })
    }
}

/// The rules that hold before anything is asked of the database.
pub(crate) async fn check(request: &Append, log: &Log) -> Result<()> {
    request.validate()?;
    if let Some(track) = &request.track {
        track.checkpoint.position_in(log.id().await?)?;
    }
    Ok(())
}

#[async_trait]
impl EventStore for PostgresEvents {
    fn capabilities(&self) -> Capabilities {
        capabilities(self.log.chained)
    }

    async fn append(&self, request: Append) -> Result<Appended> {
        self.append_one(request).await.map_err(|error| error.during("events.append"))
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.check_open()?;
        self.log.read_stream(&request).await.map_err(|error| error.during("events.read_stream"))
    }

    async fn read_all(&self, request: ReadAll) -> Result<AllPage> {
        self.check_open()?;
        self.log.read_all(&request).await.map_err(|error| error.during("events.read_all"))
    }

    async fn head(&self, of: HeadOf) -> Result<Head> {
        self.check_open()?;
        self.log.head(&of).await.map_err(|error| error.during("events.head"))
    }

    async fn tracked(&self, consumer: ConsumerName) -> Result<Option<Checkpoint>> {
        self.check_open()?;
        self.log.tracked(&consumer).await.map_err(|error| error.during("events.tracked"))
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Subscription> {
        self.check_open()?;
        let started = subscribe::start(&self.log, &self.closing, request).await;
        started.map_err(|error| error.during("events.subscribe"))
    }

    async fn ready(&self) -> Result<Readiness> {
        self.check_open()?;
        soon(self.log.ready(), "events.ready").await
    }

    async fn close(&self) -> Result<()> {
        self.closing.close();
        Ok(())
    }
}

impl Log {
    async fn ready(&self) -> Result<Readiness> {
        let mut conn = self.pools.get().await?;
        let mut notes = facts(&mut conn, &self.scope, Family::Events).await?;
        notes.push(self.pools.note());
        Ok(Readiness { notes })
    }
}
