//! Connections: how one is opened, and the pools they wait in.
//!
//! A file has one writer at a time, so there is one write connection and several that can only read; each kind has a
//! pool behind a fair semaphore, since bb8 alone hands a freed connection to whoever asks first and starves the others.
//! An operation is one hop to a blocking thread that owns its connection: when the caller goes away it runs to its end,
//! and the connection comes back clean.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bb8::{ManageConnection, Pool};
use changeover_core::{Error, ErrorKind, Result};
use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::{Connection, SqliteConnection};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::classify::{by_message, classify};
use crate::settings::Options;

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Reader,
    Writer,
    /// Reads a module's tables for a cutover.
    Scanner,
    /// Writes for a cutover: rows as they are given, with no foreign key followed, and never lost once committed.
    Mover,
}

/// Opens connections of one role; what bb8 calls a manager.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    options: Arc<Options>,
    role: Role,
}

impl Opener {
    pub(crate) fn new(options: Arc<Options>, role: Role) -> Self {
        Self { options, role }
    }

    /// Opens a connection and sets it up. Blocks.
    pub(crate) fn open(&self) -> Result<SqliteConnection> {
        let path = &self.options.path;
        look_at(path, self.options.create)?;
        let mode = if self.options.create { "rwc" } else { "rw" };
        let mut conn = SqliteConnection::establish(&uri(path, mode)).map_err(|error| match error {
            diesel::ConnectionError::BadConnection(message) => by_message(&message),
            other => Error::new(ErrorKind::Unavailable, format!("the file cannot be opened: {other}")),
        })?;
        let busy = self.options.busy_timeout.as_millis();
        let synchronous = &self.options.synchronous;
        let mut setup = format!("PRAGMA busy_timeout = {busy}; PRAGMA foreign_keys = ON;");
        match self.role {
            // Turning a file to WAL writes to it, so a reader does not.
            Role::Reader | Role::Scanner => {
                setup.push_str("PRAGMA query_only = ON; SELECT count(*) FROM sqlite_master;");
            }
            // EXTRA is FULL, and in rollback-journal mode outlives a power cut too.
            Role::Mover => setup.push_str("PRAGMA foreign_keys = OFF; PRAGMA synchronous = EXTRA;"),
            Role::Writer => {
                setup.push_str("PRAGMA journal_mode = WAL; PRAGMA synchronous = ");
                setup.push_str(synchronous);
                setup.push(';');
            }
        }
        conn.batch_execute(&setup).map_err(|error| classify(&error))?;
        Ok(conn)
    }
}

/// Says what is wrong with a path before SQLite says "unable to open database file".
fn look_at(path: &Path, create: bool) -> Result<()> {
    let refuse = |problem: &str| Err(Error::new(ErrorKind::Config, format!("{}: {problem}", path.display())));
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => refuse("a folder, allowed is a file; add the file's name to `path`"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if !create {
                return refuse(
                    "no such file; correct `path`, or have it made: `create = true`, then `changeover migrate up` or the \
                     first start",
                );
            }
            match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                Some(folder) => std::fs::create_dir_all(folder).map_err(|error| {
                    let kind = error.kind();
                    let message = format!("{}: the folder cannot be made: {kind}", folder.display());
                    Error::new(ErrorKind::Unavailable, message)
                }),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// The path as the URI that diesel passes on; every character with a meaning there is escaped. `mode`: as SQLite names it.
pub(crate) fn uri(path: &Path, mode: &str) -> String {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
    let text = path.to_string_lossy();
    format!("file:{}?mode={mode}", utf8_percent_encode(&text, PLAIN))
}

impl ManageConnection for Opener {
    type Connection = SqliteConnection;
    type Error = Error;

    async fn connect(&self) -> Result<SqliteConnection> {
        let opener = self.clone();
        join(tokio::task::spawn_blocking(move || opener.open()).await)
    }

    async fn is_valid(&self, _conn: &mut SqliteConnection) -> Result<()> {
        Ok(())
    }

    fn has_broken(&self, conn: &mut SqliteConnection) -> bool {
        let status = AnsiTransactionManager::transaction_manager_status_mut(conn);
        std::thread::panicking() || !matches!(status.transaction_depth(), Ok(None))
    }
}

/// The connections of one role.
#[derive(Debug)]
pub(crate) struct Connections {
    /// None after the close, so that idle connections are closed too.
    pool: Mutex<Option<Pool<Opener>>>,
    opener: Opener,
    size: u32,
    turns: Arc<Semaphore>,
    timeout: Duration,
}

/// The right to use one connection; one waits in line for it.
pub(crate) type Turn = OwnedSemaphorePermit;

impl Connections {
    pub(crate) fn new(options: &Arc<Options>, role: Role, size: u32) -> Self {
        let opener = Opener::new(Arc::clone(options), role);
        let pool = Mutex::new(Some(pool(&opener, size)));
        let turns = Arc::new(Semaphore::new(size as usize));
        Self { pool, opener, size, turns, timeout: options.connect_timeout }
    }

    /// Closes idle connections, and busy ones when they are done; the next in line opens another.
    pub(crate) fn let_go(&self) {
        let mut held = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pool_now) = held.as_mut().filter(|pool| pool.state().connections > 0) else { return };
        let before = std::mem::replace(pool_now, pool(&self.opener, self.size));
        drop(held);
        // The last connection to be closed writes the log into the file, which may take a while.
        tokio::task::spawn_blocking(move || drop(before));
    }

    /// Waits in line. `Unavailable` when it takes too long, or after [`Connections::close`].
    pub(crate) async fn turn(&self) -> Result<Turn> {
        match tokio::time::timeout(self.timeout, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("no connection became free within pool.connect_timeout, {:?}", self.timeout),
            )),
        }
    }

    /// Runs `work` on a connection, in one hop to a blocking thread. `work` runs to its end even if the caller does
    /// not wait for it.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let turn = self.turn().await?;
        self.run_in(turn, work).await
    }

    /// As [`Connections::run`], of a caller who has its turn.
    pub(crate) async fn run_in<R: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce(&mut SqliteConnection) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)?;
        if pool.state().idle_connections == 0 {
            // By hand, since bb8 would hide why a connection cannot be opened behind its time limit.
            let opened = pool.dedicated_connection().await?;
            // Refused only if bb8 opened one meanwhile; then that one serves.
            let _ = pool.add(opened);
        }
        let mut conn = pool.get_owned().await.map_err(|error| match error {
            bb8::RunError::User(error) => error,
            bb8::RunError::TimedOut => {
                Error::new(ErrorKind::Unavailable, "no connection could be had in time")
            }
        })?;
        let ran = tokio::task::spawn_blocking(move || {
            let result = work(&mut conn);
            // Back to the pool before the next in line has its turn.
            drop(conn);
            drop(turn);
            result
        });
        join(ran.await)
    }

    /// Nobody gets a turn from now on; idle connections are closed, busy ones when they are done.
    pub(crate) fn close(&self) {
        self.turns.close();
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn pool(opener: &Opener, size: u32) -> Pool<Opener> {
    Pool::builder()
        .max_size(size)
        .test_on_check_out(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connection_timeout(opener.options.connect_timeout)
        .build_unchecked(opener.clone())
}

/// What a store says after it was closed.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the store was closed; open it again")
}

fn join<R>(ended: Result<Result<R>, tokio::task::JoinError>) -> Result<R> {
    ended.unwrap_or_else(|error| {
        let (kind, what) = if error.is_panic() {
            (ErrorKind::Unexpected, "an operation panicked")
        } else {
            (ErrorKind::Unavailable, "the runtime is shutting down")
        };
        Err(Error::new(kind, what))
    })
}
