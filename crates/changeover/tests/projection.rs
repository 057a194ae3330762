//! Read models in tables of the user's own (X-ES-025), on both SQL databases by the same code.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use changeover::events::{EventFilter, Expected, RecordedEvent};
use changeover::{Limit, Module, Projection, Projector, RunQueryDsl, Tx, TxError, Uuid};
use common::{OrderEvent, Place, Shipment, Sql, place, placed, rows, shipments};
use diesel::prelude::*;
use rstest::rstest;

/// A row a stream, which counts its events: one applied twice or passed over shows.
#[derive(Clone, Default)]
struct Counted {
    /// Fails at this many events from now, 0 for never.
    fails_in: Arc<AtomicI64>,
    hangs: bool,
}

#[async_trait]
impl Projection for Counted {
    fn name(&self) -> &'static str {
        "counted"
    }

    fn filter(&self) -> EventFilter {
        EventFilter::default()
    }

    async fn apply(&self, tx: &mut Tx, event: &RecordedEvent) -> Result<(), TxError> {
        let id = event.stream.aggregate_id.to_string();
        let row = shipments::table.filter(shipments::id.eq(&id));
        let more = diesel::update(row).set(shipments::parcels.eq(shipments::parcels + 1));
        if more.execute(tx.conn()).await? == 0 {
            let row = Shipment { id, parcels: 1, note: Some(event.event_type.to_string()) };
            diesel::insert_into(shipments::table).values(row).execute(tx.conn()).await?;
        }
        if self.fails_in.fetch_sub(1, Ordering::SeqCst) == 1 {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            return Err(TxError::refused("crashed"));
        }
        Ok(())
    }

    async fn clear(&self, tx: &mut Tx) -> Result<(), TxError> {
        diesel::delete(shipments::table).execute(tx.conn()).await?;
        Ok(())
    }
}

fn projector(module: &Module, projection: &Counted, batch: i64) -> Projector<Counted> {
    let batch = Limit::new(batch).unwrap();
    Projector::new(module.clone(), projection.clone()).unwrap().batch(batch)
}

/// Streams of 1 to `streams` events, mixed.
async fn fill(place: &Place, streams: usize) -> i64 {
    let orders = place.db.events("orders").unwrap().typed::<OrderEvent>();
    let ids: Vec<_> = (0..streams).map(|_| Uuid::now_v7()).collect();
    let mut count = 0;
    for round in 0..streams {
        for id in &ids[round..] {
            orders.append(*id, Expected::Any, [placed("lamp")]).await.unwrap();
            count += 1;
        }
    }
    count
}

async fn counted(place: &Place) -> i64 {
    rows(&place.db).await.iter().map(|row| i64::from(row.parcels)).sum()
}

// X-ES-025: a crash in the middle of a batch, by an error or by a dropped future, leaves rows and position as they were
// together; the next runner goes on from there and no event is applied twice.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_projection_resumes_after_a_crash_where_its_rows_are(#[case] sql: Sql) {
    let place = place(sql).await;
    let module = place.db.module("orders").unwrap();
    let events = fill(&place, 6).await;
    let projection = Counted::default();
    let runner = projector(&module, &projection, 4);
    assert_eq!(runner.position().await.unwrap(), None);
    assert_eq!(runner.run_once().await.unwrap().applied, 4);
    let position = runner.position().await.unwrap();
    assert!(position.is_some() && counted(&place).await == 4);

    projection.fails_in.store(3, Ordering::SeqCst);
    let error = runner.catch_up().await.unwrap_err();
    assert_eq!(error.to_string(), "the transaction was refused: crashed");
    assert_eq!((counted(&place).await, runner.position().await.unwrap()), (4, position));
    let hanging = Counted { hangs: true, ..Counted::default() };
    hanging.fails_in.store(2, Ordering::SeqCst);
    let dropped = projector(&module, &hanging, 4);
    tokio::time::timeout(Duration::from_millis(300), dropped.run_once()).await.unwrap_err();
    assert_eq!((counted(&place).await, runner.position().await.unwrap()), (4, position));

    let done = projector(&module, &projection, 5).catch_up().await.unwrap();
    assert_eq!((i64::try_from(done.applied).unwrap(), done.caught_up), (events - 4, true));
    assert_eq!(counted(&place).await, events);
    let again = runner.catch_up().await.unwrap();
    assert_eq!((again.applied, again.checkpoint), (0, done.checkpoint));
}

// X-ES-025: from zero the same read model, whatever had become of the old one; up to the position and no further. A
// failed rebuild leaves the old one.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_from_zero_gives_the_same_read_model(#[case] sql: Sql) {
    let place = place(sql).await;
    let module = place.db.module("orders").unwrap();
    let projection = Counted::default();
    let runner = projector(&module, &projection, 4);
    assert_eq!(runner.rebuild().await.unwrap().applied, 0);
    let events = fill(&place, 5).await;
    runner.catch_up().await.unwrap();
    let (model, position) = (rows(&place.db).await, runner.position().await.unwrap());
    assert_eq!(model.len(), 5);
    // What comes later is not the rebuild's.
    let later = fill(&place, 2).await;

    let spoil = module.transaction(async |tx| {
        let first = shipments::table.filter(shipments::id.eq(&model[0].id));
        diesel::delete(first).execute(tx.conn()).await?;
        diesel::update(shipments::table).set(shipments::parcels.eq(99)).execute(tx.conn()).await?;
        Ok(())
    });
    spoil.await.unwrap();
    let spoiled = rows(&place.db).await;
    projection.fails_in.store(6, Ordering::SeqCst);
    runner.rebuild().await.unwrap_err();
    assert_eq!(rows(&place.db).await, spoiled);

    let done = runner.rebuild().await.unwrap();
    assert_eq!(i64::try_from(done.applied).unwrap(), events);
    assert_eq!((rows(&place.db).await, runner.position().await.unwrap()), (model, position));
    runner.catch_up().await.unwrap();
    assert_eq!(counted(&place).await, events + later);
}

// X-ES-025: runners of one projection at once, one of them rebuilding: every event is applied once.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn runners_at_once_apply_each_event_once(#[case] sql: Sql) {
    let place = place(sql).await;
    let module = place.db.module("orders").unwrap();
    let events = fill(&place, 8).await;
    let (a, b, c) = (Counted::default(), Counted::default(), Counted::default());
    let (a, b, c) = (projector(&module, &a, 3), projector(&module, &b, 5), projector(&module, &c, 4));
    let rebuilding = async {
        c.rebuild().await?;
        c.rebuild().await
    };
    let (one, other, rebuilt) = tokio::join!(a.catch_up(), b.catch_up(), rebuilding);
    let applied = one.unwrap().applied + other.unwrap().applied;
    rebuilt.unwrap();
    assert_eq!(i64::try_from(applied).unwrap(), events);
    assert_eq!(counted(&place).await, events);
}
