//! Appending to one stream or several.

use changeover_core::events::{Append, Expected, SchemaVersion, StreamAppend};
use changeover_core::{ErrorKind, Timestamp, Uuid};

use crate::harness::AnyHarness;
use crate::support::{
    Must, append, event, events, head, ids, json, log_head, look, new_ids, open, read, read_log, refused,
    stream, versions,
};

/// The first append creates the stream and returns versions from 1 and a checkpoint. (E1, S0-ES-013, S0-ES-014)
pub async fn append_to_a_new_stream_counts_versions_from_one(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    let appended = append(&*store, &stream, Expected::NoStream, events(3)).await;
    assert_eq!(appended.streams.len(), 1);
    assert_eq!(appended.streams[0].stream, stream);
    assert_eq!((appended.streams[0].first.get(), appended.streams[0].last.get()), (1, 3));
    assert!(!appended.repeated);
    let (log, end) = read_log(&*store).await;
    assert_eq!(versions(&log), [1, 2, 3]);
    assert_eq!(appended.checkpoint, end);
}

/// What was appended is read back equal in every field, from the stream and from the log. (E2, S0-ES-018)
pub async fn appended_events_are_read_back_equal_in_every_field(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    let mut full = event("OrderPlaced", 1);
    full.schema_version = SchemaVersion::new(7).must("a schema version");
    full.data = json(r#"{"lines":[{"sku":"ü-1","n":2}],"total":12.5,"paid":false,"note":null}"#);
    full.metadata = json(r#"{"actor":"ann","content_type":"application/json"}"#);
    full.occurred_at = Some(Timestamp::parse("2024-02-29T23:59:59.123456Z").must("a time"));
    full.causation_id = Some(Uuid::now_v7());
    full.correlation_id = Some(Uuid::new_v4());
    let bare = event("OrderSeen", 2);
    let before = Timestamp::now();
    append(&*store, &stream, Expected::NoStream, vec![full.clone(), bare.clone()]).await;
    let after = Timestamp::now();

    let read = read(&*store, &stream).await;
    assert_eq!(read, read_log(&*store).await.0, "the stream and the log show the same");
    assert_eq!(read.len(), 2);
    for (stored, given) in read.iter().zip([&full, &bare]) {
        assert!(stored.is_repeat_of(&stream, given), "{stored:?} is not {given:?}");
        assert_eq!(stored.data.as_str(), given.data.as_str());
        assert_eq!(stored.metadata.as_str(), given.metadata.as_str());
    }
    // The database's clock may not be ours: a minute is enough to find a wrong zone or unit.
    let near = |at: Timestamp| {
        (before.as_micros() - 60_000_000..=after.as_micros() + 60_000_000).contains(&at.as_micros())
    };
    assert!(near(read[1].occurred_at), "without a time given it is the time of recording: {:?}", read[1]);
    for stored in &read {
        if store.capabilities().recorded_time.is_yes() {
            assert!(near(stored.recorded_at), "recorded at {}", stored.recorded_at);
        } else {
            assert_eq!(stored.recorded_at, stored.occurred_at);
        }
    }
}

/// A later append continues the versions without a gap. (E3, S0-ES-017)
pub async fn append_to_an_existing_stream_continues_its_versions(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(2)).await;
    let second = append(&*store, &stream, Expected::Exists, events(3)).await;
    assert_eq!((second.streams[0].first.get(), second.streams[0].last.get()), (3, 5));
    assert_eq!(versions(&read(&*store, &stream).await), [1, 2, 3, 4, 5]);
    assert_eq!(head(&*store, &stream).await.version.map(changeover_core::events::Version::get), Some(5));
}

/// An append without streams, or with a stream without events, is invalid and writes nothing. (E4, X-ES-027, S0-ES-019)
pub async fn append_of_nothing_is_invalid(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(1)).await;
    let before = look(h, &*store).await;
    refused(store.append(Append { streams: Vec::new(), track: None }).await, ErrorKind::Invalid);
    refused(store.append(Append::one(stream.clone(), Expected::Any, Vec::new())).await, ErrorKind::Invalid);
    let full = StreamAppend { stream: crate::support::stream(), expected: Expected::Any, events: events(1) };
    let empty = StreamAppend { stream, expected: Expected::Any, events: Vec::new() };
    refused(store.append(Append { streams: vec![full, empty], track: None }).await, ErrorKind::Invalid);
    assert_eq!(look(h, &*store).await, before);
}

/// A batch of a thousand whose last event is refused stores none of them. (E5, X-EDGE-079)
pub async fn batch_is_all_or_nothing(h: &dyn AnyHarness) {
    let store = open(h).await;
    let taken = events(1);
    append(&*store, &stream(), Expected::NoStream, taken.clone()).await;
    let before = look(h, &*store).await;
    let stream = stream();
    let mut batch = events(1000);
    batch[999].id = taken[0].id;
    refused(
        store.append(Append::one(stream.clone(), Expected::NoStream, batch)).await,
        ErrorKind::AlreadyExists,
    );
    assert_eq!(head(&*store, &stream).await.version, None);
    assert_eq!(look(h, &*store).await, before);
}

/// A request that names an event id twice, in one stream or in two, is invalid as a whole. (E6)
pub async fn event_id_twice_in_one_append_is_invalid(h: &dyn AnyHarness) {
    let store = open(h).await;
    let before = look(h, &*store).await;
    let mut batch = events(3);
    batch[2].id = batch[0].id;
    refused(store.append(Append::one(stream(), Expected::Any, batch)).await, ErrorKind::Invalid);
    let same = event("OrderPlaced", 1);
    let part = || StreamAppend { stream: stream(), expected: Expected::Any, events: vec![same.clone()] };
    refused(store.append(Append { streams: vec![part(), part()], track: None }).await, ErrorKind::Invalid);
    let stream = stream();
    let twice = || StreamAppend { stream: stream.clone(), expected: Expected::Any, events: events(1) };
    refused(store.append(Append { streams: vec![twice(), twice()], track: None }).await, ErrorKind::Invalid);
    assert_eq!(look(h, &*store).await, before);
}

/// A batch of a thousand keeps its order, in the stream and in the log. (E7, X-EDGE-079)
pub async fn large_batch_keeps_its_order(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    let batch = events(1000);
    let given = new_ids(&batch);
    append(&*store, &stream, Expected::NoStream, batch).await;
    let stored = read(&*store, &stream).await;
    assert_eq!(ids(&stored), given);
    assert_eq!(versions(&stored), (1..=1000).collect::<Vec<_>>());
    assert_eq!(ids(&read_log(&*store).await.0), given);
}

/// Appends to two streams in turn keep the streams apart. (E8)
pub async fn interleaved_appends_keep_streams_apart(h: &dyn AnyHarness) {
    let store = open(h).await;
    let (a, b) = (stream(), stream());
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    for round in 0..10 {
        for (stream, given) in [(&a, &mut of_a), (&b, &mut of_b)] {
            let batch = events(1 + round % 3);
            given.extend(new_ids(&batch));
            append(&*store, stream, Expected::Any, batch).await;
        }
    }
    for (stream, given) in [(&a, of_a), (&b, of_b)] {
        let stored = read(&*store, stream).await;
        assert_eq!(ids(&stored), given);
        assert_eq!(versions(&stored), (1..=i64::try_from(given.len()).must("a count")).collect::<Vec<_>>());
        assert!(stored.iter().all(|event| event.stream == *stream));
    }
}

/// A refused append changes nothing that can be seen, and the next one works. (E9, S0-ES-014)
pub async fn failed_append_leaves_no_trace(h: &dyn AnyHarness) {
    let store = open(h).await;
    let (old, new) = (stream(), stream());
    append(&*store, &old, Expected::NoStream, events(2)).await;
    let before = look(h, &*store).await;
    for stream in [&old, &new] {
        let wrong = Expected::Exactly(crate::support::version(9));
        refused(
            store.append(Append::one(stream.clone(), wrong, events(3))).await,
            ErrorKind::VersionConflict,
        );
    }
    assert_eq!(head(&*store, &new).await.version, None);
    assert_eq!(look(h, &*store).await, before);
    append(&*store, &new, Expected::NoStream, events(1)).await;
    append(&*store, &old, Expected::Exactly(crate::support::version(2)), events(1)).await;
    assert_eq!(read_log(&*store).await.0.len(), 4);
}

/// When an append returns, a second client reads it. (E10)
pub async fn append_returns_after_others_can_read_it(h: &dyn AnyHarness) {
    let (writer, reader) = (open(h).await, open(h).await);
    let stream = stream();
    for round in 1..=20 {
        let appended = append(&*writer, &stream, Expected::Any, events(1)).await;
        assert_eq!(
            head(&*reader, &stream).await.version.map(changeover_core::events::Version::get),
            Some(round)
        );
        assert_eq!(log_head(&*reader).await, appended.checkpoint);
        assert_eq!(read_log(&*reader).await.0.last().map(|event| event.version.get()), Some(round));
    }
}

/// An append to many streams is stored whole, or refused whole for the first stream that is not as expected. (E11)
pub async fn append_to_many_streams_is_atomic(h: &dyn AnyHarness) {
    let store = open(h).await;
    let part = |stream: &_, expected, count| StreamAppend {
        stream: Clone::clone(stream),
        expected,
        events: events(count),
    };
    let (a, b, c) = (stream(), stream(), stream());
    append(&*store, &a, Expected::NoStream, events(1)).await;
    let both =
        vec![part(&b, Expected::NoStream, 2), part(&a, Expected::Exactly(crate::support::version(1)), 1)];
    let appended = store.append(Append { streams: both, track: None }).await.must("append to two streams");
    let places: Vec<_> = appended
        .streams
        .iter()
        .map(|part| (part.stream.clone(), part.first.get(), part.last.get()))
        .collect();
    assert_eq!(places, [(b.clone(), 1, 2), (a.clone(), 2, 2)], "in the order of the request");
    assert_eq!(log_head(&*store).await, appended.checkpoint);

    let before = look(h, &*store).await;
    let second_wrong = vec![
        part(&c, Expected::NoStream, 1),
        part(&a, Expected::NoStream, 1),
        part(&b, Expected::NoStream, 1),
    ];
    let error = refused(
        store.append(Append { streams: second_wrong, track: None }).await,
        ErrorKind::VersionConflict,
    );
    let named =
        matches!(error.detail(), Some(changeover_core::Detail::Conflict { stream, .. }) if *stream == a);
    assert!(named, "the first stream that is not as expected is named: {:?}", error.detail());
    assert_eq!(look(h, &*store).await, before);
}

/// Correlation, causation, metadata and schema version are each event's own within a batch. (E12, S0-ES-018)
pub async fn append_metadata_is_kept_event_by_event(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    let mut batch = events(6);
    for (index, event) in batch.iter_mut().enumerate() {
        event.causation_id = index.is_multiple_of(2).then(Uuid::new_v4);
        event.correlation_id = index.is_multiple_of(3).then(Uuid::new_v4);
        event.metadata = json(&format!(r#"{{"actor":"user-{index}"}}"#));
        event.schema_version =
            SchemaVersion::new(i64::try_from(index).must("a number") + 1).must("a schema version");
    }
    append(&*store, &stream, Expected::NoStream, batch.clone()).await;
    for (stored, given) in read(&*store, &stream).await.iter().zip(&batch) {
        assert_eq!(stored.causation_id, given.causation_id);
        assert_eq!(stored.correlation_id, given.correlation_id);
        assert_eq!(stored.metadata, given.metadata);
        assert_eq!(stored.schema_version, given.schema_version);
    }
}

/// A refused append uses no version: the next one leaves no hole in the stream. (E13, S0-ES-017)
pub async fn append_after_a_failed_one_leaves_no_hole(h: &dyn AnyHarness) {
    let store = open(h).await;
    let (stream, other) = (stream(), stream());
    let taken = events(1);
    append(&*store, &other, Expected::NoStream, taken.clone()).await;
    append(&*store, &stream, Expected::NoStream, events(1)).await;
    for round in 2..6 {
        let mut batch = events(3);
        batch[2].id = taken[0].id;
        refused(
            store.append(Append::one(stream.clone(), Expected::Any, batch)).await,
            ErrorKind::AlreadyExists,
        );
        let appended = append(&*store, &stream, Expected::Any, events(1)).await;
        assert_eq!(appended.streams[0].first.get(), round);
    }
    assert_eq!(versions(&read(&*store, &stream).await), [1, 2, 3, 4, 5]);
}

/// The checkpoint an append returns is that of its last event in the log. (E14)
pub async fn returned_checkpoint_is_that_of_the_last_event(h: &dyn AnyHarness) {
    let store = open(h).await;
    for count in [1, 2, 5] {
        let stream = stream();
        let appended = append(&*store, &stream, Expected::NoStream, events(count)).await;
        let last = read_log(&*store).await.0.pop().must("the last event of the log");
        assert_eq!((last.stream, last.checkpoint), (stream.clone(), appended.checkpoint));
        assert_eq!(head(&*store, &stream).await.checkpoint, Some(appended.checkpoint));
    }
}

/// What an append is given stays the caller's: it can be used again, and nothing of it is borrowed. (E15)
pub async fn input_can_be_used_again(h: &dyn AnyHarness) {
    let store = open(h).await;
    let (a, b) = (stream(), stream());
    let text = String::from(r#"{"kept":true}"#);
    let mut template = event("OrderPlaced", 0);
    template.data = json(&text);
    drop(text);
    append(&*store, &a, Expected::NoStream, vec![template.clone()]).await;
    template.id = Uuid::now_v7();
    append(&*store, &b, Expected::NoStream, vec![template.clone()]).await;
    assert_eq!(read(&*store, &a).await[0].data, template.data);
    assert_eq!(read(&*store, &b).await[0].data, template.data);
}
