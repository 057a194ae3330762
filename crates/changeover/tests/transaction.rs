//! A user's own tables and a module's events together (E81), on both SQL databases and behind a pooler (X-TEN-009) by the
//! same code.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use changeover::events::Expected;
use changeover::{Applied, Db, ErrorKind, RunQueryDsl, TxError, Uuid, Version};
use changeover_testkit::{Proxy, TestDatabase};
use common::{Order, OrderEvent, Shipment, Sql, TABLE, insert, options, place, placed, rows, shipments};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, SimpleAsyncConnection as _};
use rstest::rstest;
use tokio::sync::Notify;

// Design section 2, end to end: the example as it stands there.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[case(Sql::Pooled)]
#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_shipped_with_its_row(#[case] sql: Sql) -> Result<(), TxError> {
    let place = place(sql).await;
    let db = &place.db;
    let orders = db.events("orders")?.typed::<OrderEvent>();
    let id = Uuid::now_v7();
    orders.append(id, None, [placed("lamp"), OrderEvent::Renamed("big lamp".to_owned())]).await?;
    let order = orders.load(id, Order::apply).await?;
    assert_eq!((order.item.as_str(), order.version), ("big lamp", Some(Version::new(2)?)));
    let (row, shipped) = (Shipment::of(id), order.ship()?);

    db.module("orders")?
        .transaction(async |tx| {
            diesel::insert_into(shipments::table).values(&row).execute(tx.conn()).await?;
            tx.append(&orders, id, order.version, [shipped]);
            Ok(())
        })
        .await?;

    assert_eq!(rows(db).await, [row]);
    let after = orders.load(id, Order::apply).await?;
    assert_eq!((after.shipped, after.version), (true, Some(Version::new(3)?)));
    let refused = orders.execute(id, Order::apply, |order| order.ship().map(|event| [event])).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    Ok(())
}

// E81: a conflict at the flush takes the row back too.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[case(Sql::Pooled)]
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_takes_both_halves_back(#[case] sql: Sql) {
    let place = place(sql).await;
    let orders = place.db.events("orders").unwrap().typed::<OrderEvent>();
    let (id, other) = (Uuid::now_v7(), Uuid::now_v7());
    orders.append(id, None, [placed("lamp")]).await.unwrap();

    let module = place.db.module("orders").unwrap();
    let failed = module.transaction(async |tx| {
        insert(tx.conn(), &Shipment::of(id)).await?;
        tx.append(&orders, other, None, [placed("shade")]);
        tx.append(&orders, id, None, [OrderEvent::Shipped]);
        Ok(())
    });
    let error = failed.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VersionConflict, "{error}");
    assert!(matches!(error, TxError::Store(_)));
    assert_eq!(rows(&place.db).await, []);
    assert_eq!(orders.load(id, Order::apply).await.unwrap().version, Some(Version::FIRST));
    assert_eq!(orders.load(other, Order::apply).await.unwrap().version, None);
}

#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[case(Sql::Pooled)]
#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_work_takes_both_halves_back(#[case] sql: Sql) {
    let place = place(sql).await;
    let orders = place.db.events("orders").unwrap().typed::<OrderEvent>();
    let id = Uuid::now_v7();
    let module = place.db.module("orders").unwrap();

    let refused = module.transaction(async |tx| {
        insert(tx.conn(), &Shipment::of(id)).await?;
        tx.append(&orders, id, None, [placed("lamp")]);
        Err::<(), _>(TxError::refused("no lamps today"))
    });
    let error = refused.await.unwrap_err();
    assert_eq!(error.to_string(), "the transaction was refused: no lamps today");

    let twice = module.transaction(async |tx| {
        tx.append(&orders, id, None, [placed("lamp")]);
        insert(tx.conn(), &Shipment::of(id)).await?;
        insert(tx.conn(), &Shipment::of(id)).await
    });
    assert_eq!(twice.await.unwrap_err().kind(), ErrorKind::AlreadyExists);

    // A value that the check refuses is not quoted by the error.
    let bad = Shipment { parcels: -77_031, ..Shipment::of(id) };
    let error = module.transaction(async |tx| insert(tx.conn(), &bad).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(!format!("{error:?}").contains("77031"), "{error:?}");

    assert_eq!(rows(&place.db).await, []);
    assert_eq!(orders.load(id, Order::apply).await.unwrap().version, None);
}

// E81: a dropped future leaves nothing, and the next transaction does not wait for it.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[case(Sql::Pooled)]
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_transaction_leaves_nothing_behind(#[case] sql: Sql) {
    let place = place(sql).await;
    let orders = place.db.events("orders").unwrap().typed::<OrderEvent>();
    let id = Uuid::now_v7();
    let module = place.db.module("orders").unwrap();
    for _ in 0..6 {
        let hanging = module.transaction(async |tx| {
            insert(tx.conn(), &Shipment::of(id)).await?;
            tx.append(&orders, id, None, [placed("lamp")]);
            std::future::pending::<()>().await;
            Ok(())
        });
        tokio::time::timeout(Duration::from_millis(200), hanging).await.unwrap_err();
    }
    // More often than there are connections, so each must have come back.
    let retried = module.transaction(async |tx| {
        insert(tx.conn(), &Shipment::of(id)).await?;
        tx.append(&orders, id, None, [placed("lamp")]);
        Ok(())
    });
    tokio::time::timeout(Duration::from_secs(10), retried).await.unwrap().unwrap();
    assert_eq!(rows(&place.db).await.len(), 1);
    assert_eq!(orders.load(id, Order::apply).await.unwrap().version, Some(Version::FIRST));
}

/// The row of `id` and its event, which have to be there both or neither. They are read one after the other, so a commit
/// that is still under way may come between; a half that stays is one.
async fn both_or_none(db: &Db, id: Uuid) -> bool {
    let orders = db.events("orders").unwrap().typed::<OrderEvent>();
    for _ in 0..100 {
        let event = orders.load(id, Order::apply).await.unwrap().version.is_some();
        let row = rows(db).await.iter().any(|row| row.id == id.to_string());
        if row == event {
            return row;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("one half without the other");
}

// E81, E100: dropped at any moment up to the end of the commit, both halves are there or none, and the pool is whole.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[case(Sql::Pooled)]
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_dropped_around_its_commit_is_whole_or_not_there(#[case] sql: Sql) {
    let place = place(sql).await;
    let orders = place.db.events("orders").unwrap().typed::<OrderEvent>();
    let module = place.db.module("orders").unwrap();
    let (mut kept, mut lost) = (0, 0);
    for step in 0..40 {
        let id = Uuid::now_v7();
        // Counted from the last statement before the commit, so that most of the drops fall into it.
        let flushing = Arc::new(Notify::new());
        let told = Arc::clone(&flushing);
        let work = module.transaction(async |tx| {
            insert(tx.conn(), &Shipment::of(id)).await?;
            tx.append(&orders, id, None, [placed("lamp")]);
            told.notify_one();
            Ok(())
        });
        let cut = async {
            flushing.notified().await;
            tokio::time::sleep(Duration::from_millis(step)).await;
        };
        tokio::select! {
            done = work => done.unwrap(),
            () = cut => {}
        }
        // A commit under way ends before its connection can be had again.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if both_or_none(&place.db, id).await { kept += 1 } else { lost += 1 }
    }
    assert!(kept > 0, "never committed: {lost} lost");
    let last = Uuid::now_v7();
    orders.append(last, None, [placed("lamp")]).await.unwrap();
}

// E81, E109: the line goes at the end of a transaction: held still before its appends are flushed, and the caller gives up;
// or cut when the COMMIT was carried out, whose answer is lost.
#[rstest]
#[case::held_still_before_the_flush(false)]
#[case::cut_after_the_commit(true)]
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_line_fails_at_its_end_is_whole_or_not_there(#[case] carried_out: bool) {
    let (dir, server) = (tempfile::tempdir().unwrap(), TestDatabase::empty().await.unwrap());
    let proxy = Proxy::start(server.url()).await.unwrap();
    let given = options(&dir, Some(&server))
        .with("persistence.default", "postgres")
        .with("backends.postgres.url", proxy.url(server.url()))
        .with("backends.postgres.migrate_url", server.url())
        .with("backends.postgres.pool.max_size", "2")
        .with("backends.postgres.pool.min_idle", "0");
    let db = changeover::connect_with(given, changeover::registry()).await.unwrap();
    let orders = db.events("orders").unwrap().typed::<OrderEvent>();
    orders.append(Uuid::now_v7(), None, [placed("lamp")]).await.unwrap();
    server.execute(&format!("{TABLE}; GRANT ALL ON shipments TO changeover_app")).await.unwrap();
    let module = db.module("orders").unwrap();
    for _ in 0..4 {
        let id = Uuid::now_v7();
        let work = module.transaction(async |tx| {
            insert(tx.conn(), &Shipment::of(id)).await?;
            tx.append(&orders, id, None, [placed("lamp")]);
            if carried_out {
                proxy.cut_before_reply_to_commit();
            } else {
                proxy.freeze();
            }
            Ok(())
        });
        let ended = tokio::time::timeout(Duration::from_millis(400), work).await;
        proxy.thaw();
        if carried_out {
            let error = ended.unwrap().unwrap_err();
            let TxError::Store(error) = error else { panic!("{error}") };
            assert_eq!(error.was_applied(), Some(Applied::Unknown), "{error}");
            assert!(both_or_none(&db, id).await, "the commit was carried out");
        } else {
            ended.unwrap_err();
            assert!(!both_or_none(&db, id).await, "given up before the flush");
        }
        orders.append(Uuid::now_v7(), None, [placed("lamp")]).await.unwrap();
    }
}

// A failed statement whose error is thrown away must not end in a success that stored nothing.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[case(Sql::Pooled)]
#[tokio::test(flavor = "multi_thread")]
async fn a_swallowed_error_is_no_silent_loss(#[case] sql: Sql) {
    let place = place(sql).await;
    let id = Uuid::now_v7();
    let module = place.db.module("orders").unwrap();
    let swallowed = module.transaction(async |tx| {
        insert(tx.conn(), &Shipment::of(id)).await?;
        let _ = insert(tx.conn(), &Shipment::of(id)).await;
        Ok(())
    });
    let (done, stored) = (swallowed.await, rows(&place.db).await.len());
    assert_eq!(done.is_ok(), stored == 1, "{done:?}, {stored} rows");
}

#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[case(Sql::Pooled)]
#[tokio::test(flavor = "multi_thread")]
async fn nested_transactions_are_savepoints_and_reads_see_own_writes(#[case] sql: Sql) {
    let place = place(sql).await;
    let (kept, taken_back) = (Uuid::now_v7(), Uuid::now_v7());
    let module = place.db.module("orders").unwrap();
    let nested = module.transaction(async |tx| {
        insert(tx.conn(), &Shipment::of(kept)).await?;
        let inner: Result<(), TxError> = tx
            .conn()
            .transaction(async |conn| {
                insert(conn, &Shipment::of(taken_back)).await?;
                Err(TxError::refused("inner"))
            })
            .await;
        assert!(matches!(inner, Err(TxError::Refused(_))));
        diesel::update(shipments::table.filter(shipments::id.eq(kept.to_string())))
            .set(shipments::note.eq(None::<String>))
            .execute(tx.conn())
            .await?;
        let seen = shipments::table
            .select((shipments::id, shipments::note))
            .load::<(String, Option<String>)>(tx.conn());
        Ok(seen.await?)
    });
    assert_eq!(nested.await.unwrap(), [(kept.to_string(), None)]);
    assert_eq!(rows(&place.db).await.len(), 1);
}

#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[case(Sql::Pooled)]
#[tokio::test(flavor = "multi_thread")]
async fn transactions_can_be_spawned_and_follow_each_other(#[case] sql: Sql) {
    let place = place(sql).await;
    let orders = place.db.events("orders").unwrap().typed::<OrderEvent>();
    let id = Uuid::now_v7();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (db, orders) = (place.db.clone(), orders.clone());
            tokio::spawn(async move {
                let row = Shipment::of(Uuid::now_v7());
                let module = db.module("orders")?;
                let work = module.transaction(async |tx| {
                    insert(tx.conn(), &row).await?;
                    tx.append(&orders, id, Expected::Any, [OrderEvent::Shipped]);
                    Ok(())
                });
                work.await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(rows(&place.db).await.len(), 8);
    assert_eq!(orders.load(id, Order::apply).await.unwrap().version, Some(Version::new(8).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_another_module_or_tenant_are_refused() {
    let place = place(Sql::Sqlite).await;
    let id = Uuid::now_v7();
    let other = place.db.events("invoices").unwrap().typed::<OrderEvent>();
    let tenant = changeover::TenantId::new("other").unwrap();
    let foreign = place.db.for_tenant(tenant).events("orders").unwrap().typed::<OrderEvent>();
    for streams in [&other, &foreign] {
        let module = place.db.module("orders").unwrap();
        let refused = module.transaction(async |tx| {
            insert(tx.conn(), &Shipment::of(id)).await?;
            tx.append(streams, id, None, [placed("lamp")]);
            Ok(())
        });
        assert_eq!(refused.await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(rows(&place.db).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_has_no_transactions_and_says_so() {
    let options = changeover::PersistenceOptions::new()
        .with("persistence.default", "m")
        .with("backends.m.kind", "memory");
    let db = changeover::connect_with(options, changeover::registry()).await.unwrap();
    let refused = db.module("orders").unwrap().transaction(async |_| Ok(())).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
}

// A statement keeps its thread to its end. What is awaited beside it in the same task, and happens meanwhile, is not missed:
// here the main task, which is woken by its thread.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_during_a_statement_wakes_who_waits_for_it(#[case] sql: Sql) {
    const SLOW: &str = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 600000) SELECT count(*) FROM c";
    let place = place(sql).await;
    let module = place.db.module("orders").unwrap();
    let (happened, seen) = (Arc::new(Notify::new()), Notify::new());
    let waiting = async {
        happened.notified().await;
        seen.notify_one();
    };
    let writing = module.transaction(async |tx| {
        let happens = Arc::clone(&happened);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            happens.notify_one();
        });
        tx.conn().batch_execute(SLOW).await?;
        seen.notified().await;
        Ok(())
    });
    let begin = Instant::now();
    // Polled in this order; the limit wakes both, so it alone would hide that nobody else did.
    let both = async { futures::join!(waiting, writing).1 };
    tokio::time::timeout(Duration::from_secs(20), both).await.unwrap().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(15), "nobody was woken but by the limit");
}
