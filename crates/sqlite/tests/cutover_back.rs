//! The way back of a cutover: rows of the new store, through the gate.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod common;

use changeover_core::cutover::{BackBatch, BackChange, CutoverSource, Raw, SourceColumn};
use changeover_core::events::{Expected, Version};
use changeover_core::{Applied, ErrorKind, Result, Uuid};
use common::cutover::{LONG, captured, dirty, events, named, native_events, playbooks, prepared, raw, sides};
use common::{File, everything, one, store, stream, text};
use diesel::connection::SimpleConnection;

type Values<'a> = &'a [(&'a str, Raw)];

fn columns(values: Values<'_>) -> Vec<(SourceColumn, Raw)> {
    let column = |name: &str| if name == "rowid" { SourceColumn::Rowid } else { named(name) };
    values.iter().map(|(name, value)| (column(name), value.clone())).collect()
}

/// A change of a row whose first `key` columns are its key.
fn put(table: &str, key: usize, row: Values<'_>) -> BackChange {
    BackChange { table: table.to_owned(), key: columns(&row[..key]), row: Some(columns(row)) }
}

fn gone(table: &str, key: Values<'_>) -> BackChange {
    BackChange { table: table.to_owned(), key: columns(key), row: None }
}

async fn back(source: &dyn CutoverSource, seq: i64, changes: Vec<BackChange>) -> Result<()> {
    let epoch = source.meta().await.unwrap().unwrap().epoch;
    source.write_back(&BackBatch { epoch, seq, changes }).await
}

async fn back_applied(source: &dyn CutoverSource) -> (bool, i64) {
    let meta = source.meta().await.unwrap().unwrap();
    (meta.open, meta.back_applied)
}

// I8, I13: rows come back whole, rowids as they are given, through a gate that nobody else sees open; a batch that was
// written is not written again.
#[tokio::test(flavor = "multi_thread")]
async fn rows_come_back_through_a_gate_that_stays_closed() {
    let file = File::legacy();
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    file.raw(
        "INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id, created_at, version)
         VALUES ('s', 't', 'a', 'then', 1), ('old', 't', 'b', 'then', 1)",
    );
    prepared(&*source, &events()).await;
    let open_gate =
        back(&*source, 1, vec![gone("event_stream", &[("stream_id", raw("s"))])]).await.unwrap_err();
    assert_eq!(
        (open_gate.kind(), open_gate.was_applied()),
        (ErrorKind::Invalid, Some(Applied::No)),
        "{open_gate}"
    );
    source.fence(1, "postgres", LONG).await.unwrap().unwrap();
    let event = |rowid: i64, id: &str| {
        put(
            "domain_event",
            1,
            &[
                ("rowid", Raw::Integer(rowid)),
                ("event_id", raw(id)),
                ("stream_id", raw("s")),
                ("event_type", raw("T")),
                ("event_version", Raw::Integer(1)),
                ("aggregate_version", Raw::Integer(rowid)),
                ("event_data", Raw::Text(vec![b'"', 0xff, b'"'])),
                ("metadata", Raw::Null),
            ],
        )
    };
    // The child before its parent, as a batch may have them.
    let changes = vec![
        event(41, "e41"),
        put("event_stream", 1, &[("stream_id", raw("s")), ("version", Raw::Integer(41))]),
        gone("event_stream", &[("stream_id", raw("old"))]),
        gone("event_stream", &[("stream_id", raw("never was"))]),
    ];
    back(&*source, 10, changes).await.unwrap();
    assert_eq!(back_applied(&*source).await, (false, 10));
    let found = "SELECT (SELECT group_concat(stream_id || version || created_at) FROM event_stream) || ' ' ||
                 (SELECT rowid || event_id || hex(event_data) || typeof(event_data) FROM domain_event)";
    assert_eq!(text(&file, found), "s41then 41e4122FF22text");
    back(&*source, 10, vec![event(42, "e42")]).await.unwrap();
    assert_eq!(text(&file, "SELECT count(*) || '' FROM domain_event"), "1");
    assert!(file.other_program().batch_execute("DELETE FROM domain_event").is_err());
    back(&*source, 11, vec![event(42, "e42"), event(41, "e41")]).await.unwrap();
    assert_eq!(text(&file, "SELECT group_concat(rowid) FROM domain_event"), "41,42");
    // Nothing of it is a change to be moved again.
    assert!(dirty(&*source, 0).await.is_empty());
}

// Fault 10: what was read in an earlier time of the new store is not written in a later one, whatever its number.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_another_epoch_changes_nothing() {
    let file = File::legacy();
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &events()).await;
    source.fence(1, "postgres", LONG).await.unwrap().unwrap();
    let change = gone("event_stream", &[("stream_id", raw("s"))]);
    for epoch in [1, 3] {
        let batch = BackBatch { epoch, seq: 10, changes: vec![change.clone()] };
        let refused = source.write_back(&batch).await.unwrap_err();
        assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::Contention, Some(Applied::No)));
        assert!(refused.message().contains("fenced at epoch 2"), "{refused}");
    }
    assert_eq!(back_applied(&*source).await, (false, 0));
    assert_eq!(text(&file, "SELECT count(*) || '' FROM event_stream"), "0");
    source.write_back(&BackBatch { epoch: 2, seq: 10, changes: vec![change] }).await.unwrap();
    assert_eq!(back_applied(&*source).await, (false, 10));
}

// Rows that take each other's unique values are written in an order that allows it, or out and in where there is none.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_swap_their_unique_values_come_back() {
    let file = File::new();
    file.raw(
        "CREATE TABLE t (k TEXT PRIMARY KEY, u INTEGER UNIQUE, double AS (u * 2));
         INSERT INTO t (k, u) VALUES ('a', 1), ('b', 2), ('c', 3), ('d', 4)",
    );
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &[captured("t", &[named("k")])]).await;
    source.fence(1, "postgres", LONG).await.unwrap().unwrap();
    let row = |k: &str, u: i64| put("t", 1, &[("k", raw(k)), ("u", Raw::Integer(u))]);
    // A chain, and a circle; a row that goes makes room.
    let changes = vec![row("a", 2), row("b", 1), row("c", 4), gone("t", &[("k", raw("d"))]), row("e", 3)];
    back(&*source, 1, changes).await.unwrap();
    assert_eq!(text(&file, "SELECT group_concat(k || u) FROM (SELECT * FROM t ORDER BY k)"), "a2,b1,c4,e3");
    // One that is in the way and does not move is an error, and nothing of the batch is there.
    let refused = back(&*source, 2, vec![row("a", 9), row("f", 4)]).await.unwrap_err();
    assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::Invalid, Some(Applied::No)), "{refused}");
    assert_eq!(text(&file, "SELECT group_concat(k || u) FROM (SELECT * FROM t ORDER BY k)"), "a2,b1,c4,e3");
    assert_eq!(back_applied(&*source).await, (false, 1));
}

// Nothing is coerced in silence: a value that the column would not keep is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_column_would_change_is_refused() {
    let file = File::new();
    file.raw("CREATE TABLE t (k TEXT PRIMARY KEY, n INTEGER)");
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &[captured("t", &[named("k")])]).await;
    source.fence(1, "postgres", LONG).await.unwrap().unwrap();
    let changes = vec![put("t", 1, &[("k", raw("a")), ("n", raw("5"))])];
    let refused = back(&*source, 1, changes).await.unwrap_err();
    assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::Invalid, Some(Applied::No)), "{refused}");
    assert_eq!(text(&file, "SELECT count(*) || '' FROM t"), "0");
    assert_eq!(back_applied(&*source).await, (false, 0));
    let absent =
        back(&*source, 1, vec![put("t", 1, &[("k", raw("a")), ("absent", raw("5"))])]).await.unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::SchemaMismatch, "{absent}");
}

/// All columns of the one row of a table, as text or number.
async fn stored(source: &dyn CutoverSource, table: &str, names: &[&str], key: &[&str]) -> Vec<Raw> {
    let (columns, key) = (common::cutover::all_named(names), common::cutover::all_named(key));
    let chunk = source.chunk(&common::cutover::reading(table, &columns, &key, 1)).await.unwrap();
    chunk.rows.into_iter().next().unwrap().1
}

const EVENT: &[&str] = &[
    "position",
    "tenant_id",
    "event_id",
    "stream_id",
    "event_type",
    "event_version",
    "aggregate_version",
    "event_data",
    "metadata",
    "occurred_at",
    "recorded_at",
];

// A native file keeps its rules: new events come back, an event that is there as it was is no change, one that changed or
// went is refused together with its batch. Then the store goes on where the new one was.
#[tokio::test(flavor = "multi_thread")]
async fn a_native_log_takes_new_events_back_and_changes_none() {
    let file = File::new();
    let open = file.open().await;
    let log = store(&open).await;
    let order = stream();
    log.append(one(&order, Expected::NoStream, 1)).await.unwrap();
    let (source, _) = sides(&open, "events");
    prepared(&*source, &native_events()).await;
    source.fence(1, "postgres", LONG).await.unwrap().unwrap();
    let first = stored(&*source, "domain_event", EVENT, &["position"]).await;
    let row = |changes: &[(&str, Raw)]| {
        let mut row: Vec<_> = EVENT.iter().copied().zip(first.iter().cloned()).collect();
        for (name, value) in changes {
            row.iter_mut().find(|(column, _)| column == name).unwrap().1 = value.clone();
        }
        put("domain_event", 1, &row)
    };
    let second = || {
        let id = raw(&Uuid::now_v7().to_string());
        row(&[("position", Raw::Integer(70)), ("event_id", id), ("aggregate_version", Raw::Integer(2))])
    };
    for wrong in
        [row(&[("event_type", raw("Other"))]), gone("domain_event", &[("position", Raw::Integer(1))])]
    {
        let refused = back(&*source, 1, vec![second(), wrong]).await.unwrap_err();
        assert_eq!(
            (refused.kind(), refused.was_applied()),
            (ErrorKind::Invalid, Some(Applied::No)),
            "{refused}"
        );
        assert!(refused.message().contains("append-only"), "{refused}");
        assert_eq!(text(&file, "SELECT count(*) || '' FROM domain_event"), "1");
    }
    let names = ["tenant_id", "stream_id", "aggregate_type", "aggregate_id", "created_at", "version"];
    let mut head = stored(&*source, "event_stream", &names, &names[..2]).await;
    head[5] = Raw::Integer(2);
    let head: Vec<_> = names.into_iter().zip(head).collect();
    back(&*source, 2, vec![row(&[]), second(), put("event_stream", 2, &head)]).await.unwrap();
    assert!(source.reopen(3, false).await.unwrap());
    log.append(one(&order, Expected::Exactly(Version::new(2).unwrap()), 1)).await.unwrap();
    let positions: Vec<_> = everything(&*log).await.iter().map(|event| event.version.get()).collect();
    assert_eq!(positions, [1, 2, 3]);
    assert_eq!(text(&file, "SELECT max(position) || '' FROM domain_event"), "71");
}

// The mark of the latest version moves though the versions come in the wrong order, and a time that the file's own trigger
// would set stays as it was in the new store.
#[tokio::test(flavor = "multi_thread")]
async fn a_native_catalog_comes_back_as_it_was_there() {
    let file = File::new();
    let open = file.open().await;
    common::playbooks(&open).await;
    file.raw(
        "INSERT INTO playbook_catalog (tenant_id, playbook_id, version, name, description, content, content_hash, updated_at, is_latest_version)
         SELECT 'default', 'p', v, 'n', 'd', 'c', '0000000000000000000000000000000000000000000000000000000000000000',
                '2020-01-01T00:00:00.000000Z', v = '1.0.0' FROM (SELECT '1.0.0' AS v UNION SELECT '2.0.0')",
    );
    let (source, _) = sides(&open, "playbooks");
    prepared(&*source, &playbooks()).await;
    source.fence(1, "postgres", LONG).await.unwrap().unwrap();
    let version = |version: &str, latest: i64, status: &str| {
        let row = [
            ("tenant_id", raw("default")),
            ("playbook_id", raw("p")),
            ("version", raw(version)),
            ("is_latest_version", Raw::Integer(latest)),
            ("status", raw(status)),
            ("updated_at", raw("2020-01-01T00:00:00.000000Z")),
        ];
        put("playbook_catalog", 3, &row)
    };
    let changes = vec![version("2.0.0", 1, "active"), version("1.0.0", 0, "archived")];
    back(&*source, 1, changes).await.unwrap();
    let found = "SELECT group_concat(version || is_latest_version || status || updated_at)
                 FROM (SELECT * FROM playbook_catalog ORDER BY version)";
    let expected = "1.0.00archived2020-01-01T00:00:00.000000Z,2.0.01active2020-01-01T00:00:00.000000Z";
    assert_eq!(text(&file, found), expected);
}

// Fault 27, one side of it: after a revert nothing is captured until the next run prepares, which begins with a clean log.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_cutover_after_a_revert_begins_anew() {
    let file = File::new();
    file.raw("CREATE TABLE t (k TEXT PRIMARY KEY, n)");
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    let tables = [captured("t", &[named("k")])];
    let first = prepared(&*source, &tables).await;
    file.raw("INSERT INTO t VALUES ('a', 1)");
    source.fence(1, "postgres", LONG).await.unwrap().unwrap();
    back(&*source, 5, vec![put("t", 1, &[("k", raw("b")), ("n", Raw::Integer(2))])]).await.unwrap();
    assert!(source.reopen(4, false).await.unwrap());
    file.raw("INSERT INTO t VALUES ('c', 3)");
    let second = source.prepare(Uuid::now_v7(), 4, &tables, LONG).await.unwrap();
    assert_eq!((second.epoch, second.back_applied, second.nonce), (4, 0, first.nonce));
    assert!(second.seq >= 1, "numbers go on");
    file.raw("DELETE FROM t WHERE k = 'b'");
    assert_eq!(dirty(&*source, second.seq).await, [("t".to_owned(), vec![raw("b")])]);
    assert_eq!(source.fence(4, "postgres", LONG).await.unwrap(), Some(second.seq + 1));
    let refused = file.other_program().batch_execute("DELETE FROM t").unwrap_err().to_string();
    assert!(refused.starts_with("E_FENCED module=events epoch=5 "), "{refused}");
}
