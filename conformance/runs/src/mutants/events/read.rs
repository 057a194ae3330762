//! Reads that show too much, too little, or in a wrong order.

use async_trait::async_trait;
use changeover_conformance::Subject;
use changeover_core::events::{
    AllPage, Direction, EventFilter, Head, HeadOf, ReadAll, ReadStream, RecordedEvent, StreamPage,
};
use changeover_core::{Checkpoint, ErrorKind, EventStore, Limit, Result, TenantId};

use super::{Flaw, subject};

pub(super) fn subjects() -> Vec<Subject> {
    vec![
        subject::<ForeignTokens>(),
        subject::<NeedlessPage>(),
        subject::<BackwardOrder>(),
        subject::<InclusiveAfter>(),
        subject::<ForeignCheckpoints>(),
        subject::<BeyondTheEnd>(),
        subject::<AlwaysCaughtUp>(),
        subject::<StuckCheckpoint>(),
        subject::<ByStream>(),
        subject::<CaseBlind>(),
        subject::<Wildcards>(),
        subject::<EmptyListMatchesAll>(),
        subject::<StaleHead>(),
        subject::<RecordedAsOccurred>(),
        subject::<TenantLeak>(),
        subject::<NeverClosed>(),
    ]
}

#[derive(Default)]
struct ForeignTokens;

#[async_trait]
impl Flaw for ForeignTokens {
    const NAME: &'static str = "a page token of another read is ignored";

    async fn read_stream(&self, store: &dyn EventStore, request: ReadStream) -> Result<StreamPage> {
        match store.read_stream(request.clone()).await {
            Err(error) if error.kind() == ErrorKind::Invalid && request.page.is_some() => {
                store.read_stream(ReadStream { page: None, ..request }).await
            }
            other => other,
        }
    }
}

#[derive(Default)]
struct NeedlessPage;

#[async_trait]
impl Flaw for NeedlessPage {
    const NAME: &'static str = "the last page promises another";

    async fn read_stream(&self, store: &dyn EventStore, request: ReadStream) -> Result<StreamPage> {
        let mut page = store.read_stream(request.clone()).await?;
        page.next = page.events.last().map(|event| request.token_after(event.version));
        Ok(page)
    }
}

#[derive(Default)]
struct BackwardOrder;

#[async_trait]
impl Flaw for BackwardOrder {
    const NAME: &'static str = "a page backwards is in forward order";

    async fn read_stream(&self, store: &dyn EventStore, request: ReadStream) -> Result<StreamPage> {
        let backward = request.direction == Direction::Backward;
        let mut page = store.read_stream(request).await?;
        if backward {
            page.events.reverse();
        }
        Ok(page)
    }
}

#[derive(Default)]
struct InclusiveAfter;

#[async_trait]
impl Flaw for InclusiveAfter {
    const NAME: &'static str = "reading after a checkpoint shows the event at it";

    async fn read_all(&self, store: &dyn EventStore, request: ReadAll) -> Result<AllPage> {
        let mut page = store.read_all(request.clone()).await?;
        if let Some(after) = request.after.filter(|after| after.position() > 0) {
            let before = Checkpoint::new(after.log(), after.position() - 1)?;
            let one = Limit::new(1)?;
            let at = store.read_all(ReadAll { after: Some(before), limit: one, ..request }).await?;
            page.events.splice(0..0, at.events.into_iter().filter(|event| event.checkpoint == after));
        }
        Ok(page)
    }
}

#[derive(Default)]
struct ForeignCheckpoints;

#[async_trait]
impl Flaw for ForeignCheckpoints {
    const NAME: &'static str = "a checkpoint of another log is taken for one of this";

    async fn read_all(&self, store: &dyn EventStore, mut request: ReadAll) -> Result<AllPage> {
        let log = store.head(HeadOf::Log).await?.checkpoint.map(|checkpoint| checkpoint.log());
        if let (Some(after), Some(log)) = (request.after, log) {
            request.after = Some(Checkpoint::new(log, after.position())?);
        }
        store.read_all(request).await
    }
}

#[derive(Default)]
struct BeyondTheEnd;

#[async_trait]
impl Flaw for BeyondTheEnd {
    const NAME: &'static str = "a checkpoint beyond the end is taken for the end";

    async fn read_all(&self, store: &dyn EventStore, request: ReadAll) -> Result<AllPage> {
        let end = store.head(HeadOf::Log).await?.checkpoint;
        match (request.after, store.read_all(request).await) {
            (Some(after), Err(error)) if error.kind() == ErrorKind::Invalid && end < Some(after) => {
                Ok(AllPage { events: Vec::new(), checkpoint: after, caught_up: true })
            }
            (_, answer) => answer,
        }
    }
}

#[derive(Default)]
struct AlwaysCaughtUp;

#[async_trait]
impl Flaw for AlwaysCaughtUp {
    const NAME: &'static str = "every page says that it is the last";

    async fn read_all(&self, store: &dyn EventStore, request: ReadAll) -> Result<AllPage> {
        Ok(AllPage { caught_up: true, ..store.read_all(request).await? })
    }
}

#[derive(Default)]
struct StuckCheckpoint;

#[async_trait]
impl Flaw for StuckCheckpoint {
    const NAME: &'static str = "the checkpoint stays where it was when nothing matches";

    async fn read_all(&self, store: &dyn EventStore, request: ReadAll) -> Result<AllPage> {
        let after = request.after;
        let mut page = store.read_all(request).await?;
        if page.events.is_empty() {
            page.checkpoint = after.unwrap_or(Checkpoint::start(page.checkpoint.log()));
        }
        Ok(page)
    }
}

#[derive(Default)]
struct ByStream;

#[async_trait]
impl Flaw for ByStream {
    const NAME: &'static str = "positions are given by stream, not in the order of the commits";

    async fn read_all(&self, store: &dyn EventStore, request: ReadAll) -> Result<AllPage> {
        let mut page = store.read_all(request).await?;
        let positions: Vec<_> = page.events.iter().map(|event| event.checkpoint).collect();
        page.events.sort_by(|a, b| b.stream.cmp(&a.stream));
        page.events.iter_mut().zip(positions).for_each(|(event, position)| event.checkpoint = position);
        Ok(page)
    }
}

/// A page of what `matches`, whatever the store's own filter would say.
async fn filtered(
    store: &dyn EventStore,
    request: ReadAll,
    matches: impl Fn(&EventFilter, &RecordedEvent) -> bool + Send,
) -> Result<AllPage> {
    request.filter.validate()?;
    let everything = ReadAll { filter: EventFilter::default(), ..request };
    let mut page = store.read_all(everything).await?;
    page.events.retain(|event| matches(&request.filter, event));
    Ok(page)
}

fn any<T>(list: Option<&Vec<T>>, same: impl Fn(&T) -> bool) -> bool {
    list.is_none_or(|list| list.iter().any(same))
}

#[derive(Default)]
struct CaseBlind;

#[async_trait]
impl Flaw for CaseBlind {
    const NAME: &'static str = "filters are blind to case";

    async fn read_all(&self, store: &dyn EventStore, request: ReadAll) -> Result<AllPage> {
        filtered(store, request, |filter, event| {
            let (category, kind) = (event.stream.aggregate_type.as_str(), event.event_type.as_str());
            any(filter.streams.as_ref(), |wanted| *wanted == event.stream)
                && any(filter.aggregate_types.as_ref(), |wanted| {
                    wanted.as_str().eq_ignore_ascii_case(category)
                })
                && any(filter.event_types.as_ref(), |wanted| wanted.as_str().eq_ignore_ascii_case(kind))
        })
        .await
    }
}

/// As SQL's `LIKE` without its blindness to case.
fn like(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return text.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    let mut letters = text.chars();
    match (first, letters.next()) {
        ('%', next) => like(rest, text) || next.is_some() && like(pattern, letters.as_str()),
        ('_', Some(_)) => like(rest, letters.as_str()),
        (first, Some(next)) => first == next && like(rest, letters.as_str()),
        (_, None) => false,
    }
}

#[derive(Default)]
struct Wildcards;

#[async_trait]
impl Flaw for Wildcards {
    const NAME: &'static str = "% and _ in a filter are wildcards";

    async fn read_all(&self, store: &dyn EventStore, request: ReadAll) -> Result<AllPage> {
        filtered(store, request, |filter, event| {
            let (category, kind) = (event.stream.aggregate_type.as_str(), event.event_type.as_str());
            any(filter.streams.as_ref(), |wanted| *wanted == event.stream)
                && any(filter.aggregate_types.as_ref(), |wanted| like(wanted.as_str(), category))
                && any(filter.event_types.as_ref(), |wanted| like(wanted.as_str(), kind))
        })
        .await
    }
}

#[derive(Default)]
struct EmptyListMatchesAll;

#[async_trait]
impl Flaw for EmptyListMatchesAll {
    const NAME: &'static str = "an empty list in a filter matches everything";

    async fn read_all(&self, store: &dyn EventStore, mut request: ReadAll) -> Result<AllPage> {
        let filter = &mut request.filter;
        filter.streams = filter.streams.take().filter(|list| !list.is_empty());
        filter.aggregate_types = filter.aggregate_types.take().filter(|list| !list.is_empty());
        filter.event_types = filter.event_types.take().filter(|list| !list.is_empty());
        store.read_all(request).await
    }

    async fn read_stream(&self, store: &dyn EventStore, mut request: ReadStream) -> Result<StreamPage> {
        request.event_types = request.event_types.filter(|list| !list.is_empty());
        store.read_stream(request).await
    }
}

#[derive(Default)]
struct StaleHead;

#[async_trait]
impl Flaw for StaleHead {
    const NAME: &'static str = "the head of the log is one event behind";

    async fn head(&self, store: &dyn EventStore, of: HeadOf) -> Result<Head> {
        let mut head = store.head(of.clone()).await?;
        if let (HeadOf::Log, Some(end)) = (of, head.checkpoint) {
            head.checkpoint = Some(Checkpoint::new(end.log(), (end.position() - 1).max(0))?);
        }
        Ok(head)
    }
}

#[derive(Default)]
struct RecordedAsOccurred;

impl Flaw for RecordedAsOccurred {
    const NAME: &'static str = "the recorded time is the caller's";

    fn shown(&self, event: &mut RecordedEvent) {
        event.recorded_at = event.occurred_at;
    }
}

#[derive(Default)]
struct TenantLeak;

impl Flaw for TenantLeak {
    const NAME: &'static str = "tenants share their records";

    fn tenant(&self, _tenant: &TenantId) -> TenantId {
        // Cannot fail: the name is neither empty nor long.
        TenantId::new("everybody").expect("a valid name")
    }
}

#[derive(Default)]
struct NeverClosed;

#[async_trait]
impl Flaw for NeverClosed {
    const NAME: &'static str = "a closed store goes on";

    async fn close(&self, _store: &dyn EventStore) -> Result<()> {
        Ok(())
    }
}
