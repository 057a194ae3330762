//! Reading one stream, page by page.

use changeover_core::events::{Direction, Expected, PageToken, ReadStream, StreamPage};
use changeover_core::{ErrorKind, EventStore};

use crate::harness::AnyHarness;
use crate::support::{
    Must, append, event, events, head, limit, open, read, read_pages, refused, stream, version, versions,
};

async fn page(store: &dyn EventStore, request: &ReadStream) -> StreamPage {
    store.read_stream(request.clone()).await.must("read a page")
}

/// A stream that does not exist gives an empty page without a head. (E38, X-ES-020)
pub async fn missing_stream_is_an_empty_page(h: &dyn AnyHarness) {
    let store = open(h).await;
    append(&*store, &stream(), Expected::NoStream, events(1)).await;
    let missing = stream();
    for direction in [Direction::Forward, Direction::Backward] {
        let page = page(&*store, &ReadStream { direction, ..ReadStream::all(missing.clone()) }).await;
        assert_eq!(page, StreamPage { events: Vec::new(), head: None, next: None });
    }
    let head = head(&*store, &missing).await;
    assert_eq!((head.version, head.checkpoint), (None, None));
}

/// Reading forward begins at the version asked for, also at the last one and after it. (E39, X-ES-020)
pub async fn forward_read_begins_where_asked(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(5)).await;
    for (first, found) in [(1, vec![1, 2, 3, 4, 5]), (3, vec![3, 4, 5]), (5, vec![5]), (6, vec![])] {
        let page =
            page(&*store, &ReadStream { first: Some(version(first)), ..ReadStream::all(stream.clone()) })
                .await;
        assert_eq!(versions(&page.events), found, "from {first}");
        assert_eq!(page.head, Some(version(5)));
        assert_eq!(page.next, None);
    }
}

/// Reading backward with limit 1 gives the last event. (E40, X-ES-020)
pub async fn backward_read_begins_at_the_head(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(5)).await;
    let backward = ReadStream { direction: Direction::Backward, ..ReadStream::all(stream) };
    let last = page(&*store, &ReadStream { limit: limit(1), ..backward.clone() }).await;
    assert_eq!(versions(&last.events), [5]);
    assert!(last.next.is_some());
    assert_eq!(versions(&page(&*store, &backward).await.events), [5, 4, 3, 2, 1]);
}

/// Lower and upper bound are inclusive both ways; inverted bounds give an empty page. (E41, X-EDGE-067)
pub async fn bounds_are_inclusive_both_ways(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(6)).await;
    for (first, last, found) in [
        (2, 4, vec![2, 3, 4]),
        (3, 3, vec![3]),
        (1, 9, vec![1, 2, 3, 4, 5, 6]),
        (4, 2, vec![]),
        (7, 9, vec![]),
    ] {
        let bounded = ReadStream {
            first: Some(version(first)),
            last: Some(version(last)),
            ..ReadStream::all(stream.clone())
        };
        let forward = page(&*store, &bounded).await;
        assert_eq!(versions(&forward.events), found, "{first} to {last}");
        let mut backward =
            page(&*store, &ReadStream { direction: Direction::Backward, ..bounded }).await.events;
        backward.reverse();
        assert_eq!(backward, forward.events, "{first} to {last} backward");
        assert_eq!((forward.head, forward.next), (Some(version(6)), None));
    }
}

/// A limit of 0 or above the largest cannot be made; 1, more than there is, and the largest work. (E42, X-EDGE-063)
pub async fn limits_are_kept_or_refused(h: &dyn AnyHarness) {
    use changeover_core::Limit;
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(3)).await;
    for bad in [0, -1, i64::from(Limit::MAX) + 1, i64::MAX, i64::MIN] {
        refused(Limit::new(bad), ErrorKind::Invalid);
    }
    for (asked, found, more) in
        [(1, 1, true), (3, 3, false), (4, 3, false), (i64::from(Limit::MAX), 3, false)]
    {
        let page =
            page(&*store, &ReadStream { limit: limit(asked), ..ReadStream::all(stream.clone()) }).await;
        assert_eq!((page.events.len(), page.next.is_some()), (found, more), "limit {asked}");
    }
}

/// Pages joined give what one read gives, for every page size and both ways. (E43)
pub async fn joined_pages_equal_one_read(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(15)).await;
    for direction in [Direction::Forward, Direction::Backward] {
        let whole = ReadStream { direction, ..ReadStream::all(stream.clone()) };
        let expected = page(&*store, &whole).await.events;
        assert_eq!(expected.len(), 15);
        for size in [1, 2, 7, 14, 15, 16] {
            let paged = read_pages(&*store, ReadStream { limit: limit(size), ..whole.clone() }).await;
            assert_eq!(paged, expected, "pages of {size}, {direction:?}");
        }
    }
}

/// The last page says so: no token is given when nothing more matches. (E44)
pub async fn last_page_has_no_token(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    let mut batch = events(6);
    batch[0] = event("OrderOpened", 0);
    append(&*store, &stream, Expected::NoStream, batch).await;
    let mut request = ReadStream { limit: limit(3), ..ReadStream::all(stream.clone()) };
    let first = page(&*store, &request).await;
    request.page = Some(first.next.must("a token: three more match"));
    let second = page(&*store, &request).await;
    assert_eq!((versions(&second.events), second.next), (vec![4, 5, 6], None));
    // More events are in the stream, but no more that match.
    let opened = first.events[0].event_type.clone();
    let filtered =
        ReadStream { event_types: Some(vec![opened]), limit: limit(1), ..ReadStream::all(stream.clone()) };
    let page_of_type = page(&*store, &filtered).await;
    assert_eq!((versions(&page_of_type.events), page_of_type.next), (vec![1], None));
    let bounded = ReadStream { last: Some(version(2)), limit: limit(2), ..ReadStream::all(stream) };
    assert_eq!(page(&*store, &bounded).await.next, None);
}

/// Events appended between two pages come at the end of a forward read and never shift or repeat anything. (E45, X-EDGE-065)
pub async fn appends_between_pages_shift_nothing(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(4)).await;
    for (direction, expected) in
        [(Direction::Forward, (1..=10).collect::<Vec<_>>()), (Direction::Backward, (1..=10).rev().collect())]
    {
        let mut request = ReadStream { direction, limit: limit(2), ..ReadStream::all(stream.clone()) };
        let mut seen = Vec::new();
        for round in 0.. {
            if round < 3 && direction == Direction::Forward {
                append(&*store, &stream, Expected::Any, events(2)).await;
            }
            if round == 1 && direction == Direction::Backward {
                append(&*store, &stream, Expected::Any, events(2)).await;
            }
            let page = page(&*store, &request).await;
            seen.extend(versions(&page.events));
            let Some(next) = page.next else { break };
            request.page = Some(next);
        }
        assert_eq!(seen, expected, "{direction:?}");
    }
}

/// Text that is not a page token, cut or changed tokens are invalid. (E46)
pub async fn garbage_page_tokens_are_invalid(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(4)).await;
    let request = ReadStream { limit: limit(2), ..ReadStream::all(stream) };
    let token = page(&*store, &request).await.next.must("a token").to_string();
    assert_eq!(token.parse::<PageToken>().must("the token's own text").to_string(), token);
    let cut = &token[..token.len() - 1];
    let (longer, capital, newer) =
        (format!("{token}.1"), token.to_uppercase(), token.replacen("p1", "p2", 1));
    for bad in ["", "garbage", "p1..", "p1.zz.1", cut, &longer, &capital, &newer, " "] {
        refused(bad.parse::<PageToken>(), ErrorKind::Invalid);
    }
    let digit = if token.as_bytes()[3] == b'0' { "1" } else { "0" };
    let changed = format!("p1.{digit}{}", &token[4..]).parse().must("well formed, but of no read");
    let answer = store.read_stream(ReadStream { page: Some(changed), ..request }).await;
    refused(answer, ErrorKind::Invalid);
}

/// A page token is of use for its own stream, direction, range and filter only. (E47)
pub async fn page_token_of_another_read_is_invalid(h: &dyn AnyHarness) {
    let store = open(h).await;
    let (a, b) = (stream(), stream());
    for stream in [&a, &b] {
        append(&*store, stream, Expected::NoStream, events(4)).await;
    }
    let request = ReadStream { limit: limit(2), ..ReadStream::all(a) };
    let first = page(&*store, &request).await;
    let own = ReadStream { page: first.next, ..request };
    let others = [
        ReadStream { stream: b, ..own.clone() },
        ReadStream { direction: Direction::Backward, ..own.clone() },
        ReadStream { first: Some(version(1)), ..own.clone() },
        ReadStream { last: Some(version(4)), ..own.clone() },
        ReadStream { event_types: Some(vec![first.events[0].event_type.clone()]), ..own.clone() },
        ReadStream { event_types: Some(Vec::new()), ..own.clone() },
    ];
    for other in others {
        refused(store.read_stream(other).await, ErrorKind::Invalid);
    }
    // The page size is not part of the read.
    let larger = page(&*store, &ReadStream { limit: limit(9), ..own }).await;
    assert_eq!(versions(&larger.events), [3, 4]);
}

/// A filter by event type gives those types only; an unknown type and an empty list match nothing. (E48)
pub async fn event_type_filter_gives_those_types_only(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    let kinds = ["Opened", "Paid", "opened", "Paid", "Open%", "Opened"];
    let batch: Vec<_> = kinds.iter().enumerate().map(|(number, kind)| event(kind, number)).collect();
    append(&*store, &stream, Expected::NoStream, batch).await;
    let table: [(&[&str], &[i64]); 7] = [
        (&["Paid"], &[2, 4]),
        (&["Opened"], &[1, 6]),
        (&["Opened", "Paid"], &[1, 2, 4, 6]),
        (&["Open%"], &[5]),
        (&["Open"], &[]),
        (&["Shipped"], &[]),
        (&[], &[]),
    ];
    for (wanted, found) in table {
        let types = wanted.iter().map(|kind| changeover_core::EventType::new(*kind).must("a type")).collect();
        let request =
            ReadStream { event_types: Some(types), limit: limit(2), ..ReadStream::all(stream.clone()) };
        assert_eq!(
            page(&*store, &request).await.head,
            Some(version(6)),
            "the head does not depend on the filter"
        );
        assert_eq!(versions(&read_pages(&*store, request.clone()).await), found, "{wanted:?}");
        let backward = ReadStream { direction: Direction::Backward, ..request };
        let mut back = versions(&read_pages(&*store, backward).await);
        back.reverse();
        assert_eq!(back, found, "{wanted:?} backward");
    }
}

/// A page never shows a part of an append that another client is committing. (E49)
pub async fn page_never_shows_half_of_a_batch(h: &dyn AnyHarness) {
    const BATCH: usize = 25;
    let (writer, reader) = (open(h).await, open(h).await);
    let stream = stream();
    let writing = {
        let stream = stream.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                append(&*writer, &stream, Expected::Any, events(BATCH)).await;
            }
        })
    };
    let whole = ReadStream { limit: limit(10_000), ..ReadStream::all(stream.clone()) };
    loop {
        let over = writing.is_finished();
        let page = page(&*reader, &whole).await;
        assert_eq!(page.events.len() % BATCH, 0, "{} events of batches of {BATCH}", page.events.len());
        let last = page.events.last().map(|event| event.version);
        assert_eq!(page.head, last, "the head is of the same moment as the page");
        if over {
            break;
        }
        // A store that never waits would else keep the writer from its thread.
        tokio::task::yield_now().await;
    }
    writing.await.must("the writer");
    assert_eq!(read(&*reader, &stream).await.len(), 20 * BATCH);
}

/// A stream of ten thousand events is read page by page, none larger than asked for. (E50)
pub async fn long_stream_is_read_page_by_page(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    for _ in 0..10 {
        append(&*store, &stream, Expected::Any, events(1000)).await;
    }
    let mut request = ReadStream { limit: limit(777), ..ReadStream::all(stream) };
    let (mut seen, mut pages) = (0, 0);
    loop {
        let page = page(&*store, &request).await;
        assert!(page.events.len() <= 777, "a page of {}", page.events.len());
        for event in &page.events {
            seen += 1;
            assert_eq!(event.version.get(), seen);
        }
        pages += 1;
        let Some(next) = page.next else { break };
        request.page = Some(next);
    }
    assert_eq!((seen, pages), (10_000, 13));
}
