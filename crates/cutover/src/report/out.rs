//! Rows that stayed out, as a manifest holds them.

use changeover_core::cutover::{Quarantined, Raw, SourceColumn, Table};
use changeover_core::{Error, Result, hex};
use serde::{Deserialize, Serialize};

use crate::Cutover;

/// Rows asked for at once.
const PAGE: u32 = 1_000;

/// A row that stayed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutRow {
    /// Its number.
    pub id: i64,
    /// Name of the declaration.
    pub table: String,
    /// The new table that it stays out of.
    pub target: String,
    /// Its key: storage class and content, bytes of texts and blobs in hex.
    pub key: Vec<Cell>,
    /// The row.
    pub row: Vec<Cell>,
    /// Why: column, number of the hazard, what is wrong.
    pub reasons: Vec<(String, u16, String)>,
    /// `undecided`, `approved`, `rejected`, `repaired`.
    pub decision: String,
    /// Who decided.
    pub decided_by: Option<String>,
}

/// One value of the old store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// The column of the old store.
    pub column: String,
    /// Storage class.
    pub class: String,
    /// Numbers in digits (reals in 17), bytes of texts and blobs in hex; empty for null.
    pub content: String,
}

/// All of them, in the order of their numbers.
pub(super) async fn quarantine(cutover: &Cutover) -> Result<Vec<OutRow>> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let page = cutover.quarantined(None, None, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.id;
        for row in &page {
            let table = cutover.tables().get(row.table).ok_or_else(|| {
                Error::invalid(format!(
                    "row {} is of a table that is not declared now; give the run's own declarations",
                    row.id
                ))
            })?;
            all.push(OutRow::of(row, table));
        }
    }
}

impl OutRow {
    /// Of a row of a declared table.
    pub fn of(row: &Quarantined, table: &Table) -> Self {
        let reasons = row.reasons.iter();
        Self {
            id: row.id,
            table: table.name.clone(),
            target: table.target.clone(),
            key: cells(&table.source_key(), &row.key),
            row: cells(&table.source_columns(), &row.row),
            reasons: reasons.map(|it| (it.column.clone(), it.hazard, it.problem.clone())).collect(),
            decision: row.decision.clone(),
            decided_by: row.decided_by.clone(),
        }
    }
}

fn cells(columns: &[SourceColumn], values: &[Raw]) -> Vec<Cell> {
    let name = |column: &SourceColumn| match column {
        SourceColumn::Named(name) => name.clone(),
        SourceColumn::Rowid => "rowid".to_owned(),
    };
    columns.iter().zip(values).map(|(column, raw)| Cell::of(name(column), raw)).collect()
}

impl Cell {
    fn of(column: String, raw: &Raw) -> Self {
        let content = match raw {
            Raw::Null => String::new(),
            Raw::Integer(number) => number.to_string(),
            Raw::Real(number) => format!("{number:.16e}"),
            Raw::Text(bytes) | Raw::Blob(bytes) => hex(bytes),
        };
        Self { column, class: raw.class().to_owned(), content }
    }
}
