//! What the copier has to know of the declared tables: kept in the run, so that any process can go on with it, and
//! completed from the catalogue with the types that the columns have.

use changeover_core::cutover::{From, Table, Value};
use changeover_core::{Error, ErrorKind, Result, TenantId};
use serde_json::{Value as Document, json};
use tokio_postgres::Row;

use super::binary::{Bytes, Form, take};
use super::connections::{Tx, ident, list, literal, relation};
use super::raw::unreadable;

/// The tables of a run.
pub(super) struct Shape {
    pub tables: Vec<TableShape>,
}

/// A declared table.
pub(super) struct TableShape {
    pub name: String,
    /// `schema.table`
    pub target: String,
    pub columns: Vec<ColumnShape>,
    /// Places of the key's columns.
    pub key: Vec<usize>,
    /// Columns that hold the tenant of the run, and the tenant.
    pub tenant: Option<(Vec<usize>, String)>,
    /// Place of the date that the months are by.
    pub partition_by: Option<usize>,
    pub also: Vec<AlsoShape>,
    pub goes_back: bool,
}

pub(super) struct AlsoShape {
    pub target: String,
    /// Its columns, and the place of what each holds.
    pub columns: Vec<(String, usize)>,
    /// Those of them that make its key.
    pub key: Vec<(String, usize)>,
}

pub(super) struct ColumnShape {
    pub name: String,
    /// As SQL writes it, for casts.
    pub type_name: String,
    pub form: Form,
}

/// What is kept of the declarations.
pub(super) fn to_json(tables: &[Table]) -> Document {
    let table = |it: &Table| {
        let tenant: Vec<_> = it
            .columns
            .iter()
            .filter(|column| column.from == From::Tenant)
            .map(|column| &column.name)
            .collect();
        let also: Vec<_> = it
            .also
            .iter()
            .map(|also| {
                let (names, of): (Vec<_>, Vec<_>) = also.columns.iter().cloned().unzip();
                json!({ "target": also.target, "names": names, "columns": of, "key": also.key })
            })
            .collect();
        json!({
            "name": it.name, "target": it.target, "key": it.key, "tenant": tenant, "also": also,
            "columns": it.columns.iter().map(|column| &column.name).collect::<Vec<_>>(),
            "partition_by": it.partition_by, "goes_back": it.goes_back,
        })
    };
    tables.iter().map(table).collect()
}

fn words(document: &Document, field: &str) -> Option<Vec<String>> {
    document.get(field)?.as_array()?.iter().map(|it| Some(it.as_str()?.to_owned())).collect()
}

fn word(document: &Document, field: &str) -> Option<String> {
    Some(document.get(field)?.as_str()?.to_owned())
}

impl Shape {
    /// Out of what is kept, and the catalogue.
    pub(super) async fn load(tx: &Tx<'_>, kept: &Document, tenant: &TenantId) -> Result<Self> {
        let mut tables = Vec::new();
        for document in kept.as_array().ok_or_else(unreadable)? {
            let names = words(document, "columns").ok_or_else(unreadable)?;
            let target = word(document, "target").ok_or_else(unreadable)?;
            let columns = columns(tx, &target, &names).await?;
            let shape = Self::table(document, &names, target, columns, tenant);
            tables.push(shape.ok_or_else(unreadable)?);
        }
        Ok(Self { tables })
    }

    fn table(
        document: &Document,
        names: &[String],
        target: String,
        columns: Vec<ColumnShape>,
        tenant: &TenantId,
    ) -> Option<TableShape> {
        let place = |name: &String| names.iter().position(|it| it == name);
        let places =
            |of: &Document, field: &str| words(of, field)?.iter().map(place).collect::<Option<Vec<_>>>();
        let also = |it: &Document| {
            let columns: Vec<_> = words(it, "names")?.into_iter().zip(places(it, "columns")?).collect();
            let pair = |name: &String| columns.iter().find(|(of, _)| of == name).cloned();
            let key = words(it, "key")?.iter().map(pair).collect::<Option<_>>()?;
            Some(AlsoShape { target: word(it, "target")?, key, columns })
        };
        let tenants = places(document, "tenant")?;
        Some(TableShape {
            name: word(document, "name")?,
            target,
            key: places(document, "key")?,
            tenant: (!tenants.is_empty()).then(|| (tenants, tenant.to_string())),
            partition_by: word(document, "partition_by").and_then(|name| place(&name)),
            also: document.get("also")?.as_array()?.iter().map(also).collect::<Option<_>>()?,
            goes_back: document.get("goes_back")?.as_bool()?,
            columns,
        })
    }

    pub(super) fn table_at(&self, index: usize) -> Result<&TableShape> {
        let count = self.tables.len();
        self.tables.get(index).ok_or_else(|| {
            Error::invalid(format!(
                "the run has {count} declared tables, there is none with the index {index}"
            ))
        })
    }

    /// Every table of the new store that rows are written to, each once.
    pub(super) fn targets(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for table in &self.tables {
            for target in std::iter::once(&table.target).chain(table.also.iter().map(|also| &also.target)) {
                if !found.contains(target) {
                    found.push(target.clone());
                }
            }
        }
        found
    }

    /// Schemas of those, each once.
    pub(super) fn schemas(&self) -> Vec<String> {
        let mut found: Vec<String> =
            self.targets().iter().filter_map(|it| Some(it.split_once('.')?.0.to_owned())).collect();
        found.sort();
        found.dedup();
        found
    }
}

impl TableShape {
    pub(super) fn column(&self, place: usize) -> &ColumnShape {
        &self.columns[place]
    }

    /// The columns in SQL, behind a prefix like `t.`.
    pub(super) fn names(&self, places: &[usize], prefix: &str) -> String {
        list(places, |place| format!("{prefix}{}", ident(&self.columns[*place].name)))
    }

    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.columns.len()).collect()
    }

    /// All columns under their own names.
    pub(super) fn all_named(&self) -> Vec<(String, usize)> {
        self.columns.iter().enumerate().map(|(place, column)| (column.name.clone(), place)).collect()
    }

    /// That a row is of the run's tenant, where rows have a tenant that is not in the key: `AND t."tenant_id" = 'acme'`.
    pub(super) fn of_tenant(&self, prefix: &str) -> String {
        let Some((places, tenant)) = &self.tenant else { return String::new() };
        places
            .iter()
            .filter(|place| !self.key.contains(place))
            .map(|place| format!(" AND {prefix}{} = {}", ident(&self.columns[*place].name), literal(tenant)))
            .collect::<Vec<_>>()
            .concat()
    }

    /// The values of a row that begin at a column of the answer.
    pub(super) fn values(&self, row: &Row, from: usize, places: &[usize]) -> Result<Vec<Value>> {
        let value = |(index, place): (usize, &usize)| {
            let column = &self.columns[*place];
            let bytes: Bytes<'_> = row.try_get(from + index).map_err(|_| crate::module::unreadable())?;
            let Some(bytes) = bytes.0 else { return Ok(Value::Null) };
            take(bytes, column.form).map_err(|problem| {
                Error::new(
                    ErrorKind::Corrupt,
                    format!("table {}, column {}: {problem}", self.target, column.name),
                )
            })
        };
        places.iter().enumerate().map(value).collect()
    }
}

/// The types of columns; `SchemaMismatch` if one is missing or of a type that no declaration has.
async fn columns(tx: &Tx<'_>, target: &str, names: &[String]) -> Result<Vec<ColumnShape>> {
    let rows = tx
        .query(
            "SELECT a.attname::text, pg_catalog.format_type(b.oid, CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END), \
                    b.typname::text, b.typtype::text \
               FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid \
               JOIN pg_catalog.pg_type AS b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
              WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped",
            &[&relation(target)],
        )
        .await?;
    let find = |name: &String| {
        let row = rows.iter().find(|row| row.get::<_, String>(0) == *name);
        let row = row.ok_or_else(|| mismatch(target, name, "is not there"))?;
        let (kind, class): (String, String) = (row.get(2), row.get(3));
        let form = Form::of(&kind, &class)
            .ok_or_else(|| mismatch(target, name, "has a type that cannot be copied"))?;
        Ok(ColumnShape { name: name.clone(), type_name: row.get(1), form })
    };
    names.iter().map(find).collect()
}

fn mismatch(target: &str, column: &str, problem: &str) -> Error {
    Error::new(
        ErrorKind::SchemaMismatch,
        format!("column {column} of table {target} {problem}; bring the table to what is declared"),
    )
}
