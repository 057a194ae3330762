//! Callers that go away, lost connections, and a database that is silent, locked or read-only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use changeover_core::audit::{AuditFilter, AuditOrder, Create, Created, NewAuditEvent, VerifyChain};
use changeover_core::{Applied, AuditRepository, Error, ErrorKind};
use futures::future::join_all;

use crate::harness::{AnyHarness, OpenOptions};
use crate::support::audit::{
    chained, create, event, get, ids, look, new_ids, open, open_on, query, recorded, text,
};
use crate::support::{Must, dropped_after, in_time, or_note, refused};

/// The repository records and reads.
async fn works(store: &dyn AuditRepository) {
    let batch = chained(2, "works");
    in_time("a create", create(store, &batch)).await;
    assert_eq!(in_time("a read", get(store, batch[1].event_id)).await.must("the event").event, batch[1]);
    in_time("the readiness", store.ready()).await.must("ready");
}

fn batch(events: &[NewAuditEvent]) -> Create {
    Create { events: events.to_vec() }
}

/// The ids of a correlation id, as recorded.
async fn of(store: &dyn AuditRepository, correlation: &str) -> Vec<uuid::Uuid> {
    let filter = AuditFilter { correlation_id: Some(text(correlation)), ..AuditFilter::default() };
    ids(&query(store, filter, AuditOrder::Recorded).await)
}

fn assert_kind(error: &Error, allowed: &[ErrorKind]) {
    assert!(allowed.contains(&error.kind()), "one of {allowed:?} is right, but the error was: {error}");
}

/// A repository on a pool of one connection, where the harness can open one, else on the usual one.
async fn narrow(h: &dyn AnyHarness) -> Arc<dyn AuditRepository> {
    let options = OpenOptions { pool_size: Some(1), ..OpenOptions::default() };
    match or_note("a pool of one connection", h.faults().client_with(options).await) {
        Some(backend) => open_on(h, &*backend).await,
        None => open(h).await,
    }
}

/// A create dropped at any point it waits at is stored whole or not at all, the chain holds, and the repository stays
/// usable. (A38, S3-EDGE-047)
pub async fn dropped_create_is_stored_whole_or_not_at_all(h: &dyn AnyHarness) {
    let store = narrow(h).await;
    for times in 1..=20 {
        let name = format!("dropped-{times}");
        let events = chained(3, &name);
        let done = dropped_after(times, store.create(batch(&events))).await;
        let found = in_time("a read after a dropped create", of(&*store, &name)).await;
        assert!(found.is_empty() || found == new_ids(&events), "{} of 3 events stored", found.len());
        // The dropped create may still be under way; the ids make the repetition harmless.
        in_time("the same create again", store.create(batch(&events))).await.must("the same create again");
        assert_eq!(of(&*store, &name).await, new_ids(&events));
        if store.capabilities().hash_chain.is_yes() {
            let request = VerifyChain { correlation_id: text(&name) };
            let report = store.verify(request).await.must("verify");
            assert_eq!((report.events, report.broken), (3, None));
        }
        if done.is_some() {
            break;
        }
    }
    join_all((0..50).map(|_| dropped_after(1, store.count(AuditFilter::default())))).await;
    works(&*store).await;
}

/// A create whose answer was lost says that it may have been stored; with the same ids again it is stored once.
/// (A40, S3-EDGE-043, X-EDGE-098)
pub async fn create_repeated_after_a_lost_answer_is_stored_once(h: &dyn AnyHarness) {
    let events = chained(2, "c-1");
    let store = open(h).await;
    let fragile = or_note("lose an answer", h.faults().fragile_client(OpenOptions::default()).await);
    if let Some(fragile) = fragile {
        let fragile = open_on(h, &*fragile).await;
        fragile.ready().await.must("a connection before the fault");
        if or_note("lose an answer", h.faults().cut_at_commit().await).is_some() {
            let error = match in_time("a create", fragile.create(batch(&events))).await {
                Ok(answer) => panic!("the answer was to be lost, but it was {answer:?}"),
                Err(error) => error,
            };
            assert_eq!(error.was_applied(), Some(Applied::Unknown), "{error}");
            assert!(error.may_retry(true) && !error.may_retry(false), "{error}");
        }
    }
    let stored = recorded(&*store).await.len();
    assert!(stored == 0 || stored == 2, "a part was stored");
    let answer = store.create(batch(&events)).await.must("the same create");
    assert_eq!(answer, Created { stored: 2 - stored, repeated: stored });
    assert_eq!(ids(&recorded(&*store).await), new_ids(&events));
}

/// Connections that are cut while clients record lose nothing that was answered, and nothing is stored twice. (A76, X-EDGE-102)
pub async fn cut_connections_lose_and_repeat_nothing(h: &dyn AnyHarness) {
    let store = open(h).await;
    let fragile =
        match or_note("connections that can be cut", h.faults().fragile_client(OpenOptions::default()).await)
        {
            Some(backend) => open_on(h, &*backend).await,
            None => open(h).await,
        };
    let all_cut = AtomicBool::new(false);
    let writing = async {
        let mut written = Vec::new();
        while !all_cut.load(Ordering::Relaxed) {
            let events = chained(2, "c-1");
            let mut tries = 0;
            // As many connections as the pool may have kept can be dead.
            while let Err(error) = in_time("a create", fragile.create(batch(&events))).await {
                assert!(error.may_retry(true) && tries < 20, "after {tries} tries: {error}");
                tries += 1;
            }
            written.extend(new_ids(&events));
            // A repository that never waits would let nobody cut.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        written
    };
    let cutting = async {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(15)).await;
            or_note("cut connections", h.faults().cut_connections().await);
        }
        all_cut.store(true, Ordering::Relaxed);
    };
    let (expected, ()) = futures::join!(writing, cutting);
    assert_eq!(ids(&recorded(&*store).await), expected);
    if store.capabilities().hash_chain.is_yes() {
        let report = store.verify(VerifyChain { correlation_id: text("c-1") }).await.must("verify");
        assert_eq!((report.events, report.broken), (expected.len() as u64, None));
    }
}

/// A read-only database refuses to record as `ReadOnly`, stores nothing and goes on reading. (A39, S3-EDGE-045)
pub async fn read_only_database_refuses_to_record(h: &dyn AnyHarness) {
    works(&*open(h).await).await;
    if or_note("a read-only database", h.faults().set_read_only(true).await).is_none() {
        return;
    }
    let store = open(h).await;
    let before = look(h, &*store).await;
    let answer = store.create(batch(&[event(1)])).await;
    assert_eq!(look(h, &*store).await, before);
    h.faults().set_read_only(false).await.must("make it writable again");
    let error = refused(answer, ErrorKind::ReadOnly);
    assert_eq!(error.was_applied(), Some(Applied::No));
    works(&*open(h).await).await;
}

/// A database that answers nothing ends every operation, `ready` too, by its time limit. (A77)
pub async fn silent_database_ends_operations_in_time(h: &dyn AnyHarness) {
    let limit = Some(Duration::from_millis(500));
    let options = OpenOptions { acquire_timeout: limit, operation_timeout: limit, ..OpenOptions::default() };
    let Some(backend) = or_note("a client that can be frozen", h.faults().fragile_client(options).await)
    else {
        return works(&*open(h).await).await;
    };
    let store = open_on(h, &*backend).await;
    works(&*store).await;
    if or_note("a silent database", h.faults().freeze().await).is_none() {
        return;
    }
    let events = chained(2, "c-1");
    let write = in_time("a create in a silent database", store.create(batch(&events))).await;
    let read = in_time("a read of a silent database", store.count(AuditFilter::default())).await;
    let ready = in_time("the readiness of a silent database", store.ready()).await;
    h.faults().thaw().await.must("thaw");
    let silent = [ErrorKind::Timeout, ErrorKind::Unavailable];
    let error = write.err().must("a silent database stores nothing that it could confirm");
    assert_kind(&error, &silent);
    assert!(error.was_applied().is_some(), "the error does not say whether it was applied: {error}");
    assert_kind(&read.err().must("a silent database reads nothing"), &silent);
    assert_kind(&ready.err().must("a silent database is not ready"), &silent);
    in_time("the same create after the silence", store.create(batch(&events))).await.must("the same create");
    works(&*store).await;
}

/// A lock that another program keeps ends a create with Contention or Timeout in time, with nothing stored; once it is let
/// go, the same create succeeds. (A78)
pub async fn foreign_lock_ends_a_create_in_time(h: &dyn AnyHarness) {
    let options =
        OpenOptions { operation_timeout: Some(Duration::from_millis(300)), ..OpenOptions::default() };
    let backend = match or_note("a short time limit", h.faults().client_with(options).await) {
        Some(backend) => backend,
        None => h.client().await,
    };
    let store = open_on(h, &*backend).await;
    let Some(held) = or_note("a create held open", h.faults().hold_create(batch(&[event(1)])).await) else {
        return works(&*store).await;
    };
    let events = chained(2, "c-1");
    let write = in_time("a create against a lock", store.create(batch(&events))).await;
    held.roll_back().await;
    let error = write.err().must("the lock is kept");
    assert_kind(&error, &[ErrorKind::Contention, ErrorKind::Timeout]);
    assert_eq!(error.was_applied(), Some(Applied::No), "{error}");
    assert!(recorded(&*store).await.is_empty());
    in_time("the same create", store.create(batch(&events))).await.must("the same create");
    assert_eq!(ids(&recorded(&*store).await), new_ids(&events));
    works(&*store).await;
}

/// Sessions that the server ends cost at most a transient error; the next call works. (A79, S3-EDGE-043, X-EDGE-102)
pub async fn ended_sessions_cost_a_transient_error_at_most(h: &dyn AnyHarness) {
    let store = open(h).await;
    works(&*store).await;
    for round in 0..3 {
        or_note("ended sessions", h.faults().kill_sessions().await);
        let events = chained(2, &format!("round-{round}"));
        let mut tries = 0;
        while let Err(error) = in_time("a create", store.create(batch(&events))).await {
            assert!(error.kind().is_transient() && tries < 20, "after {tries} tries: {error}");
            tries += 1;
        }
        assert_eq!(of(&*open(h).await, &format!("round-{round}")).await, new_ids(&events));
    }
}
