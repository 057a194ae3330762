//! The hash chain of each correlation id. Where it is not offered, verifying is refused.

use changeover_core::audit::{AuditFilter, AuditOrder, ChainReport, Link, NewAuditEvent, VerifyChain};
use changeover_core::{AuditRepository, ErrorKind, Support, Uuid};
use futures::future::join_all;

use crate::harness::{AnyHarness, AuditTamper};
use crate::support::audit::{chained, create, event, open, query, recorded, text};
use crate::support::{Must, or_note, refused, without};

async fn verify(store: &dyn AuditRepository, correlation: &str) -> ChainReport {
    store.verify(VerifyChain { correlation_id: text(correlation) }).await.must("verify")
}

/// The head of a chain of these events, as whoever has them can compute it.
fn head_of<'a>(events: impl IntoIterator<Item = &'a NewAuditEvent>) -> Option<[u8; 32]> {
    events.into_iter().fold(None, |previous, event| Some(Link::of(previous.as_ref(), event).link))
}

/// Asks that verifying is refused, where chains are not offered; says whether they are.
async fn offered(store: &dyn AuditRepository) -> bool {
    let Support::No(why) = store.capabilities().hash_chain else { return true };
    without("chain records by hash", why);
    create(store, &chained(2, "c-1")).await;
    let request = VerifyChain { correlation_id: text("c-1") };
    refused(store.verify(request).await, ErrorKind::Unsupported);
    assert_eq!(recorded(store).await.len(), 2, "records are kept without a chain too");
    false
}

/// The chain of untouched records holds, its head is the one that anybody can compute of them, and repeated records are
/// not chained twice. (A24, X-AUD-030)
pub async fn chain_of_untouched_records_holds(h: &dyn AnyHarness) {
    let store = open(h).await;
    if !offered(&*store).await {
        return;
    }
    let (one, other) = (chained(5, "c-1"), chained(3, "c-2"));
    create(&*store, &one[..2]).await;
    create(&*store, &[other[0].clone(), event(9), one[2].clone(), other[1].clone()]).await;
    create(&*store, &[one[1].clone(), one[3].clone()]).await;
    create(&*store, &one[..4]).await;
    create(&*open(h).await, &[one[4].clone(), other[2].clone()]).await;
    for (correlation, events) in [("c-1", &one), ("c-2", &other)] {
        let report = verify(&*store, correlation).await;
        assert_eq!(report.broken, None, "{correlation}");
        assert_eq!(report.events, events.len() as u64, "{correlation}");
        assert_eq!(report.head, head_of(events), "{correlation}");
    }
    assert_eq!(verify(&*store, "unknown").await, ChainReport { events: 0, head: None, broken: None });
}

/// The order of a chain is the recorded one, not that of the times. (A65, X-AUD-030)
pub async fn chain_goes_by_the_recorded_order(h: &dyn AnyHarness) {
    let store = open(h).await;
    if !offered(&*store).await {
        return;
    }
    let mut events = chained(4, "c-1");
    for (event, year) in events.iter_mut().zip([2023, 2020, 2024, 1999]) {
        event.event_timestamp = crate::support::audit::at(&format!("{year}-06-01T00:00:00Z"));
    }
    for event in &events {
        create(&*store, std::slice::from_ref(event)).await;
    }
    let report = verify(&*store, "c-1").await;
    assert_eq!((report.events, report.head, report.broken), (4, head_of(&events), None));
}

/// What was done to a chain: what somebody does, and the events at which it may show.
type Done = (&'static str, fn(&[NewAuditEvent]) -> (AuditTamper, Vec<Uuid>));

/// An edited, a removed, a moved and an inserted record and a missing end are found and named, and other chains hold.
/// (A25, X-AUD-030)
pub async fn tampering_is_found_and_named(h: &dyn AnyHarness) {
    let table: [Done; 7] = [
        ("edited", |e| (AuditTamper::Edit(e[1].event_id), vec![e[1].event_id])),
        ("first-edited", |e| (AuditTamper::Edit(e[0].event_id), vec![e[0].event_id])),
        ("removed", |e| (AuditTamper::Remove(e[1].event_id), vec![e[2].event_id])),
        ("first-removed", |e| (AuditTamper::Remove(e[0].event_id), vec![e[1].event_id])),
        ("last-removed", |e| (AuditTamper::Remove(e[3].event_id), vec![e[2].event_id, e[3].event_id])),
        ("swapped", |e| {
            let both = vec![e[1].event_id, e[2].event_id];
            (AuditTamper::Swap(e[1].event_id, e[2].event_id), both)
        }),
        ("inserted", |e| {
            let mut new = event(7);
            new.correlation_id.clone_from(&e[0].correlation_id);
            (AuditTamper::Insert(Box::new(new.clone())), vec![new.event_id])
        }),
    ];
    let store = open(h).await;
    if !offered(&*store).await {
        return;
    }
    let untouched = chained(4, "untouched");
    create(&*store, &untouched).await;
    for (name, tamper) in table {
        let events = chained(4, name);
        create(&*store, &events).await;
        let (tamper, shows_at) = tamper(&events);
        if or_note("tamper with audit records", h.faults().tamper_audit(tamper).await).is_none() {
            return assert_eq!(verify(&*store, name).await.broken, None, "{name}");
        }
        let report = verify(&*store, name).await;
        let Some(broken) = report.broken else { panic!("{name}: not found") };
        assert!(
            shows_at.contains(&broken.event_id),
            "{name}: found at {}, {}",
            broken.event_id,
            broken.problem
        );
        assert!(!broken.problem.is_empty(), "{name}: the problem is not said");
        let again = verify(&*open(h).await, name).await.broken.must("found again");
        assert_eq!(again.event_id, broken.event_id, "{name}");
    }
    let report = verify(&*store, "untouched").await;
    assert_eq!((report.head, report.broken), (head_of(&untouched), None));
}

/// A chain is continuous under many writers at once. (A26, X-AUD-030)
pub async fn chain_is_continuous_under_many_writers(h: &dyn AnyHarness) {
    let stores = [open(h).await, open(h).await];
    if !offered(&*stores[0]).await {
        return;
    }
    let writers = (0..8).map(|writer: usize| {
        let store = &stores[writer % 2];
        async move {
            for round in 0..6 {
                let mut batch = chained(1 + round % 3, "shared");
                batch.extend(chained(1, &format!("own-{writer}")));
                create(&**store, &batch).await;
            }
        }
    });
    join_all(writers).await;
    let filter = AuditFilter { correlation_id: Some(text("shared")), ..AuditFilter::default() };
    let chain = query(&*stores[0], filter, AuditOrder::Recorded).await;
    let report = verify(&*stores[1], "shared").await;
    assert_eq!((report.events, report.broken), (8 * 12, None));
    assert_eq!(report.head, head_of(chain.iter().map(|kept| &kept.event)));
    for writer in 0..8 {
        let report = verify(&*stores[0], &format!("own-{writer}")).await;
        assert_eq!((report.events, report.broken), (6, None));
    }
}
