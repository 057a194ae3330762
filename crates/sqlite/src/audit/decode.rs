//! A row as an audit event, or what is wrong with it.

use std::str::FromStr;

use changeover_core::audit::{AuditEvent, NewAuditEvent};
use changeover_core::{Json, Result, Timestamp};

use super::statements::column;
use crate::settings::Epoch;
use crate::sql::{Cell, Row};
use crate::values::{Reader, key_of};

pub(super) const TABLE: &str = "audit_events";

/// The event of a row.
pub(super) fn event(row: &Row, epoch: Epoch) -> Result<AuditEvent> {
    let sequence = row.cell(column::SEQUENCE).as_int();
    let key = key_of(row, column::FIRST, sequence);
    let read = Reader { table: TABLE, row, key: &key };
    let sequence = sequence.ok_or_else(|| read.corrupt("rowid", "is not an integer"))?;
    let [id, kind, category, outcome, at, date, service, version, actor_type, actor, actor_name] =
        std::array::from_fn(|index| column::FIRST + index);
    let [resource_type, resource, resource_name, payload, correlation, parent, trace, span, metadata] =
        std::array::from_fn(|index| column::FIRST + 11 + index);
    let event = NewAuditEvent {
        event_id: read.id("event_id", id)?,
        event_type: read.text("event_type", kind)?,
        event_category: read.text("event_category", category)?,
        event_outcome: word(&read, "event_outcome", outcome)?,
        event_timestamp: time(&read, at, epoch)?,
        service_name: read.text("service_name", service)?,
        service_version: read.optional("service_version", version, Reader::text)?,
        actor_type: word(&read, "actor_type", actor_type)?,
        actor_id: read.optional("actor_id", actor, Reader::text)?,
        actor_name: read.optional("actor_name", actor_name, Reader::text)?,
        resource_type: read.text("resource_type", resource_type)?,
        resource_id: read.text("resource_id", resource)?,
        resource_name: read.optional("resource_name", resource_name, Reader::text)?,
        event_data: read.object("event_data", payload)?,
        correlation_id: read.optional("correlation_id", correlation, Reader::text)?,
        parent_event_id: read.optional("parent_event_id", parent, Reader::id)?,
        trace_id: read.optional("trace_id", trace, Reader::text)?,
        span_id: read.optional("span_id", span, Reader::text)?,
        metadata: read.optional("metadata", metadata, Reader::object)?.unwrap_or_else(Json::empty),
    };
    check_date(&read, date, at, event.event_timestamp)?;
    if event.parent_event_id == Some(event.event_id) {
        return Err(read.corrupt("parent_event_id", "names the event itself"));
    }
    if *row.cell(column::PARENT) == Cell::Int(0) {
        return Err(read.corrupt("parent_event_id", "names an event that does not exist"));
    }
    if *row.cell(column::TWICE) != Cell::Int(0) {
        return Err(read.corrupt("event_id", "stands for the same event as another row, in another spelling"));
    }
    // The tables of an adopted file keep no time of recording.
    let recorded_at = read.optional("recorded_at", column::RECORDED_AT, Reader::time)?;
    Ok(AuditEvent { recorded_at: recorded_at.unwrap_or(event.event_timestamp), event, sequence })
}

fn word<T: FromStr>(read: &Reader<'_>, column: &str, index: usize) -> Result<T> {
    // Core's message would show the value.
    read.str(column, index)?.parse().map_err(|_| read.corrupt(column, "is none of the words allowed there"))
}

fn time(read: &Reader<'_>, index: usize, epoch: Epoch) -> Result<Timestamp> {
    let text = read.str("event_timestamp", index)?;
    parse_time(text, epoch).ok_or_else(|| {
        let problem = if is_number(text) {
            "is a number; allowed is RFC 3339, and numbers if `epoch_times` in the settings says what they mean"
        } else {
            "is not a time; allowed is RFC 3339"
        };
        read.corrupt("event_timestamp", problem)
    })
}

/// The time in a cell, if it can be read.
pub(super) fn time_in(cell: &Cell, epoch: Epoch) -> Option<Timestamp> {
    parse_time(cell.as_str()?, epoch)
}

/// RFC 3339, with any offset; a number if its unit was declared.
fn parse_time(text: &str, epoch: Epoch) -> Option<Timestamp> {
    if !is_number(text) {
        return Timestamp::parse(text).ok();
    }
    let number: i64 = text.parse().ok()?;
    let unit = match epoch {
        Epoch::Refuse => return None,
        Epoch::Seconds => 1_000_000,
        Epoch::BySize if number < 100_000_000_000 => 1_000_000,
        Epoch::Milliseconds | Epoch::BySize => 1_000,
    };
    Timestamp::from_micros(number.checked_mul(unit)?).ok()
}

/// Digits as a program writes a number of seconds or milliseconds since 1970.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The date is that of the time, in UTC or as the time is written: programs that wrote the time with an offset took
/// the date from there.
fn check_date(read: &Reader<'_>, index: usize, time: usize, at: Timestamp) -> Result<()> {
    let date = read.str("event_date", index)?;
    let written = read.row.cell(time).as_str().and_then(|text| text.get(..10));
    if date == at.date().to_string() || (date.len() == 10 && Some(date) == written) {
        return Ok(());
    }
    Err(read.corrupt("event_date", "is not the date of the event_timestamp"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // Hazards 22 and 23: a number is a time only where its unit was declared; text without an offset never.
    #[rstest]
    #[case("1700000000", Epoch::Refuse, None)]
    #[case("1700000000", Epoch::Seconds, Some("2023-11-14T22:13:20.000000Z"))]
    #[case("1700000000123", Epoch::Milliseconds, Some("2023-11-14T22:13:20.123000Z"))]
    #[case("1700000000", Epoch::BySize, Some("2023-11-14T22:13:20.000000Z"))]
    #[case("1700000000123", Epoch::BySize, Some("2023-11-14T22:13:20.123000Z"))]
    #[case("1700000000123", Epoch::Seconds, None)]
    #[case("-1", Epoch::Seconds, None)]
    #[case("1700000000.5", Epoch::Seconds, None)]
    #[case("2024-03-31T23:30:00-02:00", Epoch::Refuse, Some("2024-04-01T01:30:00.000000Z"))]
    #[case("2024-03-31 23:30:00", Epoch::Refuse, None)]
    #[case("2024-02-31T00:00:00Z", Epoch::BySize, None)]
    fn times_of_old_programs(#[case] text: &str, #[case] epoch: Epoch, #[case] expected: Option<&str>) {
        let found = parse_time(text, epoch).map(|at| at.to_string());
        assert_eq!(found.as_deref(), expected);
    }
}
