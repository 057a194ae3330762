//! The file as the verifier looks at it: what `typeof()` and `CAST(.. AS BLOB)` say, reals with all
//! their digits, by statements of its own.

use std::ops::ControlFlow;

use async_trait::async_trait;
use changeover_core::cutover::{Raw, RawKey, SourceColumn, SourceWitness, Witnessed};
use changeover_core::{Error, Result};
use diesel::SqliteConnection;

use super::door::Door;
use super::shape::{Shape, quote};
use crate::classify::Failure;
use crate::sql::{self, Bind, Row, parameter};

/// The verifier's door to a file.
pub(super) struct Witness {
    pub(super) door: Door,
}

#[async_trait]
impl SourceWitness for Witness {
    async fn rows(
        &self,
        table: &str,
        key: &[SourceColumn],
        columns: &[SourceColumn],
        after: Option<&RawKey>,
        until: Option<&RawKey>,
        limit: u32,
    ) -> Result<Vec<Witnessed>> {
        let (table, key, columns) = (table.to_owned(), key.to_vec(), columns.to_vec());
        let (after, until) = (after.cloned(), until.cloned());
        let look = move |conn: &mut SqliteConnection| {
            let look = Look::at(conn, &table, &key, &columns)?;
            look.range(conn, after.as_ref(), until.as_ref(), limit)
        };
        self.door.read_frozen("cutover.witness.rows", look).await
    }

    async fn by_keys(
        &self,
        table: &str,
        key: &[SourceColumn],
        columns: &[SourceColumn],
        of: &[RawKey],
    ) -> Result<Vec<Option<Witnessed>>> {
        let (table, key, columns, of) = (table.to_owned(), key.to_vec(), columns.to_vec(), of.to_vec());
        let look = move |conn: &mut SqliteConnection| {
            let look = Look::at(conn, &table, &key, &columns)?;
            of.iter().map(|of| look.one(conn, of)).collect()
        };
        self.door.read_frozen("cutover.witness.by_keys", look).await
    }

    async fn count(&self, table: &str) -> Result<u64> {
        let table = table.to_owned();
        let count = move |conn: &mut SqliteConnection| {
            let name = Shape::find(conn, &table)?.name;
            let row = sql::first(conn, &format!("SELECT count(*) FROM {} NOT INDEXED", quote(&name)), &[])?;
            Ok(row.and_then(|row| row.cell(0).as_int()).and_then(|rows| u64::try_from(rows).ok()))
        };
        Ok(self.door.read_frozen("cutover.witness.count", count).await?.unwrap_or_default())
    }
}

/// One table, as it is to be looked at.
struct Look {
    list: String,
    table: String,
    key: Vec<String>,
    columns: usize,
}

impl Look {
    fn at(
        conn: &mut SqliteConnection,
        table: &str,
        key: &[SourceColumn],
        columns: &[SourceColumn],
    ) -> Result<Self, Failure> {
        let shape = Shape::find(conn, table)?;
        let name = |column: &SourceColumn| Ok::<_, Error>(format!("w.{}", shape.column(column)?));
        let key = key.iter().map(name).collect::<Result<Vec<_>>>()?;
        let mut list = key.clone();
        for column in columns {
            let column = name(column)?;
            // The cast alone gives a real 15 digits, of which two numbers may have the same.
            list.push(format!(
                "typeof({column}), CASE typeof({column}) WHEN 'real' THEN CAST(printf('%!.17g', {column}) AS BLOB) \
                 ELSE CAST({column} AS BLOB) END"
            ));
        }
        Ok(Self { list: list.join(", "), table: quote(&shape.name), key, columns: columns.len() })
    }

    /// Rows after one key up to another. Where keys are equal more rows than `limit` come, or some would be left out.
    fn range(
        &self,
        conn: &mut SqliteConnection,
        after: Option<&RawKey>,
        until: Option<&RawKey>,
        limit: u32,
    ) -> Result<Vec<Witnessed>, Failure> {
        let mut binds: Vec<&Raw> = Vec::new();
        let from = after.map(|after| format!("WHERE {}", self.later(after, &mut binds))).unwrap_or_default();
        let over = until.map_or("0".to_owned(), |until| self.later(until, &mut binds));
        let order = self.key.join(", ");
        let sql = format!("SELECT {}, {over} FROM {} AS w {from} ORDER BY {order}", self.list, self.table);
        let binds: Vec<_> = binds.into_iter().map(Bind::from).collect();
        let mut seen: Vec<Witnessed> = Vec::new();
        sql::each(conn, &sql, &binds, |row| {
            let is_over = row.cell(self.key.len() + 2 * self.columns).as_int() == Some(1);
            let row = self.witnessed(row);
            if is_over {
                return Ok(ControlFlow::Break(()));
            }
            if seen.len() >= limit.max(1) as usize
                && seen.last().is_some_and(|last| differ(&last.key, &row.key))
            {
                return Ok(ControlFlow::Break(()));
            }
            seen.push(row);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(seen)
    }

    fn one(&self, conn: &mut SqliteConnection, of: &RawKey) -> Result<Option<Witnessed>, Failure> {
        let same: Vec<_> = self
            .key
            .iter()
            .zip(of)
            .enumerate()
            .map(|(index, (column, value))| format!("{column} IS {}", parameter(value, index + 1)))
            .collect();
        let sql = format!("SELECT {} FROM {} AS w WHERE {}", self.list, self.table, same.join(" AND "));
        let binds: Vec<_> = of.iter().map(Bind::from).collect();
        let rows = sql::rows(conn, &sql, &binds)?;
        Ok(rows.into_iter().map(|row| self.witnessed(row)).find(|row| row.key == *of))
    }

    /// A condition that is true of rows after `key`, and false or null of all others.
    fn later<'a>(&self, key: &'a RawKey, binds: &mut Vec<&'a Raw>) -> String {
        if !key.contains(&Raw::Null) {
            let values = key.iter().map(|value| {
                binds.push(value);
                parameter(value, binds.len())
            });
            let values: Vec<_> = values.collect();
            return format!("({}) > ({})", self.key.join(", "), values.join(", "));
        }
        let mut condition = "0".to_owned();
        for (column, value) in self.key.iter().zip(key).rev() {
            // From the last column to the first, so that each goes around what follows it.
            if *value == Raw::Null {
                condition = format!("({column} IS NOT NULL OR {condition})");
                continue;
            }
            binds.push(value);
            let value = parameter(value, binds.len());
            condition = format!(
                "({column} IS NOT NULL AND {column} >= {value} AND ({column} > {value} OR {condition}))"
            );
        }
        condition
    }

    fn witnessed(&self, row: Row) -> Witnessed {
        let mut cells = row.into_raws();
        let key = cells.by_ref().take(self.key.len()).collect();
        let values = (0..self.columns).map(|_| match (cells.next(), cells.next()) {
            (Some(Raw::Text(class)), Some(Raw::Blob(bytes))) => Some((class_of(&class)?, bytes)),
            _ => None,
        });
        Witnessed { key, values: values.collect() }
    }
}

/// What `typeof()` says of a value that is not null.
fn class_of(said: &[u8]) -> Option<&'static str> {
    ["integer", "real", "text", "blob"].into_iter().find(|class| class.as_bytes() == said)
}

/// Whether two neighbours in the order are certainly apart: not of one class, or different but for case and spaces at the end.
fn differ(one: &RawKey, other: &RawKey) -> bool {
    one.iter().zip(other).any(|pair| match pair {
        (Raw::Text(one), Raw::Text(other)) => {
            let [one, other] = [one, other].map(|text| text.trim_ascii_end().to_ascii_lowercase());
            one != other
        }
        (Raw::Integer(_), Raw::Real(_)) | (Raw::Real(_), Raw::Integer(_)) => false,
        (one, other) => one != other,
    })
}
