//! How far a verification has come, so that it can be stored and gone on from.

use changeover_core::cutover::{Raw, RawKey};
use changeover_core::{Error, Json, Result};
use serde::{Deserialize, Serialize};

use super::canon::Canon;
use super::finding::Verified;
use super::tree::Tree;

/// A place between two chunks. It goes with the declarations that it was made under.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VerifyCursor {
    /// Digest of what was verified.
    pub(super) plan: String,
    /// The relation at work.
    pub(super) relation: usize,
    pub(super) walk: Walk,
    /// What was found so far.
    pub(super) so_far: Verified,
}

impl VerifyCursor {
    /// As a document.
    pub fn to_json(&self) -> Result<Json> {
        Json::of(self)
    }

    /// From a document. `Invalid` if it is none of a cursor.
    pub fn from_json(json: &Json) -> Result<Self> {
        json.to().map_err(|error| Error::invalid(format!("no cursor of a verification: {}", error.message())))
    }

    /// Rows of the old store that were looked at in the table at work.
    pub fn rows(&self) -> u64 {
        self.walk.source_rows
    }
}

/// The state of the walk over one relation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Walk {
    /// Everything up to this key was compared.
    pub(super) until: Option<Vec<Canon>>,
    pub(super) places: Vec<Place>,
    pub(super) source: Tree,
    pub(super) target: Tree,
    pub(super) source_rows: u64,
    pub(super) target_rows: u64,
    pub(super) quarantined: u64,
    pub(super) repaired: u64,
}

/// Where the reading of one old table stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Whether its order is not that of the keys, so that it is sorted in passes.
    pub(super) sorted: bool,
    /// Read up to this row.
    pub(super) after: Option<SavedKey>,
    /// Sorted up to this key.
    pub(super) floor: Option<Vec<Canon>>,
}

/// A raw key in a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedKey(Vec<SavedRaw>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum SavedRaw {
    Null,
    Integer(i64),
    /// Its bits.
    Real(u64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl SavedKey {
    pub(super) fn of(key: &[Raw]) -> Self {
        let saved = |raw: &Raw| match raw {
            Raw::Null => SavedRaw::Null,
            Raw::Integer(number) => SavedRaw::Integer(*number),
            Raw::Real(number) => SavedRaw::Real(number.to_bits()),
            Raw::Text(bytes) => SavedRaw::Text(bytes.clone()),
            Raw::Blob(bytes) => SavedRaw::Blob(bytes.clone()),
        };
        Self(key.iter().map(saved).collect())
    }

    pub(super) fn raw(&self) -> RawKey {
        let raw = |saved: &SavedRaw| match saved {
            SavedRaw::Null => Raw::Null,
            SavedRaw::Integer(number) => Raw::Integer(*number),
            SavedRaw::Real(bits) => Raw::Real(f64::from_bits(*bits)),
            SavedRaw::Text(bytes) => Raw::Text(bytes.clone()),
            SavedRaw::Blob(bytes) => Raw::Blob(bytes.clone()),
        };
        self.0.iter().map(raw).collect()
    }
}
