//! The event store on SQLite.

pub(crate) mod append;
mod decode;
pub(crate) mod log;
mod read;
mod statements;
mod subscribe;

use async_trait::async_trait;
use changeover_core::events::{
    AllPage, Append, Appended, EventStore, Head, HeadOf, ReadAll, ReadStream, Readiness, StreamPage,
    Subscribe,
};
use changeover_core::{Capabilities, Checkpoint, ConsumerName, Result, Subscription};

use crate::handle::Handle;
use log::Tables;

/// The events of one module and tenant.
pub(crate) struct SqliteEvents(pub(crate) Handle<Tables>);

#[async_trait]
impl EventStore for SqliteEvents {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn append(&self, request: Append) -> Result<Appended> {
        let events = request.streams.iter().map(|part| part.events.len()).sum();
        let is_news = |appended: &Appended| !appended.repeated;
        let write =
            self.0.write("events.append", request.validate(), events, is_news, move |conn, tables| {
                append::append(conn, tables, &request)
            });
        write.await
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.0.read("events.read_stream", move |conn, tables| read::stream_page(conn, tables, &request)).await
    }

    async fn read_all(&self, request: ReadAll) -> Result<AllPage> {
        request.filter.validate().map_err(|error| self.0.place(error, "events.read_all"))?;
        self.0.read("events.read_all", move |conn, tables| read::log_page(conn, tables, &request)).await
    }

    async fn head(&self, of: HeadOf) -> Result<Head> {
        self.0.read("events.head", move |conn, tables| read::head(conn, tables, &of)).await
    }

    async fn tracked(&self, consumer: ConsumerName) -> Result<Option<Checkpoint>> {
        self.0.read("events.tracked", move |conn, tables| tables.log(conn)?.tracked(conn, &consumer)).await
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Subscription> {
        let operation = "events.subscribe";
        self.0.still_open().map_err(|error| self.0.place(error, operation))?;
        let subscribed = subscribe::subscribe(&self.0.reader, self.0.closing(), &request);
        subscribed.await.map_err(|error| self.0.place(error, operation))
    }

    async fn ready(&self) -> Result<Readiness> {
        self.0.ready("events.ready", |conn, tables| tables.verify(conn).map(|_| ())).await
    }

    async fn close(&self) -> Result<()> {
        self.0.close();
        Ok(())
    }
}
