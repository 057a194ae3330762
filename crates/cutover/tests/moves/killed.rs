//! Coordinators that are killed, at every named place, while writers go on.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use changeover_core::backend::Family;
use changeover_core::{Backend, BackendSettings};
use changeover_cutover::engine::fail;
use changeover_cutover::phase::Owner;
use changeover_cutover::{Cutover, Goal};
use changeover_postgres::Postgres;
use changeover_sqlite::Sqlite;
use rstest::rstest;

use crate::stage::{Stage, history, new_settings, tables_of, terms};
use crate::support::scope;
use crate::under_writers::{Writers, check};

const TASK: &str = "CHANGEOVER_TEST_TASK";

/// What the other process does: `TASK` says which file and database, and what.
async fn coordinate(task: &str) {
    let parts: Vec<_> = task.split('\n').collect();
    let old = Sqlite.open(&BackendSettings::new("old").with("path", parts[0])).await.unwrap();
    let new = Postgres.open(&new_settings(parts[1])).await.unwrap();
    let scope = scope("events");
    let side = old.cutover(&scope).unwrap();
    let tables = tables_of(Family::Events, &side).await;
    let cutover = Cutover::new(&scope, tables, side, new.cutover(&scope).unwrap(), "a process").unwrap();
    match parts[2] {
        "run" => cutover.run(&terms(), Goal::Switched).await,
        "abort" => cutover.abort(&terms()).await,
        "revert" => cutover.revert(&terms()).await,
        _ => cutover.finalize(&terms()).await,
    }
    .unwrap();
}

// Every place is in one of the tests below, once; and this is what the other process runs.
#[tokio::test(flavor = "multi_thread")]
async fn every_place_is_named_once() {
    if let Ok(task) = std::env::var(TASK) {
        return coordinate(&task).await;
    }
    let text = include_str!("killed.rs");
    for name in fail::ALL {
        let cases = text.matches(&format!("#[case(\"{name}\"")).count();
        assert!(cases >= 1, "{name} is killed by no test");
    }
}

/// A coordinator in a process of its own, which stops at a place.
struct Coordinator(Child);

impl Coordinator {
    /// Started, and at the place.
    async fn at(stage: &Stage, what: &str, place: &str) -> Self {
        let task = format!("{}\n{}\n{what}", stage.file.path().display(), stage.db.url());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::every_place_is_named_once", "--nocapture"])
            .env(TASK, task)
            .env("CHANGEOVER_FAILPOINT", place)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let wanted = format!("at {}", place.split(':').next().unwrap_or(place));
        let reached = tokio::task::spawn_blocking(move || {
            BufReader::new(out).lines().map_while(Result::ok).any(|line| line.contains(&wanted))
        });
        let reached =
            tokio::time::timeout(Duration::from_mins(1), reached).await.expect("it is at the place in time");
        assert!(reached.unwrap(), "{place} was never reached");
        Self(child)
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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
    let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
    let writers = Writers::start(&stage, 2).await;
    Coordinator::at(&stage, "run", place).await.kill();
    let status = stage.cutover().await.run(&terms(), Goal::Switched).await.unwrap();
    assert_eq!(status.owner, Owner::Postgres);
    assert!(!status.file.unwrap().open);
    let acknowledged = writers.stop().await;
    check(&*stage.new_events().await, &acknowledged, 300).await;
    assert!(!acknowledged.is_empty());
}

// Fault 1: killed while the fence is opened again, after an earlier one died behind it.
#[rstest]
#[case("unfence.postgres")]
#[case("unfence.sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn going_back_killed_at(#[case] place: &str) {
    let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
    let writers = Writers::start(&stage, 2).await;
    Coordinator::at(&stage, "run", "drain.after").await.kill();
    Coordinator::at(&stage, "run", place).await.kill();
    assert_eq!(stage.cutover().await.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    let acknowledged = writers.stop().await;
    check(&*stage.new_events().await, &acknowledged, 300).await;
}

// Fault 1: killed while a run is given up; it is given up, and another run works.
#[rstest]
#[case("abort.before")]
#[case("abort.postgres")]
#[case("abort.sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn an_abort_killed_at(#[case] place: &str) {
    let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
    let writers = Writers::start(&stage, 2).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Verified).await.unwrap();
    Coordinator::at(&stage, "abort", place).await.kill();
    if place == "abort.before" {
        cutover.abort(&terms()).await.unwrap();
    }
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    let acknowledged = writers.stop().await;
    check(&*stage.new_events().await, &acknowledged, 300).await;
}

// Faults 1 and 27: a revert under load, killed at each of its steps, and a second cutover.
#[rstest]
#[case("revert.before")]
#[case("revert.written")]
#[case("revert.fenced")]
#[case("revert.drained")]
#[case("revert.postgres")]
#[case("revert.sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn a_revert_killed_at(#[case] place: &str) {
    let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Switched).await.unwrap();
    let writers = Writers::start(&stage, 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    Coordinator::at(&stage, "revert", place).await.kill();
    if place != "revert.postgres" && place != "revert.sqlite" {
        assert_eq!(cutover.revert(&terms()).await.unwrap().owner, Owner::Sqlite);
    }
    let status = cutover.run(&terms(), Goal::Switched).await.unwrap();
    assert_eq!(status.owner, Owner::Postgres);
    let acknowledged = writers.stop().await;
    check(&*stage.new_events().await, &acknowledged, 300).await;
}

// Fault 1.
#[rstest]
#[case("finalize.before")]
#[case("finalize.postgres")]
#[case("finalize.sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn a_finalize_killed_at(#[case] place: &str) {
    let stage = Stage::legacy(Family::Events, &history(5, 10)).await;
    let cutover = stage.cutover().await;
    cutover.run(&terms(), Goal::Switched).await.unwrap();
    Coordinator::at(&stage, "finalize", place).await.kill();
    let status = cutover.finalize(&terms()).await.unwrap();
    assert_eq!((status.phase.as_str(), status.owner), ("finalized", Owner::Postgres));
    let file = status.file.unwrap();
    assert_eq!((file.open, file.captures), (false, false));
}
