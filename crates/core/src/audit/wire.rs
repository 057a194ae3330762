//! An audit event as one JSON object of the columns' names: what import reads, export writes, queues carry, and what the
//! digests of the hash chain are over.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::value::RawValue;

use super::values::NewAuditEvent;
use crate::Uuid;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::text::Text;
use crate::time::Timestamp;

/// The columns of an audit event, in the order of the table.
pub const COLUMNS: [&str; 20] = [
    "event_id",
    "event_type",
    "event_category",
    "event_outcome",
    "event_timestamp",
    "event_date",
    "service_name",
    "service_version",
    "actor_type",
    "actor_id",
    "actor_name",
    "resource_type",
    "resource_id",
    "resource_name",
    "event_data",
    "correlation_id",
    "parent_event_id",
    "trace_id",
    "span_id",
    "metadata",
];

impl NewAuditEvent {
    /// The object of the 20 [`COLUMNS`]: what is absent is null, the time is in UTC with six decimals, the date is derived
    /// from it. Larger and deeper than [`Json`] admits if data and metadata are at their own limits.
    pub fn to_json(&self) -> Json {
        fn text<const MAX: usize>(value: &Text<MAX>) -> String {
            Json::quoted(value.as_str())
        }
        fn optional<const MAX: usize>(value: Option<&Text<MAX>>) -> String {
            value.map_or_else(|| "null".to_owned(), text)
        }
        let uuid = |id: Uuid| Json::quoted(&id.hyphenated().to_string());
        Json::object(&BTreeMap::from([
            ("event_id", uuid(self.event_id)),
            ("event_type", text(&self.event_type)),
            ("event_category", text(&self.event_category)),
            ("event_outcome", Json::quoted(self.event_outcome.as_str())),
            ("event_timestamp", Json::quoted(&self.event_timestamp.to_string())),
            ("event_date", Json::quoted(&self.event_timestamp.date().to_string())),
            ("service_name", text(&self.service_name)),
            ("service_version", optional(self.service_version.as_ref())),
            ("actor_type", Json::quoted(self.actor_type.as_str())),
            ("actor_id", optional(self.actor_id.as_ref())),
            ("actor_name", optional(self.actor_name.as_ref())),
            ("resource_type", text(&self.resource_type)),
            ("resource_id", text(&self.resource_id)),
            ("resource_name", optional(self.resource_name.as_ref())),
            ("event_data", self.event_data.as_str().to_owned()),
            ("correlation_id", optional(self.correlation_id.as_ref())),
            ("parent_event_id", self.parent_event_id.map_or_else(|| "null".to_owned(), uuid)),
            ("trace_id", optional(self.trace_id.as_ref())),
            ("span_id", optional(self.span_id.as_ref())),
            ("metadata", self.metadata.as_str().to_owned()),
        ]))
    }

    /// Reads what [`NewAuditEvent::to_json`] writes. Columns that may be absent may be left out; `event_date` and
    /// `metadata` too, the metadata being an empty object then. `Invalid`, naming the column, for an unknown one, one
    /// that is missing, a wrong type or a value out of bounds, an `event_date` that is not the UTC date of the time, data
    /// or metadata that are not objects; `TooLarge` for JSON above its limit.
    pub fn from_json(json: &Json) -> Result<Self> {
        Self::from_text(json.as_str())
    }

    /// As [`NewAuditEvent::from_json`], of JSON text in any spelling, which as a whole may be larger than [`Json`] admits.
    pub fn from_text(text: &str) -> Result<Self> {
        let values: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|error| {
            // Serde's own message may quote a value.
            Error::invalid(format!("not a JSON object of an audit event, at character {}", error.column()))
        })?;
        if let Some(unknown) = values.keys().find(|name| !COLUMNS.contains(&name.as_str())) {
            return Err(Error::invalid(format!(
                "unknown column {unknown:?} of an audit event; there are {}",
                COLUMNS.join(", ")
            )));
        }
        let columns = Columns(values);
        let event = Self {
            event_id: columns.required("event_id", Columns::uuid)?,
            event_type: columns.required("event_type", Columns::text)?,
            event_category: columns.required("event_category", Columns::text)?,
            event_outcome: columns.required("event_outcome", Columns::word)?,
            event_timestamp: columns.required("event_timestamp", Columns::time)?,
            service_name: columns.required("service_name", Columns::text)?,
            service_version: columns.text("service_version")?,
            actor_type: columns.required("actor_type", Columns::word)?,
            actor_id: columns.text("actor_id")?,
            actor_name: columns.text("actor_name")?,
            resource_type: columns.required("resource_type", Columns::text)?,
            resource_id: columns.required("resource_id", Columns::text)?,
            resource_name: columns.text("resource_name")?,
            event_data: columns.required("event_data", Columns::object)?,
            correlation_id: columns.text("correlation_id")?,
            parent_event_id: columns.uuid("parent_event_id")?,
            trace_id: columns.text("trace_id")?,
            span_id: columns.text("span_id")?,
            metadata: columns.object("metadata")?.unwrap_or_else(Json::empty),
        };
        let date = event.event_timestamp.date().to_string();
        match columns.string("event_date")? {
            Some(given) if given != date => Err(Error::invalid(format!(
                "event_date is {given:?}, the UTC date of the event_timestamp is {date}; leave it out or give that"
            ))),
            _ => Ok(event),
        }
    }
}

/// The values as they were written, so that numbers stay exact.
struct Columns<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Columns<'a> {
    fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(|value| value.get()).filter(|value| *value != "null")
    }

    fn required<T>(&self, name: &str, read: fn(&Self, &str) -> Result<Option<T>>) -> Result<T> {
        read(self, name)?
            .ok_or_else(|| Error::invalid(format!("{name} of the audit event is missing or null")))
    }

    fn string(&self, name: &str) -> Result<Option<String>> {
        let read = |value| {
            serde_json::from_str(value).map_err(|_| {
                Error::invalid(format!("{name} is not text that can be stored; allowed is a JSON string"))
            })
        };
        self.raw(name).map(read).transpose()
    }

    fn text<const MAX: usize>(&self, name: &str) -> Result<Option<Text<MAX>>> {
        self.string(name)?.map(|text| Text::new(name, text)).transpose()
    }

    fn word<T: FromStr<Err = Error>>(&self, name: &str) -> Result<Option<T>> {
        self.string(name)?.map(|text| text.parse()).transpose()
    }

    fn time(&self, name: &str) -> Result<Option<Timestamp>> {
        let parse = |text: String| {
            Timestamp::parse(&text).map_err(|error| Error::invalid(format!("{name}: {}", error.message())))
        };
        self.string(name)?.map(parse).transpose()
    }

    fn uuid(&self, name: &str) -> Result<Option<Uuid>> {
        // With hyphens only: another form would come out as another text than was given.
        let parse = |text: String| {
            Uuid::try_parse(&text)
                .ok()
                .filter(|_| text.len() == 36)
                .ok_or_else(|| Error::invalid(format!("{name} is not a UUID with hyphens")))
        };
        self.string(name)?.map(parse).transpose()
    }

    fn object(&self, name: &str) -> Result<Option<Json>> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let json = Json::parse(value).map_err(|error| error.with("column", name.to_owned()))?;
        if json.is_object() {
            return Ok(Some(json));
        }
        Err(Error::invalid(format!("{name} is not a JSON object")))
    }
}
