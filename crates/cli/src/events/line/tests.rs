use changeover::{Checkpoint, LogId};
use rstest::rstest;

use super::*;

const ID: &str = "018f4e5a-7c1b-7d2e-9f3a-5b6c7d8e9f01";

/// A good line with `field` set to the JSON `value`; an empty value leaves the field out.
fn line(field: &str, value: &str) -> String {
    let id = format!("{ID:?}");
    let good = [
        ("aggregate_type", r#""Order""#),
        ("aggregate_id", &id),
        ("aggregate_version", "2"),
        ("event_type", r#""OrderPlaced""#),
        ("event_version", "1"),
        ("event_data", r#"{"n":1}"#),
    ];
    let others = good.iter().filter(|(name, _)| *name != field).copied();
    let members: Vec<_> = others
        .chain([(field, value)])
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:?}:{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

#[rstest]
#[case("aggregate_type", "", "field aggregate_type is missing")]
#[case("aggregate_type", r#""""#, "aggregate_type is empty")]
#[case("aggregate_type", "7", "aggregate_type is not text")]
#[case("aggregate_type", "null", "aggregate_type is not text")]
#[case("aggregate_id", r#""018f4e5a""#, "aggregate_id is not a UUID")] // X-EDGE-060
#[case("aggregate_id", r#""018f4e5a7c1b7d2e9f3a5b6c7d8e9f01""#, "aggregate_id is not a UUID")] // X-EDGE-060
#[case("aggregate_version", "", "field aggregate_version is missing")] // S0-ES-019
#[case("aggregate_version", "0", "aggregate_version: version 0")] // X-EDGE-078
#[case("aggregate_version", "-1", "aggregate_version: version -1")] // X-EDGE-078
#[case("aggregate_version", "9223372036854775808", "aggregate_version is not a whole number")] // X-EDGE-078
#[case("aggregate_version", "1.0", "aggregate_version is not a whole number")]
#[case("aggregate_version", r#""1""#, "aggregate_version is not a whole number")]
#[case("event_type", "", "field event_type is missing")] // S0-ES-019
#[case("event_type", r#""a\u0000b""#, "event_type holds a NUL")] // X-EDGE-051
#[case("event_type", r#""\ud800""#, "event_type is not text")] // X-EDGE-052
#[case("event_version", "", "field event_version is missing")] // S0-ES-019
#[case("event_version", "0", "event_version: schema version is 0")]
#[case("event_version", "2147483648", "event_version: schema version is 2147483648")]
#[case("event_data", "", "field event_data is missing")] // S0-ES-019
#[case("event_data", "null", "event_data is null")] // S0-ES-019
#[case("event_data", r#"{"a":"\u0000"}"#, "event_data: JSON: a NUL character")] // X-EDGE-051
#[case("event_data", r#"{"a":"\udc00"}"#, "event_data: JSON: a lone surrogate")] // X-EDGE-052
#[case("event_data", "1e1001", "event_data: JSON: a number of more than 1000 digits")] // X-EDGE-056
#[case("metadata", "[]", "metadata is not an object")]
#[case("metadata", "null", "metadata is not an object")]
#[case("occurred_at", r#""infinity""#, "occurred_at: ")] // X-EDGE-053
#[case("occurred_at", r#""2016-12-31T23:59:60Z""#, "occurred_at: ")] // X-EDGE-053
#[case("occurred_at", "1480000000", "occurred_at is not text")]
#[case("correlation_id", r#""none""#, "correlation_id is not a UUID")]
#[case("causation_id", "1", "causation_id is not text")]
#[case("event_id", r#""x""#, "event_id is not a UUID")] // X-EDGE-060
#[case("Event_id", "1", "unknown field \"Event_id\"")]
fn a_bad_field_is_named(#[case] field: &str, #[case] value: &str, #[case] expected: &str) {
    let problem = parse(line(field, value).as_bytes()).unwrap_err();
    assert!(problem.contains(expected), "{problem}");
    let others = REQUIRED.iter().chain(&OPTIONAL).filter(|other| **other != field);
    assert!(others.into_iter().all(|other| !problem.contains(other)), "no other field is blamed: {problem}");
}

#[test]
fn all_mistakes_of_a_line_are_told() {
    let problem = parse(br#"{"aggregate_version":0,"event_type":"","x":1,"event_type":"E"}"#).unwrap_err();
    for expected in
        ["unknown field \"x\"", "field event_type stands twice", "version 0", "aggregate_type is missing"]
    {
        assert!(problem.contains(expected), "{expected} in {problem}");
    }
}

#[rstest]
#[case(b"\xff{}", "not UTF-8 from byte 1")] // X-EDGE-052
#[case(b"{\"a\":\"secret\"", "ends too early")]
#[case(b"[1]", "not a JSON object")]
#[case(b"\"secret\"", "not a JSON object")]
#[case(b"{} {}", "not JSON")] // X-EDGE-108
#[case(b"{'a':1}", "not JSON")]
#[case(b"\xff\xfe{\x00}\x00", "not UTF-8")]
fn what_is_no_object_is_refused_without_being_shown(#[case] bytes: &[u8], #[case] expected: &str) {
    let problem = parse(bytes).unwrap_err();
    assert!(problem.contains(expected), "{problem}");
    assert!(!problem.contains("secret"), "{problem}");
}

// X-EDGE-058: nesting at the limit of the contract, and one above.
#[test]
fn nesting_is_limited_by_the_contract_not_by_the_parser_of_lines() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(line("event_data", &nested(Json::MAX_DEPTH)).as_bytes()).is_ok());
    let problem = parse(line("event_data", &nested(Json::MAX_DEPTH + 1)).as_bytes()).unwrap_err();
    assert!(problem.contains("nesting deeper"), "{problem}");
}

#[test]
fn an_id_is_implied_by_stream_and_version_and_never_changes() {
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"urn:changeover:event-id");
    assert_eq!(EVENT_ID_NAMESPACE, namespace);
    let found = parse(line("", "").as_bytes()).unwrap();
    assert_eq!(found.event.id, Uuid::new_v5(&namespace, format!("Order/{ID}/2").as_bytes()));
    let given = "9b2f6f0e-0000-4000-8000-000000000001";
    assert_eq!(
        parse(line("event_id", &format!("{given:?}")).as_bytes()).unwrap().event.id.to_string(),
        given
    );
    // X-EDGE-060: upper case is the same id.
    let upper = given.to_uppercase();
    assert_eq!(
        parse(line("event_id", &format!("{upper:?}")).as_bytes()).unwrap().event.id.to_string(),
        given
    );
}

// X-EDGE-054, X-EDGE-056, X-EDGE-057: what is written is what the contract stores.
#[test]
fn an_exported_event_is_read_as_the_same_event() {
    let mut read =
        parse(line("event_data", r#"{"b":1.10,"a":12345678901234567890,"b":-0}"#).as_bytes()).unwrap();
    assert_eq!(read.event.data.as_str(), r#"{"a":12345678901234567890,"b":0}"#);
    read.event.occurred_at = Some(Timestamp::parse("2024-02-29T12:00:00.120Z").unwrap());
    read.event.causation_id = Some(Uuid::max());
    let recorded = RecordedEvent {
        stream: read.stream.clone(),
        version: read.version,
        checkpoint: Checkpoint::new(LogId(Uuid::nil()), 7).unwrap(),
        id: read.event.id,
        event_type: read.event.event_type.clone(),
        schema_version: read.event.schema_version,
        data: read.event.data.clone(),
        metadata: read.event.metadata.clone(),
        occurred_at: read.event.occurred_at.unwrap(),
        recorded_at: Timestamp::parse("2024-03-01T00:00:00Z").unwrap(),
        causation_id: read.event.causation_id,
        correlation_id: None,
    };
    let text = serde_json::to_string(&Exported::from(&recorded)).unwrap();
    assert!(
        text.contains(r#""occurred_at":"2024-02-29T12:00:00.12Z","recorded_at":"2024-03-01T00:00:00Z""#),
        "{text}"
    );
    assert!(text.contains(r#""global_order":7"#) && text.contains("12345678901234567890"), "{text}");
    assert_eq!(parse(text.as_bytes()).unwrap(), read);
}
