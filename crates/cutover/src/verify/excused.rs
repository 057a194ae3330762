//! Rows that stay out of the new store, and may.

use std::collections::HashMap;

use async_trait::async_trait;
use changeover_core::Result;
use changeover_core::cutover::{Raw, RawKey};
use sha2::{Digest as _, Sha256};

/// What quarantine says about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// It stays out: it must not be in the new store.
    Out,
    /// Somebody gave other values for it: a row with its key must be in the new store; its values are not those of the old.
    Repaired,
}

/// Who knows what is in quarantine.
#[async_trait]
pub trait Excused: Send + Sync {
    /// What quarantine says about the rows of a declared table with these keys (raw, in the order of the declared key), in
    /// the order of `keys`; `None` for a row that is not there.
    async fn which(&self, table: &str, keys: &[RawKey]) -> Result<Vec<Option<Excuse>>>;
}

/// Quarantine in memory: 33 bytes a row.
#[derive(Clone, Debug, Default)]
pub struct ExcusedKeys(HashMap<[u8; 32], Excuse>);

impl ExcusedKeys {
    /// Adds a row.
    pub fn insert(&mut self, table: &str, key: &[Raw], excuse: Excuse) {
        self.0.insert(name_of(table, key), excuse);
    }
}

#[async_trait]
impl Excused for ExcusedKeys {
    async fn which(&self, table: &str, keys: &[RawKey]) -> Result<Vec<Option<Excuse>>> {
        if self.0.is_empty() {
            return Ok(vec![None; keys.len()]);
        }
        Ok(keys.iter().map(|key| self.0.get(&name_of(table, key)).copied()).collect())
    }
}

/// Table and key by storage class and bytes.
fn name_of(table: &str, key: &[Raw]) -> [u8; 32] {
    let mut hash = Sha256::new().chain_update(table).chain_update([0]);
    for value in key {
        hash.update(value.class());
        match value {
            Raw::Null => hash.update([0; 8]),
            Raw::Integer(number) => hash.update(number.to_be_bytes()),
            Raw::Real(number) => hash.update(number.to_bits().to_be_bytes()),
            Raw::Text(bytes) | Raw::Blob(bytes) => {
                hash.update((bytes.len() as u64).to_be_bytes());
                hash.update(bytes);
            }
        }
    }
    hash.finalize().into()
}
