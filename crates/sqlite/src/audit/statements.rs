//! The SQL of the audit repository, for a native file and for an adopted one.
//!
//! A filter that is given finds its rows by an index only if it stands in the text as an equality, and one that is not
//! given must not. So there is one text for each filter that can lead, where the others are conditions that a null
//! leaves open: a handful of texts, which keeps the statement caches small.

use changeover_core::audit::{AuditFilter, AuditOrder, COLUMNS};

use crate::schema::render;

/// Where the values stand in the rows of [`Statements::event`] and its like: the sequence, then [`COLUMNS`] in their
/// order, then these.
pub(super) mod column {
    pub(crate) const SEQUENCE: usize = 0;
    pub(crate) const FIRST: usize = 1;
    pub(crate) const RECORDED_AT: usize = 21;
    /// Of an adopted file: whether another row has the same id in another spelling.
    pub(crate) const TWICE: usize = 22;
    /// Of an adopted file: whether the parent is there.
    pub(crate) const PARENT: usize = 23;
    /// Of [`Statements::chain`](super::Statements::chain).
    pub(crate) const DIGEST: usize = 24;
    pub(crate) const LINK: usize = 25;
}

/// `?1` is the tenant everywhere; an adopted file leaves it unused. `?2` to `?10` are the filters, each or null: type,
/// category, outcome, service, actor type, actor, resource type, resource, correlation id.
#[derive(Debug)]
pub(crate) struct Statements {
    /// By `?2` and `?3`, the two spellings of the id.
    pub(super) event: String,
    /// By place, `?2`.
    pub(super) at: String,
    /// The stored spelling of the id in `?2` and `?3`.
    pub(super) stored_id: String,
    /// `?11` and `?12` the times, both inclusive; `?13` the time and `?14` the id to go on after, or null; `?15` limit,
    /// `?16` offset.
    pages: Vec<(Lead, [String; 2])>,
    /// As recorded: `?11` and `?12` the times, `?13` the sequence to go on after, `?14` limit, `?15` offset.
    recorded: Vec<(Lead, String)>,
    /// `?11` and `?12` the times.
    counts: Vec<(Lead, String)>,
    /// Of an adopted file: place, time, id of what passes the filters after place `?11`, as recorded.
    scans: Vec<(Lead, String)>,
    /// Time of the last recording, of all tenants.
    pub(super) last_recorded: String,
    /// `?1` tenant, `?2` to `?21` the columns, `?22` recorded, `?23` digest, `?24` link.
    pub(super) insert: String,
    /// The chain of `?2` correlation id.
    pub(super) chain: String,
}

/// The filter whose index finds the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lead {
    Correlation,
    Resource,
    Actor,
    Type,
    Service,
    Category,
    None,
}

impl Lead {
    const ALL: [Self; 7] = [
        Self::Correlation,
        Self::Resource,
        Self::Actor,
        Self::Type,
        Self::Service,
        Self::Category,
        Self::None,
    ];

    /// The filters that stand as equalities, by their parameters.
    fn columns(self) -> &'static [usize] {
        match self {
            Self::Correlation => &[10],
            Self::Resource => &[8, 9],
            Self::Actor => &[7],
            Self::Type => &[2],
            Self::Service => &[5],
            Self::Category => &[3],
            Self::None => &[],
        }
    }

    /// Its index in a native file. Said in the texts: without counts of values the planner takes the one over times.
    fn index(self) -> &'static str {
        match self {
            Self::Correlation => "idx_audit_events_correlation_id",
            Self::Resource => "idx_audit_events_resource",
            Self::Actor => "idx_audit_events_actor",
            Self::Type => "idx_audit_events_event_type",
            Self::Service => "idx_audit_events_service_name",
            Self::Category => "idx_audit_events_event_category",
            Self::None => "idx_audit_events_event_timestamp",
        }
    }

    fn of(filter: &AuditFilter) -> Self {
        if filter.correlation_id.is_some() {
            Self::Correlation
        } else if filter.resource_type.is_some() && filter.resource_id.is_some() {
            Self::Resource
        } else if filter.actor_id.is_some() {
            Self::Actor
        } else if filter.event_type.is_some() {
            Self::Type
        } else if filter.service_name.is_some() {
            Self::Service
        } else if filter.event_category.is_some() {
            Self::Category
        } else {
            Self::None
        }
    }
}

/// The columns of the filters, at the numbers of their parameters.
const FILTERS: [&str; 9] = [
    "event_type",
    "event_category",
    "event_outcome",
    "service_name",
    "actor_type",
    "actor_id",
    "resource_type",
    "resource_id",
    "correlation_id",
];

fn filters(lead: Lead) -> String {
    let conditions = FILTERS.iter().zip(2..).map(|(column, parameter)| {
        if lead.columns().contains(&parameter) {
            format!(" AND e.{column} = ?{parameter}")
        } else {
            format!(" AND (?{parameter} IS NULL OR e.{column} = ?{parameter})")
        }
    });
    conditions.collect()
}

/// A text for the lead of `filter`, or for none where its lead has no index of its own.
fn led<'a, T>(texts: &'a [(Lead, T)], filter: &AuditFilter) -> Option<&'a T> {
    let lead = Lead::of(filter);
    let found = texts.iter().find(|(of, _)| *of == lead).or_else(|| texts.last());
    found.map(|(_, text)| text)
}

impl Statements {
    /// The file is of this schema.
    pub(super) fn native(prefix: &str) -> Self {
        let list = COLUMNS.map(|column| format!("e.{column}")).join(", ");
        let columns = |more: &str, index: &str| {
            format!(
                "SELECT e.sequence, {list}, e.recorded_at, 0, 1{more} FROM audit_events e {index}
                 WHERE e.tenant_id = ?1"
            )
        };
        let indexed = |lead: Lead| format!("INDEXED BY {}", lead.index());
        let made = |sql: String| render(&sql, prefix);
        let range = "AND e.event_timestamp >= ?11 AND e.event_timestamp <= ?12";
        let page = |lead: Lead, (beyond, order): (&str, &str)| {
            made(format!(
                "{}{} {range} AND (?13 IS NULL OR {beyond}) ORDER BY {order} LIMIT ?15 OFFSET ?16",
                columns("", &indexed(lead)),
                filters(lead)
            ))
        };
        let newest = ("e.event_timestamp < ?13 OR e.event_id > ?14", "e.event_timestamp DESC, e.event_id");
        let oldest = ("e.event_timestamp > ?13 OR e.event_id < ?14", "e.event_timestamp, e.event_id DESC");
        let recorded = [Lead::Correlation, Lead::None].map(|lead| {
            // The plus keeps the planner from the index over times, which would have to be sorted anew.
            let range = range.replace("e.event_timestamp", "+e.event_timestamp");
            let sql = format!(
                "{}{} {range} AND e.sequence > ?13 ORDER BY e.sequence LIMIT ?14 OFFSET ?15",
                columns("", ""),
                filters(lead)
            );
            (lead, made(sql))
        });
        let count = |lead| {
            made(format!(
                "SELECT count(*) FROM audit_events e {} WHERE e.tenant_id = ?1{} {range}",
                indexed(lead),
                filters(lead)
            ))
        };
        Self {
            event: made(format!("{} AND e.event_id IN (?2, ?3)", columns("", ""))),
            at: made(format!("{} AND e.sequence = ?2", columns("", ""))),
            stored_id: made(
                "SELECT e.event_id FROM audit_events e WHERE e.tenant_id = ?1 AND e.event_id IN (?2, ?3)"
                    .into(),
            ),
            pages: Lead::ALL.map(|lead| (lead, [newest, oldest].map(|way| page(lead, way)))).into(),
            recorded: recorded.into(),
            counts: Lead::ALL.map(|lead| (lead, count(lead))).into(),
            scans: Vec::new(),
            last_recorded: made("SELECT recorded_at FROM audit_events ORDER BY sequence DESC LIMIT 1".into()),
            insert: made(insert("tenant_id", "?1", ", recorded_at, content_digest, link", ", ?22, ?23, ?24")),
            chain: made(format!(
                "{} AND e.correlation_id = ?2 ORDER BY e.sequence",
                columns(", e.content_digest, e.link", "")
            )),
        }
    }

    /// The tables are those of legacy programs. Times are text in several spellings there, so no text has them in its
    /// conditions or its order.
    pub(super) fn adopted(prefix: &str) -> Self {
        let list = COLUMNS.map(|column| format!("e.{column}")).join(", ");
        let spelled = "IN (lower(e.NAME), upper(e.NAME))";
        // The tenant is used, for SQLite refuses a value without a parameter.
        let columns = format!(
            "SELECT e.rowid, {list}, NULL,
             EXISTS (SELECT 1 FROM audit_events t WHERE t.event_id {} AND t.rowid <> e.rowid),
             e.parent_event_id IS NULL OR EXISTS (SELECT 1 FROM audit_events p WHERE p.event_id {})
             FROM audit_events e WHERE ?1 IS NOT NULL",
            spelled.replace("NAME", "event_id"),
            spelled.replace("NAME", "parent_event_id"),
        );
        let made = |sql: String| render(&sql, prefix);
        let leads = [Lead::Correlation, Lead::None];
        let scan = |lead| {
            made(format!(
                "SELECT e.rowid, e.event_timestamp, e.event_id FROM audit_events e
                 WHERE ?1 IS NOT NULL{} AND e.rowid > ?11 ORDER BY e.rowid",
                filters(lead)
            ))
        };
        let count =
            |lead| made(format!("SELECT count(*) FROM audit_events e WHERE ?1 IS NOT NULL{}", filters(lead)));
        Self {
            event: made(format!("{columns} AND e.event_id IN (?2, ?3)")),
            at: made(format!("{columns} AND e.rowid = ?2")),
            stored_id: made(
                "SELECT e.event_id FROM audit_events e WHERE ?1 IS NOT NULL AND e.event_id IN (?2, ?3)"
                    .into(),
            ),
            pages: Vec::new(),
            recorded: Vec::new(),
            counts: leads.map(|lead| (lead, count(lead))).into(),
            scans: leads.map(|lead| (lead, scan(lead))).into(),
            last_recorded: "SELECT NULL".into(),
            insert: made(insert("", "", "", "")),
            chain: "SELECT NULL".into(),
        }
    }

    /// A page of a native file.
    pub(super) fn page(&self, filter: &AuditFilter, order: AuditOrder) -> &str {
        let text = match order {
            AuditOrder::NewestFirst => led(&self.pages, filter).map(|[newest, _]| newest),
            AuditOrder::OldestFirst => led(&self.pages, filter).map(|[_, oldest]| oldest),
            AuditOrder::Recorded => led(&self.recorded, filter),
        };
        text.map_or("", String::as_str)
    }

    pub(super) fn count(&self, filter: &AuditFilter) -> &str {
        led(&self.counts, filter).map_or("", String::as_str)
    }

    /// What passes the filters of an adopted file, without the times.
    pub(super) fn scan(&self, filter: &AuditFilter) -> &str {
        led(&self.scans, filter).map_or("", String::as_str)
    }
}

fn insert(tenant: &str, tenant_value: &str, more: &str, more_values: &str) -> String {
    let comma = if tenant.is_empty() { "" } else { ", " };
    let values: Vec<_> = (2..=21).map(|parameter| format!("?{parameter}")).collect();
    format!(
        "INSERT INTO audit_events ({tenant}{comma}{}{more}) VALUES ({tenant_value}{comma}{}{more_values})",
        COLUMNS.join(", "),
        values.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::{Connection, SqliteConnection};

    use super::*;
    use crate::sql::{self, Bind};

    const LEGACY: &str = include_str!("../../tests/legacy.sql");

    /// 100,000 events: a day of each minute, ten a correlation id, a tenth of a resource, few types.
    const FILL: &str = "
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
        INSERT INTO audit_events (TENANT event_id, event_type, event_category, event_outcome, event_timestamp, event_date,
            service_name, actor_type, actor_id, resource_type, resource_id, correlation_id MORE)
        SELECT VALUE printf('%08x-0000-7000-8000-%012x', i * 7919 % 100003, i), 't' || (i % 9), 'c' || (i % 5), 'success',
            strftime('%Y-%m-%dT%H:%M:%S.000000Z', 1700000000 + i * 60, 'unixepoch'),
            strftime('%Y-%m-%d', 1700000000 + i * 60, 'unixepoch'),
            's' || (i % 7), 'user', 'a' || (i % 1000), 'Pod', 'r' || (i % 10000), 'corr' || (i / 10) VALUES_MORE FROM n";

    fn steps(conn: &mut SqliteConnection, sql: &str, parameters: usize) -> Vec<String> {
        let binds = vec![Bind::Text("1"); parameters];
        let rows = sql::rows(conn, &format!("EXPLAIN QUERY PLAN {sql}"), &binds).unwrap();
        rows.iter().map(|row| row.cell(3).as_str().unwrap_or_default().to_owned()).collect()
    }

    fn uses(conn: &mut SqliteConnection, sql: &str, parameters: usize, index: &str) {
        let steps = steps(conn, sql, parameters);
        let first = &steps[0];
        assert!(first.starts_with("SEARCH e USING") && first.contains(index), "{first}: {index}: {sql}");
        assert!(
            !steps.iter().any(|step| step.starts_with("SCAN") || step.contains("TEMP B-TREE")),
            "{steps:?}"
        );
    }

    // A41, S3-AUD-009, S3-AUD-025: at 100,000 events every read of a native file finds its rows by an index and in order.
    #[test]
    fn every_read_of_a_native_file_goes_by_an_index_and_sorts_nothing() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.batch_execute(include_str!("../../migrations/audit/0001_audit_events/up.sql")).unwrap();
        let fill = FILL
            .replace("TENANT", "tenant_id,")
            .replace("VALUES_MORE", ", '2024-01-01T00:00:00.000000Z', zeroblob(32)")
            .replace("VALUE", "'default',")
            .replace("MORE", ", recorded_at, content_digest");
        conn.batch_execute(&fill).unwrap();
        let made = Statements::native("");
        uses(&mut conn, &made.event, 3, "(tenant_id=? AND event_id=?)");
        uses(&mut conn, &made.stored_id, 3, "(tenant_id=? AND event_id=?)");
        uses(&mut conn, &made.at, 2, "INTEGER PRIMARY KEY (rowid=?)");
        uses(&mut conn, &made.chain, 2, "audit_events_chain (tenant_id=? AND correlation_id=?)");
        let times = "event_timestamp>? AND event_timestamp<?)";
        for (lead, ways) in &made.pages {
            let index = match lead {
                Lead::Correlation => "idx_audit_events_correlation_id (tenant_id=? AND correlation_id=? AND ",
                Lead::Resource => {
                    "idx_audit_events_resource (tenant_id=? AND resource_type=? AND resource_id=? AND "
                }
                Lead::Actor => "idx_audit_events_actor (tenant_id=? AND actor_id=? AND ",
                Lead::Type => "idx_audit_events_event_type (tenant_id=? AND event_type=? AND ",
                Lead::Service => "idx_audit_events_service_name (tenant_id=? AND service_name=? AND ",
                Lead::Category => "idx_audit_events_event_category (tenant_id=? AND event_category=? AND ",
                Lead::None => "idx_audit_events_event_timestamp (tenant_id=? AND ",
            };
            for page in ways {
                uses(&mut conn, page, 16, &format!("{index}{times}"));
            }
            let (_, count) = made.counts.iter().find(|(of, _)| of == lead).unwrap();
            uses(&mut conn, count, 12, &format!("{index}{times}"));
        }
        for (lead, page) in &made.recorded {
            let index = match lead {
                Lead::Correlation => "audit_events_chain (tenant_id=? AND correlation_id=? AND sequence>?)",
                _ => "audit_events_tenant (tenant_id=? AND sequence>?)",
            };
            uses(&mut conn, page, 15, index);
        }
    }

    // A41: of an adopted file single events and correlation ids are found by the indexes that it has.
    #[test]
    fn an_adopted_file_is_read_by_the_indexes_that_it_has() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.batch_execute(LEGACY).unwrap();
        let fill = FILL.replace("VALUES_MORE", "");
        let fill = ["TENANT", "VALUE", "MORE"].iter().fold(fill, |sql, word| sql.replace(word, ""));
        conn.batch_execute(&fill).unwrap();
        let made = Statements::adopted("");
        let own = "sqlite_autoindex_audit_events_1 (event_id=?)";
        uses(&mut conn, &made.event, 3, own);
        uses(&mut conn, &made.stored_id, 3, own);
        uses(&mut conn, &made.at, 2, "INTEGER PRIMARY KEY (rowid=?)");
        for step in steps(&mut conn, &made.event, 3)
            .iter()
            .filter(|step| step.contains(" t ") || step.contains(" p "))
        {
            assert!(step.starts_with("SEARCH") && step.contains("(event_id=?)"), "{step}");
        }
        for (texts, parameters) in [(&made.scans, 11), (&made.counts, 10)] {
            let (_, led) = texts.iter().find(|(lead, _)| *lead == Lead::Correlation).unwrap();
            uses(&mut conn, led, parameters, "idx_audit_events_correlation_id (correlation_id=?");
        }
    }
}
