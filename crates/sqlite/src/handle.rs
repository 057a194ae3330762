//! What the handles of all stores have in common: a place in an opened file, and an end.

use std::sync::Arc;

use changeover_core::events::Readiness;
use changeover_core::{Applied, Capabilities, Closing, Error, ModuleName, ModuleScope, Result, Support};
use diesel::SqliteConnection;

use crate::classify::Failure;
use crate::connect::closed;
use crate::cutover::gate::{self, Gate};
use crate::database::Database;
use crate::lane;

/// Where every read of a store begins.
pub(crate) struct Reader<T> {
    pub(crate) database: Arc<Database>,
    pub(crate) tables: Arc<T>,
    gate: Arc<Gate>,
}

impl<T: Send + Sync + 'static> Reader<T> {
    /// Runs `work` in one read transaction. `Moved` when the module was moved from here.
    ///
    /// The gate comes last: what a store must know before the snapshot begins, it takes before its first statement. The
    /// snapshot is the same.
    pub(crate) async fn read<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection, &T) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R> {
        let (tables, gate) = (Arc::clone(&self.tables), Arc::clone(&self.gate));
        let read = self.database.read(move |conn| {
            let answer = work(conn, &tables);
            gate.pass(conn)?;
            answer
        });
        let answer = read.await;
        self.database.let_go_if_moved(&answer);
        answer
    }
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        let (database, tables) = (Arc::clone(&self.database), Arc::clone(&self.tables));
        Self { database, tables, gate: Arc::clone(&self.gate) }
    }
}

/// A store's tables `T` in an opened file, until it is closed.
pub(crate) struct Handle<T> {
    pub(crate) reader: Reader<T>,
    pub(crate) adopted: bool,
    module: ModuleName,
    closed: Closing,
}

impl<T: Send + Sync + 'static> Handle<T> {
    pub(crate) fn new(database: &Arc<Database>, scope: &ModuleScope, tables: T, adopted: bool) -> Self {
        let module = scope.module.clone();
        let gate = Arc::new(Gate::new(&module));
        let reader = Reader { database: Arc::clone(database), tables: Arc::new(tables), gate };
        Self { reader, adopted, module, closed: Closing::default() }
    }

    /// Runs `work` in one read transaction, as [`Reader::read`] does.
    pub(crate) async fn read<R: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut SqliteConnection, &T) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R> {
        self.still_open().map_err(|error| self.place(error, operation))?;
        self.reader.read(work).await.map_err(|error| self.place(error, operation))
    }

    /// Whether the store can serve: `verify` looks at its schema.
    pub(crate) async fn ready(
        &self,
        operation: &'static str,
        verify: impl FnOnce(&mut SqliteConnection, &T) -> Result<(), Failure> + Send + 'static,
    ) -> Result<Readiness> {
        let notes = vec![self.note()];
        self.read(operation, move |conn, tables| verify(conn, tables).map(|()| Readiness { notes })).await
    }

    /// Writes through the lane; `run` judges before it writes. `valid` is what the request says of itself.
    pub(crate) async fn write<R: Send + 'static>(
        &self,
        operation: &'static str,
        valid: Result<()>,
        records: usize,
        is_news: fn(&R) -> bool,
        mut run: impl FnMut(&mut SqliteConnection, &T) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R> {
        let refuse = |error: Error| self.place(error, operation).applied(Applied::No);
        self.still_open().map_err(refuse)?;
        valid.map_err(refuse)?;
        let (tables, module) = (Arc::clone(&self.reader.tables), self.module.clone());
        let submitted = lane::submit(&self.reader.database, records, is_news, move |conn| {
            run(conn, &tables).or_else(|failure| gate::judge_anew(conn, module.as_str(), failure))
        });
        let answer = submitted.await;
        self.reader.database.let_go_if_moved(&answer);
        answer.map_err(|error| self.place(error, operation))
    }

    pub(crate) fn still_open(&self) -> Result<()> {
        if self.closed.is_closed() { Err(closed()) } else { Ok(()) }
    }

    /// The close of this handle.
    pub(crate) fn closing(&self) -> &Closing {
        &self.closed
    }

    pub(crate) fn close(&self) {
        self.closed.close();
    }

    pub(crate) fn place(&self, error: Error, operation: &'static str) -> Error {
        error.during(operation).with("backend", &self.reader.database.options.name)
    }

    /// Of every store of the file, whatever it keeps.
    pub(crate) fn capabilities(&self) -> Capabilities {
        let native = |reason| if self.adopted { Support::No(reason) } else { Support::Yes };
        let hash_chain = if self.reader.database.options.hash_chain {
            native("the tables of an adopted file have no room for digests")
        } else {
            Support::No("`hash_chain = false` in the settings")
        };
        Capabilities {
            durable: Support::Yes,
            shared: Support::Yes,
            concurrent_writers: Support::No("a SQLite file has one writer at a time"),
            transactions: Support::Yes,
            tenants: native("the tables of an adopted file have no tenant column"),
            push: Support::No("SQLite tells nobody of another process's write; it is polled every 200 ms"),
            recorded_time: native("the tables of an adopted file keep no time of recording"),
            hash_chain,
            retention: Support::Yes,
        }
    }

    /// For `ready`.
    fn note(&self) -> String {
        let adopted = if self.adopted { "adopted" } else { "native" };
        format!("{adopted} SQLite file, schema up to date")
    }
}

#[cfg(test)]
mod tests {
    use changeover_core::{BackendSettings, ModuleName, ModuleScope};
    use diesel::connection::SimpleConnection;

    use super::Handle;
    use crate::{OpenSqlite, sql};

    // A store's first statement begins the snapshot, and nothing before it: the marks of an adopted log depend on it. (E57)
    #[tokio::test(flavor = "multi_thread")]
    async fn the_snapshot_begins_with_the_first_statement_of_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let settings = BackendSettings::new("legacy").with("path", path.to_string_lossy());
        let open = OpenSqlite::open(&settings).await.unwrap();
        let scope = ModuleScope { module: ModuleName::new("events").unwrap(), namespace: None };
        let handle = Handle::new(&open.database, &scope, (), false);
        let mut other = open.database.opener().open().unwrap();
        let read = handle.reader.read(move |conn, ()| {
            other.batch_execute("CREATE TABLE newer (a)")?;
            Ok(sql::first(conn, "SELECT 1 FROM sqlite_master WHERE name = 'newer'", &[])?.is_some())
        });
        assert!(read.await.unwrap(), "the snapshot is older than what the store does first");
    }
}
