//! A script played on a store and on the model side by side.

use changeover_core::events::{
    Append, Direction, EventFilter, Expected, HeadOf, NewEvent, ReadAll, ReadStream, RecordedEvent,
    StreamAppend, StreamId, Track, Version,
};
use changeover_core::{Checkpoint, ConsumerName, EventStore, EventType, Timestamp, Uuid};

use super::script::{CONSUMERS, Op, Part, Pick, STREAMS, TYPES};
use super::{Model, Stored, Verdict};
use crate::support::{Must, json, limit, log_head, read_on, version};

/// A consumer and how many events it has handled.
type Progress = Option<(&'static str, usize)>;

/// A store and the model beside it, on streams of their own in a log that nobody else writes meanwhile.
pub(crate) struct Player<'a> {
    store: &'a dyn EventStore,
    model: Model,
    run: Uuid,
    /// After 0, 1, 2, .. events of this run.
    checkpoints: Vec<Checkpoint>,
    requests: Vec<(Append, Progress)>,
    /// A line a step, the same on every store.
    pub(crate) transcript: Vec<String>,
}

impl<'a> Player<'a> {
    pub(crate) async fn new(store: &'a dyn EventStore) -> Self {
        let checkpoints = vec![log_head(store).await];
        Self {
            store,
            model: Model::default(),
            run: Uuid::new_v4(),
            checkpoints,
            requests: Vec::new(),
            transcript: Vec::new(),
        }
    }

    /// Plays the steps; says where the store first differs from the model.
    pub(crate) async fn play(&mut self, script: &[Op]) -> Result<(), String> {
        for (number, op) in script.iter().enumerate() {
            let line = self.step(op).await.map_err(|why| format!("step {number}, {op:?}: {why}"))?;
            self.transcript.push(line);
        }
        Ok(())
    }

    /// The log and the progress as text in which nothing depends on the place or the run.
    pub(crate) async fn dump(&self) -> String {
        let mut lines = Vec::new();
        let (log, _) = read_on(self.store, Some(self.checkpoints[0]), EventFilter::default()).await;
        for event in log {
            let RecordedEvent { stream, version, id, event_type, schema_version, data, metadata, .. } = event;
            let (occurred_at, causation_id, correlation_id) =
                (None, event.causation_id, event.correlation_id);
            let content = NewEvent {
                id,
                event_type,
                schema_version,
                data,
                metadata,
                occurred_at,
                causation_id,
                correlation_id,
            };
            lines.push(self.line(&stream, version.get(), &content));
        }
        for consumer in CONSUMERS {
            let at = self.store.tracked(self.consumer(consumer)).await.must("progress");
            let at = at.and_then(|at| self.checkpoints.iter().position(|known| *known == at));
            lines.push(format!("{consumer} {at:?}"));
        }
        lines.join("\n")
    }

    /// The same text by the model.
    pub(crate) fn model_dump(&self) -> String {
        let mut lines = Vec::new();
        for Stored { stream, version, event } in &self.model.log {
            lines.push(self.line(stream, *version, event));
        }
        for consumer in CONSUMERS {
            lines.push(format!("{consumer} {:?}", self.model.progress(consumer)));
        }
        lines.join("\n")
    }

    fn line(&self, stream: &StreamId, version: i64, event: &NewEvent) -> String {
        let NewEvent { event_type, schema_version, data, metadata, causation_id, correlation_id, .. } = event;
        let stream = (0..STREAMS).find(|number| self.stream(*number) == *stream);
        let (schema, caused) = (schema_version.get(), causation_id.is_some());
        format!("{stream:?}@{version} {event_type} {schema} {data} {metadata} {caused} {correlation_id:?}")
    }

    fn stream(&self, number: usize) -> StreamId {
        let category = if number.is_multiple_of(2) { "Order" } else { "order" };
        let id = Uuid::from_u128(self.run.as_u128().wrapping_add((number / 2) as u128));
        StreamId::new(category, id).must("a stream")
    }

    fn consumer(&self, name: &str) -> ConsumerName {
        ConsumerName::new(format!("{name} {}", self.run)).must("a consumer")
    }

    async fn step(&mut self, op: &Op) -> Result<String, String> {
        match op {
            Op::Append { parts, track } => self.append(parts, *track).await,
            Op::Again(at) => match self.requests.get(at % self.requests.len().max(1)).cloned() {
                Some((request, track)) => self.send(request, track).await,
                None => Ok("nothing to repeat".to_owned()),
            },
            Op::ReadStream { .. } => self.read_stream(op).await,
            Op::ReadAll { .. } => self.read_all(op).await,
            Op::HeadOfStream(number) => {
                let stream = self.stream(*number);
                let head =
                    self.store.head(HeadOf::Stream(stream.clone())).await.map_err(|e| e.to_string())?;
                let last = self.model.log.iter().rposition(|stored| stored.stream == stream);
                let expected = last.map(|at| (self.model.log[at].version, self.checkpoints[at + 1]));
                same(head.version.map(Version::get).zip(head.checkpoint), expected)?;
                Ok(format!("head {:?}", expected.map(|(version, _)| version)))
            }
            Op::HeadOfLog => {
                same(Some(log_head(self.store).await), self.checkpoints.last().copied())?;
                Ok(format!("{} events", self.model.log.len()))
            }
            Op::Tracked(number) => {
                let name = CONSUMERS[*number];
                let at = self.store.tracked(self.consumer(name)).await.map_err(|e| e.to_string())?;
                let expected = self.model.progress(name);
                same(at, expected.map(|at| self.checkpoints[at]))?;
                Ok(format!("tracked {expected:?}"))
            }
        }
    }

    async fn append(&mut self, parts: &[Part], track: Option<(usize, usize)>) -> Result<String, String> {
        let streams: Vec<_> = parts.iter().map(|part| self.stream_append(part)).collect();
        let track = track.map(|(consumer, at)| (CONSUMERS[consumer], at % self.checkpoints.len()));
        let progress =
            track.map(|(name, at)| Track { consumer: self.consumer(name), checkpoint: self.checkpoints[at] });
        let request = Append { streams, track: progress };
        self.requests.push((request.clone(), track));
        self.send(request, track).await
    }

    async fn send(&mut self, request: Append, track: Progress) -> Result<String, String> {
        let expected = self.model.append(&request, track);
        let answer = self.store.append(request).await;
        let found = match &answer {
            Ok(answer) => {
                let versions =
                    answer.streams.iter().map(|part| (part.first.get(), part.last.get())).collect();
                if answer.repeated { Verdict::Repeated(versions) } else { Verdict::Stored(versions) }
            }
            Err(error) => Model::verdict_of(error, &self.checkpoints)?,
        };
        same(&found, &expected)?;
        if matches!(expected, Verdict::Stored(_)) {
            let (new, _) =
                read_on(self.store, self.checkpoints.last().copied(), EventFilter::default()).await;
            self.checkpoints.extend(new.iter().map(|event| event.checkpoint));
            self.equal(&new, self.model.log.iter().enumerate().skip(self.model.log.len() - new.len()))?;
            same(self.checkpoints.len(), self.model.log.len() + 1)?;
            if !new.is_empty() {
                same(answer.ok().map(|answer| answer.checkpoint), self.checkpoints.last().copied())?;
            }
        }
        Ok(match expected {
            Verdict::Exists(_) => "already exists".to_owned(),
            Verdict::Conflict(_, actual) => format!("conflict with {actual:?}"),
            other => format!("{other:?}"),
        })
    }

    fn stream_append(&self, part: &Part) -> StreamAppend {
        let stream = self.stream(part.stream);
        let expected = match part.expected {
            0 => Expected::Any,
            1 => Expected::NoStream,
            2 => Expected::Exists,
            3..=5 => Expected::loaded(self.model.version(&stream).map(version)),
            other => Expected::Exactly(version(i64::from(other))),
        };
        StreamAppend { stream, expected, events: part.events.iter().map(|pick| self.event(pick)).collect() }
    }

    fn event(&self, pick: &Pick) -> NewEvent {
        let stored =
            |at: &usize| self.model.log.get(at % self.model.log.len().max(1)).map(|s| s.event.clone());
        let new = |event_type: usize, number: u8| {
            let data = json(&format!(r#"{{"z":{number}.50,"a":[{number}e3,null,"%"]}}"#));
            let mut event = NewEvent::new(TYPES[event_type], data).must("an event");
            event.metadata = json(&format!(r#"{{"n":{number}}}"#));
            event.causation_id = (number.is_multiple_of(3)).then(Uuid::now_v7);
            event.correlation_id = (number.is_multiple_of(5)).then(|| Uuid::from_u128(number.into()));
            event.occurred_at = (number.is_multiple_of(2))
                .then(|| Timestamp::from_micros(i64::from(number) * 1_000_003 - 50_000_000).must("a time"));
            event
        };
        match pick {
            Pick::New { event_type, number } => new(*event_type, *number),
            Pick::Stored(at) => stored(at).unwrap_or_else(|| new(0, 7)),
            Pick::Altered(at) => stored(at).map_or_else(
                || new(1, 9),
                |event| NewEvent { metadata: json(r#"{"altered":true}"#), ..event },
            ),
        }
    }

    async fn read_stream(&self, op: &Op) -> Result<String, String> {
        let Op::ReadStream { stream, backward, first, last, event_type, limit: size } = op else {
            return Err("not a read of a stream".to_owned());
        };
        let stream = self.stream(*stream);
        let mut request = ReadStream::all(stream.clone());
        request.direction = if *backward { Direction::Backward } else { Direction::Forward };
        (request.first, request.last) =
            (Version::new((*first).into()).ok(), Version::new((*last).into()).ok());
        request.event_types = event_type.map(|number| vec![event_type_of(number)]);
        request.limit = limit((*size).into());
        let within = |stored: &Stored| {
            stored.stream == stream
                && request.first.is_none_or(|first| stored.version >= first.get())
                && request.last.is_none_or(|last| stored.version <= last.get())
                && event_type.is_none_or(|number| stored.event.event_type.as_str() == TYPES[number])
        };
        let mut expected: Vec<_> =
            self.model.log.iter().enumerate().filter(|(_, stored)| within(stored)).collect();
        if *backward {
            expected.reverse();
        }
        let mut page_of = request.clone();
        for (number, part) in expected.chunks((*size).into()).enumerate() {
            let page = self.store.read_stream(page_of.clone()).await.map_err(|e| e.to_string())?;
            self.equal(&page.events, part.iter().copied())?;
            same(page.head.map(Version::get), self.model.version(&stream))?;
            same(page.next.is_some(), (number + 1) * usize::from(*size) < expected.len())?;
            page_of.page = page.next;
        }
        if expected.is_empty() {
            let page = self.store.read_stream(request).await.map_err(|e| e.to_string())?;
            same((page.events.len(), page.next), (0, None))?;
            same(page.head.map(Version::get), self.model.version(&stream))?;
        }
        Ok(format!("{} events of a stream", expected.len()))
    }

    async fn read_all(&self, op: &Op) -> Result<String, String> {
        let Op::ReadAll { after, stream, category, event_type, limit: size } = op else {
            return Err("not a read of the log".to_owned());
        };
        let start = after % self.checkpoints.len();
        let wanted = stream.map(|number| self.stream(number));
        let filter = EventFilter {
            streams: wanted.clone().map(|stream| vec![stream]),
            aggregate_types: category.then(|| vec![self.stream(0).aggregate_type]),
            event_types: event_type.map(|number| vec![event_type_of(number)]),
        };
        let expected: Vec<_> = (self.model.log.iter().enumerate().skip(start))
            .filter(|(_, stored)| filter.matches(&stored.stream, &stored.event.event_type))
            .collect();
        let mut request =
            ReadAll { after: Some(self.checkpoints[start]), filter, limit: limit((*size).into()) };
        let mut found = Vec::new();
        loop {
            let page = self.store.read_all(request.clone()).await.map_err(|e| e.to_string())?;
            same(page.events.len() <= usize::from(*size), true)?;
            found.extend(page.events);
            if page.caught_up {
                same(Some(page.checkpoint) >= self.checkpoints.last().copied(), true)?;
                break;
            }
            same(request.after < Some(page.checkpoint), true)?;
            request.after = Some(page.checkpoint);
        }
        self.equal(&found, expected.iter().copied())?;
        Ok(format!("{} events of the log", expected.len()))
    }

    /// Whether these are the model's events, numbered by their place in the log.
    fn equal<'m>(
        &self,
        found: &[RecordedEvent],
        expected: impl Iterator<Item = (usize, &'m Stored)>,
    ) -> Result<(), String> {
        let expected: Vec<_> = expected.collect();
        same(found.len(), expected.len())?;
        for (found, (at, stored)) in found.iter().zip(expected) {
            let known = found.is_repeat_of(&stored.stream, &stored.event)
                && found.version.get() == stored.version
                && found.checkpoint == self.checkpoints[at + 1];
            if !known {
                return Err(format!("event {at} of the log reads {found:?}"));
            }
        }
        Ok(())
    }
}

fn event_type_of(number: usize) -> EventType {
    EventType::new(TYPES[number]).must("an event type")
}

#[expect(clippy::needless_pass_by_value, reason = "takes what a caller has just made")]
fn same<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("found {found:?}, expected {expected:?}")) }
}
