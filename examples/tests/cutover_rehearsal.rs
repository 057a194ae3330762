//! The rehearsal of a cutover, as a reader runs it: the program against a database of its own.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::process::{Command, Output};

use changeover_testkit::TestDatabase;

fn program(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutover_rehearsal"));
    command.args(words).env_remove("CHANGEOVER_EXAMPLE_POSTGRES_URL");
    command.output().unwrap()
}

#[tokio::test]
async fn two_rehearsals_stop_at_bad_rows_and_the_third_goes_through() {
    let server = TestDatabase::empty().await.unwrap();
    let output = program(&[server.url()]);
    let (told, problems) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{told}\n{problems}");
    let parts: Vec<_> = told.split("# ").collect();
    let [_, first, second, third] = &parts[..] else { panic!("{told}") };
    for row in ["domain_event 12, occurred_at", "domain_event 77, event_data", "domain_event 123, event_data"]
    {
        assert!(first.contains(row), "{row}: {told}");
    }
    assert!(first.contains("stopped: 3 rows would stay out"), "{told}");
    assert!(second.contains("domain_event 123") && !second.contains("domain_event 12,"), "{told}");
    assert!(second.contains("stopped: 1 rows would stay out"), "{told}");
    assert!(third.contains("240 rows went there, back and there again"), "{told}");
    assert!(third.contains("entry 1 of the record"), "of a drill that stopped nothing is recorded: {told}");

    // Nothing was moved.
    let count = |sql: &'static str| {
        let server = &server;
        async move { server.query(sql, &[]).await.unwrap()[0].get::<_, i64>(0) }
    };
    assert_eq!(count("SELECT count(*) FROM cutover.run").await, 0);
    assert_eq!(count("SELECT count(*) FROM event_store.domain_event").await, 0);
    assert_eq!(count("SELECT count(*) FROM cutover.record WHERE what = 'drilled'").await, 1);
}

#[test]
fn without_an_address_it_says_what_it_needs() {
    for words in [&[][..], &["--help"], &["a", "b"]] {
        let output = program(words);
        assert_eq!(output.status.code(), Some(1));
        let problems = String::from_utf8(output.stderr).unwrap();
        for word in ["needs a PostgreSQL", "CHANGEOVER_EXAMPLE_POSTGRES_URL", "docker run"] {
            assert!(problems.contains(word), "{word}: {problems}");
        }
    }
}
