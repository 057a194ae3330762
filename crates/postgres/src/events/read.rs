//! Reads: a page is one round trip and one snapshot.

use changeover_core::events::{
    AllPage, Direction, EventFilter, Head, HeadOf, ReadAll, ReadStream, RecordedEvent, SchemaVersion,
    StreamId, StreamPage, Version,
};
use changeover_core::{
    AggregateType, Checkpoint, ConsumerName, Error, EventType, Json, LogId, Result, Timestamp, Uuid,
};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::Log;
use crate::codec::{JsonIn, Micros};
use crate::module::unreadable;

/// The most events a filtered page of the log looks at.
const SCAN: i64 = 10_000;

impl Log {
    pub(crate) async fn read_stream(&self, request: &ReadStream) -> Result<StreamPage> {
        let (first, last) = request.bounds()?;
        let log = self.id().await?;
        let mut conn = self.pools.get().await?;
        let backward = request.direction == Direction::Backward;
        let types = names(request.event_types.as_deref(), EventType::as_str);
        // One more than asked for says whether there is a next page.
        let wanted = request.limit.get() as usize;
        let rows = conn
            .read_owned(
                &self.gate,
                &self.statements.read_stream,
                &[
                    &self.tenant.as_str(),
                    &request.stream.aggregate_type.as_str(),
                    &request.stream.aggregate_id,
                    &first,
                    &last,
                    &backward,
                    &(i64::from(request.limit.get()) + 1),
                    &types,
                ],
            )
            .await?;
        drop(conn);

        let head = rows.first().map(|row| version(row, 11)).transpose()?.flatten();
        let mut events = Vec::with_capacity(rows.len().min(wanted));
        for row in rows.iter().take(wanted) {
            if let Some(event) = event(row, log, || Ok(request.stream.clone()))? {
                events.push(event);
            }
        }
        let next = match events.last() {
            Some(last) if rows.len() > wanted => Some(request.token_after(last.version)),
            _ => None,
        };
        Ok(StreamPage { events, head, next })
    }

    pub(crate) async fn read_all(&self, request: &ReadAll) -> Result<AllPage> {
        request.filter.validate()?;
        let log = self.id().await?;
        let after = request.after.map_or(Ok(0), |checkpoint| checkpoint.position_in(log))?;
        let EventFilter { streams, aggregate_types, event_types } = &request.filter;
        let stream_types = names(streams.as_deref(), |stream| stream.aggregate_type.as_str());
        let stream_ids: Option<Vec<Uuid>> =
            streams.as_ref().map(|streams| streams.iter().map(|stream| stream.aggregate_id).collect());
        let mut conn = self.pools.get().await?;
        let rows = conn
            .read_owned(
                &self.gate,
                &self.statements.read_all,
                &[
                    &self.tenant.as_str(),
                    &after,
                    &i64::from(request.limit.get()),
                    &stream_types,
                    &stream_ids,
                    &names(aggregate_types.as_deref(), AggregateType::as_str),
                    &names(event_types.as_deref(), EventType::as_str),
                    &SCAN,
                ],
            )
            .await?;
        drop(conn);

        let first = rows.first().ok_or_else(unreadable)?;
        let (head, scanned_to): (i64, i64) = (get(first, 11)?, get(first, 12)?);
        if let Some(checkpoint) = request.after.filter(|_| after > head) {
            // One of another tenant may lie there; those share the positions.
            let rows = self.pools.get().await?.read_owned(&self.gate, &self.statements.log_end, &[]).await?;
            checkpoint.position_within(log, get(rows.first().ok_or_else(unreadable)?, 0)?)?;
        }
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            let stream = || {
                Ok(StreamId {
                    aggregate_type: AggregateType::new(get::<String>(row, 13)?)?,
                    aggregate_id: get(row, 14)?,
                })
            };
            if let Some(event) = event(row, log, stream)? {
                events.push(event);
            }
        }
        // A full page ends with its last event, any other where the look ended; neither goes back.
        let reached = match events.last() {
            Some(last) if events.len() == request.limit.get() as usize => last.checkpoint.position(),
            _ => scanned_to.max(after),
        };
        Ok(AllPage { events, checkpoint: Checkpoint::new(log, reached)?, caught_up: reached >= head })
    }

    pub(crate) async fn head(&self, of: &HeadOf) -> Result<Head> {
        let log = self.id().await?;
        let mut conn = self.pools.get().await?;
        let tenant = self.tenant.as_str();
        match of {
            HeadOf::Log => {
                let rows = conn.read_owned(&self.gate, &self.statements.log_head, &[&tenant]).await?;
                let position: i64 = get(rows.first().ok_or_else(unreadable)?, 0)?;
                Ok(Head { version: None, checkpoint: Some(Checkpoint::new(log, position)?) })
            }
            HeadOf::Stream(stream) => {
                let rows = conn
                    .read_owned(
                        &self.gate,
                        &self.statements.stream_head,
                        &[&tenant, &stream.aggregate_type.as_str(), &stream.aggregate_id],
                    )
                    .await?;
                let Some(row) = rows.first() else { return Ok(Head { version: None, checkpoint: None }) };
                // A stream whose events all stayed out of a cutover has a version and no event.
                let position = get::<Option<i64>>(row, 1)?;
                let checkpoint = position.map(|position| Checkpoint::new(log, position)).transpose()?;
                Ok(Head { version: version(row, 0)?, checkpoint })
            }
        }
    }

    pub(crate) async fn tracked(&self, consumer: &ConsumerName) -> Result<Option<Checkpoint>> {
        let log = self.id().await?;
        let mut conn = self.pools.get().await?;
        let rows = conn
            .read_owned(&self.gate, &self.statements.tracked, &[&self.tenant.as_str(), &consumer.as_str()])
            .await?;
        let position: Option<i64> = get(rows.first().ok_or_else(unreadable)?, 0)?;
        position.map(|position| Checkpoint::new(log, position)).transpose()
    }
}

fn names<T>(list: Option<&[T]>, name: impl Fn(&T) -> &str) -> Option<Vec<&str>> {
    list.map(|list| list.iter().map(name).collect())
}

/// The version of a stream; `None` if it has no event yet, as other programs leave one.
fn version(row: &Row, index: usize) -> Result<Option<Version>> {
    let found: i64 = get(row, index)?;
    (found != 0).then(|| Version::new(found)).transpose()
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|_| unreadable())
}

/// The event of a row; `None` for the row of a page without one.
fn event(row: &Row, log: LogId, stream: impl FnOnce() -> Result<StreamId>) -> Result<Option<RecordedEvent>> {
    let Some(id) = get::<Option<Uuid>>(row, 1)? else { return Ok(None) };
    let corrupt = |column: &'static str| {
        move |error: Error| Error::corrupt("domain_event", id.to_string(), column, error.message())
    };
    let json = |index: usize, column: &'static str| {
        Json::from_bytes(get::<JsonIn<'_>>(row, index)?.0).map_err(|error| {
            // What the reader says names a place, and may quote nothing.
            corrupt(column)(Error::new(error.kind(), "not JSON as the contract has it"))
        })
    };
    let time = |index: usize, column: &'static str| {
        Timestamp::from_micros(get::<Micros>(row, index)?.0).map_err(corrupt(column))
    };
    Ok(Some(RecordedEvent {
        stream: stream()?,
        version: Version::new(get(row, 2)?).map_err(corrupt("aggregate_version"))?,
        checkpoint: Checkpoint::new(log, get(row, 0)?).map_err(corrupt("position"))?,
        id,
        event_type: EventType::new(get::<String>(row, 3)?).map_err(corrupt("event_type"))?,
        schema_version: SchemaVersion::new(i64::from(get::<i32>(row, 4)?))
            .map_err(corrupt("event_version"))?,
        data: json(5, "event_data")?,
        metadata: json(6, "metadata")?,
        occurred_at: time(7, "occurred_at")?,
        recorded_at: time(8, "recorded_at")?,
        causation_id: get(row, 9)?,
        correlation_id: get(row, 10)?,
    }))
}
