//! Read models that are kept from a module's events, in tables of the user's own.
//!
//! The position up to which events were applied is recorded in the same transaction as the rows they make: by
//! [`Track`], in the store's own table of consumers. So after a crash the next run goes on where the rows are, and no
//! event is applied twice or passed over.
//!
//! ```no_run
//! use async_trait::async_trait;
//! use changeover::events::{EventFilter, RecordedEvent};
//! use changeover::{Projection, Projector, RunQueryDsl, Tx, TxError};
//! use diesel::prelude::*;
//!
//! diesel::table! {
//!     shipments (id) { id -> Text, parcels -> Integer }
//! }
//!
//! struct Shipments;
//!
//! #[async_trait]
//! impl Projection for Shipments {
//!     fn name(&self) -> &str {
//!         "shipments"
//!     }
//!
//!     fn filter(&self) -> EventFilter {
//!         EventFilter::default()
//!     }
//!
//!     async fn apply(&self, tx: &mut Tx, event: &RecordedEvent) -> Result<(), TxError> {
//!         let row = (shipments::id.eq(event.stream.aggregate_id.to_string()), shipments::parcels.eq(1));
//!         diesel::insert_into(shipments::table).values(row).execute(tx.conn()).await?;
//!         Ok(())
//!     }
//!
//!     async fn clear(&self, tx: &mut Tx) -> Result<(), TxError> {
//!         diesel::delete(shipments::table).execute(tx.conn()).await?;
//!         Ok(())
//!     }
//! }
//!
//! # async fn example() -> Result<(), TxError> {
//! let db = changeover::connect().await?;
//! let projector = Projector::new(db.module("orders")?, Shipments)?;
//! projector.catch_up().await?; // and again whenever a subscription says that there is more
//! # Ok(())
//! # }
//! ```

use std::fmt;

use async_trait::async_trait;
use changeover_core::events::{Append, EventFilter, ReadAll, RecordedEvent, Track};
use changeover_core::{Checkpoint, ConsumerName, Detail, Limit, Result};

use crate::module::Module;
use crate::transaction::{Tx, TxError};

/// What is made of events. Which rows an event makes may depend on the events before it and on nothing else, or a rebuild
/// gives another read model.
#[async_trait]
pub trait Projection: Send + Sync {
    /// The name that the position is recorded under, of its own within the module.
    fn name(&self) -> &str;

    /// The events that are wanted. Another filter means another read model: rebuild after a change.
    fn filter(&self) -> EventFilter;

    /// Writes what the event means, by the connection of the transaction only. Called for each event in the order of the
    /// log; an error takes the whole batch back.
    async fn apply(&self, tx: &mut Tx, event: &RecordedEvent) -> Result<(), TxError>;

    /// Removes every row that [`Projection::apply`] may have made.
    async fn clear(&self, tx: &mut Tx) -> Result<(), TxError>;
}

/// How far a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many events were applied.
    pub applied: u64,
    /// Up to where, `None` if nothing was ever looked at.
    pub checkpoint: Option<Checkpoint>,
    /// Whether nothing newer was committed.
    pub caught_up: bool,
}

/// Runs a [`Projection`] over the events of a module, in the database that owns the module. Several runners of one
/// projection take turns.
pub struct Projector<P> {
    module: Module,
    projection: P,
    consumer: ConsumerName,
    batch: Limit,
}

impl<P: Projection> Projector<P> {
    /// A runner that takes 500 events at a time. `Invalid` if the projection's name cannot be that of a consumer.
    pub fn new(module: Module, projection: P) -> Result<Self> {
        let consumer = ConsumerName::new(projection.name())?;
        Ok(Self { module, projection, consumer, batch: Limit::new(500)? })
    }

    /// The same, with this many events a transaction at most.
    #[must_use]
    pub fn batch(self, batch: Limit) -> Self {
        Self { batch, ..self }
    }

    /// Up to where events were applied; `None` if none ever were.
    pub async fn position(&self) -> Result<Option<Checkpoint>> {
        self.module.events().store().await?.tracked(self.consumer.clone()).await
    }

    /// Applies the next batch: its rows and the new position are stored together or not at all. Where another runner was
    /// faster nothing is applied, and the answer says how far that one came.
    pub async fn run_once(&self) -> Result<Progress, TxError> {
        let store = self.module.events().store().await?;
        let from = store.tracked(self.consumer.clone()).await?;
        let request = ReadAll { after: from, filter: self.projection.filter(), limit: self.batch };
        let page = store.read_all(request).await?;
        let nothing = Progress { applied: 0, checkpoint: from, caught_up: page.caught_up };
        if from.map_or(0, |from| from.position()) == page.checkpoint.position() {
            return Ok(nothing);
        }
        let work = self.module.transaction(async |tx| {
            let now = tx.turn(&self.consumer).await?;
            if now != from {
                return Ok(Progress { checkpoint: now, caught_up: false, ..nothing });
            }
            for event in &page.events {
                self.projection.apply(tx, event).await?;
            }
            let track = Track { consumer: self.consumer.clone(), checkpoint: page.checkpoint };
            tx.flush_last(Append { streams: Vec::new(), track: Some(track) });
            Ok(Progress {
                applied: page.events.len() as u64,
                checkpoint: Some(page.checkpoint),
                caught_up: page.caught_up,
            })
        });
        match work.await {
            // A runner without this turn, such as an older program.
            Err(TxError::Store(error)) => match error.detail() {
                Some(Detail::Tracked { recorded }) => {
                    Ok(Progress { checkpoint: Some(*recorded), caught_up: false, ..nothing })
                }
                _ => Err(error.into()),
            },
            other => other,
        }
    }

    /// Runs until nothing newer was committed; what was applied before an error stays applied.
    pub async fn catch_up(&self) -> Result<Progress, TxError> {
        let mut applied = 0;
        loop {
            let progress = self.run_once().await?;
            applied += progress.applied;
            if progress.caught_up {
                return Ok(Progress { applied, ..progress });
            }
        }
    }

    /// Makes the read model anew from the first event up to the recorded position, in one transaction: readers see the old
    /// one until it commits, and a failure leaves that. The position stays.
    ///
    /// Other runners wait meanwhile, on SQLite every writer of the file; and it reads by a second connection of the pool.
    pub async fn rebuild(&self) -> Result<Progress, TxError> {
        let store = self.module.events().store().await?;
        let work = self.module.transaction(async |tx| {
            let end = tx.turn(&self.consumer).await?;
            self.projection.clear(tx).await?;
            let mut done = Progress { applied: 0, checkpoint: end, caught_up: false };
            let mut request = ReadAll { after: None, filter: self.projection.filter(), limit: self.batch };
            while let Some(end) = end {
                let page = store.read_all(request.clone()).await?;
                for event in page.events.iter().filter(|event| event.checkpoint <= end) {
                    self.projection.apply(tx, event).await?;
                    done.applied += 1;
                }
                if page.caught_up || page.checkpoint >= end {
                    done.caught_up = page.caught_up && page.checkpoint == end;
                    break;
                }
                request.after = Some(page.checkpoint);
            }
            Ok(done)
        });
        work.await
    }
}

impl<P: Projection> fmt::Debug for Projector<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projector").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}
