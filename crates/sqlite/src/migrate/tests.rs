//! The runner on migrations that no release ships.

use changeover_core::{BackendSettings, ModuleName};

use super::*;
use crate::OpenSqlite;

const TABLE: Migration = Migration {
    id: "events/0003_note",
    up: "-- description: a table\nCREATE TABLE note (number INTEGER UNIQUE);\n",
    down: "DROP TABLE note;\n",
    makes_legacy_tables: false,
};
/// Of these the first and the last are refused inside of a transaction.
const ALONE: Migration = Migration {
    id: "events/0004_alone",
    up: "-- no-transaction\n-- description: what no transaction can hold\n\
         VACUUM;\n\
         CREATE TABLE IF NOT EXISTS domain_event_note (number INTEGER PRIMARY KEY);\n\
         INSERT INTO note VALUES (1);\n\
         DELETE FROM note WHERE number = 1;\n\
         VACUUM;\n",
    down: "-- no-transaction\nDROP TABLE IF EXISTS domain_event_note;\nVACUUM;\n",
    makes_legacy_tables: false,
};
const UNMARKED: Migration =
    Migration { id: "events/0003_unmarked", up: "CREATE TABLE later (x);\nVACUUM;\n", ..TABLE };

struct Place {
    _folder: tempfile::TempDir,
    open: OpenSqlite,
    runner: SqliteMigrations,
}

async fn place(added: &[&'static Migration]) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let settings = BackendSettings::new("legacy").with("path", path.to_string_lossy());
    let open = OpenSqlite::open(&settings).await.unwrap();
    let scope = ModuleScope { module: ModuleName::new("events").unwrap(), namespace: None };
    let mut schema = Schema::new(&scope, Family::Events, "legacy");
    schema.known = schema.known().chain(added.iter().copied()).collect();
    let runner = SqliteMigrations { database: Arc::clone(&open.database), schema };
    Place { _folder: folder, open, runner }
}

impl Place {
    async fn sql(&self, sql: &'static str) {
        self.open.database.write(move |conn| Ok(conn.batch_execute(sql)?)).await.unwrap();
    }

    async fn has(&self, table: &'static str) -> bool {
        self.open.database.read(move |conn| has_table(conn, table)).await.unwrap()
    }

    async fn applied(&self) -> usize {
        let status = self.runner.status().await.unwrap();
        status.iter().filter(|one| one.applied_at.is_some()).count()
    }
}

// S2-MIG-007: statements that no transaction can hold run alone. One that fails half way says so, what ran stays, nothing
// is recorded, and the same command goes through once the cause is gone; back as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_transaction_is_finished_by_the_next_run() {
    let place = place(&[&TABLE, &ALONE]).await;
    place.sql("CREATE TABLE note (number INTEGER UNIQUE); INSERT INTO note VALUES (1)").await;
    let refused = place.runner.up().await.unwrap_err();
    assert!(!refused.message().contains("cannot run in a transaction"), "{refused}");
    assert_eq!(place.applied().await, 3, "the table is in the way");
    place.sql("DROP TABLE note").await;
    place.runner.up().await.unwrap();
    assert_eq!(place.runner.down(1, true).await.unwrap().len(), 1);

    place.sql("INSERT INTO note VALUES (1)").await;
    let refused = place.runner.up().await.unwrap_err();
    for part in ["events/0004_alone failed", "what it did before stays", "run the same again"] {
        assert!(refused.message().contains(part), "{refused}");
    }
    assert!(place.has("domain_event_note").await, "what ran stays");
    assert_eq!(place.applied().await, 4, "and is not recorded");

    place.sql("DELETE FROM note").await;
    let done = place.runner.up().await.unwrap();
    assert_eq!(done.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["events/0004_alone"]);
    assert_eq!(place.runner.up().await.unwrap(), []);
    let back = place.runner.down(2, true).await.unwrap();
    let back: Vec<_> = back.iter().map(|one| (one.id.as_str(), one.applied_at)).collect();
    assert_eq!(back, [("events/0004_alone", None), ("events/0003_note", None)]);
    assert!(!place.has("domain_event_note").await && !place.has("note").await);
    assert_eq!(place.applied().await, 3);
}

// S2-MIG-007, S2-MIG-006: two runners at once end with one record.
#[tokio::test(flavor = "multi_thread")]
async fn two_runners_of_a_file_without_a_transaction_record_it_once() {
    let place = place(&[&TABLE, &ALONE]).await;
    let (one, other) = tokio::join!(place.runner.up(), place.runner.up());
    assert_eq!(one.unwrap().len() + other.unwrap().len(), 5);
    assert_eq!(place.applied().await, 5);
}

// S2-MIG-007: the mark is what makes it work.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_without_the_mark_is_refused_and_rolled_back() {
    let place = place(&[&UNMARKED]).await;
    place.runner.up().await.unwrap_err();
    assert!(!place.has("later").await);
    assert_eq!(place.applied().await, 3);
}
