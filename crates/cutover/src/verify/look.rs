//! Single rows: which fields differ, and whether what was suspect is wrong.

use std::collections::BTreeSet;

use changeover_core::cutover::{Raw, RawKey, Type};
use changeover_core::{Result, hex};

use super::canon::Canon;
use super::excused::Excused;
use super::finding::{ChangedKey, Kind, Mismatch, Suspect};
use super::relation::Relation;
use super::stream::Entry;
use super::walk::{Difference, as_key, decode};
use super::{Excuse, Verifier};

/// Keys that are looked up at once.
const AT_ONCE: usize = 500;

/// A key of the new store, and the rows of the old one that may have come to it: part and declared key.
struct Sought {
    key: Vec<Canon>,
    rows: Vec<(usize, RawKey)>,
}

impl Sought {
    fn suspect(relation: &Relation, suspect: &Suspect) -> Self {
        let seen = suspect.rows.iter();
        let mut rows: Vec<_> =
            seen.filter_map(|(table, key)| Some((part_of(relation, table)?, key.raw()))).collect();
        rows.extend(candidates(relation, &suspect.key));
        Self { key: suspect.key.clone(), rows }
    }
}

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
        for suspect in suspects {
            self.relation(&suspect.target)?;
        }
        let mut found = Vec::new();
        for suspects in suspects.chunks(AT_ONCE) {
            for relation in &self.relations {
                let of: Vec<_> = suspects.iter().filter(|it| it.target == relation.target).collect();
                let sought = of.iter().map(|suspect| Sought::suspect(relation, suspect)).collect();
                for (at, difference) in self.look_up(relation, sought, excused).await? {
                    let Some(difference) = self.scanned(relation, difference, excused).await? else {
                        continue;
                    };
                    found.push((of[at].clone(), self.judge(relation, &difference).await?));
                }
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
        Ok(self.differing_of(keys, excused).await?.into_iter().map(|(_, mismatch)| mismatch).collect())
    }

    /// As [`Verifier::changed`], each with the key that it is about: to look at those alone once more.
    ///
    /// # Errors
    ///
    /// Those of the witnesses.
    pub async fn differing_of(
        &self,
        keys: &[ChangedKey],
        excused: &dyn Excused,
    ) -> Result<Vec<(ChangedKey, Mismatch)>> {
        let mut found = Vec::new();
        for keys in keys.chunks(AT_ONCE) {
            for relation in &self.relations {
                let of =
                    keys.iter().filter_map(|it| Some((it, part_of(relation, &it.table)?, it.key.clone())));
                let of: Vec<_> = of.collect();
                let alone = of.iter().map(|(_, part, declared)| vec![(*part, declared.clone())]).collect();
                let (mut sought, mut about) = (Vec::new(), Vec::new());
                let entries = self.entries(relation, alone, excused).await?;
                for ((which, part, declared), entries) in of.into_iter().zip(entries) {
                    let key = match entries.first() {
                        Some(entry) if entry.row.key.is_some() => entry.row.key.clone(),
                        Some(entry) if entry.excuse.is_some() => None,
                        Some(_) => {
                            let difference = Difference { key: None, entries, found: 0 };
                            found.push((which.clone(), self.judge(relation, &difference).await?));
                            None
                        }
                        None => relation.parts[part].key_from_raw(&declared),
                    };
                    let Some(key) = key else { continue };
                    // Another row of the old store may have the key now.
                    let mut rows = vec![(part, declared)];
                    rows.extend(candidates(relation, &key));
                    sought.push(Sought { key, rows });
                    about.push(which);
                }
                for (at, difference) in self.look_up(relation, sought, excused).await? {
                    found.push((about[at].clone(), self.judge(relation, &difference).await?));
                }
            }
        }
        Ok(found)
    }

    /// The rows of the old store as they are now, for each of many; each row once.
    async fn entries(
        &self,
        relation: &Relation,
        rows: Vec<Vec<(usize, RawKey)>>,
        excused: &dyn Excused,
    ) -> Result<Vec<Vec<Entry>>> {
        let mut entries: Vec<Vec<Entry>> = rows.iter().map(|_| Vec::new()).collect();
        for (at, part) in relation.parts.iter().enumerate() {
            let of = rows.iter().enumerate().flat_map(|(for_which, rows)| {
                let here = rows.iter().filter(move |(part, _)| *part == at);
                here.map(move |(_, key)| (for_which, key.clone()))
            });
            let (for_which, keys): (Vec<usize>, Vec<RawKey>) = of.unzip();
            if keys.is_empty() {
                continue;
            }
            let seen = self.source.by_keys(&part.source, &part.key, &part.read, &keys).await?;
            let found = for_which.into_iter().zip(seen);
            let found: Vec<_> = found.filter_map(|(of, seen)| Some((of, part.expected(&seen?)))).collect();
            let declared: Vec<_> = found.iter().map(|(_, row)| row.declared.clone()).collect();
            let known = excused.which(&part.name, &declared).await?;
            for ((of, row), excuse) in found.into_iter().zip(known) {
                let here = &mut entries[of];
                if !here.iter().any(|entry| entry.part == at && entry.row.declared == row.declared) {
                    here.push(Entry { row, part: at, excuse });
                }
            }
        }
        Ok(entries)
    }

    /// Where the sides differ now, each with its place in `sought`.
    async fn look_up(
        &self,
        relation: &Relation,
        sought: Vec<Sought>,
        excused: &dyn Excused,
    ) -> Result<Vec<(usize, Difference)>> {
        if sought.is_empty() {
            return Ok(Vec::new());
        }
        let (keys, rows): (Vec<_>, Vec<_>) = sought.into_iter().map(|it| (it.key, it.rows)).unzip();
        let entries = self.entries(relation, rows, excused).await?;
        let found = self.in_target(relation, &keys).await?;
        let all = keys.into_iter().zip(entries).zip(found).enumerate();
        let differences = all.filter_map(|(at, ((key, mut entries), found))| {
            entries.retain(|entry| entry.row.key.as_ref() == Some(&key));
            Some((at, differs(key, entries, found)?))
        });
        Ok(differences.collect())
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
                    let sought = vec![Sought { key, rows: vec![(at, part.declared(seen))] }];
                    return Ok(self.look_up(relation, sought, excused).await?.pop().map(|(_, it)| it));
                }
            }
        }
        Ok(Some(difference))
    }

    async fn in_target(&self, relation: &Relation, keys: &[Vec<Canon>]) -> Result<Vec<Option<Vec<Canon>>>> {
        let (names, columns) = (relation.key_names(), relation.names());
        let keys: Vec<_> = keys.iter().map(|key| as_key(key)).collect();
        let rows = self.target.by_keys(&relation.target, &names, &columns, &keys).await?;
        rows.into_iter().map(|row| row.map(|row| decode(relation, row)).transpose()).collect()
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
        let declared = std::slice::from_ref(&entry.row.declared);
        let seen = self.source.by_keys(&part.source, &part.key, &part.read, declared).await?;
        let Some(old) = seen.into_iter().flatten().next().map(|seen| part.row(&seen)) else {
            return Ok((Vec::new(), Vec::new()));
        };
        let names = |which: &dyn Fn(usize) -> bool| {
            let columns = relation.columns.iter().enumerate().filter(|(at, _)| which(*at));
            columns.map(|(_, column)| column.name.clone()).collect::<Vec<_>>()
        };
        let not_allowed = names(&|at| old[at].is_bad());
        let new = match key {
            Some(key) if kind == Kind::Changed => {
                self.in_target(relation, &[key.to_vec()]).await?.into_iter().next().flatten()
            }
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

/// Whether the sides differ at a key, by what each of them has.
fn differs(key: Vec<Canon>, entries: Vec<Entry>, found: Option<Vec<Canon>>) -> Option<Difference> {
    let leaf = found.map(|row| super::relation::digest(&row));
    let live: Vec<_> = entries.iter().filter(|entry| entry.excuse.is_none()).collect();
    let repaired = entries.iter().any(|entry| entry.excuse == Some(Excuse::Repaired));
    let equal = match (live.as_slice(), leaf) {
        ([], None) => !repaired,
        ([], Some(_)) => repaired,
        ([one], Some(leaf)) => one.row.leaf == leaf,
        _ => false,
    };
    let found = usize::from(leaf.is_some());
    (!equal).then_some(Difference { key: Some(key), entries, found })
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
