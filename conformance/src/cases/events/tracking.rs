//! A consumer's progress, recorded together with the events it made.

use changeover_core::events::{Append, Appended, Expected, NewEvent, Track};
use changeover_core::{Checkpoint, ConsumerName, Detail, ErrorKind, EventStore, Result};

use crate::harness::AnyHarness;
use crate::support::{Must, append, events, head, look, open, read, read_log, refused, stream};

fn consumer(name: &str) -> ConsumerName {
    ConsumerName::new(name).must("a consumer")
}

/// Appends derived events to a new stream, with the progress they came from.
fn derived(name: &str, checkpoint: Checkpoint, events: Vec<NewEvent>) -> Append {
    let mut request = Append::one(stream(), Expected::NoStream, events);
    request.track = Some(Track { consumer: consumer(name), checkpoint });
    request
}

async fn track(store: &dyn EventStore, name: &str, checkpoint: Checkpoint) -> Result<Appended> {
    let track = Some(Track { consumer: consumer(name), checkpoint });
    store.append(Append { streams: Vec::new(), track }).await
}

async fn tracked(store: &dyn EventStore, name: &str) -> Option<Checkpoint> {
    store.tracked(consumer(name)).await.must("the tracked checkpoint")
}

/// Progress is recorded with the events it came with, or neither is: the same progress twice, or an earlier one, is
/// `AlreadyExists` with what is recorded. (E81)
pub async fn progress_and_its_events_are_stored_together(h: &dyn AnyHarness) {
    let store = open(h).await;
    append(&*store, &stream(), Expected::NoStream, events(3)).await;
    let (log, _) = read_log(&*store).await;
    let (first, second, third) = (log[0].checkpoint, log[1].checkpoint, log[2].checkpoint);

    let request = derived("mail", second, events(2));
    let target = request.streams[0].stream.clone();
    let answer = store.append(request.clone()).await.must("append with progress");
    assert_eq!(read(&*store, &target).await.len(), 2);
    assert_eq!(tracked(&*store, "mail").await, Some(second));

    let before = look(h, &*store).await;
    for stale in [second, first] {
        let request = derived("mail", stale, events(1));
        let error = refused(store.append(request.clone()).await, ErrorKind::AlreadyExists);
        assert_eq!(error.detail(), Some(&Detail::Tracked { recorded: second }));
        assert_eq!(head(&*store, &request.streams[0].stream).await.version, None);
    }
    let mut conflicting = derived("mail", third, events(1));
    conflicting.streams[0].expected = Expected::Exists;
    refused(store.append(conflicting).await, ErrorKind::VersionConflict);
    assert_eq!(tracked(&*store, "mail").await, Some(second), "progress of a refused append was recorded");

    // The whole request again: its ids are known, so it succeeds and changes nothing.
    let again = store.append(request).await.must("the same append again");
    assert!(again.repeated);
    assert_eq!((again.streams, again.checkpoint), (answer.streams, answer.checkpoint));
    assert_eq!(look(h, &*store).await, before);
    store.append(derived("mail", third, events(1))).await.must("progress that moves on");
    assert_eq!(tracked(&*store, "mail").await, Some(third));
}

/// Consumers do not share progress, however alike their names are; progress may stand alone. (E82)
pub async fn consumers_do_not_share_progress(h: &dyn AnyHarness) {
    let store = open(h).await;
    append(&*store, &stream(), Expected::NoStream, events(6)).await;
    let (log, end) = read_log(&*store).await;
    let names = ["mail", "Mail", "mail ", "ma_l", "m%", "ma\u{ed}l"];
    for (name, event) in names.iter().zip(&log) {
        assert_eq!(tracked(&*store, name).await, None, "{name:?}");
        let answer = track(&*store, name, event.checkpoint).await.must("progress alone");
        assert_eq!((answer.streams.len(), answer.checkpoint, answer.repeated), (0, event.checkpoint, false));
    }
    for (name, event) in names.iter().zip(&log) {
        assert_eq!(tracked(&*store, name).await, Some(event.checkpoint), "{name:?}");
    }
    refused(track(&*store, "mail", log[0].checkpoint).await, ErrorKind::AlreadyExists);
    assert_eq!(read_log(&*store).await, (log, end), "progress alone is no event");
}
