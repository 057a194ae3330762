//! Which row a unique key refused: a second look, in a transaction that is taken back.
//!
//! The rows go into a temporary table beside the real one, and each unique key of the real one is tried by SQL: among the
//! stored rows, and among the new ones themselves.

use changeover_core::cutover::{ChunkDone, Value};
use changeover_core::{Applied, Error, ErrorKind, Result};

use super::connections::{Tx, ident, list, relation};
use super::load::copy_in;
use super::shape::TableShape;

/// A unique key of a table, with its expressions and its condition as SQL.
struct Key {
    name: String,
    parts: Vec<String>,
    condition: Option<String>,
    nulls_are_equal: bool,
}

/// The first of the rows that a unique key of the table refuses, and what is in its way: the place of the row and the answer.
pub(super) async fn find(
    tx: &Tx<'_>,
    index: usize,
    table: &TableShape,
    rows: &[&[Value]],
) -> Result<Option<ChunkDone>> {
    if rows.is_empty() {
        return Ok(None);
    }
    let all = table.all_named();
    let of_main = look(tx, index, table, &table.target, &all, rows, true).await?;
    if of_main.is_some() {
        return Ok(of_main);
    }
    for also in &table.also {
        // What another table holds of a row is found in it; the row it is of is named by that one's key.
        if let Some(found) = look(tx, index, table, &also.target, &also.columns, rows, false).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

async fn look(
    tx: &Tx<'_>,
    index: usize,
    table: &TableShape,
    target: &str,
    columns: &[(String, usize)],
    rows: &[&[Value]],
    is_main: bool,
) -> Result<Option<ChunkDone>> {
    let real = relation(target);
    // Generated columns are computed there as well; checks and keys are not wanted.
    tx.batch(&format!(
        "DROP TABLE IF EXISTS pg_temp.\"new rows\"; \
         CREATE TEMPORARY TABLE \"new rows\" (LIKE {real} INCLUDING GENERATED INCLUDING DEFAULTS) ON COMMIT DROP; \
         ALTER TABLE pg_temp.\"new rows\" ADD COLUMN \"row number\" integer NOT NULL"
    ))
    .await?;
    copy_in(tx, "pg_temp.\"new rows\"", table, columns, rows, true)
        .await
        .map_err(|refused| refused.into_error(target, || unexplained(target)))?;
    for key in unique_keys(tx, &real).await? {
        let condition = key.condition.as_ref().map(|it| format!(" WHERE {it}")).unwrap_or_default();
        let parts = |of: &str| {
            list(key.parts.iter().enumerate(), |(number, part)| format!("({part}) AS \"part {number}\"")) + of
        };
        let equals = |a: &str, b: &str| {
            let operator = if key.nulls_are_equal { "IS NOT DISTINCT FROM" } else { "=" };
            let all: Vec<_> = (0..key.parts.len())
                .map(|number| format!("{a}.\"part {number}\" {operator} {b}.\"part {number}\""))
                .collect();
            all.join(" AND ")
        };
        let fresh = format!("SELECT {} FROM pg_temp.\"new rows\"{condition}", parts(", \"row number\" AS n"));
        let stored_key = if is_main {
            table.names(&table.key, "s.")
        } else {
            // The row of the declared table that the found one is of.
            table.names(&table.key, "m.")
        };
        let of_main = if is_main {
            String::new()
        } else {
            let same: Vec<_> = columns
                .iter()
                .filter(|column| {
                    table.also.iter().any(|also| also.target == target && also.key.contains(column))
                })
                .map(|(name, place)| format!("m.{} = s.{}", ident(&table.column(*place).name), ident(name)))
                .collect();
            format!(" JOIN {} AS m ON {}", relation(&table.target), same.join(" AND "))
        };
        let sql = format!(
            "SELECT f.n, {stored_key} FROM ({fresh}) AS f JOIN (SELECT {} FROM {real}{condition}) AS s ON {}{of_main} \
              ORDER BY f.n LIMIT 1",
            parts(", *"),
            equals("f", "s")
        );
        if let Some(row) = tx.optional(&sql, &[]).await? {
            let place: i32 = row.get(0);
            let stored = (index, table.values(&row, 1, &table.key)?);
            return Ok(Some(conflict(place, stored, &key.name)));
        }
        let twice = format!(
            "SELECT f.n, s.n FROM ({fresh}) AS f JOIN ({fresh}) AS s ON s.n < f.n AND {} ORDER BY f.n, s.n LIMIT 1",
            equals("f", "s")
        );
        if let Some(row) = tx.optional(&twice, &[]).await? {
            let (place, before): (i32, i32) = (row.get(0), row.get(1));
            let before = usize::try_from(before)
                .ok()
                .and_then(|before| rows.get(before))
                .ok_or_else(|| unexplained(target))?;
            let stored = (index, table.key.iter().map(|place| before[*place].clone()).collect());
            return Ok(Some(conflict(place, stored, &key.name)));
        }
    }
    Ok(None)
}

fn conflict(row: i32, stored: (usize, Vec<Value>), constraint: &str) -> ChunkDone {
    ChunkDone::Conflict {
        row: usize::try_from(row).unwrap_or_default(),
        stored,
        constraint: constraint.to_owned(),
    }
}

async fn unique_keys(tx: &Tx<'_>, real: &str) -> Result<Vec<Key>> {
    let rows = tx
        .query(
            "SELECT c.relname::text, pg_catalog.pg_get_expr(i.indpred, i.indrelid), i.indnullsnotdistinct, \
                    ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid, n, true) FROM pg_catalog.generate_series(1, i.indnkeyatts) AS n) \
               FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid \
              WHERE i.indrelid = pg_catalog.to_regclass($1) AND i.indisunique ORDER BY NOT i.indisprimary, 1",
            &[&real],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Key {
            name: row.get(0),
            condition: row.get(1),
            nulls_are_equal: row.get(2),
            parts: row.get(3),
        })
        .collect())
}

/// A unique key said no, and none is found that does.
pub(super) fn unexplained(target: &str) -> Error {
    Error::new(
        ErrorKind::Unexpected,
        format!(
            "a unique key of table {target} refused a row, and a second look found none in its way; somebody else changes the \
             table, or a trigger of it writes elsewhere"
        ),
    )
    .applied(Applied::No)
}
