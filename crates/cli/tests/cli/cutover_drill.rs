//! The drill: a whole cutover on a copy of the file and in a scratch database, and the demand for it before a run.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use changeover_testkit::{TestDatabase, with_user};
use serde_json::{Map, Value, json};

use crate::common::{Home, Ran};
use crate::cutover::with_real_streams;
use crate::cutover_modules::{INVOICES, on_both};
use crate::cutover_quarantine::legacy;

/// A drill whose copy is made in a folder that can be looked at.
fn drill(home: &Home, more: &[&str]) -> Ran {
    fs::create_dir_all(home.path().join("copies")).unwrap();
    home.run(&[&["cutover", "drill"], more, &["--dir", "copies"]].concat())
}

/// The result of a drill that went well.
fn drilled(home: &Home, more: &[&str]) -> Map<String, Value> {
    let ran = drill(home, &[more, &["--format", "json"]].concat());
    assert_eq!(ran.status, 0, "{ran:?}");
    let mut objects = ran.objects();
    assert_eq!(objects.len(), 1, "one object: {ran:?}");
    objects.remove(0)
}

fn bytes(home: &Home) -> Vec<u8> {
    fs::read(home.path().join("var/changeover.db")).unwrap()
}

async fn number(db: &TestDatabase, sql: &str) -> i64 {
    db.query(sql, &[]).await.unwrap()[0].get(0)
}

/// How many entries the record has; no run was made, and no event came.
async fn entries(db: &TestDatabase) -> i64 {
    assert_eq!(number(db, "SELECT count(*) FROM cutover.run").await, 0);
    assert_eq!(number(db, "SELECT count(*) FROM event_store.domain_event").await, 0);
    assert_eq!(number(db, "SELECT count(*) FROM changeover.module WHERE owner <> 'none'").await, 0);
    number(db, "SELECT count(*) FROM cutover.record").await
}

/// Neither the copy nor the database of a drill is there any more.
async fn nothing_is_left(db: &TestDatabase, home: &Home, drill: &str) {
    let name = format!("changeover_drill_{}", &drill.replace('-', "")[..12]);
    let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(number(db, &sql).await, 0, "{name}");
    no_copy_is_left(home);
}

fn no_copy_is_left(home: &Home) {
    let left: Vec<_> = fs::read_dir(home.path().join("copies")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

// The command of the design, section 10: switch and revert on a clone, whose evidence is kept.
#[tokio::test]
async fn a_drill_goes_there_back_and_there_and_leaves_nothing_but_its_record() {
    let (db, home) = with_real_streams().await;
    let events = home.export().len() as u64;
    let before = bytes(&home);
    let done = drilled(&home, &["events", "--out", "evidence", "--who", "ann"]);
    assert_eq!(bytes(&home), before, "the file was not written to");
    assert_eq!(
        (&done["result"], &done["recorded"], &done["entry"]),
        (&json!("drilled"), &json!(true), &json!(1))
    );
    let tables = done["tables"].as_array().unwrap();
    assert!(tables.contains(&json!({ "name": "domain_event", "rows": events })), "{tables:?}");
    assert!(done["rows"].as_u64() > Some(events) && done["quarantined"] == 0, "{done:?}");
    // A stream with its head and two events; the head of another with one event.
    assert!(done["written_back"].as_u64() >= Some(5), "{done:?}");
    assert_eq!(done["wrote"].as_array().unwrap().len(), 2, "{done:?}");
    for time in ["clone_ms", "copy_ms", "compare_ms", "pause_ms", "revert_pause_ms"] {
        assert!(done[time].is_u64(), "{time}: {done:?}");
    }
    assert_eq!(done["source_root"].as_str().map(str::len), Some(64));
    assert_eq!(done["kept"], json!([]));
    nothing_is_left(&db, &home, done["drill"].as_str().unwrap()).await;
    assert_eq!(entries(&db).await, 1);
    let entry = db.query("SELECT what, who, run::text, facts FROM cutover.record", &[]).await.unwrap();
    let entry = (entry[0].get::<_, &str>(0), entry[0].get::<_, &str>(1), entry[0].get::<_, &str>(2));
    assert_eq!(entry, ("drilled", "ann", done["drill"].as_str().unwrap()));
    home.ok(&["cutover", "report", "--check", "evidence/manifest.json"]);

    let told = drill(&home, &["events"]);
    assert_eq!(told.status, 0, "{told:?}");
    for part in
        ["at most for a switch", "losses        none", "entry 2 of the record", "an event was appended"]
    {
        assert!(told.out.contains(part), "{part}: {}", told.out);
    }
    assert!(
        told.err.contains("phase: revert_fenced") && told.err.contains("phase: finalized"),
        "{}",
        told.err
    );
    assert!(told.err.contains("written to the new side, read by its stores"), "{}", told.err);
    assert!(!told.err.contains("WARN"), "{}", told.err);
    assert!(told.err.contains("to move it: changeover cutover run events"), "{}", told.err);

    // Drills stand in the record before the run, whose evidence holds all the same.
    home.ok(&["cutover", "run", "events"]);
    home.ok(&["cutover", "report", "events", "--out", "real"]);
    let checked = home.ok(&["cutover", "report", "events", "--against", "real/manifest.json"]);
    assert!(checked.out.contains("computed anew"), "{}", checked.out);
    let no_run =
        home.run(&["cutover", "report", "events", "--out", "x", "--run", done["drill"].as_str().unwrap()]);
    assert_eq!(no_run.status, 3, "a drill is no run of the module: {no_run:?}");
    let late = drill(&home, &["events"]);
    assert!(late.status == 3 && late.err.contains("owned by the new store already"), "{late:?}");
}

#[tokio::test]
async fn what_is_kept_is_named_and_can_be_looked_at() {
    let (db, home) = with_real_streams().await;
    let done = drilled(&home, &["events", "--keep"]);
    let kept = done["kept"].to_string();
    let name = format!("changeover_drill_{}", &done["drill"].as_str().unwrap().replace('-', "")[..12]);
    assert!(kept.contains(&name) && kept.contains("the folder copies"), "{kept}");
    let folder = home.path().join("copies").join(name.replace('_', "-"));
    assert!(folder.join("changeover.db").exists());
    let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(number(&db, &sql).await, 1);
    db.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}

#[tokio::test]
async fn audit_records_and_playbooks_are_drilled_as_well() {
    let (_db, home) = on_both(&[&["audit"], &["playbooks"]]).await;
    home.write("audit.jsonl", crate::audit::line(1, ""));
    home.ok(&["audit", "import", "audit.jsonl"]);
    let name = "playbooks_openshift_runbooks.jsonl";
    home.write("playbooks.jsonl", crate::common::real_data("retrieval_openshift/versions.jsonl", name));
    home.ok(&["playbooks", "import", "playbooks.jsonl"]);
    for (module, wrote) in [("audit", "an audit record"), ("playbooks", "a playbook")] {
        let done = drilled(&home, &[module]);
        assert!(done["wrote"].to_string().contains(wrote), "{done:?}");
        assert!(done["written_back"].as_u64() > Some(0), "{done:?}");
    }
}

// A legacy file, in the journal mode in which it was made.
#[tokio::test]
async fn rows_that_nobody_decided_about_stop_a_drill_and_are_named() {
    let (db, home) = legacy().await;
    home.sqlite("PRAGMA journal_mode = DELETE");
    let before = bytes(&home);
    let stopped = drill(&home, &["events"]);
    assert_eq!(stopped.status, 3, "{stopped:?}");
    for part in ["50ff00", "quarantine", "domain_event", "hazard"] {
        assert!(stopped.out.contains(part), "{part}: {}", stopped.out);
    }
    assert!(
        stopped.err.contains("3 rows would stay out") && stopped.err.contains("not recorded"),
        "{}",
        stopped.err
    );
    assert_eq!(entries(&db).await, 0);
    no_copy_is_left(&home);
    let found = drill(&home, &["events", "--format", "json"]).objects().remove(0);
    assert_eq!((&found["result"], &found["quarantined"]), (&json!("stopped"), &json!(3)));
    assert_eq!(found["findings"].as_array().unwrap().len(), 4, "{found:?}");
    assert_eq!(bytes(&home), before);

    let done = drilled(&home, &["events", "--max-quarantined", "3"]);
    assert_eq!((&done["quarantined"], &done["max_quarantined"]), (&json!(3), &json!(3)));
    assert_eq!(bytes(&home), before, "a legacy file is not even turned to another journal mode");
    // Its stream goes with a row that stays out: more than the plan counts.
    home.sqlite("UPDATE event_stream SET aggregate_id = 'x' WHERE rowid = 1");
    let undecided = drill(&home, &["events", "--max-quarantined", "3"]);
    assert_eq!(undecided.status, 3, "{undecided:?}");
    assert_eq!(entries(&db).await, 1);
    no_copy_is_left(&home);
}

#[tokio::test]
async fn a_login_that_may_make_no_database_is_told_what_to_do() {
    let (db, home) = with_real_streams().await;
    let login = format!("drill_{}", std::process::id());
    db.execute(&format!("CREATE ROLE {login} LOGIN; GRANT changeover_owner TO {login}")).await.unwrap();
    let home = home.with("CHANGEOVER_BACKENDS__MAIN__URL", &with_user(db.url(), &login, None));
    let refused = drill(&home, &["events"]);
    // The role is the cluster's.
    db.execute(&format!("DROP OWNED BY {login}; DROP ROLE {login}")).await.unwrap();
    assert_eq!(refused.status, 3, "{refused:?}");
    for part in [&format!("ALTER ROLE \"{login}\" CREATEDB"), "--scratch BACKEND"] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    assert_eq!(entries(&db).await, 0);
    no_copy_is_left(&home);
}

fn with_scratch(home: Home, url: &str) -> Home {
    home.with("CHANGEOVER_BACKENDS__REHEARSAL__KIND", "postgres")
        .with("CHANGEOVER_BACKENDS__REHEARSAL__URL", url)
}

#[tokio::test]
async fn a_scratch_database_has_to_be_another_one_without_the_module() {
    let (db, home) = with_real_streams().await;
    let scratch = TestDatabase::empty().await.unwrap();
    let home = with_scratch(home, scratch.url());
    let on_scratch = ["events", "--scratch", "rehearsal"];
    // The real one by another way.
    let other_way = format!("{}?application_name=another", db.url());
    let same = drill(&with_scratch(home.beside(), &other_way), &on_scratch);
    assert!(same.status == 3 && same.err.contains("the one that the module is to be moved to"), "{same:?}");
    assert_eq!(entries(&db).await, 0);

    home.ok(&["migrate", "up", "--backend", "rehearsal", "--module", "events"]);
    scratch
        .execute(
            "INSERT INTO event_store.event_stream (tenant_id, stream_id, aggregate_type, aggregate_id, created_at, version) \
             VALUES ('default', gen_random_uuid(), 'Order', gen_random_uuid(), now(), 0)",
        )
        .await
        .unwrap();
    let refused = drill(&home, &on_scratch);
    assert!(
        refused.status == 3 && refused.err.contains("event_store.event_stream holds rows"),
        "{refused:?}"
    );
    assert_eq!(number(&scratch, "SELECT count(*) FROM event_store.event_stream").await, 1);
    assert_eq!(number(&scratch, "SELECT count(*) FROM cutover.run").await, 0);

    // By a role that no rule of the schema holds back.
    scratch
        .execute("SET session_replication_role = replica; DELETE FROM event_store.event_stream")
        .await
        .unwrap();
    let done = drilled(&home, &on_scratch);
    assert!(done["kept"].to_string().contains("backend rehearsal"), "what stays is said: {done:?}");
    assert_eq!(entries(&db).await, 1);
    let again = drill(&home, &on_scratch);
    assert!(again.status == 3 && again.err.contains("holds rows"), "{again:?}");
    no_copy_is_left(&home);
}

#[tokio::test]
async fn tables_of_ones_own_are_drilled_in_a_database_that_has_them() {
    const TABLE: &str = "CREATE SCHEMA billing AUTHORIZATION changeover_owner; CREATE TABLE billing.invoice \
         (number bigint PRIMARY KEY, amount numeric(10, 2) NOT NULL, paid boolean NOT NULL); \
         ALTER TABLE billing.invoice OWNER TO changeover_owner";
    let (db, home) = on_both(&[&["orders"]]).await;
    let scratch = TestDatabase::empty().await.unwrap();
    db.execute(TABLE).await.unwrap();
    fs::create_dir(home.path().join("var")).unwrap();
    home.sqlite(
        "CREATE TABLE invoice (number INTEGER PRIMARY KEY, amount REAL, paid INTEGER);
         INSERT INTO invoice VALUES (1, 10.25, 1), (2, 0.5, 0), (3, 7, 1)",
    );
    home.write("billing.toml", INVOICES);
    let own = ["orders", "--tables", "billing.toml"];
    let refused = drill(&home, &own);
    assert!(
        refused.status == 3 && refused.err.contains("billing.invoice: tables of your own"),
        "{refused:?}"
    );
    let home = with_scratch(home, scratch.url());
    let on_scratch = [&own[..], &["--scratch", "rehearsal"]].concat();
    let lacking = drill(&home, &on_scratch);
    assert!(lacking.status == 3 && lacking.err.contains("billing.invoice is missing"), "{lacking:?}");
    scratch.execute(TABLE).await.unwrap();
    let done = drilled(&home, &on_scratch);
    assert!(done["wrote"].to_string().contains("3 rows of invoice were written once more"), "{done:?}");
    assert_eq!(done["written_back"], 3);
}

#[tokio::test]
async fn a_drill_that_is_interrupted_takes_away_what_it_made() {
    let (db, home) = with_real_streams().await;
    fs::create_dir(home.path().join("copies")).unwrap();
    let slow = ["cutover", "drill", "events", "--chunk-rows", "10", "--busy", "0.0005", "--dir", "copies"];
    let mut running = home.command(&slow).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(running.stderr.take().unwrap()).lines().map(Result::unwrap);
    let place = told.by_ref().find(|line| line.contains("moving to ")).unwrap();
    let name = place.rsplit('/').next().unwrap().to_owned();
    assert!(name.starts_with("changeover_drill_"), "{place}");
    assert!(told.any(|line| line == "phase: copying"));
    let sent = Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let told = told.collect::<Vec<_>>().join("\n");
    assert_eq!(running.wait().unwrap().code(), Some(1), "{told}");
    assert!(told.contains("interrupted; nothing was recorded"), "{told}");
    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(number(&db, &left).await, 0);
    no_copy_is_left(&home);
    assert_eq!(entries(&db).await, 0);
}

// Settings demand a drill before a run is begun, of the same file, declarations and losses, and young enough.
#[tokio::test]
async fn a_run_begins_only_after_a_drill_where_that_is_demanded() {
    let (db, home) = with_real_streams().await;
    let demanding = |within: &str| home.beside().with("CHANGEOVER_CUTOVER__DRILL_WITHIN", within);
    let week = demanding("7d");
    let refused = |home: &Home, more: &[&str], why: &str| {
        let ran = home.run(&[&["cutover", "run", "events"], more].concat());
        assert!(ran.status == 3 && ran.err.contains(why), "{why}: {ran:?}");
        assert!(ran.err.contains("changeover cutover drill events"), "{}", ran.err);
    };
    refused(&week, &[], "younger than 7d (cutover.drill_within), and there was none; nothing was touched");
    assert_eq!(entries(&db).await, 0);
    assert_eq!(home.sqlite_number("SELECT count(*) FROM sqlite_master WHERE name LIKE '__cut%'"), 0);
    drilled(&week, &["events"]);

    home.sqlite("CREATE INDEX late ON domain_event (event_type)");
    refused(&week, &[], "schema was");
    home.sqlite("DROP INDEX late");
    refused(
        &week,
        &["--accept", "zoneless_times"],
        "accepted the loss of nothing, this one accepts zoneless_times",
    );
    std::thread::sleep(Duration::from_millis(1_100));
    refused(&demanding("1s"), &[], "is older");
    assert_eq!(entries(&db).await, 1);

    week.ok(&["cutover", "run", "events", "--to", "verified"]);
    // A run that is under way is gone on with.
    demanding("1s").ok(&["cutover", "run", "events"]);
    let under_way = drill(&home, &["events"]);
    assert_eq!(under_way.status, 3, "{under_way:?}");
}

#[tokio::test]
async fn a_module_that_is_on_its_way_is_not_drilled() {
    let (db, home) = with_real_streams().await;
    home.ok(&["cutover", "run", "events", "--to", "verified"]);
    let record = number(&db, "SELECT count(*) FROM cutover.record").await;
    let refused = drill(&home, &["events"]);
    assert!(
        refused.status == 3 && refused.err.contains("is under way, in the phase verifying"),
        "{refused:?}"
    );
    assert_eq!(number(&db, "SELECT count(*) FROM cutover.record").await, record);
    // Given up, or gone back from, it can be.
    home.ok(&["cutover", "abort", "events"]);
    drilled(&home, &["events"]);
    home.ok(&["cutover", "run", "events"]);
    home.ok(&["cutover", "revert", "events"]);
    drilled(&home, &["events"]);
    home.ok(&["cutover", "run", "events"]);
}
