//! How the command is called, and how it ends.

use std::process::Stdio;

use rstest::rstest;

use crate::common::Home;

#[rstest]
#[case(&[])]
#[case(&["serve"])]
#[case(&["events"])]
#[case(&["events", "import"])]
#[case(&["events", "read", "Order"])]
#[case(&["events", "read", "Order/7"])]
#[case(&["events", "read", "Order/018f4e5a-7c1b-7d2e-9f3a-5b6c7d8e9f01", "--from", "0"])]
#[case(&["events", "read", "Order/018f4e5a-7c1b-7d2e-9f3a-5b6c7d8e9f01", "--limit", "0"])] // X-EDGE-063
#[case(&["events", "read", "Order/018f4e5a-7c1b-7d2e-9f3a-5b6c7d8e9f01", "--limit", "1e3"])] // X-EDGE-063
#[case(&["events", "tail", "--lines", "-1"])] // X-EDGE-063
#[case(&["events", "export", "--after", "c1.x.1"])]
#[case(&["events", "export", "--tenant", ""])] // X-EDGE-086, S2-TEN-004
#[case(&["events", "export", "--module", "Events"])] // X-EDGE-093
#[case(&["audit"])]
#[case(&["audit", "import"])]
#[case(&["audit", "verify"])]
#[case(&["audit", "verify", ""])]
#[case(&["audit", "query", "--limit", "0"])] // X-EDGE-063
#[case(&["audit", "query", "--limit", "-1"])] // X-EDGE-063
#[case(&["audit", "query", "--limit", ""])] // X-EDGE-063
#[case(&["audit", "query", "--limit", "1e3"])] // X-EDGE-063
#[case(&["audit", "query", "--limit", "10001"])] // X-EDGE-063
#[case(&["audit", "query", "--limit", "9223372036854775808"])] // X-EDGE-063
#[case(&["audit", "query", "--offset", "-1"])]
#[case(&["audit", "query", "--outcome", "Success"])] // S3-AUD-005
#[case(&["audit", "query", "--actor-type", "robot"])] // S3-AUD-006
#[case(&["audit", "query", "--start=-7d"])] // S3-HTTP-003
#[case(&["audit", "query", "--start", "2024-01-01"])]
#[case(&["audit", "query", "--end", "infinity"])] // X-EDGE-053
#[case(&["audit", "query", "--page", "a1.x"])]
#[case(&["audit", "query", "--category", ""])] // A14
#[case(&["audit", "query", "--order", "random"])]
#[case(&["audit", "query", "--count", "--limit", "1"])]
#[case(&["audit", "retain"])]
#[case(&["audit", "retain", "--keep", "workflow=0", "--dry-run"])]
#[case(&["audit", "retain", "--keep", "workflow", "--dry-run"])]
#[case(&["audit", "retain", "--keep", "=7", "--dry-run"])]
#[case(&["audit", "retain", "--keep", "workflow=-7", "--dry-run"])]
#[case(&["audit", "retain", "--keep", "workflow=7"])]
#[case(&["audit", "retain", "--keep", "workflow=7", "--keep", "workflow=8", "--yes"])]
#[case(&["audit", "retain", "--keep", "workflow=7", "--dry-run", "--yes"])]
#[case(&["playbooks"])]
#[case(&["playbooks", "search"])]
#[case(&["playbooks", "search", ""])] // S3-EDGE-016
#[case(&["playbooks", "search", "  "])] // X-EDGE-077
#[case(&["playbooks", "search", "?!"])] // X-EDGE-077
#[case(&["playbooks", "search", "x", "--max-results", "0"])] // S3-EDGE-025
#[case(&["playbooks", "search", "x", "--min-confidence", "1.1"])]
#[case(&["playbooks", "search", "x", "--min-confidence", "NaN"])]
#[case(&["playbooks", "search", "x", "--label", "team"])]
#[case(&["playbooks", "search", "x", "--label", "=x"])] // X-EDGE-069
#[case(&["playbooks", "search", "x", "--label", "a=1", "--label", "a=1"])] // X-EDGE-069
#[case(&["playbooks", "versions", ""])] // X-EDGE-070
#[case(&["cutover"])]
#[case(&["cutover", "plan"])]
#[case(&["cutover", "plan", "Events"])]
#[case(&["cutover", "plan", "events", "--accept", "everything"])]
#[case(&["cutover", "run", "events", "--max-pause", "10"])]
#[case(&["cutover", "run", "events", "--busy", "0"])]
#[case(&["cutover", "run", "events", "--to", "postgres"])]
#[case(&["cutover", "quarantine", "approve", "events"])]
#[case(&["cutover", "quarantine", "repair", "events", "1"])]
#[case(&["cutover", "quarantine", "repair", "events", "1", "--set", "a"])]
#[case(&["cutover", "report"])]
#[case(&["cutover", "report", "events"])]
#[case(&["cutover", "report", "events", "--check", "manifest.json"])]
#[case(&["cutover", "report", "events", "--out", "a", "--against", "b"])]
#[case(&["migrate", "up", "--family", "Events"])]
#[case(&["migrate", "down", "--steps", "0"])]
#[case(&["doctor", "--format", "xml"])]
fn wrong_usage_is_status_2_and_touches_nothing(#[case] arguments: &[&str]) {
    let home = Home::new();
    let ran = home.run(arguments);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{ran:?}");
    assert!(ran.err.contains("Usage:") || ran.err.contains("--help"), "{ran:?}");
    assert!(home.path().read_dir().unwrap().next().is_none(), "no file is made");
}

#[rstest]
#[case(&[])]
#[case(&["demo"])]
#[case(&["doctor"])]
#[case(&["config", "show"])]
#[case(&["migrate", "up"])]
#[case(&["migrate", "down"])]
#[case(&["migrate", "status"])]
#[case(&["events", "import"])]
#[case(&["events", "export"])]
#[case(&["events", "read"])]
#[case(&["events", "tail"])]
#[case(&["audit", "import"])]
#[case(&["audit", "export"])]
#[case(&["audit", "query"])]
#[case(&["audit", "verify"])]
#[case(&["audit", "partitions"])]
#[case(&["audit", "retain"])]
#[case(&["playbooks", "import"])]
#[case(&["playbooks", "export"])]
#[case(&["playbooks", "search"])]
#[case(&["playbooks", "versions"])]
#[case(&["completions"])]
fn every_help_has_examples(#[case] command: &[&str]) {
    let ran = Home::new().ok(&[command, &["--help"]].concat());
    let example = format!("  changeover {}", command.join(" "));
    assert!(ran.out.contains("Examples:") && ran.out.contains(&example), "{}", ran.out);
}

#[rstest]
#[case("bash", "_changeover()")]
#[case("zsh", "#compdef changeover")]
#[case("fish", "complete -c changeover")]
fn completions_know_the_commands(#[case] shell: &str, #[case] expected: &str) {
    let ran = Home::new().ok(&["completions", shell]);
    assert!(ran.out.contains(expected) && ran.out.contains("import"), "{}", ran.out);
}

#[test]
fn a_bad_log_filter_is_wrong_usage() {
    let ran = Home::new().with("CHANGEOVER_LOG", "changeover=loud").run(&["config", "show"]);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("CHANGEOVER_LOG"), "{}", ran.err);
}

#[test]
fn results_go_to_standard_output_and_remarks_to_standard_error() {
    let home = Home::new();
    let loud = home.ok(&["events", "export"]);
    assert_eq!(loud.out, "");
    assert!(
        loud.err.starts_with("no settings: every module is kept in SQLite at var/changeover.db"),
        "{}",
        loud.err
    );
    let quiet = home.ok(&["events", "export", "--quiet"]);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let home = Home::new();
    let lines: Vec<_> = (1..=3_000).map(|version| crate::common::line(1, version, "")).collect();
    home.write("e.jsonl", lines.join("\n"));
    home.ok(&["events", "import", "e.jsonl"]);
    let mut child =
        home.command(&["events", "export"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!String::from_utf8(output.stderr).unwrap().contains("changeover:"));
}
