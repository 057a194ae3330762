//! Reads: a page is one round trip and one snapshot.

use std::collections::BTreeMap;

use changeover_core::playbooks::{
    Embedding, GetPlaybook, ListPlaybooks, Lookup, NewPlaybook, Playbook, PlaybookId, PlaybookPage,
    PlaybookVersion, Rate, Status, VersionsOf,
};
use changeover_core::{Error, Result, Text, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::Catalog;
use super::codec::{LabelsOut, VectorIn};
use crate::codec::{JsonIn, Micros};
use crate::module::unreadable;
use crate::params::Param;

impl Catalog {
    pub(super) async fn get(&self, request: &GetPlaybook) -> Result<Option<Playbook>> {
        request.validate()?;
        let (which, text) = match &request.which {
            Lookup::Latest => ("latest", None),
            Lookup::LatestActive => ("active", None),
            Lookup::Exact(version) => ("exact", Some(version.as_str())),
            Lookup::Hash(hash) => ("hash", Some(hash.as_str())),
        };
        let mut conn = self.connection().await?;
        let params: [&dyn Param; 4] = [&self.tenant.as_str(), &request.playbook_id.as_str(), &which, &text];
        let rows = conn.read_owned(&self.gate, &self.statements.get, &params).await?;
        rows.first().map(playbook).transpose()
    }

    pub(super) async fn list(&self, request: &ListPlaybooks) -> Result<PlaybookPage> {
        request.validate()?;
        let mut conn = self.connection().await?;
        let rows = conn
            .read_owned(
                &self.gate,
                &self.statements.list,
                &[
                    &self.tenant.as_str(),
                    &LabelsOut(&request.labels),
                    &request.status.map(Status::as_str),
                    // Below every id, as none is empty.
                    &request.after.as_ref().map_or("", PlaybookId::as_str),
                    &(i64::from(request.limit.get()) + 1),
                ],
            )
            .await?;
        page(&rows, request.limit.get() as usize)
    }

    pub(super) async fn versions(&self, request: &VersionsOf) -> Result<PlaybookPage> {
        let mut conn = self.connection().await?;
        let (tenant, id) = (self.tenant.as_str(), request.playbook_id.as_str());
        let below = request.below.as_ref().map(PlaybookVersion::as_str);
        let limit = i64::from(request.limit.get()) + 1;
        let rows =
            conn.read_owned(&self.gate, &self.statements.versions, &[&tenant, &id, &below, &limit]).await?;
        if rows.is_empty() {
            let known = conn.read_owned(&self.gate, &self.statements.is_known, &[&tenant, &id]).await?;
            if !get::<bool>(known.first().ok_or_else(unreadable)?, 0)? {
                return Err(request.missing());
            }
        }
        page(&rows, request.limit.get() as usize)
    }
}

/// A page of rows, of which one more than wanted was asked for.
fn page(rows: &[Row], wanted: usize) -> Result<PlaybookPage> {
    let playbooks = rows.iter().take(wanted).map(playbook).collect::<Result<_>>()?;
    Ok(PlaybookPage { playbooks, more: rows.len() > wanted })
}

pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|_| unreadable())
}

/// The place of a row, for the errors of its values.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    row: &'a Row,
}

impl<'a> Place<'a> {
    /// Rows begin with their key.
    pub(super) fn of(row: &'a Row) -> Self {
        Self { row }
    }

    fn corrupt(self, column: &str, problem: &str) -> Error {
        let key = |index| get::<String>(self.row, index).unwrap_or_default();
        Error::corrupt("playbook_catalog", format!("{} {}", key(0), key(1)), column, problem)
    }

    /// A checked value of a column.
    fn checked<T>(self, column: &str, made: Result<T>) -> Result<T> {
        made.map_err(|error| self.corrupt(column, error.message()))
    }

    pub(super) fn id(self) -> Result<PlaybookId> {
        self.checked("playbook_id", Text::new("playbook_id", get::<String>(self.row, 0)?))
    }

    pub(super) fn version(self) -> Result<PlaybookVersion> {
        self.checked("version", PlaybookVersion::new(get::<String>(self.row, 1)?))
    }

    pub(super) fn text(self, index: usize, column: &str) -> Result<Text<255>> {
        self.checked(column, Text::new(column, get::<String>(self.row, index)?))
    }

    fn optional(self, index: usize, column: &str) -> Result<Option<Text<255>>> {
        let found: Option<String> = get(self.row, index)?;
        found.map(|found| self.checked(column, Text::new(column, found))).transpose()
    }

    fn time(self, index: usize, column: &str) -> Result<Option<Timestamp>> {
        let found: Option<Micros> = get(self.row, index)?;
        found.map(|found| self.checked(column, Timestamp::from_micros(found.0))).transpose()
    }

    fn needed_time(self, index: usize, column: &str) -> Result<Timestamp> {
        self.time(index, column)?.ok_or_else(|| self.corrupt(column, "is null"))
    }

    fn rate(self, index: usize, column: &str) -> Result<Option<Rate>> {
        let found: Option<i32> = get(self.row, index)?;
        let rate = |found| {
            let thousandths =
                u16::try_from(found).map_err(|_| self.corrupt(column, "is not within 0 and 1"))?;
            self.checked(column, Rate::from_thousandths(thousandths))
        };
        found.map(rate).transpose()
    }

    fn number<N: TryFrom<i64>>(self, index: usize, column: &str) -> Result<Option<N>> {
        let found: Option<i64> = get(self.row, index)?;
        let number = |found| N::try_from(found).map_err(|_| self.corrupt(column, "is out of range"));
        found.map(number).transpose()
    }

    fn count(self, index: usize, column: &str) -> Result<u64> {
        self.number(index, column)?.ok_or_else(|| self.corrupt(column, "is null"))
    }

    pub(super) fn embedding(self, index: usize) -> Result<Option<Embedding>> {
        let found: Option<VectorIn> = get(self.row, index)?;
        found.map(|found| self.checked("embedding", Embedding::new(found.0))).transpose()
    }

    pub(super) fn labels(self, index: usize) -> Result<Option<BTreeMap<String, String>>> {
        let found: Option<JsonIn<'_>> = get(self.row, index)?;
        let labels = |found: JsonIn<'_>| {
            serde_json::from_slice(found.0).map_err(|_| self.corrupt("labels", "is not an object of strings"))
        };
        found.map(labels).transpose()
    }
}

/// The version of a row.
pub(super) fn playbook(row: &Row) -> Result<Playbook> {
    let place = Place::of(row);
    let version = |index: usize, column: &str| {
        let found: Option<String> = get(row, index)?;
        found.map(|found| place.checked(column, PlaybookVersion::new(found))).transpose()
    };
    let status: String = get(row, 10)?;
    let created_at = place.needed_time(19, "created_at")?;
    let new = NewPlaybook {
        playbook_id: place.id()?,
        version: place.version()?,
        name: place.text(2, "name")?,
        description: get(row, 3)?,
        owner: place.optional(4, "owner")?,
        maintainer: place.optional(5, "maintainer")?,
        content: get(row, 6)?,
        content_hash: get(row, 7)?,
        labels: place.labels(8)?.unwrap_or_default(),
        embedding: place.embedding(9)?,
        status: place.checked("status", status.parse())?,
        is_latest: get(row, 11)?,
        previous_version: version(12, "previous_version")?,
        version_notes: get(row, 13)?,
        change_summary: get(row, 14)?,
        approved_by: place.optional(15, "approved_by")?,
        approved_at: place.time(16, "approved_at")?,
        expected_success_rate: place.rate(17, "expected_success_rate")?,
        expected_duration_seconds: place.number(18, "expected_duration_seconds")?,
        created_at: Some(created_at),
        created_by: place.optional(20, "created_by")?,
    };
    if new.content_hash.as_ref() != Some(&new.hash()) {
        return Err(place.corrupt("content_hash", "is not the SHA-256 of the content"));
    }
    let disabled = match place.time(21, "disabled_at")? {
        Some(at) => Some((at, place.optional(22, "disabled_by")?, get(row, 23)?)),
        None => None,
    };
    Ok(Playbook {
        playbook: new,
        disabled,
        deprecation_notice: get(row, 24)?,
        actual_success_rate: place.rate(25, "actual_success_rate")?,
        total_executions: place.count(26, "total_executions")?,
        successful_executions: place.count(27, "successful_executions")?,
        created_at,
        updated_at: place.needed_time(28, "updated_at")?,
        updated_by: place.optional(29, "updated_by")?,
    })
}
