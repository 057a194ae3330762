//! Drills: what one leaves in the record of the real new store, and the demand for it before a run.

use std::collections::BTreeSet;
use std::time::Duration;

use changeover_core::cutover::Recorded;
use changeover_core::{Error, Json, Result, Uuid};
use serde::{Deserialize, Serialize};

use super::Cutover;
use super::terms::Terms;
use crate::plan;

/// The word of a drill in the record.
const DRILLED: &str = "drilled";

/// What came of a drill: the facts of its entry in the record. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drilled {
    /// As of [`plan::fingerprint`]: of the file that was copied, and the declarations.
    pub fingerprint: Json,
    /// Names of the losses that were accepted.
    pub accepted: Vec<String>,
    /// So many rows were allowed to stay out.
    pub max_quarantined: u64,
    /// The tenant of rows that have none.
    pub tenant: String,
    /// Where the real file is.
    pub file: String,
    /// Bytes that were copied of it.
    pub bytes: u64,
    /// The tables of the file.
    pub tables: Vec<DrilledTable>,
    /// Rows that stayed out.
    pub quarantined: u64,
    /// Rows that were written to the new side and went back into the file.
    pub written_back: u64,
    /// Making the copy of the file.
    pub clone_ms: u64,
    /// Copying its rows.
    pub copy_ms: u64,
    /// Following and comparing them before the fence.
    pub compare_ms: u64,
    /// The longest pause of the writers for a switch.
    pub pause_ms: u64,
    /// The same of the revert.
    pub revert_pause_ms: u64,
    /// Data root of the file as it was copied, in hex.
    pub source_root: String,
    /// Where it was moved to.
    pub scratch: String,
}

/// A table that was drilled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrilledTable {
    /// Name of its declaration.
    pub name: String,
    /// Its rows.
    pub rows: u64,
}

impl Drilled {
    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

impl Cutover {
    /// Appends the entry of a drill with this id to the record of the module; its number. Nothing else is changed.
    ///
    /// # Errors
    ///
    /// `SchemaMismatch` if the new store has no record yet; those of the store.
    pub async fn record_drill(&self, drill: Uuid, drilled: &Drilled) -> Result<i64> {
        let facts = serde_json::to_value(drilled)
            .map_err(|error| Error::invalid(format!("a drill cannot be written as JSON: {error}")))?;
        self.target.record_drill(drill, self.entry(DRILLED, &facts)?).await
    }

    /// Refuses to begin without a drill that was of the same and is young enough.
    pub(super) async fn demand_drill(&self, terms: &Terms, fingerprint: &Json) -> Result<()> {
        let Some(within) = terms.drill_within else { return Ok(()) };
        let now = self.target.now().await?;
        let record = self.record(None).await?;
        let mut why = "there was none".to_owned();
        for entry in record.iter().filter(|it| it.entry.what == DRILLED) {
            let age = Duration::from_micros(
                u64::try_from(now.as_micros().saturating_sub(entry.at.as_micros())).unwrap_or(0),
            );
            match unlike(entry, terms, fingerprint)? {
                Some(unlike) => why = format!("the one of {} was of another: {unlike}", entry.at),
                None if age < within => return Ok(()),
                None => why = format!("the last of this one, of {}, is older", entry.at),
            }
        }
        let accept = terms.accepted.names();
        let accept =
            if accept.is_empty() { String::new() } else { format!(" --accept {}", accept.join(",")) };
        let module = &self.module;
        Err(Error::invalid(format!(
            "a run of module {module} is begun only after a drill that is younger than {} (cutover.drill_within), and {why}; nothing \
             was touched: changeover cutover drill {module}{accept}, with --old, --new and --tables as here",
            shown(within)
        )))
    }
}

/// What a drill was of that this run is not.
fn unlike(entry: &Recorded, terms: &Terms, fingerprint: &Json) -> Result<Option<String>> {
    let Ok(drilled) = entry.entry.facts.to::<Drilled>() else {
        return Ok(Some("another program made it".to_owned()));
    };
    let mut all = plan::differences(&drilled.fingerprint, fingerprint)?;
    let names = |names: &BTreeSet<&str>| match names.len() {
        0 => "nothing".to_owned(),
        _ => names.iter().copied().collect::<Vec<_>>().join(", "),
    };
    let was: BTreeSet<&str> = drilled.accepted.iter().map(String::as_str).collect();
    let is: BTreeSet<&str> = terms.accepted.names().into_iter().collect();
    if drilled.tenant != terms.tenant.as_str() {
        all.push(format!("it was for the tenant {}, this one is for {}", drilled.tenant, terms.tenant));
    }
    if was != is {
        all.push(format!("it accepted the loss of {}, this one accepts {}", names(&was), names(&is)));
    }
    Ok((!all.is_empty()).then(|| all.join("; ")))
}

/// In the largest unit that fits.
fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let fitting = units.into_iter().find(|(size, _)| seconds >= *size && seconds.is_multiple_of(*size));
    fitting.map_or_else(|| format!("{time:?}"), |(size, unit)| format!("{}{unit}", seconds / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_they_are_set() {
        let told = [604_800, 43_200, 5_400, 61, 0].map(|seconds| shown(Duration::from_secs(seconds)));
        assert_eq!(told, ["7d", "12h", "90m", "61s", "0ns"]);
    }
}
