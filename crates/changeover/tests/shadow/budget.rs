//! The budget, a new store that is down or hangs, and the end.

use std::time::Duration;

use changeover::ErrorKind;
use changeover::cutover::Goal;
use changeover::events::ReadStream;
use changeover_testkit::Proxy;

use crate::stage::{Stage, append, store, stream, terms, total, wait};

// Off without settings; a share of 0 compares nothing; before a run, and after its switch, nothing is compared.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_compared_but_by_the_settings_and_while_a_run_follows() {
    let stage = Stage::new("events").await;
    let (off, none, all) = (
        changeover::connect_with(stage.options.clone(), changeover::registry()).await.unwrap(),
        stage.service(&[("share", "0")]).await,
        stage.service(&[]).await,
    );
    append(&*store(&off).await, 1, 1).await;
    assert_eq!(off.shadow("events").unwrap(), None);
    let read = async |db| drop(store(db).await.read_stream(ReadStream::all(stream(1))).await.unwrap());
    read(&all).await;
    assert_eq!(stage.report(&all, 1).await.idle, 1);
    stage.verified().await;
    for db in [&off, &none, &all] {
        read(db).await;
    }
    let report = stage.report(&all, 2).await;
    assert_eq!((report.idle, report.equal), (1, 1), "{report:#?}");
    stage.cutover().await.run(&terms(), Goal::Switched).await.unwrap();
    read(&all).await;
    assert_eq!(all.module("events").unwrap().owner().await.unwrap().0, "postgres");
    assert_eq!(stage.report(&all, 2).await, report);
    assert_eq!(total(&none.shadow("events").unwrap().unwrap()), 0);
}

// A new store that hangs: callers have their answers while the comparisons hang, of which there are as many as allowed; the
// others are skipped and counted; the close ends them, and nothing stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_is_nobodys_affair_and_ends_with_the_close() {
    let stage = Stage::new("events").await;
    let proxy = Proxy::start(stage.server.url()).await.unwrap();
    let db = stage
        .service(&[
            ("at_once", "2"),
            ("within", "1h"),
            ("backends.postgres.url", &proxy.url(stage.server.url())),
        ])
        .await;
    let store = store(&db).await;
    append(&*store, 1, 1).await;
    stage.verified().await;
    let read = async || store.read_stream(ReadStream::all(stream(1))).await.unwrap().events.len();
    assert_eq!(read().await, 1);
    let before = wait(&db, "events", |report| report.equal == 1 && report.running == 0).await;
    proxy.freeze();
    for _ in 0..10 {
        assert_eq!(read().await, 1);
    }
    // Every answer was there before one comparison ended.
    let report = db.shadow("events").unwrap().unwrap();
    assert_eq!((report.running, report.skipped - before.skipped, report.equal), (2, 8, 1), "{report:#?}");
    append(&*store, 1, 2).await;
    assert_eq!(read().await, 2);
    tokio::time::timeout(Duration::from_secs(20), db.close()).await.unwrap();
    let report = db.shadow("events").unwrap().unwrap();
    assert_eq!((report.running, report.equal, report.different), (0, 1, 0), "{report:#?}");
}

// A new store that is down, and one that does not answer in time: counted by kind, and callers have their answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_or_late_is_counted_by_kind() {
    let stage = Stage::new("events").await;
    let proxy = Proxy::start(stage.server.url()).await.unwrap();
    let db = stage
        .service(&[
            ("at_once", "1"),
            ("within", "2s"),
            ("backends.postgres.url", &proxy.url(stage.server.url())),
            ("backends.postgres.pool.connect_timeout", "1s"),
        ])
        .await;
    let store = store(&db).await;
    append(&*store, 1, 1).await;
    stage.verified().await;
    let read = async || store.read_stream(ReadStream::all(stream(1))).await.unwrap().events.len();
    proxy.down();
    assert_eq!(read().await, 1);
    let report = stage.report(&db, 1).await;
    assert_eq!(report.failed.keys().collect::<Vec<_>>(), [&ErrorKind::Unavailable], "{report:#?}");
    proxy.up();
    // Connections that were lost are found out one by one.
    let mut ended = 1;
    while stage.report(&db, ended).await.equal == 0 {
        assert_eq!(read().await, 1);
        ended += 1;
    }
    proxy.freeze();
    assert_eq!(read().await, 1);
    let report = stage.report(&db, ended + 1).await;
    assert_eq!(report.failed.get(&ErrorKind::Timeout), Some(&1), "{report:#?}");
    proxy.thaw();
    // A follower that stays behind.
    append(&*store, 1, 2).await;
    assert_eq!(read().await, 2);
    let report = wait(&db, "events", |report| report.unsettled == 1).await;
    assert_eq!((report.equal, report.different), (1, 0), "{report:#?}");
}
