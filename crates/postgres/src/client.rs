//! A connection for our own statements: each prepared once, where there is a session to keep it, and each with a deadline
//! of its own.
//!
//! These go through the driver and not through diesel, since diesel does not pass SQLSTATE on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use changeover_core::{Applied, Error, ErrorKind, Result};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::classify;
use crate::connect::Connector;
use crate::gate::Gate;
use crate::params::Param;
use crate::pool::Poolable;

/// What the server is given beyond its own `statement_timeout` before the client stops waiting.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) struct PgClient {
    client: Client,
    statements: HashMap<Arc<str>, Statement>,
    connector: Arc<Connector>,
    broken: bool,
}

impl Poolable for PgClient {
    async fn open(connector: &Arc<Connector>) -> Result<Self> {
        let (client, with_role) = connector.client().await?;
        Ok(Self { client, statements: HashMap::new(), connector: Arc::clone(connector), broken: !with_role })
    }

    fn is_broken(&mut self) -> bool {
        self.broken || self.client.is_closed()
    }
}

impl PgClient {
    /// Runs a statement that only reads.
    pub(crate) async fn read(&mut self, sql: &Arc<str>, params: &[&dyn Param]) -> Result<Vec<Row>> {
        self.run(sql, params, false, None).await.map_err(|timeout| timeout.unwrap_or_else(too_long))
    }

    /// As [`PgClient::read`], of records of a module: `Moved` unless they were this database's all the time.
    pub(crate) async fn read_owned(
        &mut self,
        gate: &Gate,
        sql: &Arc<str>,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>> {
        let gate = gate.looks.then_some(gate);
        self.run(sql, params, false, gate).await.map_err(|timeout| timeout.unwrap_or_else(too_long))
    }

    /// Runs a statement that writes; errors say whether it may have been stored.
    pub(crate) async fn write(&mut self, sql: &Arc<str>, params: &[&dyn Param]) -> Result<Vec<Row>> {
        self.run(sql, params, true, None)
            .await
            .map_err(|timeout| timeout.unwrap_or_else(|| too_long().applied(Applied::Unknown)))
    }

    /// `Err(None)`: the deadline passed.
    async fn run(
        &mut self,
        sql: &Arc<str>,
        params: &[&dyn Param],
        writes: bool,
        gate: Option<&Gate>,
    ) -> Result<Vec<Row>, Option<Error>> {
        let limit = self.connector.command_timeout.saturating_add(GRACE);
        let (client, statements) = (&self.client, &mut self.statements);
        let around = self.connector.around();
        let work = async {
            match around {
                Some(around) => around.run(client, sql, params, writes, gate).await,
                None => run_prepared(client, statements, sql, params, writes, gate).await,
            }
        };
        // Broken until it answered: a caller that is dropped meanwhile leaves a connection that is still busy.
        let was = std::mem::replace(&mut self.broken, true);
        if let Ok(answer) = tokio::time::timeout(limit, work).await {
            self.broken = was;
            return answer.map_err(Some);
        }
        let (cancel, tls) = (self.client.cancel_token(), self.connector.tls());
        tokio::spawn(async move {
            if tokio::time::timeout(GRACE, cancel.cancel_query(tls)).await.is_err() {
                tracing::debug!("a statement past its deadline could not be cancelled");
            }
        });
        Err(None)
    }
}

async fn run_prepared(
    client: &Client,
    statements: &mut HashMap<Arc<str>, Statement>,
    sql: &Arc<str>,
    params: &[&dyn Param],
    writes: bool,
    gate: Option<&Gate>,
) -> Result<Vec<Row>> {
    let values: Vec<_> = params.iter().map(|param| param.value()).collect();
    // Nothing was written yet, whatever goes wrong.
    let not_prepared = |error| {
        let error = classify::read_error(&error);
        if writes { error.applied(Applied::No) } else { error }
    };
    // Before anything is sent, so that nothing comes between a read and its looks.
    let look = match gate {
        Some(gate) => Some((prepared(client, statements, &gate.sql).await.map_err(not_prepared)?, gate)),
        None => None,
    };
    let statement = prepared(client, statements, sql).await.map_err(not_prepared)?;
    let answer = match ask(client, &statement, &values, look.as_ref()).await {
        // The statement was prepared before the schema changed; it failed as a whole and is prepared anew, once.
        Err(error) if is_stale(&error) => {
            statements.remove(sql);
            let made = prepared(client, statements, sql).await.map_err(not_prepared)?;
            ask(client, &made, &values, look.as_ref()).await
        }
        answer => answer,
    };
    let (rows, looks) = answer
        .map_err(|error| if writes { classify::write_error(&error) } else { classify::read_error(&error) })?;
    if let (Some(gate), Some((before, after))) = (gate, looks) {
        gate.pass(&before, &after)?;
    }
    Ok(rows)
}

/// A statement, prepared once.
async fn prepared(
    client: &Client,
    statements: &mut HashMap<Arc<str>, Statement>,
    sql: &Arc<str>,
) -> Result<Statement, tokio_postgres::Error> {
    if let Some(statement) = statements.get(sql) {
        return Ok(statement.clone());
    }
    let made = client.prepare(sql).await?;
    statements.insert(Arc::clone(sql), made.clone());
    Ok(made)
}

/// The rows of a statement and, with a gate, of a look before it and one after it.
async fn ask(
    client: &Client,
    statement: &Statement,
    values: &[&(dyn ToSql + Sync)],
    look: Option<&(Statement, &Gate)>,
) -> Result<(Vec<Row>, Option<(Vec<Row>, Vec<Row>)>), tokio_postgres::Error> {
    let Some((look, gate)) = look else { return Ok((client.query(statement, values).await?, None)) };
    let module: [&(dyn ToSql + Sync); 1] = [&gate.module];
    // Polled in this order, each sends its message before it waits for the answer.
    let (before, rows, after) = futures::join!(
        client.query(look, &module),
        client.query(statement, values),
        client.query(look, &module),
    );
    let rows = rows?;
    Ok((rows, Some((before?, after?))))
}

/// Undefined column, table or function; a cached plan whose result type would change.
fn is_stale(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| matches!(code.code(), "42703" | "42P01" | "42883" | "0A000"))
}

fn too_long() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "the database did not answer within command_timeout; it was asked to cancel the statement",
    )
}
