//! What the cases share: clients, sample events, reading to the end, and assertions that say what was found.

pub(crate) mod audit;
pub(crate) mod playbooks;

use std::cell::RefCell;
use std::error::Error as _;
use std::fmt::Debug;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use changeover_core::events::{
    Append, Appended, EventFilter, Expected, Head, HeadOf, NewEvent, ReadAll, ReadStream, RecordedEvent,
    StreamId, Version,
};
use changeover_core::{Checkpoint, Error, ErrorKind, EventStore, Json, Limit, Result, Uuid};

use crate::harness::{AnyHarness, Unsupported};

tokio::task_local! {
    /// The faults that the running case had to do without.
    pub(crate) static NOTES: RefCell<Vec<String>>;
}

/// Notes in the matrix that the case asks for the other side of the contract, because of `why`.
pub(crate) fn without(what: &str, why: impl std::fmt::Display) {
    // Outside of a run (a case called by hand) there is nowhere to note it.
    let _ = NOTES.try_with(|notes| notes.borrow_mut().push(format!("{what}: {why}")));
}

/// The fault, or a note that the case goes on without it.
pub(crate) fn or_note<T>(what: &str, fault: Result<T, Unsupported>) -> Option<T> {
    fault.map_err(|why| without(what, why)).ok()
}

/// The answer of what must not take long.
pub(crate) async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.must(what)
}

/// Polls `work` at most `times` times, then drops it. `None`: it was dropped.
pub(crate) async fn dropped_after<T>(times: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut polls = 0;
    poll_fn(|context| {
        polls += 1;
        match work.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if polls >= times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// What must work for a case to go on.
pub(crate) trait Must<T> {
    /// The value; else the case fails, saying `what` did not work and why.
    #[track_caller]
    fn must(self, what: &str) -> T;
}

impl<T, E: Debug> Must<T> for Result<T, E> {
    fn must(self, what: &str) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
}

impl<T> Must<T> for Option<T> {
    fn must(self, what: &str) -> T {
        match self {
            Some(value) => value,
            None => panic!("{what}: there is none"),
        }
    }
}

/// The store of the harness's module and tenant, by a new client.
pub(crate) async fn open(h: &dyn AnyHarness) -> Arc<dyn EventStore> {
    h.client().await.events(&h.scope(), &h.tenant()).await.must("open the store")
}

/// A stream nobody has used, of the category `Order`.
pub(crate) fn stream() -> StreamId {
    stream_of("Order")
}

/// A stream nobody has used.
pub(crate) fn stream_of(aggregate_type: &str) -> StreamId {
    StreamId::new(aggregate_type, Uuid::now_v7()).must("a stream id")
}

/// `count` different events of the type `OrderPlaced`.
pub(crate) fn events(count: usize) -> Vec<NewEvent> {
    (0..count).map(|number| event("OrderPlaced", number)).collect()
}

/// An event of this type that can be told from others by its number.
pub(crate) fn event(event_type: &str, number: usize) -> NewEvent {
    NewEvent::new(event_type, json(&format!(r#"{{"number":{number}}}"#))).must("an event")
}

/// JSON that is known to be well formed.
pub(crate) fn json(text: &str) -> Json {
    Json::parse(text).must("JSON")
}

/// A version that is known to be above 0.
pub(crate) fn version(number: i64) -> Version {
    Version::new(number).must("a version")
}

/// A limit that is known to be allowed.
pub(crate) fn limit(number: i64) -> Limit {
    Limit::new(number).must("a limit")
}

/// Appends to one stream; it must work.
#[track_caller]
pub(crate) fn append<'a>(
    store: &'a dyn EventStore,
    stream: &StreamId,
    expected: Expected,
    events: Vec<NewEvent>,
) -> impl Future<Output = Appended> + Send + use<'a> {
    let caller = std::panic::Location::caller();
    let answer = store.append(Append::one(stream.clone(), expected, events));
    async move { answer.await.must(&format!("append at {caller}")) }
}

/// All of a stream.
pub(crate) async fn read(store: &dyn EventStore, stream: &StreamId) -> Vec<RecordedEvent> {
    read_pages(store, ReadStream::all(stream.clone())).await
}

/// All pages of a read, joined.
pub(crate) async fn read_pages(store: &dyn EventStore, mut request: ReadStream) -> Vec<RecordedEvent> {
    let mut all = Vec::new();
    loop {
        let page = store.read_stream(request.clone()).await.must("read a page of a stream");
        assert!(page.events.len() <= request.limit.get() as usize, "a page holds more than its limit");
        all.extend(page.events);
        match page.next {
            Some(token) => request.page = Some(token),
            None => return all,
        }
    }
}

/// All of the log, and the checkpoint at its end.
pub(crate) async fn read_log(store: &dyn EventStore) -> (Vec<RecordedEvent>, Checkpoint) {
    read_on(store, None, EventFilter::default()).await
}

/// What matches in the log after a checkpoint, until caught up, and the checkpoint reached.
pub(crate) async fn read_on(
    store: &dyn EventStore,
    after: Option<Checkpoint>,
    filter: EventFilter,
) -> (Vec<RecordedEvent>, Checkpoint) {
    let mut all = Vec::new();
    let mut request = ReadAll { after, filter, limit: Limit::default() };
    loop {
        let page = store.read_all(request.clone()).await.must("read a page of the log");
        all.extend(page.events);
        if page.caught_up {
            return (all, page.checkpoint);
        }
        assert!(
            request.after.is_none_or(|before| before < page.checkpoint),
            "a page that is not caught up did not move on from {:?}",
            request.after
        );
        request.after = Some(page.checkpoint);
    }
}

/// The latest version of a stream.
pub(crate) async fn head(store: &dyn EventStore, stream: &StreamId) -> Head {
    store.head(HeadOf::Stream(stream.clone())).await.must("the head of a stream")
}

/// The end of the log.
pub(crate) async fn log_head(store: &dyn EventStore) -> Checkpoint {
    store.head(HeadOf::Log).await.must("the head of the log").checkpoint.must("the log's checkpoint")
}

/// The versions of events, in their order.
pub(crate) fn versions(events: &[RecordedEvent]) -> Vec<i64> {
    events.iter().map(|event| event.version.get()).collect()
}

/// The ids of stored events, in their order.
pub(crate) fn ids(events: &[RecordedEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.id).collect()
}

/// The ids of new events, in their order.
pub(crate) fn new_ids(events: &[NewEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.id).collect()
}

/// The error of a refused operation, which must be of this kind.
#[track_caller]
pub(crate) fn refused<T: Debug>(result: Result<T>, kind: ErrorKind) -> Error {
    match result {
        Ok(answer) => panic!("must be refused as {kind}, but the answer was {answer:?}"),
        Err(error) if error.kind() == kind => error,
        Err(error) => panic!("must be refused as {kind}, but the error was: {error}"),
    }
}

/// An error with its causes, in both forms, as somebody might log it.
pub(crate) fn logged(error: &Error) -> String {
    let mut all = vec![format!("{error} {error:?}")];
    let mut source = error.source();
    while let Some(cause) = source {
        all.push(format!("{cause} {cause:?}"));
        source = cause.source();
    }
    all.join(" ")
}

/// What can be seen of a store; equal before and after whatever must change nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    log: Vec<RecordedEvent>,
    end: Checkpoint,
    head: Checkpoint,
    rows: Option<std::collections::BTreeMap<String, u64>>,
}

/// Looks at the whole place: the log, its head, and the rows of each table where the harness can count them.
pub(crate) async fn look(h: &dyn AnyHarness, store: &dyn EventStore) -> Seen {
    let (log, end) = read_log(store).await;
    Seen { log, end, head: log_head(store).await, rows: h.faults().row_counts().await.ok() }
}
