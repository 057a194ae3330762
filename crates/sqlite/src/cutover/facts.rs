//! What a file is and holds, and whether it is sound.

use std::path::Path;

use changeover_core::cutover::{Raw, SourceFacts, SourceTable};
use changeover_core::{LogId, ModuleScope, Result, Uuid, sha256_hex};
use diesel::SqliteConnection;

use super::gate;
use super::read::schema_cookie;
use super::shape::{Shape, Term, quote};
use super::tombstone;
use crate::classify::Failure;
use crate::schema::prefix_of;
use crate::sql::{self, Bind};

/// Tables that are neither SQLite's own nor a cutover's.
const TABLES: &str = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
    AND substr(name, 1, 7) <> 'sqlite_' AND substr(name, 1, 6) <> '__cut_' ORDER BY name";

pub(super) fn facts(
    conn: &mut SqliteConnection,
    scope: &ModuleScope,
    path: &Path,
) -> Result<SourceFacts, Failure> {
    let tables = if let Some(tables) = tombstone::tables(conn)? {
        tables
    } else {
        let names = names(conn, TABLES, &[])?;
        names.iter().map(|name| table(conn, name)).collect::<Result<_, _>>()?
    };
    let (log, high_water) = log(conn, scope)?;
    let nonce = gate::nonce(conn)?;
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    Ok(SourceFacts {
        place: path.display().to_string(),
        nonce,
        log,
        high_water,
        bytes: size(path) + size(Path::new(&wal)),
        encoding: text(conn, "SELECT encoding FROM pragma_encoding")?,
        journal_mode: text(conn, "SELECT journal_mode FROM pragma_journal_mode")?,
        version: text(conn, "SELECT sqlite_version()")?,
        schema_cookie: schema_cookie(conn)?,
        schema_digest: schema_digest(conn)?,
        tables,
    })
}

fn table(conn: &mut SqliteConnection, name: &str) -> Result<SourceTable, Failure> {
    let shape = Shape::find(conn, name)?;
    let mut unique: Vec<Vec<String>> = shape.rowid_alias.iter().map(|column| vec![column.clone()]).collect();
    let mut odd_indexes = Vec::new();
    for index in &shape.unique {
        let column = |term: &Term| match term {
            Term::Column { name, .. } => Some(name.clone()),
            Term::Expression(_) => None,
        };
        match index.terms.iter().map(column).collect() {
            Some(columns) if index.partial.is_none() => unique.push(columns),
            _ => odd_indexes.push(index.name.clone()),
        }
    }
    let quoted = quote(&shape.name);
    let rows = number(conn, &format!("SELECT count(*) FROM {quoted}"), &[])?.unwrap_or_default();
    let max_rowid = match shape.rowid {
        Some(rowid) => number(conn, &format!("SELECT max({rowid}) FROM {quoted}"), &[])?,
        None => None,
    };
    let sequence = sequence(conn, &shape.name)?;
    let triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?1)
                    AND substr(name, 1, 6) <> '__cut.' ORDER BY name";
    let triggers = names(conn, triggers, &[Bind::Text(&shape.name)])?;
    let generated = shape.columns.iter().filter(|column| column.generated);
    Ok(SourceTable {
        generated: generated.map(|column| column.name.clone()).collect(),
        columns: shape.columns.iter().map(|it| (it.name.clone(), it.declared.clone())).collect(),
        primary_key: shape.primary_key,
        unique,
        odd_indexes,
        without_rowid: shape.without_rowid,
        rowid_alias: shape.rowid_alias,
        rows: u64::try_from(rows).unwrap_or_default(),
        max_rowid,
        sequence,
        triggers,
        name: shape.name,
    })
}

/// The log of the module's events, where the file has one: its identity, and the highest position it ever gave.
fn log(conn: &mut SqliteConnection, scope: &ModuleScope) -> Result<(Option<LogId>, Option<i64>), Failure> {
    // The families of the modules that share the plain names.
    let has_events = scope.namespace.is_some() || !matches!(scope.module.as_str(), "audit" | "playbooks");
    let prefix = prefix_of(scope);
    let (log, events) = (format!("{prefix}changeover_log"), format!("{prefix}domain_event"));
    if !has_events || !has_table(conn, &events)? {
        return Ok((None, None));
    }
    let last = number(conn, &format!("SELECT max(rowid) FROM {}", quote(&events)), &[])?;
    let mut high_water = last.max(sequence(conn, &events)?);
    let mut id = None;
    if has_table(conn, &log)? {
        let sql = format!("SELECT log_id, high_water FROM {}", quote(&log));
        if let Some(row) = sql::first(conn, &sql, &[])? {
            id = row.cell(0).as_str().and_then(|text| Uuid::try_parse(text).ok()).map(LogId);
            high_water = high_water.max(row.cell(1).as_int());
        }
    }
    Ok((id, high_water))
}

fn schema_digest(conn: &mut SqliteConnection) -> Result<String, Failure> {
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL
               AND substr(name, 1, 7) <> 'sqlite_' AND substr(name, 1, 5) <> '__cut'
               ORDER BY type, name";
    let mut all = Vec::new();
    for row in sql::rows(conn, sql, &[])? {
        for value in row.into_raws() {
            if let Raw::Text(bytes) = value {
                all.extend((bytes.len() as u64).to_be_bytes());
                all.extend(bytes);
            }
        }
    }
    Ok(sha256_hex(&all))
}

/// What is wrong with the file, where it can be read at all.
pub(super) fn check(conn: &mut SqliteConnection) -> Result<Vec<String>, Failure> {
    let mut found = names(conn, "SELECT integrity_check FROM pragma_integrity_check", &[])?;
    found.retain(|line| line != "ok");
    for table in names(conn, TABLES, &[])? {
        let quoted = quote(&table);
        let rows = number(conn, &format!("SELECT count(*) FROM {quoted} NOT INDEXED"), &[])?;
        // A partial index leaves rows out.
        let sql = "SELECT name FROM pragma_index_list(?1) WHERE partial = 0 ORDER BY name";
        for index in names(conn, sql, &[Bind::Text(&table)])? {
            // Not count(*), which takes whatever index is the smallest.
            let sql = format!("SELECT sum(1) FROM {quoted} INDEXED BY {}", quote(&index));
            let counted = number(conn, &sql, &[])?;
            let (rows, counted) = (rows.unwrap_or_default(), counted.unwrap_or_default());
            if counted != rows {
                found.push(format!(
                    "table {table} has {rows} rows, {counted} by its index {index}; make the index anew: REINDEX {index}"
                ));
            }
        }
    }
    Ok(found)
}

fn sequence(conn: &mut SqliteConnection, table: &str) -> Result<Option<i64>, Failure> {
    if !has_table(conn, "sqlite_sequence")? {
        return Ok(None);
    }
    number(conn, "SELECT max(seq) FROM sqlite_sequence WHERE name = ?1", &[Bind::Text(table)])
}

fn has_table(conn: &mut SqliteConnection, table: &str) -> Result<bool, Failure> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
    Ok(sql::first(conn, sql, &[Bind::Text(table)])?.is_some())
}

fn names(conn: &mut SqliteConnection, sql: &str, binds: &[Bind<'_>]) -> Result<Vec<String>, Failure> {
    let rows = sql::rows(conn, sql, binds)?;
    Ok(rows.iter().filter_map(|row| row.cell(0).as_str().map(str::to_owned)).collect())
}

fn number(conn: &mut SqliteConnection, sql: &str, binds: &[Bind<'_>]) -> Result<Option<i64>, Failure> {
    Ok(sql::first(conn, sql, binds)?.and_then(|row| row.cell(0).as_int()))
}

fn text(conn: &mut SqliteConnection, sql: &str) -> Result<String, Failure> {
    let row = sql::first(conn, sql, &[])?;
    Ok(row.and_then(|row| row.cell(0).as_str().map(str::to_owned)).unwrap_or_default())
}
