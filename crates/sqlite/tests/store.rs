//! The store on a native file and on an adopted one, as far as SQLite makes a difference; the contract itself is the
//! conformance suite's matter.

mod common;

use changeover_core::events::{Append, Expected, HeadOf, ReadAll, ReadStream, Version};
use changeover_core::{Applied, Detail, ErrorKind};
use common::{File, event, everything, one, store, stream};
use rstest::rstest;

// E1, E2, E14, E30, E32: on both kinds of file.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_is_read_back_and_repeated_without_harm(#[case] file: File) {
    let events = file.store().await;
    let stream = stream();
    let request = one(&stream, Expected::NoStream, 3);
    let first = events.append(request.clone()).await.unwrap();
    assert_eq!((first.streams[0].first.get(), first.streams[0].last.get()), (1, 3));

    let page = events.read_stream(ReadStream::all(stream.clone())).await.unwrap();
    assert_eq!(page.head, Some(Version::new(3).unwrap()));
    assert!(page.next.is_none());
    for (stored, sent) in page.events.iter().zip(&request.streams[0].events) {
        assert!(stored.is_repeat_of(&stream, sent));
    }
    let again = events.append(request.clone()).await.unwrap();
    assert!(again.repeated);
    assert_eq!((&again.streams, again.checkpoint), (&first.streams, first.checkpoint));

    let mut other = request.clone();
    other.streams[0].expected = Expected::Any;
    other.streams[0].events.truncate(1);
    other.streams[0].events[0].event_type = event("Cancelled").event_type;
    let refused = events.append(other.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(refused.was_applied(), Some(Applied::No));
    assert_eq!(refused.detail(), Some(&Detail::Exists { id: other.streams[0].events[0].id }));

    let stale = events.append(one(&stream, Expected::Exactly(Version::FIRST), 1)).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::VersionConflict, "{stale}");

    let all = everything(&*events).await;
    assert_eq!(all.len(), 3);
    assert_eq!(all[2].checkpoint, first.checkpoint);
    let head = events.head(HeadOf::Stream(stream)).await.unwrap();
    assert_eq!((head.version, head.checkpoint), (Version::new(3).ok(), Some(first.checkpoint)));
}

// E24, E28, X-EDGE-061: of concurrent appends that expect the same version one wins, on one backend and on two.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_writers_one_wins(#[case] file: File) {
    let (one_process, other_process) = (file.store().await, file.store().await);
    let stream = stream();
    let writers = (0..20).map(|index| {
        let events = if index % 2 == 0 { one_process.clone() } else { other_process.clone() };
        let request = one(&stream, Expected::NoStream, 2);
        tokio::spawn(async move { events.append(request).await })
    });
    let mut won = 0;
    for writer in writers.collect::<Vec<_>>() {
        match writer.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::VersionConflict, "{error}"),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(everything(&*one_process).await.len(), 2);
}

// E118: data, heads and checkpoints are there after a restart.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn everything_outlives_the_process(#[case] file: File) {
    let stream = stream();
    let open = file.open().await;
    let appended = store(&open).await.append(one(&stream, Expected::Any, 2)).await.unwrap();
    changeover_core::OpenBackend::close(&open).await;
    drop(open);

    let events = file.store().await;
    let rest = ReadAll { after: Some(appended.checkpoint), ..ReadAll::default() };
    let page = events.read_all(rest).await.unwrap();
    assert!(page.events.is_empty() && page.caught_up && page.checkpoint == appended.checkpoint);
    let more = events.append(one(&stream, Expected::Exactly(Version::new(2).unwrap()), 1)).await.unwrap();
    assert!(more.checkpoint > appended.checkpoint);
}

// E11: several streams in one append, all or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_append_are_stored_together_or_not_at_all() {
    let file = File::new();
    let events = file.store().await;
    let (a, b) = (stream(), stream());
    events.append(one(&a, Expected::NoStream, 1)).await.unwrap();
    let mut both = one(&b, Expected::NoStream, 1);
    both.streams.extend(one(&a, Expected::NoStream, 1).streams);
    let refused = events.append(Append { track: None, ..both.clone() }).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::VersionConflict);
    assert_eq!(events.head(HeadOf::Stream(b.clone())).await.unwrap().version, None);
    both.streams[1].expected = Expected::Exists;
    let stored = events.append(both).await.unwrap();
    assert_eq!(stored.streams[1].first.get(), 2);
}
