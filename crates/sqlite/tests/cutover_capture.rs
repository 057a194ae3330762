//! The capture of changed keys for a cutover.

mod common;

use changeover_core::cutover::{Raw, SourceColumn};
use changeover_core::{Applied, ErrorKind, Uuid};
use common::cutover::{
    LONG, SHORT, all_named, alone, captured, copy, dirty, events, named, playbooks, prepared, raw, reading,
    shown, sides,
};
use common::{File, text};
use diesel::connection::SimpleConnection;

/// A generator of small numbers, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The upper half is the better one; it fits.
        usize::try_from(self.0 >> 33).unwrap_or_default() % end
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn value(&mut self) -> &'static str {
        self.pick(&["NULL", "1", "2", "1.0", "'a'", "'A'", "'b'", "x'61'", "'c'"])
    }

    fn statement(&mut self) -> String {
        let values: Vec<_> = (0..6).map(|_| self.value()).collect();
        let or = self.pick(&["", " OR REPLACE", " OR REPLACE", " OR IGNORE"]);
        let column = self.pick(&["id", "u", "v", "w", "note", "rowid"]);
        let which = self.pick(&["id", "u", "v", "note"]);
        let [id, u, v, w, note, rowid] = values[..] else { unreachable!() };
        match self.below(6) {
            0 => format!("INSERT{or} INTO t (id, u, v, w, note) VALUES ({id}, {u}, {v}, {w}, {note})"),
            1 => {
                format!("INSERT{or} INTO t (rowid, id, u, note) VALUES (abs({rowid}) + 0, {id}, {u}, {note})")
            }
            2 => format!(
                "INSERT INTO t (id, u, v, w) VALUES ({id}, {u}, {v}, {w})
                 ON CONFLICT (u) DO UPDATE SET id = excluded.id, v = excluded.v, note = {note}"
            ),
            3 => format!(
                "REPLACE INTO t (id, u, v, w, note) SELECT {id}, u, {v}, w, {note} FROM t WHERE {which} = {u}"
            ),
            4 => format!("UPDATE{or} t SET {column} = {u} WHERE {which} IS {id}"),
            _ => format!("DELETE FROM t WHERE {which} IS {id}"),
        }
    }
}

const KEYS: &str = "
    CREATE TABLE t (id PRIMARY KEY, u INTEGER UNIQUE, v TEXT COLLATE NOCASE, w TEXT, note TEXT);
    CREATE UNIQUE INDEX partly ON t (v) WHERE note IS NOT NULL;
    CREATE UNIQUE INDEX lowered ON t (lower(w) /* ) */ DESC, u);";

// I2, I4: whatever REPLACE, upserts and swaps do over any key, no row is another without its key being in the log.
#[tokio::test(flavor = "multi_thread")]
async fn every_key_whose_row_changed_is_in_the_log() {
    let file = File::new();
    file.raw(KEYS);
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &[captured("t", &[named("id")])]).await;
    let read = reading("t", &all_named(&["id", "u", "v", "w", "note"]), &[named("id")], 1_000);
    let mut program = file.other_program();
    program.batch_execute("PRAGMA synchronous = OFF").unwrap();
    let (mut changed_ever, mut refused) = (0, 0);
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let before = copy(&*source, &read).await;
        let after = source.meta().await.unwrap().unwrap().seq;
        let script: Vec<_> = (0..8).map(|_| dice.statement()).collect();
        for statement in &script {
            refused += u32::from(program.batch_execute(statement).is_err());
        }
        let now = copy(&*source, &read).await;
        let logged: Vec<_> = dirty(&*source, after).await.iter().map(|(_, key)| shown(key)).collect();
        for key in before.keys().chain(now.keys()) {
            if before.get(key) != now.get(key) {
                changed_ever += 1;
                assert!(
                    logged.contains(key),
                    "seed {seed}: {key} changed and is not in the log: {script:#?}"
                );
            }
        }
    }
    assert!(changed_ever > 500 && refused > 100, "{changed_ever} {refused}");
}

// A key in the log is what it was in the table: class and bytes, whatever they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_captured_key_keeps_its_storage_class() {
    let file = File::new();
    file.raw("CREATE TABLE t (a, b, c, d, note, PRIMARY KEY (a, b, c, d))");
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    let key = all_named(&["a", "b", "c", "d"]);
    prepared(&*source, &[captured("t", &key)]).await;
    file.raw(
        "INSERT INTO t VALUES (1, 1.0, CAST(x'ff00' AS TEXT), x'', 'n');
         INSERT INTO t VALUES (NULL, '', 9e999, 9223372036854775807, 'n')",
    );
    let odd = vec![Raw::Integer(1), Raw::Real(1.0), Raw::Text(vec![0xff, 0]), Raw::Blob(vec![])];
    let nulls = vec![Raw::Null, raw(""), Raw::Real(f64::INFINITY), Raw::Integer(i64::MAX)];
    let logged = dirty(&*source, 0).await;
    assert_eq!(logged, [("t".to_owned(), odd.clone()), ("t".to_owned(), nulls.clone())]);
    // And finds its row.
    let read = reading("t", &[named("note")], &key, 10);
    let absent = vec![Raw::Real(1.0), Raw::Real(1.0), Raw::Text(vec![0xff, 0]), Raw::Blob(vec![])];
    let rows = source.rows(&common::cutover::by_key(&read, vec![odd, absent, nulls])).await.unwrap();
    assert_eq!(rows, [Some(vec![raw("n")]), None, Some(vec![raw("n")])]);
}

// A changed key is logged as it was and as it is, also where only its class or case changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_is_logged_old_and_new() {
    let file = File::new();
    file.raw("CREATE TABLE t (k COLLATE NOCASE, note); INSERT INTO t VALUES ('a', 1), (1, 2), ('same', 3)");
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &[captured("t", &[named("k")])]).await;
    file.raw(
        "UPDATE t SET k = 'A' WHERE note = 1; UPDATE t SET k = 1.0 WHERE note = 2;
         UPDATE t SET note = 4 WHERE note = 3",
    );
    let keys: Vec<_> = dirty(&*source, 0).await.into_iter().flat_map(|(_, key)| key).collect();
    assert_eq!(keys, [raw("a"), raw("A"), Raw::Integer(1), Raw::Real(1.0), raw("same")]);
}

// Foreign key actions and the triggers of others change rows too.
#[tokio::test(flavor = "multi_thread")]
async fn cascades_and_triggers_of_others_are_captured() {
    let file = File::new();
    file.raw(
        "CREATE TABLE p (id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1), (2);
         CREATE TABLE c (id TEXT PRIMARY KEY, p REFERENCES p (id) ON DELETE CASCADE ON UPDATE SET NULL, n DEFAULT 0);
         INSERT INTO c (id, p) VALUES ('x', 1), ('y', 2), ('z', NULL);
         CREATE TRIGGER counts AFTER UPDATE OF p ON c BEGIN UPDATE c SET n = n + 1 WHERE id = 'z'; END",
    );
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &[captured("p", &[named("id")]), captured("c", &[named("id")])]).await;
    file.raw("PRAGMA foreign_keys = ON; DELETE FROM p WHERE id = 1");
    let logged = dirty(&*source, 0).await;
    assert!(logged.contains(&("c".to_owned(), vec![raw("x")])), "{logged:?}");
    let after = source.meta().await.unwrap().unwrap().seq;
    file.raw("PRAGMA foreign_keys = ON; UPDATE p SET id = 3 WHERE id = 2");
    let logged = dirty(&*source, after).await;
    for key in ["y", "z"] {
        assert!(logged.contains(&("c".to_owned(), vec![raw(key)])), "{key}: {logged:?}");
    }
    assert!(logged.contains(&("p".to_owned(), vec![Raw::Integer(2)])));
    assert!(logged.contains(&("p".to_owned(), vec![Raw::Integer(3)])));
}

// A native catalog touches `updated_at` in a trigger of its own: the change that it makes is logged after it is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_native_catalog_is_captured_with_its_own_triggers() {
    let file = File::new();
    let open = file.open().await;
    common::playbooks(&open).await;
    let (source, _) = sides(&open, "playbooks");
    prepared(&*source, &playbooks()).await;
    file.raw(
        "INSERT INTO playbook_catalog (tenant_id, playbook_id, version, name, description, content, content_hash, updated_at)
         VALUES ('default', 'p', '1.0.0', 'n', 'd', 'c', '0000000000000000000000000000000000000000000000000000000000000000',
                 '2020-01-01T00:00:00.000000Z');
         UPDATE playbook_catalog SET status = 'archived'",
    );
    let key = vec![raw("default"), raw("p"), raw("1.0.0")];
    let logged = dirty(&*source, 0).await;
    assert_eq!(logged, vec![("playbook_catalog".to_owned(), key); 3], "insert, update, touch");
    assert_ne!(text(&file, "SELECT updated_at FROM playbook_catalog"), "2020-01-01T00:00:00.000000Z");
}

// Fault 7: no change without its row in the log, no row in the log without its change.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_refuses_the_write_together_with_its_capture() {
    let file = File::new();
    file.raw("CREATE TABLE t (k INTEGER PRIMARY KEY, v)");
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &[captured("t", &[named("k")])]).await;
    let mut program = file.other_program();
    let pages = text(&file, "SELECT CAST(page_count + 1 AS TEXT) FROM pragma_page_count");
    program.batch_execute(&format!("PRAGMA max_page_count = {pages}")).unwrap();
    let mut full = 0;
    for number in 0..3_000 {
        full += u32::from(program.batch_execute(&format!("INSERT INTO t VALUES ({number}, 1)")).is_err());
    }
    let rows = copy(&*source, &reading("t", &[named("v")], &[named("k")], 10_000)).await;
    let logged: Vec<_> = dirty(&*source, 0).await.iter().map(|(_, key)| shown(key)).collect();
    assert!(full > 0 && !rows.is_empty());
    assert_eq!(rows.len(), logged.len());
    assert!(rows.keys().all(|key| logged.contains(key)));
}

// What is rolled back was never there.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_rolled_back_is_not_in_the_log() {
    let file = File::legacy();
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &events()).await;
    let insert = "INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id) VALUES ('s', 't', 'a')";
    file.raw(&format!("BEGIN; {insert}; ROLLBACK"));
    assert_eq!(source.meta().await.unwrap().unwrap().seq, 0);
    file.raw(insert);
    assert_eq!(dirty(&*source, 0).await, [("event_stream".to_owned(), vec![raw("s")])]);
}

// The snapshot of a chunk says which changes it contains; trimmed numbers are not given again.
#[tokio::test(flavor = "multi_thread")]
async fn changes_are_numbered_once_and_for_all() {
    let file = File::new();
    file.raw("CREATE TABLE t (k TEXT PRIMARY KEY)");
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    let read = reading("t", &[named("k")], &[named("k")], 10);
    assert_eq!(source.chunk(&read).await.unwrap().seq, 0);
    assert_eq!(source.dirty(0, 10).await.unwrap_err().kind(), ErrorKind::NotFound);
    prepared(&*source, &[captured("t", &[named("k")])]).await;
    file.raw("INSERT INTO t VALUES ('a'), ('b'), ('c')");
    assert_eq!(source.chunk(&read).await.unwrap().seq, 3);
    let page = source.dirty(1, 1).await.unwrap();
    assert_eq!((page.keys[0].seq, page.keys.len(), page.last_seq), (2, 1, 3));
    assert_eq!(source.trim(4).await.unwrap_err().kind(), ErrorKind::Invalid);
    source.trim(3).await.unwrap();
    assert!(dirty(&*source, 3).await.is_empty());
    assert_eq!(source.meta().await.unwrap().unwrap().seq, 3);
    // Not even when somebody empties the table that SQLite counts in.
    file.raw("DELETE FROM sqlite_sequence; INSERT INTO t VALUES ('d')");
    let page = source.dirty(3, 10).await.unwrap();
    assert_eq!((page.keys[0].seq, page.keys.len(), page.last_seq), (4, 1, 4));
    source.stop_capture().await.unwrap();
    file.raw("INSERT INTO t VALUES ('e')");
    let meta = source.meta().await.unwrap().unwrap();
    assert_eq!((meta.captures, meta.open, meta.seq), (false, true, 4));
}

// S4-MIG, X-EDGE: a run is prepared once; another one waits for its end; the file keeps its identity.
#[tokio::test(flavor = "multi_thread")]
async fn one_run_at_a_time_prepares_a_module() {
    let file = File::legacy();
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    assert_eq!(source.meta().await.unwrap(), None);
    let run = Uuid::now_v7();
    let first = source.prepare(run, 3, &events(), LONG).await.unwrap();
    assert_eq!((first.run, first.epoch, first.open, first.captures), (run, 3, true, true));
    let cookie = source.facts().await.unwrap().schema_cookie;
    assert_eq!(source.prepare(run, 3, &events(), LONG).await.unwrap(), first);
    assert_eq!(source.facts().await.unwrap().schema_cookie, cookie, "nothing changed");
    let other = source.prepare(Uuid::now_v7(), 3, &events(), LONG).await.unwrap_err();
    assert_eq!((other.kind(), other.was_applied()), (ErrorKind::AlreadyExists, Some(Applied::No)), "{other}");
    // Another module of the file is another matter, and has the same nonce.
    file.raw("CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY)");
    let (audit, _) = sides(&open, "audit");
    let audit = prepared(&*audit, &[captured("jobs", &[named("id")])]).await;
    assert_eq!(audit.nonce, first.nonce);
    // Given up: the next run may begin, from no lower an epoch.
    assert!(source.reopen(5, false).await.unwrap());
    let lower = source.prepare(Uuid::now_v7(), 4, &events(), LONG).await.unwrap_err();
    assert_eq!(lower.kind(), ErrorKind::Invalid, "{lower}");
    let second = source.prepare(Uuid::now_v7(), 5, &events(), LONG).await.unwrap();
    assert_eq!((second.epoch, second.nonce, second.captures), (5, first.nonce, true));
}

// A table that cannot be captured is refused, and nothing of the cutover is in the file then.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_captured_is_refused_as_a_whole() {
    let file = File::legacy();
    file.raw("CREATE TABLE flat (k TEXT PRIMARY KEY) WITHOUT ROWID; CREATE VIEW seen AS SELECT * FROM flat");
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    for (table, key, kind) in [
        ("absent", named("k"), ErrorKind::NotFound),
        ("seen", named("k"), ErrorKind::NotFound),
        ("flat", SourceColumn::Rowid, ErrorKind::Invalid),
        ("flat", named("absent"), ErrorKind::SchemaMismatch),
    ] {
        let tables = [events(), vec![captured(table, std::slice::from_ref(&key))]].concat();
        let refused = source.prepare(Uuid::now_v7(), 1, &tables, LONG).await.unwrap_err();
        assert_eq!((refused.kind(), refused.was_applied()), (kind, Some(Applied::No)), "{refused}");
        assert_eq!(source.meta().await.unwrap(), None);
        assert_eq!(
            text(&file, "SELECT count(*) || '' FROM sqlite_master WHERE name LIKE '\\_\\_cut%' ESCAPE '\\'"),
            "0"
        );
    }
}

// Fault 13, for the beginning: a writer in flight is waited for as long as was said.
#[rstest::rstest]
#[case::wal("wal")]
#[case::rollback_journal("delete")]
#[tokio::test(flavor = "multi_thread")]
async fn prepare_waits_for_a_writer_in_flight(#[case] journal: &str) {
    let file = File::legacy();
    let (source, _) = alone(&file, "events", journal).await;
    let mut writer = file.other_program();
    writer.batch_execute("BEGIN IMMEDIATE").unwrap();
    let busy = source.prepare(Uuid::now_v7(), 1, &events(), SHORT).await.unwrap_err();
    assert_eq!((busy.kind(), busy.was_applied()), (ErrorKind::Contention, Some(Applied::No)), "{busy}");
    assert_eq!(source.meta().await.unwrap(), None);
    let preparing = tokio::spawn(async move { source.prepare(Uuid::now_v7(), 1, &events(), LONG).await });
    writer
        .batch_execute(
            "INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id) VALUES ('s', 't', 'a'); COMMIT",
        )
        .unwrap();
    assert_eq!(preparing.await.unwrap().unwrap().seq, 0);
}
