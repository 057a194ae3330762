//! How a cutover gets at the file: one connection that reads and one that writes, beside those of the stores.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use changeover_core::cutover::Archive;
use changeover_core::{Applied, Error, ErrorKind, Result};
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;
use tokio::sync::OnceCell;

use super::tombstone;
use crate::classify::{Failure, classify};
use crate::connect::{Connections, Opener, Role};
use crate::database::Database;
use crate::settings::Options;
use crate::sql;

/// Connections to a file that has to be there.
pub(super) struct Door {
    database: Arc<Database>,
    options: Arc<Options>,
    reader: Arc<Connections>,
    writer: Arc<Connections>,
    /// To the archive, once it was looked into.
    archive: OnceCell<Connections>,
}

impl Door {
    pub(super) fn new(database: &Arc<Database>) -> Self {
        let options = Arc::new(Options { create: false, ..(*database.options).clone() });
        Self {
            database: Arc::clone(database),
            reader: database.others(&options, Role::Scanner),
            writer: database.others(&options, Role::Mover),
            archive: OnceCell::new(),
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

    /// The archive, if the file is a tombstone.
    pub(super) async fn archived(&self, operation: &'static str) -> Result<Option<Archive>> {
        let path = self.path().to_owned();
        self.read(operation, move |conn| tombstone::find(conn, &path)).await
    }

    /// As [`Door::read`], in the archive if the file is a tombstone. That is looked for where a table is missing, so that nothing
    /// is asked twice of a file that is itself.
    pub(super) async fn read_frozen<R: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl Fn(&mut SqliteConnection) -> Result<R, Failure> + Clone + Send + 'static,
    ) -> Result<R> {
        match self.read(operation, work.clone()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let Some(archive) = self.archived(operation).await? else { return Err(error) };
                let opened = self.archive.get_or_try_init(|| async { self.open(archive) }).await;
                let opened = opened.map_err(|error| self.place(error, operation))?;
                let read = opened.run(move |conn| sql::snapshot(conn, work).map_err(Failure::into_error));
                read.await.map_err(|error| self.place(error, operation))
            }
            answer => answer,
        }
    }

    fn open(&self, archive: Archive) -> Result<Connections> {
        if !archive.is_there {
            let message = format!(
                "{}: the archive of {} is not there; put it back, under this name",
                archive.place.display(),
                self.path().display()
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let options = Arc::new(Options { path: archive.place, ..(*self.options).clone() });
        Ok(Connections::new(&options, Role::Scanner, 1))
    }

    /// What puts the file away, and everybody else in this process who has it open.
    pub(super) fn all_of_it(&self) -> (Opener, &Arc<Database>) {
        (Opener::new(Arc::clone(&self.options), Role::Mover), &self.database)
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
