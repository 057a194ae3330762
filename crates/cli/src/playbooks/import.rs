//! `playbooks import`: lines become versions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use changeover::playbooks::{GetPlaybook, Lookup, PlaybookId, PlaybookVersion, Put};
use changeover::{Error, PlaybookCatalog};

use super::line::VersionLine;
use crate::exit::Failure;
use crate::lines::{Report, Target, in_parts, is_about_the_data, patiently};

/// Versions of one write.
const MAX_VERSIONS: usize = 200;
/// Bytes of text in one write, unless a single line has more.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// A catalog that lines are stored in.
pub struct Versions {
    catalog: Arc<dyn PlaybookCatalog>,
    batch: Batch,
    with_history: u64,
}

#[derive(Default)]
struct Batch {
    lines: Vec<(u64, VersionLine)>,
    keys: HashSet<(PlaybookId, PlaybookVersion)>,
    marks: HashMap<PlaybookId, Mark>,
    bytes: usize,
}

/// What the lines of one playbook say of which version is the latest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// Of none it is said.
    None,
    /// Of one of them it is said, or is to be found out.
    One,
    /// One leaves it to be found out, which what stands before it must be stored for.
    Open,
}

impl Mark {
    fn of(line: &VersionLine) -> Self {
        match (line.says_latest, line.playbook.is_latest) {
            (false, _) => Self::Open,
            (true, true) => Self::One,
            (true, false) => Self::None,
        }
    }

    /// What both together say, if one write takes both.
    fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::None, Self::None) => Some(Self::None),
            (Self::One, Self::None) | (Self::None, Self::One) => Some(Self::One),
            _ => None,
        }
    }
}

impl Batch {
    fn takes(&self, line: &VersionLine) -> bool {
        let key = (line.playbook.playbook_id.clone(), line.playbook.version.clone());
        let mark = self.marks.get(&key.0);
        self.lines.is_empty()
            || self.lines.len() < MAX_VERSIONS
                && self.bytes + size(line) <= MAX_BYTES
                && !self.keys.contains(&key)
                && mark.is_none_or(|mark| mark.and(Mark::of(line)).is_some())
    }

    fn push(&mut self, number: u64, line: VersionLine) {
        self.bytes += size(&line);
        let (id, version) = (line.playbook.playbook_id.clone(), line.playbook.version.clone());
        let mark = Mark::of(&line);
        let both = self.marks.get(&id).and_then(|before| before.and(mark)).unwrap_or(mark);
        self.marks.insert(id.clone(), both);
        self.keys.insert((id, version));
        self.lines.push((number, line));
    }
}

fn size(line: &VersionLine) -> usize {
    line.playbook.content.len() + line.playbook.description.len()
}

impl Versions {
    pub fn new(catalog: Arc<dyn PlaybookCatalog>) -> Self {
        Self { catalog, batch: Batch::default(), with_history: 0 }
    }

    /// Where the line does not say it: the latest is what no stored version is above.
    async fn decide(&self, line: &mut VersionLine) -> Result<(), Error> {
        if line.says_latest {
            return Ok(());
        }
        let request = GetPlaybook { playbook_id: line.playbook.playbook_id.clone(), which: Lookup::Latest };
        let latest = patiently(async || self.catalog.get(request.clone()).await).await?;
        line.playbook.is_latest =
            latest.is_none_or(|latest| latest.playbook.version <= line.playbook.version);
        Ok(())
    }

    async fn put(&self, lines: &[(u64, VersionLine)]) -> Result<(usize, usize), Error> {
        let request = Put { versions: lines.iter().map(|(_, line)| line.playbook.clone()).collect() };
        let report = patiently(async || self.catalog.put(request.clone()).await).await?;
        Ok((report.stored, report.repeated))
    }
}

impl Target for Versions {
    type Line = VersionLine;

    async fn take(&mut self, number: u64, line: VersionLine, report: &mut Report<'_>) -> Result<(), Failure> {
        if !self.batch.takes(&line) {
            self.flush(report).await?;
        }
        self.with_history += u64::from(line.has_history);
        self.batch.push(number, line);
        Ok(())
    }

    async fn flush(&mut self, report: &mut Report<'_>) -> Result<(), Failure> {
        let mut lines = Vec::new();
        for (number, mut line) in std::mem::take(&mut self.batch).lines {
            match self.decide(&mut line).await {
                Ok(()) => lines.push((number, line)),
                Err(error) if is_about_the_data(error.kind()) => {
                    report.reject(number, &format!("{}: {}", error.kind(), error.message()))?;
                }
                Err(error) => return Err(report.stopped(error, number)),
            }
        }
        let done = in_parts(lines, report, async |lines| self.put(lines).await).await?;
        for (number, _, error) in done.refused {
            report.reject(number, &format!("{}: {}", error.kind(), error.message()))?;
        }
        Ok(())
    }

    async fn end(&mut self, report: &mut Report<'_>) -> Result<(), Failure> {
        if self.with_history == 0 {
            return Ok(());
        }
        report.note(&format!(
            "{} lines tell when and why a version was disabled or deprecated, or how often it ran: an import does not \
             take that over",
            self.with_history
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playbooks::parse;

    /// The sizes of the batches that the lines make: each an id, a version, and `is_latest_version` if it says so.
    fn batches(lines: &[(&str, &str, Option<bool>)]) -> Vec<usize> {
        let (mut sizes, mut batch) = (Vec::new(), Batch::default());
        for (number, (id, version, latest)) in (1..).zip(lines) {
            let latest =
                latest.map_or_else(String::new, |latest| format!(r#","is_latest_version":{latest}"#));
            let text = format!(
                r#"{{"playbook_id":"{id}","version":"{version}","name":"n","description":"d","content":"c"{latest}}}"#
            );
            let line = parse(text.as_bytes()).unwrap();
            if !batch.takes(&line) {
                sizes.push(std::mem::take(&mut batch).lines.len());
            }
            batch.push(number, line);
        }
        sizes.push(batch.lines.len());
        sizes
    }

    // A write takes a version once and one latest a playbook.
    #[test]
    fn a_batch_ends_where_one_write_would_be_refused() {
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(batches(&[("a", "1.0.0", no), ("a", "1.1.0", yes), ("b", "1.0.0", yes)]), [3]);
        assert_eq!(batches(&[("a", "1.0.0", yes), ("a", "1.1.0", no), ("a", "1.2.0", yes)]), [2, 1]);
        assert_eq!(batches(&[("a", "1.0.0", no), ("a", "1.0.0", no)]), [1, 1]);
        assert_eq!(batches(&[("a", "1.0.0", None), ("b", "1.0.0", None), ("a", "1.1.0", None)]), [2, 1]);
        assert_eq!(batches(&[("a", "1.0.0", no), ("a", "1.1.0", None), ("a", "1.2.0", no)]), [1, 1, 1]);
    }
}
