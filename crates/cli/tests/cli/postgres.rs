//! The same on PostgreSQL, and what is told when there is none.

use changeover_testkit::{PASSWORD_ROLE, Rung, TestDatabase, shared, with_user};

use crate::common::{Home, line};
use crate::{audit, import, playbooks, read};

/// Everything on a database of its own, its schemas made.
async fn on_a_server() -> (TestDatabase, Home) {
    let db = TestDatabase::empty().await.unwrap();
    let home = Home::on_postgres(db.url());
    home.ok(&["migrate", "up"]);
    (db, home)
}

#[tokio::test]
async fn real_records_survive_postgres() {
    let (_db, home) = on_a_server().await;
    audit::real_records_survive(&home);
}

#[tokio::test]
async fn bad_audit_lines_are_rejected_on_postgres() {
    let (_db, home) = on_a_server().await;
    audit::bad_lines_are_rejected_by_number_and_reason(&home);
}

#[tokio::test]
async fn parents_may_stand_later_on_postgres() {
    let (_db, home) = on_a_server().await;
    audit::parents_may_stand_later(&home);
}

#[tokio::test]
async fn what_is_old_is_removed_on_postgres() {
    let (_db, home) = on_a_server().await;
    audit::what_is_old_is_removed(&home);
}

#[tokio::test]
async fn real_versions_survive_postgres() {
    let (_db, home) = on_a_server().await;
    playbooks::real_versions_survive(&home);
}

#[tokio::test]
async fn bad_playbook_lines_are_rejected_on_postgres() {
    let (_db, home) = on_a_server().await;
    playbooks::bad_lines_are_rejected_by_number_and_reason(&home);
}

// S3-AUD-010, S3-AUD-011: the coming months are listed, a missing one is status 3 and made by command.
#[tokio::test]
async fn partitions_are_listed_and_made() {
    let (db, home) = on_a_server().await;
    home.write("a.jsonl", audit::line(1, ""));
    home.ok(&["audit", "import", "a.jsonl"]);
    let months = home.ok(&["audit", "partitions", "--format", "json"]).objects();
    assert_eq!(months.len(), 5, "the month of the record, this one and the next three");
    assert_eq!((&months[0]["month"], &months[0]["records"]), (&"2024-01".into(), &1.into()));
    assert!(months.iter().all(|month| month["exists"] == true && month["bytes"].as_u64() > Some(0)));

    let last = months[4]["month"].as_str().unwrap().to_owned();
    db.execute(&format!("DROP TABLE audit_store.audit_events_{}", last.replace('-', "_"))).await.unwrap();
    let missing = home.run(&["audit", "partitions"]);
    assert_eq!(missing.status, 3, "{missing:?}");
    assert!(missing.out.lines().last().unwrap().starts_with(&format!("{last}  0")), "{}", missing.out);
    assert!(missing.err.contains("audit partitions --create"), "{}", missing.err);
    let told = home.run(&["doctor"]);
    assert_eq!(told.status, 3, "{told:?}");
    let found = format!("BAD  backend main: partitions of audit_store: none for {last}");
    assert!(told.out.contains(&found), "{}", told.out);

    let made = home.ok(&["audit", "partitions", "--create"]);
    assert!(made.err.contains(&format!("made {last}")), "{}", made.err);
    assert!(home.ok(&["audit", "partitions", "--create"]).err.contains("no month was missing"));
    assert!(home.ok(&["doctor"]).out.contains("partitions are there for this month and the next three"));
}

// Design section 4, S3-MIG-011: each module's backend, versions, extensions, rights.
#[tokio::test]
async fn the_doctor_looks_at_each_module() {
    let db = TestDatabase::empty().await.unwrap();
    let home = Home::on_postgres(db.url()).with("CHANGEOVER_PERSISTENCE__AUDIT", "main");
    home.ok(&["migrate", "up", "--module", "events"]);
    let ill = home.run(&["doctor"]);
    assert_eq!(ill.status, 3, "{ill:?}");
    assert!(ill.out.contains("BAD  module audit: ready: schema_mismatch"), "{}", ill.out);
    assert!(ill.out.contains("ok   module playbooks: schema: none yet"), "{}", ill.out);
    home.ok(&["migrate", "up"]);
    for store in ["events", "audit", "playbooks"] {
        let about = format!("module {store}: owner: nobody yet");
        assert!(home.ok(&["doctor"]).out.contains(&about), "looking claims nothing");
        home.ok(&[store, "export"]);
    }
    let well = home.ok(&["doctor", "--format", "json"]).objects();
    for module in ["events", "audit", "playbooks"] {
        let about = format!("module {module}");
        let ready = well.iter().find(|finding| finding["about"] == *about && finding["check"] == "ready");
        assert!(ready.is_some_and(|ready| ready["ok"] == true), "{module} in {well:?}");
    }
    let of_backend: Vec<_> = well
        .iter()
        .filter(|finding| finding["about"] == "backend main")
        .map(|finding| &finding["check"])
        .collect();
    for check in ["reached", "server", "row security", "pgvector"] {
        assert!(of_backend.contains(&&check.into()), "{check} in {of_backend:?}");
    }
}

#[tokio::test]
async fn real_streams_survive_postgres() {
    let (_db, home) = on_a_server().await;
    import::real_streams_survive(&home);
}

#[tokio::test]
async fn bad_lines_are_rejected_on_postgres() {
    let (_db, home) = on_a_server().await;
    import::bad_lines_are_rejected_by_number_and_reason(&home);
}

// X-ES-020, X-EDGE-067, X-EDGE-068, X-EDGE-082: read, export and tail as on SQLite.
#[tokio::test]
async fn streams_and_the_log_are_read_on_postgres() {
    let db = TestDatabase::empty().await.unwrap();
    let home = Home::on_postgres(db.url());
    home.ok(&["migrate", "up"]);
    let home = read::fill(home);
    read::streams_are_read_both_ways(&home);
    read::exports_are_filtered(&home);
    read::tails_are_the_end(&home);
    let missing = home.run(&["events", "read", "order/00000000-0000-4000-8000-000000000001"]);
    assert_eq!((missing.status, missing.out.as_str()), (3, ""));
    read::followers_see_what_others_append(&home);
}

// S2-MIG-003, S2-MIG-005: status, up, again, down by command; tables with records go only knowingly.
#[tokio::test]
async fn migrations_go_up_and_down_by_command_on_postgres() {
    let db = TestDatabase::empty().await.unwrap();
    let home = Home::on_postgres(db.url());
    let early = home.run(&["events", "export"]);
    assert_eq!(early.status, 3, "{early:?}");
    assert!(early.err.contains("changeover migrate up"), "{}", early.err);
    let status = || home.ok(&["migrate", "status", "--module", "events", "--format", "json"]).objects();
    let applied = || status().iter().filter(|migration| !migration["applied_at"].is_null()).count();
    let known = status().len();
    assert_eq!(applied(), 0);
    let up = ["migrate", "up", "--module", "events", "--format", "json"];
    assert_eq!(home.ok(&up).objects().len(), known);
    let again = home.ok(&up);
    assert_eq!(again.out, "");
    assert!(again.err.contains("events on main: up to date"), "{}", again.err);
    assert_eq!(applied(), known);

    home.write("e.jsonl", line(1, 1, ""));
    home.ok(&["events", "import", "e.jsonl"]);
    let all = known.to_string();
    let down = ["migrate", "down", "--module", "events", "--steps", &all, "--format", "json"];
    let refused = home.run(&down);
    assert_eq!((refused.status, refused.out.as_str()), (3, ""), "records would go: {refused:?}");
    assert_eq!((applied(), home.export().len()), (known, 1), "nothing was taken back");
    let taken = home.ok(&[&down[..], &["--accept-data-loss"]].concat());
    assert_eq!(taken.objects().len(), known);
    assert_eq!(applied(), 0);
    assert_eq!(home.run(&["events", "export"]).status, 3);
    home.ok(&up);
    assert_eq!(home.export().len(), 0);
}

#[tokio::test]
async fn the_doctor_knows_the_server_and_the_demo_moves_by_one_word() {
    let db = TestDatabase::empty().await.unwrap();
    let home = Home::on_postgres(db.url());
    home.ok(&["migrate", "up"]);
    let well = home.ok(&["doctor"]);
    assert!(well.out.contains("ok   backend main: reached: postgres"), "{}", well.out);

    let demo = Home::new().with("CHANGEOVER_DEMO_POSTGRES_URL", db.url()).ok(&["demo"]);
    let (file, server) = demo.out.split_once("# PostgreSQL: the same with one word changed").unwrap();
    let story = |text: &str| {
        let (_, told) = text.split_once("## Import").unwrap();
        told.split("## Look at the file").next().unwrap().trim_end().to_owned()
    };
    let (server, moved) = server.split_once("\n# The move").unwrap();
    assert_eq!(story(server), story(file));
    // It ends with a cutover: all records there, back and there again.
    let line = |name: &str| moved.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(line("rows").contains(": event_stream ") && line("rows").contains("domain_event 40"), "{moved}");
    assert!(line("pause").contains("for a switch") && line("quarantine").ends_with(" 0 rows"), "{moved}");
    assert!(line("record").ends_with("drilled"), "{moved}");
    assert!(!demo.out.contains(db.url()) && !demo.err.contains(db.url()));
}

// Exit status 4: a server that is not there. No part of the address is told (S0-SEC-003).
#[test]
fn a_server_that_is_not_there_is_status_4() {
    let password = "s3cr3t%40%2F%3A%25%23%20x";
    let home = Home::on_postgres(&format!("postgres://me:{password}@127.0.0.1:9/app"))
        .with("CHANGEOVER_BACKENDS__MAIN__POOL__CONNECT_TIMEOUT", "2s");
    home.write("e.jsonl", crate::common::line(1, 1, ""));
    for command in [
        &["events", "export"][..],
        &["events", "import", "e.jsonl"],
        &["audit", "query"],
        &["playbooks", "search", "x"],
        &["migrate", "status"],
        &["doctor"],
        &["doctor", "--format", "json"],
    ] {
        let ran = home.run(command);
        assert_eq!(ran.status, 4, "{command:?}: {ran:?}");
        assert!(ran.err.contains("changeover doctor") || command[0] == "doctor", "{}", ran.err);
        for text in [&ran.out, &ran.err] {
            assert!(!text.contains("s3cr3t") && !text.contains("postgres://"), "{text}");
        }
    }
}

// X-EDGE-094: a password with special characters is sent as meant, and never printed.
#[tokio::test]
async fn a_password_with_special_characters_works_and_is_never_printed() {
    if shared().await.unwrap().rung() == Rung::Env {
        eprintln!(
            "NOT SHOWN HERE: a server given by the environment has no role that must give its password"
        );
        return;
    }
    let password = "s3cr3t@/:%# x";
    let db = TestDatabase::empty().await.unwrap();
    let role = format!("cli_{}", db.name());
    db.execute(&format!("create role {role} superuser login password '{password}' in role {PASSWORD_ROLE}"))
        .await
        .unwrap();
    let home = Home::on_postgres(&with_user(db.url(), &role, Some(password))).with("CHANGEOVER_LOG", "debug");
    home.write("e.jsonl", crate::common::line(1, 1, ""));
    for command in
        [&["migrate", "up"][..], &["events", "import", "e.jsonl"], &["doctor"], &["config", "show"]]
    {
        let ran = home.ok(command);
        for text in [&ran.out, &ran.err] {
            assert!(!text.contains("s3cr3t"), "{text}");
        }
    }
    let ran = Home::on_postgres(&with_user(db.url(), &role, Some("s3cr3t wrong"))).run(&["events", "export"]);
    assert_ne!(ran.status, 0);
    assert!(!ran.err.contains("s3cr3t"), "{}", ran.err);
    db.execute(&format!("reassign owned by {role} to current_user; drop owned by {role}; drop role {role}"))
        .await
        .unwrap();
}
