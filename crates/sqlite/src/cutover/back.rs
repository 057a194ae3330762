//! The way back: rows of the new store, written through the gate.
//!
//! The triggers that the tables have of their own stay in force. In a native file they refuse to change or remove an event, an
//! audit event, a stream's name or a playbook's content, and to remove a stream or a playbook: such a change of the new
//! store is `Invalid` here and nothing of its batch is written. New rows are written, and a row that is there as it should be
//! is no change. A retention that ran in the new store therefore cannot go back to a native file.
//!
//! Foreign keys are not followed, for a child may come in an earlier batch than its parent; the verifier looks for orphans.

use std::collections::BTreeMap;

use changeover_core::cutover::{BackBatch, BackChange, Raw, SourceColumn};
use changeover_core::{Error, ErrorKind, Result, hex};
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;

use super::capture;
use super::gate;
use super::log::unprepared;
use super::shape::{Shape, literal, quote};
use crate::classify::{Failure, classify};
use crate::sql::{self, Bind, parameter};

pub(super) fn write_back(
    conn: &mut SqliteConnection,
    module: &str,
    batch: &BackBatch,
) -> Result<(), Failure> {
    let found = gate::find(conn, module)?.ok_or_else(|| unprepared(module))?;
    if found.meta.open {
        let message = format!(
            "module {module}: the gate of the file is open, so it is the owner; changes come back only to a fenced one"
        );
        return Err(Error::invalid(message).into());
    }
    if batch.epoch != found.meta.epoch {
        let message = format!(
            "module {module}: the file was fenced at epoch {}, these changes are for epoch {}: another coordinator was here \
             meanwhile; nothing was written",
            found.meta.epoch, batch.epoch
        );
        return Err(Error::new(ErrorKind::Contention, message).into());
    }
    if batch.seq <= found.meta.back_applied {
        return Ok(());
    }
    // What comes back is no change to be moved again.
    if found.meta.captures {
        capture::stop(conn, module)?;
    }
    let own = [Bind::Text(module), Bind::Int(batch.seq)];
    sql::execute(conn, "UPDATE __cut_meta SET open = 1 WHERE module = ?1", &own[..1])?;
    let mut shapes = BTreeMap::new();
    for change in &batch.changes {
        if !shapes.contains_key(&change.table) {
            shapes.insert(change.table.clone(), Shape::find(conn, &change.table)?);
        }
    }
    let changes: Result<Vec<_>> =
        batch.changes.iter().map(|change| Write::new(&shapes[&change.table], change)).collect();
    apply(conn, changes?)?;
    sql::execute(conn, "UPDATE __cut_meta SET open = 0, back_applied = ?2 WHERE module = ?1", &own)?;
    Ok(())
}

/// Writes all changes in an order that the unique indexes allow, if there is one.
fn apply(conn: &mut SqliteConnection, changes: Vec<Write<'_>>) -> Result<(), Failure> {
    // What goes makes room.
    let (mut left, gone): (Vec<_>, Vec<_>) = changes.into_iter().partition(|write| write.row.is_some());
    for write in gone {
        write.remove(conn).map_err(|failure| write.refused(failure))?;
    }
    while !left.is_empty() {
        let waiting = left.len();
        let mut refused = Vec::new();
        for write in left {
            if let Some(why) = attempt(conn, |conn| write.put(conn))? {
                refused.push((write, why));
            }
        }
        if refused.len() == waiting {
            return swap(conn, refused);
        }
        left = refused.into_iter().map(|(write, _)| write).collect();
    }
    Ok(())
}

/// Rows that are all in each other's way: they go, then come.
fn swap(conn: &mut SqliteConnection, stuck: Vec<(Write<'_>, Failure)>) -> Result<(), Failure> {
    let swapped = attempt(conn, |conn| {
        for (write, _) in &stuck {
            if write.is_whole() {
                write.remove(conn)?;
            }
        }
        stuck.iter().try_for_each(|(write, _)| write.put(conn))
    })?;
    match (swapped, stuck.into_iter().next()) {
        (Some(_), Some((write, why))) => Err(write.refused(why)),
        _ => Ok(()),
    }
}

/// Runs `work` as a whole or not at all. `Some`: the file refused it by a constraint or a trigger.
fn attempt(
    conn: &mut SqliteConnection,
    work: impl FnOnce(&mut SqliteConnection) -> Result<(), Failure>,
) -> Result<Option<Failure>, Failure> {
    conn.batch_execute("SAVEPOINT back")?;
    match work(conn) {
        Ok(()) => {
            conn.batch_execute("RELEASE back")?;
            Ok(None)
        }
        Err(Failure::Broken(error)) if classify(&error).kind() == ErrorKind::Unexpected => {
            conn.batch_execute("ROLLBACK TO back; RELEASE back")?;
            Ok(Some(Failure::Broken(error)))
        }
        Err(failure) => Err(failure),
    }
}

/// One change, with the table it is for.
struct Write<'a> {
    shape: &'a Shape,
    key: Vec<(String, &'a Raw)>,
    /// Without generated columns.
    row: Option<Vec<(String, &'a Raw)>>,
}

impl<'a> Write<'a> {
    fn new(shape: &'a Shape, change: &'a BackChange) -> Result<Self> {
        let named = |values: &'a [(SourceColumn, Raw)]| {
            let column = |(column, value): &'a (SourceColumn, Raw)| Ok((shape.column(column)?, value));
            values.iter().map(column).collect::<Result<Vec<_>>>()
        };
        if change.key.is_empty() {
            return Err(Error::invalid(format!("table {}: a change without a key", change.table)));
        }
        let mut row = change.row.as_deref().map(named).transpose()?;
        let generated: Vec<_> =
            shape.columns.iter().filter(|column| column.generated).map(|it| quote(&it.name)).collect();
        if let Some(row) = &mut row {
            row.retain(|(name, _)| !generated.contains(name));
        }
        Ok(Self { shape, key: named(&change.key)?, row })
    }

    fn table(&self) -> String {
        quote(&self.shape.name)
    }

    fn remove(&self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        // By its bytes: a column's collation may take another key for this one.
        if self.stored(conn)?.is_none() {
            return Ok(());
        }
        let (which, binds) = self.which(0);
        sql::execute(conn, &format!("DELETE FROM {} WHERE {which}", self.table()), &binds)?;
        Ok(())
    }

    /// Brings the row to what it should be. A trigger of the table may have changed it again (`updated_at`), so it is looked at
    /// afterwards, and written once more.
    fn put(&self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        let row = self.row.as_deref().unwrap_or_default();
        for _ in 0..2 {
            match self.stored(conn)? {
                None => self.insert(conn, row)?,
                Some(stored) => {
                    let changed: Vec<_> = row
                        .iter()
                        .zip(stored)
                        .filter(|((_, new), old)| *new != old)
                        .map(|(it, _)| it)
                        .collect();
                    if changed.is_empty() {
                        return Ok(());
                    }
                    self.update(conn, &changed)?;
                }
            }
        }
        let stored = self.stored(conn)?;
        if stored.is_some_and(|stored| row.iter().map(|(_, value)| *value).eq(&stored)) {
            return Ok(());
        }
        let message = format!(
            "table {}: the row with {} was changed by the table itself on its way back, by a trigger or the type of a column",
            self.shape.name,
            self.named()
        );
        Err(Error::invalid(message).into())
    }

    /// The columns of the row as they are stored, if it is there.
    fn stored(&self, conn: &mut SqliteConnection) -> Result<Option<Vec<Raw>>, Failure> {
        let (which, binds) = self.which(0);
        let row = self.row.as_deref().unwrap_or_default();
        let columns: Vec<_> = self.key.iter().chain(row).map(|(name, _)| name.as_str()).collect();
        let sql = format!("SELECT {} FROM {} WHERE {which}", columns.join(", "), self.table());
        let key = || self.key.iter().map(|(_, value)| *value);
        let rows = sql::rows(conn, &sql, &binds)?.into_iter().map(|row| row.into_raws().collect::<Vec<_>>());
        let mut same = rows.filter(|row| row.iter().take(self.key.len()).eq(key()));
        Ok(same.next().map(|mut row| row.split_off(self.key.len())))
    }

    fn insert(&self, conn: &mut SqliteConnection, row: &[(String, &Raw)]) -> Result<(), Failure> {
        let names: Vec<_> = row.iter().map(|(name, _)| name.as_str()).collect();
        let values: Vec<_> = (1..).zip(row).map(|(number, (_, value))| parameter(value, number)).collect();
        let sql =
            format!("INSERT INTO {} ({}) VALUES ({})", self.table(), names.join(", "), values.join(", "));
        let binds: Vec<_> = row.iter().map(|(_, value)| Bind::from(*value)).collect();
        sql::execute(conn, &sql, &binds)?;
        Ok(())
    }

    /// Names only what changes, so that triggers on columns that stay are left alone.
    fn update(&self, conn: &mut SqliteConnection, changed: &[&(String, &Raw)]) -> Result<(), Failure> {
        let set: Vec<_> = (1..)
            .zip(changed)
            .map(|(number, (name, value))| format!("{name} = {}", parameter(value, number)))
            .collect();
        let (which, key) = self.which(changed.len());
        let mut binds: Vec<_> = changed.iter().map(|(_, value)| Bind::from(*value)).collect();
        binds.extend(key);
        sql::execute(conn, &format!("UPDATE {} SET {} WHERE {which}", self.table(), set.join(", ")), &binds)?;
        Ok(())
    }

    /// The condition that finds the row, its parameters counted from `after`.
    fn which(&self, after: usize) -> (String, Vec<Bind<'a>>) {
        let same: Vec<_> = (after + 1..)
            .zip(&self.key)
            .map(|(number, (name, value))| {
                let value = parameter(value, number);
                format!("{name} IS {value} AND typeof({name}) = typeof({value})")
            })
            .collect();
        (same.join(" AND "), self.key.iter().map(|(_, value)| Bind::from(*value)).collect())
    }

    /// Whether the row is known in all of its columns, so that nothing is lost when it goes and comes.
    fn is_whole(&self) -> bool {
        let row = self.row.as_deref().unwrap_or_default();
        let mut columns = self.shape.columns.iter().filter(|column| !column.generated);
        columns.all(|column| row.iter().any(|(name, _)| *name == quote(&column.name)))
    }

    /// Its key for people, as they would ask the file for it.
    fn named(&self) -> String {
        let one = |(name, value): &(String, &Raw)| {
            let value = match value {
                Raw::Null => "NULL".to_owned(),
                Raw::Integer(number) => number.to_string(),
                Raw::Real(number) => format!("{number:?}"),
                Raw::Text(bytes) => literal(&String::from_utf8_lossy(bytes)),
                Raw::Blob(bytes) => format!("x'{}'", hex(bytes)),
            };
            format!("{name} = {value}")
        };
        self.key.iter().map(one).collect::<Vec<_>>().join(" AND ")
    }

    fn refused(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Broken(error) if classify(&error).kind() == ErrorKind::Unexpected => {
                let why = classify(&error);
                let message = format!(
                    "table {}: the file refuses the row with {} on its way back: {}",
                    self.shape.name,
                    self.named(),
                    why.message()
                );
                Error::invalid(message).into()
            }
            other => other,
        }
    }
}
