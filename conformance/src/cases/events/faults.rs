//! A database that is silent, locked, read-only or full: an error of the right kind in time, and nothing half done.

use std::time::Duration;

use changeover_core::events::{Append, Expected, NewEvent};
use changeover_core::{Applied, Error, ErrorKind, EventStore, Json};

use crate::harness::{AnyHarness, OpenOptions};
use crate::support::{Must, append, events, in_time, look, open, or_note, read, refused, stream};

/// What a case asks for where the fault cannot be caused, and after every fault: the store reads and writes.
async fn works(store: &dyn EventStore) {
    let stream = stream();
    in_time("an append", append(store, &stream, Expected::NoStream, events(2))).await;
    assert_eq!(in_time("a read", read(store, &stream)).await.len(), 2);
    in_time("the readiness", store.ready()).await.must("ready");
}

fn assert_kind(error: &Error, allowed: &[ErrorKind]) {
    assert!(allowed.contains(&error.kind()), "one of {allowed:?} is right, but the error was: {error}");
}

/// A database that answers nothing ends every operation, `ready` too, by its time limit. (E110)
pub async fn silent_database_ends_operations_in_time(h: &dyn AnyHarness) {
    let limit = Some(Duration::from_millis(500));
    let options = OpenOptions { acquire_timeout: limit, operation_timeout: limit, ..OpenOptions::default() };
    let Some(backend) = or_note("a client that can be frozen", h.faults().fragile_client(options).await)
    else {
        return works(&*open(h).await).await;
    };
    let store = backend.events(&h.scope(), &h.tenant()).await.must("open the store");
    works(&*store).await;
    if or_note("a silent database", h.faults().freeze().await).is_none() {
        return;
    }
    let request = Append::one(stream(), Expected::NoStream, events(2));
    let write = in_time("an append to a silent database", store.append(request.clone())).await;
    let read = in_time(
        "a read of a silent database",
        store.tracked(changeover_core::ConsumerName::new("mail").must("a consumer")),
    )
    .await;
    let ready = in_time("the readiness of a silent database", store.ready()).await;
    h.faults().thaw().await.must("thaw");
    let silent = [ErrorKind::Timeout, ErrorKind::Unavailable];
    let error = write.err().must("a silent database stores nothing that it could confirm");
    assert_kind(&error, &silent);
    assert!(error.was_applied().is_some(), "the error does not say whether it was applied: {error}");
    assert_kind(&read.err().must("a silent database reads nothing"), &silent);
    assert_kind(&ready.err().must("a silent database is not ready"), &silent);
    in_time("the same append after the silence", store.append(request)).await.must("the same append again");
    works(&*store).await;
}

/// Sessions that the server ends cost at most a transient error; the next call works. (E111, S3-EDGE-043, X-EDGE-102)
pub async fn ended_sessions_cost_a_transient_error_at_most(h: &dyn AnyHarness) {
    let store = open(h).await;
    works(&*store).await;
    for _ in 0..3 {
        or_note("ended sessions", h.faults().kill_sessions().await);
        let request = Append::one(stream(), Expected::NoStream, events(2));
        // As many connections as the pool may have kept can be dead.
        let mut tries = 0;
        while let Err(error) = in_time("an append", store.append(request.clone())).await {
            assert!(error.kind().is_transient() && tries < 20, "after {tries} tries: {error}");
            tries += 1;
        }
        assert_eq!(read(&*open(h).await, &request.streams[0].stream).await.len(), 2);
    }
}

/// A lock that another program keeps ends an append with Contention or Timeout in time, with nothing stored; once it is
/// let go, the same append succeeds. (E114, X-EDGE-083)
pub async fn foreign_lock_ends_an_append_in_time(h: &dyn AnyHarness) {
    let limit = Some(Duration::from_millis(300));
    let options = OpenOptions { operation_timeout: limit, ..OpenOptions::default() };
    let backend = match or_note("a short time limit", h.faults().client_with(options).await) {
        Some(backend) => backend,
        None => h.client().await,
    };
    let store = backend.events(&h.scope(), &h.tenant()).await.must("open the store");
    let Some(held) = or_note("a lock of another program", h.faults().hold_write_lock().await) else {
        return works(&*store).await;
    };
    let request = Append::one(stream(), Expected::NoStream, events(2));
    let write = in_time("an append against a lock", store.append(request.clone())).await;
    held.roll_back().await;
    let error = write.err().must("an append against a lock must be refused");
    assert_kind(&error, &[ErrorKind::Contention, ErrorKind::Timeout]);
    assert_eq!(error.was_applied(), Some(Applied::No), "{error}");
    assert_eq!(read(&*store, &request.streams[0].stream).await, []);
    let answer = in_time("the same append", store.append(request)).await.must("the same append");
    assert!(!answer.repeated);
    works(&*store).await;
}

/// A read-only database refuses appends as `ReadOnly`, stores nothing and goes on reading. (E115, S3-EDGE-045, X-EDGE-084)
pub async fn read_only_database_refuses_appends(h: &dyn AnyHarness) {
    let writer = open(h).await;
    works(&*writer).await;
    if or_note("a read-only database", h.faults().set_read_only(true).await).is_none() {
        return;
    }
    let store = open(h).await;
    let before = look(h, &*store).await;
    let answer = store.append(Append::one(stream(), Expected::NoStream, events(2))).await;
    assert_eq!(look(h, &*store).await, before);
    h.faults().set_read_only(false).await.must("make it writable again");
    let error = refused(answer, ErrorKind::ReadOnly);
    assert_eq!(error.was_applied(), Some(Applied::No));
    works(&*open(h).await).await;
}

/// A database without room refuses an append as Unavailable, keeps no part of it, and takes it once there is room. (E116)
pub async fn full_database_keeps_no_part_of_an_append(h: &dyn AnyHarness) {
    let store = open(h).await;
    works(&*store).await;
    if or_note("a full database", h.faults().set_disk_full(true).await).is_none() {
        return;
    }
    let large = Json::of(&"x".repeat(1024 * 1024)).must("JSON");
    let new = (0..8).map(|_| NewEvent::new("Large", large.clone()).must("an event")).collect();
    let request = Append::one(stream(), Expected::NoStream, new);
    let before = look(h, &*store).await;
    let answer = store.append(request.clone()).await;
    let after = look(h, &*store).await;
    h.faults().set_disk_full(false).await.must("make room");
    let error = refused(answer, ErrorKind::Unavailable);
    assert_eq!(error.was_applied(), Some(Applied::No), "{error}");
    assert_eq!(after, before);
    assert_eq!(store.append(request).await.must("the same append").streams[0].last.get(), 8);
    works(&*store).await;
}
