//! Retention: what is due goes, whole months first, children before their parents.
//!
//! The choice is made by SQL over one table of places, times and parents. A native file has it: the events themselves.
//! For an adopted one, whose times have no order in SQL, it is made for the call: all of the table is read for that.

use std::collections::{BTreeSet, BinaryHeap};

use changeover_core::audit::{Retain, Retained};
use changeover_core::{Result, Timestamp};
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;

use super::chain::digest;
use super::decode::time_in;
use super::tables::{Audit, AuditTables};
use crate::classify::Failure;
use crate::schema::render;
use crate::sql::{self, Bind, Row};
use crate::values::parse_id;

const DAY: i64 = 86_400_000_000;

/// How many rows of an adopted file are read at a time.
const CHUNK: i64 = 5_000;

pub(super) fn retain(
    conn: &mut SqliteConnection,
    tables: &AuditTables,
    request: &Retain,
) -> Result<Retained, Failure> {
    let audit = tables.open(conn)?;
    // A dry run does the same and takes it back; so does a refusal, for others share the transaction.
    conn.batch_execute("SAVEPOINT retention")?;
    let done = Retention::new(&audit, request).run(conn);
    if matches!(done, Err(Failure::Broken(_))) {
        return done;
    }
    if request.dry_run || done.is_err() {
        conn.batch_execute("ROLLBACK TO retention")?;
    }
    conn.batch_execute("RELEASE retention")?;
    done
}

/// One call under way.
struct Retention<'a> {
    audit: &'a Audit<'a>,
    request: &'a Retain,
    sql: Statements,
    left: usize,
    removed: Vec<u64>,
    /// Correlation ids of which records went.
    chains: BTreeSet<String>,
}

/// A record that may go. The oldest is the greatest, for the heap; equal times by id.
#[derive(PartialEq, Eq)]
struct Due {
    at: String,
    id: String,
    rule: usize,
    place: i64,
    parent: Option<String>,
    chain: Option<(String, [u8; 32])>,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&other.at, &other.id).cmp(&(&self.at, &self.id))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Retention<'_> {
    fn run(mut self, conn: &mut SqliteConnection) -> Result<Retained, Failure> {
        self.open(conn)?;
        self.whole_months(conn)?;
        let done = self.single_events(conn)?;
        for chain in &self.chains {
            let binds = [Bind::Text(self.audit.tenant()), Bind::Text(chain)];
            sql::execute(conn, &self.audit.chain().merge_anchors, &binds)?;
        }
        self.close(conn)?;
        let rules = self.request.rules.iter().map(|rule| rule.category.clone());
        Ok(Retained { removed: rules.zip(self.removed).collect(), months: Vec::new(), done })
    }

    /// The last date that is due by each rule, where there is one.
    fn last_dates(&self) -> impl Iterator<Item = (usize, String)> {
        let today = self.request.now.as_micros().div_euclid(DAY);
        self.request.rules.iter().enumerate().filter_map(move |(index, rule)| {
            let last = today.checked_sub(i64::from(rule.days))?.checked_mul(DAY)?;
            Some((index, Timestamp::from_micros(last).ok()?.date().to_string()))
        })
    }

    /// Writes down what is due: that opens the delete trigger of a native file.
    fn open(&self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        if self.audit.adopted {
            self.make_table(conn)?;
        }
        for (index, last) in self.last_dates() {
            let category = self.request.rules[index].category.as_str();
            let binds = [Bind::Text(self.audit.tenant()), Bind::Text(category), Bind::Text(&last)];
            sql::execute(conn, &self.sql.set_rule, &binds)?;
        }
        Ok(())
    }

    fn close(&self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        sql::execute(conn, &self.sql.clear_rules, &[Bind::Text(self.audit.tenant())])?;
        if self.audit.adopted {
            conn.batch_execute("DROP TABLE temp.retention_record; DROP TABLE temp.retention_rule")?;
        }
        Ok(())
    }

    /// The table of an adopted file. A row whose time, id or category cannot be read is never due, but keeps its parent.
    fn make_table(&self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        conn.batch_execute(WORK_TABLES)?;
        let mut after = i64::MIN;
        loop {
            let rows = sql::rows(conn, &self.sql.legacy, &[Bind::Int(after), Bind::Int(CHUNK)])?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.cell(0).as_int().unwrap_or(i64::MAX);
            for row in &rows {
                let id = row.cell(2).as_str().and_then(parse_id);
                let at = time_in(row.cell(1), self.audit.epoch()).zip(id).map(|(at, _)| at.to_string());
                let category = row.cell(3).as_str().filter(|_| at.is_some());
                let at = at.unwrap_or_else(|| "~".to_owned());
                let [id, parent] =
                    [id, row.cell(4).as_str().and_then(parse_id)].map(|id| id.map(|id| id.to_string()));
                let binds = [
                    Bind::Text(self.audit.tenant()),
                    Bind::Int(row.cell(0).as_int().unwrap_or_default()),
                    Bind::Optional(id.as_deref()),
                    Bind::Optional(category),
                    Bind::Text(&at),
                    Bind::Optional(parent.as_deref()),
                ];
                sql::execute(conn, FILL_WORK_TABLE, &binds)?;
            }
        }
    }

    /// Months of which everything goes, the oldest first, each whole or not at all.
    fn whole_months(&mut self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        let mut from = String::new();
        while let Some(month) = self.month(conn, &from)? {
            // Behind every time of the month.
            let end = format!("{month}~");
            let binds = [
                Bind::Text(self.audit.tenant()),
                Bind::Text(&month),
                Bind::Text(&end),
                Bind::Int(i64::try_from(self.left).unwrap_or(i64::MAX)),
            ];
            let found = sql::first(conn, &self.sql.month_goes, &binds)?;
            if found.is_none_or(|row| row.cell(0).as_int() != Some(1)) {
                from = end;
                continue;
            }
            for row in sql::rows(conn, &self.sql.of_month, &binds[..3])? {
                if let Some(due) = self.due(&row) {
                    self.remove(conn, due)?;
                }
            }
            // Its parents may have kept an older month.
            from.clear();
        }
        Ok(())
    }

    /// The first month from there on that may have something due.
    fn month(&self, conn: &mut SqliteConnection, from: &str) -> Result<Option<String>, Failure> {
        let Some(last) = self.last_dates().map(|(_, last)| last).max() else { return Ok(None) };
        let row = sql::first(conn, &self.sql.next, &[Bind::Text(self.audit.tenant()), Bind::Text(from)])?;
        let month = row.and_then(|row| row.cell(0).as_str().and_then(|at| at.get(..7)).map(str::to_owned));
        Ok(month.filter(|month| *month.as_str() <= *last))
    }

    /// Says whether nothing more can go.
    fn single_events(&mut self, conn: &mut SqliteConnection) -> Result<bool, Failure> {
        let mut heap = BinaryHeap::new();
        for (rule, _) in self.last_dates().collect::<Vec<_>>() {
            let category = self.request.rules[rule].category.as_str();
            let binds = [
                Bind::Text(self.audit.tenant()),
                Bind::Text(category),
                // One more shows whether anything is left.
                Bind::Int(i64::try_from(self.left).unwrap_or(i64::MAX).saturating_add(1)),
            ];
            heap.extend(sql::rows(conn, &self.sql.leaves, &binds)?.iter().filter_map(|row| self.due(row)));
        }
        while self.left > 0 {
            let Some(due) = heap.pop() else { break };
            let parent = due.parent.clone();
            self.remove(conn, due)?;
            if let Some(parent) = parent {
                let binds = [Bind::Text(self.audit.tenant()), Bind::Text(&parent)];
                heap.extend(sql::rows(conn, &self.sql.freed, &binds)?.iter().filter_map(|row| self.due(row)));
            }
        }
        Ok(heap.is_empty())
    }

    fn due(&self, row: &Row) -> Option<Due> {
        let text = |index| row.cell(index).as_str().map(str::to_owned);
        let category = row.cell(3).as_str()?;
        Some(Due {
            place: row.cell(0).as_int()?,
            at: text(1)?,
            id: text(2)?,
            rule: self.request.rules.iter().position(|rule| rule.category.as_str() == category)?,
            parent: text(4),
            chain: text(5).zip(digest(row, 6)),
        })
    }

    fn remove(&mut self, conn: &mut SqliteConnection, due: Due) -> Result<(), Failure> {
        if let Some((correlation, link)) = due.chain {
            let binds = [
                Bind::Text(self.audit.tenant()),
                Bind::Text(&correlation),
                Bind::Int(due.place),
                Bind::Blob(Some(&link)),
            ];
            sql::execute(conn, &self.audit.chain().set_anchor, &binds)?;
            self.chains.insert(correlation);
        }
        sql::execute(conn, &self.sql.delete, &[Bind::Int(due.place)])?;
        if self.audit.adopted {
            sql::execute(
                conn,
                "DELETE FROM temp.retention_record WHERE sequence = ?1",
                &[Bind::Int(due.place)],
            )?;
        }
        self.removed[due.rule] += 1;
        self.left -= 1;
        Ok(())
    }
}

/// What the choice is made from, as in a native file.
const WORK_TABLES: &str = "
    DROP TABLE IF EXISTS temp.retention_record;
    DROP TABLE IF EXISTS temp.retention_rule;
    CREATE TEMP TABLE retention_record (
        sequence INTEGER PRIMARY KEY, tenant_id TEXT, event_id TEXT, event_category TEXT, event_timestamp TEXT,
        event_date TEXT, parent_event_id TEXT, correlation_id TEXT, link BLOB
    );
    CREATE INDEX temp.retention_record_time ON retention_record (tenant_id, event_timestamp);
    CREATE INDEX temp.retention_record_id ON retention_record (tenant_id, event_id);
    CREATE INDEX temp.retention_record_parent ON retention_record (tenant_id, parent_event_id);
    CREATE INDEX temp.retention_record_category ON retention_record (tenant_id, event_category, event_timestamp);
    CREATE TEMP TABLE retention_rule (tenant_id TEXT, event_category TEXT, last_date TEXT)";

const FILL_WORK_TABLE: &str = "INSERT INTO temp.retention_record
    (tenant_id, sequence, event_id, event_category, event_timestamp, event_date, parent_event_id)
    VALUES (?1, ?2, ?3, ?4, ?5, substr(?5, 1, 10), ?6)";

/// `?1` is the tenant.
struct Statements {
    /// `?2` category, `?3` last date.
    set_rule: String,
    clear_rules: String,
    /// The first time from `?2` on.
    next: String,
    /// Whether all from `?2` to before `?3` goes, at most `?4`.
    month_goes: String,
    of_month: String,
    /// What is due of category `?2` and nobody's parent, oldest first, at most `?3`.
    leaves: String,
    /// Event `?2`, if it is due and nobody's parent.
    freed: String,
    /// By place, `?1`.
    delete: String,
    /// Of an adopted file: after `?1`, at most `?2`.
    legacy: String,
}

impl Statements {
    fn new(audit: &Audit<'_>) -> Self {
        let (records, rules) = if audit.adopted {
            ("temp.retention_record".to_owned(), "temp.retention_rule".to_owned())
        } else {
            (render("audit_events", audit.prefix()), render("audit_retention", audit.prefix()))
        };
        let columns = "e.sequence, e.event_timestamp, e.event_id, e.event_category, e.parent_event_id,
            e.correlation_id, e.link";
        let due = format!(
            "EXISTS (SELECT 1 FROM {rules} r WHERE r.tenant_id = e.tenant_id AND r.event_category = e.event_category
             AND e.event_date <= r.last_date)"
        );
        let childless = format!(
            "NOT EXISTS (SELECT 1 FROM {records} c WHERE c.tenant_id = e.tenant_id
             AND c.parent_event_id = e.event_id)"
        );
        let month = "e.tenant_id = ?1 AND e.event_timestamp >= ?2 AND e.event_timestamp < ?3";
        let place = if audit.adopted { "rowid" } else { "sequence" };
        let table = render("audit_events", audit.prefix());
        Self {
            set_rule: format!(
                "INSERT INTO {rules} (tenant_id, event_category, last_date) VALUES (?1, ?2, ?3)"
            ),
            clear_rules: format!("DELETE FROM {rules} WHERE tenant_id = ?1"),
            next: format!(
                "SELECT min(event_timestamp) FROM {records} WHERE tenant_id = ?1 AND event_timestamp >= ?2"
            ),
            month_goes: format!(
                "SELECT count(*) BETWEEN 1 AND ?4 AND min(due) AND NOT EXISTS (
                    SELECT 1 FROM {records} e JOIN {records} c
                    ON c.tenant_id = e.tenant_id AND c.parent_event_id = e.event_id
                    WHERE {month} AND (c.event_timestamp < ?2 OR c.event_timestamp >= ?3))
                 FROM (SELECT {due} AS due FROM {records} e WHERE {month} LIMIT ?4 + 1)"
            ),
            // A child is recorded after its parent.
            of_month: format!("SELECT {columns} FROM {records} e WHERE {month} ORDER BY e.sequence DESC"),
            leaves: format!(
                "SELECT {columns} FROM {records} e WHERE e.tenant_id = ?1 AND e.event_category = ?2 AND {due}
                 AND {childless} ORDER BY e.event_timestamp, e.event_id LIMIT ?3"
            ),
            freed: format!(
                "SELECT {columns} FROM {records} e WHERE e.tenant_id = ?1 AND e.event_id = ?2 AND {due} AND {childless}"
            ),
            delete: format!("DELETE FROM {table} WHERE {place} = ?1"),
            legacy: format!(
                "SELECT rowid, event_timestamp, event_id, event_category, parent_event_id FROM {table}
                 WHERE rowid > ?1 ORDER BY rowid LIMIT ?2"
            ),
        }
    }
}

impl<'a> Retention<'a> {
    fn new(audit: &'a Audit<'a>, request: &'a Retain) -> Self {
        Self {
            audit,
            request,
            sql: Statements::new(audit),
            left: request.limit.get() as usize,
            removed: vec![0; request.rules.len()],
            chains: BTreeSet::new(),
        }
    }
}
