//! Coordinators that are killed, at every named place, while writers go on.

use std::time::Duration;

use changeover_core::ErrorKind;
use changeover_core::backend::Family;
use changeover_cutover::Goal;
use changeover_cutover::engine::fail;
use changeover_cutover::phase::Owner;
use rstest::rstest;

use crate::archived::is_archived;
use crate::process::{self, Process, repeats};
use crate::roots::one_root;
use crate::stage::{Stage, history, terms};
use crate::stays;
use crate::support::scope;
use crate::under_writers::{Writers, check};

// Every place is in one of the tests below; and this is what another process runs.
#[tokio::test(flavor = "multi_thread")]
async fn every_place_is_named() {
    if process::did_as_asked().await {
        return;
    }
    let text = include_str!("killed.rs");
    for name in fail::ALL {
        let cases = text.matches(&format!("#[case(\"{name}\"")).count();
        assert!(cases >= 1, "{name} is killed by no test");
    }
}

// Fault 1: killed on the way to the switch; another goes on, and nothing is lost.
#[rstest]
#[case("prepare.before")]
#[case("prepare.sqlite")]
#[case("prepare.postgres")]
#[case("copy.read:3")]
#[case("copy.read")]
#[case("copy.stored")]
#[case("copy.end")]
#[case("index.after")]
#[case("follow.read")]
#[case("follow.applied")]
#[case("verify.before")]
#[case("verify.after")]
#[case("link.after")]
#[case("fence.before")]
#[case("fence.sqlite")]
#[case("fence.recorded")]
#[case("drain.after")]
#[case("prove.after")]
#[case("seal.after")]
#[case("sealed.after")]
#[case("switch.before")]
#[case("switch.after")]
#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_at(#[case] place: &str) {
    for _ in 0..repeats() {
        let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
        let writers = Writers::start(&stage, 2).await;
        Process::at(&stage, "run", place).await.kill();
        let status = stage.cutover().await.run(&terms(), Goal::Switched).await.unwrap();
        assert_eq!(status.owner, Owner::Postgres);
        assert!(!status.file.unwrap().open);
        let acknowledged = writers.stop().await;
        check(&*stage.new_events().await, &acknowledged, 300).await;
        assert!(!acknowledged.is_empty());
        one_root(&stage).await;
    }
}

// Fault 1: killed while the fence is opened again, after an earlier one died behind it.
#[rstest]
#[case("unfence.postgres")]
#[case("unfence.sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn going_back_killed_at(#[case] place: &str) {
    for _ in 0..repeats() {
        let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
        let writers = Writers::start(&stage, 2).await;
        Process::at(&stage, "run", "drain.after").await.kill();
        Process::at(&stage, "run", place).await.kill();
        assert_eq!(stage.cutover().await.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
        let acknowledged = writers.stop().await;
        check(&*stage.new_events().await, &acknowledged, 300).await;
        one_root(&stage).await;
    }
}

// Fault 1: killed while a run is given up; it is given up, and another run works.
#[rstest]
#[case("abort.before")]
#[case("abort.postgres")]
#[case("abort.sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn an_abort_killed_at(#[case] place: &str) {
    for _ in 0..repeats() {
        let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
        let writers = Writers::start(&stage, 2).await;
        let cutover = stage.cutover().await;
        cutover.run(&terms(), Goal::Verified).await.unwrap();
        Process::at(&stage, "abort", place).await.kill();
        if place == "abort.before" {
            cutover.abort(&terms()).await.unwrap();
        }
        assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
        let acknowledged = writers.stop().await;
        check(&*stage.new_events().await, &acknowledged, 300).await;
        one_root(&stage).await;
    }
}

// Faults 1 and 27: a revert under load, killed at each of its steps, and a second cutover.
#[rstest]
#[case("revert.before")]
#[case("revert.read")]
#[case("revert.written")]
#[case("revert.fenced")]
#[case("revert.drained")]
#[case("revert.postgres")]
#[case("revert.sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn a_revert_killed_at(#[case] place: &str) {
    for _ in 0..repeats() {
        let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
        let cutover = stage.cutover().await;
        cutover.run(&terms(), Goal::Switched).await.unwrap();
        let writers = Writers::start(&stage, 2).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        Process::at(&stage, "revert", place).await.kill();
        if place != "revert.postgres" && place != "revert.sqlite" {
            assert_eq!(cutover.revert(&terms()).await.unwrap().owner, Owner::Sqlite);
        }
        let status = cutover.run(&terms(), Goal::Switched).await.unwrap();
        assert_eq!(status.owner, Owner::Postgres);
        let acknowledged = writers.stop().await;
        check(&*stage.new_events().await, &acknowledged, 300).await;
        one_root(&stage).await;
    }
}

// Faults 1 and 27: a revert that the file refuses, killed behind the fence and when the new store is the owner again: whoever
// comes next is refused as well, nobody is without a store for it, and all of it goes back in the end.
#[rstest]
#[case("revert.fenced")]
#[case("revert.stayed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_revert_killed_at(#[case] place: &str) {
    let stage = Stage::legacy(Family::Events, &history(2, 3)).await;
    let cutover = stage.cutover().await;
    stays::switched(&stage, &cutover).await;
    stage.file.run(stays::REFUSES);
    Process::at(&stage, "revert", place).await.kill();
    let owner = if place == "revert.stayed" { Owner::Postgres } else { Owner::None };
    assert_eq!(cutover.status().await.unwrap().owner, owner);
    assert_eq!(cutover.revert(&terms()).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(cutover.status().await.unwrap().owner, Owner::Postgres);
    stays::goes_on(&stage, 1).await;
    stage.file.run("DROP TRIGGER refuses");
    assert_eq!(cutover.revert(&terms()).await.unwrap().owner, Owner::Sqlite);
    assert_eq!(stage.file.number("SELECT count(*) FROM domain_event"), 1_208);
}

// Fault 1.
#[rstest]
#[case("finalize.before")]
#[case("finalize.postgres")]
#[case("finalize.sqlite")]
#[case("archive.before")]
#[case("archive.file")]
#[case("archive.recorded")]
#[tokio::test(flavor = "multi_thread")]
async fn a_finalize_killed_at(#[case] place: &str) {
    for _ in 0..repeats() {
        let stage = Stage::legacy(Family::Events, &history(5, 10)).await;
        let cutover = stage.cutover().await;
        cutover.run(&terms(), Goal::Switched).await.unwrap();
        // This process lets go of the file, as a service does that asks who the owner is.
        stage.old.owner(&scope("events")).await.unwrap();
        Process::at(&stage, "finalize", place).await.kill();
        let archive = cutover.status().await.unwrap().archive;
        assert_eq!(archive.is_some(), place == "archive.file" || place == "archive.recorded");
        let status = cutover.finalize(&terms()).await.unwrap();
        assert_eq!((status.phase.as_str(), status.owner), ("finalized", Owner::Postgres));
        let file = status.file.unwrap();
        assert_eq!((file.open, file.captures), (false, false));
        is_archived(&stage, 50).await;
    }
}
