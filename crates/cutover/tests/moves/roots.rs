//! The data root of what arrived: one, whoever computes it, and however often the run was killed.

use std::process::Command;

use changeover_core::backend::Family;
use changeover_core::{Json, hex};
use changeover_cutover::phase::Owner;
use changeover_cutover::verify::{Verifier, World};
use changeover_cutover::{Cutover, Goal};

use crate::process::{Process, repeats};
use crate::stage::{Stage, history, terms};
use crate::support::tenant;
use crate::under_writers::check;

/// The root of the last run, which both stores had at the seal, the file has since, and the file has now.
pub async fn one_root(stage: &Stage) -> String {
    let cutover = stage.cutover().await;
    let sealed = facts(&cutover, "sealed").await;
    assert_eq!(sealed["whole"], true, "{sealed}");
    root(stage).await
}

/// The same of a run whose pause may have been too short to compare everything in it: then the seal knows no root.
pub async fn root(stage: &Stage) -> String {
    let cutover = stage.cutover().await;
    let root = hex(&cutover.source_root().await.unwrap().source_root());
    assert_eq!(facts(&cutover, "frozen").await["source_root"], *root);
    let sealed = facts(&cutover, "sealed").await;
    if sealed["whole"] == true {
        assert_eq!((&sealed["source_root"], &sealed["target_root"]), (&(&*root).into(), &(&*root).into()));
    }
    // Not there if the switch was gone on with.
    let switched = facts(&cutover, "switched").await;
    assert!(switched.get("target_root").is_none_or(|it| *it == *root), "{switched}");
    root
}

/// What the last entry of the record with this word says.
async fn facts(cutover: &Cutover, what: &str) -> serde_json::Value {
    let record = cutover.record(None).await.unwrap();
    let entry = record.iter().rfind(|it| it.entry.what == what);
    entry.unwrap_or_else(|| panic!("nothing was {what}")).entry.facts.to().unwrap()
}

/// What a program that shares no code with ours makes of the frozen file.
async fn root_by_another_program(stage: &Stage, cutover: &Cutover) -> String {
    let run = cutover.last_run().await.unwrap();
    let kept: serde_json::Value = Json::to(&run.terms).unwrap();
    let notifications_from = kept["notifications_from"].as_i64().unwrap();
    let world = World {
        tenant: tenant(),
        nonce: run.nonce,
        notifications_from,
        accepted: std::collections::BTreeSet::default(),
    };
    let document = Verifier::describe(cutover.tables(), &world).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("document.json");
    std::fs::write(&path, document.to_string()).unwrap();
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data_root.py");
    let ran = Command::new("python3").arg(program).arg(stage.file.path()).arg(&path).output();
    let ran = ran.expect("python3 is needed for this test: install it and have it on the PATH");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().lines().last().unwrap().to_owned()
}

/// In the order in which one run comes by them. Changes are captured before the first `follow`.
const PLACES: &[&str] = &[
    "prepare.before",
    "prepare.sqlite",
    "prepare.postgres",
    "copy.read:3",
    "copy.read",
    "copy.stored",
    "copy.end",
    "index.after",
    "follow.read",
    "follow.applied",
    "verify.before",
    "verify.after",
    "link.after",
    "fence.before",
    "fence.sqlite",
    "unfence.postgres",
    "fence.recorded",
    "unfence.sqlite",
    "drain.after",
    "prove.after",
    "seal.after",
    "sealed.after",
    "switch.before",
    "switch.after",
];

const CHANGES: &str = "\
    UPDATE domain_event SET event_data = '{\"n\": 1, \"late\": true}' WHERE rowid = 7; \
    INSERT INTO domain_event SELECT '00000000-0000-4000-b000-000000000001', stream_id, 'Placed', 1, 61, '{}', '{}', \
        occurred_at, NULL, NULL FROM domain_event WHERE rowid = 1; \
    UPDATE event_stream SET version = 61 WHERE rowid = 1; \
    DELETE FROM domain_event WHERE rowid = 300; \
    UPDATE event_stream SET version = 59 WHERE rowid = 5;";

// Fault 1: a run that is killed at every place on its way, each time gone on with by another process, comes to the root of
// a run that nobody disturbed, and so does an independent program.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_place_it_ends_with_the_root_of_an_undisturbed_run() {
    let undisturbed = Stage::legacy(Family::Events, &(history(5, 60) + CHANGES)).await;
    undisturbed.cutover().await.run(&terms(), Goal::Switched).await.unwrap();
    let expected = one_root(&undisturbed).await;

    for _ in 0..repeats() {
        let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
        for place in PLACES {
            if *place == "follow.read" {
                stage.file.run(CHANGES);
            }
            Process::at(&stage, "run", place).await.kill();
            stage.lease_runs_out().await;
        }
        let cutover = stage.cutover().await;
        assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
        assert_eq!(one_root(&stage).await, expected);
        assert_eq!(root_by_another_program(&stage, &cutover).await, expected);
        check(&*stage.new_events().await, &[].into(), 300).await;
    }
}
