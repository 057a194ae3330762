//! Opening, closing, opening again, what is not declared, and records that stay as they are.

use std::sync::Arc;

use changeover_core::audit::{AuditFilter, AuditQuery, Create, Keep, NewAuditEvent, Retain, VerifyChain};
use changeover_core::backend::Family;
use changeover_core::{AuditRepository, Detail, ErrorKind, TenantId, Timestamp, Uuid};

use crate::forward::Forward;
use crate::harness::{AnyHarness, RawRow};
use crate::support::audit::{
    at, chained, create, event, full, get, ids, look, new_ids, open, open_on, recorded, text,
};
use crate::support::{Must, in_time, limit, or_note, refused};

fn verify() -> VerifyChain {
    VerifyChain { correlation_id: text("c-1") }
}

fn retain() -> Retain {
    let rules = vec![Keep { category: text("nobodys"), days: 1 }];
    Retain { rules, now: Timestamp::now(), dry_run: false, limit: limit(1) }
}

/// Every operation of the repository is refused as this kind.
async fn all_refused(store: &dyn AuditRepository, kind: ErrorKind) {
    refused(store.create(Create { events: vec![event(1)] }).await, kind);
    refused(store.get(Uuid::now_v7()).await, kind);
    refused(store.query(AuditQuery::default()).await, kind);
    refused(store.count(AuditFilter::default()).await, kind);
    refused(store.ready().await, kind);
    // Where an operation is not offered at all, that may be said first.
    let capabilities = store.capabilities();
    for (answer, offered) in [
        (store.verify(verify()).await.map(drop), capabilities.hash_chain.is_yes()),
        (store.retain(retain()).await.map(drop), capabilities.retention.is_yes()),
    ] {
        let error = answer.err().must("a refusal");
        let unsupported = !offered && error.kind() == ErrorKind::Unsupported;
        assert!(error.kind() == kind || unsupported, "must be refused as {kind}, but: {error}");
    }
}

/// After close every operation is Unavailable; closing twice is fine; other handles live on until the backend closes.
/// (A71)
pub async fn closed_repository_is_unavailable(h: &dyn AnyHarness) {
    let backend = h.client().await;
    let store = open_on(h, &*backend).await;
    let other = open(h).await;
    create(&*store, &[event(1)]).await;
    store.close().await.must("close");
    store.close().await.must("close twice");
    in_time("operations on a closed repository", all_refused(&*store, ErrorKind::Unavailable)).await;
    create(&*open_on(h, &*backend).await, &[event(2)]).await;
    backend.close().await;
    if let Ok(late) = backend.audit(&h.scope_of(Family::Audit), &h.tenant()).await {
        in_time("operations on a closed backend", all_refused(&*late, ErrorKind::Unavailable)).await;
    }
    assert_eq!(recorded(&*other).await.len(), 2, "another client's view");
}

/// Opened again, a repository shows the same records in the same order, and its chains go on. (A45, E118)
pub async fn reopened_repository_goes_on_where_it_was(h: &dyn AnyHarness) {
    let backend = h.client().await;
    let store = open_on(h, &*backend).await;
    let batch = chained(3, "c-1");
    create(&*store, &batch).await;
    let before = recorded(&*store).await;
    store.close().await.must("close");
    backend.close().await;
    drop((store, backend));
    let store = open(h).await;
    assert_eq!(recorded(&*store).await, before);
    create(&*store, &chained(2, "c-1")).await;
    let after = recorded(&*store).await;
    assert_eq!((&after[..3], after.len()), (&before[..], 5));
    if store.capabilities().hash_chain.is_yes() {
        let report = store.verify(verify()).await.must("verify");
        assert_eq!((report.events, report.broken), (5, None));
    }
}

/// On a database without the schema everything is `SchemaMismatch`, `ready` too. (A72)
pub async fn repository_without_schema_is_a_schema_mismatch(h: &dyn AnyHarness) {
    let Some(backend) = or_note("a database without the schema", h.faults().unmigrated_client().await) else {
        return open(h).await.ready().await.map(drop).must("a migrated repository is ready");
    };
    let store = open_on(h, &*backend).await;
    all_refused(&*store, ErrorKind::SchemaMismatch).await;
}

/// What is declared works; what is not declared is Unsupported and changes nothing. (A73)
pub async fn what_is_not_declared_refuses(h: &dyn AnyHarness) {
    let backend = h.client().await;
    let store = open(h).await;
    create(&*store, &chained(2, "c-1")).await;
    let before = look(h, &*store).await;
    let capabilities = store.capabilities();
    let stranger = TenantId::new("stranger").must("a tenant");
    let other = backend.audit(&h.scope_of(Family::Audit), &stranger).await;
    for (answer, offered) in [
        (other.map(drop), capabilities.tenants.is_yes()),
        (store.verify(verify()).await.map(drop), capabilities.hash_chain.is_yes()),
        (store.retain(retain()).await.map(drop), capabilities.retention.is_yes()),
    ] {
        match answer {
            Ok(()) => assert!(offered, "it works, but is not declared"),
            Err(error) => {
                assert!(!offered, "it is declared, but: {error}");
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                assert!(!error.message().is_empty(), "a refusal without a reason");
            }
        }
    }
    assert_eq!(look(h, &*store).await, before);
}

/// A repository may be shared and sent between tasks, works behind any pointer, and answers through a layer as without.
/// (A74, E126, E127)
pub async fn repository_works_behind_any_pointer(h: &dyn AnyHarness) {
    fn can_be_shared<T: Send + Sync + 'static + ?Sized>(_: &T) {}
    fn can_be_sent<T: Send>(future: T) -> T {
        future
    }
    let shared: Arc<dyn AuditRepository> = open(h).await;
    can_be_shared(&shared);
    let boxed: Box<dyn AuditRepository> = Box::new(Forward(Arc::clone(&shared)));
    for store in [&*boxed, &*shared] {
        let request = Create { events: chained(1, "c-1") };
        can_be_sent(store.create(request)).await.must("create");
    }
    assert_eq!(recorded(&*boxed).await, recorded(&*shared).await);
    assert_eq!(boxed.capabilities(), shared.capabilities());
    assert_eq!(boxed.count(AuditFilter::default()).await.must("count"), 2);
    assert_eq!(boxed.verify(verify()).await.ok(), shared.verify(verify()).await.ok());
    assert_eq!(boxed.retain(retain()).await.ok(), shared.retain(retain()).await.ok());
    boxed.ready().await.must("ready");
    let moved = Arc::clone(&shared);
    let task = tokio::spawn(async move { can_be_sent(recorded(&*moved)).await.len() });
    assert_eq!(task.await.must("a task"), 2);
    boxed.close().await.must("close");
    refused(shared.ready().await, ErrorKind::Unavailable);
}

/// Stored records cannot be changed or deleted by SQL, by no role that the store's users have. (A3, X-AUD-029, X-EDGE-118)
pub async fn stored_records_cannot_be_changed(h: &dyn AnyHarness) {
    let store = open(h).await;
    create(&*store, &[full(1)]).await;
    // What retention leaves of a chain must stay as well.
    let expired =
        NewAuditEvent { event_timestamp: at("2020-01-01T00:00:00Z"), ..chained(1, "c-1").remove(0) };
    create(&*store, &[expired]).await;
    create(&*store, &chained(2, "c-1")).await;
    if store.capabilities().retention.is_yes() {
        let rules = vec![Keep { category: text("gateway"), days: 365 }];
        let request = Retain { rules, now: at("2021-06-01T00:00:00Z"), dry_run: false, limit: limit(10) };
        assert_eq!(store.retain(request).await.must("retain").removed[0].1, 1);
    }
    let before = look(h, &*store).await;
    if let Some(let_through) = or_note("change stored records by SQL", h.faults().change_audit().await) {
        assert_eq!(let_through, Vec::<String>::new());
    }
    assert_eq!(look(h, &*store).await, before);
}

/// A stored value that breaks the contract is Corrupt and named by table, key and column, and its content is not shown. (A75, X14)
pub async fn broken_value_is_corrupt_and_named(h: &dyn AnyHarness) {
    let table: [(&'static str, &[u8]); 5] = [
        ("event_data", b"{\"hidden\": "),
        ("event_type", b"hidden\xc3("),
        ("event_outcome", b"hidden"),
        ("event_timestamp", b"hidden"),
        ("parent_event_id", b"hidden"),
    ];
    for (column, value) in table {
        let store = open(h).await;
        let batch = chained(2, "c-1");
        create(&*store, &batch).await;
        let key = batch[1].event_id.to_string();
        let row = RawRow { table: "audit_events", key: key.clone(), column, value: value.to_vec() };
        if or_note("break a stored value", h.faults().plant(row).await).is_none() {
            return assert_eq!(ids(&recorded(&*store).await), new_ids(&batch));
        }
        let error = refused(store.get(batch[1].event_id).await, ErrorKind::Corrupt);
        let Some(Detail::Row { table, key: named, column: of }) = error.detail() else {
            panic!("the row is not named: {error}");
        };
        assert_eq!((table.as_str(), of.as_str()), ("audit_events", column), "{error}");
        assert!(named.contains(&key), "{named} is not {key}");
        assert!(!error.to_string().contains("hidden"), "{error}");
        assert_eq!(get(&*store, batch[0].event_id).await.must("the event").event, batch[0]);
    }
}
