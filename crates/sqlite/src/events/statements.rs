//! The SQL of the event store, for a native file and for an adopted one.
//!
//! Both have the same parameters and the same columns, so that one piece of code serves both: an adopted file has no
//! tenant column, its position is the rowid, and it keeps no time of recording. The texts are made once a module, which
//! keeps the statement caches small.

use crate::schema::render;

/// The columns of [`Statements::stream_page`], [`Statements::log_page`] and [`Statements::event`], in their order.
pub(super) mod column {
    pub(crate) const POSITION: usize = 0;
    pub(crate) const EVENT_ID: usize = 1;
    pub(crate) const STREAM_ID: usize = 2;
    pub(crate) const STREAM_EXISTS: usize = 3;
    pub(crate) const AGGREGATE_TYPE: usize = 4;
    pub(crate) const AGGREGATE_ID: usize = 5;
    pub(crate) const EVENT_TYPE: usize = 6;
    pub(crate) const EVENT_VERSION: usize = 7;
    pub(crate) const AGGREGATE_VERSION: usize = 8;
    pub(crate) const EVENT_DATA: usize = 9;
    pub(crate) const METADATA: usize = 10;
    pub(crate) const OCCURRED_AT: usize = 11;
    pub(crate) const RECORDED_AT: usize = 12;
    pub(crate) const CAUSATION_ID: usize = 13;
    pub(crate) const CORRELATION_ID: usize = 14;
}

/// `?1` is the tenant everywhere; an adopted file leaves it unused.
#[derive(Debug)]
pub(crate) struct Statements {
    /// `stream_id`, `version`, highest version of its events. `?2` type, `?3` and `?4` the two spellings of the id.
    pub(super) stream: String,
    /// Position of a stream's last event. `?2` stream.
    pub(super) stream_end: String,
    /// Events of `?2` stream, `?3` to `?4` versions, `?5` limit, `?6` types or null; rising.
    pub(super) stream_page: String,
    /// The same, falling.
    pub(super) stream_page_back: String,
    /// Events after `?2` up to `?3`, `?4` limit, `?5` streams, `?6` aggregate types, `?7` event types, each or null.
    pub(super) log_page: String,
    /// Last position.
    pub(super) log_end: String,
    /// Position `?3` rows behind the one after `?2`.
    pub(super) log_window: String,
    /// One event by `?2` and `?3`, the two spellings of its id.
    pub(super) event: String,
    /// Position of event `?2`.
    pub(super) event_position: String,
    /// The last position, of all tenants.
    pub(super) last_position: String,
    /// Time of the last recording, of all tenants.
    pub(super) last_recorded: String,
    /// `?2` stream, `?3` type, `?4` id, `?5` time, `?6` version.
    pub(super) insert_stream: String,
    /// `?2` stream, `?3` version.
    pub(super) update_stream: String,
    /// `?2` id, `?3` stream, `?4` type, `?5` schema, `?6` version, `?7` data, `?8` metadata, `?9` occurred, `?10`
    /// recorded, `?11` causation, `?12` correlation.
    pub(super) insert_event: String,
}

impl Statements {
    /// The file is of this schema.
    pub(super) fn native(prefix: &str) -> Self {
        let columns = "SELECT e.position, e.event_id, e.stream_id, 1, s.aggregate_type, s.aggregate_id, e.event_type,
            e.event_version, e.aggregate_version, e.event_data, e.metadata, e.occurred_at, e.recorded_at,
            e.causation_id, e.correlation_id
            FROM domain_event e JOIN event_stream s ON s.tenant_id = e.tenant_id AND s.stream_id = e.stream_id";
        Self::render(
            prefix,
            columns,
            &Dialect { tenant: "e.tenant_id = ?1", stream_tenant: "f.tenant_id = ?1", position: "position" },
            [
                "SELECT f.stream_id, f.version, f.version FROM event_stream f",
                "SELECT recorded_at FROM domain_event ORDER BY position DESC LIMIT 1",
                "INSERT INTO event_stream (tenant_id, stream_id, aggregate_type, aggregate_id, created_at, version)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                "UPDATE event_stream SET version = ?3 WHERE tenant_id = ?1 AND stream_id = ?2",
                "INSERT INTO domain_event (tenant_id, event_id, stream_id, event_type, event_version,
                 aggregate_version, event_data, metadata, occurred_at, recorded_at, causation_id, correlation_id)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            ],
        )
    }

    /// The tables are those of legacy programs.
    pub(super) fn adopted(prefix: &str) -> Self {
        let columns = "SELECT e.rowid, e.event_id, e.stream_id, s.rowid, s.aggregate_type, s.aggregate_id,
            e.event_type, e.event_version, e.aggregate_version, e.event_data, e.metadata, e.occurred_at,
            e.occurred_at, e.causation_id, e.correlation_id
            FROM domain_event e LEFT JOIN event_stream s ON s.stream_id = e.stream_id";
        Self::render(
            prefix,
            columns,
            // The tenant is used, for SQLite refuses a value without a parameter.
            &Dialect { tenant: "?1 IS NOT NULL", stream_tenant: "?1 IS NOT NULL", position: "rowid" },
            [
                "SELECT f.stream_id, f.version,
                 (SELECT max(e.aggregate_version) FROM domain_event e WHERE e.stream_id = f.stream_id)
                 FROM event_stream f",
                "SELECT NULL",
                "INSERT INTO event_stream (stream_id, aggregate_type, aggregate_id, created_at, version)
                 VALUES (?2, ?3, ?4, ?5, ?6)",
                "UPDATE event_stream SET version = ?3 WHERE stream_id = ?2",
                "INSERT INTO domain_event (event_id, stream_id, event_type, event_version, aggregate_version,
                 event_data, metadata, occurred_at, causation_id, correlation_id)
                 VALUES (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?11, ?12)",
            ],
        )
    }

    fn render(prefix: &str, columns: &str, dialect: &Dialect, own: [&str; 5]) -> Self {
        let Dialect { tenant, stream_tenant, position } = dialect;
        let [stream, last_recorded, insert_stream, update_stream, insert_event] = own;
        let page = |order: &str| {
            format!(
                "{columns} WHERE {tenant} AND e.stream_id = ?2 AND e.aggregate_version BETWEEN ?3 AND ?4
                 AND (?6 IS NULL OR e.event_type IN (SELECT value FROM json_each(?6)))
                 ORDER BY e.aggregate_version {order} LIMIT ?5"
            )
        };
        let events = "FROM domain_event e";
        let made = |sql: String| render(&sql, prefix);
        Self {
            stream: made(format!(
                "{stream} WHERE {stream_tenant} AND f.aggregate_type = ?2 AND f.aggregate_id IN (?3, ?4)"
            )),
            stream_end: made(format!(
                "SELECT e.{position} {events} WHERE {tenant} AND e.stream_id = ?2
                 ORDER BY e.aggregate_version DESC LIMIT 1"
            )),
            stream_page: made(page("ASC")),
            stream_page_back: made(page("DESC")),
            log_page: made(format!(
                "{columns} WHERE {tenant} AND e.{position} > ?2 AND e.{position} <= ?3
                 AND (?5 IS NULL OR e.stream_id IN (SELECT f.stream_id FROM json_each(?5) j JOIN event_stream f
                      ON {stream_tenant} AND f.aggregate_type = json_extract(j.value, '$[0]')
                      AND f.aggregate_id IN (json_extract(j.value, '$[1]'), upper(json_extract(j.value, '$[1]')))))
                 AND (?6 IS NULL OR s.aggregate_type IN (SELECT value FROM json_each(?6)))
                 AND (?7 IS NULL OR e.event_type IN (SELECT value FROM json_each(?7)))
                 ORDER BY e.{position} LIMIT ?4"
            )),
            log_end: made(format!(
                "SELECT e.{position}, e.event_id {events} WHERE {tenant} ORDER BY e.{position} DESC LIMIT 1"
            )),
            log_window: made(format!(
                "SELECT e.{position} {events} WHERE {tenant} AND e.{position} > ?2
                 ORDER BY e.{position} LIMIT 1 OFFSET ?3"
            )),
            event: made(format!("{columns} WHERE {tenant} AND e.event_id IN (?2, ?3)")),
            event_position: made(format!("SELECT e.{position} {events} WHERE {tenant} AND e.event_id = ?2")),
            last_position: made(format!("SELECT max(e.{position}) {events}")),
            last_recorded: render(last_recorded, prefix),
            insert_stream: render(insert_stream, prefix),
            update_stream: render(update_stream, prefix),
            insert_event: render(insert_event, prefix),
        }
    }
}

/// Where the two files differ inside of the statements they share.
struct Dialect {
    /// Of `domain_event e`.
    tenant: &'static str,
    /// Of `event_stream f`.
    stream_tenant: &'static str,
    position: &'static str,
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::{Connection, SqliteConnection};
    use rstest::rstest;

    use super::*;
    use crate::sql::{self, Bind};

    /// The tables as they are made, without the programs around them.
    const NATIVE: &str = include_str!("../../migrations/events/0002_streams_and_events/up.sql");
    const LEGACY: &str = include_str!("../../tests/legacy.sql");

    // E99: no look-up walks through a table, however many streams there are.
    #[rstest]
    #[case::native(NATIVE, Statements::native(""))]
    #[case::adopted(LEGACY, Statements::adopted(""))]
    fn every_read_finds_its_rows_by_an_index(#[case] schema: &str, #[case] made: Statements) {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.batch_execute(schema).unwrap();
        let reads = [
            (&made.stream, 4),
            (&made.stream_end, 2),
            (&made.stream_page, 6),
            (&made.stream_page_back, 6),
            (&made.log_page, 7),
            (&made.log_window, 3),
            (&made.event, 3),
            (&made.event_position, 2),
            (&made.last_position, 0),
        ];
        for (read, parameters) in reads {
            let explained = format!("EXPLAIN QUERY PLAN {read}");
            let binds = vec![Bind::Text("1"); parameters];
            for row in sql::rows(&mut conn, &explained, &binds).unwrap() {
                let step = row.cell(3).as_str().unwrap_or_default().to_owned();
                let walks = step.starts_with("SCAN") && !step.contains("json_each") && !step.contains(" j ");
                assert!(!walks && !step.contains("TEMP B-TREE"), "{step}: {read}");
            }
        }
    }
}
