//! Rows as legacy programs wrote them.

use changeover::{Uuid, sha256_hex};

use crate::stage::stream;

/// A stream of [`stream`] with events at these positions, in this order.
pub fn events(number: u128, positions: &[u32]) -> String {
    let (key, id) = (Uuid::from_u128(0x1_0000 + number), stream(number).aggregate_id);
    let stream = format!(
        "INSERT INTO event_stream VALUES ('{key}', 'Order', '{id}', '2024-01-02 03:04:05', {});",
        positions.len()
    );
    let event = |(version, position): (u32, &u32)| {
        format!(
            "INSERT INTO domain_event (rowid, event_id, stream_id, event_type, event_version, aggregate_version, event_data, \
                 occurred_at) \
             VALUES ({position}, '{}', '{key}', 'Placed', 1, {version}, '{{\"n\": {version}}}', '2024-01-02 03:04:05');",
            event_id(*position)
        )
    };
    stream + &(1..).zip(positions).map(event).collect::<String>()
}

/// The id of the event at a position.
pub fn event_id(position: u32) -> Uuid {
    Uuid::from_u128(0xe_0000 + u128::from(position))
}

/// As findings name the event at a position.
pub fn event_name(number: u128, version: u32, position: u32) -> String {
    format!("{} {version} ({})", stream(number), event_id(position))
}

/// An audit record of the day of its number.
pub fn record(number: u32) -> String {
    format!(
        "INSERT INTO audit_events (rowid, event_id, event_type, event_category, event_outcome, event_timestamp, event_date, \
             service_name, actor_type, resource_type, resource_id, correlation_id, metadata) \
         VALUES ({number}, '{}', 't', 'c', 'success', '2024-01-{number:02}T02:00:00+01:00', '2024-01-{number:02}', 's', \
             'system', 'r', '{number}', 'k', NULL);",
        record_id(number)
    )
}

/// The id of an audit record.
pub fn record_id(number: u32) -> Uuid {
    Uuid::from_u128(0xa_0000 + u128::from(number))
}

/// A notification of the day of its number.
pub fn notification(number: u32) -> String {
    format!(
        "INSERT INTO notification_audit (id, notification_id, recipient, channel, status, sent_at) \
         VALUES ({number}, 'n-{number}', 'me', 'email', 'sent', '2024-01-{number:02} 12:00:00');"
    )
}

/// A version of a playbook, written by hand: without a vector.
pub fn playbook(id: &str, version: &str, content: &str, is_latest: bool) -> String {
    format!(
        "INSERT INTO playbook_catalog (playbook_id, version, name, description, content, content_hash, labels, \
             is_latest_version, created_at, updated_at) \
         VALUES ('{id}', '{version}', '{id}', '', '{content}', '{}', '{{\"team\": \"a\"}}', {}, '2024-01-02 03:04:05', \
             '2024-01-02T03:04:05.123456Z');",
        sha256_hex(content.as_bytes()),
        u8::from(is_latest)
    )
}
