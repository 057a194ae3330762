//! From catch-up to live without gap or repeat, the same for every backend.
//!
//! A backend gives a [`Feed`]: pages, a wake-up and a clock. [`subscription`] makes of it the two ends of a bounded
//! channel: the [`Subscription`] for the reader, and a future that the backend spawns on its own runtime.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures::channel::mpsc;
use futures::future::{Either, select};
use futures::{Stream, StreamExt};

use crate::checkpoint::Checkpoint;
use crate::error::{Detail, Error, ErrorKind, Result};
use crate::events::{AllPage, RecordedEvent, Subscribe};

/// What a subscription delivers.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The next event.
    Event(Box<RecordedEvent>),
    /// Everything up to here was looked at, whether it matched or not. `caught_up`: nothing newer was committed.
    Progress {
        /// Where to go on after.
        checkpoint: Checkpoint,
        /// Whether this was the end of the log.
        caught_up: bool,
    },
}

impl Message {
    /// Where to go on after this message.
    pub fn checkpoint(&self) -> Checkpoint {
        match self {
            Self::Event(event) => event.checkpoint,
            Self::Progress { checkpoint, .. } => *checkpoint,
        }
    }
}

/// What a backend gives so that its log can be followed.
#[async_trait]
pub trait Feed: Send + 'static {
    /// The page after `after`, filtered as the subscription asked.
    async fn page(&mut self, after: Checkpoint) -> Result<AllPage>;

    /// Returns when something may have been appended since the last call, at the latest after the polling interval.
    /// A wake-up between two calls is remembered.
    async fn wait(&mut self);

    /// Returns after `time`.
    async fn sleep(&self, time: Duration);

    /// Returns when the store was closed, which ends the subscription whatever it is doing.
    fn closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The reader's end. Dropping it ends the subscription and frees what it held.
///
/// A message at a time by [`Subscription::next`], or as a [`Stream`]. After an error it is over; an error carries
/// [`Detail::Resume`] with the last checkpoint that was delivered.
pub struct Subscription {
    messages: mpsc::Receiver<Message>,
    ending: Arc<Mutex<Option<Error>>>,
    on_drop: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Subscription {
    /// The next message; `None` after the end.
    pub async fn next(&mut self) -> Option<Result<Message>> {
        StreamExt::next(self).await
    }

    /// Runs `action` when the subscription is dropped: a backend stops its task by it.
    #[must_use]
    pub fn on_drop(mut self, action: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.on_drop = Some(Box::new(action));
        self
    }
}

impl Stream for Subscription {
    type Item = Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match pin!(&mut self.messages).poll_next(context) {
            Poll::Ready(None) => {
                let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
                Poll::Ready(ending.map(Err))
            }
            other => other.map(|message| message.map(Ok)),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(action) = self.on_drop.take() {
            action();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

/// Longest time that transient errors of a feed are retried before the subscription ends with one.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// Makes a subscription that begins after `start`, and the future that feeds it, to be spawned by the backend.
///
/// At most `request.buffer` messages wait for the reader and nothing is read ahead beyond one page. A reader that
/// takes nothing for `request.patience` while the buffer is full is cut off with `Unavailable`. Transient errors are
/// retried with growing waits for 30 s. The end of [`Feed::closed`] ends it with `Unavailable` at once.
pub fn subscription<F: Feed>(
    feed: F,
    start: Checkpoint,
    request: &Subscribe,
) -> (Subscription, impl Future<Output = ()> + Send + use<F>) {
    // The channel holds one message a sender beyond its buffer.
    let (sender, messages) = mpsc::channel(request.buffer.max(1) - 1);
    let ending = Arc::new(Mutex::new(None));
    let subscription = Subscription { messages, ending: Arc::clone(&ending), on_drop: None };
    let closed = feed.closed();
    let mut pump = Pump { feed, sender, delivered: start, patience: request.patience };
    let run = async move {
        let ended = match select(closed, Box::pin(pump.run())).await {
            Either::Left(_) => {
                Some(Error::new(ErrorKind::Unavailable, "the store was closed; open it again and resume"))
            }
            Either::Right((Err(ended), _)) => ended,
        };
        if let Some(error) = ended {
            let error =
                error.during("events.subscribe").with_detail(Detail::Resume { after: pump.delivered });
            // Before the sender is dropped, so that the reader finds it behind the last message.
            *ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        drop(pump);
    };
    (subscription, run)
}

struct Pump<F> {
    feed: F,
    sender: mpsc::Sender<Message>,
    delivered: Checkpoint,
    patience: Duration,
}

impl<F: Feed> Pump<F> {
    /// Ends only with an error, or `None` when the reader has gone.
    async fn run(&mut self) -> Result<std::convert::Infallible, Option<Error>> {
        let mut after = self.delivered;
        let mut announced = None;
        loop {
            let page = self.page(after).await?;
            after = page.checkpoint;
            for event in page.events {
                self.send(Message::Event(Box::new(event))).await?;
            }
            let progress = (after, page.caught_up);
            if announced != Some(progress) {
                self.send(Message::Progress { checkpoint: after, caught_up: page.caught_up }).await?;
                announced = Some(progress);
            }
            if page.caught_up {
                self.feed.wait().await;
            }
        }
    }

    async fn page(&mut self, after: Checkpoint) -> Result<AllPage, Option<Error>> {
        let mut waited = Duration::ZERO;
        let mut wait = Duration::from_millis(50);
        loop {
            match self.feed.page(after).await {
                Ok(page) => return Ok(page),
                // One that says where to resume is the end of another subscription, which has tried long enough.
                Err(error) if matches!(error.detail(), Some(Detail::Resume { .. })) => {
                    return Err(Some(error));
                }
                Err(error) if error.kind().is_transient() && waited < RETRY_FOR => {
                    self.feed.sleep(wait).await;
                    waited += wait;
                    wait = (wait * 2).min(Duration::from_secs(2));
                }
                Err(error) => return Err(Some(error)),
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), Option<Error>> {
        let checkpoint = message.checkpoint();
        // Not `send`: that gives the message away and then waits for room for another, so that a reader cut off while it
        // waits would be handed a message that its checkpoint does not cover. Asking first: a reader that keeps up
        // costs no timer.
        let room = poll_fn(|context| self.sender.poll_ready(context));
        let free = match select(pin!(room), pin!(self.feed.sleep(self.patience))).await {
            Either::Left((free, _)) => free,
            Either::Right(_) => {
                return Err(Some(Error::new(
                    ErrorKind::Unavailable,
                    format!(
                        "the reader took nothing for {:?} and was cut off; subscribe again after the last checkpoint \
                         it handled",
                        self.patience
                    ),
                )));
            }
        };
        free.and_then(|()| self.sender.start_send(message)).map_err(|_| None)?;
        self.delivered = checkpoint;
        Ok(())
    }
}
