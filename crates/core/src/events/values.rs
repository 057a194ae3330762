//! Streams, versions and events.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Uuid;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::text::{AggregateType, EventType};
use crate::time::Timestamp;

/// The name of a stream: the type of the aggregate (its category) and its id. As text `Order/<uuid>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamId {
    /// The type of the aggregate.
    pub aggregate_type: AggregateType,
    /// The id of the aggregate.
    pub aggregate_id: Uuid,
}

impl StreamId {
    /// Checks the type and makes the name.
    pub fn new(aggregate_type: impl Into<String>, aggregate_id: Uuid) -> Result<Self> {
        Ok(Self { aggregate_type: AggregateType::new(aggregate_type)?, aggregate_id })
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.aggregate_type, self.aggregate_id)
    }
}

impl FromStr for StreamId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (aggregate_type, id) = text.rsplit_once('/').ok_or_else(|| {
            Error::invalid(format!("{text:?} is not a stream; write TYPE/ID, the id being a UUID"))
        })?;
        let id = Uuid::try_parse(id)
            .map_err(|_| Error::invalid(format!("{id:?} is not a UUID; write the stream as TYPE/ID")))?;
        Self::new(aggregate_type, id)
    }
}

/// The version of an event within its stream, 1 for the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Version(i64);

impl Version {
    /// The first event of a stream.
    pub const FIRST: Self = Self(1);

    /// `Invalid` below 1.
    pub fn new(version: i64) -> Result<Self> {
        if version >= 1 {
            return Ok(Self(version));
        }
        Err(Error::invalid(format!("version {version} does not exist, the first is 1")))
    }

    /// The number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the caller expects of a stream before its events are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expected {
    /// Nothing.
    Any,
    /// That it does not exist.
    NoStream,
    /// That it exists.
    Exists,
    /// That this is its latest version.
    Exactly(Version),
}

impl Expected {
    /// What somebody expects who loaded a stream and found `version` (`None`: no such stream).
    pub fn loaded(version: Option<Version>) -> Self {
        version.map_or(Self::NoStream, Self::Exactly)
    }

    /// Whether a stream at `actual` (`None`: no such stream) is as expected.
    pub fn is_met(self, actual: Option<Version>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual.is_none(),
            Self::Exists => actual.is_some(),
            Self::Exactly(version) => actual == Some(version),
        }
    }
}

/// As [`Expected::loaded`].
impl From<Option<Version>> for Expected {
    fn from(version: Option<Version>) -> Self {
        Self::loaded(version)
    }
}

impl From<Version> for Expected {
    fn from(version: Version) -> Self {
        Self::Exactly(version)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::NoStream => f.write_str("no stream"),
            Self::Exists => f.write_str("an existing stream"),
            Self::Exactly(version) => write!(f, "exactly version {version}"),
        }
    }
}

/// The version of an event type's schema, 1 to 2147483647; upcasters go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SchemaVersion(i32);

impl SchemaVersion {
    /// The first schema.
    pub const FIRST: Self = Self(1);

    /// `Invalid` below 1 or above 2147483647.
    pub fn new(version: i64) -> Result<Self> {
        match i32::try_from(version) {
            Ok(found @ 1..) => Ok(Self(found)),
            _ => Err(Error::invalid(format!("schema version is {version}, 1 to {} are allowed", i32::MAX))),
        }
    }

    /// The number.
    pub fn get(self) -> i32 {
        self.0
    }
}

/// An event to be appended. The id makes a repeated append harmless, so keep it over retries.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// The client's id, unique within the tenant.
    pub id: Uuid,
    /// Its type.
    pub event_type: EventType,
    /// The version of the type's schema.
    pub schema_version: SchemaVersion,
    /// The payload: any JSON but null.
    pub data: Json,
    /// What else is known: an object.
    pub metadata: Json,
    /// When it happened; `None`: when the store records it.
    pub occurred_at: Option<Timestamp>,
    /// The event or command that caused it.
    pub causation_id: Option<Uuid>,
    /// What it belongs to.
    pub correlation_id: Option<Uuid>,
}

impl NewEvent {
    /// An event of schema version 1 with a new UUIDv7 and nothing but a payload.
    pub fn new(event_type: impl Into<String>, data: Json) -> Result<Self> {
        Ok(Self {
            id: Uuid::now_v7(),
            event_type: EventType::new(event_type)?,
            schema_version: SchemaVersion::FIRST,
            data,
            metadata: Json::empty(),
            occurred_at: None,
            causation_id: None,
            correlation_id: None,
        })
    }
}

/// An event as stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordedEvent {
    /// Its stream.
    pub stream: StreamId,
    /// Its version within the stream.
    pub version: Version,
    /// Where it stands in the log: what comes after this checkpoint comes after the event.
    pub checkpoint: Checkpoint,
    /// Its id.
    pub id: Uuid,
    /// Its type.
    pub event_type: EventType,
    /// The version of the type's schema.
    pub schema_version: SchemaVersion,
    /// The payload.
    pub data: Json,
    /// What else is known.
    pub metadata: Json,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When the store recorded it: never goes backwards in a log. See `Capabilities::recorded_time`.
    pub recorded_at: Timestamp,
    /// The event or command that caused it.
    pub causation_id: Option<Uuid>,
    /// What it belongs to.
    pub correlation_id: Option<Uuid>,
}

impl RecordedEvent {
    /// Whether `event`, meant for `stream`, is this event: what decides between a repeated append and a taken id.
    pub fn is_repeat_of(&self, stream: &StreamId, event: &NewEvent) -> bool {
        self.id == event.id
            && self.stream == *stream
            && self.event_type == event.event_type
            && self.schema_version == event.schema_version
            && self.data == event.data
            && self.metadata == event.metadata
            && event.occurred_at.is_none_or(|at| at == self.occurred_at)
            && self.causation_id == event.causation_id
            && self.correlation_id == event.correlation_id
    }
}
