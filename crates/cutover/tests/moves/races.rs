//! Two who want the opposite at the same moment.

use std::time::Duration;

use changeover_core::Uuid;
use changeover_core::backend::Family;
use changeover_cutover::Goal;
use changeover_cutover::phase::{Owner, Phase};

use crate::stage::{Stage, append, event, history, stream, terms};

const ROUNDS: u32 = 20;

// Fault 11: an abort races the switch, a little later each round: one of them succeeds, and both stores say which.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_abort_and_a_switch_one_succeeds() {
    let stage = Stage::legacy(Family::Events, &history(2, 5)).await;
    let (mut switched, mut aborted) = (0, 0);
    for round in 0..ROUNDS {
        let (runner, quitter) = (
            stage.cutover_by("a runner", stage.db.url()).await,
            stage.cutover_by("a quitter", stage.db.url()).await,
        );
        runner.run(&terms(), Goal::Verified).await.unwrap();
        let (run, abort) = tokio::join!(
            tokio::spawn(async move { runner.run(&terms(), Goal::Switched).await }),
            tokio::spawn(async move {
                // Over the whole of the way: fence, drain, comparison, seal, switch.
                tokio::time::sleep(Duration::from_millis(u64::from(round) * 12)).await;
                quitter.abort(&terms()).await
            }),
        );
        let (run, abort) = (run.unwrap(), abort.unwrap());
        assert!(run.is_ok() != abort.is_ok(), "round {round}: {run:?} {abort:?}");
        let cutover = stage.cutover().await;
        let status = cutover.status().await.unwrap();
        let file = status.file.clone().unwrap();
        let id = Uuid::new_v4();
        let (there, here) = (stage.new_events().await, stage.old_events().await);
        let new = append(&*there, stream(1), event(id, 1)).await.is_ok();
        let old = append(&*here, stream(1), event(id, 1)).await.is_ok();
        if run.is_ok() {
            switched += 1;
            assert_eq!((status.owner, status.phase, file.open), (Owner::Postgres, Phase::Switched, false));
            assert_eq!((new, old), (true, false));
            assert_eq!(cutover.revert(&terms()).await.unwrap().owner, Owner::Sqlite);
        } else {
            aborted += 1;
            assert_eq!(
                (status.owner, status.phase, file.open, file.captures),
                (Owner::Sqlite, Phase::Idle, true, false)
            );
            assert_eq!((new, old), (false, true));
            assert_eq!(file.epoch, status.epoch);
            assert_eq!(stage.number("SELECT count(*) FROM event_store.domain_event").await, 0);
        }
        assert_eq!(stage.file.number("SELECT count(*) FROM domain_event"), 10 + i64::from(round) + 1);
    }
    println!("{switched} switched, {aborted} aborted");
}
