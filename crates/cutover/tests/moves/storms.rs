//! What PostgreSQL refuses for a while, and what it refuses for good: only a row that is at fault itself stays out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use changeover_core::backend::Family;
use changeover_cutover::phase::Owner;
use changeover_cutover::{Cutover, Goal, Step};
use rstest::rstest;

use crate::roots::one_root;
use crate::stage::{Stage, history, terms, words};
use crate::under_writers::{Writers, check};

/// A refusal in triggers of the target and of what is kept of a run: `storm(code, name, times)`. Sequences count, since they are
/// not rolled back.
const STORM: &str = "\
    CREATE SCHEMA weather; \
    CREATE FUNCTION weather.storm() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ \
    BEGIN \
        IF nextval('weather.' || TG_ARGV[1]) <= TG_ARGV[2]::int THEN \
            RAISE EXCEPTION 'a storm' USING ERRCODE = TG_ARGV[0]; \
        END IF; \
        RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END; \
    END $$;";

/// The next writes to a table, those of rows with some property where one is given, are refused.
async fn storm(stage: &Stage, code: &str, name: &str, table: &str, only: Option<&str>, times: u32) {
    let level = only.map_or("FOR EACH STATEMENT".to_owned(), |only| format!("FOR EACH ROW WHEN ({only})"));
    let sql = format!(
        "CREATE SEQUENCE weather.{name}; \
         CREATE TRIGGER {name} BEFORE INSERT ON {table} {level} EXECUTE FUNCTION weather.storm('{code}', '{name}', '{times}')"
    );
    stage.db.execute(&sql).await.unwrap();
}

/// How often it is tried again.
async fn counting(stage: &Stage) -> (Cutover, Arc<AtomicU32>) {
    let waits = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&waits);
    let cutover = stage.cutover().await.watching(move |step| {
        if matches!(step, Step::Waiting { .. }) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (cutover, waits)
}

// Faults 6, 20, 22: a full disk, deadlocks, serialization failures, lost connections and a server that starts are waited out in
// copying, in following, behind the fence and at the switch; nothing is doubled, and no good row is in quarantine.
#[rstest]
#[case::disk_full("53100", "53100")]
#[case::serialization("40001", "40001")]
#[case::deadlock("40P01", "40P01")]
#[case::connection("08006", "57P03")]
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_is_waited_out_and_parks_no_row(#[case] code: &str, #[case] later: &str) {
    let stage = Stage::legacy(Family::Events, &history(5, 40)).await;
    stage.db.execute(STORM).await.unwrap();
    storm(&stage, code, "rows", "event_store.domain_event", None, 2).await;
    storm(&stage, code, "chunks", "cutover.chunk", None, 1).await;
    let writers = Writers::start(&stage, 1).await;
    let (cutover, waits) = counting(&stage).await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    assert!(waits.load(Ordering::SeqCst) >= 3);

    storm(&stage, later, "changes", "event_store.domain_event", None, 1).await;
    storm(&stage, later, "fence", "cutover.record", Some("NEW.what = 'fenced'"), 1).await;
    storm(&stage, later, "switch", "cutover.record", Some("NEW.what = 'switched'"), 1).await;
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert!(waits.load(Ordering::SeqCst) >= 6);
    for name in ["rows", "chunks", "changes", "fence", "switch"] {
        let calls = stage.number(&format!("SELECT last_value FROM weather.{name}")).await;
        assert!(calls > 1, "{name} came by");
    }
    let acknowledged = writers.stop().await;
    check(&*stage.new_events().await, &acknowledged, 200).await;
    one_root(&stage).await;
    assert_eq!(stage.number("SELECT count(*) FROM cutover.quarantine").await, 0);
    let record = cutover.record(None).await.unwrap();
    for word in ["copying", "switched"] {
        assert_eq!(words(&record).iter().filter(|it| **it == word).count(), 1, "{word}");
    }
}

// Fault 22: a row that a constraint of the new store refuses stays out, alone, with its reason; it is stored when the constraint
// lets it, and whatever comes while the module follows is treated the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_constraint_refuses_is_parked_alone() {
    let stage = Stage::legacy(Family::Events, &history(5, 40)).await;
    stage
        .db
        .execute(
            "ALTER TABLE event_store.domain_event ADD CONSTRAINT no_seven CHECK (event_data ->> 'n' NOT IN ('7', '70', '71'))",
        )
        .await
        .unwrap();
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    let parked = || async {
        let rows = stage.cutover().await.quarantined(None, Some("undecided"), 0, 100).await.unwrap();
        assert!(rows.iter().all(|row| row.reasons.len() == 1 && row.reasons[0].hazard == 29), "{rows:?}");
        assert!(
            rows.iter().all(|row| row.reasons[0].problem.contains("the constraint no_seven")),
            "{rows:?}"
        );
        rows.len()
    };
    assert_eq!(parked().await, 3);
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 197);
    // One that was stored becomes one that is refused, one that was refused becomes good.
    stage.file.run(
        "UPDATE domain_event SET event_data = '{\"n\": 7, \"again\": 1}' WHERE rowid = 100; \
         UPDATE domain_event SET event_data = '{\"n\": 8, \"again\": 1}' WHERE rowid = 8",
    );
    assert!(cutover.run(&terms(), Goal::Switched).await.is_err());
    assert_eq!(parked().await, 3);
    let rows = cutover.quarantined(None, None, 0, 100).await.unwrap();
    cutover.approve(&rows.iter().map(|row| row.id).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 197);
    one_root(&stage).await;
}
