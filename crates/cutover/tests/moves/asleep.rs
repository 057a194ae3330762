//! A coordinator that sleeps over the end of its lease, and wakes when another has done its work.

use changeover_core::Uuid;
use changeover_core::backend::Family;
use changeover_core::events::ReadAll;
use changeover_cutover::Goal;
use changeover_cutover::phase::{Owner, Phase};
use rstest::rstest;

use crate::process::Process;
use crate::roots::one_root;
use crate::stage::{Stage, append, event, history, stream, terms};

const SECOND: &str = "the second";

/// Everything that a coordinator could change.
async fn everything(stage: &Stage) -> String {
    let rows = "SELECT md5(string_agg(r, '|' ORDER BY r)) FROM (\
        SELECT e::text AS r FROM event_store.domain_event AS e UNION ALL SELECT s::text FROM event_store.event_stream AS s \
        UNION ALL SELECT t::text FROM cutover.run AS t UNION ALL SELECT t::text FROM cutover.record AS t \
        UNION ALL SELECT t::text FROM cutover.chunk AS t UNION ALL SELECT m::text FROM changeover.module AS m) AS every";
    let rows: String = stage.db.query(rows, &[]).await.unwrap()[0].get(0);
    let status = stage.cutover().await.status().await.unwrap();
    let events = "SELECT count(*) * 1000003 + sum(rowid) * 1009 + sum(length(event_data)) FROM domain_event";
    let events = stage.file.number(events);
    format!("{rows} {:?} {events}", status.file)
}

// Fault 10: stopped at a place, its lease gone, its run finished by another process: when it goes on it changes nothing, and says
// who took the run where it meant to change something.
#[rstest]
#[case("prepare.sqlite", false)]
#[case("prepare.postgres", true)]
#[case("copy.read", true)]
#[case("copy.stored", true)]
#[case("copy.end", true)]
#[case("verify.before", true)]
#[case("verify.after", true)]
#[case("fence.before", true)]
#[case("fence.sqlite", true)]
#[case("drain.after", true)]
#[case("seal.after", true)]
#[case("sealed.after", true)]
#[case("switch.before", true)]
#[tokio::test(flavor = "multi_thread")]
async fn a_sleeper_changes_nothing_when_it_wakes_at(#[case] place: &str, #[case] is_named: bool) {
    let stage = Stage::legacy(Family::Events, &history(3, 40)).await;
    let mut sleeper = Process::at(&stage, "run", place).await;
    sleeper.signal("STOP");
    stage.lease_runs_out().await;
    let second = stage.cutover_by(SECOND, stage.db.url()).await;
    assert_eq!(second.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    one_root(&stage).await;
    append(&*stage.new_events().await, stream(1), event(Uuid::new_v4(), 1)).await.unwrap();
    let before = everything(&stage).await;

    sleeper.signal("CONT");
    sleeper.tell("go on");
    let said = sleeper.says("ended:").await.join("\n");
    assert!(!is_named || said.contains(SECOND), "{said}");
    assert_eq!(everything(&stage).await, before, "{said}");
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 121);
}

// Fault 10: the run was given up while its coordinator slept. It does not begin another one by itself.
#[rstest]
#[case("prepare.postgres")]
#[case("copy.read")]
#[case("verify.after")]
#[case("fence.sqlite")]
#[case("switch.before")]
#[tokio::test(flavor = "multi_thread")]
async fn a_sleeper_whose_run_was_given_up_stays_given_up_at(#[case] place: &str) {
    let stage = Stage::legacy(Family::Events, &history(3, 40)).await;
    let mut sleeper = Process::at(&stage, "run", place).await;
    sleeper.signal("STOP");
    let second = stage.cutover_by(SECOND, stage.db.url()).await;
    assert_eq!(second.abort(&terms()).await.unwrap().phase, Phase::Idle);
    let before = everything(&stage).await;

    sleeper.signal("CONT");
    sleeper.tell("go on");
    let said = sleeper.says("ended:").await.join("\n");
    assert!(said.contains("was ended meanwhile: aborted by \"the second\""), "{said}");
    assert_eq!(everything(&stage).await, before, "{said}");
    let status = stage.cutover().await.status().await.unwrap();
    let file = status.file.unwrap();
    assert_eq!((status.owner, file.open, file.captures), (Owner::Sqlite, true, false));
}

// Fault 10: a revert that sleeps. Another one finishes it, the service writes to the file, and the module moves a second time: what
// the first one had in its hands belongs to an earlier time.
#[rstest]
#[case("revert.read")]
#[case("revert.written")]
#[case("revert.fenced")]
#[case("revert.drained")]
#[case("revert.postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_revert_brings_nothing_back_to_a_later_time(#[case] place: &str) {
    let stage = Stage::legacy(Family::Events, &history(3, 40)).await;
    let second = stage.cutover_by(SECOND, stage.db.url()).await;
    second.run(&terms(), Goal::Switched).await.unwrap();
    append(&*stage.new_events().await, stream(1), event(Uuid::from_u128(7), 1)).await.unwrap();
    let mut sleeper = Process::at(&stage, "revert", place).await;
    sleeper.signal("STOP");
    stage.lease_runs_out().await;
    if place != "revert.postgres" {
        assert_eq!(second.revert(&terms()).await.unwrap().owner, Owner::Sqlite);
    }
    // An old program changes what came back.
    let changed = "UPDATE domain_event SET event_data = '{\"n\": 2}' \
        WHERE event_id = '00000000-0000-0000-0000-000000000007'";
    if place == "revert.postgres" {
        // The last step of the revert is done again by whoever comes next.
        second.run(&terms(), Goal::Verified).await.unwrap();
    }
    stage.file.run(changed);
    assert_eq!(second.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    one_root(&stage).await;
    let before = everything(&stage).await;

    sleeper.signal("CONT");
    sleeper.tell("go on");
    let said = sleeper.says("ended:").await.join("\n");
    assert_eq!(everything(&stage).await, before, "{said}");
    assert_eq!(stage.file.number("SELECT count(*) FROM domain_event WHERE event_data = '{\"n\": 2}'"), 1);
    let events = stage.new_events().await.read_all(ReadAll::default()).await.unwrap().events;
    let last: serde_json::Value = events.last().unwrap().data.to().unwrap();
    assert_eq!(last, serde_json::json!({ "n": 2 }));
}
