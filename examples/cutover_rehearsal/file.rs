//! A file as old programs leave it: loosely typed, with a few rows that no strict store takes.

use std::fmt::Write as _;
use std::path::Path;

use changeover::Result;
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use crate::broken;

const TABLES: &str = "
    CREATE TABLE event_stream (
        stream_id TEXT PRIMARY KEY, aggregate_type TEXT NOT NULL, aggregate_id TEXT NOT NULL,
        created_at TEXT DEFAULT CURRENT_TIMESTAMP, version INTEGER NOT NULL DEFAULT 0, UNIQUE (aggregate_type, aggregate_id)
    );
    CREATE TABLE domain_event (
        event_id TEXT PRIMARY KEY, stream_id TEXT NOT NULL REFERENCES event_stream (stream_id), event_type TEXT NOT NULL,
        event_version INTEGER NOT NULL, aggregate_version INTEGER NOT NULL, event_data TEXT NOT NULL, metadata TEXT,
        occurred_at TEXT DEFAULT CURRENT_TIMESTAMP, causation_id TEXT, correlation_id TEXT
    );";

const STREAMS: u32 = 40;
const VERSIONS: u32 = 5;

/// Times and documents as they should be, but in three rows.
pub fn make(path: &Path) -> Result<()> {
    let mut sql = format!("{TABLES} BEGIN;");
    for stream in 1..=STREAMS {
        let id = format!("00000000-0000-4000-8000-{stream:012}");
        // Writing to a string cannot fail.
        let _ = write!(
            sql,
            "INSERT INTO event_stream VALUES ('{id}', 'Order', '{id}', '2024-02-29T08:00:00Z', {VERSIONS});"
        );
        for version in 1..=VERSIONS {
            let _ = write!(
                sql,
                "INSERT INTO domain_event VALUES ('00000000-0000-4000-9000-{stream:06}{version:06}', '{id}', 'Changed', 1, \
                 {version}, '{{\"lamps\":{version}}}', '{{}}', '2024-02-29T08:00:0{version}Z', NULL, NULL);"
            );
        }
    }
    sql.push_str(
        "UPDATE domain_event SET occurred_at = '2024-02-31T08:00:00Z' WHERE rowid = 12;
         UPDATE domain_event SET event_data = '{\"lamps\":' WHERE rowid = 77;
         UPDATE domain_event SET event_data = '{\"lamps\":1,\"lamps\":2}' WHERE rowid = 123;
         COMMIT;",
    );
    execute(path, &sql)
}

/// By whatever program; here the file's own library.
pub fn correct(path: &Path) -> Result<()> {
    execute(
        path,
        "UPDATE domain_event SET occurred_at = '2024-02-29T08:00:02Z' WHERE rowid = 12;
         UPDATE domain_event SET event_data = '{\"lamps\":2}' WHERE rowid = 77;",
    )
}

fn execute(path: &Path, sql: &str) -> Result<()> {
    let mut file = SqliteConnection::establish(&path.to_string_lossy()).map_err(|error| broken(&error))?;
    file.batch_execute(sql).map_err(|error| broken(&error))
}
