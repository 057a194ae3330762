//! A module moves, comes back, moves again, and stays; or does not.

use std::sync::{Arc, Mutex};

use changeover_core::audit::{ActorType, Create, NewAuditEvent, Outcome};
use changeover_core::backend::Family;
use changeover_core::events::{NewEvent, ReadAll};
use changeover_core::playbooks::{Change, Edit, NewPlaybook, PlaybookVersion, Put, Status, VersionsOf};
use changeover_core::{ErrorKind, Limit, Text, Timestamp, Uuid};
use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::{Goal, Step};

use crate::stage::{Stage, append, event, history, stream, terms, words};
use crate::support::{scope, tenant};

// S0-MIG: ids, versions, positions and payloads survive; the file is closed, the database open.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_moves_with_every_record() {
    let stage = Stage::legacy(Family::Events, &history(20, 30)).await;
    let before = stage.old_events().await.read_all(ReadAll::default()).await.unwrap().events;
    assert_eq!(before.len(), 500, "a page");

    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&steps);
    let cutover = stage.cutover().await.watching(move |step| seen.lock().unwrap().push(step.clone()));
    let status = cutover.run(&terms(), Goal::Switched).await.unwrap();
    assert_eq!((status.phase, status.owner), (Phase::Switched, Owner::Postgres));
    let file = status.file.unwrap();
    assert_eq!((file.open, file.epoch, status.epoch), (false, 1, 1));

    let after = stage.new_events().await.read_all(ReadAll::default()).await.unwrap().events;
    let same = |it: &changeover_core::events::RecordedEvent| {
        (it.checkpoint, it.id, it.stream.clone(), it.version, it.data.clone(), it.occurred_at)
    };
    assert_eq!(after.iter().map(same).collect::<Vec<_>>(), before.iter().map(same).collect::<Vec<_>>());
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 600);

    let refused =
        append(&*stage.old_events().await, stream(1), event(changeover_core::Uuid::new_v4(), 1)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Moved);
    append(&*stage.new_events().await, stream(1), event(changeover_core::Uuid::new_v4(), 1)).await.unwrap();

    let steps = steps.lock().unwrap().clone();
    let phases: Vec<_> =
        steps.iter().filter_map(|it| if let Step::Phase(phase) = it { Some(*phase) } else { None }).collect();
    assert_eq!(
        phases,
        [
            Phase::Prepared,
            Phase::Copying,
            Phase::CatchingUp,
            Phase::Verifying,
            Phase::Fenced,
            Phase::Drained,
            Phase::Sealed,
            Phase::Switched
        ]
    );
    assert!(steps.iter().any(|it| matches!(it, Step::Paused(pause) if pause.ended == Owner::Postgres)));
    let record = cutover.record(None).await.unwrap();
    assert_eq!(
        words(&record),
        [
            "prepared",
            "copying",
            "indexed",
            "catching_up",
            "verifying",
            "linked",
            "fenced",
            "drained",
            "high_waters",
            "sealed",
            "switched",
            "frozen"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revert_brings_back_what_was_written_since_and_a_second_move_works() {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Switched).await.unwrap();
    let id = changeover_core::Uuid::new_v4();
    append(&*stage.new_events().await, stream(9), event(id, 9)).await.unwrap();

    let status = cutover.revert(&terms()).await.unwrap();
    assert_eq!((status.phase, status.owner), (Phase::Idle, Owner::Sqlite));
    assert!(status.file.unwrap().open);
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 0);
    let back = stage.old_events().await.read_all(ReadAll::default()).await.unwrap().events;
    assert_eq!(back.len(), 16);
    assert_eq!(back.last().unwrap().id, id);
    append(&*stage.old_events().await, stream(9), event(changeover_core::Uuid::new_v4(), 10)).await.unwrap();

    let status = cutover.run(&terms(), Goal::Switched).await.unwrap();
    assert_eq!(status.owner, Owner::Postgres);
    let moved = stage.new_events().await.read_all(ReadAll::default()).await.unwrap().events;
    assert_eq!(moved.len(), 17);
    let positions: Vec<_> = moved.iter().map(|it| it.checkpoint.position()).collect();
    assert!(positions.is_sorted_by(|a, b| a < b));

    let status = cutover.finalize(&terms()).await.unwrap();
    assert_eq!((status.phase, status.owner), (Phase::Finalized, Owner::Postgres));
    assert_eq!(cutover.revert(&terms()).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_leaves_the_file_open_and_the_database_empty() {
    let stage = Stage::legacy(Family::Events, &history(3, 5)).await;
    let cutover = stage.cutover().await;
    let status = cutover.run(&terms(), Goal::Verified).await.unwrap();
    assert_eq!((status.phase, status.owner), (Phase::Verifying, Owner::Sqlite));
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 15);
    append(&*stage.old_events().await, stream(1), event(changeover_core::Uuid::new_v4(), 1)).await.unwrap();

    let status = cutover.abort(&terms()).await.unwrap();
    assert_eq!((status.phase, status.owner, status.epoch), (Phase::Idle, Owner::Sqlite, 2));
    let file = status.file.unwrap();
    assert_eq!((file.open, file.captures, file.epoch), (true, false, 2));
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 0);
    append(&*stage.old_events().await, stream(1), event(changeover_core::Uuid::new_v4(), 2)).await.unwrap();
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 17);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_and_the_playbooks_move_as_well() {
    let audit = "INSERT INTO audit_events (event_id, event_type, event_category, event_outcome, event_timestamp, event_date, \
            service_name, actor_type, resource_type, resource_id, event_data) \
         SELECT printf('00000000-0000-4000-a000-%012d', value), 'a.b', 'c', 'success', '2024-05-06T07:08:09Z', '2024-05-06', \
            's', 'system', 'r', '1', '{\"a\":1}' FROM generate_series(1, 120); \
         INSERT INTO notification_audit (id, notification_id, recipient, channel, status, sent_at) \
         SELECT value, 'n', 'ops', 'email', 'sent', '2024-05-06T07:08:09Z' FROM generate_series(1, 30);";
    // The command line's table function is not in the library.
    let series = |text: &str| {
        text.replace("FROM generate_series(1, 120)", "FROM (WITH RECURSIVE g (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM g WHERE value < 120) SELECT value FROM g)")
            .replace("FROM generate_series(1, 30)", "FROM (WITH RECURSIVE g (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM g WHERE value < 30) SELECT value FROM g)")
    };
    let stage = Stage::legacy(Family::Audit, &series(audit)).await;
    let cutover = stage.cutover().await;
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(stage.number("SELECT count(*) FROM audit_store.audit_events").await, 150);
    assert_eq!(cutover.revert(&terms()).await.unwrap().owner, Owner::Sqlite);
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(stage.number("SELECT count(*) FROM audit_store.audit_events").await, 150);

    let playbook = "INSERT INTO playbook_catalog (playbook_id, version, name, description, content, content_hash, labels, \
            is_latest_version, created_at, updated_at) VALUES \
         ('p', 'v1.0.0', 'P', 'd', 'c', '2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6', '{}', 1, \
          '2024-05-06 07:08:09', '2024-05-06 07:08:09')";
    let stage = Stage::legacy(Family::Playbooks, playbook).await;
    assert_eq!(stage.cutover().await.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(stage.number("SELECT count(*) FROM playbook_store.playbook_catalog").await, 1);
}

// Fault 27. A legacy file has no column for the time at which a record was stored; everything else of what the new store took
// is in it after a revert.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_new_store_took_goes_back_into_a_legacy_file() {
    let stage = Stage::legacy(Family::Events, &history(2, 2)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Switched).await.unwrap();
    let long_ago = Timestamp::parse("2020-02-03T04:05:06.789Z").unwrap();
    let late = NewEvent { occurred_at: Some(long_ago), ..event(Uuid::new_v4(), 7) };
    append(&*stage.new_events().await, stream(1), late.clone()).await.unwrap();
    cutover.revert(&terms()).await.unwrap();
    let back = stage.old_events().await.read_all(ReadAll::default()).await.unwrap().events;
    let last = back.last().unwrap();
    assert_eq!((back.len(), last.id, last.occurred_at), (5, late.id, long_ago));

    let stage = Stage::legacy(Family::Audit, "").await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Switched).await.unwrap();
    let (scope, tenant) = (scope("audit"), tenant());
    let new = stage.new.audit(&scope, &tenant).await.unwrap();
    let event = NewAuditEvent::new("a.b", "a", Outcome::Success, "s", ActorType::User, "r", "1").unwrap();
    let event = NewAuditEvent { event_timestamp: long_ago, ..event };
    new.create(Create { events: vec![event.clone()] }).await.unwrap();
    cutover.revert(&terms()).await.unwrap();
    let old = stage.old.audit(&scope, &tenant).await.unwrap();
    assert_eq!(old.get(event.event_id).await.unwrap().unwrap().event, event);

    let stage = Stage::legacy(Family::Playbooks, "").await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Switched).await.unwrap();
    let scope = crate::support::scope("playbooks");
    let new = stage.new.playbooks(&scope, &tenant).await.unwrap();
    let playbook = playbook("p");
    new.put(Put { versions: vec![playbook.clone()] }).await.unwrap();
    let edit = Edit::Status(Status::Disabled, Some("broken".to_owned()));
    let change = Change {
        playbook_id: playbook.playbook_id.clone(),
        version: playbook.version.clone(),
        edit,
        by: None,
    };
    new.change(change).await.unwrap();
    cutover.revert(&terms()).await.unwrap();
    let old = stage.old.playbooks(&scope, &tenant).await.unwrap();
    let limit = Limit::new(10).unwrap();
    let ask = VersionsOf { playbook_id: playbook.playbook_id.clone(), below: None, limit };
    let found = old.versions(ask).await.unwrap().playbooks;
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].playbook.content, found[0].playbook.status), (&playbook.content, Status::Disabled));
}

fn playbook(id: &str) -> NewPlaybook {
    let text = |text: &str| Text::new("text", text).unwrap();
    NewPlaybook {
        playbook_id: text(id),
        version: PlaybookVersion::new("v1.0.0").unwrap(),
        name: text("P"),
        description: "What to do".to_owned(),
        owner: None,
        maintainer: None,
        content: "# é\r\n".to_owned(),
        content_hash: None,
        labels: [("team".to_owned(), "x".to_owned())].into(),
        embedding: None,
        status: Status::Active,
        is_latest: true,
        previous_version: None,
        version_notes: None,
        change_summary: None,
        approved_by: None,
        approved_at: None,
        expected_success_rate: None,
        expected_duration_seconds: None,
        created_at: None,
        created_by: None,
    }
}
