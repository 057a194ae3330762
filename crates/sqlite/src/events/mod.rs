//! The event store on SQLite.

pub(crate) mod append;
mod decode;
pub(crate) mod lane;
pub(crate) mod log;
mod read;
mod statements;
mod subscribe;

use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::events::{
    AllPage, Append, Appended, EventStore, Head, HeadOf, ReadAll, ReadStream, Readiness, StreamPage,
    Subscribe,
};
use changeover_core::{
    Applied, Capabilities, Checkpoint, Closing, ConsumerName, Error, Result, Subscription, Support,
};
use diesel::SqliteConnection;

use crate::classify::Failure;
use crate::connect::closed;
use crate::database::Database;
use log::Tables;

/// The events of one module and tenant.
pub(crate) struct SqliteEvents {
    pub(crate) database: Arc<Database>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) adopted: bool,
    pub(crate) closed: Closing,
}

impl SqliteEvents {
    async fn read<R: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut SqliteConnection, &Tables) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R> {
        self.still_open().map_err(|error| self.place(error, operation))?;
        let tables = Arc::clone(&self.tables);
        let read = self.database.read(move |conn| work(conn, &tables));
        read.await.map_err(|error| self.place(error, operation))
    }

    fn still_open(&self) -> Result<()> {
        if self.closed.is_closed() { Err(closed()) } else { Ok(()) }
    }

    fn place(&self, error: Error, operation: &'static str) -> Error {
        error.during(operation).with("backend", &self.database.options.name)
    }
}

#[async_trait]
impl EventStore for SqliteEvents {
    fn capabilities(&self) -> Capabilities {
        const LATER: Support = Support::No("this version of the SQLite backend serves events only");
        let native = |reason| if self.adopted { Support::No(reason) } else { Support::Yes };
        Capabilities {
            durable: Support::Yes,
            shared: Support::Yes,
            concurrent_writers: Support::No("a SQLite file has one writer at a time"),
            transactions: Support::Yes,
            tenants: native("the tables of an adopted file have no tenant column"),
            push: Support::No("SQLite tells nobody of another process's write; it is polled every 200 ms"),
            recorded_time: native("the tables of an adopted file keep no time of recording"),
            hash_chain: LATER,
            retention: LATER,
        }
    }

    async fn append(&self, request: Append) -> Result<Appended> {
        let operation = "events.append";
        let refuse = |error: Error| self.place(error, operation).applied(Applied::No);
        self.still_open().map_err(refuse)?;
        request.validate().map_err(refuse)?;
        let submitted = lane::submit(&self.database, &self.tables, request);
        submitted.await.map_err(|error| self.place(error, operation))
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.read("events.read_stream", move |conn, tables| read::stream_page(conn, tables, &request)).await
    }

    async fn read_all(&self, request: ReadAll) -> Result<AllPage> {
        request.filter.validate().map_err(|error| self.place(error, "events.read_all"))?;
        self.read("events.read_all", move |conn, tables| read::log_page(conn, tables, &request)).await
    }

    async fn head(&self, of: HeadOf) -> Result<Head> {
        self.read("events.head", move |conn, tables| read::head(conn, tables, &of)).await
    }

    async fn tracked(&self, consumer: ConsumerName) -> Result<Option<Checkpoint>> {
        self.read("events.tracked", move |conn, tables| tables.log(conn)?.tracked(conn, &consumer)).await
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Subscription> {
        let operation = "events.subscribe";
        self.still_open().map_err(|error| self.place(error, operation))?;
        let subscribed = subscribe::subscribe(&self.database, &self.tables, &self.closed, &request);
        subscribed.await.map_err(|error| self.place(error, operation))
    }

    async fn ready(&self) -> Result<Readiness> {
        let adopted = if self.adopted { "adopted" } else { "native" };
        let notes = vec![format!("{adopted} SQLite file, schema up to date")];
        self.read("events.ready", move |conn, tables| tables.verify(conn).map(|_| Readiness { notes })).await
    }

    async fn close(&self) -> Result<()> {
        self.closed.close();
        Ok(())
    }
}
