//! One opened file: its connections, its write lane, and the news that something was committed.

use std::sync::Arc;

use changeover_core::Result;
use diesel::SqliteConnection;
use tokio::sync::watch;

use crate::classify::Failure;
use crate::connect::{Connections, Opener, Role, Turn};
use crate::events::lane::Lane;
use crate::settings::Options;
use crate::sql;

/// What all stores of one opened backend share.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) options: Arc<Options>,
    readers: Connections,
    writer: Connections,
    pub(crate) lane: Lane,
    committed: watch::Sender<()>,
}

impl Database {
    pub(crate) fn new(options: Options) -> Self {
        let options = Arc::new(options);
        Self {
            readers: Connections::new(&options, Role::Reader, options.readers),
            writer: Connections::new(&options, Role::Writer, 1),
            lane: Lane::default(),
            committed: watch::Sender::new(()),
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
        self.writer.run(move |conn| conn.immediate_transaction(work).map_err(Failure::into_error)).await
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

    /// Wakes whoever follows a log of this file.
    pub(crate) fn announce(&self) {
        self.committed.send_replace(());
    }

    /// Changes when something was committed through this backend.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.committed.subscribe()
    }

    pub(crate) fn close(&self) {
        self.readers.close();
        self.writer.close();
    }
}
