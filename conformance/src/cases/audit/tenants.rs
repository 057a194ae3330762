//! Tenants: one never sees, learns of or hinders another's records. Where only one can be kept, others are refused.

use std::sync::Arc;

use changeover_core::audit::{
    AuditFilter, AuditOrder, AuditQuery, ChainReport, Create, Created, Keep, NewAuditEvent, Retain,
    VerifyChain,
};
use changeover_core::backend::Family;
use changeover_core::{AuditRepository, Detail, ErrorKind, OpenBackend, Support, TenantId};
use futures::future::join_all;

use crate::harness::{AnyHarness, OpenOptions};
use crate::support::audit::{
    chained, create, event, event_at, full, get, ids, look, new_ids, open, query, recorded, text,
};
use crate::support::{Must, json, limit, logged, or_note, refused, without};

async fn store_of(h: &dyn AnyHarness, client: &dyn OpenBackend, name: &str) -> Arc<dyn AuditRepository> {
    let tenant = TenantId::new(name).must("a tenant");
    client.audit(&h.scope_of(Family::Audit), &tenant).await.must("open the repository of a tenant")
}

/// The repositories of two tenants. Where one tenant is all that is served, the refusal of another one is what there is
/// to check.
async fn two(h: &dyn AnyHarness) -> Option<[Arc<dyn AuditRepository>; 2]> {
    let own = open(h).await;
    let client = h.client().await;
    if let Support::No(why) = own.capabilities().tenants {
        without("keep a second tenant", why);
        create(&*own, &[event(1)]).await;
        let before = look(h, &*own).await;
        for other in ["acme", "globex"] {
            let tenant = TenantId::new(other).must("a tenant");
            let answer = client.audit(&h.scope_of(Family::Audit), &tenant).await.map(drop);
            refused(answer, ErrorKind::Unsupported);
        }
        assert_eq!(look(h, &*own).await, before);
        return None;
    }
    Some([store_of(h, &*client, "acme").await, store_of(h, &*client, "globex").await])
}

/// What a tenant reads, counts and pages through is its own only. (AT1, S2-TEN-008)
pub async fn tenant_reads_its_own_records_only(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let (of_a, of_b) = (chained(5, "c-1"), chained(3, "c-1"));
    create(&*a, &of_a).await;
    create(&*b, &of_b).await;
    for (store, own, other) in [(&a, &of_a, &of_b), (&b, &of_b, &of_a)] {
        assert_eq!(ids(&recorded(&**store).await), new_ids(own));
        let filter = AuditFilter { correlation_id: Some(text("c-1")), ..AuditFilter::default() };
        assert_eq!(store.count(filter.clone()).await.must("count"), own.len() as u64);
        for order in [AuditOrder::NewestFirst, AuditOrder::OldestFirst] {
            assert_eq!(query(&**store, filter.clone(), order).await.len(), own.len());
        }
        assert_eq!(get(&**store, other[0].event_id).await, None, "another's id is not found");
    }
}

/// The same id in two tenants is two records, whatever their content; repeating is judged within the tenant. (AT2, S3-AUD-027)
pub async fn same_id_in_two_tenants_is_two_records(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let first = full(1);
    let second = NewAuditEvent { event_data: json(r#"{"other":true}"#), ..first.clone() };
    for store in [&a, &b] {
        assert_eq!(create(&**store, std::slice::from_ref(&first)).await, Created { stored: 1, repeated: 0 });
        assert_eq!(create(&**store, std::slice::from_ref(&first)).await, Created { stored: 0, repeated: 1 });
    }
    let third = full(3);
    create(&*a, std::slice::from_ref(&third)).await;
    let changed = NewAuditEvent { event_id: third.event_id, ..second };
    assert_eq!(create(&*b, std::slice::from_ref(&changed)).await, Created { stored: 1, repeated: 0 });
    assert_eq!(get(&*a, third.event_id).await.must("the event").event, third);
    assert_eq!(get(&*b, third.event_id).await.must("the event").event, changed);
}

/// A parent of another tenant does not exist, and the refusal is that of an id that nobody has. (AT3, S3-AUD-028)
pub async fn parent_of_another_tenant_does_not_exist(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let parent = event(1);
    create(&*a, std::slice::from_ref(&parent)).await;
    let orphan = NewAuditEvent { parent_event_id: Some(parent.event_id), ..event(2) };
    let nobodys = NewAuditEvent { parent_event_id: Some(uuid::Uuid::now_v7()), ..orphan.clone() };
    let mut told = Vec::new();
    for new in [&orphan, &nobodys] {
        let error = refused(b.create(Create { events: vec![new.clone()] }).await, ErrorKind::NotFound);
        let id = new.parent_event_id.must("a parent").to_string();
        told.push(error.to_string().replace(&id, "PARENT"));
    }
    assert_eq!(told[0], told[1], "the refusal shows that another tenant has the id");
    assert!(recorded(&*b).await.is_empty());
    create(&*a, &[orphan]).await;
}

/// A taken id names no tenant and nothing of another's record. (AT4)
pub async fn conflict_tells_nothing_of_another_tenant(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let mut secret = full(1);
    (secret.actor_name, secret.resource_id) = (Some(text("of-acme-only")), text("of-acme-only"));
    create(&*a, std::slice::from_ref(&secret)).await;
    let own = NewAuditEvent { event_id: secret.event_id, ..event(2) };
    create(&*b, std::slice::from_ref(&own)).await;
    let other = NewAuditEvent { event_type: text("other"), ..own.clone() };
    let error = refused(b.create(Create { events: vec![other] }).await, ErrorKind::AlreadyExists);
    assert_eq!(error.detail(), Some(&Detail::Exists { id: own.event_id }));
    let shown = logged(&error);
    assert!(!shown.contains("acme") && !shown.contains("of-acme-only"), "{shown}");
    assert_eq!(get(&*b, own.event_id).await.must("the event").event, own);
}

/// Chains of one correlation id are each tenant's own. (AT5, X-AUD-030)
pub async fn chains_are_each_tenants_own(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let request = || VerifyChain { correlation_id: text("c-1") };
    if !a.capabilities().hash_chain.is_yes() {
        refused(a.verify(request()).await, ErrorKind::Unsupported);
        return;
    }
    for count in 1..=3 {
        create(&*a, &chained(count, "c-1")).await;
        if count > 1 {
            create(&*b, &chained(1, "c-1")).await;
        }
    }
    let (of_a, of_b) = (a.verify(request()).await.must("verify"), b.verify(request()).await.must("verify"));
    assert_eq!((of_a.events, of_a.broken, of_b.events, of_b.broken), (6, None, 2, None));
    assert_ne!(of_a.head, of_b.head);
    create(&*a, &chained(1, "c-2")).await;
    let unknown = b.verify(VerifyChain { correlation_id: text("c-2") }).await.must("verify");
    assert_eq!(unknown, ChainReport { events: 0, head: None, broken: None });
}

/// Retention of one tenant removes nothing of another's, in the same months too. (AT6, X-AUD-031)
pub async fn retention_removes_the_tenants_own_records_only(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let old = || event_at(1, "2021-05-05T00:00:00Z");
    let (of_a, of_b) = ([old(), old()], [old()]);
    create(&*a, &of_a).await;
    create(&*b, &of_b).await;
    let request = Retain {
        rules: vec![Keep { category: text("gateway"), days: 1 }],
        now: crate::support::audit::at("2024-01-01T00:00:00Z"),
        dry_run: false,
        limit: limit(100),
    };
    if a.capabilities().retention.is_yes() {
        let answer = a.retain(request).await.must("retain");
        assert_eq!((answer.removed[0].1, answer.done), (2, true));
        assert!(recorded(&*a).await.is_empty());
    } else {
        refused(a.retain(request).await, ErrorKind::Unsupported);
        assert_eq!(recorded(&*a).await.len(), 2);
    }
    assert_eq!(ids(&recorded(&*b).await), new_ids(&of_b));
}

/// A page token of one tenant opens nothing of another's. (AT7)
pub async fn page_token_of_another_tenant_opens_nothing(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let (of_a, of_b) = (chained(4, "c-1"), chained(2, "c-1"));
    create(&*a, &of_a).await;
    create(&*b, &of_b).await;
    for order in [AuditOrder::Recorded, AuditOrder::NewestFirst, AuditOrder::OldestFirst] {
        let request = AuditQuery { order, limit: limit(2), ..AuditQuery::default() };
        let token = a.query(request.clone()).await.must("a page").next;
        assert!(token.is_some());
        match b.query(AuditQuery { page: token, ..request }).await {
            Ok(page) => {
                let own = new_ids(&of_b);
                assert!(ids(&page.events).iter().all(|id| own.contains(id)), "another's records are shown");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{error}"),
        }
    }
}

/// Hostile tenant names are names like others: nothing of them is taken for SQL, and none sees another's records.
/// (AT8, S2-TEN-002, S2-TEN-008, X-EDGE-086, DEF-38)
pub async fn hostile_tenant_names_are_names_like_others(h: &dyn AnyHarness) {
    if two(h).await.is_none() {
        return;
    }
    let names = [
        "a'b",
        "a\"b",
        "'; DROP TABLE audit_events; --",
        "a\nb",
        "%",
        "_",
        "\u{e9}",
        "e\u{301}",
        " ",
        "A",
        "a",
    ];
    let client = h.client().await;
    let mut given = Vec::new();
    for name in names {
        let store = store_of(h, &*client, name).await;
        assert!(recorded(&*store).await.is_empty(), "{name:?} sees what another stored");
        let batch = chained(2, "c-1");
        create(&*store, &batch).await;
        given.push((name, new_ids(&batch)));
    }
    for (name, given) in given {
        let store = store_of(h, &*h.client().await, name).await;
        assert_eq!(ids(&recorded(&*store).await), given, "{name:?}");
    }
}

/// Two tenants in turn on the only connection of a pool: what one set does not stay for the other. (AT9, S2-TEN-003, X-EDGE-087)
pub async fn tenants_take_turns_on_one_connection(h: &dyn AnyHarness) {
    if two(h).await.is_none() {
        return;
    }
    let one = OpenOptions { pool_size: Some(1), ..OpenOptions::default() };
    let client = match or_note("open a pool of one connection", h.faults().client_with(one).await) {
        Some(client) => client,
        None => h.client().await,
    };
    let stores = [store_of(h, &*client, "acme").await, store_of(h, &*client, "globex").await];
    for round in 1..=5 {
        for store in &stores {
            create(&**store, &chained(1, "c-1")).await;
            assert_eq!(store.count(AuditFilter::default()).await.must("count"), round);
        }
    }
}

/// Tenants that record the same ids at once do not hinder each other. (AT10)
pub async fn tenants_record_at_once_without_conflict(h: &dyn AnyHarness) {
    let Some(stores) = two(h).await else { return };
    let batches: Vec<_> = (0..10).map(|_| chained(2, "c-1")).collect();
    let writers = stores.iter().map(|store| {
        let batches = &batches;
        async move {
            for batch in batches {
                assert_eq!(create(&**store, batch).await.stored, 2);
            }
        }
    });
    join_all(writers).await;
    let expected: Vec<_> = batches.iter().flat_map(|batch| new_ids(batch)).collect();
    for store in &stores {
        assert_eq!(ids(&recorded(&**store).await), expected);
    }
}
