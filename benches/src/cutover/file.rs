//! Legacy files.

use std::path::Path;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};

use crate::AnyError;

/// The schema of the oldest programs.
const LEGACY: &str = include_str!("../../../crates/sqlite/tests/legacy.sql");

/// The columns of an audit event in the file, without those that are never set here.
pub const COLUMNS: &str = "event_id, event_type, event_category, event_outcome, event_timestamp, event_date, \
     service_name, actor_type, actor_id, resource_type, resource_id, event_data, correlation_id";

/// A row of about 800 bytes, made of `i`.
pub fn row(i: &str) -> String {
    format!(
        "printf('%08x-0000-4000-8000-%012x', {i} * 2654435761 % 4294967296, {i}), 'order.placed', 'order', 'success', \
         strftime('%Y-%m-%dT%H:%M:%f', 1704067200 + {i}, 'unixepoch') || '123Z', date(1704067200 + {i}, 'unixepoch'), \
         'orders', 'user', 'user-' || ({i} % 1000), 'order', 'o-' || {i}, \
         json_object('amount', {i} * 0.25, 'currency', 'EUR', 'items', json_array(1, 2, 3), 'note', hex(randomblob(220))), \
         'c-' || ({i} / 5)"
    )
}

/// Makes a legacy file with so many audit events, a second apart.
pub fn fill(file: &Path, rows: usize) -> Result<(), AnyError> {
    let mut conn = SqliteConnection::establish(&file.to_string_lossy())?;
    conn.batch_execute(LEGACY)?;
    conn.batch_execute(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; \
         INSERT INTO audit_events ({COLUMNS}) \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) SELECT {} FROM n; \
         PRAGMA wal_checkpoint(TRUNCATE)",
        row("i")
    ))?;
    Ok(())
}
