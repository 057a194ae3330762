//! Writes: requests into arguments, one round trip each.

use changeover_core::playbooks::{
    Change, Edit, NewPlaybook, Playbook, PlaybookVersion, Put, PutReport, Rate,
};
use changeover_core::{Applied, Error, ErrorKind, Result, Text};

use super::codec::{LabelsOut, VectorOut, VectorsOut};
use super::{Catalog, read};
use crate::codec::Micros;
use crate::module::{explained, unreadable};
use crate::params::Param;

/// The most bytes of text of one call: the database takes the whole of it into memory, several times over.
const MAX_BYTES: usize = 256 * 1024 * 1024;

impl Catalog {
    pub(super) async fn put(&self, request: &Put) -> Result<PutReport> {
        request.validate().and_then(|()| check_size(request)).map_err(|error| error.applied(Applied::No))?;
        let mut conn = self.connection().await.map_err(|error| error.applied(Applied::No))?;
        let columns = Columns::of(&request.versions);
        let tenant = self.tenant.as_str();
        let rows = match conn.write(&self.statements.put, &columns.params(&tenant)).await {
            Ok(rows) => rows,
            Err(error) => return Err(in_the_way(explained(&mut conn, &self.scope, error).await)),
        };
        let number = |index: usize| -> Result<Option<usize>> {
            let row = rows.first().ok_or_else(unreadable)?;
            let found = row.try_get::<_, Option<i32>>(index).map_err(|_| unreadable())?;
            Ok(found.and_then(|found| usize::try_from(found).ok()))
        };
        let report = || {
            if let Some(place) = number(2)? {
                let taken = request.versions.get(place.wrapping_sub(1)).ok_or_else(unreadable)?;
                return Err(taken.taken().applied(Applied::No));
            }
            Ok(PutReport { stored: number(0)?.unwrap_or_default(), repeated: number(1)?.unwrap_or_default() })
        };
        report().map_err(answered)
    }

    pub(super) async fn change(&self, request: &Change) -> Result<Playbook> {
        request.validate().map_err(|error| error.applied(Applied::No))?;
        let mut conn = self.connection().await.map_err(|error| error.applied(Applied::No))?;
        let Change { playbook_id, version, edit, by } = request;
        let (mut status, mut text, mut total, mut successful, mut thousandths, mut vector) =
            (None, None, None, None, None, None);
        let what = match edit {
            Edit::MakeLatest => "latest",
            Edit::Status(to, reason) => {
                (status, text) = (Some(to.as_str()), reason.as_deref());
                "status"
            }
            Edit::Figures { total: executions, successful: of_them, rate } => {
                total = Some(count(*executions)?);
                successful = Some(count(*of_them)?);
                thousandths = rate.map(rate_out);
                "figures"
            }
            Edit::Embedding(embedding) => {
                vector = embedding.as_ref().map(VectorOut);
                "embedding"
            }
        };
        let params: [&dyn Param; 11] = [
            &self.tenant.as_str(),
            &playbook_id.as_str(),
            &version.as_str(),
            &what,
            &by.as_ref().map(Text::as_str),
            &status,
            &text,
            &total,
            &successful,
            &thousandths,
            &vector,
        ];
        let rows = match conn.write(&self.statements.change, &params).await {
            Ok(rows) => rows,
            Err(error) => return Err(in_the_way(explained(&mut conn, &self.scope, error).await)),
        };
        match rows.first() {
            Some(row) => read::playbook(row).map_err(answered),
            None => Err(request.missing().applied(Applied::No)),
        }
    }
}

/// Validated before: not above `Edit::MAX_COUNT`.
fn count(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| Error::invalid("the count is too large").applied(Applied::No))
}

fn check_size(request: &Put) -> Result<()> {
    let size = |new: &NewPlaybook| {
        let notes = [&new.version_notes, &new.change_summary];
        let labels = new.labels.iter().map(|(key, value)| key.len() + value.len());
        new.content.len()
            + new.description.len()
            + notes.iter().map(|text| text.as_ref().map_or(0, String::len)).sum::<usize>()
            + labels.sum::<usize>()
    };
    let found: usize = request.versions.iter().map(size).sum();
    if found > MAX_BYTES {
        return Err(Error::too_large("the batch", found as u64, MAX_BYTES as u64, "bytes of text"));
    }
    Ok(())
}

/// A key that is taken although nothing spoke against it: somebody wrote the same row by hand meanwhile. The next try
/// finds that row and judges it.
fn in_the_way(error: Error) -> Error {
    if error.kind() != ErrorKind::AlreadyExists {
        return error;
    }
    let message = "another writer stored a version of the same playbook meanwhile; the same call may succeed";
    Error::new(ErrorKind::Contention, message).applied(Applied::No)
}

/// The database did answer, so it was stored unless the error says otherwise.
fn answered(error: Error) -> Error {
    if error.was_applied().is_some() { error } else { error.applied(Applied::Unknown) }
}

fn rate_out(rate: Rate) -> i32 {
    i32::from(rate.thousandths())
}

/// The arguments of `put`, borrowed from the versions.
struct Columns<'a> {
    id: Vec<&'a str>,
    version: Vec<&'a str>,
    name: Vec<&'a str>,
    description: Vec<&'a str>,
    owner: Vec<Option<&'a str>>,
    maintainer: Vec<Option<&'a str>>,
    content: Vec<&'a str>,
    content_hash: Vec<String>,
    labels: Vec<LabelsOut<'a>>,
    embedding: VectorsOut<'a>,
    status: Vec<&'a str>,
    is_latest: Vec<bool>,
    previous: Vec<Option<&'a str>>,
    notes: Vec<Option<&'a str>>,
    summary: Vec<Option<&'a str>>,
    approved_by: Vec<Option<&'a str>>,
    approved_at: Vec<Option<Micros>>,
    expected_rate: Vec<Option<i32>>,
    expected_seconds: Vec<Option<i64>>,
    created_at: Vec<Option<Micros>>,
    created_by: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    fn of(versions: &'a [NewPlaybook]) -> Self {
        fn column<'a, T>(versions: &'a [NewPlaybook], value: impl FnMut(&'a NewPlaybook) -> T) -> Vec<T> {
            versions.iter().map(value).collect()
        }
        Self {
            id: column(versions, |new| new.playbook_id.as_str()),
            version: column(versions, |new| new.version.as_str()),
            name: column(versions, |new| new.name.as_str()),
            description: column(versions, |new| new.description.as_str()),
            owner: column(versions, |new| new.owner.as_ref().map(Text::as_str)),
            maintainer: column(versions, |new| new.maintainer.as_ref().map(Text::as_str)),
            content: column(versions, |new| new.content.as_str()),
            content_hash: column(versions, NewPlaybook::hash),
            labels: column(versions, |new| LabelsOut(&new.labels)),
            embedding: VectorsOut(column(versions, |new| new.embedding.as_ref().map(VectorOut))),
            status: column(versions, |new| new.status.as_str()),
            is_latest: column(versions, |new| new.is_latest),
            previous: column(versions, |new| new.previous_version.as_ref().map(PlaybookVersion::as_str)),
            notes: column(versions, |new| new.version_notes.as_deref()),
            summary: column(versions, |new| new.change_summary.as_deref()),
            approved_by: column(versions, |new| new.approved_by.as_ref().map(Text::as_str)),
            approved_at: column(versions, |new| new.approved_at.map(Micros::from)),
            expected_rate: column(versions, |new| new.expected_success_rate.map(rate_out)),
            expected_seconds: column(versions, |new| new.expected_duration_seconds.map(i64::from)),
            created_at: column(versions, |new| new.created_at.map(Micros::from)),
            created_by: column(versions, |new| new.created_by.as_ref().map(Text::as_str)),
        }
    }

    fn params<'s>(&'s self, tenant: &'s &'s str) -> [&'s dyn Param; 22] {
        [
            tenant,
            &self.id,
            &self.version,
            &self.name,
            &self.description,
            &self.owner,
            &self.maintainer,
            &self.content,
            &self.content_hash,
            &self.labels,
            &self.embedding,
            &self.status,
            &self.is_latest,
            &self.previous,
            &self.notes,
            &self.summary,
            &self.approved_by,
            &self.approved_at,
            &self.expected_rate,
            &self.expected_seconds,
            &self.created_at,
            &self.created_by,
        ]
    }
}
