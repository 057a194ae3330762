//! Ranges, orders and pages.

use std::sync::atomic::{AtomicBool, Ordering};

use changeover_core::audit::{AuditFilter, AuditOrder, AuditQuery, AuditToken, NewAuditEvent};
use changeover_core::{AuditRepository, ErrorKind, Limit, Uuid};
use futures::future::join_all;

use crate::harness::AnyHarness;
use crate::support::audit::{
    at, chained, create, event, event_at, get, ids, new_ids, open, query, query_pages, recorded, text,
};
use crate::support::{Must, limit, or_note, refused};

fn between(start: &str, end: &str) -> AuditFilter {
    AuditFilter { start: Some(at(start)), end: Some(at(end)), ..AuditFilter::default() }
}

fn sorted(mut ids: Vec<Uuid>) -> Vec<Uuid> {
    ids.sort();
    ids
}

/// A range of time holds its start and not its end, to the microsecond. (A7)
pub async fn start_is_inclusive_and_end_exclusive(h: &dyn AnyHarness) {
    let store = open(h).await;
    let times = [
        "2024-02-29T23:59:59.999999Z",
        "2024-03-01T00:00:00Z",
        "2024-03-01T00:00:00.000001Z",
        "2024-03-31T23:59:59.999999Z",
        "2024-04-01T00:00:00Z",
    ];
    let events = times.map(|time| event_at(1, time));
    create(&*store, &events).await;
    let found = |filter| async { ids(&query(&*store, filter, AuditOrder::OldestFirst).await) };
    assert_eq!(found(between(times[1], times[4])).await, new_ids(&events[1..4]));
    assert_eq!(found(between(times[2], times[3])).await, new_ids(&events[2..3]));
    assert!(found(between(times[2], times[2])).await.is_empty());
    let from = AuditFilter { start: Some(at(times[3])), ..AuditFilter::default() };
    assert_eq!(found(from).await, new_ids(&events[3..]));
    let until = AuditFilter { end: Some(at(times[1])), ..AuditFilter::default() };
    assert_eq!(found(until).await, new_ids(&events[..1]));
}

/// Equal times are in the order of their ids, newest first and mirrored oldest first, whatever order they were recorded in.
/// (A9, S3-AUD-022, DEF-18)
pub async fn equal_times_are_ordered_by_id(h: &dyn AnyHarness) {
    let store = open(h).await;
    let mut events: Vec<_> = (0..12).map(|number| event_at(number, "2024-03-01T12:00:00Z")).collect();
    for (event, byte) in events.iter_mut().zip([9_u128, 3, 7, 1, 11, 5, 2, 12, 4, 8, 10, 6]) {
        event.event_id = Uuid::from_u128(byte << 120 | 0xff);
    }
    for chunk in events.chunks(5) {
        create(&*store, chunk).await;
    }
    let mut by_id = sorted(new_ids(&events));
    let newest = query(&*store, AuditFilter::default(), AuditOrder::NewestFirst).await;
    assert_eq!(ids(&newest), by_id);
    by_id.reverse();
    let oldest = query(&*store, AuditFilter::default(), AuditOrder::OldestFirst).await;
    assert_eq!(ids(&oldest), by_id);
}

/// Pages of one event over 50 of the same time lose none and repeat none, in every order.
/// (A10, S3-AUD-022, X-EDGE-066)
pub async fn pages_over_equal_times_lose_and_repeat_nothing(h: &dyn AnyHarness) {
    let store = open(h).await;
    let mut events: Vec<_> = (0..50).map(|number| event_at(number, "2024-03-01T12:00:00Z")).collect();
    for event in &mut events {
        event.event_id = Uuid::new_v4();
    }
    create(&*store, &events).await;
    for size in [1, 7] {
        for order in [AuditOrder::NewestFirst, AuditOrder::OldestFirst, AuditOrder::Recorded] {
            let request = AuditQuery { order, limit: limit(size), ..AuditQuery::default() };
            let found = ids(&query_pages(&*store, request).await);
            let mut expected = new_ids(&events);
            match order {
                AuditOrder::Recorded => {}
                AuditOrder::NewestFirst => expected.sort(),
                AuditOrder::OldestFirst => expected.sort_by(|a, b| b.cmp(a)),
            }
            assert_eq!(found, expected, "{order:?} in pages of {size}");
        }
    }
}

/// What is recorded while somebody pages shifts no page: newer events do not disturb a reader of older ones, and in
/// recorded order they come at the end. (A11, X-EDGE-065)
pub async fn recording_while_paging_shifts_nothing(h: &dyn AnyHarness) {
    let store = open(h).await;
    let old: Vec<_> = (10..20).map(|day| event_at(day, &format!("2024-03-{day}T12:00:00Z"))).collect();
    create(&*store, &old).await;
    for order in [AuditOrder::NewestFirst, AuditOrder::Recorded] {
        let before = ids(&query(&*store, AuditFilter::default(), order).await);
        let mut request = AuditQuery { order, limit: limit(3), ..AuditQuery::default() };
        let (mut seen, mut added) = (Vec::new(), Vec::new());
        loop {
            let page = store.query(request.clone()).await.must("a page");
            seen.extend(ids(&page.events));
            let Some(token) = page.next else { break };
            request.page = Some(token);
            if added.len() < 3 {
                added.push(event(1));
                create(&*store, &added[added.len() - 1..]).await;
            }
        }
        if order == AuditOrder::Recorded {
            let expected: Vec<_> = before.into_iter().chain(new_ids(&added)).collect();
            assert_eq!(seen, expected, "what came meanwhile is at the end");
        } else {
            assert_eq!(seen, before, "what came meanwhile is newer than where the reader stood");
        }
    }
}

/// Oldest first is the exact mirror of newest first, in pages too. (A16)
pub async fn oldest_first_mirrors_newest_first(h: &dyn AnyHarness) {
    let store = open(h).await;
    let events: Vec<_> =
        (0..30).map(|number| event_at(number, &format!("2024-0{}-01T00:00:00Z", 1 + number % 4))).collect();
    create(&*store, &events).await;
    for size in [1, 4, 30, 31] {
        let pages = |order| AuditQuery { order, limit: limit(size), ..AuditQuery::default() };
        let newest = ids(&query_pages(&*store, pages(AuditOrder::NewestFirst)).await);
        let mut mirrored = ids(&query_pages(&*store, pages(AuditOrder::OldestFirst)).await);
        mirrored.reverse();
        assert_eq!(mirrored, newest, "in pages of {size}");
        assert_eq!(sorted(newest), sorted(new_ids(&events)));
    }
}

/// Pages hold 1 to 10,000 events, never more than asked; the last one promises no other. (A17, X-EDGE-063)
pub async fn limits_are_kept_or_refused(h: &dyn AnyHarness) {
    let store = open(h).await;
    let events: Vec<_> = (0..6).map(event).collect();
    create(&*store, &events).await;
    for (size, found, more) in [(1, 1, true), (5, 5, true), (6, 6, false), (7, 6, false), (10_000, 6, false)]
    {
        for order in [AuditOrder::NewestFirst, AuditOrder::OldestFirst, AuditOrder::Recorded] {
            let request = AuditQuery { order, limit: limit(size), ..AuditQuery::default() };
            let page = store.query(request).await.must("a page");
            assert_eq!((page.events.len(), page.next.is_some()), (found, more), "limit {size}, {order:?}");
        }
    }
    for bad in [0, -1, 10_001, i64::MAX] {
        refused(Limit::new(bad), ErrorKind::Invalid);
    }
}

/// A query without a limit gives a page of the default size, newest first. (A54, S3-AUD-023, DEF-18)
pub async fn query_without_a_limit_is_bounded(h: &dyn AnyHarness) {
    let store = open(h).await;
    let most = usize::try_from(Limit::default().get()).must("a size");
    let events: Vec<_> = (0..=most).map(event).collect();
    create(&*store, &events).await;
    let page = store.query(AuditQuery::default()).await.must("a page");
    assert_eq!((page.events.len(), page.next.is_some()), (most, true));
    assert_eq!(AuditQuery::default().order, AuditOrder::NewestFirst);
    assert_eq!(query_pages(&*store, AuditQuery::default()).await.len(), events.len());
}

/// An id that is not stored gives nothing, and no error. (A37)
pub async fn missing_event_is_none(h: &dyn AnyHarness) {
    let store = open(h).await;
    for id in [Uuid::now_v7(), Uuid::nil()] {
        assert_eq!(get(&*store, id).await, None);
        create(&*store, &[event(1)]).await;
    }
}

/// A token of another filter or order is Invalid, and so is text that is no token. (A55)
pub async fn page_token_of_another_query_is_invalid(h: &dyn AnyHarness) {
    let store = open(h).await;
    create(&*store, &chained(3, "c-1")).await;
    let own = AuditFilter { correlation_id: Some(text("c-1")), ..AuditFilter::default() };
    let base = AuditQuery { filter: own, limit: limit(1), ..AuditQuery::default() };
    let token = store.query(base.clone()).await.must("a page").next;
    assert!(token.is_some());
    let others = [
        AuditQuery { filter: AuditFilter::default(), page: token, ..base.clone() },
        AuditQuery { order: AuditOrder::OldestFirst, page: token, ..base.clone() },
        AuditQuery { order: AuditOrder::Recorded, page: token, ..base.clone() },
        AuditQuery { offset: 1, page: token, ..base.clone() },
    ];
    for other in others {
        refused(store.query(other).await, ErrorKind::Invalid);
    }
    let good = token.must("a token").to_string();
    assert_eq!(good.parse::<AuditToken>().must("a token"), token.must("a token"));
    for bad in ["", "a1", &good[1..], &good[..good.len() - 1], &good.to_uppercase(), &format!("{good}0")] {
        refused(bad.parse::<AuditToken>(), ErrorKind::Invalid);
    }
    let other_limit = AuditQuery { limit: limit(2), page: token, ..base };
    assert_eq!(store.query(other_limit).await.must("a page").events.len(), 2, "the limit may change");
}

/// An offset passes over so many events; beyond the end the page is empty and the count is right. (A56, X-EDGE-064)
pub async fn offset_passes_over_events(h: &dyn AnyHarness) {
    let store = open(h).await;
    let events: Vec<_> = (0..6).map(event).collect();
    create(&*store, &events).await;
    for order in [AuditOrder::NewestFirst, AuditOrder::OldestFirst, AuditOrder::Recorded] {
        let all = ids(&query(&*store, AuditFilter::default(), order).await);
        for offset in [0, 1, 5, 6, 7, 1_000_000, u64::MAX] {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(6);
            let request = AuditQuery { order, offset, limit: limit(2), ..AuditQuery::default() };
            let page = store.query(request.clone()).await.must("a page");
            assert_eq!(page.events.len(), 2.min(6 - from), "offset {offset}");
            assert_eq!(page.next.is_some(), from + 2 < 6, "offset {offset}");
            assert_eq!(ids(&query_pages(&*store, request).await), all[from..], "offset {offset}, {order:?}");
        }
    }
    assert_eq!(store.count(AuditFilter::default()).await.must("count"), 6);
}

/// A range whose start is after its end is Invalid, for a query and for a count. (A57, X-EDGE-067)
pub async fn inverted_range_is_invalid(h: &dyn AnyHarness) {
    let store = open(h).await;
    let filter = between("2024-03-01T00:00:00.000001Z", "2024-03-01T00:00:00Z");
    refused(store.count(filter.clone()).await, ErrorKind::Invalid);
    refused(store.query(AuditQuery { filter, ..AuditQuery::default() }).await, ErrorKind::Invalid);
}

/// The events of one correlation id come together and in order, whatever services told them. (A58, S3-AUD-024)
pub async fn correlated_events_of_all_services_come_together(h: &dyn AnyHarness) {
    let store = open(h).await;
    let mut events = chained(12, "c-1");
    for (number, event) in events.iter_mut().enumerate() {
        event.service_name = text(["shop", "mail", "ai-service"][number % 3]);
        event.event_timestamp = at(&format!("2023-11-{:02}T00:00:00Z", 14 + number));
        if number % 4 == 3 {
            event.correlation_id = Some(text("c-2"));
        }
    }
    create(&*store, &events).await;
    for correlation in ["c-1", "c-2"] {
        let of = |event: &&NewAuditEvent| event.correlation_id == Some(text(correlation));
        let expected: Vec<_> = events.iter().filter(of).map(|event| event.event_id).collect();
        let filter = AuditFilter { correlation_id: Some(text(correlation)), ..AuditFilter::default() };
        for order in [AuditOrder::OldestFirst, AuditOrder::Recorded] {
            assert_eq!(ids(&query(&*store, filter.clone(), order).await), expected);
        }
    }
}

/// A query over several months is complete and ordered. (A59, S3-EDGE-014, S3-AUD-025)
pub async fn query_over_several_months_is_complete_and_ordered(h: &dyn AnyHarness) {
    let store = open(h).await;
    let months = ["2023-11", "2024-02", "2022-07", "2024-01", "2023-12", "2024-03"];
    let events: Vec<_> = months
        .iter()
        .flat_map(|month| {
            ["01T00:00:00Z", "15T12:30:00Z", "28T23:59:59.999999Z"].map(|day| format!("{month}-{day}"))
        })
        .map(|time| event_at(1, &time))
        .collect();
    create(&*store, &events).await;
    let (start, end) = (at("2023-11-15T12:30:00Z"), at("2024-03-01T00:00:00Z"));
    let mut expected: Vec<_> =
        events.iter().filter(|event| (start..end).contains(&event.event_timestamp)).collect();
    expected.sort_by_key(|event| event.event_timestamp);
    let expected: Vec<_> = expected.iter().map(|event| event.event_id).collect();
    assert_eq!(expected.len(), 11);
    let filter = AuditFilter { start: Some(start), end: Some(end), ..AuditFilter::default() };
    for size in [2, 100] {
        let order = AuditOrder::OldestFirst;
        let request =
            AuditQuery { filter: filter.clone(), order, limit: limit(size), ..AuditQuery::default() };
        assert_eq!(ids(&query_pages(&*store, request).await), expected, "in pages of {size}");
    }
}

/// Goes on from page to page in recorded order and on from the last event, until `over` and nothing new.
async fn export(store: &dyn AuditRepository, over: &AtomicBool) -> Vec<Uuid> {
    let mut request = AuditQuery { order: AuditOrder::Recorded, limit: limit(7), ..AuditQuery::default() };
    let mut seen = Vec::new();
    loop {
        let last_round = over.load(Ordering::SeqCst);
        let page = store.query(request.clone()).await.must("a page");
        seen.extend(ids(&page.events));
        match page.events.last() {
            Some(last) => request.page = Some(request.token_after(last)),
            None if last_round => return seen,
            None => tokio::task::yield_now().await,
        }
    }
}

/// Who pages in recorded order while others record gets every event exactly once, in one order. (A35)
pub async fn export_gets_every_event_once_while_writers_run(h: &dyn AnyHarness) {
    let stores = [open(h).await, open(h).await];
    let over = AtomicBool::new(false);
    let writing = async {
        let writers = (0..4).map(|writer: usize| {
            let store = &stores[writer % 2];
            async move {
                for round in 0..10 {
                    create(&**store, &chained(1 + round % 3, &format!("c-{writer}"))).await;
                }
            }
        });
        join_all(writers).await;
        over.store(true, Ordering::SeqCst);
    };
    let readers = join_all([export(&*stores[0], &over), export(&*stores[1], &over)]);
    let (exported, ()) = futures::join!(readers, writing);
    let all = ids(&recorded(&*stores[0]).await);
    assert_eq!(all.len(), 4 * (4 + 3 * 2 + 3 * 3));
    for one in exported {
        assert_eq!(one, all, "what a reader was shown is the recorded order");
    }
}

/// Among 100,000 events queries go by an index. (A41, S3-AUD-009, S3-AUD-025, S3-PERF-007)
pub async fn queries_go_by_an_index(h: &dyn AnyHarness) {
    let store = open(h).await;
    create(&*store, &chained(3, "c-1")).await;
    if let Some(scans) = or_note("the plans of queries", h.faults().audit_full_scans(100_000).await) {
        assert_eq!(scans, Vec::<String>::new(), "these read a whole table");
    }
    let filter = AuditFilter { correlation_id: Some(text("c-1")), ..AuditFilter::default() };
    assert_eq!(query(&*store, filter, AuditOrder::Recorded).await.len(), 3);
}
