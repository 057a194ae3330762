//! A revert that the file does not take: the new store goes on as the owner.

use std::sync::{Arc, Mutex};

use changeover_core::backend::Family;
use changeover_core::events::{Append, Expected, NewEvent};
use changeover_core::{ErrorKind, Json, Uuid};
use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::{Cutover, Goal, Step};
use rstest::rstest;

use crate::stage::{Stage, append, event, history, stream, terms, words};

/// The file refuses one kind of event.
pub const REFUSES: &str = "CREATE TRIGGER refuses BEFORE INSERT ON domain_event WHEN NEW.event_type = 'Poison' \
                       BEGIN SELECT RAISE(ABORT, 'not this one'); END";

fn poison() -> NewEvent {
    NewEvent::new("Poison", Json::parse("{}").unwrap()).unwrap()
}

/// More changes since the switch than go back before the fence, the last of which the file refuses.
pub async fn switched(stage: &Stage, cutover: &Cutover) {
    cutover.run(&terms(), Goal::Switched).await.unwrap();
    let store = stage.new_events().await;
    for _ in 0..3 {
        let events = (0..400).map(|number| event(Uuid::new_v4(), number)).collect();
        store.append(Append::one(stream(7), Expected::Any, events)).await.unwrap();
    }
    store.append(Append::one(stream(8), Expected::Any, vec![poison()])).await.unwrap();
}

/// Writes go to the new store, are read there, and are refused by the file.
pub async fn goes_on(stage: &Stage, number: u64) {
    append(&*stage.new_events().await, stream(9), event(Uuid::new_v4(), number)).await.unwrap();
    let refused = append(&*stage.old_events().await, stream(9), event(Uuid::new_v4(), number)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Moved);
}

async fn in_the_new_store(stage: &Stage) -> i64 {
    stage.number("SELECT count(*) FROM event_store.domain_event").await
}

// I1, I10, I13: a row that the file refuses behind the fence is named; the module is owned by the new store again at once, with
// every record, and what is written then goes back as well once the file is corrected. Then a second move works.
#[tokio::test(flavor = "multi_thread")]
async fn a_revert_that_the_file_refuses_leaves_the_new_store_the_owner() {
    let stage = Stage::legacy(Family::Events, &history(2, 3)).await;
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&steps);
    let cutover = stage.cutover().await.watching(move |step| seen.lock().unwrap().push(step.clone()));
    switched(&stage, &cutover).await;
    stage.file.run(REFUSES);
    steps.lock().unwrap().clear();

    let refused = cutover.revert(&terms()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    let parts =
        ["table domain_event", "rowid = 1207", "not this one", "the new store is the owner as before"];
    for part in parts {
        assert!(refused.message().contains(part), "{part}: {refused}");
    }
    let status = cutover.status().await.unwrap();
    assert_eq!((status.phase, status.owner, status.epoch), (Phase::Switched, Owner::Postgres, 3));
    let file = status.file.unwrap();
    assert_eq!((file.open, file.epoch), (false, 1));
    let record = cutover.record(None).await.unwrap();
    assert_eq!(words(&record)[record.len() - 2..], ["revert_fenced", "stayed"]);
    assert!(record.last().unwrap().entry.facts.as_str().contains("not this one"));
    let phases = steps.lock().unwrap().clone();
    let phases = phases.iter().filter_map(|it| match it {
        Step::Phase(phase) => Some(phase.to_string()),
        Step::Paused(pause) => Some(format!("{} takes writes", pause.ended)),
        _ => None,
    });
    assert_eq!(phases.collect::<Vec<_>>(), ["revert_fenced", "switched", "postgres takes writes"]);
    assert_eq!(in_the_new_store(&stage).await, 1_207);
    goes_on(&stage, 1).await;

    // Again, with nothing corrected: the same.
    let again = cutover.revert(&terms()).await.unwrap_err();
    assert!(again.message().contains("rowid = 1207"), "{again}");
    goes_on(&stage, 2).await;

    stage.file.run("DROP TRIGGER refuses");
    let status = cutover.revert(&terms()).await.unwrap();
    assert_eq!((status.phase, status.owner), (Phase::Idle, Owner::Sqlite));
    assert_eq!(stage.file.number("SELECT count(*) FROM domain_event"), 1_209);
    append(&*stage.old_events().await, stream(9), event(Uuid::new_v4(), 3)).await.unwrap();
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(in_the_new_store(&stage).await, 1_210);
}

// The same when the file holds something else in the end than was written to it: in what is compared behind the fence, and in what
// was compared before.
#[rstest]
#[case(0, 1_207)]
#[case(1, 7)]
#[tokio::test(flavor = "multi_thread")]
async fn a_revert_whose_comparison_fails_leaves_the_new_store_the_owner(#[case] some: u64, #[case] row: u64) {
    let stage = Stage::legacy(Family::Events, &history(2, 3)).await;
    let other = stage.file.other();
    let cutover = stage.cutover().await.watching(move |step| {
        if matches!(step, Step::WroteBack { left, .. } if (*left).min(1) == some) {
            let gate = "UPDATE __cut_meta SET open =";
            let sql = format!("UPDATE domain_event SET event_version = 5 WHERE rowid = {row}");
            other(&format!("{gate} 1; {sql}; {gate} 0"));
        }
    });
    switched(&stage, &cutover).await;
    let refused = cutover.revert(&terms()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    assert!(
        refused.message().contains("somebody else writes to the file; the new store is the owner"),
        "{refused}"
    );
    let status = cutover.status().await.unwrap();
    assert_eq!((status.phase, status.owner), (Phase::Switched, Owner::Postgres));
    assert!(!status.file.unwrap().open);
    goes_on(&stage, 1).await;
    assert_eq!(in_the_new_store(&stage).await, 1_208);
}
