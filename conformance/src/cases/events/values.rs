//! Text, payloads, times and numbers: stored as given, or refused before anything is stored.

use changeover_core::events::{Append, EventFilter, Expected, NewEvent, RecordedEvent, StreamId};
use changeover_core::{AggregateType, ErrorKind, EventStore, EventType, Json, Uuid};

use crate::harness::AnyHarness;
use crate::support::{
    Must, append, event, events, head, ids, in_time, json, look, new_ids, open, or_note, read, read_log,
    read_on, refused, stream, stream_of,
};

/// Stores events in a new stream and reads them back.
async fn round_trip(store: &dyn EventStore, new: Vec<NewEvent>) -> Vec<RecordedEvent> {
    let stream = stream();
    append(store, &stream, Expected::NoStream, new).await;
    read(store, &stream).await
}

/// What happens to these payloads: each is read back equal.
async fn payloads_survive(store: &dyn EventStore, payloads: &[Json]) {
    let new = payloads.iter().map(|data| NewEvent::new("Payload", data.clone()).must("an event")).collect();
    let stored = round_trip(store, new).await;
    assert_eq!(stored.len(), payloads.len());
    for (stored, given) in stored.iter().zip(payloads) {
        assert!(stored.data == *given, "a payload of {} bytes changed", given.as_str().len());
    }
}

async fn of_categories(store: &dyn EventStore, categories: &[&str]) -> Vec<Uuid> {
    let wanted = categories.iter().map(|name| AggregateType::new(*name).must("an aggregate type")).collect();
    let filter = EventFilter { aggregate_types: Some(wanted), ..EventFilter::default() };
    ids(&read_on(store, None, filter).await.0)
}

async fn of_types(store: &dyn EventStore, types: &[&str]) -> Vec<Uuid> {
    let wanted = types.iter().map(|name| EventType::new(*name).must("an event type")).collect();
    let filter = EventFilter { event_types: Some(wanted), ..EventFilter::default() };
    ids(&read_on(store, None, filter).await.0)
}

/// Names that are told apart only by their bytes are different categories and different event types.
async fn names_are_told_apart(store: &dyn EventStore, names: &[&str]) {
    let aggregate = Uuid::now_v7();
    let mut stored = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let stream = StreamId::new(*name, aggregate).must("a stream");
        let new = event(name, number);
        stored.push(new.id);
        append(store, &stream, Expected::NoStream, vec![new]).await;
    }
    for (name, id) in names.iter().zip(&stored) {
        let stream = StreamId::new(*name, aggregate).must("a stream");
        let found = read(store, &stream).await;
        assert_eq!(ids(&found), [*id], "stream of {name:?}");
        assert_eq!((found[0].stream.aggregate_type.as_str(), found[0].event_type.as_str()), (*name, *name));
        assert_eq!(of_categories(store, &[name]).await, [*id], "category {name:?}");
        assert_eq!(of_types(store, &[name]).await, [*id], "event type {name:?}");
    }
}

/// Payloads up to the limit are stored whole; above it they are `TooLarge` and the store is unharmed. (E83, S3-EDGE-005)
pub async fn payload_up_to_the_limit_is_stored_whole(h: &dyn AnyHarness) {
    let store = open(h).await;
    let of_size = |bytes: usize| Json::parse(&format!("\"{}\"", "x".repeat(bytes - 2)));
    for bytes in [2, 3, 8 * 1024, 1024 * 1024, Json::MAX_BYTES] {
        payloads_survive(&*store, &[of_size(bytes).must("a payload")]).await;
    }
    refused(of_size(Json::MAX_BYTES + 1), ErrorKind::TooLarge);
    let before = look(h, &*store).await;
    let large = of_size(Json::MAX_BYTES).must("a payload");
    let count = Append::MAX_BYTES / Json::MAX_BYTES + 1;
    let new = (0..count).map(|_| NewEvent::new("Large", large.clone()).must("an event")).collect();
    let error = refused(store.append(Append::one(stream(), Expected::Any, new)).await, ErrorKind::TooLarge);
    assert!(error.detail().is_some(), "the error does not say what is allowed: {error}");
    assert_eq!(look(h, &*store).await, before);
}

/// An append of as many events as allowed is stored whole; one more is `TooLarge` and stores nothing. (E84)
pub async fn largest_append_is_stored_whole(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    let new = events(Append::MAX_EVENTS);
    let expected = new_ids(&new);
    append(&*store, &stream, Expected::NoStream, new).await;
    assert_eq!(ids(&read(&*store, &stream).await), expected);
    let beyond = Append::one(stream.clone(), Expected::Any, events(Append::MAX_EVENTS + 1));
    refused(store.append(beyond).await, ErrorKind::TooLarge);
    assert_eq!(head(&*store, &stream).await.version.must("a version").get(), 10_000);
}

/// Aggregate types and event types have 1 to 255 characters, counted as characters. (E85, S3-EDGE-001, S3-EDGE-006)
pub async fn names_have_1_to_255_characters(h: &dyn AnyHarness) {
    let store = open(h).await;
    names_are_told_apart(&*store, &["a", &"a".repeat(255), &"\u{1F600}".repeat(255)]).await;
    for bad in [String::new(), "a".repeat(256), "\u{1F600}".repeat(256)] {
        refused(AggregateType::new(bad.clone()), ErrorKind::Invalid);
        refused(EventType::new(bad), ErrorKind::Invalid);
    }
}

/// Every character but NUL survives in a payload, written out or escaped. (E86)
pub async fn every_character_survives_in_a_payload(h: &dyn AnyHarness) {
    let store = open(h).await;
    let edges =
        ['\u{7ff}', '\u{800}', '\u{d7ff}', '\u{e000}', '\u{feff}', '\u{fffd}', '\u{ffff}', '\u{10ffff}'];
    let text: String = ('\u{1}'..='\u{ff}').chain(edges).collect();
    let of_text = Json::of(&text).must("JSON of text");
    assert_eq!(of_text.to::<String>().must("text of JSON"), text);
    let escaped = (1..=255).map(|code: u32| format!("\\u{code:04X}")).collect::<Vec<_>>().concat();
    payloads_survive(
        &*store,
        &[of_text, json(&format!("\"{escaped}\"")), json(&format!("{{\"{escaped}\":1}}"))],
    )
    .await;
}

/// NUL and lone surrogates are Invalid wherever text goes, on every backend. (E87, X-EDGE-051, X-EDGE-052)
pub async fn nul_and_lone_surrogates_are_invalid(h: &dyn AnyHarness) {
    let store = open(h).await;
    let before = look(h, &*store).await;
    for bad in [r#""\u0000""#, r#"{"\u0000":1}"#, r#""\ud800""#, r#""\udc00\ud800""#, "\"\0\""] {
        refused(Json::parse(bad), ErrorKind::Invalid);
    }
    refused(Json::from_bytes(b"\"\xff\""), ErrorKind::Invalid);
    refused(AggregateType::new("a\0b"), ErrorKind::Invalid);
    refused(EventType::new("\0"), ErrorKind::Invalid);
    assert_eq!(look(h, &*store).await, before);
    payloads_survive(&*store, &[json(r#""\ud83d\ude00""#)]).await;
}

/// Unicode names are kept as given: composed and decomposed, and what looks alike, are different. (E88)
pub async fn unicode_names_are_kept_as_given(h: &dyn AnyHarness) {
    let store = open(h).await;
    names_are_told_apart(
        &*store,
        &[
            "caf\u{e9}",
            "cafe\u{301}",
            "\u{1F468}\u{200D}\u{1F469}",
            "\u{1F468}\u{1F469}",
            "\u{5E9}\u{5DC}\u{5D5}\u{5DD}",
            "a\u{200B}b",
            "ab",
            "\u{212A}",
            "K",
            "\u{130}",
            "\u{df}",
            "ss",
        ],
    )
    .await;
}

/// Names are compared byte by byte: case and spaces count, `%` and `_` stand for themselves. (E89, X-EDGE-068)
pub async fn names_are_compared_byte_by_byte(h: &dyn AnyHarness) {
    let store = open(h).await;
    let names = ["A", "a", "a ", " a", "ab", "a_", "a%", "%", "_", "*", "?", "[a]", "a\\", "\\%"];
    names_are_told_apart(&*store, &names).await;
}

/// Names do not order a log: what was committed first comes first, whatever a locale would say. (E90)
pub async fn names_do_not_order_a_log(h: &dyn AnyHarness) {
    let store = open(h).await;
    let names = ["b", "B", "a", "\u{e4}", "Z", "_", "A", "10", "9"];
    let mut expected = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let new = event("Named", number);
        expected.push(new.id);
        append(&*store, &stream_of(name), Expected::NoStream, vec![new]).await;
    }
    assert_eq!(ids(&read_log(&*store).await.0), expected);
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(of_categories(&*store, &sorted).await, expected, "the order of a filter's list counts");
}

/// Quotes, backslashes, placeholders and SQL are letters like others. (E91, X-EDGE-068)
pub async fn sql_is_text_like_other_text(h: &dyn AnyHarness) {
    let store = open(h).await;
    let names = [
        "'",
        "''",
        "\"",
        "\\",
        "\\'",
        "x'; DROP TABLE domain_event; --",
        "$1",
        "?1",
        ":a",
        "@a",
        "{}",
        "E'\\x00'",
        "a\nb",
        "a\tb\r",
        "/* */",
        "$$a$$",
    ];
    names_are_told_apart(&*store, &names).await;
    let payloads: Vec<_> = names.iter().map(|text| Json::of(text).must("JSON of text")).collect();
    payloads_survive(&*store, &payloads).await;
}

/// JSON is compared as values: order of keys and spelling of numbers do not count, every digit does, the last of equal
/// keys holds. (E92, X-EDGE-056, X-EDGE-057, X-EDGE-058)
pub async fn json_is_compared_as_values(h: &dyn AnyHarness) {
    let store = open(h).await;
    let same = [
        (r#"{"b":1,"a":[1.0, 1e2, -0]}"#, r#"{"a":[1,100,0],"b":1}"#),
        (r#"{"a":1,"a":{"x":2}}"#, r#"{"a":{"x":2}}"#),
        ("[ 1.10 , 0.5e1 ]", "[1.1,5]"),
    ];
    for (given, canonical) in same {
        let stored = round_trip(&*store, vec![NewEvent::new("J", json(given)).must("an event")]).await;
        assert_eq!(stored[0].data.as_str(), canonical);
    }
    let deepest = format!("{}1{}", "[".repeat(Json::MAX_DEPTH), "]".repeat(Json::MAX_DEPTH));
    let digits = "9".repeat(Json::MAX_DIGITS);
    let exact = [
        "9007199254740993",
        "-9223372036854775808",
        "18446744073709551616",
        "0.1000000000000000055511151231257827",
        "1e400",
        "1e-400",
        &digits,
        &deepest,
        "true",
        "\"\"",
        "[]",
        "{}",
        r#"{"":{"":null},"a b":[null,false,"null"]}"#,
    ];
    payloads_survive(&*store, &exact.map(json)).await;
    let mut of_metadata = event("M", 1);
    of_metadata.metadata = json(r#"{"z":1e400,"a":{"b":[{},[]]},"n":null}"#);
    let stored = round_trip(&*store, vec![of_metadata.clone()]).await;
    assert_eq!(stored[0].metadata, of_metadata.metadata);
    refused(Json::parse(&format!("[{deepest}]")), ErrorKind::Invalid);
    refused(Json::parse(&format!("{digits}0")), ErrorKind::Invalid);
}

/// Numbers at their edges are exact; what is no number is refused. (E98)
pub async fn numbers_at_their_edges_are_exact(h: &dyn AnyHarness) {
    let store = open(h).await;
    let numbers = [
        Json::of(&i64::MAX),
        Json::of(&i64::MIN),
        Json::of(&u64::MAX),
        Json::of(&f64::MAX),
        Json::of(&f64::MIN_POSITIVE),
        Json::of(&-0.0),
    ];
    let numbers: Vec<_> = numbers.into_iter().map(|number| number.must("a number")).collect();
    payloads_survive(&*store, &numbers).await;
    assert_eq!(numbers[5].as_str(), "0", "there is no negative zero");
    let before = look(h, &*store).await;
    for bad in ["NaN", "Infinity", "-", "01", "1.", ".5", "+1", "0x1"] {
        refused(Json::parse(bad), ErrorKind::Invalid);
    }
    let nan = NewEvent::new("N", Json::of(&f64::NAN).must("null")).must("an event");
    refused(store.append(Append::one(stream(), Expected::Any, vec![nan])).await, ErrorKind::Invalid);
    assert_eq!(look(h, &*store).await, before);
}

/// Ids of any version, nil and the largest too, survive in every place an id may stand. (E97, X-EDGE-060)
pub async fn every_uuid_survives(h: &dyn AnyHarness) {
    let store = open(h).await;
    let odd = Uuid::parse_str("A0B1C2D3-E4F5-0607-0809-0A0B0C0D0E0F").must("a UUID");
    for id in [Uuid::new_v4(), Uuid::now_v7(), Uuid::nil(), Uuid::max(), odd] {
        let stream = StreamId::new("Id", id).must("a stream");
        let mut new = event("Id", 1);
        (new.id, new.causation_id, new.correlation_id) = (id, Some(id), Some(Uuid::max()));
        append(&*store, &stream, Expected::NoStream, vec![new]).await;
        let stored = read(&*store, &stream).await;
        let found = (stored[0].id, stored[0].causation_id, stored[0].correlation_id);
        assert_eq!(found, (id, Some(id), Some(Uuid::max())));
        assert_eq!(stored[0].stream, stream);
    }
    let absent = round_trip(&*store, events(1)).await;
    assert_eq!((absent[0].causation_id, absent[0].correlation_id), (None, None), "absent is not nil");
}

/// The head of one stream among thousands is found without reading them all. (E99)
pub async fn head_is_found_among_thousands_of_streams(h: &dyn AnyHarness) {
    let store = open(h).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let batch: Vec<_> =
            (0..1_000).map(|_| Append::one(stream(), Expected::NoStream, events(1))).collect();
        let batch: Vec<_> = batch.into_iter().flat_map(|one| one.streams).collect();
        streams.extend(batch.iter().map(|part| part.stream.clone()));
        store.append(Append { streams: batch, track: None }).await.must("append to many streams");
    }
    let heads = async {
        for stream in streams.iter().step_by(50) {
            assert_eq!(head(&*store, stream).await.version.must("a version").get(), 1);
        }
    };
    in_time("100 heads", heads).await;
    assert_eq!(head(&*store, &stream()).await.version, None);
    if let Some(scans) = or_note("the plans of the reads", h.faults().full_scans().await) {
        assert_eq!(scans, Vec::<String>::new(), "these read a whole table");
    }
}
