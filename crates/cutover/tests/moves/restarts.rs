//! PostgreSQL itself goes away in the middle of a run, and comes back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::{Cutover, Goal, Step, Terms};
use changeover_testkit::{Halt, OwnServer};
use rstest::rstest;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, block_in_place};

use crate::roots::one_root;
use crate::stage::{Stage, history, terms};
use crate::under_writers::{Writers, check};

/// A step at which the server goes away.
type At = fn(&Step) -> bool;

/// The server on its way back, once for each step at which it went away.
type Resumed = Arc<Mutex<Vec<JoinHandle<()>>>>;

/// A coordinator whose server goes away at each of these steps in turn: it is down when the coordinator goes on.
fn disturbed(
    cutover: Cutover,
    server: &Arc<OwnServer>,
    how: Halt,
    steps: &'static [At],
) -> (Cutover, Resumed) {
    let (server, resumed) = (Arc::clone(server), Resumed::default());
    let all = Arc::clone(&resumed);
    let cutover = cutover.watching(move |step| {
        let mut all = all.lock().unwrap();
        if !steps.get(all.len()).is_some_and(|is_due| is_due(step)) {
            return;
        }
        block_in_place(|| Handle::current().block_on(server.halt(how))).unwrap();
        let server = Arc::clone(&server);
        all.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.resume().await.unwrap();
        }));
    });
    (cutover, resumed)
}

/// How often it went away; it is back each time.
async fn times(resumed: &Resumed) -> usize {
    let all = std::mem::take(&mut *resumed.lock().unwrap());
    let count = all.len();
    for back in all {
        back.await.unwrap();
    }
    count
}

// Fault 3: stopped in order, at once, and killed, in each part of a run and of a revert: both go on by themselves when the
// server is back, and nothing is lost.
#[rstest]
#[case::fast(Halt::Fast)]
#[case::immediate(Halt::Immediate)]
#[case::killed(Halt::Kill)]
#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_when_the_server_is_back(#[case] how: Halt) {
    const THERE: &[At] = &[
        |step| matches!(step, Step::Copied(_)),
        |step| *step == Step::Phase(Phase::CatchingUp),
        |step| *step == Step::Phase(Phase::Fenced),
        |step| *step == Step::Phase(Phase::Switched),
    ];
    const BACK: &[At] = &[|step| *step == Step::Phase(Phase::RevertFenced)];
    let patient = Terms { patience: Duration::from_mins(2), ..terms() };
    let server = Arc::new(OwnServer::start().await.unwrap());
    let stage = Stage::on(&server, &history(5, 60)).await;
    let writers = Writers::start(&stage, 1).await;
    let (cutover, resumed) = disturbed(stage.cutover().await, &server, how, THERE);
    assert_eq!(cutover.run(&patient, Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(times(&resumed).await, THERE.len());
    one_root(&stage).await;

    let (cutover, resumed) = disturbed(stage.cutover().await, &server, how, BACK);
    assert_eq!(cutover.revert(&patient).await.unwrap().owner, Owner::Sqlite);
    assert_eq!(times(&resumed).await, BACK.len());
    let acknowledged = writers.stop().await;
    assert!(!acknowledged.is_empty());
    check(&*stage.old_events().await, &acknowledged, 300).await;
}
