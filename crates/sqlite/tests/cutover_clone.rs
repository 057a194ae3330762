//! A copy of the file for a drill, taken while another program writes as fast as it can.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use changeover_core::ErrorKind;
use changeover_core::cutover::CutoverSource;
use common::File;
use common::cutover::{alone, sides};
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection};
use rstest::rstest;

/// Set in the process that writes.
const WRITES: &str = "CHANGEOVER_TEST_CLONE_WRITES";

/// How long one test goes on.
const WHILE: Duration = Duration::from_secs(4);

/// Every transaction stores two rows, rewrites one that all of them do, and replaces what an early one left; the row has no key
/// but its rowid, and gaps between the rowids, which VACUUM would close.
const TABLES: &str = "CREATE TABLE pair (what, wide);
    CREATE TABLE last (one INTEGER PRIMARY KEY, number INTEGER);
    INSERT INTO last VALUES (1, 0);
    INSERT INTO pair (rowid, what, wide) VALUES (-7, CAST(x'50ff' AS TEXT), 9e999), (-3, '007', x'00')";

/// The writer, in a process of its own: it prints the number of each transaction once it is committed.
#[test]
fn writer() {
    let Ok(path) = std::env::var(WRITES) else { return };
    let mut conn = SqliteConnection::establish(&path).unwrap();
    let sizes = "PRAGMA wal_autocheckpoint = 8; PRAGMA synchronous = OFF; PRAGMA busy_timeout = 20000";
    conn.batch_execute(sizes).unwrap();
    for number in 1.. {
        let rowid = number * 4;
        let wide = number % 3_000;
        conn.batch_execute(&format!(
            "BEGIN IMMEDIATE;
             INSERT INTO pair (rowid, what, wide) VALUES ({rowid}, {number}, zeroblob({wide})), ({rowid} + 1, '{number}', 'x');
             UPDATE last SET number = {number};
             UPDATE pair SET wide = 'y' WHERE rowid = {rowid} - 4000;
             COMMIT"
        ))
        .unwrap();
        println!("did {number}");
    }
}

/// The writer at work, and the last number it said.
struct Writer {
    child: Child,
    said: Arc<AtomicI64>,
}

impl Writer {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["writer", "--exact", "--nocapture"])
            .env(WRITES, path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(AtomicI64::new(0));
        let lines: BufReader<ChildStdout> = BufReader::new(child.stdout.take().unwrap());
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Some(number) = line.strip_prefix("did ").and_then(|it| it.parse().ok()) {
                    heard.store(number, Ordering::SeqCst);
                }
            }
        });
        Self { child, said }
    }

    fn said(&self) -> i64 {
        self.said.load(Ordering::SeqCst)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct Words {
    #[diesel(sql_type = Text)]
    words: String,
}

fn number(conn: &mut SqliteConnection, sql: &str) -> i64 {
    let found: Number = diesel::sql_query(format!("SELECT ({sql}) AS number")).get_result(conn).unwrap();
    found.number
}

fn words(conn: &mut SqliteConnection, sql: &str) -> String {
    let found: Words = diesel::sql_query(format!("SELECT ({sql}) AS words")).get_result(conn).unwrap();
    found.words
}

fn open(path: &Path) -> SqliteConnection {
    let mut conn = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
    conn.batch_execute("PRAGMA busy_timeout = 20000").unwrap();
    conn
}

async fn clone(source: &dyn CutoverSource, folder: &Path) -> PathBuf {
    source.copy_into(folder, &Arc::default()).await.unwrap().path
}

/// All rows up to a transaction, each value by class and bytes.
fn rows(conn: &mut SqliteConnection, upto: i64) -> String {
    let sql = format!(
        "SELECT group_concat(line, ';') FROM (SELECT rowid || typeof(what) || hex(what) || typeof(wide) || hex(wide) AS line \
           FROM pair WHERE rowid <= {upto} * 4 + 1 ORDER BY rowid)"
    );
    words(conn, &sql)
}

// Hazard 51: whatever was acknowledged before the copy began is in it, whole transactions and no others, with rowids, storage
// classes and bytes - while another process writes, and another one empties the log whenever it can, so that the reader is at
// mark 0 as often as above it.
#[rstest]
#[case::wal("wal")]
#[case::rollback_journal("delete")]
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_under_writes_has_all_that_was_acknowledged(#[case] journal: &str) {
    let file = File::new();
    file.raw(TABLES);
    let (source, _) = alone(&file, "events", journal).await;
    let writer = Writer::start(&file.path());
    let stop = Arc::new(AtomicBool::new(false));
    let emptying = std::thread::spawn({
        let (stop, path) = (Arc::clone(&stop), file.path());
        move || {
            let mut conn = open(&path);
            conn.batch_execute("PRAGMA busy_timeout = 5").unwrap();
            for mode in ["TRUNCATE", "RESTART", "PASSIVE", "FULL"].iter().cycle() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                // Busy as often as not.
                let _ = conn.batch_execute(&format!("PRAGMA wal_checkpoint({mode})"));
            }
        }
    });
    let until = Instant::now() + WHILE;
    let (mut rounds, mut last) = (0, 0);
    while Instant::now() < until || rounds < 10 {
        let folder = tempfile::tempdir().unwrap();
        let said = writer.said();
        let cloned = source.copy_into(folder.path(), &Arc::default()).await.unwrap();
        assert_eq!(cloned.paused, journal == "delete");
        let mut copy = open(&cloned.path);
        assert_eq!(
            words(&mut copy, "SELECT group_concat(integrity_check) FROM pragma_integrity_check"),
            "ok"
        );
        let upto = number(&mut copy, "SELECT number FROM last");
        assert!(upto >= said, "{said} was acknowledged, the copy ends at {upto}");
        assert_eq!(number(&mut copy, "SELECT count(*) FROM pair WHERE rowid > 0"), upto * 2, "pairs, no gap");
        assert_eq!(
            number(&mut copy, "SELECT coalesce(max(rowid), 0) FROM pair WHERE rowid > 0"),
            if upto == 0 { 0 } else { upto * 4 + 1 }
        );
        // Early rows change no more once four thousand came after: compared with the file itself.
        let settled = upto.min(100);
        if upto > 1_200 {
            assert_eq!(rows(&mut copy, settled), rows(&mut open(&file.path()), settled));
        }
        last = upto;
        rounds += 1;
    }
    stop.store(true, Ordering::SeqCst);
    emptying.join().unwrap();
    assert!(last > 50, "the writer was at work: {last} transactions in {rounds} rounds");
    println!("{journal}: {rounds} copies, {last} transactions");
    // The file was not harmed either.
    drop(writer);
    let mut conn = open(&file.path());
    assert_eq!(words(&mut conn, "SELECT group_concat(integrity_check) FROM pragma_integrity_check"), "ok");
}

// Bytes that no text holds, infinities and numbers as text come over as they are; and when nobody writes, the file has the
// same bytes afterwards.
#[rstest]
#[case::wal("wal")]
#[case::rollback_journal("delete")]
#[tokio::test(flavor = "multi_thread")]
async fn values_are_the_same_and_the_file_is_not_written_to(#[case] journal: &str) {
    let file = File::new();
    file.raw(TABLES);
    let (source, _) = alone(&file, "events", journal).await;
    let before = std::fs::read(file.path()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = clone(&*source, folder.path()).await;
    assert_eq!(rows(&mut open(&path), 0), "-7text50FFrealInf;-3text303037blob00".replace("Inf", "496E66"));
    drop(source);
    assert_eq!(std::fs::read(file.path()).unwrap(), before);
}

// The copy of a file that is a link, and whose log lies beside what the link leads to.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_followed_to_the_log() {
    let file = File::new();
    file.raw("PRAGMA journal_mode = WAL");
    let link = file.folder().join("link.db");
    std::os::unix::fs::symlink(file.path(), &link).unwrap();
    let settings = changeover_core::BackendSettings::new("link").with("path", link.to_string_lossy());
    let opened =
        changeover_sqlite::OpenSqlite::open(&settings.with("migrate_on_start", "false")).await.unwrap();
    let mut other = file.other_program();
    other
        .batch_execute("PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = clone(&*sides(&opened, "events").0, folder.path()).await;
    assert_eq!(number(&mut open(&path), "SELECT x FROM t"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_given_up_when_it_is_told_to_and_says_where_there_is_no_room() {
    let file = File::new();
    file.raw(TABLES);
    let (source, _) = alone(&file, "events", "wal").await;
    let folder = tempfile::tempdir().unwrap();
    let told = Arc::new(AtomicBool::new(true));
    let stopped = source.copy_into(folder.path(), &told).await.unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Unavailable, "{stopped}");
    assert!(stopped.message().contains("given up"), "{stopped}");
    let nowhere = folder.path().join("nowhere");
    let refused = source.copy_into(&nowhere, &Arc::default()).await.unwrap_err();
    assert!(
        refused.message().contains("nowhere") && refused.message().contains("another folder"),
        "{refused}"
    );
    // And a store that was copied goes on as ever.
    assert!(source.facts().await.is_ok());
}
