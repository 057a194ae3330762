//! Import and export: what goes in comes out, and nothing is rejected without its number and the reason.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rstest::rstest;

use crate::common::{Home, Ran, as_imported, line, real_streams, records};

/// Imports both real files, compares, imports again.
pub fn real_streams_survive(home: &Home) {
    let files = real_streams();
    let mut expected = Vec::new();
    for (name, text) in ["one.jsonl", "two.jsonl"].into_iter().zip(&files) {
        home.write(name, text);
        let ran = home.ok(&["events", "import", name]);
        let count = text.lines().count();
        assert_eq!(ran.out, format!("{count} stored, 0 stored before, 0 rejected\n"));
        expected.extend(records(text));
    }
    for record in &mut expected {
        record.remove("global_order").unwrap();
    }
    let first = home.export();
    assert_eq!(as_imported(first.clone()), expected, "record by record, in the order of the files");

    let count = files[0].lines().count();
    let again = home.ok(&["events", "import", "one.jsonl"]);
    assert_eq!(again.out, format!("0 stored, {count} stored before, 0 rejected\n"));
    assert_eq!(home.export(), first, "a second import changes nothing");

    // An export is an import for somebody else, ids included.
    let other = home.write("all.jsonl", home.ok(&["events", "export"]).out);
    let ran = home.ok(&["events", "import", "--tenant", "default", other.to_str().unwrap()]);
    assert_eq!(ran.out, format!("0 stored, {} stored before, 0 rejected\n", expected.len()));
}

#[test]
fn real_streams_survive_sqlite() {
    real_streams_survive(&Home::new());
}

/// Bad lines among good ones: each is reported by number and reason, the good ones are stored.
pub fn bad_lines_are_rejected_by_number_and_reason(home: &Home) {
    let id = r#","event_id":"9b2f6f0e-0000-4000-8000-000000000001""#;
    let mut text = Vec::new();
    for bytes in [
        line(1, 1, id).into_bytes(),
        b"{\"aggregate_type\":\"\xff\"}".to_vec(),    // 2, X-EDGE-052
        b"not json".to_vec(),                         // 3
        line(1, 2, r#","metadata":[]"#).into_bytes(), // 4
        line(1, 2, r#","event_id":"nonsense""#).into_bytes(), // 5, X-EDGE-060
        line(1, 2, r#","occurred_at":"2016-12-31T23:59:60Z""#).into_bytes(), // 6, X-EDGE-053
        line(1, 2, "").replace("Changed", "a\\u0000b").into_bytes(), // 7, X-EDGE-051
        line(1, 2, "").replace("Changed", &"x".repeat(256)).into_bytes(), // 8
        line(1, 2, "").replace(r#""aggregate_version":2,"#, "").into_bytes(), // 9, S0-ES-019
        line(1, 9, "").into_bytes(),                  // 10, X-EDGE-078: a gap
        line(1, 1, "").into_bytes(),                  // 11, a version that is taken
        line(2, 1, id).into_bytes(),                  // 12, X-EDGE-061: an id that is taken
        b"  ".to_vec(),                               // 13, blank
        line(1, 2, r#","colour":"red""#).into_bytes(), // 14
        line(1, 2, "").into_bytes(),
        line(2, 1, "").into_bytes(),
    ] {
        text.extend(bytes);
        text.extend(b"\r\n");
    }
    home.write("bad.jsonl", text);
    let ran = home.run(&["events", "import", "bad.jsonl"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert_eq!(ran.out, "3 stored, 0 stored before, 12 rejected, 1 blank lines skipped\n");
    let rejected: Vec<_> = ran.err.lines().filter(|line| line.contains("rejected: ")).collect();
    let expected = [
        "line 2 rejected: not UTF-8",
        "line 3 rejected: not JSON",
        "line 4 rejected: metadata is not an object",
        "line 5 rejected: event_id is not a UUID",
        "line 6 rejected: occurred_at: ",
        "line 7 rejected: event_type holds a NUL",
        "line 8 rejected: event_type has 256 characters, at most 255 are allowed",
        "line 9 rejected: field aggregate_version is missing",
        "line 10 rejected: version_conflict: aggregate_version is 9, stream Order/00000000-0000-4000-8000-000000000001 \
         is at version 1; the next version is 2",
        "line 11 rejected: version_conflict: aggregate_version is 1, stream Order/00000000-0000-4000-8000-000000000001 \
         is at version 1; another event has that version",
        "line 12 rejected: already_exists: ",
        "line 14 rejected: unknown field \"colour\"",
    ];
    assert_eq!(rejected.len(), expected.len(), "{}", ran.err);
    for (found, expected) in rejected.iter().zip(expected) {
        assert!(found.starts_with(expected), "{expected}\nbut\n{found}");
    }
    let stored: Vec<_> =
        home.export().iter().map(|e| (e["aggregate_id"].clone(), e["aggregate_version"].clone())).collect();
    let of = |stream: u32| format!("00000000-0000-4000-8000-{stream:012}");
    assert_eq!(stored, [(of(1).into(), 1.into()), (of(1).into(), 2.into()), (of(2).into(), 1.into())]);

    let json = home.run(&["events", "import", "bad.jsonl", "--format", "json"]);
    assert_eq!(json.status, 3);
    let objects = json.objects();
    assert_eq!(objects.len(), 13);
    assert_eq!((&objects[0]["line"], objects[0]["rejected"].is_string()), (&2.into(), true));
    let counts: Vec<_> =
        ["stored", "repeated", "rejected", "blank"].map(|name| objects[12][name].as_u64()).into();
    assert_eq!(counts, [Some(0), Some(3), Some(12), Some(1)]);
}

#[test]
fn bad_lines_are_rejected_on_sqlite() {
    bad_lines_are_rejected_by_number_and_reason(&Home::new());
}

// An event that is stored elsewhere in its stream is not counted as stored at the version of the line.
#[test]
fn an_event_stored_at_another_version_is_rejected() {
    let home = Home::new();
    let id = r#","event_id":"9b2f6f0e-0000-4000-8000-000000000002""#;
    let second = line(1, 2, id);
    home.write("a.jsonl", format!("{}\n{second}\n", line(1, 1, "")));
    home.ok(&["events", "import", "a.jsonl"]);
    home.write("b.jsonl", second.replace(r#""aggregate_version":2"#, r#""aggregate_version":1"#));
    let ran = home.run(&["events", "import", "b.jsonl"]);
    assert_eq!(ran.status, 3);
    assert!(ran.err.contains("is stored already at version 2; the line says version 1"), "{}", ran.err);
}

#[test]
fn the_order_of_the_file_is_the_order_of_the_log() {
    let home = Home::new();
    let order = [(1, 1), (2, 1), (1, 2), (3, 1), (3, 2), (2, 2), (1, 3)];
    let text: Vec<_> = order.iter().map(|(stream, version)| line(*stream, *version, "")).collect();
    home.write("mixed.jsonl", text.join("\n"));
    home.ok(&["events", "import", "mixed.jsonl"]);
    let ids = |records: Vec<serde_json::Map<_, serde_json::Value>>| -> Vec<String> {
        records
            .iter()
            .map(|record| format!("{} {}", record["aggregate_id"], record["aggregate_version"]))
            .collect()
    };
    assert_eq!(ids(home.export()), ids(records(&text.join("\n"))));
}

#[test]
fn standard_input_is_imported_for_the_tenant_that_is_named() {
    let home = Home::new();
    let mut command = home.command(&["events", "import", "-", "--tenant", "acme; drop table x --"]); // X-EDGE-086
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("\u{feff}{}", line(1, 1, "")).as_bytes()).unwrap(); // X-EDGE-108
    assert_eq!(child.wait_with_output().unwrap().stdout, b"1 stored, 0 stored before, 0 rejected\n");
    assert_eq!(home.export().len(), 0, "another tenant sees nothing");
    let theirs = home.ok(&["events", "export", "--tenant", "acme; drop table x --"]);
    assert_eq!(theirs.objects().len(), 1);
}

#[rstest]
#[case("none.jsonl", "none.jsonl: the file cannot be read")]
#[case(".", ".: a directory")]
fn a_file_that_cannot_be_read_is_wrong_usage(#[case] file: &str, #[case] expected: &str) {
    let ran = Home::new().run(&["events", "import", file]);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains(expected), "{}", ran.err);
}

// An interrupted import ends between two appends and goes on when it is run again.
#[test]
fn an_interrupted_import_is_resumed_by_running_it_again() {
    let home = Home::new();
    let mut command = home.command(&["events", "import", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let text: Vec<_> = (1..=1_200).map(|version| line(1, version, "")).collect();
    let text = text.join("\n") + "\n";
    let mut input = child.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    // The input stays open, so the import waits for more when the signal comes.
    thread::sleep(Duration::from_secs(3));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    drop(input);
    let ran = Ran {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    assert_eq!((ran.status, ran.out.as_str()), (1, "1000 stored, 0 stored before, 0 rejected\n"), "{ran:?}");
    assert!(ran.err.contains("run the same command again to go on"), "{}", ran.err);
    home.write("all.jsonl", text);
    let again = home.ok(&["events", "import", "all.jsonl"]);
    assert_eq!(again.out, "200 stored, 1000 stored before, 0 rejected\n");
    assert_eq!(home.export().len(), 1_200);
}
