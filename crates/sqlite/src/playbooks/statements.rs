//! The SQL of the playbook catalog, for a native file and for an adopted one: the same parameters and columns.

use crate::schema::render;

/// The columns of a version, in the order in which they are read and written.
pub(super) const COLUMNS: [&str; 30] = [
    "playbook_id",
    "version",
    "name",
    "description",
    "owner",
    "maintainer",
    "content",
    "content_hash",
    "labels",
    "embedding",
    "status",
    "disabled_at",
    "disabled_by",
    "disabled_reason",
    "is_latest_version",
    "previous_version",
    "deprecation_notice",
    "version_notes",
    "change_summary",
    "approved_by",
    "approved_at",
    "expected_success_rate",
    "expected_duration_seconds",
    "actual_success_rate",
    "total_executions",
    "successful_executions",
    "created_at",
    "updated_at",
    "created_by",
    "updated_by",
];

/// Behind [`COLUMNS`]: how many other versions of the playbook are marked latest.
pub(super) const OTHERS: usize = COLUMNS.len();

/// `?1` is the tenant everywhere; an adopted file leaves it unused.
#[derive(Debug)]
pub(crate) struct Statements {
    /// `?2` playbook, `?3` version.
    pub(super) exact: String,
    /// What is marked latest, in whatever way, of `?2` playbook; the strange marks first.
    pub(super) latest: String,
    /// What is marked latest, in whatever way, after `?2` playbook, of `?3` status or any; by id.
    pub(super) list: String,
    /// Place, version, and whether the content hash is `?3` or that is null; all of `?2` playbook.
    pub(super) versions: String,
    /// By place, `?2`.
    pub(super) at: String,
    /// Place, playbook, version, mark, marks of others, vector and labels of what is marked latest, in whatever way, and
    /// active.
    pub(super) candidates: String,
    /// `?1` tenant, then [`COLUMNS`] from `?2` on.
    pub(super) insert: String,
    /// `?2` playbook, `?3` version, then [`CHANGING`] from `?4` on.
    pub(super) update: String,
    /// Of `?2` playbook, `?3` version, at `?4`, by `?5`.
    pub(super) take_mark: String,
    /// How many changes there were that a search can see. Of a native file.
    pub(super) changes: Option<String>,
}

/// The columns that change.
pub(super) const CHANGING: [&str; 12] = [
    "embedding",
    "status",
    "disabled_at",
    "disabled_by",
    "disabled_reason",
    "is_latest_version",
    "deprecation_notice",
    "actual_success_rate",
    "total_executions",
    "successful_executions",
    "updated_at",
    "updated_by",
];

impl Statements {
    /// The file is of this schema: one mark a playbook, 0 or 1.
    pub(super) fn native(prefix: &str) -> Self {
        let dialect = Dialect {
            tenant: "p.tenant_id = ?1",
            key: "tenant_id = ?1",
            marked: "p.is_latest_version = 1",
            others: "0",
            insert: ("tenant_id, ", "?1, "),
            counts: true,
        };
        Self::render(prefix, &dialect)
    }

    /// The tables are those of legacy programs: hand edits left marks of all kinds, which are all looked at.
    pub(super) fn adopted(prefix: &str) -> Self {
        let dialect = Dialect {
            // The tenant is used, for SQLite refuses a value without a parameter.
            tenant: "?1 IS NOT NULL",
            key: "?1 IS NOT NULL",
            marked: "p.is_latest_version IS NOT 0",
            others: "(SELECT count(*) FROM playbook_catalog o WHERE o.playbook_id = p.playbook_id
                AND o.is_latest_version = 1 AND o.rowid <> p.rowid)",
            insert: ("", ""),
            counts: false,
        };
        Self::render(prefix, &dialect)
    }

    fn render(prefix: &str, dialect: &Dialect) -> Self {
        let Dialect { tenant, key, marked, others, insert, counts } = dialect;
        let list = COLUMNS.map(|column| format!("p.{column}")).join(", ");
        let columns = format!("SELECT {list}, {others} FROM playbook_catalog p WHERE {tenant}");
        let made = |sql: String| render(&sql, prefix);
        let values: Vec<_> = (2..2 + COLUMNS.len()).map(|parameter| format!("?{parameter}")).collect();
        let changes: Vec<_> =
            CHANGING.iter().zip(4..).map(|(column, parameter)| format!("{column} = ?{parameter}")).collect();
        Self {
            exact: made(format!("{columns} AND p.playbook_id = ?2 AND p.version = ?3")),
            latest: made(format!("{columns} AND p.playbook_id = ?2 AND {marked} ORDER BY p.is_latest_version = 1")),
            list: made(format!(
                "{columns} AND p.playbook_id > ?2 AND (?3 IS NULL OR p.status = ?3) AND {marked}
                 ORDER BY p.playbook_id"
            )),
            versions: made(format!(
                "SELECT p.rowid, p.version, ?3 IS NULL OR p.content_hash = ?3 FROM playbook_catalog p
                 WHERE {tenant} AND p.playbook_id = ?2"
            )),
            at: made(format!("{columns} AND p.rowid = ?2")),
            candidates: made(format!(
                "SELECT p.rowid, p.playbook_id, p.version, p.is_latest_version, {others}, p.embedding, p.labels
                 FROM playbook_catalog p WHERE {tenant} AND {marked} AND p.status = 'active'"
            )),
            insert: made(format!(
                "INSERT INTO playbook_catalog ({}{}) VALUES ({}{})",
                insert.0,
                COLUMNS.join(", "),
                insert.1,
                values.join(", ")
            )),
            update: made(format!(
                "UPDATE playbook_catalog SET {} WHERE {key} AND playbook_id = ?2 AND version = ?3",
                changes.join(", ")
            )),
            take_mark: made(format!(
                "UPDATE playbook_catalog SET is_latest_version = 0, updated_at = ?4, updated_by = ?5
                 WHERE {key} AND playbook_id = ?2 AND version = ?3"
            )),
            changes: counts.then(|| made("SELECT changes FROM playbook_catalog_stamp".into())),
        }
    }
}

/// Where the two files differ inside of the statements they share.
struct Dialect {
    /// Of `playbook_catalog p`.
    tenant: &'static str,
    key: &'static str,
    marked: &'static str,
    others: &'static str,
    insert: (&'static str, &'static str),
    /// Whether the file counts changes.
    counts: bool,
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::{Connection, SqliteConnection};
    use rstest::rstest;

    use super::*;
    use crate::sql::{self, Bind};

    const NATIVE: &str = concat!(
        include_str!("../../migrations/playbooks/0001_playbook_catalog/up.sql"),
        include_str!("../../migrations/playbooks/0002_counted_changes/up.sql")
    );
    const LEGACY: &str = include_str!("../../tests/legacy.sql");

    // P41: every look-up of one playbook, and a page of the list, goes by an index on both kinds of files.
    #[rstest]
    #[case::native(NATIVE, Statements::native(""))]
    #[case::adopted(LEGACY, Statements::adopted(""))]
    fn every_look_up_finds_its_rows_by_an_index(#[case] schema: &str, #[case] made: Statements) {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.batch_execute(schema).unwrap();
        let reads =
            [(&made.exact, 3), (&made.latest, 2), (&made.list, 3), (&made.versions, 3), (&made.at, 2)];
        for (read, parameters) in reads {
            let binds = vec![Bind::Text("1"); parameters];
            for row in sql::rows(&mut conn, &format!("EXPLAIN QUERY PLAN {read}"), &binds).unwrap() {
                let step = row.cell(3).as_str().unwrap_or_default().to_owned();
                assert!(!step.starts_with("SCAN p"), "{step}: {read}");
            }
        }
    }
}
