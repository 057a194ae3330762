//! One module's log: how an append is judged and stored, and how it is read. No lock and no waiting in here, so that
//! it reads like the contract.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use changeover_core::events::{
    AllPage, Append, Appended, AppendedStream, Direction, Head, HeadOf, ReadAll, ReadStream, RecordedEvent,
    StreamAppend, StreamId, StreamPage, Version,
};
use changeover_core::{
    Checkpoint, ConsumerName, Detail, Error, ErrorKind, LogId, Result, TenantId, Timestamp, Uuid,
};
use tokio::sync::watch;

/// The events of all tenants of a module, in one order.
pub(crate) struct Log {
    id: LogId,
    /// The position of the last event of any tenant.
    position: i64,
    /// The latest time given out; it never goes back.
    recorded_at: Timestamp,
    tenants: HashMap<TenantId, Records>,
    /// Tells subscriptions that something was stored.
    stored: watch::Sender<()>,
}

/// What one tenant has in a log.
#[derive(Default)]
pub(crate) struct Records {
    /// By position.
    events: BTreeMap<i64, RecordedEvent>,
    /// The positions of a stream's events: version n stands at index n - 1.
    streams: HashMap<StreamId, Vec<i64>>,
    positions: HashMap<Uuid, i64>,
    tracked: HashMap<ConsumerName, Checkpoint>,
}

impl Log {
    pub(crate) fn new(id: LogId) -> Self {
        Self {
            id,
            position: 0,
            recorded_at: Timestamp::MIN,
            tenants: HashMap::new(),
            stored: watch::Sender::new(()),
        }
    }

    pub(crate) fn id(&self) -> LogId {
        self.id
    }

    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.stored.subscribe()
    }

    pub(crate) fn append(&mut self, tenant: &TenantId, request: Append, now: Timestamp) -> Result<Appended> {
        request.validate()?;
        if let Some(track) = &request.track {
            track.checkpoint.position_in(self.id)?;
        }
        let records = self.tenants.entry(tenant.clone()).or_default();
        if let Some(first_answer) = records.repeated(&request) {
            return Ok(first_answer);
        }
        records.judge(&request)?;
        self.store(tenant, request, now)
    }

    /// Where a read begins that goes on after a checkpoint.
    pub(crate) fn position_of(&self, after: Checkpoint) -> Result<i64> {
        after.position_within(self.id, self.position)
    }

    /// Stores what was judged.
    fn store(&mut self, tenant: &TenantId, request: Append, now: Timestamp) -> Result<Appended> {
        let records = self.tenants.entry(tenant.clone()).or_default();
        self.recorded_at = self.recorded_at.max(now);
        let mut answer = Vec::with_capacity(request.streams.len());
        for StreamAppend { stream, events, .. } in request.streams {
            let before = records.version_of(&stream).map_or(0, Version::get);
            let mut last = before;
            for event in events {
                last += 1;
                self.position += 1;
                records.insert(RecordedEvent {
                    stream: stream.clone(),
                    version: Version::new(last)?,
                    checkpoint: Checkpoint::new(self.id, self.position)?,
                    id: event.id,
                    event_type: event.event_type,
                    schema_version: event.schema_version,
                    data: event.data,
                    metadata: event.metadata,
                    occurred_at: event.occurred_at.unwrap_or(self.recorded_at),
                    recorded_at: self.recorded_at,
                    causation_id: event.causation_id,
                    correlation_id: event.correlation_id,
                });
            }
            answer.push(AppendedStream {
                stream,
                first: Version::new(before + 1)?,
                last: Version::new(last)?,
            });
        }
        let mut checkpoint = Checkpoint::new(self.id, self.position)?;
        if let Some(track) = request.track {
            if answer.is_empty() {
                checkpoint = track.checkpoint;
            }
            records.tracked.insert(track.consumer, track.checkpoint);
        }
        if !answer.is_empty() {
            self.stored.send_replace(());
        }
        Ok(Appended { streams: answer, checkpoint, repeated: false })
    }

    pub(crate) fn read_stream(&self, tenant: &TenantId, request: &ReadStream) -> Result<StreamPage> {
        let (first, last) = request.bounds()?;
        let Some(records) = self.tenants.get(tenant) else {
            return Ok(StreamPage { events: Vec::new(), head: None, next: None });
        };
        let wanted = |event: &&RecordedEvent| {
            (first..=last).contains(&event.version.get())
                && request.event_types.as_ref().is_none_or(|types| types.contains(&event.event_type))
        };
        let stream = records.streams.get(&request.stream).into_iter().flatten();
        let mut matching: Vec<_> = stream.map(|position| &records.events[position]).filter(wanted).collect();
        if request.direction == Direction::Backward {
            matching.reverse();
        }
        let limit = request.limit.get() as usize;
        let events: Vec<_> = matching.iter().take(limit).map(|event| (*event).clone()).collect();
        let next = events.last().filter(|_| matching.len() > limit).map(|e| request.token_after(e.version));
        Ok(StreamPage { events, head: records.version_of(&request.stream), next })
    }

    pub(crate) fn read_all(&self, tenant: &TenantId, request: &ReadAll) -> Result<AllPage> {
        request.filter.validate()?;
        let mut page = AllPage {
            events: Vec::new(),
            checkpoint: request.after.unwrap_or(Checkpoint::start(self.id)),
            caught_up: true,
        };
        let after = self.position_of(page.checkpoint)?;
        let Some(records) = self.tenants.get(tenant) else {
            return Ok(page);
        };
        for event in records.events.range((Bound::Excluded(after), Bound::Unbounded)).map(|(_, event)| event)
        {
            if page.events.len() == request.limit.get() as usize {
                page.caught_up = false;
                break;
            }
            if request.filter.matches(&event.stream, &event.event_type) {
                page.events.push(event.clone());
            }
            page.checkpoint = event.checkpoint;
        }
        Ok(page)
    }

    pub(crate) fn head(&self, tenant: &TenantId, of: &HeadOf) -> Head {
        let records = self.tenants.get(tenant);
        match of {
            HeadOf::Log => {
                let last = records.and_then(|records| records.events.values().next_back());
                let checkpoint = last.map_or(Checkpoint::start(self.id), |event| event.checkpoint);
                Head { version: None, checkpoint: Some(checkpoint) }
            }
            HeadOf::Stream(stream) => {
                let last = records.and_then(|records| records.last_of(stream));
                Head {
                    version: last.map(|event| event.version),
                    checkpoint: last.map(|event| event.checkpoint),
                }
            }
        }
    }

    pub(crate) fn tracked(&self, tenant: &TenantId, consumer: &ConsumerName) -> Option<Checkpoint> {
        self.tenants.get(tenant)?.tracked.get(consumer).copied()
    }
}

impl Records {
    /// The first answer, if the request has events and every one of them is already stored as it asks.
    fn repeated(&self, request: &Append) -> Option<Appended> {
        let mut checkpoint = None;
        let mut streams = Vec::with_capacity(request.streams.len());
        for StreamAppend { stream, events, .. } in &request.streams {
            let first = self.stored(events.first()?.id)?.version.get();
            let mut last = first;
            for (version, event) in (first..).zip(events) {
                let stored = self.stored(event.id)?;
                if stored.version.get() != version || !stored.is_repeat_of(stream, event) {
                    return None;
                }
                last = version;
                checkpoint = Some(match checkpoint {
                    Some(latest) if latest > stored.checkpoint => latest,
                    _ => stored.checkpoint,
                });
            }
            streams.push(AppendedStream {
                stream: stream.clone(),
                first: Version::new(first).ok()?,
                last: Version::new(last).ok()?,
            });
        }
        Some(Appended { streams, checkpoint: checkpoint?, repeated: true })
    }

    /// Expectations first, then ids, then progress.
    fn judge(&self, request: &Append) -> Result<()> {
        for StreamAppend { stream, expected, .. } in &request.streams {
            let actual = self.version_of(stream);
            if !expected.is_met(actual) {
                return Err(Error::conflict(stream.clone(), *expected, actual));
            }
        }
        for event in request.streams.iter().flat_map(|part| &part.events) {
            if self.positions.contains_key(&event.id) {
                return Err(Error::exists("event", event.id));
            }
        }
        if let Some(track) = &request.track
            && let Some(recorded) = self.tracked.get(&track.consumer)
            && track.checkpoint <= *recorded
        {
            let message = format!(
                "consumer {} has recorded {recorded}, {} is not after it; go on from what is recorded",
                track.consumer, track.checkpoint
            );
            return Err(Error::new(ErrorKind::AlreadyExists, message)
                .with_detail(Detail::Tracked { recorded: *recorded }));
        }
        Ok(())
    }

    fn insert(&mut self, event: RecordedEvent) {
        let position = event.checkpoint.position();
        self.streams.entry(event.stream.clone()).or_default().push(position);
        self.positions.insert(event.id, position);
        self.events.insert(position, event);
    }

    fn stored(&self, id: Uuid) -> Option<&RecordedEvent> {
        self.events.get(self.positions.get(&id)?)
    }

    fn last_of(&self, stream: &StreamId) -> Option<&RecordedEvent> {
        self.events.get(self.streams.get(stream)?.last()?)
    }

    fn version_of(&self, stream: &StreamId) -> Option<Version> {
        self.last_of(stream).map(|event| event.version)
    }
}

#[cfg(test)]
mod tests;
