//! The authority of a cutover: begin, switch, abort, the way back, the record.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod moving;

use std::sync::Arc;

use changeover_core::backend::Family;
use changeover_core::cutover::*;
use changeover_core::events::{Append, Expected, NewEvent, ReadAll, StreamId};
use changeover_core::{
    Applied, Backend, Error, ErrorKind, EventStore, Json, Result, TenantId, Timestamp, Uuid, sha256_hex,
};
use changeover_postgres::Postgres;
use changeover_testkit::{Proxy, TestDatabase};
use moving::*;

async fn loaded(target: &Arc<dyn CutoverTarget>, epoch: i64) -> (NewRun, Lease) {
    let new = new_run(events(), epoch);
    let lease = target.begin(&new, entry("prepared")).await.unwrap();
    target.copy(&lease, &chunk(0, 1, vec![stream(1, 2)])).await.unwrap();
    target.copy(&lease, &chunk(1, 1, vec![event(7, 1, 1), event(9, 1, 2)])).await.unwrap();
    (new, lease)
}

async fn switched(target: &Arc<dyn CutoverTarget>, epoch: i64) -> (NewRun, Lease) {
    let (new, lease) = loaded(target, epoch).await;
    to_sealed(target, &lease, 2).await;
    assert!(target.switch(&lease, &Switch { epoch, applied: 0 }, entry("switched")).await.unwrap());
    (new, lease)
}

async fn store(db: &TestDatabase) -> Arc<dyn EventStore> {
    let backend = Postgres.open(&settings(db.url())).await.unwrap();
    backend.events(&scope("events"), &TenantId::new("acme").unwrap()).await.unwrap()
}

fn append(number: u128, expected: Expected) -> Append {
    let id = StreamId::new("Order", Uuid::from_u128(number)).unwrap();
    Append::one(id, expected, vec![NewEvent::new("Placed", Json::parse("{}").unwrap()).unwrap()])
}

// As long as a run may need the tables they are not taken back, whatever loss is accepted: not while it copies, not while
// the way back is open, not while a revert is under way. The error names run, phase, and what ends it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_needs_is_not_migrated_down() {
    let db = prepared().await;
    let target = target(db.url(), "events").await;
    let backend = Postgres.open(&settings(db.url())).await.unwrap();
    let migrations = backend.migrations(&scope("events"), Family::Events).unwrap();
    let refused = async |run: &NewRun, phase: &str, first: &str| {
        let before = schema(&db).await;
        let rows = number(&db, "SELECT count(*) FROM event_store.domain_event").await;
        for steps in [1, 100] {
            let error = migrations.down(steps, true).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            for part in
                [&*format!("run {}", run.run), "module events", &*format!("the phase {phase} "), first]
            {
                assert!(error.message().contains(part), "{part}: {error}");
            }
        }
        assert_eq!(schema(&db).await, before);
        assert_eq!(number(&db, "SELECT count(*) FROM event_store.domain_event").await, rows);
        assert!(migrations.status().await.unwrap().iter().all(|it| it.applied_at.is_some()));
    };
    let (run, lease) = loaded(&target, 0).await;
    refused(&run, "prepared", "abort it first").await;
    to_sealed(&target, &lease, 2).await;
    refused(&run, "sealed", "abort it first").await;
    assert!(target.switch(&lease, &Switch { epoch: 0, applied: 0 }, entry("switched")).await.unwrap());
    refused(&run, "switched", "finalize it, or revert it, first").await;
    // What all modules share has this run as well.
    let audit = backend.migrations(&scope("audit"), Family::Audit).unwrap();
    let error = audit.down(100, true).await.unwrap_err();
    assert!(error.message().contains("the cutover of module events"), "{error}");
    assert_eq!(audit.down(1, true).await.unwrap().len(), 1, "its own tables are its own affair");
    target.fence(&lease, 1, entry("revert_fenced")).await.unwrap().unwrap();
    refused(&run, "revert_fenced", "finish the revert first").await;
    target.give_back(&lease, 2, entry("reverted")).await.unwrap().unwrap();
    assert_eq!(migrations.down(1, true).await.unwrap().len(), 1);
}

// I1: for a moment of a revert nobody owns the module. A service that comes just then and knows no other store does not get it,
// though its tables are empty; afterwards the old store has it.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_module_whose_revert_is_under_way_is_claimed_by_nobody() {
    let db = prepared().await;
    let target = target(db.url(), "events").await;
    let backend = Postgres.open(&settings(db.url())).await.unwrap();
    let lease = target.begin(&new_run(events(), 0), entry("prepared")).await.unwrap();
    to_sealed(&target, &lease, 2).await;
    assert!(target.switch(&lease, &Switch { epoch: 0, applied: 0 }, entry("switched")).await.unwrap());
    assert!(backend.claim(&scope("events")).await.unwrap(), "whose it is anyway");
    target.fence(&lease, 1, entry("revert_fenced")).await.unwrap().unwrap();
    assert!(!backend.claim(&scope("events")).await.unwrap());
    let authority = target.authority().await.unwrap().unwrap();
    assert_eq!((&*authority.owner, authority.epoch), ("none", 2));
    target.give_back(&lease, 2, entry("reverted")).await.unwrap().unwrap();
    assert!(!backend.claim(&scope("events")).await.unwrap());
    assert_eq!(target.authority().await.unwrap().unwrap().owner, "sqlite");
}

// The same of the last step: what is finalized needs no way back.
#[tokio::test(flavor = "multi_thread")]
async fn a_finalized_module_is_migrated_down_like_any_other() {
    let db = prepared().await;
    let target = target(db.url(), "events").await;
    let backend = Postgres.open(&settings(db.url())).await.unwrap();
    let migrations = backend.migrations(&scope("events"), Family::Events).unwrap();
    let (_, lease) = switched(&target, 0).await;
    assert_eq!(migrations.down(1, true).await.unwrap_err().kind(), ErrorKind::Invalid);
    target.finalize(&lease, entry("finalized")).await.unwrap();
    assert_eq!(migrations.down(1, true).await.unwrap().len(), 1);
}

// I5, fault 25: the schema after a run is the schema before it, whatever became of the run; epochs only grow.
#[tokio::test(flavor = "multi_thread")]
async fn the_schema_afterwards_is_the_schema_before() {
    let db = prepared().await;
    db.execute(OWN).await.unwrap();
    let before = schema(&db).await;
    assert!(before.iter().any(|line| line.contains("who wrote it")));
    let target = target(db.url(), "events").await;
    for link in [false, true] {
        let epoch = target.authority().await.unwrap().unwrap().epoch;
        let (new, lease) = loaded(&target, epoch).await;
        assert_ne!(schema(&db).await, before);
        if link {
            target.link(&lease, entry("linked")).await.unwrap();
            target.link(&lease, entry("linked")).await.unwrap();
        }
        assert_eq!(target.abort(new.run, epoch, entry("aborted")).await.unwrap(), Some(epoch + 2));
        assert_eq!(target.abort(new.run, epoch, entry("aborted")).await.unwrap(), None);
        assert_eq!(schema(&db).await, before);
        assert_eq!(number(&db, "SELECT count(*) FROM event_store.domain_event").await, 0);
        assert_eq!(target.run().await.unwrap().unwrap().phase, "idle");
        assert_eq!(target.renew(&lease).await.unwrap_err().kind(), ErrorKind::Contention);
        let authority = target.authority().await.unwrap().unwrap();
        assert_eq!((&*authority.owner, authority.epoch), ("sqlite", epoch + 2));
    }

    let (_, lease) = switched(&target, 4).await;
    let fenced = target.fence(&lease, 5, entry("fenced")).await.unwrap();
    assert_eq!(fenced, Some(0));
    assert_eq!(target.give_back(&lease, 5, entry("given_back")).await.unwrap(), None);
    assert_eq!(target.give_back(&lease, 6, entry("given_back")).await.unwrap(), Some(7));
    assert_eq!(schema(&db).await, before);
    assert_eq!(number(&db, "SELECT count(*) FROM event_store.event_stream").await, 0);

    let behind = target.begin(&new_run(events(), 6), entry("prepared")).await.unwrap_err();
    assert_eq!(behind.kind(), ErrorKind::Invalid);
    let (_, lease) = switched(&target, 8).await;
    target.finalize(&lease, entry("finalized")).await.unwrap();
    assert_eq!(target.finalize(&lease, entry("finalized")).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(schema(&db).await, before);
    assert_eq!(
        target.begin(&new_run(events(), 9), entry("prepared")).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );

    let own_target = self::target_of(&db).await;
    for switches in [false, true] {
        let new = new_run(own(), 1 + 2 * i64::from(switches));
        let lease = own_target.begin(&new, entry("prepared")).await.unwrap();
        own_target.copy(&lease, &chunk(0, 1, vec![author(41, "a")])).await.unwrap();
        let mut client = db.client().await.unwrap();
        let write = client.execute("INSERT INTO own.author (name) VALUES ('early')", &[]).await;
        assert_eq!(write.unwrap_err().code().unwrap().code(), "COMVD", "not yet its own");
        if !switches {
            own_target.abort(new.run, new.epoch, entry("aborted")).await.unwrap().unwrap();
            assert_eq!(schema(&db).await, before);
            continue;
        }
        own_target.copy(&lease, &chunk(1, 1, vec![note(3, 41, "x", true)])).await.unwrap();
        to_sealed(&own_target, &lease, 2).await;
        assert!(
            own_target.switch(&lease, &Switch { epoch: 3, applied: 0 }, entry("switched")).await.unwrap()
        );
        // Hazard 44: sequences go on after what was copied.
        let tx = client.transaction().await.unwrap();
        let id: i64 = tx
            .query_one("INSERT INTO own.author (name) VALUES ('next') RETURNING id", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(id, 42);
        tx.execute("UPDATE own.note SET id = 5 WHERE id = 3", &[]).await.unwrap();
        tx.commit().await.unwrap();
        let found = own_target.changes(0, 100).await.unwrap();
        let changes: Vec<_> = found.keys.iter().map(|it| it.change.clone()).collect();
        assert_eq!(
            changes,
            [
                change(0, 42, Some(author(42, "next"))),
                change(1, 3, None),
                change(1, 5, Some(note(5, 41, "x", true)))
            ]
        );
        own_target.finalize(&lease, entry("finalized")).await.unwrap();
        assert_eq!(schema(&db).await, before);
    }
}

async fn target_of(db: &TestDatabase) -> Arc<dyn CutoverTarget> {
    target(db.url(), "notes").await
}

// S4-MIG-012: what begin refuses leaves everything as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_begins_only_on_empty_tables_that_no_other_run_has() {
    let db = prepared().await;
    let target = target(db.url(), "events").await;
    let before = schema(&db).await;
    db.execute("INSERT INTO event_store.event_stream SELECT 'other', gen_random_uuid(), 'x', gen_random_uuid(), now(), 1")
        .await
        .unwrap();
    assert!(target.facts(&events()).await.unwrap().tables[0].has_rows, "rows of every tenant are seen");
    let filled = target.begin(&new_run(events(), 0), entry("prepared")).await.unwrap_err();
    assert_eq!((filled.kind(), filled.was_applied()), (ErrorKind::AlreadyExists, Some(Applied::No)));
    assert!(filled.message().contains("event_stream"), "{filled}");
    assert_eq!((schema(&db).await, target.run().await.unwrap()), (before, None));
    assert_eq!(target.authority().await.unwrap().unwrap().owner, "none");
    db.execute(
        "ALTER TABLE event_store.event_stream DISABLE TRIGGER USER; DELETE FROM event_store.event_stream; \
                ALTER TABLE event_store.event_stream ENABLE TRIGGER USER",
    )
    .await
    .unwrap();

    let (one, two) = (new_run(events(), 0), new_run(events(), 0));
    let (first, second) =
        tokio::join!(target.begin(&one, entry("prepared")), target.begin(&two, entry("prepared")));
    let refused = if first.is_ok() { second } else { first }.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(number(&db, "SELECT count(*) FROM cutover.run").await, 1);
    let mut unknown = events();
    unknown[0].columns.push(column("nothing", text(), true));
    let lacks = target.facts(&unknown).await.unwrap().lacks;
    assert!(lacks.len() == 1 && lacks[0].contains("column nothing"), "{lacks:?}");
}

// I6: nothing is switched while anything is missing, and the message says what.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_needs_everything_settled() {
    let db = prepared().await;
    let target = target(db.url(), "events").await;
    let (_, lease) = loaded(&target, 0).await;
    let switch =
        async |epoch, applied| target.switch(&lease, &Switch { epoch, applied }, entry("switched")).await;
    let orphan = Change { table: 1, key: vec![Value::Int(11)], row: Some(event(11, 5, 1)) };
    let mut with_orphan = apply(vec![orphan], 4);
    with_orphan.quarantined = vec![bad(0, 3)];
    target.apply(&lease, &with_orphan).await.unwrap();
    let tables = events();
    let unlinked = target.unlinked(&tables[1], 0, &tables[0], 10).await.unwrap();
    assert_eq!(unlinked, [[Value::Int(11)]]);
    let broken = target.link(&lease, entry("linked")).await.unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::Invalid);
    assert!(broken.message().contains("domain_event_stream_fkey"), "{broken}");
    target
        .apply(&lease, &apply(vec![Change { table: 1, key: vec![Value::Int(11)], row: None }], 5))
        .await
        .unwrap();

    let missing = |error: Error, said: &str| {
        assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Invalid, Some(Applied::No)));
        assert!(error.message().contains(said), "{error}");
    };
    missing(switch(0, 5).await.unwrap_err(), "phase prepared");
    assert!(!switch(1, 5).await.unwrap());
    target.enter(&lease, &["prepared"], "sealed", entry("sealed")).await.unwrap();
    missing(switch(0, 4).await.unwrap_err(), "up to 5 are applied");
    missing(switch(0, 5).await.unwrap_err(), "1 quarantined rows");
    let ids =
        [target.quarantined(&QuarantineFilter { limit: 9, ..QuarantineFilter::default() }).await.unwrap()[0]
            .id];
    let run = lease.run;
    target.decide(run, &ids, &Decision::Reject, entry("rejected")).await.unwrap();
    missing(switch(0, 5).await.unwrap_err(), "undecided or rejected");
    target.decide(run, &ids, &Decision::Approve, entry("approved")).await.unwrap();
    missing(switch(0, 5).await.unwrap_err(), "link first");
    target.link(&lease, entry("linked")).await.unwrap();
    assert_eq!(store(&db).await.append(append(1, Expected::Any)).await.unwrap_err().kind(), ErrorKind::Moved);
    assert!(switch(0, 5).await.unwrap());
    assert!(!switch(0, 5).await.unwrap(), "again: nothing");
    let authority = target.authority().await.unwrap().unwrap();
    assert_eq!((&*authority.owner, authority.epoch), ("postgres", 1));
}

// I9, fault 11: abort and switch at once; exactly one succeeds, many times over.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_abort_and_a_switch_at_once_exactly_one_succeeds() {
    let db = prepared().await;
    let target = target(db.url(), "events").await;
    for round in 0..6 {
        let epoch = target.authority().await.unwrap().unwrap().epoch;
        let (new, lease) = loaded(&target, epoch).await;
        to_sealed(&target, &lease, 2).await;
        let terms = Switch { epoch, applied: 0 };
        let switch = target.switch(&lease, &terms, entry("switched"));
        let abort = target.abort(new.run, epoch, entry("aborted"));
        let (switched, aborted): (Result<bool>, Result<Option<i64>>) = if round % 2 == 0 {
            tokio::join!(switch, abort)
        } else {
            let (a, s) = tokio::join!(abort, switch);
            (s, a)
        };
        let aborted = aborted.unwrap().is_some();
        let switched = match switched {
            Ok(switched) => switched,
            // The abort took the lease away as well.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Contention, "{error}");
                false
            }
        };
        assert_ne!(switched, aborted);
        let authority = target.authority().await.unwrap().unwrap();
        assert_eq!(authority.owner == "postgres", switched);
        if switched {
            assert_eq!(target.fence(&lease, epoch + 1, entry("fenced")).await.unwrap(), Some(0));
            target.give_back(&lease, epoch + 2, entry("given_back")).await.unwrap().unwrap();
        }
    }
}

// I1, I5, I7: the first step of a revert is taken back by whoever has the lease, once, and only while nobody owns the module;
// writers go on, what was captured stays, and the next revert begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_revert_is_taken_back_only_while_nobody_owns_the_module() {
    let db = prepared().await;
    let target = target(db.url(), "events").await;
    let (new, lease) = switched(&target, 0).await;
    let store = store(&db).await;
    store.append(append(2, Expected::NoStream)).await.unwrap();
    let owner = async || {
        let authority = target.authority().await.unwrap().unwrap();
        (authority.owner, authority.epoch)
    };
    assert_eq!(target.stay(&lease, 1, entry("stayed")).await.unwrap(), None, "there is nothing to take back");
    let captured = target.fence(&lease, 1, entry("revert_fenced")).await.unwrap().unwrap();
    assert!(captured > 0);
    assert_eq!(target.stay(&lease, 1, entry("stayed")).await.unwrap(), None, "of another epoch");
    let newer = target.lease(new.run, "another", TTL).await;
    assert_eq!(newer.unwrap_err().kind(), ErrorKind::Contention, "the lease is had");
    target.release(&lease).await.unwrap();
    let newer = target.lease(new.run, "another", TTL).await.unwrap();
    let old = target.stay(&lease, 2, entry("stayed")).await.unwrap_err();
    assert_eq!((old.kind(), old.was_applied()), (ErrorKind::Contention, Some(Applied::No)), "{old}");
    assert_eq!(owner().await, ("none".to_owned(), 2));
    assert_eq!(store.append(append(3, Expected::Any)).await.unwrap_err().kind(), ErrorKind::Moved);

    assert_eq!(target.stay(&newer, 2, entry("stayed")).await.unwrap(), Some(3));
    assert_eq!(owner().await, ("postgres".to_owned(), 3));
    assert_eq!(target.stay(&newer, 2, entry("stayed")).await.unwrap(), None, "again: nothing");
    assert_eq!(
        target.give_back(&newer, 2, entry("reverted")).await.unwrap(),
        None,
        "nor does the revert go on"
    );
    assert_eq!(target.run().await.unwrap().unwrap().phase, "switched");
    store.append(append(3, Expected::Any)).await.unwrap();
    assert!(target.fence(&newer, 3, entry("revert_fenced")).await.unwrap().unwrap() > captured);
    target.give_back(&newer, 4, entry("reverted")).await.unwrap().unwrap();
    assert_eq!(
        target.stay(&newer, 5, entry("stayed")).await.map_err(|error| error.kind()),
        Err(ErrorKind::Contention)
    );
    assert_eq!(owner().await, ("sqlite".to_owned(), 5));
}

// I2, I13: after the switch the store serves and goes on; the fence of a revert waits for a writer in flight; what was
// written comes back, every row once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_after_the_switch_comes_back() {
    let db = prepared().await;
    let (target, witness) = side(db.url(), "events").await;
    let (_, lease) = switched(&target, 0).await;
    let store = store(&db).await;
    let page = store.read_all(ReadAll::default()).await.unwrap();
    assert_eq!(page.events.iter().map(|it| it.checkpoint.position()).collect::<Vec<_>>(), [7, 9]);
    let stored = store.append(append(1, Expected::Any)).await.unwrap();
    assert_eq!(stored.checkpoint.position(), 501, "above every position ever given");
    store.append(append(2, Expected::NoStream)).await.unwrap();

    let backend = Postgres.open(&settings(db.url())).await.unwrap();
    let writer = db.client().await.unwrap();
    writer
        .batch_execute("BEGIN; SELECT pg_advisory_xact_lock_shared(changeover.lock_key('events', 'module'))")
        .await
        .unwrap();
    let fencing = tokio::spawn({
        let (target, lease) = (Arc::clone(&target), lease.clone());
        async move { target.fence(&lease, 1, entry("fenced")).await }
    });
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while number(&db, waits).await == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(backend.owner(&scope("events")).await.unwrap().as_deref(), Some("postgres"));
    writer.batch_execute("COMMIT").await.unwrap();
    let last = fencing.await.unwrap().unwrap().unwrap();
    assert_eq!(store.append(append(3, Expected::Any)).await.unwrap_err().kind(), ErrorKind::Moved);

    let first = target.changes(0, 2).await.unwrap();
    assert_eq!((first.last_seq, first.keys.len()), (last, 2));
    let rest = target.changes(first.upto, 100).await.unwrap();
    assert_eq!(rest.upto, last);
    assert!(target.changes(last, 10).await.unwrap().keys.is_empty());
    let mut positions = Vec::new();
    for back in first.keys.iter().chain(&rest.keys) {
        let row = back.change.row.as_ref().unwrap();
        if back.change.table == 1 {
            assert_eq!(row[1], back.change.key[0]);
            positions.push(row[1].clone());
        } else {
            let Value::Int(version) = row[5] else { panic!("a version") };
            assert!(version == 3 || version == 1);
        }
    }
    assert_eq!(positions, [Value::Int(501), Value::Int(502)]);
    let key = ["position".to_owned()];
    let seen = witness
        .rows("event_store.domain_event", &key, &[], Some(&["9".to_owned()]), Some(&["501".to_owned()]), 9)
        .await;
    assert_eq!(seen.unwrap(), [[Some("501".to_owned())]], "the witness sees rows under forced row security");
    assert_eq!(witness.count("event_store.domain_event").await.unwrap(), 4);
    assert_eq!(target.give_back(&lease, 2, entry("given_back")).await.unwrap(), Some(3));
    assert_eq!(number(&db, "SELECT count(*) FROM cutover.capture").await, 0);
}

// What another tenant wrote after the switch has no place in the file: the way back says which row it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_another_tenant_does_not_go_back() {
    let db = prepared().await;
    let target = target(db.url(), "events").await;
    let (_, lease) = switched(&target, 0).await;
    let backend = Postgres.open(&settings(db.url())).await.unwrap();
    let other = backend.events(&scope("events"), &TenantId::new("other").unwrap()).await.unwrap();
    assert_eq!(other.append(append(1, Expected::NoStream)).await.unwrap().checkpoint.position(), 501);
    let error = target.changes(0, 100).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    for part in ["event_store.event_stream", "\"tenant_id\": \"other\"", "another tenant"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    assert_eq!(target.authority().await.unwrap().unwrap().owner, "postgres");
    target.finalize(&lease, entry("finalized")).await.unwrap();
}

// Fault 5 at switch and abort: the answer is lost, the outcome is found, a repetition has no second effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_a_switch_or_an_abort_is_found_out() {
    let db = prepared().await;
    let proxy = Proxy::start(db.url()).await.unwrap();
    let target = target(&proxy.url(db.url()), "events").await;
    let (new, _) = loaded(&target, 0).await;
    proxy.cut_before_reply_to_commit();
    let lost = target.abort(new.run, 0, entry("aborted")).await.unwrap_err();
    assert_eq!(lost.was_applied(), Some(Applied::Unknown));
    assert_eq!(target.authority().await.unwrap().unwrap().epoch, 2);
    assert_eq!(target.abort(new.run, 0, entry("aborted")).await.unwrap(), None);

    let (_, lease) = loaded(&target, 2).await;
    to_sealed(&target, &lease, 2).await;
    let terms = Switch { epoch: 2, applied: 0 };
    proxy.cut_before_reply_to_commit();
    let lost = target.switch(&lease, &terms, entry("switched")).await.unwrap_err();
    assert_eq!((lost.kind(), lost.was_applied()), (ErrorKind::Unavailable, Some(Applied::Unknown)));
    let authority = target.authority().await.unwrap().unwrap();
    assert_eq!((&*authority.owner, authority.epoch), ("postgres", 3));
    assert!(!target.switch(&lease, &terms, entry("switched")).await.unwrap());
    assert_eq!(target.run().await.unwrap().unwrap().phase, "switched");
    assert_eq!(number(&db, "SELECT count(*) FROM cutover.record WHERE what = 'switched'").await, 1);
}

// Amendment 10: anybody can compute the chain of the record again from what it says.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_is_a_chain_that_can_be_computed_again() {
    let db = prepared().await;
    let target = target(db.url(), "events").await;
    let (new, lease) = loaded(&target, 0).await;
    let mut facts = entry("fenced");
    facts.facts = Json::parse(r#"{"fenced_at":17,"z":"é","a":[1.50]}"#).unwrap();
    target.enter(&lease, &["prepared"], "fenced", facts).await.unwrap();
    target.enter(&lease, &["prepared"], "fenced", entry("fenced")).await.unwrap();
    target.record(new.run, entry("looked")).await.unwrap();
    target.abort(new.run, 0, entry("aborted")).await.unwrap();
    let (other, _) = loaded(&target, 2).await;
    assert_eq!(target.record(Uuid::nil(), entry("x")).await.unwrap_err().kind(), ErrorKind::NotFound);
    let mut lines = entry("looked");
    lines.who = "a\nb".to_owned();
    assert_eq!(target.record(new.run, lines).await.unwrap_err().kind(), ErrorKind::Invalid);

    let all = target.entries(None, 0, 100).await.unwrap();
    assert_eq!(
        all.iter().map(|it| &*it.entry.what).collect::<Vec<_>>(),
        ["prepared", "fenced", "looked", "aborted", "prepared"]
    );
    let mut previous = "0".repeat(64);
    for (it, number) in all.iter().zip(1..) {
        assert_eq!((it.number, &it.previous), (number, &previous));
        let (at, entry): (Timestamp, &Entry) = (it.at, &it.entry);
        let text = format!(
            "{previous}\n{number}\n{}\n{at}\n{}\n{}\n{}\n",
            it.run,
            entry.what,
            entry.who,
            entry.facts.as_str()
        );
        assert_eq!(it.hash, sha256_hex(text.as_bytes()));
        previous.clone_from(&it.hash);
    }
    assert_eq!(target.entries(Some(other.run), 0, 9).await.unwrap(), all[4..]);
    assert_eq!(target.entries(None, 3, 1).await.unwrap(), all[3..4]);
    let fenced_at = "SELECT fenced_at FROM cutover.run WHERE fenced_at IS NOT NULL";
    assert_eq!(number(&db, fenced_at).await, 17);
}

// Amendment 12: rows go into the months they belong to, which are made when missing and go again with an abort; the head of
// the trail is at least the high water.
#[tokio::test(flavor = "multi_thread")]
async fn months_are_made_for_rows_and_go_with_an_abort() {
    let db = prepared().await;
    let target = target(db.url(), "audit").await;
    assert_eq!(target.facts(&audit()).await.unwrap().lacks, Vec::<String>::new());
    let before = schema(&db).await;
    let new = new_run(audit(), 0);
    let lease = target.begin(&new, entry("prepared")).await.unwrap();
    let rows = vec![audited(3, "1999-12-31T23:59:59.999999Z"), audited(4, "2000-01-01T00:00:00Z")];
    assert_eq!(target.copy(&lease, &chunk(0, 1, rows.clone())).await.unwrap(), ChunkDone::Stored);
    let counts = "SELECT (SELECT count(*) FROM audit_store.audit_events_1999_12) * 10 \
                       + (SELECT count(*) FROM audit_store.audit_events_2000_01)";
    assert_eq!(number(&db, counts).await, 11);
    let moved = apply(vec![change(0, 4, Some(audited(4, "1999-12-01T00:00:00Z")))], 1);
    assert_eq!(target.apply(&lease, &moved).await.unwrap(), ChunkDone::Stored);
    assert_eq!(number(&db, counts).await, 20);
    let dates = "SELECT event_date::text FROM audit_store.audit_event_id WHERE digest = decode(repeat('07', 32), 'hex') ORDER BY 1";
    assert_eq!(texts(&db, dates).await, ["1999-12-01", "1999-12-31"], "the table of ids follows");
    let taken = chunk(
        0,
        2,
        vec![
            audited(3, "2001-01-01T00:00:00Z")
                .into_iter()
                .enumerate()
                .map(|(place, value)| if place == 1 { Value::Int(8) } else { value })
                .collect::<Vec<_>>(),
        ],
    );
    let conflict = ChunkDone::Conflict {
        row: 0,
        stored: (0, vec![Value::Int(3)]),
        constraint: "audit_event_id_pkey".to_owned(),
    };
    assert_eq!(target.copy(&lease, &taken).await.unwrap(), conflict, "an id stands once over all months");
    assert_eq!(target.abort(new.run, 0, entry("aborted")).await.unwrap(), Some(2));
    assert_eq!(schema(&db).await, before);

    let lease = target.begin(&new_run(audit(), 2), entry("prepared")).await.unwrap();
    target.copy(&lease, &chunk(0, 1, rows)).await.unwrap();
    target.link(&lease, entry("linked")).await.unwrap();
    for high in [None, Some(90), Some(90)] {
        let seal = Seal { high_water: vec![high], log_high_water: None, tenants: vec![] };
        target.seal(&lease, &seal, entry("sealed")).await.unwrap();
        assert_eq!(number(&db, "SELECT sequence FROM audit_store.audit_head").await, high.unwrap_or(4));
    }
    target.enter(&lease, &["prepared"], "sealed", entry("sealed")).await.unwrap();
    assert!(target.switch(&lease, &Switch { epoch: 2, applied: 0 }, entry("switched")).await.unwrap());
    let head = db.execute("UPDATE audit_store.audit_head SET sequence = 1").await.unwrap_err();
    assert!(format!("{head:?}").contains("COIMM"));
}
