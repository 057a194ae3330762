//! The fence: triggers before every write to the module's tables, which look at the gate, and the gate itself.

use changeover_core::Result;
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;

use super::capture::{self, trigger};
use super::gate;
use super::log::unprepared;
use super::shape::{Shape, literal, quote};
use crate::classify::Failure;
use crate::sql::{self, Bind};

/// The triggers of the fence on one table. Without its row in `__cut_meta` the gate counts as closed.
pub(super) fn triggers(module: &str, name: &str, table: &Shape, said: &str) -> String {
    let one = |event: &str| {
        format!(
            "CREATE TRIGGER {} BEFORE {event} ON {} \
             WHEN coalesce((SELECT open FROM __cut_meta WHERE module = {}), 0) = 0 \
             BEGIN SELECT RAISE(ABORT, {}); END;",
            quote(&trigger(module, "fence", name, event)),
            quote(&table.name),
            literal(module),
            literal(said),
        )
    };
    ["INSERT", "UPDATE", "DELETE"].map(one).concat()
}

/// Closes the gate; the last captured change.
pub(super) fn fence(
    conn: &mut SqliteConnection,
    module: &str,
    epoch: i64,
    moved_to: &str,
) -> Result<Option<i64>, Failure> {
    let found = gate::find(conn, module)?.ok_or_else(|| unprepared(module))?;
    if !found.meta.open || found.meta.epoch != epoch {
        return Ok(None);
    }
    let said = gate::message(module, epoch + 1, moved_to);
    if said != found.said {
        say(conn, module, &found.said, &said)?;
    }
    let sql = "UPDATE __cut_meta SET open = 0, epoch = ?2, moved_to = ?3, said = ?4 WHERE module = ?1";
    let binds = [Bind::Text(module), Bind::Int(epoch + 1), Bind::Text(moved_to), Bind::Text(&said)];
    sql::execute(conn, sql, &binds)?;
    Ok(Some(found.meta.seq))
}

/// Puts another text into the triggers. SQLite 3.8 knows no expression in RAISE, so they are made anew.
fn say(conn: &mut SqliteConnection, module: &str, before: &str, now: &str) -> Result<(), Failure> {
    for (name, text) in capture::installed(conn, module, "fence")? {
        let text = text.replace(&literal(before), &literal(now));
        conn.batch_execute(&format!("DROP TRIGGER {}; {text};", quote(&name)))?;
    }
    Ok(())
}

/// Opens the gate if `epoch` is above the store's.
pub(super) fn reopen(
    conn: &mut SqliteConnection,
    module: &str,
    epoch: i64,
    capture: bool,
) -> Result<bool, Failure> {
    let found = gate::find(conn, module)?.ok_or_else(|| unprepared(module))?;
    if found.meta.epoch >= epoch {
        return Ok(false);
    }
    if !capture {
        capture::stop(conn, module)?;
    }
    let sql = "UPDATE __cut_meta SET open = 1, epoch = ?2, moved_to = '' WHERE module = ?1";
    sql::execute(conn, sql, &[Bind::Text(module), Bind::Int(epoch)])?;
    Ok(true)
}
