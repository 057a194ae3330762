//! A file without room, while its changes are captured.

use changeover_core::backend::Family;
use changeover_core::cutover::{Raw, RawKey};
use changeover_cutover::phase::Owner;
use changeover_cutover::{Cutover, Goal};
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection as _;

use crate::roots::one_root;
use crate::stage::{Stage, history, terms};

/// The keys of events that were captured since a change, each once.
async fn captured(cutover: &Cutover, after: i64) -> Vec<RawKey> {
    let dirty = cutover.source().dirty(after, 10_000).await.unwrap();
    let mut keys = Vec::new();
    for it in dirty.keys.into_iter().filter(|it| it.table == "domain_event") {
        if !keys.contains(&it.key) {
            keys.push(it.key);
        }
    }
    keys
}

/// A program appends an event of a size: its stream's head and the event, in one transaction.
fn append(program: &mut SqliteConnection, number: u32, bytes: usize) -> bool {
    let payload = "x".repeat(bytes);
    let written = program.batch_execute(&format!(
        "BEGIN IMMEDIATE; \
         UPDATE event_stream SET version = version + 1 WHERE rowid = 1; \
         INSERT INTO domain_event SELECT printf('00000000-0000-4000-b000-%012d', {number}), stream_id, 'Placed', 1, version, \
             '{{\"n\":{number},\"x\":\"{payload}\"}}', '{{}}', '2024-01-02T03:04:05.123456Z', NULL, NULL \
             FROM event_stream WHERE rowid = 1; \
         COMMIT"
    ));
    if written.is_err() {
        // SQLite may have rolled back by itself.
        let _ = program.batch_execute("ROLLBACK");
    }
    written.is_ok()
}

// Fault 7: while the file is full a write fails as a whole, capture included; with room again the run goes on and both stores
// come to be equal.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_loses_nothing_of_what_it_took() {
    let stage = Stage::legacy(Family::Events, &history(2, 30)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    let before = cutover.status().await.unwrap().file.unwrap().seq;

    let mut program = stage.file.program();
    let pages = stage.file.number("SELECT page_count + 4 FROM pragma_page_count");
    program.batch_execute(&format!("PRAGMA max_page_count = {pages}")).unwrap();
    let (mut taken, mut refused) = (Vec::new(), 0);
    for number in 1..=200 {
        if append(&mut program, number, 40 * (number as usize % 50)) {
            taken.push(number);
        } else {
            refused += 1;
        }
    }
    assert!(refused > 50 && taken.len() > 2, "{refused} {}", taken.len());
    // What was taken is there and in the log; what was refused is in neither.
    let there = "SELECT count(*) FROM domain_event WHERE event_id LIKE '%-b000-%'";
    assert_eq!(stage.file.number(there), i64::try_from(taken.len()).unwrap());
    let head = "SELECT version - 30 FROM event_stream WHERE rowid = 1";
    assert_eq!(stage.file.number(head), i64::try_from(taken.len()).unwrap());
    let logged = captured(&cutover, before).await;
    assert_eq!(logged.len(), taken.len());
    for number in &taken {
        let rowid = format!(
            "SELECT rowid FROM domain_event WHERE event_id LIKE '%-b000-%' AND event_data LIKE '{{\"n\":{number},%'"
        );
        let key = vec![Raw::Integer(stage.file.number(&rowid))];
        assert!(logged.contains(&key), "event {number} is not in the log");
    }

    program.batch_execute("PRAGMA max_page_count = 1000000").unwrap();
    assert!(append(&mut program, 1_000, 100_000));
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    one_root(&stage).await;
    let moved = stage.number("SELECT count(*) FROM event_store.domain_event").await;
    assert_eq!(moved, 60 + i64::try_from(taken.len()).unwrap() + 1);
    assert_eq!(stage.number("SELECT count(*) FROM cutover.quarantine").await, 0);
}
