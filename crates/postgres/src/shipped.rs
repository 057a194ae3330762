//! The schema: plain SQL in folders, the only source of it.
//!
//! A module of a user's own has the same SQL under a schema of its own: whole words are replaced, nothing else. The
//! checksum is of the files as shipped, so that names in the settings do not look like a changed file.

use changeover_core::backend::Family;
use changeover_core::{ModuleScope, sha256_hex};

/// What all modules of a database share; recorded under this name of a module.
pub(crate) const BASE: &str = "base";
/// First line of a file whose statements cannot run in a transaction. Each ends with a semicolon at the end of a line and
/// runs on its own. One that fails leaves those before it behind, and the next run begins with the first: so the file has
/// to do no harm when it is run again (`DROP INDEX CONCURRENTLY IF EXISTS` before the index is made, since a failed one
/// stays as an invalid index).
pub(crate) const NO_TRANSACTION: &str = "-- no-transaction";
/// First line of a down.sql that removes records.
pub(crate) const REMOVES_RECORDS: &str = "-- removes-records";

/// One migration as it stands in its folder.
pub(crate) struct Shipped {
    pub family: &'static str,
    pub id: &'static str,
    pub up: &'static str,
    pub down: &'static str,
}

macro_rules! shipped {
    ($family:literal, $name:literal) => {
        Shipped {
            family: $family,
            id: concat!($family, "/", $name),
            up: include_str!(concat!("../migrations/", $family, "/", $name, "/up.sql")),
            down: include_str!(concat!("../migrations/", $family, "/", $name, "/down.sql")),
        }
    };
}

/// Append-only: none is edited or removed once it was released.
pub(crate) const SHIPPED: &[Shipped] = &[
    shipped!("base", "0001_roles_and_modules"),
    shipped!("base", "0002_cutover"),
    shipped!("base", "0003_claim_beside_a_run"),
    shipped!("events", "0001_streams_and_events"),
    shipped!("events", "0002_append"),
    shipped!("events", "0003_reads"),
    shipped!("events", "0004_append_without_judging"),
    shipped!("events", "0005_streams_without_events"),
    shipped!("events", "0006_cutover"),
    shipped!("audit", "0001_audit_events"),
    shipped!("audit", "0002_record"),
    shipped!("audit", "0003_reads"),
    shipped!("audit", "0004_retention"),
    shipped!("audit", "0005_cutover"),
    shipped!("playbooks", "0001_catalog"),
    shipped!("playbooks", "0002_writes"),
    shipped!("playbooks", "0003_reads"),
    shipped!("playbooks", "0004_nothing_rounded"),
    shipped!("playbooks", "0005_candidates"),
    shipped!("playbooks", "0006_cutover"),
];

impl Shipped {
    pub(crate) fn checksum(&self) -> String {
        sha256_hex(format!("{}\0{}", self.up, self.down).as_bytes())
    }

    /// What is run to take it back. `events/0001` as released removes the row of its module, though other families may have
    /// tables of that module: they keep its owner and its log.
    pub(crate) fn down_sql(&self) -> String {
        self.down.replace(
            "DELETE FROM changeover.module WHERE module = event_store.module_name();",
            "UPDATE changeover.module AS m SET tables = ARRAY(\
                 SELECT t FROM pg_catalog.unnest(m.tables) AS t WHERE NOT pg_catalog.starts_with(t, 'event_store.') ORDER BY t) \
              WHERE m.module = event_store.module_name(); \
             DELETE FROM changeover.module AS m WHERE m.module = event_store.module_name() AND m.tables = '{}';",
        )
    }

    pub(crate) fn description(&self) -> String {
        let line = self.up.lines().find_map(|line| line.strip_prefix("-- description: "));
        line.unwrap_or_default().to_owned()
    }

    /// The module it is recorded under.
    pub(crate) fn module<'a>(&self, scope: &'a ModuleScope) -> &'a str {
        if self.family == BASE { BASE } else { scope.module.as_str() }
    }
}

/// The schema that a family has in the shipped files; a module with a namespace has it behind a prefix.
pub(crate) fn plain_schema(family: Family) -> &'static str {
    match family {
        Family::Events => "event_store",
        Family::Audit => "audit_store",
        Family::Playbooks => "playbook_store",
    }
}

/// The migrations that a family's tables are made by, without what modules share.
pub(crate) fn ids(family: Family) -> Vec<&'static str> {
    SHIPPED.iter().filter(|it| it.family == family.as_str()).map(|it| it.id).collect()
}

/// A SHA-256, in hex, over all shipped migrations: a new key for a test template whenever one of them changes.
pub fn migrations_key() -> String {
    sha256_hex(SHIPPED.iter().map(Shipped::checksum).collect::<String>().as_bytes())
}

/// The schema of a family as SQL scripts, in the order to run them, for a database that is set up without this program
/// (names as by default; running them again changes nothing). Each entry: file name and text. The scripts of several
/// families may be run together in the order of their names.
pub fn init_scripts(family: Family) -> Vec<(String, String)> {
    let wanted = SHIPPED.iter().filter(|it| it.family == BASE || it.family == family.as_str());
    wanted
        .zip(1..)
        .map(|(it, number)| {
            let record = format!(
                "\nINSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('{}', '{}', '{}', '{}') \
                 ON CONFLICT (module, id) DO NOTHING;\n",
                it.family,
                it.id,
                it.description().replace('\'', "''"),
                it.checksum()
            );
            (format!("{number:02}_{}.sql", it.id.replace('/', "_")), format!("{}{record}", it.up))
        })
        .collect()
}

/// The statements of a file that has no transaction.
pub(crate) fn statements(sql: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    for line in sql.lines() {
        let ends = line.trim_end().ends_with(';');
        if let Some(statement) = statements.last_mut() {
            statement.push_str(line);
            statement.push('\n');
        }
        if ends {
            statements.push(String::new());
        }
    }
    let says_something = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with("--");
    statements.retain(|statement| statement.lines().any(says_something));
    statements
}

/// Replaces whole words of letters, digits and underscores.
pub(crate) fn replace_words(text: &str, words: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        out.push_str(words.iter().find(|(from, _)| *from == word).map_or(word, |(_, to)| to));
        let next = rest[end..].find(is_word).map_or(rest.len(), |at| end + at);
        out.push_str(&rest[end..next]);
        rest = &rest[next..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_are_replaced() {
        let words = [("event_store", "n_event_store"), ("changeover_app", "svc")];
        assert_eq!(
            replace_words(
                "event_store.event_stream 'event_store' x_event_store changeover_app; é event_store",
                &words
            ),
            "n_event_store.event_stream 'n_event_store' x_event_store svc; é n_event_store"
        );
    }

    // DEF-40: numbers without gaps or reuse, a description each.
    #[test]
    fn shipped_migrations_are_numbered_without_gaps() {
        for family in [BASE, "events", "audit", "playbooks"] {
            let of: Vec<_> = SHIPPED.iter().filter(|it| it.family == family).collect();
            for (it, number) in of.iter().zip(1..) {
                assert!(it.id.starts_with(&format!("{family}/{number:04}_")), "{}", it.id);
                assert!(!it.description().is_empty(), "{}", it.id);
            }
        }
    }

    // S3-MIG-010, DEF-40: a released migration is neither edited nor removed.
    #[test]
    fn shipped_migrations_are_those_on_the_list() {
        let listed: Vec<_> = include_str!("../tests/released_migrations.txt").lines().collect();
        let mut all: Vec<_> = SHIPPED.iter().collect();
        all.sort_by_key(|it| it.id);
        let shipped: Vec<_> = all.iter().map(|it| format!("{} {}", it.checksum(), it.id)).collect();
        assert_eq!(
            shipped, listed,
            "migrations are never edited, removed or reordered, since databases have them: add a new one, and its line \
             to crates/postgres/tests/released_migrations.txt"
        );
    }

    // S2-MIG-007: the statements of a marked file; what is only comment is none.
    #[test]
    fn a_file_without_a_transaction_is_cut_at_the_ends_of_its_statements() {
        let sql = "-- no-transaction\n-- description: x;\nCREATE INDEX i\n  ON t (c); \n\nSELECT ';' ||\n'';\nVACUUM";
        let cut: Vec<_> =
            statements(sql).iter().map(|it| it.trim().lines().last().unwrap().to_owned()).collect();
        assert_eq!(cut, ["  ON t (c);", "'';", "VACUUM"]);
        assert!(statements("-- no-transaction\n\n").is_empty());
    }

    // S0-MIG-018
    #[test]
    fn init_scripts_are_the_migrations_in_order_and_record_them() {
        let scripts = init_scripts(Family::Events);
        let names: Vec<_> = scripts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "01_base_0001_roles_and_modules.sql",
                "02_base_0002_cutover.sql",
                "03_base_0003_claim_beside_a_run.sql",
                "04_events_0001_streams_and_events.sql",
                "05_events_0002_append.sql",
                "06_events_0003_reads.sql",
                "07_events_0004_append_without_judging.sql",
                "08_events_0005_streams_without_events.sql",
                "09_events_0006_cutover.sql"
            ]
        );
        assert!(scripts.iter().all(|(_, text)| text.contains("INSERT INTO changeover._migrations")));
    }
}
