//! `audit import`: lines become records, each behind its parent.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use changeover::audit::{Create, NewAuditEvent};
use changeover::{AuditRepository, Error, ErrorKind, Uuid};

use crate::exit::Failure;
use crate::lines::{Report, Target, in_parts, patiently};

/// Records of one write: many enough to spare round trips.
const MAX_RECORDS: usize = 500;
/// Bytes of JSON in one write, unless a single line has more.
const MAX_BYTES: usize = 8 * 1024 * 1024;

type Line = (u64, NewAuditEvent);

/// An audit repository that lines are stored in.
pub struct Records {
    repository: Arc<dyn AuditRepository>,
    batch: Vec<Line>,
    ids: HashSet<Uuid>,
    bytes: usize,
    waiting: Waiting,
}

impl Records {
    pub fn new(repository: Arc<dyn AuditRepository>) -> Result<Self, Failure> {
        let waiting = Waiting::new().map_err(|error| cannot_wait(&error))?;
        Ok(Self { repository, batch: Vec::new(), ids: HashSet::new(), bytes: 0, waiting })
    }

    /// Stores lines, then those that waited for them, and so on.
    async fn store(&mut self, lines: Vec<Line>, report: &mut Report<'_>) -> Result<(), Failure> {
        let mut next = lines;
        let mut ready = Vec::new();
        while !next.is_empty() {
            let done = in_parts(next, report, async |lines| self.create(lines).await).await?;
            for (number, event, error) in done.refused {
                match event.parent_event_id {
                    Some(parent) if error.kind() == ErrorKind::NotFound => {
                        self.waiting.put(number, parent, &event).map_err(|error| cannot_wait(&error))?;
                    }
                    _ => report.reject(number, &format!("{}: {}", error.kind(), error.message()))?,
                }
            }
            for event in done.stored {
                ready.extend(self.waiting.of(event.event_id));
            }
            next = self.waiting.take(&mut ready).map_err(|error| cannot_wait(&error))?;
        }
        Ok(())
    }

    async fn create(&self, lines: &[Line]) -> Result<(usize, usize), Error> {
        let events: Vec<_> = lines.iter().map(|(_, event)| event.clone()).collect();
        let request = Create { events };
        let created = patiently(async || self.repository.create(request.clone()).await).await?;
        Ok((created.stored, created.repeated))
    }
}

impl Target for Records {
    type Line = NewAuditEvent;

    async fn take(
        &mut self,
        number: u64,
        line: NewAuditEvent,
        report: &mut Report<'_>,
    ) -> Result<(), Failure> {
        let size = size(&line);
        // One write takes an id once.
        if self.batch.len() >= MAX_RECORDS
            || self.bytes + size > MAX_BYTES
            || self.ids.contains(&line.event_id)
        {
            self.flush(report).await?;
        }
        self.bytes += size;
        self.ids.insert(line.event_id);
        self.batch.push((number, line));
        Ok(())
    }

    async fn flush(&mut self, report: &mut Report<'_>) -> Result<(), Failure> {
        self.bytes = 0;
        self.ids.clear();
        let lines = std::mem::take(&mut self.batch);
        self.store(lines, report).await
    }

    async fn end(&mut self, report: &mut Report<'_>) -> Result<(), Failure> {
        for (number, parent) in self.waiting.left() {
            let reason = format!(
                "{}: its parent {parent} is not stored, and no line of the file that could be stored has this id",
                ErrorKind::NotFound
            );
            report.reject(number, &reason)?;
        }
        Ok(())
    }
}

fn size(event: &NewAuditEvent) -> usize {
    event.event_data.as_str().len() + event.metadata.as_str().len()
}

fn cannot_wait(error: &io::Error) -> Failure {
    Failure::failed(format!("lines that wait for their parents cannot be kept in a temporary file: {error}"))
}

/// Records whose parents have not come yet: their text in a file, in memory no more than where it stands.
struct Waiting {
    file: File,
    end: u64,
    places: HashMap<Uuid, Vec<Place>>,
}

/// Where a record stands in the file.
struct Place {
    number: u64,
    at: u64,
    length: u64,
}

impl Waiting {
    fn new() -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile()?, end: 0, places: HashMap::new() })
    }

    fn put(&mut self, number: u64, parent: Uuid, event: &NewAuditEvent) -> io::Result<()> {
        let text = event.to_json();
        let (at, length) = (self.end, text.as_str().len() as u64);
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(text.as_str().as_bytes())?;
        self.end += length;
        self.places.entry(parent).or_default().push(Place { number, at, length });
        Ok(())
    }

    /// Those that wait for this parent; they no longer do.
    fn of(&mut self, parent: Uuid) -> Vec<Place> {
        self.places.remove(&parent).unwrap_or_default()
    }

    /// The first of `ready` in the order of the lines, as many as one write takes.
    fn take(&mut self, ready: &mut Vec<Place>) -> io::Result<Vec<Line>> {
        ready.sort_by_key(|place| place.number);
        let (mut lines, mut ids, mut bytes) = (Vec::new(), HashSet::new(), 0);
        while lines.len() < ready.len() && lines.len() < MAX_RECORDS && bytes < MAX_BYTES {
            let event = self.read(&ready[lines.len()])?;
            if !ids.insert(event.event_id) {
                break;
            }
            bytes += size(&event);
            lines.push((ready[lines.len()].number, event));
        }
        ready.drain(..lines.len());
        Ok(lines)
    }

    fn read(&mut self, place: &Place) -> io::Result<NewAuditEvent> {
        let mut text = String::new();
        self.file.seek(SeekFrom::Start(place.at))?;
        Read::by_ref(&mut self.file).take(place.length).read_to_string(&mut text)?;
        NewAuditEvent::from_text(&text).map_err(io::Error::other)
    }

    /// What waits still, by line, with the parent it waits for.
    fn left(&self) -> Vec<(u64, Uuid)> {
        let all = self.places.iter();
        let mut left: Vec<_> =
            all.flat_map(|(parent, places)| places.iter().map(|place| (place.number, *parent))).collect();
        left.sort_unstable();
        left
    }
}
