//! The journal under the conformance suite, in about fifteen lines, and what only a journal can break.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::io::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use changeover::events::{Append, Expected, HeadOf, NewEvent, ReadAll, StreamId};
use changeover::{Detail, ErrorKind, EventStore, Json, OpenBackend, Uuid};
use changeover_conformance::{EventsOnly, Family, Harness, StartError};
use changeover_examples::journal::Journal;

struct JournalHarness {
    journal: Arc<Journal>,
    _folder: tempfile::TempDir,
}

#[async_trait]
impl Harness for JournalHarness {
    const NAME: &str = "journal";
    const STORES: &[Family] = &[Family::Events];

    async fn start() -> Result<Self, StartError> {
        let folder = tempfile::tempdir()?;
        let journal = Journal::open(&folder.path().join("journal.jsonl")).await?;
        Ok(Self { journal, _folder: folder })
    }

    async fn client(&self) -> Arc<dyn OpenBackend> {
        EventsOnly::serving(self.tenant(), self.journal.client().await.unwrap())
    }
}

mod journal {
    use super::JournalHarness;
    changeover_conformance::event_store_suite!(JournalHarness);
}

fn order() -> (StreamId, NewEvent) {
    let stream = StreamId::new("Order", Uuid::now_v7()).unwrap();
    (stream, NewEvent::new("OrderPlaced", Json::parse(r#"{"total":7}"#).unwrap()).unwrap())
}

async fn everything(store: &Arc<dyn EventStore>) -> Vec<changeover::events::RecordedEvent> {
    store.read_all(ReadAll::default()).await.unwrap().events
}

// E118: what was acknowledged is there after a restart, with the same checkpoints and times.
#[tokio::test]
async fn a_journal_that_is_opened_again_holds_the_same_events() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let before = {
        let store = Journal::open(&path).await.unwrap().client().await.unwrap();
        for _ in 0..3 {
            let (stream, event) = order();
            store.append(Append::one(stream, Expected::NoStream, vec![event])).await.unwrap();
        }
        everything(&store).await
    };
    let store = Journal::open(&path).await.unwrap().client().await.unwrap();
    assert_eq!(everything(&store).await, before);
    assert_eq!(before.len(), 3);
    let head = store.head(HeadOf::Log).await.unwrap().checkpoint.unwrap();
    assert_eq!(Some(head), before.last().map(|event| event.checkpoint));
}

// E119: a line that was being written when the process died was never acknowledged.
#[tokio::test]
async fn a_torn_last_line_is_cut_and_the_journal_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let (stream, event) = order();
    Journal::open(&path)
        .await
        .unwrap()
        .client()
        .await
        .unwrap()
        .append(Append::one(stream.clone(), Expected::NoStream, vec![event]))
        .await
        .unwrap();
    std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"{\"recorded_at\":\"2026")
        .unwrap();

    let store = Journal::open(&path).await.unwrap().client().await.unwrap();
    assert_eq!(everything(&store).await.len(), 1);
    let (_, next) = order();
    store.append(Append::one(stream, Expected::Exists, vec![next])).await.unwrap();
    let store = Journal::open(&path).await.unwrap().client().await.unwrap();
    assert_eq!(everything(&store).await.len(), 2);
}

// X-EDGE-084: a line in the middle that is no line of a journal stops the start and is named.
#[tokio::test]
async fn a_broken_line_is_named_and_nothing_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    drop(Journal::open(&path).await.unwrap());
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{}\n").unwrap();
    let error = Journal::open(&path).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(matches!(error.detail(), Some(Detail::Row { key, .. }) if key == "line 2"), "{error}");
}
