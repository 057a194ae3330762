//! One append inside of a write transaction: judged as a whole by reading, then written.
//!
//! The judgement writes nothing, so a refusal needs no savepoint and leaves the transaction as it was for the appends
//! that share it.

use changeover_core::events::{Append, Appended, AppendedStream, RecordedEvent, Version};
use changeover_core::{Checkpoint, Detail, Error, ErrorKind, Result, Timestamp, Uuid};
use diesel::SqliteConnection;

use super::decode::{self, FoundStream};
use super::log::{Log, Tables};
use crate::classify::Failure;
use crate::sql::{self, Bind};
use crate::values::spellings;

/// Judges and writes. In a write transaction, so that nothing changes between the two.
pub(crate) fn append(
    conn: &mut SqliteConnection,
    tables: &Tables,
    request: &Append,
) -> Result<Appended, Failure> {
    let log = tables.log(conn)?;
    let track = match &request.track {
        Some(track) => Some(track.checkpoint.position_in(log.id)?),
        None => None,
    };
    let stored = stored_events(conn, &log, request)?;
    if let Some(first_answer) = repeated(request, &stored) {
        return Ok(first_answer);
    }
    let mut streams = Vec::with_capacity(request.streams.len());
    for part in &request.streams {
        let found = log.stream(conn, &part.stream)?;
        let actual = found.as_ref().and_then(|found| found.head);
        if !part.expected.is_met(actual) {
            return Err(Error::conflict(part.stream.clone(), part.expected, actual).into());
        }
        streams.push(found);
    }
    if let Some(taken) = stored.iter().flatten().next() {
        return Err(Error::exists("event", taken.id).into());
    }
    if let (Some(position), Some(track)) = (track, &request.track)
        && let Some(recorded) = log.tracked(conn, &track.consumer)?
        && recorded.position() >= position
    {
        let message = format!(
            "consumer {:?} already recorded {recorded}, given was {}; go on after the recorded checkpoint",
            track.consumer.as_str(),
            track.checkpoint
        );
        return Err(Error::new(ErrorKind::AlreadyExists, message)
            .with_detail(Detail::Tracked { recorded })
            .into());
    }
    write(conn, &log, request, streams)
}

/// The stored events with the ids of the request, in its order.
fn stored_events(
    conn: &mut SqliteConnection,
    log: &Log<'_>,
    request: &Append,
) -> Result<Vec<Option<RecordedEvent>>, Failure> {
    let mut stored = Vec::new();
    for event in request.streams.iter().flat_map(|part| &part.events) {
        let [lower, upper] = spellings(event.id);
        let binds = [Bind::Text(log.tenant()), Bind::Text(&lower), Bind::Text(&upper)];
        let row = sql::first(conn, &log.sql.event, &binds)?;
        stored.push(row.map(|row| decode::event(&row, log.id)).transpose()?);
    }
    Ok(stored)
}

/// The first answer, if all of the request is stored as it stands.
fn repeated(request: &Append, stored: &[Option<RecordedEvent>]) -> Option<Appended> {
    let mut stored = stored.iter();
    let mut streams = Vec::with_capacity(request.streams.len());
    let mut checkpoint: Option<Checkpoint> = None;
    for part in &request.streams {
        let mut versions = Vec::with_capacity(part.events.len());
        for event in &part.events {
            let found = stored.next()?.as_ref()?;
            if !found.is_repeat_of(&part.stream, event) {
                return None;
            }
            versions.push(found.version);
            checkpoint = match checkpoint {
                Some(latest) if latest > found.checkpoint => Some(latest),
                _ => Some(found.checkpoint),
            };
        }
        if !versions.windows(2).all(|pair| pair[0].get() + 1 == pair[1].get()) {
            return None;
        }
        let (first, last) = (*versions.first()?, *versions.last()?);
        streams.push(AppendedStream { stream: part.stream.clone(), first, last });
    }
    // A request without events has no checkpoint here and is never a repeat.
    Some(Appended { streams, checkpoint: checkpoint?, repeated: true })
}

fn write(
    conn: &mut SqliteConnection,
    log: &Log<'_>,
    request: &Append,
    found: Vec<Option<FoundStream>>,
) -> Result<Appended, Failure> {
    let now = now(conn, log)?.to_string();
    let mut streams = Vec::with_capacity(request.streams.len());
    let mut last_event = None;
    for (part, found) in request.streams.iter().zip(found) {
        let before = found.as_ref().and_then(|found| found.head).map_or(0, Version::get);
        let count = i64::try_from(part.events.len()).unwrap_or(i64::MAX);
        let last = before
            .checked_add(count)
            .ok_or_else(|| Error::invalid(format!("stream {} has no version left", part.stream)))?;
        let key = if let Some(found) = found {
            let binds = [Bind::Text(log.tenant()), Bind::Text(&found.key), Bind::Int(last)];
            sql::execute(conn, &log.sql.update_stream, &binds)?;
            found.key
        } else {
            let key = Uuid::now_v7().to_string();
            let id = part.stream.aggregate_id.to_string();
            let binds = [
                Bind::Text(log.tenant()),
                Bind::Text(&key),
                Bind::Text(part.stream.aggregate_type.as_str()),
                Bind::Text(&id),
                Bind::Text(&now),
                Bind::Int(last),
            ];
            sql::execute(conn, &log.sql.insert_stream, &binds)?;
            key
        };
        for (event, version) in part.events.iter().zip(before + 1..) {
            let id = event.id.to_string();
            let occurred_at = event.occurred_at.map(|at| at.to_string());
            let causation = event.causation_id.map(|id| id.to_string());
            let correlation = event.correlation_id.map(|id| id.to_string());
            let binds = [
                Bind::Text(log.tenant()),
                Bind::Text(&id),
                Bind::Text(&key),
                Bind::Text(event.event_type.as_str()),
                Bind::Int(i64::from(event.schema_version.get())),
                Bind::Int(version),
                Bind::Text(event.data.as_str()),
                Bind::Text(event.metadata.as_str()),
                Bind::Text(occurred_at.as_deref().unwrap_or(&now)),
                Bind::Text(&now),
                Bind::Optional(causation.as_deref()),
                Bind::Optional(correlation.as_deref()),
            ];
            sql::execute(conn, &log.sql.insert_event, &binds)?;
            last_event = Some(id);
        }
        streams.push(AppendedStream {
            stream: part.stream.clone(),
            first: Version::new(before + 1)?,
            last: Version::new(last)?,
        });
    }
    if let Some(track) = &request.track {
        log.track(conn, &track.consumer, track.checkpoint.position())?;
    }
    let checkpoint = match (last_event, &request.track) {
        (Some(event), _) => {
            let row =
                sql::first(conn, &log.sql.event_position, &[Bind::Text(log.tenant()), Bind::Text(&event)])?;
            let position = row.and_then(|row| row.cell(0).as_int()).unwrap_or_default();
            log.record_high_water(conn, position, &event)?;
            Checkpoint::new(log.id, position)?
        }
        (None, Some(track)) => track.checkpoint,
        (None, None) => return Err(Error::invalid("nothing to append").into()),
    };
    Ok(Appended { streams, checkpoint, repeated: false })
}

/// The time of recording: never before that of an earlier event, even when the clock goes back.
fn now(conn: &mut SqliteConnection, log: &Log<'_>) -> Result<Timestamp, Failure> {
    let last = sql::first(conn, &log.sql.last_recorded, &[])?;
    let last = last.and_then(|row| row.cell(0).as_str().and_then(|text| Timestamp::parse(text).ok()));
    let now = Timestamp::now();
    Ok(last.map_or(now, |last| last.max(now)))
}
