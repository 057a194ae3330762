//! Connections of a cutover, and what ends the wait for an answer that never comes.
//!
//! A network may lose what goes one way and keep the connection: no error ever comes, and a command of a cutover may rightly
//! take an hour. So after a while of silence the server is asked, on another connection, what the session is doing. At work,
//! it is waited for. If it waits for us itself, twice the same, or does not exist, or nobody answers, then the command or its
//! answer is lost. The session that is left behind may hold locks, so it is ended as soon as the server can be reached.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use changeover_core::{Error, ErrorKind, ModuleScope, Result};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::classify;
use crate::connect::Connector;
use crate::settings::Settings;

/// After so long without an answer the server is asked; after `command_timeout`, if that is shorter.
const SILENCE: Duration = Duration::from_secs(5);

/// The server may take so long to say it, and to take a connection; `pool.connect_timeout`, if that is shorter.
const ASKING: Duration = Duration::from_secs(10);

/// How often in a row nobody answers, or the session waits for us, before the wait ends.
const TIMES: u32 = 2;

/// A session of the server: its process, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    process: i32,
    since: String,
}

/// Where lines lead to, and the sessions behind those that were lost.
pub(super) struct Lines {
    settings: Arc<Settings>,
    module: String,
    lost: Mutex<Vec<Session>>,
}

/// A connection. Dropped while an answer is awaited, it leaves a session behind.
pub(super) struct Line {
    pub client: Client,
    session: Session,
    awaits: AtomicBool,
    of: Arc<Lines>,
}

impl Drop for Line {
    fn drop(&mut self) {
        if *self.awaits.get_mut() {
            self.of.lost().push(self.session.clone());
        }
    }
}

/// What a session does, as the server sees it.
#[derive(PartialEq, Eq)]
enum Doing {
    /// It works.
    Works,
    /// It waits for what comes from here, since then.
    Waits(String),
    /// There is none.
    Gone,
}

impl Lines {
    pub(super) fn new(settings: &Arc<Settings>, scope: &ModuleScope) -> Arc<Self> {
        let (settings, module) = (Arc::clone(settings), scope.module.to_string());
        Arc::new(Self { settings, module, lost: Mutex::default() })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A connection that acts as the owner.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<Line> {
        let open = async {
            let client = Connector::for_cutover(&self.settings, &self.module)?.client().await?.0;
            // Only the login itself sees since when its sessions are there; to the end of these two statements.
            let sql = "SET LOCAL ROLE NONE; SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()";
            let rows = rows(&client, sql).await?;
            let session = rows.first().and_then(|row| {
                Some(Session { process: row.first()?.as_deref()?.parse().ok()?, since: row.get(1)?.clone()? })
            });
            let session = session.ok_or_else(|| {
                Error::new(ErrorKind::Unexpected, "the server does not say which session this one is")
            })?;
            Ok(Line { client, session, awaits: AtomicBool::new(false), of: Arc::clone(self) })
        };
        // Kept apart, as are the others: futures of every command would be as large as they are.
        Box::pin(self.in_time(open)).await
    }

    /// Ends the sessions that were left behind, with whatever they have locked.
    pub(super) async fn end_lost(&self) -> Result<()> {
        let lost = std::mem::take(&mut *self.lost());
        if lost.is_empty() {
            return Ok(());
        }
        let ended = self.in_time(async {
            let client = self.login().await?;
            for session in &lost {
                end(&client, session).await?;
            }
            Ok(())
        });
        match Box::pin(ended).await {
            Err(error) if error.kind().is_transient() => {
                self.lost().extend(lost);
                Err(error)
            }
            Err(error) => {
                // They end by themselves when the server finds nobody at their other end.
                tracing::warn!(%error, "sessions of a cutover that were left behind cannot be ended");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// A connection of the login as it is.
    pub(super) async fn login(&self) -> Result<Client> {
        Ok(Connector::for_migrations(&self.settings)?.client().await?.0)
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(ASKING.min(self.settings.connect_timeout), work).await.unwrap_or_else(|_| Err(silent()))
    }

    fn lost(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Waits for what this connection was asked for as long as the server is at it.
    ///
    /// # Errors
    ///
    /// `Unavailable` if no answer will come. Whether the command was carried out is not known then, and the connection is of no
    /// use any more.
    pub(super) async fn answer<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        self.awaits.store(true, Ordering::Relaxed);
        let (mut waited, mut unheard) = (None, 0);
        let silence = SILENCE.min(self.of.settings.command_timeout);
        loop {
            let look = Box::pin(async {
                sleep(silence).await;
                self.of.in_time(self.look()).await
            });
            let looked = tokio::select! {
                biased;
                done = &mut work => {
                    self.awaits.store(false, Ordering::Relaxed);
                    return Ok(done);
                }
                looked = look => looked,
            };
            match looked {
                Ok(Doing::Works) => (waited, unheard) = (None, 0),
                Ok(Doing::Waits(since)) if waited.as_ref() != Some(&since) => {
                    (waited, unheard) = (Some(since), 0);
                }
                Ok(Doing::Waits(_) | Doing::Gone) => break,
                Err(error) => {
                    tracing::warn!(%error, "the server does not answer, and does not say what it is doing");
                    unheard += 1;
                    if unheard >= TIMES {
                        break;
                    }
                }
            }
        }
        Err(silent())
    }

    async fn look(&self) -> Result<Doing> {
        let sql = format!(
            "SELECT coalesce(state, '') LIKE 'idle%' OR wait_event = 'ClientRead', state_change FROM pg_stat_activity WHERE {}",
            self.session.condition()
        );
        let rows = rows(&self.of.login().await?, &sql).await?;
        Ok(match rows.first().map(Vec::as_slice) {
            None => Doing::Gone,
            Some([Some(waits), since]) if waits == "t" => Doing::Waits(since.clone().unwrap_or_default()),
            Some(_) => Doing::Works,
        })
    }
}

impl Session {
    fn condition(&self) -> String {
        format!("pid = {} AND backend_start = '{}'", self.process, self.since)
    }
}

/// Ends a session, if it is still there, and waits until its locks are gone.
async fn end(client: &Client, session: &Session) -> Result<()> {
    let sql =
        format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {}", session.condition());
    rows(client, &sql).await.map(drop)
}

async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let said = client.simple_query(sql).await.map_err(|error| classify::read_error(&error))?;
    let row = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        }
        _ => None,
    };
    Ok(said.into_iter().filter_map(row).collect())
}

fn silent() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the database does not answer, and its session is not at work for us either: what was sent to it or its answer is lost; \
         check the network between them, the same call may succeed",
    )
}
