//! Reading the whole log: order, checkpoints, filters.

use changeover_core::events::{Append, EventFilter, Expected, HeadOf, ReadAll, Subscribe, Track};
use changeover_core::{AggregateType, Checkpoint, ConsumerName, ErrorKind, EventType, LogId, Uuid};

use crate::harness::AnyHarness;
use crate::support::{
    Must, append, event, events, ids, in_time, limit, log_head, open, read, read_log, read_on, refused,
    stream, stream_of,
};

/// Positions in the log rise strictly, within a page and from page to page. (E51, X-ES-021)
pub async fn positions_rise_strictly(h: &dyn AnyHarness) {
    let store = open(h).await;
    for count in [1, 7, 3, 40] {
        append(&*store, &stream(), Expected::NoStream, events(count)).await;
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page =
            store.read_all(ReadAll { after, limit: limit(5), ..ReadAll::default() }).await.must("a page");
        assert!(page.events.len() <= 5);
        assert!(page.events.last().is_none_or(|last| last.checkpoint <= page.checkpoint));
        seen.extend(page.events);
        after = Some(page.checkpoint);
        if page.caught_up {
            break;
        }
    }
    assert_eq!(seen.len(), 51);
    let start = Checkpoint::start(seen[0].checkpoint.log());
    assert!(start < seen[0].checkpoint, "position 0 is before the first event");
    assert!(seen.windows(2).all(|pair| pair[0].checkpoint < pair[1].checkpoint));
}

/// The order of a stream's events in the log is their order in the stream. (E52, X-ES-021)
pub async fn log_keeps_the_order_of_each_stream(h: &dyn AnyHarness) {
    let store = open(h).await;
    let streams = [stream(), stream(), stream()];
    let writers = streams.iter().map(|stream| {
        let store = store.clone();
        async move {
            for count in 1..=6 {
                append(&*store, stream, Expected::Any, events(count)).await;
            }
        }
    });
    futures::future::join_all(writers).await;
    let (log, _) = read_log(&*store).await;
    assert_eq!(log.len(), 63);
    for stream in &streams {
        let of_stream: Vec<_> = log.iter().filter(|event| event.stream == *stream).cloned().collect();
        assert_eq!(of_stream, read(&*store, stream).await);
    }
}

/// Reading after a checkpoint excludes it; at the end there is an empty page with the same checkpoint. (E59, X-EDGE-082)
pub async fn after_is_exclusive(h: &dyn AnyHarness) {
    let store = open(h).await;
    let empty = store.read_all(ReadAll::default()).await.must("read an empty log");
    assert_eq!((empty.events.len(), empty.caught_up, empty.checkpoint.position()), (0, true, 0));
    append(&*store, &stream(), Expected::NoStream, events(5)).await;
    let (log, end) = read_log(&*store).await;
    for (index, event) in log.iter().enumerate() {
        let (rest, reached) = read_on(&*store, Some(event.checkpoint), EventFilter::default()).await;
        assert_eq!((rest.as_slice(), reached), (&log[index + 1..], end));
    }
    let start = Checkpoint::start(end.log());
    assert_eq!(read_on(&*store, Some(start), EventFilter::default()).await.0, log);
    let page =
        store.read_all(ReadAll { after: Some(end), ..ReadAll::default() }).await.must("read at the end");
    assert_eq!((page.events.len(), page.checkpoint, page.caught_up), (0, end, true));
}

/// A checkpoint means the same to a second client and after the store was closed and opened again. (E60)
pub async fn checkpoint_means_the_same_to_every_client(h: &dyn AnyHarness) {
    let first = h.client().await;
    let store = first.events(&h.scope(), &h.tenant()).await.must("open the store");
    append(&*store, &stream(), Expected::NoStream, events(6)).await;
    let (log, end) = read_log(&*store).await;
    let middle = log[2].checkpoint;
    let second = open(h).await;
    assert_eq!(read_on(&*second, Some(middle), EventFilter::default()).await, (log[3..].to_vec(), end));
    store.close().await.must("close");
    first.close().await;
    let again = open(h).await;
    assert_eq!(log_head(&*again).await, end);
    assert_eq!(read_on(&*again, Some(middle), EventFilter::default()).await, (log[3..].to_vec(), end));
}

/// A checkpoint of another log is invalid, for reading, following and tracking. (E61)
pub async fn checkpoint_of_another_log_is_invalid(h: &dyn AnyHarness) {
    let store = open(h).await;
    append(&*store, &stream(), Expected::NoStream, events(1)).await;
    let foreign = Checkpoint::new(LogId(Uuid::new_v4()), 1).must("a checkpoint");
    refused(store.read_all(ReadAll { after: Some(foreign), ..ReadAll::default() }).await, ErrorKind::Invalid);
    let followed = match store.subscribe(Subscribe { after: Some(foreign), ..Subscribe::default() }).await {
        Ok(mut subscription) => subscription.next().await.must("an end"),
        Err(error) => Err(error),
    };
    refused(followed, ErrorKind::Invalid);
    let consumer = ConsumerName::new("projection").must("a consumer");
    let track = Some(Track { consumer: consumer.clone(), checkpoint: foreign });
    refused(store.append(Append { streams: Vec::new(), track }).await, ErrorKind::Invalid);
    assert_eq!(store.tracked(consumer).await.must("the tracked checkpoint"), None);
}

/// A checkpoint beyond the end of the log is one that the log never returned, as after a restore: invalid, for reading and
/// following, until the log has come as far. (E132)
pub async fn checkpoint_beyond_the_end_is_invalid(h: &dyn AnyHarness) {
    let store = open(h).await;
    append(&*store, &stream(), Expected::NoStream, events(3)).await;
    let (log, end) = read_log(&*store).await;
    for steps in [1, 1_000, i64::MAX - end.position()] {
        let beyond = Checkpoint::new(end.log(), end.position() + steps).must("a checkpoint");
        let read = store.read_all(ReadAll { after: Some(beyond), ..ReadAll::default() }).await;
        refused(read, ErrorKind::Invalid);
        let followed = match store.subscribe(Subscribe { after: Some(beyond), ..Subscribe::default() }).await
        {
            Ok(mut subscription) => in_time("an end", subscription.next()).await.must("an end"),
            Err(error) => Err(error),
        };
        refused(followed, ErrorKind::Invalid);
    }
    assert_eq!(read_log(&*store).await, (log, end));
    let more = append(&*store, &stream(), Expected::NoStream, events(1)).await.checkpoint;
    for reached in [end, more] {
        read_on(&*store, Some(reached), EventFilter::default()).await;
    }
}

/// A checkpoint survives its text and keeps its order; text of an unknown format is invalid. (E62)
pub async fn checkpoint_survives_its_text(h: &dyn AnyHarness) {
    let store = open(h).await;
    append(&*store, &stream(), Expected::NoStream, events(12)).await;
    let (log, _) = read_log(&*store).await;
    let texts: Vec<_> = log.iter().map(|event| event.checkpoint.to_string()).collect();
    let parsed: Vec<Checkpoint> =
        texts.iter().map(|text| text.parse().must("the checkpoint's own text")).collect();
    assert!(parsed.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(read_on(&*store, Some(parsed[8]), EventFilter::default()).await.0, log[9..]);
    for bad in [texts[0].replacen("c1", "c2", 1), format!("{}.1", texts[0]), texts[0].replace('.', ":")] {
        refused(bad.parse::<Checkpoint>(), ErrorKind::Invalid);
    }
}

/// Only a page after which nothing newer was committed says that it is caught up. (E64)
pub async fn caught_up_is_said_at_the_end_only(h: &dyn AnyHarness) {
    let store = open(h).await;
    append(&*store, &stream(), Expected::NoStream, events(9)).await;
    let end = log_head(&*store).await;
    for size in [1, 2, 8, 9, 10] {
        let mut after = None;
        loop {
            let page = store
                .read_all(ReadAll { after, limit: limit(size), ..ReadAll::default() })
                .await
                .must("a page");
            assert!(page.checkpoint <= end);
            if page.caught_up {
                assert_eq!(page.checkpoint, end, "pages of {size}");
                break;
            }
            assert!(after < Some(page.checkpoint), "pages of {size} move on");
            after = Some(page.checkpoint);
        }
    }
    append(&*store, &stream(), Expected::NoStream, events(2)).await;
    let page = store.read_all(ReadAll { after: Some(end), limit: limit(1), ..ReadAll::default() }).await;
    assert!(!page.must("a page").caught_up, "one more was committed");
}

/// The checkpoint moves on over events that do not match, also when the page is empty. (E65)
pub async fn checkpoint_moves_on_over_what_does_not_match(h: &dyn AnyHarness) {
    let store = open(h).await;
    append(&*store, &stream(), Expected::NoStream, vec![event("Rare", 0)]).await;
    for _ in 0..3 {
        append(&*store, &stream(), Expected::NoStream, events(400)).await;
    }
    let end = log_head(&*store).await;
    let only = |kind| EventFilter {
        event_types: Some(vec![EventType::new(kind).must("a type")]),
        ..EventFilter::default()
    };
    let (found, reached) = read_on(&*store, None, only("Rare")).await;
    assert_eq!((found.len(), reached), (1, end));
    let (none, reached) = read_on(&*store, None, only("Missing")).await;
    assert_eq!((none.len(), reached), (0, end));
    let (none, reached) = read_on(&*store, Some(found[0].checkpoint), only("Rare")).await;
    assert_eq!((none.len(), reached), (0, end));
    append(&*store, &stream(), Expected::NoStream, vec![event("Rare", 1)]).await;
    assert_eq!(read_on(&*store, Some(end), only("Rare")).await.0.len(), 1, "what comes later is found");
}

/// Reading by stream, category and event type equals the whole log filtered, and filters compare bytes. (E67, X-EDGE-068)
pub async fn filtered_read_equals_the_filtered_log(h: &dyn AnyHarness) {
    let store = open(h).await;
    let categories = ["Order", "order", "OrderLine", "Order%", "Order_", "Ord\u{e9}r"];
    let kinds = ["Opened", "opened", "Open_d", "Open%"];
    let mut streams = Vec::new();
    for category in categories {
        for _ in 0..2 {
            let stream = stream_of(category);
            let batch = kinds.iter().enumerate().map(|(number, kind)| event(kind, number)).collect();
            append(&*store, &stream, Expected::NoStream, batch).await;
            streams.push(stream);
        }
    }
    let (log, end) = read_log(&*store).await;
    let category = |name: &str| AggregateType::new(name).must("a category");
    let kind = |name: &str| EventType::new(name).must("a type");
    let mut filters = vec![
        EventFilter { streams: Some(vec![streams[0].clone(), streams[5].clone()]), ..EventFilter::default() },
        EventFilter { streams: Some(vec![stream()]), ..EventFilter::default() },
        EventFilter { streams: Some(Vec::new()), ..EventFilter::default() },
        EventFilter { aggregate_types: Some(Vec::new()), ..EventFilter::default() },
        EventFilter { event_types: Some(Vec::new()), ..EventFilter::default() },
        EventFilter {
            streams: Some(streams[..4].to_vec()),
            aggregate_types: Some(vec![category("order"), category("Order%")]),
            event_types: Some(vec![kind("Opened"), kind("Open%")]),
        },
    ];
    filters.extend(
        categories.iter().map(|name| EventFilter {
            aggregate_types: Some(vec![category(name)]),
            ..EventFilter::default()
        }),
    );
    filters.extend(
        kinds
            .iter()
            .map(|name| EventFilter { event_types: Some(vec![kind(name)]), ..EventFilter::default() }),
    );
    for filter in filters {
        let expected: Vec<_> =
            log.iter().filter(|event| filter.matches(&event.stream, &event.event_type)).cloned().collect();
        let (found, reached) = read_on(&*store, None, filter.clone()).await;
        assert_eq!(ids(&found), ids(&expected), "{filter:?}");
        assert_eq!((found, reached), (expected, end), "{filter:?}");
    }
    let many = EventFilter {
        event_types: Some(vec![kind("x"); EventFilter::MAX_ENTRIES + 1]),
        ..EventFilter::default()
    };
    refused(store.read_all(ReadAll { filter: many, ..ReadAll::default() }).await, ErrorKind::TooLarge);
    let head = store.head(HeadOf::Log).await.must("the head of the log");
    assert_eq!((head.version, head.checkpoint), (None, Some(end)));
}
