//! Whether a file holds a module: what keeps another database from claiming it as nobody's.

use changeover_core::ModuleScope;
use diesel::SqliteConnection;

use crate::classify::Failure;
use crate::sql::{self, Bind};

/// Whether one of the module's tables is there and holds a row.
pub(crate) fn holds_rows(conn: &mut SqliteConnection, scope: &ModuleScope) -> Result<bool, Failure> {
    let (prefix, tables): (_, &[&str]) = match (&scope.namespace, scope.module.as_str()) {
        // A module of the user's own has the families that it asked for.
        (Some(namespace), _) => {
            (format!("{namespace}_"), &["domain_event", "event_stream", "audit_events", "playbook_catalog"])
        }
        (None, "audit") => (String::new(), &["audit_events", "notification_audit"]),
        (None, "playbooks") => (String::new(), &["playbook_catalog"]),
        (None, _) => (String::new(), &["domain_event", "event_stream"]),
    };
    for table in tables {
        let table = format!("{prefix}{table}");
        let there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
        if sql::first(conn, there, &[Bind::Text(&table)])?.is_none() {
            continue;
        }
        // Namespaces are identifiers, so the name can stand in the text.
        if sql::first(conn, &format!("SELECT 1 FROM {table} LIMIT 1"), &[])?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
