//! The promise of `read_all` while writers are at work: nothing ever appears at or before a checkpoint it returned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use changeover_core::events::{Append, EventFilter, Expected, NewEvent, ReadAll, RecordedEvent};
use changeover_core::{Checkpoint, ErrorKind, EventStore, Result, Uuid};
use futures::future::join_all;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{sleep, timeout};

use crate::harness::{AnyHarness, Held};
use crate::support::{
    Must, append, events, ids, limit, log_head, new_ids, open, or_note, read_log, read_on, refused, stream,
};

/// How long a writer may be held up by another one that has ended meanwhile.
const BOUND: Duration = Duration::from_secs(10);

/// A reader that goes on from checkpoint to checkpoint and remembers all it was shown.
#[derive(Default)]
struct Tail {
    after: Option<Checkpoint>,
    seen: Vec<RecordedEvent>,
}

impl Tail {
    async fn catch_up(&mut self, store: &dyn EventStore) {
        let (new, reached) = read_on(store, self.after, EventFilter::default()).await;
        self.seen.extend(new);
        assert!(self.after.is_none_or(|before| before <= reached), "the checkpoint went back");
        self.after = Some(reached);
    }

    async fn must_have_seen_the_log(mut self, store: &dyn EventStore) {
        self.catch_up(store).await;
        let (log, _) = read_log(store).await;
        assert_eq!(ids(&self.seen), ids(&log), "what the reader was shown is the log");
    }
}

type Writing = JoinHandle<Result<changeover_core::events::Appended>>;

/// Appends in the background, since the writer may have to wait for another one.
fn write(store: &Arc<dyn EventStore>, batch: Vec<NewEvent>) -> Writing {
    let store = Arc::clone(store);
    tokio::spawn(async move { store.append(Append::one(stream(), Expected::NoStream, batch)).await })
}

async fn finish(writing: Writing) {
    timeout(BOUND, writing).await.must("a writer within the bound").must("a writer").must("an append");
}

async fn hold(h: &dyn AnyHarness, batch: Vec<NewEvent>) -> Option<Box<dyn Held>> {
    let request = Append::one(stream(), Expected::NoStream, batch);
    or_note("hold an append open", h.faults().hold_append(request).await)
}

/// Two large batches at once are each seen whole and next to each other, never mixed. (E53)
pub async fn concurrent_batches_do_not_mix(h: &dyn AnyHarness) {
    const BATCH: usize = 300;
    let (store, reader) = (open(h).await, open(h).await);
    let batches = [events(BATCH), events(BATCH), events(BATCH)];
    let writing: Vec<_> = batches.iter().map(|batch| write(&store, batch.clone())).collect();
    loop {
        let over = writing.iter().all(JoinHandle::is_finished);
        let page =
            reader.read_all(ReadAll { limit: limit(10_000), ..ReadAll::default() }).await.must("a page");
        let seen = ids(&page.events);
        assert_eq!(seen.len() % BATCH, 0, "a part of a batch is seen");
        for chunk in seen.chunks(BATCH) {
            assert!(batches.iter().any(|batch| new_ids(batch) == chunk), "batches are mixed in the log");
        }
        if over {
            break assert_eq!(seen.len(), 3 * BATCH);
        }
        yield_now().await;
    }
    for task in writing {
        finish(task).await;
    }
}

/// A writer that commits late is never skipped by a reader that has already read what came after it. (E54, X-ES-021, X-EDGE-081)
pub async fn reader_never_skips_a_late_commit(h: &dyn AnyHarness) {
    let (store, reader) = (open(h).await, open(h).await);
    append(&*store, &stream(), Expected::NoStream, events(1)).await;
    let mut tail = Tail::default();
    let late = events(2);
    let held = hold(h, late.clone()).await;
    let other = write(&store, events(2));
    for _ in 0..5 {
        tail.catch_up(&*reader).await;
        assert!(!ids(&tail.seen).contains(&late[0].id), "what is not committed is not shown");
        sleep(Duration::from_millis(40)).await;
    }
    match held {
        Some(held) => held.commit().await,
        None => finish(write(&store, late.clone())).await,
    }
    finish(other).await;
    tail.catch_up(&*reader).await;
    assert!(ids(&tail.seen).contains(&late[0].id), "the late commit was skipped");
    assert_eq!(tail.seen.len(), 5);
    tail.must_have_seen_the_log(&*reader).await;
}

/// A writer that rolls back late leaves no phantom and stalls no reader. (E55)
pub async fn late_roll_back_stalls_no_reader(h: &dyn AnyHarness) {
    let (store, reader) = (open(h).await, open(h).await);
    let mut tail = Tail::default();
    let never = events(2);
    let held = hold(h, never.clone()).await;
    let batch = events(2);
    let other = write(&store, batch.clone());
    for _ in 0..3 {
        tail.catch_up(&*reader).await;
        sleep(Duration::from_millis(40)).await;
    }
    if let Some(held) = held {
        held.roll_back().await;
    } else {
        let refused_batch = Append::one(stream(), Expected::Exists, never);
        refused(store.append(refused_batch).await, ErrorKind::VersionConflict);
    }
    finish(other).await;
    tail.catch_up(&*reader).await;
    assert_eq!(ids(&tail.seen), new_ids(&batch), "exactly what was committed");
    tail.must_have_seen_the_log(&*reader).await;
}

/// While writers overlap, readers that look at the same moments go forward and see the same. (E56)
pub async fn readers_make_progress_while_writers_overlap(h: &dyn AnyHarness) {
    let store = open(h).await;
    let readers = [open(h).await, open(h).await];
    let mut tails = [Tail::default(), Tail::default()];
    for round in 0..3 {
        let late = events(2);
        let held = hold(h, late.clone()).await;
        let overlapping = [write(&store, events(3)), write(&store, events(3))];
        for (tail, reader) in tails.iter_mut().zip(&readers) {
            tail.catch_up(&**reader).await;
        }
        match held {
            Some(held) if round == 1 => held.roll_back().await,
            Some(held) => held.commit().await,
            None => finish(write(&store, late)).await,
        }
        for task in overlapping {
            finish(task).await;
        }
        for (tail, reader) in tails.iter_mut().zip(&readers) {
            tail.catch_up(&**reader).await;
        }
        assert_eq!(tails[0].after, Some(log_head(&*store).await), "round {round}");
    }
    assert_eq!(ids(&tails[0].seen), ids(&tails[1].seen));
    let [first, second] = tails;
    first.must_have_seen_the_log(&*store).await;
    second.must_have_seen_the_log(&*store).await;
}

/// Ten writers and four readers at once: every reader sees every event once, in one common order. (E57, X-ES-021)
pub async fn every_reader_sees_every_event_once_in_one_order(h: &dyn AnyHarness) {
    let (writer, reader) = (open(h).await, open(h).await);
    let done = Arc::new(AtomicBool::new(false));
    let tails: Vec<_> = (0..4)
        .map(|_| {
            let (reader, done) = (reader.clone(), done.clone());
            tokio::spawn(async move {
                let mut tail = Tail::default();
                loop {
                    let over = done.load(Ordering::SeqCst);
                    tail.catch_up(&*reader).await;
                    if over {
                        return tail;
                    }
                    sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    let writers = (0..10).map(|_| {
        let writer = writer.clone();
        tokio::spawn(async move {
            let stream = stream();
            for _ in 0..100 {
                append(&*writer, &stream, Expected::Any, events(1)).await;
            }
        })
    });
    for task in join_all(writers).await {
        task.must("a writer");
    }
    done.store(true, Ordering::SeqCst);
    for tail in tails {
        let tail = tail.await.must("a reader");
        assert_eq!(tail.seen.len(), 1000);
        tail.must_have_seen_the_log(&*reader).await;
    }
}

/// The head of the log never goes backwards, whichever client is asked. (E58)
pub async fn head_never_goes_backwards(h: &dyn AnyHarness) {
    let clients = [open(h).await, open(h).await];
    let writing = [write(&clients[0], events(50)), write(&clients[1], events(50))];
    let more = tokio::spawn({
        let store = clients[0].clone();
        async move {
            for _ in 0..30 {
                append(&*store, &stream(), Expected::NoStream, events(1)).await;
            }
        }
    });
    let mut last = log_head(&*clients[0]).await;
    while !more.is_finished() {
        for client in &clients {
            let head = log_head(&**client).await;
            assert!(head >= last, "{head} after {last}");
            last = head;
        }
        yield_now().await;
    }
    more.await.must("a writer");
    for task in writing {
        finish(task).await;
    }
    assert_eq!(log_head(&*clients[0]).await, log_head(&*clients[1]).await);
}

/// Positions that refused or rolled-back appends used are no events and hold nobody up. (E63)
pub async fn holes_are_no_events(h: &dyn AnyHarness) {
    let store = open(h).await;
    let taken = events(1);
    append(&*store, &stream(), Expected::NoStream, taken.clone()).await;
    let mut expected: Vec<Uuid> = new_ids(&taken);
    for _ in 0..4 {
        let mut bad = events(3);
        bad[2].id = taken[0].id;
        refused(store.append(Append::one(stream(), Expected::Any, bad)).await, ErrorKind::AlreadyExists);
        if let Ok(held) = h.faults().hold_append(Append::one(stream(), Expected::Any, events(2))).await {
            held.roll_back().await;
        }
        let good = events(2);
        expected.extend(new_ids(&good));
        append(&*store, &stream(), Expected::NoStream, good).await;
    }
    let (log, reached) = read_log(&*store).await;
    assert_eq!(ids(&log), expected);
    assert_eq!(reached, log_head(&*store).await);
    let mut after = None;
    for index in 0..expected.len() {
        let page =
            store.read_all(ReadAll { after, limit: limit(1), ..ReadAll::default() }).await.must("a page");
        assert_eq!(ids(&page.events), expected[index..=index], "a page of one is not held up by a hole");
        after = Some(page.checkpoint);
    }
}

/// A long transaction that has nothing to do with the store hides no committed event. (E66)
pub async fn unrelated_transaction_hides_nothing(h: &dyn AnyHarness) {
    let (store, reader) = (open(h).await, open(h).await);
    let held = or_note("hold an unrelated transaction open", h.faults().hold_unrelated_transaction().await);
    let batch = events(2);
    let writing = write(&store, batch.clone());
    let answer =
        timeout(Duration::from_secs(20), writing).await.must("the append ends by itself").must("a writer");
    match answer {
        Ok(appended) => {
            let (log, reached) = read_log(&*reader).await;
            assert_eq!(
                (ids(&log), reached),
                (new_ids(&batch), appended.checkpoint),
                "while it is still open"
            );
        }
        // Where the database has one writer, the append is refused and says so; it is never half there.
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Contention | ErrorKind::Timeout), "{error}");
            assert!(read_log(&*reader).await.0.is_empty());
        }
    }
    reader.ready().await.must("ready while it is open");
    if let Some(held) = held {
        held.roll_back().await;
    }
    let again = append(&*store, &stream(), Expected::NoStream, events(1)).await;
    assert_eq!(read_log(&*reader).await.1, again.checkpoint);
}
