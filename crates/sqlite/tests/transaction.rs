//! The user's rows and the events, together or not at all.

mod common;

use changeover_core::audit::{AuditFilter, NewAuditEvent, VerifyChain};
use changeover_core::events::{EventStore, Expected, HeadOf, Version};
use changeover_core::{Applied, ErrorKind};
use changeover_sqlite::OpenSqlite;
use common::{File, everything, one, scope, store, stream, tenant, text};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use std::sync::Arc;

const COUNT: &str = "SELECT count(*) || '' FROM shipment";

async fn with_a_table() -> (File, OpenSqlite, Arc<dyn EventStore>) {
    let file = File::new();
    file.raw("CREATE TABLE shipment (id INTEGER PRIMARY KEY, note TEXT)");
    let open = file.open().await;
    let events = store(&open).await;
    (file, open, events)
}

// E81's transaction half: both are there after the commit.
#[tokio::test(flavor = "multi_thread")]
async fn both_halves_are_committed_together() {
    let (file, open, events) = with_a_table().await;
    let stream = stream();
    let mut transaction = open.begin(&scope(), &tenant()).await.unwrap();
    let insert = diesel::sql_query("INSERT INTO shipment (note) VALUES ('a')");
    insert.execute(transaction.connection()).await.unwrap();
    transaction.append(one(&stream, Expected::NoStream, 1)).unwrap();
    transaction.append(one(&stream, Expected::Exactly(Version::FIRST), 1)).unwrap();
    assert_eq!((text(&file, COUNT), everything(&*events).await.len()), ("0".into(), 0));
    let answers = transaction.commit().await.unwrap();
    assert_eq!(answers[1].streams[0].last.get(), 2);
    assert_eq!((text(&file, COUNT), everything(&*events).await.len()), ("1".into(), 2));
}

// E81's transaction half: a conflict takes the user's rows back too, and so does dropping it.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_or_a_drop_rolls_back_both_halves() {
    let (file, open, events) = with_a_table().await;
    let stream = stream();
    for conflict in [true, false] {
        let mut transaction = open.begin(&scope(), &tenant()).await.unwrap();
        transaction.connection().batch_execute("INSERT INTO shipment (note) VALUES ('a')").await.unwrap();
        transaction.append(one(&stream, Expected::NoStream, 1)).unwrap();
        if conflict {
            transaction.append(one(&common::stream(), Expected::Exists, 1)).unwrap();
            let refused = transaction.commit().await.unwrap_err();
            assert_eq!(
                (refused.kind(), refused.was_applied()),
                (ErrorKind::VersionConflict, Some(Applied::No))
            );
        } else {
            let mut query =
                Box::pin(transaction.connection().batch_execute("INSERT INTO shipment (note) VALUES ('b')"));
            let _ = futures::poll!(&mut query);
            drop(query);
            drop(transaction);
        }
        // The lane is free again, and finds nothing.
        events.append(one(&common::stream(), Expected::Any, 1)).await.unwrap();
        assert_eq!(events.head(HeadOf::Stream(stream.clone())).await.unwrap().version, None);
        assert_eq!(text(&file, COUNT), "0");
    }
}

// A nested transaction is a savepoint: it can go without the rest.
#[tokio::test(flavor = "multi_thread")]
async fn nested_transactions_are_savepoints() {
    let (file, open, _events) = with_a_table().await;
    let mut transaction = open.begin(&scope(), &tenant()).await.unwrap();
    transaction.connection().batch_execute("INSERT INTO shipment (note) VALUES ('a')").await.unwrap();
    let nested = transaction.connection().transaction(async |conn| {
        conn.batch_execute("INSERT INTO shipment (note) VALUES ('b')").await?;
        Err::<(), _>(diesel::result::Error::RollbackTransaction)
    });
    nested.await.unwrap_err();
    transaction.commit().await.unwrap();
    assert_eq!(text(&file, COUNT), "1");
}

// A transaction that was ended by SQL is refused, not committed by halves.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_ended_by_sql_appends_nothing() {
    let (_file, open, events) = with_a_table().await;
    let mut transaction = open.begin(&scope(), &tenant()).await.unwrap();
    transaction.connection().batch_execute("ROLLBACK").await.unwrap();
    transaction.append(one(&stream(), Expected::Any, 1)).unwrap();
    transaction.commit().await.unwrap_err();
    assert!(everything(&*events).await.is_empty());
}

// A22: audit events are recorded with the business write and the appends, or not at all; parents of the same
// transaction and chains included.
#[tokio::test(flavor = "multi_thread")]
async fn audit_events_are_recorded_in_the_same_transaction() {
    let (file, open, events) = with_a_table().await;
    let (audit, place) = (common::audit(&open).await, common::module("audit"));
    let parent = common::correlated("2024-01-01T00:00:00Z", "c");
    let child = NewAuditEvent {
        parent_event_id: Some(parent.event_id),
        ..common::correlated("2024-01-01T00:00:00Z", "c")
    };
    for fails in [true, false] {
        let mut transaction = open.begin(&scope(), &tenant()).await.unwrap();
        transaction.connection().batch_execute("INSERT INTO shipment (note) VALUES ('a')").await.unwrap();
        transaction.append(one(&stream(), Expected::NoStream, 1)).unwrap();
        transaction.record(&place, common::create(std::slice::from_ref(&parent))).unwrap();
        transaction.record(&place, common::create(std::slice::from_ref(&child))).unwrap();
        if fails {
            let orphan =
                NewAuditEvent { parent_event_id: Some(common::stream().aggregate_id), ..child.clone() };
            let event_id = common::stream().aggregate_id;
            let orphan = NewAuditEvent { event_id, ..orphan };
            transaction.record(&place, common::create(&[orphan])).unwrap();
            let refused = transaction.commit().await.unwrap_err();
            assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::NotFound, Some(Applied::No)));
        } else {
            transaction.commit().await.unwrap();
        }
        let stored = if fails { (0, 0, "0") } else { (2, 1, "1") };
        assert_eq!(audit.count(AuditFilter::default()).await.unwrap(), stored.0);
        assert_eq!((everything(&*events).await.len(), text(&file, COUNT).as_str()), (stored.1, stored.2));
    }
    let chain = VerifyChain { correlation_id: parent.correlation_id.clone().unwrap() };
    let report = audit.verify(chain).await.unwrap();
    assert_eq!((report.events, report.broken), (2, None));
    let mut transaction = open.begin(&scope(), &tenant()).await.unwrap();
    let refused = transaction.record(&place, common::create(&[])).unwrap_err();
    assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::Invalid, Some(Applied::No)));
    drop(transaction);
    // A transaction waits for nobody else afterwards.
    audit.create(common::create(&[common::audit_event("2024-01-01T00:00:00Z")])).await.unwrap();
}
