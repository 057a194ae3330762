//! Rows that the new store cannot hold: kept whole, told of, and decided about before anything is switched.

use changeover_core::ErrorKind;
use changeover_core::backend::Family;
use changeover_core::cutover::Raw;
use changeover_cutover::convert::{Accepted, Loss};
use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::{Goal, Terms};

use crate::stage::{Stage, history, terms, words};

/// An event that is no JSON, one with a NUL in its type, one of a stream that is not there, two with one version.
const BAD: &str = "\
    UPDATE domain_event SET event_data = '{' WHERE rowid = 3; \
    UPDATE domain_event SET event_type = CAST(x'410042' AS TEXT) WHERE rowid = 5; \
    UPDATE domain_event SET stream_id = '00000000-0000-4000-8000-999999999999' WHERE rowid = 8;";

async fn undecided(stage: &Stage) -> Vec<(i64, Vec<u16>)> {
    let rows = stage.cutover().await.quarantined(None, Some("undecided"), 0, 100).await.unwrap();
    rows.iter().map(|row| (row.id, row.reasons.iter().map(|it| it.hazard).collect())).collect()
}

// Fault 21: bad rows are found, their neighbours are stored, the switch waits for a decision about each.
#[tokio::test(flavor = "multi_thread")]
async fn the_switch_waits_until_all_are_settled() {
    let stage = Stage::legacy(Family::Events, &(history(2, 10) + BAD)).await;
    let cutover = stage.cutover().await;
    let refused = cutover.run(&terms(), Goal::Switched).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.message().contains("3 quarantined rows are undecided"), "{}", refused.message());
    assert_eq!(cutover.status().await.unwrap().owner, Owner::Sqlite);
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 17);
    let found = undecided(&stage).await;
    assert_eq!(
        found.iter().map(|(_, hazards)| hazards.clone()).collect::<Vec<_>>(),
        [vec![20], vec![13], vec![47]]
    );

    // Corrected in the old store.
    stage.file.run("UPDATE domain_event SET event_type = 'Placed' WHERE rowid = 5");
    // Repaired: other values are stored instead.
    let kept = cutover.quarantined_row(found[0].0).await.unwrap();
    assert_eq!(
        kept.row[kept.row.iter().position(|raw| *raw == Raw::Text(b"{".to_vec())).unwrap()],
        Raw::Text(b"{".to_vec())
    );
    let refused =
        cutover.repair(found[0].0, &[("event_data".to_owned(), Raw::Text(b"[".to_vec()))]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    cutover
        .repair(found[0].0, &[("event_data".to_owned(), Raw::Text(b"{\"n\": 2}".to_vec()))])
        .await
        .unwrap();
    // Rejected: no switch.
    cutover.reject(&[found[2].0]).await.unwrap();
    let refused = cutover.run(&terms(), Goal::Switched).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.message().contains("rejected"), "{}", refused.message());
    let status = cutover.status().await.unwrap();
    assert_eq!((status.owner, status.file.unwrap().open), (Owner::Sqlite, true));
    // Approved after all.
    cutover.approve(&[found[2].0]).await.unwrap();
    let status = cutover.run(&terms(), Goal::Switched).await.unwrap();
    assert_eq!((status.owner, status.phase), (Owner::Postgres, Phase::Switched));
    assert_eq!(status.progress.unwrap().quarantined, (2, 0));
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 19);
    assert_eq!(
        stage
            .number("SELECT (event_data ->> 'n')::bigint FROM event_store.domain_event WHERE position = 3")
            .await,
        2
    );
    let record = cutover.record(None).await.unwrap();
    assert!(["repaired", "rejected", "approved"].iter().all(|word| words(&record).contains(word)));
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_as_the_terms_allow_are_approved_and_recorded() {
    let stage = Stage::legacy(Family::Events, &(history(2, 10) + BAD)).await;
    let cutover = stage.cutover().await;
    // One less than there are: none is approved.
    let fewer = Terms { max_quarantined: 2, ..terms() };
    assert_eq!(cutover.run(&fewer, Goal::Switched).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(undecided(&stage).await.len(), 3);
    cutover.abort(&terms()).await.unwrap();
    let allowing = Terms { max_quarantined: 3, ..terms() };
    assert_eq!(cutover.run(&allowing, Goal::Switched).await.unwrap().owner, Owner::Postgres);
    let record = cutover.record(None).await.unwrap();
    let approved = record.iter().find(|it| it.entry.what == "approved").unwrap();
    assert!(approved.entry.facts.as_str().contains("max_quarantined"));
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 17);
}

#[tokio::test(flavor = "multi_thread")]
async fn losses_are_accepted_when_a_run_begins_and_not_later() {
    let stage = Stage::legacy(Family::Events, &history(2, 3)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    let accepting = Terms { accepted: Accepted::of(&[Loss::ZonelessTimes]), ..terms() };
    let refused = cutover.run(&accepting, Goal::Switched).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.message().contains("cannot accept zoneless_times any more"), "{}", refused.message());
    assert_eq!(cutover.status().await.unwrap().owner, Owner::Sqlite);
}

// Amendment 6: what refers to a row that stays out follows it, and comes back with it.
#[tokio::test(flavor = "multi_thread")]
async fn events_follow_their_stream() {
    let bad = "UPDATE event_stream SET aggregate_type = '' WHERE rowid = 1";
    let stage = Stage::legacy(Family::Events, &(history(2, 10) + bad)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    let found = undecided(&stage).await;
    assert_eq!(found.len(), 11, "{found:?}");
    assert_eq!(found.iter().filter(|(_, hazards)| *hazards == [0]).count(), 10);
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 10);

    // Nothing changed: the numbers are the same.
    assert!(cutover.run(&terms(), Goal::Switched).await.is_err());
    assert_eq!(undecided(&stage).await, found);

    stage.file.run("UPDATE event_stream SET aggregate_type = 'Order' WHERE rowid = 1");
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 20);
}

// Hazards 36, 49: rows that are one under the new store's rules stay out, all of them, also when they come one by one.
#[tokio::test(flavor = "multi_thread")]
async fn twins_stay_out_until_they_differ() {
    let twins = "INSERT INTO domain_event SELECT '00000000-0000-4000-b000-000000000001', stream_id, 'Placed', 1, 4, '{}', '{}', \
        occurred_at, NULL, NULL FROM domain_event WHERE rowid = 7;";
    let stage = Stage::legacy(Family::Events, &(history(1, 10) + twins)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    let found = undecided(&stage).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 9);
    // A third one, while the module follows.
    stage.file.run(
        "INSERT INTO domain_event SELECT '00000000-0000-4000-b000-000000000002', stream_id, 'Placed', 1, 4, '{}', '{}', \
         occurred_at, NULL, NULL FROM domain_event WHERE rowid = 7",
    );
    assert!(cutover.run(&terms(), Goal::Switched).await.is_err());
    assert_eq!(undecided(&stage).await.len(), 3);
    stage.file.run("DELETE FROM domain_event WHERE event_id LIKE '%-b000-%'");
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 10);
}

// A unique value that two rows swap while the module follows.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_swap_a_unique_value_are_followed() {
    let stage = Stage::legacy(Family::Events, &history(2, 3)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    stage.file.run(
        "BEGIN; UPDATE event_stream SET aggregate_id = 'x' || rowid; \
         UPDATE event_stream SET aggregate_id = printf('00000000-0000-4000-9000-%012d', 3 - rowid); COMMIT",
    );
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    let swapped = "SELECT count(*) FROM event_store.event_stream \
        WHERE right(stream_id::text, 1)::int + right(aggregate_id::text, 1)::int = 3";
    assert_eq!(stage.number(swapped).await, 2);
}
