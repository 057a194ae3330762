//! One event as one line of JSON: what import reads and export writes.

use std::collections::BTreeMap;

use changeover::events::{NewEvent, RecordedEvent, SchemaVersion, StreamId, Version};
use changeover::{Error, EventType, Json, Timestamp, Uuid};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::lines::{Members, members};
use crate::output::short;

/// What the UUIDv5 of an event without an id is made in: itself the UUIDv5 of `urn:changeover:event-id` in the
/// namespace of URLs. Never changes, since a second import is harmless only if ids come out the same.
const EVENT_ID_NAMESPACE: Uuid = Uuid::from_u128(0xd177_c5ff_3d62_5ca9_a69d_2d4a_1bbe_2527);

/// Fields that export adds and only a store can know.
const OWN: [&str; 3] = ["global_order", "recorded_at", "checkpoint"];
const REQUIRED: [&str; 6] =
    ["aggregate_type", "aggregate_id", "aggregate_version", "event_type", "event_version", "event_data"];
const OPTIONAL: [&str; 5] = ["metadata", "occurred_at", "correlation_id", "causation_id", "event_id"];

/// An event with the place in its stream that the line claims.
#[derive(Clone, Debug, PartialEq)]
pub struct EventLine {
    pub stream: StreamId,
    pub version: Version,
    pub event: NewEvent,
}

/// Reads a line, without its line break. The error tells every mistake in it, without showing values of the payload.
pub fn parse(bytes: &[u8]) -> Result<EventLine, String> {
    let Members { values, mut problems } = members(bytes)?;
    let known = |name: &String| REQUIRED.iter().chain(&OPTIONAL).chain(&OWN).any(|known| *known == name);
    problems.extend(values.keys().filter(|name| !known(name)).map(|name| format!("unknown field {name:?}")));
    Fields { values, problems }.event()
}

/// The members with the mistakes found in them so far.
struct Fields<'a> {
    values: BTreeMap<String, &'a RawValue>,
    problems: Vec<String>,
}

impl Fields<'_> {
    fn event(mut self) -> Result<EventLine, String> {
        let stream = (self.text("aggregate_type"), self.uuid("aggregate_id"));
        let stream = match stream {
            (Some(aggregate_type), Some(id)) => self.checked("", StreamId::new(aggregate_type, id)),
            _ => None,
        };
        let version = self.number("aggregate_version");
        let version = version.and_then(|number| self.checked("aggregate_version: ", Version::new(number)));
        let event_type = self.text("event_type");
        let event_type = event_type.and_then(|text| self.checked("", EventType::new(text)));
        let schema_version = self.number("event_version");
        let schema_version =
            schema_version.and_then(|number| self.checked("event_version: ", SchemaVersion::new(number)));
        let data = self.json("event_data");
        if data.as_ref().is_some_and(Json::is_null) {
            self.problems.push("event_data is null; allowed is any other JSON".to_owned());
        }
        let metadata = self.json("metadata").unwrap_or_else(Json::empty);
        if !metadata.is_object() {
            self.problems.push("metadata is not an object; leave it out or give an object".to_owned());
        }
        let occurred_at = self.text("occurred_at");
        let occurred_at = occurred_at.and_then(|text| self.checked("occurred_at: ", Timestamp::parse(&text)));
        let correlation_id = self.uuid("correlation_id");
        let causation_id = self.uuid("causation_id");
        let given_id = self.uuid("event_id");
        for name in REQUIRED.iter().filter(|name| !self.values.contains_key(**name)) {
            self.problems.push(format!("field {name} is missing"));
        }
        match (stream, version, event_type, schema_version, data) {
            (Some(stream), Some(version), Some(event_type), Some(schema_version), Some(data))
                if self.problems.is_empty() =>
            {
                let id = given_id.unwrap_or_else(|| implied_id(&stream, version));
                let event = NewEvent {
                    id,
                    event_type,
                    schema_version,
                    data,
                    metadata,
                    occurred_at,
                    causation_id,
                    correlation_id,
                };
                Ok(EventLine { stream, version, event })
            }
            _ => Err(self.problems.join("; ")),
        }
    }

    /// The value at `name`; null counts as absent where the field is optional.
    fn value(&self, name: &str) -> Option<&str> {
        let value = self.values.get(name)?.get();
        (value != "null" || !OPTIONAL.contains(&name) || name == "metadata").then_some(value)
    }

    fn text(&mut self, name: &str) -> Option<String> {
        let text = serde_json::from_str(self.value(name)?);
        if text.is_err() {
            self.problems.push(format!(
                "{name} is not text that can be stored; allowed is a JSON string of Unicode text"
            ));
        }
        text.ok()
    }

    fn number(&mut self, name: &str) -> Option<i64> {
        let number = serde_json::from_str(self.value(name)?);
        if number.is_err() {
            self.problems.push(format!("{name} is not a whole number of 64 bits, like 1"));
        }
        number.ok()
    }

    fn uuid(&mut self, name: &str) -> Option<Uuid> {
        let text = self.text(name)?;
        // One form only: without hyphens or in braces it would be stored as another text than was given.
        let id = Uuid::try_parse(&text).ok().filter(|_| text.len() == 36);
        if id.is_none() {
            self.problems.push(format!(
                "{name} is not a UUID; allowed is the form 018f4e5a-7c1b-7d2e-9f3a-5b6c7d8e9f01"
            ));
        }
        id
    }

    fn json(&mut self, name: &str) -> Option<Json> {
        let json = Json::parse(self.value(name)?);
        self.checked(&format!("{name}: "), json)
    }

    fn checked<T>(&mut self, place: &str, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.problems.push(format!("{place}{}", error.message()))).ok()
    }
}

fn implied_id(stream: &StreamId, version: Version) -> Uuid {
    Uuid::new_v5(&EVENT_ID_NAMESPACE, format!("{stream}/{version}").as_bytes())
}

/// A stored event as export writes it: fields sorted by name, times as short as they are exact.
#[derive(Serialize)]
pub struct Exported<'a> {
    aggregate_id: Uuid,
    aggregate_type: &'a str,
    aggregate_version: i64,
    causation_id: Option<Uuid>,
    checkpoint: String,
    correlation_id: Option<Uuid>,
    event_data: &'a Json,
    event_id: Uuid,
    event_type: &'a str,
    event_version: i32,
    global_order: i64,
    metadata: &'a Json,
    occurred_at: String,
    recorded_at: String,
}

impl<'a> From<&'a RecordedEvent> for Exported<'a> {
    fn from(event: &'a RecordedEvent) -> Self {
        Self {
            aggregate_id: event.stream.aggregate_id,
            aggregate_type: event.stream.aggregate_type.as_str(),
            aggregate_version: event.version.get(),
            causation_id: event.causation_id,
            checkpoint: event.checkpoint.to_string(),
            correlation_id: event.correlation_id,
            event_data: &event.data,
            event_id: event.id,
            event_type: event.event_type.as_str(),
            event_version: event.schema_version.get(),
            global_order: event.checkpoint.position(),
            metadata: &event.metadata,
            occurred_at: short(event.occurred_at),
            recorded_at: short(event.recorded_at),
        }
    }
}

#[cfg(test)]
mod tests;
