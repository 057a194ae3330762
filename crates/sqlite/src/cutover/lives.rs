//! What still lives in a file: rows that no finalized module moved, and modules that are not finalized.

use std::collections::{BTreeMap, BTreeSet};

use diesel::SqliteConnection;

use super::gate;
use super::shape::quote;
use crate::classify::Failure;
use crate::schema::is_own_record;
use crate::sql;

/// Tables with rows of somebody's: not SQLite's own, not a cutover's, not the parts that a virtual table keeps its rows in.
const TABLES: &str =
    "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual')
    AND substr(name, 1, 7) <> 'sqlite_' AND substr(name, 1, 6) <> '__cut_' ORDER BY name";

/// The module of each table that a fence stands before, by the table's name in small letters.
pub(super) fn fenced(conn: &mut SqliteConnection) -> Result<BTreeMap<String, String>, Failure> {
    let sql = "SELECT name, lower(tbl_name) FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, 6) = '__cut.'";
    let mut all = BTreeMap::new();
    for row in sql::rows(conn, sql, &[])? {
        let mut parts = row.cell(0).as_str().unwrap_or_default().split('.').skip(1);
        if let (Some(module), Some("fence"), Some(table)) = (parts.next(), parts.next(), row.cell(1).as_str())
        {
            all.insert(table.to_owned(), module.to_owned());
        }
    }
    Ok(all)
}

/// Why the file cannot be put away yet; `None` if nothing lives in it any more.
pub(super) fn why_kept(conn: &mut SqliteConnection) -> Result<Option<String>, Failure> {
    let (mut finalized, mut others) = (BTreeSet::new(), Vec::new());
    for (module, found) in gate::modules(conn)? {
        if found.meta.open || found.meta.captures {
            others.push(module);
        } else {
            finalized.insert(module);
        }
    }
    let fenced = fenced(conn)?;
    let mut tables = Vec::new();
    for row in sql::rows(conn, TABLES, &[])? {
        let name = row.cell(0).as_str().unwrap_or_default();
        let of = fenced.get(&name.to_ascii_lowercase());
        if is_own_record(name) || of.is_some_and(|module| finalized.contains(module)) {
            continue;
        }
        // What a virtual table holds may be anywhere, and its module unknown here.
        let holds = row.cell(1).as_str() == Some("virtual")
            || sql::first(conn, &format!("SELECT 1 FROM {} LIMIT 1", quote(name)), &[])?.is_some();
        match of {
            // It is named already.
            Some(module) if others.contains(module) => {}
            _ if holds => tables.push(name.to_owned()),
            _ => {}
        }
    }
    let mut why = Vec::new();
    if !others.is_empty() {
        let one = others.len() == 1;
        let (modules, are) = if one { ("the module", "is") } else { ("the modules", "are") };
        why.push(format!("{modules} {} {are} not finalized", others.join(", ")));
    }
    if !tables.is_empty() {
        let of = if tables.len() == 1 { "the table" } else { "the tables" };
        why.push(format!("{of} {} holds rows that no finalized module moved", tables.join(", ")));
    }
    if finalized.is_empty() && why.is_empty() {
        why.push("no module of it was moved".to_owned());
    }
    Ok((!why.is_empty()).then(|| {
        format!(
            "{}; the file is archived with the last module that is finalized, and has to hold nothing else",
            why.join(", and ")
        )
    }))
}
