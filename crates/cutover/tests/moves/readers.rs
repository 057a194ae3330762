//! Readers of the new store that know of no move: each answer is whole, or it is `Moved`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use changeover_core::audit::{AuditFilter, AuditQuery};
use changeover_core::backend::Family;
use changeover_core::events::{HeadOf, ReadAll};
use changeover_core::playbooks::ListPlaybooks;
use changeover_core::{ErrorKind, Limit, Result};
use changeover_cutover::Goal;
use changeover_cutover::phase::Owner;
use rstest::rstest;

use crate::stage::{Stage, history, terms};
use crate::support::{scope, tenant};

const AUDIT: &str = "WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 120) \
    INSERT INTO audit_events (event_id, event_type, event_category, event_outcome, event_timestamp, event_date, \
        service_name, actor_type, resource_type, resource_id, event_data) \
    SELECT printf('00000000-0000-4000-a000-%012d', n), 'a.b', 'c', 'success', '2024-05-06T07:08:09Z', '2024-05-06', \
        's', 'system', 'r', '1', '{\"a\":1}' FROM g";
const PLAYBOOKS: &str = "WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 120) \
    INSERT INTO playbook_catalog (playbook_id, version, name, description, content, content_hash, labels, \
        is_latest_version, created_at, updated_at) \
    SELECT printf('p%03d', n), 'v1.0.0', 'P', 'd', 'c', \
        '2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6', '{}', 1, \
        '2024-05-06 07:08:09', '2024-05-06 07:08:09' FROM g";

/// One read of a store of the new backend, in turn another; how many of the 120 records its answer stands for.
async fn read(stage: &Stage, turn: usize) -> Result<u64> {
    let (scope, tenant) = (scope(stage.family.as_str()), tenant());
    Ok(match stage.family {
        Family::Events => {
            let store = stage.new.events(&scope, &tenant).await?;
            if turn.is_multiple_of(2) {
                store.read_all(ReadAll::default()).await?.events.len() as u64
            } else {
                let head = store.head(HeadOf::Log).await?.checkpoint;
                head.map_or(0, |it| it.position().unsigned_abs())
            }
        }
        Family::Audit => {
            let store = stage.new.audit(&scope, &tenant).await?;
            if turn.is_multiple_of(2) {
                store.count(AuditFilter::default()).await?
            } else {
                store
                    .query(AuditQuery { limit: Limit::new(500)?, ..AuditQuery::default() })
                    .await?
                    .events
                    .len() as u64
            }
        }
        Family::Playbooks => {
            let store = stage.new.playbooks(&scope, &tenant).await?;
            let asked = ListPlaybooks { limit: Limit::new(500)?, ..ListPlaybooks::default() };
            store.list(asked).await?.playbooks.len() as u64
        }
    })
}

// I2: over a revert and the next run, to an abort and another run, no reader of the new store sees it emptied or half full.
#[rstest]
#[case::events(Family::Events, history(12, 10))]
#[case::audit(Family::Audit, AUDIT.to_owned())]
#[case::playbooks(Family::Playbooks, PLAYBOOKS.to_owned())]
#[tokio::test(flavor = "multi_thread")]
async fn no_reader_sees_a_store_that_is_emptied(#[case] family: Family, #[case] rows: String) {
    let stage = Arc::new(Stage::legacy(family, &rows).await);
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Switched).await.unwrap();
    assert_eq!(read(&stage, 0).await.unwrap(), 120);
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (stage, stop) = (Arc::clone(&stage), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut whole, mut moved) = (0_u64, 0_u64);
                for turn in reader.. {
                    match read(&stage, turn).await {
                        Ok(records) => {
                            assert_eq!(records, 120, "an answer that is not whole");
                            whole += 1;
                        }
                        // Who empties the tables waits longer from try to try; in the last ones a deadlock may be met.
                        Err(error) if error.kind() == ErrorKind::Contention => {}
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Moved, "{error}");
                            moved += 1;
                        }
                    }
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
                (whole, moved)
            })
        })
        .collect();
    for _ in 0..2 {
        assert_eq!(cutover.revert(&terms()).await.unwrap().owner, Owner::Sqlite);
        tokio::time::sleep(Duration::from_millis(20)).await;
        cutover.run(&terms(), Goal::Verified).await.unwrap();
        cutover.abort(&terms()).await.unwrap();
        assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        let (whole, moved) = reader.await.unwrap();
        assert!(whole > 0 && moved > 0, "{whole} answers, {moved} refusals");
    }
}
