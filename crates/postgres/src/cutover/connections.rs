//! Connections of the login that may change the schema, one for each call under way, and their transactions.

use std::sync::{Arc, Mutex, PoisonError};

use changeover_core::{Applied, Error, Result};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::line::{Line, Lines};
use crate::classify;

pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

pub(super) struct Connections {
    lines: Arc<Lines>,
    idle: Mutex<Vec<Line>>,
}

impl Connections {
    pub(super) fn new(lines: &Arc<Lines>) -> Self {
        Self { lines: Arc::clone(lines), idle: Mutex::default() }
    }

    /// Where it is, without user and password.
    pub(super) fn place(&self) -> String {
        let settings = self.lines.settings();
        let target = settings.migrate_target.as_ref().unwrap_or(&settings.target);
        format!("postgres://{}:{}/{}", target.host, target.port, target.database)
    }

    /// The role that owns what is ours.
    pub(super) fn owner(&self) -> &str {
        &self.lines.settings().roles.owner
    }

    async fn line(&self) -> Result<Line> {
        self.lines.end_lost().await?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(line) if !line.client.is_closed() => Ok(line),
            _ => self.lines.connect().await,
        }
    }

    /// A connection of the login as it is, for what no role of ours may do and no transaction holds.
    pub(super) async fn as_login(&self) -> Result<Client> {
        self.lines.login().await
    }

    fn put_back(&self, line: Line) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < 4 && !line.client.is_closed() {
            idle.push(line);
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
        let line = self.line().await.map_err(|error| error.applied(Applied::No))?;
        let tx = Tx { line, of: self };
        tx.batch(sql).await?;
        Ok(tx)
    }
}

/// A transaction on a connection of its own. Until [`Tx::end`] sent the commit, nothing can have been stored.
pub(super) struct Tx<'a> {
    line: Line,
    of: &'a Connections,
}

impl Tx<'_> {
    pub(super) fn client(&self) -> &Client {
        &self.line.client
    }

    /// Waits for what this connection was asked for as long as the server is at it; see [`Line::answer`].
    pub(super) async fn answer<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<Result<T, tokio_postgres::Error>> {
        self.line.answer(work).await.map_err(|error| error.applied(Applied::No))
    }

    pub(super) async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>> {
        self.answer(self.client().query(sql, params)).await?.map_err(|error| failed(&error))
    }

    pub(super) async fn one(&self, sql: &str, params: Params<'_>) -> Result<Row> {
        self.answer(self.client().query_one(sql, params)).await?.map_err(|error| failed(&error))
    }

    pub(super) async fn optional(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>> {
        self.answer(self.client().query_opt(sql, params)).await?.map_err(|error| failed(&error))
    }

    pub(super) async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64> {
        self.answer(self.client().execute(sql, params)).await?.map_err(|error| failed(&error))
    }

    /// Statements of ours, without data.
    pub(super) async fn batch(&self, sql: &str) -> Result<()> {
        self.answer(self.client().batch_execute(sql)).await?.map_err(|error| failed(&error))
    }

    /// From here to [`Tx::see_own`] the rows of all tenants of a table are seen, also where row security is forced: as the
    /// role that its policy "whole" lets through.
    pub(super) async fn see_all(&self, table: &str) -> Result<()> {
        self.batch("SAVEPOINT seeing").await?;
        let sql = "SELECT set_config('role', $2, true) FROM pg_class WHERE oid = to_regclass($1) AND relforcerowsecurity";
        self.query(sql, &[&relation(table), &self.of.lines.settings().roles.copier]).await.map(drop)
    }

    /// Ends what [`Tx::see_all`] began.
    pub(super) async fn see_own(&self) -> Result<()> {
        self.batch("ROLLBACK TO SAVEPOINT seeing; RELEASE SAVEPOINT seeing").await
    }

    /// Commits what went well and rolls back what did not.
    pub(super) async fn end<T>(self, outcome: Result<T>) -> Result<T> {
        match outcome {
            Ok(value) => {
                let done = self.line.answer(self.client().batch_execute("COMMIT")).await;
                // What became of it has to be asked for.
                let done = done.map_err(|error| error.applied(Applied::Unknown))?;
                done.map_err(|error| classify::write_error(&error))?;
                self.of.put_back(self.line);
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
        if matches!(self.answer(self.client().batch_execute("ROLLBACK")).await, Ok(Ok(()))) {
            self.of.put_back(self.line);
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
