//! One version, the catalog in pages, the versions of a playbook: each answer from one read transaction.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use changeover_core::playbooks::{
    GetPlaybook, ListPlaybooks, Lookup, Playbook, PlaybookId, PlaybookPage, PlaybookVersion, Status,
    VersionsOf,
};
use changeover_core::{Error, Result};
use diesel::SqliteConnection;

use super::decode::{self, TABLE};
use super::statements::COLUMNS;
use super::tables::{Catalog, PlaybookTables};
use crate::classify::Failure;
use crate::sql::{self, Bind, Cell, Row};
use crate::values::Reader;

pub(super) fn get(
    conn: &mut SqliteConnection,
    tables: &PlaybookTables,
    request: &GetPlaybook,
) -> Result<Option<Playbook>, Failure> {
    let catalog = tables.open(conn)?;
    let playbook = &request.playbook_id;
    match &request.which {
        Lookup::Latest => catalog.latest(conn, playbook),
        Lookup::LatestActive => {
            let latest = catalog.latest(conn, playbook)?;
            Ok(latest.filter(|found| found.playbook.status == Status::Active))
        }
        Lookup::Exact(version) => catalog.exact(conn, playbook, version),
        Lookup::Hash(hash) => {
            let found = places(conn, &catalog, playbook, Some(hash))?;
            match found.iter().find(|found| found.wanted) {
                Some(found) => catalog.at(conn, found.place),
                None => Ok(None),
            }
        }
    }
}

pub(super) fn list(
    conn: &mut SqliteConnection,
    tables: &PlaybookTables,
    request: &ListPlaybooks,
) -> Result<PlaybookPage, Failure> {
    let catalog = tables.open(conn)?;
    let binds = [
        Bind::Text(catalog.tenant),
        // No id is empty.
        Bind::Text(request.after.as_ref().map_or("", PlaybookId::as_str)),
        Bind::Optional(request.status.map(Status::as_str)),
    ];
    let limit = request.limit.get() as usize;
    let (mut playbooks, mut more) = (Vec::new(), false);
    sql::each(conn, &catalog.sql.list, &binds, |row| {
        if !has_labels(&row, &request.labels, labels_at()) {
            return Ok(ControlFlow::Continue(()));
        }
        if playbooks.len() == limit {
            more = true;
            return Ok(ControlFlow::Break(()));
        }
        playbooks.push(decode::playbook(&row)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(PlaybookPage { playbooks, more })
}

fn labels_at() -> usize {
    COLUMNS.iter().position(|column| *column == "labels").unwrap_or(usize::MAX)
}

/// Whether all of these labels are there with these values. Labels that cannot be read pass no filter.
pub(super) fn has_labels(row: &Row, wanted: &BTreeMap<String, String>, index: usize) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let read = Reader { table: TABLE, row, key: "" };
    decode::labels(&read, index)
        .is_ok_and(|labels| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

pub(super) fn versions(
    conn: &mut SqliteConnection,
    tables: &PlaybookTables,
    request: &VersionsOf,
) -> Result<PlaybookPage, Failure> {
    let catalog = tables.open(conn)?;
    let all = places(conn, &catalog, &request.playbook_id, None)?;
    if all.is_empty() {
        return Err(request.missing().into());
    }
    let is_below = |found: &&Found| match (&found.version, &request.below) {
        (Some(version), Some(below)) => version < below,
        _ => true,
    };
    let limit = request.limit.get() as usize;
    let below: Vec<_> = all.iter().filter(is_below).take(limit + 1).collect();
    let mut playbooks = Vec::with_capacity(limit.min(below.len()));
    for found in below.iter().take(limit) {
        let place = found.place;
        let gone =
            || Error::corrupt(TABLE, format!("rowid {place}"), "rowid", "finds no row: its index is damaged");
        playbooks.push(catalog.at(conn, place)?.ok_or_else(gone)?);
    }
    Ok(PlaybookPage { playbooks, more: below.len() > limit })
}

/// A version and where its row is.
struct Found {
    place: i64,
    /// `None` if it cannot be read.
    version: Option<PlaybookVersion>,
    /// Whether it has the content that is looked for.
    wanted: bool,
}

/// The versions of a playbook, the highest first; those that cannot be read come last, and name themselves when shown.
fn places(
    conn: &mut SqliteConnection,
    catalog: &Catalog<'_>,
    playbook: &PlaybookId,
    hash: Option<&str>,
) -> Result<Vec<Found>, Failure> {
    let binds = [Bind::Text(catalog.tenant), Bind::Text(playbook.as_str()), Bind::Optional(hash)];
    let rows = sql::rows(conn, &catalog.sql.versions, &binds)?;
    let mut found: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let version = row.cell(1).as_str().and_then(|text| PlaybookVersion::new(text).ok());
            Some(Found { place: row.cell(0).as_int()?, version, wanted: *row.cell(2) == Cell::Int(1) })
        })
        .collect();
    // No version is below every version.
    found.sort_by(|a, b| Reverse(&a.version).cmp(&Reverse(&b.version)));
    Ok(found)
}
