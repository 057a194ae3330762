//! A session that locks in the opposite order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use changeover_core::backend::Family;
use changeover_cutover::phase::Owner;
use changeover_cutover::{Goal, Step};
use changeover_testkit::tokio_postgres::error::SqlState;

use crate::roots::one_root;
use crate::stage::{Stage, history, terms};

/// Rounds until the coordinator is the one whom the server chooses; as a rule it is at once.
const ROUNDS: i64 = 5;

// Fault 20: a real deadlock, of which the coordinator is the victim: it does its work again, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_survived() {
    let stage = Stage::legacy(Family::Events, &history(2, 30)).await;
    // The one who waits first looks for a deadlock first.
    let name = stage.db.name().to_owned();
    stage.db.execute(&format!("ALTER DATABASE {name} SET deadlock_timeout = '3s'")).await.unwrap();
    let waits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&waits);
    let cutover = stage.cutover().await.watching(move |step| {
        if let Step::Waiting { why } = step {
            seen.lock().unwrap().push(why.clone());
        }
    });
    cutover.run(&terms(), Goal::Verified).await.unwrap();

    let mut is_survived = false;
    for round in 1..=ROUNDS {
        waits.lock().unwrap().clear();
        stage.file.run(&format!("UPDATE domain_event SET event_data = '{{\"n\": {round}}}' WHERE rowid = 7"));
        let other = stage.db.client().await.unwrap();
        other
            .batch_execute(
                "SET deadlock_timeout = '20s'; BEGIN; \
                 SELECT FROM event_store.domain_event WHERE position = 7 FOR UPDATE",
            )
            .await
            .unwrap();
        let running = tokio::spawn({
            let cutover = cutover.clone();
            async move { cutover.run(&terms(), Goal::Verified).await }
        });
        let waiting = "SELECT count(*) FROM pg_stat_activity \
            WHERE application_name LIKE 'changeover cutover%' AND wait_event_type = 'Lock' AND datname = current_database()";
        while stage.number(waiting).await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let crossed = other.batch_execute("SELECT FROM cutover.run FOR UPDATE").await;
        match crossed {
            Ok(()) => is_survived = true,
            Err(error) => assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED)),
        }
        other.batch_execute("ROLLBACK").await.unwrap();
        running.await.unwrap().unwrap();
        let moved = "SELECT (event_data ->> 'n')::bigint FROM event_store.domain_event WHERE position = 7";
        assert_eq!(stage.number(moved).await, round);
        if is_survived {
            let waits = waits.lock().unwrap();
            assert!(waits.iter().any(|why| why.contains("other transactions were in the way")), "{waits:?}");
            break;
        }
    }
    assert!(is_survived, "the coordinator was never the victim");
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    one_root(&stage).await;
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 60);
    assert_eq!(stage.number("SELECT count(*) FROM cutover.quarantine").await, 0);
}
