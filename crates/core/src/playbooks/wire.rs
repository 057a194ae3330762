//! Playbooks as JSON Lines: one object a version, its keys the names of the columns.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::values::{Embedding, NewPlaybook, Playbook, PlaybookVersion, Rate, Status};
use crate::error::{Error, Result};
use crate::text::Text;
use crate::time::Timestamp;

/// What only the store knows of a version, not who writes it.
const OF_THE_STORE: [&str; 9] = [
    "disabled_at",
    "disabled_by",
    "disabled_reason",
    "deprecation_notice",
    "actual_success_rate",
    "total_executions",
    "successful_executions",
    "updated_at",
    "updated_by",
];

impl NewPlaybook {
    /// The version as one line of JSON: an object of its 21 columns by their names, sorted; absent is null, times are
    /// RFC 3339 in UTC with six decimals, the vector an array of numbers. Text and not [`Json`](crate::Json), since a
    /// playbook may be larger than that allows.
    pub fn to_json(&self) -> String {
        object(&self.columns())
    }

    /// Reads what [`NewPlaybook::to_json`] writes. A column that is left out is null; `labels` is then empty, `status`
    /// active, `is_latest_version` false. Numbers of the vector are read to the nearest single-precision number.
    ///
    /// # Errors
    /// `Invalid`, naming the column, for a missing, unknown or wrongly typed one. The rules of [`NewPlaybook::validate`]
    /// are asked by whoever stores it.
    pub fn from_json(text: impl AsRef<str>) -> Result<Self> {
        let mut columns = Columns::read(text.as_ref())?;
        let playbook = Self::take(&mut columns)?;
        columns.finish()?;
        Ok(playbook)
    }

    fn columns(&self) -> BTreeMap<&'static str, String> {
        let rate = self.expected_success_rate;
        BTreeMap::from([
            ("playbook_id", json(&self.playbook_id)),
            ("version", json(&self.version)),
            ("name", json(&self.name)),
            ("description", json(&self.description)),
            ("owner", json(&self.owner)),
            ("maintainer", json(&self.maintainer)),
            ("content", json(&self.content)),
            ("content_hash", json(&self.content_hash)),
            ("labels", json(&self.labels)),
            ("embedding", json(&self.embedding.as_ref().map(Embedding::as_slice))),
            ("status", json(&self.status)),
            ("is_latest_version", json(&self.is_latest)),
            ("previous_version", json(&self.previous_version)),
            ("version_notes", json(&self.version_notes)),
            ("change_summary", json(&self.change_summary)),
            ("approved_by", json(&self.approved_by)),
            ("approved_at", json(&self.approved_at)),
            ("expected_success_rate", rate.map_or_else(|| "null".to_owned(), |rate| rate.to_string())),
            ("expected_duration_seconds", json(&self.expected_duration_seconds)),
            ("created_at", json(&self.created_at)),
            ("created_by", json(&self.created_by)),
        ])
    }

    fn take(columns: &mut Columns) -> Result<Self> {
        Ok(Self {
            playbook_id: columns.needed("playbook_id", Columns::text)?,
            version: columns.needed("version", Columns::version)?,
            name: columns.needed("name", Columns::text)?,
            description: columns.needed("description", Columns::string)?,
            owner: columns.text("owner")?,
            maintainer: columns.text("maintainer")?,
            content: columns.needed("content", Columns::string)?,
            content_hash: columns.string("content_hash")?,
            labels: columns.typed("labels", "an object of texts")?.unwrap_or_default(),
            embedding: columns.embedding("embedding")?,
            status: columns.status("status")?.unwrap_or(Status::Active),
            is_latest: columns.typed("is_latest_version", "true or false")?.unwrap_or(false),
            previous_version: columns.version("previous_version")?,
            version_notes: columns.string("version_notes")?,
            change_summary: columns.string("change_summary")?,
            approved_by: columns.text("approved_by")?,
            approved_at: columns.time("approved_at")?,
            expected_success_rate: columns.rate("expected_success_rate")?,
            expected_duration_seconds: columns
                .typed("expected_duration_seconds", "a whole number of seconds")?,
            created_at: columns.time("created_at")?,
            created_by: columns.text("created_by")?,
        })
    }
}

impl Playbook {
    /// The stored version as one line of JSON, as [`NewPlaybook::to_json`] with all 30 columns.
    pub fn to_json(&self) -> String {
        let (at, by, reason) = match &self.disabled {
            Some((at, by, reason)) => (Some(at), by.as_ref(), reason.as_ref()),
            None => (None, None, None),
        };
        let rate = self.actual_success_rate;
        let mut columns = self.playbook.columns();
        columns.extend([
            ("disabled_at", json(&at)),
            ("disabled_by", json(&by)),
            ("disabled_reason", json(&reason)),
            ("deprecation_notice", json(&self.deprecation_notice)),
            ("actual_success_rate", rate.map_or_else(|| "null".to_owned(), |rate| rate.to_string())),
            ("total_executions", json(&self.total_executions)),
            ("successful_executions", json(&self.successful_executions)),
            ("created_at", json(&self.created_at)),
            ("updated_at", json(&self.updated_at)),
            ("updated_by", json(&self.updated_by)),
        ]);
        object(&columns)
    }

    /// Reads what [`Playbook::to_json`] writes: `created_at`, `updated_at` and both counts must be there.
    ///
    /// # Errors
    /// As [`NewPlaybook::from_json`].
    pub fn from_json(text: impl AsRef<str>) -> Result<Self> {
        let mut columns = Columns::read(text.as_ref())?;
        let playbook = NewPlaybook::take(&mut columns)?;
        let (at, by) = (columns.time("disabled_at")?, columns.text("disabled_by")?);
        let reason = columns.string("disabled_reason")?;
        if at.is_none() && (by.is_some() || reason.is_some()) {
            let problem = "it must be there where disabled_by or disabled_reason is";
            return Err(refuse("disabled_at", problem));
        }
        let stored = Self {
            created_at: playbook.created_at.ok_or_else(|| refuse("created_at", "it is missing"))?,
            disabled: at.map(|at| (at, by, reason)),
            deprecation_notice: columns.string("deprecation_notice")?,
            actual_success_rate: columns.rate("actual_success_rate")?,
            total_executions: columns.needed("total_executions", Columns::count)?,
            successful_executions: columns.needed("successful_executions", Columns::count)?,
            updated_at: columns.needed("updated_at", Columns::time)?,
            updated_by: columns.text("updated_by")?,
            playbook,
        };
        columns.finish()?;
        Ok(stored)
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    // Cannot fail: texts, whole numbers, finite numbers and maps with keys of text.
    serde_json::to_string(value).expect("plain values are JSON")
}

fn object(columns: &BTreeMap<&'static str, String>) -> String {
    let members: Vec<_> = columns.iter().map(|(column, value)| format!("\"{column}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

fn refuse(column: &str, problem: &str) -> Error {
    Error::invalid(format!("column {column}: {problem}"))
}

/// The columns of a line that nobody has taken yet.
struct Columns(BTreeMap<String, Box<RawValue>>);

impl Columns {
    fn read(text: &str) -> Result<Self> {
        serde_json::from_str(text).map(Self).map_err(|error| {
            // Serde's message may quote a value; its place in the text does not.
            Error::invalid(format!(
                "the line is not a JSON object (at column {} of its text)",
                error.column()
            ))
        })
    }

    /// `None` if it is left out or null; `expected` is what may stand there.
    fn typed<T: DeserializeOwned>(&mut self, column: &str, expected: &str) -> Result<Option<T>> {
        let Some(raw) = self.0.remove(column) else { return Ok(None) };
        serde_json::from_str(raw.get()).map_err(|_| refuse(column, &format!("it is not {expected}")))
    }

    fn needed<T>(&mut self, column: &str, get: fn(&mut Self, &str) -> Result<Option<T>>) -> Result<T> {
        get(self, column)?.ok_or_else(|| refuse(column, "it is missing"))
    }

    fn string(&mut self, column: &str) -> Result<Option<String>> {
        self.typed(column, "text")
    }

    fn text<const MAX: usize>(&mut self, column: &str) -> Result<Option<Text<MAX>>> {
        self.string(column)?.map(|text| Text::new(column, text)).transpose()
    }

    /// Text that `read` makes a value of.
    fn parsed<T>(&mut self, column: &str, read: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
        let text = self.string(column)?;
        text.map(|text| read(&text).map_err(|error| refuse(column, error.message()))).transpose()
    }

    fn version(&mut self, column: &str) -> Result<Option<PlaybookVersion>> {
        self.parsed(column, |text| PlaybookVersion::new(text))
    }

    fn status(&mut self, column: &str) -> Result<Option<Status>> {
        self.parsed(column, str::parse)
    }

    fn time(&mut self, column: &str) -> Result<Option<Timestamp>> {
        self.parsed(column, Timestamp::parse)
    }

    fn count(&mut self, column: &str) -> Result<Option<u64>> {
        self.typed(column, "a whole number from 0")
    }

    /// By its digits, so that nothing is rounded.
    fn rate(&mut self, column: &str) -> Result<Option<Rate>> {
        let Some(raw) = self.typed::<Box<RawValue>>(column, "a number")? else { return Ok(None) };
        if raw.get() == "null" {
            return Ok(None);
        }
        raw.get().parse().map(Some).map_err(|error: Error| refuse(column, error.message()))
    }

    fn embedding(&mut self, column: &str) -> Result<Option<Embedding>> {
        let Some(raws) = self.typed::<Vec<Box<RawValue>>>(column, "an array of numbers")? else {
            return Ok(None);
        };
        // By its digits: through double precision a number could be rounded twice.
        let numbers = raws.iter().map(|raw| raw.get().parse::<f32>());
        let numbers: Vec<f32> =
            numbers.collect::<Result<_, _>>().map_err(|_| refuse(column, "it is not an array of numbers"))?;
        Embedding::new(numbers).map(Some).map_err(|error| refuse(column, error.message()))
    }

    fn finish(self) -> Result<()> {
        let Some(column) = self.0.into_keys().next() else { return Ok(()) };
        let problem = if OF_THE_STORE.contains(&column.as_str()) {
            "it is given by the store; leave it out"
        } else {
            "there is no such column"
        };
        Err(refuse(&column, problem))
    }
}

#[cfg(test)]
pub(crate) mod tests;
