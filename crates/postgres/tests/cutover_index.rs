//! What a copy does without, and what it costs to find rows by their keys.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod moving;

use changeover_core::{Applied, ErrorKind};
use changeover_testkit::TestDatabase;
use moving::*;

/// An index with a comment, one over an expression, and one that begins with the key.
const INDEXES: &str = "SET ROLE changeover_owner; CREATE INDEX note_price ON own.note (price DESC) WHERE price > 1; \
     COMMENT ON INDEX own.note_price IS 'dear ones'; CREATE INDEX note_words ON own.note (length(title)); \
     CREATE INDEX note_by_id ON own.note (id); \
     CREATE INDEX \"note Small\" ON own.note (small) WITH (fillfactor = 70); \
     CREATE INDEX note_counted ON own.note ((price + 1)); ALTER INDEX own.note_counted ALTER COLUMN 1 SET STATISTICS 500; \
     RESET ROLE";

async fn indexes_of(db: &TestDatabase, table: &str) -> Vec<String> {
    let sql = format!(
        "SELECT indexname::text FROM pg_indexes WHERE schemaname || '.' || tablename = '{table}' ORDER BY 1"
    );
    texts(db, &sql).await
}

// A copy keeps up what is unique and what finds rows by their key, and nothing else; whatever way a run ends, the indexes are
// those that were there.
#[tokio::test(flavor = "multi_thread")]
async fn indexes_for_readers_are_built_when_everything_is_copied() {
    let db = prepared().await;
    db.execute(OWN).await.unwrap();
    db.execute(INDEXES).await.unwrap();
    let target = target(db.url(), "notes").await;
    let before = schema(&db).await;
    let all = indexes_of(&db, "own.note").await;
    assert_eq!(all.len(), 8);

    let lease = target.begin(&new_run(own(), 1), entry("prepared")).await.unwrap();
    // What a definition does not say stays: the statistics target would be lost.
    let kept = ["note_by_id", "note_counted", "note_first", "note_pkey", "note_title"];
    assert_eq!(indexes_of(&db, "own.note").await, kept);
    target.copy(&lease, &chunk(0, 1, vec![author(1, "a")])).await.unwrap();
    target.copy(&lease, &chunk(1, 1, vec![note(1, 1, "One", true)])).await.unwrap();
    assert_eq!(target.index(&lease, entry("indexed")).await.unwrap(), 3);
    assert_eq!(indexes_of(&db, "own.note").await, all);
    assert_eq!(target.index(&lease, entry("indexed")).await.unwrap(), 0, "again: nothing happens");
    let counted = "SELECT reltuples::bigint FROM pg_class WHERE oid = 'own.note'::regclass";
    assert_eq!(number(&db, counted).await, 1, "the planner knows what is there");
    let entries = target.entries(Some(lease.run), 0, 50).await.unwrap();
    let indexed = entries.iter().filter(|it| it.entry.what == "indexed").count();
    assert_eq!(indexed, 1);

    target.abort(lease.run, 1, entry("aborted")).await.unwrap().unwrap();
    assert_eq!(schema(&db).await, before);
    let lease = target.begin(&new_run(own(), 3), entry("prepared")).await.unwrap();
    assert_eq!(indexes_of(&db, "own.note").await, kept);
    target.abort(lease.run, 3, entry("aborted")).await.unwrap().unwrap();
    assert_eq!(schema(&db).await, before, "given up before everything was copied");
}

// A lease that is gone builds nothing.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_the_lease_builds_no_index() {
    let db = prepared().await;
    db.execute(OWN).await.unwrap();
    db.execute(INDEXES).await.unwrap();
    let target = target(db.url(), "notes").await;
    let lease = target.begin(&new_run(own(), 1), entry("prepared")).await.unwrap();
    target.release(&lease).await.unwrap();
    let current = target.lease(lease.run, "another", TTL).await.unwrap();
    let refused = target.index(&lease, entry("indexed")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::Contention, Some(Applied::No)));
    assert_eq!(indexes_of(&db, "own.note").await.len(), 5);
    assert_eq!(target.index(&current, entry("indexed")).await.unwrap(), 3);
}

/// Rows of the audit trail's tables that statements have fetched so far, once at least `least` more than `before` are counted.
/// A connection tells what it fetched when it ends.
async fn fetched(db: &TestDatabase, before: i64, least: i64) -> i64 {
    let sql = "SELECT coalesce(sum(idx_tup_fetch) + sum(seq_tup_read), 0)::bigint FROM pg_stat_user_tables \
                WHERE schemaname = 'audit_store' AND relname LIKE 'audit_event%'";
    for _ in 0..300 {
        let now = number(db, sql).await;
        if now >= before + least {
            return now;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("fewer than {least} rows were read");
}

// Rows are found by their keys however many there are, although the planner takes a table that was filled a moment ago for
// an empty one: neither the follower nor the comparison reads more than it asked for.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_that_was_just_filled_are_found_by_their_keys() {
    const ROWS: i64 = 3_000;
    const KEYS: i64 = 50;
    let db = prepared().await;
    let filled = target(db.url(), "audit").await;
    let lease = filled.begin(&new_run(audit(), 0), entry("prepared")).await.unwrap();
    for (number, first) in (1..).zip((0..ROWS).step_by(1_000)) {
        let rows = (first + 1..=first + 1_000).map(|it| audited(it, "2024-03-01T12:00:00Z")).collect();
        filled.copy(&lease, &chunk(0, number, rows)).await.unwrap();
    }
    drop(filled);
    let before = fetched(&db, 0, 0).await;
    let followed = target(db.url(), "audit").await;
    let changes = (1..=KEYS).map(|it| change(0, it * 7, Some(audited(it * 7, "2024-03-02T12:00:00Z"))));
    followed.apply(&lease, &apply(changes.collect(), 9)).await.unwrap();
    drop(followed);
    let then = fetched(&db, before, KEYS).await;
    assert!(then - before < 20 * KEYS, "{} rows were read to replace {KEYS}", then - before);

    let (compared, witness) = side(db.url(), "audit").await;
    let (key, columns) = (["tenant_id".to_owned(), "sequence".to_owned()], ["event_id".to_owned()]);
    let at = |sequence: i64| ["acme".to_owned(), sequence.to_string()];
    let (from, to) = (at(2_000), at(2_000 + KEYS));
    let page =
        witness.rows("audit_store.audit_events", &key, &columns, Some(&from), Some(&to), 500).await.unwrap();
    assert_eq!(i64::try_from(page.len()).unwrap(), KEYS);
    drop((compared, witness));
    let read = fetched(&db, then, KEYS).await - then;
    assert!(read < 4 * KEYS, "{read} rows were read for a page of {KEYS}");
}
