//! The same on PostgreSQL, and what is told when there is none.

use changeover_testkit::{PASSWORD_ROLE, Rung, TestDatabase, shared, with_user};

use crate::common::Home;
use crate::import::{bad_lines_are_rejected_by_number_and_reason, real_streams_survive};

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
