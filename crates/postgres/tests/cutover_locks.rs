//! What a cutover locks, among readers that know nothing of it.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod moving;

use std::sync::Arc;
use std::time::Duration;

use changeover_core::cutover::{ChunkDone, CopyChunk, CutoverTarget, Lease, Switch, Table};
use changeover_core::{Applied, ErrorKind, Result};
use changeover_testkit::TestDatabase;
use moving::*;
use rstest::rstest;
use tokio::time::sleep;

/// Waits until somebody waits for a lock on a table.
async fn waiting(db: &TestDatabase) {
    let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation' \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while number(db, sql).await == 0 {
        sleep(Duration::from_millis(1)).await;
    }
}

/// The step under test, and what comes before it.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Abort,
    GiveBack,
    Finalize,
}

impl Step {
    async fn prepare(
        self,
        target: &Arc<dyn CutoverTarget>,
        tables: Vec<Table>,
        chunks: Vec<CopyChunk>,
    ) -> Lease {
        let count = tables.len();
        let lease = target.begin(&new_run(tables, 0), entry("prepared")).await.unwrap();
        for chunk in &chunks {
            assert_eq!(target.copy(&lease, chunk).await.unwrap(), ChunkDone::Stored);
        }
        to_sealed(target, &lease, count).await;
        if self != Self::Abort {
            let switch = Switch { epoch: 0, applied: 0 };
            assert!(target.switch(&lease, &switch, entry("switched")).await.unwrap());
        }
        if self == Self::GiveBack {
            target.fence(&lease, 1, entry("revert_fenced")).await.unwrap().unwrap();
        }
        lease
    }

    /// The owner and the epoch afterwards.
    async fn take(self, target: &Arc<dyn CutoverTarget>, lease: &Lease) -> Result<(String, i64)> {
        let done = match self {
            Self::Abort => target.abort(lease.run, 0, entry("aborted")).await?,
            Self::GiveBack => target.give_back(lease, 2, entry("reverted")).await?,
            Self::Finalize => target.finalize(lease, entry("finalized")).await.map(|()| Some(1))?,
        };
        let authority = target.authority().await?.unwrap();
        assert_eq!(Some(authority.epoch), done);
        Ok((authority.owner, authority.epoch))
    }
}

fn event_rows() -> Vec<CopyChunk> {
    vec![chunk(0, 1, vec![stream(1, 1)]), chunk(1, 1, vec![event(7, 1, 1)])]
}

fn audit_rows() -> Vec<CopyChunk> {
    let at = ["2000-01-05T00:00:00Z", "2000-02-05T00:00:00Z", "2000-03-05T00:00:00Z"];
    vec![chunk(0, 1, (1..).zip(at).map(|(sequence, at)| audited(sequence, at)).collect())]
}

const EVENT: &str = "event_store.domain_event";
const STREAM: &str = "event_store.event_stream";
const TRAIL: &str = "ONLY audit_store.audit_events";
const MONTH: &str = "audit_store.audit_events_2000_02";
const IDS: &str = "audit_store.audit_event_id";

// I2: a reader that has one table and wants another goes on, whichever it took first, and the step waits for it: nobody is
// told of a deadlock.
#[rstest]
#[case::events_abort(Step::Abort, events(), event_rows(), [EVENT, STREAM], ("sqlite", 2))]
#[case::events_revert(Step::GiveBack, events(), event_rows(), [EVENT, STREAM], ("sqlite", 3))]
#[case::events_finalize(Step::Finalize, events(), event_rows(), [EVENT, STREAM], ("postgres", 1))]
#[case::audit_revert(Step::GiveBack, audit(), audit_rows(), [TRAIL, MONTH], ("sqlite", 3))]
#[case::audit_finalize(Step::Finalize, audit(), audit_rows(), [TRAIL, MONTH], ("postgres", 1))]
#[case::ids_abort(Step::Abort, audit(), audit_rows(), [TRAIL, IDS], ("sqlite", 2))]
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_between_two_tables_goes_on(
    #[case] step: Step,
    #[case] tables: Vec<Table>,
    #[case] chunks: Vec<CopyChunk>,
    #[case] pair: [&str; 2],
    #[case] after: (&str, i64),
    #[values(false, true)] is_reversed: bool,
) {
    let db = prepared().await;
    let module = if pair[0] == TRAIL { "audit" } else { "events" };
    let target = target(db.url(), module).await;
    let lease = step.prepare(&target, tables, chunks).await;
    let [has, wants] = if is_reversed { [pair[1], pair[0]] } else { pair };
    let reader = db.client().await.unwrap();
    // Whoever looks for deadlocks finds one soon.
    reader.batch_execute("SET deadlock_timeout = '700ms'; BEGIN").await.unwrap();
    reader.batch_execute(&format!("SELECT count(*) FROM {has}")).await.unwrap();
    let stepping = tokio::spawn(async move { step.take(&target, &lease).await });
    waiting(&db).await;
    reader.batch_execute(&format!("SELECT count(*) FROM {wants}; COMMIT")).await.unwrap();
    let (owner, epoch) = stepping.await.unwrap().unwrap();
    assert_eq!((&*owner, epoch), after);
}

// A table that somebody keeps is not waited for without end: nothing is changed, and the same call succeeds afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_kept_is_contention() {
    let db = prepared().await;
    let target = target(db.url(), "events").await;
    let lease = Step::GiveBack.prepare(&target, events(), event_rows()).await;
    let before = schema(&db).await;
    let reader = db.client().await.unwrap();
    reader.batch_execute(&format!("BEGIN; SELECT count(*) FROM {EVENT}")).await.unwrap();
    let error = Step::GiveBack.take(&target, &lease).await.unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Contention, Some(Applied::No)), "{error}");
    let authority = target.authority().await.unwrap().unwrap();
    assert_eq!((&*authority.owner, authority.epoch), ("none", 2));
    assert_eq!(schema(&db).await, before);
    reader.batch_execute(&format!("SELECT 1 / count(*) FROM {EVENT}; COMMIT")).await.unwrap();
    assert_eq!(Step::GiveBack.take(&target, &lease).await.unwrap(), ("sqlite".to_owned(), 3));
    assert_eq!(number(&db, &format!("SELECT count(*) FROM {EVENT}")).await, 0);
}
