//! Callers that go away, wait in vain, or use one store twice at once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use changeover_core::events::{Append, Expected, HeadOf, ReadAll, ReadStream, Version};
use changeover_core::{Applied, ErrorKind, EventStore, OpenBackend};
use futures::FutureExt;
use futures::future::{join_all, join3};

use crate::harness::{AnyHarness, OpenOptions};
use crate::support::{
    Must, append, dropped_after, events, head, ids, in_time, new_ids, open, or_note, read, read_log, stream,
};

/// A store on a pool of one connection, where the harness can open one, else on the usual one.
async fn narrow(h: &dyn AnyHarness, acquire_timeout: Option<Duration>) -> Arc<dyn EventStore> {
    // What holds the connection ends before the patience of those who wait for it.
    let operation_timeout = acquire_timeout.map(|time| time / 2);
    let options = OpenOptions { pool_size: Some(1), acquire_timeout, operation_timeout };
    let backend = match or_note("a pool of one connection", h.faults().client_with(options).await) {
        Some(backend) => backend,
        None => h.client().await,
    };
    backend.events(&h.scope(), &h.tenant()).await.must("open the store")
}

/// Drops an append at every point it waits at, and asks each time that it is stored whole or not at all.
async fn drop_appends(store: &dyn EventStore) {
    for times in 1..=20 {
        let request = Append::one(stream(), Expected::NoStream, events(3));
        let (stream, expected) = (request.streams[0].stream.clone(), new_ids(&request.streams[0].events));
        let done = dropped_after(times, store.append(request.clone())).await;
        let found = in_time("a read after a dropped append", read(store, &stream)).await;
        assert!(found.is_empty() || ids(&found) == expected, "{} of 3 events stored", found.len());
        // The dropped append may still be under way; the ids make the repetition harmless.
        in_time("the same append again", store.append(request)).await.must("the same append again");
        assert_eq!(ids(&read(store, &stream).await), expected);
        if done.is_some() {
            return;
        }
    }
}

/// An append dropped at any point is stored whole or not at all, and the store stays usable. (E100, S3-EDGE-047)
pub async fn dropped_append_is_stored_whole_or_not_at_all(h: &dyn AnyHarness) {
    let store = open(h).await;
    drop_appends(&*store).await;
    let (log, _) = read_log(&*store).await;
    assert_eq!(log.len() % 3, 0, "a part of an append was stored");
}

/// On a pool of one connection the operation after a dropped append finds a clean connection. (E101)
pub async fn dropped_append_leaves_a_clean_connection(h: &dyn AnyHarness) {
    let store = narrow(h, None).await;
    drop_appends(&*store).await;
    for _ in 0..3 {
        in_time("an append", append(&*store, &stream(), Expected::NoStream, events(1))).await;
    }
}

/// Callers that give up waiting for a connection take none with them. (E102)
pub async fn giving_up_on_a_connection_leaks_none(h: &dyn AnyHarness) {
    let store = narrow(h, None).await;
    append(&*store, &stream(), Expected::NoStream, events(1)).await;
    for _ in 0..20 {
        join_all((0..50).map(|_| dropped_after(1, store.head(HeadOf::Log)))).await;
    }
    in_time("a read", read_log(&*store)).await;
    in_time("an append", append(&*store, &stream(), Expected::NoStream, events(1))).await;
}

/// A read dropped at any point leaves the connection usable and changes no later answer. (E103)
pub async fn dropped_read_changes_no_later_answer(h: &dyn AnyHarness) {
    let store = narrow(h, None).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(300)).await;
    let expected = read(&*store, &stream).await;
    for times in 1..=10 {
        dropped_after(times, store.read_stream(ReadStream::all(stream.clone()))).await;
        dropped_after(times, store.read_all(ReadAll::default())).await;
        assert_eq!(in_time("a read after dropped reads", read(&*store, &stream)).await, expected);
    }
    assert_eq!(read_log(&*store).await.0, expected);
}

/// A caller that panics while its operations run takes no connection with it. (E104)
pub async fn panic_of_a_caller_leaves_the_store_usable(h: &dyn AnyHarness) {
    let store = narrow(h, None).await;
    for _ in 0..5 {
        let caller = Arc::clone(&store);
        // Unwinds without the message on standard error that a `panic!` would print.
        let task = tokio::spawn(async move {
            let write = caller.append(Append::one(stream(), Expected::NoStream, events(2)));
            let both = async { futures::join!(write, async { std::panic::resume_unwind(Box::new("gone")) }) };
            drop(both.await);
        });
        assert!(task.await.must_err("the caller's panic").is_panic());
    }
    let (log, _) = in_time("a read", read_log(&*store)).await;
    assert_eq!(log.len() % 2, 0, "a part of an append was stored");
    in_time("an append", append(&*store, &stream(), Expected::NoStream, events(1))).await;
}

trait MustErr<E> {
    fn must_err(self, what: &str) -> E;
}

impl<T, E> MustErr<E> for Result<T, E> {
    fn must_err(self, what: &str) -> E {
        self.err().must(what)
    }
}

/// A runtime that ends with operations in flight ends promptly; a current-thread runtime serves, or opening on it is
/// refused as Config. (E105)
pub async fn end_of_a_runtime_hangs_nothing(h: &dyn AnyHarness) {
    let store = open(h).await;
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let threads = [scope.spawn(|| on_a_runtime_that_ends(h)), scope.spawn(|| on_a_current_thread(h))];
            for thread in threads {
                if let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
    });
    drop(runtime);
    let (log, _) = in_time("a read on the runtime that lives", read_log(&*store)).await;
    assert_eq!(log.len() % 2, 0, "a part of an append was stored");
    in_time("an append", append(&*store, &stream(), Expected::NoStream, events(2))).await;
}

fn on_a_runtime_that_ends(h: &dyn AnyHarness) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.must("a runtime");
    let store = runtime.block_on(open(h));
    for _ in 0..5 {
        let store = Arc::clone(&store);
        runtime.spawn(async move { store.append(Append::one(stream(), Expected::Any, events(2))).await });
    }
    let began = std::time::Instant::now();
    runtime.shutdown_timeout(Duration::from_secs(20));
    assert!(began.elapsed() < Duration::from_secs(10), "the runtime hung for {:?}", began.elapsed());
}

fn on_a_current_thread(h: &dyn AnyHarness) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().must("a runtime");
    runtime.block_on(async {
        let Ok(opened) = h.faults().try_client().await else { return };
        match opened {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Config, "{error}"),
            Ok(backend) => serves_one_thread(h, &*backend).await,
        }
    });
}

async fn serves_one_thread(h: &dyn AnyHarness, backend: &dyn OpenBackend) {
    let store = backend.events(&h.scope(), &h.tenant()).await.must("open the store");
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(2)).await;
    assert_eq!(read(&*store, &stream).await.len(), 2);
}

/// Operations that one task has under way at once do not wait for each other for ever on one connection. (E106)
pub async fn operations_of_one_task_do_not_deadlock(h: &dyn AnyHarness) {
    let store = narrow(h, None).await;
    for _ in 0..5 {
        let all = join3(
            store.append(Append::one(stream(), Expected::NoStream, events(1))),
            store.read_all(ReadAll::default()),
            store.head(HeadOf::Log),
        );
        let (appended, page, end) = in_time("three operations of one task", all).await;
        appended.must("the append");
        page.must("the read");
        end.must("the head");
    }
}

/// Where no connection comes free, callers get a transient error in time, and what was refused is not stored; when one
/// is free again all is well. (E107, S3-EDGE-044)
pub async fn exhausted_pool_refuses_in_time_and_recovers(h: &dyn AnyHarness) {
    let store = narrow(h, Some(Duration::from_secs(2))).await;
    let held = or_note("a lock that keeps writers waiting", h.faults().hold_write_lock().await);
    let requests: Vec<_> = (0..8).map(|_| Append::one(stream(), Expected::NoStream, events(2))).collect();
    let writes = join_all(requests.iter().map(|request| store.append(request.clone())));
    let answers = AssertUnwindSafe(in_time("appends without a free connection", writes)).catch_unwind().await;
    let was_held = held.is_some();
    if let Some(held) = held {
        held.roll_back().await;
    }
    let answers = answers.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    for (request, answer) in requests.iter().zip(answers) {
        let stored = head(&*store, &request.streams[0].stream).await.version.map(Version::get);
        match answer {
            Ok(_) => assert_eq!(stored, Some(2)),
            Err(error) => {
                assert!(was_held && error.kind().is_transient(), "{error}");
                let unknown = error.was_applied().must("whether it was applied") == Applied::Unknown;
                assert!(stored.is_none() || unknown && stored == Some(2), "{stored:?} after: {error}");
            }
        }
    }
    in_time("an append", append(&*store, &stream(), Expected::NoStream, events(1))).await;
}
