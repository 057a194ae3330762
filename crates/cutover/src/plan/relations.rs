//! What no row shows by itself: rows that are one under a rule of the new store, and rows that refer to nothing.

use changeover_core::Result;
use changeover_core::cutover::{From, Raw, RawKey, RawRow, ReadRows, Reason, SourceColumn, Table, Type};

use super::finding::Findings;
use super::{LOOKED_FOR, Out, Reading, name};
use crate::hazards::{Treatment, number};

impl Reading<'_> {
    /// Rows that share the values of columns that are unique in the new store.
    pub(super) async fn duplicates(&self, out: &mut Out, findings: &mut Findings) -> Result<()> {
        for unique in &self.table.unique {
            let columns = names(self.table, &unique.columns);
            let only_where =
                unique.only_where.as_ref().map(|name| names(self.table, std::slice::from_ref(name)));
            let only_where = only_where.as_ref().and_then(|names| names.first());
            let key = self.table.source_key();
            let found = self
                .source
                .duplicates(&self.table.source, &key, &columns, only_where.map(String::as_str), LOOKED_FOR)
                .await?;
            let problem = "has the same values as another row, and they are unique in the new store";
            self.stay_out(&found, &columns, number::DUPLICATE, problem, out, findings);
        }
        Ok(())
    }

    /// Rows whose reference names no row.
    pub(super) async fn orphans(&self, all: &[Table], out: &mut Out, findings: &mut Findings) -> Result<()> {
        for reference in &self.table.references {
            let Some(parent) = all.iter().find(|table| table.name == reference.table) else { continue };
            let there = |table: &Table| {
                self.facts.tables.iter().any(|found| found.name.eq_ignore_ascii_case(&table.source))
            };
            if !there(parent) {
                continue;
            }
            let (columns, to) = (names(self.table, &reference.columns), names(parent, &reference.to));
            let key = self.table.source_key();
            let parents = (parent.source.as_str(), to.as_slice());
            let found = self.source.orphans(&self.table.source, &key, &columns, parents, LOOKED_FOR).await?;
            let found = self.without_other_spellings(found, &columns, parents).await?;
            let problem = format!("names no row of {}", parent.name);
            self.stay_out(&found, &columns, number::ORPHAN, &problem, out, findings);
        }
        Ok(())
    }

    /// Without the rows whose parent is there, its id in another spelling.
    async fn without_other_spellings(
        &self,
        found: Vec<RawKey>,
        columns: &[String],
        (parent, to): (&str, &[String]),
    ) -> Result<Vec<RawKey>> {
        let named = |columns: &[String]| columns.iter().cloned().map(SourceColumn::Named).collect::<Vec<_>>();
        let read = ReadRows {
            table: self.table.source.clone(),
            columns: named(columns),
            key: self.table.source_key(),
            keys: found,
        };
        let rows = self.source.rows(&read).await?;
        let ids = self.ids(&read.columns);
        let mut kept = Vec::new();
        for (key, row) in read.keys.into_iter().zip(rows) {
            let keys = row.map(|row| other_spellings(&row, &ids)).unwrap_or_default();
            let read = ReadRows { table: parent.to_owned(), columns: named(to), key: named(to), keys };
            let there = !read.keys.is_empty() && self.source.rows(&read).await?.iter().any(Option::is_some);
            if !there {
                kept.push(key);
            }
        }
        Ok(kept)
    }

    /// Rows of a chunk whose ids are also there in another spelling, in key or unique columns: one row in the new store.
    pub(super) async fn twins(
        &self,
        rows: &[(RawKey, RawRow)],
        columns: &[SourceColumn],
        out: &mut Out,
        findings: &mut Findings,
    ) -> Result<()> {
        let sets = self.table.unique.iter().filter(|unique| unique.only_where.is_none());
        let sets = sets.map(|unique| &unique.columns).chain([&self.table.key]);
        for set in sets {
            let key = sources(self.table, set);
            let ids = self.ids(&key);
            let places: Option<Vec<_>> =
                key.iter().map(|source| columns.iter().position(|column| column == source)).collect();
            let Some(places) = places.filter(|_| ids.contains(&true)) else { continue };
            // Looking from the rows in upper case alone finds every pair.
            let mut asked = Vec::new();
            let mut keys = Vec::new();
            for (own, row) in rows {
                let values: Vec<_> = places.iter().map(|at| row[*at].clone()).collect();
                let upper = values.iter().zip(&ids).any(|(raw, id)| *id && is_upper(raw));
                for other in if upper { other_spellings(&values, &ids) } else { Vec::new() } {
                    asked.push(own);
                    keys.push(other);
                }
            }
            if keys.is_empty() {
                continue;
            }
            let own_key = self.table.source_key();
            let read = ReadRows { table: self.table.source.clone(), columns: own_key, key, keys };
            let names: Vec<_> = read.key.iter().map(name).collect();
            for (own, other) in asked.into_iter().zip(self.source.rows(&read).await?) {
                let Some(other) = other else { continue };
                let problem = "is also there in another spelling, which is the same id in the new store";
                self.stay_out(&[own.clone(), other], &names, number::SPELLED_TWICE, problem, out, findings);
            }
        }
        Ok(())
    }

    fn stay_out(
        &self,
        keys: &[RawKey],
        columns: &[String],
        hazard: u16,
        problem: &str,
        out: &mut Out,
        findings: &mut Findings,
    ) {
        let reason = Reason { column: columns.join(", "), hazard, problem: problem.to_owned() };
        for key in keys {
            findings.row(&self.table.name, key, &reason, Treatment::Quarantine, None);
            out.add(key);
        }
    }

    /// Which columns hold ids as text.
    pub(super) fn ids(&self, columns: &[SourceColumn]) -> Vec<bool> {
        columns.iter().map(|column| super::type_of(self.table, column) == Some(&Type::Uuid)).collect()
    }
}

/// Columns of the old store behind columns of the new one; the tenant of a file without tenants is behind none.
fn sources(table: &Table, columns: &[String]) -> Vec<SourceColumn> {
    let source = |name: &String| match &table.column(name)?.from {
        From::Source(source) => Some(source.clone()),
        From::Tenant | From::Computed(_) => None,
    };
    columns.iter().filter_map(source).collect()
}

pub(super) fn names(table: &Table, columns: &[String]) -> Vec<String> {
    sources(table, columns).iter().map(name).collect()
}

fn is_upper(raw: &Raw) -> bool {
    matches!(raw, Raw::Text(text) if text.iter().any(u8::is_ascii_uppercase))
}

/// The values with each id in the other case, in every combination but that at hand.
fn other_spellings(values: &[Raw], ids: &[bool]) -> Vec<RawKey> {
    let mut keys: Vec<RawKey> = vec![Vec::new()];
    for (raw, id) in values.iter().zip(ids) {
        let other = match raw {
            Raw::Text(text) if *id && is_upper(raw) => Some(Raw::Text(text.to_ascii_lowercase())),
            Raw::Text(text) if *id => Some(Raw::Text(text.to_ascii_uppercase())),
            _ => None,
        };
        let other = other.filter(|other| other != raw);
        let with = |key: &RawKey, raw: &Raw| [key.as_slice(), std::slice::from_ref(raw)].concat();
        let more: Vec<_> = other.iter().flat_map(|other| keys.iter().map(|key| with(key, other))).collect();
        keys = keys.iter().map(|key| with(key, raw)).chain(more).collect();
    }
    keys.retain(|key| key != values);
    keys
}
