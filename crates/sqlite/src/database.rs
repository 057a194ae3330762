//! One opened file: its connections, its write lane, and the news that something was committed.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use changeover_core::{Closing, ErrorKind, Result};
use diesel::SqliteConnection;
use tokio::sync::watch;

use crate::classify::Failure;
use crate::connect::{Connections, Opener, Role, Turn};
use crate::lane::Lane;
use crate::settings::Options;
use crate::sql;

/// What all stores of one opened backend share.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) options: Arc<Options>,
    readers: Connections,
    writer: Connections,
    /// Those of cutovers.
    others: Mutex<Vec<Weak<Connections>>>,
    pub(crate) lane: Lane,
    committed: watch::Sender<()>,
    closing: Closing,
}

impl Database {
    pub(crate) fn new(options: Options) -> Self {
        let options = Arc::new(options);
        Self {
            readers: Connections::new(&options, Role::Reader, options.readers),
            writer: Connections::new(&options, Role::Writer, 1),
            others: Mutex::default(),
            lane: Lane::default(),
            committed: watch::Sender::new(()),
            closing: Closing::default(),
            options,
        }
    }

    /// Runs `work` in one read transaction.
    pub(crate) async fn read<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R> {
        self.readers.run(move |conn| sql::snapshot(conn, work).map_err(Failure::into_error)).await
    }

    /// Runs `work` in one write transaction, alone.
    pub(crate) async fn write<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R> {
        self.writer.run(move |conn| sql::write(conn, work).map_err(Failure::into_error)).await
    }

    /// The right to write; everybody else who writes through this backend waits meanwhile.
    pub(crate) async fn write_turn(&self) -> Result<Turn> {
        self.writer.turn().await
    }

    /// Runs `work` on the write connection, without a transaction, of a caller who has the turn.
    pub(crate) async fn write_in<R: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce(&mut SqliteConnection) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        self.writer.run_in(turn, work).await
    }

    /// How a connection for the user's own transaction is opened.
    pub(crate) fn opener(&self) -> Opener {
        Opener::new(Arc::clone(&self.options), Role::Writer)
    }

    /// Connections of their own to the file, for a cutover.
    pub(crate) fn others(&self, options: &Arc<Options>, role: Role) -> Arc<Connections> {
        let made = Arc::new(Connections::new(options, role, 1));
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|known| known.strong_count() > 0);
        others.push(Arc::downgrade(&made));
        made
    }

    /// Closes the connections that nobody uses, so that this process does not stand in the way of whoever wants the file
    /// alone. Nothing else changes: the next use opens one.
    pub(crate) fn let_go(&self) {
        self.readers.let_go();
        self.writer.let_go();
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.iter().filter_map(Weak::upgrade).for_each(|connections| connections.let_go());
    }

    /// As [`Database::let_go`], if the answer is that a module is not here any more: a service that follows it has no use for
    /// the file.
    pub(crate) fn let_go_if_moved<T>(&self, answer: &Result<T>) {
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Moved) {
            self.let_go();
        }
    }

    /// Wakes whoever follows a log of this file.
    pub(crate) fn announce(&self) {
        self.committed.send_replace(());
    }

    /// Changes when something was committed through this backend.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.committed.subscribe()
    }

    /// The close of this backend.
    pub(crate) fn closing(&self) -> &Closing {
        &self.closing
    }

    pub(crate) fn close(&self) {
        self.closing.close();
        self.readers.close();
        self.writer.close();
    }
}

#[cfg(test)]
mod tests {
    use changeover_core::events::{Append, EventStore as _, Expected, NewEvent, ReadAll, StreamId};
    use changeover_core::{Applied, BackendSettings, ErrorKind, Json, ModuleScope, TenantId, Uuid};
    use diesel::connection::SimpleConnection;

    use crate::{OpenSqlite, sql};

    fn append(bytes: usize) -> Append {
        let data = Json::of(&"x".repeat(bytes)).unwrap();
        let stream = StreamId::new("Order", Uuid::now_v7()).unwrap();
        Append::one(stream, Expected::NoStream, vec![NewEvent::new("Placed", data).unwrap()])
    }

    // E116: a full file is Unavailable, for the append that does not fit and not for those that share its commit;
    // nothing of it is stored, and with room again the store goes on.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_file_refuses_what_does_not_fit_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let settings = BackendSettings::new("legacy").with("path", path.to_string_lossy());
        let open = OpenSqlite::open(&settings).await.unwrap();
        let scope =
            ModuleScope { module: changeover_core::ModuleName::new("events").unwrap(), namespace: None };
        let events = open.open_events(&scope, &TenantId::new("default").unwrap()).await.unwrap();
        let pages = |count: u32| {
            open.database.write(move |conn| {
                let sql = format!("PRAGMA max_page_count = {count}");
                Ok(conn.batch_execute(&sql)?)
            })
        };
        events.append(append(10)).await.unwrap();
        pages(60).await.unwrap();
        // All wait for the turn, and so share one transaction.
        let turn = open.database.write_turn().await.unwrap();
        let (small, large, other) =
            tokio::join!(events.append(append(10)), events.append(append(1_000_000)), async {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                drop(turn);
                events.append(append(20)).await
            });
        let full = large.unwrap_err();
        assert_eq!((full.kind(), full.was_applied()), (ErrorKind::Unavailable, Some(Applied::No)), "{full}");
        small.unwrap();
        other.unwrap();
        assert_eq!(events.read_all(ReadAll::default()).await.unwrap().events.len(), 3);
        pages(100_000).await.unwrap();
        events.append(append(1_000_000)).await.unwrap();
        let sound =
            open.database.read(|conn| Ok(sql::first(conn, "PRAGMA integrity_check", &[])?)).await.unwrap();
        assert_eq!(sound.unwrap().cell(0).as_str(), Some("ok"));
    }
}
