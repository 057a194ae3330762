//! Single rows: which fields differ, and whether what was suspect is wrong.

use std::collections::BTreeSet;

use changeover_core::Result;
use changeover_core::cutover::{Raw, RawKey, Type};

use super::canon::Canon;
use super::excused::Excused;
use super::finding::{ChangedKey, Kind, Mismatch, Suspect};
use super::relation::Relation;
use super::stream::Entry;
use super::walk::{Difference, as_key, decode};
use super::{Verifier, hex};

impl Verifier {
    /// Looks again at rows that differed while writers were on, once the follower has applied what had been captured by then.
    /// Only what differs still is a mismatch.
    ///
    /// # Errors
    ///
    /// Those of the witnesses.
    pub async fn recheck(&self, suspects: &[Suspect], excused: &dyn Excused) -> Result<Vec<Mismatch>> {
        Ok(self.differing(suspects, excused).await?.into_iter().map(|(_, mismatch)| mismatch).collect())
    }

    /// As [`Verifier::recheck`], each with the suspect that it is about: to look at those alone once more.
    ///
    /// # Errors
    ///
    /// Those of the witnesses.
    pub async fn differing(
        &self,
        suspects: &[Suspect],
        excused: &dyn Excused,
    ) -> Result<Vec<(Suspect, Mismatch)>> {
        let mut found = Vec::new();
        for suspect in suspects {
            let relation = self.relation(&suspect.target)?;
            let mut rows: Vec<_> = Vec::new();
            for (table, key) in &suspect.rows {
                rows.extend(part_of(relation, table).map(|part| (part, key.raw())));
            }
            rows.extend(candidates(relation, &suspect.key));
            let entries = self.entries(relation, Some(&suspect.key), rows, excused).await?;
            if let Some(difference) = self.differs(relation, suspect.key.clone(), entries).await? {
                let Some(difference) = self.scanned(relation, difference, excused).await? else { continue };
                found.push((suspect.clone(), self.judge(relation, &difference).await?));
            }
        }
        Ok(found)
    }

    /// Looks at the rows with these keys of the old store, in every table of the new one that they belong to: for what
    /// was changed since a verification.
    ///
    /// A row that is gone from the old store is looked for by what its declared key says; in a table of the new store whose
    /// key says more, only the number of rows can tell.
    ///
    /// # Errors
    ///
    /// Those of the witnesses.
    pub async fn changed(&self, keys: &[ChangedKey], excused: &dyn Excused) -> Result<Vec<Mismatch>> {
        let mut found = Vec::new();
        for changed in keys {
            for relation in &self.relations {
                let Some(part) = part_of(relation, &changed.table) else { continue };
                let entries =
                    self.entries(relation, None, vec![(part, changed.key.clone())], excused).await?;
                let key = match entries.first() {
                    Some(entry) => match entry.row.key.clone() {
                        Some(key) => Some(key),
                        None if entry.excuse.is_some() => None,
                        None => {
                            let difference = Difference { key: None, entries, found: 0 };
                            found.push(self.judge(relation, &difference).await?);
                            continue;
                        }
                    },
                    None => relation.parts[part].key_from_raw(&changed.key),
                };
                let Some(key) = key else { continue };
                // Another row of the old store may have the key now.
                let mut rows = vec![(part, changed.key.clone())];
                rows.extend(candidates(relation, &key));
                let entries = self.entries(relation, Some(&key), rows, excused).await?;
                if let Some(difference) = self.differs(relation, key, entries).await? {
                    found.push(self.judge(relation, &difference).await?);
                }
            }
        }
        Ok(found)
    }

    /// The rows of the old store as they are now, each once; of those with `key` if it is given.
    async fn entries(
        &self,
        relation: &Relation,
        key: Option<&Vec<Canon>>,
        rows: Vec<(usize, RawKey)>,
        excused: &dyn Excused,
    ) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        for (at, raw) in rows {
            let part = &relation.parts[at];
            if entries.iter().any(|entry| entry.part == at && entry.row.declared == raw) {
                continue;
            }
            let Some(seen) = self.source.row(&part.source, &part.key, &part.read, &raw).await? else {
                continue;
            };
            let row = part.expected(&seen);
            if key.is_some() && row.key.as_ref() != key {
                continue;
            }
            let excuse = excused.which(&part.name, std::slice::from_ref(&row.declared)).await?;
            entries.push(Entry { row, part: at, excuse: excuse.first().copied().flatten() });
        }
        Ok(entries)
    }

    /// Whether the sides differ at a key now.
    async fn differs(
        &self,
        relation: &Relation,
        key: Vec<Canon>,
        entries: Vec<Entry>,
    ) -> Result<Option<Difference>> {
        let row = self.in_target(relation, &key).await?;
        let leaf = row.map(|row| super::relation::digest(&row));
        let live: Vec<_> = entries.iter().filter(|entry| entry.excuse.is_none()).collect();
        let repaired = entries.iter().any(|entry| entry.excuse == Some(super::Excuse::Repaired));
        let equal = match (live.as_slice(), leaf) {
            ([], None) => !repaired,
            ([], Some(_)) => repaired,
            ([one], Some(leaf)) => one.row.leaf == leaf,
            _ => false,
        };
        let found = usize::from(leaf.is_some());
        Ok((!equal).then_some(Difference { key: Some(key), entries, found }))
    }

    /// A row that seems to be in the new store only may come from a row whose key cannot be told from the new one's: those
    /// tables are read whole.
    async fn scanned(
        &self,
        relation: &Relation,
        difference: Difference,
        excused: &dyn Excused,
    ) -> Result<Option<Difference>> {
        let Some(key) = difference.key.clone().filter(|_| difference.entries.is_empty()) else {
            return Ok(Some(difference));
        };
        for (at, part) in relation.parts.iter().enumerate() {
            if part.spellings(&key).is_some() {
                continue;
            }
            let mut after = None;
            loop {
                let rows =
                    self.source.rows(&part.source, &part.walk, &part.read, after.as_ref(), None, 500).await?;
                let Some(last) = rows.last() else { break };
                after = Some(last.key.clone());
                let row = rows.iter().find(|seen| part.key_of(&part.row(seen)).as_ref() == Some(&key));
                if let Some(seen) = row {
                    let rows = vec![(at, part.declared(seen))];
                    let entries = self.entries(relation, Some(&key), rows, excused).await?;
                    return self.differs(relation, key, entries).await;
                }
            }
        }
        Ok(Some(difference))
    }

    async fn in_target(&self, relation: &Relation, key: &[Canon]) -> Result<Option<Vec<Canon>>> {
        let (names, columns) = (relation.key_names(), relation.names());
        let row = self.target.row(&relation.target, &names, &columns, &as_key(key)).await?;
        row.map(|row| decode(relation, &row)).transpose()
    }

    /// The fields in which a row differs, and those that the declaration does not allow.
    pub(super) async fn fields(
        &self,
        relation: &Relation,
        kind: Kind,
        key: Option<&[Canon]>,
        entry: &Entry,
    ) -> Result<(Vec<String>, Vec<String>)> {
        let part = &relation.parts[entry.part];
        let seen = self.source.row(&part.source, &part.key, &part.read, &entry.row.declared).await?;
        let Some(old) = seen.map(|seen| part.row(&seen)) else { return Ok((Vec::new(), Vec::new())) };
        let names = |which: &dyn Fn(usize) -> bool| {
            let columns = relation.columns.iter().enumerate().filter(|(at, _)| which(*at));
            columns.map(|(_, column)| column.name.clone()).collect::<Vec<_>>()
        };
        let not_allowed = names(&|at| old[at].is_bad());
        let new = match key {
            Some(key) if kind == Kind::Changed => self.in_target(relation, key).await?,
            _ => None,
        };
        let fields = new.map(|new| names(&|at| old[at] != new[at])).unwrap_or_default();
        Ok((fields, not_allowed))
    }
}

/// The key by name, as people read it.
pub(super) fn named(
    relation: &Relation,
    key: Option<&[Canon]>,
    entry: Option<&Entry>,
) -> Vec<(String, String)> {
    if let Some(key) = key {
        return relation.key_names().into_iter().zip(as_key(key)).collect();
    }
    let Some(entry) = entry else { return Vec::new() };
    let name = |column: &changeover_core::cutover::SourceColumn| match column {
        changeover_core::cutover::SourceColumn::Named(name) => name.clone(),
        changeover_core::cutover::SourceColumn::Rowid => "rowid".to_owned(),
    };
    let text = |raw: &Raw| match raw {
        Raw::Null => "null".to_owned(),
        Raw::Integer(number) => format!("integer {number}"),
        Raw::Real(number) => format!("real {number}"),
        Raw::Text(bytes) | Raw::Blob(bytes) => format!("{} x'{}'", raw.class(), hex(bytes)),
    };
    let keys = relation.parts[entry.part].key.iter().map(name);
    keys.zip(entry.row.declared.iter().map(text)).collect()
}

fn part_of(relation: &Relation, table: &str) -> Option<usize> {
    relation.parts.iter().position(|part| part.name == table)
}

/// Keys of the old store that would become this one.
fn candidates(relation: &Relation, key: &[Canon]) -> Vec<(usize, RawKey)> {
    let mut found = Vec::new();
    for (at, part) in relation.parts.iter().enumerate() {
        let keys = part.spellings(key).unwrap_or_default();
        found.extend(keys.into_iter().map(|key| (at, key)));
    }
    found
}

/// The values of the old store that become a value of a key; `None` where they cannot be told.
pub(super) fn spellings(to: &Type, value: &Canon) -> Option<Vec<Raw>> {
    Some(match (to, value) {
        (Type::Int { .. }, Canon::Int(number)) => vec![Raw::Integer(*number)],
        (Type::Bool, Canon::Bool(value)) => vec![Raw::Integer(i64::from(*value))],
        (Type::Text { .. }, Canon::Text(text)) => vec![Raw::Text(text.clone().into_bytes())],
        (Type::Bytes { .. }, Canon::Bytes(bytes)) => vec![Raw::Blob(bytes.clone())],
        (Type::Uuid, Canon::Uuid(bytes)) => {
            let lower = uuid::Uuid::from_bytes(*bytes).hyphenated().to_string();
            let texts = BTreeSet::from([lower.to_ascii_uppercase(), lower]);
            let texts = texts.into_iter().map(|text| Raw::Text(text.into_bytes()));
            texts.chain([Raw::Blob(bytes.to_vec())]).collect()
        }
        _ => return None,
    })
}
