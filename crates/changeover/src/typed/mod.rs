//! Streams of a user's own event type: states in, decisions out, versions kept.
//!
//! There is no framework around aggregates: a state is any `Default` type, applying an event is a function, and a
//! decision is a closure that returns events.

mod codec;
#[cfg(test)]
mod tests;
mod variants;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use changeover_core::events::{
    Append, Appended, Expected, NewEvent, ReadStream, RecordedEvent, StreamId, Version,
};
use changeover_core::{Error, ErrorKind, Json, Result, Uuid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use codec::Codec;

use crate::retry;
use crate::stores::Events;

/// An event type of a user's own: an enum in serde's default form. A variant's name is the event type, its content
/// the data (`{}` for a variant without content).
pub trait StreamEvent: Serialize + DeserializeOwned + Send + 'static {
    /// The aggregate type of the streams that hold these events: `Order`.
    const AGGREGATE_TYPE: &'static str;
}

/// A state made of a stream, and the version it was made at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded<S> {
    /// The state, `Default` if there is no stream.
    pub state: S,
    /// The version of the last event that was applied; `None`: there is no stream.
    pub version: Option<Version>,
}

impl<S> Deref for Loaded<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.state
    }
}

/// The streams of a module that hold events of the type `E`. Cheap to clone.
pub struct TypedStreams<E> {
    events: Events,
    codec: Arc<Codec<E>>,
    context: Context,
}

/// What is written beside every event.
#[derive(Clone)]
struct Context {
    metadata: Json,
    causation_id: Option<Uuid>,
    correlation_id: Option<Uuid>,
}

impl<E: StreamEvent> TypedStreams<E> {
    pub(crate) fn new(events: Events) -> Self {
        let context = Context { metadata: Json::empty(), causation_id: None, correlation_id: None };
        Self { events, codec: Arc::new(Codec::new()), context }
    }

    /// Lifts data of `event_type` from schema `version` to the next: every version below the highest needs a step.
    /// Events are written with the version after the last step, 1 if there is none.
    ///
    /// A step missing or given twice, and a type that is no variant of `E`, are told as `Config` by the first use.
    #[must_use]
    pub fn upcast(
        mut self,
        event_type: &str,
        version: u32,
        lift: impl Fn(serde_json::Value) -> Result<serde_json::Value> + Send + Sync + 'static,
    ) -> Self {
        let codec = Arc::unwrap_or_clone(self.codec).upcast(event_type, version, lift);
        self.codec = Arc::new(codec);
        self
    }

    /// The same, writing `metadata` (an object) beside every event.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Json) -> Self {
        self.context.metadata = metadata;
        self
    }

    /// The same, naming the event or command that causes what is written.
    #[must_use]
    pub fn with_causation(mut self, id: Uuid) -> Self {
        self.context.causation_id = Some(id);
        self
    }

    /// The same, naming what everything written belongs to.
    #[must_use]
    pub fn with_correlation(mut self, id: Uuid) -> Self {
        self.context.correlation_id = Some(id);
        self
    }

    /// The store and module beneath.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The stream of the aggregate `id`.
    pub fn stream(&self, id: Uuid) -> Result<StreamId> {
        StreamId::new(E::AGGREGATE_TYPE, id)
    }

    /// Applies every event of a stream in order to `S::default()`. Without a stream: the default, without a version.
    ///
    /// Transient errors are retried. `SchemaMismatch` for an event of a newer schema than is known here, `Corrupt` for
    /// one that is no variant of `E` or does not fit it.
    pub async fn load<S: Default>(&self, id: Uuid, apply: impl Fn(&mut S, E)) -> Result<Loaded<S>> {
        self.codec.check()?;
        let store = self.events.store().await?;
        let mut loaded = Loaded { state: S::default(), version: None };
        let mut request = ReadStream::all(self.stream(id)?);
        loop {
            let page = retry::transient(|| store.read_stream(request.clone())).await?;
            for event in &page.events {
                apply(&mut loaded.state, self.codec.decode(event)?);
                loaded.version = Some(event.version);
            }
            match page.next {
                Some(next) => request.page = Some(next),
                None => return Ok(loaded),
            }
        }
    }

    /// Appends events with new ids, if the stream is as expected: at the version that was loaded (`None`: no stream),
    /// or as [`Expected`] says. Transient errors are retried with the same ids; conflicts never are.
    pub async fn append(
        &self,
        id: Uuid,
        expected: impl Into<Expected>,
        events: impl IntoIterator<Item = E>,
    ) -> Result<Appended> {
        self.send(self.request(id, expected, events)?).await
    }

    pub(crate) fn request(
        &self,
        id: Uuid,
        expected: impl Into<Expected>,
        events: impl IntoIterator<Item = E>,
    ) -> Result<Append> {
        Ok(Append::one(self.stream(id)?, expected.into(), self.encode(events)?))
    }

    /// Loads, decides, appends; after a conflict again from the start, up to 16 times in all. Each decision's events
    /// have new ids; transient errors are retried with the ids of the decision.
    ///
    /// Returns the state and version after the events. No events: nothing is appended. An error of `decide` ends it.
    pub async fn execute<S, I, X>(
        &self,
        id: Uuid,
        apply: impl Fn(&mut S, E),
        decide: impl Fn(&Loaded<S>) -> Result<I, X>,
    ) -> Result<Loaded<S>, X>
    where
        S: Default,
        I: IntoIterator<Item = E>,
        X: From<Error>,
    {
        let mut conflicts = 0;
        loop {
            let mut loaded = self.load(id, &apply).await?;
            let decided: Vec<E> = decide(&loaded)?.into_iter().collect();
            if decided.is_empty() {
                return Ok(loaded);
            }
            let events = self.encode_each(&decided)?;
            let request = Append::one(self.stream(id)?, Expected::loaded(loaded.version), events);
            match self.send(request).await {
                Ok(appended) => {
                    for event in decided {
                        apply(&mut loaded.state, event);
                    }
                    loaded.version = appended.streams.first().map(|stream| stream.last);
                    return Ok(loaded);
                }
                Err(error) if error.kind() == ErrorKind::VersionConflict => {
                    conflicts += 1;
                    if conflicts == retry::DECISIONS {
                        return Err(error.with("attempts", conflicts.to_string()).into());
                    }
                    tracing::debug!(%error, conflicts, "deciding anew");
                    retry::after_conflict(conflicts).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What is stored, as an `E`. For readers of `read_all` and of subscriptions; errors as [`TypedStreams::load`].
    pub fn decode(&self, event: &RecordedEvent) -> Result<E> {
        self.codec.check()?;
        self.codec.decode(event)
    }

    /// Events as they are stored, with new ids.
    pub fn encode(&self, events: impl IntoIterator<Item = E>) -> Result<Vec<NewEvent>> {
        self.encode_each(&events.into_iter().collect::<Vec<_>>())
    }

    fn encode_each(&self, events: &[E]) -> Result<Vec<NewEvent>> {
        self.codec.check()?;
        let encode = |event| {
            let Context { metadata, causation_id, correlation_id } = self.context.clone();
            Ok(NewEvent { metadata, causation_id, correlation_id, ..self.codec.encode(event)? })
        };
        events.iter().map(encode).collect()
    }

    async fn send(&self, request: Append) -> Result<Appended> {
        let store = self.events.store().await?;
        retry::transient(|| store.append(request.clone())).await
    }
}

impl<E> Clone for TypedStreams<E> {
    fn clone(&self) -> Self {
        Self { events: self.events.clone(), codec: Arc::clone(&self.codec), context: self.context.clone() }
    }
}

impl<E: StreamEvent> fmt::Debug for TypedStreams<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedStreams")
            .field("aggregate_type", &E::AGGREGATE_TYPE)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}
