//! One module's audit records: how they are judged, chained, found and removed. No lock and no waiting in here, so that it
//! reads like the contract.

use std::collections::{BTreeMap, HashMap, HashSet};

use changeover_core::audit::{
    AuditEvent, AuditFilter, AuditOrder, AuditPage, AuditQuery, ChainHead, ChainReport, ChainWalk, Create,
    Created, Link, NewAuditEvent, Retain, Retained, VerifyChain,
};
use changeover_core::{Error, ErrorKind, Result, TenantId, Text, Timestamp, Uuid};

mod retention;

/// The records of all tenants of a module, in one recorded order.
pub(crate) struct Trail {
    /// That of the last record of any tenant.
    sequence: i64,
    /// The latest time given out; it never goes back.
    recorded_at: Timestamp,
    tenants: HashMap<TenantId, Records>,
}

/// What one tenant has in a trail.
#[derive(Default)]
struct Records {
    /// By sequence.
    events: BTreeMap<i64, Kept>,
    sequences: HashMap<Uuid, i64>,
    chains: HashMap<Text<255>, Chain>,
}

/// A record and its place in the chain of its correlation id, if it was chained.
struct Kept {
    event: AuditEvent,
    link: Option<Link>,
}

/// What is kept of a chain apart from its records.
struct Chain {
    head: ChainHead,
    /// The links of records that retention removed, by sequence: the last one of each gap.
    anchors: BTreeMap<i64, [u8; 32]>,
}

impl Default for Trail {
    fn default() -> Self {
        Self { sequence: 0, recorded_at: Timestamp::MIN, tenants: HashMap::new() }
    }
}

impl Trail {
    pub(crate) fn create(
        &mut self,
        tenant: &TenantId,
        request: Create,
        now: Timestamp,
        chained: bool,
    ) -> Result<Created> {
        request.validate()?;
        request.check_times(now)?;
        let records = self.tenants.entry(tenant.clone()).or_default();
        let new = records.judge(&request.events)?;
        let answer = Created { stored: new.len(), repeated: request.events.len() - new.len() };
        self.recorded_at = self.recorded_at.max(now);
        for event in request.events.into_iter().filter(|event| new.contains(&event.event_id)) {
            self.sequence += 1;
            let link = chained.then(|| records.link(&event)).flatten();
            let stored = AuditEvent { event, recorded_at: self.recorded_at, sequence: self.sequence };
            records.insert(Kept { event: stored, link });
        }
        Ok(answer)
    }

    pub(crate) fn get(&self, tenant: &TenantId, event_id: Uuid) -> Option<AuditEvent> {
        self.tenants.get(tenant)?.stored(event_id).map(|kept| kept.event.clone())
    }

    pub(crate) fn query(&self, tenant: &TenantId, request: &AuditQuery) -> Result<AuditPage> {
        request.validate()?;
        let mut matching = self.matching(tenant, &request.filter);
        // The events are in recorded order already.
        match request.order {
            AuditOrder::Recorded => {}
            AuditOrder::NewestFirst => matching.sort_by_key(|stored| newest_first(stored)),
            AuditOrder::OldestFirst => {
                matching.sort_by_key(|stored| std::cmp::Reverse(newest_first(stored)));
            }
        }
        if let Some(token) = request.page {
            let place = (std::cmp::Reverse(token.at()), token.id());
            matching.retain(|stored| match request.order {
                AuditOrder::Recorded => stored.sequence > token.at(),
                AuditOrder::NewestFirst => newest_first(stored) > place,
                AuditOrder::OldestFirst => newest_first(stored) < place,
            });
        }
        let rest = matching.into_iter().skip(usize::try_from(request.offset).unwrap_or(usize::MAX));
        let limit = request.limit.get() as usize;
        let mut events: Vec<_> = rest.take(limit + 1).cloned().collect();
        let more = events.len() > limit;
        events.truncate(limit);
        let next = events.last().filter(|_| more).map(|last| request.token_after(last));
        Ok(AuditPage { events, next })
    }

    pub(crate) fn count(&self, tenant: &TenantId, filter: &AuditFilter) -> Result<u64> {
        filter.validate()?;
        Ok(self.matching(tenant, filter).len() as u64)
    }

    fn matching(&self, tenant: &TenantId, filter: &AuditFilter) -> Vec<&AuditEvent> {
        let records = self.tenants.get(tenant).into_iter().flat_map(|records| records.events.values());
        records.map(|kept| &kept.event).filter(|stored| filter.matches(&stored.event)).collect()
    }

    pub(crate) fn verify(&self, tenant: &TenantId, request: &VerifyChain) -> ChainReport {
        let Some(records) = self.tenants.get(tenant) else { return ChainWalk::new().end(None) };
        let chain = records.chains.get(&request.correlation_id);
        let mut anchors = chain.into_iter().flat_map(|chain| &chain.anchors).peekable();
        let mut walk = ChainWalk::new();
        for (sequence, kept) in &records.events {
            if kept.event.event.correlation_id.as_ref() != Some(&request.correlation_id) {
                continue;
            }
            while let Some((_, link)) = anchors.next_if(|(at, _)| *at < sequence) {
                walk.anchor(*link);
            }
            walk.record(&kept.event.event, kept.link.as_ref());
        }
        anchors.for_each(|(_, link)| walk.anchor(*link));
        walk.end(chain.map(|chain| &chain.head))
    }

    pub(crate) fn retain(&mut self, tenant: &TenantId, request: &Retain) -> Result<Retained> {
        request.validate()?;
        let records = self.tenants.entry(tenant.clone()).or_default();
        Ok(records.retain(request))
    }

    /// Replaces a tenant's records by what `edit` makes of them; links and anchors stay as they are.
    pub(crate) fn edit(&mut self, tenant: &TenantId, edit: impl FnOnce(&mut Vec<AuditEvent>)) {
        let records = self.tenants.entry(tenant.clone()).or_default();
        let before = std::mem::take(&mut records.events);
        let links: HashMap<_, _> = before.iter().map(|(sequence, kept)| (*sequence, kept.link)).collect();
        let mut events = before.into_values().map(|kept| kept.event).collect();
        edit(&mut events);
        records.sequences.clear();
        for event in events {
            let link = links.get(&event.sequence).copied().flatten();
            records.insert(Kept { event, link });
        }
    }
}

/// Latest time first, equal times by rising id.
fn newest_first(stored: &AuditEvent) -> (std::cmp::Reverse<i64>, Uuid) {
    (std::cmp::Reverse(stored.event.event_timestamp.as_micros()), stored.event.event_id)
}

impl Records {
    /// The ids of those that are new. Ids first, then parents.
    fn judge(&self, events: &[NewAuditEvent]) -> Result<HashSet<Uuid>> {
        let mut new = Vec::new();
        for event in events {
            match self.stored(event.event_id) {
                None => new.push(event),
                Some(stored) if stored.event.event == *event => {}
                Some(_) => return Err(Error::exists("audit event", event.event_id)),
            }
        }
        let mut earlier = HashSet::new();
        for event in new {
            if let Some(parent) = event.parent_event_id
                && !earlier.contains(&parent)
                && self.stored(parent).is_none()
            {
                let message = format!(
                    "audit event {}: its parent {parent} is not stored; store the parent first, or earlier in the batch",
                    event.event_id
                );
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            earlier.insert(event.event_id);
        }
        Ok(earlier)
    }

    /// Links the event to the chain of its correlation id, whose head it becomes.
    fn link(&mut self, event: &NewAuditEvent) -> Option<Link> {
        let correlation = event.correlation_id.as_ref()?;
        let chain = self.chains.get_mut(correlation);
        let link = Link::of(chain.as_ref().map(|chain| &chain.head.link), event);
        let head = ChainHead { event_id: event.event_id, link: link.link };
        match chain {
            Some(chain) => chain.head = head,
            None => {
                self.chains.insert(correlation.clone(), Chain { head, anchors: BTreeMap::new() });
            }
        }
        Some(link)
    }

    fn insert(&mut self, kept: Kept) {
        self.sequences.insert(kept.event.event.event_id, kept.event.sequence);
        self.events.insert(kept.event.sequence, kept);
    }

    fn stored(&self, id: Uuid) -> Option<&Kept> {
        self.events.get(self.sequences.get(&id)?)
    }
}
