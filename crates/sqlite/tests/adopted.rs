//! A file that legacy programs made: adopted as it is, read strictly, and written so that they can go on.

mod common;

use changeover_core::events::{Expected, HeadOf, ReadAll, ReadStream, StreamId, Version};
use changeover_core::{Detail, ErrorKind, Json, OpenBackend, TenantId, Timestamp, Uuid};
use common::{File, everything, migrations, one, scope, store, stream, text};
use diesel::connection::SimpleConnection;
use rstest::rstest;

const GOOD: &str = "11111111-1111-4111-8111-111111111111";
const BAD: &str = "22222222-2222-4222-8222-222222222222";
const AGGREGATE: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";

/// A legacy file with a healthy stream of one event, and `sql` done to it.
fn planted(sql: &str) -> File {
    let file = File::legacy();
    file.raw(&format!(
        "INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id, version)
         VALUES ('{GOOD}', 'Good', '{AGGREGATE}', 1), ('{BAD}', 'Bad', '{AGGREGATE}', 1);
         INSERT INTO domain_event (event_id, stream_id, event_type, event_version, aggregate_version, event_data)
         VALUES ('01111111-1111-4111-8111-111111111111', '{GOOD}', 'Placed', 1, 1, '{{}}'),
                ('02222222-2222-4222-8222-222222222222', '{BAD}', 'Placed', 1, 1, '{{}}');
         {sql}"
    ));
    file
}

const EVENT: &str = "02222222-2222-4222-8222-222222222222";

// Hazards 1, 13-16, 18, 20, 22-27, 29, 35, 47, 49, 57: each bad value is named by table, key and column; nothing
// panics; the value is not shown (E124); other streams are undisturbed.
#[rstest]
#[case::not_utf8("event_type", "CAST(x'50ff' AS TEXT)", "not UTF-8")]
#[case::too_long("event_type", "printf('%.*c', 256, 'x')", "at most 255")]
#[case::empty("event_type", "''", "empty")]
#[case::nul("event_type", "CAST(x'500050' AS TEXT)", "NUL")]
#[case::blob("event_data", "x'7b7d'", "is blob")]
#[case::bad_json("event_data", "'{secret'", "JSON")]
#[case::json_null("event_data", "'null'", "null")]
#[case::nul_escape("event_data", r#"'"\u0000"'"#, "NUL")]
#[case::lone_surrogate("event_data", r#"'"\ud800"'"#, "surrogate")]
#[case::number_without_end("event_data", "'1e400000'", "digits")]
#[case::metadata_no_object("metadata", "'[1]'", "object")]
#[case::metadata_not_json("metadata", "'secret'", "JSON")]
#[case::no_time("occurred_at", "'secret'", "not a time")]
#[case::epoch_seconds("occurred_at", "1700000000", "not a time")]
#[case::null_time("occurred_at", "NULL", "is null")]
#[case::february_31("occurred_at", "'2024-02-31 00:00:00'", "not a time")]
#[case::midnight_24("occurred_at", "'2024-02-01T24:00:00Z'", "not a time")]
#[case::no_zone("occurred_at", "'2024-02-01T10:00:00'", "not a time")]
#[case::no_uuid("causation_id", "'secret'", "UUID")]
#[case::braces("correlation_id", "'{33333333-3333-4333-8333-333333333333}'", "UUID")]
#[case::blob_uuid("correlation_id", "x'33333333333343338333333333333333'", "is blob")]
#[case::schema_zero("event_version", "0", "outside")]
#[case::schema_text("event_version", "'one'", "is text")]
#[case::schema_real("event_version", "1.5", "is real")]
#[case::orphan("stream_id", "'44444444-4444-4444-8444-444444444444'", "does not exist")]
#[case::version_text("aggregate_version", "'first'", "is text")]
#[case::version_zero("aggregate_version", "0", "below 1")]
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_value_is_named_and_harms_no_other_stream(
    #[case] column: &str,
    #[case] value: &str,
    #[case] problem: &str,
) {
    let file = planted(&format!("UPDATE domain_event SET {column} = {value} WHERE event_id = '{EVENT}'"));
    let events = file.store().await;
    let refused = events.read_all(ReadAll::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    let row = Detail::Row { table: "domain_event".into(), key: EVENT.into(), column: column.into() };
    assert_eq!(refused.detail(), Some(&row));
    assert!(refused.message().contains(problem), "{refused}");
    assert!(!refused.to_string().contains("secret"), "{refused}");

    let good = StreamId::new("Good", AGGREGATE.parse().unwrap()).unwrap();
    let page = events.read_stream(ReadStream::all(good.clone())).await.unwrap();
    assert_eq!(page.events.len(), 1);
    events.append(one(&good, Expected::Exactly(Version::FIRST), 1)).await.unwrap();
}

// Hazard 35: an event without a key is named by its place.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_id_is_named_by_its_rowid() {
    for value in ["NULL", "''", "'secret'", "x'00'", "upper('02222222-2222-4222-8222-22222222222x')"] {
        let file = planted(&format!("UPDATE domain_event SET event_id = {value} WHERE rowid = 2"));
        let refused = file.store().await.read_all(ReadAll::default()).await.unwrap_err();
        let Some(Detail::Row { table, column, key }) = refused.detail() else { panic!("{refused}") };
        assert_eq!((table.as_str(), column.as_str()), ("domain_event", "event_id"));
        assert!(key == "rowid 2" || value.contains("'02") || value == "'secret'", "{key}");
    }
}

// Hazards of streams: named when the stream is asked for.
#[rstest]
#[case::behind("UPDATE event_stream SET version = 0 WHERE aggregate_type = 'Bad'", "version")]
#[case::ahead("UPDATE event_stream SET version = 9 WHERE aggregate_type = 'Bad'", "version")]
#[case::text("UPDATE event_stream SET version = 'x' WHERE aggregate_type = 'Bad'", "version")]
#[case::no_uuid("UPDATE event_stream SET stream_id = 'x' WHERE aggregate_type = 'Bad'", "stream_id")]
#[case::null_key("UPDATE event_stream SET stream_id = NULL WHERE aggregate_type = 'Bad'", "stream_id")]
#[case::twice(
    "INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id, version)
     SELECT 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', aggregate_type, upper(aggregate_id), 1 FROM event_stream WHERE aggregate_type = 'Bad'",
    "aggregate_id"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_stream_is_named(#[case] sql: &str, #[case] column: &str) {
    let file = planted(sql);
    let events = file.store().await;
    let bad = StreamId::new("Bad", AGGREGATE.parse().unwrap()).unwrap();
    let refusals = [
        events.read_stream(ReadStream::all(bad.clone())).await.unwrap_err(),
        events.append(one(&bad, Expected::Any, 1)).await.unwrap_err(),
        events.head(HeadOf::Stream(bad)).await.unwrap_err(),
    ];
    for refused in refusals {
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
        let Some(Detail::Row { table, column: found, .. }) = refused.detail() else { panic!("{refused}") };
        assert_eq!((table.as_str(), found.as_str()), ("event_stream", column), "{refused}");
    }
    let good = StreamId::new("Good", AGGREGATE.parse().unwrap()).unwrap();
    assert_eq!(events.read_stream(ReadStream::all(good)).await.unwrap().events.len(), 1);
}

// Hazard 49, DEF-1: nothing makes versions unique or contiguous there.
#[rstest]
#[case::twice("1")]
#[case::gap("3")]
#[tokio::test(flavor = "multi_thread")]
async fn versions_given_twice_or_left_out_are_named(#[case] version: &str) {
    let second = "03333333-3333-4333-8333-333333333333";
    let file = planted(&format!(
        "INSERT INTO domain_event (event_id, stream_id, event_type, event_version, aggregate_version, event_data)
         VALUES ('{second}', '{BAD}', 'Placed', 1, {version}, '{{}}');
         UPDATE event_stream SET version = {version} WHERE stream_id = '{BAD}'"
    ));
    let events = file.store().await;
    let bad = StreamId::new("Bad", AGGREGATE.parse().unwrap()).unwrap();
    let refused = events.read_stream(ReadStream::all(bad)).await.unwrap_err();
    let row =
        Detail::Row { table: "domain_event".into(), key: second.into(), column: "aggregate_version".into() };
    assert_eq!((refused.kind(), refused.detail()), (ErrorKind::Corrupt, Some(&row)), "{refused}");
}

// What is loose but has one meaning is read: both forms of time, keys in upper case, no metadata, JSON as core reads it
// (X-EDGE-056, X-EDGE-057).
#[tokio::test(flavor = "multi_thread")]
async fn loose_but_clear_values_are_read() {
    let file = planted(&format!(
        "UPDATE domain_event SET occurred_at = '2024-02-29 23:30:00', event_data = '{{\"a\": 1, \"a\": -0.0}}',
         correlation_id = upper('{BAD}') WHERE event_id = '{EVENT}';
         UPDATE domain_event SET occurred_at = '2024-02-29T23:30:00.1234567+05:30' WHERE event_id <> '{EVENT}';
         UPDATE event_stream SET aggregate_id = upper(aggregate_id)"
    ));
    let events = file.store().await;
    let all = everything(&*events).await;
    assert_eq!(all[1].occurred_at, Timestamp::parse("2024-02-29T23:30:00Z").unwrap());
    assert_eq!(all[0].occurred_at, Timestamp::parse("2024-02-29T18:00:00.123456Z").unwrap());
    assert_eq!((all[1].data.as_str(), &all[1].metadata), (r#"{"a":0}"#, &Json::empty()));
    assert_eq!(all[1].correlation_id, Some(BAD.parse::<Uuid>().unwrap()));
    let appended = events.append(one(&all[1].stream, Expected::Exactly(Version::FIRST), 1)).await.unwrap();
    assert_eq!(appended.streams[0].last.get(), 2);
    assert_eq!(text(&file, "SELECT count(*) || '' FROM event_stream"), "2");
}

// Section 3 of the design: adoption alters no legacy table and says so in `_migrations`.
#[tokio::test(flavor = "multi_thread")]
async fn adoption_leaves_the_legacy_tables_as_they_are() {
    let schema = "SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_master
                  WHERE tbl_name NOT LIKE '\\_%' ESCAPE '\\' AND tbl_name NOT LIKE 'changeover%' ORDER BY name)";
    let file = planted("");
    let before = text(&file, schema);
    let open = file.open().await;
    let events = store(&open).await;
    assert!(!events.capabilities().tenants.is_yes() && !events.capabilities().recorded_time.is_yes());
    assert_eq!(text(&file, schema), before);
    let modes = "SELECT group_concat(id || '=' || mode) FROM (SELECT * FROM _migrations ORDER BY id)";
    assert_eq!(
        text(&file, modes),
        "base/0001_base=native,events/0001_log=adopted,events/0002_streams_and_events=adopted"
    );
    let back = migrations(&open).down(1, true).await.unwrap_err();
    assert_eq!(back.kind(), ErrorKind::Unsupported, "{back}");
    assert_eq!(everything(&*events).await.len(), 2);
}

// Section 3 of the design: an adopted file serves the one tenant of its settings.
#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_file_serves_its_one_tenant() {
    let file = planted("");
    let open = file.open().await;
    let refused = open.events(&scope(), &TenantId::new("other").unwrap()).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    store(&open).await.ready().await.unwrap();
}

// Old programs write beside us, and read what we wrote.
#[tokio::test(flavor = "multi_thread")]
async fn old_programs_go_on_beside_us() {
    let file = planted("");
    let events = file.store().await;
    let good = StreamId::new("Good", AGGREGATE.parse().unwrap()).unwrap();
    let ours = events.append(one(&good, Expected::Exactly(Version::FIRST), 1)).await.unwrap();
    let written =
        "SELECT event_type || ' ' || event_data || ' ' || typeof(occurred_at) || length(occurred_at)
                   FROM domain_event WHERE aggregate_version = 2";
    assert_eq!(text(&file, written), r#"Placed {"total":1.1} text27"#);
    file.raw(&format!(
        "BEGIN IMMEDIATE;
         INSERT INTO domain_event (event_id, stream_id, event_type, event_version, aggregate_version, event_data)
         VALUES ('05555555-5555-4555-8555-555555555555', '{GOOD}', 'Old', 1, 3, '{{}}');
         UPDATE event_stream SET version = 3 WHERE stream_id = '{GOOD}';
         COMMIT"
    ));
    let page = events.read_all(ReadAll { after: Some(ours.checkpoint), ..ReadAll::default() }).await.unwrap();
    assert_eq!(page.events.len(), 1);
    let stale = events.append(one(&good, Expected::Exactly(Version::new(2).unwrap()), 1)).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::VersionConflict, "{stale}");
    events.append(one(&good, Expected::Exactly(Version::new(3).unwrap()), 1)).await.unwrap();
}

// Design section 3, hazard 45: a rowid that is given again is found, by this process and by the next one.
#[rstest]
#[case::seen_by_an_append(true)]
#[case::seen_by_a_read(false)]
#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_given_again_is_corrupt(#[case] by_append: bool) {
    let file = planted("");
    let events = file.store().await;
    if by_append {
        events.append(one(&stream(), Expected::Any, 1)).await.unwrap();
    } else {
        file.raw(&format!(
            "INSERT INTO domain_event (event_id, stream_id, event_type, event_version, aggregate_version, event_data)
             VALUES ('05555555-5555-4555-8555-555555555555', '{GOOD}', 'Old', 1, 2, '{{}}');"
        ));
        assert_eq!(everything(&*events).await.len(), 3);
    }
    let mut old = file.other_program();
    old.batch_execute("DELETE FROM domain_event WHERE rowid = 3").unwrap();
    let gone = events.read_all(ReadAll::default()).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Corrupt, "{gone}");
    old.batch_execute(&format!(
        "INSERT INTO domain_event (event_id, stream_id, event_type, event_version, aggregate_version, event_data)
         VALUES ('06666666-6666-4666-8666-666666666666', '{GOOD}', 'Other', 1, 2, '{{}}')"
    ))
    .unwrap();
    for again in [
        events.read_all(ReadAll::default()).await.map(|_| ()).unwrap_err(),
        events.append(one(&stream(), Expected::Any, 1)).await.map(|_| ()).unwrap_err(),
        events.ready().await.map(|_| ()).unwrap_err(),
    ] {
        let Some(Detail::Row { table, column, .. }) = again.detail() else { panic!("{again}") };
        assert_eq!(
            (again.kind(), table.as_str(), column.as_str()),
            (ErrorKind::Corrupt, "domain_event", "rowid")
        );
    }
    if by_append {
        let next = file.store().await.ready().await.unwrap_err();
        assert_eq!(next.kind(), ErrorKind::Corrupt, "{next}");
    }
}

// A table of the same name that is something else is not adopted.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_no_event_store_is_not_adopted() {
    let file = File::new();
    file.raw("CREATE TABLE event_stream (id INTEGER); CREATE TABLE domain_event (id INTEGER)");
    let refused = file.open().await.events(&scope(), &common::tenant()).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SchemaMismatch, "{refused}");
    assert!(refused.message().contains("stream_id"), "{refused}");
    assert_eq!(text(&file, "SELECT count(*) || '' FROM sqlite_master WHERE name = 'changeover_log'"), "0");
}
