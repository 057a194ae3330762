//! What a cutover reads of a file: facts, chunks and rows, and what the witness sees beside them.

mod common;

use changeover_core::cutover::{Raw, RawKey, SourceColumn};
use changeover_core::{ErrorKind, OpenBackend, Uuid};
use common::cutover::{LONG, all_named, by_key, chunks, events, named, prepared, raw, reading, shown, sides};
use common::{File, one, store, stream, text};
use diesel::connection::SimpleConnection;

// Hazards 44, 45, 53, 54: the schema as it is, in all its oddities; looking changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn facts_tell_what_the_file_holds() {
    let file = File::legacy();
    file.raw(
        "CREATE TABLE odd (id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT UNIQUE, b TEXT, c AS (b || 'x'), d, UNIQUE (b, a));
         CREATE UNIQUE INDEX partly ON odd (b) WHERE a IS NOT NULL;
         CREATE UNIQUE INDEX computed ON odd (lower(a));
         CREATE INDEX plain ON odd (b);
         CREATE TRIGGER others AFTER INSERT ON odd BEGIN SELECT 1; END;
         INSERT INTO odd (id, a, b) VALUES (7, 'x', 'y'), (9, 'z', 'z'); DELETE FROM odd WHERE id = 9;
         CREATE TABLE flat (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
         CREATE TABLE backwards (id INTEGER PRIMARY KEY DESC);
         CREATE VIEW seen AS SELECT * FROM odd;",
    );
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    let facts = source.facts().await.unwrap();
    assert_eq!((facts.encoding.as_str(), facts.journal_mode.as_str()), ("UTF-8", "wal"));
    assert_eq!((facts.nonce, facts.log, facts.high_water), (None, None, None));
    assert!(facts.bytes > 0 && facts.place.ends_with("app.db") && facts.version.starts_with('3'));
    let names: Vec<_> = facts.tables.iter().map(|table| table.name.as_str()).collect();
    let legacy =
        ["audit_events", "backwards", "domain_event", "event_stream", "flat", "notification_audit", "odd"];
    assert_eq!(names, [&legacy[..], &["playbook_catalog"]].concat());
    let table = |name: &str| facts.tables.iter().find(|table| table.name == name).unwrap();
    let odd = table("odd");
    assert_eq!(odd.columns[1], ("a".to_owned(), "TEXT".to_owned()));
    assert_eq!((&odd.generated[..], &odd.primary_key[..]), (&["c".to_owned()][..], &["id".to_owned()][..]));
    let mut unique: Vec<_> = odd.unique.iter().map(|columns| columns.join(" ")).collect();
    unique.sort();
    assert_eq!(unique, ["a", "b a", "id"]);
    assert_eq!(odd.odd_indexes, ["computed", "partly"]);
    assert_eq!((odd.rowid_alias.as_deref(), odd.without_rowid), (Some("id"), false));
    assert_eq!((odd.rows, odd.max_rowid, odd.sequence), (1, Some(7), Some(9)));
    assert_eq!(odd.triggers, ["others"]);
    assert_eq!((table("flat").without_rowid, table("flat").max_rowid), (true, None));
    assert_eq!(table("flat").unique, [["k"]]);
    assert_eq!(table("backwards").rowid_alias, None);
    assert_eq!(table("event_stream").primary_key, ["stream_id"]);
    assert_eq!(text(&file, "SELECT count(*) || '' FROM sqlite_master WHERE name LIKE '%cut%'"), "0");
    // What is of the cutover is in none of it.
    prepared(&*source, &events()).await;
    let after = source.facts().await.unwrap();
    assert_eq!((after.schema_digest, after.tables.len()), (facts.schema_digest.clone(), facts.tables.len()));
    assert!(after.nonce.is_some() && after.schema_cookie > facts.schema_cookie);
    file.raw("CREATE INDEX another ON odd (d)");
    assert_ne!(source.facts().await.unwrap().schema_digest, facts.schema_digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_know_the_log_of_the_module_that_has_one() {
    for file in [File::new(), File::legacy()] {
        let open = file.open().await;
        let events = store(&open).await;
        events.append(one(&stream(), changeover_core::events::Expected::Any, 3)).await.unwrap();
        let facts = sides(&open, "events").0.facts().await.unwrap();
        let log = text(&file, "SELECT log_id FROM changeover_log");
        assert_eq!(facts.log.map(|log| log.0), Some(Uuid::try_parse(&log).unwrap()));
        assert_eq!(facts.high_water, Some(3));
        assert_eq!(sides(&open, "audit").0.facts().await.unwrap().log, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_is_not_found_and_not_made() {
    let file = File::legacy();
    let open = file.open_unmigrated().await;
    let (source, witness) = sides(&open, "events");
    open.close().await;
    std::fs::remove_file(file.path()).unwrap();
    assert_eq!(source.facts().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(witness.count("event_stream").await.unwrap_err().kind(), ErrorKind::NotFound);
    let prepare = source.prepare(Uuid::now_v7(), 1, &events(), LONG).await.unwrap_err();
    assert_eq!(prepare.kind(), ErrorKind::NotFound);
    assert!(!file.path().exists());
}

// Hazards 35, 40, 49: rows without a key, with one key, and with keys of every class, are all there, each once, in one
// order, however small the chunks; the witness sees the same.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_hold_every_row_once() {
    let file = File::new();
    file.raw(
        "CREATE TABLE t (a COLLATE NOCASE, b, n INTEGER);
         CREATE INDEX i ON t (a, b);
         INSERT INTO t (a, b) VALUES (NULL, NULL), (NULL, NULL), (NULL, NULL), (NULL, 1), (NULL, 'x'), (NULL, 'x'),
            (1, NULL), (1, 1), (1.0, 1), (1, 1.0), (2, NULL), (2.5, x''), ('a', NULL), ('A', NULL), ('a', 'b'),
            ('A', 'b'), ('A ', 'b'), (CAST(x'ff' AS TEXT), 1), (x'61', 1), (x'62', NULL), ('z', 9e999), ('', '');
         UPDATE t SET n = rowid",
    );
    let open = file.open_unmigrated().await;
    let (source, witness) = sides(&open, "events");
    let key = all_named(&["a", "b"]);
    let columns = [named("n"), SourceColumn::Rowid];
    let whole = chunks(&*source, &reading("t", &columns, &key, 1_000)).await.concat();
    assert_eq!(whole.len(), 22);
    for rows in 1..8 {
        let parts = chunks(&*source, &reading("t", &columns, &key, rows)).await;
        assert!(parts.len() > 2, "{rows}");
        assert_eq!(parts.concat(), whole, "{rows} at a time");
        let mut seen = Vec::new();
        let mut after: Option<RawKey> = None;
        loop {
            let part = witness.rows("t", &key, &columns, after.as_ref(), None, rows).await.unwrap();
            let Some(last) = part.last() else { break };
            after = Some(last.key.clone());
            seen.extend(part);
        }
        let keys: Vec<_> = seen.iter().map(|row| shown(&row.key)).collect();
        assert_eq!(keys, whole.iter().map(|(key, _)| shown(key)).collect::<Vec<_>>(), "{rows} at a time");
    }
    // What lies between two keys is what the chunk between them held.
    for (first, (from, _)) in whole.iter().enumerate() {
        let until = &whole[(first + 5).min(whole.len() - 1)].0;
        let between = witness.rows("t", &key, &columns, Some(from), Some(until), 1_000).await.unwrap();
        for row in &between {
            assert!(whole.iter().any(|(key, _)| *key == row.key));
        }
        let from_start = witness.rows("t", &key, &columns, None, Some(until), 1_000).await.unwrap();
        let up_to = witness.rows("t", &key, &columns, None, Some(from), 1_000).await.unwrap();
        assert_eq!(up_to.len() + between.len(), from_start.len().max(up_to.len()), "{first}");
    }
    // A key that is not unique names no row.
    let read = by_key(&reading("t", &columns, &key, 1), vec![vec![raw("A"), raw("b")]]);
    assert_eq!(source.rows(&read).await.unwrap(), [Some(vec![Raw::Integer(16), Raw::Integer(16)])]);
    file.raw("INSERT INTO t VALUES ('A', 'b', 99)");
    assert_eq!(source.rows(&read).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

// Hazards 1, 6, 9, 13, 16, 18, 33: values come as they are stored, bit by bit, by all three ways.
#[tokio::test(flavor = "multi_thread")]
async fn values_come_as_they_are_stored() {
    let file = File::new();
    let values = [
        ("NULL", Raw::Null),
        ("''", raw("")),
        ("x''", Raw::Blob(vec![])),
        ("CAST(x'c3280061' AS TEXT)", Raw::Text(vec![0xc3, 0x28, 0, 0x61])),
        ("x'00ff'", Raw::Blob(vec![0, 0xff])),
        ("-9223372036854775808", Raw::Integer(i64::MIN)),
        ("9223372036854775808", Raw::Real(9_223_372_036_854_775_808.0)),
        ("0.1", Raw::Real(0.1)),
        ("0.1 + 0.2", Raw::Real(0.1 + 0.2)),
        ("-1.2345678901234567e-300", Raw::Real(-1.234_567_890_123_456_7e-300)),
        ("9e999", Raw::Real(f64::INFINITY)),
        ("'1.10'", raw("1.10")),
        ("'é\u{301}'", raw("é\u{301}")),
    ];
    file.raw("CREATE TABLE t (k INTEGER PRIMARY KEY, v)");
    for (number, (sql, _)) in values.iter().enumerate() {
        file.raw(&format!("INSERT INTO t VALUES ({number}, {sql})"));
    }
    let open = file.open_unmigrated().await;
    let (source, witness) = sides(&open, "events");
    let read = reading("t", &[named("v")], &[named("k")], 100);
    let chunk = source.chunk(&read).await.unwrap();
    assert!(chunk.end);
    let keys: Vec<_> = chunk.rows.iter().map(|(key, _)| key.clone()).collect();
    let rows = source.rows(&by_key(&read, keys.clone())).await.unwrap();
    let mut asked = keys.clone();
    asked.push(vec![Raw::Integer(99)]);
    let mut found = witness.by_keys("t", &read.key, &read.columns, &asked).await.unwrap();
    assert_eq!(found.pop(), Some(None));
    for (number, (sql, value)) in values.iter().enumerate() {
        assert!(chunk.rows[number].1 == [value.clone()], "{sql}");
        assert!(rows[number] == Some(vec![value.clone()]), "{sql}");
        let seen = found[number].as_ref().unwrap();
        match (&seen.values[0], value) {
            (None, Raw::Null) => {}
            (Some((class, bytes)), Raw::Text(stored) | Raw::Blob(stored)) => {
                assert_eq!((*class, bytes), (value.class(), stored), "{sql}");
            }
            (Some((class, bytes)), Raw::Integer(stored)) => {
                assert_eq!((*class, bytes), ("integer", &stored.to_string().into_bytes()));
            }
            (Some((class, bytes)), Raw::Real(stored)) => {
                assert_eq!(*class, "real", "{sql}");
                let number: f64 = std::str::from_utf8(bytes).unwrap().parse().unwrap();
                assert_eq!(number.to_bits(), stored.to_bits(), "{sql}");
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
    assert_eq!(witness.count("t").await.unwrap(), values.len() as u64);
    // By bytes as well as by rows.
    let small = changeover_core::cutover::ChunkRead { bytes: 1, ..read };
    let parts = chunks(&*source, &small).await;
    assert_eq!(parts.concat().len(), values.len());
    assert!(parts.iter().all(|part| part.iter().map(|(_, row)| row[0].size()).sum::<usize>() <= 9));
}

// S4-MIG: rows by rowid come in its order; what was inserted behind the place is not read again, what comes later is.
#[tokio::test(flavor = "multi_thread")]
async fn rowids_order_a_table_without_a_key_of_numbers() {
    let file = File::legacy();
    file.raw("INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id) VALUES ('s', 't', 'a')");
    let event = |rowid: i64| {
        format!(
            "INSERT INTO domain_event (rowid, event_id, stream_id, event_type, event_version, aggregate_version, event_data)
             VALUES ({rowid}, 'e{rowid}', 's', 'T', 1, {rowid}, '{{}}')"
        )
    };
    for rowid in [30, -5, 10, 20] {
        file.raw(&event(rowid));
    }
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    let mut read = reading("domain_event", &[named("event_id")], &[SourceColumn::Rowid], 2);
    let first = source.chunk(&read).await.unwrap();
    let keys = |rows: &[(RawKey, Vec<Raw>)]| rows.iter().map(|(key, _)| shown(key)).collect::<Vec<_>>();
    assert_eq!(
        (keys(&first.rows), first.end),
        (vec!["integer -5".to_owned(), "integer 10".to_owned()], false)
    );
    file.raw(&event(5));
    file.raw(&event(25));
    read.after = Some(vec![Raw::Integer(10)]);
    read.rows = 10;
    let second = source.chunk(&read).await.unwrap();
    assert_eq!(
        (keys(&second.rows), second.end),
        (vec!["integer 20".to_owned(), "integer 25".to_owned(), "integer 30".to_owned()], true)
    );
    // Hazard 52: a VACUUM shows.
    file.raw("VACUUM");
    assert_ne!(source.chunk(&read).await.unwrap().schema_cookie, second.schema_cookie);
}

// Hazard 42: a column that is not there is refused, and not taken for a text.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused() {
    let file = File::legacy();
    file.raw("CREATE TABLE hidden (rowid TEXT, _rowid_ TEXT, oid TEXT)");
    let open = file.open_unmigrated().await;
    let (source, witness) = sides(&open, "events");
    let chunk = |table: &str, column: SourceColumn| {
        let (source, read) = (source.clone(), reading(table, &[column], &[SourceColumn::Rowid], 1));
        async move { source.chunk(&read).await.unwrap_err().kind() }
    };
    assert_eq!(chunk("absent", named("a")).await, ErrorKind::NotFound);
    assert_eq!(chunk("event_stream", named("absent")).await, ErrorKind::SchemaMismatch);
    assert_eq!(chunk("hidden", named("oid")).await, ErrorKind::Invalid);
    let mut short = reading("event_stream", &[named("version")], &all_named(&["stream_id", "version"]), 1);
    short.after = Some(vec![raw("s")]);
    assert_eq!(source.chunk(&short).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(witness.count("absent").await.unwrap_err().kind(), ErrorKind::NotFound);
}

// Hazards 36, 47, 49.
#[tokio::test(flavor = "multi_thread")]
async fn orphans_and_duplicates_are_named_by_key() {
    let file = File::new();
    file.raw(
        "CREATE TABLE p (a TEXT, b INTEGER); INSERT INTO p VALUES ('x', 1), ('y', NULL);
         CREATE TABLE c (k INTEGER PRIMARY KEY, a TEXT, b INTEGER, only);
         INSERT INTO c VALUES (1, 'x', 1, 1), (2, 'X', 1, 1), (3, 'x', 1, 0), (4, 'x', NULL, 1), (5, 'y', 2, 1), (6, 'x', 1, 't'), (7, 'x', 1, NULL), (8, 'X', 1, 0)",
    );
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    let (key, columns) = ([named("k")], ["a".to_owned(), "b".to_owned()]);
    let numbers = |keys: Vec<RawKey>| keys.iter().map(|key| shown(key)).collect::<Vec<_>>().join(" ");
    let orphans = source.orphans("c", &key, &columns, ("p", &columns), 10).await.unwrap();
    assert_eq!(numbers(orphans), "integer 2 integer 5 integer 8");
    let all = source.duplicates("c", &key, &columns, None, 10).await.unwrap();
    assert_eq!(numbers(all), "integer 1 integer 2 integer 3 integer 6 integer 7 integer 8");
    let some = source.duplicates("c", &key, &columns, Some("only"), 10).await.unwrap();
    assert_eq!(numbers(some), "integer 1 integer 6");
    assert_eq!(source.duplicates("c", &key, &columns, None, 1).await.unwrap().len(), 1);
}

// Hazard 50: an index that disagrees with its table is found, and so is a damaged page (fault 26).
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_found() {
    let file = File::new();
    file.raw(
        "CREATE TABLE t (k INTEGER PRIMARY KEY, v); CREATE INDEX whole ON t (v);
         CREATE TABLE flat (a TEXT PRIMARY KEY, b UNIQUE) WITHOUT ROWID; CREATE INDEX computed ON t (lower(v));
         CREATE TABLE empty (a UNIQUE); CREATE INDEX partly ON t (v) WHERE k < 2;
         INSERT INTO flat VALUES ('x', 1); INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    );
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    assert_eq!(source.check().await.unwrap(), Vec::<String>::new());
    let sql = "PRAGMA writable_schema = ON;
               UPDATE sqlite_master SET sql = 'CREATE INDEX partly ON t (v)' WHERE name = 'partly'";
    file.raw(sql);
    file.raw("CREATE TABLE other (x)");
    let found = source.check().await.unwrap();
    assert!(
        found.iter().any(|line| line.contains("partly") && line.contains("2 rows, 1 by its index")),
        "{found:?}"
    );
    open.close().await;
    drop((source, open));
    let file = File::new();
    file.raw("CREATE TABLE t (k INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, zeroblob(90000))");
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    open.close().await;
    file.other_program().batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let mut bytes = std::fs::read(file.path()).unwrap();
    bytes[4096..8192].fill(0x5a);
    std::fs::write(file.path(), bytes).unwrap();
    assert!(!source.check().await.unwrap().is_empty());
    let read = reading("t", &[named("v")], &[named("k")], 10);
    assert_eq!(source.chunk(&read).await.unwrap_err().kind(), ErrorKind::Corrupt);
}
