//! The hash chain of audit records: each link holds the digest of a record and of the link before it.
//!
//! Records with a correlation id are chained, one chain for each correlation id of a tenant, in the order in which they
//! were recorded. Whoever edits, removes, inserts or moves a record past the store leaves a place that does not fit.
//!
//! ```
//! use changeover_core::audit::link;
//!
//! let first = link(None, &[1; 32]);
//! let second = link(Some(&first), &[2; 32]);
//! assert_ne!(second, link(None, &[2; 32]), "a link is of what stands before it");
//! ```

use sha2::{Digest as _, Sha256};

use super::request::{Break, ChainReport};
use super::values::NewAuditEvent;
use crate::Uuid;

impl NewAuditEvent {
    /// SHA-256 of the canonical text of [`NewAuditEvent::to_json`]: equal exactly for events of equal content.
    pub fn content_digest(&self) -> [u8; 32] {
        self.to_json().digest()
    }
}

/// The link of a record: SHA-256 of the link before it, 32 zero bytes for the first, and of its content's digest.
pub fn link(previous: Option<&[u8; 32]>, content: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous.unwrap_or(&[0; 32]));
    hash.update(content);
    hash.finalize().into()
}

/// What a store keeps beside a chained record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// [`NewAuditEvent::content_digest`] when it was recorded.
    pub content: [u8; 32],
    /// Its link.
    pub link: [u8; 32],
}

impl Link {
    /// The link of `event` behind `previous`.
    pub fn of(previous: Option<&[u8; 32]>, event: &NewAuditEvent) -> Self {
        let content = event.content_digest();
        Self { content, link: link(previous, &content) }
    }
}

/// What a store keeps apart from the records, so that a missing end is found: the last record of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// Its id.
    pub event_id: Uuid,
    /// Its link.
    pub link: [u8; 32],
}

/// A verification under way: fed with what a store finds, in recorded order, it makes the report.
#[derive(Clone, Debug, Default)]
pub struct ChainWalk {
    previous: Option<[u8; 32]>,
    last: Option<Uuid>,
    events: u64,
    broken: Option<Break>,
}

impl ChainWalk {
    /// At the beginning of a chain.
    pub fn new() -> Self {
        Self::default()
    }

    /// Retention removed records here; `link` is that of the last of them.
    pub fn anchor(&mut self, link: [u8; 32]) {
        if self.broken.is_none() {
            self.previous = Some(link);
        }
    }

    /// The next record and what is kept beside it. What comes after the first break is counted only.
    pub fn record(&mut self, event: &NewAuditEvent, kept: Option<&Link>) {
        self.events += 1;
        if self.broken.is_some() {
            return;
        }
        let expected = Link::of(self.previous.as_ref(), event);
        let problem = match kept {
            None => "it was recorded without a link: not by the store",
            Some(kept) if kept.content != expected.content => "its content is not the recorded one",
            Some(kept) if kept.link != expected.link => {
                "its link does not follow from the record before it: one was removed, inserted or moved"
            }
            Some(_) => {
                (self.previous, self.last) = (Some(expected.link), Some(event.event_id));
                return;
            }
        };
        self.broken = Some(Break { event_id: event.event_id, problem: problem.to_owned() });
    }

    /// The end of the chain, which must be where its head says.
    pub fn end(mut self, head: Option<&ChainHead>) -> ChainReport {
        if self.broken.is_none() && self.previous != head.map(|head| head.link) {
            // Nil only where a store has lost its records and the head too, and keeps nothing but an anchor.
            let event_id = head.map(|head| head.event_id).or(self.last).unwrap_or_default();
            let problem = match head {
                Some(_) => "the chain ends before it: it or records before it are missing",
                None => "the chain has no recorded end",
            };
            let problem = problem.to_owned();
            self.broken = Some(Break { event_id, problem });
        }
        ChainReport { events: self.events, head: self.previous, broken: self.broken }
    }
}
