//! The fence of a cutover: who is stopped, who is waited for, and what the stores make of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod common;

use std::time::Duration;

use changeover_core::audit::{AuditFilter, AuditQuery};
use changeover_core::backend::Family;
use changeover_core::cutover::CutoverSource;
use changeover_core::events::{Expected, HeadOf, ReadAll, ReadStream, Subscribe};
use changeover_core::playbooks::ListPlaybooks;
use changeover_core::{
    Applied, Checkpoint, ConsumerName, Detail, Error, ErrorKind, Message, OpenBackend, Subscription, Uuid,
};
use changeover_sqlite::OpenSqlite;
use common::cutover::{
    LONG, SHORT, alone, captured, dirty, events, named, native_events, playbooks, prepared, raw, sides,
};
use common::{File, everything, module, one, scope, store, stream, tenant, text};
use diesel::connection::SimpleConnection;
use rstest::rstest;

const INSERT: &str =
    "INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id) VALUES ('s', 't', 'a')";

const WRITES: &[&str] = &[
    "INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id) VALUES ('n', 't', 'n')",
    "INSERT OR IGNORE INTO event_stream (stream_id, aggregate_type, aggregate_id) VALUES ('s', 't', 'a')",
    "REPLACE INTO event_stream (stream_id, aggregate_type, aggregate_id) VALUES ('x', 't', 'a')",
    "INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id) VALUES ('s', 't', 'a')
     ON CONFLICT (stream_id) DO UPDATE SET version = 9",
    "INSERT INTO event_stream SELECT 'y', 't', 'y', NULL, 0",
    "UPDATE event_stream SET version = 1",
    "UPDATE OR IGNORE event_stream SET version = 1",
    "DELETE FROM event_stream",
];

async fn fence(source: &dyn CutoverSource) -> i64 {
    source.fence(1, "postgres", LONG).await.unwrap().unwrap()
}

// I8, fault 14: a program that has the file open, and knows nothing of all this, is stopped, whatever it writes, and told
// where the data went; it can still read.
#[rstest]
#[case::wal("wal")]
#[case::rollback_journal("delete")]
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_stops_every_write_of_every_program(#[case] journal: &str) {
    let file = File::legacy();
    let (source, _) = alone(&file, "events", journal).await;
    prepared(&*source, &events()).await;
    let mut program = file.other_program();
    program.batch_execute(INSERT).unwrap();
    assert_eq!(fence(&*source).await, 1);
    for write in WRITES {
        let refused = program.batch_execute(write).unwrap_err().to_string();
        assert!(
            refused.starts_with("E_FENCED module=events epoch=2 moved_to=postgres: "),
            "{write}: {refused}"
        );
    }
    let found = text(&file, "SELECT stream_id || version FROM event_stream");
    assert_eq!(found, "s0");
    assert_eq!(dirty(&*source, 0).await, [("event_stream".to_owned(), vec![raw("s")])]);
    // Other tables of the file are not its business.
    program.batch_execute("CREATE TABLE other (x); INSERT INTO other VALUES (1)").unwrap();
    let meta = source.meta().await.unwrap().unwrap();
    assert_eq!((meta.open, meta.epoch, meta.seq), (false, 2, 1));
    // Who takes the row away has not opened the gate.
    program.batch_execute("DELETE FROM __cut_meta").unwrap();
    assert!(program.batch_execute(INSERT).unwrap_err().to_string().starts_with("E_FENCED"));
}

// The place is in the message, also where it is another than was foreseen, and however it is written.
#[tokio::test(flavor = "multi_thread")]
async fn the_message_says_where_the_data_went() {
    let file = File::legacy();
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &events()).await;
    let cookie = source.facts().await.unwrap().schema_cookie;
    let seq = source.fence(1, "postgres, Fred's server", LONG).await.unwrap();
    assert_eq!(seq, Some(0));
    assert_ne!(source.facts().await.unwrap().schema_cookie, cookie, "the triggers were made anew");
    let refused = file.other_program().batch_execute(INSERT).unwrap_err().to_string();
    assert!(
        refused.starts_with("E_FENCED module=events epoch=2 moved_to=postgres, Fred's server: "),
        "{refused}"
    );
    assert_eq!(open.owner(&scope()).await.unwrap().as_deref(), Some("postgres"));
}

// Where the place is as foreseen, nothing but the row changes: what was read before is still what it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_is_one_update() {
    let file = File::legacy();
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &events()).await;
    let before = source.facts().await.unwrap();
    fence(&*source).await;
    let after = source.facts().await.unwrap();
    assert_eq!(after.schema_cookie, before.schema_cookie);
    assert_eq!(after.schema_digest, before.schema_digest);
}

// Fault 13: a writer in flight is waited for; beyond the time nothing is changed, not half a fence.
#[rstest]
#[case::wal("wal")]
#[case::rollback_journal("delete")]
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_waits_for_a_writer_in_flight(#[case] journal: &str) {
    let file = File::legacy();
    let (source, _) = alone(&file, "events", journal).await;
    let meta = prepared(&*source, &events()).await;
    let mut writer = file.other_program();
    writer.batch_execute(&format!("BEGIN IMMEDIATE; {INSERT}")).unwrap();
    let busy = source.fence(1, "postgres", SHORT).await.unwrap_err();
    assert_eq!((busy.kind(), busy.was_applied()), (ErrorKind::Contention, Some(Applied::No)), "{busy}");
    assert_eq!(source.meta().await.unwrap().unwrap(), meta);
    let fencing = tokio::spawn(async move { fence(&*source).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    writer.batch_execute("COMMIT").unwrap();
    // I2: what the writer was told is stored is in the log.
    assert_eq!(fencing.await.unwrap(), 1);
    assert!(writer.batch_execute("DELETE FROM event_stream").is_err());
}

// In rollback-journal mode a reader is in the way of the commit: it is waited for as well, and no half fence stays.
#[tokio::test(flavor = "multi_thread")]
async fn without_wal_a_fence_waits_for_a_reader() {
    let file = File::legacy();
    let (source, _) = alone(&file, "events", "delete").await;
    let meta = prepared(&*source, &events()).await;
    let mut reader = file.other_program();
    reader.batch_execute("BEGIN; SELECT count(*) FROM event_stream").unwrap();
    let busy = source.fence(1, "postgres", SHORT).await.unwrap_err();
    assert_eq!((busy.kind(), busy.was_applied()), (ErrorKind::Contention, Some(Applied::No)), "{busy}");
    reader.batch_execute("COMMIT").unwrap();
    assert_eq!(source.meta().await.unwrap().unwrap(), meta);
    file.raw(INSERT);
    assert_eq!(fence(&*source).await, 1);
}

// I1: a transaction that began to read before the fence cannot write after it.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_snapshot_does_not_get_past_the_fence() {
    let file = File::legacy();
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &events()).await;
    let mut program = file.other_program();
    program.batch_execute("BEGIN; SELECT count(*) FROM event_stream").unwrap();
    fence(&*source).await;
    assert!(program.batch_execute(INSERT).is_err());
    program.batch_execute("ROLLBACK").unwrap();
    assert_eq!(text(&file, "SELECT count(*) || '' FROM event_stream"), "0");
}

// I5, I9: the gate is closed and opened by comparison with the epoch only, and the epoch never goes back.
#[tokio::test(flavor = "multi_thread")]
async fn the_gate_moves_by_epochs() {
    let file = File::legacy();
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    assert_eq!(source.fence(1, "postgres", LONG).await.unwrap_err().kind(), ErrorKind::NotFound);
    prepared(&*source, &events()).await;
    assert_eq!(source.fence(2, "postgres", LONG).await.unwrap(), None);
    assert!(!source.reopen(1, true).await.unwrap());
    file.raw(INSERT);
    assert_eq!(source.fence(1, "postgres", LONG).await.unwrap(), Some(1));
    assert_eq!(source.fence(1, "postgres", LONG).await.unwrap(), None, "closed already");
    assert_eq!(source.fence(2, "postgres", LONG).await.unwrap(), None, "closed already");
    assert!(!source.reopen(2, true).await.unwrap());
    assert!(file.other_program().batch_execute("DELETE FROM event_stream").is_err());
    assert!(source.reopen(3, true).await.unwrap());
    file.raw("DELETE FROM event_stream");
    let meta = source.meta().await.unwrap().unwrap();
    assert_eq!((meta.epoch, meta.open, meta.captures, meta.seq), (3, true, true, 2));
    assert!(source.reopen(5, false).await.unwrap());
    file.raw(INSERT);
    let meta = source.meta().await.unwrap().unwrap();
    assert_eq!((meta.epoch, meta.open, meta.captures, meta.seq), (5, true, false, 2));
    assert!(dirty(&*source, 0).await.is_empty());
}

// I12, fault 14: our own stores, also those that were open all the time, say who owns the module; nobody's call is lost,
// and nothing is judged by data that may be old, nor are those read.
#[rstest]
#[case::native(false)]
#[case::adopted(true)]
#[tokio::test(flavor = "multi_thread")]
async fn stores_of_a_fenced_file_say_who_owns_the_module(#[case] adopted: bool) {
    let file = if adopted { File::legacy() } else { File::new() };
    let open = file.open().await;
    let events_store = store(&open).await;
    let order = stream();
    events_store.append(one(&order, Expected::NoStream, 2)).await.unwrap();
    let (source, _) = sides(&open, "events");
    let tables = if adopted { events() } else { native_events() };
    prepared(&*source, &tables).await;
    assert_eq!(open.owner(&scope()).await.unwrap().as_deref(), Some("sqlite"));
    assert!(open.claim(&scope()).await.unwrap());
    let mut waiting = open.begin(&scope(), &tenant()).await.unwrap();
    waiting.append(one(&stream(), Expected::Any, 1)).unwrap();
    let busy = source.fence(1, "postgres", SHORT).await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Contention, "a transaction of our own is open: {busy}");
    waiting.commit().await.unwrap();
    let mut following = events_store.subscribe(Subscribe::default()).await.unwrap();
    let end = until_caught_up(&mut following).await;
    fence(&*source).await;

    let moved_away = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Moved, "{error}");
        assert_eq!(error.detail(), Some(&Detail::Moved { owner: "postgres".to_owned() }));
    };
    let moved = |error: Error| {
        assert_eq!(error.was_applied(), Some(Applied::No), "{error}");
        moved_away(error);
    };
    let calls = (0..20).map(|_| events_store.append(one(&stream(), Expected::Any, 1)));
    for answer in futures::future::join_all(calls).await {
        moved(answer.unwrap_err());
    }
    // The stream may have gone on elsewhere: no conflict is told from here.
    moved(events_store.append(one(&order, Expected::NoStream, 1)).await.unwrap_err());
    moved_away(open.begin(&scope(), &tenant()).await.unwrap_err());
    moved_away(events_store.ready().await.unwrap_err());
    moved_away(events_store.read_all(ReadAll::default()).await.unwrap_err());
    moved_away(events_store.read_stream(ReadStream::all(order.clone())).await.unwrap_err());
    moved_away(events_store.head(HeadOf::Stream(order.clone())).await.unwrap_err());
    moved_away(events_store.tracked(ConsumerName::new("reader").unwrap()).await.unwrap_err());
    moved_away(events_store.subscribe(Subscribe::default()).await.unwrap_err());
    let ended = following.next().await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Moved, "{ended}");
    assert_eq!(ended.detail(), Some(&Detail::Resume { after: end }));
    assert_eq!(open.owner(&scope()).await.unwrap().as_deref(), Some("postgres"));
    assert!(!open.claim(&scope()).await.unwrap());
    // A program that starts now.
    let again = file.open().await;
    moved(store(&again).await.append(one(&stream(), Expected::Any, 1)).await.unwrap_err());
    // The other modules of the file are where they were.
    let audit = common::audit(&open).await;
    audit.create(common::create(&[common::audit_event("2026-01-01T00:00:00Z")])).await.unwrap();
    assert_eq!(common::pages(&*audit, &AuditQuery::default(), 10).await.len(), 1);
    assert_ne!(open.owner(&module("audit")).await.unwrap().as_deref(), Some("postgres"));
    // Back again, the same stores serve.
    assert!(source.reopen(3, false).await.unwrap());
    events_store.append(one(&stream(), Expected::Any, 1)).await.unwrap();
    events_store.ready().await.unwrap();
    assert_eq!(everything(&*events_store).await.len(), 4);
    assert_eq!(events_store.head(HeadOf::Stream(order)).await.unwrap().version.unwrap().get(), 2);
}

/// Takes messages up to the end of the log.
async fn until_caught_up(following: &mut Subscription) -> Checkpoint {
    loop {
        if let Message::Progress { checkpoint, caught_up: true } = following.next().await.unwrap().unwrap() {
            return checkpoint;
        }
    }
}

// I12: the audit trail and the playbooks answer no read from a module that was moved either.
#[tokio::test(flavor = "multi_thread")]
async fn no_family_is_read_from_a_fenced_file() {
    let file = File::new();
    let open = file.open().await;
    let audit = common::audit(&open).await;
    audit.create(common::create(&[common::audit_event("2026-01-01T00:00:00Z")])).await.unwrap();
    let catalog = open.playbooks(&module("playbooks"), &tenant()).await.unwrap();
    for name in ["audit", "playbooks"] {
        let (source, _) = sides(&open, name);
        let tables = match name {
            "audit" => vec![captured("audit_events", &[named("sequence")])],
            _ => playbooks(),
        };
        prepared(&*source, &tables).await;
        assert_eq!(audit.count(AuditFilter::default()).await.unwrap(), 1, "an open gate stops nobody");
        fence(&*source).await;
        if name == "audit" {
            let answers = [
                audit.get(Uuid::nil()).await.map(drop),
                audit.query(AuditQuery::default()).await.map(drop),
                audit.count(AuditFilter::default()).await.map(drop),
                audit.ready().await.map(drop),
            ];
            let kinds = answers.map(|answer| answer.unwrap_err().kind());
            assert_eq!(kinds, [ErrorKind::Moved; 4]);
            assert!(source.reopen(3, false).await.unwrap());
        }
    }
    let refused = catalog.list(ListPlaybooks::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Moved, "{refused}");
    assert_eq!(audit.count(AuditFilter::default()).await.unwrap(), 1);
}

// Fault 15: a program that was not told runs its migrations: refused for the module that moved, and nothing is changed.
#[tokio::test(flavor = "multi_thread")]
async fn migrations_of_a_moved_module_are_refused() {
    let file = File::legacy();
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &events()).await;
    fence(&*source).await;
    let digest = source.facts().await.unwrap().schema_digest;
    let migrations = open.migrations(&scope(), Family::Events).unwrap();
    let refused = migrations.up().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Moved, "{refused}");
    assert_eq!(source.facts().await.unwrap().schema_digest, digest);
    let starting = OpenSqlite::open(&file.settings()).await.unwrap().events(&scope(), &tenant()).await;
    assert_eq!(starting.err().map(|error| error.kind()), Some(ErrorKind::Moved));
    // Those of another module run.
    assert!(!open.migrations(&module("audit"), Family::Audit).unwrap().up().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_module_is_not_migrated_down() {
    let file = File::new();
    let open = file.open().await;
    store(&open).await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &native_events()).await;
    fence(&*source).await;
    let refused = common::migrations(&open).down(1, true).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Moved, "{refused}");
    assert!(source.reopen(3, false).await.unwrap());
    assert!(everything(&*store(&open).await).await.is_empty());
}

// As long as a run captures, its module's schema stays: an update of the program waits, and nothing is taken back. That of
// another module is its own affair; once the run is given up all goes on.
#[tokio::test(flavor = "multi_thread")]
async fn the_schema_of_a_captured_module_stays_as_it_is() {
    let native = File::new();
    let open = native.open().await;
    store(&open).await;
    let (source, _) = sides(&open, "events");
    let run = prepared(&*source, &native_events()).await.run;
    let before = source.facts().await.unwrap().schema_digest;
    let refused = common::migrations(&open).down(1, true).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    assert!(refused.message().contains(&format!("run {run} of the cutover of module events")), "{refused}");
    assert!(refused.message().contains("abort the run first"), "{refused}");
    assert_eq!(source.facts().await.unwrap().schema_digest, before);
    // Nothing is missing, so nothing is refused.
    assert_eq!(common::migrations(&open).up().await.unwrap(), []);
    assert!(!open.migrations(&module("audit"), Family::Audit).unwrap().up().await.unwrap().is_empty());
    source.stop_capture().await.unwrap();
    assert_eq!(common::migrations(&open).down(1, true).await.unwrap().len(), 1);

    let legacy = File::legacy();
    let open = legacy.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &events()).await;
    let before = source.facts().await.unwrap().schema_digest;
    let refused = open.migrations(&scope(), Family::Events).unwrap().up().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    assert_eq!(source.facts().await.unwrap().schema_digest, before);
}

// Fault 16, hazard 51, as far as the file can say: a copy from before is open and has the older epoch; one that lost its
// `-wal` has fewer changes than were seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_from_before_shows_what_it_does_not_know() {
    let file = File::new();
    file.raw("CREATE TABLE t (k TEXT PRIMARY KEY)");
    let open = file.open_unmigrated().await;
    let (source, _) = sides(&open, "events");
    prepared(&*source, &[captured("t", &[named("k")])]).await;
    file.raw(&format!("VACUUM INTO '{}'", file.folder().join("backup.db").display()));
    let mut program = file.other_program();
    program.batch_execute("PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES ('a')").unwrap();
    // Copied by hand while it is in use, and the neighbour forgotten.
    std::fs::copy(file.path(), file.folder().join("torn.db")).unwrap();
    assert_eq!(source.meta().await.unwrap().unwrap().seq, 1);
    fence(&*source).await;
    for (copy, seq) in [("backup.db", 0), ("torn.db", 0)] {
        let path = file.folder().join(copy);
        let settings = changeover_core::BackendSettings::new("old").with("path", path.to_string_lossy());
        let settings = settings.with("migrate_on_start", "false");
        let old = OpenSqlite::open(&settings).await.unwrap();
        let meta = sides(&old, "events").0.meta().await.unwrap().unwrap();
        assert_eq!((meta.epoch, meta.open, meta.seq), (1, true, seq), "{copy}");
        assert_eq!(meta.nonce, source.meta().await.unwrap().unwrap().nonce);
    }
}
