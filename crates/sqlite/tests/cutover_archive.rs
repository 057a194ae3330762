//! A file that is put away with its last module: when, how, and what programs meet afterwards.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use changeover_core::backend::Family;
use changeover_core::cutover::{Archive, Archiving, CaptureTable, CutoverSource};
use changeover_core::events::{Expected, ReadAll};
use changeover_core::{ErrorKind, OpenBackend};
use changeover_sqlite::OpenSqlite;
use common::cutover::{LONG, all_named, alone, captured, events, named, prepared, sides};
use common::{File, module, one, scope, stream, tenant, text};
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use rstest::rstest;

const ROWS: &str = "PRAGMA user_version = 41; PRAGMA application_id = 4242;
    INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id) VALUES ('s', 't', 'a'), ('r', 't', 'b');
    INSERT INTO domain_event (event_id, stream_id, event_type, event_version, aggregate_version, event_data, metadata, occurred_at)
        VALUES ('e1', 's', 'T', 1, 1, '{}', '{}', '2024-01-02T03:04:05Z'),
               ('e2', 's', 'T', 1, 2, '{}', '{}', '2024-01-02T03:04:05Z');";

fn audit() -> Vec<CaptureTable> {
    vec![captured("audit_events", &[named("event_id")])]
}

/// As a finalized run leaves it.
async fn finalized(source: &dyn CutoverSource, tables: &[CaptureTable]) {
    prepared(source, tables).await;
    source.fence(1, "postgres", LONG).await.unwrap().unwrap();
    source.stop_capture().await.unwrap();
}

/// A file whose module events is finalized, in a journal mode, with rows.
async fn moved(journal: &str) -> (File, std::sync::Arc<dyn CutoverSource>) {
    let file = File::legacy();
    file.raw(ROWS);
    let (source, _) = alone(&file, "events", journal).await;
    finalized(&*source, &events()).await;
    (file, source)
}

fn done(archiving: Archiving) -> Archive {
    match archiving {
        Archiving::Done(archive) => archive,
        other => panic!("it was to be archived: {other:?}"),
    }
}

fn kept(archiving: Archiving) -> String {
    match archiving {
        Archiving::Kept(why) => why,
        other => panic!("it was to be kept: {other:?}"),
    }
}

fn place(file: &File) -> PathBuf {
    beside(file, "app.db.archive")
}

fn beside(file: &File, name: &str) -> PathBuf {
    file.folder().canonicalize().unwrap().join(name)
}

/// All names in the folder.
fn names(file: &File) -> Vec<String> {
    let entries = fs::read_dir(file.folder()).unwrap();
    let mut names: Vec<_> = entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Numbers out of a file that is opened for reading alone.
fn numbers(path: &Path, sqls: &[&str]) -> Vec<i64> {
    #[derive(diesel::QueryableByName)]
    struct Number {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        n: i64,
    }
    let mut conn = SqliteConnection::establish(&format!("file:{}?mode=ro", path.display())).unwrap();
    let number = |sql: &&str| {
        let sql = diesel::sql_query(format!("SELECT ({sql}) AS n"));
        diesel::RunQueryDsl::get_result::<Number>(sql, &mut conn).unwrap().n
    };
    sqls.iter().map(number).collect()
}

/// What a file is that was put away: sound, whole, read-only, and nothing beside it.
fn is_whole(path: &Path) {
    let found = numbers(
        path,
        &[
            "SELECT count(*) FROM event_stream",
            "SELECT count(*) FROM domain_event",
            "SELECT integrity_check = 'ok' FROM pragma_integrity_check",
            "SELECT user_version FROM pragma_user_version",
            "SELECT application_id FROM pragma_application_id",
            "SELECT journal_mode = 'delete' FROM pragma_journal_mode",
        ],
    );
    assert_eq!(found, [2, 2, 1, 41, 4242, 1]);
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o444);
    for end in ["-wal", "-shm", "-journal"] {
        assert!(!Path::new(&format!("{}{end}", path.display())).exists(), "{end}");
    }
}

/// A program that knows nothing of all this, in the Python of this machine: each statement on a new connection.
fn python(path: &Path, statements: &[&str]) -> Vec<String> {
    let program = "import sqlite3, sys\n\
        for sql in sys.argv[2:]:\n\
        \x20 file = sqlite3.connect(sys.argv[1])\n\
        \x20 try: print(file.execute(sql).fetchall()); file.commit()\n\
        \x20 except sqlite3.Error as error: print('refused:', error)\n\
        \x20 file.close()\n";
    let ran = Command::new("python3").args(["-c", program]).arg(path).args(statements).output();
    let ran = ran.expect("python3 is needed for this test: install it and have it on the PATH");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[rstest]
#[case::wal("wal")]
#[case::rollback_journal("delete")]
#[case::kept_journal("persist")]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_put_away_whole_and_a_tombstone_stands_in_its_place(#[case] journal: &str) {
    let (file, source) = moved(if journal == "persist" { "delete" } else { journal }).await;
    if journal == "persist" {
        file.raw("PRAGMA journal_mode = PERSIST; CREATE TABLE more (x); DROP TABLE more");
        assert!(beside(&file, "app.db-journal").exists());
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
    }
    let before = fs::metadata(file.path()).unwrap();
    let meta = source.meta().await.unwrap();
    let facts = source.facts().await.unwrap();
    assert_eq!(source.archived().await.unwrap(), None);
    let archive = done(source.archive().await.unwrap());
    assert_eq!((&archive.place, archive.is_there), (&place(&file), true));
    assert_eq!(archive.bytes, fs::metadata(&archive.place).unwrap().len());
    is_whole(&archive.place);
    assert_eq!(fs::metadata(&archive.place).unwrap().ino(), before.ino(), "the file itself");
    // The tombstone: owner and rights as they were, the same word about the owner.
    let after = fs::metadata(file.path()).unwrap();
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert_eq!(source.meta().await.unwrap(), meta);
    assert_eq!(source.archived().await.unwrap(), Some(archive.clone()));
    let left = source.facts().await.unwrap();
    assert_eq!(left.nonce, facts.nonce);
    let columns = |facts: &changeover_core::cutover::SourceFacts| -> Vec<_> {
        facts.tables.iter().map(|table| (table.name.clone(), table.columns.clone())).collect()
    };
    assert_eq!(columns(&left), columns(&facts));
    assert_eq!(numbers(&file.path(), &["SELECT user_version FROM pragma_user_version"]), [41]);
    let mut expected = vec!["app.db".to_owned(), "app.db.archive".to_owned()];
    if journal == "persist" {
        expected.insert(1, "app.db-journal".to_owned());
    }
    assert_eq!(names(&file), expected);
    // Again: nothing changes.
    let bytes = fs::read(file.path()).unwrap();
    assert_eq!(source.archive().await.unwrap(), Archiving::Before(archive));
    assert_eq!(fs::read(file.path()).unwrap(), bytes);
}

// Faults 14, 15: a program that knows nothing of all this.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_program_is_told_whatever_it_does() {
    let (file, source) = moved("wal").await;
    file.raw("CREATE VIEW seen AS SELECT * FROM domain_event");
    done(source.archive().await.unwrap());
    let insert = "INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id) VALUES ('n', 't', 'n')";
    let refused = [
        "SELECT * FROM domain_event",
        "SELECT count(*) FROM event_stream WHERE stream_id = 's'",
        "SELECT event_id FROM seen",
        insert,
        "INSERT OR IGNORE INTO event_stream SELECT 'y', 't', 'y', NULL, 0",
        "REPLACE INTO domain_event (event_id) VALUES ('e1')",
        "UPDATE event_stream SET version = 1",
        "UPDATE OR IGNORE domain_event SET event_data = 1 WHERE event_id = 'e1'",
        "DELETE FROM domain_event",
        "PRAGMA table_info(domain_event)",
        // Empty ones are no exception.
        "SELECT * FROM playbook_catalog",
    ];
    for (told, sql) in python(&file.path(), &refused).iter().zip(refused) {
        let module =
            if sql.contains("playbook") || sql.contains("seen") { "" } else { " module=events epoch=2" };
        let begin = format!("refused: no such table: main.E_FENCED{module} moved_to=postgres: ");
        assert!(told.starts_with(&begin) && told.ends_with("app.db.archive"), "{sql}: {told}");
    }
    // The name is taken, so that no empty table comes into being, nor another one in its place.
    let made = [
        "CREATE TABLE IF NOT EXISTS domain_event (a)",
        "SELECT type FROM sqlite_master WHERE name = 'domain_event'",
    ];
    assert_eq!(python(&file.path(), &made), ["[]", "[('view',)]"]);
    let others = [
        "CREATE TABLE domain_event (a)",
        "CREATE INDEX IF NOT EXISTS i ON domain_event (event_id)",
        "ALTER TABLE domain_event ADD COLUMN a",
        "DROP TABLE IF EXISTS domain_event",
    ];
    for told in python(&file.path(), &others) {
        assert!(told.starts_with("refused: "), "{told}");
    }
    // By the library that is in this program, too.
    for sql in [insert, "UPDATE event_stream SET version = 1", "DELETE FROM domain_event"] {
        let told = file.other_program().batch_execute(sql).unwrap_err().to_string();
        assert!(told.contains("E_FENCED module=events epoch=2 moved_to=postgres: "), "{told}");
    }
    is_whole(&place(&file));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_stays_until_its_last_module_is_finalized() {
    let file = File::legacy();
    file.raw(ROWS);
    let open = file.open_unmigrated().await;
    let ((events, _), (other, _)) = (sides(&open, "events"), sides(&open, "audit"));
    finalized(&*events, &common::cutover::events()).await;
    file.raw(
        "INSERT INTO audit_events (event_id, event_type, event_category, event_outcome, event_timestamp, event_date, service_name, \
            actor_type, resource_type, resource_id, event_data) \
         VALUES ('a', 'a.b', 'c', 'success', '2024-05-06T07:08:09Z', '2024-05-06', 's', 'system', 'r', '1', '{}')",
    );
    let why = kept(events.archive().await.unwrap());
    assert!(why.starts_with("the table audit_events holds rows that no finalized module moved"), "{why}");
    prepared(&*other, &audit()).await;
    // Its changes are captured, then it is closed, but may come back.
    let why = kept(events.archive().await.unwrap());
    assert!(why.starts_with("the module audit is not finalized; "), "{why}");
    other.fence(1, "postgres", LONG).await.unwrap().unwrap();
    assert!(kept(events.archive().await.unwrap()).starts_with("the module audit is not finalized"));
    // A run that was given up: it lives here.
    other.reopen(3, false).await.unwrap();
    assert!(kept(events.archive().await.unwrap()).starts_with("the module audit is not finalized"));
    assert_eq!(text(&file, "SELECT journal_mode FROM pragma_journal_mode"), "wal");
    assert_eq!(
        names(&file).iter().filter(|name| name.contains("archive") || name.contains("new")).count(),
        0
    );
    other.prepare(changeover_core::Uuid::now_v7(), 3, &audit(), LONG).await.unwrap();
    other.fence(3, "postgres", LONG).await.unwrap().unwrap();
    other.stop_capture().await.unwrap();
    file.raw("CREATE TABLE ours (x); INSERT INTO ours VALUES (1)");
    assert!(
        kept(other.archive().await.unwrap())
            .starts_with("the table ours holds rows that no finalized module")
    );
    file.raw("DELETE FROM ours");
    done(other.archive().await.unwrap());
    is_whole(&place(&file));
    // Each module is told of the archive that the other made.
    assert!(matches!(events.archive().await.unwrap(), Archiving::Before(_)));
    let said = python(&file.path(), &["SELECT * FROM audit_events", "SELECT * FROM event_stream"]);
    assert!(
        said[0].contains("module=audit epoch=4") && said[1].contains("module=events epoch=2"),
        "{said:?}"
    );
}

// Renaming a file that is in use would leave its log behind.
#[rstest]
#[case::wal("wal", "SELECT count(*) FROM event_stream")]
#[case::wal_in_a_transaction("wal", "BEGIN; SELECT count(*) FROM event_stream")]
#[case::wal_writing("wal", "BEGIN IMMEDIATE; CREATE TABLE more (x)")]
#[case::rollback_journal_reading("delete", "BEGIN; SELECT count(*) FROM event_stream")]
#[case::rollback_journal_writing("delete", "BEGIN IMMEDIATE; CREATE TABLE more (x)")]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_somebody_has_open_stays_until_he_has_gone(#[case] journal: &str, #[case] sql: &str) {
    let (file, source) = moved(journal).await;
    let mut program = file.other_program();
    program.batch_execute(sql).unwrap();
    let began = Instant::now();
    let why = kept(source.archive().await.unwrap());
    assert!(why.contains("is in use by another program or connection"), "{why}");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_900) && took < Duration::from_secs(15), "{took:?}");
    assert_eq!(text(&file, "SELECT journal_mode FROM pragma_journal_mode"), journal);
    assert_eq!(
        names(&file).iter().filter(|name| name.contains("archive") || name.contains("new")).count(),
        0
    );
    // Who comes to an end while he is waited for is not in the way.
    let archiving = tokio::spawn(async move { source.archive().await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _ = program.batch_execute("ROLLBACK");
    drop(program);
    done(archiving.await.unwrap().unwrap());
    is_whole(&place(&file));
}

// Fault 1: each state that a kill leaves, made by hand.
#[rstest]
#[case::tombstone_half_written(true, false)]
#[case::two_names(false, true)]
#[case::both(true, true)]
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_killed_is_gone_on_with(#[case] tombstone: bool, #[case] link: bool) {
    let (file, source) = moved("wal").await;
    let nonce = source.meta().await.unwrap().unwrap().nonce;
    if tombstone {
        fs::write(beside(&file, &format!("app.db.{nonce}.new")), "half").unwrap();
    }
    if link {
        fs::hard_link(file.path(), place(&file)).unwrap();
    }
    done(source.archive().await.unwrap());
    is_whole(&place(&file));
    assert_eq!(names(&file), ["app.db", "app.db.archive"]);
}

// Fault 1: killed when the tombstone was there.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_can_still_be_written_to_is_closed() {
    let (file, source) = moved("wal").await;
    let archive = done(source.archive().await.unwrap());
    fs::set_permissions(&archive.place, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(source.archive().await.unwrap(), Archiving::Before(archive));
    is_whole(&place(&file));
}

#[rstest]
#[case::a_file(|path: &Path| fs::write(path, "somebody else's").unwrap())]
#[case::a_link(|path: &Path| std::os::unix::fs::symlink("app.db", path).unwrap())]
#[case::a_folder(|path: &Path| fs::create_dir(path).unwrap())]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_overwritten(#[case] make: impl Fn(&Path)) {
    let (file, source) = moved("wal").await;
    make(&place(&file));
    let there = fs::symlink_metadata(place(&file)).unwrap();
    let why = kept(source.archive().await.unwrap());
    assert!(why.contains("app.db.archive is there already and is another file"), "{why}");
    let still = fs::symlink_metadata(place(&file)).unwrap();
    assert_eq!((still.ino(), still.len(), still.mode()), (there.ino(), there.len(), there.mode()));
    assert_eq!(text(&file, "SELECT journal_mode FROM pragma_journal_mode"), "wal", "as it was");
    assert!(names(&file).iter().all(|name| !name.contains("new")));
    assert_eq!(text(&file, "SELECT CAST(count(*) AS TEXT) FROM event_stream"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_the_file_leads_to_the_tombstone() {
    let (file, source) = moved("wal").await;
    drop(source);
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link.db");
    std::os::unix::fs::symlink(file.path(), &link).unwrap();
    let settings = file.settings().with("path", link.to_string_lossy());
    let open = OpenSqlite::open(&settings.with("migrate_on_start", "false")).await.unwrap();
    let (source, _) = sides(&open, "events");
    assert_eq!(done(source.archive().await.unwrap()).place, place(&file));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(python(&link, &["SELECT * FROM domain_event"])[0].contains("E_FENCED"));
    assert_eq!(source.archived().await.unwrap().unwrap().place, place(&file));
}

// The rows that a verifier looks at are in the archive; it says so where that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_witness_follows_into_the_archive() {
    let file = File::legacy();
    file.raw(ROWS);
    let open = file.open_unmigrated().await;
    let (source, witness) = sides(&open, "events");
    finalized(&*source, &events()).await;
    let (key, columns) = (all_named(&["stream_id"]), all_named(&["aggregate_id", "version"]));
    let look = || witness.rows("event_stream", &key, &columns, None, None, 10);
    let before = look().await.unwrap();
    assert_eq!(before.len(), 2);
    let archive = done(source.archive().await.unwrap());
    assert_eq!(look().await.unwrap(), before);
    assert_eq!(witness.count("domain_event").await.unwrap(), 2);
    let of = [before[1].key.clone()];
    let found = witness.by_keys("event_stream", &key, &columns, &of).await.unwrap();
    assert_eq!(found, [Some(before[1].clone())]);
    assert_eq!(witness.count("absent").await.unwrap_err().kind(), ErrorKind::NotFound);

    fs::rename(&archive.place, beside(&file, "gone")).unwrap();
    assert!(!source.archived().await.unwrap().unwrap().is_there);
    let (_, another) = sides(&open, "events");
    let error = another.count("domain_event").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("app.db.archive: the archive of"), "{error}");
    assert!(matches!(source.archive().await.unwrap(), Archiving::Before(it) if !it.is_there));
}

// What a program of this kind holds of the file: its stores let go of it when they are told that the module has moved, so that
// nobody has to be stopped.
#[tokio::test(flavor = "multi_thread")]
async fn our_stores_let_go_of_a_file_that_their_module_left() {
    let file = File::new();
    let (service, operator) = (file.open().await, file.open_unmigrated().await);
    let store = service.events(&scope(), &tenant()).await.unwrap();
    store.append(one(&stream(), Expected::NoStream, 2)).await.unwrap();
    store.read_all(ReadAll::default()).await.unwrap();
    let (source, _) = sides(&operator, "events");
    finalized(&*source, &common::cutover::native_events()).await;
    let why = kept(source.archive().await.unwrap());
    assert!(why.contains("is in use"), "it was not told yet: {why}");
    let moved = |error: changeover_core::Error| assert_eq!(error.kind(), ErrorKind::Moved, "{error}");
    moved(store.read_all(ReadAll::default()).await.unwrap_err());
    moved(store.append(one(&stream(), Expected::NoStream, 1)).await.unwrap_err());
    moved(service.begin(&scope(), &tenant()).await.unwrap_err());
    assert_eq!(service.owner(&scope()).await.unwrap().as_deref(), Some("postgres"));
    let archive = done(source.archive().await.unwrap());
    assert_eq!(numbers(&archive.place, &["SELECT count(*) FROM domain_event"]), [2]);

    // The same afterwards, also for one that starts anew.
    let another = file.open().await;
    for backend in [&service, &another] {
        assert_eq!(backend.owner(&scope()).await.unwrap().as_deref(), Some("postgres"));
        moved(backend.begin(&scope(), &tenant()).await.unwrap_err());
    }
    moved(store.read_all(ReadAll::default()).await.unwrap_err());
    moved(store.append(one(&stream(), Expected::NoStream, 1)).await.unwrap_err());
    // A module that never was in it finds no place there.
    assert_eq!(another.owner(&module("playbooks")).await.unwrap(), None);
    let refused = another.playbooks(&module("playbooks"), &tenant()).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.message().contains("is what is left of a file whose modules were moved"), "{refused}");
    for (family, kind) in [(Family::Events, ErrorKind::Moved), (Family::Playbooks, ErrorKind::Config)] {
        let migrations = another.migrations(&module(family.as_str()), family).unwrap();
        for refused in [migrations.up().await.unwrap_err(), migrations.down(1, true).await.unwrap_err()] {
            assert_eq!(refused.kind(), kind, "{refused}");
            assert!(refused.message().contains("app.db.archive"), "{refused}");
        }
    }
    let checks = another.check().await;
    assert!(checks.len() == 1 && checks[0].ok && checks[0].detail.contains("app.db.archive"), "{checks:?}");
    assert!(matches!(source.archive().await.unwrap(), Archiving::Before(_)));
    // What was opened since is closed again.
    drop((service, another));
}

// Opened because the settings name it, and never asked again: nothing is held.
#[tokio::test(flavor = "multi_thread")]
async fn to_open_a_file_that_everything_left_holds_nothing() {
    let (file, source) = moved("wal").await;
    let idle = file.open().await;
    done(source.archive().await.unwrap());
    assert_eq!(idle.owner(&scope()).await.unwrap().as_deref(), Some("postgres"));
}
