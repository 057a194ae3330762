//! What a manifest holds, and how it is made and read.

use changeover_core::cutover::{Recorded, Run};
use changeover_core::{Error, ErrorKind, Json, Result, Timestamp, Uuid, sha256_hex};
use serde::{Deserialize, Serialize};

use super::out::{OutRow, quarantine};
use crate::Cutover;

/// The word by which a manifest of this form is known.
pub const FORMAT: &str = "changeover-cutover-manifest/1";

/// The largest manifest that is read, bytes.
const MAX_BYTES: usize = 1 << 30;

/// The evidence of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// SHA-256, in hex, of the manifest as compact JSON with this field empty.
    pub digest: String,
    /// The module.
    pub module: String,
    /// The run that it is about.
    pub run: Uuid,
    /// When it was made.
    pub made_at: Timestamp,
    /// What the run was made under; `None` for a run that is not the module's last.
    pub terms: Option<Terms>,
    /// Where the module stood, as `cutover status` tells it.
    pub status: Json,
    /// Rows that stayed out of the new store, or were repaired; those of the last run only.
    pub quarantine: Option<Vec<OutRow>>,
    /// The record of the module, from its first entry on.
    pub record: Vec<Word>,
}

/// What a run was made under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The declarations, complete.
    pub declarations: Json,
    /// What was accepted and allowed.
    pub accepted: Json,
    /// What the file was at its beginning.
    pub fingerprint: Json,
    /// The tenant of rows that have none.
    pub tenant: String,
    /// Identity of the file.
    pub nonce: Uuid,
    /// Where the file was.
    pub file: String,
}

/// An entry of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// As of [`Recorded`].
    pub number: i64,
    /// As of [`Recorded`].
    pub run: Uuid,
    /// As of [`Recorded`].
    pub at: Timestamp,
    /// What happened.
    pub what: String,
    /// Who did it.
    pub who: String,
    /// Facts, an object.
    pub facts: Json,
    /// As of [`Recorded`].
    pub previous: String,
    /// As of [`Recorded`].
    pub hash: String,
}

impl From<Recorded> for Word {
    fn from(it: Recorded) -> Self {
        let Recorded { number, run, at, entry, previous, hash } = it;
        Self { number, run, at, what: entry.what, who: entry.who, facts: entry.facts, previous, hash }
    }
}

/// The facts of a comparison: of an entry `sealed` or `frozen`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Proved {
    /// Whether every row was compared behind the fence; else those that had changed since the comparison before it.
    #[serde(default)]
    pub whole: bool,
    /// Data root of the old store, in hex.
    pub source_root: Option<String>,
    /// Data root of the new store, in hex.
    pub target_root: Option<String>,
    /// By table.
    pub tables: Vec<ProvedTable>,
}

/// One table of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ProvedTable {
    /// The table of the new store.
    pub target: String,
    /// Rows of the old store.
    pub source_rows: u64,
    /// Rows of the new store.
    pub target_rows: Option<u64>,
    /// Rows that stay out.
    pub quarantined: u64,
    /// Rows whose repaired values are in the new store.
    #[serde(default)]
    pub repaired: u64,
    /// Root over the rows of the old store, in hex.
    pub source_root: Option<String>,
    /// Root over the rows of the new store, in hex.
    pub target_root: Option<String>,
}

impl Manifest {
    /// Of the module's last run, or of an earlier one.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such run; those of the stores.
    pub async fn of(cutover: &Cutover, run: Option<Uuid>) -> Result<Self> {
        let last = cutover.last_run().await?;
        let id = run.unwrap_or(last.run);
        let record: Vec<Word> = cutover.record(None).await?.into_iter().map(Word::from).collect();
        if !record.iter().any(|entry| entry.run == id && entry.what != "drilled") {
            let runs = record.iter().filter(|entry| entry.what != "drilled");
            let mut runs: Vec<_> = runs.map(|entry| entry.run.to_string()).collect();
            runs.dedup();
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("module {} had no run {id}; its runs are {}", cutover.module(), runs.join(", ")),
            ));
        }
        let is_last = id == last.run;
        let mut manifest = Self {
            format: FORMAT.to_owned(),
            digest: String::new(),
            module: cutover.module().to_owned(),
            run: id,
            made_at: Timestamp::now(),
            status: Json::of(&cutover.status().await?.to_json())?,
            terms: is_last.then(|| Terms::of(last)),
            quarantine: if is_last { Some(quarantine(cutover).await?) } else { None },
            record,
        };
        manifest.digest = manifest.computed_digest()?;
        Ok(manifest)
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// `Invalid` for anything that is not a manifest of this form.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_BYTES {
            return Err(Error::invalid(format!("it has {} bytes, at most {MAX_BYTES} are read", text.len())));
        }
        let manifest: Self = serde_json::from_str(text)
            .map_err(|error| Error::invalid(format!("it is no manifest: {error}")))?;
        if manifest.format != FORMAT {
            return Err(Error::invalid(format!(
                "its format is {:?}, allowed is {FORMAT:?}",
                manifest.format
            )));
        }
        Ok(manifest)
    }

    /// As a file: JSON, indented.
    ///
    /// # Errors
    ///
    /// Never with what a record holds.
    pub fn to_text(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).map_err(|error| unwritable(&error))?;
        text.push('\n');
        Ok(text)
    }

    /// What [`Manifest::digest`] has to be.
    ///
    /// # Errors
    ///
    /// Never with what a record holds.
    pub fn computed_digest(&self) -> Result<String> {
        let bare = Self { digest: String::new(), ..self.clone() };
        let text = serde_json::to_vec(&bare).map_err(|error| unwritable(&error))?;
        Ok(sha256_hex(&text))
    }

    /// The entries of its run.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Word> {
        self.record.iter().filter(|entry| entry.run == self.run)
    }

    /// The last entry of its run with a word.
    pub fn last(&self, what: &str) -> Option<&Word> {
        self.entries().rev().find(|entry| entry.what == what)
    }

    /// The entry of the last comparison behind the fence; `None` if the file was opened again after it.
    pub fn sealed(&self) -> Option<&Word> {
        self.entries()
            .rev()
            .find(|entry| matches!(&*entry.what, "sealed" | "unfenced"))
            .filter(|entry| entry.what == "sealed")
    }

    /// What the frozen file held.
    pub fn frozen(&self) -> Option<Proved> {
        self.last("frozen")?.facts.to().ok()
    }
}

fn unwritable(error: &serde_json::Error) -> Error {
    Error::invalid(format!("the manifest cannot be written as JSON: {error}"))
}

impl Terms {
    fn of(run: Run) -> Self {
        Self {
            declarations: run.declarations,
            accepted: run.terms,
            fingerprint: run.fingerprint,
            tenant: run.tenant.to_string(),
            nonce: run.nonce,
            file: run.place,
        }
    }
}
