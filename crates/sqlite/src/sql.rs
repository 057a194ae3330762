//! Statements and rows as SQLite has them: text with numbered parameters, values with their storage class.
//!
//! Diesel's own loading turns a value into the type that is asked for and replaces bad UTF-8 in silence. A file that
//! other programs write needs the opposite: see what is there, then decide.

use std::ops::ControlFlow;

use changeover_core::cutover::Raw;
use diesel::connection::LoadConnection;
use diesel::deserialize::{self, FromSqlRow};
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::row::{Field, Row as DieselRow};
use diesel::sql_types::{BigInt, Binary, Double, Nullable, Text, Untyped};
use diesel::sqlite::{Sqlite, SqliteConnection, SqliteType};
use diesel::{Connection as _, RunQueryDsl};

use crate::classify::Failure;

/// A value for a parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bind<'a> {
    Int(i64),
    OptionalInt(Option<i64>),
    Real(Option<f64>),
    Text(&'a str),
    Optional(Option<&'a str>),
    Blob(Option<&'a [u8]>),
}

/// Any value as the file holds it; its text may be no UTF-8. Its place in the SQL is [`parameter`].
impl<'a> From<&'a Raw> for Bind<'a> {
    fn from(raw: &'a Raw) -> Self {
        match raw {
            Raw::Null => Self::Blob(None),
            Raw::Integer(value) => Self::Int(*value),
            Raw::Real(value) => Self::Real(Some(*value)),
            Raw::Text(bytes) | Raw::Blob(bytes) => Self::Blob(Some(bytes)),
        }
    }
}

/// How parameter `number` is written for a raw value. The plus takes the affinity away that a CAST would lend to what
/// it is compared with.
pub(crate) fn parameter(raw: &Raw, number: usize) -> String {
    match raw {
        Raw::Text(_) => format!("+CAST(?{number} AS TEXT)"),
        _ => format!("?{number}"),
    }
}

/// SQL with the values of `?1`, `?2`, ... in this order. Prepared once a connection: the set of texts is fixed.
pub(crate) struct Statement<'a> {
    sql: &'a str,
    binds: &'a [Bind<'a>],
}

impl QueryFragment<Sqlite> for Statement<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(self.sql);
        for bind in self.binds {
            match bind {
                Bind::Int(value) => out.push_bind_param_value_only::<BigInt, _>(value)?,
                Bind::OptionalInt(value) => out.push_bind_param_value_only::<Nullable<BigInt>, _>(value)?,
                Bind::Real(value) => out.push_bind_param_value_only::<Nullable<Double>, _>(value)?,
                Bind::Text(value) => out.push_bind_param_value_only::<Text, _>(*value)?,
                Bind::Optional(value) => out.push_bind_param_value_only::<Nullable<Text>, _>(value)?,
                Bind::Blob(value) => out.push_bind_param_value_only::<Nullable<Binary>, _>(value)?,
            }
        }
        Ok(())
    }
}

impl QueryId for Statement<'_> {
    type QueryId = ();
    // The text is the key of the statement cache.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Statement<'_> {
    type SqlType = Untyped;
}

impl RunQueryDsl<SqliteConnection> for Statement<'_> {}

/// A value with its storage class.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Cell {
    /// As in `typeof()`.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Int(_) => "integer",
            Self::Real(_) => "real",
            Self::Text(_) => "text",
            Self::Blob(_) => "blob",
        }
    }

    /// The text, if it is text and UTF-8.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The number, if it is an integer.
    pub(crate) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The bytes, if it is a blob.
    pub(crate) fn as_blob(&self) -> Option<&[u8]> {
        match self {
            Self::Blob(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// A row: its values in the order of the statement's columns.
pub(crate) struct Row(Vec<Cell>);

impl Row {
    /// The value of a column; null where the statement has no such column.
    pub(crate) fn cell(&self, index: usize) -> &Cell {
        self.0.get(index).unwrap_or(&Cell::Null)
    }

    /// All values, unjudged.
    pub(crate) fn into_raws(self) -> impl Iterator<Item = Raw> {
        self.0.into_iter().map(|cell| match cell {
            Cell::Null => Raw::Null,
            Cell::Int(value) => Raw::Integer(value),
            Cell::Real(value) => Raw::Real(value),
            Cell::Text(bytes) => Raw::Text(bytes),
            Cell::Blob(bytes) => Raw::Blob(bytes),
        })
    }
}

impl FromSqlRow<Untyped, Sqlite> for Row {
    fn build_from_row<'a>(row: &impl DieselRow<'a, Sqlite>) -> deserialize::Result<Self> {
        let mut cells = Vec::with_capacity(row.field_count());
        for index in 0..row.field_count() {
            let field = row.get(index).ok_or(diesel::result::UnexpectedEndOfRow)?;
            let Some(mut value) = field.value() else {
                cells.push(Cell::Null);
                continue;
            };
            cells.push(match value.value_type() {
                Some(SqliteType::Text) => Cell::Text(value.read_blob().to_vec()),
                Some(SqliteType::Binary) => Cell::Blob(value.read_blob().to_vec()),
                Some(SqliteType::Float | SqliteType::Double) => Cell::Real(value.read_double()),
                Some(_) => Cell::Int(value.read_long()),
                None => Cell::Null,
            });
        }
        Ok(Self(cells))
    }
}

/// The rows of a query.
pub(crate) fn rows(conn: &mut SqliteConnection, sql: &str, binds: &[Bind<'_>]) -> QueryResult<Vec<Row>> {
    let cursor = conn.load(Statement { sql, binds })?;
    cursor
        .map(|row| Row::build_from_row(&row?).map_err(diesel::result::Error::DeserializationError))
        .collect()
}

/// Gives the rows of a query one by one to `take`, until it breaks off.
pub(crate) fn each(
    conn: &mut SqliteConnection,
    sql: &str,
    binds: &[Bind<'_>],
    mut take: impl FnMut(Row) -> Result<ControlFlow<()>, Failure>,
) -> Result<(), Failure> {
    for row in conn.load(Statement { sql, binds })? {
        let row = Row::build_from_row(&row?).map_err(diesel::result::Error::DeserializationError)?;
        if take(row)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The first row of a query, if there is one.
pub(crate) fn first(conn: &mut SqliteConnection, sql: &str, binds: &[Bind<'_>]) -> QueryResult<Option<Row>> {
    Ok(rows(conn, sql, binds)?.into_iter().next())
}

/// Executes; returns how many rows changed.
pub(crate) fn execute(conn: &mut SqliteConnection, sql: &str, binds: &[Bind<'_>]) -> QueryResult<usize> {
    Statement { sql, binds }.execute(conn)
}

/// Runs `work` in one read transaction, so that all of its statements see the same state.
pub(crate) fn snapshot<R>(
    conn: &mut SqliteConnection,
    work: impl FnOnce(&mut SqliteConnection) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let mut reason = None;
    let done = conn.transaction(|conn| work(conn).map_err(|failure| keep(&mut reason, failure)));
    done.map_err(|error| reason.unwrap_or(Failure::Broken(error)))
}

/// Runs `work` in one write transaction. It is rolled back when `work` fails.
pub(crate) fn write<R>(
    conn: &mut SqliteConnection,
    work: impl FnOnce(&mut SqliteConnection) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let mut reason = None;
    let done = conn.immediate_transaction(|conn| work(conn).map_err(|failure| keep(&mut reason, failure)));
    done.map_err(|error| reason.unwrap_or(Failure::Broken(error)))
}

/// Keeps why a transaction failed: after errors like a full disk SQLite has rolled back already, and diesel would
/// return that its own rollback found nothing to do.
fn keep(reason: &mut Option<Failure>, failure: Failure) -> diesel::result::Error {
    *reason = Some(failure);
    diesel::result::Error::RollbackTransaction
}
