//! Subscriptions, the user's transactions, faults of the connection.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use std::time::Duration;

use changeover_core::events::{Expected, HeadOf, ReadAll, Subscribe, Version};
use changeover_core::{Applied, ErrorKind, EventStore, Message, OpenBackend, Subscription};
use changeover_postgres::OpenPostgres;
use changeover_testkit::Proxy;
use common::{event, migrated, one, open, scope, settings, store, stream, tenant};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};

async fn next_event(subscription: &mut Subscription) -> String {
    let next = async {
        loop {
            if let Message::Event(event) = subscription.next().await.unwrap().unwrap() {
                return event.data.as_str().to_owned();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), next).await.unwrap()
}

// E68-E70, E77: what is there, then what comes, also from another client.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_goes_from_the_past_to_the_present() {
    let db = migrated().await;
    let (reader, writer) = (store(&db).await, store(&db).await);
    writer.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap();
    let mut subscription = reader.subscribe(Subscribe::default()).await.unwrap();
    assert_eq!(next_event(&mut subscription).await, r#"{"n":1}"#);
    // Let the listening connection come up, so that the wake-up is what delivers.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let before = std::time::Instant::now();
    writer.append(one(&stream("Order"), Expected::Any, 2)).await.unwrap();
    assert_eq!(next_event(&mut subscription).await, r#"{"n":2}"#);
    assert!(before.elapsed() < Duration::from_millis(700), "{:?}: polled, not woken", before.elapsed());
}

// E75, E76: neither cut sessions nor a killed listener lose or repeat an event.
#[tokio::test(flavor = "multi_thread")]
async fn killed_sessions_delay_a_subscription_and_lose_nothing() {
    let db = migrated().await;
    let (reader, writer) = (store(&db).await, store(&db).await);
    let mut subscription = reader.subscribe(Subscribe::default()).await.unwrap();
    for number in 0..4 {
        loop {
            // The first call after a kill may fail; the ids make repeating it harmless.
            let request = one(&stream("Order"), Expected::Any, number);
            if writer.append(request.clone()).await.is_ok() || writer.append(request).await.is_ok() {
                break;
            }
        }
        assert_eq!(next_event(&mut subscription).await, format!("{{\"n\":{number}}}"));
        db.kill_backends().await.unwrap();
    }
}

// E37: a replay wakes nobody and moves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_moves_no_head() {
    let db = migrated().await;
    let store = store(&db).await;
    let request = one(&stream("Order"), Expected::NoStream, 1);
    let first = store.append(request.clone()).await.unwrap();
    let head = store.head(HeadOf::Log).await.unwrap();
    let again = store.append(request).await.unwrap();
    assert!(again.repeated && !first.repeated);
    assert_eq!(again.streams, first.streams);
    assert_eq!(store.head(HeadOf::Log).await.unwrap(), head);
}

fn as_postgres(backend: &std::sync::Arc<dyn OpenBackend>) -> &OpenPostgres {
    let any: &dyn std::any::Any = &**backend;
    any.downcast_ref().unwrap()
}

async fn note(conn: &mut AsyncPgConnection) {
    conn.batch_execute("INSERT INTO note DEFAULT VALUES").await.unwrap();
}

async fn notes(db: &changeover_testkit::TestDatabase) -> i64 {
    db.query("SELECT count(*) FROM note", &[]).await.unwrap()[0].get(0)
}

// E81's transaction half: the user's table and the events, both or none; row security sees the tenant.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_keeps_both_halves_or_none() {
    let db = migrated().await;
    db.execute(
        "CREATE TABLE note (tenant text DEFAULT current_setting('changeover.tenant_id'), zone text DEFAULT \
         current_setting('TimeZone'), role text DEFAULT current_user); GRANT ALL ON note TO changeover_app",
    )
    .await
    .unwrap();
    let backend = open(settings(db.url())).await;
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    let order = stream("Order");

    // Committed.
    let mut tx = as_postgres(&backend).begin(&scope(), &tenant("acme")).await.unwrap();
    note(tx.conn()).await;
    let first = tx.append(&one(&order, Expected::NoStream, 1)).await.unwrap();
    tx.append(&one(&order, Expected::Exactly(Version::FIRST), 2)).await.unwrap();
    assert_eq!(store.head(HeadOf::Stream(order.clone())).await.unwrap().version, None);
    tx.commit().await.unwrap();
    assert_eq!(notes(&db).await, 1);
    assert_eq!(first.streams[0].last, Version::FIRST);
    let row = &db.query("SELECT tenant, zone, role FROM note", &[]).await.unwrap()[0];
    assert_eq!(
        (row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, &str>(2)),
        ("acme", "UTC", "changeover_app")
    );

    // A conflict, then dropped.
    let mut tx = as_postgres(&backend).begin(&scope(), &tenant("acme")).await.unwrap();
    note(tx.conn()).await;
    let conflict = tx.append(&one(&order, Expected::NoStream, 3)).await.unwrap_err();
    assert_eq!((conflict.kind(), conflict.was_applied()), (ErrorKind::VersionConflict, Some(Applied::No)));
    drop(tx);
    // Rolled back.
    let mut tx = as_postgres(&backend).begin(&scope(), &tenant("acme")).await.unwrap();
    note(tx.conn()).await;
    tx.append(&one(&order, Expected::Any, 4)).await.unwrap();
    tx.rollback().await.unwrap();
    // Moved.
    let mut tx = as_postgres(&backend).begin(&scope(), &tenant("acme")).await.unwrap();
    note(tx.conn()).await;
    db.execute("UPDATE changeover.module SET owner = 'sqlite'").await.unwrap();
    assert_eq!(tx.append(&one(&order, Expected::Any, 5)).await.unwrap_err().kind(), ErrorKind::Moved);
    drop(tx);
    assert_eq!(notes(&db).await, 1);
    db.execute("UPDATE changeover.module SET owner = 'postgres'").await.unwrap();
    assert_eq!(store.head(HeadOf::Stream(order)).await.unwrap().version, Some(Version::new(2).unwrap()));
}

// E101: a transaction dropped on a pool of one leaves nothing to the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_transaction_leaves_a_pool_of_one_clean() {
    let db = migrated().await;
    let backend =
        open(settings(db.url()).with("pool.max_size", "1").with("pool.connect_timeout", "5s")).await;
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    let request = one(&stream("Order"), Expected::Any, 1);
    store.append(request.clone()).await.unwrap();
    for _ in 0..3 {
        let mut tx = as_postgres(&backend).begin(&scope(), &tenant("acme")).await.unwrap();
        tx.append(&one(&stream("Order"), Expected::Any, 2)).await.unwrap();
        drop(tx);
        store.append(request.clone()).await.unwrap();
    }
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap().events.len(), 1);
}

// E107: a pool in use up is Unavailable within its time, and recovers.
#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_pool_is_unavailable_and_recovers() {
    let db = migrated().await;
    let backend =
        open(settings(db.url()).with("pool.max_size", "1").with("pool.connect_timeout", "300ms")).await;
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    store.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap();
    let tx = as_postgres(&backend).begin(&scope(), &tenant("acme")).await.unwrap();
    let error = store.append(one(&stream("Order"), Expected::Any, 2)).await.unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Unavailable, Some(Applied::No)));
    drop(tx);
    store.append(one(&stream("Order"), Expected::Any, 2)).await.unwrap();
}

async fn over_proxy(
    db: &changeover_testkit::TestDatabase,
    timeout: &str,
) -> (Proxy, std::sync::Arc<dyn EventStore>) {
    let proxy = Proxy::start(db.url()).await.unwrap();
    let settings =
        settings(&proxy.url(db.url())).with("command_timeout", timeout).with("pool.connect_timeout", "2s");
    let store = open(settings).await.events(&scope(), &tenant("acme")).await.unwrap();
    store.append(one(&stream("Order"), Expected::Any, 0)).await.unwrap();
    (proxy, store)
}

// E109, E35: the answer to a commit is lost: Unknown, and repeating it with the same ids stores one copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_unknown_and_safe_to_repeat() {
    let db = migrated().await;
    let (proxy, store) = over_proxy(&db, "5s").await;
    proxy.drop_reply_after(b"Lost".to_vec());
    let mut request = one(&stream("Order"), Expected::NoStream, 1);
    request.streams[0].events[0].event_type = changeover_core::EventType::new("Lost").unwrap();
    let error = store.append(request.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Unavailable, Some(Applied::Unknown)));
    assert!(proxy.reply_was_dropped());
    assert!(error.may_retry(true) && !error.may_retry(false));
    let again = store.append(request).await.unwrap();
    assert!(again.repeated);
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap().events.len(), 2);
}

// E110: a silent database ends operations by their deadline, and `ready` by its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_database_ends_operations_by_their_deadline() {
    let db = migrated().await;
    let (proxy, store) = over_proxy(&db, "500ms").await;
    // Until the announcement of the append above has given its connection back.
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.freeze();
    let before = std::time::Instant::now();
    let error = store.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Timeout, Some(Applied::Unknown)));
    let error = store.ready().await.unwrap_err();
    assert!(error.kind().is_transient(), "{error}");
    assert!(before.elapsed() < Duration::from_secs(9), "{:?}", before.elapsed());
    proxy.thaw();
    store.append(one(&stream("Order"), Expected::Any, 2)).await.unwrap();
}

// E111: an administrator ends the sessions; the next calls work.
#[tokio::test(flavor = "multi_thread")]
async fn ended_sessions_are_replaced() {
    let db = migrated().await;
    let store = store(&db).await;
    store.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap();
    db.kill_backends().await.unwrap();
    if let Err(error) = store.read_all(ReadAll::default()).await {
        assert!(error.kind().is_transient(), "{error}");
    }
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap().events.len(), 1);
    store
        .append(changeover_core::events::Append::one(stream("Order"), Expected::Any, vec![event(2)]))
        .await
        .unwrap();
}

// E117: a closed handle and a closed backend are Unavailable; closing twice is fine.
#[tokio::test(flavor = "multi_thread")]
async fn use_after_close_is_unavailable() {
    let db = migrated().await;
    let backend = open(settings(db.url())).await;
    let (one_handle, other) = (
        backend.events(&scope(), &tenant("acme")).await.unwrap(),
        backend.events(&scope(), &tenant("acme")).await.unwrap(),
    );
    one_handle.close().await.unwrap();
    one_handle.close().await.unwrap();
    let error = one_handle.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Unavailable, Some(Applied::No)));
    other.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap();
    backend.close().await;
    backend.close().await;
    assert_eq!(other.head(HeadOf::Log).await.unwrap_err().kind(), ErrorKind::Unavailable);
}
