//! The capture: triggers that log the key of every row that is inserted, changed, removed or displaced.
//!
//! `REPLACE` removes rows over any unique index without a DELETE trigger being fired, so triggers that come before the
//! write log whoever is in its way. Those may log a key whose row does not change in the end, never miss one. The rowid of
//! a new row is known only after its insertion, and is taken there.

use changeover_core::cutover::{CaptureTable, Meta, SourceColumn};
use changeover_core::{Error, ErrorKind, Result, Uuid};
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;

use super::fence;
use super::gate;
use super::log::unprepared;
use super::shape::{Shape, Term, UniqueIndex, literal, quote};
use crate::classify::Failure;
use crate::sql::{self, Bind};

/// With [`DIRTY`] the tables of every cutover in the file.
const META: &str = "
CREATE TABLE IF NOT EXISTS __cut_meta (
    module TEXT NOT NULL PRIMARY KEY, nonce TEXT NOT NULL, run TEXT NOT NULL, epoch INTEGER NOT NULL,
    open INTEGER NOT NULL, captures INTEGER NOT NULL, trimmed INTEGER NOT NULL, back_applied INTEGER NOT NULL,
    moved_to TEXT NOT NULL, said TEXT NOT NULL
);";

/// The captured keys. They have no type, so that each keeps its storage class.
pub(super) const DIRTY: &str = "
CREATE TABLE IF NOT EXISTS __cut_dirty (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, module TEXT NOT NULL, tbl TEXT NOT NULL, n INTEGER NOT NULL, k1, k2, k3, k4
);";

/// Where the fence says the data went until [`fence::fence`] is told.
const MOVED_TO: &str = "postgres";

pub(super) fn prepare(
    conn: &mut SqliteConnection,
    module: &str,
    run: Uuid,
    epoch: i64,
    tables: &[CaptureTable],
) -> Result<Meta, Failure> {
    let found = gate::find(conn, module)?;
    if let Some(found) = found {
        if found.meta.run == run {
            return Ok(found.meta);
        }
        refuse_other(module, &found.meta, epoch)?;
    }
    conn.batch_execute(META)?;
    conn.batch_execute(DIRTY)?;
    stop(conn, module)?;
    remove(conn, module, "fence")?;
    let said = gate::message(module, epoch + 1, MOVED_TO);
    for table in tables {
        let shape = Shape::find(conn, &table.table)?;
        conn.batch_execute(&Capture { module, table, shape: &shape }.triggers()?)?;
        // Made last, and so the first to be asked.
        conn.batch_execute(&fence::triggers(module, &table.name, &shape, &said))?;
    }
    let (run, nonce) = (run.to_string(), Uuid::new_v4().to_string());
    // One nonce for the file, whichever module came first.
    let sql = "INSERT OR REPLACE INTO __cut_meta
        (module, nonce, run, epoch, open, captures, trimmed, back_applied, moved_to, said)
        VALUES (?1, coalesce((SELECT nonce FROM __cut_meta LIMIT 1), ?2), ?3, ?4, 1, 1,
                coalesce((SELECT trimmed FROM __cut_meta WHERE module = ?1), 0), 0, '', ?5)";
    let binds =
        [Bind::Text(module), Bind::Text(&nonce), Bind::Text(&run), Bind::Int(epoch), Bind::Text(&said)];
    sql::execute(conn, sql, &binds)?;
    Ok(gate::find(conn, module)?.ok_or_else(|| unprepared(module))?.meta)
}

fn refuse_other(module: &str, meta: &Meta, epoch: i64) -> Result<()> {
    let state = match (meta.open, meta.captures) {
        (false, _) => "has fenced it",
        (true, true) => "is capturing its changes",
        (true, false) if meta.epoch > epoch => {
            let message = format!("module {module}: the file is at epoch {}, given was {epoch}", meta.epoch);
            return Err(Error::invalid(message));
        }
        (true, false) => return Ok(()),
    };
    let message = format!("module {module}: another run, {}, {state}; resume or abort that one", meta.run);
    Err(Error::new(ErrorKind::AlreadyExists, message))
}

/// Takes the triggers of the capture and the captured changes away.
pub(super) fn stop(conn: &mut SqliteConnection, module: &str) -> Result<(), Failure> {
    remove(conn, module, "log")?;
    let sql = "UPDATE __cut_meta SET captures = 0, trimmed =
        max(trimmed, coalesce((SELECT max(seq) FROM __cut_dirty WHERE module = ?1), 0)) WHERE module = ?1";
    sql::execute(conn, sql, &[Bind::Text(module)])?;
    sql::execute(conn, "DELETE FROM __cut_dirty WHERE module = ?1", &[Bind::Text(module)])?;
    Ok(())
}

/// The name of a trigger. Names of modules hold no point.
pub(super) fn trigger(module: &str, of: &str, table: &str, event: &str) -> String {
    format!("__cut.{module}.{of}.{table}.{}", event.to_ascii_lowercase())
}

/// Names and texts of the triggers of one kind that a module has.
pub(super) fn installed(
    conn: &mut SqliteConnection,
    module: &str,
    of: &str,
) -> Result<Vec<(String, String)>, Failure> {
    let start = trigger(module, of, "", "");
    let start = start.trim_end_matches('.');
    let sql = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, length(?1) + 1) = ?1 || '.'
               ORDER BY rowid";
    let rows = sql::rows(conn, sql, &[Bind::Text(start)])?;
    let text = |row: &sql::Row, index: usize| row.cell(index).as_str().unwrap_or_default().to_owned();
    Ok(rows.iter().map(|row| (text(row, 0), text(row, 1))).collect())
}

fn remove(conn: &mut SqliteConnection, module: &str, of: &str) -> Result<(), Failure> {
    for (name, _) in installed(conn, module, of)? {
        conn.batch_execute(&format!("DROP TRIGGER {}", quote(&name)))?;
    }
    Ok(())
}

/// The triggers on one table.
struct Capture<'a> {
    module: &'a str,
    table: &'a CaptureTable,
    shape: &'a Shape,
}

impl Capture<'_> {
    fn triggers(&self) -> Result<String, Error> {
        if !(1..=4).contains(&self.table.key.len()) {
            let message = format!("table {}: a key has one to four columns", self.table.name);
            return Err(Error::invalid(message));
        }
        let displacing: Vec<_> = self.shape.unique.iter().filter(|index| !self.is_key(index)).collect();
        let over_rowid = self.shape.rowid.filter(|_| !self.shape.is_rowid(&self.table.key));
        let mut all = String::new();
        let mut add = |name: &str, when: &str, body: &str| {
            let name = quote(&trigger(self.module, "log", &self.table.name, name));
            all.extend(["CREATE TRIGGER ", &name, " ", when, " BEGIN ", body, " END;\n"]);
        };
        let on = quote(&self.shape.name);
        let mut displaced = Vec::new();
        for (number, index) in displacing.iter().enumerate() {
            let log = self.log_displaced(&self.in_the_way(index)?)?;
            let of = self.columns_of(index).map(|columns| format!(" OF {columns}")).unwrap_or_default();
            add(&format!("update.displaced.{number}"), &format!("BEFORE UPDATE{of} ON {on}"), &log);
            displaced.push(log);
        }
        if let Some(rowid) = over_rowid {
            let log = self.log_displaced(&format!("{rowid} = NEW.{rowid}"))?;
            let when = format!("BEFORE UPDATE ON {on} WHEN NEW.{rowid} IS NOT OLD.{rowid}");
            add("update.displaced.rowid", &when, &log);
            displaced.push(log);
        }
        if !displaced.is_empty() {
            add("insert.displaced", &format!("BEFORE INSERT ON {on}"), &displaced.concat());
        }
        let (new, old) = (self.values("NEW.")?, self.values("OLD.")?);
        let changed: Vec<_> = new.iter().zip(&old).map(|(new, old)| changed(new, old)).collect();
        add("insert", &format!("AFTER INSERT ON {on}"), &self.log(&new, ""));
        let update = self.log(&old, "") + &self.log(&new, &format!(" WHERE {}", changed.join(" OR ")));
        add("update", &format!("AFTER UPDATE ON {on}"), &update);
        add("delete", &format!("AFTER DELETE ON {on}"), &self.log(&old, ""));
        Ok(all)
    }

    /// The columns of the key, each after `before`.
    fn values(&self, before: &str) -> Result<Vec<String>, Error> {
        let column = |column: &SourceColumn| Ok(format!("{before}{}", self.shape.column(column)?));
        self.table.key.iter().map(column).collect()
    }

    /// A statement that logs a key; `from` follows the values.
    fn log(&self, values: &[String], from: &str) -> String {
        let count = values.len();
        let names: Vec<_> = (1..=count).map(|number| format!("k{number}")).collect();
        format!(
            "INSERT INTO __cut_dirty (module, tbl, n, {}) SELECT {}, {}, {count}, {}{from};",
            names.join(", "),
            literal(self.module),
            literal(&self.table.name),
            values.join(", "),
        )
    }

    /// A statement that logs the keys of rows that are there.
    fn log_displaced(&self, which: &str) -> Result<String, Error> {
        let from = format!(" FROM {} WHERE {which}", quote(&self.shape.name));
        Ok(self.log(&self.values("")?, &from))
    }

    /// Which rows are in the way of the new one over an index.
    fn in_the_way(&self, index: &UniqueIndex) -> Result<String, Error> {
        let mut all = Vec::new();
        for term in &index.terms {
            all.push(match term {
                Term::Column { name, collation } => {
                    let name = self.shape.named(name)?;
                    format!("{name} = NEW.{name} COLLATE {}", quote(collation))
                }
                // The new row as a table of its own, so that the text of the index means its columns there.
                Term::Expression(text) => {
                    let columns: Vec<_> =
                        self.shape.columns.iter().map(|column| quote(&column.name)).collect();
                    let new: Vec<_> = columns.iter().map(|name| format!("NEW.{name} AS {name}")).collect();
                    format!("({text}\n) = (SELECT ({text}\n) FROM (SELECT {}))", new.join(", "))
                }
            });
        }
        all.extend(index.partial.as_ref().map(|filter| format!("({filter}\n)")));
        Ok(all.join(" AND "))
    }

    /// The columns without whose change a row gets in nobody's way over an index; `None`: any may matter.
    fn columns_of(&self, index: &UniqueIndex) -> Option<String> {
        if index.partial.is_some() {
            return None;
        }
        let name = |term: &Term| match term {
            Term::Column { name, .. } if self.shape.column_named(name).is_some_and(|it| !it.generated) => {
                Some(quote(name))
            }
            _ => None,
        };
        let names: Option<Vec<_>> = index.terms.iter().map(name).collect();
        Some(names?.join(", "))
    }

    /// Whether whoever is in the way over this index has the very key of the new row, which is logged anyway. Not in columns
    /// without a type, where 1 and 1.0 are equal and not the same.
    fn is_key(&self, index: &UniqueIndex) -> bool {
        let is_in_key = |term: &Term| match term {
            Term::Column { name, collation } => {
                let typed = self.shape.column_named(name).is_some_and(|column| {
                    let declared = column.declared.to_ascii_uppercase();
                    !declared.is_empty() && !declared.contains("BLOB") && !declared.contains("ANY")
                });
                let declared = |key: &SourceColumn| match key {
                    SourceColumn::Named(key) => key.eq_ignore_ascii_case(name),
                    SourceColumn::Rowid => false,
                };
                typed && collation.eq_ignore_ascii_case("BINARY") && self.table.key.iter().any(declared)
            }
            Term::Expression(_) => false,
        };
        index.partial.is_none()
            && index.terms.len() == self.table.key.len()
            && index.terms.iter().all(is_in_key)
    }
}

/// Whether a column of the key is another than it was, in storage class or bytes.
fn changed(new: &str, old: &str) -> String {
    format!("{new} IS NOT {old} COLLATE BINARY OR typeof({new}) <> typeof({old})")
}
