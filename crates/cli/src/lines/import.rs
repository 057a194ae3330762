//! An import: every line is stored, was stored before, or is reported with its number and the reason.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use changeover::{Error, ErrorKind};
use serde::Serialize;

use super::progress::Progress;
use super::source::{self, Content, Numbered, Parse, Source};
use crate::exit::{Failure, Status};
use crate::interrupt::Interrupt;
use crate::output::{Out, printable};

/// Milliseconds before a write is tried again after a transient error; harmless, since every record has an id.
const WAITS: [u64; 4] = [100, 200, 400, 800];

/// Where the lines go.
pub trait Target {
    type Line: Send + 'static;

    /// Takes the next line, and may store what it has.
    async fn take(&mut self, number: u64, line: Self::Line, report: &mut Report<'_>) -> Result<(), Failure>;

    /// Stores what it has.
    async fn flush(&mut self, report: &mut Report<'_>) -> Result<(), Failure>;

    /// No line follows.
    async fn end(&mut self, report: &mut Report<'_>) -> Result<(), Failure>;
}

/// Imports a file until an interruption.
pub async fn run<T: Target>(
    target: T,
    file: &Path,
    parse: Parse<T::Line>,
    out: &mut Out,
) -> Result<Status, Failure> {
    let source = source::open(file, parse)?;
    let mut interrupt = Interrupt::listen()?;
    import(target, source, out, interrupt.wait()).await
}

/// Imports every line of `source`, unless `stop` comes first: then it ends between two writes.
pub async fn import<T: Target>(
    mut target: T,
    mut source: Source<T::Line>,
    out: &mut Out,
    stop: impl Future<Output = ()>,
) -> Result<Status, Failure> {
    let mut stop = pin!(stop);
    let progress = Progress::new(source.size, out.is_quiet());
    let mut report = Report { out, progress, counts: Counts::default() };
    loop {
        let line = tokio::select! {
            biased;
            () = &mut stop => return report.interrupted(),
            line = source.lines.recv() => line,
        };
        match line {
            Some(Ok(line)) => take(&mut target, line, &mut report).await?,
            Some(Err(error)) => {
                target.flush(&mut report).await?;
                report.summary()?;
                return Err(Failure::failed(format!(
                    "reading the input failed: {error}; run the import again"
                )));
            }
            None => break,
        }
    }
    target.flush(&mut report).await?;
    target.end(&mut report).await?;
    report.summary()?;
    Ok(if report.counts.rejected == 0 { Status::Done } else { Status::Refused })
}

async fn take<T: Target>(
    target: &mut T,
    line: Numbered<T::Line>,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    match line.content {
        Content::Record(record) => target.take(line.number, *record, report).await?,
        Content::Blank => report.counts.blank += 1,
        Content::Malformed(reason) => {
            // What stands before it is reported before it.
            target.flush(report).await?;
            report.reject(line.number, &reason)?;
        }
    }
    report.progress.read(line.read, line.number);
    Ok(())
}

/// Repeats a write after transient errors.
pub async fn patiently<T>(write: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    for millis in WAITS {
        match write().await {
            Err(error) if error.may_retry(true) => {
                tracing::warn!(%error, "trying again");
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
            done => return done,
        }
    }
    write().await
}

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    stored: u64,
    /// Stored before, with the same content.
    repeated: u64,
    rejected: u64,
    blank: u64,
}

/// A rejected line, as programs read it.
#[derive(Serialize)]
struct Rejected<'a> {
    line: u64,
    rejected: &'a str,
}

/// What an import tells.
pub struct Report<'a> {
    out: &'a mut Out,
    progress: Progress,
    counts: Counts,
}

impl Report<'_> {
    /// Lines that were stored now, and that were stored before.
    pub fn add(&mut self, stored: usize, repeated: usize) {
        self.counts.stored += stored as u64;
        self.counts.repeated += repeated as u64;
    }

    pub fn reject(&mut self, line: u64, reason: &str) -> Result<(), Failure> {
        self.counts.rejected += 1;
        if self.out.is_json() {
            return self.out.object(&Rejected { line, rejected: reason });
        }
        self.progress.println(&format!("line {line} rejected: {}", printable(reason)));
        Ok(())
    }

    /// A remark for people that belongs to no line.
    pub fn note(&mut self, text: &str) -> Result<(), Failure> {
        self.progress.finish();
        self.out.note(text)
    }

    /// The import cannot go on, for a reason that is not in the data.
    pub fn stopped(&self, error: Error, line: u64) -> Failure {
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
pub fn is_about_the_data(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::VersionConflict
            | ErrorKind::AlreadyExists
            | ErrorKind::NotFound
            | ErrorKind::Invalid
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported
            | ErrorKind::Corrupt
    )
}
