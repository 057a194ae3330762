//! The one server of a run: how processes find it, know that it lives, and stop it.
//!
//! Test runners start a process for each test, so the server is noted in a file under the target folder,
//! and a lock file keeps two processes from starting two. A note is believed only after a query is
//! answered: an open port comes before the server takes queries (DEF-47).

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use crate::error::{Doing, Error, describe};
use crate::ladder::{Rung, Settings, acquire};
use crate::{container, programs, url};

/// Members of this role must give their password; everybody else is trusted. It lets a test prove that
/// a password was sent as meant. Not there on a server given by the environment.
pub const PASSWORD_ROLE: &str = "changeover_test_password";

/// How long a server may take from its start to its first answer.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How long a server may take over one trivial query before it is held to be dead. Long, since a machine
/// that is short of memory is slow, and a server that others use would be stopped under them.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
/// How long a process waits for another one that is starting the server (fetching included).
const LOCK_LIMIT: Duration = Duration::from_mins(5);

/// Speed over durability: a test database is worth nothing after its test.
pub(crate) const SERVER_SETTINGS: [(&str, &str); 9] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_connections", "300"),
    ("max_locks_per_transaction", "256"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "30min"),
    ("shared_buffers", "256MB"),
    ("jit", "off"),
    ("timezone", "UTC"),
];

/// A running PostgreSQL.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    rung: Rung,
    url: String,
    version: String,
    handle: Handle,
    /// Not so after reading a note: who only found a server does not stop it under its other users.
    #[serde(skip)]
    started_here: bool,
}

/// What is needed to stop a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Handle {
    Given,
    Container { id: String, image: String },
    Programs { bin: PathBuf, data: PathBuf },
}

/// The server of this process, found or started once.
///
/// # Errors
/// [`Error::NoServer`] with what was tried and what to do.
pub async fn shared() -> Result<&'static Server, Error> {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER
        .get_or_try_init(async || {
            let server = acquire(&Settings::from_env()?).await?;
            crate::database::sweep(&server).await?;
            Ok(server)
        })
        .await
}

/// Stops every server noted under the target folder; returns their descriptions.
///
/// # Errors
/// [`Error::Invalid`] if a server is still there afterwards.
pub async fn stop_all(settings: &Settings) -> Result<Vec<String>, Error> {
    let _lock = Lock::take(&settings.state).await?;
    let mut stopped = Vec::new();
    for rung in Rung::STARTING {
        if let Some(server) = noted(&settings.state, rung).await {
            server.stop(&settings.state).await?;
            stopped.push(server.to_string());
        }
    }
    Ok(stopped)
}

impl Server {
    /// The superuser's address of the database `postgres`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The rung that served.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// Whether this process started it, rather than found it.
    pub fn started_here(&self) -> bool {
        self.started_here
    }

    /// The server's version, as it says it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A superuser's connection to `database`.
    ///
    /// # Errors
    /// [`Error::Postgres`] if the server does not take it.
    pub async fn connect(&self, database: &str) -> Result<Client, Error> {
        connect(&url::with_database(&self.url, database)).await
    }

    /// Stops the server and forgets it. A server given by the environment is left alone.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is still there afterwards.
    pub async fn stop(&self, state: &Path) -> Result<(), Error> {
        let stopped = match &self.handle {
            Handle::Given => return Ok(()),
            Handle::Container { id, .. } => container::stop(id).await,
            Handle::Programs { bin, data } => programs::stop(bin, data).await,
        };
        stopped.map_err(|why| Error::Invalid(format!("stopping {self}: {why}")))?;
        let _ = fs::remove_file(note_path(state, self.rung));
        Ok(())
    }

    /// Programs and data of a server that consists of them.
    pub(crate) fn programs(&self) -> Option<(&Path, &Path)> {
        match &self.handle {
            Handle::Programs { bin, data } => Some((bin, data)),
            Handle::Given | Handle::Container { .. } => None,
        }
    }

    pub(crate) async fn given(url: &str) -> Result<Self, String> {
        let version = version_of(url).await?;
        Ok(Self { rung: Rung::Env, url: url.to_owned(), version, handle: Handle::Given, started_here: false })
    }

    /// Waits until a server that was just started answers a query, and prepares it.
    pub(crate) async fn started(rung: Rung, url: String, handle: Handle) -> Result<Self, String> {
        let answer = timeout(START_LIMIT, async {
            loop {
                match version_of(&url).await {
                    Ok(version) => return version,
                    Err(_) => sleep(Duration::from_millis(50)).await,
                }
            }
        });
        let version =
            answer.await.map_err(|_| format!("no query was answered within {} s", START_LIMIT.as_secs()))?;
        let server = Self { rung, url, version, handle, started_here: true };
        server.ask_members_for_passwords().await.map_err(|error| error.to_string())?;
        Ok(server)
    }

    /// Is reached by another address from now on, if it answers there in time.
    pub(crate) async fn prefer(&mut self, url: String, limit: Duration) {
        if matches!(timeout(limit, version_of(&url)).await, Ok(Ok(version)) if version == self.version) {
            self.url = url;
        }
    }

    pub(crate) fn note(&self, state: &Path) -> Result<(), Error> {
        let path = note_path(state, self.rung);
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::Invalid(format!("noting the server: {error}")))?;
        fs::write(&path, text).doing(format!("writing {}", path.display()))
    }

    /// Through the server itself, so that it is the same on every rung.
    async fn ask_members_for_passwords(&self) -> Result<(), Error> {
        let client = connect(&self.url).await?;
        let doing = "writing the access rules of the test server";
        let path: String =
            client.query_one("select current_setting('hba_file')", &[]).await.doing(doing)?.get(0);
        client
            .batch_execute(&format!(
                "create role {PASSWORD_ROLE} nologin;
                 copy (values ('host all +{PASSWORD_ROLE} all scram-sha-256'),
                              ('host all all all trust'), ('local all all trust'),
                              ('host replication all all trust'))
                   to '{}';
                 select pg_reload_conf();",
                path.replace('\'', "''")
            ))
            .await
            .doing(doing)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match &self.handle {
            Handle::Given => "address from the environment".to_owned(),
            Handle::Container { image, .. } => format!("image {image}"),
            Handle::Programs { bin, .. } => format!("programs in {}", bin.display()),
        };
        let (version, rung, address) = (&self.version, self.rung.name(), url::address(&self.url));
        write!(f, "PostgreSQL {version} at {address} by rung {rung} ({from})")
    }
}

/// A server another process noted, if it answers.
pub(crate) async fn noted(state: &Path, rung: Rung) -> Option<Server> {
    let path = note_path(state, rung);
    let server: Server = serde_json::from_str(&fs::read_to_string(&path).ok()?).ok()?;
    if version_of(&server.url).await.is_ok() {
        return Some(server);
    }
    // A server that hangs or lost its data must not stay behind unnoted.
    if let Err(error) = server.stop(state).await {
        eprintln!("testkit: {server} answers no query and may be left behind: {error}");
    }
    let _ = fs::remove_file(path);
    None
}

pub(crate) async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.doing(format!("connecting to {}", url::address(url)))?;
    tokio::spawn(connection);
    Ok(client)
}

async fn version_of(url: &str) -> Result<String, String> {
    let ask = async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        client.query_one("select split_part(current_setting('server_version'), ' ', 1)", &[]).await
    };
    match timeout(ANSWER_LIMIT, ask).await {
        Ok(Ok(row)) => Ok(row.get(0)),
        Ok(Err(error)) => Err(describe(&error)),
        Err(_) => Err("it took the connection but answered no query within a minute".to_owned()),
    }
}

/// The folder of build products that the running program lies in, so that a run of tests and a run by
/// hand share a server and `cargo clean` forgets it.
pub(crate) fn target_dir() -> PathBuf {
    let marked = |dir: &Path| dir.join("CACHEDIR.TAG").is_file();
    let from_exe = std::env::current_exe().ok();
    from_exe.as_deref().and_then(|exe| exe.ancestors().find(|dir| marked(dir))).map_or_else(
        || {
            std::env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from)
        },
        Path::to_path_buf,
    )
}

fn note_path(state: &Path, rung: Rung) -> PathBuf {
    state.join(format!("postgres-{}.json", rung.name()))
}

/// Held while a server is looked for and started. The system releases it when the process ends.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) async fn take(state: &Path) -> Result<Self, Error> {
        let path = state.join("lock");
        let doing = || format!("locking {}", path.display());
        fs::create_dir_all(state).doing(doing())?;
        let file = File::options().create(true).append(true).open(&path).doing(doing())?;
        let wait = async {
            while file.try_lock().is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LOCK_LIMIT, wait).await.map_err(|_| {
            Error::NoServer(format!(
                "another process has been starting the test server for {} s (lock {}); end it and try again",
                LOCK_LIMIT.as_secs(),
                path.display()
            ))
        })?;
        Ok(Self { _file: file })
    }
}
