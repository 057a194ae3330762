//! Every data hazard in a real file: found with its number, column and treatment, and its neighbours unharmed.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::collections::BTreeSet;

use changeover_core::Json;
use changeover_core::backend::Family;
use changeover_core::cutover::{CutoverSource, Table};
use changeover_cutover::convert::{Accepted, Loss};
use changeover_cutover::declare;
use changeover_cutover::hazards::{self, Kind, Treatment};
use changeover_cutover::plan::{Plan, PlanProgress, Terms, plan};
use support::{Declared, File, scope, source, tenant};

/// One thing that is found: table, key, column, hazard, treatment.
type Found = (&'static str, String, &'static str, u16, Treatment);

const Q: Treatment = Treatment::Quarantine;
const C: Treatment = Treatment::Convert;

async fn planned(source: &dyn CutoverSource, tables: &[Table], terms: Terms) -> Plan {
    let mut told: Vec<PlanProgress> = Vec::new();
    let made = plan(source, &Declared, tables, &terms, &mut |at| told.push(at)).await.unwrap();
    assert!(!told.is_empty(), "a plan tells how far it has come");
    made
}

/// Small chunks, so that rows lie at the ends of them.
fn terms() -> Terms {
    Terms { chunk_rows: 3, ..Terms::new(tenant()) }
}

/// Exactly these, in whatever order; and the rows that stay out are those of the findings.
fn assert_found(plan: &Plan, expected: &[Found]) {
    let found: BTreeSet<_> = plan
        .findings
        .iter()
        .map(|it| (it.table.as_str(), it.key.clone(), it.column.as_str(), it.hazard, it.treatment))
        .collect();
    let expected: BTreeSet<_> = expected.iter().cloned().collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    let extra: Vec<_> = found.difference(&expected).collect();
    assert!(missing.is_empty() && extra.is_empty(), "not found: {missing:#?}\nfound beside: {extra:#?}");
    let out: BTreeSet<_> =
        plan.findings.iter().filter(|it| it.treatment == Q).map(|it| (&it.table, &it.key)).collect();
    assert_eq!(plan.quarantined(), out.len() as u64);
}

const STREAM: &str = "00000000-0000-4000-8000-000000000001";

fn uuid(number: usize) -> String {
    format!("0000000a-0000-4000-8000-{number:012}")
}

/// Event `number` of [`STREAM`], with one column set to what SQL says.
fn event(file: &File, number: usize, column: &str, value: &str) {
    let id = uuid(number);
    file.run(&format!(
        "INSERT INTO domain_event (rowid, event_id, stream_id, event_type, event_version, aggregate_version,
             event_data, metadata, occurred_at)
         VALUES ({number}, '{id}', '{STREAM}', 'Placed', 1, {number}, '{{\"a\":1}}', '{{}}', '2024-01-31T12:00:00Z');
         UPDATE domain_event SET {column} = {value} WHERE rowid = {number};"
    ));
}

/// Column, value as SQL, hazard, treatment.
const EVENTS: &[(&str, &str, u16, Treatment)] = &[
    ("event_version", "'one'", 1, Q),
    ("event_version", "x'31'", 1, Q),
    ("event_id", "NULL", 3, Q),
    ("metadata", "NULL", 3, C),
    ("event_version", "0", 5, Q),
    ("event_version", "2147483648", 5, Q),
    ("event_version", "2.5", 6, Q),
    ("aggregate_version", "9223372036854775808", 6, Q),
    ("event_data", r#"'{"a":[1,-0.0]}'"#, 10, Q),
    ("event_version", "'0x10'", 11, Q),
    ("event_type", "'a'||char(0)||'b'", 13, Q),
    ("event_data", "'{}'||char(0)", 13, Q),
    ("event_data", r#"'{"a":"\u0000"}'"#, 14, Q),
    ("event_data", r#"'{"a":"\ud800"}'"#, 15, Q),
    ("event_type", "CAST(x'61ff' AS TEXT)", 16, Q),
    ("event_data", "CAST(x'22ff22' AS TEXT)", 16, Q),
    ("event_type", "x'61'", 18, Q),
    ("event_data", r#"'{"a":1,"\u0061":2}'"#, 19, Q),
    ("event_data", "'{a:1}'", 20, Q),
    ("event_data", "x'7b7d'", 20, Q),
    ("event_data", "'null'", 20, Q),
    ("metadata", "'[]'", 20, Q),
    ("event_data", "'[1e2000]'", 21, Q),
    ("occurred_at", "'2024-01-31T12:00:00'", 22, Q),
    ("occurred_at", "'2024-01-31 12:00:00'", 22, C),
    ("occurred_at", "'1700000000'", 23, Q),
    ("occurred_at", "2460341.5", 23, Q),
    ("occurred_at", "x'32'", 23, Q),
    ("occurred_at", "'2024-01-31T12:00:00.1234567Z'", 24, Q),
    ("occurred_at", "'2024-02-31T12:00:00Z'", 25, Q),
    ("occurred_at", "'2016-12-31T23:59:60Z'", 25, Q),
    ("occurred_at", "'yesterday'", 25, Q),
    ("occurred_at", "'2024-01-31T24:00:00Z'", 26, Q),
    ("occurred_at", "'0000-01-01T00:00:00Z'", 27, Q),
    ("occurred_at", "'10000-01-01T00:00:00Z'", 27, Q),
    ("occurred_at", "'0001-01-01T00:00:00+01:00'", 27, Q),
    ("occurred_at", "'2024-01-31T12:00:00+05:30'", 28, C),
    ("event_type", "printf('%.256c', 'x')", 29, Q),
    ("event_type", "''", 33, Q),
    ("stream_id", "'00000000-0000-4000-8000-00000000000f'", 47, Q),
    ("causation_id", "'0000000A-0000-4000-8000-000000000001'", 57, C),
    ("causation_id", "'{0000000a-0000-4000-8000-000000000001}'", 57, Q),
    ("causation_id", "'nobody'", 57, Q),
    ("causation_id", "x'0000000a00004000800000000000000f'", 58, Q),
];

/// What lies in the events file, and what a plan finds of it.
async fn events() -> (File, Plan, Vec<Found>) {
    let file = File::legacy();
    file.run(&format!(
        "INSERT INTO event_stream VALUES ('{STREAM}', 'Order', '{STREAM}', '2024-01-31 12:00:00', 0)"
    ));
    let mut expected: Vec<Found> = vec![("event_stream", format!("{STREAM:?}"), "created_at", 22, C)];
    for (at, (column, value, hazard, treatment)) in EVENTS.iter().enumerate() {
        // A good row before each bad one.
        event(&file, 2 * at + 1, "event_version", "1");
        event(&file, 2 * at + 2, column, value);
        expected.push(("domain_event", (2 * at + 2).to_string(), column, *hazard, *treatment));
    }
    // Hazard 35: a key that is null; the type of the stream makes it another row.
    file.run("INSERT INTO event_stream VALUES (NULL, 'Bad', '00000000-0000-4000-8000-000000000002', '2024-01-31T12:00:00Z', 0)");
    expected.push(("event_stream", "null".into(), "stream_id", 35, Q));
    // Hazard 36: an id in two spellings.
    event(&file, 1_000, "event_id", "'0000000A-0000-4000-8000-000000000001'");
    expected.push(("domain_event", "1000".into(), "event_id", 57, C));
    expected.push(("domain_event", "1".into(), "event_id", 36, Q));
    expected.push(("domain_event", "1000".into(), "event_id", 36, Q));
    // Hazard 49: a version twice.
    event(&file, 1_001, "aggregate_version", "3");
    expected.push(("domain_event", "3".into(), "stream_id, aggregate_version", 49, Q));
    expected.push(("domain_event", "1001".into(), "stream_id, aggregate_version", 49, Q));
    let open = file.migrated("events", Family::Events).await;
    let source = source(&*open, "events");
    let tables = declare::ours(Family::Events, true, &scope("events"));
    let plan = planned(&*source, &tables, terms()).await;
    (file, plan, expected)
}

// Hazards 1-3, 5, 6, 10, 11, 13-16, 18-29, 33, 35, 36, 47, 49, 57, 58.
#[tokio::test(flavor = "multi_thread")]
async fn every_bad_value_of_events_is_found_with_number_column_and_treatment_and_its_neighbours_are_not() {
    let (_file, plan, expected) = events().await;
    assert_found(&plan, &expected);
    assert!(!plan.refuses(), "{:?}", plan.lacks);
    let events = plan.tables.iter().find(|table| table.name == "domain_event").unwrap();
    assert_eq!(events.rows, 2 * EVENTS.len() as u64 + 2);
    let versions = events.columns.iter().find(|it| it.column == "event_version").unwrap();
    assert_eq!((versions.classes["text"], versions.classes["blob"], versions.classes["real"]), (2, 1, 1));
    let times = events.columns.iter().find(|it| it.column == "occurred_at").unwrap();
    assert_eq!((times.forms["RFC 3339 with an offset"], times.forms["digits"]), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_are_json_lines_with_the_bytes_of_the_value() {
    let (_file, plan, _) = events().await;
    let lines = plan.to_json_lines().unwrap();
    assert_eq!(lines.lines().count(), plan.findings.len());
    let nul = lines.lines().find(|line| line.contains(r#""hazard":13"#)).unwrap();
    assert_eq!(
        nul,
        r#"{"column":"event_type","found":"holds a NUL character at byte 1","hazard":13,"key":"22","sample_hex":"610062","table":"domain_event","treatment":"quarantine"}"#
    );
    Json::parse(plan.summary().unwrap().as_str()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_lists_so_many_of_a_kind_and_counts_all() {
    let file = File::legacy();
    file.run(&format!(
        "INSERT INTO event_stream VALUES ('{STREAM}', 'Order', '{STREAM}', '2024-01-31T12:00:00Z', 0)"
    ));
    for number in 1..=9 {
        event(&file, number, "event_type", "''");
    }
    let open = file.migrated("events", Family::Events).await;
    let tables = declare::ours(Family::Events, true, &scope("events"));
    let plan = planned(&*source(&*open, "events"), &tables, Terms { listed: 4, ..terms() }).await;
    assert_eq!(plan.findings.len(), 4);
    assert_eq!(plan.counts.values().copied().collect::<Vec<_>>(), [9]);
    assert_eq!(plan.quarantined(), 9);
}

// Amendment 6: what was accepted by name is converted and counted, and nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_was_accepted_by_name_is_converted_and_counted() {
    let (file, before, _) = events().await;
    let open = file.open().await;
    let tables = declare::ours(Family::Events, true, &scope("events"));
    let accepted = Accepted::of(&[Loss::JsonDuplicateKeys, Loss::SubMicroseconds]);
    let after = planned(&*source(&*open, "events"), &tables, Terms { accepted, ..terms() }).await;
    assert_eq!(after.quarantined() + 2, before.quarantined());
    let of = |plan: &Plan, treatment: Treatment| -> BTreeSet<(String, u16)> {
        plan.findings
            .iter()
            .filter(|it| it.treatment == treatment)
            .map(|it| (it.key.clone(), it.hazard))
            .collect()
    };
    let moved: Vec<_> = of(&before, Q).difference(&of(&after, Q)).map(|(_, hazard)| *hazard).collect();
    assert_eq!(moved.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&19, &24]));
    let converted: Vec<_> = of(&after, C).difference(&of(&before, C)).map(|(_, hazard)| *hazard).collect();
    assert_eq!(converted.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&19, &24]));
}

fn audit(file: &File, number: usize, column: &str, value: &str) {
    let id = uuid(number);
    file.run(&format!(
        "INSERT INTO audit_events (rowid, event_id, event_type, event_category, event_outcome, event_timestamp, event_date,
             service_name, actor_type, resource_type, resource_id)
         VALUES ({number}, '{id}', 'a.b', 'a', 'success', '2024-01-31T12:00:00Z', '2024-01-31', 's', 'user', 'r', '1');
         UPDATE audit_events SET {column} = {value} WHERE rowid = {number};"
    ));
}

const AUDIT: &[(&str, &str, u16, Treatment)] = &[
    ("event_outcome", "'ok'", 29, Q),
    ("actor_type", "'User'", 29, Q),
    ("event_timestamp", "'1706702400'", 23, Q),
    ("event_timestamp", "'2024-01-31 12:00:00'", 22, Q),
    ("event_date", "'2024-02-01'", 25, Q),
    ("event_date", "'31.01.2024'", 25, Q),
    ("event_data", "'[]'", 20, Q),
    ("actor_id", "''", 33, Q),
    ("parent_event_id", "'0000000a-0000-4000-8000-00000000ffff'", 47, Q),
    ("parent_event_id", "event_id", 47, Q),
    ("correlation_id", "printf('%.256c', 'x')", 29, Q),
    ("metadata", "NULL", 3, C),
    // The parent is there, in the other case.
    ("parent_event_id", "'0000000A-0000-4000-8000-000000000001'", 57, C),
];

// Hazards 3, 20, 22, 23, 25, 27-29, 33, 47, 57.
#[tokio::test(flavor = "multi_thread")]
async fn every_bad_value_of_the_audit_trail_is_found() {
    let file = File::legacy();
    let mut expected: Vec<Found> = Vec::new();
    for (at, (column, value, hazard, treatment)) in AUDIT.iter().enumerate() {
        audit(&file, 2 * at + 1, "event_type", "'a.b'");
        audit(&file, 2 * at + 2, column, value);
        expected.push(("audit_events", (2 * at + 2).to_string(), column, *hazard, *treatment));
    }
    // The date as the time is written, which is another one in UTC.
    audit(&file, 100, "event_timestamp", "'2024-01-31T01:00:00+02:00'");
    expected.push(("audit_events", "100".into(), "event_timestamp", 28, C));
    expected.push(("audit_events", "100".into(), "event_date", 28, C));
    audit(&file, 101, "event_timestamp", "'1969-12-31T12:00:00Z', event_date = '1969-12-31'");
    expected.push(("audit_events", "101".into(), "event_timestamp", 27, Q));
    let notification = |id: usize, status: &str, sent: &str| {
        file.run(&format!(
            "INSERT INTO notification_audit (id, notification_id, recipient, channel, status, sent_at)
             VALUES ({id}, 'n-{id}', 'me', 'email', {status}, {sent})"
        ));
    };
    notification(1, "'sent'", "'2024-01-31T12:00:00Z'");
    notification(2, "'lost'", "'2024-01-31T12:00:00Z'");
    notification(3, "'sent'", "'noon'");
    expected.push(("notification_audit", "2".into(), "status", 29, Q));
    expected.push(("notification_audit", "3".into(), "sent_at", 25, Q));
    let tables = declare::ours(Family::Audit, true, &scope("audit"));
    let plan = planned(&*file.source("audit").await, &tables, terms()).await;
    assert_found(&plan, &expected);
    assert!(!plan.refuses());
}

fn playbook(file: &File, number: usize, column: &str, value: &str) {
    file.run(&format!(
        "INSERT INTO playbook_catalog (playbook_id, version, name, description, content, content_hash, labels)
         VALUES ('p{number:03}', '1.0.0', 'n', 'd', 'abc',
             'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', '{{\"a\":\"b\"}}');
         UPDATE playbook_catalog SET created_at = '2024-01-31T12:00:00Z', updated_at = '2024-01-31T12:00:00Z',
             {column} = {value} WHERE playbook_id = 'p{number:03}';"
    ));
}

const PLAYBOOKS: &[(&str, &str, u16, Treatment)] = &[
    ("is_latest_version", "2", 2, Q),
    ("is_latest_version", "'t'", 2, Q),
    ("total_executions", "NULL", 3, Q),
    ("expected_success_rate", "'high'", 1, Q),
    ("expected_success_rate", "0.3055", 7, Q),
    ("expected_success_rate", "9e999", 9, Q),
    ("actual_success_rate", "1.5", 29, Q),
    ("expected_duration_seconds", "-1", 5, Q),
    ("expected_duration_seconds", "2.5", 6, Q),
    ("embedding", "zeroblob(1535)", 29, Q),
    ("embedding", "'none'", 18, Q),
    ("embedding", "CAST(x'0000807f' || zeroblob(1532) AS BLOB)", 9, Q),
    ("labels", r#"'{"a":1}'"#, 20, Q),
    ("content_hash", "'00'", 64, Q),
    ("content", "'abd'", 64, Q),
    ("status", "'on'", 29, Q),
    ("disabled_reason", "'why'", 29, Q),
    ("successful_executions", "1", 29, Q),
    ("previous_version", "'first'", 29, Q),
    ("approved_at", "'2024-01-31 12:00:00'", 22, C),
    ("name", "''", 33, Q),
];

// Hazards 1-3, 5-7, 9, 18, 20, 22, 29, 33, 49, 59, 64.
#[tokio::test(flavor = "multi_thread")]
async fn every_bad_value_of_the_playbooks_is_found() {
    let file = File::legacy();
    let mut expected: Vec<Found> = Vec::new();
    let key = |number: usize| format!("\"p{number:03}\", \"1.0.0\"");
    for (at, (column, value, hazard, treatment)) in PLAYBOOKS.iter().enumerate() {
        playbook(&file, 2 * at + 1, "is_latest_version", "1");
        playbook(&file, 2 * at + 2, column, value);
        let found = if *column == "content" { "content_hash" } else { column };
        expected.push(("playbook_catalog", key(2 * at + 2), found, *hazard, *treatment));
    }
    // Hazard 59: more bytes than the new store takes, in fewer characters.
    playbook(&file, 100, "content", "replace(printf('%.2100000c', 'x'), 'x', 'é')");
    expected.push(("playbook_catalog", key(100), "content", 59, Q));
    expected.push(("playbook_catalog", key(100), "content_hash", 64, Q));
    // Hazard 49: two that are marked latest.
    for version in ["2.0.0", "3.0.0"] {
        playbook(&file, 101, "version", &format!("'{version}', is_latest_version = 1"));
        file.run(&format!("UPDATE playbook_catalog SET playbook_id = 'twice' WHERE version = '{version}'"));
        expected.push(("playbook_catalog", format!("\"twice\", {version:?}"), "playbook_id", 49, Q));
    }
    let tables = declare::ours(Family::Playbooks, true, &scope("playbooks"));
    let plan = planned(&*file.source("playbooks").await, &tables, terms()).await;
    assert_found(&plan, &expected);
}

/// The example of the guide with a table of the user's own.
fn invoice() -> Vec<Table> {
    let guide = include_str!("../../../docs/guides/cutover-declarations.md");
    let toml = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    declare::parse(toml, "the guide").unwrap().tables
}

const INVOICES: &[(&str, &str, u16, Treatment)] = &[
    ("amount", "12.345", 7, Q),
    ("amount", "'-0.00'", 10, Q),
    ("amount", "'007'", 11, Q),
    ("note", "5", 12, Q),
    ("note", "1.5", 12, Q),
    ("paid", "'yes'", 2, Q),
    ("due_ms", "1706702400", 23, Q),
    ("due_ms", "'soon'", 23, Q),
    ("rate", "9e999", 9, Q),
    ("rate", "'0x10'", 11, Q),
    ("token", "'0000000a-0000-4000-8000-000000000001'", 58, Q),
    ("token", "x'0000'", 58, Q),
    ("picture", "'text'", 18, Q),
];

// Hazards 2, 7, 9-12, 18, 23, 56, 58. Amendment 4: a user's own table.
#[tokio::test(flavor = "multi_thread")]
async fn every_bad_value_of_a_table_of_the_users_own_is_found() {
    // No affinity: SQLite keeps what it is given.
    let file = File::of(
        "CREATE TABLE invoice (number TEXT PRIMARY KEY, amount, note, paid, due_ms, rate, token BLOB, picture BLOB)",
    );
    let insert = |key: &str| {
        file.run(&format!(
            "INSERT INTO invoice VALUES ({key}, '12.30', 'n', 1, 1706702400000, 0.5, x'0000000a000040008000000000000001', x'00')"
        ));
    };
    let mut expected: Vec<Found> = Vec::new();
    for (at, (column, value, hazard, treatment)) in INVOICES.iter().enumerate() {
        insert(&format!("'good{at:02}'"));
        insert(&format!("'bad{at:02}'"));
        file.run(&format!("UPDATE invoice SET {column} = {value} WHERE number = 'bad{at:02}'"));
        expected.push(("invoice", format!("\"bad{at:02}\""), column, *hazard, *treatment));
    }
    let long = "x".repeat(3_000);
    insert(&format!("'{long}'"));
    expected.push(("invoice", format!("{long:?}"), "number", 56, Q));
    let plan = planned(&*file.source("events").await, &invoice(), terms()).await;
    assert_found(&plan, &expected);
}

#[test]
fn the_files_above_hold_every_data_hazard() {
    let listed = [EVENTS, AUDIT, PLAYBOOKS, INVOICES].into_iter().flatten().map(|(_, _, hazard, _)| *hazard);
    // By the tests themselves.
    let planted: BTreeSet<_> = listed.chain([35, 36, 49, 56, 59]).collect();
    let data: BTreeSet<_> =
        hazards::ALL.iter().filter(|it| it.kind == Kind::Data).map(|it| it.number).collect();
    assert_eq!(planted, data);
}
