//! Schemas by command, and what the doctor finds.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::common::{Home, line};

fn by_command() -> Home {
    Home::new()
        .with("CHANGEOVER_BACKENDS__LOCAL__MIGRATE_ON_START", "false")
        .with("CHANGEOVER_BACKENDS__LOCAL__KIND", "sqlite")
        .with("CHANGEOVER_BACKENDS__LOCAL__PATH", "app.db")
        .with("CHANGEOVER_PERSISTENCE__DEFAULT", "local")
}

// S2-MIG-003, S2-MIG-005: up, again, status, down; a schema that is missing is status 3 and says what to do.
#[test]
fn migrations_go_up_and_down_by_command() {
    let home = by_command();
    let early = home.run(&["events", "export"]);
    assert_eq!(early.status, 3, "{early:?}");
    assert!(
        early.err.contains("schema_mismatch") && early.err.contains("changeover migrate up"),
        "{}",
        early.err
    );

    let before = home.ok(&["migrate", "status", "--format", "json"]).objects();
    assert!(
        !before.is_empty() && before.iter().all(|migration| migration["applied_at"].is_null()),
        "{before:?}"
    );
    let up = home.ok(&["migrate", "up", "--format", "json"]);
    // What all modules share is listed for each and applied once.
    let ids = |migrations: &[Map<String, Value>]| -> BTreeSet<String> {
        migrations.iter().map(|migration| migration["id"].to_string()).collect()
    };
    assert_eq!(ids(&up.objects()), ids(&before));
    let again = home.ok(&["migrate", "up", "--format", "json"]);
    assert_eq!(again.out, "");
    assert!(again.err.contains("events on local: up to date"), "{}", again.err);
    let after = home.ok(&["migrate", "status", "--format", "json"]).objects();
    assert!(
        after.iter().all(|migration| migration["applied_at"].is_string() && migration["problem"].is_null())
    );

    home.write("e.jsonl", line(1, 1, ""));
    home.ok(&["events", "import", "e.jsonl"]);
    let refused = home.run(&["migrate", "down", "--module", "events"]);
    assert_eq!((refused.status, refused.out.as_str()), (3, ""), "records would go: {refused:?}");
    assert_eq!(home.export().len(), 1, "nothing was taken back");
    let down = home.ok(&["migrate", "down", "--module", "events", "--accept-data-loss", "--format", "json"]);
    assert_eq!(down.objects().len(), 1);
    assert_eq!(home.run(&["events", "export"]).status, 3);
}

#[test]
fn down_works_on_one_schema_at_a_time() {
    let home = by_command().with("CHANGEOVER_PERSISTENCE__ORDERS", "local");
    home.ok(&["migrate", "up"]);
    let ran = home.run(&["migrate", "down"]);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""));
    let several = "audit on local, events on local, orders (events) on local, playbooks on local";
    assert!(ran.err.contains(several), "{}", ran.err);
    home.ok(&["migrate", "down", "--module", "orders"]);
    assert_eq!(home.ok(&["events", "export"]).out, "", "the other schema stays");
}

// Design section 4: a module of the user's own has the families it asks for, and keeps them up to date.
#[test]
fn a_module_has_the_families_it_was_given() {
    let home = by_command().with("CHANGEOVER_PERSISTENCE__ORDERS", "local");
    let ids = |arguments: &[&str]| -> Vec<String> {
        let ran = home.ok(&[&["migrate"], arguments, &["--module", "orders", "--format", "json"]].concat());
        ran.objects().iter().map(|migration| migration["family"].as_str().unwrap().to_owned()).collect()
    };
    let families = |mut ids: Vec<String>| {
        ids.dedup();
        ids
    };
    assert_eq!(families(ids(&["up"])), ["events"]);
    assert_eq!(home.run(&["audit", "export", "--module", "orders"]).status, 3);
    assert_eq!(families(ids(&["up", "--family", "audit"])), ["audit"]);
    assert_eq!(home.ok(&["audit", "export", "--module", "orders"]).out, "");
    assert_eq!(families(ids(&["status"])), ["events", "audit"]);
    let several = home.run(&["migrate", "down", "--module", "orders"]);
    assert_eq!(several.status, 2);
    assert!(several.err.contains("orders (events) on local, orders (audit) on local"), "{}", several.err);
    home.ok(&["migrate", "down", "--module", "orders", "--family", "audit"]);
    let found = home.run(&["doctor"]);
    assert!(found.out.contains("ok   module orders: events: on local"), "{}", found.out);
}

#[test]
fn an_unknown_backend_is_wrong_settings() {
    let ran = by_command().run(&["migrate", "up", "--backend", "main"]);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("configured are local"), "{}", ran.err);
}

#[test]
fn the_doctor_finds_a_missing_schema_and_does_not_apply_it() {
    let home = by_command();
    home.write("app.db", "");
    let ill = home.run(&["doctor"]);
    assert_eq!(ill.status, 3, "{ill:?}");
    assert!(ill.out.contains("BAD  module events: ") && ill.out.contains("schema_mismatch"), "{}", ill.out);
    let applied = home.ok(&["migrate", "status", "--format", "json"]).objects();
    assert!(applied.iter().all(|migration| migration["applied_at"].is_null()));

    assert!(ill.out.contains("ok   module audit: schema: none yet"), "{}", ill.out);
    home.ok(&["migrate", "up"]);
    let well = home.ok(&["doctor", "--format", "json"]);
    for module in ["events", "audit", "playbooks"] {
        let about = format!("module {module}");
        let ready = |finding: &&Map<String, Value>| finding["about"] == *about && finding["check"] == "ready";
        assert_eq!(well.objects().iter().filter(ready).count(), 1, "{module} in {}", well.out);
    }
    assert!(well.objects().iter().all(|finding| finding["ok"] == true), "{}", well.out);
}

// The doctor changes nothing: a file that is not there is told of, with what to do, and not made, nor its folder.
#[test]
fn the_doctor_reports_a_missing_file_and_does_not_make_it() {
    for home in [Home::new(), by_command()] {
        let ill = home.run(&["doctor"]);
        assert_eq!(ill.status, 3, "{ill:?}");
        let told = ill.out.lines().find(|line| line.starts_with("BAD  backend local: reached: ")).unwrap();
        assert!(told.contains("no such file") && told.contains("`changeover migrate up`"), "{told}");
        let ill = home.run(&["doctor", "--format", "json"]);
        assert_eq!(ill.status, 3);
        assert!(
            ill.objects().iter().any(|finding| finding["about"] == "backend local" && finding["ok"] == false)
        );
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "nothing was made");
        home.ok(&["migrate", "up"]);
        home.ok(&["doctor"]);
    }
}

// The doctor leaves a schema as it is also where a start would bring it up to date.
#[test]
fn the_doctor_migrates_nothing() {
    let home = by_command().with("CHANGEOVER_BACKENDS__LOCAL__MIGRATE_ON_START", "true");
    home.write("app.db", "");
    let ill = home.run(&["doctor"]);
    assert_eq!(ill.status, 3, "{ill:?}");
    assert!(ill.out.contains("schema_mismatch"), "{}", ill.out);
    let applied = home.ok(&["migrate", "status", "--format", "json"]).objects();
    assert!(applied.iter().all(|migration| migration["applied_at"].is_null()));
}

// X-EDGE-084: a file that is no database.
#[test]
fn a_file_that_is_no_database_is_told() {
    let home = by_command();
    home.write("app.db", "this is no database, and it is long enough to be taken for one".repeat(20));
    let ran = home.run(&["doctor"]);
    assert!([3, 4].contains(&ran.status), "{ran:?}");
    assert!(ran.out.contains("BAD  backend local"), "{}", ran.out);
    assert_ne!(home.run(&["events", "export"]).status, 0);
}
