//! Opening, closing, opening again, and a schema that is missing or too new.

use std::sync::Arc;

use changeover_core::events::{Append, Expected, HeadOf, ReadAll, ReadStream, Subscribe, Track};
use changeover_core::{ConsumerName, ErrorKind, EventStore, OpenBackend, TenantId};

use crate::harness::AnyHarness;
use crate::support::{
    Must, append, events, head, ids, in_time, log_head, open, or_note, read, read_log, refused, stream,
    version,
};

/// Every operation of the store is refused as this kind.
async fn all_refused(store: &dyn EventStore, kind: ErrorKind) {
    refused(store.append(Append::one(stream(), Expected::Any, events(1))).await, kind);
    refused(store.read_stream(ReadStream::all(stream())).await, kind);
    refused(store.read_all(ReadAll::default()).await, kind);
    refused(store.head(HeadOf::Log).await, kind);
    refused(store.head(HeadOf::Stream(stream())).await, kind);
    refused(store.tracked(ConsumerName::new("mail").must("a consumer")).await, kind);
    refused(store.subscribe(Subscribe::default()).await, kind);
    refused(store.ready().await, kind);
}

/// After close every operation is Unavailable; closing twice is fine; other handles live on until the backend closes.
/// (E117)
pub async fn closed_store_is_unavailable(h: &dyn AnyHarness) {
    let backend = h.client().await;
    let store = backend.events(&h.scope(), &h.tenant()).await.must("open the store");
    let other = open(h).await;
    append(&*store, &stream(), Expected::NoStream, events(1)).await;
    store.close().await.must("close");
    store.close().await.must("close twice");
    in_time("operations on a closed store", all_refused(&*store, ErrorKind::Unavailable)).await;
    append(&*other, &stream(), Expected::NoStream, events(1)).await;
    backend.close().await;
    backend.close().await;
    if let Ok(late) = backend.events(&h.scope(), &h.tenant()).await {
        in_time("operations on a closed backend", all_refused(&*late, ErrorKind::Unavailable)).await;
    }
    assert_eq!(read_log(&*other).await.0.len(), 2, "another client's view");
}

/// Opened again, a store shows the same events, heads, checkpoints and progress, and goes on where it was. (E118, E60)
pub async fn reopened_store_goes_on_where_it_was(h: &dyn AnyHarness) {
    let backend = h.client().await;
    let store = backend.events(&h.scope(), &h.tenant()).await.must("open the store");
    let (stream, consumer) = (stream(), ConsumerName::new("mail").must("a consumer"));
    append(&*store, &stream, Expected::NoStream, events(3)).await;
    let (before, end) = read_log(&*store).await;
    let track = Some(Track { consumer: consumer.clone(), checkpoint: end });
    store.append(Append { streams: Vec::new(), track }).await.must("track");
    store.close().await.must("close");
    backend.close().await;
    drop((store, backend));
    let store = open(h).await;
    assert_eq!(read_log(&*store).await, (before, end));
    assert_eq!(log_head(&*store).await, end);
    assert_eq!(store.tracked(consumer).await.must("progress"), Some(end));
    let more = append(&*store, &stream, Expected::Exactly(version(3)), events(1)).await;
    assert_eq!(more.streams[0].first.get(), 4);
    assert!(more.checkpoint > end, "positions go on");
}

/// Two processes on one database behave as two clients. (E120, X-EDGE-085)
pub async fn two_processes_behave_as_two_clients(h: &dyn AnyHarness) {
    let (store, second) = (open(h).await, open(h).await);
    let (stream, door) = (stream(), h.faults());
    let mut expected = Vec::new();
    let mut away = true;
    for number in 0..3 {
        for here in [true, false] {
            let at = head(&*store, &stream).await.version;
            let request = Append::one(stream.clone(), Expected::loaded(at), events(2));
            expected.extend(request.streams[0].events.iter().map(|event| event.id));
            let there = if here || !away {
                None
            } else {
                or_note("another process", door.append_in_another_process(request.clone()).await)
            };
            away &= here || there.is_some();
            match there {
                Some(answer) => answer.must("append in another process"),
                None if here => drop(store.append(request).await.must("append here")),
                None => drop(second.append(request).await.must("append by a second client")),
            }
        }
        assert_eq!(read(&*store, &stream).await.len(), (number + 1) * 4);
    }
    assert_eq!(ids(&read_log(&*store).await.0), expected);
    let stale = Append::one(stream, Expected::NoStream, events(1));
    if let Ok(answer) = door.append_in_another_process(stale.clone()).await {
        assert_eq!(answer, Err(ErrorKind::VersionConflict));
    }
    refused(second.append(stale).await, ErrorKind::VersionConflict);
}

/// On a database without the schema everything is `SchemaMismatch`, `ready` too. (E121)
pub async fn store_without_schema_is_a_schema_mismatch(h: &dyn AnyHarness) {
    let Some(backend) = or_note("a database without the schema", h.faults().unmigrated_client().await) else {
        return open(h).await.ready().await.map(drop).must("a migrated store is ready");
    };
    let store = backend.events(&h.scope(), &h.tenant()).await.must("open the store");
    all_refused(&*store, ErrorKind::SchemaMismatch).await;
}

/// A schema newer than the program is refused as `SchemaMismatch`, when the store is opened or by each of its operations.
/// (E122, X-EDGE-090)
pub async fn newer_schema_is_refused(h: &dyn AnyHarness) {
    append(&*open(h).await, &stream(), Expected::NoStream, events(1)).await;
    if or_note("a newer schema", h.faults().make_schema_newer().await).is_none() {
        return;
    }
    match h.client().await.events(&h.scope(), &h.tenant()).await {
        Ok(store) => all_refused(&*store, ErrorKind::SchemaMismatch).await,
        Err(error) => assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}"),
    }
}

/// What is declared works; what is not declared is Unsupported and changes nothing. (E123)
pub async fn what_is_not_declared_refuses(h: &dyn AnyHarness) {
    let backend = h.client().await;
    let store = open(h).await;
    append(&*store, &stream(), Expected::NoStream, events(1)).await;
    let before = (read_log(&*store).await, log_head(&*store).await);
    let stranger = TenantId::new("stranger").must("a tenant");
    match backend.events(&h.scope(), &stranger).await {
        Ok(other) => {
            assert!(store.capabilities().tenants.is_yes(), "another tenant is served, but not declared");
            append(&*other, &stream(), Expected::NoStream, events(1)).await;
            assert_eq!(read_log(&*other).await.0.len(), 1);
        }
        Err(error) => {
            assert!(!store.capabilities().tenants.is_yes(), "tenants are declared, but: {error}");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    }
    let others = [
        backend.audit(&h.scope(), &h.tenant()).await.err(),
        backend.playbooks(&h.scope(), &h.tenant()).await.err(),
        backend.migrations(&h.scope(), changeover_core::backend::Family::Events).err(),
    ];
    for error in others.into_iter().flatten() {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(!error.message().is_empty(), "a refusal without a reason");
    }
    assert_eq!((read_log(&*store).await, log_head(&*store).await), before);
}

/// A store may be shared and sent between tasks, and works behind any pointer. (E126)
pub async fn store_works_behind_any_pointer(h: &dyn AnyHarness) {
    fn can_be_shared<T: Send + Sync + 'static + ?Sized>(_: &T) {}
    fn can_be_sent<T: Send>(future: T) -> T {
        future
    }
    let shared: Arc<dyn EventStore> = open(h).await;
    can_be_shared(&shared);
    can_be_shared::<dyn OpenBackend>(&*h.client().await);
    let boxed: Box<dyn EventStore> = Box::new(crate::forward::Forward(Arc::clone(&shared)));
    let borrowed: &dyn EventStore = &*shared;
    for store in [&*boxed, borrowed] {
        can_be_sent(store.append(Append::one(stream(), Expected::NoStream, events(1)))).await.must("append");
    }
    let moved = tokio::spawn(async move { can_be_sent(read_log(&*shared)).await.0.len() });
    assert_eq!(moved.await.must("a task"), 2);
}
