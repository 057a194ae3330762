//! The connections of a backend: at most `max_size` in use, had in the order they are asked for.
//!
//! bb8 keeps them. A permit of a fair semaphore comes first, since under load bb8 hands a connection back to whoever
//! returned one last; and a connection that cannot be made fails its caller at once and with its reason, which bb8
//! would keep to itself until its time limit.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bb8::{ErrorSink, ManageConnection, Pool, PooledConnection};
use changeover_core::{Closing, Error, ErrorKind, Result};
use diesel::connection::CacheSize;
use diesel::sql_types::Text;
use diesel_async::pooled_connection::PoolableConnection;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use crate::classify::{diesel_error, lost, read_error};
use crate::client::PgClient;
use crate::connect::{Connector, SET_OWN, not_set};
use crate::pooler::Around;
use crate::settings::Settings;

/// What can be kept in a pool.
pub(crate) trait Poolable: Send + Sized + 'static {
    /// Opens one.
    fn open(connector: &Arc<Connector>) -> impl Future<Output = Result<Self>> + Send;

    /// Whether it must not be used again.
    fn is_broken(&mut self) -> bool;
}

/// A connection for a user's transaction.
pub(crate) struct UserConnection {
    pub conn: AsyncPgConnection,
    /// Not to be used again.
    pub spent: bool,
}

impl Poolable for UserConnection {
    async fn open(connector: &Arc<Connector>) -> Result<Self> {
        let (client, mut driver) = connector.raw().await?;
        if let Some(around) = connector.around() {
            let prepare = async {
                around.check(&client).await?;
                client.batch_execute(around.begin()).await.map_err(|error| read_error(&error))
            };
            tokio::select! {
                prepared = prepare => prepared?,
                _ = &mut driver => return Err(lost()),
            }
        }
        let refused = |_| Error::new(ErrorKind::Unavailable, "the session could not be set up");
        let made = AsyncPgConnection::try_from_client_and_connection(client, driver);
        let mut conn = made.await.map_err(refused)?;
        if connector.around().is_some() {
            // What diesel has just set for a session that is not ours is taken back with the transaction.
            conn.batch_execute("ROLLBACK").await.map_err(|error| diesel_error(&error))?;
            conn.set_prepared_statement_cache_size(CacheSize::Disabled);
            return Ok(Self { conn, spent: false });
        }
        conn.batch_execute(connector.session()).await.map_err(|error| diesel_error(&error))?;
        for (name, value) in connector.own() {
            let set = diesel::sql_query(SET_OWN).bind::<Text, _>(name).bind::<Text, _>(value);
            let set = diesel_async::RunQueryDsl::execute(set, &mut conn).await;
            set.map_err(|error| not_set(name, diesel_error(&error)))?;
        }
        Ok(Self { conn, spent: false })
    }

    fn is_broken(&mut self) -> bool {
        // True also while a transaction is open, so that a caller who was dropped inside one leaves nothing behind.
        self.spent || PoolableConnection::is_broken(&mut self.conn)
    }
}

/// The connections of one backend, of both kinds, under one limit on those in use.
pub(crate) struct Pools {
    permits: Arc<Semaphore>,
    closing: Closing,
    plain: Shelf<PgClient>,
    diesel: Shelf<UserConnection>,
    max_size: u32,
    wait: Duration,
    connector: Arc<Connector>,
}

/// A connection in use; goes back when it is dropped, unless it is broken.
pub(crate) struct Pooled<C: Poolable> {
    // Before the permit, so that whoever gets that finds the connection.
    conn: PooledConnection<'static, Opener<C>>,
    _permit: OwnedSemaphorePermit,
}

impl Pools {
    pub(crate) fn new(settings: &Settings, connector: &Arc<Connector>) -> Arc<Self> {
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(settings.max_size as usize)),
            closing: Closing::default(),
            plain: Shelf::new(settings, settings.min_idle, connector),
            diesel: Shelf::new(settings, 0, connector),
            max_size: settings.max_size,
            wait: settings.connect_timeout,
            connector: Arc::clone(connector),
        })
    }

    /// What goes around every statement, where there is no session of ours.
    pub(crate) fn around(&self) -> Option<&Around> {
        self.connector.around()
    }

    /// A connection for our own statements.
    pub(crate) async fn get(&self) -> Result<Pooled<PgClient>> {
        self.take(&self.plain).await
    }

    /// A connection for a user's transaction.
    pub(crate) async fn get_diesel(&self) -> Result<Pooled<UserConnection>> {
        self.take(&self.diesel).await
    }

    async fn take<C: Poolable>(&self, from: &Shelf<C>) -> Result<Pooled<C>> {
        let take = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
            Ok(Pooled { conn: from.get().await?, _permit: permit })
        };
        tokio::time::timeout(self.wait, take).await.unwrap_or_else(|_| Err(self.none_free()))
    }

    fn none_free(&self) -> Error {
        Error::new(
            ErrorKind::Unavailable,
            format!(
                "no connection was free or could be made within {:?}, {} may be in use at once; raise pool.max_size \
                 or look for what holds them",
                self.wait, self.max_size
            ),
        )
    }

    /// Facts for people.
    pub(crate) fn note(&self) -> String {
        let used = self.max_size as usize - self.permits.available_permits().min(self.max_size as usize);
        let idle = self.plain.idle() + self.diesel.idle();
        format!("pool: {used} of {} connections in use, {idle} idle", self.max_size)
    }

    /// Whether everybody is refused by now.
    pub(crate) fn is_closed(&self) -> bool {
        self.closing.is_closed()
    }

    /// The close, to be waited for.
    pub(crate) fn closing(&self) -> &Closing {
        &self.closing
    }

    /// Refuses everybody from now on, and closes the idle connections.
    pub(crate) fn close(&self) {
        self.closing.close();
        self.permits.close();
        self.plain.close();
        self.diesel.close();
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the store was closed; open it again")
}

/// The pool of one kind of connection; `None` after the end.
struct Shelf<C: Poolable> {
    pool: Mutex<Option<Pool<Opener<C>>>>,
    failures: broadcast::Sender<Error>,
}

impl<C: Poolable> Shelf<C> {
    fn new(settings: &Settings, min_idle: u32, connector: &Arc<Connector>) -> Self {
        let (failures, _) = broadcast::channel(16);
        let pool = Pool::builder()
            .max_size(settings.max_size)
            .min_idle(min_idle)
            .idle_timeout(settings.idle_timeout)
            .max_lifetime(settings.max_lifetime)
            .connection_timeout(settings.connect_timeout)
            .reaper_rate(
                (settings.idle_timeout / 4).clamp(Duration::from_millis(100), Duration::from_secs(30)),
            )
            .test_on_check_out(false)
            .retry_connection(false)
            .error_sink(Box::new(Failures(failures.clone())))
            .build_unchecked(Opener { connector: Arc::clone(connector), kind: std::marker::PhantomData });
        Self { pool: Mutex::new(Some(pool)), failures }
    }

    fn pool(&self) -> Option<Pool<Opener<C>>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn get(&self) -> Result<PooledConnection<'static, Opener<C>>> {
        // Before the pool is asked: a failure between the two would be waited for in vain.
        let mut failures = self.failures.subscribe();
        let pool = self.pool().ok_or_else(closed)?;
        loop {
            tokio::select! {
                biased;
                conn = pool.get_owned() => return conn.map_err(|error| match error {
                    bb8::RunError::User(error) => error,
                    bb8::RunError::TimedOut => {
                        Error::new(ErrorKind::Unavailable, "no connection could be made in time; is the server up?")
                    }
                }),
                failure = failures.recv() => match failure {
                    Ok(error) => return Err(error),
                    // So many at once that some were dropped: the next one says the same.
                    Err(_) => tokio::task::yield_now().await,
                },
            }
        }
    }

    fn idle(&self) -> usize {
        self.pool().map_or(0, |pool| pool.state().idle_connections as usize)
    }

    fn close(&self) {
        *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Opens connections of one kind; what bb8 calls a manager.
struct Opener<C> {
    connector: Arc<Connector>,
    kind: std::marker::PhantomData<fn() -> C>,
}

impl<C: Poolable> ManageConnection for Opener<C> {
    type Connection = C;
    type Error = Error;

    async fn connect(&self) -> Result<C> {
        C::open(&self.connector).await
    }

    async fn is_valid(&self, _conn: &mut C) -> Result<()> {
        Ok(())
    }

    fn has_broken(&self, conn: &mut C) -> bool {
        conn.is_broken()
    }
}

/// Tells those who wait why a connection could not be made.
#[derive(Debug)]
struct Failures(broadcast::Sender<Error>);

impl ErrorSink<Error> for Failures {
    fn sink(&self, error: Error) {
        // Nobody waits: the next caller tries anew.
        let _ = self.0.send(error);
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<Error>> {
        Box::new(Self(self.0.clone()))
    }
}

impl<C: Poolable> Deref for Pooled<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.conn
    }
}

impl<C: Poolable> DerefMut for Pooled<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.conn
    }
}
