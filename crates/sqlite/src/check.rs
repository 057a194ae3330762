//! What an operator wants to know of a file: its pages, its modules, and what in it waits for a cutover.

use changeover_core::backend::Check;
use diesel::SqliteConnection;

use crate::classify::Failure;
use crate::cutover::tombstone;
use crate::database::Database;
use crate::sql;

/// One line for the file, and unless that is what was left of an archived one, one for each family of each module in it, one for legacy rows that no store serves.
pub(crate) async fn check(database: &Database) -> Vec<Check> {
    let file = format!("SQLite file {}", database.options.path.display());
    let path = database.options.path.clone();
    let looked = database.read(move |conn| {
        Ok((pages(conn)?, modules(conn)?, notifications(conn)?, tombstone::find(conn, &path)?))
    });
    let (sound, modules, notifications, archive) = match looked.await {
        Ok(looked) => looked,
        Err(error) => return vec![Check { name: file, ok: false, detail: error.to_string() }],
    };
    if let Some(archive) = archive {
        let detail = tombstone::told(&database.options.path, &archive);
        return vec![Check { name: file, ok: sound, detail }];
    }
    let detail = if sound {
        "opened, and its pages are in order"
    } else {
        "its pages are damaged; restore the file from a backup"
    };
    let mut lines = vec![Check { name: file.clone(), ok: sound, detail: detail.to_owned() }];
    lines.extend(modules.into_iter().map(|(module, detail)| {
        let name = format!("{file}: {module}");
        Check { name, ok: true, detail }
    }));
    if let Some(rows) = notifications {
        let name = format!("{file}: notification_audit");
        let detail = format!(
            "{rows} rows wait for the cutover of the module audit, which makes audit events of them; until then no \
             store serves them"
        );
        lines.push(Check { name, ok: true, detail });
    }
    lines
}

fn pages(conn: &mut SqliteConnection) -> Result<bool, Failure> {
    let row = sql::first(conn, "PRAGMA quick_check(1)", &[])?;
    Ok(row.is_some_and(|row| row.cell(0).as_str() == Some("ok")))
}

fn has_table(conn: &mut SqliteConnection, table: &str) -> Result<bool, Failure> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
    Ok(sql::first(conn, sql, &[sql::Bind::Text(table)])?.is_some())
}

/// The families that were migrated, by namespace, and whether their tables are those of legacy programs.
fn modules(conn: &mut SqliteConnection) -> Result<Vec<(String, String)>, Failure> {
    if !has_table(conn, "_migrations")? {
        return Ok(Vec::new());
    }
    let sql =
        "SELECT substr(id, 1, instr(id, '/') - 1) AS family, max(mode = 'adopted'), count(*) FROM _migrations
               WHERE substr(id, 1, 5) <> 'base/' GROUP BY family ORDER BY family";
    let rows = sql::rows(conn, sql, &[])?;
    let line = |row: &sql::Row| {
        let family = row.cell(0).as_str().unwrap_or_default().replace('.', ": ");
        let whose = if row.cell(1).as_int() == Some(1) {
            "the tables of legacy programs, adopted as they are"
        } else {
            "native tables"
        };
        (family, format!("{whose}; {} migrations recorded", row.cell(2).as_int().unwrap_or_default()))
    };
    Ok(rows.iter().map(line).collect())
}

/// Rows of the oldest audit table, if there are any.
fn notifications(conn: &mut SqliteConnection) -> Result<Option<i64>, Failure> {
    if !has_table(conn, "notification_audit")? {
        return Ok(None);
    }
    let row = sql::first(conn, "SELECT count(*) FROM notification_audit", &[])?;
    Ok(row.and_then(|row| row.cell(0).as_int()).filter(|rows| *rows > 0))
}
