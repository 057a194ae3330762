//! Following the log: from what is there to what comes, without gap or repeat.

use std::sync::Arc;
use std::time::Duration;

use changeover_core::events::{EventFilter, Expected, RecordedEvent, Subscribe};
use changeover_core::{Checkpoint, Detail, ErrorKind, EventStore, EventType, Message, Subscription, Uuid};
use tokio::time::{sleep, timeout};

use crate::harness::{AnyHarness, OpenOptions};
use crate::support::{
    Must, append, event, events, ids, in_time, log_head, new_ids, open, or_note, read, read_log, stream,
};

async fn follow(store: &dyn EventStore, after: Option<Checkpoint>) -> Subscription {
    store.subscribe(Subscribe { after, ..Subscribe::default() }).await.must("subscribe")
}

async fn message(subscription: &mut Subscription) -> Message {
    let next = in_time("a message of the subscription", subscription.next()).await;
    next.must("the subscription ended").must("the subscription failed")
}

async fn next_event(subscription: &mut Subscription) -> RecordedEvent {
    loop {
        if let Message::Event(event) = message(subscription).await {
            return *event;
        }
    }
}

/// The events up to the next word that nothing newer was committed, and the checkpoint of that word.
async fn until_caught_up(subscription: &mut Subscription) -> (Vec<RecordedEvent>, Checkpoint) {
    let mut seen = Vec::new();
    loop {
        match message(subscription).await {
            Message::Event(event) => seen.push(*event),
            Message::Progress { checkpoint, caught_up: true } => return (seen, checkpoint),
            Message::Progress { .. } => {}
        }
    }
}

async fn take(subscription: &mut Subscription, count: usize) -> Vec<RecordedEvent> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.push(next_event(subscription).await);
    }
    seen
}

/// Appends `count` events to a new stream and returns their ids.
async fn add(store: &dyn EventStore, count: usize) -> Vec<Uuid> {
    let new = events(count);
    let ids = new_ids(&new);
    append(store, &stream(), Expected::NoStream, new).await;
    ids
}

/// A subscription delivers what comes after its checkpoint, then what is appended, without gap or repeat. (E68)
pub async fn subscription_goes_from_what_is_there_to_what_comes(h: &dyn AnyHarness) {
    let store = open(h).await;
    add(&*store, 2).await;
    let after = log_head(&*store).await;
    let mut expected = add(&*store, 3).await;
    let mut subscription = follow(&*store, Some(after)).await;
    let (mut seen, _) = until_caught_up(&mut subscription).await;
    for _ in 0..3 {
        expected.extend(add(&*store, 2).await);
        seen.extend(take(&mut subscription, 2).await);
    }
    assert_eq!(ids(&seen), expected);
    let (log, _) = read_log(&*store).await;
    assert_eq!(seen, log[2..], "what a subscription delivers is what read_all shows");
}

/// An append of another client is delivered soon: at once where a push is offered, else after the next poll. (E69)
pub async fn append_of_another_client_is_delivered_soon(h: &dyn AnyHarness) {
    let store = open(h).await;
    let other = open(h).await;
    let mut subscription = follow(&*store, None).await;
    until_caught_up(&mut subscription).await;
    let bound = Duration::from_secs(if store.capabilities().push.is_yes() { 3 } else { 15 });
    for _ in 0..3 {
        let added = add(&*other, 1).await;
        let next = timeout(bound, next_event(&mut subscription)).await.must("an event within the bound");
        assert_eq!(next.id, added[0]);
    }
}

/// What is appended while a subscription catches up is delivered once and in order. (E70)
pub async fn append_during_catch_up_is_delivered_once(h: &dyn AnyHarness) {
    let store = open(h).await;
    let mut expected = add(&*store, 600).await;
    let request = Subscribe { buffer: 10, ..Subscribe::default() };
    let mut subscription = store.subscribe(request).await.must("subscribe");
    let mut seen = take(&mut subscription, 5).await;
    for _ in 0..3 {
        expected.extend(add(&*store, 7).await);
        seen.extend(take(&mut subscription, 50).await);
    }
    seen.extend(take(&mut subscription, expected.len() - seen.len()).await);
    assert_eq!(ids(&seen), expected);
}

/// On an empty store a subscription stays open and delivers the first event. (E71)
pub async fn subscription_on_an_empty_store_stays_open(h: &dyn AnyHarness) {
    let store = open(h).await;
    let mut subscription = follow(&*store, None).await;
    let quiet = timeout(Duration::from_millis(200), next_event(&mut subscription)).await;
    assert!(quiet.is_err(), "an event out of nothing: {quiet:?}");
    let added = add(&*store, 1).await;
    assert_eq!(next_event(&mut subscription).await.id, added[0]);
}

/// Dropping a subscription ends it and frees what it held: many in a row leave a small pool usable. (E72)
pub async fn dropped_subscription_frees_its_connection(h: &dyn AnyHarness) {
    let options = OpenOptions { pool_size: Some(2), ..OpenOptions::default() };
    let backend = match or_note("a pool of 2", h.faults().client_with(options).await) {
        Some(backend) => backend,
        None => h.client().await,
    };
    let store = backend.events(&h.scope(), &h.tenant()).await.must("open the store");
    add(&*store, 1).await;
    for _ in 0..30 {
        let mut subscription = follow(&*store, None).await;
        next_event(&mut subscription).await;
        drop(subscription);
    }
    let added = in_time("an append after dropped subscriptions", add(&*store, 1)).await;
    assert_eq!(in_time("a read after dropped subscriptions", read_log(&*store)).await.0[1].id, added[0]);
}

/// A reader that takes nothing for its patience is cut off with Unavailable and the checkpoint to resume after; at most
/// `buffer` messages have waited for it. (E73)
pub async fn slow_reader_is_cut_off_with_a_checkpoint(h: &dyn AnyHarness) {
    let store = open(h).await;
    let expected = add(&*store, 30).await;
    let request = Subscribe { buffer: 4, patience: Duration::from_millis(100), ..Subscribe::default() };
    let mut subscription = store.subscribe(request).await.must("subscribe");
    let mut seen = vec![next_event(&mut subscription).await];
    sleep(Duration::from_millis(500)).await;
    let error = loop {
        match in_time("the end of the subscription", subscription.next()).await.must("an error at the end") {
            Ok(Message::Event(event)) => seen.push(*event),
            Ok(Message::Progress { .. }) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(seen.len() <= 5, "{} messages waited in a buffer of 4", seen.len() - 1);
    let Some(Detail::Resume { after }) = error.detail() else { panic!("no checkpoint to resume: {error}") };
    assert_eq!(Some(*after), seen.last().map(|event| event.checkpoint));
    assert!(in_time("nothing after the error", subscription.next()).await.is_none());
    let mut resumed = follow(&*store, Some(*after)).await;
    seen.extend(until_caught_up(&mut resumed).await.0);
    assert_eq!(ids(&seen), expected);
}

/// A subscription waits for a reader that is slow but within its patience, and reads nothing away meanwhile. (E74)
pub async fn subscription_waits_for_its_reader(h: &dyn AnyHarness) {
    let store = open(h).await;
    let mut expected = add(&*store, 10).await;
    let request = Subscribe { buffer: 1, patience: Duration::from_secs(5), ..Subscribe::default() };
    let mut subscription = store.subscribe(request).await.must("subscribe");
    sleep(Duration::from_millis(100)).await;
    expected.extend(add(&*store, 5).await);
    let mut seen = Vec::new();
    for _ in 0..expected.len() {
        sleep(Duration::from_millis(10)).await;
        seen.push(next_event(&mut subscription).await);
    }
    assert_eq!(ids(&seen), expected);
}

/// A connection cut under a subscription delays messages, it neither loses nor repeats one. (E75)
pub async fn cut_connection_loses_and_repeats_nothing(h: &dyn AnyHarness) {
    let fragile =
        or_note("a client that can be cut", h.faults().fragile_client(OpenOptions::default()).await);
    let backend = match fragile {
        Some(backend) => backend,
        None => h.client().await,
    };
    let store = backend.events(&h.scope(), &h.tenant()).await.must("open the store");
    let writer = open(h).await;
    let mut expected = add(&*writer, 3).await;
    let mut subscription = follow(&*store, None).await;
    let (mut seen, _) = until_caught_up(&mut subscription).await;
    for _ in 0..2 {
        or_note("a cut connection", h.faults().cut_connections().await);
        expected.extend(add(&*writer, 3).await);
        seen.extend(take(&mut subscription, 3).await);
    }
    assert_eq!(ids(&seen), expected);
}

/// A lost notification delays a message, it does not lose it. (E76)
pub async fn lost_notification_loses_nothing(h: &dyn AnyHarness) {
    let store = open(h).await;
    let writer = open(h).await;
    let mut subscription = follow(&*store, None).await;
    until_caught_up(&mut subscription).await;
    or_note("an ended listener", h.faults().kill_listeners().await);
    let expected = add(&*writer, 3).await;
    assert_eq!(ids(&take(&mut subscription, 3).await), expected);
}

/// A subscription announces only what every client can read. (E77)
pub async fn subscription_announces_only_what_can_be_read(h: &dyn AnyHarness) {
    let store = open(h).await;
    let other = open(h).await;
    let mut subscription = follow(&*store, None).await;
    until_caught_up(&mut subscription).await;
    for _ in 0..5 {
        add(&*store, 2).await;
        for _ in 0..2 {
            let event = next_event(&mut subscription).await;
            assert!(read(&*other, &event.stream).await.contains(&event), "announced, but not readable");
            assert!(log_head(&*other).await >= event.checkpoint, "announced beyond the head");
        }
    }
    let open = changeover_core::events::Append::one(stream(), Expected::NoStream, events(1));
    let id = open.streams[0].events[0].id;
    let Some(held) = or_note("an append held open", h.faults().hold_append(open).await) else { return };
    let early = timeout(Duration::from_millis(300), next_event(&mut subscription)).await;
    assert!(early.is_err(), "announced before its commit: {early:?}");
    held.commit().await;
    assert_eq!(next_event(&mut subscription).await.id, id);
}

/// Progress moves on over events that do not match. (E78)
pub async fn progress_moves_on_over_what_does_not_match(h: &dyn AnyHarness) {
    let store = open(h).await;
    let filter = EventFilter {
        event_types: Some(vec![EventType::new("Wanted").must("an event type")]),
        ..EventFilter::default()
    };
    let request = Subscribe { filter, ..Subscribe::default() };
    let mut subscription = store.subscribe(request).await.must("subscribe");
    let (before, _) = until_caught_up(&mut subscription).await;
    let other = append(&*store, &stream(), Expected::NoStream, vec![event("Unwanted", 1)]).await;
    let (unwanted, reached) = until_caught_up(&mut subscription).await;
    assert_eq!((before, unwanted), (vec![], vec![]));
    assert_eq!(reached, other.checkpoint);
    let wanted = event("Wanted", 2);
    let id = wanted.id;
    append(&*store, &stream(), Expected::NoStream, vec![wanted]).await;
    assert_eq!(next_event(&mut subscription).await.id, id);
}

/// Two subscriptions do not disturb each other: each sees everything, whatever becomes of the other. (E79)
pub async fn two_subscriptions_are_independent(h: &dyn AnyHarness) {
    let store = open(h).await;
    let mut expected = add(&*store, 20).await;
    let mut one = follow(&*store, None).await;
    let stuck = Subscribe { buffer: 1, patience: Duration::from_millis(50), ..Subscribe::default() };
    let _never_read = store.subscribe(stuck).await.must("subscribe");
    let mut dropped = follow(&*store, None).await;
    let mut seen = take(&mut one, 10).await;
    take(&mut dropped, 5).await;
    drop(dropped);
    sleep(Duration::from_millis(100)).await;
    expected.extend(add(&*store, 5).await);
    seen.extend(take(&mut one, 15).await);
    assert_eq!(ids(&seen), expected);
}

/// A consumer goes on from a stored checkpoint after everything was closed and opened again. (E80)
pub async fn consumer_resumes_from_a_stored_checkpoint_after_reopening(h: &dyn AnyHarness) {
    let backend = h.client().await;
    let store = backend.events(&h.scope(), &h.tenant()).await.must("open the store");
    let mut expected = add(&*store, 6).await;
    let mut subscription = follow(&*store, None).await;
    let mut seen = take(&mut subscription, 4).await;
    let stored = seen[3].checkpoint.to_string();
    drop(subscription);
    store.close().await.must("close");
    backend.close().await;
    let store = open(h).await;
    expected.extend(add(&*store, 2).await);
    let mut subscription = follow(&*store, Some(stored.parse().must("a stored checkpoint"))).await;
    seen.extend(take(&mut subscription, 4).await);
    assert_eq!(ids(&seen), expected);
}

/// Closing a store, or its backend, ends its subscriptions promptly with Unavailable and the checkpoint to resume after;
/// those of other handles go on. (E134, E117)
pub async fn closing_ends_subscriptions(h: &dyn AnyHarness) {
    let backend = h.client().await;
    let store = backend.events(&h.scope(), &h.tenant()).await.must("open the store");
    let again = backend.events(&h.scope(), &h.tenant()).await.must("open the store again");
    // A backend of one store gives everybody the same handle.
    let other_client = h.client().await;
    let (other, backend) = if Arc::ptr_eq(&store, &again) {
        (other_client.events(&h.scope(), &h.tenant()).await.must("open it by another client"), other_client)
    } else {
        (again, backend)
    };
    add(&*store, 2).await;
    let mut closed = follow(&*store, None).await;
    let mut going_on = follow(&*other, None).await;
    until_caught_up(&mut closed).await;
    until_caught_up(&mut going_on).await;
    // A handle that is dropped closes nothing.
    drop(backend.events(&h.scope(), &h.tenant()).await.must("open the store a third time"));
    store.close().await.must("close");
    ended(&mut closed).await;

    add(&*other, 3).await;
    next_event(&mut going_on).await;
    until_caught_up(&mut going_on).await;
    backend.close().await;
    ended(&mut going_on).await;
}

/// The end of a subscription whose store was closed.
async fn ended(subscription: &mut Subscription) {
    let soon = timeout(Duration::from_secs(5), subscription.next()).await.must("an end within five seconds");
    let Some(Err(error)) = soon else { panic!("must end with an error, but: {soon:?}") };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(matches!(error.detail(), Some(Detail::Resume { .. })), "{:?}", error.detail());
    assert!(in_time("nothing after the end", subscription.next()).await.is_none());
}
