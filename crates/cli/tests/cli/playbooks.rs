//! Playbooks by command: what goes in comes out, and is found.

use rstest::rstest;
use serde_json::{Map, Value};

use crate::common::{Home, real_data, records};

/// A line of import: a version of a playbook, with `more` members.
fn line(id: &str, version: &str, more: &str) -> String {
    let name: String = id.chars().take(9).collect();
    format!(
        r#"{{"playbook_id":"{id}","version":"{version}","name":"Name of {name}","description":"What to do about {id}","content":"{id} {version}"{more}}}"#
    )
}

fn filled(lines: &[String]) -> Home {
    let home = Home::new();
    home.write("p.jsonl", lines.join("\n"));
    home.ok(&["playbooks", "import", "p.jsonl"]);
    home
}

fn versions(home: &Home, id: &str) -> Vec<String> {
    let ran = home.ok(&["playbooks", "versions", id, "--format", "json"]);
    let shown = |version: &Map<String, Value>| {
        let mark = if version["is_latest_version"] == true { "*" } else { "" };
        format!("{}{mark}", version["version"].as_str().unwrap())
    };
    ran.objects().iter().map(shown).collect()
}

fn found(home: &Home, arguments: &[&str]) -> Vec<String> {
    let ran = home.ok(&[&["playbooks", "search", "--format", "json"], arguments].concat());
    ran.objects().iter().map(|found| found["playbook_id"].as_str().unwrap().to_owned()).collect()
}

/// Imports the real versions, compares them version by version, imports again.
pub fn real_versions_survive(home: &Home) {
    let text = real_data("retrieval_openshift/versions.jsonl", "playbooks_openshift_runbooks.jsonl");
    home.write("versions.jsonl", &text);
    let count = text.lines().count();
    let ran = home.ok(&["playbooks", "import", "versions.jsonl"]);
    assert_eq!(ran.out, format!("{count} stored, 0 stored before, 0 rejected\n"));

    let exported = home.ok(&["playbooks", "export"]).out;
    let all = records(&exported);
    let mut expected = records(&text);
    // The export goes by playbook; the versions of each keep their order.
    expected.sort_by(|a, b| a["playbook_id"].as_str().cmp(&b["playbook_id"].as_str()));
    assert_eq!(all.len(), expected.len());
    for (found, given) in all.iter().zip(&expected) {
        for (column, value) in given {
            let found = &found[column];
            if column == "created_at" {
                let parse = |value: &Value| changeover::Timestamp::parse(value.as_str().unwrap()).unwrap();
                assert_eq!(parse(found), parse(value));
            } else {
                assert_eq!(found, value, "{column} of {} {}", given["playbook_id"], given["version"]);
            }
        }
    }

    let again = home.ok(&["playbooks", "import", "versions.jsonl"]);
    assert_eq!(again.out, format!("0 stored, {count} stored before, 0 rejected\n"));
    assert_eq!(home.ok(&["playbooks", "export"]).out, exported, "a second import changes nothing");

    // P30: an export is an import for another tenant, and comes out the same but for the time it was stored at.
    home.write("all.jsonl", &exported);
    home.ok(&["playbooks", "import", "all.jsonl", "--tenant", "other"]);
    let without_time = |text: &str| {
        let mut all = records(text);
        for version in &mut all {
            version.remove("updated_at");
        }
        all
    };
    let theirs = home.ok(&["playbooks", "export", "--tenant", "other"]).out;
    assert_eq!(without_time(&theirs), without_time(&exported));

    // S3-PB-011, DEF-24: by meaning of the version; the newest is the latest.
    let last = expected.last().unwrap()["playbook_id"].as_str().unwrap().to_owned();
    let shown = versions(home, &last);
    assert!(shown[0].ends_with('*') && shown[1..].iter().all(|version| !version.ends_with('*')), "{shown:?}");
}

#[test]
fn real_versions_survive_sqlite() {
    real_versions_survive(&Home::new());
}

/// Bad lines among good ones: each is reported by number and reason, the good ones are stored.
pub fn bad_lines_are_rejected_by_number_and_reason(home: &Home) {
    let good = line("etcd", "v1.0.0", "");
    let lines = [
        good.clone(),
        "not json".to_owned(),                                     // 2
        line("etcd", "1.2", ""),                                   // 3, X-EDGE-071
        line("etcd", "v1.1.0", r#","content_hash":"00""#),         // 4, S3-PB-005
        line("etcd", "v1.1.0", r#","labels":{"":"x"}"#),           // 5, X-EDGE-069
        good.replace("What to do", "What not to do"),              // 6, S3-PB-006
        line(&"x".repeat(256), "v1.0.0", ""),                      // 7, X-EDGE-070
        line("etcd", "v1.1.0", r#","expected_success_rate":1.5"#), // 8, S3-PB-003
        line("etcd", "v1.1.0", r#","labels":{"a\u0000":"x"}"#),    // 9, X-EDGE-051
        String::new(),                                             // 10, blank
        line(&"y".repeat(255), "v1.0.0", ""),                      // X-EDGE-070
        line("etcd", "v1.10.0", r#","labels":{"a.b/c\"d":""}"#),   // X-EDGE-069
        line("etcd", "v1.9.0", ""),
    ];
    home.write("bad.jsonl", lines.join("\n"));
    let ran = home.run(&["playbooks", "import", "bad.jsonl"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert_eq!(ran.out, "4 stored, 0 stored before, 8 rejected, 1 blank lines skipped\n");
    let rejected: Vec<_> = ran.err.lines().filter(|line| line.contains("rejected: ")).collect();
    let expected = [
        "line 2 rejected: not JSON",
        "line 3 rejected: column version: ",
        "line 4 rejected: invalid: content_hash is not the SHA-256",
        "line 5 rejected: invalid: label key is empty",
        "line 6 rejected: already_exists: ",
        "line 7 rejected: playbook_id has 256 characters",
        "line 8 rejected: column expected_success_rate: ",
        "line 9 rejected: invalid: label key holds a NUL",
    ];
    assert_eq!(rejected.len(), expected.len(), "{}", ran.err);
    for (found, expected) in rejected.iter().zip(expected) {
        assert!(found.starts_with(expected), "{expected}\nbut\n{found}");
    }
    assert_eq!(versions(home, "etcd"), ["v1.10.0*", "v1.9.0", "v1.0.0"], "the highest is the latest");
    assert_eq!(found(home, &["etcd", "--label", "a.b/c\"d="]), ["etcd"]); // X-EDGE-069
    let again = home.run(&["playbooks", "import", "bad.jsonl", "--format", "json"]).objects();
    assert_eq!(again.len(), 9);
    assert_eq!((&again[8]["stored"], &again[8]["repeated"]), (&0.into(), &4.into()));
}

#[test]
fn bad_lines_are_rejected_on_sqlite() {
    bad_lines_are_rejected_by_number_and_reason(&Home::new());
}

// The corpus says nothing of which version is the latest: then the highest is.
#[test]
fn a_corpus_without_marks_can_be_searched() {
    let home = filled(&[line("a", "v1.2.0", ""), line("a", "v1.1.0", ""), line("b", "v1.0.0", "")]);
    assert_eq!(versions(&home, "a"), ["v1.2.0*", "v1.1.0"]);
    assert_eq!(found(&home, &["what to do"]).len(), 2);
    home.write("more.jsonl", line("a", "v1.10.0", ""));
    home.ok(&["playbooks", "import", "more.jsonl"]);
    assert_eq!(versions(&home, "a"), ["v1.10.0*", "v1.2.0", "v1.1.0"]);
}

// S3-PB-017 to S3-PB-020: labels, threshold, limit, order of equals.
#[test]
fn a_search_is_narrowed_by_labels_confidence_and_number() {
    let labelled = |id: &str, labels: &str| line(id, "v1.0.0", &format!(r#","labels":{{{labels}}}"#));
    let home = filled(&[
        labelled("b", r#""team":"x","tier":"1""#),
        labelled("a", r#""team":"x""#),
        labelled("c", r#""team":"y=z""#),
    ]);
    assert_eq!(found(&home, &["name"]), ["a", "b", "c"]); // S3-EDGE-030
    assert_eq!(found(&home, &["name", "--label", "team=x"]), ["a", "b"]);
    assert_eq!(found(&home, &["name", "--label", "team=x", "--label", "tier=1"]), ["b"]);
    assert_eq!(found(&home, &["name", "--label", "team=y=z"]), ["c"]);
    assert_eq!(found(&home, &["name", "--label", "team="]), [""; 0]);
    assert_eq!(found(&home, &["name", "--max-results", "1"]), ["a"]);
    assert_eq!(found(&home, &["name", "--min-confidence", "1"]), [""; 0]); // S3-EDGE-029
    assert_eq!(
        found(&home, &["name of a what to do about a", "--min-confidence", "0.9"]).first().unwrap(),
        "a"
    );
    let table = home.ok(&["playbooks", "search", "name", "--max-results", "1"]).out;
    let lines: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0], ["confidence", "playbook_id", "version", "name"]);
    assert_eq!(lines[1][1..], ["a", "v1.0.0", "Name", "of", "a"]);
    let json = &home.ok(&["playbooks", "search", "name", "--format", "json"]).objects()[0];
    let names: Vec<_> = json.keys().map(String::as_str).collect();
    assert_eq!(names, ["confidence", "description", "labels", "name", "playbook_id", "version"]);
    assert!((0.0..=1.0).contains(&json["confidence"].as_f64().unwrap())); // S3-PB-019
}

// S3-EDGE-019, S3-EDGE-021, X-EDGE-077: nothing stored, other scripts, a very long query.
#[rstest]
#[case("nothing")]
#[case("Größe 🚀 ディスク")]
#[case(&"word ".repeat(20_000))]
fn a_search_that_finds_nothing_is_no_failure(#[case] text: &str) {
    assert_eq!(found(&Home::new(), &[text]), [""; 0]);
}

// X-EDGE-072: what is not active is listed and not found.
#[test]
fn a_latest_version_that_is_disabled_is_listed_and_not_found() {
    let home = filled(&[line("a", "v1.0.0", ""), line("a", "v1.1.0", r#","status":"disabled""#)]);
    assert_eq!(found(&home, &["name"]), [""; 0]);
    let table = home.ok(&["playbooks", "versions", "a"]).out;
    let lines: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0], ["version", "latest", "status", "created_at", "created_by", "change_summary"]);
    assert_eq!(
        (&lines[1][..3], &lines[2][..2]),
        (&["v1.1.0", "latest", "disabled"][..], &["v1.0.0", "active"][..])
    );
}

#[test]
fn an_unknown_playbook_is_status_3() {
    let home = Home::new();
    for command in ["versions", "export"] {
        let ran = home.run(&["playbooks", command, "a%2Fb"]); // X-EDGE-070
        assert_eq!((ran.status, ran.out.as_str()), (3, ""), "{ran:?}");
        assert!(ran.err.contains("not_found"), "{}", ran.err);
    }
}

// A playbook of which no version is the latest is exported when it is named.
#[test]
fn an_export_can_name_playbooks() {
    let home = filled(&[line("a", "v1.0.0", r#","is_latest_version":false"#), line("b", "v1.0.0", "")]);
    let ids = |arguments: &[&str]| -> Vec<String> {
        let ran = home.ok(&[&["playbooks", "export"], arguments].concat());
        ran.objects().iter().map(|version| version["playbook_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&[]), ["b"]);
    assert_eq!(ids(&["a", "b"]), ["a", "b"]);
}

#[test]
fn a_history_of_another_store_is_not_taken_over_in_silence() {
    let home = Home::new();
    home.write("p.jsonl", line("a", "v1.0.0", r#","total_executions":7,"deprecation_notice":"use b""#));
    let ran = home.ok(&["playbooks", "import", "p.jsonl"]);
    assert_eq!(ran.out, "1 stored, 0 stored before, 0 rejected\n");
    assert!(
        ran.err.contains("1 lines tell when and why a version was disabled or deprecated"),
        "{}",
        ran.err
    );
}
