//! The runner on migrations that no release ships.

use changeover_core::{BackendSettings, ModuleName};
use changeover_testkit::TestDatabase;

use super::*;

fn runner(db: &TestDatabase, known: &'static [Shipped]) -> PostgresMigrations {
    let settings = Settings::read(&BackendSettings::new("main").with("url", db.url())).unwrap();
    let scope = ModuleScope { module: ModuleName::new("events").unwrap(), namespace: None };
    PostgresMigrations { settings: Arc::new(settings), scope, family: Family::Events, known }
}

fn with(up: &'static str, down: &'static str) -> &'static [Shipped] {
    let added = Shipped { family: "events", id: "events/0002_index", up, down };
    Box::leak(Box::new([
        shipped("base/0001_roles_and_modules"),
        shipped("events/0001_streams_and_events"),
        added,
    ]))
}

fn shipped(id: &str) -> Shipped {
    let it = crate::shipped::SHIPPED.iter().find(|it| it.id == id).unwrap();
    Shipped { family: it.family, id: it.id, up: it.up, down: it.down }
}

// S2-MIG-002: what all modules share grows after modules were migrated; the next run brings it and what needs it.
#[tokio::test(flavor = "multi_thread")]
async fn what_all_modules_share_may_grow_after_a_module_was_migrated() {
    let db = TestDatabase::empty().await.unwrap();
    let before = ["base/0001_roles_and_modules", "events/0001_streams_and_events"];
    let old: &[Shipped] = Box::leak(Box::new(before.map(shipped)));
    assert_eq!(runner(&db, old).up().await.unwrap().len(), 2);
    let now: &[Shipped] = Box::leak(Box::new([
        shipped("base/0001_roles_and_modules"),
        shipped("base/0002_cutover"),
        shipped("events/0001_streams_and_events"),
        shipped("events/0006_cutover"),
    ]));
    let runner = runner(&db, now);
    let done: Vec<_> = runner.up().await.unwrap().into_iter().map(|it| it.id).collect();
    assert_eq!(done, ["base/0002_cutover", "events/0006_cutover"]);
    assert!(runner.up().await.unwrap().is_empty());
    assert_eq!(runner.down(4, true).await.unwrap().len(), 4);
    assert!(applied(&runner).await.is_empty());
}

async fn applied(runner: &PostgresMigrations) -> Vec<String> {
    let statuses = runner.status().await.unwrap();
    statuses.into_iter().filter(|it| it.applied_at.is_some()).map(|it| it.id).collect()
}

async fn texts(db: &TestDatabase, sql: &str) -> Vec<String> {
    db.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

const INDEXES: &str = "SELECT relname || ' ' || indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid \
                        WHERE relname LIKE 'later%' ORDER BY 1";
const ALONE: &str = "\
-- no-transaction
-- description: an index that is made while others write
DROP INDEX CONCURRENTLY IF EXISTS event_store.later_type;
CREATE INDEX CONCURRENTLY later_type
    ON event_store.domain_event (tenant_id, event_type);
DROP INDEX CONCURRENTLY IF EXISTS event_store.later_once;
CREATE UNIQUE INDEX CONCURRENTLY later_once ON event_store.note (number);
";
const ALONE_DOWN: &str = "\
-- no-transaction
DROP INDEX CONCURRENTLY IF EXISTS event_store.later_once;
DROP INDEX CONCURRENTLY IF EXISTS event_store.later_type;
";

// S2-MIG-007: statements that cannot run in a transaction run one by one. One that fails half way is named, what ran
// stays, nothing is recorded, and the same command goes through once the cause is gone; back as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_transaction_is_finished_by_the_next_run() {
    let db = TestDatabase::empty().await.unwrap();
    let runner = runner(&db, with(ALONE, ALONE_DOWN));
    let error = runner.up().await.unwrap_err();
    assert!(error.message().contains("note\" does not exist"), "{error}");
    db.execute("CREATE TABLE event_store.note (number int); INSERT INTO event_store.note VALUES (1), (1)")
        .await
        .unwrap();
    let error = runner.up().await.unwrap_err();
    for part in ["events/0002_index failed", "its statement 4 of 4 failed", "run the same again"] {
        assert!(error.message().contains(part), "{error}");
    }
    let before = ["base/0001_roles_and_modules", "events/0001_streams_and_events"];
    assert_eq!(applied(&runner).await, before);
    assert_eq!(texts(&db, INDEXES).await, ["later_once false", "later_type true"], "what ran stays");

    db.execute("DELETE FROM event_store.note").await.unwrap();
    let done = runner.up().await.unwrap();
    assert_eq!(done.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["events/0002_index"]);
    assert_eq!(texts(&db, INDEXES).await, ["later_once true", "later_type true"]);
    assert!(runner.up().await.unwrap().is_empty());

    assert_eq!(runner.down(1, false).await.unwrap().len(), 1);
    assert_eq!(applied(&runner).await, before);
    assert!(texts(&db, INDEXES).await.is_empty());
}

// S2-MIG-007: the mark is what makes it work: without it the same statement is refused and all is rolled back.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_without_the_mark_is_refused_and_rolled_back() {
    let db = TestDatabase::empty().await.unwrap();
    let up = "-- description: not marked\nCREATE TABLE event_store.later ();\n\
              CREATE INDEX CONCURRENTLY later_type ON event_store.domain_event (event_type);\n";
    let runner = runner(&db, with(up, ""));
    let error = runner.up().await.unwrap_err();
    assert!(error.message().contains("cannot run inside a transaction block"), "{error}");
    assert!(error.message().ends_with("; it was rolled back"), "{error}");
    assert!(texts(&db, "SELECT relname::text FROM pg_class WHERE relname = 'later'").await.is_empty());
    assert_eq!(applied(&runner).await.len(), 2);
}

// S3-MIG-011: a server below the least version is refused by the service and by migrations alike, and nothing is made.
// Asked of the server there is by a least version above its own.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_is_refused_before_anything_is_done() {
    let db = TestDatabase::empty().await.unwrap();
    let settings = Settings::read(&BackendSettings::new("main").with("url", db.url())).unwrap();
    for connector in [Connector::new(&settings), Connector::for_migrations(&settings)] {
        let mut connector = connector.unwrap();
        connector.client().await.unwrap();
        connector.oldest = 999;
        let error = connector.client().await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
        assert!(error.message().contains("version 999 or later is needed: upgrade the server"), "{error}");
    }
    assert!(
        texts(&db, "SELECT nspname::text FROM pg_namespace WHERE nspname = 'changeover'").await.is_empty()
    );
}
