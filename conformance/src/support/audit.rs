//! What the cases of the audit repository share.

use std::sync::Arc;

use changeover_core::audit::{
    ActorType, AuditEvent, AuditFilter, AuditOrder, AuditQuery, Create, Created, NewAuditEvent, Outcome,
};
use changeover_core::backend::Family;
use changeover_core::{AuditRepository, Json, OpenBackend, Text, Timestamp, Uuid};

use super::{Must, json, limit};
use crate::harness::AnyHarness;

/// The type of the samples' events: doors that act on the next write go by this text.
pub(crate) const SAMPLE: &str = "OrderPlaced";

/// The repository of the harness's module and tenant, by a new client.
pub(crate) async fn open(h: &dyn AnyHarness) -> Arc<dyn AuditRepository> {
    open_on(h, &*h.client().await).await
}

/// The same by a client that there is.
pub(crate) async fn open_on(h: &dyn AnyHarness, client: &dyn OpenBackend) -> Arc<dyn AuditRepository> {
    client.audit(&h.scope_of(Family::Audit), &h.tenant()).await.must("open the repository")
}

/// Text that is known to fit.
pub(crate) fn text<const MAX: usize>(value: &str) -> Text<MAX> {
    Text::new("text", value).must("text")
}

/// A time that is known to be one.
pub(crate) fn at(value: &str) -> Timestamp {
    Timestamp::parse(value).must("a time")
}

/// An event of now that can be told from others by its number, and nothing that may be absent.
pub(crate) fn event(number: usize) -> NewAuditEvent {
    let mut event =
        NewAuditEvent::new(SAMPLE, "gateway", Outcome::Success, "shop", ActorType::User, "order", "o-1")
            .must("an event");
    event.event_data = json(&format!(r#"{{"number":{number}}}"#));
    event
}

/// The same at a time.
pub(crate) fn event_at(number: usize, time: &str) -> NewAuditEvent {
    NewAuditEvent { event_timestamp: at(time), ..event(number) }
}

/// `count` events of a correlation id.
pub(crate) fn chained(count: usize, correlation: &str) -> Vec<NewAuditEvent> {
    let correlated = |number| NewAuditEvent { correlation_id: Some(text(correlation)), ..event(number) };
    (0..count).map(correlated).collect()
}

/// An event in which nothing is absent but the parent.
pub(crate) fn full(number: usize) -> NewAuditEvent {
    NewAuditEvent {
        event_outcome: Outcome::Pending,
        event_timestamp: at("2024-05-06T07:08:09.123456Z"),
        service_version: Some(text("v1.2.3")),
        actor_type: ActorType::Operator,
        actor_id: Some(text("u-17")),
        actor_name: Some(text("Ada")),
        resource_name: Some(text("the first order")),
        event_data: Json::parse(r#"{"a":{"b":[1,2.5,null,true,"x"]},"n":9007199254740993}"#).must("JSON"),
        correlation_id: Some(text("c-1")),
        trace_id: Some(text("4bf92f3577b34da6a3ce929d0e0e4736")),
        span_id: Some(text("00f067aa0ba902b7")),
        metadata: json(r#"{"source":"suite"}"#),
        ..event(number)
    }
}

/// Creates; it must work.
pub(crate) async fn create(store: &dyn AuditRepository, events: &[NewAuditEvent]) -> Created {
    store.create(Create { events: events.to_vec() }).await.must("create")
}

/// One event by its id.
pub(crate) async fn get(store: &dyn AuditRepository, id: Uuid) -> Option<AuditEvent> {
    store.get(id).await.must("get")
}

/// All pages of a query, joined.
pub(crate) async fn query_pages(store: &dyn AuditRepository, mut request: AuditQuery) -> Vec<AuditEvent> {
    let mut all = Vec::new();
    loop {
        let page = store.query(request.clone()).await.must("a page of a query");
        assert!(page.events.len() <= request.limit.get() as usize, "a page holds more than its limit");
        assert!(page.next.is_none() || !page.events.is_empty(), "an empty page promises another");
        all.extend(page.events);
        match page.next {
            Some(token) => (request.page, request.offset) = (Some(token), 0),
            None => return all,
        }
    }
}

/// Everything that passes a filter, in this order.
pub(crate) async fn query(
    store: &dyn AuditRepository,
    filter: AuditFilter,
    order: AuditOrder,
) -> Vec<AuditEvent> {
    query_pages(store, AuditQuery { filter, order, limit: limit(1_000), ..AuditQuery::default() }).await
}

/// Everything, as recorded.
pub(crate) async fn recorded(store: &dyn AuditRepository) -> Vec<AuditEvent> {
    query(store, AuditFilter::default(), AuditOrder::Recorded).await
}

/// The ids of stored events, in their order.
pub(crate) fn ids(events: &[AuditEvent]) -> Vec<Uuid> {
    events.iter().map(|stored| stored.event.event_id).collect()
}

/// The ids of new events, in their order.
pub(crate) fn new_ids(events: &[NewAuditEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.event_id).collect()
}

/// What can be seen of a repository; equal before and after whatever must change nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    events: Vec<AuditEvent>,
    count: u64,
    rows: Option<std::collections::BTreeMap<String, u64>>,
}

/// Looks at the whole place: the events, their number, and the rows of each table where the harness can count them.
pub(crate) async fn look(h: &dyn AnyHarness, store: &dyn AuditRepository) -> Seen {
    let count = store.count(AuditFilter::default()).await.must("count");
    Seen { events: recorded(store).await, count, rows: h.faults().row_counts().await.ok() }
}
