//! A row as a version of a playbook, or what is wrong with it.

use std::collections::BTreeMap;
use std::str::FromStr;

use changeover_core::playbooks::{Embedding, NewPlaybook, Playbook, PlaybookVersion, Rate};
use changeover_core::{Error, Result, Text, Timestamp};

use super::statements::{COLUMNS, OTHERS};
use crate::sql::{Cell, Row};
use crate::values::Reader;

pub(super) const TABLE: &str = "playbook_catalog";

/// How a version is named in an error: its playbook and version, as far as they are text.
pub(super) fn key_of(row: &Row, playbook: usize, version: usize) -> String {
    let text = |index: usize| row.cell(index).as_str().filter(|text| text.len() <= 255).unwrap_or("?");
    format!("{} {}", text(playbook), text(version))
}

/// The version of a row of [`COLUMNS`].
pub(super) fn playbook(row: &Row) -> Result<Playbook> {
    let key = key_of(row, 0, 1);
    let read = Columns(Reader { table: TABLE, row, key: &key });
    let new = NewPlaybook {
        playbook_id: read.text("playbook_id")?,
        version: read.version("version")?,
        name: read.text("name")?,
        description: read.str("description")?,
        owner: read.optional("owner", Columns::text)?,
        maintainer: read.optional("maintainer", Columns::text)?,
        content: read.str("content")?,
        content_hash: Some(read.str("content_hash")?),
        labels: labels(&read.0, at("labels"))?,
        embedding: read.optional("embedding", |read, column| embedding(&read.0, at(column)))?,
        status: read.word("status")?,
        is_latest: is_latest(&read.0, at("is_latest_version"), OTHERS)?,
        previous_version: read.optional("previous_version", Columns::version)?,
        version_notes: read.optional("version_notes", Columns::str)?,
        change_summary: read.optional("change_summary", Columns::str)?,
        approved_by: read.optional("approved_by", Columns::text)?,
        approved_at: read.optional("approved_at", Columns::time)?,
        expected_success_rate: read.optional("expected_success_rate", Columns::rate)?,
        expected_duration_seconds: read.optional("expected_duration_seconds", Columns::seconds)?,
        created_at: Some(read.time("created_at")?),
        created_by: read.optional("created_by", Columns::text)?,
    };
    if let Err(error) = new.validate() {
        // The message names the field, and no value but the key of a label.
        let column = ["content_hash", "content", "description", "version_notes", "change_summary"];
        let column =
            column.into_iter().find(|column| error.message().starts_with(column)).unwrap_or("labels");
        return Err(read.corrupt(column, error.message()));
    }
    let stored = Playbook {
        disabled: disabled(&read)?,
        deprecation_notice: read.optional("deprecation_notice", Columns::long)?,
        actual_success_rate: read.optional("actual_success_rate", Columns::rate)?,
        total_executions: read.count("total_executions")?,
        successful_executions: read.count("successful_executions")?,
        created_at: read.time("created_at")?,
        updated_at: read.time("updated_at")?,
        updated_by: read.optional("updated_by", Columns::text)?,
        playbook: new,
    };
    if stored.successful_executions > stored.total_executions {
        return Err(read.corrupt("successful_executions", "is above total_executions"));
    }
    Ok(stored)
}

type Disabled = Option<(Timestamp, Option<Text<255>>, Option<String>)>;

fn disabled(read: &Columns<'_>) -> Result<Disabled> {
    let by = read.optional("disabled_by", Columns::text)?;
    let reason = read.optional("disabled_reason", Columns::long)?;
    match read.optional("disabled_at", Columns::time)? {
        Some(at) => Ok(Some((at, by, reason))),
        None if by.is_none() && reason.is_none() => Ok(None),
        None => Err(read.corrupt("disabled_at", "is null, but somebody or a reason is given")),
    }
}

/// A version that is marked latest, as far as taking the mark from it goes.
pub(super) struct Marked {
    pub(super) version: String,
    pub(super) updated_at: Timestamp,
}

/// Of a row of [`COLUMNS`], which may be invalid in others.
pub(super) fn marked(row: &Row) -> Result<Marked> {
    let key = key_of(row, 0, 1);
    let read = Columns(Reader { table: TABLE, row, key: &key });
    is_latest(&read.0, at("is_latest_version"), OTHERS)?;
    Ok(Marked { version: read.str("version")?, updated_at: read.time("updated_at")? })
}

/// The mark of the latest: 0 or 1, and at most one in a playbook.
pub(super) fn is_latest(read: &Reader<'_>, index: usize, others: usize) -> Result<bool> {
    let column = "is_latest_version";
    match read.row.cell(index) {
        Cell::Int(0) => Ok(false),
        Cell::Int(1) if *read.row.cell(others) == Cell::Int(0) => Ok(true),
        Cell::Int(1) => Err(read.corrupt(column, "is set, and so it is in another version of the playbook")),
        Cell::Int(_) => Err(read.corrupt(column, "is neither 0 nor 1")),
        other => Err(read.corrupt(column, &format!("is {}, allowed are 0 and 1", other.class()))),
    }
}

/// A vector: 384 numbers of 32 bits, little-endian.
pub(super) fn embedding(read: &Reader<'_>, index: usize) -> Result<Embedding> {
    let cell = read.row.cell(index);
    let bytes = cell.as_blob().ok_or_else(|| {
        read.corrupt("embedding", &format!("is {}, allowed is a blob or null", cell.class()))
    })?;
    if bytes.len() != Embedding::LEN * 4 {
        let problem = format!("has {} bytes, 384 numbers of 4 bytes are allowed", bytes.len());
        return Err(read.corrupt("embedding", &problem));
    }
    // `as_chunks` would say the same, for a length that is a multiple of four.
    let numbers = bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    Embedding::new(numbers.collect::<Vec<_>>()).map_err(|error| read.corrupt("embedding", error.message()))
}

/// The bytes of a vector.
pub(super) fn bytes(embedding: &Embedding) -> Vec<u8> {
    embedding.as_slice().iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A JSON object of texts.
pub(super) fn labels(read: &Reader<'_>, index: usize) -> Result<BTreeMap<String, String>> {
    let json = read.object("labels", index)?;
    json.to().map_err(|_| read.corrupt("labels", "is not a JSON object of texts"))
}

/// Where a column stands in the row.
fn at(column: &str) -> usize {
    // A name that is not there would be read as null, which the tests of every column show.
    COLUMNS.iter().position(|known| *known == column).unwrap_or(usize::MAX)
}

/// The columns of [`COLUMNS`] by name.
struct Columns<'a>(Reader<'a>);

impl Columns<'_> {
    fn corrupt(&self, column: &str, problem: &str) -> Error {
        self.0.corrupt(column, problem)
    }

    fn optional<T>(&self, column: &str, read: impl Fn(&Self, &str) -> Result<T>) -> Result<Option<T>> {
        if self.0.is_null(at(column)) { Ok(None) } else { read(self, column).map(Some) }
    }

    fn str(&self, column: &str) -> Result<String> {
        self.0.str(column, at(column)).map(str::to_owned)
    }

    /// Text of a length that [`NewPlaybook::validate`] does not look at.
    fn long(&self, column: &str) -> Result<String> {
        let text = self.str(column)?;
        if text.contains('\0') {
            return Err(self.corrupt(column, "holds a NUL character"));
        }
        if text.chars().count() > NewPlaybook::MAX_TEXT {
            return Err(self.corrupt(column, &format!("has more than {} characters", NewPlaybook::MAX_TEXT)));
        }
        Ok(text)
    }

    fn text<const MAX: usize>(&self, column: &str) -> Result<Text<MAX>> {
        self.0.text(column, at(column))
    }

    fn version(&self, column: &str) -> Result<PlaybookVersion> {
        PlaybookVersion::new(self.str(column)?).map_err(|error| self.corrupt(column, error.message()))
    }

    fn word<T: FromStr>(&self, column: &str) -> Result<T> {
        self.0
            .str(column, at(column))?
            .parse()
            .map_err(|_| self.corrupt(column, "is none of the words allowed there"))
    }

    fn time(&self, column: &str) -> Result<Timestamp> {
        self.0.time(column, at(column))
    }

    fn rate(&self, column: &str) -> Result<Rate> {
        let cell = self.0.row.cell(at(column));
        let Cell::Real(value) = cell else {
            return Err(self.corrupt(column, &format!("is {}, allowed is a real number", cell.class())));
        };
        // The number that three decimals are read as, or it would be rounded here.
        let reads_so = |thousandths: &u16| (f64::from(*thousandths) / 1_000.0).total_cmp(value).is_eq();
        let exact = (0..=1_000).find(reads_so).map(Rate::from_thousandths);
        exact
            .and_then(Result::ok)
            .ok_or_else(|| self.corrupt(column, "is not a share of 0 to 1 with at most three decimals"))
    }

    fn seconds(&self, column: &str) -> Result<u32> {
        let found = self.0.int(column, at(column))?;
        u32::try_from(found).map_err(|_| self.corrupt(column, "is outside of 0 to 4294967295"))
    }

    fn count(&self, column: &str) -> Result<u64> {
        let found = self.0.int(column, at(column))?;
        u64::try_from(found).map_err(|_| self.corrupt(column, "is negative"))
    }
}
