//! The gate of a module: its row in `__cut_meta`, and what the stores of this program make of it.

use std::sync::atomic::{AtomicI64, Ordering};

use changeover_core::cutover::Meta;
use changeover_core::{Detail, Error, ErrorKind, ModuleName, Result, Uuid};
use diesel::SqliteConnection;

use crate::classify::Failure;
use crate::sql::{self, Bind};

/// What the message of the fence begins with.
pub(crate) const FENCED: &str = "E_FENCED";

/// A row of `__cut_meta`.
pub(crate) struct Found {
    pub(crate) meta: Meta,
    /// Where the data went; empty while they are here.
    pub(crate) moved_to: String,
    /// The text that the triggers of the fence hold.
    pub(crate) said: String,
}

/// What a fenced write is told, by whatever program.
pub(super) fn message(module: &str, epoch: i64, moved_to: &str) -> String {
    format!(
        "{FENCED} module={module} epoch={epoch} moved_to={moved_to}: this module was moved to {moved_to} and takes no \
         writes here; write there"
    )
}

/// What whoever opens a table of an archived file is told; with the module that it was of, and its epoch.
pub(super) fn message_of_archive(module: Option<(&str, i64)>, moved_to: &str, archive: &str) -> String {
    let of = module.map(|(module, epoch)| format!(" module={module} epoch={epoch}")).unwrap_or_default();
    format!(
        "{FENCED}{of} moved_to={moved_to}: the data of this file were moved to {moved_to}; read and write there. The file as it \
         was is {archive}"
    )
}

/// The modules that ever had a cutover, in the order of their names.
pub(super) fn modules(conn: &mut SqliteConnection) -> Result<Vec<(String, Found)>, Failure> {
    if !has_table(conn)? {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for row in sql::rows(conn, "SELECT module FROM __cut_meta ORDER BY module", &[])? {
        let module = row.cell(0).as_str().unwrap_or_default().to_owned();
        all.extend(find(conn, &module)?.map(|found| (module, found)));
    }
    Ok(all)
}

/// Whether some module was moved from here, and every one that ever had a cutover.
pub(crate) fn all_moved(conn: &mut SqliteConnection) -> Result<bool, Failure> {
    if !has_table(conn)? {
        return Ok(false);
    }
    let row = sql::first(conn, "SELECT max(open) FROM __cut_meta", &[])?;
    Ok(row.is_some_and(|row| row.cell(0).as_int() == Some(0)))
}

/// The row of a module, if it ever had a cutover.
pub(crate) fn find(conn: &mut SqliteConnection, module: &str) -> Result<Option<Found>, Failure> {
    if !has_table(conn)? {
        return Ok(None);
    }
    let sql = "SELECT nonce, run, epoch, open, captures, back_applied, moved_to, said,
        max(trimmed, coalesce((SELECT seq FROM __cut_dirty WHERE module = ?1 ORDER BY seq DESC LIMIT 1), 0))
        FROM __cut_meta WHERE module = ?1";
    let Some(row) = sql::first(conn, sql, &[Bind::Text(module)])? else { return Ok(None) };
    let corrupt = |column, problem| Error::corrupt("__cut_meta", module, column, problem);
    let text = |index: usize| row.cell(index).as_str();
    let id = |index, column| {
        let id = text(index).and_then(|text| Uuid::try_parse(text).ok());
        id.ok_or_else(|| corrupt(column, "is not a UUID"))
    };
    let number =
        |index: usize, column| row.cell(index).as_int().ok_or_else(|| corrupt(column, "is not an integer"));
    Ok(Some(Found {
        meta: Meta {
            nonce: id(0, "nonce")?,
            run: id(1, "run")?,
            epoch: number(2, "epoch")?,
            open: number(3, "open")? != 0,
            captures: number(4, "captures")? != 0,
            back_applied: number(5, "back_applied")?,
            seq: number(8, "trimmed")?,
        },
        moved_to: text(6).unwrap_or_default().to_owned(),
        said: text(7).unwrap_or_default().to_owned(),
    }))
}

/// Who owns the module by what the file says; `None` if it never had a cutover.
pub(crate) fn owner(conn: &mut SqliteConnection, module: &str) -> Result<Option<String>, Failure> {
    let found = find(conn, module)?;
    Ok(found.map(|found| if found.meta.open { "sqlite".to_owned() } else { owner_in(&found.moved_to) }))
}

/// `Moved` if the gate of the module is closed.
pub(crate) fn refuse_closed(conn: &mut SqliteConnection, module: &str) -> Result<(), Failure> {
    match find(conn, module)? {
        Some(found) if !found.meta.open => {
            Err(moved(&message(module, found.meta.epoch, &found.moved_to)).into())
        }
        _ => Ok(()),
    }
}

/// As [`refuse_closed`], and `Invalid` while a run captures what changes: it stops when the schema is another.
pub(crate) fn refuse_moving(conn: &mut SqliteConnection, module: &str) -> Result<(), Failure> {
    refuse_closed(conn, module)?;
    match find(conn, module)? {
        Some(found) if found.meta.captures => Err(Error::invalid(format!(
            "run {} of the cutover of module {module} is under way, and captures what changes in its tables; its schema \
             was not changed; abort the run first, or let it end",
            found.meta.run
        ))
        .into()),
        _ => Ok(()),
    }
}

/// The gate as readers look at it.
#[derive(Debug)]
pub(crate) struct Gate {
    module: ModuleName,
    /// The schema cookie of a file without `__cut_meta`; below zero while none was seen.
    absent_at: AtomicI64,
}

impl Gate {
    pub(crate) fn new(module: &ModuleName) -> Self {
        Self { module: module.clone(), absent_at: AtomicI64::new(-1) }
    }

    /// `Moved` if the gate is closed: what the file holds may be old by then. In the snapshot of what is read, so that an
    /// answer is never older than the close. In a file that never had a cutover it costs a look at the cookie.
    pub(crate) fn pass(&self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        let cookie = sql::first(conn, "PRAGMA schema_version", &[])?;
        let cookie = cookie.and_then(|row| row.cell(0).as_int()).unwrap_or(-1);
        if cookie >= 0 && cookie == self.absent_at.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !has_table(conn)? {
            self.absent_at.store(cookie, Ordering::Relaxed);
            return Ok(());
        }
        let sql = "SELECT 1 FROM __cut_meta WHERE module = ?1 AND open = 0";
        if sql::first(conn, sql, &[Bind::Text(self.module.as_str())])?.is_none() {
            return Ok(());
        }
        refuse_closed(conn, self.module.as_str())
    }
}

/// A refusal by what a fenced file holds, a conflict of versions say, is judged on data that may be old: then it is `Moved`.
pub(crate) fn judge_anew<R>(
    conn: &mut SqliteConnection,
    module: &str,
    failure: Failure,
) -> Result<R, Failure> {
    if matches!(failure, Failure::Refused(_)) {
        refuse_closed(conn, module)?;
    }
    Err(failure)
}

/// What a store says when the fence refuses a write.
pub(crate) fn moved(message: &str) -> Error {
    let place = message.split_once("moved_to=").map_or("", |(_, rest)| rest);
    Error::new(ErrorKind::Moved, message).with_detail(Detail::Moved { owner: owner_in(place) })
}

/// The kind of backend that a place begins with.
fn owner_in(place: &str) -> String {
    let end = place.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(place.len());
    if end == 0 { "none".to_owned() } else { place[..end].to_owned() }
}

/// The identity of the file, once a cutover was prepared in it.
pub(super) fn nonce(conn: &mut SqliteConnection) -> Result<Option<Uuid>, Failure> {
    if !has_table(conn)? {
        return Ok(None);
    }
    let row = sql::first(conn, "SELECT nonce FROM __cut_meta LIMIT 1", &[])?;
    Ok(row.and_then(|row| Uuid::try_parse(row.cell(0).as_str()?).ok()))
}

fn has_table(conn: &mut SqliteConnection) -> Result<bool, Failure> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '__cut_meta'";
    Ok(sql::first(conn, sql, &[])?.is_some())
}
