//! The copy does not run away from replicas of the new store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use changeover_core::ErrorKind;
use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::{Goal, Step, Terms};
use changeover_testkit::OwnServer;

use crate::roots::one_root;
use crate::stage::{Stage, history, terms};

const ALLOWED: u64 = 64 << 10;

// Target lag: while a replica is further behind than is allowed nothing is copied; when it has caught up the copy goes on. A login
// that cannot see replicas is told what it lacks, and the run can be gone on with.
#[tokio::test(flavor = "multi_thread")]
async fn the_copy_waits_for_a_replica_that_is_behind() {
    let server = OwnServer::start().await.unwrap();
    let stage = Stage::on(&server, &history(5, 400)).await;
    let replica = server.replica().await.unwrap();
    let small = Terms { max_replica_lag: Some(ALLOWED), chunk_rows: 100, ..terms() };

    let blind = stage.cutover().await.run(&small, Goal::Switched).await.unwrap_err();
    assert_eq!(blind.kind(), ErrorKind::Config);
    assert!(blind.message().contains("GRANT pg_read_all_stats TO changeover_owner"), "{blind}");
    let stood = stage.cutover().await.status().await.unwrap();
    assert_eq!((stood.owner, stood.phase), (Owner::Sqlite, Phase::Copying));

    stage.db.execute("GRANT pg_read_all_stats TO changeover_owner").await.unwrap();
    replica.sleep().unwrap();
    // Rows in all tables that were copied, and as many as there were when it first waited.
    let (copied, waited) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (count, waits) = (Arc::clone(&copied), Arc::clone(&waited));
    let cutover = stage.cutover().await.watching(move |step| match step {
        Step::Copied(_) => {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Step::Waiting { why } => waits.lock().unwrap().push((why.clone(), count.load(Ordering::SeqCst))),
        _ => {}
    });
    let run = tokio::spawn(async move { cutover.run(&small, Goal::Switched).await });
    while waited.lock().unwrap().len() < 4 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seen = waited.lock().unwrap().clone();
    assert!(seen.iter().all(|(why, _)| why.contains("65536 are allowed")), "{seen:?}");
    assert!(seen.iter().all(|(_, chunks)| *chunks == seen[0].1), "it copied while it waited: {seen:?}");
    assert_eq!(stage.cutover().await.status().await.unwrap().phase, Phase::Copying);

    replica.wake().unwrap();
    assert_eq!(run.await.unwrap().unwrap().owner, Owner::Postgres);
    assert!(copied.load(Ordering::SeqCst) > seen[0].1);
    one_root(&stage).await;
}
