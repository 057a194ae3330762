//! What of the playbooks is compared: versions one by one and in pages, and what a search finds.

use std::cmp::Reverse;
use std::sync::Arc;

use changeover_core::playbooks::{
    GetPlaybook, ListPlaybooks, Match, Playbook, PlaybookPage, Search, SearchResult, VersionsOf,
};
use changeover_core::{PlaybookCatalog, Result};

use super::compare::{Found, Read};
use super::follower::Apart;
use super::pages::{Page, Record, differences, differing, fields_of};

/// Stores rank alike within 1e-5; each of two may be off by that.
const TOLERANCE: f64 = 2e-5;

impl Read for GetPlaybook {
    type Store = dyn PlaybookCatalog;
    const NAME: &'static str = "playbooks.get";
    type Answer = Option<Playbook>;

    async fn ask(self, store: Arc<dyn PlaybookCatalog>) -> Result<Self::Answer> {
        store.get(self).await
    }

    fn differences(&self, owner: &Self::Answer, shadow: &Self::Answer, apart: &Apart) -> Vec<Found> {
        // Where one is set apart another may stand for it.
        if [owner, shadow].into_iter().flatten().any(|it| it.is_apart(apart)) {
            return Vec::new();
        }
        let sides = [owner, shadow].map(|it| Page { records: it.as_slice(), until: None });
        differences(sides, Playbook::name, apart)
    }
}

impl Read for ListPlaybooks {
    type Store = dyn PlaybookCatalog;
    const NAME: &'static str = "playbooks.list";
    type Answer = PlaybookPage;

    async fn ask(self, store: Arc<dyn PlaybookCatalog>) -> Result<PlaybookPage> {
        store.list(self).await
    }

    fn differences(&self, owner: &PlaybookPage, shadow: &PlaybookPage, apart: &Apart) -> Vec<Found> {
        pages(owner, shadow, apart, |it| it.playbook.playbook_id.as_str().as_bytes().to_vec())
    }
}

impl Read for VersionsOf {
    type Store = dyn PlaybookCatalog;
    const NAME: &'static str = "playbooks.versions";
    type Answer = PlaybookPage;

    async fn ask(self, store: Arc<dyn PlaybookCatalog>) -> Result<PlaybookPage> {
        store.versions(self).await
    }

    fn nothing(&self) -> Option<PlaybookPage> {
        Some(PlaybookPage { playbooks: Vec::new(), more: false })
    }

    fn differences(&self, owner: &PlaybookPage, shadow: &PlaybookPage, apart: &Apart) -> Vec<Found> {
        pages(owner, shadow, apart, |it| Reverse(it.playbook.version.clone()))
    }
}

impl Read for Search {
    type Store = dyn PlaybookCatalog;
    const NAME: &'static str = "playbooks.search";
    type Answer = SearchResult;

    async fn ask(self, store: Arc<dyn PlaybookCatalog>) -> Result<SearchResult> {
        store.search(self).await
    }

    /// The same matches in the same order, confidences within [`TOLERANCE`]; ties may stand in either order, and what is as
    /// near to the limit or to the last place may be in one answer only.
    fn differences(&self, owner: &SearchResult, shadow: &SearchResult, apart: &Apart) -> Vec<Found> {
        let kept = |result: &SearchResult| -> Vec<Match> {
            result.matches.iter().filter(|it| !it.playbook.is_apart(apart)).cloned().collect()
        };
        let sides = [kept(owner), kept(shadow)];
        // What is set apart takes a place that others have in the other answer. One that is not full shows all there are.
        let bar = |side: usize| {
            let shown = &[owner, shadow][side].matches;
            match shown.last().filter(|_| shown.len() >= self.max_results.get() as usize) {
                Some(last) => last.confidence.max(self.min_confidence) + TOLERANCE,
                None if self.min_confidence > 0.0 => self.min_confidence + TOLERANCE,
                // No confidence is below 0.
                None => f64::NEG_INFINITY,
            }
        };
        let mut found = Vec::new();
        let mut before: Option<&Match> = None;
        for own in &sides[0] {
            let key = own.playbook.name();
            let Some(other) = sides[1].iter().find(|it| it.playbook.name() == key) else {
                if own.confidence > bar(1) {
                    found.push(Found::missing(&key, own.confidence).uncertain());
                }
                continue;
            };
            found.extend(own.playbook.fields(&key, &other.playbook));
            if (own.confidence - other.confidence).abs() > TOLERANCE {
                found.push(Found::field(&key, "confidence", own.confidence, other.confidence));
            }
            if before.is_some_and(|before| before.confidence < other.confidence - TOLERANCE) {
                found.push(Found::field(&key, "order", own.confidence, other.confidence).uncertain());
            }
            before = Some(other);
        }
        for other in &sides[1] {
            let key = other.playbook.name();
            let is_there = sides[0].iter().any(|it| it.playbook.name() == key);
            if !is_there && other.confidence > bar(0) {
                found.push(Found::extra(&key, other.confidence));
            }
        }
        found
    }
}

fn pages<K: Ord>(
    owner: &PlaybookPage,
    shadow: &PlaybookPage,
    apart: &Apart,
    key: impl Fn(&Playbook) -> K,
) -> Vec<Found> {
    let sides = [owner, shadow].map(|page| {
        let last = page.playbooks.last().filter(|_| page.more);
        Page { records: &page.playbooks, until: last.map(&key) }
    });
    let mut found = differences(sides, &key, apart);
    if !apart.any_playbook() && found.is_empty() {
        let more = differing("the page", "more", owner.more, shadow.more);
        found.extend(more.into_iter().map(Found::uncertain));
    }
    found
}

impl Record for Playbook {
    fn name(&self) -> String {
        format!("{} {}", self.playbook.playbook_id, self.playbook.version)
    }

    fn state(&self) -> String {
        format!("updated_at {}", self.updated_at)
    }

    fn is_apart(&self, apart: &Apart) -> bool {
        apart.has_playbook(self.playbook.playbook_id.as_str(), self.playbook.version.as_str())
    }

    fn fields(&self, key: &str, shadow: &Self) -> Vec<Found> {
        let [left, right] = [self, shadow].map(|it| it.playbook.to_json());
        let mut found = fields_of(key, &left, &right, "");
        // Of the store itself; a debug text shows times and texts as they are.
        let [left, right] = [self, shadow].map(|it| {
            [
                ("disabled", format!("{:?}", it.disabled)),
                ("deprecation_notice", format!("{:?}", it.deprecation_notice)),
                ("actual_success_rate", format!("{:?}", it.actual_success_rate)),
                ("total_executions", it.total_executions.to_string()),
                ("successful_executions", it.successful_executions.to_string()),
                ("created_at", it.created_at.to_string()),
                ("updated_at", it.updated_at.to_string()),
                ("updated_by", format!("{:?}", it.updated_by)),
            ]
        });
        for ((field, left), (_, right)) in left.into_iter().zip(right) {
            found.extend(differing(key, field, left, right));
        }
        found
    }
}
