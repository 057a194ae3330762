//! Connections of the login that may change the schema, one for each call under way, and their transactions.

use std::sync::{Arc, Mutex, PoisonError};

use changeover_core::{Applied, Error, ModuleScope, Result};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::classify;
use crate::connect::Connector;
use crate::settings::Settings;

pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

pub(super) struct Connections {
    settings: Arc<Settings>,
    module: String,
    idle: Mutex<Vec<Client>>,
}

impl Connections {
    pub(super) fn new(settings: &Arc<Settings>, scope: &ModuleScope) -> Self {
        Self { settings: Arc::clone(settings), module: scope.module.to_string(), idle: Mutex::default() }
    }

    /// Where it is, without user and password.
    pub(super) fn place(&self) -> String {
        let target = self.settings.migrate_target.as_ref().unwrap_or(&self.settings.target);
        format!("postgres://{}:{}/{}", target.host, target.port, target.database)
    }

    /// The role that owns what is ours.
    pub(super) fn owner(&self) -> &str {
        &self.settings.roles.owner
    }

    async fn client(&self) -> Result<Client> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(client) if !client.is_closed() => Ok(client),
            _ => Ok(Connector::for_cutover(&self.settings, &self.module)?.client().await?.0),
        }
    }

    /// A connection of the login as it is, for what no role of ours may do and no transaction holds.
    pub(super) async fn as_login(&self) -> Result<Client> {
        Ok(Connector::for_migrations(&self.settings)?.client().await?.0)
    }

    fn put_back(&self, client: Client) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < 4 && !client.is_closed() {
            idle.push(client);
        }
    }

    /// A transaction. Dropped without [`Tx::end`], its connection ends, and with it the transaction.
    pub(super) async fn begin(&self) -> Result<Tx<'_>> {
        self.begin_with("BEGIN").await
    }

    /// One snapshot for all that is read.
    pub(super) async fn snapshot(&self) -> Result<Tx<'_>> {
        self.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    async fn begin_with(&self, sql: &str) -> Result<Tx<'_>> {
        let client = self.client().await.map_err(|error| error.applied(Applied::No))?;
        client.batch_execute(sql).await.map_err(|error| failed(&error))?;
        Ok(Tx { client, of: self })
    }
}

/// A transaction on a connection of its own. Until [`Tx::end`] sent the commit, nothing can have been stored.
pub(super) struct Tx<'a> {
    client: Client,
    of: &'a Connections,
}

impl Tx<'_> {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>> {
        self.client.query(sql, params).await.map_err(|error| failed(&error))
    }

    pub(super) async fn one(&self, sql: &str, params: Params<'_>) -> Result<Row> {
        self.client.query_one(sql, params).await.map_err(|error| failed(&error))
    }

    pub(super) async fn optional(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>> {
        self.client.query_opt(sql, params).await.map_err(|error| failed(&error))
    }

    pub(super) async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64> {
        self.client.execute(sql, params).await.map_err(|error| failed(&error))
    }

    /// Statements of ours, without data.
    pub(super) async fn batch(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|error| failed(&error))
    }

    /// From here to [`Tx::see_own`] the rows of all tenants of a table are seen, also where row security is forced: as the
    /// role that its policy "whole" lets through.
    pub(super) async fn see_all(&self, table: &str) -> Result<()> {
        self.batch("SAVEPOINT seeing").await?;
        let sql = "SELECT set_config('role', $2, true) FROM pg_class WHERE oid = to_regclass($1) AND relforcerowsecurity";
        self.query(sql, &[&relation(table), &self.of.settings.roles.copier]).await.map(drop)
    }

    /// Ends what [`Tx::see_all`] began.
    pub(super) async fn see_own(&self) -> Result<()> {
        self.batch("ROLLBACK TO SAVEPOINT seeing; RELEASE SAVEPOINT seeing").await
    }

    /// Commits what went well and rolls back what did not.
    pub(super) async fn end<T>(self, outcome: Result<T>) -> Result<T> {
        match outcome {
            Ok(value) => {
                self.client.batch_execute("COMMIT").await.map_err(|error| classify::write_error(&error))?;
                self.of.put_back(self.client);
                Ok(value)
            }
            Err(error) => {
                self.roll_back().await;
                Err(error)
            }
        }
    }

    /// Takes everything back; so does the end of the connection, where that is what went wrong.
    pub(super) async fn roll_back(self) {
        if self.client.batch_execute("ROLLBACK").await.is_ok() {
            self.of.put_back(self.client);
        }
    }
}

/// The error of a statement before the commit.
pub(super) fn failed(error: &tokio_postgres::Error) -> Error {
    classify::read_error(error).applied(Applied::No)
}

/// A name in SQL.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL; only names come here, never data of rows.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// `schema.table` in SQL.
pub(super) fn relation(name: &str) -> String {
    match name.split_once('.') {
        Some((schema, table)) => format!("{}.{}", ident(schema), ident(table)),
        None => ident(name),
    }
}

pub(super) fn list<T>(items: impl IntoIterator<Item = T>, of: impl Fn(T) -> String) -> String {
    items.into_iter().map(of).collect::<Vec<_>>().join(", ")
}
