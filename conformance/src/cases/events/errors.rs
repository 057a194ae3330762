//! Errors: the same kind for the same cause on every backend, and no secrets in them.

use std::time::Duration;

use changeover_core::events::{
    Append, Direction, EventFilter, Expected, NewEvent, ReadAll, ReadStream, Subscribe, Track,
};
use changeover_core::{
    AggregateType, Applied, Checkpoint, ConsumerName, ErrorKind, EventType, Json, LogId, Uuid,
};

use crate::harness::AnyHarness;
use crate::support::{
    Must, append, event, events, json, limit, logged, look, open, refused, stream, version,
};

fn foreign() -> Checkpoint {
    Checkpoint::new(LogId(Uuid::new_v4()), 1).must("a checkpoint")
}

/// The same cause is the same kind of error on every backend; a refused write says that nothing was stored. (E125)
pub async fn same_cause_is_the_same_kind(h: &dyn AnyHarness) {
    let store = open(h).await;
    let (stream, first) = (stream(), events(2));
    append(&*store, &stream, Expected::NoStream, first.clone()).await;
    let before = look(h, &*store).await;

    let on = |expected, events| Append::one(stream.clone(), expected, events);
    let twice = vec![first[0].clone(), first[0].clone()];
    let mut no_object = event("E", 1);
    no_object.metadata = json("[]");
    let null = NewEvent::new("E", json("null")).must("an event");
    let mut same_stream = on(Expected::Any, events(1));
    same_stream.streams.extend(on(Expected::Any, events(1)).streams);
    let progress = |checkpoint| {
        let consumer = ConsumerName::new("mail").must("a consumer");
        Append { streams: Vec::new(), track: Some(Track { consumer, checkpoint }) }
    };
    let writes = [
        (on(Expected::NoStream, events(1)), ErrorKind::VersionConflict),
        (on(Expected::Exactly(version(1)), events(1)), ErrorKind::VersionConflict),
        (on(Expected::Exactly(version(i64::MAX)), events(1)), ErrorKind::VersionConflict),
        (on(Expected::Any, vec![first[1].clone(), first[0].clone()]), ErrorKind::AlreadyExists),
        (on(Expected::Any, Vec::new()), ErrorKind::Invalid),
        (Append { streams: Vec::new(), track: None }, ErrorKind::Invalid),
        (on(Expected::Any, twice), ErrorKind::Invalid),
        (on(Expected::Any, vec![no_object]), ErrorKind::Invalid),
        (on(Expected::Any, vec![null]), ErrorKind::Invalid),
        (same_stream, ErrorKind::Invalid),
        (progress(foreign()), ErrorKind::Invalid),
        (on(Expected::Any, events(Append::MAX_EVENTS + 1)), ErrorKind::TooLarge),
    ];
    for (request, kind) in writes {
        let error = refused(store.append(request).await, kind);
        assert_eq!(error.was_applied(), Some(Applied::No), "{error}");
    }

    let all = ReadStream::all(stream.clone());
    let token = store.read_stream(ReadStream { limit: limit(1), ..all.clone() }).await.must("a page").next;
    let page = ReadStream { page: token, direction: Direction::Backward, ..all };
    refused(store.read_stream(page).await, ErrorKind::Invalid);
    let after = Some(foreign());
    refused(store.read_all(ReadAll { after, ..ReadAll::default() }).await, ErrorKind::Invalid);
    refused(store.subscribe(Subscribe { after, ..Subscribe::default() }).await, ErrorKind::Invalid);
    for buffer in [0, 10_001] {
        refused(store.subscribe(Subscribe { buffer, ..Subscribe::default() }).await, ErrorKind::Invalid);
    }
    for filter in too_long() {
        let read = ReadAll { filter: filter.clone(), ..ReadAll::default() };
        let error = refused(store.read_all(read).await, ErrorKind::TooLarge);
        assert_eq!(error.was_applied(), None, "a read is not applied: {error}");
        let patience = Duration::from_secs(1);
        let request = Subscribe { filter, patience, ..Subscribe::default() };
        refused(store.subscribe(request).await, ErrorKind::TooLarge);
    }
    assert_eq!(look(h, &*store).await, before);
}

/// Filters with a list of one entry more than is allowed.
fn too_long() -> [EventFilter; 3] {
    let count = EventFilter::MAX_ENTRIES + 1;
    let category = AggregateType::new("Order").must("an aggregate type");
    let event_type = EventType::new("E").must("an event type");
    [
        EventFilter { streams: Some((0..count).map(|_| stream()).collect()), ..EventFilter::default() },
        EventFilter { aggregate_types: Some(vec![category; count]), ..EventFilter::default() },
        EventFilter { event_types: Some(vec![event_type; count]), ..EventFilter::default() },
    ]
}

/// No error shows a URL, a password or a payload. (E124, X11)
pub async fn errors_show_no_secrets(h: &dyn AnyHarness) {
    let backend = h.client().await;
    let store = backend.events(&h.scope(), &h.tenant()).await.must("open the store");
    let stream = stream();
    let secret = |id: Option<Uuid>, text: &str| {
        let mut new = NewEvent::new("Secret", Json::of(&[text, "hush-hush"]).must("JSON")).must("an event");
        new.metadata = json(r#"{"token":"hush-hush"}"#);
        new.id = id.unwrap_or(new.id);
        new
    };
    let first = secret(None, "one");
    append(&*store, &stream, Expected::NoStream, vec![first.clone()]).await;
    let mut errors = vec![
        refused(
            store.append(Append::one(stream.clone(), Expected::NoStream, vec![secret(None, "two")])).await,
            ErrorKind::VersionConflict,
        ),
        refused(
            store
                .append(Append::one(stream.clone(), Expected::Any, vec![secret(Some(first.id), "three")]))
                .await,
            ErrorKind::AlreadyExists,
        ),
        refused(Json::parse(r#"["hush-hush"#), ErrorKind::Invalid),
        refused(Json::parse("[\"hush-hush\", NaN]"), ErrorKind::Invalid),
    ];
    let checks = backend.check().await;
    backend.close().await;
    let late = Append::one(stream, Expected::Any, vec![secret(None, "four")]);
    errors.push(refused(store.append(late).await, ErrorKind::Unavailable));
    let checks = checks.iter().map(|check| format!("{} {}", check.name, check.detail));
    for text in errors.iter().map(logged).chain(checks) {
        for hidden in ["hush-hush", "://", "password"] {
            assert!(!text.contains(hidden), "{hidden:?} is shown in: {text}");
        }
    }
}
