//! Audit events that legacy programs wrote: read strictly, ordered by their instants, and written so that they can go on.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use changeover_core::audit::{
    AuditFilter, AuditOrder, AuditQuery, AuditRepository, Keep, NewAuditEvent, Retain,
};
use changeover_core::{Detail, ErrorKind, Json, Limit, OpenBackend, TenantId, Text, Timestamp, Uuid};
use changeover_sqlite::OpenSqlite;
use common::{File, audit, audit_event, create, module, pages, tenant, text};
use rstest::rstest;

const GOOD: &str = "11111111-1111-4111-8111-111111111111";
const BAD: &str = "2222222a-2222-4222-8222-222222222222";
const LATE: &str = "33333333-3333-4333-8333-333333333333";

/// Three events of three days; `sql` is done to the file then.
fn planted(sql: &str) -> File {
    let file = File::legacy();
    for (id, kind, day) in [(GOOD, "good", 1), (BAD, "bad", 2), (LATE, "late", 3)] {
        file.raw(&format!(
            "INSERT INTO audit_events (event_id, event_type, event_category, event_outcome, event_timestamp, event_date,
             service_name, actor_type, resource_type, resource_id, correlation_id)
             VALUES ('{id}', '{kind}', 'ai', 'success', '2024-01-0{day}T00:00:00Z', '2024-01-0{day}', 'svc', 'user',
             '{kind}', 'r', '{kind}')"
        ));
    }
    file.raw(sql);
    file
}

fn id(text: &str) -> Uuid {
    text.parse().unwrap()
}

fn named<const MAX: usize>(value: &str) -> Option<Text<MAX>> {
    Text::new("field", value).ok()
}

fn query(filter: AuditFilter, order: AuditOrder, limit: i64) -> AuditQuery {
    AuditQuery { filter, order, limit: Limit::new(limit).unwrap(), ..AuditQuery::default() }
}

// Hazards 1, 13-16, 18, 20, 22-27, 29, 33, 35, 47, 57: each bad value is named by table, key and column where its row
// would be shown; nothing panics; the value is not shown; other rows, filters that exclude it and counts are undisturbed.
#[rstest]
#[case::type_not_utf8("event_type", "CAST(x'50ff' AS TEXT)", "not UTF-8")]
#[case::type_too_long("event_type", "printf('%.*c', 101, 'x')", "at most 100")]
#[case::type_empty("event_type", "''", "empty")]
#[case::type_nul("event_type", "CAST(x'500050' AS TEXT)", "NUL")]
#[case::type_blob("event_type", "x'50'", "is blob")]
#[case::category_too_long("event_category", "printf('%.*c', 51, 'x')", "at most 50")]
#[case::outcome("event_outcome", "'secret'", "none of the words")]
#[case::outcome_case("event_outcome", "'Success'", "none of the words")]
#[case::actor_type("actor_type", "'secret'", "none of the words")]
#[case::service_too_long("service_name", "printf('%.*c', 101, 'x')", "at most 100")]
#[case::version_too_long("service_version", "printf('%.*c', 51, 'x')", "at most 50")]
#[case::actor_empty("actor_id", "''", "empty")]
#[case::actor_name("actor_name", "x'00'", "is blob")]
#[case::resource("resource_id", "''", "empty")]
#[case::resource_name("resource_name", "printf('%.*c', 256, 'x')", "at most 255")]
#[case::trace("trace_id", "CAST(x'ff' AS TEXT)", "not UTF-8")]
#[case::span("span_id", "''", "empty")]
#[case::data_no_json("event_data", "'secret'", "JSON")]
#[case::data_array("event_data", "'[1]'", "object")]
#[case::data_null("event_data", "'null'", "object")]
#[case::data_nul("event_data", r#"'{"a":"\u0000"}'"#, "NUL")]
#[case::data_surrogate("event_data", r#"'{"a":"\ud800"}'"#, "surrogate")]
#[case::data_number("event_data", "'{\"a\":1e400000}'", "digits")]
#[case::metadata("metadata", "'1'", "object")]
#[case::date_of_another_day("event_date", "'2024-01-05'", "not the date")]
#[case::date_no_date("event_date", "'secret'", "not the date")]
#[case::parent_no_uuid("parent_event_id", "'secret'", "UUID")]
#[case::parent_braces("parent_event_id", "'{11111111-1111-4111-8111-111111111111}'", "UUID")]
#[case::parent_missing("parent_event_id", "'44444444-4444-4444-8444-444444444444'", "does not exist")]
#[case::parent_itself("parent_event_id", "'2222222a-2222-4222-8222-222222222222'", "itself")]
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_value_is_named_and_harms_no_other_event(
    #[case] column: &str,
    #[case] value: &str,
    #[case] problem: &str,
) {
    let file = planted(&format!("UPDATE audit_events SET {column} = {value} WHERE event_id = '{BAD}'"));
    let audit = audit(&file.open().await).await;
    let row = Detail::Row { table: "audit_events".into(), key: BAD.into(), column: column.into() };
    let all = |order| query(AuditFilter::default(), order, 10);
    let mut refusals = vec![audit.get(id(BAD)).await.map(|_| ()).unwrap_err()];
    for order in [AuditOrder::NewestFirst, AuditOrder::OldestFirst, AuditOrder::Recorded] {
        refusals.push(audit.query(all(order)).await.map(|_| ()).unwrap_err());
    }
    let again = NewAuditEvent { event_id: id(BAD), ..audit_event("2024-01-02T00:00:00Z") };
    refusals.push(audit.create(create(&[again])).await.map(|_| ()).unwrap_err());
    for refused in refusals {
        assert_eq!((refused.kind(), refused.detail()), (ErrorKind::Corrupt, Some(&row)), "{refused}");
        assert!(refused.message().contains(problem), "{refused}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
    others_are_served(&*audit).await;
    // Where the place of the row is known, the pages before it are served.
    for order in [AuditOrder::NewestFirst, AuditOrder::OldestFirst, AuditOrder::Recorded] {
        let first = audit.query(query(AuditFilter::default(), order, 1)).await.unwrap();
        assert!(first.next.is_some() && first.events.len() == 1);
    }
    let before = AuditFilter { end: Timestamp::parse("2024-01-02T00:00:00Z").ok(), ..AuditFilter::default() };
    assert_eq!(pages(&*audit, &query(before, AuditOrder::NewestFirst, 10), 10).await.len(), 1);
    assert_eq!(audit.count(AuditFilter::default()).await.unwrap(), 3);
}

async fn others_are_served(audit: &dyn AuditRepository) {
    for name in ["good", "late"] {
        for filter in [
            AuditFilter { resource_type: named(name), ..AuditFilter::default() },
            AuditFilter { correlation_id: named(name), ..AuditFilter::default() },
        ] {
            for order in [AuditOrder::NewestFirst, AuditOrder::OldestFirst, AuditOrder::Recorded] {
                let found = pages(audit, &query(filter.clone(), order, 10), 10).await;
                assert_eq!(found.len(), 1, "{filter:?}");
            }
            assert_eq!(audit.count(filter).await.unwrap(), 1);
        }
    }
    assert!(audit.get(id(GOOD)).await.unwrap().is_some());
    let child = NewAuditEvent { parent_event_id: Some(id(GOOD)), ..audit_event("2024-01-04T00:00:00Z") };
    let stored = audit.create(create(std::slice::from_ref(&child))).await.unwrap();
    assert_eq!(stored.stored, 1);
    assert_eq!(audit.get(child.event_id).await.unwrap().unwrap().event, child);
    // Leaves the file as it was, as an old program would.
    let gone = Retain {
        rules: vec![Keep { category: named("workflow").unwrap(), days: 1 }],
        now: Timestamp::now(),
        dry_run: false,
        limit: Limit::default(),
    };
    assert_eq!(audit.retain(gone).await.unwrap().removed[0].1, 1);
}

// Hazards 22, 23, 25, 26, 27: a time that cannot be read has no place in time, so it comes last; no filter of times lets
// it pass.
#[rstest]
#[case::no_time("'secret'")]
#[case::no_zone("'2024-01-02T00:00:00'")]
#[case::sql_form("'2024-01-02 00:00:00'")]
#[case::february_31("'2024-02-31T00:00:00Z'")]
#[case::midnight_24("'2024-01-02T24:00:00Z'")]
#[case::leap_second("'2016-12-31T23:59:60Z'")]
#[case::year_0("'0000-01-01T00:00:00Z'")]
#[case::year_10000("'10000-01-01T00:00:00Z'")]
#[case::epoch_seconds("1704153600")]
#[case::epoch_milliseconds("1704153600000")]
#[case::real("1704153600.5")]
#[case::blob("x'32303234'")]
#[case::empty("''")]
#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_cannot_be_read_comes_last(#[case] value: &str) {
    let file =
        planted(&format!("UPDATE audit_events SET event_timestamp = {value} WHERE event_id = '{BAD}'"));
    let audit = audit(&file.open().await).await;
    for order in [AuditOrder::NewestFirst, AuditOrder::OldestFirst] {
        let first = audit.query(query(AuditFilter::default(), order, 2)).await.unwrap();
        let mut ids: Vec<_> = first.events.iter().map(|found| found.event.event_id).collect();
        if order == AuditOrder::NewestFirst {
            ids.reverse();
        }
        assert_eq!(ids, [id(GOOD), id(LATE)]);
        let rest = AuditQuery { page: first.next, ..query(AuditFilter::default(), order, 2) };
        let refused = audit.query(rest).await.unwrap_err();
        let row =
            Detail::Row { table: "audit_events".into(), key: BAD.into(), column: "event_timestamp".into() };
        assert_eq!((refused.kind(), refused.detail()), (ErrorKind::Corrupt, Some(&row)), "{refused}");
        let timed = AuditFilter { start: Some(Timestamp::MIN), ..AuditFilter::default() };
        assert_eq!(pages(&*audit, &query(timed.clone(), order, 10), 1).await.len(), 2);
        assert_eq!(audit.count(timed).await.unwrap(), 2);
    }
    assert_eq!(audit.get(id(BAD)).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(audit.count(AuditFilter::default()).await.unwrap(), 3);
    // Retention knows no day for it, and keeps it.
    let all = Retain {
        rules: vec![Keep { category: named("ai").unwrap(), days: 1 }],
        now: Timestamp::now(),
        dry_run: false,
        limit: Limit::default(),
    };
    assert_eq!(audit.retain(all).await.unwrap().removed[0].1, 2);
    assert_eq!(text(&file, "SELECT group_concat(event_id) FROM audit_events"), BAD);
}

// Hazard 35: an event without a key is named by its place; one id in two spellings by either.
#[tokio::test(flavor = "multi_thread")]
async fn ids_that_are_none_or_twice_are_named() {
    for value in ["NULL", "''", "'secret'", "x'00'", "'2222222A-2222-4222-8222-222222222222x'"] {
        let file = planted(&format!("UPDATE audit_events SET event_id = {value} WHERE event_id = '{BAD}'"));
        let audit = audit(&file.open().await).await;
        let refused = audit.query(query(AuditFilter::default(), AuditOrder::Recorded, 10)).await.unwrap_err();
        let Some(Detail::Row { column, key, .. }) = refused.detail() else { panic!("{refused}") };
        assert_eq!((refused.kind(), column.as_str()), (ErrorKind::Corrupt, "event_id"), "{refused}");
        assert!(key == "rowid 2" || value.contains("222") || value == "'secret'", "{key}");
        others_are_served(&*audit).await;
    }
    let file =
        planted(&format!("UPDATE audit_events SET event_id = upper('{BAD}') WHERE event_id = '{LATE}'"));
    let audit = audit(&file.open().await).await;
    let refused = audit.get(id(BAD)).await.unwrap_err();
    let Some(Detail::Row { column, .. }) = refused.detail() else { panic!("{refused}") };
    assert_eq!((refused.kind(), column.as_str()), (ErrorKind::Corrupt, "event_id"));
    let all = audit.query(query(AuditFilter::default(), AuditOrder::NewestFirst, 10)).await.unwrap_err();
    assert_eq!(all.kind(), ErrorKind::Corrupt);
}

// What is loose but has one meaning is read: any offset, ids in upper case, no metadata, dates as they were written.
#[tokio::test(flavor = "multi_thread")]
async fn loose_but_clear_values_are_read() {
    let file = planted(&format!(
        "UPDATE audit_events SET event_timestamp = '2024-01-02T23:30:00.1234567-05:00', metadata = NULL,
         event_id = upper(event_id), event_data = '{{\"b\": 1.10, \"a\": 1, \"a\": -0.0}}' WHERE event_id = '{BAD}';
         UPDATE audit_events SET parent_event_id = '{BAD}' WHERE event_id = '{LATE}'"
    ));
    let audit = audit(&file.open().await).await;
    let found = audit.get(id(BAD)).await.unwrap().unwrap();
    assert_eq!(found.event.event_timestamp, Timestamp::parse("2024-01-03T04:30:00.123456Z").unwrap());
    assert_eq!(found.recorded_at, found.event.event_timestamp);
    assert_eq!(
        (found.event.event_data.as_str(), found.event.metadata),
        (r#"{"a":0,"b":1.1}"#, Json::empty())
    );
    assert!(audit.get(id(LATE)).await.unwrap().is_some());
    // A child of ours names the parent as it is spelled there.
    let child = NewAuditEvent { parent_event_id: Some(id(BAD)), ..audit_event("2024-01-04T00:00:00Z") };
    audit.create(create(std::slice::from_ref(&child))).await.unwrap();
    let joined =
        "SELECT c.event_type FROM audit_events c JOIN audit_events p ON p.event_id = c.parent_event_id
                  WHERE p.event_id <> lower(p.event_id)";
    assert_eq!(text(&file, joined), "workflow.started");
}

// Hazard 23: numbers are times where the settings say what they mean; order and filters hold over all spellings.
#[tokio::test(flavor = "multi_thread")]
async fn order_and_filters_hold_over_mixed_spellings() {
    let file = File::legacy();
    let start = Timestamp::parse("2024-03-01T00:00:00Z").unwrap().as_micros();
    let mut expected = Vec::new();
    for index in 0..600_i64 {
        let micros = start + (index * 7_919 % 601) * 60_000_000 * 7;
        let at = Timestamp::from_micros(micros).unwrap();
        let shift = [0, 330, -480, 840][usize::try_from(index % 4).unwrap()];
        let local = Timestamp::from_micros(micros + shift * 60_000_000).unwrap().to_string();
        let sign = if shift < 0 { '-' } else { '+' };
        let offset = format!("{sign}{:02}:{:02}", shift.abs() / 60, shift.abs() % 60);
        let (written, date) = match index % 6 {
            0 => ((micros / 1_000_000).to_string(), at.to_string()),
            1 => ((micros / 1_000).to_string(), at.to_string()),
            2 => (at.to_string(), at.to_string()),
            _ => (local.replace('Z', &offset), if index % 2 == 0 { local.clone() } else { at.to_string() }),
        };
        let event_id = Uuid::from_u128(
            u128::from(index.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) | 1,
        );
        let spelled = if index % 5 == 0 { event_id.to_string().to_uppercase() } else { event_id.to_string() };
        file.raw(&format!(
            "INSERT INTO audit_events (event_id, event_type, event_category, event_outcome, event_timestamp, event_date,
             service_name, actor_type, resource_type, resource_id)
             VALUES ('{spelled}', 't', 'ai', 'success', '{written}', '{}', 'svc', 'user', 'x', 'r')",
            &date[..10]
        ));
        expected.push((at, event_id));
    }
    let open = OpenSqlite::open(&file.settings().with("epoch_times", "by_size")).await.unwrap();
    let audit = audit(&open).await;
    let found = |order, filter| {
        let (audit, query) = (audit.clone(), query(filter, order, 10));
        async move {
            let all = pages(&*audit, &query, 77).await.into_iter();
            all.map(|found| (found.event.event_timestamp, found.event.event_id)).collect::<Vec<_>>()
        }
    };
    assert_eq!(found(AuditOrder::Recorded, AuditFilter::default()).await, expected);
    expected.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    assert_eq!(found(AuditOrder::NewestFirst, AuditFilter::default()).await, expected);
    let filter =
        AuditFilter { start: Some(expected[400].0), end: Some(expected[100].0), ..AuditFilter::default() };
    let mut inside: Vec<_> =
        expected.iter().copied().filter(|(at, _)| *at >= expected[400].0 && *at < expected[100].0).collect();
    assert_eq!(found(AuditOrder::NewestFirst, filter.clone()).await, inside);
    assert_eq!(audit.count(filter.clone()).await.unwrap(), inside.len() as u64);
    inside.reverse();
    assert_eq!(found(AuditOrder::OldestFirst, filter).await, inside);
}

// Section 3 of the design: adoption alters no legacy table, and serves the one tenant of the settings.
#[tokio::test(flavor = "multi_thread")]
async fn adoption_leaves_the_tables_as_they_are() {
    let schema = "SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_master
                  WHERE name NOT LIKE '\\_%' ESCAPE '\\' ORDER BY name)";
    let file = planted("");
    let before = text(&file, schema);
    let open = file.open().await;
    let audit = audit(&open).await;
    common::playbooks(&open).await.ready().await.unwrap();
    audit.ready().await.unwrap();
    assert_eq!(text(&file, schema), before);
    let modes = "SELECT group_concat(id || '=' || mode) FROM (SELECT * FROM _migrations ORDER BY id)";
    assert_eq!(
        text(&file, modes),
        "audit/0001_audit_events=adopted,base/0001_base=native,playbooks/0001_playbook_catalog=adopted,playbooks/0002_counted_changes=adopted"
    );
    let capabilities = audit.capabilities();
    let no = [capabilities.hash_chain, capabilities.recorded_time, capabilities.tenants];
    assert!(no.iter().all(|one| !one.is_yes()) && capabilities.retention.is_yes());
    let other = TenantId::new("other").unwrap();
    let refused = open.audit(&module("audit"), &other).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    assert!(open.audit(&module("audit"), &tenant()).await.is_ok());
}
