//! Queries that show too much, too little, or in a wrong order.

use async_trait::async_trait;
use changeover_conformance::Subject;
use changeover_core::audit::{AuditEvent, AuditFilter, AuditOrder, AuditPage, AuditQuery};
use changeover_core::{AuditRepository, Result, TenantId, Text, Timestamp};

use super::{Flaw, subject};

pub(super) fn subjects() -> Vec<Subject> {
    vec![
        subject::<FilterIgnored>(),
        subject::<Wildcards>(),
        subject::<EndInclusive>(),
        subject::<TieBreakLost>(),
        subject::<LastEventRepeated>(),
        subject::<NeedlessPage>(),
        subject::<CountOfAPage>(),
        subject::<RecordedAsHappened>(),
        subject::<TenantLeak>(),
        subject::<NeverClosed>(),
    ]
}

/// Every event, as recorded.
async fn everything(store: &dyn AuditRepository) -> Result<Vec<AuditEvent>> {
    let mut request = AuditQuery { order: AuditOrder::Recorded, ..AuditQuery::default() };
    let mut all = Vec::new();
    loop {
        let page = store.query(request.clone()).await?;
        all.extend(page.events);
        match page.next {
            Some(token) => request.page = Some(token),
            None => return Ok(all),
        }
    }
}

/// A query of what passes, whatever the repository's own filter would say; its orders and pages are the repository's.
async fn filtered(
    store: &dyn AuditRepository,
    request: AuditQuery,
    passes: impl Fn(&AuditFilter, &AuditEvent) -> bool + Send,
) -> Result<AuditPage> {
    request.validate()?;
    let place = |event: &AuditEvent| {
        (std::cmp::Reverse(event.event.event_timestamp.as_micros()), event.event.event_id)
    };
    let mut found = everything(store).await?;
    found.retain(|event| passes(&request.filter, event));
    match request.order {
        AuditOrder::Recorded => {}
        AuditOrder::NewestFirst => found.sort_by_key(place),
        AuditOrder::OldestFirst => found.sort_by_key(|event| std::cmp::Reverse(place(event))),
    }
    if let Some(token) = request.page {
        let last = found.iter().position(|event| request.token_after(event) == token);
        found.drain(..last.map_or(0, |last| last + 1));
    }
    found.drain(..found.len().min(usize::try_from(request.offset).unwrap_or(usize::MAX)));
    let more = found.len() > request.limit.get() as usize;
    found.truncate(request.limit.get() as usize);
    let next = found.last().filter(|_| more).map(|last| request.token_after(last));
    Ok(AuditPage { events: found, next })
}

#[derive(Default)]
struct FilterIgnored;

#[async_trait]
impl Flaw for FilterIgnored {
    const NAME: &'static str = "the filter by resource type is ignored";

    async fn query(&self, store: &dyn AuditRepository, request: AuditQuery) -> Result<AuditPage> {
        filtered(store, request, |filter, event| {
            AuditFilter { resource_type: None, ..filter.clone() }.matches(&event.event)
        })
        .await
    }

    async fn count(&self, store: &dyn AuditRepository, filter: AuditFilter) -> Result<u64> {
        store.count(AuditFilter { resource_type: None, ..filter }).await
    }
}

#[derive(Default)]
struct Wildcards;

#[async_trait]
impl Flaw for Wildcards {
    const NAME: &'static str = "the filter by actor is blind to case, and _ in it is a wildcard";

    async fn query(&self, store: &dyn AuditRepository, request: AuditQuery) -> Result<AuditPage> {
        filtered(store, request, |filter, event| {
            let like = |wanted: &str, found: &str| {
                wanted.chars().count() == found.chars().count()
                    && wanted.chars().zip(found.chars()).all(|(a, b)| a == '_' || a.eq_ignore_ascii_case(&b))
            };
            let found = event.event.actor_id.as_ref();
            let same = |wanted: &Text<255>| found.is_some_and(|found| like(wanted.as_str(), found.as_str()));
            filter.actor_id.as_ref().is_none_or(same)
                && AuditFilter { actor_id: None, ..filter.clone() }.matches(&event.event)
        })
        .await
    }
}

#[derive(Default)]
struct EndInclusive;

fn a_moment_later(filter: AuditFilter) -> AuditFilter {
    let later = |time: Timestamp| Timestamp::from_micros(time.as_micros() + 1).unwrap_or(Timestamp::MAX);
    AuditFilter { end: filter.end.map(later), ..filter }
}

#[async_trait]
impl Flaw for EndInclusive {
    const NAME: &'static str = "the end of a range is within it";

    async fn query(&self, store: &dyn AuditRepository, request: AuditQuery) -> Result<AuditPage> {
        filtered(store, request, |filter, event| a_moment_later(filter.clone()).matches(&event.event)).await
    }

    async fn count(&self, store: &dyn AuditRepository, filter: AuditFilter) -> Result<u64> {
        filter.validate()?;
        store.count(a_moment_later(filter)).await
    }
}

#[derive(Default)]
struct TieBreakLost;

#[async_trait]
impl Flaw for TieBreakLost {
    const NAME: &'static str = "equal times are in no order of their ids";

    async fn query(&self, store: &dyn AuditRepository, request: AuditQuery) -> Result<AuditPage> {
        let by_time = request.order != AuditOrder::Recorded;
        let mut page = store.query(request).await?;
        if by_time {
            for same in page.events.chunk_by_mut(|a, b| a.event.event_timestamp == b.event.event_timestamp) {
                same.reverse();
            }
        }
        Ok(page)
    }
}

#[derive(Default)]
struct LastEventRepeated;

#[async_trait]
impl Flaw for LastEventRepeated {
    const NAME: &'static str = "a page begins with the last event of the page before";

    async fn query(&self, store: &dyn AuditRepository, request: AuditQuery) -> Result<AuditPage> {
        let token = request.page;
        let mut page = store.query(request).await?;
        // A page of one event stays as it is: else who pages would never come to an end.
        if let (Some(token), true) = (token, page.events.len() > 1)
            && let Some(last) = store.get(token.id()).await?
        {
            page.events.pop();
            page.events.insert(0, last);
        }
        Ok(page)
    }
}

#[derive(Default)]
struct NeedlessPage;

#[async_trait]
impl Flaw for NeedlessPage {
    const NAME: &'static str = "the last page of a query promises another";

    async fn query(&self, store: &dyn AuditRepository, request: AuditQuery) -> Result<AuditPage> {
        let mut page = store.query(request.clone()).await?;
        page.next = page.events.last().map(|last| request.token_after(last));
        Ok(page)
    }
}

#[derive(Default)]
struct CountOfAPage;

#[async_trait]
impl Flaw for CountOfAPage {
    const NAME: &'static str = "a count ends at 20";

    async fn count(&self, store: &dyn AuditRepository, filter: AuditFilter) -> Result<u64> {
        Ok(store.count(filter).await?.min(20))
    }
}

#[derive(Default)]
struct RecordedAsHappened;

impl Flaw for RecordedAsHappened {
    const NAME: &'static str = "the recorded time is the event's own";

    fn shown(&self, event: &mut AuditEvent) {
        event.recorded_at = event.event.event_timestamp;
    }
}

#[derive(Default)]
struct TenantLeak;

impl Flaw for TenantLeak {
    const NAME: &'static str = "tenants share their audit records";

    fn tenant(&self, _tenant: &TenantId) -> TenantId {
        // Cannot fail: the name is neither empty nor long.
        TenantId::new("everybody").expect("a valid name")
    }
}

#[derive(Default)]
struct NeverClosed;

#[async_trait]
impl Flaw for NeverClosed {
    const NAME: &'static str = "a closed repository goes on";

    async fn close(&self, _store: &dyn AuditRepository) -> Result<()> {
        Ok(())
    }
}
