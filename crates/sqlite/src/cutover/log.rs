//! The log of captured keys.

use changeover_core::cutover::{Dirty, DirtyKey};
use changeover_core::{Error, ErrorKind, Result};
use diesel::SqliteConnection;

use super::gate;
use crate::classify::Failure;
use crate::sql::{self, Bind};

/// What a module that was never prepared is told.
pub(super) fn unprepared(module: &str) -> Error {
    let message = format!("no cutover of the module {module} was prepared in this file; start one");
    Error::new(ErrorKind::NotFound, message)
}

pub(super) fn dirty(
    conn: &mut SqliteConnection,
    module: &str,
    after: i64,
    limit: u32,
) -> Result<Dirty, Failure> {
    let found = gate::find(conn, module)?.ok_or_else(|| unprepared(module))?;
    let sql = "SELECT seq, tbl, n, k1, k2, k3, k4 FROM __cut_dirty WHERE module = ?1 AND seq > ?2
               ORDER BY seq LIMIT ?3";
    let mut keys = Vec::new();
    for row in sql::rows(conn, sql, &[Bind::Text(module), Bind::Int(after), Bind::Int(i64::from(limit))])? {
        let seq = row.cell(0).as_int().unwrap_or_default();
        let corrupt = |column, problem| Error::corrupt("__cut_dirty", format!("seq {seq}"), column, problem);
        let table = row.cell(1).as_str().ok_or_else(|| corrupt("tbl", "is not text"))?.to_owned();
        let count =
            row.cell(2).as_int().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=4).contains(n));
        let count = count.ok_or_else(|| corrupt("n", "is not a number from 1 to 4"))?;
        let key = row.into_raws().skip(3).take(count).collect();
        keys.push(DirtyKey { seq, table, key });
    }
    Ok(Dirty { keys, last_seq: found.meta.seq })
}

pub(super) fn trim(conn: &mut SqliteConnection, module: &str, upto: i64) -> Result<(), Failure> {
    let found = gate::find(conn, module)?.ok_or_else(|| unprepared(module))?;
    if upto > found.meta.seq {
        let message =
            format!("the last captured change is {}, asked for was to forget up to {upto}", found.meta.seq);
        return Err(Error::invalid(message).into());
    }
    // The last of all stays: its number is not given again even if somebody empties sqlite_sequence.
    let sql = "DELETE FROM __cut_dirty WHERE module = ?1 AND seq <= ?2
               AND seq < (SELECT max(seq) FROM __cut_dirty)";
    sql::execute(conn, sql, &[Bind::Text(module), Bind::Int(upto)])?;
    let sql = "UPDATE __cut_meta SET trimmed = max(trimmed, ?2) WHERE module = ?1";
    sql::execute(conn, sql, &[Bind::Text(module), Bind::Int(upto)])?;
    Ok(())
}
