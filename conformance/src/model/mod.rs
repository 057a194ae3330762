//! A second opinion: the contract of the event store in the fewest words, and random scripts to compare a store with it.
//!
//! Every backend is compared with the same model, so what equals it on two backends is equal on both.

pub(crate) mod audit;
pub(crate) mod playbooks;
mod player;
mod script;

use changeover_core::events::{Append, NewEvent, StreamAppend, StreamId, Version};
use changeover_core::{Checkpoint, Detail, Error, ErrorKind, Uuid};

pub(crate) use player::Player;
pub(crate) use script::{Op, random_script, shrunk};

/// What is stored: events in the order of their commit, and how far each of the consumers is, in events.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) log: Vec<Stored>,
    pub(crate) tracked: Vec<(String, usize)>,
}

pub(crate) struct Stored {
    pub(crate) stream: StreamId,
    pub(crate) version: i64,
    pub(crate) event: NewEvent,
}

/// What an append must answer: versions of the first and last event a stream, or why it is refused.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Stored(Vec<(i64, i64)>),
    Repeated(Vec<(i64, i64)>),
    Invalid,
    Conflict(StreamId, Option<i64>),
    Exists(Uuid),
    Tracked(usize),
}

impl Model {
    pub(crate) fn version(&self, stream: &StreamId) -> Option<i64> {
        self.log.iter().filter(|stored| stored.stream == *stream).map(|stored| stored.version).max()
    }

    pub(crate) fn progress(&self, consumer: &str) -> Option<usize> {
        self.tracked.iter().find(|(name, _)| name == consumer).map(|(_, at)| *at)
    }

    /// Judges and stores. `track`: the consumer and how many events it has handled.
    pub(crate) fn append(&mut self, request: &Append, track: Option<(&str, usize)>) -> Verdict {
        if request.validate().is_err() {
            return Verdict::Invalid;
        }
        if let Some(versions) = self.repeated(request) {
            return Verdict::Repeated(versions);
        }
        for StreamAppend { stream, expected, .. } in &request.streams {
            let actual = self.version(stream);
            if !expected.is_met(actual.and_then(|number| Version::new(number).ok())) {
                return Verdict::Conflict(stream.clone(), actual);
            }
        }
        for event in request.streams.iter().flat_map(|part| &part.events) {
            if self.log.iter().any(|stored| stored.event.id == event.id) {
                return Verdict::Exists(event.id);
            }
        }
        if let Some((consumer, at)) = track {
            match self.progress(consumer) {
                Some(recorded) if at <= recorded => return Verdict::Tracked(recorded),
                _ => self.tracked.retain(|(name, _)| name != consumer),
            }
            self.tracked.push((consumer.to_owned(), at));
        }
        let mut versions = Vec::new();
        for StreamAppend { stream, events, .. } in &request.streams {
            let first = self.version(stream).unwrap_or(0) + 1;
            for (version, event) in (first..).zip(events) {
                self.log.push(Stored { stream: stream.clone(), version, event: event.clone() });
            }
            versions.push((first, self.version(stream).unwrap_or(0)));
        }
        Verdict::Stored(versions)
    }

    fn repeated(&self, request: &Append) -> Option<Vec<(i64, i64)>> {
        if request.streams.is_empty() {
            return None;
        }
        let mut versions = Vec::new();
        for StreamAppend { stream, events, .. } in &request.streams {
            let mut found = Vec::new();
            for event in events {
                let same = |stored: &&Stored| stored.event == *event && stored.stream == *stream;
                found.push(self.log.iter().find(same)?.version);
            }
            if !found.windows(2).all(|pair| pair[1] == pair[0] + 1) {
                return None;
            }
            versions.push((found[0], found[found.len() - 1]));
        }
        Some(versions)
    }

    /// How an error reads as a verdict, `checkpoints` being those after 0, 1, 2, .. events; else what is wrong with it.
    pub(crate) fn verdict_of(error: &Error, checkpoints: &[Checkpoint]) -> Result<Verdict, String> {
        match (error.kind(), error.detail()) {
            (ErrorKind::Invalid, _) => Ok(Verdict::Invalid),
            (ErrorKind::VersionConflict, Some(Detail::Conflict { stream, actual, .. })) => {
                Ok(Verdict::Conflict(stream.clone(), actual.map(Version::get)))
            }
            (ErrorKind::AlreadyExists, Some(Detail::Exists { id })) => Ok(Verdict::Exists(*id)),
            (ErrorKind::AlreadyExists, Some(Detail::Tracked { recorded })) => checkpoints
                .iter()
                .position(|checkpoint| checkpoint == recorded)
                .map(Verdict::Tracked)
                .ok_or_else(|| format!("an unknown checkpoint in: {error}")),
            _ => Err(format!("an error that the contract does not know: {error}")),
        }
    }
}
