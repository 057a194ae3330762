//! Following the log: woken by appends through this backend, and by the clock for those of other processes.
//!
//! SQLite tells nobody that another process wrote, so a subscription looks at the end of its log every 200 ms; that is
//! one indexed look-up, cheaper than a connection of its own for `PRAGMA data_version`.

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use changeover_core::events::{AllPage, EventFilter, ReadAll, Subscribe};
use changeover_core::{Checkpoint, Closing, Feed, Limit, Result, Subscription};
use tokio::sync::watch;

use super::log::Tables;
use super::read;
use crate::handle::Reader;

/// How long an append of another process may stay unseen.
const POLL: Duration = Duration::from_millis(200);

/// The most events that are read ahead.
const PAGE: usize = 500;

struct LogFeed {
    reader: Reader<Tables>,
    filter: EventFilter,
    limit: Limit,
    news: watch::Receiver<()>,
    /// The close of the handle.
    closing: Closing,
}

pub(super) async fn subscribe(
    reader: &Reader<Tables>,
    closing: &Closing,
    request: &Subscribe,
) -> Result<Subscription> {
    request.validate()?;
    // Before the first look at the log, so that nothing falls between the two.
    let news = reader.database.news();
    let after = request.after;
    let start = reader
        .read(move |conn, tables| {
            let log = tables.log(conn)?;
            let end = log.end(conn)?;
            read::position_in(conn, &log, after, end)?;
            Ok(after.unwrap_or_else(|| Checkpoint::start(log.id)))
        })
        .await?;
    let page = i64::try_from(request.buffer.min(PAGE)).unwrap_or(1);
    let feed = LogFeed {
        reader: reader.clone(),
        filter: request.filter.clone(),
        limit: Limit::new(page)?,
        news,
        closing: closing.clone(),
    };
    let (subscription, run) = changeover_core::subscription(feed, start, request);
    let task = tokio::spawn(run);
    Ok(subscription.on_drop(move || task.abort()))
}

#[async_trait]
impl Feed for LogFeed {
    async fn page(&mut self, after: Checkpoint) -> Result<AllPage> {
        let request = ReadAll { after: Some(after), filter: self.filter.clone(), limit: self.limit };
        self.reader.read(move |conn, tables| read::log_page(conn, tables, &request)).await
    }

    async fn wait(&mut self) {
        tokio::select! {
            // An error means that the backend has gone; then the next page says so.
            _ = self.news.changed() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (handle, backend) = (self.closing.closed(), self.reader.database.closing().closed());
        Box::pin(async move {
            tokio::select! {
                () = handle => {}
                () = backend => {}
            }
        })
    }
}
