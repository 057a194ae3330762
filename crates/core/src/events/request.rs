//! What an event store is asked and what it answers.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::values::{Expected, NewEvent, RecordedEvent, StreamId, Version};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::text::{AggregateType, ConsumerName, EventType, Limit};

/// Events for one stream or several, all or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// The streams, each at most once.
    pub streams: Vec<StreamAppend>,
    /// A consumer's progress, recorded together with the events. May stand alone.
    pub track: Option<Track>,
}

/// The events for one stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamAppend {
    /// The stream.
    pub stream: StreamId,
    /// What is expected of it.
    pub expected: Expected,
    /// At least one event.
    pub events: Vec<NewEvent>,
}

/// How far a consumer has come in a log it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// The consumer.
    pub consumer: ConsumerName,
    /// Everything up to here is handled. Of this store's log, and after what is recorded.
    pub checkpoint: Checkpoint,
}

impl Append {
    /// The most events of one append.
    pub const MAX_EVENTS: usize = 10_000;
    /// The largest sum of data and metadata of one append, in bytes of canonical text.
    pub const MAX_BYTES: usize = 64 * 1024 * 1024;

    /// An append to one stream.
    pub fn one(stream: StreamId, expected: Expected, events: Vec<NewEvent>) -> Self {
        Self { streams: vec![StreamAppend { stream, expected, events }], track: None }
    }

    /// The rules every backend applies before it asks its database: something to append, no stream and no event id
    /// twice, payloads not null, metadata objects (`Invalid`); at most [`Append::MAX_EVENTS`] events and
    /// [`Append::MAX_BYTES`] bytes (`TooLarge`).
    pub fn validate(&self) -> Result<()> {
        if self.streams.is_empty() && self.track.is_none() {
            return Err(Error::invalid("nothing to append: give at least one stream with one event"));
        }
        let count = self.streams.iter().map(|stream| stream.events.len()).sum::<usize>();
        if count > Self::MAX_EVENTS {
            return Err(Error::too_large("the append", count as u64, Self::MAX_EVENTS as u64, "events"));
        }
        let (mut streams, mut ids, mut bytes) = (HashSet::new(), HashSet::new(), 0);
        for part in &self.streams {
            if part.events.is_empty() {
                return Err(Error::invalid(format!(
                    "stream {}: no event to append, give at least one",
                    part.stream
                )));
            }
            if !streams.insert(&part.stream) {
                return Err(Error::invalid(format!("stream {} stands twice in one append", part.stream)));
            }
            for event in &part.events {
                if !ids.insert(event.id) {
                    return Err(Error::invalid(format!("event id {} stands twice in one append", event.id)));
                }
                if event.data.is_null() {
                    return Err(Error::invalid(format!(
                        "event {}: data is null, allowed is any other JSON",
                        event.id
                    )));
                }
                if !event.metadata.is_object() {
                    return Err(Error::invalid(format!("event {}: metadata is not an object", event.id)));
                }
                bytes += event.data.as_str().len() + event.metadata.as_str().len();
            }
        }
        if bytes > Self::MAX_BYTES {
            return Err(Error::too_large(
                "the append",
                bytes as u64,
                Self::MAX_BYTES as u64,
                "bytes of JSON",
            ));
        }
        Ok(())
    }
}

/// The answer to an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// One entry a stream, in the order of the request.
    pub streams: Vec<AppendedStream>,
    /// After the last event of the request (the tracked checkpoint if there is no event).
    pub checkpoint: Checkpoint,
    /// Whether all of it was stored before and nothing was written now.
    pub repeated: bool,
}

/// Where the events of one stream were stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendedStream {
    /// The stream.
    pub stream: StreamId,
    /// The version of the first event.
    pub first: Version,
    /// The version of the last event.
    pub last: Version,
}

/// Which way a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// By rising version.
    #[default]
    Forward,
    /// By falling version.
    Backward,
}

/// Which page of a stream is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadStream {
    /// The stream.
    pub stream: StreamId,
    /// Which way.
    pub direction: Direction,
    /// The lowest version wanted, inclusive.
    pub first: Option<Version>,
    /// The highest version wanted, inclusive.
    pub last: Option<Version>,
    /// Only these types; `None`: all.
    pub event_types: Option<Vec<EventType>>,
    /// The most events of the page.
    pub limit: Limit,
    /// `next` of the page before.
    pub page: Option<PageToken>,
}

impl ReadStream {
    /// All of a stream, forward, in pages of the default size.
    pub fn all(stream: StreamId) -> Self {
        Self {
            stream,
            direction: Direction::Forward,
            first: None,
            last: None,
            event_types: None,
            limit: Limit::default(),
            page: None,
        }
    }

    /// The inclusive bounds left to read, the token applied: lowest and highest version. `Invalid` if the token is of
    /// another read. Lowest above highest: nothing is left.
    pub fn bounds(&self) -> Result<(i64, i64)> {
        let mut first = self.first.map_or(1, Version::get);
        let mut last = self.last.map_or(i64::MAX, Version::get);
        if let Some(token) = self.page {
            if token.read != self.fingerprint() {
                return Err(Error::invalid(
                    "the page token is of another stream, direction, range or filter; begin again without one",
                ));
            }
            match self.direction {
                Direction::Forward => first = first.max(token.version.saturating_add(1)),
                Direction::Backward => last = last.min(token.version - 1),
            }
        }
        Ok((first, last))
    }

    /// The token of the page that follows an event of `version`.
    pub fn token_after(&self, version: Version) -> PageToken {
        PageToken { read: self.fingerprint(), version: version.get() }
    }

    fn fingerprint(&self) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.stream.to_string());
        hash.update([0, u8::from(self.direction == Direction::Backward)]);
        hash.update(self.first.map_or(0, Version::get).to_le_bytes());
        hash.update(self.last.map_or(0, Version::get).to_le_bytes());
        for event_type in self.event_types.iter().flatten() {
            hash.update(event_type.as_str());
            hash.update([0]);
        }
        hash.update([u8::from(self.event_types.is_some())]);
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        u64::from_be_bytes(first)
    }
}

/// Where the next page of a read begins; of use for that read only. As text `p1.<read>.<version>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageToken {
    read: u64,
    version: i64,
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p1.{:016x}.{}", self.read, self.version)
    }
}

impl FromStr for PageToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse =
            || Error::invalid("not a page token; allowed is text that a page of the same read returned");
        let rest = text.strip_prefix("p1.").ok_or_else(refuse)?;
        let (read, version) = rest.split_once('.').ok_or_else(refuse)?;
        let read = u64::from_str_radix(read, 16).map_err(|_| refuse())?;
        let version = version.parse().map_err(|_| refuse())?;
        let token = Self { read, version };
        if version < 1 || token.to_string() != text {
            return Err(refuse());
        }
        Ok(token)
    }
}

/// A page of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamPage {
    /// The events, in the direction of the read.
    pub events: Vec<RecordedEvent>,
    /// The latest version of the stream when the page was read; `None`: no such stream.
    pub head: Option<Version>,
    /// There exactly when more events match.
    pub next: Option<PageToken>,
}

/// Which events of a log are wanted; each list `None` for all. An event must pass all three.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Only these streams.
    pub streams: Option<Vec<StreamId>>,
    /// Only streams of these categories.
    pub aggregate_types: Option<Vec<AggregateType>>,
    /// Only events of these types.
    pub event_types: Option<Vec<EventType>>,
}

impl EventFilter {
    /// The most entries of one list.
    pub const MAX_ENTRIES: usize = 1_000;

    /// `TooLarge` for a list of more than [`EventFilter::MAX_ENTRIES`].
    pub fn validate(&self) -> Result<()> {
        let lengths = [
            ("the stream filter", self.streams.as_ref().map_or(0, Vec::len)),
            ("the aggregate type filter", self.aggregate_types.as_ref().map_or(0, Vec::len)),
            ("the event type filter", self.event_types.as_ref().map_or(0, Vec::len)),
        ];
        for (what, found) in lengths {
            if found > Self::MAX_ENTRIES {
                return Err(Error::too_large(what, found as u64, Self::MAX_ENTRIES as u64, "entries"));
            }
        }
        Ok(())
    }

    /// Whether an event of this stream and type is wanted.
    pub fn matches(&self, stream: &StreamId, event_type: &EventType) -> bool {
        self.streams.as_ref().is_none_or(|wanted| wanted.contains(stream))
            && self.aggregate_types.as_ref().is_none_or(|wanted| wanted.contains(&stream.aggregate_type))
            && self.event_types.as_ref().is_none_or(|wanted| wanted.contains(event_type))
    }
}

/// Which page of the log is wanted.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ReadAll {
    /// Only what comes after; `None`: from the start.
    pub after: Option<Checkpoint>,
    /// Which events.
    pub filter: EventFilter,
    /// The most events of the page.
    pub limit: Limit,
}

/// A page of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct AllPage {
    /// The events, by rising position.
    pub events: Vec<RecordedEvent>,
    /// Where to go on after.
    pub checkpoint: Checkpoint,
    /// Nothing newer was committed when the page was read.
    pub caught_up: bool,
}

/// What the head is wanted of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadOf {
    /// A stream.
    Stream(StreamId),
    /// The whole log.
    Log,
}

/// The end of a stream or of the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head {
    /// Of a stream: its latest version; `None` of the log and of a stream that does not exist or has no event yet.
    pub version: Option<Version>,
    /// Of a stream: after its latest event, `None` if there is none. Of the log: always there.
    pub checkpoint: Option<Checkpoint>,
}

/// What is to be followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    /// Only what comes after; `None`: from the start.
    pub after: Option<Checkpoint>,
    /// Which events.
    pub filter: EventFilter,
    /// The most messages that wait for the reader, 1 to 10,000.
    pub buffer: usize,
    /// How long a reader may take nothing while the buffer is full.
    pub patience: Duration,
}

impl Subscribe {
    /// `Invalid` for a buffer outside of 1 to 10,000; and as [`EventFilter::validate`].
    pub fn validate(&self) -> Result<()> {
        if !(1..=10_000).contains(&self.buffer) {
            return Err(Error::invalid(format!("buffer is {}, 1 to 10000 are allowed", self.buffer)));
        }
        self.filter.validate()
    }
}

impl Default for Subscribe {
    /// Everything from the start, 256 messages, 30 s.
    fn default() -> Self {
        Self { after: None, filter: EventFilter::default(), buffer: 256, patience: Duration::from_secs(30) }
    }
}

/// That a store can serve, and what an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Readiness {
    /// Facts for people: server version, schema, lag.
    pub notes: Vec<String>,
}
