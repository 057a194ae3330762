//! One audit record as one line of JSON: what import reads, export and queries write.

use std::collections::BTreeMap;

use changeover::audit::{AuditEvent, NewAuditEvent};
use serde_json::value::{RawValue, to_raw_value};

use crate::exit::Failure;
use crate::lines::{Members, members};

/// Fields that a query adds and only a store can know.
const OWN: [&str; 2] = ["recorded_at", "sequence"];

/// Reads a line, without its line break.
pub fn parse(bytes: &[u8]) -> Result<NewAuditEvent, String> {
    let mut members: Members = members(bytes)?;
    if !members.problems.is_empty() {
        return Err(members.problems.join("; "));
    }
    members.values.retain(|name, _| !OWN.contains(&name.as_str()));
    NewAuditEvent::from_text(&members.text()?).map_err(|error| {
        let column = error.context().iter().find(|(key, _)| *key == "column");
        let place = column.map_or_else(String::new, |(_, column)| format!("{column}: "));
        format!("{place}{}", error.message())
    })
}

/// A stored record with what the store knows of it.
pub fn stored(event: &AuditEvent) -> Result<BTreeMap<String, Box<RawValue>>, Failure> {
    let columns = || -> serde_json::Result<_> {
        let mut columns: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(event.event.to_json().as_str())?;
        columns.insert(OWN[0].to_owned(), to_raw_value(&event.recorded_at)?);
        columns.insert(OWN[1].to_owned(), to_raw_value(&event.sequence)?);
        Ok(columns)
    };
    columns().map_err(|error| Failure::failed(format!("a record cannot be written as JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const ID: &str = "018f4e5a-7c1b-7d2e-9f3a-5b6c7d8e9f01";

    /// A good line with `field` set to the JSON `value`; an empty value leaves the field out.
    fn line(field: &str, value: &str) -> String {
        let id = format!("{ID:?}");
        let good = [
            ("event_id", id.as_str()),
            ("event_type", r#""order.placed""#),
            ("event_category", r#""workflow""#),
            ("event_outcome", r#""success""#),
            ("event_timestamp", r#""2024-03-31T23:30:00-02:00""#),
            ("service_name", r#""shop""#),
            ("actor_type", r#""user""#),
            ("resource_type", r#""order""#),
            ("resource_id", r#""7""#),
            ("event_data", r#"{"n":1.10}"#),
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
    #[case("event_type", "", "event_type of the audit event is missing or null")] // S3-EDGE-001
    #[case("event_type", r#""""#, "event_type is empty")] // S3-EDGE-001
    #[case("event_data", "", "event_data of the audit event is missing or null")] // S3-EDGE-002
    #[case("event_data", "null", "event_data of the audit event is missing or null")] // S3-EDGE-002
    #[case("service_name", r#""""#, "service_name is empty")] // S3-EDGE-003
    #[case("resource_id", "", "resource_id of the audit event is missing or null")] // S3-EDGE-004
    #[case("event_outcome", r#""Success""#, "event_outcome")] // S3-AUD-005
    #[case("actor_type", r#""robot""#, "actor_type")] // S3-AUD-006
    #[case("event_type", r#""a\u0000b""#, "event_type holds a NUL")] // X-EDGE-051
    #[case("event_data", r#"{"a":"\u0000"}"#, "event_data: JSON: a NUL character")] // X-EDGE-051
    #[case("actor_name", r#""\ud800""#, "actor_name is not text")] // X-EDGE-052
    #[case("event_timestamp", r#""infinity""#, "event_timestamp: ")] // X-EDGE-053
    #[case("event_timestamp", r#""2016-12-31T23:59:60Z""#, "event_timestamp: ")] // X-EDGE-053
    #[case("event_timestamp", "1711920600", "event_timestamp is not text")]
    #[case("event_date", r#""2024-03-31""#, "the UTC date of the event_timestamp is 2024-04-01")] // X-EDGE-055, DEF-12
    #[case("event_data", "[]", "event_data is not a JSON object")] // X-EDGE-059
    #[case("event_data", "7", "event_data is not a JSON object")] // X-EDGE-059
    #[case("metadata", r#""x""#, "metadata is not a JSON object")]
    #[case("event_data", r#"{"n":1e1001}"#, "event_data: JSON: a number of more than 1000 digits")] // X-EDGE-056
    #[case("event_id", r#""none""#, "event_id is not a UUID")] // X-EDGE-060
    #[case("event_id", r#""018f4e5a7c1b7d2e9f3a5b6c7d8e9f01""#, "event_id is not a UUID")] // X-EDGE-060
    #[case("parent_event_id", "1", "parent_event_id is not text")]
    #[case("colour", "1", "unknown column \"colour\"")]
    fn a_bad_field_is_named(#[case] field: &str, #[case] value: &str, #[case] expected: &str) {
        let problem = parse(line(field, value).as_bytes()).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }

    // S3-AUD-004: counted in characters.
    #[rstest]
    #[case("event_type", 100)]
    #[case("event_category", 50)]
    #[case("service_name", 100)]
    #[case("service_version", 50)]
    #[case("actor_id", 255)]
    #[case("actor_name", 255)]
    #[case("resource_type", 100)]
    #[case("resource_id", 255)]
    #[case("resource_name", 255)]
    #[case("correlation_id", 255)]
    #[case("trace_id", 255)]
    #[case("span_id", 255)]
    fn text_is_never_cut(#[case] field: &str, #[case] max: usize) {
        let of = |length: usize| line(field, &format!("{:?}", "é".repeat(length)));
        parse(of(max).as_bytes()).unwrap();
        let problem = parse(of(max + 1).as_bytes()).unwrap_err();
        assert!(problem.contains(&format!("{field} has {} characters", max + 1)), "{problem}"); // S3-EDGE-006
    }

    // X-EDGE-057 is about JSON inside; a column that stands twice is a mistake of the file.
    #[test]
    fn a_field_that_stands_twice_is_rejected() {
        let text = line("service_name", r#""a","service_name":"b""#);
        assert!(parse(text.as_bytes()).unwrap_err().contains("field service_name stands twice"));
    }

    #[test]
    fn what_a_query_prints_can_be_imported() {
        let event = parse(line("correlation_id", r#""c""#).as_bytes()).unwrap();
        assert_eq!(event.event_timestamp.to_string(), "2024-04-01T01:30:00.000000Z"); // X-EDGE-055
        assert_eq!(event.event_data.as_str(), r#"{"n":1.1}"#);
        let recorded = AuditEvent { event, recorded_at: changeover::Timestamp::MAX, sequence: 7 };
        let text = serde_json::to_string(&stored(&recorded).unwrap()).unwrap();
        assert!(text.contains(r#""recorded_at":"9999-12-31T23:59:59.999999Z""#), "{text}");
        assert_eq!(parse(text.as_bytes()).unwrap(), recorded.event);
    }
}
