//! Subscriptions that repeat, skip, or forget where they are.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use changeover_conformance::Subject;
use changeover_core::events::{AllPage, EventFilter, HeadOf, ReadAll, Subscribe};
use changeover_core::{Checkpoint, EventStore, Feed, Limit, Result, Subscription, subscription};

use super::{Flaw, subject};

pub(super) fn subjects() -> Vec<Subject> {
    vec![
        subject::<Repeats>(),
        subject::<Skips>(),
        subject::<FiltersProgress>(),
        subject::<Outlives>(),
        subject::<FromTheStart>(),
    ]
}

/// Pages, spoiled on their way into a subscription.
struct Spoiled<S> {
    store: Arc<dyn EventStore>,
    filter: EventFilter,
    spoil: S,
    /// The store's own subscription, whose end is that of the store.
    own: Mutex<Option<Subscription>>,
}

#[async_trait]
impl<S: FnMut(Checkpoint, &mut AllPage) + Send + Sync + 'static> Feed for Spoiled<S> {
    async fn page(&mut self, after: Checkpoint) -> Result<AllPage> {
        let request = ReadAll { after: Some(after), filter: self.filter.clone(), limit: Limit::default() };
        let mut page = self.store.read_all(request).await?;
        (self.spoil)(after, &mut page);
        Ok(page)
    }

    async fn wait(&mut self) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            let Some(mut own) = own else { return std::future::pending().await };
            while let Some(Ok(_)) = own.next().await {}
        })
    }
}

async fn spoiled(
    store: Arc<dyn EventStore>,
    request: Subscribe,
    spoil: impl FnMut(Checkpoint, &mut AllPage) + Send + Sync + 'static,
) -> Result<Subscription> {
    // What the store refuses is refused here too.
    let own = store.subscribe(request.clone()).await?;
    follow(store, request, Some(own), spoil).await
}

async fn follow(
    store: Arc<dyn EventStore>,
    request: Subscribe,
    own: Option<Subscription>,
    spoil: impl FnMut(Checkpoint, &mut AllPage) + Send + Sync + 'static,
) -> Result<Subscription> {
    let start = match (request.after, store.head(HeadOf::Log).await?.checkpoint) {
        (None, Some(end)) => Checkpoint::start(end.log()),
        (Some(after), _) => after,
        (None, None) => return store.subscribe(request).await,
    };
    let feed = Spoiled { store, filter: request.filter.clone(), spoil, own: Mutex::new(own) };
    let (subscription, run) = subscription(feed, start, &request);
    let task = tokio::spawn(run).abort_handle();
    Ok(subscription.on_drop(move || task.abort()))
}

#[derive(Default)]
struct Repeats;

#[async_trait]
impl Flaw for Repeats {
    const NAME: &'static str = "a subscription repeats the last event when it goes live";

    async fn subscribe(&self, store: Arc<dyn EventStore>, request: Subscribe) -> Result<Subscription> {
        let mut live = false;
        let repeat = move |_, page: &mut AllPage| {
            if page.caught_up && !live {
                live = true;
                page.events.extend(page.events.last().cloned());
            }
        };
        spoiled(store, request, repeat).await
    }
}

#[derive(Default)]
struct Skips;

#[async_trait]
impl Flaw for Skips {
    const NAME: &'static str = "a subscription skips the first event after it went live";

    async fn subscribe(&self, store: Arc<dyn EventStore>, request: Subscribe) -> Result<Subscription> {
        let (mut live, mut skipped) = (false, false);
        let skip = move |_, page: &mut AllPage| {
            if live && !skipped && !page.events.is_empty() {
                page.events.remove(0);
                skipped = true;
            }
            live |= page.caught_up;
        };
        spoiled(store, request, skip).await
    }
}

#[derive(Default)]
struct FiltersProgress;

#[async_trait]
impl Flaw for FiltersProgress {
    const NAME: &'static str = "a subscription's progress stays behind events that do not match";

    async fn subscribe(&self, store: Arc<dyn EventStore>, request: Subscribe) -> Result<Subscription> {
        let stay = |after, page: &mut AllPage| {
            page.checkpoint = page.events.last().map_or(after, |event| event.checkpoint);
        };
        spoiled(store, request, stay).await
    }
}

#[derive(Default)]
struct Outlives;

#[async_trait]
impl Flaw for Outlives {
    const NAME: &'static str = "a subscription outlives its store";

    async fn subscribe(&self, store: Arc<dyn EventStore>, request: Subscribe) -> Result<Subscription> {
        drop(store.subscribe(request.clone()).await?);
        follow(store, request, None, |_, _| ()).await
    }
}

#[derive(Default)]
struct FromTheStart;

#[async_trait]
impl Flaw for FromTheStart {
    const NAME: &'static str = "a subscription begins at the start whatever it is asked";

    async fn subscribe(&self, store: Arc<dyn EventStore>, request: Subscribe) -> Result<Subscription> {
        drop(store.subscribe(request.clone()).await?);
        store.subscribe(Subscribe { after: None, ..request }).await
    }
}
