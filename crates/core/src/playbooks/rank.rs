//! The one order of search results: every backend offers its candidates here and returns what comes out.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::values::{PlaybookId, PlaybookVersion};
use crate::text::Limit;

/// A version that may be a search result.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The playbook.
    pub playbook_id: PlaybookId,
    /// The version.
    pub version: PlaybookVersion,
    /// Its confidence, by [`Embedding::confidence`](super::Embedding::confidence).
    pub confidence: f64,
}

/// The lowest confidence that passes `min_confidence`: rounding makes 1 hard to reach, so what is within 1e-6 of 1
/// passes there.
pub fn floor(min_confidence: f64) -> f64 {
    min_confidence.min(1.0 - 1e-6)
}

/// The best candidates, best first: those at or above the [`floor`] of `min_confidence`, at most `max_results`; equal
/// confidence by id (bytes), then version (semantic order). Keeps no more than `max_results` at a time.
///
/// ```
/// use changeover_core::playbooks::{Candidate, PlaybookId, PlaybookVersion, rank};
/// use changeover_core::Limit;
///
/// let candidate = |id: &str, confidence| {
///     let version = PlaybookVersion::new("v1.0.0")?;
///     Ok::<_, changeover_core::Error>(Candidate { playbook_id: PlaybookId::new("playbook_id", id)?, version, confidence })
/// };
/// let found = rank([candidate("b", 0.5)?, candidate("c", 0.9)?, candidate("a", 0.5)?], 0.4, Limit::new(2)?);
/// let ids: Vec<_> = found.iter().map(|found| found.playbook_id.as_str()).collect();
/// assert_eq!(ids, ["c", "a"]);
/// # Ok::<(), changeover_core::Error>(())
/// ```
pub fn rank(
    candidates: impl IntoIterator<Item = Candidate>,
    min_confidence: f64,
    max_results: Limit,
) -> Vec<Candidate> {
    let mut ranking = Ranking::new(min_confidence, max_results);
    candidates.into_iter().for_each(|candidate| ranking.offer(candidate));
    ranking.into_best()
}

/// [`rank`] for candidates that come a page at a time.
#[derive(Debug)]
pub struct Ranking {
    floor: f64,
    max: usize,
    /// The worst of the kept ones on top.
    kept: BinaryHeap<Place>,
}

impl Ranking {
    /// Nothing kept yet.
    pub fn new(min_confidence: f64, max_results: Limit) -> Self {
        Self { floor: floor(min_confidence), max: max_results.get() as usize, kept: BinaryHeap::new() }
    }

    /// Keeps the candidate if it is among the best so far.
    pub fn offer(&mut self, candidate: Candidate) {
        // NaN is below every floor.
        if candidate.confidence.total_cmp(&self.floor).is_lt() || candidate.confidence.is_nan() {
            return;
        }
        let place = Place(candidate);
        if self.kept.len() < self.max {
            self.kept.push(place);
        } else if let Some(mut worst) = self.kept.peek_mut()
            && place < *worst
        {
            *worst = place;
        }
    }

    /// The kept candidates, best first.
    pub fn into_best(self) -> Vec<Candidate> {
        self.kept.into_sorted_vec().into_iter().map(|place| place.0).collect()
    }
}

/// Ordered by place: the better candidate is the lesser.
#[derive(Debug)]
struct Place(Candidate);

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        let (own, others) = (&self.0, &other.0);
        others
            .confidence
            .total_cmp(&own.confidence)
            .then_with(|| own.playbook_id.cmp(&others.playbook_id))
            .then_with(|| own.version.cmp(&others.version))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Place {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(id: &str, version: &str, confidence: f64) -> Candidate {
        let playbook_id = PlaybookId::new("playbook_id", id).unwrap();
        Candidate { playbook_id, version: PlaybookVersion::new(version).unwrap(), confidence }
    }

    fn ids(found: &[Candidate]) -> Vec<String> {
        found.iter().map(|found| format!("{} {}", found.playbook_id, found.version)).collect()
    }

    // S3-PB-020, S3-EDGE-030: ids by bytes, versions by meaning.
    #[test]
    fn equal_confidence_is_ordered_by_id_then_version() {
        let given = [("b", "v1.10.0"), ("é", "v1.0.0"), ("b", "v1.9.0"), ("B", "v1.0.0"), ("a", "v1.0.0")];
        let found = rank(given.map(|(id, version)| candidate(id, version, 0.5)), 0.0, Limit::default());
        assert_eq!(ids(&found), ["B v1.0.0", "a v1.0.0", "b v1.9.0", "b v1.10.0", "é v1.0.0"]);
    }

    // S3-PB-019, S3-EDGE-027, S3-EDGE-028, S3-EDGE-029: the threshold itself passes; 1 is reached within 1e-6.
    #[test]
    fn what_is_at_the_threshold_stays_and_what_is_below_goes() {
        let given = || {
            [
                ("at", 0.5),
                ("below", 0.5_f64.next_down()),
                ("one", 1.0 - 5e-7),
                ("near", 1.0 - 2e-6),
                ("nan", f64::NAN),
            ]
            .map(|(id, confidence)| candidate(id, "1.0.0", confidence))
        };
        assert_eq!(ids(&rank(given(), 0.5, Limit::default())), ["one 1.0.0", "near 1.0.0", "at 1.0.0"]);
        assert_eq!(ids(&rank(given(), 1.0, Limit::default())), ["one 1.0.0"]);
        assert_eq!(rank(given(), 0.0, Limit::default()).len(), 4);
        assert!(rank([candidate("at", "1.0.0", 0.5)], 0.6, Limit::default()).is_empty());
    }

    proptest! {
        // S3-PB-018: what is kept is what sorting everything gives, in whatever order it was offered.
        #[test]
        fn ranking_is_sorting_and_cutting(
            given in prop::collection::vec((0..20_u8, 0..4_u8, 0..6_u8), 0..80), max in 1..30_i64, min in 0..6_u8,
        ) {
            let all: Vec<_> = given
                .iter()
                .map(|(id, minor, tenth)| candidate(&format!("p{id}"), &format!("1.{minor}.0"), f64::from(*tenth) / 5.0))
                .collect();
            let min = f64::from(min) / 5.0;
            let mut expected: Vec<_> = all.iter().filter(|c| c.confidence >= min).cloned().map(Place).collect();
            expected.sort();
            expected.truncate(usize::try_from(max).unwrap());
            let found = rank(all, min, Limit::new(max).unwrap());
            prop_assert_eq!(found.into_iter().map(Place).collect::<Vec<_>>(), expected);
        }
    }
}
