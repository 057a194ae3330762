//! Rows as they are stored: each value once, by its storage class.

use std::ops::ControlFlow;

use changeover_core::Result;
use changeover_core::cutover::{Chunk, ChunkRead, Raw, RawKey, RawRow, ReadRows, SourceColumn};
use changeover_core::{Error, ErrorKind};
use diesel::SqliteConnection;

use super::gate;
use super::shape::{Shape, quote};
use crate::classify::Failure;
use crate::sql::{self, Bind, Row, parameter};

/// The columns of a statement: those asked for, then those of the key that are not among them.
struct Columns {
    list: String,
    count: usize,
    /// Where each column of the key stands.
    key: Vec<usize>,
}

impl Columns {
    fn of(shape: &Shape, columns: &[SourceColumn], key: &[SourceColumn]) -> Result<Self> {
        let mut all = columns.to_vec();
        let mut places = Vec::new();
        for column in key {
            let place = all.iter().position(|other| other == column);
            places.push(place.unwrap_or(all.len()));
            if place.is_none() {
                all.push(column.clone());
            }
        }
        Ok(Self { list: names(shape, &all)?.join(", "), count: columns.len(), key: places })
    }

    fn split(&self, row: Row) -> (RawKey, RawRow) {
        let mut values: Vec<_> = row.into_raws().collect();
        let key = self.key.iter().map(|place| values[*place].clone()).collect();
        values.truncate(self.count);
        (key, values)
    }
}

/// The columns of `t`.
fn names(shape: &Shape, columns: &[SourceColumn]) -> Result<Vec<String>> {
    columns.iter().map(|column| Ok(format!("t.{}", shape.column(column)?))).collect()
}

/// The next rows. Rows with equal keys, which are in one place of the order, are never in two chunks: more rows than asked
/// for come only then.
pub(super) fn chunk(conn: &mut SqliteConnection, module: &str, read: &ChunkRead) -> Result<Chunk, Failure> {
    let shape = Shape::find(conn, &read.table)?;
    let columns = Columns::of(&shape, &read.columns, &read.key)?;
    let order = names(&shape, &read.key)?;
    let from = quote(&shape.name);
    let after = read.after.as_deref().map(|after| check_key(&read.key, after).map(|()| after)).transpose()?;
    let which = after.map(|after| format!("WHERE {}", beyond(&order, after))).unwrap_or_default();
    let sql = format!("SELECT {} FROM {from} AS t {which} ORDER BY {}", columns.list, order.join(", "));
    let binds: Vec<_> = after.unwrap_or_default().iter().map(Bind::from).collect();
    let limit = read.rows.max(1) as usize;
    let mut rows: Vec<(RawKey, RawRow)> = Vec::with_capacity(limit.min(100_000));
    let (mut bytes, mut end) = (0_u64, true);
    sql::each(conn, &sql, &binds, |row| {
        let (key, row) = columns.split(row);
        let full = rows.len() >= limit || bytes >= read.bytes;
        if full && rows.last().is_some_and(|(last, _)| !in_one_place(last, &key)) {
            end = false;
            return Ok(ControlFlow::Break(()));
        }
        bytes += row.iter().map(Raw::size).sum::<usize>() as u64;
        rows.push((key, row));
        Ok(ControlFlow::Continue(()))
    })?;
    let seq = gate::find(conn, module)?.map_or(0, |found| found.meta.seq);
    Ok(Chunk { rows, seq, schema_cookie: schema_cookie(conn)?, end })
}

pub(super) fn schema_cookie(conn: &mut SqliteConnection) -> Result<i64, Failure> {
    let row = sql::first(conn, "SELECT schema_version FROM pragma_schema_version", &[])?;
    Ok(row.and_then(|row| row.cell(0).as_int()).unwrap_or_default())
}

fn check_key(columns: &[SourceColumn], key: &[Raw]) -> Result<()> {
    if columns.len() == key.len() {
        return Ok(());
    }
    Err(Error::invalid(format!("a key of {} values was given for {} columns", key.len(), columns.len())))
}

/// What comes after a key in the order. Nulls come first, and are compared with by words of their own.
fn beyond(columns: &[String], after: &[Raw]) -> String {
    let values: Vec<_> = (1..).zip(after).map(|(number, value)| parameter(value, number)).collect();
    if !after.contains(&Raw::Null) {
        return format!("({}) > ({})", columns.join(", "), values.join(", "));
    }
    let mut ways = Vec::new();
    for (index, value) in after.iter().enumerate() {
        let mut all: Vec<_> =
            (0..index).map(|same| format!("{} IS {}", columns[same], values[same])).collect();
        let column = &columns[index];
        all.push(match value {
            Raw::Null => format!("{column} IS NOT NULL"),
            _ => format!("{column} > {}", values[index]),
        });
        ways.push(format!("({})", all.join(" AND ")));
    }
    // Parameters that are not used would be refused.
    let used: Vec<_> = values.iter().map(|value| format!("{value} IS {value}")).collect();
    format!("({}) AND {}", ways.join(" OR "), used.join(" AND "))
}

/// Whether the order may take two keys for one: by any collation, and for numbers of both classes. When in doubt, they are.
fn in_one_place(one: &[Raw], other: &[Raw]) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "in doubt they are equal")]
    #[expect(clippy::float_cmp, reason = "equal as SQLite orders them")]
    let equal = |pair: (&Raw, &Raw)| match pair {
        (Raw::Integer(int), Raw::Real(real)) | (Raw::Real(real), Raw::Integer(int)) => *int as f64 == *real,
        (Raw::Text(one), Raw::Text(other)) => {
            let end = |text: &[u8]| text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
            one[..end(one)].eq_ignore_ascii_case(&other[..end(other)])
        }
        (one, other) => one == other,
    };
    one.iter().zip(other).all(equal)
}

/// The rows of the keys. Keys with a null may name several rows: the first of them then. Others must not: `Corrupt`.
pub(super) fn rows(conn: &mut SqliteConnection, read: &ReadRows) -> Result<Vec<Option<RawRow>>, Failure> {
    let shape = Shape::find(conn, &read.table)?;
    let columns = Columns::of(&shape, &read.columns, &read.key)?;
    let order = names(&shape, &read.key)?;
    let mut found = Vec::with_capacity(read.keys.len());
    for key in &read.keys {
        check_key(&read.key, key)?;
        let names = order.iter().zip(key).enumerate();
        let same: Vec<_> = names
            .map(|(index, (column, value))| format!("{column} IS {}", parameter(value, index + 1)))
            .collect();
        let sql =
            format!("SELECT {} FROM {} AS t WHERE {}", columns.list, quote(&shape.name), same.join(" AND "));
        let binds: Vec<_> = key.iter().map(Bind::from).collect();
        let rows = sql::rows(conn, &sql, &binds)?.into_iter().map(|row| columns.split(row));
        // Equal by the column's collation or as numbers is not yet the same.
        let mut same = rows.filter(|(other, _)| other == key).map(|(_, row)| row);
        let first = same.next();
        if !key.contains(&Raw::Null) && same.next().is_some() {
            let message = format!("table {}: two rows have one key; declare another key", shape.name);
            return Err(Error::new(ErrorKind::Corrupt, message).into());
        }
        found.push(first);
    }
    Ok(found)
}

pub(super) fn orphans(
    conn: &mut SqliteConnection,
    table: &str,
    key: &[SourceColumn],
    columns: &[String],
    parent: (&str, &[String]),
    limit: u32,
) -> Result<Vec<RawKey>, Failure> {
    let (shape, of) = (Shape::find(conn, table)?, Shape::find(conn, parent.0)?);
    let mut all = Vec::new();
    let mut same = Vec::new();
    for (column, named) in columns.iter().zip(parent.1) {
        let column = shape.named(column)?;
        all.push(format!("t.{column} IS NOT NULL"));
        same.push(format!("p.{} = t.{column}", of.named(named)?));
    }
    all.push(format!("NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})", quote(&of.name), same.join(" AND ")));
    keys(conn, &shape, key, "", &all, limit)
}

pub(super) fn duplicates(
    conn: &mut SqliteConnection,
    table: &str,
    key: &[SourceColumn],
    columns: &[String],
    only_where: Option<&str>,
    limit: u32,
) -> Result<Vec<RawKey>, Failure> {
    let shape = Shape::find(conn, table)?;
    let named: Result<Vec<_>> = columns.iter().map(|column| shape.named(column)).collect();
    let named = named?;
    let only = only_where.map(|column| shape.named(column)).transpose()?;
    let counts = |of: &str| {
        let mut all: Vec<_> = named.iter().map(|name| format!("{of}.{name} IS NOT NULL")).collect();
        all.extend(only.iter().map(|only| format!("{of}.{only} IS NOT NULL AND {of}.{only} <> 0")));
        all
    };
    let of: Vec<_> = named.iter().map(|name| format!("g.{name}")).collect();
    let groups = format!(
        "JOIN (SELECT {of} FROM {} AS g WHERE {} GROUP BY {of} HAVING count(*) > 1) AS d",
        quote(&shape.name),
        counts("g").join(" AND "),
        of = of.join(", "),
    );
    let mut all = counts("t");
    all.extend(named.iter().map(|name| format!("t.{name} = d.{name}")));
    keys(conn, &shape, key, &groups, &all, limit)
}

/// Keys of rows `t` for which `all` holds.
fn keys(
    conn: &mut SqliteConnection,
    shape: &Shape,
    key: &[SourceColumn],
    join: &str,
    all: &[String],
    limit: u32,
) -> Result<Vec<RawKey>, Failure> {
    let key = names(shape, key)?.join(", ");
    let which = all.join(" AND ");
    let sql =
        format!("SELECT {key} FROM {} AS t {join} WHERE {which} ORDER BY {key} LIMIT ?1", quote(&shape.name));
    let rows = sql::rows(conn, &sql, &[Bind::Int(i64::from(limit))])?;
    Ok(rows.into_iter().map(|row| row.into_raws().collect()).collect())
}
