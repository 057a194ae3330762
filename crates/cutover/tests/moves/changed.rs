//! What changes behind the back of a run: the tables of the new store, its rows, the end of the file's log.

use changeover_core::ErrorKind;
use changeover_core::backend::Family;
use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::{Goal, Step};
use rstest::rstest;

use crate::roots::one_root;
use crate::stage::{Stage, append, event, history, stream, terms, words};

/// In the replica's role, in which no trigger looks.
async fn rogue(stage: &Stage, sql: &str) {
    let sql = format!("SET session_replication_role = replica; {sql}; RESET session_replication_role");
    stage.db.execute(&sql).await.unwrap();
}

// Fault 24: a column or constraint of the new store is another than when the run began: it stops, names the difference, and goes
// on when it is put back.
#[rstest]
#[case(
    "ADD COLUMN note text",
    "DROP COLUMN note",
    "there is column note of table event_store.domain_event, text"
)]
#[case(
    "ALTER COLUMN correlation_id TYPE text",
    "ALTER COLUMN correlation_id TYPE uuid USING correlation_id::uuid",
    "there was column correlation_id of table event_store.domain_event, uuid; there is column correlation_id of table \
     event_store.domain_event, text"
)]
#[case(
    "ALTER COLUMN event_type DROP NOT NULL",
    "ALTER COLUMN event_type SET NOT NULL",
    "event_type of table"
)]
#[case(
    "ADD CONSTRAINT small CHECK (position < 1000000)",
    "DROP CONSTRAINT small",
    "there is constraint of table event_store.domain_event: small CHECK (("
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_new_store_that_changes_stops_the_run(
    #[case] change: &str,
    #[case] back: &str,
    #[case] named: &str,
) {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    let alter = |what: &str| format!("ALTER TABLE event_store.domain_event {what}");
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    stage.db.execute(&alter(change)).await.unwrap();
    let before = words(&cutover.record(None).await.unwrap()).len();
    let refused = cutover.run(&terms(), Goal::Switched).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.message().contains(named), "{}", refused.message());
    let status = cutover.status().await.unwrap();
    assert_eq!((status.owner, status.file.unwrap().open), (Owner::Sqlite, true));
    assert_eq!(words(&cutover.record(None).await.unwrap()).len(), before);
    stage.db.execute(&alter(back)).await.unwrap();
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    one_root(&stage).await;
}

// Fault 24: the same while the writers stand still: the fence is opened again.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_store_that_changes_behind_the_fence_is_not_switched_to() {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    let url = stage.db.url().to_owned();
    let cutover = stage.cutover().await.watching(move |step| {
        if *step == Step::Phase(Phase::Drained) {
            let change = async {
                let client = changeover_testkit::tokio_postgres::connect(
                    &url,
                    changeover_testkit::tokio_postgres::NoTls,
                );
                let (client, connection) = client.await.unwrap();
                let connection = tokio::spawn(connection);
                client
                    .batch_execute("ALTER TABLE event_store.domain_event ADD COLUMN IF NOT EXISTS note text")
                    .await
                    .unwrap();
                connection.abort();
            };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(change));
        }
    });
    let refused = cutover.run(&terms(), Goal::Switched).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(
        refused.message().contains("there is column note of table event_store.domain_event"),
        "{refused}"
    );
    let status = cutover.status().await.unwrap();
    assert_eq!((status.owner, status.file.unwrap().open), (Owner::Sqlite, true));
    append(&*stage.old_events().await, stream(1), event(changeover_core::Uuid::new_v4(), 1)).await.unwrap();
    assert_eq!(cutover.abort(&terms()).await.unwrap().phase, Phase::Idle);
}

// Fault 25: changes that make up for each other in counts and sums are found, each by its key.
#[rstest]
#[case::swapped(
    "UPDATE event_store.domain_event AS e SET event_data = o.event_data FROM event_store.domain_event AS o \
     WHERE (e.position, o.position) IN ((7, 8), (8, 7))",
    &["position = 7) differs in event_data", "position = 8) differs in event_data"]
)]
#[case::one_more_and_one_less(
    "UPDATE event_store.domain_event SET event_data = jsonb_set(event_data, '{n}', \
         to_jsonb((event_data ->> 'n')::int + CASE position WHEN 7 THEN 1 ELSE -1 END)) WHERE position IN (7, 9)",
    &["position = 7) differs in event_data", "position = 9) differs in event_data"]
)]
#[case::one_gone_and_one_come(
    "UPDATE event_store.domain_event SET position = 900 WHERE position = 7",
    &["position = 7) is missing", "position = 900) is in the new store only"]
)]
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_make_up_for_each_other_are_found(#[case] sql: &str, #[case] named: &[&str]) {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    rogue(&stage, sql).await;
    let refused = cutover.run(&terms(), Goal::Switched).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(refused.message().starts_with("2 rows of the new store"), "{}", refused.message());
    for part in named {
        assert!(refused.message().contains(part), "{part} is not in {}", refused.message());
    }
    let status = cutover.status().await.unwrap();
    assert_eq!((status.owner, status.file.unwrap().open), (Owner::Sqlite, true));
    assert!(words(&cutover.record(None).await.unwrap()).contains(&"mismatched"));
}

/// The end of a log that is lost is in the middle of what was written last.
const TORN: u64 = 100;

// Fault 26: the end of the `-wal` is lost before anything of it was moved: SQLite finds the last whole commit, and that is
// what moves, whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_cut_before_a_run_leaves_what_was_whole() {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    append(&*stage.old_events().await, stream(1), event(changeover_core::Uuid::new_v4(), 1)).await.unwrap();
    let whole = stage.file.logged();
    append(&*stage.old_events().await, stream(1), event(changeover_core::Uuid::new_v4(), 2)).await.unwrap();
    let cut = stage.file.with_log_cut(whole + TORN);
    let stage = stage.found_again(cut).await;
    assert_eq!(stage.cutover().await.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    one_root(&stage).await;
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 16);
}

// Fault 26: changes that were moved are gone from the file. It is refused at once, and also when new changes took their numbers.
#[rstest]
#[case::nothing_came_since(0, "an older copy of it was put back")]
#[case::others_took_their_numbers(3, "of the new store")]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_cut_after_changes_were_moved_is_found(#[case] since: u64, #[case] said: &str) {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    stage.cutover().await.run(&terms(), Goal::Verified).await.unwrap();
    let whole = stage.file.logged();
    for number in 1..=2 {
        append(
            &*stage.old_events().await,
            stream(number.into()),
            event(changeover_core::Uuid::new_v4(), number),
        )
        .await
        .unwrap();
    }
    stage.cutover().await.run(&terms(), Goal::Verified).await.unwrap();
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 17);
    let cut = stage.file.with_log_cut(whole + TORN);
    let stage = stage.found_again(cut).await;
    for number in 1..=since {
        append(&*stage.old_events().await, stream(1), event(changeover_core::Uuid::new_v4(), 10 + number))
            .await
            .unwrap();
    }
    let cutover = stage.cutover().await;
    let refused = cutover.run(&terms(), Goal::Switched).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    assert!(refused.message().contains(said), "{}", refused.message());
    let status = cutover.status().await.unwrap();
    assert_eq!((status.owner, status.file.unwrap().open), (Owner::Sqlite, true));
    // What is in the file can be moved anew.
    cutover.abort(&terms()).await.unwrap();
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    one_root(&stage).await;
}

// Fault 26: the fence itself is gone from the file, which PostgreSQL owned by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_cut_before_the_fence_is_refused_after_the_switch() {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    stage.cutover().await.run(&terms(), Goal::Verified).await.unwrap();
    let whole = stage.file.logged();
    stage.cutover().await.run(&terms(), Goal::Switched).await.unwrap();
    let cut = stage.file.with_log_cut(whole + TORN);
    let stage = stage.found_again(cut).await;
    let cutover = stage.cutover().await;
    assert!(cutover.status().await.unwrap().file.unwrap().open);
    for refused in [
        cutover.run(&terms(), Goal::Switched).await,
        cutover.revert(&terms()).await,
        cutover.finalize(&terms()).await,
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        assert!(refused.message().contains("nothing was changed"), "{}", refused.message());
    }
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 15);
}
