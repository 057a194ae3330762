//! Clocks that jump: that of PostgreSQL, which leases are by, and that of the coordinator's or a service's process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use changeover_core::backend::Family;
use changeover_core::cutover::{Entry, Switch};
use changeover_core::events::ReadAll;
use changeover_core::{Applied, Error, ErrorKind, Json, Timestamp};
use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::{Cutover, Goal, Step};
use changeover_testkit::{Clock, OwnServer};
use rstest::rstest;

use crate::process::Process;
use crate::roots::one_root;
use crate::stage::{Stage, history, terms, words};
use crate::under_writers::{Writers, check};

const HOUR: i64 = 3600;

/// How far the clock of the new store is from this process's, in seconds.
async fn off_by(stage: &Stage) -> i64 {
    let now = stage.number("SELECT extract(epoch FROM clock_timestamp())::bigint").await;
    now - Timestamp::now().as_micros() / 1_000_000
}

/// A step, and where the clock is from there on.
type Jump = (fn(&Step) -> bool, i64);

/// A coordinator under which the clock jumps at each of these steps in turn; how many came by.
fn jumping(cutover: Cutover, clock: &Arc<Clock>, jumps: &'static [Jump]) -> (Cutover, Arc<AtomicUsize>) {
    let (done, clock) = (Arc::new(AtomicUsize::new(0)), Arc::clone(clock));
    let count = Arc::clone(&done);
    let cutover = cutover.watching(move |step| {
        let next = count.load(Ordering::SeqCst);
        if let Some((_, offset)) = jumps.get(next).filter(|(is_due, _)| is_due(step)) {
            clock.set(*offset).unwrap();
            count.store(next + 1, Ordering::SeqCst);
        }
    });
    (cutover, done)
}

// Fault 17: the clock of PostgreSQL jumps an hour ahead and back in each part of a run, of a revert and of a second run. Nothing
// is decided by it, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_and_a_revert_do_not_mind_a_clock_that_jumps() {
    const THERE: &[Jump] = &[
        (|step| matches!(step, Step::Copied(_)), HOUR),
        (|step| *step == Step::Phase(Phase::CatchingUp), -HOUR),
        (|step| *step == Step::Phase(Phase::Verifying), HOUR),
        (|step| *step == Step::Phase(Phase::Fenced), -HOUR),
        (|step| *step == Step::Phase(Phase::Sealed), HOUR),
        (|step| *step == Step::Phase(Phase::Switched), -HOUR),
    ];
    const BACK: &[Jump] = &[
        (|step| matches!(step, Step::WroteBack { .. }), HOUR),
        (|step| *step == Step::Phase(Phase::RevertFenced), -HOUR),
    ];
    const AGAIN: &[Jump] = &[
        (|step| *step == Step::Phase(Phase::Copying), HOUR),
        (|step| *step == Step::Phase(Phase::Fenced), 0),
        (|step| *step == Step::Phase(Phase::Drained), -HOUR),
    ];
    let clock = Arc::new(Clock::new().unwrap());
    let server = OwnServer::with_clock(&clock).await.unwrap();
    let stage = Stage::on(&server, &history(5, 60)).await;
    let writers = Writers::start(&stage, 1).await;
    let (cutover, done) = jumping(stage.cutover().await, &clock, THERE);
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(done.load(Ordering::SeqCst), THERE.len());
    assert!((off_by(&stage).await + HOUR).abs() < 60, "the clock was moved");
    one_root(&stage).await;

    let (cutover, done) = jumping(stage.cutover().await, &clock, BACK);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(cutover.revert(&terms()).await.unwrap().owner, Owner::Sqlite);
    assert_eq!(done.load(Ordering::SeqCst), BACK.len());

    let (cutover, done) = jumping(stage.cutover().await, &clock, AGAIN);
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(done.load(Ordering::SeqCst), AGAIN.len());
    let acknowledged = writers.stop().await;
    assert!(!acknowledged.is_empty());
    check(&*stage.new_events().await, &acknowledged, 300).await;
    one_root(&stage).await;
    assert_eq!(stage.number("SELECT count(*) FROM cutover.quarantine").await, 0);
    let record = cutover.record(None).await.unwrap();
    assert!(record.windows(2).all(|pair| pair[0].number < pair[1].number));
    assert_eq!(words(&record).iter().filter(|it| **it == "switched").count(), 2);
}

fn entry() -> Entry {
    Entry { what: "x".into(), who: "the first".into(), facts: Json::empty() }
}

/// What a coordinator is told that has not the lease.
fn is_refused<T: std::fmt::Debug>(answer: Result<T, Error>, holder: &str) {
    let refused = answer.unwrap_err();
    assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::Contention, Some(Applied::No)));
    assert!(refused.message().contains(holder), "{}", refused.message());
}

// Fault 17: a clock that goes back gives a lease to nobody else. One that goes ahead ends it; then the first coordinator is
// refused by its token, also when the clock is back where its lease would hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_goes_by_its_token_whatever_the_clock_does() {
    let clock = Clock::new().unwrap();
    let server = OwnServer::with_clock(&clock).await.unwrap();
    let stage = Stage::on(&server, &history(3, 20)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    let run = cutover.last_run().await.unwrap().run;
    let (target, long) = (cutover.target(), Duration::from_mins(1));
    let first = target.lease(run, "the first", long).await.unwrap();
    for offset in [0, -HOUR] {
        clock.set(offset).unwrap();
        is_refused(target.lease(run, "the second", long).await, "\"the first\" until");
    }
    target.renew(&first).await.unwrap();

    clock.set(HOUR).unwrap();
    let second = target.lease(run, "the second", long).await.unwrap();
    assert!(second.token > first.token);
    for offset in [HOUR, 0, -HOUR] {
        clock.set(offset).unwrap();
        assert!((off_by(&stage).await - offset).abs() < 60);
        is_refused(target.renew(&first).await, "\"the second\" has it");
        is_refused(target.enter(&first, &["verifying"], "fenced", entry()).await, "\"the second\" has it");
        let switch = Switch { epoch: 0, applied: 0 };
        is_refused(target.switch(&first, &switch, entry()).await, "\"the second\" has it");
        target.renew(&second).await.unwrap();
    }
    assert_eq!(cutover.status().await.unwrap().phase, Phase::Verifying);
    assert!(!words(&cutover.record(None).await.unwrap()).contains(&"x"));
}

// Fault 17: the coordinator's own clock, which the file's side has too, jumps at a place of its run.
#[rstest]
#[case("copy.read", HOUR)]
#[case("verify.before", -HOUR)]
#[case("fence.sqlite", HOUR)]
#[case("switch.before", -HOUR)]
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_does_not_mind_its_own_clock(#[case] place: &str, #[case] offset: i64) {
    let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
    let writers = Writers::start(&stage, 1).await;
    let clock = Clock::new().unwrap();
    let mut process = Process::at_by(&stage, "run", place, &clock).await;
    clock.set(offset).unwrap();
    process.tell("go on");
    let said = process.says("ended:").await;
    assert_eq!(said.last().unwrap(), "ended: switched", "{said:?}");
    let acknowledged = writers.stop().await;
    assert!(!acknowledged.is_empty());
    check(&*stage.new_events().await, &acknowledged, 300).await;
    one_root(&stage).await;
}

// E96 on a file: it keeps no time of recording, so a process whose clock goes back writes events that happened an hour ago, at
// the end of the log all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_keeps_its_order_when_a_clock_goes_back() {
    let stage = Stage::legacy(Family::Events, "").await;
    let clock = Clock::new().unwrap();
    let mut service = Process::service_by(&stage, &clock).await;
    for (number, offset) in [0, -HOUR, HOUR, 0].into_iter().enumerate() {
        clock.set(offset).unwrap();
        service.tell(&number.to_string());
        service.says(&format!("did {number}.")).await;
    }
    let now = Timestamp::now().as_micros() / 1_000_000;
    let log = stage.old_events().await.read_all(ReadAll::default()).await.unwrap().events;
    assert_eq!(log.len(), 4);
    for (number, (event, offset)) in log.iter().zip([0, -HOUR, HOUR, 0]).enumerate() {
        let data: serde_json::Value = event.data.to().unwrap();
        assert_eq!(data["n"], number);
        assert_eq!(event.recorded_at, event.occurred_at);
        let off = event.occurred_at.as_micros() / 1_000_000 - now;
        assert!((off - offset).abs() < 60, "event {number} is off by {off} s, not by {offset} s");
    }
    assert!(log.windows(2).all(|pair| pair[0].checkpoint.position() < pair[1].checkpoint.position()));
}
