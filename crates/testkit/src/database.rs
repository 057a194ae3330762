//! A database for each test, copied from a template that is migrated once.

use std::error::Error as StdError;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::error::{Doing, Error};
use crate::server::{Server, shared};
use crate::url;

/// What a killed test leaves behind is dropped after this time.
const LEFTOVER_AGE: Duration = Duration::from_hours(1);

/// A database with what `migrate` makes, copied from the template for `key`.
///
/// `migrate` is given the superuser's address of an empty database, once for each key on a server, even
/// when many processes ask at the same time. So `key` must change when its result does: take a hash of
/// the migrations. It must close its connections before it returns; those it leaves are ended.
///
/// # Errors
/// [`Error::NoServer`] if there is none, [`Error::Migration`] if `migrate` fails (no template is kept).
pub async fn database<F, Fut, E>(key: &str, migrate: F) -> Result<TestDatabase, Error>
where
    F: FnOnce(String) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    database_on(shared().await?, key, migrate).await
}

/// The same on a server that is at hand.
pub(crate) async fn database_on<F, Fut, E>(
    server: &'static Server,
    key: &str,
    migrate: F,
) -> Result<TestDatabase, Error>
where
    F: FnOnce(String) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    let template = template(server, key, migrate).await?;
    TestDatabase::copy(server, &template).await
}

/// A database of one test. It is dropped with this value, whoever is still connected;
/// `CHANGEOVER_TEST_KEEP=1` keeps it for a look and prints its name.
#[derive(Debug)]
pub struct TestDatabase {
    server: &'static Server,
    name: String,
    url: String,
}

impl TestDatabase {
    /// A database with nothing in it.
    ///
    /// # Errors
    /// [`Error::NoServer`] if there is no server.
    pub async fn empty() -> Result<Self, Error> {
        Self::copy(shared().await?, "template0").await
    }

    /// The superuser's address of this database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The name of this database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A superuser's connection of its own to this database.
    ///
    /// # Errors
    /// [`Error::Postgres`] if the server does not take it.
    pub async fn client(&self) -> Result<Client, Error> {
        self.server.connect(&self.name).await
    }

    /// Runs statements as the superuser, on a connection of their own.
    ///
    /// # Errors
    /// [`Error::Postgres`] with the server's message.
    pub async fn execute(&self, sql: &str) -> Result<(), Error> {
        self.client().await?.batch_execute(sql).await.doing(format!("running {sql:?}"))
    }

    /// The rows of one statement as the superuser sees them, on a connection of its own.
    ///
    /// # Errors
    /// [`Error::Postgres`] with the server's message.
    pub async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        self.client().await?.query(sql, parameters).await.doing(format!("running {sql:?}"))
    }

    /// Ends every connection to this database, as a failing server would; returns how many there were.
    ///
    /// # Errors
    /// [`Error::Postgres`] with the server's message.
    pub async fn kill_backends(&self) -> Result<usize, Error> {
        end_connections(&self.server.connect("postgres").await?, &self.name).await
    }

    async fn copy(server: &'static Server, template: &str) -> Result<Self, Error> {
        let name = format!("test_{}_{}", seconds_now(), Uuid::new_v4().simple());
        let client = server.connect("postgres").await?;
        let sql = format!("create database {name} template {template} strategy file_copy");
        for attempt in 0.. {
            match client.batch_execute(&sql).await {
                Ok(()) => break,
                // The server's own workers look into templates too; they soon leave.
                Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) && attempt < 20 => {
                    sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error).doing(format!("copying {template}")),
            }
        }
        let url = url::with_database(server.url(), &name);
        Ok(Self { server, name, url })
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if std::env::var_os("CHANGEOVER_TEST_KEEP").is_some() {
            eprintln!("testkit: database {} is kept", self.name);
            return;
        }
        let (server, name) = (self.server, &self.name);
        // A thread and a runtime of its own: the test's runtime may be the one that is ending.
        let dropped = thread::scope(|scope| {
            let drop_it = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.doing("starting a runtime")?.block_on(drop_database(server, name))
            };
            scope.spawn(drop_it).join()
        });
        match dropped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("testkit: {error}; a later run drops it"),
            Err(_) => eprintln!("testkit: dropping {name} panicked; a later run drops it"),
        }
    }
}

/// The name of the migrated template for `key`, made now if this server has none.
async fn template<F, Fut, E>(server: &Server, key: &str, migrate: F) -> Result<String, Error>
where
    F: FnOnce(String) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    let name = format!("template_{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes()).simple());
    let client = server.connect("postgres").await?;
    let doing = "preparing a template database";
    // Ends with the connection, whatever happens here.
    client.execute("select pg_advisory_lock(hashtextextended($1, 0))", &[&name]).await.doing(doing)?;
    let there = "select 1 from pg_database where datname = $1";
    if !client.query(there, &[&name]).await.doing(doing)?.is_empty() {
        return Ok(name);
    }
    // Under another name until it is complete: a maker that is killed must not leave half a template.
    let making = format!("{name}_making");
    drop_with(&client, &making).await?;
    client
        .batch_execute(&format!("create database {making} template template0 strategy file_copy"))
        .await
        .doing(doing)?;
    if let Err(source) = migrate(url::with_database(server.url(), &making)).await {
        drop_with(&client, &making).await?;
        return Err(Error::Migration { key: key.to_owned(), source: source.into() });
    }
    client.batch_execute(&format!("alter database {making} allow_connections false")).await.doing(doing)?;
    end_connections(&client, &making).await?;
    for statement in [
        format!("alter database {making} is_template true"),
        format!("alter database {making} rename to {name}"),
    ] {
        client.batch_execute(&statement).await.doing(doing)?;
    }
    Ok(name)
}

/// Drops the databases that tests of an hour ago or more left behind.
pub(crate) async fn sweep(server: &Server) -> Result<(), Error> {
    let client = server.connect("postgres").await?;
    let names = client
        .query("select datname::text from pg_database where datname ~ '^test_[0-9]+_[0-9a-f]{32}$'", &[])
        .await
        .doing("looking for databases left behind")?;
    let oldest = seconds_now().saturating_sub(LEFTOVER_AGE.as_secs());
    for name in names.iter().map(|row| row.get::<_, String>(0)) {
        if name.split('_').nth(1).and_then(|made| made.parse().ok()).is_some_and(|made: u64| made < oldest) {
            drop_with(&client, &name).await?;
        }
    }
    Ok(())
}

async fn drop_database(server: &Server, name: &str) -> Result<(), Error> {
    drop_with(&server.connect("postgres").await?, name).await
}

async fn drop_with(client: &Client, name: &str) -> Result<(), Error> {
    let sql = format!("drop database if exists {name} with (force)");
    client.batch_execute(&sql).await.doing(format!("dropping {name}"))
}

/// Waits until they are gone: a signalled connection still counts as a user of its database.
async fn end_connections(client: &Client, database: &str) -> Result<usize, Error> {
    let doing = format!("ending the connections to {database}");
    let ended = client
        .query(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity \
             where datname = $1 and backend_type = 'client backend' and pid <> pg_backend_pid()",
            &[&database],
        )
        .await
        .doing(doing)?;
    Ok(ended.len())
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
