//! Subscriptions, and the wake-ups between appends and readers.
//!
//! An append wakes the readers of this process at once and those of others by NOTIFY: sent after the commit, for many
//! appends together, and never in the append's own transaction, where it would take a lock of the whole cluster. One
//! connection a backend listens for all its subscriptions. What gets lost costs a reader at most `POLL`.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use changeover_core::events::{AllPage, EventFilter, ReadAll, Subscribe};
use changeover_core::{Checkpoint, Closing, Feed, Result, Subscription, subscription};
use futures::TryStreamExt;
use futures::stream::poll_fn;
use tokio::sync::{Notify, mpsc, watch};
use tokio_postgres::AsyncMessage;

use super::Log;
use crate::connect::Connector;
use crate::pool::Pools;

/// How late a reader can be who was not woken.
const POLL: Duration = Duration::from_secs(1);
/// The shortest time between two announcements.
const BETWEEN: Duration = Duration::from_millis(10);
/// The longest wait before the listening connection is tried again.
const AGAIN: Duration = Duration::from_secs(5);

pub(super) async fn start(log: &Arc<Log>, closing: &Closing, request: Subscribe) -> Result<Subscription> {
    request.validate()?;
    let id = log.id().await?;
    let start = request.after.unwrap_or_else(|| Checkpoint::start(id));
    start.position_in(id)?;
    let feed = LogFeed {
        filter: request.filter.clone(),
        wake: log.wakes.listen(&log.channel),
        log: Arc::clone(log),
        closing: closing.clone(),
    };
    let (subscription, run) = subscription(feed, start, &request);
    let task = tokio::spawn(run).abort_handle();
    Ok(subscription.on_drop(move || task.abort()))
}

struct LogFeed {
    log: Arc<Log>,
    filter: EventFilter,
    wake: watch::Receiver<u64>,
    /// The close of the handle.
    closing: Closing,
}

#[async_trait]
impl Feed for LogFeed {
    async fn page(&mut self, after: Checkpoint) -> Result<AllPage> {
        // Before the page is read: what is announced meanwhile wakes the next wait.
        self.wake.mark_unchanged();
        let request = ReadAll { after: Some(after), filter: self.filter.clone(), ..ReadAll::default() };
        self.log.read_all(&request).await
    }

    async fn wait(&mut self) {
        // Neither an end of the senders nor a time-out is more than a reason to look again.
        let _ = tokio::time::timeout(POLL, self.wake.changed()).await;
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (handle, backend) = (self.closing.closed(), self.log.pools.closing().closed());
        Box::pin(async move {
            tokio::select! {
                () = handle => {}
                () = backend => {}
            }
        })
    }
}

/// Who is to be woken on which channel.
pub(crate) struct Wakes {
    pools: Arc<Pools>,
    /// `None`: nothing is heard, everybody polls.
    connector: Option<Arc<Connector>>,
    channels: Mutex<HashMap<String, watch::Sender<u64>>>,
    /// A channel was added that is not listened to yet.
    added: Notify,
    announcing: Mutex<Announcing>,
}

#[derive(Default)]
struct Announcing {
    under_way: bool,
    channels: HashSet<String>,
}

impl Wakes {
    pub(crate) fn new(pools: Arc<Pools>, connector: Option<Arc<Connector>>) -> Arc<Self> {
        Arc::new(Self {
            pools,
            connector,
            channels: Mutex::default(),
            added: Notify::new(),
            announcing: Mutex::default(),
        })
    }

    /// A receiver for a channel; the first one starts the listening connection.
    fn listen(self: &Arc<Self>, channel: &str) -> watch::Receiver<u64> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let (true, Some(connector)) = (channels.is_empty(), &self.connector) {
            tokio::spawn(listen(Arc::downgrade(self), Arc::clone(connector)));
        }
        if let Some(sender) = channels.get(channel) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(0);
        channels.insert(channel.to_owned(), sender);
        self.added.notify_one();
        receiver
    }

    /// Wakes the readers of a channel, here at once and elsewhere soon.
    pub(crate) fn announce(self: &Arc<Self>, channel: &str) {
        self.wake(Some(channel));
        let mut announcing = self.announcing.lock().unwrap_or_else(PoisonError::into_inner);
        if !announcing.channels.contains(channel) {
            announcing.channels.insert(channel.to_owned());
        }
        if !std::mem::replace(&mut announcing.under_way, true) {
            let wakes = Arc::clone(self);
            tokio::spawn(async move { wakes.send().await });
        }
    }

    /// Sends announcements until there are none.
    async fn send(&self) {
        // An announcement may be lost in a crash as well: its commit need not wait for the disk.
        let sql =
            "SELECT pg_catalog.set_config('synchronous_commit', 'off', true), pg_catalog.pg_notify(c, '') \
                   FROM pg_catalog.unnest($1::text[]) AS c"
                .into();
        loop {
            let channels: Vec<String> = {
                let mut announcing = self.announcing.lock().unwrap_or_else(PoisonError::into_inner);
                if announcing.channels.is_empty() {
                    announcing.under_way = false;
                    return;
                }
                announcing.channels.drain().collect()
            };
            let sent = match self.pools.get().await {
                Ok(mut conn) => conn.read(&sql, &[&channels]).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                tracing::debug!(kind = %error.kind(), "readers of other processes were not woken, they poll");
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }

    fn wake(&self, channel: Option<&str>) {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, sender) in channels.iter() {
            if channel.is_none_or(|channel| channel == name) {
                sender.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

/// Keeps one listening connection until its backend is gone.
async fn listen(wakes: Weak<Wakes>, connector: Arc<Connector>) {
    let mut wait = Duration::from_millis(100);
    while wakes.strong_count() > 0 {
        if listen_once(&wakes, &connector).await.is_some() {
            wait = Duration::from_millis(100);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(AGAIN);
    }
}

/// Listens on one connection until it ends. `None`: it never did.
async fn listen_once(wakes: &Weak<Wakes>, connector: &Connector) -> Option<()> {
    let (client, mut driver) = connector.raw().await.ok()?;
    let (heard, mut notifications) = mpsc::unbounded_channel();
    let drive = tokio::spawn(async move {
        let mut messages = poll_fn(move |context| driver.poll_message(context));
        while let Ok(Some(message)) = messages.try_next().await {
            if let AsyncMessage::Notification(notification) = message
                && heard.send(notification.channel().to_owned()).is_err()
            {
                break;
            }
        }
    });
    // Ends with this function, however that ends.
    let _drive = AbortOnDrop(drive.abort_handle());
    let mut listening = HashSet::new();
    loop {
        let backend = wakes.upgrade()?;
        for name in backend.names() {
            if !listening.contains(&name) {
                // Channels are "changeover_" and a module's name, which is a checked word.
                client.batch_execute(&format!("LISTEN {name}")).await.ok()?;
                listening.insert(name);
                // What was announced before this is not heard: everybody looks once.
                backend.wake(None);
            }
        }
        let added = async {
            let waiting = backend.added.notified();
            tokio::time::timeout(AGAIN, waiting).await
        };
        tokio::select! {
            _ = added => {}
            heard = notifications.recv() => match heard {
                Some(channel) => backend.wake(Some(&channel)),
                None => return Some(()),
            },
        }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
