//! A whole file of legacy programs: all of its tables, thousands of rows, bad values of every sort; served as it is while
//! an old program goes on writing.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use changeover_core::audit::{AuditFilter, AuditOrder, AuditQuery, AuditRepository};
use changeover_core::events::{EventStore, HeadOf, ReadStream, StreamId};
use changeover_core::playbooks::{
    GetPlaybook, HashingEmbedder, ListPlaybooks, Lookup, PlaybookCatalog, Query, Search, VersionsOf,
};
use changeover_core::{Detail, Error, ErrorKind, Limit, OpenBackend, Text, Timestamp, Uuid, sha256_hex};
use common::{File, audit, pages, playbooks, store, text};
use diesel::connection::SimpleConnection;

const STREAMS: u128 = 200;
const AUDIT: i64 = 3_000;
const PLAYBOOKS: usize = 300;

/// What is done to one row each: `UPDATE <table> SET <this> WHERE <key>`, and the column that is named for it.
const BAD_EVENTS: &[(&str, &str)] = &[
    ("event_type = CAST(x'50ff' AS TEXT)", "event_type"),
    ("event_data = '{'", "event_data"),
    ("event_data = '\"\\ud800\"'", "event_data"),
    ("occurred_at = 1700000000", "occurred_at"),
    ("occurred_at = '2024-02-31 00:00:00'", "occurred_at"),
    ("causation_id = 'none'", "causation_id"),
    ("event_version = 'one'", "event_version"),
    ("metadata = x'7b7d'", "metadata"),
];
const BAD_AUDIT: &[(&str, &str)] = &[
    ("event_type = CAST(x'00ff' AS TEXT)", "event_type"),
    ("event_outcome = 'ok'", "event_outcome"),
    ("event_timestamp = '1700000000'", "event_timestamp"),
    ("event_timestamp = '2024-02-30T00:00:00Z'", "event_timestamp"),
    ("event_timestamp = '2024-02-01 00:00:00'", "event_timestamp"),
    ("event_date = '1999-01-01'", "event_date"),
    ("service_name = ''", "service_name"),
    ("actor_id = printf('%.*c', 256, 'x')", "actor_id"),
    ("event_data = '[]'", "event_data"),
    ("event_data = '{\"a\":\"\\u0000\"}'", "event_data"),
    ("parent_event_id = '99999999-0000-4000-8000-000000000000'", "parent_event_id"),
    ("metadata = '{'", "metadata"),
];
const BAD_PLAYBOOKS: &[(&str, &str)] = &[
    ("is_latest_version = 't'", "is_latest_version"),
    ("is_latest_version = 'true'", "is_latest_version"),
    ("is_latest_version = 2", "is_latest_version"),
    ("content = content || 'x'", "content_hash"),
    ("labels = 'none'", "labels"),
    ("embedding = x'0000'", "embedding"),
    ("actual_success_rate = 1.5", "actual_success_rate"),
    ("total_executions = NULL", "total_executions"),
    ("updated_at = 'yesterday'", "updated_at"),
    ("status = 'on'", "status"),
];

fn stream_of(index: u128) -> StreamId {
    StreamId::new("Order", Uuid::from_u128(0xaaaa_0000_0000_4000_8000_0000_0000_0000 + index)).unwrap()
}

fn audit_id(index: i64) -> Uuid {
    let index = u128::try_from(index).unwrap();
    Uuid::from_u128(0xbbbb_0000_0000_4000_8000_0000_0000_0000 + index * 7_919 % 1_000_003)
}

/// Times rise and fall along the recorded order.
fn audit_time(index: i64) -> Timestamp {
    let start = Timestamp::parse("2023-06-01T00:00:00Z").unwrap().as_micros();
    Timestamp::from_micros(start + index * 104_729 % 1_000_003 * 60_000_000).unwrap()
}

/// With different offsets, as different programs wrote it.
fn written(at: Timestamp, index: i64) -> String {
    let minutes = [0, 330, -300][usize::try_from(index % 3).unwrap()];
    let local = Timestamp::from_micros(at.as_micros() + minutes * 60_000_000).unwrap().to_string();
    match minutes {
        330 => local.replace('Z', "+05:30"),
        -300 => local.replace('Z', "-05:00"),
        _ => local,
    }
}

fn audit_row(index: i64) -> String {
    let (id, at) = (audit_id(index), audit_time(index));
    let id = if index % 4 == 0 { id.to_string().to_uppercase() } else { id.to_string() };
    let parent = if index > 100 && index % 50 == 7 { format!("'{}'", audit_id(50)) } else { "NULL".into() };
    let time = written(at, index);
    let date = if index % 2 == 0 { at.to_string()[..10].to_owned() } else { time[..10].to_owned() };
    format!(
        "('{id}', 'pod.created', '{}', 'success', '{time}', '{date}', 'svc', 'user', 'Pod', 'pod-{}', 'c-{}', {parent}, '{{}}')",
        if index % 2 == 0 { "kubernetes" } else { "workflow" },
        index % 40,
        index / 10,
    )
}

const AUDIT_COLUMNS: &str = "INSERT INTO audit_events (event_id, event_type, event_category, event_outcome,
    event_timestamp, event_date, service_name, actor_type, resource_type, resource_id, correlation_id, parent_event_id,
    event_data) VALUES ";

fn playbook_row(index: usize, minor: usize, latest: bool) -> String {
    let content = format!("steps {index}");
    let hash = sha256_hex(content.as_bytes());
    let vector: String = HashingEmbedder::vector(&format!("playbook {index}"))
        .as_slice()
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
    let vector = if index.is_multiple_of(3) { "NULL".to_owned() } else { format!("x'{vector}'") };
    format!(
        "('pb-{index:03}', 'v1.{minor}.0', 'Playbook {index}', 'What to do', '{content}', '{hash}',
         '{{\"group\":\"g{}\"}}', {vector}, {})",
        index % 30,
        i32::from(latest)
    )
}

/// By table the key and column of every bad value.
type Bad = BTreeMap<&'static str, BTreeSet<(String, String)>>;

/// The file, and what is bad in it.
fn legacy_file() -> (File, Bad) {
    let file = File::legacy();
    let mut sql = String::from("BEGIN;");
    for index in 0..STREAMS {
        let id = stream_of(index).aggregate_id;
        write!(
            sql,
            "INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id, version) VALUES ('{}', 'Order', '{id}', 5);",
            Uuid::from_u128(0xcccc_0000_0000_4000_8000_0000_0000_0000 + index)
        )
        .unwrap();
        for version in 1..=5_u128 {
            write!(
                sql,
                "INSERT INTO domain_event (event_id, stream_id, event_type, event_version, aggregate_version, event_data)
                 VALUES ('{}', '{}', 'Placed', 1, {version}, '{{\"n\": 1.0}}');",
                Uuid::from_u128(0xdddd_0000_0000_4000_8000_0000_0000_0000 + index * 10 + version),
                Uuid::from_u128(0xcccc_0000_0000_4000_8000_0000_0000_0000 + index),
            )
            .unwrap();
        }
    }
    for index in 0..AUDIT {
        write!(sql, "{AUDIT_COLUMNS}{};", audit_row(index)).unwrap();
    }
    for index in 0..PLAYBOOKS {
        let columns = "INSERT INTO playbook_catalog (playbook_id, version, name, description, content, content_hash, labels,
            embedding, is_latest_version) VALUES ";
        let rows = [9, 10].map(|minor| playbook_row(index, minor, minor == 10)).join(", ");
        write!(sql, "{columns}{rows};").unwrap();
    }
    for index in 0..50 {
        write!(
            sql,
            "INSERT INTO notification_audit (notification_id, recipient, channel, status, sent_at)
             VALUES ('n{index}', 'r', 'mail', 'sent', '2023-01-01 00:00:00');"
        )
        .unwrap();
    }
    let mut bad: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (number, (change, column)) in (10..).zip(BAD_EVENTS) {
        let id = Uuid::from_u128(0xdddd_0000_0000_4000_8000_0000_0000_0000 + number * 10 + 3).to_string();
        write!(sql, "UPDATE domain_event SET {change} WHERE event_id = '{id}';").unwrap();
        bad.entry("domain_event").or_default().insert((id, (*column).to_owned()));
    }
    for (number, (change, column)) in (201..).step_by(4).zip(BAD_AUDIT) {
        let id = audit_id(number).to_string();
        write!(sql, "UPDATE audit_events SET {change} WHERE event_id = '{id}';").unwrap();
        bad.entry("audit_events").or_default().insert((id, (*column).to_owned()));
    }
    for (number, (change, column)) in (20..).zip(BAD_PLAYBOOKS) {
        let key = format!("playbook_id = 'pb-{number:03}' AND version = 'v1.10.0'");
        write!(sql, "UPDATE playbook_catalog SET {change} WHERE {key};").unwrap();
        bad.entry("playbook_catalog")
            .or_default()
            .insert((format!("pb-{number:03} v1.10.0"), (*column).into()));
    }
    sql.push_str("COMMIT");
    file.raw(&sql);
    (file, bad)
}

fn named(error: &Error) -> (String, String) {
    let Some(Detail::Row { key, column, .. }) = error.detail() else { panic!("{error}") };
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    (key.clone(), column.clone())
}

/// The schema of the legacy tables, and every row of them with the storage classes of its values.
fn legacy_part(file: &File) -> String {
    let legacy = "tbl_name NOT LIKE '\\_%' ESCAPE '\\' AND tbl_name NOT LIKE 'changeover%'";
    let list = |what: &str, from: &str| text(file, &format!("SELECT group_concat({what}, ';') FROM {from}"));
    let mut all = list("sql", &format!("(SELECT sql FROM sqlite_master WHERE {legacy} ORDER BY name)"));
    let tables = list("name", &format!("(SELECT name FROM sqlite_master WHERE {legacy} AND type = 'table')"));
    for table in tables.split(';') {
        let value = r#"'typeof("' || name || '") || hex("' || name || '")'"#;
        let columns = list(value, &format!("pragma_table_info('{table}')")).replace(';', " || ',' || ");
        let rows =
            list("row", &format!("(SELECT rowid || ':' || {columns} AS row FROM {table} ORDER BY rowid)"));
        assert!(!rows.is_empty(), "{table} is empty");
        write!(all, "{table}: {rows}").unwrap();
    }
    all
}

/// Reads every stream; names the bad ones.
async fn look_at_events(events: &dyn EventStore) -> (usize, BTreeSet<(String, String)>) {
    let (mut good, mut bad) = (0, BTreeSet::new());
    for index in 0..STREAMS {
        match events.read_stream(ReadStream::all(stream_of(index))).await {
            Ok(page) => good += page.events.len(),
            Err(error) => drop(bad.insert(named(&error))),
        }
    }
    (good, bad)
}

/// Reads every event by its id; names the bad ones.
async fn look_at_audit(audit: &dyn AuditRepository) -> (BTreeSet<Uuid>, BTreeSet<(String, String)>) {
    let (mut good, mut bad) = (BTreeSet::new(), BTreeSet::new());
    for index in 0..AUDIT {
        match audit.get(audit_id(index)).await {
            Ok(found) => {
                let event = found.unwrap().event;
                assert_eq!(event.event_timestamp, audit_time(index));
                good.insert(event.event_id);
            }
            Err(error) => drop(bad.insert(named(&error))),
        }
    }
    (good, bad)
}

async fn look_at_playbooks(catalog: &dyn PlaybookCatalog) -> (usize, BTreeSet<(String, String)>) {
    let (mut good, mut bad) = (0, BTreeSet::new());
    for index in 0..PLAYBOOKS {
        let playbook_id: Text<255> = Text::new("id", format!("pb-{index:03}")).unwrap();
        let which = Lookup::Latest;
        match catalog.get(GetPlaybook { playbook_id: playbook_id.clone(), which }).await {
            Ok(found) => {
                assert_eq!(found.unwrap().playbook.version.as_str(), "v1.10.0");
                let all = VersionsOf { playbook_id, below: None, limit: Limit::default() };
                good += catalog.versions(all).await.unwrap().playbooks.len();
            }
            Err(error) => drop(bad.insert(named(&error))),
        }
    }
    (good, bad)
}

// Section 3 of the design, cutover.md's hazards: every bad value is named, everything else is served, by all stores, and
// nothing of the legacy tables is altered.
#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_file_is_served_as_it_is() {
    let (file, bad) = legacy_file();
    let before = legacy_part(&file);
    let open = file.open().await;
    let (events, audit, catalog) = (store(&open).await, audit(&open).await, playbooks(&open).await);

    let (good, found) = look_at_events(&*events).await;
    assert_eq!(&found, &bad["domain_event"]);
    assert_eq!(good, (usize::try_from(STREAMS).unwrap() - BAD_EVENTS.len()) * 5);

    let (good, found) = look_at_audit(&*audit).await;
    assert_eq!(&found, &bad["audit_events"]);
    assert_eq!(good.len(), usize::try_from(AUDIT).unwrap() - BAD_AUDIT.len());
    // Bad rows are of the other category, so this filter excludes them.
    let of_category = |category: &str| AuditFilter {
        event_category: Text::new("category", category).ok(),
        ..AuditFilter::default()
    };
    let filter = of_category("kubernetes");
    let mut expected: Vec<_> = (0..AUDIT).filter(|index| index % 2 == 0).collect();
    assert_eq!(audit.count(filter.clone()).await.unwrap(), expected.len() as u64);
    let query = AuditQuery { filter, ..AuditQuery::default() };
    expected.sort_by_key(|index| (std::cmp::Reverse(audit_time(*index)), audit_id(*index)));
    let newest = pages(&*audit, &query, 400).await;
    let ids = |all: &[changeover_core::audit::AuditEvent]| -> Vec<_> {
        all.iter().map(|found| found.event.event_id).collect()
    };
    assert_eq!(ids(&newest), expected.iter().map(|index| audit_id(*index)).collect::<Vec<_>>());
    let mut oldest =
        pages(&*audit, &AuditQuery { order: AuditOrder::OldestFirst, ..query.clone() }, 400).await;
    oldest.reverse();
    assert_eq!(oldest, newest);
    // A page that would hold a bad row names it; the pages before it are served.
    let all =
        AuditQuery { order: AuditOrder::Recorded, limit: Limit::new(201).unwrap(), ..AuditQuery::default() };
    let first = audit.query(all.clone()).await.unwrap();
    assert_eq!(first.events.len(), 201);
    let refused = audit.query(AuditQuery { page: first.next, ..all }).await.unwrap_err();
    assert_eq!(named(&refused), (audit_id(201).to_string(), "event_type".to_owned()));

    let (good, found) = look_at_playbooks(&*catalog).await;
    assert_eq!(&found, &bad["playbook_catalog"]);
    assert_eq!(good, (PLAYBOOKS - BAD_PLAYBOOKS.len()) * 2);
    let refused = catalog.list(ListPlaybooks::default()).await.unwrap_err();
    assert!(bad["playbook_catalog"].contains(&named(&refused)));
    let mut labels = BTreeMap::from([("group".to_owned(), "g5".to_owned())]);
    let search = |labels: &BTreeMap<String, String>| Search {
        query: Query::Text("playbook 35".into()),
        embedder: Arc::new(HashingEmbedder),
        labels: labels.clone(),
        min_confidence: 0.0,
        max_results: Limit::new(100).unwrap(),
    };
    let matches = catalog.search(search(&labels)).await.unwrap().matches;
    assert_eq!(matches.len(), PLAYBOOKS / 30);
    labels.insert("group".into(), "g20".into());
    let refused = catalog.search(search(&labels)).await.unwrap_err();
    assert_eq!(named(&refused), ("pb-020 v1.10.0".to_owned(), "is_latest_version".to_owned()));

    let lines = open.check().await;
    assert!(lines.iter().all(|line| line.ok), "{lines:?}");
    let shown =
        lines.iter().map(|line| format!("{}: {}", line.name, line.detail)).collect::<Vec<_>>().join("\n");
    for part in
        ["audit: the tables of legacy", "playbooks: the tables of legacy", "50 rows wait for the cutover"]
    {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(legacy_part(&file) == before, "the tables of legacy programs are not what they were");
}

// Old programs write beside us, through the statements that they always used, and we beside them.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_program_goes_on_writing_beside_us() {
    let (file, _) = legacy_file();
    let open = file.open().await;
    let (events, audit, catalog) = (store(&open).await, audit(&open).await, playbooks(&open).await);
    let mut old = file.other_program();
    let writing = tokio::task::spawn_blocking(move || {
        for index in AUDIT..AUDIT + 50 {
            old.batch_execute(&format!("{AUDIT_COLUMNS}{}", audit_row(index))).unwrap();
        }
        old.batch_execute(&format!(
            "INSERT INTO playbook_catalog (playbook_id, version, name, description, content, content_hash, labels, embedding,
             is_latest_version) VALUES {};
             UPDATE playbook_catalog SET is_latest_version = 0 WHERE playbook_id = 'pb-001' AND version = 'v1.10.0'",
            playbook_row(1, 11, true)
        ))
        .unwrap();
    });
    for _ in 0..50 {
        let event = common::audit_event("2024-01-01T00:00:00Z");
        audit.create(common::create(&[event])).await.unwrap();
    }
    writing.await.unwrap();
    for index in AUDIT..AUDIT + 50 {
        let found = audit.get(audit_id(index)).await.unwrap().unwrap();
        assert_eq!(found.event.event_timestamp, audit_time(index));
    }
    assert_eq!(audit.count(AuditFilter::default()).await.unwrap(), u64::try_from(AUDIT).unwrap() + 100);
    let playbook_id: Text<255> = Text::new("id", "pb-001").unwrap();
    let latest = catalog.get(GetPlaybook { playbook_id, which: Lookup::Latest }).await.unwrap().unwrap();
    assert_eq!(latest.playbook.version.as_str(), "v1.11.0");
    // What we wrote an old program can read, and its own foreign rows are ours at once.
    let ours =
        "SELECT count(*) || ' ' || min(event_date) FROM audit_events WHERE event_type = 'workflow.started'";
    assert_eq!(text(&file, ours), "50 2024-01-01");
    let head = events.head(HeadOf::Stream(stream_of(1))).await.unwrap();
    assert_eq!(head.version.unwrap().get(), 5);
}
