//! How a cutover gets at the file: one connection that reads and one that writes, beside those of the stores.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use changeover_core::{Applied, Error, ErrorKind, Result};
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;

use crate::classify::{Failure, classify};
use crate::connect::{Connections, Role};
use crate::database::Database;
use crate::settings::Options;
use crate::sql;

/// Connections to a file that has to be there.
pub(super) struct Door {
    database: Arc<Database>,
    options: Arc<Options>,
    reader: Connections,
    writer: Connections,
}

impl Door {
    pub(super) fn new(database: &Arc<Database>) -> Self {
        let options = Arc::new(Options { create: false, ..(*database.options).clone() });
        Self {
            database: Arc::clone(database),
            reader: Connections::new(&options, Role::Scanner, 1),
            writer: Connections::new(&options, Role::Mover, 1),
            options,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.options.path
    }

    /// Runs `work` in one read transaction.
    pub(super) async fn read<R: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut SqliteConnection) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R> {
        self.find_file().map_err(|error| self.place(error, operation))?;
        let read = self.reader.run(move |conn| sql::snapshot(conn, work).map_err(Failure::into_error));
        read.await.map_err(|error| self.place(error, operation))
    }

    /// Runs `work` in one write transaction that waits for others at most `within`, else as long as the settings say.
    pub(super) async fn write<R: Send + 'static>(
        &self,
        operation: &'static str,
        within: Option<Duration>,
        work: impl FnOnce(&mut SqliteConnection) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R> {
        let within = within.unwrap_or(self.options.busy_timeout);
        let until = Instant::now() + within;
        let refuse = |error: Error| self.place(error.applied(Applied::No), operation);
        self.find_file().map_err(refuse)?;
        // Among the writers of this program in line, not by luck; none are left when the backend was closed.
        let Ok(turn) = tokio::time::timeout(within, self.database.write_turn()).await else {
            let message = format!("a writer of this program held the file for {within:?}; try again");
            return Err(refuse(Error::new(ErrorKind::Contention, message)));
        };
        let turn = turn.ok();
        let written = self.writer.run(move |conn| {
            let written = immediately(conn, until, work);
            drop(turn);
            written
        });
        written.await.map_err(|error| self.place(error, operation))
    }

    fn find_file(&self) -> Result<()> {
        match std::fs::metadata(&self.options.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::new(
                ErrorKind::NotFound,
                format!("{}: no such file; correct `path`", self.options.path.display()),
            )),
            _ => Ok(()),
        }
    }

    fn place(&self, error: Error, operation: &'static str) -> Error {
        error.during(operation).with("backend", &self.options.name)
    }
}

/// One `IMMEDIATE` transaction. In rollback-journal mode the commit waits too, for readers: both together end at `until`.
fn immediately<R>(
    conn: &mut SqliteConnection,
    until: Instant,
    work: impl FnOnce(&mut SqliteConnection) -> Result<R, Failure>,
) -> Result<R> {
    let run =
        |conn: &mut SqliteConnection, sql: &str| conn.batch_execute(sql).map_err(|error| classify(&error));
    let wait = || {
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        format!("PRAGMA busy_timeout = {left};")
    };
    run(conn, &format!("{} BEGIN IMMEDIATE", wait())).map_err(|error| error.applied(Applied::No))?;
    let done = work(conn).and_then(|value| {
        conn.batch_execute(&wait())?;
        Ok(value)
    });
    let value = match done {
        Ok(value) => value,
        Err(failure) => {
            // Fails where SQLite has rolled back already, after a full disk.
            let _ = conn.batch_execute("ROLLBACK");
            return Err(failure.into_error().applied(Applied::No));
        }
    };
    run(conn, "COMMIT").map(|()| value).map_err(|error| {
        let _ = conn.batch_execute("ROLLBACK");
        let known = matches!(error.kind(), ErrorKind::Contention | ErrorKind::ReadOnly);
        error.applied(if known { Applied::No } else { Applied::Unknown })
    })
}
