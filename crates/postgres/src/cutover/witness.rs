//! The new store through a door of its own, for the verifier: statements that share nothing with the copier's. Every value
//! comes as the server prints it; keys go back as text with a cast to the column's type.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::cutover::TargetWitness;
use changeover_core::{Error, ErrorKind, Result};
use futures::future::try_join_all;
use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::line::{Line, Lines};
use crate::classify;

pub(super) struct PostgresWitness {
    lines: Arc<Lines>,
    client: Mutex<Option<Door>>,
}

/// Statements that a connection remembers.
const REMEMBERED: usize = 200;

/// A connection with its prepared statements.
struct Door {
    line: Line,
    statements: Mutex<HashMap<String, Statement>>,
}

impl std::ops::Deref for Door {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.line.client
    }
}

impl PostgresWitness {
    pub(super) fn new(lines: &Arc<Lines>) -> Self {
        Self { lines: Arc::clone(lines), client: Mutex::default() }
    }

    fn copier(&self) -> &str {
        &self.lines.settings().roles.copier
    }

    async fn client(&self, kept: Option<Door>) -> Result<Door> {
        match kept {
            Some(client) if !client.is_closed() => Ok(client),
            _ => Ok(Door { line: self.lines.connect().await?, statements: Mutex::default() }),
        }
    }

    async fn ask(&self, question: &Question<'_>) -> Result<Vec<Vec<Vec<Option<String>>>>> {
        // Taken out while it is busy: a caller who is dropped takes it along.
        let mut place = self.client.lock().await;
        let client = self.client(place.take()).await?;
        let answer = client.line.answer(question.ask(&client, self.copier())).await?;
        if matches!(client.line.answer(client.batch_execute("ROLLBACK")).await, Ok(Ok(()))) {
            *place = Some(client);
        }
        let width = question.key.len() + question.columns.len();
        let value = |row: &Row, column| row.try_get::<_, Option<String>>(column).map_err(|_| unreadable());
        let printed = |row: &Row| (0..width).map(|column| value(row, column)).collect();
        answer?.iter().map(|rows| rows.iter().map(printed).collect()).collect()
    }
}

/// What is asked about a table, once or many times.
struct Question<'a> {
    table: &'a str,
    key: &'a [String],
    columns: &'a [String],
    /// How the key of a row compares with given ones.
    operators: Vec<&'static str>,
    /// For each time a key to each operator.
    keys: Vec<Vec<&'a [String]>>,
    limit: u32,
}

/// A column of the key.
struct KeyColumn {
    /// As it is compared and ordered: text by bytes, as the old store orders it.
    ordered: String,
    /// Its type, for casts.
    type_name: String,
}

impl Question<'_> {
    /// The rows of each time, all in one snapshot; the questions do not wait for each other's answers.
    async fn ask(&self, client: &Door, copier: &str) -> Result<Vec<Vec<Row>>> {
        begin(client).await?;
        see_all(client, self.table, copier).await?;
        let table = quoted(self.table);
        let key = key_columns(client, &table, self.key).await?;
        let ordered = key.iter().map(|it| it.ordered.clone()).collect::<Vec<_>>().join(", ");
        let mut conditions = Vec::new();
        for (operator, at) in self.operators.iter().zip(0..) {
            let casts: Vec<_> = key
                .iter()
                .zip(at * key.len() + 1..)
                .map(|(column, number)| format!("(${number}::text)::{}", column.type_name))
                .collect();
            conditions.push(format!("({ordered}) {operator} ({})", casts.join(", ")));
        }
        conditions.extend(only_leading(client, &table, self.key).await?);
        // Without a name of its own a printed column would be what ORDER BY means by the name: numbers in the order of text.
        let printed: Vec<_> = (self.key.iter().chain(self.columns).zip(1..))
            .map(|(it, number)| format!("{}::text AS \"printed {number}\"", quoted(it)))
            .collect();
        let condition = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        let sql = format!(
            "SELECT {} FROM {table} WHERE {condition} ORDER BY {ordered} LIMIT {}",
            printed.join(", "),
            self.limit
        );
        let statement = prepared(client, &sql).await?;
        let answers = self.keys.iter().map(|keys| {
            let params: Vec<_> = keys.iter().copied().flatten().map(|it| it as &(dyn ToSql + Sync)).collect();
            let (statement, wrong) = (&statement, keys.iter().find(|it| it.len() != key.len()));
            async move {
                if let Some(wrong) = wrong {
                    let (given, needed, table) = (wrong.len(), self.key.len(), self.table);
                    return Err(Error::invalid(format!(
                        "a key of {given} values was given, the key of table {table} has {needed}"
                    )));
                }
                client.query(statement, &params).await.map_err(|error| classify::read_error(&error))
            }
        });
        try_join_all(answers).await
    }
}

/// One snapshot; pages come by an index where there is one, whatever the planner knows of the table. (An incremental sort
/// over an index that begins with the tenant would read the whole table for each page.)
async fn begin(client: &Door) -> Result<()> {
    let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_seqscan = off; \
               SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off";
    client.batch_execute(sql).await.map_err(|error| classify::read_error(&error))
}

/// Under a forced row security as the role that the table's policy "whole" lets through, to the end of the transaction.
async fn see_all(client: &Door, table: &str, copier: &str) -> Result<()> {
    let sql = "SELECT set_config('role', $2, true) FROM pg_class WHERE oid = to_regclass($1) AND relforcerowsecurity";
    query(client, sql, &[&quoted(table), &copier]).await.map(drop)
}

async fn query(client: &Door, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
    let statement = prepared(client, sql).await?;
    client.query(&statement, params).await.map_err(|error| classify::read_error(&error))
}

async fn prepared(client: &Door, sql: &str) -> Result<Statement> {
    if let Some(known) = client.statements.lock().await.get(sql) {
        return Ok(known.clone());
    }
    let made = client.prepare(sql).await.map_err(|error| classify::read_error(&error))?;
    let mut statements = client.statements.lock().await;
    if statements.len() >= REMEMBERED {
        statements.clear();
    }
    statements.insert(sql.to_owned(), made.clone());
    Ok(made)
}

/// A name, or two with a point between, for SQL.
fn quoted(name: &str) -> String {
    name.splitn(2, '.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".")
}

async fn count(client: &Door, table: &str, copier: &str) -> Result<Vec<Row>> {
    client.batch_execute("BEGIN READ ONLY").await.map_err(|error| classify::read_error(&error))?;
    see_all(client, table, copier).await?;
    query(client, &format!("SELECT count(*) FROM {}", quoted(table)), &[]).await
}

async fn key_columns(client: &Door, table: &str, key: &[String]) -> Result<Vec<KeyColumn>> {
    let sql = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attcollation <> 0 FROM pg_attribute AS a \
                WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped";
    let rows = query(client, sql, &[&table]).await?;
    let column = |name: &String| {
        let row = rows.iter().find(|row| row.get::<_, &str>(0) == name).ok_or_else(|| {
            Error::new(
                ErrorKind::SchemaMismatch,
                format!("table {table} has no column {name} to look up rows by"),
            )
        })?;
        let name = format!("\"{}\"", name.replace('"', "\"\""));
        let ordered = if row.get(2) { format!("{name} COLLATE \"C\"") } else { name };
        Ok(KeyColumn { ordered, type_name: row.get(1) })
    };
    key.iter().map(column).collect()
}

/// Where an index has one column before those of the key (the tenant), it serves only if that column is named. If all rows
/// share its value, naming it takes none away.
async fn only_leading(client: &Door, table: &str, key: &[String]) -> Result<Option<String>> {
    let sql = "SELECT k.names[1] FROM pg_index AS i CROSS JOIN LATERAL ( \
                   SELECT array_agg(a.attname::text ORDER BY u.n) AS names, bool_and(a.attnotnull) AS never_null \
                     FROM unnest(i.indkey) WITH ORDINALITY AS u (attnum, n) \
                     JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.attnum) AS k \
                WHERE i.indrelid = to_regclass($1) AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid \
                  AND k.never_null AND k.names[2:cardinality($2::text[]) + 1] = $2 AND k.names[1] <> ALL ($2) LIMIT 1";
    let rows = query(client, sql, &[&table, &key]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let lead = format!("\"{}\"", row.get::<_, String>(0).replace('"', "\"\""));
    let sql = format!("SELECT quote_literal(min({lead})) FROM {table} HAVING min({lead}) = max({lead})");
    let rows = query(client, &sql, &[]).await?;
    Ok(rows.first().map(|row| format!("{lead} = {}", row.get::<_, String>(0))))
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Unexpected, "the database printed a value as something else than text")
}

#[async_trait]
impl TargetWitness for PostgresWitness {
    async fn rows(
        &self,
        table: &str,
        key: &[String],
        columns: &[String],
        after: Option<&[String]>,
        until: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<Vec<Option<String>>>> {
        let bounds = [(">", after), ("<=", until)];
        let bounds = bounds.into_iter().filter_map(|(operator, key)| Some((operator, key?)));
        let (operators, keys) = bounds.unzip();
        let question = Question { table, key, columns, operators, keys: vec![keys], limit };
        let pages = self.ask(&question).await.map_err(|error| error.during("cutover.witness.rows"))?;
        Ok(pages.into_iter().flatten().collect())
    }

    async fn by_keys(
        &self,
        table: &str,
        key: &[String],
        columns: &[String],
        of: &[Vec<String>],
    ) -> Result<Vec<Option<Vec<Option<String>>>>> {
        let keys = of.iter().map(|key| vec![key.as_slice()]).collect();
        let question = Question { table, key, columns, operators: vec!["="], keys, limit: 1 };
        let found = self.ask(&question).await.map_err(|error| error.during("cutover.witness.by_keys"))?;
        Ok(found.into_iter().map(|rows| rows.into_iter().next()).collect())
    }

    async fn count(&self, table: &str) -> Result<u64> {
        let mut place = self.client.lock().await;
        let client = self.client(place.take()).await?;
        let counted = client.line.answer(count(&client, table, self.copier())).await?;
        if matches!(client.line.answer(client.batch_execute("ROLLBACK")).await, Ok(Ok(()))) {
            *place = Some(client);
        }
        let rows = counted.map_err(|error| error.during("cutover.witness.count"))?;
        let count: i64 = rows.first().ok_or_else(unreadable)?.try_get(0).map_err(|_| unreadable())?;
        u64::try_from(count).map_err(|_| unreadable())
    }
}
