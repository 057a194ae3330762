//! What of the audit trail is compared: one event, pages, counts. Chains are proven by the cutover itself.

use std::sync::Arc;

use changeover_core::audit::{AuditEvent, AuditFilter, AuditOrder, AuditPage, AuditQuery};
use changeover_core::{AuditRepository, Result, Uuid};

use super::compare::{Found, Read};
use super::follower::Apart;
use super::pages::{Page, Record, differences, differing, fields_of};

/// One event by its id.
#[derive(Clone)]
pub(crate) struct Get(pub(crate) Uuid);

impl Read for Get {
    type Store = dyn AuditRepository;
    const NAME: &'static str = "audit.get";
    type Answer = Option<AuditEvent>;

    async fn ask(self, store: Arc<dyn AuditRepository>) -> Result<Self::Answer> {
        store.get(self.0).await
    }

    fn differences(&self, owner: &Self::Answer, shadow: &Self::Answer, apart: &Apart) -> Vec<Found> {
        pages(AuditOrder::Recorded, [owner.as_slice(), shadow.as_slice()], [true; 2], apart)
    }

    fn places(&self, answer: &Self::Answer) -> (&'static str, Vec<(String, i64)>) {
        places(answer.as_slice())
    }
}

impl Read for AuditQuery {
    type Store = dyn AuditRepository;
    const NAME: &'static str = "audit.query";
    type Answer = AuditPage;

    async fn ask(self, store: Arc<dyn AuditRepository>) -> Result<AuditPage> {
        store.query(self).await
    }

    /// With an offset rows that are set apart move all others, so such a page is then not compared. Whether more follows is not
    /// either, nor where the file's store may pass over what it cannot read.
    fn differences(&self, owner: &AuditPage, shadow: &AuditPage, apart: &Apart) -> Vec<Found> {
        let has_any = apart.audit_events() > 0 || apart.any_notification();
        if has_any && self.offset > 0 {
            return Vec::new();
        }
        let ends = [owner, shadow].map(|page| page.next.is_none());
        let mut found = pages(self.order, [&owner.events, &shadow.events], ends, apart);
        if !has_any && !apart.any_unread() && found.is_empty() {
            let next = differing("the page", "next", !ends[0], !ends[1]);
            found.extend(next.into_iter().map(Found::uncertain));
        }
        // What is passed over moves such a page, so that a record may come into it and go.
        if self.offset > 0 { found.into_iter().map(Found::uncertain).collect() } else { found }
    }

    fn places(&self, answer: &AuditPage) -> (&'static str, Vec<(String, i64)>) {
        places(&answer.events)
    }
}

impl Read for AuditFilter {
    type Store = dyn AuditRepository;
    const NAME: &'static str = "audit.count";
    type Answer = u64;

    async fn ask(self, store: Arc<dyn AuditRepository>) -> Result<u64> {
        store.count(self).await
    }

    /// Which of the rows that are set apart would be counted is not known: so many may differ. Nor is how many notifications the
    /// new store counts, or how many rows have times that the file's store cannot read: there may be more.
    fn differences(&self, owner: &u64, shadow: &u64, apart: &Apart) -> Vec<Found> {
        let notifications = apart.any_notification()
            && self.event_category.as_ref().is_none_or(|wanted| wanted.as_str() == "notification");
        let unread = apart.any_unread() && (self.start.is_some() || self.end.is_some());
        let may_be_more = (notifications || unread) && shadow > owner;
        if may_be_more || owner.abs_diff(*shadow) <= apart.audit_events() {
            return Vec::new();
        }
        vec![Found::field("the count", "count", owner, shadow).uncertain()]
    }
}

/// `ends`: whether there is nothing after the page.
fn pages(order: AuditOrder, events: [&[AuditEvent]; 2], ends: [bool; 2], apart: &Apart) -> Vec<Found> {
    let key = |event: &AuditEvent| -> (i64, u128) {
        let (at, id) = (event.event.event_timestamp.as_micros(), event.event.event_id.as_u128());
        match order {
            AuditOrder::NewestFirst => (-at, id),
            AuditOrder::OldestFirst => (at, !id),
            AuditOrder::Recorded => (event.sequence, 0),
        }
    };
    let page =
        |at: usize| Page { records: events[at], until: events[at].last().filter(|_| !ends[at]).map(key) };
    differences([page(0), page(1)], key, apart)
}

fn places(events: &[AuditEvent]) -> (&'static str, Vec<(String, i64)>) {
    ("audit_events", events.iter().map(|event| (event.name(), event.sequence)).collect())
}

impl Record for AuditEvent {
    fn name(&self) -> String {
        self.event.event_id.to_string()
    }

    fn state(&self) -> String {
        format!("sequence {}", self.sequence)
    }

    fn is_apart(&self, apart: &Apart) -> bool {
        apart.has_audit(self.sequence)
    }

    fn fields(&self, key: &str, shadow: &Self) -> Vec<Found> {
        let [left, right] = [self, shadow].map(|it| it.event.to_json());
        let mut found = fields_of(key, left.as_str(), right.as_str(), "");
        found.extend(differing(key, "recorded_at", self.recorded_at, shadow.recorded_at));
        found.extend(differing(key, "sequence", self.sequence, shadow.sequence));
        found
    }
}

#[cfg(test)]
mod tests {
    use changeover_core::Timestamp;
    use changeover_core::audit::{ActorType, NewAuditEvent, Outcome};

    use super::*;

    fn page(numbers: &[u8]) -> AuditPage {
        let event = |number: &u8| {
            let event =
                NewAuditEvent::new("t", "c", Outcome::Success, "s", ActorType::System, "r", "1").unwrap();
            let event_id = Uuid::from_u128(u128::from(*number));
            let event = NewAuditEvent { event_id, event_timestamp: Timestamp::MIN, ..event };
            AuditEvent { recorded_at: Timestamp::MIN, event, sequence: i64::from(*number) }
        };
        AuditPage { events: numbers.iter().map(event).collect(), next: None }
    }

    // A record that comes and goes before a page with an offset moves the page and back: while others write, nothing of it says
    // that a record stood still.
    #[test]
    fn a_page_with_an_offset_is_certain_of_nothing() {
        for (offset, is_certain) in [(0, true), (1, false)] {
            let query = AuditQuery { offset, order: AuditOrder::Recorded, ..AuditQuery::default() };
            let found = query.differences(&page(&[2, 3]), &page(&[3]), &Apart::default());
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((&*found[0].field, found[0].is_certain), ("missing", is_certain), "{found:?}");
        }
    }
}
