//! Rows into the tables: COPY in binary form, together with the checkpoint, in one transaction.
//!
//! Rows go through the declared table, which hands them on to its partitions: as its owner, while its row security is not
//! forced, the copier may do that.

use std::io::Cursor;

use changeover_core::cutover::{Apply, ChunkDone, CopyChunk, Lease, Quarantined, Value};
use changeover_core::{Applied, Error, ErrorKind, Result, Uuid};
use futures::SinkExt as _;

use super::binary::{Argument, put};
use super::connections::{Tx, ident, list, relation};
use super::lease::{Held, keep, out, to_json};
use super::raw;
use super::shape::{AlsoShape, Shape, TableShape};
use crate::classify;

/// What is sent at once.
const BUFFER: usize = 256 * 1024;

/// Why rows were not stored.
pub(super) enum Refused {
    /// A unique key found a row that is there already.
    Taken,
    /// Another constraint refused a row: which one.
    Row(String),
    Other(Error),
}

impl Refused {
    /// As an error, where nobody looks for the row.
    pub(super) fn into_error(self, target: &str, taken: impl FnOnce() -> Error) -> Error {
        match self {
            Self::Taken => taken(),
            Self::Row(by) => at_fault(target, &by),
            Self::Other(error) => error,
        }
    }
}

/// A row was refused that should not have been.
pub(super) fn at_fault(target: &str, by: &str) -> Error {
    Error::invalid(format!("table {target} refuses {by}; the conversion is at fault")).applied(Applied::No)
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Phases in which rows arrive.
pub(super) fn check_phase(held: &Held) -> Result<()> {
    if matches!(&*held.phase, "idle" | "switched" | "revert_fenced" | "finalized") {
        return Err(Error::invalid(format!(
            "run {} is in the phase {}, in which nothing is stored, linked, sealed or decided",
            held.run, held.phase
        ))
        .applied(Applied::No));
    }
    Ok(())
}

pub(super) async fn copy(
    tx: &Tx<'_>,
    held: &Held,
    shape: &Shape,
    lease: &Lease,
    chunk: &CopyChunk,
) -> Result<ChunkDone, Refused> {
    check_phase(held)?;
    let table = shape.table_at(chunk.table)?;
    let index = i32::try_from(chunk.table).map_err(|_| Error::invalid("a run has not so many tables"))?;
    let next = "SELECT 1 + coalesce(max(number), 0) FROM cutover.chunk WHERE run = $1 AND tbl = $2";
    let next: i64 = tx.one(next, &[&held.run, &index]).await?.get(0);
    if chunk.number != next {
        return Ok(ChunkDone::Repeated);
    }
    remove(tx, table, &chunk.replace).await?;
    store(tx, table, &chunk.rows.iter().map(Vec::as_slice).collect::<Vec<_>>()).await?;
    quarantine(tx, held.run, &chunk.quarantined).await?;
    let number = |of: u64| i64::try_from(of).unwrap_or(i64::MAX);
    let count = |of: usize| i64::try_from(of).unwrap_or(i64::MAX);
    tx.execute(
        "INSERT INTO cutover.chunk (run, tbl, number, last, is_end, rows, bytes, seq, stored, quarantined) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &[
            &held.run,
            &index,
            &chunk.number,
            &out(&to_json(&raw::to_json(&chunk.last))?),
            &chunk.end,
            &number(chunk.source_rows),
            &number(chunk.source_bytes),
            &chunk.seq,
            &count(chunk.rows.len()),
            &count(chunk.quarantined.len()),
        ],
    )
    .await?;
    keep(tx, lease).await?;
    Ok(ChunkDone::Stored)
}

pub(super) async fn apply(
    tx: &Tx<'_>,
    held: &Held,
    shape: &Shape,
    lease: &Lease,
    apply: &Apply,
) -> Result<ChunkDone, Refused> {
    check_phase(held)?;
    if apply.upto < held.applied {
        return Ok(ChunkDone::Repeated);
    }
    write_changes(tx, shape, apply).await?;
    let made: Vec<_> =
        apply.quarantined.iter().map(|it| (it.table, raw::to_json(&it.key).to_string())).collect();
    // One that is made again keeps its number, and its approval if nothing about it changed.
    let made: std::collections::HashSet<_> = made.into_iter().collect();
    let (mut tables, mut keys) = (Vec::new(), Vec::new());
    for (table, key) in &apply.looked_at {
        let key = raw::to_json(key).to_string();
        if !made.contains(&(*table, key.clone())) {
            tables.push(place(*table)?);
            keys.push(key);
        }
    }
    if !keys.is_empty() {
        let sql = "DELETE FROM cutover.quarantine AS q USING unnest($2::integer[], $3::text[]) AS k (tbl, key) \
                    WHERE q.run = $1 AND q.tbl = k.tbl AND q.key_hash = sha256(convert_to(k.key, 'UTF8'))";
        tx.execute(sql, &[&held.run, &tables, &keys]).await?;
    }
    quarantine(tx, held.run, &apply.quarantined).await?;
    tx.execute("UPDATE cutover.run SET applied = $2 WHERE run = $1", &[&held.run, &apply.upto]).await?;
    keep(tx, lease).await?;
    Ok(ChunkDone::Stored)
}

/// Rows of all keys go, then those that are there come, so that rows may have swapped what is unique.
pub(super) async fn write_changes(tx: &Tx<'_>, shape: &Shape, apply: &Apply) -> Result<(), Refused> {
    tx.batch("SET CONSTRAINTS ALL DEFERRED").await?;
    for (index, table) in shape.tables.iter().enumerate() {
        let of: Vec<_> =
            apply.changes.iter().filter(|it| it.table == index).map(|it| it.key.clone()).collect();
        remove(tx, table, &of).await?;
    }
    for (index, table) in shape.tables.iter().enumerate() {
        let of: Vec<_> =
            apply.changes.iter().filter(|it| it.table == index).filter_map(|it| it.row.as_deref()).collect();
        store(tx, table, &of).await?;
    }
    match apply.changes.iter().find(|it| it.table >= shape.tables.len()) {
        Some(change) => shape.table_at(change.table).map(drop).map_err(Refused::Other),
        None => Ok(()),
    }
}

fn place(table: usize) -> Result<i32> {
    i32::try_from(table).map_err(|_| Error::invalid("a run has not so many tables"))
}

/// Removes the rows with keys, and what other tables hold of them.
pub(super) async fn remove(tx: &Tx<'_>, table: &TableShape, keys: &[Vec<Value>]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    if let Some(key) = keys.iter().find(|key| key.len() != table.key.len()) {
        return Err(Error::invalid(format!(
            "a key of table {} has {} values, {} are needed",
            table.target,
            key.len(),
            table.key.len()
        ))
        .applied(Applied::No));
    }
    let arrays: Vec<Vec<Argument<'_>>> = (0..table.key.len())
        .map(|part| keys.iter().map(|key| Argument(&key[part], table.column(table.key[part]).form)).collect())
        .collect();
    let params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
        arrays.iter().map(|array| array as &(dyn tokio_postgres::types::ToSql + Sync)).collect();
    let casts: Vec<_> = table
        .key
        .iter()
        .enumerate()
        .map(|(part, place)| format!("${}::{}[]", part + 1, table.column(*place).type_name))
        .collect();
    let matches: Vec<_> = table
        .key
        .iter()
        .enumerate()
        .map(|(part, place)| format!("t.{} = k.k{part}", ident(&table.column(*place).name)))
        .collect();
    let target = relation(&table.target);
    // One look into the index for each key, whatever the planner knows of tables that were filled a moment ago.
    let mut sql = format!(
        "WITH found AS MATERIALIZED (SELECT f.rel, f.place FROM unnest({}) AS k ({}) CROSS JOIN LATERAL ( \
             SELECT t.tableoid AS rel, t.ctid AS place FROM {target} AS t WHERE {}{} OFFSET 0) AS f), \
         gone AS (DELETE FROM {target} AS t USING found AS f WHERE t.ctid = f.place AND t.tableoid = f.rel RETURNING {})",
        casts.join(", "),
        list(0..table.key.len(), |part| format!("k{part}")),
        matches.join(" AND "),
        table.of_tenant("t."),
        table.names(&returned(table), "t.")
    );
    let of_also = |number: usize, also: &AlsoShape| {
        let same = |(there, place): &(String, usize)| {
            format!("a.{} = gone.{}", ident(there), ident(&table.column(*place).name))
        };
        let same: Vec<_> = also.key.iter().map(same).collect();
        let also = relation(&also.target);
        format!(", also{number} AS (DELETE FROM {also} AS a USING gone WHERE {})", same.join(" AND "))
    };
    for (number, also) in table.also.iter().enumerate() {
        sql.push_str(&of_also(number, also));
    }
    sql.push_str(" SELECT count(*) FROM gone");
    tx.batch(
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off",
    )
    .await?;
    tx.query(&sql, &params).await.map(drop)
}

/// What is asked of removed rows: by what other tables know them.
fn returned(table: &TableShape) -> Vec<usize> {
    let of_also = table.also.iter().flat_map(|also| &also.key).map(|(_, place)| *place);
    let mut all: Vec<usize> = table.key.iter().copied().chain(of_also).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Stores rows, and in other tables what those hold of them.
pub(super) async fn store(tx: &Tx<'_>, table: &TableShape, rows: &[&[Value]]) -> Result<(), Refused> {
    if rows.is_empty() {
        return Ok(());
    }
    make_months(tx, table, rows).await?;
    for also in &table.also {
        copy_in(tx, &relation(&also.target), table, &also.columns, rows, false).await?;
    }
    copy_in(tx, &relation(&table.target), table, &table.all_named(), rows, false).await
}

/// Makes the monthly partitions that rows need, where the table's schema knows how.
async fn make_months(tx: &Tx<'_>, table: &TableShape, rows: &[&[Value]]) -> Result<()> {
    let Some(by) = table.partition_by else { return Ok(()) };
    let mut months: Vec<String> = rows
        .iter()
        .filter_map(|row| match row.get(by) {
            Some(Value::Date(date)) => Some(date.format("%Y-%m-01").to_string()),
            _ => None,
        })
        .collect();
    months.sort();
    months.dedup();
    let schema = table.target.split_once('.').map(|(schema, _)| schema).unwrap_or_default();
    let knows: bool = tx
        .one("SELECT to_regprocedure(quote_ident($1) || '.ensure_month(date)') IS NOT NULL", &[&schema])
        .await?
        .get(0);
    if knows && !months.is_empty() {
        let sql = format!("SELECT {}.ensure_month(m::date) FROM unnest($1::text[]) AS m", ident(schema));
        tx.query(&sql, &[&months]).await?;
    }
    Ok(())
}

/// COPY of some columns of rows; `numbered`: each row begins with its number, an `integer`.
pub(super) async fn copy_in(
    tx: &Tx<'_>,
    into: &str,
    table: &TableShape,
    columns: &[(String, usize)],
    rows: &[&[Value]],
    numbered: bool,
) -> Result<(), Refused> {
    let first = if numbered { "\"row number\", " } else { "" };
    let sql =
        format!("COPY {into} ({first}{}) FROM STDIN (FORMAT binary)", list(columns, |(name, _)| ident(name)));
    let refused = |error: &tokio_postgres::Error| refuse(error, table);
    let sink =
        tx.answer(tx.client().copy_in::<_, Cursor<Vec<u8>>>(&sql)).await?.map_err(|error| refused(&error))?;
    let mut sink = std::pin::pin!(sink);
    let mut buffer = Vec::with_capacity(BUFFER + BUFFER / 4);
    buffer.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    let fields = i16::try_from(columns.len() + usize::from(numbered))
        .map_err(|_| Error::invalid("a table has not so many columns"))?;
    for (number, row) in rows.iter().enumerate() {
        buffer.extend_from_slice(&fields.to_be_bytes());
        if numbered {
            buffer.extend_from_slice(&4_i32.to_be_bytes());
            buffer.extend_from_slice(&i32::try_from(number).unwrap_or(i32::MAX).to_be_bytes());
        }
        if row.len() != table.columns.len() {
            return Err(misfit(
                table,
                number,
                &format!("has {} values, {} are needed", row.len(), table.columns.len()),
            ));
        }
        for (_, place) in columns {
            field(&mut buffer, &row[*place], table.column(*place).form).map_err(|problem| {
                misfit(table, number, &format!("column {}: {problem}", table.column(*place).name))
            })?;
        }
        if buffer.len() >= BUFFER {
            let full = std::mem::replace(&mut buffer, Vec::with_capacity(BUFFER + BUFFER / 4));
            tx.answer(sink.send(Cursor::new(full))).await?.map_err(|error| refused(&error))?;
        }
    }
    buffer.extend_from_slice(&(-1_i16).to_be_bytes());
    tx.answer(sink.send(Cursor::new(buffer))).await?.map_err(|error| refused(&error))?;
    tx.answer(sink.finish()).await?.map(drop).map_err(|error| refused(&error))
}

/// A value behind its length.
fn field(buffer: &mut Vec<u8>, value: &Value, form: super::binary::Form) -> Result<(), String> {
    if *value == Value::Null {
        buffer.extend_from_slice(&(-1_i32).to_be_bytes());
        return Ok(());
    }
    let begin = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    put(buffer, value, form)?;
    let length = i32::try_from(buffer.len() - begin - 4).map_err(|_| "a value is too large")?;
    buffer[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn misfit(table: &TableShape, row: usize, problem: &str) -> Refused {
    Refused::Other(
        Error::invalid(format!(
            "row {row} of those for table {}: {problem}; the conversion is at fault",
            table.target
        ))
        .applied(Applied::No),
    )
}

/// What the store says of a row that it does not take. In binary form its text names line and column, and no value.
fn refuse(error: &tokio_postgres::Error, table: &TableShape) -> Refused {
    let made = classify::read_error(error).applied(Applied::No);
    let Some(db) = error.as_db_error() else { return Refused::Other(made) };
    if db.code().code() == "23505" {
        return Refused::Taken;
    }
    if made.kind() != ErrorKind::Invalid {
        return Refused::Other(made);
    }
    let place = db.where_().unwrap_or_default();
    let column = db.column().map(str::to_owned).or_else(|| {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let words: Vec<_> = place.split(|c| !is_word(c)).collect();
        let named = table.columns.iter().find(|column| words.contains(&&*column.name));
        named.map(|column| column.name.clone())
    });
    let what = match (db.constraint(), column) {
        (Some(constraint), _) => format!("the constraint {constraint}"),
        (None, Some(column)) => format!("column {column}"),
        (None, None) => "a value".to_owned(),
    };
    if db.code().code().starts_with("23") {
        return Refused::Row(what);
    }
    Refused::Other(at_fault(&table.target, &what).with("sqlstate", db.code().code()))
}

/// Keeps rows that stay out. One that is there already is judged anew: its approval holds only if nothing changed.
pub(super) async fn quarantine(tx: &Tx<'_>, run: Uuid, rows: &[Quarantined]) -> Result<()> {
    for row in rows {
        let decision = if row.decision.is_empty() { "undecided" } else { &row.decision };
        tx.execute(
            "INSERT INTO cutover.quarantine AS q (run, tbl, key, key_hash, row, reasons, decision, decided_by) \
             VALUES ($1, $2, $3, sha256(convert_to($3, 'UTF8')), $4, $5, $6, $7) \
             ON CONFLICT (run, tbl, key_hash) DO UPDATE SET row = EXCLUDED.row, reasons = EXCLUDED.reasons, \
                 (decision, decided_by, decided_at) = ( \
                     SELECT CASE WHEN k.keeps THEN q.decision ELSE EXCLUDED.decision END, \
                            CASE WHEN k.keeps THEN q.decided_by ELSE EXCLUDED.decided_by END, \
                            CASE WHEN k.keeps THEN q.decided_at END \
                       FROM (SELECT q.row = EXCLUDED.row AND q.reasons = EXCLUDED.reasons \
                                    AND q.decision IN ('approved', 'rejected') \
                                    AND EXCLUDED.decision = 'undecided' AS keeps) AS k)",
            &[
                &run,
                &place(row.table)?,
                &raw::to_json(&row.key).to_string(),
                &out(&to_json(&raw::to_json(&row.row))?),
                &out(&to_json(&raw::reasons_to_json(&row.reasons))?),
                &decision,
                &row.decided_by,
            ],
        )
        .await?;
    }
    Ok(())
}
