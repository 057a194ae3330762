//! Rows that refer to a row that stays out follow it, and what refers to them: no such row may be in the new store.
//!
//! Where rows of a table stay out and others refer to it, both tables are read once more, in chunks and only the columns
//! that matter. What is remembered are short marks, of [`super::REMEMBERED`] rows of a table at most; what refers to rows beyond
//! those is not found.

use std::collections::HashSet;

use changeover_core::Result;
use changeover_core::cutover::{ChunkRead, Raw, RawKey, Reason, Reference, SourceColumn};

use super::finding::Findings;
use super::relations::names;
use super::{Mark, Out, Reading, mark};
use crate::hazards::Treatment;

/// Lists and counts them. `outs`, in the order of the tables, has what stays out so far.
pub(super) async fn follow(tables: &[Reading<'_>], outs: &mut [Out], findings: &mut Findings) -> Result<()> {
    // How many rows of the parent stayed out when a reference was looked at last.
    let mut looked = vec![Vec::new(); tables.len()];
    for (table, looked) in tables.iter().zip(&mut looked) {
        looked.resize(table.table.references.len(), 0);
    }
    loop {
        let mut is_done = true;
        for (child, table) in tables.iter().enumerate() {
            for (at, reference) in table.table.references.iter().enumerate() {
                let Some(parent) = tables.iter().position(|it| it.table.name == reference.table) else {
                    continue;
                };
                if outs[parent].count == looked[child][at] {
                    continue;
                }
                looked[child][at] = outs[parent].count;
                is_done = false;
                let (columns, gone) = tables[parent].gone(&outs[parent], table, reference).await?;
                table.leave_out(&columns, &gone, reference, &mut outs[child], findings).await?;
            }
        }
        if is_done {
            return Ok(());
        }
    }
}

impl Reading<'_> {
    /// What a reference to a row of this table would hold if the row stays out, and the columns of the child that hold it.
    async fn gone(
        &self,
        out: &Out,
        child: &Reading<'_>,
        reference: &Reference,
    ) -> Result<(Vec<SourceColumn>, HashSet<Mark>)> {
        let named = |names: Vec<String>| names.into_iter().map(SourceColumn::Named).collect::<Vec<_>>();
        let (to, columns) =
            (named(names(self.table, &reference.to)), named(names(child.table, &reference.columns)));
        let ids = self.ids(&to);
        let mut gone = HashSet::new();
        self.each(&to, |key, values| {
            if out.seen.contains(&mark(key)) {
                gone.insert(mark(&one_spelling(values, &ids)));
            }
        })
        .await?;
        Ok((columns, gone))
    }

    /// Rows of this table that refer to one of those stay out.
    async fn leave_out(
        &self,
        columns: &[SourceColumn],
        gone: &HashSet<Mark>,
        reference: &Reference,
        out: &mut Out,
        findings: &mut Findings,
    ) -> Result<()> {
        let ids = self.ids(columns);
        let reason = Reason {
            column: columns.iter().map(super::name).collect::<Vec<_>>().join(", "),
            hazard: 0,
            problem: format!("refers to a row of {} that stays out", reference.table),
        };
        self.each(columns, |key, values| {
            if !values.contains(&Raw::Null)
                && gone.contains(&mark(&one_spelling(values, &ids)))
                && out.follow(key)
            {
                findings.row(&self.table.name, key, &reason, Treatment::Quarantine, values.first());
            }
        })
        .await
    }

    /// Reads columns of every row.
    async fn each(&self, columns: &[SourceColumn], mut see: impl FnMut(&RawKey, &[Raw])) -> Result<()> {
        if self.rows_if_readable(columns).is_none() {
            return Ok(());
        }
        let mut read = ChunkRead {
            table: self.table.source.clone(),
            columns: columns.to_vec(),
            key: self.table.source_key(),
            after: None,
            rows: self.terms.chunk_rows,
            bytes: self.terms.chunk_bytes,
        };
        loop {
            let chunk = self.chunk(&read).await?;
            for (key, values) in &chunk.rows {
                see(key, values);
            }
            let last = chunk.rows.into_iter().next_back().filter(|_| !chunk.end);
            let Some((last, _)) = last else { return Ok(()) };
            read.after = Some(last);
        }
    }
}

/// Ids in one case, as they are one in the new store.
fn one_spelling(values: &[Raw], ids: &[bool]) -> RawKey {
    let one = |(raw, id): (&Raw, &bool)| match raw {
        Raw::Text(text) if *id => Raw::Text(text.to_ascii_lowercase()),
        _ => raw.clone(),
    };
    values.iter().zip(ids).map(one).collect()
}
