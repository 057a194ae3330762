//! `events import`: lines become appends, in the order of the file.

use std::sync::Arc;

use changeover::events::{Append, Appended};
use changeover::{Detail, Error, EventStore};

use super::batch::Batch;
use super::line::EventLine;
use crate::exit::Failure;
use crate::lines::{Report, Target, is_about_the_data, patiently};

/// An event store that lines are appended to.
pub struct Events {
    store: Arc<dyn EventStore>,
    batch: Batch,
}

impl Events {
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store, batch: Batch::default() }
    }

    async fn one_by_one(&self, lines: &[(u64, EventLine)], report: &mut Report<'_>) -> Result<(), Failure> {
        for entry in lines {
            let (number, line) = entry;
            let alone = std::slice::from_ref(entry);
            match self.append(Batch::append(alone)).await {
                Ok(appended) if Batch::is_where_claimed(alone, &appended.streams) => {
                    count(&appended, 1, report);
                }
                Ok(appended) => {
                    let at = appended.streams.first().map_or_else(String::new, |s| s.first.to_string());
                    let (id, version) = (line.event.id, line.version);
                    report.reject(
                        *number,
                        &format!(
                            "event {id} is stored already at version {at}; the line says version {version}"
                        ),
                    )?;
                }
                Err(error) if is_about_the_data(error.kind()) => {
                    report.reject(*number, &reason(&error, line))?;
                }
                Err(error) => return Err(report.stopped(error, *number)),
            }
        }
        Ok(())
    }

    async fn append(&self, request: Append) -> Result<Appended, Error> {
        patiently(async || self.store.append(request.clone()).await).await
    }
}

impl Target for Events {
    type Line = EventLine;

    async fn take(&mut self, number: u64, line: EventLine, report: &mut Report<'_>) -> Result<(), Failure> {
        if !self.batch.takes(&line) {
            self.flush(report).await?;
        }
        self.batch.push(number, line);
        Ok(())
    }

    async fn flush(&mut self, report: &mut Report<'_>) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        let lines = batch.lines();
        let Some((first, _)) = lines.first() else { return Ok(()) };
        match self.append(Batch::append(lines)).await {
            Ok(appended) if Batch::is_where_claimed(lines, &appended.streams) => {
                count(&appended, lines.len(), report);
                Ok(())
            }
            Err(error) if !is_about_the_data(error.kind()) => Err(report.stopped(error, *first)),
            // One of them is refused, or was stored elsewhere: each for itself, the others are imported.
            _ => self.one_by_one(lines, report).await,
        }
    }

    async fn end(&mut self, _report: &mut Report<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

fn count(appended: &Appended, lines: usize, report: &mut Report<'_>) {
    let (stored, repeated) = if appended.repeated { (0, lines) } else { (lines, 0) };
    report.add(stored, repeated);
}

fn reason(error: &Error, line: &EventLine) -> String {
    let Some(Detail::Conflict { stream, actual, .. }) = error.detail() else {
        return format!("{}: {}", error.kind(), error.message());
    };
    let found =
        actual.map_or_else(|| "does not exist".to_owned(), |version| format!("is at version {version}"));
    let next = actual.map_or(1, |version| version.get() + 1);
    let version = line.version;
    let what = if version.get() < next {
        "another event has that version".to_owned()
    } else {
        format!("the next version is {next}")
    };
    format!("{}: aggregate_version is {version}, stream {stream} {found}; {what}", error.kind())
}
