//! Appends repeated with the same event ids.

use std::time::Duration;

use changeover_core::events::{Append, Expected, NewEvent, StreamAppend, Subscribe};
use changeover_core::{Applied, Detail, Error, ErrorKind, Message, Timestamp, Uuid};

use crate::harness::{AnyHarness, OpenOptions};
use crate::support::{
    Must, append, event, events, ids, json, log_head, look, new_ids, open, read, refused, stream, version,
    without,
};

#[track_caller]
fn assert_taken(error: &Error, id: Uuid) {
    assert!(
        matches!(error.detail(), Some(Detail::Exists { id: named }) if *named == id),
        "{:?}",
        error.detail()
    );
    assert_eq!(error.was_applied(), Some(Applied::No));
}

/// The same events with the same expectation again succeed with the first answer and write nothing. (E30, X-ES-023, X-EDGE-061)
pub async fn repeated_append_returns_the_first_answer(h: &dyn AnyHarness) {
    let store = open(h).await;
    let (a, b) = (stream(), stream());
    let mut timed = events(2);
    timed[0].occurred_at = Some(Timestamp::parse("2020-01-02T03:04:05.000006Z").must("a time"));
    let request = Append {
        streams: vec![
            StreamAppend { stream: a, expected: Expected::NoStream, events: timed },
            StreamAppend { stream: b, expected: Expected::NoStream, events: events(3) },
        ],
        track: None,
    };
    let first = store.append(request.clone()).await.must("the first append");
    assert!(!first.repeated);
    let before = look(h, &*store).await;
    for client in [store.clone(), open(h).await] {
        let again = client.append(request.clone()).await.must("the repeated append");
        assert!(again.repeated);
        assert_eq!((&again.streams, again.checkpoint), (&first.streams, first.checkpoint));
    }
    assert_eq!(look(h, &*store).await, before);
}

/// A repeated append succeeds also after others have appended, and writes nothing. (E31, X-ES-023)
pub async fn repeated_append_succeeds_after_later_appends(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(1)).await;
    let request = Append::one(stream.clone(), Expected::Exactly(version(1)), events(2));
    let first = store.append(request.clone()).await.must("the first append");
    append(&*store, &stream, Expected::Any, events(4)).await;
    let before = look(h, &*store).await;
    let again = store.append(request).await.must("the repeated append");
    assert!(again.repeated);
    assert_eq!((again.streams, again.checkpoint), (first.streams, first.checkpoint));
    assert_eq!(look(h, &*store).await, before);
}

/// A repeated append of many streams that names them in another order answers in that order, with the checkpoint of the
/// last event in the order of the log. (E133)
pub async fn repeated_append_answers_with_the_end_of_what_it_stored(h: &dyn AnyHarness) {
    let store = open(h).await;
    let parts: Vec<_> = [3, 1, 2]
        .map(|count| StreamAppend { stream: stream(), expected: Expected::NoStream, events: events(count) })
        .into();
    let request = Append { streams: parts, track: None };
    let first = store.append(request.clone()).await.must("the first append");
    append(&*store, &stream(), Expected::NoStream, events(1)).await;
    let before = look(h, &*store).await;
    let mut turned = request.clone();
    for _ in 0..3 {
        turned.streams.rotate_left(1);
        let again = store.append(turned.clone()).await.must("the append in another order");
        assert!(again.repeated);
        assert_eq!(again.checkpoint, first.checkpoint);
        for (answered, asked) in again.streams.iter().zip(&turned.streams) {
            assert_eq!(answered.stream, asked.stream);
            assert!(first.streams.contains(answered), "{answered:?}");
        }
        assert_eq!(again.streams.len(), 3);
    }
    assert_eq!(look(h, &*store).await, before);
}

/// A stored event id with other content, whichever field differs, is refused and nothing is written. (E32, X-ES-023, X-EDGE-061)
pub async fn stored_id_with_other_content_is_refused(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    let mut original = event("OrderPlaced", 1);
    original.occurred_at = Some(Timestamp::parse("2020-01-02T03:04:05.000006Z").must("a time"));
    append(&*store, &stream, Expected::NoStream, vec![original.clone()]).await;
    let before = look(h, &*store).await;
    let changed: [fn(&mut NewEvent); 7] = [
        |event| event.data = json(r#"{"number":2}"#),
        |event| event.metadata = json(r#"{"actor":"eve"}"#),
        |event| event.event_type = NewEvent::new("OrderSeen", json("1")).must("an event").event_type,
        |event| event.schema_version = changeover_core::events::SchemaVersion::new(2).must("a version"),
        |event| event.occurred_at = Some(Timestamp::parse("2020-01-02T03:04:05.000007Z").must("a time")),
        |event| event.causation_id = Some(Uuid::nil()),
        |event| event.correlation_id = Some(Uuid::nil()),
    ];
    for change in changed {
        let mut other = original.clone();
        change(&mut other);
        let answer = store.append(Append::one(stream.clone(), Expected::Any, vec![other])).await;
        assert_taken(&refused(answer, ErrorKind::AlreadyExists), original.id);
    }
    assert_eq!(look(h, &*store).await, before);
}

/// A stored event id is refused in another stream, also with equal content. (E33, X-ES-023)
pub async fn stored_id_in_another_stream_is_refused(h: &dyn AnyHarness) {
    let store = open(h).await;
    let batch = events(1);
    append(&*store, &stream(), Expected::NoStream, batch.clone()).await;
    let before = look(h, &*store).await;
    let answer = store.append(Append::one(stream(), Expected::NoStream, batch.clone())).await;
    assert_taken(&refused(answer, ErrorKind::AlreadyExists), batch[0].id);
    assert_eq!(look(h, &*store).await, before);
}

/// A batch of which a part is stored, or stored in another order, is refused whole. (E34)
pub async fn partly_repeated_batch_is_refused(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    let batch = events(4);
    append(&*store, &stream, Expected::NoStream, batch[..2].to_vec()).await;
    append(&*store, &stream, Expected::Any, events(1)).await;
    append(&*store, &stream, Expected::Any, batch[3..].to_vec()).await;
    let before = look(h, &*store).await;
    let swapped = vec![batch[1].clone(), batch[0].clone()];
    let with_gap = vec![batch[1].clone(), batch[3].clone()];
    for request in [batch, swapped, with_gap] {
        let first = request[0].id;
        let answer = store.append(Append::one(stream.clone(), Expected::Any, request)).await;
        assert_taken(&refused(answer, ErrorKind::AlreadyExists), first);
    }
    assert_eq!(look(h, &*store).await, before);
}

/// An append whose answer was lost says that its outcome is unknown, or that it was stored; repeated with the same ids it is there once. (E35, X-ES-023, X-EDGE-098)
pub async fn append_repeated_after_a_lost_answer_is_stored_once(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    let request = Append::one(stream.clone(), Expected::NoStream, events(2));
    match lose_an_answer(h, &request).await {
        Some(error) => assert_eq!(error.was_applied(), Some(Applied::Unknown), "{error}"),
        None => drop(store.append(request.clone()).await.must("the append whose answer nobody heard")),
    }
    let again = store.append(request.clone()).await.must("the repeated append");
    assert!(again.repeated, "it was stored the first time");
    assert_eq!(ids(&read(&*store, &stream).await), new_ids(&request.streams[0].events));
}

/// The error of an append that was carried out while its answer was lost; `None` where that cannot be caused.
async fn lose_an_answer(h: &dyn AnyHarness, request: &Append) -> Option<Error> {
    let fragile = match h.faults().fragile_client(OpenOptions::default()).await {
        Ok(fragile) => fragile,
        Err(why) => {
            without("lose the answer to a commit", why);
            return None;
        }
    };
    let store = fragile.events(&h.scope(), &h.tenant()).await.must("open the store");
    store.ready().await.must("a connection before the fault");
    if let Err(why) = h.faults().cut_at_commit().await {
        without("lose the answer to a commit", why);
        return None;
    }
    match store.append(request.clone()).await {
        Ok(answer) => panic!("the answer was to be lost, but it was {answer:?}"),
        Err(error) => Some(error),
    }
}

/// A write of unknown outcome may be repeated only with ids. (E36, X-ES-026)
pub async fn unknown_outcome_may_be_retried_only_with_ids(h: &dyn AnyHarness) {
    let request = Append::one(stream(), Expected::NoStream, events(1));
    let error = lose_an_answer(h, &request).await.unwrap_or_else(|| {
        Error::new(ErrorKind::Unavailable, "the connection was lost").applied(Applied::Unknown)
    });
    assert!(error.kind().is_transient(), "{error}");
    assert!(error.may_retry(true), "{error}");
    assert!(!error.may_retry(false), "{error}");
}

/// A repeated append neither moves the head of the log nor wakes a subscriber. (E37)
pub async fn repeated_append_wakes_nobody(h: &dyn AnyHarness) {
    let store = open(h).await;
    let request = Append::one(stream(), Expected::NoStream, events(2));
    store.append(request.clone()).await.must("the first append");
    let end = log_head(&*store).await;
    let mut subscription =
        store.subscribe(Subscribe { after: Some(end), ..Subscribe::default() }).await.must("subscribe");
    loop {
        match subscription.next().await.must("a message").must("a message") {
            Message::Progress { caught_up: true, checkpoint } => break assert_eq!(checkpoint, end),
            Message::Progress { .. } => {}
            Message::Event(event) => panic!("nothing is new, but {event:?} was delivered"),
        }
    }
    assert!(store.append(request).await.must("the repeated append").repeated);
    assert_eq!(log_head(&*store).await, end);
    let woken = tokio::time::timeout(Duration::from_millis(300), subscription.next()).await;
    assert!(woken.is_err(), "the subscriber was told {woken:?}");
}
