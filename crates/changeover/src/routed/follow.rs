//! A subscription that goes on where the module went: after its last position, without gap or repeat.

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use changeover_core::events::{AllPage, HeadOf, RecordedEvent, Subscribe};
use changeover_core::{
    Checkpoint, Error, ErrorKind, EventStore, Feed, Message, Result, Subscription, subscription,
};

use super::{Current, Routed, is_moved};
use crate::home::{LOOK_AGAIN, Patience};

/// The most events that are handed on together.
const PAGE: usize = 500;

type Store = dyn EventStore;

pub(super) async fn subscribe(routed: &Routed<Store>, request: Subscribe) -> Result<Subscription> {
    let mut feed = Following { routed: routed.clone(), request: request.clone(), inner: None, ended: None };
    let inner = feed.begin(request.after).await?;
    let start = match request.after {
        Some(after) => after,
        None => start(routed).await?,
    };
    feed.inner = Some(inner);
    let (subscription, run) = subscription(feed, start, &request);
    let task = tokio::spawn(run);
    Ok(subscription.on_drop(move || task.abort()))
}

/// Before the first record of the log.
async fn start(routed: &Routed<Store>) -> Result<Checkpoint> {
    let end = routed.head(HeadOf::Log).await?.checkpoint;
    let end = end.ok_or_else(|| Error::new(ErrorKind::Unexpected, "the log of the store has no end"))?;
    Ok(Checkpoint::start(end.log()))
}

struct Following {
    routed: Routed<Store>,
    request: Subscribe,
    /// That of the owner's store.
    inner: Option<(Current<Store>, Subscription)>,
    /// How the last one ended, when there were events to hand on first.
    ended: Option<Error>,
}

impl Following {
    /// Subscribes at the owner.
    async fn begin(&self, after: Option<Checkpoint>) -> Result<(Current<Store>, Subscription)> {
        // The reader's patience is kept by the subscription that it holds.
        let request = Subscribe { after, patience: Duration::MAX, ..self.request.clone() };
        let subscribe = |current: Current<Store>| {
            let request = request.clone();
            async move {
                let subscription = current.store.subscribe(request).await?;
                Ok((current, subscription))
            }
        };
        self.routed.call_within(Patience::long(), subscribe).await
    }

    /// Takes messages up to the end of a page of the owner's.
    async fn take(&mut self, events: &mut Vec<RecordedEvent>) -> Result<Option<(Checkpoint, bool)>> {
        let Some((current, inner)) = &mut self.inner else { return Ok(None) };
        while events.len() < PAGE {
            // What it is about may have gone without a word: see `look_again`.
            match tokio::time::timeout(LOOK_AGAIN, inner.next()).await {
                Ok(Some(Ok(Message::Event(event)))) => events.push(*event),
                Ok(Some(Ok(Message::Progress { checkpoint, caught_up }))) => {
                    return Ok(Some((checkpoint, caught_up)));
                }
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) => return Err(Error::new(ErrorKind::Unavailable, "the subscription has ended")),
                Err(_) => {
                    self.routed.0.module.look_again().await;
                    if self.routed.0.module.home().generation() != current.generation {
                        self.inner = None;
                        return Ok(None);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether the subscription of an owner ended because it is the owner no more.
    async fn has_moved(&self, error: &Error, current: &Current<Store>) -> bool {
        let home = self.routed.0.module.home();
        if is_moved(error) {
            home.forget(current.generation);
            return true;
        }
        // A log that was emptied after the module was taken back knows no checkpoint.
        error.kind() == ErrorKind::Invalid && !home.is_still(&*current.backend, current.generation).await
    }
}

#[async_trait]
impl Feed for Following {
    async fn page(&mut self, after: Checkpoint) -> Result<AllPage> {
        loop {
            if let Some(ended) = self.ended.take() {
                match self.inner.take() {
                    Some((current, _)) if self.has_moved(&ended, &current).await => {}
                    _ => return Err(ended),
                }
            }
            if self.inner.is_none() {
                self.inner = Some(self.begin(Some(after)).await?);
            }
            let mut events = Vec::new();
            let taken = self.take(&mut events).await;
            let last = events.last().map(|event: &RecordedEvent| event.checkpoint);
            match (taken, last) {
                (Ok(Some((checkpoint, caught_up))), _) => {
                    return Ok(AllPage { events, checkpoint, caught_up });
                }
                (Err(error), last) => {
                    self.ended = Some(error);
                    if let Some(checkpoint) = last {
                        return Ok(AllPage { events, checkpoint, caught_up: false });
                    }
                }
                (Ok(None), Some(checkpoint)) => return Ok(AllPage { events, checkpoint, caught_up: false }),
                (Ok(None), None) => {}
            }
        }
    }

    /// The owner's subscription waits.
    async fn wait(&mut self) {}

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.routed.closed())
    }
}
