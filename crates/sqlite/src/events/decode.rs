//! A row as an event, or what is wrong with it.
//!
//! Old programs checked nothing, and people edited by hand: each value is taken for what it is, and a value that
//! breaks the contract is named by table, key and column. The value itself is never shown.

use changeover_core::events::{RecordedEvent, SchemaVersion, StreamId, Version};
use changeover_core::{AggregateType, Checkpoint, Error, EventType, Json, LogId, Result, Timestamp, Uuid};

use super::statements::column;
use crate::sql::{Cell, Row};

const EVENTS: &str = "domain_event";
const STREAMS: &str = "event_stream";

/// How a row is named in an error: by its id, else by its place.
fn key_of(row: &Row, id: usize, position: Option<i64>) -> String {
    match (row.cell(id).as_str().filter(|text| !text.is_empty() && text.len() <= 64), position) {
        (Some(id), _) => id.to_owned(),
        (None, Some(position)) => format!("rowid {position}"),
        (None, None) => "without an id".to_owned(),
    }
}

/// An id in its one form: hyphenated, all in lower or all in upper case. Everything else compares wrong in SQL.
fn parse_id(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    let lower = id.hyphenated().to_string();
    (text == lower || text == lower.to_ascii_uppercase()).then_some(id)
}

/// The columns of one row, each read with the row's name at hand.
struct Reader<'a> {
    row: &'a Row,
    key: &'a str,
}

impl Reader<'_> {
    fn corrupt(&self, table: &str, column: &str, problem: &str) -> Error {
        Error::corrupt(table, self.key, column, problem)
    }

    fn text(&self, table: &str, column: &str, index: usize) -> Result<&str> {
        match self.row.cell(index) {
            Cell::Text(bytes) => std::str::from_utf8(bytes).map_err(|error| {
                let problem = format!("is not UTF-8 from byte {}", error.valid_up_to());
                self.corrupt(table, column, &problem)
            }),
            other => Err(self.corrupt(table, column, &format!("is {}, allowed is text", other.class()))),
        }
    }

    fn int(&self, table: &str, column: &str, index: usize) -> Result<i64> {
        let cell = self.row.cell(index);
        cell.as_int().ok_or_else(|| {
            self.corrupt(table, column, &format!("is {}, allowed is an integer", cell.class()))
        })
    }

    fn id(&self, table: &str, column: &str, index: usize) -> Result<Uuid> {
        let text = self.text(table, column, index)?;
        parse_id(text).ok_or_else(|| self.corrupt(table, column, "is not a hyphenated UUID"))
    }

    fn optional_id(&self, column: &str, index: usize) -> Result<Option<Uuid>> {
        if *self.row.cell(index) == Cell::Null {
            return Ok(None);
        }
        self.id(EVENTS, column, index).map(Some)
    }

    fn time(&self, column: &str, index: usize) -> Result<Timestamp> {
        let text = self.text(EVENTS, column, index)?;
        parse_time(text).ok_or_else(|| {
            let problem = "is not a time; allowed are RFC 3339 and YYYY-MM-DD HH:MM:SS in UTC";
            self.corrupt(EVENTS, column, problem)
        })
    }

    fn json(&self, column: &str, index: usize) -> Result<Json> {
        let text = self.text(EVENTS, column, index)?;
        // Core's message names the place and the rule, never the value.
        Json::parse(text).map_err(|error| self.corrupt(EVENTS, column, error.message()))
    }
}

/// RFC 3339, or what `CURRENT_TIMESTAMP` gives: `YYYY-MM-DD HH:MM:SS` in UTC.
fn parse_time(text: &str) -> Option<Timestamp> {
    if text.len() == 19 && text.as_bytes()[10] == b' ' {
        return Timestamp::parse(&format!("{}Z", text.replacen(' ', "T", 1))).ok();
    }
    Timestamp::parse(text).ok()
}

/// The event of a row with the columns of [`column`].
pub(super) fn event(row: &Row, log: LogId) -> Result<RecordedEvent> {
    let position = row.cell(column::POSITION).as_int();
    let key = key_of(row, column::EVENT_ID, position);
    let read = Reader { row, key: &key };
    let position = position.filter(|position| *position > 0);
    let position = position.ok_or_else(|| read.corrupt(EVENTS, "position", "is not above zero"))?;
    let id = read.id(EVENTS, "event_id", column::EVENT_ID)?;
    read.id(EVENTS, "stream_id", column::STREAM_ID)?;
    if *row.cell(column::STREAM_EXISTS) == Cell::Null {
        return Err(read.corrupt(EVENTS, "stream_id", "names a stream that does not exist"));
    }
    let version = read.int(EVENTS, "aggregate_version", column::AGGREGATE_VERSION)?;
    let schema = read.int(EVENTS, "event_version", column::EVENT_VERSION)?;
    let event_type = read.text(EVENTS, "event_type", column::EVENT_TYPE)?;
    let data = read.json("event_data", column::EVENT_DATA)?;
    if data.is_null() {
        return Err(read.corrupt(EVENTS, "event_data", "is JSON null"));
    }
    let metadata = match row.cell(column::METADATA) {
        Cell::Null => Json::empty(),
        _ => read.json("metadata", column::METADATA)?,
    };
    if !metadata.is_object() {
        return Err(read.corrupt(EVENTS, "metadata", "is not a JSON object"));
    }
    Ok(RecordedEvent {
        stream: stream_name(row)?,
        version: Version::new(version)
            .map_err(|_| read.corrupt(EVENTS, "aggregate_version", "is below 1"))?,
        checkpoint: Checkpoint::new(log, position)?,
        id,
        event_type: EventType::new(event_type)
            .map_err(|error| read.corrupt(EVENTS, "event_type", error.message()))?,
        schema_version: SchemaVersion::new(schema)
            .map_err(|_| read.corrupt(EVENTS, "event_version", "is outside of 1 to 2147483647"))?,
        data,
        metadata,
        occurred_at: read.time("occurred_at", column::OCCURRED_AT)?,
        recorded_at: read.time("recorded_at", column::RECORDED_AT)?,
        causation_id: read.optional_id("causation_id", column::CAUSATION_ID)?,
        correlation_id: read.optional_id("correlation_id", column::CORRELATION_ID)?,
    })
}

/// The name of the stream in an event's row.
fn stream_name(row: &Row) -> Result<StreamId> {
    let key = key_of(row, column::STREAM_ID, None);
    let read = Reader { row, key: &key };
    let aggregate_type = read.text(STREAMS, "aggregate_type", column::AGGREGATE_TYPE)?;
    Ok(StreamId {
        aggregate_type: AggregateType::new(aggregate_type)
            .map_err(|error| read.corrupt(STREAMS, "aggregate_type", error.message()))?,
        aggregate_id: read.id(STREAMS, "aggregate_id", column::AGGREGATE_ID)?,
    })
}

/// A stream as found: its key and its latest version; `None` if it has no events.
#[derive(Clone, Debug)]
pub(super) struct FoundStream {
    pub(super) key: String,
    pub(super) head: Option<Version>,
}

/// The stream of the rows of `Statements::stream`: none, or exactly one whose version is that of its last event.
pub(super) fn stream(rows: &[Row], stream: &StreamId) -> Result<Option<FoundStream>> {
    let [row] = rows else {
        let Some(row) = rows.first() else { return Ok(None) };
        let problem = format!("stands for the same stream as {} other rows", rows.len() - 1);
        return Err(Error::corrupt(STREAMS, key_of(row, 0, None), "aggregate_id", &problem));
    };
    let key = match row.cell(0).as_str() {
        Some(_) => key_of(row, 0, None),
        None => stream.to_string(),
    };
    let read = Reader { row, key: &key };
    read.id(STREAMS, "stream_id", 0)?;
    let version = read.int(STREAMS, "version", 1)?;
    let last = match row.cell(2) {
        Cell::Null => 0,
        _ => read.int(EVENTS, "aggregate_version", 2)?,
    };
    if version != last {
        let problem = format!("is {version}, but the last event of the stream has version {last}");
        return Err(read.corrupt(STREAMS, "version", &problem));
    }
    Ok(Some(FoundStream { head: Version::new(last).ok(), key }))
}

/// Refuses a page of a stream without a filter whose versions do not follow each other. `from` is the version that has
/// to come first, `step` 1 or -1.
pub(super) fn contiguous(events: &[RecordedEvent], from: i64, step: i64) -> Result<()> {
    let mut wanted = from;
    for event in events {
        let found = event.version.get();
        if found != wanted {
            let key = event.id.to_string();
            let problem =
                format!("is {found} where {wanted} has to follow: a version is missing or given twice");
            return Err(Error::corrupt(EVENTS, key, "aggregate_version", &problem));
        }
        wanted += step;
    }
    Ok(())
}

/// Refuses a page of a stream without a filter that is shorter than its versions say.
pub(super) fn complete(stream: &str, found: usize, wanted: usize) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    let problem = format!("{found} events where the stream's versions make {wanted}: a version is missing");
    Err(Error::corrupt(EVENTS, format!("stream_id {stream}"), "aggregate_version", &problem))
}
