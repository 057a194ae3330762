//! Consecutive lines that can go in one append without changing their order in the log.

use std::collections::HashMap;

use changeover::events::{Append, AppendedStream, Expected, StreamAppend, StreamId, Version};

use super::line::EventLine;

/// Events of one append: many enough to spare round trips, few enough to be retried one by one.
const MAX_EVENTS: usize = 500;
/// Bytes of JSON in one append, unless a single line has more.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Lines in the order of the file, each with its number.
#[derive(Default)]
pub struct Batch {
    lines: Vec<(u64, EventLine)>,
    seen: HashMap<StreamId, Version>,
    bytes: usize,
}

impl Batch {
    /// Whether `line` may join. An append stores stream after stream, so a stream may go on only right after its own
    /// last line, and only with the next version.
    pub fn takes(&self, line: &EventLine) -> bool {
        let Some((_, last)) = self.lines.last() else { return true };
        if self.lines.len() >= MAX_EVENTS || self.bytes + size(line) > MAX_BYTES {
            return false;
        }
        match self.seen.get(&line.stream) {
            None => true,
            Some(version) => last.stream == line.stream && version.get() + 1 == line.version.get(),
        }
    }

    pub fn push(&mut self, number: u64, line: EventLine) {
        self.bytes += size(&line);
        self.seen.insert(line.stream.clone(), line.version);
        self.lines.push((number, line));
    }

    pub fn lines(&self) -> &[(u64, EventLine)] {
        &self.lines
    }

    /// The append of these lines, which one batch takes.
    pub fn append(lines: &[(u64, EventLine)]) -> Append {
        let mut streams: Vec<StreamAppend> = Vec::new();
        for (_, line) in lines {
            match streams.last_mut() {
                Some(last) if last.stream == line.stream => last.events.push(line.event.clone()),
                _ => streams.push(StreamAppend {
                    stream: line.stream.clone(),
                    expected: before(line.version),
                    events: vec![line.event.clone()],
                }),
            }
        }
        Append { streams, track: None }
    }

    /// Whether the events were stored at the versions the lines claim. A repeated append may have been stored at
    /// others.
    pub fn is_where_claimed(lines: &[(u64, EventLine)], stored: &[AppendedStream]) -> bool {
        stored.iter().all(|stored| {
            lines
                .iter()
                .find(|(_, line)| line.stream == stored.stream)
                .is_some_and(|(_, line)| line.version == stored.first)
        })
    }
}

/// What a stream is expected to be at before the event of `version`.
fn before(version: Version) -> Expected {
    // Below 1 there is no version: then there is no stream yet.
    Expected::loaded(Version::new(version.get() - 1).ok())
}

fn size(line: &EventLine) -> usize {
    line.event.data.as_str().len() + line.event.metadata.as_str().len()
}

#[cfg(test)]
mod tests {
    use changeover::events::NewEvent;
    use changeover::{Json, Uuid};

    use super::*;

    fn line(stream: u128, version: i64) -> EventLine {
        EventLine {
            stream: StreamId::new("T", Uuid::from_u128(stream)).unwrap(),
            version: Version::new(version).unwrap(),
            event: NewEvent::new("E", Json::empty()).unwrap(),
        }
    }

    fn batches(lines: &[(u128, i64)]) -> Vec<usize> {
        let mut sizes = Vec::new();
        let mut batch = Batch::default();
        for (number, (stream, version)) in (1..).zip(lines) {
            let line = line(*stream, *version);
            if !batch.takes(&line) {
                sizes.push(std::mem::take(&mut batch).lines().len());
            }
            batch.push(number, line);
        }
        sizes.push(batch.lines().len());
        sizes
    }

    // The order of the file is the order of the log: a stream that comes back begins a new append.
    #[test]
    fn a_batch_ends_where_grouping_would_change_the_order() {
        assert_eq!(batches(&[(1, 1), (2, 1), (2, 2), (3, 1)]), [4]);
        assert_eq!(batches(&[(1, 1), (2, 1), (1, 2), (2, 2)]), [2, 2]);
        assert_eq!(batches(&[(1, 1), (1, 3)]), [1, 1]);
        assert_eq!(batches(&[(1, 1), (1, 1)]), [1, 1]);
        let long: Vec<_> = (1..=1_001).map(|version| (1, version)).collect();
        assert_eq!(batches(&long), [500, 500, 1]);
    }

    #[test]
    fn the_version_of_the_first_line_is_the_expectation() {
        let append = Batch::append(&[(1, line(1, 1)), (2, line(1, 2)), (3, line(2, 5))]);
        let found: Vec<_> =
            append.streams.iter().map(|stream| (stream.expected, stream.events.len())).collect();
        assert_eq!(found, [(Expected::NoStream, 2), (Expected::Exactly(Version::new(4).unwrap()), 1)]);
    }
}
