//! What a plan found, listed as far as memory allows and counted in full.

use std::collections::BTreeMap;

use changeover_core::cutover::{Raw, Reason};
use changeover_core::{Json, Result, hex};
use serde::Serialize;

use crate::hazards::Treatment;

/// Bytes of a value that a finding shows.
const SAMPLE: usize = 64;

/// One thing that is not as it should be, or that is converted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the declared table; empty where it is about the store.
    pub table: String,
    /// The row: its values, texts in quotes, other bytes in hex; empty where it is about the table.
    pub key: String,
    /// The column of the old store; empty where it is about the row.
    pub column: String,
    /// Number of the hazard.
    pub hazard: u16,
    /// What was found, without the value.
    pub found: String,
    /// What a run does about it.
    pub treatment: Treatment,
    /// The first 64 bytes of the value, in hex; empty for null and where there is no value.
    pub sample_hex: String,
}

impl Finding {
    /// One JSON object of the fields' names, canonical.
    ///
    /// # Errors
    ///
    /// Never with the texts that a plan makes.
    pub fn to_json(&self) -> Result<Json> {
        Json::of(self)
    }
}

/// What findings are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// As of [`Finding`].
    pub table: String,
    /// As of [`Finding`].
    pub column: String,
    /// As of [`Finding`].
    pub hazard: u16,
    /// As of [`Finding`].
    pub treatment: Treatment,
}

/// Findings, at most so many of a group, all counted.
#[derive(Debug)]
pub(super) struct Findings {
    most: u64,
    pub(super) listed: Vec<Finding>,
    pub(super) counts: BTreeMap<Group, u64>,
}

impl Findings {
    pub(super) fn new(most: u32) -> Self {
        Self { most: most.into(), listed: Vec::new(), counts: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.count(&finding.table, &finding.column, finding.hazard, finding.treatment) {
            self.listed.push(finding);
        }
    }

    /// A value of a row; the texts are made only where it is listed.
    pub(super) fn row(
        &mut self,
        table: &str,
        key: &[Raw],
        reason: &Reason,
        treatment: Treatment,
        value: Option<&Raw>,
    ) {
        if self.count(table, &reason.column, reason.hazard, treatment) {
            self.listed.push(Finding {
                table: table.to_owned(),
                key: shown(key),
                column: reason.column.clone(),
                hazard: reason.hazard,
                found: reason.problem.clone(),
                treatment,
                sample_hex: value.map(sample).unwrap_or_default(),
            });
        }
    }

    /// Counts it; whether it is to be listed.
    fn count(&mut self, table: &str, column: &str, hazard: u16, treatment: Treatment) -> bool {
        let group = Group { table: table.to_owned(), column: column.to_owned(), hazard, treatment };
        let count = self.counts.entry(group).or_default();
        *count += 1;
        *count <= self.most
    }
}

/// A key for people: enough to find the row.
pub(super) fn shown(key: &[Raw]) -> String {
    let one = |raw: &Raw| match raw {
        Raw::Null => "null".to_owned(),
        Raw::Integer(number) => number.to_string(),
        Raw::Real(number) => format!("{number:?}"),
        Raw::Text(bytes) => {
            std::str::from_utf8(bytes).map_or_else(|_| literal(bytes), |text| format!("{text:?}"))
        }
        Raw::Blob(bytes) => literal(bytes),
    };
    key.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn literal(bytes: &[u8]) -> String {
    format!("x'{}'", hex(bytes))
}

fn sample(raw: &Raw) -> String {
    match raw {
        Raw::Null => String::new(),
        Raw::Integer(number) => hex(number.to_string().as_bytes()),
        Raw::Real(number) => hex(format!("{number:?}").as_bytes()),
        Raw::Text(bytes) | Raw::Blob(bytes) => hex(&bytes[..bytes.len().min(SAMPLE)]),
    }
}
