//! What comparisons have found.

use std::collections::{BTreeMap, VecDeque};

use changeover_core::ErrorKind;

use super::compare::{Found, Outcome};

/// Differences that are kept.
const KEPT: usize = 100;

/// Characters of a value that are kept.
const SHOWN: usize = 120;

/// What the comparison of a module's reads with the store that it is moved to has found since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowReport {
    /// Reads that both stores answered alike, but for rows in quarantine, old notifications, and rows that the owner's store
    /// cannot read by a loss that was accepted.
    pub equal: u64,
    /// Reads that they answered differently though nobody wrote meanwhile.
    pub different: u64,
    /// Reads of which nothing can be said: what they show was written to all the time, or the follower was too far behind.
    pub unsettled: u64,
    /// Reads that were not compared, since as many comparisons as allowed were under way.
    pub skipped: u64,
    /// Reads that were not compared, since nothing follows the owner: no run, one that still copies or is behind its fence, or
    /// one that ended meanwhile.
    pub idle: u64,
    /// Reads that the new store answered with an error, by its kind.
    pub failed: BTreeMap<ErrorKind, u64>,
    /// Comparisons under way.
    pub running: usize,
    /// The last 100 differences, the oldest first.
    pub differences: Vec<ShadowDifference>,
}

impl ShadowReport {
    /// Reads that both stores answered, and that were judged.
    pub fn compared(&self) -> u64 {
        self.equal + self.different
    }
}

/// A value that the two stores do not share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowDifference {
    /// The read, as errors name it: `events.read_stream`.
    pub operation: &'static str,
    /// Whose record it is.
    pub tenant: String,
    /// Key of the record, or what was asked for.
    pub key: String,
    /// The field; `missing` and `extra` are about the record.
    pub field: String,
    /// What the owner holds, shortened; empty for nothing.
    pub owner: String,
    /// What the new store holds, shortened; empty for nothing.
    pub shadow: String,
}

/// The same while it grows.
#[derive(Default)]
pub(super) struct Tally {
    report: ShadowReport,
    last: VecDeque<ShadowDifference>,
}

impl Tally {
    pub(super) fn report(&self, running: usize) -> ShadowReport {
        ShadowReport { running, differences: self.last.iter().cloned().collect(), ..self.report.clone() }
    }

    pub(super) fn skip(&mut self) {
        self.report.skipped += 1;
    }

    pub(super) fn count(&mut self, outcome: Outcome, operation: &'static str, tenant: &str) {
        match outcome {
            Outcome::Equal => self.report.equal += 1,
            Outcome::Unsettled => self.report.unsettled += 1,
            Outcome::Idle => self.report.idle += 1,
            Outcome::Failed(kind) => *self.report.failed.entry(kind).or_default() += 1,
            Outcome::Different(found) => {
                self.report.different += 1;
                for Found { key, field, owner, shadow, .. } in found {
                    let [owner, shadow] = [owner, shadow].map(shortened);
                    let tenant = tenant.to_owned();
                    self.last.push_back(ShadowDifference { operation, tenant, key, field, owner, shadow });
                }
                while self.last.len() > KEPT {
                    self.last.pop_front();
                }
            }
        }
    }
}

fn shortened(value: String) -> String {
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value,
    }
}
