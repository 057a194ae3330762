//! Faults of stores, networks and people, on real ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use changeover_core::backend::Family;
use changeover_core::{Applied, ErrorKind};
use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::{Goal, Step, Terms};
use changeover_testkit::Proxy;
use rstest::rstest;

use crate::stage::{Stage, append, event, history, stream, terms, words};
use crate::under_writers::{Writers, check};

/// What SQLite or PostgreSQL said to a program that is not ours.
fn told(stage: &Stage, sql: &str) -> String {
    stage.file.try_run(sql).unwrap_err()
}

const OLD_APPEND: &str = "INSERT INTO domain_event (event_id, stream_id, event_type, event_version, aggregate_version, event_data) \
    VALUES ('00000000-0000-4000-b000-000000000001', '00000000-0000-4000-8000-000000000001', 'Placed', 1, 1000, '{}')";

// Faults 14, 15: a program that is not ours is stopped, told where the data went, and changes nothing; so is its migration.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_program_is_told_where_the_data_went() {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    stage.cutover().await.run(&terms(), Goal::Switched).await.unwrap();
    for sql in [
        OLD_APPEND,
        "UPDATE event_stream SET version = 9",
        "DELETE FROM domain_event",
        "INSERT OR REPLACE INTO event_stream SELECT * FROM event_stream",
    ] {
        let said = told(&stage, sql);
        assert!(said.contains("E_FENCED module=events epoch=1 moved_to=postgres"), "{said}");
    }
    assert_eq!(stage.file.number("SELECT count(*) FROM domain_event"), 15);
}

// Fault 9: of two coordinators one has the lease, the other is refused by name and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_coordinator_is_refused() {
    let stage = Stage::legacy(Family::Events, &history(5, 200)).await;
    let slow = Terms { busy: 0.001, chunk_rows: 20, ..terms() };
    let first = stage.cutover().await;
    let running = tokio::spawn(async move { first.run(&slow, Goal::Switched).await });
    while stage.cutover().await.status().await.unwrap().phase != Phase::Copying {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let second = stage.cutover().await;
    let before = second.record(None).await.unwrap().len();
    let refused = second.run(&terms(), Goal::Switched).await.unwrap_err();
    assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::Contention, Some(Applied::No)));
    assert!(refused.message().contains("a test (process"), "{}", refused.message());
    assert_eq!(second.record(None).await.unwrap().len(), before);
    running.abort();
}

// Fault 10: a coordinator that slept over the end of its lease changes nothing once another has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_whose_lease_was_taken_changes_nothing() {
    let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    let run = cutover.last_run().await.unwrap().run;
    let target = cutover.target();
    let old = target.lease(run, "sleeper", Duration::from_millis(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let new = target.lease(run, "waker", Duration::from_secs(30)).await.unwrap();
    assert!(new.token > old.token);
    let entry = || changeover_core::cutover::Entry {
        what: "x".into(),
        who: "sleeper".into(),
        facts: changeover_core::Json::empty(),
    };
    let refused = target.enter(&old, &["verifying"], "fenced", entry()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::Contention, Some(Applied::No)));
    let epoch = changeover_core::cutover::Switch { epoch: 0, applied: 0 };
    assert_eq!(target.switch(&old, &epoch, entry()).await.unwrap_err().kind(), ErrorKind::Contention);
    assert_eq!(cutover.status().await.unwrap().phase, Phase::Verifying);
    assert!(!words(&cutover.record(None).await.unwrap()).contains(&"x"));
}

// Faults 3, 4, 18: the way to the database is cut again and again; the run goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_while_its_connections_are_cut() {
    let stage = Stage::legacy(Family::Events, &history(5, 100)).await;
    let writers = Writers::start(&stage, 2).await;
    let proxy = Proxy::start(stage.db.url()).await.unwrap();
    let cutover = stage.cutover_by("a test", &proxy.url(stage.db.url())).await;
    let running =
        tokio::spawn(async move { cutover.run(&Terms { chunk_rows: 20, ..terms() }, Goal::Switched).await });
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(120)).await;
        proxy.cut();
    }
    proxy.down();
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.up();
    assert_eq!(running.await.unwrap().unwrap().owner, Owner::Postgres);
    let acknowledged = writers.stop().await;
    check(&*stage.new_events().await, &acknowledged, 500).await;
}

// Fault 5: the reply to a commit is lost. It is asked what became of it, and nothing happens twice.
#[rstest]
#[case(Phase::Copying)]
#[case(Phase::CatchingUp)]
#[case(Phase::Verifying)]
#[case(Phase::Fenced)]
#[case(Phase::Drained)]
#[case(Phase::Sealed)]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_asked_for(#[case] after: Phase) {
    let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
    let writers = Writers::start(&stage, 2).await;
    let proxy = Arc::new(Proxy::start(stage.db.url()).await.unwrap());
    let (cut, once) = (Arc::clone(&proxy), AtomicBool::new(false));
    let cutover = stage.cutover_by("a test", &proxy.url(stage.db.url())).await.watching(move |step| {
        if *step == Step::Phase(after) && !once.swap(true, Ordering::SeqCst) {
            cut.cut_before_reply_to_commit();
        }
    });
    let status = cutover.run(&terms(), Goal::Switched).await.unwrap();
    assert_eq!(status.owner, Owner::Postgres);
    assert!(proxy.reply_was_dropped());
    let acknowledged = writers.stop().await;
    check(&*stage.new_events().await, &acknowledged, 300).await;
    let record = stage.cutover().await.record(None).await.unwrap();
    assert_eq!(words(&record).iter().filter(|word| **word == "switched").count(), 1);
}

// Fault 5, for the ways back.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_to_an_abort_or_a_revert_is_asked_for() {
    let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
    let proxy = Proxy::start(stage.db.url()).await.unwrap();
    let cutover = stage.cutover_by("a test", &proxy.url(stage.db.url())).await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    proxy.drop_reply_after("aborted");
    assert_eq!(cutover.abort(&terms()).await.unwrap().phase, Phase::Idle);
    cutover.run(&terms(), Goal::Switched).await.unwrap();
    append(&*stage.new_events().await, stream(1), event(changeover_core::Uuid::new_v4(), 1)).await.unwrap();
    proxy.cut_before_reply_to_commit();
    let status = cutover.revert(&terms()).await.unwrap();
    assert_eq!((status.phase, status.owner), (Phase::Idle, Owner::Sqlite));
    assert!(proxy.reply_was_dropped());
    assert_eq!(stage.file.number("SELECT count(*) FROM domain_event"), 301);
    assert_eq!(stage.file.number("SELECT count(*) FROM __cut_meta WHERE open = 1"), 1);
}

// Fault 13: a writer of another program holds the file at the fence: no half fence, and later it works.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_writer_at_the_fence_is_waited_for() {
    let stage = Stage::legacy(Family::Events, &history(3, 20)).await;
    let cutover = stage.cutover().await;
    let quick = Terms { max_pause: Duration::from_millis(400), attempts: 1, ..terms() };
    cutover.run(&quick, Goal::Verified).await.unwrap();
    let holder = stage.file.holds();
    let refused = cutover.run(&quick, Goal::Switched).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Contention);
    drop(holder);
    let status = cutover.status().await.unwrap();
    assert_eq!((status.owner, status.file.unwrap().open), (Owner::Sqlite, true));
    append(&*stage.old_events().await, stream(1), event(changeover_core::Uuid::new_v4(), 1)).await.unwrap();
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 61);
}

// Fault 16: an older copy of the file, put back after the switch, is refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_file_is_refused() {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    let before = stage.file.copied();
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    let during = stage.file.copied();
    cutover.run(&terms(), Goal::Switched).await.unwrap();
    for copy in [before, during] {
        stage.file.put_back(&copy);
        for refused in [
            cutover.run(&terms(), Goal::Switched).await,
            cutover.revert(&terms()).await,
            cutover.finalize(&terms()).await,
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Corrupt);
            assert!(refused.message().contains("nothing was changed"), "{}", refused.message());
        }
    }
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 15);
}

// Fault 23: what is done already is no error and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_after_its_end_changes_nothing() {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Switched).await.unwrap();
    let record = cutover.record(None).await.unwrap();
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(cutover.record(None).await.unwrap(), record);
    cutover.finalize(&terms()).await.unwrap();
    let refused = cutover.run(&terms(), Goal::Switched).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.message().contains("owned by the new store already"));
}

// Fault 24: the schema of the file changes in the middle of a run: it stops and names the difference.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_changes_stops_the_run() {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    stage.file.run("ALTER TABLE domain_event ADD COLUMN note TEXT");
    let refused = cutover.run(&terms(), Goal::Switched).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.message().contains("schema was"), "{}", refused.message());
    assert_eq!(cutover.abort(&terms()).await.unwrap().phase, Phase::Idle);
}

// Fault 25: somebody changes a row of the new store behind everybody's back: found and named, and nothing is switched.
#[rstest]
#[case(
    "UPDATE event_store.domain_event SET event_data = '{\"n\": 7777}' WHERE position = 7",
    "position = 7) differs in event_data"
)]
#[case("DELETE FROM event_store.domain_event WHERE position = 7", "position = 7) is missing")]
#[tokio::test(flavor = "multi_thread")]
async fn a_rogue_write_is_found_and_named(#[case] sql: &str, #[case] named: &str) {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    let rogue = format!("SET session_replication_role = replica; {sql}; RESET session_replication_role");
    stage.db.execute(&rogue).await.unwrap();
    let refused = cutover.run(&terms(), Goal::Switched).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(refused.message().contains(named), "{}", refused.message());
    let status = cutover.status().await.unwrap();
    assert_eq!((status.owner, status.file.unwrap().open), (Owner::Sqlite, true));
    assert!(words(&cutover.record(None).await.unwrap()).contains(&"mismatched"));
}

// A target that is not empty is refused before anything is touched.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_with_rows_is_refused_and_nothing_is_touched() {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    stage
        .db
        .execute(
            "SET session_replication_role = replica; SET changeover.tenant_id = 'default'; \
             INSERT INTO event_store.event_stream VALUES ('default', gen_random_uuid(), 'X', gen_random_uuid(), now(), 0); \
             RESET session_replication_role",
        )
        .await
        .unwrap();
    let cutover = stage.cutover().await;
    let refused = cutover.run(&terms(), Goal::Switched).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Invalid | ErrorKind::AlreadyExists), "{refused}");
    assert_eq!(
        stage.file.number("SELECT count(*) FROM sqlite_master WHERE name LIKE '\\_\\_cut%' ESCAPE '\\'"),
        0
    );
    assert!(cutover.status().await.unwrap().run.is_none());
}

// Fault 26: a damaged file is refused before anything is touched.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_refused() {
    let stage = Stage::legacy(Family::Events, &history(30, 50)).await;
    stage.old.close().await;
    stage.file.damage();
    let stage = Stage::of_damaged(stage.file).await;
    let refused = stage.cutover().await.run(&terms(), Goal::Switched).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    assert_eq!(stage.number("SELECT count(*) FROM cutover.run").await, 0);
}
