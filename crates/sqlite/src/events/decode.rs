//! A row as an event, or what is wrong with it.

use changeover_core::events::{RecordedEvent, SchemaVersion, StreamId, Version};
use changeover_core::{AggregateType, Checkpoint, Error, EventType, Json, LogId, Result};

use super::statements::column;
use crate::sql::{Cell, Row};
use crate::values::{Reader, key_of};

const EVENTS: &str = "domain_event";
const STREAMS: &str = "event_stream";

/// The event of a row with the columns of [`column`].
pub(super) fn event(row: &Row, log: LogId) -> Result<RecordedEvent> {
    let position = row.cell(column::POSITION).as_int();
    let key = key_of(row, column::EVENT_ID, position);
    let read = Reader { table: EVENTS, row, key: &key };
    let position = position.filter(|position| *position > 0);
    let position = position.ok_or_else(|| read.corrupt("position", "is not above zero"))?;
    let id = read.id("event_id", column::EVENT_ID)?;
    read.id("stream_id", column::STREAM_ID)?;
    if *row.cell(column::STREAM_EXISTS) == Cell::Null {
        return Err(read.corrupt("stream_id", "names a stream that does not exist"));
    }
    let version = read.int("aggregate_version", column::AGGREGATE_VERSION)?;
    let schema = read.int("event_version", column::EVENT_VERSION)?;
    let event_type = read.str("event_type", column::EVENT_TYPE)?;
    let data = read.json("event_data", column::EVENT_DATA)?;
    if data.is_null() {
        return Err(read.corrupt("event_data", "is JSON null"));
    }
    let metadata = read.optional("metadata", column::METADATA, Reader::object)?;
    Ok(RecordedEvent {
        stream: stream_name(row)?,
        version: Version::new(version).map_err(|_| read.corrupt("aggregate_version", "is below 1"))?,
        checkpoint: Checkpoint::new(log, position)?,
        id,
        event_type: EventType::new(event_type)
            .map_err(|error| read.corrupt("event_type", error.message()))?,
        schema_version: SchemaVersion::new(schema)
            .map_err(|_| read.corrupt("event_version", "is outside of 1 to 2147483647"))?,
        data,
        metadata: metadata.unwrap_or_else(Json::empty),
        occurred_at: read.time("occurred_at", column::OCCURRED_AT)?,
        recorded_at: read.time("recorded_at", column::RECORDED_AT)?,
        causation_id: read.optional("causation_id", column::CAUSATION_ID, Reader::id)?,
        correlation_id: read.optional("correlation_id", column::CORRELATION_ID, Reader::id)?,
    })
}

/// The name of the stream in an event's row.
fn stream_name(row: &Row) -> Result<StreamId> {
    let key = key_of(row, column::STREAM_ID, None);
    let read = Reader { table: STREAMS, row, key: &key };
    let aggregate_type = read.str("aggregate_type", column::AGGREGATE_TYPE)?;
    Ok(StreamId {
        aggregate_type: AggregateType::new(aggregate_type)
            .map_err(|error| read.corrupt("aggregate_type", error.message()))?,
        aggregate_id: read.id("aggregate_id", column::AGGREGATE_ID)?,
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
    let read = Reader { table: STREAMS, row, key: &key };
    read.id("stream_id", 0)?;
    let version = read.int("version", 1)?;
    let last = match row.cell(2) {
        Cell::Null => 0,
        _ => Reader { table: EVENTS, ..read }.int("aggregate_version", 2)?,
    };
    if version != last {
        let problem = format!("is {version}, but the last event of the stream has version {last}");
        return Err(read.corrupt("version", &problem));
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
