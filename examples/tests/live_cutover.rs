//! The order service that moves while it takes orders, as a reader runs it: the program against a database of its own.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use changeover_testkit::TestDatabase;

fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_live_cutover"));
    command.args(words).env_remove("CHANGEOVER_EXAMPLE_POSTGRES_URL");
    command
}

/// What a program printed: standard output and standard error.
fn printed(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

async fn count(server: &TestDatabase, table: &str) -> i64 {
    server.query(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap()[0].get(0)
}

/// The numbers of a module's line in the table at the end: acknowledged, after the move, in PostgreSQL, and the differences.
fn numbers(told: &str, module: &str) -> Vec<i64> {
    let line = told.lines().rev().find(|line| line.starts_with(&format!("{module} "))).unwrap();
    line.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect()
}

/// The phases that were told of a module, in their order.
fn phases<'a>(told: &'a str, module: &str) -> Vec<&'a str> {
    let of = |line: &&str| line.starts_with(&format!("{module}: ")) && line.contains(" ms  ");
    told.lines().filter(of).filter_map(|line| line.split_whitespace().last()).collect()
}

#[tokio::test]
async fn both_modules_move_under_writers_and_every_acknowledged_write_is_found() {
    let (folder, server) = (tempfile::tempdir().unwrap(), TestDatabase::empty().await.unwrap());
    let file = folder.path().join("orders.db");
    // The address by way of the environment, as the other test gives it as a word.
    let output = program(&["--file", file.to_str().unwrap()])
        .env("CHANGEOVER_EXAMPLE_POSTGRES_URL", server.url())
        .output()
        .unwrap();
    let (told, problems) = printed(&output);
    assert!(output.status.success(), "{told}\n{problems}");
    assert_eq!(
        told.lines().last(),
        Some("every acknowledged write is in PostgreSQL, once and unchanged, and nothing else is")
    );
    for (module, table) in [("events", "event_store.domain_event"), ("audit", "audit_store.audit_events")] {
        let told_phases = phases(&told, module);
        assert_eq!(
            (told_phases.first(), told_phases.last()),
            (Some(&"prepared"), Some(&"switched")),
            "{module}: {told}"
        );
        let stored = count(&server, table).await;
        let [acknowledged, after, in_postgres, differences @ ..] = &numbers(&told, module)[..] else {
            panic!("{module}: {told}")
        };
        assert_eq!((*acknowledged, *in_postgres), (stored, stored), "{module}: {told}");
        assert!(0 < *after && after < acknowledged, "{module} was written to before and after: {told}");
        assert_eq!(differences, [0, 0, 0, 0], "{module}: {told}");
    }

    // The database belongs to a service by now: a second run is refused before it writes anything.
    let before = count(&server, "event_store.domain_event").await;
    let output = program(&[server.url()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(printed(&output).1.contains("name an empty database"), "{:?}", printed(&output));
    assert_eq!(count(&server, "event_store.domain_event").await, before);
}

// What the comparison is there for: somebody takes an event out of PostgreSQL behind the service.
#[tokio::test]
async fn an_acknowledged_write_that_is_lost_later_is_told_and_fails_the_program() {
    let server = TestDatabase::empty().await.unwrap();
    let mut running = program(&[server.url()]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !events_are_here(&server).await {
        assert!(running.try_wait().unwrap().is_none(), "the program ended before the move did");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // By a role that no rule of the schema holds back.
    server
        .execute(
            "SET session_replication_role = replica; \
             DELETE FROM event_store.domain_event \
             WHERE position = (SELECT min(position) FROM event_store.domain_event)",
        )
        .await
        .unwrap();
    let output = running.wait_with_output().unwrap();
    let (told, problems) = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{told}\n{problems}");
    assert_eq!(told.lines().last(), Some("PostgreSQL does not hold what was acknowledged"), "{problems}");
    assert_eq!(numbers(&told, "events")[3..], [1, 0, 0, 0], "{told}");
    assert_eq!(numbers(&told, "audit")[3..], [0, 0, 0, 0], "{told}");
}

/// Whether PostgreSQL owns the events.
async fn events_are_here(server: &TestDatabase) -> bool {
    let is_here = "SELECT phase = 'switched' FROM cutover.run WHERE module = 'events'";
    // Before the schema is there, the question itself is refused.
    server.query(is_here, &[]).await.is_ok_and(|rows| rows.first().is_some_and(|row| row.get(0)))
}

#[test]
fn without_an_address_or_with_a_file_that_is_there_it_says_what_it_needs() {
    let output = program(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (told, problems) = printed(&output);
    assert_eq!(told, "");
    for word in ["needs a PostgreSQL", "CHANGEOVER_EXAMPLE_POSTGRES_URL", "docker run", "--file PATH"] {
        assert!(problems.contains(word), "{word}: {problems}");
    }

    let file = tempfile::NamedTempFile::new().unwrap();
    let path: &Path = file.path();
    let output = program(&["postgres://nowhere/none", "--file", path.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(printed(&output).1.contains("is there; name a file that is not"), "{:?}", printed(&output));
    assert_eq!(std::fs::metadata(path).unwrap().len(), 0, "the file is as it was");
}
