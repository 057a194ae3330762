//! Retention: what is due goes, nothing else, and the chains still verify. Where it is not offered, it is refused.

use changeover_core::audit::{AuditFilter, Keep, NewAuditEvent, Retain, Retained, VerifyChain};
use changeover_core::{AuditRepository, ErrorKind, Limit, Support, Timestamp, Uuid};

use crate::harness::{AnyHarness, AuditTamper};
use crate::support::audit::{at, chained, create, event, event_at, ids, look, new_ids, open, recorded, text};
use crate::support::{Must, limit, or_note, refused, without};

/// The day from which the rules of the cases are counted.
const NOW: &str = "2024-07-31T12:00:00Z";

fn retain(rules: &[(&str, u32)]) -> Retain {
    let rules = rules.iter().map(|(category, days)| Keep { category: text(category), days: *days }).collect();
    Retain { rules, now: at(NOW), dry_run: false, limit: limit(10_000) }
}

fn of(category: &str, time: &str) -> NewAuditEvent {
    NewAuditEvent { event_category: text(category), ..event_at(1, time) }
}

fn counts(answer: &Retained) -> Vec<(&str, u64)> {
    answer.removed.iter().map(|(category, count)| (category.as_str(), *count)).collect()
}

/// Asks that removing is refused and changes nothing, where it is not offered; says whether it is.
async fn offered(h: &dyn AnyHarness, store: &dyn AuditRepository) -> bool {
    let Support::No(why) = store.capabilities().retention else { return true };
    without("remove expired records", why);
    create(store, &[of("gateway", "2020-01-01T00:00:00Z")]).await;
    let before = look(h, store).await;
    refused(store.retain(retain(&[("gateway", 1)])).await, ErrorKind::Unsupported);
    assert_eq!(look(h, store).await, before);
    false
}

/// What is left, as ids in recorded order.
async fn left(store: &dyn AuditRepository) -> Vec<Uuid> {
    ids(&recorded(store).await)
}

/// Whether the chain holds, where there is one, and how many events it has.
async fn assert_chain(store: &dyn AuditRepository, correlation: &str, events: u64) {
    if store.capabilities().hash_chain.is_yes() {
        let report = store.verify(VerifyChain { correlation_id: text(correlation) }).await.must("verify");
        assert_eq!((report.events, report.broken), (events, None), "{correlation}");
    }
}

/// An event goes when its UTC date lies as many days before today as its category's rule says, and not a day sooner; the
/// answer counts by rule. (A28, X-AUD-031, X-EDGE-119)
pub async fn only_what_is_due_goes(h: &dyn AnyHarness) {
    let store = open(h).await;
    if !offered(h, &*store).await {
        return;
    }
    let due = [
        of("gateway", "2024-07-01T23:59:59.999999Z"),
        of("gateway", "2024-06-15T00:00:00Z"),
        of("gateway", "1999-12-31T00:00:00Z"),
        of("ai", "2023-07-31T00:00:00Z"),
    ];
    let kept = [
        of("gateway", "2024-07-02T00:00:00Z"),
        of("gateway", "2024-07-31T23:00:00Z"),
        of("ai", "2024-06-15T00:00:00Z"),
        of("ai", "2023-08-02T00:00:00Z"),
    ];
    create(&*store, &due).await;
    create(&*store, &kept).await;
    let answer = store.retain(retain(&[("ai", 365), ("workflow", 1), ("gateway", 30)])).await.must("retain");
    assert_eq!(counts(&answer), [("ai", 1), ("workflow", 0), ("gateway", 3)]);
    assert!(answer.done);
    assert_eq!(left(&*store).await, new_ids(&kept));
    for event in &due {
        assert_eq!(store.get(event.event_id).await.must("get"), None);
    }
    assert_eq!(store.count(AuditFilter::default()).await.must("count"), 4);
    // 2024 is a leap year: 365 days before its last of July is the first of August.
    let answer = store.retain(retain(&[("ai", 364)])).await.must("retain");
    assert_eq!(counts(&answer), [("ai", 1)]);
}

/// Categories without a rule stay, however old their events are; names are compared by bytes. (A29)
pub async fn categories_without_a_rule_stay(h: &dyn AnyHarness) {
    let store = open(h).await;
    if !offered(h, &*store).await {
        return;
    }
    let old = "1990-01-01T00:00:00Z";
    let kept = [of("legal", old), of("Gateway", old), of("gateway ", old), of("gate%", old)];
    create(&*store, &kept).await;
    create(&*store, &[of("gateway", old)]).await;
    let answer = store.retain(retain(&[("gateway", 1)])).await.must("retain");
    assert_eq!((counts(&answer), answer.done), (vec![("gateway", 1)], true));
    assert_eq!(left(&*store).await, new_ids(&kept));
}

/// At most `limit` events go a call, the oldest first; calls go on until nothing is due, and one more changes nothing.
/// (A30, X-AUD-031)
pub async fn removal_goes_on_where_it_stopped(h: &dyn AnyHarness) {
    let store = open(h).await;
    if !offered(h, &*store).await {
        return;
    }
    // One event a month: whole months and single events go in the same order.
    let mut due: Vec<_> =
        [4, 1, 6, 3, 2, 5].map(|month| of("gateway", &format!("2022-0{month}-10T00:00:00Z"))).into();
    create(&*store, &due).await;
    create(&*store, &[of("gateway", NOW)]).await;
    due.sort_by_key(|event| event.event_timestamp);
    let request = Retain { limit: limit(2), ..retain(&[("gateway", 30)]) };
    for call in 1..=3 {
        let answer = store.retain(request.clone()).await.must("retain");
        assert_eq!((counts(&answer), answer.done), (vec![("gateway", 2)], call == 3), "call {call}");
        let left = left(&*store).await;
        assert!(due[..call * 2].iter().all(|event| !left.contains(&event.event_id)), "not the oldest went");
        assert_eq!(left.len(), 7 - call * 2);
    }
    let before = look(h, &*store).await;
    let answer = store.retain(request).await.must("retain");
    assert_eq!((counts(&answer), answer.months.len(), answer.done), (vec![("gateway", 0)], 0, true));
    assert_eq!(look(h, &*store).await, before);
}

/// A dry run counts what the same call removes, and removes nothing. (A66, X-AUD-031)
pub async fn dry_run_counts_and_removes_nothing(h: &dyn AnyHarness) {
    let store = open(h).await;
    if !offered(h, &*store).await {
        return;
    }
    let mut parent = of("gateway", "2022-01-01T00:00:00Z");
    parent.correlation_id = Some(text("c-1"));
    let child = NewAuditEvent { parent_event_id: Some(parent.event_id), ..of("ai", "2022-01-02T00:00:00Z") };
    create(&*store, &[parent, child]).await;
    create(&*store, &[of("gateway", "2022-02-01T00:00:00Z"), of("gateway", "2022-03-01T00:00:00Z")]).await;
    create(&*store, &[of("ai", "2022-03-02T00:00:00Z"), of("workflow", "2022-03-03T00:00:00Z")]).await;
    let rules = [("gateway", 30), ("workflow", 30)];
    for size in [1, 2, 10_000] {
        let request = Retain { limit: limit(size), ..retain(&rules) };
        let before = look(h, &*store).await;
        let dry = store.retain(Retain { dry_run: true, ..request.clone() }).await.must("a dry run");
        assert_eq!(look(h, &*store).await, before);
        let real = store.retain(request).await.must("retain");
        assert_eq!((dry.removed, dry.done), (real.removed, real.done), "limit {size}");
    }
    assert_eq!(left(&*store).await.len(), 3, "the parent stays, and what has no rule");
}

/// Parents of kept events stay, however old, and theirs; a child goes before its parent, whatever the limit.
/// (A67, S3-AUD-028, DEF-16)
pub async fn parents_of_kept_events_stay(h: &dyn AnyHarness) {
    let store = open(h).await;
    if !offered(h, &*store).await {
        return;
    }
    let child = |of: &NewAuditEvent, time| NewAuditEvent {
        parent_event_id: Some(of.event_id),
        ..self::of("gateway", time)
    };
    let root = of("gateway", "2021-01-01T00:00:00Z");
    let middle = child(&root, "2021-02-01T00:00:00Z");
    let kept = child(&middle, NOW);
    let old_root = of("gateway", "2021-01-02T00:00:00Z");
    let old_child = child(&old_root, "2021-01-03T00:00:00Z");
    let old_leaf = child(&old_child, "2021-05-01T00:00:00Z");
    let stay = [root, middle, kept];
    create(&*store, &stay).await;
    create(&*store, &[old_root.clone(), old_child.clone(), old_leaf.clone()]).await;
    let request = Retain { limit: limit(1), ..retain(&[("gateway", 30)]) };
    for gone in [&old_leaf, &old_child, &old_root] {
        assert!(store.get(gone.event_id).await.must("get").is_some());
        let answer = store.retain(request.clone()).await.must("retain");
        assert_eq!(counts(&answer), [("gateway", 1)]);
        assert_eq!(store.get(gone.event_id).await.must("get"), None, "a child goes before its parent");
    }
    let answer = store.retain(request).await.must("retain");
    assert_eq!((counts(&answer), answer.done), (vec![("gateway", 0)], true));
    assert_eq!(left(&*store).await, new_ids(&stay));
}

/// Months that are said to have gone at once were wholly due, and are empty. (A68, X-AUD-031, X-EDGE-119)
pub async fn whole_months_go_only_if_all_of_them_is_due(h: &dyn AnyHarness) {
    let store = open(h).await;
    if !offered(h, &*store).await {
        return;
    }
    let whole = [of("gateway", "2023-03-01T00:00:00Z"), of("ai", "2023-03-31T23:59:59.999999Z")];
    let mixed = [of("gateway", "2023-04-01T00:00:00Z"), of("legal", "2023-04-30T23:59:59.999999Z")];
    let partly = [of("gateway", "2024-07-01T00:00:00Z"), of("gateway", "2024-07-30T00:00:00Z")];
    for batch in [&whole, &mixed, &partly] {
        create(&*store, batch).await;
    }
    let answer = store.retain(retain(&[("gateway", 30), ("ai", 30)])).await.must("retain");
    assert_eq!((counts(&answer), answer.done), (vec![("gateway", 3), ("ai", 1)], true));
    assert!(answer.months.is_empty() || answer.months == ["2023-03"], "{:?}", answer.months);
    assert_eq!(left(&*store).await, [mixed[1].event_id, partly[1].event_id]);
}

/// The category and the time of an event.
type Kind = (&'static str, &'static str);

/// The chains that records were removed from still verify and go on: from the beginning, in between, to the end; and
/// what is removed otherwise is still found. (A31, X-AUD-031, X-AUD-030)
pub async fn chains_verify_after_removal(h: &dyn AnyHarness) {
    let store = open(h).await;
    if !offered(h, &*store).await {
        return;
    }
    let (due, fresh): (Kind, Kind) = (("gateway", "2023-01-01T00:00:00Z"), ("gateway", NOW));
    let make = |correlation: &str, kinds: &[Kind]| -> Vec<_> {
        let correlated = |(category, time): &Kind| NewAuditEvent {
            correlation_id: Some(text(correlation)),
            ..of(category, time)
        };
        kinds.iter().map(correlated).collect()
    };
    let table: [(&str, &[Kind], u64); 5] = [
        ("beginning", &[due, due, fresh, fresh], 2),
        ("between", &[fresh, due, due, fresh, due, ("legal", "2023-01-01T00:00:00Z")], 3),
        ("end", &[fresh, due, due], 1),
        ("all", &[due, due], 0),
        ("none", &[fresh, fresh], 2),
    ];
    for (name, kinds, _) in table {
        create(&*store, &make(name, kinds)).await;
    }
    let mut calls = 0;
    let request = Retain { limit: limit(2), ..retain(&[("gateway", 30)]) };
    while !store.retain(request.clone()).await.must("retain").done {
        calls += 1;
        assert!(calls < 10, "removing does not end");
        for (name, kinds, _) in table {
            let filter = AuditFilter { correlation_id: Some(text(name)), ..AuditFilter::default() };
            let there = store.count(filter).await.must("count");
            assert!(there <= kinds.len() as u64);
            assert_chain(&*store, name, there).await;
        }
    }
    for (name, _, kept) in table {
        assert_chain(&*store, name, kept).await;
        create(&*store, &make(name, &[fresh])).await;
        assert_chain(&*store, name, kept + 1).await;
    }
    if !store.capabilities().hash_chain.is_yes() {
        return;
    }
    let filter = AuditFilter { correlation_id: Some(text("beginning")), ..AuditFilter::default() };
    let first =
        crate::support::audit::query(&*store, filter, changeover_core::audit::AuditOrder::Recorded).await;
    let tamper = AuditTamper::Remove(first[0].event.event_id);
    if or_note("tamper with audit records", h.faults().tamper_audit(tamper).await).is_some() {
        let report = store.verify(VerifyChain { correlation_id: text("beginning") }).await.must("verify");
        assert_eq!(report.broken.must("a break").event_id, first[1].event.event_id);
    }
}

/// Rules that say nothing or contradict themselves are Invalid and remove nothing. (A69)
pub async fn contradictory_rules_are_invalid(h: &dyn AnyHarness) {
    let store = open(h).await;
    if !offered(h, &*store).await {
        return;
    }
    create(&*store, &[of("gateway", "1990-01-01T00:00:00Z")]).await;
    let before = look(h, &*store).await;
    for rules in [&[][..], &[("gateway", 0)], &[("gateway", 1), ("gateway", 2)]] {
        refused(store.retain(retain(rules)).await, ErrorKind::Invalid);
    }
    refused(Limit::new(0), ErrorKind::Invalid);
    let for_ever = store.retain(retain(&[("gateway", u32::MAX)])).await.must("more days than there are");
    assert_eq!((counts(&for_ever), for_ever.done), (vec![("gateway", 0)], true));
    let early = Retain { now: Timestamp::MIN, ..retain(&[("gateway", 1)]) };
    assert_eq!(counts(&store.retain(early).await.must("a day before all others")), [("gateway", 0)]);
    assert_eq!(look(h, &*store).await, before);
}

/// An id that was removed is free again, and so is its place as a parent: only what is stored counts. (A70)
pub async fn removed_id_is_free_again(h: &dyn AnyHarness) {
    let store = open(h).await;
    if !offered(h, &*store).await {
        return;
    }
    let gone = NewAuditEvent { event_category: text("gateway"), ..chained(1, "c-1").remove(0) };
    let gone = NewAuditEvent { event_timestamp: at("2022-01-01T00:00:00Z"), ..gone };
    create(&*store, std::slice::from_ref(&gone)).await;
    assert_eq!(counts(&store.retain(retain(&[("gateway", 30)])).await.must("retain")), [("gateway", 1)]);
    let orphan = NewAuditEvent { parent_event_id: Some(gone.event_id), ..event(2) };
    let request = changeover_core::audit::Create { events: vec![orphan] };
    refused(store.create(request).await, ErrorKind::NotFound);
    let other = NewAuditEvent { event_type: text("other"), ..gone };
    assert_eq!(create(&*store, std::slice::from_ref(&other)).await.stored, 1);
    assert_eq!(left(&*store).await, [other.event_id]);
    assert_chain(&*store, "c-1", 1).await;
}
