//! What goes, in which order, and what is kept of the chains it goes from.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use changeover_core::audit::{NewAuditEvent, Retain, Retained};
use changeover_core::{Timestamp, Uuid};

use super::Records;

impl Records {
    pub(super) fn retain(&mut self, request: &Retain) -> Retained {
        let (chosen, months, done) = {
            let mut choice = Choice::new(self, request);
            let months = choice.whole_months();
            choice.single_events();
            (choice.chosen, months, choice.due.is_empty())
        };
        let removed = request.rules.iter().map(|rule| {
            let of_rule = |id: &&Uuid| {
                self.stored(**id).is_some_and(|kept| kept.event.event.event_category == rule.category)
            };
            (rule.category.clone(), chosen.iter().filter(of_rule).count() as u64)
        });
        let answer = Retained { removed: removed.collect(), months, done };
        if !request.dry_run {
            for id in chosen {
                self.remove(id);
            }
            self.drop_needless_anchors();
        }
        answer
    }

    fn remove(&mut self, id: Uuid) {
        let Some(sequence) = self.sequences.remove(&id) else { return };
        let Some(kept) = self.events.remove(&sequence) else { return };
        if let (Some(link), Some(correlation)) = (kept.link, kept.event.event.correlation_id)
            && let Some(chain) = self.chains.get_mut(&correlation)
        {
            chain.anchors.insert(sequence, link.link);
        }
    }

    /// Of each gap in a chain the last anchor is enough.
    fn drop_needless_anchors(&mut self) {
        for (correlation, chain) in &mut self.chains {
            let of_chain = |kept: &super::Kept| kept.event.event.correlation_id.as_ref() == Some(correlation);
            let places: Vec<_> = chain.anchors.keys().copied().collect();
            for pair in places.windows(2) {
                if !self.events.range(pair[0]..pair[1]).any(|(_, kept)| of_chain(kept)) {
                    chain.anchors.remove(&pair[0]);
                }
            }
        }
    }
}

/// The choice of what goes in one call.
struct Choice<'a> {
    /// What may go and is not chosen yet.
    due: HashMap<Uuid, &'a NewAuditEvent>,
    children: HashMap<Uuid, Vec<Uuid>>,
    chosen: HashSet<Uuid>,
    /// All events by month.
    months: BTreeMap<String, Vec<Uuid>>,
    limit: usize,
}

fn month(time: Timestamp) -> String {
    time.to_string()[..7].to_owned()
}

impl<'a> Choice<'a> {
    fn new(records: &'a Records, request: &Retain) -> Self {
        let mut children: HashMap<_, Vec<_>> = HashMap::new();
        let mut months: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let (mut due, mut kept) = (HashMap::new(), Vec::new());
        for event in records.events.values().map(|kept| &kept.event.event) {
            months.entry(month(event.event_timestamp)).or_default().push(event.event_id);
            if let Some(parent) = event.parent_event_id {
                children.entry(parent).or_default().push(event.event_id);
            }
            let rule = request.rules.iter().find(|rule| rule.category == event.event_category);
            let until = rule.and_then(|rule| rule.due_until(request.now));
            if until.is_some_and(|until| event.event_timestamp.date() <= until) {
                due.insert(event.event_id, event);
            } else {
                kept.push(event);
            }
        }
        // The parents of what is kept are kept, and theirs.
        while let Some(event) = kept.pop() {
            if let Some(parent) = event.parent_event_id {
                kept.extend(due.remove(&parent));
            }
        }
        let limit = request.limit.get() as usize;
        Self { due, children, chosen: HashSet::new(), months, limit }
    }

    /// Whether all children of an event are chosen or among `together`.
    fn free(&self, id: Uuid, together: &[Uuid]) -> bool {
        let mut children = self.children.get(&id).into_iter().flatten();
        children.all(|child| self.chosen.contains(child) || together.contains(child))
    }

    fn choose(&mut self, id: Uuid) {
        self.due.remove(&id);
        self.chosen.insert(id);
    }

    /// Chooses months of which every event may go, the oldest first, each whole.
    fn whole_months(&mut self) -> Vec<String> {
        let mut gone = BTreeSet::new();
        loop {
            let next = self.months.iter().find(|(month, ids)| {
                !gone.contains(*month)
                    && ids.len() <= self.limit - self.chosen.len()
                    && ids.iter().all(|id| self.due.contains_key(id) && self.free(*id, ids))
            });
            let Some((month, ids)) = next.map(|(month, ids)| (month.clone(), ids.clone())) else {
                return gone.into_iter().collect();
            };
            for id in ids {
                self.choose(id);
            }
            gone.insert(month);
        }
    }

    /// Chooses the oldest of those that may go and have no children left, one by one.
    fn single_events(&mut self) {
        let place = |event: &NewAuditEvent| (event.event_timestamp, event.event_id);
        let mut free: BTreeSet<_> = self
            .due
            .values()
            .filter(|event| self.free(event.event_id, &[]))
            .map(|event| place(event))
            .collect();
        while self.chosen.len() < self.limit
            && let Some((_, id)) = free.pop_first()
        {
            let parent = self.due.get(&id).and_then(|event| event.parent_event_id);
            self.choose(id);
            if let Some(parent) = parent.and_then(|parent| self.due.get(&parent))
                && self.free(parent.event_id, &[])
            {
                free.insert(place(parent));
            }
        }
    }
}
