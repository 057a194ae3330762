//! The SQL files that make the tables, in the order they are applied, and how a namespace gets tables of its own.

use changeover_core::backend::Family;
use changeover_core::{ModuleScope, sha256_hex};

/// One migration: SQL for a module without a namespace.
#[derive(Debug)]
pub(crate) struct Migration {
    pub(crate) id: &'static str,
    pub(crate) up: &'static str,
    /// Takes it back.
    pub(crate) down: &'static str,
    /// Whether it makes the tables that an adopted file has, or adds to them: there it is recorded and not run.
    pub(crate) makes_legacy_tables: bool,
}

/// The record of migrations, in every file.
pub(crate) const BASE: &[Migration] = &[Migration {
    id: "base/0001_base",
    up: include_str!("../migrations/base/0001_base/up.sql"),
    down: include_str!("../migrations/base/0001_base/down.sql"),
    makes_legacy_tables: false,
}];

/// Append-only: never edit or remove one that was released.
const EVENTS: &[Migration] = &[
    Migration {
        id: "events/0001_log",
        up: include_str!("../migrations/events/0001_log/up.sql"),
        down: include_str!("../migrations/events/0001_log/down.sql"),
        makes_legacy_tables: false,
    },
    Migration {
        id: "events/0002_streams_and_events",
        up: include_str!("../migrations/events/0002_streams_and_events/up.sql"),
        down: include_str!("../migrations/events/0002_streams_and_events/down.sql"),
        makes_legacy_tables: true,
    },
];

/// First line of a file whose statements cannot run in a transaction (`VACUUM`, `PRAGMA foreign_keys`). They run before
/// the record of it is made and the next run begins anew if one fails: so the file has to do no harm when it is run again,
/// also by two processes at once.
const NO_TRANSACTION: &str = "-- no-transaction";

/// As [`EVENTS`].
const AUDIT: &[Migration] = &[Migration {
    id: "audit/0001_audit_events",
    up: include_str!("../migrations/audit/0001_audit_events/up.sql"),
    down: include_str!("../migrations/audit/0001_audit_events/down.sql"),
    makes_legacy_tables: true,
}];

/// As [`EVENTS`].
const PLAYBOOKS: &[Migration] = &[
    Migration {
        id: "playbooks/0001_playbook_catalog",
        up: include_str!("../migrations/playbooks/0001_playbook_catalog/up.sql"),
        down: include_str!("../migrations/playbooks/0001_playbook_catalog/down.sql"),
        makes_legacy_tables: true,
    },
    Migration {
        id: "playbooks/0002_counted_changes",
        up: include_str!("../migrations/playbooks/0002_counted_changes/up.sql"),
        down: include_str!("../migrations/playbooks/0002_counted_changes/down.sql"),
        makes_legacy_tables: true,
    },
];

/// What a table's or an index's name may begin with in the SQL files; a namespace goes before it.
const TABLES: &[&str] = &[
    "event_stream",
    "domain_event",
    "changeover_log",
    "changeover_consumer",
    "audit_events",
    "audit_chain",
    "audit_anchor",
    "audit_retention",
    "idx_audit_events",
    "playbook_catalog",
    "idx_playbook_catalog",
];

/// Tables whose rows are ours and no loss.
pub(crate) const OWN_RECORDS: &[&str] = &[
    "changeover_log",
    "_migrations",
    "audit_chain",
    "audit_anchor",
    "audit_retention",
    "playbook_catalog_stamp",
];

/// The migrations of a family, without the base.
pub(crate) fn migrations(family: Family) -> &'static [Migration] {
    match family {
        Family::Events => EVENTS,
        Family::Audit => AUDIT,
        Family::Playbooks => PLAYBOOKS,
    }
}

/// The tables of a family that a file may have from legacy programs, and the columns that they must have then.
pub(crate) fn legacy_tables(family: Family) -> &'static [(&'static str, &'static [&'static str])] {
    match family {
        Family::Events => LEGACY_EVENTS,
        Family::Audit => LEGACY_AUDIT,
        Family::Playbooks => LEGACY_PLAYBOOKS,
    }
}

const LEGACY_EVENTS: &[(&str, &[&str])] = &[
    ("event_stream", &["stream_id", "aggregate_type", "aggregate_id", "created_at", "version"]),
    (
        "domain_event",
        &[
            "event_id",
            "stream_id",
            "event_type",
            "event_version",
            "aggregate_version",
            "event_data",
            "metadata",
            "occurred_at",
            "causation_id",
            "correlation_id",
        ],
    ),
];

const LEGACY_AUDIT: &[(&str, &[&str])] = &[(
    "audit_events",
    &[
        "event_id",
        "event_type",
        "event_category",
        "event_outcome",
        "event_timestamp",
        "event_date",
        "service_name",
        "service_version",
        "actor_type",
        "actor_id",
        "actor_name",
        "resource_type",
        "resource_id",
        "resource_name",
        "event_data",
        "correlation_id",
        "parent_event_id",
        "trace_id",
        "span_id",
        "metadata",
    ],
)];

const LEGACY_PLAYBOOKS: &[(&str, &[&str])] = &[(
    "playbook_catalog",
    &[
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
    ],
)];

impl Migration {
    pub(crate) fn description(&self) -> &'static str {
        let line = self.up.lines().find_map(|line| line.strip_prefix("-- description: "));
        line.unwrap_or_default()
    }

    pub(crate) fn checksum(&self) -> String {
        sha256_hex(format!("{}\0{}", self.up, self.down).as_bytes())
    }

    pub(crate) fn is_base(&self) -> bool {
        self.id.starts_with("base/")
    }
}

/// Whether the file says that it cannot run in a transaction.
pub(crate) fn needs_no_transaction(sql: &str) -> bool {
    sql.starts_with(NO_TRANSACTION)
}

/// SQL written for plain names, with the prefix of a namespace before every name that begins with a table's.
pub(crate) fn render(sql: &str, prefix: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while !rest.is_empty() {
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(word);
        let of_table = |table: &str| {
            name.strip_prefix(table).is_some_and(|tail| tail.is_empty() || tail.starts_with('_'))
        };
        if TABLES.iter().any(|table| of_table(table)) {
            out.push_str(prefix);
        }
        out.push_str(name);
        let gap = after.find(is_word).unwrap_or(after.len());
        out.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    out
}

/// Whether a table of this name is one of a store, in whatever namespace.
pub(crate) fn is_ours(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TABLES
        .iter()
        .any(|table| name.strip_suffix(table).is_some_and(|rest| rest.is_empty() || rest.ends_with('_')))
}

/// Whether a table of this name holds nothing but what a store keeps for itself, in whatever namespace.
pub(crate) fn is_own_record(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    OWN_RECORDS
        .iter()
        .any(|record| name.strip_suffix(record).is_some_and(|rest| rest.is_empty() || rest.ends_with('_')))
}

/// What a module's tables are prefixed with.
pub(crate) fn prefix_of(scope: &ModuleScope) -> String {
    scope.namespace.as_ref().map(|namespace| format!("{namespace}_")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{AUDIT, BASE, EVENTS, PLAYBOOKS, render};

    // S3-MIG-010, DEF-40: a released migration is neither edited nor removed.
    #[test]
    fn shipped_migrations_are_those_on_the_list() {
        let listed: Vec<_> = include_str!("../tests/released_migrations.txt").lines().collect();
        let all = [BASE, EVENTS, AUDIT, PLAYBOOKS];
        let mut all: Vec<_> = all.into_iter().flatten().collect();
        all.sort_by_key(|it| it.id);
        let shipped: Vec<_> = all.iter().map(|it| format!("{} {}", it.checksum(), it.id)).collect();
        assert_eq!(
            shipped, listed,
            "migrations are never edited, removed or reordered, since files have them: add a new one, and its line to \
             crates/sqlite/tests/released_migrations.txt"
        );
    }

    #[test]
    fn a_namespace_goes_before_tables_and_what_is_named_after_them() {
        assert_eq!(
            render(
                "CREATE INDEX domain_event_tenant ON domain_event (stream_id); -- my_domain_event",
                "jobs_"
            ),
            "CREATE INDEX jobs_domain_event_tenant ON jobs_domain_event (stream_id); -- my_domain_event"
        );
        assert_eq!(render("SELECT 'é' FROM event_streams", "jobs_"), "SELECT 'é' FROM event_streams");
    }
}
