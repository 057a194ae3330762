//! Reading streams and the log.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::common::{Home, line, records};

const STREAM: &str = "Order/00000000-0000-4000-8000-000000000001";

fn filled() -> Home {
    fill(Home::new())
}

/// A stream of 1,100 events, then two of one.
pub fn fill(home: Home) -> Home {
    let mut lines: Vec<_> = (1..=1_100).map(|version| line(1, version, "")).collect();
    lines.push(line(2, 1, "").replace("Changed", "Closed"));
    lines.push(line(3, 1, "").replace("\"Order\"", "\"Cart\""));
    home.write("e.jsonl", lines.join("\n"));
    home.ok(&["events", "import", "e.jsonl"]);
    home
}

fn versions(home: &Home, arguments: &[&str]) -> Vec<i64> {
    let ran = home.ok(&[&["events", "read", STREAM, "--format", "json"], arguments].concat());
    ran.objects().iter().map(|event| event["aggregate_version"].as_i64().unwrap()).collect()
}

// X-ES-020: forward from a version with a limit, backward, over page ends.
#[test]
fn a_stream_is_read_in_both_directions_and_within_bounds() {
    streams_are_read_both_ways(&filled());
}

pub fn streams_are_read_both_ways(home: &Home) {
    assert_eq!(versions(home, &[]), (1..=1_100).collect::<Vec<_>>());
    assert_eq!(versions(home, &["--backward"]), (1..=1_100).rev().collect::<Vec<_>>());
    assert_eq!(versions(home, &["--from", "7", "--to", "9"]), [7, 8, 9]);
    assert_eq!(versions(home, &["--from", "7", "--backward", "--limit", "2"]), [1_100, 1_099]);
    assert_eq!(versions(home, &["--limit", "501"]).len(), 501);
    assert_eq!(versions(home, &["--from", "9", "--to", "7"]), [0; 0]); // X-EDGE-067: an empty page
    let table = home.ok(&["events", "read", STREAM, "--limit", "1"]);
    let lines: Vec<_> = table.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0], ["version", "event_type", "occurred_at", "event_data"]);
    assert_eq!((lines[1][0], lines[1][1], lines[1][3]), ("1", "Changed", r#"{"n":1}"#));
}

#[test]
fn a_stream_that_does_not_exist_is_status_3() {
    let ran = filled().run(&["events", "read", "order/00000000-0000-4000-8000-000000000001"]);
    assert_eq!((ran.status, ran.out.as_str()), (3, ""));
    assert!(ran.err.contains("there is no stream order/"), "{}", ran.err);
}

#[test]
fn an_export_is_filtered_and_goes_on_after_a_checkpoint() {
    exports_are_filtered(&filled());
}

pub fn exports_are_filtered(home: &Home) {
    let count = |arguments: &[&str]| home.ok(&[&["events", "export"], arguments].concat()).objects().len();
    assert_eq!(count(&[]), 1_102);
    assert_eq!(count(&["--type", "Closed"]), 1);
    assert_eq!(count(&["--type", "Closed", "--type", "Changed"]), 1_102);
    assert_eq!(count(&["--type", "%"]), 0); // X-EDGE-068
    assert_eq!(count(&["--stream", STREAM]), 1_100);
    assert_eq!(count(&["--category", "Cart"]), 1);
    let all = home.export();
    let after = all[1_099]["checkpoint"].as_str().unwrap();
    assert_eq!(home.ok(&["events", "export", "--after", after]).objects(), all[1_100..]);
    let end = all[1_101]["checkpoint"].as_str().unwrap();
    let ran = home.ok(&["events", "export", "--after", end]); // X-EDGE-082
    assert_eq!(ran.out, "");
    assert!(ran.err.contains(&format!("0 events; --after {end} goes on from here")), "{}", ran.err);
}

// A checkpoint of another log is refused: section 3 of the design.
#[test]
fn a_checkpoint_of_another_log_is_status_3() {
    let foreign = filled().export()[0]["checkpoint"].as_str().unwrap().to_owned();
    let home = filled();
    for command in ["export", "tail"] {
        let ran = home.run(&["events", command, "--after", &foreign]);
        assert_eq!((ran.status, ran.out.as_str()), (3, ""), "{ran:?}");
        assert!(ran.err.contains("start again from the beginning"), "{}", ran.err);
    }
}

#[test]
fn the_tail_is_the_end_of_the_log() {
    tails_are_the_end(&filled());
}

pub fn tails_are_the_end(home: &Home) {
    let all = home.export();
    let tail = |arguments: &[&str]| {
        home.ok(&[&["events", "tail", "--format", "json"], arguments].concat()).objects()
    };
    assert_eq!(tail(&[]), all[1_092..]);
    assert_eq!(tail(&["-n", "1"]), all[1_101..]);
    assert_eq!(tail(&["-n", "0"]).len(), 0);
    // What matches may lie far back.
    assert_eq!(tail(&["-n", "2", "--stream", STREAM]), all[1_098..1_100]);
    assert_eq!(tail(&["-n", "10000"]), all);
    assert_eq!(tail(&["--after", all[1_100]["checkpoint"].as_str().unwrap()]), all[1_101..]);
    let text = home.ok(&["events", "tail", "-n", "1"]).out;
    assert!(text.ends_with("  Cart/00000000-0000-4000-8000-000000000003  1  Changed  {\"n\":1}\n"), "{text}");
}

#[test]
fn following_prints_what_is_appended_by_others_until_interrupted() {
    followers_see_what_others_append(&filled());
}

pub fn followers_see_what_others_append(home: &Home) {
    let mut command = home.command(&["events", "tail", "-n", "1", "--follow", "--format", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        records(&line).remove(0)
    };
    assert_eq!(next()["aggregate_type"], "Cart");
    home.write("more.jsonl", line(2, 2, ""));
    home.ok(&["events", "import", "more.jsonl"]);
    let event = next();
    assert_eq!((&event["aggregate_type"], &event["aggregate_version"]), (&"Order".into(), &2.into()));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let told = format!("--after {} goes on from here", event["checkpoint"].as_str().unwrap());
    assert!(String::from_utf8(output.stderr).unwrap().contains(&told));
}
