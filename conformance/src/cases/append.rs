//! Appending to one stream or several.

use changeover_core::events::Expected;

use crate::harness::AnyHarness;
use crate::support::{append, events, open, read_log, stream};

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
    assert_eq!(log.iter().map(|event| event.version.get()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(appended.checkpoint, end);
}
