//! Quarantine: rows without a decision are read again, rows that refer to them follow, and people decide.

use std::collections::HashSet;

use changeover_core::cutover::{
    Decision, From, QuarantineFilter, Quarantined, Raw, RawKey, ReadRows, Reason, Reference, SourceColumn,
    Table, Value,
};
use changeover_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::Cutover;
use super::batch::{Batch, Row};
use super::session::{PAGE, Session};
use crate::hazards::number;
use crate::verify::{Excuse, Excused as _, ExcusedKeys};

impl Session<'_> {
    /// Looks again at rows without a decision, leaves out what refers to rows that stay out, and approves them while no more are in
    /// quarantine than the terms allow. How many are left without a decision.
    pub(super) async fn settle(&mut self) -> Result<u64> {
        self.read_undecided().await?;
        self.leave_out_unlinked().await?;
        let (all, open) = self.target().progress(self.run.run).await?.quarantined;
        let allowed = self.kept.max_quarantined.max(self.terms.max_quarantined);
        if open == 0 || all > allowed {
            return Ok(open);
        }
        let mut filter = QuarantineFilter {
            decision: Some("undecided".to_owned()),
            limit: PAGE,
            ..QuarantineFilter::default()
        };
        loop {
            let ids: Vec<_> = self.target().quarantined(&filter).await?.iter().map(|row| row.id).collect();
            let Some(last) = ids.last() else { return Ok(0) };
            filter.after = *last;
            let facts = json!({ "rows": ids.len(), "by": "max_quarantined", "allowed": allowed });
            let entry = self.entry("approved", &facts)?;
            self.target().decide(self.run.run, &ids, &Decision::Approve, entry).await?;
        }
    }

    /// All rows without a decision at once: what spoke against them may be gone, and so may be who was in their way.
    async fn read_undecided(&mut self) -> Result<()> {
        let excused = self.excused().await?;
        let mut rows: Vec<Row> = Vec::new();
        let mut filter = QuarantineFilter {
            decision: Some("undecided".to_owned()),
            limit: PAGE,
            ..QuarantineFilter::default()
        };
        loop {
            let page = self.target().quarantined(&filter).await?;
            let Some(last) = page.last() else { break };
            filter.after = last.id;
            for row in page {
                // One that only follows another keeps its number until that one is back.
                let follows = row.reasons.iter().all(|it| matches!(it.hazard, 0 | number::ORPHAN));
                if !follows || self.parents_are_stored(&row, &excused).await? {
                    rows.extend(self.read(row.table, vec![row.key]).await?);
                }
            }
        }
        if rows.is_empty() {
            self.twins.clear();
            return Ok(());
        }
        let mut batch = Batch::new(self, rows, &HashSet::new());
        self.apply(&mut batch, self.applied).await?;
        self.twins = batch.twins(self).into_iter().collect();
        Ok(())
    }

    /// Rows whose parent is not in the new store stay out, and what refers to them, until no more are found.
    async fn leave_out_unlinked(&mut self) -> Result<()> {
        let mut is_done = false;
        while !is_done {
            is_done = true;
            for (index, table) in self.tables().iter().enumerate() {
                for at in 0..table.references.len() {
                    is_done &= self.leave_out(index, at).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether there was nothing to do.
    async fn leave_out(&mut self, index: usize, at: usize) -> Result<bool> {
        let table = &self.tables()[index];
        let reference = &table.references[at];
        let Some(parent) = self.tables().iter().find(|it| it.name == reference.table) else {
            return Ok(true);
        };
        let found = self.target().unlinked(table, at, parent, PAGE).await?;
        if found.is_empty() {
            return Ok(true);
        }
        let mut out = Vec::new();
        for key in &found {
            for row in self.read_behind(index, key).await? {
                out.push(row);
            }
        }
        let mut batch = Batch::new(self, out, &HashSet::new());
        for (at, row) in batch.rows_with_content() {
            let there = self.parent_of(table, reference, parent, &row).await?.is_some();
            let (hazard, why) = if there {
                (0, format!("refers to a row of {} that stays out", parent.name))
            } else {
                (number::ORPHAN, format!("names no row of {}", parent.name))
            };
            batch.refuse(
                at,
                Reason { column: sources(table, &reference.columns).join(", "), hazard, problem: why },
            );
        }
        for key in found {
            batch.replace.push((index, key));
        }
        self.apply(&mut batch, self.applied).await?;
        Ok(false)
    }

    /// Whether every row that a quarantined one refers to is there and does not stay out.
    async fn parents_are_stored(&self, row: &Quarantined, excused: &ExcusedKeys) -> Result<bool> {
        let table = &self.tables()[row.table];
        for reference in &table.references {
            let Some(parent) = self.tables().iter().find(|it| it.name == reference.table) else { continue };
            let Some(key) = self.parent_of(table, reference, parent, &row.row).await? else {
                return Ok(false);
            };
            if excused.which(&parent.name, &[key]).await?.first().copied().flatten() == Some(Excuse::Out) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The key of the old store's row that a row refers to, if it is there.
    async fn parent_of(
        &self,
        table: &Table,
        reference: &Reference,
        parent: &Table,
        row: &[Raw],
    ) -> Result<Option<RawKey>> {
        let columns = table.source_columns();
        let value = |name: &String| {
            let at = columns.iter().position(|it| *it == SourceColumn::Named(name.clone()))?;
            row.get(at).cloned()
        };
        let key: Option<RawKey> = sources(table, &reference.columns).iter().map(value).collect();
        let named = sources(parent, &reference.to).into_iter().map(SourceColumn::Named).collect::<Vec<_>>();
        let Some(key) = key.filter(|key| key.len() == named.len()) else { return Ok(None) };
        let columns = parent.source_key();
        let read = ReadRows { table: parent.source.clone(), columns, key: named, keys: vec![key] };
        Ok(self.source().rows(&read).await?.into_iter().next().flatten())
    }
}

/// Names of the columns of the old table behind columns of the new one.
fn sources(table: &Table, columns: &[String]) -> Vec<String> {
    let source = |name: &String| match &table.column(name)?.from {
        From::Source(SourceColumn::Named(name)) => Some(name.clone()),
        From::Source(SourceColumn::Rowid) | From::Tenant | From::Computed(_) => None,
    };
    columns.iter().filter_map(source).collect()
}

impl Cutover {
    /// Rows that stay out of the new store, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// Those of the stores; `Invalid` for a table that is not declared.
    pub async fn quarantined(
        &self,
        table: Option<&str>,
        decision: Option<&str>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Quarantined>> {
        let index = |name: &str| {
            self.tables.iter().position(|table| table.name == name).ok_or_else(|| {
                let names: Vec<_> = self.tables.iter().map(|table| &*table.name).collect();
                Error::invalid(format!("there is no table {name:?}; declared are {}", names.join(", ")))
            })
        };
        let filter = QuarantineFilter {
            table: table.map(index).transpose()?,
            decision: decision.map(str::to_owned),
            ids: Vec::new(),
            after,
            limit,
        };
        self.target.quarantined(&filter).await
    }

    /// One row that stays out, by its number.
    ///
    /// # Errors
    ///
    /// `NotFound` if the last run has none of this number.
    pub async fn quarantined_row(&self, id: i64) -> Result<Quarantined> {
        let filter = QuarantineFilter { ids: vec![id], limit: 1, ..QuarantineFilter::default() };
        let found = self.target.quarantined(&filter).await?;
        found.into_iter().next().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the last run has no quarantined row {id}"))
        })
    }

    /// These rows stay out, and that is accepted; how many there were.
    ///
    /// # Errors
    ///
    /// `Invalid` for a number that is not there or a row that is repaired: nothing is decided then.
    pub async fn approve(&self, ids: &[i64]) -> Result<u64> {
        self.decide(ids, &Decision::Approve, "approved").await
    }

    /// These rows may not stay out: there is no switch until they are corrected in the old store.
    ///
    /// # Errors
    ///
    /// As of [`Cutover::approve`].
    pub async fn reject(&self, ids: &[i64]) -> Result<u64> {
        self.decide(ids, &Decision::Reject, "rejected").await
    }

    /// Stores other values instead of those of a row. `values` replace those of the old store, by its columns' names, and are
    /// converted as the row would be.
    ///
    /// # Errors
    ///
    /// `Invalid` names columns that are not read and everything that speaks against the row as it would be then; nothing is
    /// decided. `AlreadyExists` if it is in another row's way.
    pub async fn repair(&self, id: i64, values: &[(String, Raw)]) -> Result<Vec<Value>> {
        let row = self.quarantined_row(id).await?;
        let run = self.last_run().await?;
        let kept = super::terms::Kept::read(&run.terms)?;
        let table = &self.tables[row.table];
        let columns = table.source_columns();
        let mut raw = row.row.clone();
        for (name, value) in values {
            let at =
                columns.iter().position(|it| *it == SourceColumn::Named(name.clone())).ok_or_else(|| {
                    let names: Vec<_> = columns
                        .iter()
                        .filter_map(
                            |it| if let SourceColumn::Named(name) = it { Some(&**name) } else { None },
                        )
                        .collect();
                    Error::invalid(format!(
                        "table {} has no column {name:?}; read are {}",
                        table.name,
                        names.join(", ")
                    ))
                })?;
            raw[at] = value.clone();
        }
        let made = self.converter(&run, &kept)?.row(row.table, &row.key, &raw).map_err(|reasons| {
            let reasons: Vec<_> = reasons
                .iter()
                .map(|it| format!("{} {} (hazard {})", it.column, it.problem, it.hazard))
                .collect();
            Error::invalid(format!(
                "row {id} of {} still cannot be stored: {}",
                table.name,
                reasons.join("; ")
            ))
        })?;
        let facts = json!({ "id": id, "table": table.name, "columns": values.iter().map(|it| &it.0).collect::<Vec<_>>() });
        let decision = Decision::Repair(vec![made.clone()]);
        self.target.decide(run.run, &[id], &decision, self.entry("repaired", &facts)?).await?;
        Ok(made)
    }

    async fn decide(&self, ids: &[i64], decision: &Decision, what: &str) -> Result<u64> {
        let run = self.last_run().await?;
        let entry = self.entry(what, &json!({ "ids": ids }))?;
        self.target.decide(run.run, ids, decision, entry).await
    }
}
