//! Filters: each of them, every pair of them, and values that look like something else.

use changeover_core::audit::{ActorType, AuditFilter, AuditOrder, AuditQuery, NewAuditEvent, Outcome};
use changeover_core::{AuditRepository, Uuid};

use crate::harness::AnyHarness;
use crate::support::Must;
use crate::support::audit::{at, create, event, ids, open, query, query_pages, text};

const START: &str = "2024-03-01T00:00:00Z";
const END: &str = "2024-04-01T00:00:00Z";

/// A filter: its name, how an event is made one of two kinds, how the first kind is asked for, and which events those are.
struct Filter {
    name: &'static str,
    make: fn(&mut NewAuditEvent, bool),
    ask: fn(&mut AuditFilter),
    wanted: fn(&NewAuditEvent) -> bool,
}

/// Every filter that there is. Text differs by case, by a missing value or by a wildcard, not by more.
fn filters() -> [Filter; 11] {
    [
        Filter {
            name: "event_type",
            make: |event, yes| event.event_type = text(if yes { "order.placed" } else { "order%placed" }),
            ask: |filter| filter.event_type = Some(text("order.placed")),
            wanted: |event| event.event_type.as_str() == "order.placed",
        },
        Filter {
            name: "event_category",
            make: |event, yes| event.event_category = text(if yes { "gateway" } else { "Gateway" }),
            ask: |filter| filter.event_category = Some(text("gateway")),
            wanted: |event| event.event_category.as_str() == "gateway",
        },
        Filter {
            name: "event_outcome",
            make: |event, yes| event.event_outcome = if yes { Outcome::Failure } else { Outcome::Success },
            ask: |filter| filter.event_outcome = Some(Outcome::Failure),
            wanted: |event| event.event_outcome == Outcome::Failure,
        },
        Filter {
            name: "service_name",
            make: |event, yes| event.service_name = text(if yes { "shop" } else { "shop " }),
            ask: |filter| filter.service_name = Some(text("shop")),
            wanted: |event| event.service_name.as_str() == "shop",
        },
        Filter {
            name: "actor_type",
            make: |event, yes| event.actor_type = if yes { ActorType::User } else { ActorType::Service },
            ask: |filter| filter.actor_type = Some(ActorType::User),
            wanted: |event| event.actor_type == ActorType::User,
        },
        Filter {
            name: "actor_id",
            make: |event, yes| event.actor_id = yes.then(|| text("u-1")),
            ask: |filter| filter.actor_id = Some(text("u-1")),
            wanted: |event| event.actor_id.is_some(),
        },
        Filter {
            name: "resource_type",
            make: |event, yes| event.resource_type = text(if yes { "order" } else { "orders" }),
            ask: |filter| filter.resource_type = Some(text("order")),
            wanted: |event| event.resource_type.as_str() == "order",
        },
        Filter {
            name: "resource_id",
            make: |event, yes| event.resource_id = text(if yes { "o_1" } else { "ox1" }),
            ask: |filter| filter.resource_id = Some(text("o_1")),
            wanted: |event| event.resource_id.as_str() == "o_1",
        },
        Filter {
            name: "correlation_id",
            make: |event, yes| event.correlation_id = yes.then(|| text("c-1")),
            ask: |filter| filter.correlation_id = Some(text("c-1")),
            wanted: |event| event.correlation_id.is_some(),
        },
        Filter {
            name: "start",
            make: |event, yes| {
                event.event_timestamp = at(if yes { START } else { "2024-02-29T23:59:59.999999Z" });
            },
            ask: |filter| filter.start = Some(at(START)),
            wanted: |event| event.event_timestamp >= at(START),
        },
        Filter {
            name: "end",
            make: |event, yes| {
                if !yes {
                    event.event_timestamp = at(END);
                }
            },
            ask: |filter| filter.end = Some(at(END)),
            wanted: |event| event.event_timestamp < at(END),
        },
    ]
}

/// 64 events in which the kinds of every two filters meet in every way that they can.
async fn recorded_events(store: &dyn AuditRepository) -> Vec<NewAuditEvent> {
    let table = filters();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let events: Vec<_> = (0..64)
        .map(|number| {
            let mut new = event(number);
            for filter in &table {
                // Any fixed sequence of unrelated bits would do: this is xorshift.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // The first event passes all filters at once.
                (filter.make)(&mut new, number == 0 || state.is_multiple_of(2));
            }
            new
        })
        .collect();
    create(store, &events).await;
    events
}

fn expected(events: &[NewAuditEvent], filters: &[&Filter]) -> Vec<Uuid> {
    let wanted = events.iter().filter(|event| filters.iter().all(|filter| (filter.wanted)(event)));
    wanted.map(|event| event.event_id).collect()
}

fn asking(filters: &[&Filter]) -> AuditFilter {
    let mut asked = AuditFilter::default();
    for filter in filters {
        (filter.ask)(&mut asked);
    }
    asked
}

/// Each filter and every pair of filters give exactly the events that they name, in every order.
/// (A12, S3-AUD-021, S3-AUD-005, S3-AUD-006, DEF-17)
pub async fn every_filter_and_every_pair_holds(h: &dyn AnyHarness) {
    let store = open(h).await;
    let events = recorded_events(&*store).await;
    let table = filters();
    for (number, first) in table.iter().enumerate() {
        for second in &table[number..] {
            let both = [first, second];
            let names = format!("{} and {}", first.name, second.name);
            let wanted = expected(&events, &both);
            assert!(!wanted.is_empty() && wanted.len() < events.len(), "{names} say nothing");
            let recorded = query(&*store, asking(&both), AuditOrder::Recorded).await;
            assert_eq!(ids(&recorded), wanted, "{names}");
            for order in [AuditOrder::NewestFirst, AuditOrder::OldestFirst] {
                let mut found = ids(&query(&*store, asking(&both), order).await);
                let mut wanted = wanted.clone();
                found.sort();
                wanted.sort();
                assert_eq!(found, wanted, "{names}, {order:?}");
            }
        }
    }
    let all: Vec<_> = table.iter().collect();
    let found = query(&*store, asking(&all), AuditOrder::Recorded).await;
    let wanted = expected(&events, &all);
    assert!(!wanted.is_empty(), "all filters at once say nothing");
    assert_eq!(ids(&found), wanted, "all filters at once");
}

/// The number of events that pass a filter is the number that a query gives. (A36)
pub async fn count_is_the_number_of_what_a_query_gives(h: &dyn AnyHarness) {
    let store = open(h).await;
    assert_eq!(store.count(AuditFilter::default()).await.must("count"), 0);
    let events = recorded_events(&*store).await;
    let table = filters();
    for (number, first) in table.iter().enumerate() {
        for second in &table[number..] {
            let both = [first, second];
            let found = store.count(asking(&both)).await.must("count");
            assert_eq!(found, expected(&events, &both).len() as u64, "{} and {}", first.name, second.name);
        }
    }
    assert_eq!(store.count(AuditFilter::default()).await.must("count"), 64);
}

/// A filter that nothing passes gives an empty page and says that it is all. (A13)
pub async fn filter_without_match_is_an_empty_page(h: &dyn AnyHarness) {
    let store = open(h).await;
    let nobody = AuditFilter { actor_id: Some(text("nobody")), ..AuditFilter::default() };
    for _ in 0..2 {
        let request = AuditQuery { filter: nobody.clone(), ..AuditQuery::default() };
        let page = store.query(request).await.must("a page");
        assert!(page.events.is_empty() && page.next.is_none());
        create(&*store, &[event(1)]).await;
    }
}

/// A value that no event has gives nothing; no filter at all gives everything. (A14)
pub async fn no_filter_gives_everything(h: &dyn AnyHarness) {
    let store = open(h).await;
    let events = recorded_events(&*store).await;
    for filter in [
        AuditFilter { event_type: Some(text("unknown")), ..AuditFilter::default() },
        AuditFilter { event_outcome: Some(Outcome::Skipped), ..AuditFilter::default() },
        AuditFilter { correlation_id: Some(text("unknown")), ..AuditFilter::default() },
        AuditFilter { start: Some(at(END)), end: Some(at(END)), ..AuditFilter::default() },
    ] {
        assert!(query(&*store, filter.clone(), AuditOrder::NewestFirst).await.is_empty(), "{filter:?}");
    }
    assert_eq!(query_pages(&*store, AuditQuery::default()).await.len(), events.len());
}

/// Values of filters are compared byte by byte: quotes, `%`, `_`, `\`, case, blanks and spellings of one letter are taken
/// as they are. (A15, X-EDGE-068)
pub async fn values_of_filters_are_literal(h: &dyn AnyHarness) {
    let store = open(h).await;
    let names = [
        "%",
        "_",
        "\\",
        "\\%",
        "a%",
        "ab",
        "a_",
        "A_",
        "'",
        "''",
        "\"",
        "a' OR '1'='1",
        "a ",
        " a",
        "a",
        "\u{e9}",
        "e\u{301}",
        "\u{df}",
        "ss",
        "10",
        "010",
        "1e1",
        "NULL",
        "null",
        "*",
        "?",
    ];
    let events: Vec<_> = names
        .iter()
        .map(|name| NewAuditEvent {
            actor_id: Some(text(name)),
            resource_id: text(name),
            event_type: text(name),
            ..event(1)
        })
        .collect();
    create(&*store, &events).await;
    for (name, event) in names.iter().zip(&events) {
        for filter in [
            AuditFilter { actor_id: Some(text(name)), ..AuditFilter::default() },
            AuditFilter { resource_id: Some(text(name)), ..AuditFilter::default() },
            AuditFilter { event_type: Some(text(name)), ..AuditFilter::default() },
        ] {
            assert_eq!(store.count(filter.clone()).await.must("count"), 1, "{name:?}");
            assert_eq!(
                ids(&query(&*store, filter, AuditOrder::Recorded).await),
                [event.event_id],
                "{name:?}"
            );
        }
    }
}
