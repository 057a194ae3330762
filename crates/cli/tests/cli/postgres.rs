//! The same on PostgreSQL, and what is told when there is none.

use changeover_testkit::{PASSWORD_ROLE, Rung, TestDatabase, shared, with_user};

use crate::common::{Home, line};
use crate::import::{bad_lines_are_rejected_by_number_and_reason, real_streams_survive};
use crate::read;

#[tokio::test]
async fn real_streams_survive_postgres() {
    let db = TestDatabase::empty().await.unwrap();
    let home = Home::on_postgres(db.url());
    home.ok(&["migrate", "up"]);
    real_streams_survive(&home);
}

#[tokio::test]
async fn bad_lines_are_rejected_on_postgres() {
    let db = TestDatabase::empty().await.unwrap();
    let home = Home::on_postgres(db.url());
    home.ok(&["migrate", "up"]);
    bad_lines_are_rejected_by_number_and_reason(&home);
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
    let status = || home.ok(&["migrate", "status", "--format", "json"]).objects();
    let applied = || status().iter().filter(|migration| !migration["applied_at"].is_null()).count();
    let known = status().len();
    assert_eq!(applied(), 0);
    assert_eq!(home.ok(&["migrate", "up", "--format", "json"]).objects().len(), known);
    let again = home.ok(&["migrate", "up", "--format", "json"]);
    assert_eq!(again.out, "");
    assert!(again.err.contains("events on main: up to date"), "{}", again.err);
    assert_eq!(applied(), known);

    home.write("e.jsonl", line(1, 1, ""));
    home.ok(&["events", "import", "e.jsonl"]);
    let all = known.to_string();
    let down = ["migrate", "down", "--steps", &all, "--format", "json"];
    let refused = home.run(&down);
    assert_eq!((refused.status, refused.out.as_str()), (3, ""), "records would go: {refused:?}");
    assert_eq!((applied(), home.export().len()), (known, 1), "nothing was taken back");
    let taken = home.ok(&[&down[..], &["--accept-data-loss"]].concat());
    assert_eq!(taken.objects().len(), known);
    assert_eq!(applied(), 0);
    assert_eq!(home.run(&["events", "export"]).status, 3);
    home.ok(&["migrate", "up"]);
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
    assert_eq!(story(server), story(file));
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
