//! What stands where an archived file was: the same word about the owners of its modules, and nothing of its rows.
//!
//! Each table that the file had is a view here, over a table that is not there and whose name says what happened. So
//! whoever reads or writes it is told, by any SQLite: `no such table: main.E_FENCED module=events …`, and
//! `CREATE TABLE IF NOT EXISTS` of an old program makes no empty table, since the name is taken. The columns of a view would be
//! asked for too, so a write needs no trigger to be refused.

use std::fs::File;
use std::path::Path;

use changeover_core::cutover::{Archive, SourceTable};
use changeover_core::{Detail, Error, ErrorKind, Result};
use diesel::connection::SimpleConnection;
use diesel::{Connection as _, SqliteConnection};

use super::shape::{literal, quote};
use super::{gate, lives};
use crate::classify::Failure;
use crate::connect::uri;
use crate::sql::{self, Bind, parameter};

/// The name of the archive in the tombstone's folder, and the columns that the tables had.
const TABLES: &str = "
CREATE TABLE __cut_archive (name TEXT NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE __cut_columns (tbl TEXT NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL, generated INTEGER NOT NULL);";

/// Tables whose rows the tombstone has too: who owns the modules, and which schema the file had.
const TAKEN_ALONG: &[&str] = &["__cut_meta", "_migrations"];

/// The archive of a file, if the file is a tombstone. `path`: of the tombstone.
pub(crate) fn find(conn: &mut SqliteConnection, path: &Path) -> Result<Option<Archive>, Failure> {
    if !is_one(conn)? {
        return Ok(None);
    }
    let Some(row) = sql::first(conn, "SELECT name, bytes FROM __cut_archive", &[])? else { return Ok(None) };
    // SQLite follows links, and the archive stands beside the file itself.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let place = path.with_file_name(row.cell(0).as_str().unwrap_or_default());
    let bytes = row.cell(1).as_int().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
    Ok(Some(Archive { is_there: place.is_file(), place, bytes }))
}

/// Whether the file is a tombstone.
pub(crate) fn is_one(conn: &mut SqliteConnection) -> Result<bool, Failure> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '__cut_archive'";
    Ok(sql::first(conn, sql, &[])?.is_some())
}

/// Nothing can be made in a tombstone: `Moved` for a module that was moved from the file, else `Config`.
pub(crate) fn refuse(conn: &mut SqliteConnection, path: &Path, module: &str) -> Result<(), Failure> {
    let Some(archive) = find(conn, path)? else { return Ok(()) };
    let told = told(path, &archive);
    let error = match gate::owner(conn, module)? {
        Some(owner) => Error::new(ErrorKind::Moved, told).with_detail(Detail::Moved { owner }),
        None => Error::new(ErrorKind::Config, told),
    };
    Err(error.into())
}

/// What the file is, and what to do.
pub(crate) fn told(path: &Path, archive: &Archive) -> String {
    let gone = if archive.is_there { "" } else { ", which is not there any more" };
    format!(
        "{} is what is left of a file whose modules were moved for good: it tells programs where they went, and takes nothing. The \
         file as it was is {}{gone}. Give modules another backend in the settings (persistence.MODULE, persistence.default)",
        path.display(),
        archive.place.display()
    )
}

/// The tables that the file had, without rows; `None` if it is no tombstone.
pub(super) fn tables(conn: &mut SqliteConnection) -> Result<Option<Vec<SourceTable>>, Failure> {
    if !is_one(conn)? {
        return Ok(None);
    }
    let sql = "SELECT tbl, name, type, generated FROM __cut_columns ORDER BY rowid";
    let mut tables: Vec<SourceTable> = Vec::new();
    for row in sql::rows(conn, sql, &[])? {
        let text = |index: usize| row.cell(index).as_str().unwrap_or_default().to_owned();
        let (name, column) = (text(0), text(1));
        if tables.last().is_none_or(|table| table.name != name) {
            tables.push(SourceTable { name, ..SourceTable::default() });
        }
        if let Some(table) = tables.last_mut() {
            if row.cell(3).as_int() == Some(1) {
                table.generated.push(column.clone());
            }
            table.columns.push((column, text(2)));
        }
    }
    Ok(Some(tables))
}

/// Makes the tombstone of the file that `old` has open, at `new`, where nothing is; written to the disk when this returns.
pub(super) fn make(old: &mut SqliteConnection, new: &Path, archive: &str, bytes: u64) -> Result<(), Failure> {
    let text = text(old, archive, bytes)?;
    let broken = |error: &dyn std::fmt::Display| {
        let message = format!("{} cannot be written: {error}", new.display());
        Failure::Refused(Error::new(ErrorKind::Unavailable, message))
    };
    let mut conn = SqliteConnection::establish(&uri(new, "rwc")).map_err(|error| broken(&error))?;
    conn.batch_execute(&text).map_err(|error| broken(&error))?;
    for table in TAKEN_ALONG {
        let Some(row) = sql::first(
            old,
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?1",
            &[Bind::Text(table)],
        )?
        else {
            continue;
        };
        let made = row.cell(0).as_str().unwrap_or_default();
        conn.batch_execute(made).map_err(|error| broken(&error))?;
        for row in sql::rows(old, &format!("SELECT * FROM {table}"), &[])? {
            let values: Vec<_> = row.into_raws().collect();
            let places = values.iter().zip(1..).map(|(value, number)| parameter(value, number));
            let insert = format!("INSERT INTO {table} VALUES ({})", places.collect::<Vec<_>>().join(", "));
            let binds: Vec<_> = values.iter().map(Bind::from).collect();
            sql::execute(&mut conn, &insert, &binds).map_err(|error| broken(&error))?;
        }
    }
    conn.batch_execute("COMMIT").map_err(|error| broken(&error))?;
    drop(conn);
    // Nobody else has it open, so that no lock of SQLite's goes with this handle.
    File::open(new).and_then(|file| file.sync_all()).map_err(|error| broken(&error))
}

/// The statements that make it, up to what is taken along. The transaction stays open.
fn text(old: &mut SqliteConnection, archive: &str, bytes: u64) -> Result<String, Failure> {
    let mut text = String::from("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = FULL;");
    // A program that looks at these finds what it found before, and gets as far as the views.
    for pragma in ["user_version", "application_id"] {
        let row = sql::first(old, &format!("PRAGMA {pragma}"), &[])?;
        let number = row.and_then(|row| row.cell(0).as_int()).unwrap_or_default();
        text.extend(["PRAGMA ", pragma, " = ", &number.to_string(), ";"]);
    }
    text.push_str("BEGIN IMMEDIATE;");
    text.push_str(TABLES);
    text.push_str(super::capture::DIRTY);
    text.extend(["INSERT INTO __cut_archive VALUES (", &literal(archive), ", ", &bytes.to_string(), ");"]);
    let fenced = lives::fenced(old)?;
    let modules = gate::modules(old)?;
    let sql = "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'view', 'virtual')
               AND substr(name, 1, 7) <> 'sqlite_' AND substr(name, 1, 6) <> '__cut_' AND name <> '_migrations' ORDER BY name";
    for row in sql::rows(old, sql, &[])? {
        let name = row.cell(0).as_str().unwrap_or_default();
        let of = fenced.get(&name.to_ascii_lowercase());
        let found = modules.iter().find(|(module, _)| Some(module) == of);
        let moved_to = found.or(modules.first()).map_or("", |(_, found)| &*found.moved_to);
        let of = found.map(|(module, found)| (&**module, found.meta.epoch));
        let said = gate::message_of_archive(of, moved_to, archive);
        text.extend(["CREATE VIEW ", &quote(name), " AS SELECT * FROM ", &quote(&said), ";"]);
        if row.cell(1).as_str() == Some("table") {
            columns(old, name, &mut text)?;
        }
    }
    Ok(text)
}

fn columns(old: &mut SqliteConnection, table: &str, text: &mut String) -> Result<(), Failure> {
    let sql = "SELECT name, type, hidden >= 2 FROM pragma_table_xinfo(?1) ORDER BY cid";
    for row in sql::rows(old, sql, &[Bind::Text(table)])? {
        let cell = |index: usize| literal(row.cell(index).as_str().unwrap_or_default());
        let generated = row.cell(2).as_int().unwrap_or_default();
        let values = [literal(table), cell(0), cell(1), generated.to_string()].join(", ");
        text.extend(["INSERT INTO __cut_columns VALUES (", &values, ");"]);
    }
    Ok(())
}
