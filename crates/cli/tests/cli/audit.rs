//! Audit records by command: what goes in comes out, what is asked for is found, what is old goes.

use std::io::Write;
use std::process::Stdio;

use rstest::rstest;
use serde_json::{Map, Value};

use crate::common::{Home, Ran, real_data, records};

const FILES: [&str; 3] =
    ["audit_kubernetes_falco.jsonl", "audit_github_webhooks.jsonl", "audit_cloudtrail_panther.jsonl"];

fn id(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// A line of import: the record of this number, with `more` members.
pub fn line(number: u32, more: &str) -> String {
    format!(
        r#"{{"event_id":"{}","event_type":"order.placed","event_category":"workflow","event_outcome":"success","event_timestamp":"2024-01-01T00:00:{:02}Z","service_name":"shop","actor_type":"user","resource_type":"order","resource_id":"{number}","event_data":{{"n":{number}}}{more}}}"#,
        id(number),
        number % 60
    )
}

fn import(home: &Home, lines: &[String]) -> Ran {
    home.write("a.jsonl", lines.join("\n"));
    home.run(&["audit", "import", "a.jsonl"])
}

fn export(home: &Home) -> Vec<Map<String, Value>> {
    home.ok(&["audit", "export"]).objects()
}

/// The ids that a query prints, as the number of the record.
fn found(home: &Home, arguments: &[&str]) -> Vec<u32> {
    let ran = home.ok(&[&["audit", "query", "--format", "json"], arguments].concat());
    ran.objects().iter().map(|event| event["event_id"].as_str().unwrap()[24..].parse().unwrap()).collect()
}

/// Numbers in the one spelling they are stored in, the time with six digits.
fn as_stored(record: &Map<String, Value>) -> Map<String, Value> {
    let mut record = record.clone();
    for column in ["event_data", "metadata"] {
        let json = changeover::Json::parse(&record[column].to_string()).unwrap();
        record.insert(column.to_owned(), serde_json::from_str(json.as_str()).unwrap());
    }
    let at = changeover::Timestamp::parse(record["event_timestamp"].as_str().unwrap()).unwrap();
    record.insert("event_timestamp".to_owned(), at.to_string().into());
    record
}

/// Imports the three real files, compares record by record, imports again.
pub fn real_records_survive(home: &Home) {
    let mut expected = Vec::new();
    for name in FILES {
        let text = real_data(name, name);
        home.write(name, &text);
        let ran = home.ok(&["audit", "import", name]);
        let count = text.lines().count();
        assert_eq!(ran.out, format!("{count} stored, 0 stored before, 0 rejected\n"));
        expected.extend(records(&text));
    }
    let first = export(home);
    assert_eq!(first.len(), expected.len());
    for (found, given) in first.iter().zip(&expected) {
        assert_eq!(found.len(), 20, "the columns of the table, no others"); // S3-AUD-001
        assert_eq!(*found, as_stored(given), "record by record, in the order of the files"); // S3-AUD-020
    }
    for name in FILES {
        let again = home.ok(&["audit", "import", name]);
        assert!(
            again.out.starts_with("0 stored, ") && again.out.ends_with(", 0 rejected\n"),
            "{}",
            again.out
        );
    }
    assert_eq!(export(home), first, "a second import changes nothing"); // S3-AUD-027

    // An export is an import for another tenant, and comes out the same.
    let text = home.ok(&["audit", "export"]).out;
    home.write("all.jsonl", &text);
    home.ok(&["audit", "import", "all.jsonl", "--tenant", "other"]);
    assert_eq!(home.ok(&["audit", "export", "--tenant", "other"]).out, text);

    // S3-AUD-024: what belongs together comes together; its chain holds.
    let correlation = "111122223333";
    let of = |record: &&Map<String, Value>| record["correlation_id"] == correlation;
    let count = expected.iter().filter(of).count();
    let arguments =
        ["audit", "query", "--correlation-id", correlation, "--limit", "1000", "--format", "json"];
    assert_eq!(home.ok(&arguments).objects().len(), count);
    let chain = home.ok(&["audit", "verify", correlation, "--format", "json"]).objects().remove(0);
    assert_eq!((&chain["holds"], &chain["events"]), (&true.into(), &count.into()));
}

#[test]
fn real_records_survive_sqlite() {
    real_records_survive(&Home::new());
}

/// Bad lines among good ones: each is reported by number and reason, the good ones are stored.
pub fn bad_lines_are_rejected_by_number_and_reason(home: &Home) {
    let mut text = Vec::new();
    for bytes in [
        line(1, "").into_bytes(),
        b"{\"event_type\":\"\xff\"}".to_vec(),     // 2, X-EDGE-052
        b"not json".to_vec(),                      // 3
        line(2, r#","metadata":[]"#).into_bytes(), // 4
        line(2, "").replace(&id(2), "nonsense").into_bytes(), // 5, X-EDGE-060
        line(2, "").replace("order.placed", "").into_bytes(), // 6, S3-EDGE-001
        line(2, "").replace("order.placed", &"x".repeat(101)).into_bytes(), // 7, S3-EDGE-006
        line(2, r#","event_date":"2024-01-02""#).into_bytes(), // 8, S3-AUD-003
        line(2, "").replace("2024-01-01", "2124-01-01").into_bytes(), // 9, S3-EDGE-007
        line(2, "").replace("2024-01-01", "1969-12-31").into_bytes(), // 10
        line(1, "").replace("shop", "another").into_bytes(), // 11, X-EDGE-061: an id that is taken
        line(3, &format!(r#","parent_event_id":"{}""#, id(3))).into_bytes(), // 12, X-EDGE-062
        line(4, &format!(r#","parent_event_id":"{}""#, id(99))).into_bytes(), // 13, X-EDGE-062, S3-AUD-028
        b"  ".to_vec(),                            // 14, blank
        line(5, r#","colour":"red""#).into_bytes(), // 15
        line(6, "").into_bytes(),
        line(7, "").into_bytes(),
    ] {
        text.extend(bytes);
        text.extend(b"\r\n");
    }
    home.write("bad.jsonl", text);
    let ran = home.run(&["audit", "import", "bad.jsonl"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert_eq!(ran.out, "3 stored, 0 stored before, 13 rejected, 1 blank lines skipped\n");
    let rejected: Vec<_> = ran.err.lines().filter(|line| line.contains("rejected: ")).collect();
    let expected = [
        "line 2 rejected: not UTF-8",
        "line 3 rejected: not JSON",
        "line 4 rejected: metadata is not a JSON object",
        "line 5 rejected: event_id is not a UUID",
        "line 6 rejected: event_type is empty",
        "line 7 rejected: event_type has 101 characters, at most 100 are allowed",
        "line 8 rejected: event_date is \"2024-01-02\", the UTC date of the event_timestamp is 2024-01-01",
        "line 9 rejected: invalid: audit event 00000000-0000-4000-8000-000000000002: event_timestamp is 2124-01-01",
        "line 10 rejected: invalid: audit event 00000000-0000-4000-8000-000000000002: event_timestamp is 1969-12-31",
        "line 11 rejected: already_exists: ",
        "line 12 rejected: invalid: audit event 00000000-0000-4000-8000-000000000003 names itself as its parent",
        "line 15 rejected: unknown column \"colour\"",
        // A parent may stand later in the file, so this is known at its end.
        "line 13 rejected: not_found: its parent 00000000-0000-4000-8000-000000000099 is not stored",
    ];
    assert_eq!(rejected.len(), expected.len(), "{}", ran.err);
    for (found, expected) in rejected.iter().zip(expected) {
        assert!(found.starts_with(expected), "{expected}\nbut\n{found}");
    }
    assert_eq!(found(home, &["--order", "recorded"]), [1, 6, 7]);

    let json = home.run(&["audit", "import", "bad.jsonl", "--format", "json"]);
    assert_eq!(json.status, 3);
    let objects = json.objects();
    assert_eq!(objects.len(), 14);
    let counts = ["stored", "repeated", "rejected", "blank"].map(|name| objects[13][name].as_u64());
    assert_eq!(counts, [Some(0), Some(3), Some(13), Some(1)]);
}

#[test]
fn bad_lines_are_rejected_on_sqlite() {
    bad_lines_are_rejected_by_number_and_reason(&Home::new());
}

/// S3-AUD-028: a parent that stands later in the file costs no record; each comes right after its parent.
pub fn parents_may_stand_later(home: &Home) {
    let child = |number, parent| line(number, &format!(r#","parent_event_id":"{}""#, id(parent)));
    // 3 waits for 2, which waits for 1; 5 waits in vain, and 6 for it; 8 is a child of what is stored already.
    let lines = [child(3, 2), child(2, 1), line(4, ""), child(6, 5), child(5, 99), line(1, ""), child(8, 4)];
    let ran = import(home, &lines);
    assert_eq!((ran.status, ran.out.as_str()), (3, "5 stored, 0 stored before, 2 rejected\n"), "{ran:?}");
    let told = |number: u32, parent| {
        format!("line {number} rejected: not_found: its parent {} is not stored", id(parent))
    };
    assert!(ran.err.contains(&told(4, 5)) && ran.err.contains(&told(5, 99)), "{}", ran.err);
    let mut recorded = found(home, &["--order", "recorded"]);
    let place = |number| recorded.iter().position(|found| *found == number).unwrap();
    assert!(place(1) < place(2) && place(2) < place(3), "{recorded:?}");
    recorded.sort_unstable();
    assert_eq!(recorded, [1, 2, 3, 4, 8]);

    let again = import(home, &lines);
    assert_eq!((again.status, again.out.as_str()), (3, "0 stored, 5 stored before, 2 rejected\n"));
}

#[test]
fn parents_may_stand_later_on_sqlite() {
    parents_may_stand_later(&Home::new());
}

// More than fit one write, all in the wrong order, from standard input, which cannot be read twice.
#[test]
fn a_long_chain_of_parents_in_the_wrong_order_is_stored() {
    let home = Home::new();
    let child = |number| line(number, &format!(r#","parent_event_id":"{}""#, id(number - 1)));
    let mut lines: Vec<_> = (2..=700).rev().map(child).collect();
    lines.push(line(1, ""));
    let mut command = home.command(&["audit", "import", "-"]);
    let mut importing = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    importing.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    let output = importing.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "700 stored, 0 stored before, 0 rejected\n");
    assert_eq!(found(&home, &["--order", "recorded", "--limit", "1000"]), (1..=700).collect::<Vec<_>>());
}

fn filled() -> Home {
    let home = Home::new();
    let plain = |number| line(number, "");
    let lines = [
        plain(1).replace("order.placed", "order.shipped"),
        plain(2).replace("workflow", "ai"),
        plain(3).replace("success", "failure"),
        plain(4).replace("\"shop\"", "\"store\""),
        plain(5).replace("\"user\"", "\"system\""),
        line(6, r#","actor_id":"%""#),
        plain(7).replace("\"order\"", "\"basket\""),
        line(8, r#","correlation_id":"c_1'\\""#),
        plain(9),
    ];
    assert_eq!(import(&home, &lines).status, 0);
    home
}

// S3-AUD-021, DEF-17: every filter holds, alone and together; text is literal (X-EDGE-068).
#[rstest]
#[case(&["--type", "order.shipped"], &[1])]
#[case(&["--type", "order.%"], &[])] // X-EDGE-068
#[case(&["--category", "ai"], &[2])]
#[case(&["--outcome", "failure"], &[3])]
#[case(&["--service", "store"], &[4])]
#[case(&["--actor-type", "system"], &[5])]
#[case(&["--actor-id", "%"], &[6])] // X-EDGE-068
#[case(&["--resource-type", "basket"], &[7])]
#[case(&["--resource-id", "8"], &[8])]
#[case(&["--correlation-id", "c_1'\\"], &[8])] // X-EDGE-068
#[case(&["--correlation-id", "c11'\\"], &[])] // X-EDGE-068
#[case(&["--start", "2024-01-01T00:00:08Z"], &[9, 8])]
#[case(&["--end", "2024-01-01T01:00:02+01:00"], &[1])]
#[case(&["--start", "2024-01-01T00:00:02Z", "--end", "2024-01-01T00:00:04Z"], &[3, 2])]
#[case(&["--start", "24h"], &[])] // S3-HTTP-003
#[case(&["--start", "9999999d", "--end", "30m", "--outcome", "failure", "--service", "shop"], &[3])]
#[case(&["--outcome", "failure", "--service", "store"], &[])]
#[case(&["--limit", "2"], &[9, 8])]
#[case(&["--limit", "2", "--offset", "3"], &[6, 5])]
#[case(&["--offset", "9"], &[])] // X-EDGE-064
#[case(&["--order", "oldest", "--limit", "2"], &[1, 2])]
#[case(&["--order", "recorded", "--limit", "2"], &[1, 2])]
fn every_filter_holds(#[case] arguments: &[&str], #[case] expected: &[u32]) {
    assert_eq!(found(&filled(), arguments), expected);
}

// S3-AUD-022: pages joined give what one query gives; a span before now still means the same on the next page.
#[rstest]
#[case(&["--order", "newest"])]
#[case(&["--order", "oldest"])]
#[case(&["--order", "recorded", "--start", "9999d"])]
fn pages_go_on_where_the_last_one_ended(#[case] arguments: &[&str]) {
    let home = filled();
    let all = found(&home, arguments);
    assert_eq!(all.len(), 9);
    let mut arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let mut joined = Vec::new();
    loop {
        let list: Vec<_> = arguments.iter().map(String::as_str).chain(["--limit", "4"]).collect();
        joined.extend(found(&home, &list));
        let told = home.ok(&[&["audit", "query"], &list[..]].concat()).err;
        let Some(options) = told.lines().find_map(|line| line.strip_prefix("more match: ")) else { break };
        let options = options.strip_suffix(" goes on from here").unwrap();
        arguments.truncate(2);
        arguments.extend(options.split(' ').map(str::to_owned));
    }
    assert_eq!(joined, all);
}

#[test]
fn a_query_is_a_table_for_people_and_counts() {
    let home = filled();
    let table = home.ok(&["audit", "query", "--limit", "1"]).out;
    let lines: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(
        lines[0],
        ["event_timestamp", "event_type", "outcome", "service", "actor", "resource", "event_id"]
    );
    assert_eq!(
        lines[1],
        ["2024-01-01T00:00:09Z", "order.placed", "success", "shop", "user", "order", "9", &id(9)]
    );
    assert_eq!(home.ok(&["audit", "query", "--count"]).out, "9\n");
    let counted = home.ok(&["audit", "query", "--count", "--outcome", "failure", "--format", "json"]);
    assert_eq!(counted.objects()[0]["count"], 1);
    let stored = &home.ok(&["audit", "query", "--limit", "1", "--format", "json"]).objects()[0];
    assert!(stored["recorded_at"].is_string() && stored["sequence"].is_number() && stored.len() == 22);
}

// A page of another query, and a range that ends before it begins, are wrong usage.
#[test]
fn options_that_contradict_each_other_are_wrong_usage() {
    let home = filled();
    let told = home.ok(&["audit", "query", "--limit", "1"]).err;
    let token = told.split_whitespace().skip_while(|word| *word != "--page").nth(1).unwrap().to_owned();
    let other = home.run(&["audit", "query", "--page", &token, "--outcome", "failure"]);
    assert_eq!((other.status, other.out.as_str()), (2, ""), "{other:?}");
    let inverted = home.run(&["audit", "query", "--start", "1h", "--end", "2h"]); // X-EDGE-067
    assert_eq!((inverted.status, inverted.out.as_str()), (2, ""), "{inverted:?}");
    assert!(inverted.err.contains("is after end"), "{}", inverted.err);
}

// A35 by command: what an export told goes on where it ended.
#[test]
fn an_export_goes_on_where_the_last_one_ended() {
    let home = filled();
    let first = home.ok(&["audit", "export"]);
    assert_eq!(first.objects().len(), 9);
    let page = first.err.split("--page ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    assert_eq!(home.ok(&["audit", "export", "--page", &page]).out, "");
    import(&home, &[line(10, ""), line(9, "")]);
    let more = home.ok(&["audit", "export", "--page", &page]).objects();
    assert_eq!(more.len(), 1);
    assert_eq!(more[0]["resource_id"], "10");
    assert_eq!(home.ok(&["audit", "export", "--category", "ai"]).objects().len(), 1);
}

/// X-AUD-031, X-EDGE-119: dry run first; only what is due and has a rule goes; again nothing.
pub fn what_is_old_is_removed(home: &Home) {
    let recent =
        changeover::Timestamp::from_micros(changeover::Timestamp::now().as_micros() - 60_000_000).unwrap();
    let mut lines: Vec<_> = (1..=25).map(|number| line(number, "")).collect();
    lines.push(line(26, "").replace("2024-01-01T00:00:26Z", &recent.to_string()));
    lines.push(line(27, "").replace("workflow", "ai"));
    lines.push(line(28, r#","correlation_id":"c""#).replace("2024-01-01", "2024-02-01"));
    assert_eq!(import(home, &lines).status, 0);

    let keep = ["audit", "retain", "--keep", "workflow=30"];
    let unsure = home.run(&keep);
    assert_eq!((unsure.status, unsure.out.as_str()), (2, ""));
    assert!(unsure.err.contains("--dry-run") && unsure.err.contains("--yes"), "{}", unsure.err);
    let dry = home.ok(&[&keep[..], &["--dry-run", "--format", "json"]].concat()).objects();
    assert_eq!(
        (&dry[0]["category"], &dry[0]["removed"], &dry[0]["dry_run"]),
        (&"workflow".into(), &26.into(), &true.into())
    );
    assert_eq!(home.ok(&["audit", "query", "--count"]).out, "28\n", "a dry run removes nothing");

    let done = home.ok(&[&keep[..], &["--keep", "gateway=1", "--yes", "--limit", "7"]].concat());
    let words: Vec<Vec<_>> = done.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        words[..3],
        [vec!["category", "days", "removed"], vec!["workflow", "30", "26"], vec!["gateway", "1", "0"]]
    );
    assert_eq!(found(home, &["--order", "recorded"]), [26, 27]);
    let again = home.ok(&[&keep[..], &["--yes", "--format", "json"]].concat()).objects();
    assert_eq!(again[0]["removed"], 0);
    assert_eq!(home.ok(&["audit", "verify", "c", "--format", "json"]).objects()[0]["holds"], true);
}

#[test]
fn what_is_old_is_removed_on_sqlite() {
    what_is_old_is_removed(&Home::new());
}

#[test]
fn sqlite_has_no_partitions_and_says_so() {
    let home = Home::new();
    for arguments in [&["audit", "partitions"][..], &["audit", "partitions", "--create"]] {
        let ran = home.ok(arguments);
        assert_eq!(ran.out, "");
        assert!(ran.err.contains("there are no partitions: sqlite"), "{}", ran.err);
    }
}

// X-AUD-030: who changes a record past the store is found out.
#[test]
fn a_broken_chain_is_status_3() {
    let home = Home::new();
    let lines: Vec<_> = (1..=3).map(|number| line(number, r#","correlation_id":"c""#)).collect();
    assert_eq!(import(&home, &lines).status, 0);
    let held = home.ok(&["audit", "verify", "c"]).out;
    assert!(held.starts_with("the chain of c holds: 3 records, its last link is "), "{held}");
    assert_eq!(home.ok(&["audit", "verify", "nothing"]).out, "the chain of nothing holds: 0 records\n");
    home.sqlite(
        "DROP TRIGGER audit_events_no_update; UPDATE audit_events SET actor_name = 'somebody else' WHERE resource_id = '2'",
    );
    let broken = home.run(&["audit", "verify", "c"]);
    assert_eq!((broken.status, broken.out.as_str()), (3, ""));
    assert!(broken.err.contains(&format!("the chain of c is broken at event {}: ", id(2))), "{}", broken.err);
    let json = home.run(&["audit", "verify", "c", "--format", "json"]);
    assert_eq!(json.status, 3);
    assert_eq!(
        (&json.objects()[0]["holds"], &json.objects()[0]["broken_at"]),
        (&false.into(), &id(2).into())
    );
}

// X-EDGE-086: the tenant of the command line is the one whose records are meant.
#[test]
fn tenants_see_their_own_records_only() {
    let home = filled();
    assert_eq!(found(&home, &["--tenant", "acme'; drop table audit_events --"]), [0; 0]);
    assert_eq!(home.ok(&["audit", "export", "--tenant", "other"]).out, "");
    home.ok(&["audit", "retain", "--keep", "workflow=1", "--yes", "--tenant", "other"]);
    assert_eq!(found(&home, &[]).len(), 9);
}

// A module of the user's own has an audit trail of its own.
#[test]
fn modules_have_trails_of_their_own() {
    let home = filled();
    home.write("b.jsonl", line(1, ""));
    home.ok(&["audit", "import", "b.jsonl", "--module", "orders"]);
    assert_eq!(found(&home, &["--module", "orders"]), [1]);
    assert_eq!(found(&home, &[]).len(), 9);
}
