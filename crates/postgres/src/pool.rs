//! The connections of a backend: at most `max_size` in use, had in the order they are asked for.
//!
//! A permit comes first, from a fair semaphore; then an idle connection or a new one. A server that cannot be reached
//! fails the caller at once with its reason. (bb8 keeps that reason to itself until its own time-out, and under load
//! hands connections back to whoever returned one last.)

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use changeover_core::{Error, ErrorKind, Result};
use diesel_async::pooled_connection::PoolableConnection;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::PgClient;
use crate::connect::Connector;
use crate::settings::Settings;

/// What can be kept in a pool.
pub(crate) trait Poolable: Send + Sized + 'static {
    /// Opens one.
    fn open(connector: &Arc<Connector>) -> impl Future<Output = Result<Self>> + Send;

    /// Whether it must not be used again.
    fn is_broken(&mut self) -> bool;
}

impl Poolable for AsyncPgConnection {
    async fn open(connector: &Arc<Connector>) -> Result<Self> {
        let (client, driver) = connector.raw().await?;
        let refused = |_| Error::new(ErrorKind::Unavailable, "the session could not be set up");
        let mut conn = Self::try_from_client_and_connection(client, driver).await.map_err(refused)?;
        conn.batch_execute(connector.session())
            .await
            .map_err(|error| crate::classify::diesel_error(&error))?;
        Ok(conn)
    }

    fn is_broken(&mut self) -> bool {
        // True also while a transaction is open, so that a caller who was dropped inside one leaves nothing behind.
        PoolableConnection::is_broken(self)
    }
}

/// The connections of one backend, of both kinds, under one limit.
pub(crate) struct Pools {
    connector: Arc<Connector>,
    permits: Arc<Semaphore>,
    plain: Arc<Shelf<PgClient>>,
    diesel: Arc<Shelf<AsyncPgConnection>>,
    max_size: u32,
    wait: Duration,
    closed: AtomicBool,
}

/// Idle connections, the last used on top.
struct Shelf<C> {
    idle: Mutex<Vec<Idle<C>>>,
    max_lifetime: Duration,
}

struct Idle<C> {
    conn: C,
    born: Instant,
    since: Instant,
}

impl Pools {
    pub(crate) fn new(settings: &Settings, connector: Arc<Connector>) -> Arc<Self> {
        let pools = Arc::new(Self {
            connector,
            permits: Arc::new(Semaphore::new(settings.max_size as usize)),
            plain: Shelf::new(settings.max_lifetime),
            diesel: Shelf::new(settings.max_lifetime),
            max_size: settings.max_size,
            wait: settings.connect_timeout,
            closed: AtomicBool::new(false),
        });
        let (weak, min_idle, idle_timeout) =
            (Arc::downgrade(&pools), settings.min_idle as usize, settings.idle_timeout);
        tokio::spawn(async move {
            let turn = (idle_timeout / 4).clamp(Duration::from_millis(100), Duration::from_secs(30));
            while let Some(pools) = weak.upgrade().filter(|pools| !pools.closed.load(Ordering::Relaxed)) {
                pools.plain.tidy(min_idle, idle_timeout);
                pools.diesel.tidy(0, idle_timeout);
                pools.refill(min_idle).await;
                drop(pools);
                tokio::time::sleep(turn).await;
            }
        });
        pools
    }

    /// A connection for our own statements.
    pub(crate) async fn get(&self) -> Result<Pooled<PgClient>> {
        self.take(&self.plain).await
    }

    /// A connection for a user's transaction.
    pub(crate) async fn get_diesel(&self) -> Result<Pooled<AsyncPgConnection>> {
        self.take(&self.diesel).await
    }

    async fn take<C: Poolable>(&self, shelf: &Arc<Shelf<C>>) -> Result<Pooled<C>> {
        let take = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
            let (conn, born) = match shelf.pop() {
                Some(idle) => (idle.conn, idle.born),
                None => (C::open(&self.connector).await?, Instant::now()),
            };
            Ok(Pooled { conn: Some(conn), born, shelf: Arc::clone(shelf), _permit: permit })
        };
        tokio::time::timeout(self.wait, take).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "no connection was free or could be made within {:?}, {} may be in use at once; raise \
                     pool.max_size or look for what holds them",
                    self.wait, self.max_size
                ),
            ))
        })
    }

    /// Opens connections until `min_idle` are there; a server that cannot be reached is left to the callers.
    async fn refill(&self, min_idle: usize) {
        while self.plain.len() < min_idle && !self.permits.is_closed() {
            let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { return };
            let Ok(conn) = PgClient::open(&self.connector).await else { return };
            let pooled = Pooled {
                conn: Some(conn),
                born: Instant::now(),
                shelf: Arc::clone(&self.plain),
                _permit: permit,
            };
            drop(pooled);
        }
    }

    /// Facts for people.
    pub(crate) fn note(&self) -> String {
        let used = self.max_size as usize - self.permits.available_permits().min(self.max_size as usize);
        format!(
            "pool: {used} of {} connections in use, {} idle",
            self.max_size,
            self.plain.len() + self.diesel.len()
        )
    }

    /// Refuses everybody from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.permits.close();
        self.plain.clear();
        self.diesel.clear();
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the store was closed; open it again")
}

impl<C: Poolable> Shelf<C> {
    fn new(max_lifetime: Duration) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::new(Vec::new()), max_lifetime })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle<C>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self) -> Option<Idle<C>> {
        loop {
            let mut idle = self.lock().pop()?;
            if !idle.conn.is_broken() && idle.born.elapsed() < self.max_lifetime {
                return Some(idle);
            }
        }
    }

    fn tidy(&self, keep: usize, idle_timeout: Duration) {
        let mut idle = self.lock();
        idle.retain_mut(|it| !it.conn.is_broken() && it.born.elapsed() < self.max_lifetime);
        // The longest idle stand at the bottom.
        let old = idle.iter().take_while(|it| it.since.elapsed() >= idle_timeout).count();
        let surplus = idle.len().saturating_sub(keep);
        idle.drain(..old.min(surplus));
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn clear(&self) {
        self.lock().clear();
    }
}

/// A connection in use; goes back when it is dropped, unless it is broken.
pub(crate) struct Pooled<C: Poolable> {
    conn: Option<C>,
    born: Instant,
    shelf: Arc<Shelf<C>>,
    _permit: OwnedSemaphorePermit,
}

impl<C: Poolable> Deref for Pooled<C> {
    type Target = C;

    #[expect(clippy::expect_used, reason = "only Drop takes the connection out")]
    fn deref(&self) -> &C {
        self.conn.as_ref().expect("there until dropped")
    }
}

impl<C: Poolable> DerefMut for Pooled<C> {
    #[expect(clippy::expect_used, reason = "only Drop takes the connection out")]
    fn deref_mut(&mut self) -> &mut C {
        self.conn.as_mut().expect("there until dropped")
    }
}

impl<C: Poolable> Drop for Pooled<C> {
    fn drop(&mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        if !conn.is_broken() && self.born.elapsed() < self.shelf.max_lifetime {
            self.shelf.lock().push(Idle { conn, born: self.born, since: Instant::now() });
        }
    }
}
