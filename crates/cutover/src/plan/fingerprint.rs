//! What has to stay as it is between a plan and a run, and while a run is under way.

use changeover_core::cutover::{SourceFacts, Table, TargetFacts};
use changeover_core::{Json, Result};
use serde_json::{Map, Value, json};

use crate::declare;

/// Schema, encoding and log of the old store, and the declarations: what ordinary writes do not change.
///
/// # Errors
///
/// As of [`declare::to_json`].
pub fn fingerprint(tables: &[Table], facts: &SourceFacts) -> Result<Json> {
    Json::of(&json!({
        "declarations": declare::fingerprint(tables)?,
        "encoding": facts.encoding,
        "log": facts.log.as_ref().map(ToString::to_string),
        "schema": facts.schema_digest,
    }))
}

/// Columns and constraints of the new store, one text each, sorted: what nobody may change while a run is under way.
pub(crate) fn of_target(target: &TargetFacts) -> Vec<String> {
    let mut all = Vec::new();
    for table in &target.tables {
        let with = |is: bool, what: &'static str| if is { what } else { "" };
        all.extend(table.columns.iter().map(|it| {
            format!(
                "column {} of table {}, {}{}{}{}",
                it.name,
                table.name,
                it.type_name,
                with(it.not_null, " not null"),
                with(it.has_default, " with a default"),
                with(it.generated, " generated"),
            )
        }));
        all.extend(table.constraints.iter().map(|it| format!("constraint of table {}: {it}", table.name)));
    }
    all.sort();
    all.dedup();
    all
}

/// How the fingerprint of an earlier plan differs from one of now: one text for each part, none if it still fits.
///
/// # Errors
///
/// `Invalid` if either is not a JSON object.
pub fn differences(earlier: &Json, now: &Json) -> Result<Vec<String>> {
    let (earlier, now): (Map<String, Value>, Map<String, Value>) = (earlier.to()?, now.to()?);
    let mut names: Vec<_> = earlier.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    let differ = names.into_iter().filter(|name| earlier.get(*name) != now.get(*name));
    Ok(differ
        .map(|name| format!("{name} was {}, is {}", shown(earlier.get(name)), shown(now.get(name))))
        .collect())
}
