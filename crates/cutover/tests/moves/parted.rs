//! A network that loses one direction: connections stay, nothing fails, and no answer comes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use changeover_core::ErrorKind;
use changeover_core::backend::Family;
use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::{Cutover, Goal, Pause, Step, Terms};
use changeover_testkit::{Fate, Proxy, Way};
use rstest::rstest;

use crate::roots::one_root;
use crate::stage::{Stage, history, new_settings, terms, words};
use crate::under_writers::{Writers, check};

/// How long nothing comes through.
const OUTAGE: Duration = Duration::from_secs(1);

/// Of the writers: an outage, and on a slow machine some rounds of asking what became of it.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A coordinator behind a proxy that soon asks what a silent server does.
async fn behind(proxy: &Proxy, stage: &Stage) -> Cutover {
    let settings = new_settings(&proxy.url(stage.db.url()))
        .with("command_timeout", "300ms")
        .with("pool.connect_timeout", "1s");
    stage.cutover_with("a test", &settings).await
}

/// A step at which the network is parted.
type At = fn(&Step) -> bool;

const RUN: &[At] = &[
    |step| matches!(step, Step::Copied(_)),
    |step| *step == Step::Phase(Phase::CatchingUp),
    |step| *step == Step::Phase(Phase::Fenced),
    |step| *step == Step::Phase(Phase::Sealed),
];

// Fault 18: what goes to the server or what comes from it is lost, for good or until later, while the run copies, while it
// catches up, behind the fence and at the switch. The run goes on by itself, and the writers do not stand still for long.
#[rstest]
#[case::questions_never(Way::ToServer, Fate::Never)]
#[case::questions_late(Way::ToServer, Fate::Late)]
#[case::answers_never(Way::FromServer, Fate::Never)]
#[case::answers_late(Way::FromServer, Fate::Late)]
#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_when_one_direction_was_lost(
    #[case] way: Way,
    #[case] fate: Fate,
    #[values(0, 1)] first: usize,
) {
    let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
    let writers = Writers::start(&stage, 1).await;
    let proxy = Arc::new(Proxy::start(stage.db.url()).await.unwrap());
    let (parted, pauses) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::<Pause>::new())));
    let (network, times, seen) = (Arc::clone(&proxy), Arc::clone(&parted), Arc::clone(&pauses));
    let cutover = behind(&proxy, &stage).await.watching(move |step| {
        if let Step::Paused(pause) = step {
            seen.lock().unwrap().push(*pause);
        }
        let next = times.load(Ordering::SeqCst);
        if RUN.get(next).is_some_and(|is_due| is_due(step)) {
            times.store(next + 1, Ordering::SeqCst);
            // Between two transactions, or before the end of one: then its session keeps what it has locked.
            if next % 2 == first {
                network.part(way, fate);
            } else {
                network.part_at("COMMIT", way, fate);
            }
            let network = Arc::clone(&network);
            tokio::spawn(async move {
                while !network.is_parted() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                tokio::time::sleep(OUTAGE).await;
                network.join();
            });
        }
    });
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(parted.load(Ordering::SeqCst), RUN.len());
    let acknowledged = writers.stop().await;
    assert!(!acknowledged.is_empty());
    check(&*stage.new_events().await, &acknowledged, 300).await;
    one_root(&stage).await;
    let pauses = pauses.lock().unwrap().clone();
    assert!(pauses.iter().all(|pause| pause.took < LONGEST_PAUSE), "{pauses:?}");
    let record = cutover.record(None).await.unwrap();
    assert_eq!(words(&record).iter().filter(|it| **it == "switched").count(), 1);
}

// Fault 18: the network does not come back. The run ends with an error within its patience, wherever it was; later another
// one finishes it.
#[rstest]
#[case::copying(Phase::Copying, Way::FromServer, "COMMIT")]
#[case::fenced(Phase::Fenced, Way::FromServer, "BEGIN")]
#[case::at_the_switch(Phase::Sealed, Way::ToServer, "COMMIT")]
#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_when_one_direction_stays_lost(
    #[case] at: Phase,
    #[case] way: Way,
    #[case] with: &'static str,
) {
    let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
    let writers = Writers::start(&stage, 1).await;
    let proxy = Arc::new(Proxy::start(stage.db.url()).await.unwrap());
    let network = Arc::clone(&proxy);
    let cutover = behind(&proxy, &stage).await.watching(move |step| {
        if *step == Step::Phase(at) {
            network.part_at(with, way, Fate::Never);
        }
    });
    let begin = Instant::now();
    let impatient = Terms { patience: Duration::from_secs(1), ..terms() };
    let refused = cutover.run(&impatient, Goal::Switched).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{refused:?}");
    assert!(begin.elapsed() < Duration::from_secs(40), "{:?}", begin.elapsed());
    assert!(proxy.is_parted());
    // The server finds out that nobody is there any more; a real network takes up to a minute for that.
    proxy.cut();
    let status = stage.cutover().await.run(&terms(), Goal::Switched).await.unwrap();
    assert_eq!(status.owner, Owner::Postgres);
    let acknowledged = writers.stop().await;
    assert!(!acknowledged.is_empty());
    check(&*stage.new_events().await, &acknowledged, 300).await;
    one_root(&stage).await;
}

// A command that takes longer than anybody waits for a silent server: it is at work, so it is waited for, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_at_work_is_not_taken_for_a_silent_one() {
    let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
    let slow = "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NULL; END $$; \
                CREATE TRIGGER slow AFTER INSERT ON event_store.event_stream FOR EACH STATEMENT EXECUTE FUNCTION public.slow()";
    stage.db.execute(slow).await.unwrap();
    let proxy = Proxy::start(stage.db.url()).await.unwrap();
    let waits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&waits);
    let cutover = behind(&proxy, &stage).await.watching(move |step| {
        if let Step::Waiting { why } = step {
            seen.lock().unwrap().push(why.clone());
        }
    });
    let begin = Instant::now();
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert!(begin.elapsed() > Duration::from_secs(3));
    assert!(waits.lock().unwrap().is_empty(), "{waits:?}");
    one_root(&stage).await;
}
