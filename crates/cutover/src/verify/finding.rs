//! What a verification says: mismatches by key and field, never by value.

use changeover_core::cutover::RawKey;
use serde::{Deserialize, Serialize};

use super::canon::Canon;
use super::cursor::SavedKey;
use super::tree::{Digest, data_root};

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is not in the new store.
    Missing,
    /// It is in the new store only.
    Extra,
    /// Fields differ.
    Changed,
    /// It is in quarantine, and in the new store as well.
    NotOut,
    /// Its repaired values are not in the new store.
    RepairMissing,
    /// Several rows have one key: of the old store, or of the new one.
    Twice,
    /// Its key is none that the declaration allows, and it is not in quarantine.
    NoKey,
}

/// A row that is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// The table of the new store.
    pub target: String,
    /// Name of the declaration that the row belongs to; empty where only the new store has it.
    pub table: String,
    /// The key: names and values.
    pub key: Vec<(String, String)>,
    /// What is wrong.
    pub kind: Kind,
    /// Which fields differ.
    pub fields: Vec<String>,
    /// Fields of the old row that the declaration does not allow: it should be in quarantine.
    pub not_allowed: Vec<String>,
}

/// A row that differed while writers were on: it may have been changed between the two looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    /// The table of the new store.
    pub target: String,
    /// Its key there.
    pub(super) key: Vec<Canon>,
    /// The rows of the old store with that key: the declaration's name and the key, raw.
    pub(super) rows: Vec<(String, SavedKey)>,
}

/// What a table came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableVerified {
    /// The table of the new store.
    pub target: String,
    /// Rows of the old store.
    pub source_rows: u64,
    /// Rows of the new store.
    pub target_rows: u64,
    /// Rows of the old store in quarantine that stay out.
    pub quarantined: u64,
    /// Rows of the old store whose repaired values are in the new store.
    pub repaired: u64,
    /// Rows as the stores count them, at the end, if they were asked: old, new.
    pub counted: Option<(u64, u64)>,
    /// Root over the rows of the old store, without those in quarantine.
    pub source_root: Digest,
    /// Root over the rows of the new store, without the repaired ones.
    pub target_root: Digest,
}

impl TableVerified {
    /// Whether every row of the old store is accounted for, and the new store has no other.
    pub fn balances(&self) -> bool {
        self.source_rows == self.target_rows + self.quarantined
            && self.counted.is_none_or(|counted| counted == (self.source_rows, self.target_rows))
    }
}

/// What a verification came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// Each table that was walked to its end.
    pub tables: Vec<TableVerified>,
    /// What is wrong. While writers are on this stays empty: see `suspects`.
    pub mismatches: Vec<Mismatch>,
    /// What has to be looked at again, see [`Verifier::recheck`](super::Verifier::recheck).
    pub suspects: Vec<Suspect>,
    /// Rows that differ beyond those that are listed.
    pub unlisted: u64,
    /// Whether every table was walked to its end.
    pub finished: bool,
}

impl Verified {
    /// Whether the new store holds what it has to. Suspects are not judged.
    pub fn is_sound(&self) -> bool {
        self.finished
            && self.mismatches.is_empty()
            && self.unlisted == 0
            && self.tables.iter().all(|table| table.balances() && table.source_root == table.target_root)
    }

    /// The data root of the old store, without rows in quarantine.
    pub fn source_root(&self) -> Digest {
        data_root(self.tables.iter().map(|table| {
            (&*table.target, table.source_rows - table.quarantined - table.repaired, table.source_root)
        }))
    }

    /// The data root of the new store, without repaired rows.
    pub fn target_root(&self) -> Digest {
        data_root(self.tables.iter().map(|table| {
            (&*table.target, table.target_rows.saturating_sub(table.repaired), table.target_root)
        }))
    }
}

/// A captured key, for [`Verifier::changed`](super::Verifier::changed).
#[derive(Clone, Debug, PartialEq)]
pub struct ChangedKey {
    /// Name of the declaration.
    pub table: String,
    /// The declared key, raw.
    pub key: RawKey,
}
