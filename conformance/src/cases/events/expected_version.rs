//! Optimistic concurrency: what a caller expects of a stream.

use std::time::Duration;

use changeover_core::events::{Append, Expected, ReadStream, StreamId};
use changeover_core::{Applied, Detail, Error, ErrorKind};
use futures::future::join_all;
use tokio::task::JoinSet;

use crate::harness::AnyHarness;
use crate::support::{
    Must, append, event, events, head, look, open, or_note, read, refused, stream, version, versions,
};

/// Asserts a conflict that names stream, expected and actual version, and that nothing was stored.
#[track_caller]
fn assert_conflict(error: &Error, on: &StreamId, wanted: Expected, found: Option<i64>) {
    let Some(Detail::Conflict { stream, expected, actual }) = error.detail() else {
        panic!("a conflict without its detail: {error}");
    };
    assert_eq!((stream, *expected, actual.map(changeover_core::events::Version::get)), (on, wanted, found));
    assert_eq!(error.was_applied(), Some(Applied::No));
    assert!(!error.may_retry(true), "a conflict is not to be retried");
}

/// Nothing expected, nothing there: the append succeeds. (E16, X-ES-024)
pub async fn no_stream_on_a_new_stream_succeeds(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(1)).await;
    assert_eq!(versions(&read(&*store, &stream).await), [1]);
}

/// Nothing expected, but the stream exists: refused with the actual version. (E17, X-ES-024)
pub async fn no_stream_on_an_existing_stream_is_refused(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(3)).await;
    let before = look(h, &*store).await;
    let again = store.append(Append::one(stream.clone(), Expected::NoStream, events(1))).await;
    assert_conflict(&refused(again, ErrorKind::VersionConflict), &stream, Expected::NoStream, Some(3));
    assert_eq!(look(h, &*store).await, before);
}

/// A stream expected that does not exist: refused, and it still does not exist. (E18, X-ES-024, S0-ES-014)
pub async fn exists_on_a_missing_stream_is_refused(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    let before = look(h, &*store).await;
    let answer = store.append(Append::one(stream.clone(), Expected::Exists, events(1))).await;
    assert_conflict(&refused(answer, ErrorKind::VersionConflict), &stream, Expected::Exists, None);
    assert_eq!(look(h, &*store).await, before);
}

/// The right version expected: the append succeeds. (E19, X-ES-024)
pub async fn exactly_the_right_version_succeeds(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(2)).await;
    append(&*store, &stream, Expected::Exactly(version(2)), events(2)).await;
    append(&*store, &stream, Expected::Exactly(version(4)), events(1)).await;
    append(&*store, &stream, Expected::Exists, events(1)).await;
    assert_eq!(versions(&read(&*store, &stream).await), [1, 2, 3, 4, 5, 6]);
}

/// A stale expectation is refused with the expected and the actual version. (E20, S0-ES-015, X-EDGE-078)
pub async fn append_with_stale_version_is_refused(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(3)).await;
    let before = look(h, &*store).await;
    for stale in [1, 2] {
        let expected = Expected::Exactly(version(stale));
        let answer = store.append(Append::one(stream.clone(), expected, events(2))).await;
        assert_conflict(&refused(answer, ErrorKind::VersionConflict), &stream, expected, Some(3));
    }
    assert_eq!(look(h, &*store).await, before);
}

/// A version expected that is not there yet, or of a stream that does not exist, is refused. (E21, X-EDGE-078)
pub async fn append_with_version_ahead_is_refused(h: &dyn AnyHarness) {
    let store = open(h).await;
    let (stream, missing) = (stream(), stream());
    append(&*store, &stream, Expected::NoStream, events(3)).await;
    let before = look(h, &*store).await;
    let expected = Expected::Exactly(version(4));
    let answer = store.append(Append::one(stream.clone(), expected, events(1))).await;
    assert_conflict(&refused(answer, ErrorKind::VersionConflict), &stream, expected, Some(3));
    let expected = Expected::Exactly(version(1));
    let answer = store.append(Append::one(missing.clone(), expected, events(1))).await;
    assert_conflict(&refused(answer, ErrorKind::VersionConflict), &missing, expected, None);
    assert_eq!(look(h, &*store).await, before);
}

/// Without an expectation an append works on new and on existing streams. (E22, X-ES-024)
pub async fn any_appends_to_new_and_existing_streams(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    for last in 1..=3 {
        let appended = append(&*store, &stream, Expected::Any, events(1)).await;
        assert_eq!(appended.streams[0].last.get(), last);
    }
}

/// Where a wrong expectation meets a taken event id, the conflict is reported. (E23)
pub async fn conflict_is_judged_before_a_taken_id(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    let stored = events(2);
    append(&*store, &stream, Expected::NoStream, stored.clone()).await;
    let before = look(h, &*store).await;
    let mut other = vec![event("OrderPlaced", 99)];
    other[0].id = stored[0].id;
    let answer = store.append(Append::one(stream.clone(), Expected::NoStream, other.clone())).await;
    assert_conflict(&refused(answer, ErrorKind::VersionConflict), &stream, Expected::NoStream, Some(2));
    let answer = store.append(Append::one(stream.clone(), Expected::Exactly(version(2)), other)).await;
    refused(answer, ErrorKind::AlreadyExists);
    assert_eq!(look(h, &*store).await, before);
}

/// Of many writers with the same expectation exactly one wins, all others get the conflict. (E24, S0-ES-016, X-EDGE-080)
pub async fn of_racing_writers_exactly_one_wins(h: &dyn AnyHarness) {
    let clients = [open(h).await, open(h).await];
    for start in [0, 1] {
        let stream = stream();
        if start > 0 {
            append(&*clients[0], &stream, Expected::NoStream, events(1)).await;
        }
        let expected = if start == 0 { Expected::NoStream } else { Expected::Exactly(version(start)) };
        let tasks = (0..16).map(|writer| {
            let (store, stream) = (clients[writer % 2].clone(), stream.clone());
            tokio::spawn(async move { store.append(Append::one(stream, expected, events(2))).await })
        });
        let answers: Vec<_> =
            join_all(tasks).await.into_iter().map(|answer| answer.must("a writer")).collect();
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "winners among {answers:?}");
        for loser in answers.into_iter().filter(Result::is_err) {
            let error = refused(loser, ErrorKind::VersionConflict);
            assert_conflict(&error, &stream, expected, Some(start + 2));
        }
        assert_eq!(read(&*clients[0], &stream).await.len(), usize::try_from(start + 2).must("a count"));
    }
}

/// Writers that load, append and retry on conflict lose no event and leave no gap. (E25, S0-ES-016)
pub async fn retrying_writers_lose_no_update(h: &dyn AnyHarness) {
    const WRITERS: usize = 4;
    const EACH: usize = 10;
    let stream = stream();
    let tasks = (0..WRITERS).map(|_| {
        let stream = stream.clone();
        async move {
            let store = open(h).await;
            for _ in 0..EACH {
                let batch = events(1);
                loop {
                    let expected = Expected::loaded(head(&*store, &stream).await.version);
                    match store.append(Append::one(stream.clone(), expected, batch.clone())).await {
                        Ok(_) => break,
                        Err(error) if error.kind() == ErrorKind::VersionConflict => {}
                        Err(error) => panic!("a writer met {error}"),
                    }
                }
            }
        }
    });
    join_all(tasks).await;
    let store = open(h).await;
    let count = i64::try_from(WRITERS * EACH).must("a count");
    assert_eq!(versions(&read(&*store, &stream).await), (1..=count).collect::<Vec<_>>());
}

/// The losers of a race leave nothing behind in any table. (E26, S0-ES-014)
pub async fn losers_leave_nothing_behind(h: &dyn AnyHarness) {
    let store = open(h).await;
    if let Err(why) = h.faults().row_counts().await {
        crate::support::without("count the rows of each table", why);
    }
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(1)).await;
    let before = look(h, &*store).await;
    let racers = (0..8).map(|writer| {
        let expected = if writer % 2 == 0 { Expected::NoStream } else { Expected::Exactly(version(7)) };
        store.append(Append::one(stream.clone(), expected, events(5)))
    });
    for answer in join_all(racers).await {
        refused(answer, ErrorKind::VersionConflict);
    }
    assert_eq!(look(h, &*store).await, before);
}

/// Versions beyond 32 and 53 bits are compared exactly and reported unchanged. (E27, X-EDGE-078)
pub async fn huge_versions_are_compared_exactly(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(1)).await;
    for huge in [(1 << 31) - 1, 1 << 31, (1 << 32) + 1, (1 << 53) + 1, i64::MAX - 1, i64::MAX] {
        let expected = Expected::Exactly(version(huge));
        let answer = store.append(Append::one(stream.clone(), expected, events(1))).await;
        assert_conflict(&refused(answer, ErrorKind::VersionConflict), &stream, expected, Some(1));
        let beyond = ReadStream { first: Some(version(huge)), ..ReadStream::all(stream.clone()) };
        assert!(store.read_stream(beyond).await.must("read beyond the end").events.is_empty());
        let up_to = ReadStream { last: Some(version(huge)), ..ReadStream::all(stream.clone()) };
        assert_eq!(versions(&store.read_stream(up_to).await.must("read to beyond the end").events), [1]);
    }
}

/// A conflict is a conflict also while others keep the database busy, never a time-out or contention. (E28, X-ES-026)
pub async fn conflict_is_reported_under_load(h: &dyn AnyHarness) {
    let store = open(h).await;
    let stream = stream();
    append(&*store, &stream, Expected::NoStream, events(2)).await;
    // Stopped when the set is dropped, also by a failing case.
    let mut busy = JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        busy.spawn(async move {
            loop {
                append(&*store, &crate::support::stream(), Expected::NoStream, events(20)).await;
                // A store that never waits could not be stopped, and would leave no room for the conflicts.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    for _ in 0..20 {
        let answer = store.append(Append::one(stream.clone(), Expected::NoStream, events(1))).await;
        let error = refused(answer, ErrorKind::VersionConflict);
        assert_conflict(&error, &stream, Expected::NoStream, Some(2));
    }
    assert!(busy.try_join_next().is_none(), "a busy writer failed");
}

/// Writers on different streams never get a conflict, also when one's transaction stays open. (E29)
pub async fn writers_on_different_streams_do_not_conflict(h: &dyn AnyHarness) {
    let store = open(h).await;
    let (a, b) = (stream(), stream());
    let first = Append::one(a.clone(), Expected::NoStream, events(2));
    let held = or_note("hold an append open", h.faults().hold_append(first.clone()).await);
    let others = [b, stream(), stream()];
    let tasks: Vec<_> = others
        .iter()
        .map(|stream| {
            let (store, stream) = (store.clone(), stream.clone());
            tokio::spawn(
                async move { store.append(Append::one(stream, Expected::NoStream, events(2))).await },
            )
        })
        .collect();
    match held {
        Some(held) => {
            tokio::time::sleep(Duration::from_millis(200)).await;
            held.commit().await;
        }
        None => drop(store.append(first).await.must("append")),
    }
    for task in tasks {
        task.await.must("a writer").must("an append to another stream");
    }
    for stream in others.iter().chain([&a]) {
        assert_eq!(versions(&read(&*store, stream).await), [1, 2]);
    }
}
