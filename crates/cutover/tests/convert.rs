//! Rows as values and back: the meaning stays, and what the store of the old file serves is what arrives.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::fmt::Write as _;

use changeover_core::audit::Link;
use changeover_core::backend::Family;
use changeover_core::cutover::{
    ChunkRead, Column, CutoverSource, From, Raw, SourceColumn, Table, TimeUnit, Type, Value,
};
use changeover_core::{ErrorKind, Json, Timestamp, Uuid};
use changeover_cutover::convert::{Accepted, Converter, Loss};
use changeover_cutover::declare;
use changeover_cutover::plan::{Terms, plan};
use proptest::prelude::*;
use support::{Declared, File, scope, source, tenant};

fn raw(text: &str) -> Raw {
    Raw::Text(text.as_bytes().to_vec())
}

fn converter(tables: &[Table]) -> Converter {
    Converter::new(tables, &tenant(), Uuid::from_u128(7)).unwrap()
}

/// A table of one column beside its key.
fn table(to: Type) -> Table {
    let column = |name: &str, to: Type, nullable| Column {
        name: name.to_owned(),
        from: From::Source(SourceColumn::Named(name.to_owned())),
        to,
        nullable,
        null_becomes: None,
    };
    Table {
        name: "t".into(),
        source: "t".into(),
        target: "s.t".into(),
        key: vec!["k".into()],
        columns: vec![column("k", Type::Int { min: i64::MIN, max: i64::MAX }, false), column("v", to, true)],
        unique: Vec::new(),
        references: Vec::new(),
        partition_by: None,
        transform: None,
        also: Vec::new(),
        reads: Vec::new(),
        rules: Vec::new(),
        goes_back: true,
    }
}

/// Every type with raw values that it takes.
fn typed() -> impl Strategy<Value = (Type, Raw)> {
    let text = |unit| Type::Timestamp(TimeUnit::Text { zoneless: unit, epoch_digits: false });
    let micros = Timestamp::MIN.as_micros()..=Timestamp::MAX.as_micros();
    let shown = micros.prop_map(|at| raw(&Timestamp::from_micros(at).unwrap().to_string()));
    prop_oneof![
        "[^\\x00]{0,40}"
            .prop_map(|value| (Type::Text { max: 40, not_empty: false, words: vec![] }, raw(&value))),
        (any::<u128>(), any::<bool>()).prop_map(|(id, upper)| {
            let text = Uuid::from_u128(id).to_string();
            (Type::Uuid, raw(&if upper { text.to_uppercase() } else { text }))
        }),
        any::<i64>().prop_map(|value| (Type::Int { min: i64::MIN, max: i64::MAX }, Raw::Integer(value))),
        (0i64..2).prop_map(|value| (Type::Bool, Raw::Integer(value))),
        any::<f64>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(|value| (Type::Double, Raw::Real(value))),
        (-999_999i64..=999_999).prop_map(|value| {
            #[expect(clippy::cast_precision_loss, reason = "six digits")]
            let value = value as f64 / 100.0 + 0.0;
            (Type::Decimal { precision: 6, scale: 2 }, Raw::Real(value))
        }),
        ("[a-y]{1,8}", -1_000i64..1_000).prop_map(|(key, value)| {
            (Type::Json { object: true }, raw(&format!("{{ \"z\" : {value}.50, \"{key}\": null }}")))
        }),
        shown.prop_map(move |value| (text(true), value)),
        (0i64..100_000_000_000).prop_map(|value| (Type::Timestamp(TimeUnit::Seconds), Raw::Integer(value))),
        (100_000_000_000i64..100_000_000_000_000)
            .prop_map(|value| (Type::Timestamp(TimeUnit::Millis), Raw::Integer(value))),
        (100_000_000_000_000i64..100_000_000_000_000_000)
            .prop_map(|value| (Type::Timestamp(TimeUnit::Micros), Raw::Integer(value))),
        (1i32..9_999, 1u32..13, 1u32..29)
            .prop_map(|(year, month, day)| (Type::Date, raw(&format!("{year:04}-{month:02}-{day:02}")))),
        proptest::collection::vec(any::<u8>(), 0..40)
            .prop_map(|value| (Type::Bytes { len: None }, Raw::Blob(value))),
        proptest::collection::vec(-1e30f32..1e30, 3).prop_map(|value| {
            (
                Type::Vector { dims: 3 },
                Raw::Blob(value.iter().flat_map(|number| number.to_le_bytes()).collect()),
            )
        }),
    ]
}

fn any_raw() -> impl Strategy<Value = Raw> {
    prop_oneof![
        Just(Raw::Null),
        any::<i64>().prop_map(Raw::Integer),
        any::<f64>().prop_map(Raw::Real),
        ".{0,30}".prop_map(|text| raw(&text)),
        proptest::collection::vec(any::<u8>(), 0..30).prop_map(Raw::Text),
        proptest::collection::vec(any::<u8>(), 0..30).prop_map(Raw::Blob),
    ]
}

proptest! {
    // S4-MIG-013: what goes to the new store and comes back means the same; a second time it is the same to the byte.
    #[test]
    fn a_value_of_every_type_means_the_same_when_it_comes_back((to, found) in typed()) {
        let convert = converter(&[table(to)]);
        let key = [Raw::Integer(1)];
        let there = convert.row(0, &key, &[Raw::Integer(1), found]).unwrap();
        let back = convert.back(0, &there[..1], Some(&there)).unwrap();
        prop_assert_eq!(&back.table, "t");
        let again: Vec<_> = back.row.unwrap().into_iter().map(|(_, raw)| raw).collect();
        let there_again = convert.row(0, &key, &again).unwrap();
        prop_assert!(there == there_again);
        let back_again = convert.back(0, &there[..1], Some(&there_again)).unwrap();
        prop_assert!(again == back_again.row.unwrap().into_iter().map(|(_, raw)| raw).collect::<Vec<_>>());
    }

    // Whatever lies there, it is a value or a reason, and never both.
    #[test]
    fn anything_at_all_is_converted_or_has_a_reason(found in any_raw(), (to, _) in typed()) {
        let convert = converter(&[table(to)]);
        let judged = convert.judge(0, &[Raw::Integer(1)], &[Raw::Integer(1), found]);
        prop_assert_eq!(judged.values.is_none(), !judged.reasons.is_empty());
        prop_assert!(judged.reasons.iter().all(|reason| reason.column == "v" && !reason.problem.is_empty()));
    }
}

// Amendment 6: all reasons, not the first.
#[test]
fn a_row_has_every_reason_that_speaks_against_it() {
    let tables = declare::ours(Family::Events, true, &scope("events"));
    let row = ["x", "", "1", "1", "{", "[]", "noon", "", "y"].map(raw);
    let row: Vec<_> = [Raw::Integer(-1)].into_iter().chain(row).collect();
    let columns = tables[1].source_columns();
    assert_eq!(columns.len(), 11);
    let row: Vec<_> = row.into_iter().chain([Raw::Null]).collect();
    let reasons = converter(&tables).row(1, &[Raw::Integer(-1)], &row).unwrap_err();
    let found: Vec<_> = reasons.iter().map(|reason| (reason.column.as_str(), reason.hazard)).collect();
    let expected = [
        ("rowid", 5),
        ("event_id", 57),
        ("stream_id", 57),
        ("event_version", 11),
        ("aggregate_version", 1),
        ("metadata", 20),
        ("occurred_at", 25),
        ("causation_id", 57),
    ];
    assert_eq!(found, expected);
}

/// Rows of audit events, each with two columns of these set at random.
const STRANGE: &[(&str, &str)] = &[
    ("event_type", "'x.y'"),
    ("event_type", "''"),
    ("event_type", "x'00'"),
    ("event_category", "printf('%.51c','x')"),
    ("event_outcome", "'OK'"),
    ("event_timestamp", "'2024-01-31T12:00:00.123456789+00:00'"),
    ("event_timestamp", "'2024-01-31T23:30:00-02:00'"),
    ("event_timestamp", "'1706702400'"),
    ("event_timestamp", "'2024-01-31 12:00:00'"),
    ("event_date", "'2024-02-01'"),
    ("event_date", "x'31'"),
    ("service_name", "'a'||char(0)"),
    ("service_version", "NULL"),
    ("actor_type", "'operator'"),
    ("actor_type", "5"),
    ("actor_id", "CAST(x'ff' AS TEXT)"),
    ("resource_name", "'é'"),
    ("event_data", r#"'{"b": 1.10, "a": [1e3, -0], "b": 2}'"#),
    ("event_data", r#"'{"a":"\u0000"}'"#),
    ("event_data", "'[]'"),
    ("metadata", "NULL"),
    ("metadata", "''"),
    ("trace_id", "'0000'"),
    ("span_id", "12"),
];

// Decision 3: what the store of the file serves is what arrives; what it calls corrupt stays out.
#[tokio::test(flavor = "multi_thread")]
async fn the_converter_agrees_with_the_store_of_the_adopted_file_on_every_row() {
    let file = File::legacy();
    let mut sql = String::from("BEGIN;");
    let mut number = 0;
    for first in STRANGE {
        for second in STRANGE {
            number += 1;
            let _ = write!(
                sql,
                "INSERT INTO audit_events (rowid, event_id, event_type, event_category, event_outcome, event_timestamp,
                     event_date, service_name, actor_type, resource_type, resource_id)
                 VALUES ({number}, '{}', 'a.b', 'a', 'success', '2024-01-31T12:00:00Z', '2024-01-31', 's', 'user', 'r', '1');
                 UPDATE audit_events SET {} = {} WHERE rowid = {number};
                 UPDATE audit_events SET {} = {} WHERE rowid = {number};",
                Uuid::from_u128(number),
                first.0,
                first.1,
                second.0,
                second.1
            );
        }
    }
    file.run(&format!("{sql} COMMIT"));
    let open = file.migrated("audit", Family::Audit).await;
    let store = open.audit(&scope("audit"), &tenant()).await.unwrap();
    let tables = declare::ours(Family::Audit, true, &scope("audit"));
    // The store cuts and takes the last key without a word; a cutover has to be told so.
    let losses = [Loss::JsonDuplicateKeys, Loss::JsonNegativeZero, Loss::SubMicroseconds];
    let convert = converter(&tables).accepting(Accepted::of(&losses));
    let rows = rows(&*source(&*open, "audit"), &tables[0]).await;
    assert_eq!(rows.len() as u128, number);
    let (mut served, mut corrupt) = (0, 0);
    for (key, row) in rows {
        let Raw::Integer(place) = key[0] else { panic!("a rowid is an integer") };
        let id = Uuid::from_u128(u128::try_from(place).unwrap());
        let values = convert.row(0, &key, &row);
        match store.get(id).await {
            Ok(event) => {
                let event = event.unwrap();
                let values = values.unwrap_or_else(|reasons| panic!("row {place}: {reasons:?}"));
                let get = |name: &str| &values[tables[0].index_of(name).unwrap()];
                assert!(*get("sequence") == Value::Int(event.sequence));
                assert!(*get("event_timestamp") == Value::Timestamp(event.event.event_timestamp));
                assert!(*get("recorded_at") == Value::Timestamp(event.recorded_at));
                assert!(*get("event_date") == Value::Date(event.event.event_timestamp.date()));
                // The digest is over all the other columns.
                assert!(
                    *get("content_digest") == Value::Bytes(Link::of(None, &event.event).content.to_vec())
                );
                served += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "row {place}: {error}");
                assert!(values.is_err(), "row {place} is converted, and the store says: {error}");
                corrupt += 1;
            }
        }
    }
    assert!(served > 50 && corrupt > 50, "{served} served, {corrupt} corrupt");
}

async fn rows(source: &dyn CutoverSource, table: &Table) -> Vec<(Vec<Raw>, Vec<Raw>)> {
    let read = ChunkRead {
        table: table.source.clone(),
        columns: table.source_columns(),
        key: table.source_key(),
        after: None,
        rows: 10_000,
        bytes: u64::MAX >> 1,
    };
    source.chunk(&read).await.unwrap().rows
}

// S3-MIG-009, amendment 7: nothing of the old row is lost, and the event is the same whenever it is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_notification_becomes_an_audit_event_that_holds_every_column_of_its_row() {
    let file = File::legacy();
    file.run(
        "INSERT INTO notification_audit VALUES (17, 'n-17', 'r-1', 'me', 'email', NULL, 'failed', '2024-01-31 12:00:00',
             'bounced', 'no such box', 2, '2024-01-31 12:00:01', NULL)",
    );
    let tables = declare::ours(Family::Audit, true, &scope("audit"));
    let (key, row) = rows(&*file.source("audit").await, &tables[1]).await.remove(0);
    let convert = converter(&tables).above(1_000_000_000_001).unwrap();
    let values = convert.row(1, &key, &row).unwrap();
    let get = |name: &str| values[tables[1].index_of(name).unwrap()].clone();
    assert!(get("event_id") == Value::Uuid(Uuid::new_v5(&Uuid::from_u128(7), b"17")));
    assert!(convert.key(1, &key).unwrap() == [get("event_id")]);
    assert!(get("sequence") == Value::Int(2_000_000_000_017));
    assert!(get("event_type") == Value::Text("notification.failed".into()));
    assert!(get("event_outcome") == Value::Text("failure".into()));
    assert!(get("correlation_id") == Value::Text("r-1".into()));
    assert!(get("event_timestamp") == Value::Timestamp(Timestamp::parse("2024-01-31T12:00:00Z").unwrap()));
    let data = r#"{"channel":"email","created_at":"2024-01-31 12:00:01","delivery_status":"bounced",
        "error_message":"no such box","escalation_level":2,"id":17,"message_summary":null,"notification_id":"n-17",
        "recipient":"me","remediation_id":"r-1","sent_at":"2024-01-31 12:00:00","status":"failed","updated_at":null}"#;
    assert!(get("event_data") == Value::Json(Json::parse(data).unwrap()));
    assert!(convert.row(1, &key, &row).unwrap() == values);
    assert_eq!(convert.back(1, &[get("event_id")], None).unwrap_err().kind(), ErrorKind::Invalid);
}

// Hazard 57: a stream whose id was written in upper case is found under either spelling.
#[test]
fn a_key_with_an_id_has_two_spellings_in_the_old_store() {
    let tables = declare::ours(Family::Events, true, &scope("events"));
    let convert = converter(&tables);
    let key = convert.key(0, &[raw("0000000A-0000-4000-8000-000000000001")]).unwrap();
    let found = convert.spellings(0, &key).unwrap();
    assert!(
        found
            == [
                vec![raw("0000000a-0000-4000-8000-000000000001")],
                vec![raw("0000000A-0000-4000-8000-000000000001")]
            ]
    );
}

// Amendment 4: a file whose tables and columns have other names.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_other_names_is_read_by_the_declaration_of_the_guide() {
    let guide = include_str!("../../../docs/guides/cutover-declarations.md");
    let toml = guide.split("```toml\n").nth(2).unwrap().split("```").next().unwrap();
    let tables = declare::parse(toml, "the guide").unwrap().tables;
    let file = File::of(
        "CREATE TABLE Streams (Id TEXT PRIMARY KEY, Kind TEXT, Of TEXT, Made INTEGER, Last INTEGER);
         CREATE TABLE Events (No INTEGER PRIMARY KEY, Id TEXT, Stream TEXT, What TEXT, Schema INTEGER, Version INTEGER,
             Body TEXT, Meta TEXT, At INTEGER);
         INSERT INTO Streams VALUES ('00000000-0000-4000-8000-000000000001', 'Order',
             '00000000-0000-4000-8000-000000000001', 1706702400, 1);
         INSERT INTO Events VALUES (5, '00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000001',
             'Placed', 1, 1, '{\"a\": 1}', NULL, 1706702400);",
    );
    let source = file.source("events").await;
    let made = plan(&*source, &Declared, &tables, &Terms::new(tenant()), &mut |_| {}).await.unwrap();
    assert!(!made.refuses() && made.quarantined() == 0, "{:?}", made.findings);
    let (key, row) = rows(&*source, &tables[1]).await.remove(0);
    let values = converter(&tables).row(1, &key, &row).unwrap();
    let back = converter(&tables).back(1, &values[1..2], Some(&values)).unwrap();
    assert_eq!((back.table.as_str(), back.key.len()), ("Events", 1));
    let at = back.row.unwrap().into_iter().find(|(name, _)| *name == SourceColumn::Named("At".into()));
    assert!(at.unwrap().1 == Raw::Integer(1_706_702_400));
}
