//! What of the event store is compared: pages of streams and of the log, and their ends.

use std::sync::Arc;

use changeover_core::events::{
    AllPage, Direction, Head, HeadOf, ReadAll, ReadStream, RecordedEvent, StreamPage, Version,
};
use changeover_core::{EventStore, Result};

use super::compare::{Found, Read};
use super::follower::Apart;
use super::pages::{Page, Record, differences, differing, fields_of};

impl Read for ReadStream {
    type Store = dyn EventStore;
    const NAME: &'static str = "events.read_stream";
    type Answer = StreamPage;

    async fn ask(self, store: Arc<dyn EventStore>) -> Result<StreamPage> {
        store.read_stream(self).await
    }

    fn differences(&self, owner: &StreamPage, shadow: &StreamPage, apart: &Apart) -> Vec<Found> {
        let sign = if self.direction == Direction::Backward { -1 } else { 1 };
        let key = |event: &RecordedEvent| sign * event.version.get();
        let page = |page: &StreamPage| {
            let last = page.events.last().filter(|_| page.next.is_some());
            last.map(key)
        };
        let pages = [owner, shadow].map(|it| Page { records: &it.events, until: page(it) });
        let mut found = differences(pages, key, apart);
        let is_apart = owner.events.iter().any(|event| apart.has_event(event.checkpoint.position()));
        let is_unknown = owner.events.is_empty() && apart.any_stream();
        // A stream whose id the file's store cannot read.
        let is_unread = owner.head.is_none() && apart.any_unread();
        if !is_apart && !is_unknown && !is_unread {
            let name = self.stream.to_string();
            // What is behind the page may be apart.
            if found.is_empty() && !apart.any_event() {
                found.extend(differing(&name, "next", owner.next.is_some(), shadow.next.is_some()));
            }
            found.extend(differing(&name, "head", shown(owner.head), shown(shadow.head)));
        }
        found
    }

    fn places(&self, answer: &StreamPage) -> (&'static str, Vec<(String, i64)>) {
        places(&answer.events)
    }
}

impl Read for ReadAll {
    type Store = dyn EventStore;
    const NAME: &'static str = "events.read_all";
    type Answer = AllPage;

    async fn ask(self, store: Arc<dyn EventStore>) -> Result<AllPage> {
        store.read_all(self).await
    }

    /// A filtered page may end anywhere; so only what both have looked at is compared.
    fn differences(&self, owner: &AllPage, shadow: &AllPage, apart: &Apart) -> Vec<Found> {
        let key = |event: &RecordedEvent| event.checkpoint.position();
        let until = |page: &AllPage| (!page.caught_up).then(|| page.checkpoint.position());
        let pages = [owner, shadow].map(|it| Page { records: &it.events, until: until(it) });
        let mut found = differences(pages, key, apart);
        let (end, other) = (owner.checkpoint.position(), shadow.checkpoint.position());
        if owner.caught_up && shadow.caught_up && !apart.has_event(end) {
            found.extend(differing("the log", "end", end, other));
        }
        found
    }

    fn places(&self, answer: &AllPage) -> (&'static str, Vec<(String, i64)>) {
        places(&answer.events)
    }
}

impl Read for HeadOf {
    type Store = dyn EventStore;
    const NAME: &'static str = "events.head";
    type Answer = Head;

    async fn ask(self, store: Arc<dyn EventStore>) -> Result<Head> {
        store.head(self).await
    }

    fn differences(&self, owner: &Head, shadow: &Head, apart: &Apart) -> Vec<Found> {
        let name = match self {
            Self::Stream(stream) => stream.to_string(),
            Self::Log => "the log".to_owned(),
        };
        let position = |head: &Head| head.checkpoint.map(|checkpoint| checkpoint.position());
        let is_unread = position(owner).is_none() && apart.any_unread();
        if is_unread || position(owner).is_some_and(|position| apart.has_event(position)) {
            return Vec::new();
        }
        let mut found = differing(&name, "version", shown(owner.version), shown(shadow.version));
        let positions =
            [owner, shadow].map(|head| position(head).map_or_else(String::new, |it| it.to_string()));
        found.extend(differing(&name, "position", &positions[0], &positions[1]));
        found
    }
}

fn places(events: &[RecordedEvent]) -> (&'static str, Vec<(String, i64)>) {
    let places = events.iter().map(|event| (event.name(), event.checkpoint.position()));
    ("domain_event", places.collect())
}

impl Record for RecordedEvent {
    fn name(&self) -> String {
        format!("{} {} ({})", self.stream, self.version, self.id)
    }

    fn state(&self) -> String {
        format!("position {}", self.checkpoint.position())
    }

    fn is_apart(&self, apart: &Apart) -> bool {
        apart.has_event(self.checkpoint.position())
    }

    /// The position is compared, the id of the log is the store's.
    fn fields(&self, key: &str, shadow: &Self) -> Vec<Found> {
        // What cannot be written would be a record without fields; an event always can.
        let [left, right] = [self, shadow].map(|event| serde_json::to_string(event).unwrap_or_default());
        let mut found = fields_of(key, &left, &right, "checkpoint");
        let (left, right) = (self.checkpoint.position(), shadow.checkpoint.position());
        found.extend(differing(key, "position", left, right));
        found
    }
}

fn shown(version: Option<Version>) -> String {
    version.map_or_else(String::new, |version| version.to_string())
}
