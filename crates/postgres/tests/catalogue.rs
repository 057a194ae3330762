//! What the schema is, read from the catalogue, and what it does where servers differ.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use changeover_core::backend::Family;
use changeover_core::events::{Append, Expected, HeadOf, ReadAll};
use changeover_core::{Applied, ErrorKind};
use changeover_testkit::TestDatabase;

use common::{event, migrated, one, open, scope, settings, store, stream, tenant};

async fn texts(db: &TestDatabase, sql: &str) -> Vec<String> {
    db.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

// S0-ES-002, S0-ES-003, S0-ES-005, DEF-52: three schemas with comments, where only the owner creates.
#[tokio::test(flavor = "multi_thread")]
async fn the_schemas_are_there_with_comments_and_only_the_owner_creates_in_them() {
    let db = migrated().await;
    let schemas = texts(
        &db,
        "SELECT nspname::text || CASE WHEN obj_description(oid) <> '' THEN '' ELSE ' without comment' END
              || CASE WHEN has_schema_privilege('changeover_app', oid, 'USAGE') THEN '' ELSE ' not usable' END
              || CASE WHEN has_schema_privilege('changeover_app', oid, 'CREATE') THEN ' open' ELSE '' END
           FROM pg_namespace WHERE nspname IN ('event_store', 'read_model', 'command_model') ORDER BY 1",
    )
    .await;
    assert_eq!(schemas, ["command_model", "event_store", "read_model"]);
}

// S0-ES-001, S0-ES-004, DEF-3: nothing depends on the search path; the database's own names the schemas.
#[tokio::test(flavor = "multi_thread")]
async fn statements_work_whatever_the_search_path_is() {
    // Not from the template: settings of a database are not copied with it.
    let db = TestDatabase::empty().await.unwrap();
    let backend = open(settings(db.url())).await;
    backend.migrations(&scope(), Family::Events).unwrap().up().await.unwrap();
    assert!(backend.claim(&scope()).await.unwrap());
    let path = texts(
        &db,
        "SELECT c FROM pg_db_role_setting, unnest(setconfig) AS c
          WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .await;
    assert!(path.iter().any(|setting| setting.contains("event_store")), "{path:?}");
    db.execute(&format!("ALTER DATABASE {} SET search_path = nowhere", db.name())).await.unwrap();
    let store = store(&db).await;
    store.append(one(&stream("Order"), Expected::NoStream, 1)).await.unwrap();
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap().events.len(), 1);
}

// S0-ES-007 to S0-ES-010, DEF-1, DEF-8: the columns, and one unique key for each rule.
#[tokio::test(flavor = "multi_thread")]
async fn the_tables_have_their_columns_and_keys() {
    let db = migrated().await;
    for (table, columns) in [
        (
            "event_stream",
            vec!["aggregate_id", "aggregate_type", "created_at", "stream_id", "tenant_id", "version"],
        ),
        (
            "domain_event",
            vec![
                "aggregate_version",
                "causation_id",
                "correlation_id",
                "event_data",
                "event_id",
                "event_type",
                "event_version",
                "metadata",
                "occurred_at",
                "position",
                "recorded_at",
                "stream_id",
                "tenant_id",
            ],
        ),
    ] {
        let found = texts(
            &db,
            &format!(
                "SELECT attname::text FROM pg_attribute
                  WHERE attrelid = 'event_store.{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1"
            ),
        )
        .await;
        assert_eq!(found, columns, "{table}");
    }
    let keys = texts(
        &db,
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint
          WHERE conrelid IN ('event_store.event_stream'::regclass, 'event_store.domain_event'::regclass)
            AND contype IN ('p', 'u', 'f') ORDER BY 1",
    )
    .await;
    assert_eq!(
        keys,
        [
            "FOREIGN KEY (tenant_id, stream_id) REFERENCES event_store.event_stream(tenant_id, stream_id)",
            "PRIMARY KEY (tenant_id, event_id)",
            "PRIMARY KEY (tenant_id, stream_id)",
            "UNIQUE (tenant_id, \"position\")",
            "UNIQUE (tenant_id, aggregate_type, aggregate_id)",
            "UNIQUE (tenant_id, stream_id, aggregate_version)",
        ]
    );
}

// S0-ES-011: what people search by has an index.
#[tokio::test(flavor = "multi_thread")]
async fn the_events_are_indexed_by_type_time_correlation_and_payload() {
    let db = migrated().await;
    let indexes = texts(
        &db,
        "SELECT regexp_replace(indexdef, '^.* USING ', '') FROM pg_indexes
          WHERE schemaname = 'event_store' AND tablename = 'domain_event'",
    )
    .await;
    for wanted in [
        "btree (tenant_id, event_type, \"position\")",
        "btree (tenant_id, occurred_at DESC)",
        "btree (tenant_id, correlation_id) WHERE (correlation_id IS NOT NULL)",
        "gin (event_data jsonb_path_ops)",
    ] {
        assert!(indexes.iter().any(|found| found == wanted), "{wanted} is not among {indexes:#?}");
    }
}

// S0-ES-006, X-EDGE-116, DEF-4: a server without the extensions serves all the same.
#[tokio::test(flavor = "multi_thread")]
async fn no_extension_is_needed() {
    let db = migrated().await;
    db.execute("DROP EXTENSION IF EXISTS \"uuid-ossp\"; DROP EXTENSION IF EXISTS pgcrypto; DROP EXTENSION IF EXISTS vector")
        .await
        .unwrap();
    let store = store(&db).await;
    store.append(one(&stream("Order"), Expected::NoStream, 1)).await.unwrap();
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap().events.len(), 1);
}

// X-EDGE-115: tables of the same names in another schema are not touched and do not disturb.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_the_same_names_elsewhere_are_left_alone() {
    let db = migrated().await;
    db.execute("CREATE TABLE public.domain_event (x int); CREATE TABLE public.event_stream (x int)")
        .await
        .unwrap();
    let store = store(&db).await;
    store.append(one(&stream("Order"), Expected::NoStream, 1)).await.unwrap();
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap().events.len(), 1);
    assert_eq!(texts(&db, "SELECT x::text FROM public.domain_event").await, Vec::<String>::new());
}

// X-EDGE-088: the time limit passes in the middle of a batch: nothing of it is stored, and the store goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_takes_too_long_is_not_stored() {
    let db = migrated().await;
    let backend = open(settings(db.url()).with("command_timeout", "150ms")).await;
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    store.append(one(&stream("Order"), Expected::NoStream, 1)).await.unwrap();
    let slow = stream("Order");
    let batch = Append::one(slow.clone(), Expected::NoStream, (0..10_000).map(event).collect());
    // Slow for certain: each row of the batch waits a little.
    db.execute(
        "CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END';
         CREATE TRIGGER wait BEFORE INSERT ON event_store.domain_event FOR EACH ROW EXECUTE FUNCTION public.wait()",
    )
    .await
    .unwrap();
    let error = store.append(batch).await.unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Timeout, Some(Applied::No)), "{error}");
    assert_eq!(store.head(HeadOf::Stream(slow)).await.unwrap().version, None);
    store.append(one(&stream("Order"), Expected::NoStream, 2)).await.unwrap();
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap().events.len(), 2);
}

// S2-TEN-001 to S2-TEN-003, DEF-38: the tenant is a value, and gone from the connection when the call is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_connection_never_carries_the_last_tenant() {
    let db = migrated().await;
    let backend = open(settings(db.url()).with("pool.max_size", "1")).await;
    for name in ["acme", "o'brien; DROP TABLE x --"] {
        let store = backend.events(&scope(), &tenant(name)).await.unwrap();
        store.append(one(&stream("Order"), Expected::NoStream, 1)).await.unwrap();
        assert_eq!(store.read_all(ReadAll::default()).await.unwrap().events.len(), 1, "{name}");
    }
    let stored = texts(&db, "SELECT tenant_id FROM event_store.domain_event ORDER BY position").await;
    assert_eq!(stored, ["acme", "o'brien; DROP TABLE x --"]);
}
