//! A server whose clock is moved.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use changeover_core::Timestamp;
use changeover_core::backend::Family;
use changeover_core::events::{Expected, ReadAll};
use changeover_core::{Backend, Error};
use changeover_postgres::Postgres;
use changeover_testkit::{Clock, OwnServer, TestDatabase};
use common::{one, open, scope, settings, stream, tenant};

const HOUR: i64 = 3600;

/// How far the server's clock is from this process's, in seconds.
async fn off_by(db: &TestDatabase) -> i64 {
    let rows = db.query("SELECT extract(epoch FROM clock_timestamp())::bigint", &[]).await.unwrap();
    rows[0].get::<_, i64>(0) - Timestamp::now().as_micros() / 1_000_000
}

// E96, X-EDGE-112: the server's clock goes back an hour, ahead an hour, and back again. Recorded time never goes back; it stands
// still until the clock comes by.
#[tokio::test(flavor = "multi_thread")]
async fn recorded_time_never_goes_backwards_with_the_servers_clock() {
    let clock = Clock::new().unwrap();
    let server = OwnServer::with_clock(&clock).await.unwrap();
    let migrate = |url: String| async move {
        let backend = Postgres.open(&settings(&url)).await?;
        backend.migrations(&scope(), Family::Events)?.up().await?;
        backend.claim(&scope()).await?;
        backend.close().await;
        Ok::<_, Error>(())
    };
    let db = server.database("clock", migrate).await.unwrap();
    let backend = open(settings(db.url())).await;
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    let stream = stream("Order");
    for (number, offset) in [0, -HOUR, -HOUR, HOUR, 0, -HOUR].into_iter().enumerate() {
        clock.set(offset).unwrap();
        let moved = off_by(&db).await;
        assert!((moved - offset).abs() < 60, "the clock is off by {moved} s, not by {offset} s");
        let number = i64::try_from(number).unwrap();
        store.append(one(&stream, Expected::Any, number)).await.unwrap();
    }
    let log = store.read_all(ReadAll::default()).await.unwrap().events;
    assert_eq!(log.len(), 6);
    assert!(log.windows(2).all(|pair| pair[0].checkpoint.position() < pair[1].checkpoint.position()));
    let times: Vec<_> = log.iter().map(|event| event.recorded_at).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(times[0], times[2], "{times:?}");
    let ahead = times[3].as_micros() - times[0].as_micros();
    assert!((ahead - HOUR * 1_000_000).abs() < 60_000_000, "{times:?}");
    assert_eq!(times[3], times[5], "{times:?}");
}
