//! `events import`: every line is stored, was stored before, or is reported with its number and the reason.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use changeover::events::{Append, Appended};
use changeover::{Detail, Error, ErrorKind, EventStore};
use serde::Serialize;

use super::batch::Batch;
use super::line::EventLine;
use super::progress::Progress;
use super::source::{self, Content, Numbered, Source};
use crate::exit::{Failure, Status};
use crate::interrupt::Interrupt;
use crate::output::Out;

/// Milliseconds before an append is tried again after a transient error; harmless, since every event has an id.
const WAITS: [u64; 4] = [100, 200, 400, 800];

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub stored: u64,
    /// Stored before, with the same content.
    pub repeated: u64,
    pub rejected: u64,
    pub blank: u64,
}

/// A rejected line, as programs read it.
#[derive(Serialize)]
struct Rejected<'a> {
    line: u64,
    rejected: &'a str,
}

pub async fn run(store: Arc<dyn EventStore>, file: &Path, out: &mut Out) -> Result<Status, Failure> {
    let source = source::open(file)?;
    let mut interrupt = Interrupt::listen()?;
    import(store, source, out, interrupt.wait()).await
}

/// Imports every line of `source`, unless `stop` comes first: then it ends between two appends.
pub async fn import(
    store: Arc<dyn EventStore>,
    mut source: Source,
    out: &mut Out,
    stop: impl Future<Output = ()>,
) -> Result<Status, Failure> {
    let mut stop = pin!(stop);
    let progress = Progress::new(source.size, out.is_quiet());
    let mut import = Import { store, out, progress, counts: Counts::default(), batch: Batch::default() };
    loop {
        let line = tokio::select! {
            biased;
            () = &mut stop => return import.interrupted(),
            line = source.lines.recv() => line,
        };
        match line {
            Some(Ok(line)) => import.take(line).await?,
            Some(Err(error)) => {
                import.flush().await?;
                import.summary()?;
                return Err(Failure::failed(format!(
                    "reading the input failed: {error}; run the import again"
                )));
            }
            None => break,
        }
    }
    import.flush().await?;
    import.summary()?;
    Ok(if import.counts.rejected == 0 { Status::Done } else { Status::Refused })
}

struct Import<'a> {
    store: Arc<dyn EventStore>,
    out: &'a mut Out,
    progress: Progress,
    counts: Counts,
    batch: Batch,
}

impl Import<'_> {
    async fn take(&mut self, line: Numbered) -> Result<(), Failure> {
        match line.content {
            Content::Event(event) => {
                if !self.batch.takes(&event) {
                    self.flush().await?;
                }
                self.batch.push(line.number, *event);
            }
            Content::Blank => self.counts.blank += 1,
            Content::Malformed(reason) => {
                // What stands before it is reported before it.
                self.flush().await?;
                self.reject(line.number, &reason)?;
            }
        }
        self.progress.read(line.read, line.number);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        let lines = batch.lines();
        let Some((first, _)) = lines.first() else { return Ok(()) };
        match self.append(Batch::append(lines)).await {
            Ok(appended) if Batch::is_where_claimed(lines, &appended.streams) => {
                self.count(&appended, lines.len());
                Ok(())
            }
            Err(error) if !is_about_the_data(error.kind()) => Err(self.stopped(error, *first)),
            // One of them is refused, or was stored elsewhere: each for itself, the others are imported.
            _ => self.one_by_one(lines).await,
        }
    }

    async fn one_by_one(&mut self, lines: &[(u64, EventLine)]) -> Result<(), Failure> {
        for entry in lines {
            let (number, line) = entry;
            let alone = std::slice::from_ref(entry);
            match self.append(Batch::append(alone)).await {
                Ok(appended) if Batch::is_where_claimed(alone, &appended.streams) => self.count(&appended, 1),
                Ok(appended) => {
                    let at = appended.streams.first().map_or_else(String::new, |s| s.first.to_string());
                    let (id, version) = (line.event.id, line.version);
                    self.reject(
                        *number,
                        &format!(
                            "event {id} is stored already at version {at}; the line says version {version}"
                        ),
                    )?;
                }
                Err(error) if is_about_the_data(error.kind()) => {
                    self.reject(*number, &reason(&error, line))?;
                }
                Err(error) => return Err(self.stopped(error, *number)),
            }
        }
        Ok(())
    }

    async fn append(&self, request: Append) -> Result<Appended, Error> {
        for millis in WAITS {
            match self.store.append(request.clone()).await {
                Err(error) if error.may_retry(true) => {
                    tracing::warn!(%error, "trying again");
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                }
                done => return done,
            }
        }
        self.store.append(request).await
    }

    fn count(&mut self, appended: &Appended, lines: usize) {
        let counter = if appended.repeated { &mut self.counts.repeated } else { &mut self.counts.stored };
        *counter += lines as u64;
    }

    fn reject(&mut self, line: u64, reason: &str) -> Result<(), Failure> {
        self.counts.rejected += 1;
        if self.out.is_json() {
            return self.out.object(&Rejected { line, rejected: reason });
        }
        self.progress.println(&format!("line {line} rejected: {}", crate::output::printable(reason)));
        Ok(())
    }

    fn stopped(&self, error: Error, line: u64) -> Failure {
        let Counts { stored, repeated, rejected, .. } = self.counts;
        let failure = Failure::from(error);
        let message = format!(
            "{failure}\n  the import stopped before line {line}: {stored} stored, {repeated} stored before, {rejected} \
             rejected; run it again to go on"
        );
        Failure::new(failure.status, message)
    }

    fn interrupted(mut self) -> Result<Status, Failure> {
        self.summary()?;
        Err(Failure::failed("interrupted; what is stored stays, run the same command again to go on"))
    }

    fn summary(&mut self) -> Result<(), Failure> {
        self.progress.finish();
        if self.out.is_json() {
            return self.out.object(&self.counts);
        }
        let Counts { stored, repeated, rejected, blank } = self.counts;
        let blank = if blank == 0 { String::new() } else { format!(", {blank} blank lines skipped") };
        self.out.line(&format!("{stored} stored, {repeated} stored before, {rejected} rejected{blank}"))
    }
}

/// Whether the line is the reason, so that others may do better.
fn is_about_the_data(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::VersionConflict
            | ErrorKind::AlreadyExists
            | ErrorKind::Invalid
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported
            | ErrorKind::Corrupt
    )
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
