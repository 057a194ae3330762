//! Following: rows whose keys were captured are read again as they are now, and stored so.

use std::collections::{BTreeMap, HashSet};

use changeover_core::cutover::{ChunkDone, RawKey};
use changeover_core::{Error, ErrorKind, Result};

use super::Step;
use super::batch::{Batch, Destination, send};
use super::fail;
use super::session::Session;

/// Captured changes taken at once.
const TAKEN: u32 = 2_000;

impl Session<'_> {
    /// Applies what was captured, one batch of it; how many changes are left.
    pub(super) async fn follow(&mut self) -> Result<u64> {
        self.follow_by(TAKEN).await
    }

    /// The same in batches of another size.
    pub(super) async fn follow_by(&mut self, limit: u32) -> Result<u64> {
        let dirty = self.source().dirty(self.applied, limit).await?;
        if dirty.last_seq < self.applied {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "the file has captured changes up to {}, changes up to {} were applied already: an older copy of it was put \
                     back; find the newest, or abort the run",
                    dirty.last_seq, self.applied
                ),
            ));
        }
        let upto = match dirty.keys.last() {
            Some(last) if dirty.keys.len() >= limit as usize => last.seq,
            _ => dirty.last_seq,
        };
        if upto == self.applied {
            return Ok(0);
        }
        let mut keys: BTreeMap<usize, Vec<RawKey>> = BTreeMap::new();
        for key in dirty.keys {
            let table = self.tables().iter().position(|table| table.name == key.table).ok_or_else(|| {
                Error::new(
                    ErrorKind::Corrupt,
                    format!("the capture names table {:?}, which the run does not have; abort it", key.table),
                )
            })?;
            keys.entry(table).or_default().push(key.key);
        }
        let mut rows = Vec::new();
        for (table, keys) in keys {
            let keys = self.with_spellings(table, keys);
            rows.extend(self.read(table, keys).await?);
        }
        fail::point("follow.read").await;
        let mut batch = Batch::new(self, rows, &self.twins);
        self.apply(&mut batch, upto).await?;
        self.twins.extend(batch.twins(self));
        self.applied = upto;
        let left = u64::try_from(dirty.last_seq - upto).unwrap_or(0);
        self.say(&Step::Followed { left });
        fail::point("follow.applied").await;
        self.trim().await?;
        Ok(left)
    }

    /// Follows until at most `lag` changes are left.
    pub(super) async fn catch_up(&mut self, lag: u64) -> Result<()> {
        while self.follow().await? > lag {}
        Ok(())
    }

    /// Stores a batch as what has become of its rows.
    pub(super) async fn apply(&self, batch: &mut Batch, upto: i64) -> Result<()> {
        match send(self, batch, Destination::Changes(upto)).await? {
            ChunkDone::Repeated => Err(Error::new(
                ErrorKind::Contention,
                "captured changes were applied before: the reply was lost, or another coordinator is at work",
            )),
            _ => Ok(()),
        }
    }

    /// Keys, each once, with the other spellings of the ids in them: of two rows that differ in those alone only one has a
    /// place in the new store, so they are looked at together.
    pub(super) fn with_spellings(&self, table: usize, keys: Vec<RawKey>) -> Vec<RawKey> {
        let mut seen = HashSet::new();
        let mut all = Vec::with_capacity(keys.len());
        for key in keys {
            let others = match self.converter.key(table, &key) {
                Ok(values) if self.tables()[table].goes_back => {
                    self.converter.spellings(table, &values).unwrap_or_default()
                }
                _ => Vec::new(),
            };
            for key in std::iter::once(key).chain(others) {
                if seen.insert(raw_bytes(&key)) {
                    all.push(key);
                }
            }
        }
        all
    }

    /// Forgets what is applied and was compared.
    async fn trim(&self) -> Result<()> {
        let upto = self.proof.as_ref().map_or(self.applied, |proof| proof.since.min(self.applied));
        // Changes since the comparison began are its last part; before there is one nothing else needs them.
        if self.phase == crate::phase::Phase::CatchingUp && upto > 0 {
            self.source().trim(upto).await?;
        }
        Ok(())
    }
}

/// Table and key as bytes that are equal exactly if both are.
pub(super) fn name_of(table: &str, key: &[changeover_core::cutover::Raw]) -> Vec<u8> {
    let mut name = table.as_bytes().to_vec();
    name.push(0);
    name.extend(raw_bytes(key));
    name
}

/// A raw key as bytes that are equal exactly if storage classes and bytes are.
fn raw_bytes(key: &[changeover_core::cutover::Raw]) -> Vec<u8> {
    use changeover_core::cutover::Raw;
    let mut all = Vec::new();
    for value in key {
        let content: Vec<u8> = match value {
            Raw::Null => Vec::new(),
            Raw::Integer(it) => it.to_be_bytes().to_vec(),
            Raw::Real(it) => it.to_bits().to_be_bytes().to_vec(),
            Raw::Text(it) | Raw::Blob(it) => it.clone(),
        };
        all.extend(value.class().as_bytes());
        all.extend((content.len() as u64).to_be_bytes());
        all.extend(content);
    }
    all
}
