//! Typed streams over a mocked store: what is asked of it, how often, and with which ids.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use changeover_core::events::{
    Append, Appended, AppendedStream, Expected, MockEventStore, NewEvent, PageToken, ReadStream,
    RecordedEvent, SchemaVersion, StreamId, StreamPage, Version,
};
use changeover_core::{
    Applied, Checkpoint, Detail, Error, ErrorKind, EventStore, Json, LogId, Result, Timestamp, Uuid,
};
use rstest::rstest;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{StreamEvent, TypedStreams};
use crate::retry::DECISIONS;
use crate::stores::Events;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Thing {
    Made { size: u64 },
    Named(String),
    Gone,
}

impl StreamEvent for Thing {
    const AGGREGATE_TYPE: &'static str = "Thing";
}

const ID: Uuid = Uuid::from_u128(7);

fn streams(store: MockEventStore) -> TypedStreams<Thing> {
    let store: Arc<dyn EventStore> = Arc::new(store);
    Events::from(store).typed()
}

fn stream() -> StreamId {
    StreamId::new("Thing", ID).unwrap()
}

fn recorded(version: i64, event_type: &str, schema: i64, data: &str) -> RecordedEvent {
    let event = NewEvent::new(event_type, Json::parse(data).unwrap()).unwrap();
    let at = Timestamp::parse("2024-01-01T00:00:00Z").unwrap();
    RecordedEvent {
        stream: stream(),
        version: Version::new(version).unwrap(),
        checkpoint: Checkpoint::new(LogId(Uuid::nil()), version).unwrap(),
        id: event.id,
        event_type: event.event_type,
        schema_version: SchemaVersion::new(schema).unwrap(),
        data: event.data,
        metadata: event.metadata,
        occurred_at: at,
        recorded_at: at,
        causation_id: None,
        correlation_id: None,
    }
}

fn page(events: Vec<RecordedEvent>, next: Option<PageToken>) -> StreamPage {
    let head = events.last().map(|event| event.version);
    StreamPage { events, head, next }
}

fn appended(request: &Append) -> Appended {
    let part = &request.streams[0];
    let before = match part.expected {
        Expected::Exactly(version) => version.get(),
        _ => 0,
    };
    let last = before + i64::try_from(part.events.len()).unwrap();
    let version = |version| Version::new(version).unwrap();
    Appended {
        streams: vec![AppendedStream {
            stream: part.stream.clone(),
            first: version(before + 1),
            last: version(last),
        }],
        checkpoint: Checkpoint::new(LogId(Uuid::nil()), last).unwrap(),
        repeated: false,
    }
}

fn all(state: &mut Vec<Thing>, event: Thing) {
    state.push(event);
}

fn conflict() -> Error {
    Error::conflict(stream(), Expected::NoStream, Some(Version::FIRST))
}

/// A store without events that answers appends by `answer`, and the ids it was given.
fn answering(
    times: usize,
    answer: impl Fn(usize, &Append) -> Result<Appended> + Send + Sync + 'static,
) -> (TypedStreams<Thing>, Arc<Mutex<Vec<Uuid>>>) {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let mut store = MockEventStore::new();
    store.expect_read_stream().returning(|_| Ok(page(vec![], None)));
    let seen = Arc::clone(&ids);
    store.expect_append().times(times).returning(move |request| {
        let mut seen = seen.lock().unwrap();
        seen.push(request.streams[0].events[0].id);
        answer(seen.len(), &request)
    });
    (streams(store), ids)
}

// X-ES-026: decided anew after each conflict, exactly so often; the ids are those of the decision.
#[tokio::test(start_paused = true)]
async fn execute_decides_anew_after_each_conflict_and_then_gives_up() {
    let (things, ids) = answering(DECISIONS as usize, |_, _| Err(conflict()));
    let decisions = Mutex::new(0);
    let decide = |_: &super::Loaded<Vec<Thing>>| {
        *decisions.lock().unwrap() += 1;
        Ok::<_, Error>([Thing::Gone])
    };
    let error = things.execute(ID, all, decide).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VersionConflict);
    assert!(matches!(error.detail(), Some(Detail::Conflict { .. })));
    assert_eq!(*decisions.lock().unwrap(), DECISIONS);
    assert_eq!(ids.lock().unwrap().iter().collect::<HashSet<_>>().len(), DECISIONS as usize);
}

#[tokio::test(start_paused = true)]
async fn execute_returns_the_state_after_its_events() {
    let (things, _) =
        answering(3, |attempt, request| if attempt < 3 { Err(conflict()) } else { Ok(appended(request)) });
    let decide =
        |_: &super::Loaded<Vec<Thing>>| Ok::<_, Error>(vec![Thing::Gone, Thing::Named("x".to_owned())]);
    let after = things.execute(ID, all, decide).await.unwrap();
    assert_eq!(after.state, [Thing::Gone, Thing::Named("x".to_owned())]);
    assert_eq!(after.version, Some(Version::new(2).unwrap()));
}

#[tokio::test]
async fn execute_without_events_appends_nothing_and_errors_of_the_decision_end_it() {
    let (things, _) = answering(0, |_, request| Ok(appended(request)));
    let nothing = things.execute(ID, all, |_| Ok::<_, Error>(Vec::new())).await.unwrap();
    assert_eq!((nothing.state, nothing.version), (vec![], None));
    let refused = things.execute(ID, all, |_| Err::<[Thing; 1], _>(Error::invalid("not now"))).await;
    assert_eq!(refused.unwrap_err().message(), "not now");
}

// S3-ERR-008, E36: transient errors are retried with the same ids, three times; all others never.
#[rstest]
#[case(ErrorKind::Unavailable, 4)]
#[case(ErrorKind::Contention, 4)]
#[case(ErrorKind::Timeout, 4)]
#[case(ErrorKind::AlreadyExists, 1)]
#[case(ErrorKind::Invalid, 1)]
#[case(ErrorKind::Moved, 1)]
#[case(ErrorKind::Corrupt, 1)]
#[case(ErrorKind::ReadOnly, 1)]
#[case(ErrorKind::Unexpected, 1)]
#[tokio::test(start_paused = true)]
async fn only_transient_errors_are_retried_and_keep_their_ids(#[case] kind: ErrorKind, #[case] times: usize) {
    let (things, ids) = answering(times, move |_, _| Err(Error::new(kind, "x").applied(Applied::Unknown)));
    let error = things.execute(ID, all, |_| Ok::<_, Error>([Thing::Gone])).await.unwrap_err();
    assert_eq!(error.kind(), kind);
    assert_eq!(ids.lock().unwrap().iter().collect::<HashSet<_>>().len(), 1);
}

#[tokio::test]
async fn a_conflict_of_append_is_not_retried() {
    let (things, _) = answering(1, |_, _| Err(conflict()));
    let error = things.append(ID, None, [Thing::Gone]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VersionConflict);
}

#[tokio::test]
async fn load_follows_the_tokens_to_the_end() {
    let request = ReadStream::all(stream());
    let first = request.token_after(Version::new(2).unwrap());
    let second = request.token_after(Version::new(4).unwrap());
    let mut store = MockEventStore::new();
    store.expect_read_stream().times(3).returning(move |request| {
        let made = |version| recorded(version, "Made", 1, &format!(r#"{{"size":{version}}}"#));
        Ok(match request.page {
            None => page(vec![made(1), made(2)], Some(first)),
            Some(token) if token == first => page(vec![made(3), made(4)], Some(second)),
            Some(token) => {
                assert_eq!(token, second);
                page(vec![made(5)], None)
            }
        })
    });
    let sum = |sum: &mut u64, event| {
        if let Thing::Made { size } = event {
            *sum = *sum * 10 + size;
        }
    };
    let loaded = streams(store).load(ID, sum).await.unwrap();
    assert_eq!((loaded.state, loaded.version), (12_345, Some(Version::new(5).unwrap())));
}

#[tokio::test]
async fn what_is_written_is_type_schema_data_and_context() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let mut store = MockEventStore::new();
    let keep = Arc::clone(&sent);
    store.expect_append().times(1).returning(move |request| {
        keep.lock().unwrap().push(request.clone());
        Ok(appended(&request))
    });
    let things = streams(store)
        .upcast("Made", 1, Ok)
        .upcast("Made", 2, Ok)
        .with_metadata(Json::parse(r#"{"by":"me"}"#).unwrap())
        .with_causation(Uuid::from_u128(1))
        .with_correlation(Uuid::from_u128(2));
    let events = [Thing::Made { size: u64::MAX }, Thing::Named("n".to_owned()), Thing::Gone];
    things.append(ID, Version::FIRST, events).await.unwrap();
    let request = sent.lock().unwrap().pop().unwrap();
    let part = &request.streams[0];
    assert_eq!((&part.stream, part.expected), (&stream(), Expected::Exactly(Version::FIRST)));
    let written: Vec<_> = part
        .events
        .iter()
        .map(|e| (e.event_type.as_str(), e.schema_version.get(), e.data.as_str()))
        .collect();
    assert_eq!(
        written,
        [("Made", 3, r#"{"size":18446744073709551615}"#), ("Named", 1, r#""n""#), ("Gone", 1, "{}")]
    );
    for event in &part.events {
        assert_eq!(event.metadata.as_str(), r#"{"by":"me"}"#);
        assert_eq!(event.causation_id, Some(Uuid::from_u128(1)));
        assert_eq!(event.correlation_id, Some(Uuid::from_u128(2)));
    }
}

#[test]
fn every_form_of_variant_is_read_back() {
    let things = streams(MockEventStore::new());
    let read = |event_type, data| things.decode(&recorded(1, event_type, 1, data)).unwrap();
    assert_eq!(read("Made", r#"{"size":18446744073709551615}"#), Thing::Made { size: u64::MAX });
    assert_eq!(read("Named", r#""n""#), Thing::Named("n".to_owned()));
    assert_eq!(read("Gone", "{}"), Thing::Gone);
    // As deep as data may be, wrapped once more.
    let deep = format!("{}1{}", "[".repeat(Json::MAX_DEPTH), "]".repeat(Json::MAX_DEPTH));
    let error = things.decode(&recorded(1, "Named", 1, &deep)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

// E89: upcasters by type and version, in order, from the version that is stored.
#[test]
fn old_schemas_are_lifted_step_by_step() {
    let things = streams(MockEventStore::new())
        .upcast("Made", 1, |mut data| {
            data["cm"] = data["inches"].as_u64().map(|inches| json!(inches * 2)).unwrap_or_default();
            Ok(data)
        })
        .upcast("Made", 2, |data| Ok(json!({ "size": data["cm"] })));
    let size = |schema, data| match things.decode(&recorded(1, "Made", schema, data)).unwrap() {
        Thing::Made { size } => size,
        other => panic!("{other:?}"),
    };
    assert_eq!(size(1, r#"{"inches":4}"#), 8);
    assert_eq!(size(2, r#"{"cm":9}"#), 9);
    assert_eq!(size(3, r#"{"size":10}"#), 10);
}

#[rstest]
#[case(
    "Made",
    2,
    r#"{"size":1}"#,
    ErrorKind::SchemaMismatch,
    "event type Made has schema version 2, this program knows up to 1"
)]
#[case("Lost", 1, "{}", ErrorKind::Corrupt, "event type \"Lost\" is unknown; known are Made, Named, Gone")]
#[case(
    "Made",
    1,
    r#"{"size":"hunter2"}"#,
    ErrorKind::Corrupt,
    "event type Made schema version 1: the data do not fit"
)]
fn what_cannot_be_read_is_named_without_its_content(
    #[case] event_type: &str,
    #[case] schema: i64,
    #[case] data: &str,
    #[case] kind: ErrorKind,
    #[case] message: &str,
) {
    let error = streams(MockEventStore::new()).decode(&recorded(3, event_type, schema, data)).unwrap_err();
    assert_eq!(error.kind(), kind);
    assert!(error.message().contains(message) && error.message().contains("version 3"), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

// Nothing is coerced in silence: serde_json's value holds such a number as a float only.
#[test]
fn an_upcaster_is_not_given_a_number_it_cannot_hold() {
    let things = streams(MockEventStore::new()).upcast("Made", 1, Ok);
    let error = things.decode(&recorded(1, "Made", 1, r#"{"size":1,"big":123456789012345678901234567890}"#));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[rstest]
#[case(streams(MockEventStore::new()).upcast("Made", 2, Ok), "no upcaster for Made version 1, but for version 2")]
#[case(streams(MockEventStore::new()).upcast("Made", 1, Ok).upcast("Made", 1, Ok), "two upcasters for Made version 1")]
#[case(streams(MockEventStore::new()).upcast("Mad", 1, Ok), "an upcaster for \"Mad\", which is no variant")]
#[case(streams(MockEventStore::new()).upcast("Made", 0, Ok), "version 0; versions begin at 1")]
#[tokio::test]
async fn upcasters_with_gaps_are_refused_before_the_store_is_asked(
    #[case] things: TypedStreams<Thing>,
    #[case] message: &str,
) {
    for error in [
        things.append(ID, None, [Thing::Gone]).await.unwrap_err(),
        things.load::<Vec<_>>(ID, all).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(message), "{error}");
    }
}

#[tokio::test]
async fn an_enum_in_another_form_is_refused() {
    #[derive(Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Made,
    }
    impl StreamEvent for Tagged {
        const AGGREGATE_TYPE: &'static str = "Tagged";
    }
    let store: Arc<dyn EventStore> = Arc::new(MockEventStore::new());
    let error = Events::from(store).typed::<Tagged>().append(ID, None, [Tagged::Made]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("externally tagged"), "{error}");
}
