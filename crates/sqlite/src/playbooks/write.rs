//! Versions that are stored or changed, inside of a write transaction: judged as a whole by reading, then written.

use changeover_core::playbooks::{Change, Edit, Playbook, PlaybookId, PlaybookVersion, Put, PutReport, Rate};
use changeover_core::{Json, Result, Text, Timestamp};
use diesel::SqliteConnection;

use super::decode::{Marked, bytes};
use super::statements::{CHANGING, COLUMNS};
use super::tables::{Catalog, PlaybookTables};
use crate::classify::Failure;
use crate::sql::{self, Bind};

pub(super) fn put(
    conn: &mut SqliteConnection,
    tables: &PlaybookTables,
    request: &Put,
) -> Result<PutReport, Failure> {
    let catalog = tables.open(conn)?;
    let now = Timestamp::now();
    let mut new = Vec::new();
    for version in &request.versions {
        match catalog.exact(conn, &version.playbook_id, &version.version)? {
            Some(stored) if version.is_repeat_of(&stored.playbook) => {}
            Some(_) => return Err(version.taken().into()),
            None => {
                let before =
                    if version.is_latest { catalog.marked(conn, &version.playbook_id)? } else { None };
                new.push((version, before));
            }
        }
    }
    let report = PutReport { stored: new.len(), repeated: request.versions.len() - new.len() };
    for (version, before) in new {
        if let Some(before) = before {
            take_mark(conn, &catalog, &version.playbook_id, &before, version.created_by.as_ref(), now)?;
        }
        insert(conn, &catalog, &version.clone().stored(now))?;
    }
    Ok(report)
}

pub(super) fn change(
    conn: &mut SqliteConnection,
    tables: &PlaybookTables,
    request: &Change,
) -> Result<Playbook, Failure> {
    let catalog = tables.open(conn)?;
    let now = Timestamp::now();
    let found = catalog.exact(conn, &request.playbook_id, &request.version)?;
    let mut changed = found.ok_or_else(|| request.missing())?;
    let before = match request.edit {
        Edit::MakeLatest => catalog.marked(conn, &request.playbook_id)?,
        _ => None,
    };
    if let Some(before) = before.filter(|before| before.version != request.version.as_str()) {
        take_mark(conn, &catalog, &request.playbook_id, &before, request.by.as_ref(), now)?;
    }
    changed.apply(request.edit.clone(), request.by.clone(), now);
    update(conn, &catalog, &changed)?;
    Ok(changed)
}

/// As `Playbook::lose_mark` does, of a row that need not be valid in its other columns.
fn take_mark(
    conn: &mut SqliteConnection,
    catalog: &Catalog<'_>,
    playbook: &PlaybookId,
    before: &Marked,
    by: Option<&Text<255>>,
    now: Timestamp,
) -> Result<(), Failure> {
    let next = Timestamp::from_micros(before.updated_at.as_micros() + 1).unwrap_or(Timestamp::MAX);
    let at = now.max(next).to_string();
    let binds = [
        Bind::Text(catalog.tenant),
        Bind::Text(playbook.as_str()),
        Bind::Text(&before.version),
        Bind::Text(&at),
        Bind::Optional(by.map(Text::as_str)),
    ];
    sql::execute(conn, &catalog.sql.take_mark, &binds)?;
    Ok(())
}

/// A version's values as they are stored.
struct Values<'a> {
    stored: &'a Playbook,
    embedding: Option<Vec<u8>>,
    labels: String,
    disabled_at: Option<String>,
    approved_at: Option<String>,
    created_at: String,
    updated_at: String,
}

impl<'a> Values<'a> {
    fn of(stored: &'a Playbook) -> Result<Self> {
        let text = |at: Timestamp| at.to_string();
        Ok(Self {
            stored,
            embedding: stored.playbook.embedding.as_ref().map(bytes),
            labels: Json::of(&stored.playbook.labels)?.as_str().to_owned(),
            disabled_at: stored.disabled.as_ref().map(|(at, ..)| text(*at)),
            approved_at: stored.playbook.approved_at.map(text),
            created_at: text(stored.created_at),
            updated_at: text(stored.updated_at),
        })
    }

    fn bind(&self, column: &str) -> Bind<'_> {
        fn short(text: Option<&Text<255>>) -> Bind<'_> {
            Bind::Optional(text.map(Text::as_str))
        }
        let rate = |rate: Option<Rate>| Bind::Real(rate.map(|rate| f64::from(rate.thousandths()) / 1_000.0));
        // Larger ones are refused before they come here.
        let count = |count: u64| Bind::Int(i64::try_from(count).unwrap_or(i64::MAX));
        let (new, disabled) = (&self.stored.playbook, self.stored.disabled.as_ref());
        match column {
            "playbook_id" => Bind::Text(new.playbook_id.as_str()),
            "version" => Bind::Text(new.version.as_str()),
            "name" => Bind::Text(new.name.as_str()),
            "description" => Bind::Text(&new.description),
            "owner" => short(new.owner.as_ref()),
            "maintainer" => short(new.maintainer.as_ref()),
            "content" => Bind::Text(&new.content),
            "content_hash" => Bind::Optional(new.content_hash.as_deref()),
            "labels" => Bind::Text(&self.labels),
            "embedding" => Bind::Blob(self.embedding.as_deref()),
            "status" => Bind::Text(new.status.as_str()),
            "disabled_at" => Bind::Optional(self.disabled_at.as_deref()),
            "disabled_by" => short(disabled.and_then(|(_, by, _)| by.as_ref())),
            "disabled_reason" => Bind::Optional(disabled.and_then(|(.., reason)| reason.as_deref())),
            "is_latest_version" => Bind::Int(i64::from(new.is_latest)),
            "previous_version" => Bind::Optional(new.previous_version.as_ref().map(PlaybookVersion::as_str)),
            "deprecation_notice" => Bind::Optional(self.stored.deprecation_notice.as_deref()),
            "version_notes" => Bind::Optional(new.version_notes.as_deref()),
            "change_summary" => Bind::Optional(new.change_summary.as_deref()),
            "approved_by" => short(new.approved_by.as_ref()),
            "approved_at" => Bind::Optional(self.approved_at.as_deref()),
            "expected_success_rate" => rate(new.expected_success_rate),
            "expected_duration_seconds" => Bind::OptionalInt(new.expected_duration_seconds.map(i64::from)),
            "actual_success_rate" => rate(self.stored.actual_success_rate),
            "total_executions" => count(self.stored.total_executions),
            "successful_executions" => count(self.stored.successful_executions),
            "created_at" => Bind::Text(&self.created_at),
            "updated_at" => Bind::Text(&self.updated_at),
            "created_by" => short(new.created_by.as_ref()),
            "updated_by" => short(self.stored.updated_by.as_ref()),
            // Not in the lists; a column without a value would be refused as missing.
            _ => Bind::Optional(None),
        }
    }
}

fn insert(conn: &mut SqliteConnection, catalog: &Catalog<'_>, stored: &Playbook) -> Result<(), Failure> {
    let values = Values::of(stored)?;
    let mut binds = vec![Bind::Text(catalog.tenant)];
    binds.extend(COLUMNS.iter().map(|column| values.bind(column)));
    sql::execute(conn, &catalog.sql.insert, &binds)?;
    Ok(())
}

fn update(conn: &mut SqliteConnection, catalog: &Catalog<'_>, stored: &Playbook) -> Result<(), Failure> {
    let values = Values::of(stored)?;
    let mut binds = vec![Bind::Text(catalog.tenant), values.bind("playbook_id"), values.bind("version")];
    binds.extend(CHANGING.iter().map(|column| values.bind(column)));
    sql::execute(conn, &catalog.sql.update, &binds)?;
    Ok(())
}
