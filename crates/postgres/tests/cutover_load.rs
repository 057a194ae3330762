//! The new store of a cutover: leases, rows, conflicts, quarantine.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod moving;

use changeover_core::cutover::*;
use changeover_core::{Applied, ErrorKind, Json, Timestamp, Uuid};
use changeover_testkit::Proxy;
use moving::*;

// S4-MIG-012: rows, quarantine and checkpoint are one transaction; the same chunk again changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_is_stored_once_with_its_checkpoint_and_its_quarantine() {
    let db = prepared().await;
    db.execute(OWN).await.unwrap();
    let target = target(db.url(), "notes").await;
    let facts = target.facts(&own()).await.unwrap();
    assert_eq!(facts.lacks, Vec::<String>::new());
    assert!(facts.tables.iter().all(|it| it.exists && !it.has_rows) && !facts.place.contains('@'));
    assert_eq!((target.authority().await.unwrap(), target.run().await.unwrap()), (None, None));

    let new = new_run(own(), 3);
    let lease = target.begin(&new, entry("prepared")).await.unwrap();
    let authority = target.authority().await.unwrap().unwrap();
    assert_eq!((&*authority.owner, authority.epoch, authority.log), ("sqlite", 3, new.log.unwrap()));
    let mut first = chunk(0, 1, vec![author(1, "é"), author(2, "b")]);
    first.quarantined = vec![bad(0, 3)];
    assert_eq!(target.copy(&lease, &first).await.unwrap(), ChunkDone::Stored);
    assert_eq!(target.copy(&lease, &first).await.unwrap(), ChunkDone::Repeated);
    assert_eq!(target.copy(&lease, &chunk(0, 3, vec![author(9, "z")])).await.unwrap(), ChunkDone::Repeated);
    let mut last = chunk(0, 2, vec![]);
    (last.end, last.last, last.seq) = (true, vec![], 4);
    assert_eq!(target.copy(&lease, &last).await.unwrap(), ChunkDone::Stored);

    assert_eq!(texts(&db, "SELECT id || name FROM own.author ORDER BY id").await, ["1é", "2b"]);
    let progress = target.progress(new.run).await.unwrap();
    assert_eq!((progress.first_seq, progress.applied, progress.quarantined), (Some(4), 0, (1, 1)));
    assert_eq!((progress.tables[0].chunks, progress.tables[0].end, progress.tables[0].rows), (2, true, 2));
    assert_eq!(progress.tables[1], TableProgress::default());
    let filter = QuarantineFilter { limit: 10, ..QuarantineFilter::default() };
    let kept = target.quarantined(&filter).await.unwrap();
    assert_eq!((kept[0].row.clone(), kept[0].reasons.clone()), (bad(0, 3).row, bad(0, 3).reasons));
    let run = target.run().await.unwrap().unwrap();
    assert_eq!(
        (run.run, &*run.phase, run.nonce, run.declarations),
        (new.run, "prepared", new.nonce, new.declarations)
    );
}

// Hazards 36 and 49; decision 5 of the design: a unique value that is there names both rows, and nothing is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_unique_value_that_is_there_names_both_rows_and_stores_nothing() {
    let db = prepared().await;
    db.execute(OWN).await.unwrap();
    let target = target(db.url(), "notes").await;
    let lease = target.begin(&new_run(own(), 1), entry("prepared")).await.unwrap();
    target.copy(&lease, &chunk(1, 1, vec![note(1, 1, "One", true), note(2, 2, "Two", false)])).await.unwrap();
    let cases = [
        (vec![note(9, 9, "nine", false), note(2, 3, "x", false)], 1, 2, "note_pkey"),
        (vec![note(3, 3, "tWO", false)], 0, 2, "note_title"),
        (vec![note(3, 1, "three", false), note(4, 1, "four", true)], 1, 1, "note_first"),
        (vec![note(5, 5, "five", false), note(6, 6, "FIVE", false)], 1, 5, "note_title"),
    ];
    for (rows, row, stored, constraint) in cases {
        let conflict = ChunkDone::Conflict {
            row,
            stored: (1, vec![Value::Int(stored)]),
            constraint: constraint.to_owned(),
        };
        assert_eq!(target.copy(&lease, &chunk(1, 2, rows.clone())).await.unwrap(), conflict);
        let changes = rows.iter().map(|row| {
            let Value::Int(id) = row[0] else { panic!("an id") };
            change(1, id, Some(row.clone()))
        });
        let applied = target.apply(&lease, &apply(changes.collect(), 7)).await.unwrap();
        if constraint == "note_pkey" {
            // An apply replaces what has the key.
            assert_eq!(applied, ChunkDone::Stored);
            target
                .apply(
                    &lease,
                    &apply(vec![change(1, 9, None), change(1, 2, Some(note(2, 2, "Two", false)))], 7),
                )
                .await
                .unwrap();
        } else {
            assert_eq!(applied, conflict);
        }
        assert_eq!(number(&db, "SELECT count(*) FROM own.note").await, 2);
    }
    let mut replaces = chunk(1, 2, vec![note(2, 9, "again", false)]);
    replaces.replace = vec![vec![Value::Int(2)], vec![Value::Int(77)]];
    assert_eq!(target.copy(&lease, &replaces).await.unwrap(), ChunkDone::Stored);
    assert_eq!(texts(&db, "SELECT id || title FROM own.note ORDER BY id").await, ["1One", "2again"]);
}

// Following: keys of all tables go, then rows come, so unique values may swap; an older batch changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn changes_replace_rows_by_key_and_never_go_back() {
    let db = prepared().await;
    db.execute(OWN).await.unwrap();
    let target = target(db.url(), "notes").await;
    let new = new_run(own(), 1);
    let lease = target.begin(&new, entry("prepared")).await.unwrap();
    let mut first = chunk(0, 1, vec![author(1, "a"), author(2, "b"), author(4, "d")]);
    first.quarantined = vec![bad(0, 3), bad(0, 5)];
    target.copy(&lease, &first).await.unwrap();
    let all = QuarantineFilter { limit: 10, ..QuarantineFilter::default() };
    let ids: Vec<_> = target.quarantined(&all).await.unwrap().iter().map(|it| it.id).collect();
    assert_eq!(target.decide(new.run, &ids, &Decision::Approve, entry("approved")).await.unwrap(), 2);

    let mut swap = apply(
        vec![change(0, 1, Some(author(1, "b"))), change(0, 2, Some(author(2, "a"))), change(0, 4, None)],
        20,
    );
    swap.looked_at = vec![(0, bad(0, 3).key), (0, bad(0, 5).key)];
    swap.quarantined = vec![bad(0, 5)];
    assert_eq!(target.apply(&lease, &swap).await.unwrap(), ChunkDone::Stored);
    assert_eq!(texts(&db, "SELECT id || name FROM own.author ORDER BY id").await, ["1b", "2a"]);
    let left = target.quarantined(&all).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(
        (left[0].id, &*left[0].decision),
        (ids[1], "approved"),
        "judged anew and equal: the approval holds"
    );
    assert_eq!(
        target.apply(&lease, &apply(vec![change(0, 1, None)], 19)).await.unwrap(),
        ChunkDone::Repeated
    );
    let mut differs = apply(vec![], 20);
    differs.quarantined = vec![Quarantined { reasons: vec![], ..bad(0, 5) }];
    assert_eq!(target.apply(&lease, &differs).await.unwrap(), ChunkDone::Stored);
    assert_eq!(target.quarantined(&all).await.unwrap()[0].decision, "undecided");

    let repair = Decision::Repair(vec![author(5, "repaired")]);
    assert_eq!(target.decide(new.run, &[ids[1]], &repair, entry("repaired")).await.unwrap(), 1);
    let again = target.decide(new.run, &[ids[1]], &Decision::Reject, entry("rejected")).await.unwrap_err();
    assert_eq!((again.kind(), again.was_applied()), (ErrorKind::Invalid, Some(Applied::No)));
    assert_eq!(texts(&db, "SELECT id || name FROM own.author ORDER BY id").await, ["1b", "2a", "5repaired"]);
    assert_eq!(target.run().await.unwrap().unwrap().applied, 20);
}

// Hazards 5, 7, 8, 13, 24, 33: every type arrives as it is; the witness prints it.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_exactly_and_what_does_not_fit_is_named() {
    let db = prepared().await;
    db.execute(
        "CREATE SCHEMA own AUTHORIZATION changeover_owner; SET ROLE changeover_owner; \
         CREATE DOMAIN own.short AS text CHECK (char_length(VALUE) < 9); \
         CREATE TABLE own.every (id int PRIMARY KEY, b boolean, i bigint, d double precision, n numeric, t own.short, \
            u uuid, j jsonb, at timestamptz, day date, raw bytea)",
    )
    .await
    .unwrap();
    let columns = vec![
        column("id", Type::Int { min: 0, max: 9 }, false),
        column("b", Type::Bool, true),
        column("i", int(), true),
        column("d", Type::Double, true),
        column("n", Type::Decimal { precision: 40, scale: 20 }, true),
        column("t", text(), true),
        column("u", Type::Uuid, true),
        column("j", Type::Json { object: false }, true),
        column("at", time(), true),
        column("day", Type::Date, true),
        column("raw", Type::Bytes { len: None }, true),
    ];
    let tables = vec![table("every", "own.every", &["id"], columns)];
    let (target, witness) = side(db.url(), "every").await;
    assert_eq!(target.facts(&tables).await.unwrap().lacks, Vec::<String>::new());
    let lease = target.begin(&new_run(tables, 1), entry("prepared")).await.unwrap();
    let at = Timestamp::parse("9999-12-31T23:59:59.999999Z").unwrap();
    let full = vec![
        Value::Int(1),
        Value::Bool(true),
        Value::Int(i64::MIN),
        Value::Double(1.0 / 3.0),
        Value::Decimal("-12345678901234567890.00012345678901234567".to_owned()),
        Value::Text("é \\N\t".to_owned()),
        Value::Uuid(Uuid::from_u128(u128::MAX)),
        Value::Json(Json::parse(r#"{"b":[1e2,null],"a":"\\u0041"}"#).unwrap()),
        Value::Timestamp(at),
        Value::Date(Timestamp::parse("0001-01-01T00:00:00Z").unwrap().date()),
        Value::Bytes(vec![0, 255]),
    ];
    let mut empty = vec![Value::Null; 11];
    (empty[0], empty[5]) = (Value::Int(2), Value::Text(String::new()));
    assert_eq!(
        target.copy(&lease, &chunk(0, 1, vec![full.clone(), empty])).await.unwrap(),
        ChunkDone::Stored
    );
    let names: Vec<String> =
        ["b", "i", "d", "n", "t", "u", "j", "at", "day", "raw"].map(str::to_owned).into();
    let key = ["id".to_owned()];
    let asked = [vec!["3".to_owned()], vec!["1".to_owned()]];
    let mut found = witness.by_keys("own.every", &key, &names, &asked).await.unwrap();
    let seen = found.pop().flatten().unwrap();
    assert_eq!(found, [None]);
    let expected = [
        "1",
        "true",
        "-9223372036854775808",
        "0.3333333333333333",
        "-12345678901234567890.00012345678901234567",
        "é \\N\t",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        r#"{"a": "\\u0041", "b": [100, null]}"#,
        "9999-12-31 23:59:59.999999+00",
        "0001-01-01",
        "\\x00ff",
    ];
    assert_eq!(seen, expected.map(|it| Some(it.to_owned())));
    let seen = witness.rows("own.every", &key, &names[3..5], Some(&["1".to_owned()]), None, 9).await.unwrap();
    assert_eq!(seen, [vec![Some("2".to_owned()), None, Some(String::new())]]);
    assert_eq!(witness.count("own.every").await.unwrap(), 2);

    // A constraint refuses rows for what they hold: they are named, and nothing is stored.
    let with = |id: i64, text: &str| {
        let mut row = full.clone();
        (row[0], row[5]) = (Value::Int(id), Value::Text(text.to_owned()));
        row
    };
    let long = "much too long";
    let rows = vec![with(5, ""), with(6, long), with(7, ""), with(8, ""), with(9, long)];
    let by = |row: usize| RefusedRow { row, by: "the constraint short_check".to_owned() };
    let refused = ChunkDone::Refused(vec![by(1), by(4)]);
    assert_eq!(target.copy(&lease, &chunk(0, 2, rows.clone())).await.unwrap(), refused);
    let changes = rows.into_iter().zip(5..).map(|(row, id)| change(0, id, Some(row))).collect();
    assert_eq!(target.apply(&lease, &apply(changes, 3)).await.unwrap(), refused);
    for (place, value, column) in
        [(0, Value::Int(1 << 40), "column id"), (3, Value::Text("no number".to_owned()), "column d")]
    {
        let mut row = full.clone();
        row[0] = Value::Int(5);
        row[place] = value;
        let error = target.copy(&lease, &chunk(0, 2, vec![row])).await.unwrap_err();
        assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Invalid, Some(Applied::No)));
        assert!(error.message().contains(column) || error.message().contains("column t"), "{error}");
        assert!(!error.to_string().contains("no number"), "{error}");
    }
    assert_eq!(number(&db, "SELECT count(*) FROM own.every").await, 2);
}

// Fault 4, fault 5 at chunk and apply: half a COPY leaves nothing; a lost answer is told as unknown and found out.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_copy_leaves_nothing_and_a_lost_answer_is_told_as_unknown() {
    let db = prepared().await;
    db.execute(OWN).await.unwrap();
    let proxy = Proxy::start(db.url()).await.unwrap();
    let target = target(&proxy.url(db.url()), "notes").await;
    let new = new_run(own(), 1);
    let lease = target.begin(&new, entry("prepared")).await.unwrap();

    let mut rows: Vec<_> = (0..20_000).map(|id| author(id, &format!("name {id}"))).collect();
    rows.push(author(20_000, "the one that is cut"));
    rows.extend((20_001..40_000).map(|id| author(id, &format!("name {id}"))));
    proxy.drop_reply_after("the one that is cut");
    let broken = target.copy(&lease, &chunk(0, 1, rows)).await.unwrap_err();
    assert!(proxy.reply_was_dropped());
    assert_eq!((broken.kind(), broken.was_applied()), (ErrorKind::Unavailable, Some(Applied::No)));
    assert_eq!(
        number(&db, "SELECT (SELECT count(*) FROM own.author) + (SELECT count(*) FROM cutover.chunk)").await,
        0
    );

    let first = chunk(0, 1, vec![author(1, "a")]);
    proxy.cut_before_reply_to_commit();
    let lost = target.copy(&lease, &first).await.unwrap_err();
    assert_eq!((lost.kind(), lost.was_applied()), (ErrorKind::Unavailable, Some(Applied::Unknown)));
    assert_eq!(target.progress(new.run).await.unwrap().tables[0].chunks, 1);
    assert_eq!(target.copy(&lease, &first).await.unwrap(), ChunkDone::Repeated);

    let changes = apply(vec![change(0, 1, Some(author(1, "b")))], 8);
    proxy.cut_before_reply_to_commit();
    let lost = target.apply(&lease, &changes).await.unwrap_err();
    assert_eq!(lost.was_applied(), Some(Applied::Unknown));
    assert_eq!(target.run().await.unwrap().unwrap().applied, 8);
    assert_eq!(texts(&db, "SELECT name FROM own.author").await, ["b"]);
}

// I7, faults 9 and 10: of two coordinators one has the lease, and an old token changes nothing anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_token_changes_nothing() {
    let db = prepared().await;
    db.execute(OWN).await.unwrap();
    let target = target(db.url(), "notes").await;
    let new = new_run(own(), 1);
    let old = target.begin(&new, entry("prepared")).await.unwrap();
    let refused = target.lease(new.run, "two", TTL).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Contention);
    assert!(refused.message().contains("\"one\""), "{refused}");
    db.execute("UPDATE cutover.run SET until = now() - interval '1 second'").await.unwrap();
    target.renew(&old).await.unwrap();
    assert!(
        target.lease(new.run, "two", TTL).await.is_err(),
        "renewed, though it had run out: nobody took it"
    );
    db.execute("UPDATE cutover.run SET until = now() - interval '1 second'").await.unwrap();
    let lease = target.lease(new.run, "two", TTL).await.unwrap();
    assert!(lease.token > old.token);

    let before =
        texts(&db, "SELECT r::text FROM cutover.run r UNION ALL SELECT r::text FROM cutover.record r").await;
    let seal = Seal { high_water: vec![None, None], log_high_water: None, tenants: vec![] };
    let refused = [
        target.copy(&old, &chunk(0, 1, vec![author(1, "a")])).await.map(drop),
        target.apply(&old, &apply(vec![change(0, 1, Some(author(1, "a")))], 5)).await.map(drop),
        target.renew(&old).await,
        target.release(&old).await,
        target.enter(&old, &["prepared"], "copying", entry("copying")).await,
        target.link(&old, entry("linked")).await,
        target.seal(&old, &seal, entry("sealed")).await,
        target.switch(&old, &Switch { epoch: 1, applied: 0 }, entry("switched")).await.map(drop),
        target.fence(&old, 1, entry("fenced")).await.map(drop),
        target.give_back(&old, 1, entry("given")).await.map(drop),
        target.finalize(&old, entry("finalized")).await,
    ];
    for error in refused.map(Result::unwrap_err) {
        assert_eq!(
            (error.kind(), error.was_applied()),
            (ErrorKind::Contention, Some(Applied::No)),
            "{error}"
        );
        assert!(error.message().contains("\"two\""), "{error}");
    }
    let after =
        texts(&db, "SELECT r::text FROM cutover.run r UNION ALL SELECT r::text FROM cutover.record r").await;
    assert_eq!(before, after);
    assert_eq!(number(&db, "SELECT count(*) FROM own.author").await, 0);
    target.release(&lease).await.unwrap();
    let error = target.renew(&lease).await.unwrap_err();
    assert!(error.message().contains("nobody has it"), "{error}");
    assert!(target.lease(new.run, "three", TTL).await.unwrap().token > lease.token);
}

// Fault 25: whoever has no token of the run is refused by the tables themselves, the owner included.
#[tokio::test(flavor = "multi_thread")]
async fn recorded_rows_stay_unchangeable_for_everybody_but_the_copier() {
    let db = prepared().await;
    db.execute(OWN).await.unwrap();
    let target = target(db.url(), "events").await;
    let new = new_run(events(), 1);
    let lease = target.begin(&new, entry("prepared")).await.unwrap();
    target.copy(&lease, &chunk(0, 1, vec![stream(1, 1)])).await.unwrap();
    target.copy(&lease, &chunk(1, 1, vec![event(7, 1, 1)])).await.unwrap();
    let rogue = [
        "UPDATE event_store.domain_event SET event_type = 'x'",
        "DELETE FROM event_store.domain_event",
        "TRUNCATE event_store.domain_event",
        "DELETE FROM event_store.event_stream",
        "BEGIN; SET LOCAL changeover.copier = '999'; DELETE FROM event_store.domain_event",
        "UPDATE cutover.record SET who = 'nobody'",
        "TRUNCATE cutover.record",
    ];
    let client = db.client().await.unwrap();
    for sql in rogue {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "COIMM", "{sql}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    let key = vec![Value::Int(7)];
    let changes = apply(vec![Change { table: 1, key, row: Some(event(7, 1, 2)) }], 3);
    assert_eq!(target.apply(&lease, &changes).await.unwrap(), ChunkDone::Stored);
    assert_eq!(number(&db, "SELECT aggregate_version FROM event_store.domain_event").await, 2);

    to_sealed(&target, &lease, 2).await;
    assert!(target.switch(&lease, &Switch { epoch: 1, applied: 3 }, entry("switched")).await.unwrap());
    let sql = format!(
        "SET ROLE changeover_owner; BEGIN; SET LOCAL changeover.copier = '{}'; TRUNCATE event_store.domain_event",
        lease.token
    );
    let error = client.batch_execute(&sql).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "COIMM", "after the switch for the copier too");
    let error = target.copy(&lease, &chunk(0, 2, vec![stream(2, 1)])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(number(&db, "SELECT count(*) FROM event_store.event_stream").await, 1);
}
