//! Between a serde enum and stored events: type, schema version and data, and the steps from old schemas to new.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use changeover_core::events::{NewEvent, RecordedEvent, SchemaVersion};
use changeover_core::{Error, ErrorKind, Json, Result};
use serde_json::Value;
use serde_json::value::RawValue;

use super::StreamEvent;
use super::variants::variants_of;

type Lift = Arc<dyn Fn(Value) -> Result<Value> + Send + Sync>;

pub(super) struct Codec<E> {
    /// The names of the variants; `None`: not an enum in serde's default form.
    variants: Option<&'static [&'static str]>,
    /// By event type, then by the version that is lifted.
    steps: BTreeMap<String, BTreeMap<u32, Lift>>,
    problems: Vec<String>,
    events: PhantomData<fn() -> E>,
}

impl<E> Clone for Codec<E> {
    fn clone(&self) -> Self {
        let (steps, problems) = (self.steps.clone(), self.problems.clone());
        Self { variants: self.variants, steps, problems, events: PhantomData }
    }
}

impl<E: StreamEvent> Codec<E> {
    pub(super) fn new() -> Self {
        let variants = variants_of::<E>();
        let mut problems = Vec::new();
        if variants.is_none() {
            problems.push("not an enum in serde's default (externally tagged) form".to_owned());
        }
        Self { variants, steps: BTreeMap::new(), problems, events: PhantomData }
    }

    pub(super) fn upcast(
        mut self,
        event_type: &str,
        version: u32,
        lift: impl Fn(Value) -> Result<Value> + Send + Sync + 'static,
    ) -> Self {
        let steps = self.steps.entry(event_type.to_owned()).or_default();
        if steps.insert(version, Arc::new(lift)).is_some() {
            self.problems.push(format!("two upcasters for {event_type} version {version}"));
        }
        self
    }

    /// `Config` with everything that is wrong with the type and its upcasters.
    pub(super) fn check(&self) -> Result<()> {
        let mut problems = self.problems.clone();
        for (event_type, steps) in &self.steps {
            if !self.is_variant(event_type) {
                problems.push(format!(
                    "an upcaster for {event_type:?}, which is no variant; variants are {}",
                    self.names()
                ));
            }
            let highest = steps.keys().next_back().copied().unwrap_or(0);
            let missing = (1..=highest).find(|version| !steps.contains_key(version));
            if let Some(missing) = missing {
                problems.push(format!(
                    "no upcaster for {event_type} version {missing}, but for version {highest}; give every one from 1"
                ));
            }
            if steps.contains_key(&0) {
                problems.push(format!("an upcaster for {event_type} version 0; versions begin at 1"));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        let message = format!("events of {}: {}", E::AGGREGATE_TYPE, problems.join("\n"));
        Err(Error::new(ErrorKind::Config, message))
    }

    pub(super) fn encode(&self, event: &E) -> Result<NewEvent> {
        let json = Json::of(event)?;
        let refuse =
            || Error::invalid(format!("an event of {} is not written as one variant", E::AGGREGATE_TYPE));
        let (event_type, data) = if json.as_str().starts_with('"') {
            (json.to::<String>()?, Json::empty())
        } else {
            let mut variant: BTreeMap<String, Box<RawValue>> = json.to().map_err(|_| refuse())?;
            let (Some((name, data)), None) = (variant.pop_first(), variant.pop_first()) else {
                return Err(refuse());
            };
            (name, Json::parse(data.get())?)
        };
        let schema_version = SchemaVersion::new(i64::from(self.current(&event_type)))?;
        Ok(NewEvent { schema_version, ..NewEvent::new(event_type, data)? })
    }

    pub(super) fn decode(&self, event: &RecordedEvent) -> Result<E> {
        let event_type = event.event_type.as_str();
        let refuse = |kind, problem: String| {
            let place = format!("stream {} version {}", event.stream, event.version);
            Err(Error::new(kind, format!("{place}: {problem}")))
        };
        if !self.is_variant(event_type) {
            let names = self.names();
            return refuse(
                ErrorKind::Corrupt,
                format!("event type {event_type:?} is unknown; known are {names}"),
            );
        }
        let (found, current) = (i64::from(event.schema_version.get()), self.current(event_type));
        if found > i64::from(current) {
            let problem = format!(
                "event type {event_type} has schema version {found}, this program knows up to {current}; \
                 run a newer program"
            );
            return refuse(ErrorKind::SchemaMismatch, problem);
        }
        let lifted = if found < i64::from(current) { self.lift(event)? } else { event.data.clone() };
        match read(event_type, &lifted) {
            Ok(event) => Ok(event),
            Err(error) => {
                let problem = format!("event type {event_type} schema version {found}: {}", error.message());
                refuse(ErrorKind::Corrupt, problem)
            }
        }
    }

    fn lift(&self, event: &RecordedEvent) -> Result<Json> {
        let event_type = event.event_type.as_str();
        let place = |error: Error| {
            let version = format!("{event_type} version {}", event.schema_version.get());
            error.with("stream", event.stream.to_string()).with("event", version)
        };
        let mut value: Value = event.data.to().map_err(place)?;
        if Json::of(&value).map_err(place)? != event.data {
            // `Value` keeps whole numbers up to 64 bits and otherwise floats.
            let message = "the data hold a number that an upcaster's JSON value cannot hold exactly";
            return Err(place(Error::new(ErrorKind::Unsupported, message)));
        }
        let from = u32::try_from(event.schema_version.get()).unwrap_or(1);
        for (_, lift) in self.steps.get(event_type).into_iter().flat_map(|steps| steps.range(from..)) {
            value = lift(value).map_err(place)?;
        }
        Json::of(&value).map_err(place)
    }

    /// The version that is written.
    fn current(&self, event_type: &str) -> u32 {
        let highest = self.steps.get(event_type).and_then(|steps| steps.keys().next_back());
        highest.map_or(1, |highest| highest.saturating_add(1))
    }

    fn is_variant(&self, event_type: &str) -> bool {
        self.variants.is_some_and(|variants| variants.contains(&event_type))
    }

    fn names(&self) -> String {
        self.variants.unwrap_or_default().join(", ")
    }
}

/// The variant `event_type` with this content.
fn read<E: StreamEvent>(event_type: &str, data: &Json) -> Result<E> {
    let name = Json::of(event_type)?;
    // Through serde alone: as an event, this is one level deeper than its data, which may be at the deepest allowed.
    let whole = format!("{{{}:{}}}", name.as_str(), data.as_str());
    let with_content = parse(&whole);
    if with_content.is_err() && *data == Json::empty() {
        // A variant without content is written as its name.
        return name.to().or(with_content);
    }
    with_content
}

fn parse<E: StreamEvent>(text: &str) -> Result<E> {
    serde_json::from_str(text).map_err(|error| {
        // Serde's message may quote a value.
        Error::invalid(format!(
            "the data do not fit the variant ({:?} at column {})",
            error.classify(),
            error.column()
        ))
    })
}
