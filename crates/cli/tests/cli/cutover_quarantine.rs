//! Rows that cannot be moved as they are: planned, left out, looked at, decided about.

use std::fmt::Write as _;

use changeover_testkit::TestDatabase;
use serde_json::json;

use crate::common::Home;

const LEGACY: &str = include_str!("../../../sqlite/tests/legacy.sql");

/// Streams 1 to 3 of legacy programs with three events each, and one bad event in each.
pub async fn legacy() -> (TestDatabase, Home) {
    let db = TestDatabase::empty().await.unwrap();
    let home = Home::between(db.url());
    home.ok(&["migrate", "up", "--backend", "main", "--module", "events"]);
    std::fs::create_dir(home.path().join("var")).unwrap();
    home.sqlite(LEGACY);
    for stream in 1..=3 {
        let id = format!("00000000-0000-4000-8000-{stream:012}");
        home.sqlite(&format!(
            "INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id, version) VALUES ('{id}', 'Order', '{id}', 3)"
        ));
        for version in 1..=3 {
            home.sqlite(&format!(
                "INSERT INTO domain_event (event_id, stream_id, event_type, event_version, aggregate_version, event_data)
                 VALUES ('00000000-0000-4000-9000-{stream:06}{version:06}', '{id}', 'Changed', 1, {version}, '{{\"n\":{version}}}')"
            ));
        }
    }
    home.sqlite(
        "UPDATE domain_event SET event_type = CAST(x'50ff00' AS TEXT) WHERE rowid = 2;
         UPDATE domain_event SET occurred_at = '2024-02-31 00:00:00', event_data = '{' WHERE rowid = 5;
         UPDATE domain_event SET event_data = CAST(x'7b22' AS TEXT) || 'a\":\"<b>\\u0000\"}' WHERE rowid = 8;",
    );
    (db, home)
}

#[tokio::test]
async fn the_plan_shows_each_bad_value_by_table_column_key_and_bytes() {
    let (_db, home) = legacy().await;
    let plan = home.run(&["cutover", "plan", "events", "--format", "json"]);
    assert_eq!(plan.status, 3, "{plan:?}");
    assert!(plan.err.contains("3 rows would stay out"), "{}", plan.err);
    let found: Vec<_> = plan
        .objects()
        .iter()
        .filter(|it| it["treatment"] == "quarantine")
        .map(|it| json!([it["table"], it["key"], it["column"], it["hazard"], it["sample_hex"]]))
        .collect();
    let hex = |text: &str| {
        text.bytes().fold(String::new(), |mut digits, byte| {
            write!(digits, "{byte:02x}").unwrap();
            digits
        })
    };
    for expected in [
        json!(["domain_event", "2", "event_type", 16, "50ff00"]),
        json!(["domain_event", "5", "event_data", 20, "7b"]),
        json!(["domain_event", "5", "occurred_at", 25, hex("2024-02-31 00:00:00")]),
        json!(["domain_event", "8", "event_data", 14, hex(r#"{"a":"<b>\u0000"}"#)]),
    ] {
        assert!(found.contains(&expected), "{expected} in {found:?}");
    }
    assert_eq!(found.len(), 4);
    let table = home.run(&["cutover", "plan", "events"]);
    let first = table.out.lines().nth(1).unwrap();
    assert!(
        first.starts_with("domain_event") && first.contains("50ff00") && first.contains("quarantine"),
        "{first}"
    );
    assert_eq!(home.ok(&["cutover", "plan", "events", "--max-quarantined", "3"]).status, 0);
    assert_eq!(home.sqlite_number("SELECT count(*) FROM sqlite_master WHERE name LIKE '__cut%'"), 0);
}

#[tokio::test]
async fn a_run_stops_for_quarantined_rows_and_goes_on_when_they_are_decided_about() {
    let (db, home) = legacy().await;
    let stopped = home.run(&["cutover", "run", "events"]);
    assert_eq!(stopped.status, 3, "{stopped:?}");
    assert!(stopped.err.contains("quarantine list events --decision undecided"), "{}", stopped.err);
    let quarantine = |arguments: &[&str]| home.run(&[&["cutover", "quarantine"], arguments].concat());
    let listed = quarantine(&["list", "events", "--format", "json"]).objects();
    assert_eq!(listed.len(), 3);
    assert!(
        listed.iter().all(|row| row["decision"] == "undecided" && row["table"] == "domain_event"),
        "{listed:?}"
    );
    let id = |rowid: &str| {
        let found = listed.iter().find(|row| row["key"][0]["content"] == rowid).unwrap();
        found["id"].to_string()
    };
    let (bytes, twice, nul) = (id("2"), id("5"), id("8"));

    let shown = quarantine(&["show", "events", &bytes]);
    assert!(shown.out.contains("50ff00") && shown.out.contains("hazard 16"), "{}", shown.out);
    let shown = quarantine(&["show", "events", &twice]);
    assert!(
        shown.out.contains("hazard 20") && shown.out.contains("hazard 25"),
        "every reason: {}",
        shown.out
    );
    assert!(shown.out.contains("2024-02-31 00:00:00"), "as text: {}", shown.out);
    assert_eq!(quarantine(&["show", "events", "999"]).status, 3);
    assert_eq!(quarantine(&["approve", "events", &nul, "999"]).status, 3);
    assert_eq!(
        quarantine(&["list", "events", "--decision", "approved", "--format", "json"]).out,
        "",
        "all or none"
    );

    let half = quarantine(&["repair", "events", &twice, "--set", "event_data={}"]);
    assert_eq!(half.status, 3, "{half:?}");
    assert!(half.err.contains("occurred_at") && half.err.contains("hazard 25"), "{}", half.err);
    let unknown = quarantine(&["repair", "events", &twice, "--set", "color=red"]);
    assert!(unknown.status == 3 && unknown.err.contains("no column"), "{unknown:?}");
    let repaired = quarantine(&[
        "repair",
        "events",
        &twice,
        "--set",
        "event_data={\"n\":2}",
        "--set",
        "occurred_at=2024-02-29T00:00:00Z",
    ]);
    assert_eq!(repaired.status, 0, "{repaired:?}");
    assert_eq!(quarantine(&["approve", "events", &bytes]).status, 0);
    assert_eq!(quarantine(&["reject", "events", &nul]).status, 0);
    assert_eq!(home.run(&["cutover", "run", "events"]).status, 3, "one is rejected");
    // Corrected where it is.
    home.sqlite("UPDATE domain_event SET event_data = '{\"a\":0}' WHERE rowid = 8");
    let run = home.ok(&["cutover", "run", "events", "--who", "ann"]);
    assert!(run.err.contains("postgres takes writes"), "{}", run.err);
    let moved = db
        .query("SELECT position, event_data::text FROM event_store.domain_event ORDER BY position", &[])
        .await
        .unwrap();
    let moved: Vec<(i64, String)> = moved.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(moved.len(), 8, "all but the one that was approved to stay out");
    assert!(
        moved.contains(&(5, "{\"n\": 2}".into())) && moved.contains(&(8, "{\"a\": 0}".into())),
        "{moved:?}"
    );
    let stream = "Order/00000000-0000-4000-8000-000000000001";
    let gap = home
        .command(&["events", "read", stream, "--format", "json"])
        .env("CHANGEOVER_PERSISTENCE__EVENTS", "main")
        .output()
        .unwrap();
    assert!(gap.status.success(), "{gap:?}");
    let events = crate::common::records(&String::from_utf8(gap.stdout).unwrap());
    let versions: Vec<_> = events.iter().map(|it| it["aggregate_version"].clone()).collect();
    assert_eq!(versions, [1, 3], "the stream has a gap where the row was approved to stay out");
    home.ok(&["cutover", "report", "events", "--out", "evidence"]);
    home.ok(&["cutover", "report", "events", "--against", "evidence/manifest.json"]);
    let page = std::fs::read_to_string(home.path().join("evidence/report.html")).unwrap();
    assert!(page.contains("50ff00") && page.contains("approved") && page.contains("ann"), "{page}");
}

#[tokio::test]
async fn as_many_rows_as_were_allowed_stay_out_without_being_asked_about() {
    let (_db, home) = legacy().await;
    assert_eq!(home.run(&["cutover", "run", "events", "--max-quarantined", "2"]).status, 3);
    home.ok(&["cutover", "abort", "events"]);
    home.ok(&["cutover", "run", "events", "--max-quarantined", "3"]);
    let listed = home.ok(&["cutover", "quarantine", "list", "events", "--format", "json"]).objects();
    assert!(listed.len() == 3 && listed.iter().all(|row| row["decision"] == "approved"), "{listed:?}");
}
