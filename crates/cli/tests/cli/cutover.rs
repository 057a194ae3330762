//! A module moved by command, there and back, and the evidence of it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use changeover_testkit::TestDatabase;
use serde_json::{Map, Value, json};

use crate::common::{Home, Ran, line, real_streams};

/// Real streams in a file, and a database with the schema that they can be moved to.
pub async fn with_real_streams() -> (TestDatabase, Home) {
    let db = TestDatabase::empty().await.unwrap();
    let home = Home::between(db.url());
    home.ok(&["migrate", "up", "--backend", "main", "--module", "events"]);
    for (name, text) in ["one.jsonl", "two.jsonl"].into_iter().zip(real_streams()) {
        home.write(name, text);
        home.ok(&["events", "import", name]);
    }
    (db, home)
}

fn status(home: &Home) -> Map<String, Value> {
    home.ok(&["cutover", "status", "events", "--format", "json"]).objects().remove(0)
}

fn stands(home: &Home, phase: &str, owner: &str) {
    let status = status(home);
    assert_eq!((&status["phase"], &status["owner"]), (&json!(phase), &json!(owner)), "{status:?}");
}

/// Entries that the record of the module has, as a report tells.
fn checked(ran: &Ran) -> Map<String, Value> {
    ran.objects().remove(0)
}

#[tokio::test]
async fn a_module_goes_there_and_back_and_there_for_good_without_losing_an_event() {
    let (db, home) = with_real_streams().await;
    let before = home.export();
    let stream = format!(
        "{}/{}",
        before[0]["aggregate_type"].as_str().unwrap(),
        before[0]["aggregate_id"].as_str().unwrap()
    );
    let read = home.ok(&["events", "read", &stream]).out;

    let plan = home.ok(&["cutover", "plan", "events", "--out", "plan.json", "--findings", "findings.jsonl"]);
    assert!(plan.out.starts_with("no bad value\n"), "{}", plan.out);
    assert!(plan.err.contains("changeover cutover run events --plan plan.json"), "{}", plan.err);
    assert_eq!(fs::read_to_string(home.path().join("findings.jsonl")).unwrap(), "");
    assert_eq!(
        home.sqlite_number("SELECT count(*) FROM sqlite_master WHERE name LIKE '__cut%'"),
        0,
        "nothing was touched"
    );
    stands(&home, "idle", "none");

    let run = home.ok(&["cutover", "run", "events", "--plan", "plan.json", "--to", "verified"]);
    assert!(run.err.contains(&format!("copied domain_event: {0} of {0} rows", before.len())), "{}", run.err);
    stands(&home, "verifying", "sqlite");
    assert!(home.ok(&["cutover", "verify", "events"]).err.contains("both stores hold the same"));
    let told = home.ok(&["doctor"]).out;
    assert!(told.contains("ok   module events: cutover: a run is under way"), "{told}");
    // The file takes writes meanwhile, and they are followed.
    home.write("more.jsonl", line(1, 1, ""));
    home.ok(&["events", "import", "more.jsonl"]);
    let before = {
        let after = home.export();
        assert_eq!(after.len(), before.len() + 1);
        after
    };

    let run = home.ok(&["cutover", "run", "events", "--format", "json"]);
    let steps = run.objects();
    let paused = steps.iter().find(|step| step.get("step") == Some(&json!("paused"))).unwrap();
    assert_eq!(paused["owner"], "postgres");
    assert!(paused["milliseconds"].is_u64());
    assert_eq!(steps.last().unwrap()["phase"], "switched");
    stands(&home, "switched", "postgres");
    assert_eq!(home.export(), before, "as before, positions and checkpoints included");
    let counted = db.query("SELECT count(*) FROM event_store.domain_event", &[]).await.unwrap();
    assert_eq!(
        usize::try_from(counted[0].get::<_, i64>(0)).unwrap(),
        before.len(),
        "and it is in PostgreSQL"
    );
    assert_eq!(home.ok(&["events", "read", &stream]).out, read);
    let again = home.ok(&["cutover", "run", "events"]);
    assert!(!again.err.contains("copied"), "run again changes nothing: {}", again.err);

    home.write("late.jsonl", line(1, 2, ""));
    home.ok(&["events", "import", "late.jsonl"]);
    let grown = home.export();
    let rows = home.sqlite_number("SELECT count(*) FROM domain_event");
    assert_eq!(
        (grown.len(), usize::try_from(rows).unwrap()),
        (before.len() + 1, before.len()),
        "the file stands still"
    );
    let reverted = home.ok(&["cutover", "revert", "events"]);
    assert!(reverted.err.contains("sqlite takes writes"), "{}", reverted.err);
    stands(&home, "idle", "sqlite");
    assert_eq!(home.export(), grown, "what was written to PostgreSQL is in the file");
    assert_eq!(home.sqlite_number("SELECT count(*) FROM domain_event"), rows + 1);

    home.ok(&["cutover", "run", "events"]);
    assert_eq!(home.export(), grown);
    // The file and the command's own connections to it.
    let kept = home.ok(&["cutover", "finalize", "events", "--keep-file"]);
    assert!(kept.err.contains("the file stays where it is, closed: it was asked to stay"), "{}", kept.err);
    assert_eq!(home.sqlite_number("SELECT count(*) FROM domain_event"), rows + 1);
    let finalized = home.ok(&["cutover", "finalize", "events"]);
    assert!(
        finalized.err.contains("the file was archived: ") && finalized.err.contains("changeover.db.archive")
    );
    assert!(finalized.out.contains("archive         "), "{}", finalized.out);
    stands(&home, "finalized", "postgres");
    for late in ["revert", "abort", "run"] {
        let ran = home.run(&["cutover", late, "events"]);
        assert_eq!(ran.status, 3, "{late}: {ran:?}");
    }
    // With settings that still name the file.
    assert_eq!(home.export(), grown);
    home.write("last.jsonl", line(1, 3, ""));
    home.ok(&["events", "import", "last.jsonl"]);
    assert_eq!(home.export().len(), grown.len() + 1);
}

#[tokio::test]
async fn what_is_left_of_an_archived_file_is_told_by_every_command() {
    let (_db, home) = with_real_streams().await;
    home.ok(&["cutover", "run", "events"]);
    home.ok(&["cutover", "report", "events", "--out", "early"]);
    let steps = home.ok(&["cutover", "finalize", "events", "--format", "json"]).objects();
    let step = steps.iter().find(|step| step.get("step") == Some(&json!("archive"))).unwrap();
    let archive = home.path().join("var/changeover.db.archive").canonicalize().unwrap();
    let archive = archive.to_str().unwrap();
    assert_eq!((&step["archive"], &step["kept"]), (&json!(archive), &Value::Null));
    assert_eq!(steps.last().unwrap()["archive"]["place"], archive);
    let again = home.ok(&["cutover", "finalize", "events"]);
    assert!(again.err.contains("the file was archived: "), "{}", again.err);

    // Evidence from before and after it.
    home.ok(&["cutover", "report", "events", "--out", "late"]);
    for evidence in ["early", "late"] {
        let file = home.path().join(evidence).join("manifest.json");
        assert_eq!(check(&home, &file).status, 0);
        let said = home.ok(&[
            "cutover",
            "report",
            "events",
            "--against",
            file.to_str().unwrap(),
            "--format",
            "json",
        ]);
        let holds = checked(&said)["holds"].to_string();
        assert!(holds.contains("changeover.db.archive has the data root"), "{holds}");
    }
    let text = fs::read_to_string(home.path().join("late/manifest.json")).unwrap();
    assert_eq!(text.matches("\"archived\"").count(), 1);

    let shown = home.ok(&["cutover", "status", "events"]).out;
    assert!(shown.contains("finalized") && shown.contains("changeover.db.archive, "), "{shown}");
    for command in [&["migrate", "up"][..], &["migrate", "down", "--module", "events"]] {
        let refused = home.run(&[command, &["--backend", "local"]].concat());
        assert!(refused.status != 0 && refused.err.contains("is what is left of a file"), "{refused:?}");
    }
    for module in ["events", "playbooks"] {
        for command in ["plan", "run", "drill"] {
            let refused = home.run(&["cutover", command, module]);
            let told = ["was archived as", "owned by the new store already"];
            assert!(refused.status != 0, "{refused:?}");
            assert!(told.iter().any(|it| refused.err.contains(it)), "{command} {module}: {refused:?}");
        }
    }
    // The settings are what is wrong, and the file is what it should be.
    let doctor = home.run(&["doctor"]);
    assert!(
        doctor.out.contains("is what is left of a file whose modules were moved for good"),
        "{}",
        doctor.out
    );
    let bad: Vec<_> = doctor.out.lines().filter(|line| line.starts_with("BAD")).collect();
    assert!(bad.len() == 1 && bad[0].contains("correct persistence.events"), "{}", doctor.out);
    let corrected = home.beside().with("CHANGEOVER_PERSISTENCE__DEFAULT", "main");
    corrected.ok(&["migrate", "up", "--backend", "main"]);
    corrected.ok(&["doctor"]);
    assert_eq!(corrected.export(), home.export());
}

#[tokio::test]
async fn a_run_that_was_given_up_leaves_the_file_as_it_was() {
    let (db, home) = with_real_streams().await;
    let before = home.export();
    home.ok(&["cutover", "run", "events", "--to", "verified"]);
    home.ok(&["cutover", "abort", "events"]);
    stands(&home, "idle", "sqlite");
    let left = db.query("SELECT count(*) FROM event_store.domain_event", &[]).await.unwrap();
    assert_eq!(left[0].get::<_, i64>(0), 0, "the new store is empty");
    assert_eq!(home.export(), before);
    home.write("more.jsonl", line(1, 1, ""));
    home.ok(&["events", "import", "more.jsonl"]);
    assert_eq!(home.run(&["cutover", "revert", "events"]).status, 3);
}

fn check(home: &Home, file: &Path) -> Ran {
    home.run(&["cutover", "report", "--check", file.to_str().unwrap(), "--format", "json"])
}

#[tokio::test]
async fn the_evidence_of_a_run_can_be_checked_and_what_was_tampered_with_is_found() {
    let (_db, home) = with_real_streams().await;
    home.ok(&["cutover", "run", "events"]);
    home.ok(&["cutover", "report", "events", "--out", "evidence"]);
    let file = home.path().join("evidence/manifest.json");
    let page = fs::read_to_string(home.path().join("evidence/report.html")).unwrap();
    assert!(
        page.contains("Cutover of events") && !page.contains("href") && !page.contains("src="),
        "one file"
    );
    let sound = check(&home, &file);
    assert_eq!(sound.status, 0, "{sound:?}");
    assert!(sound.out.contains("nothing here is signed"), "{}", sound.out);

    let against = ["cutover", "report", "events", "--against", file.to_str().unwrap(), "--format", "json"];
    let said = checked(&home.ok(&against));
    assert!(said["holds"].to_string().contains("computed anew"), "{said:?}");

    let text = fs::read_to_string(&file).unwrap();
    let tampered = home.path().join("tampered.json");
    // One byte in an entry.
    let at = text
        .find("\"pause_ms\": ")
        .map(|at| at + "\"pause_ms\": ".len())
        .or_else(|| Some(text.find("\"pause_ms\":")? + 11))
        .unwrap();
    let mut bytes = text.clone().into_bytes();
    bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
    fs::write(&tampered, bytes).unwrap();
    let found = check(&home, &tampered);
    assert_eq!(found.status, 3, "{found:?}");
    let wrong = checked(&found)["wrong"].to_string();
    assert!(wrong.contains("(switched) was changed"), "{wrong}");
    // An entry taken out.
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["record"].as_array_mut().unwrap().remove(2);
    fs::write(&tampered, manifest.to_string()).unwrap();
    let found = check(&home, &tampered);
    assert_eq!(found.status, 3, "{found:?}");
    assert!(checked(&found)["wrong"].to_string().contains("entry 3 of the record is missing"), "{found:?}");
    fs::write(&tampered, "{}").unwrap();
    assert_eq!(check(&home, &tampered).status, 3);

    // A file that was written to by somebody who took the fence and all triggers away.
    home.sqlite(
        "PRAGMA writable_schema = ON; DELETE FROM sqlite_master WHERE type = 'trigger'; PRAGMA writable_schema = OFF",
    );
    home.sqlite(
        "UPDATE domain_event SET event_type = 'Forged' WHERE rowid = (SELECT max(rowid) FROM domain_event)",
    );
    let found = home.run(&against);
    assert_eq!(found.status, 3, "{found:?}");
    assert!(found.out.contains("the data root of the file is"), "{}", found.out);
}

#[tokio::test]
async fn a_run_that_is_interrupted_stops_and_is_gone_on_with() {
    let (_db, home) = with_real_streams().await;
    let before = home.export();
    // So slow that there is time to interrupt it: a second and more between two chunks.
    let slow = ["cutover", "run", "events", "--chunk-rows", "10", "--busy", "0.0005", "--lease", "1s"];
    let mut running = home.command(&slow).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(running.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(told.any(|line| line == "phase: copying"));
    let sent = Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let told = told.collect::<Vec<_>>().join("\n");
    assert_eq!(running.wait().unwrap().code(), Some(1), "{told}");
    assert!(told.contains("interrupted; to go on: changeover cutover run events"), "{told}");
    stands(&home, "copying", "sqlite");
    home.ok(&["cutover", "run", "events"]);
    stands(&home, "switched", "postgres");
    assert_eq!(home.export(), before);
}
