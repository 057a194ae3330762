//! Pages, heads and positions: each answer from one read transaction.

use changeover_core::Checkpoint;
use changeover_core::Result;
use changeover_core::events::{
    AllPage, Direction, EventFilter, Head, HeadOf, ReadAll, ReadStream, RecordedEvent, StreamPage,
};
use diesel::SqliteConnection;

use super::decode;
use super::log::{Log, Tables};
use crate::classify::Failure;
use crate::sql::{self, Bind};

/// How many rows of the log one filtered page looks at; the next one goes on behind them.
const WINDOW: i64 = 5_000;

pub(super) fn stream_page(
    conn: &mut SqliteConnection,
    tables: &Tables,
    request: &ReadStream,
) -> Result<StreamPage, Failure> {
    let (first, last) = request.bounds()?;
    let log = tables.log(conn)?;
    let nothing = |head| StreamPage { events: Vec::new(), head, next: None };
    let Some(found) = log.stream(conn, &request.stream)? else {
        return Ok(nothing(None));
    };
    let Some(head) = found.head else {
        return Ok(nothing(None));
    };
    let (low, high) = (first.max(1), last.min(head.get()));
    if low > high {
        return Ok(nothing(Some(head)));
    }
    let limit = request.limit.get() as usize;
    let types = request.event_types.as_ref();
    let types = types.map(|types| list(types.iter().map(|one| one.as_str().into())));
    let (sql, from, step) = match request.direction {
        Direction::Forward => (&log.sql.stream_page, low, 1),
        Direction::Backward => (&log.sql.stream_page_back, high, -1),
    };
    let binds = [
        Bind::Text(log.tenant()),
        Bind::Text(&found.key),
        Bind::Int(low),
        Bind::Int(high),
        // One more shows whether there is a next page.
        Bind::Int(i64::from(request.limit.get()) + 1),
        Bind::Optional(types.as_deref()),
    ];
    let mut events = events(conn, &log, sql, &binds)?;
    if types.is_none() {
        decode::contiguous(&events, from, step)?;
        let whole = usize::try_from(high - low + 1).unwrap_or(usize::MAX).min(limit + 1);
        decode::complete(&found.key, events.len(), whole)?;
    }
    let more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| more).map(|event| request.token_after(event.version));
    Ok(StreamPage { events, head: Some(head), next })
}

pub(super) fn log_page(
    conn: &mut SqliteConnection,
    tables: &Tables,
    request: &ReadAll,
) -> Result<AllPage, Failure> {
    let log = tables.log(conn)?;
    let end = log.end(conn)?;
    let after = position_in(conn, &log, request.after, end)?;
    let EventFilter { streams, aggregate_types, event_types } = &request.filter;
    let filtered = streams.is_some() || aggregate_types.is_some() || event_types.is_some();
    let upto = if filtered { window_end(conn, &log, after, end)? } else { end };
    let limit = request.limit.get();
    let streams = streams.as_ref().map(|streams| {
        list(streams.iter().map(|one| {
            vec![one.aggregate_type.as_str().to_owned(), one.aggregate_id.hyphenated().to_string()].into()
        }))
    });
    let aggregate_types = aggregate_types.as_ref();
    let aggregate_types = aggregate_types.map(|types| list(types.iter().map(|one| one.as_str().into())));
    let event_types = event_types.as_ref().map(|types| list(types.iter().map(|one| one.as_str().into())));
    let binds = [
        Bind::Text(log.tenant()),
        Bind::Int(after),
        Bind::Int(upto),
        Bind::Int(i64::from(limit)),
        Bind::Optional(streams.as_deref()),
        Bind::Optional(aggregate_types.as_deref()),
        Bind::Optional(event_types.as_deref()),
    ];
    let events = events(conn, &log, &log.sql.log_page, &binds)?;
    let last = events.last().map(|event| event.checkpoint.position());
    let reached = match last {
        Some(last) if events.len() == limit as usize => last,
        // Everything up to there was looked at; a checkpoint beyond the end stays where it is.
        _ => after.max(upto),
    };
    Ok(AllPage { events, checkpoint: Checkpoint::new(log.id, reached)?, caught_up: reached >= end })
}

pub(super) fn head(conn: &mut SqliteConnection, tables: &Tables, of: &HeadOf) -> Result<Head, Failure> {
    let log = tables.log(conn)?;
    match of {
        HeadOf::Log => {
            let end = log.end(conn)?;
            Ok(Head { version: None, checkpoint: Some(Checkpoint::new(log.id, end)?) })
        }
        HeadOf::Stream(stream) => {
            let none = Head { version: None, checkpoint: None };
            let Some(found) = log.stream(conn, stream)? else {
                return Ok(none);
            };
            let binds = [Bind::Text(log.tenant()), Bind::Text(&found.key)];
            let end = sql::first(conn, &log.sql.stream_end, &binds)?;
            match (found.head, end.and_then(|row| row.cell(0).as_int())) {
                (Some(version), Some(end)) => {
                    Ok(Head { version: Some(version), checkpoint: Some(Checkpoint::new(log.id, end)?) })
                }
                _ => Ok(none),
            }
        }
    }
}

/// Where a read begins: after a checkpoint that this log may have returned, else at the start. `end` is the tenant's.
pub(super) fn position_in(
    conn: &mut SqliteConnection,
    log: &Log<'_>,
    after: Option<Checkpoint>,
    end: i64,
) -> Result<i64, Failure> {
    let Some(checkpoint) = after else { return Ok(0) };
    let position = checkpoint.position_in(log.id)?;
    if position <= end {
        return Ok(position);
    }
    // One of another tenant may lie there; those share the positions.
    let last = sql::first(conn, &log.sql.last_position, &[])?;
    let last = last.and_then(|row| row.cell(0).as_int()).unwrap_or(0);
    Ok(checkpoint.position_within(log.id, last)?)
}

/// The position up to which a filtered page looks.
fn window_end(conn: &mut SqliteConnection, log: &Log<'_>, after: i64, end: i64) -> Result<i64, Failure> {
    let binds = [Bind::Text(log.tenant()), Bind::Int(after), Bind::Int(WINDOW - 1)];
    let row = sql::first(conn, &log.sql.log_window, &binds)?;
    Ok(row.and_then(|row| row.cell(0).as_int()).unwrap_or(end))
}

fn events(
    conn: &mut SqliteConnection,
    log: &Log<'_>,
    sql: &str,
    binds: &[Bind<'_>],
) -> Result<Vec<RecordedEvent>, Failure> {
    let rows = sql::rows(conn, sql, binds)?;
    Ok(rows.iter().map(|row| decode::event(row, log.id)).collect::<Result<_>>()?)
}

/// A JSON array for `json_each`.
fn list(values: impl Iterator<Item = serde_json::Value>) -> String {
    serde_json::Value::Array(values.collect()).to_string()
}
