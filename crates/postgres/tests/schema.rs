//! Migrations, roles, what people who write SQL get, and the plans of the functions.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use changeover_core::backend::{Family, Migrations};
use changeover_core::events::{Expected, ReadAll};
use changeover_core::{BackendSettings, ErrorKind, OpenBackend};
use changeover_postgres::init_scripts;
use changeover_testkit::tokio_postgres::Client;
use changeover_testkit::{TestDatabase, with_user};
use common::{migrated, namespaced, one, open, scope, settings, store, stream, tenant};
use rstest::rstest;

async fn backend(
    settings: BackendSettings,
) -> (std::sync::Arc<dyn OpenBackend>, std::sync::Arc<dyn Migrations>) {
    let backend = open(settings).await;
    let migrations = backend.migrations(&scope(), Family::Events).unwrap();
    (backend, migrations)
}

async fn code(client: &Client, sql: &str) -> String {
    client.batch_execute(sql).await.unwrap_err().code().unwrap().code().to_owned()
}

// S2-MIG-001 to 003, X-EDGE-089: up, again, status, down, up.
#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_up_once_and_down_and_up_again() {
    let db = TestDatabase::empty().await.unwrap();
    let (backend, migrations) = backend(settings(db.url())).await;
    let known = migrations.status().await.unwrap();
    assert!(known.iter().all(|it| it.applied_at.is_none()));
    let all = known.len();
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    assert_eq!(store.ready().await.unwrap_err().kind(), ErrorKind::SchemaMismatch);
    assert_eq!(backend.owner(&scope()).await.unwrap(), None);

    let applied = migrations.up().await.unwrap();
    assert_eq!(applied.len(), all);
    assert!(applied.iter().all(|it| it.applied_at.is_some() && !it.description.is_empty()));
    assert!(migrations.up().await.unwrap().is_empty());
    assert_eq!(migrations.status().await.unwrap(), applied);
    assert_eq!(backend.owner(&scope()).await.unwrap().as_deref(), Some("none"));
    assert!(backend.claim(&scope()).await.unwrap());
    assert!(backend.claim(&scope()).await.unwrap(), "the owner stays the owner");
    store.ready().await.unwrap();
    store.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap();

    let steps = u32::try_from(all).unwrap();
    let refused = migrations.down(steps - 1, false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    store.ready().await.unwrap();
    assert_eq!(migrations.down(steps, true).await.unwrap().len(), all);
    let left =
        "SELECT count(*) FROM pg_namespace WHERE nspname IN ('event_store', 'read_model', 'changeover')";
    assert_eq!(db.query(left, &[]).await.unwrap()[0].get::<_, i64>(0), 0);
    assert_eq!(migrations.up().await.unwrap().len(), all);
}

// S2-MIG-006, DEF-41: two runners, also in two databases of one cluster.
#[tokio::test(flavor = "multi_thread")]
async fn runners_at_once_do_the_work_once() {
    let (one_db, other_db) = (TestDatabase::empty().await.unwrap(), TestDatabase::empty().await.unwrap());
    let all = backend(settings(one_db.url())).await.1.status().await.unwrap().len();
    let mut tasks = Vec::new();
    for url in [one_db.url(), one_db.url(), one_db.url(), other_db.url()] {
        let (_, migrations) = backend(settings(url)).await;
        tasks.push(tokio::spawn(async move { migrations.up().await.unwrap().len() }));
    }
    let mut applied = Vec::new();
    for task in tasks {
        applied.push(task.await.unwrap());
    }
    assert_eq!(applied.iter().sum::<usize>(), 2 * all, "{applied:?}");
}

// S2-MIG-002, X-EDGE-089, X-EDGE-090: changed text, a missing earlier one, a newer schema: nothing is applied.
#[rstest]
#[case(
    "UPDATE changeover._migrations SET checksum = repeat('0', 64) WHERE id = 'events/0002_append'",
    "has changed"
)]
#[case("DELETE FROM changeover._migrations WHERE id = 'events/0001_streams_and_events'", "is missing")]
#[case(
    "INSERT INTO changeover._migrations VALUES ('events', 'events/9999_later', 'later', repeat('0', 64))",
    "newer than this program"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_program_is_refused(#[case] sql: &str, #[case] said: &str) {
    let db = migrated().await;
    let (backend, migrations) = backend(settings(db.url())).await;
    db.execute(sql).await.unwrap();
    db.execute("DELETE FROM changeover._migrations WHERE id = 'events/0003_reads'").await.unwrap();
    let error = migrations.up().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
    assert!(error.message().contains(said), "{error}");
    assert!(migrations.status().await.unwrap().iter().any(|it| it.problem.is_some()));
    let reads =
        migrations.status().await.unwrap().into_iter().find(|it| it.id == "events/0003_reads").unwrap();
    assert_eq!(reads.applied_at, None);
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    assert_eq!(store.ready().await.unwrap_err().kind(), ErrorKind::SchemaMismatch);
}

// S2-MIG-004: one that fails is rolled back wholly, not recorded, and says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_migration_leaves_nothing() {
    let db = TestDatabase::empty().await.unwrap();
    db.execute("CREATE SCHEMA event_store; CREATE VIEW event_store.domain_event AS SELECT 1 AS x")
        .await
        .unwrap();
    let (_, migrations) = backend(settings(db.url())).await;
    let error = migrations.up().await.unwrap_err();
    assert!(error.message().contains("events/0001_streams_and_events failed"), "{error}");
    let statuses = migrations.status().await.unwrap();
    let applied: Vec<_> =
        statuses.iter().filter(|it| it.applied_at.is_some()).map(|it| it.id.as_str()).collect();
    assert_eq!(applied, ["base/0001_roles_and_modules", "base/0002_cutover", "base/0003_claim_beside_a_run"]);
    let made = "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
                WHERE n.nspname = 'event_store'";
    assert_eq!(db.query(made, &[]).await.unwrap()[0].get::<_, i64>(0), 1);
}

// S0-MIG-018: the init scripts run on an empty database, and again; the program takes the result for its own.
#[tokio::test(flavor = "multi_thread")]
async fn init_scripts_can_be_run_twice_and_are_what_the_program_needs() {
    let db = TestDatabase::empty().await.unwrap();
    for _ in 0..2 {
        for (name, text) in init_scripts(Family::Events) {
            db.execute(&text).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    let (backend, migrations) = backend(settings(db.url())).await;
    assert!(migrations.up().await.unwrap().is_empty());
    assert!(backend.claim(&scope()).await.unwrap());
    backend.events(&scope(), &tenant("acme")).await.unwrap().ready().await.unwrap();
}

// S2-TEN-005, DEF-38, DEF-52: a login without rights of its own serves; nothing in the schema is its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_login_serves_under_row_security() {
    let db = TestDatabase::empty().await.unwrap();
    let login = format!("svc_{}", changeover_core::Uuid::new_v4().simple());
    let migrator = format!("mig_{}", changeover_core::Uuid::new_v4().simple());
    db.execute(&format!(
        "CREATE ROLE {login} LOGIN; CREATE ROLE {migrator} LOGIN CREATEROLE; \
         GRANT ALL ON DATABASE {} TO {migrator}",
        db.name()
    ))
    .await
    .unwrap();
    // Other databases of the cluster may have made our roles before: their owner lets this login act as it.
    let roles = format!("own_{}", changeover_core::Uuid::new_v4().simple());
    let given = settings(&with_user(db.url(), &login, None))
        .with("migrate_url", with_user(db.url(), &migrator, None))
        .with("roles.owner", format!("{roles}_o"))
        .with("roles.app", format!("{roles}_a"))
        .with("roles.copier", format!("{roles}_c"));
    let (backend, migrations) = backend(given).await;
    migrations.up().await.unwrap();
    assert!(backend.claim(&scope()).await.unwrap());
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    store.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap();
    let other = backend.events(&scope(), &tenant("other")).await.unwrap();
    assert!(other.read_all(ReadAll::default()).await.unwrap().events.is_empty());
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap().events.len(), 1);
    for check in backend.check().await {
        assert!(check.ok, "{check:?}");
    }

    let client = db.client().await.unwrap();
    client.batch_execute(&format!("SET SESSION AUTHORIZATION {login}")).await.unwrap();
    let seen = client.query_one("SELECT count(*) FROM event_store.domain_event", &[]).await.unwrap();
    assert_eq!(seen.get::<_, i64>(0), 0, "an unset tenant sees nothing");
    for sql in [
        "INSERT INTO event_store.consumer_position VALUES ('acme', 'x', 1, now())",
        "CREATE TABLE event_store.mine ()",
        "CREATE TABLE read_model.mine ()",
        "CREATE FUNCTION event_store.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "UPDATE changeover.module SET owner = 'none'",
        "SELECT event_store.begin_write('acme')",
        "SELECT nextval('event_store.event_position')",
        "ALTER TABLE event_store.domain_event NO FORCE ROW LEVEL SECURITY",
    ] {
        assert_eq!(code(&client, sql).await, "42501", "{sql}");
    }
    drop(client);
    backend.close().await;
    // Roles belong to the whole server: they do not go with the database.
    let all = format!("{login}, {migrator}, {roles}_o, {roles}_a, {roles}_c");
    db.execute(&format!("DROP OWNED BY {all}; DROP ROLE {all}")).await.unwrap();
}

// S0-ES-013 to 019, DEF-2, DEF-5: what people who write SQL get.
#[tokio::test(flavor = "multi_thread")]
async fn append_events_answers_in_sqlstates_of_its_own() {
    let db = migrated().await;
    let client = db.client().await.unwrap();
    let call = |expected: &str, events: &str| {
        format!(
            "SELECT event_store.append_events('Order', '11111111-0000-0000-0000-000000000001', {expected}, {events})"
        )
    };
    let good = r#"ARRAY['{"event_type":"Placed","event_version":1,"event_data":{"n":1}}'::jsonb]"#;
    assert_eq!(code(&client, &call("0", good)).await, "CO400", "no tenant");
    client.batch_execute("SET changeover.tenant_id = 'acme'; SET TimeZone = 'Asia/Kolkata'").await.unwrap();
    client.batch_execute(&call("0", good)).await.unwrap();
    assert_eq!(code(&client, &call("0", good)).await, "CO409");
    let error = client.batch_execute(&call("5", good)).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().detail(), Some("expected=5 actual=1"));
    for events in [
        "NULL",
        "'{}'::jsonb[]",
        "ARRAY[NULL::jsonb]",
        r#"ARRAY['{"event_version":1,"event_data":{}}'::jsonb]"#,
        r#"ARRAY['{"event_type":"Placed","event_data":{}}'::jsonb]"#,
        r#"ARRAY['{"event_type":"Placed","event_version":1}'::jsonb]"#,
        r#"ARRAY['{"event_type":"Placed","event_version":1,"event_data":null}'::jsonb]"#,
        r#"ARRAY['{"event_type":"Placed","event_version":1,"event_data":{},"metadata":[]}'::jsonb]"#,
        r#"ARRAY['{"event_type":"Placed","event_version":1,"event_data":{},"occured_at":"x"}'::jsonb]"#,
        r#"ARRAY['{"event_type":"Placed","event_version":1,"event_data":{},"occurred_at":"2024-01-01T00:00:00"}'::jsonb]"#,
        r#"ARRAY['{"event_type":"Placed","event_version":1,"event_data":{},"occurred_at":"2024-01-01T23:59:60Z"}'::jsonb]"#,
        r#"ARRAY['{"event_type":"Placed","event_version":1,"event_data":{},"causation_id":"1"}'::jsonb]"#,
    ] {
        assert_eq!(code(&client, &call("1", events)).await, "CO400", "{events}");
    }
    assert_eq!(code(&client, &call("NULL", good)).await, "CO400");
    let zoned = r#"ARRAY['{"event_id":"22222222-0000-0000-0000-000000000001","event_type":"Placed","event_version":1,
        "event_data":{},"occurred_at":"2024-02-29T23:30:00.1234567+05:30"}'::jsonb]"#;
    client.batch_execute(&call("-1", zoned)).await.unwrap();
    client.batch_execute(&call("9", zoned)).await.unwrap();
    assert_eq!(code(&client, &call("-1", &zoned.replace("{},", "{\"n\":2},"))).await, "CO410");

    let read = store(&db).await.read_all(ReadAll::default()).await.unwrap();
    assert_eq!(read.events.len(), 2);
    assert_eq!(read.events[1].occurred_at.to_string(), "2024-02-29T18:00:00.123456Z");
    let missing = "SELECT count(*) FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid \
                   WHERE c.relnamespace IN ('event_store'::regnamespace, 'changeover'::regnamespace) \
                     AND c.relkind = 'r' AND a.attnum > 0 AND col_description(c.oid, a.attnum) IS NULL";
    assert_eq!(db.query(missing, &[]).await.unwrap()[0].get::<_, i64>(0), 0, "S0-ES-012");
}

// E99: with 100,000 streams nothing is read whole, also by a session that planned while the tables were empty.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_streams_cost_look_ups_only() {
    let db = migrated().await;
    let session = db.client().await.unwrap();
    let id = "md5('s77777')::uuid";
    let append = "SELECT * FROM event_store.append('acme', '{1,2}', \
            ARRAY[gen_random_uuid(), gen_random_uuid()], '{S,S}', ARRAY[gen_random_uuid(), gen_random_uuid()], '{-1,-1}', \
            '{1,2}', ARRAY[gen_random_uuid(), gen_random_uuid()], '{T,T}', '{1,1}', ARRAY['{}', '{}']::jsonb[], \
            ARRAY['{}', '{}']::jsonb[], ARRAY[NULL, NULL]::timestamptz[], ARRAY[NULL, NULL]::uuid[], \
            ARRAY[NULL, NULL]::uuid[])";
    let calls = [
        append.to_owned(),
        format!("SELECT * FROM event_store.stream_head('acme', 'S', {id})"),
        format!("SELECT * FROM event_store.read_stream('acme', 'S', {id})"),
        format!(
            "SELECT * FROM event_store.read_stream('acme', 'S', {id}, p_backward => true, p_event_types => '{{T}}')"
        ),
        "SELECT event_store.log_head('acme'), event_store.tracked('acme', 'c')".to_owned(),
        "SELECT * FROM event_store.read_all('acme', 50000, 10)".to_owned(),
        format!("SELECT * FROM event_store.read_all('acme', 50000, 10, '{{S}}', ARRAY[{id}], p_scan => 100)"),
        "SELECT * FROM event_store.read_all('acme', 50000, 10, p_aggregate_types => '{X}', p_scan => 100)"
            .to_owned(),
        "SELECT * FROM event_store.read_all('acme', 50000, 10, p_event_types => '{X}', p_scan => 100)"
            .to_owned(),
    ];
    for call in &calls {
        session.query(call, &[]).await.unwrap();
    }
    db.execute(
        "SET changeover.tenant_id = 'acme'; \
         INSERT INTO event_store.event_stream SELECT 'acme', md5('i' || n)::uuid, 'S', md5('s' || n)::uuid, now(), 1 \
           FROM generate_series(1, 100000) AS n; \
         INSERT INTO event_store.domain_event SELECT 'acme', n + 10, md5('e' || n)::uuid, md5('i' || n)::uuid, 'T', 1, 1, \
             '{}', '{}', now(), now(), NULL, NULL FROM generate_series(1, 100000) AS n; \
         SELECT setval('event_store.event_position', 200000)",
    )
    .await
    .unwrap();
    for call in &calls {
        session.batch_execute("BEGIN").await.unwrap();
        session.query(call, &[]).await.unwrap();
        let rows = session
            .query(
                "SELECT coalesce(sum(seq_scan), 0)::bigint, coalesce(sum(idx_tup_fetch), 0)::bigint \
                   FROM pg_stat_xact_user_tables WHERE schemaname = 'event_store'",
                &[],
            )
            .await
            .unwrap();
        session.batch_execute("COMMIT").await.unwrap();
        let (whole, fetched): (i64, i64) = (rows[0].get(0), rows[0].get(1));
        assert!(whole == 0 && fetched < 1_000, "{whole} sequential scans, {fetched} rows fetched: {call}");
    }
}

// A namespaced module can go without touching the plain one; what is shared stays until the last has gone.
#[tokio::test(flavor = "multi_thread")]
async fn modules_are_taken_back_one_by_one() {
    let db = migrated().await;
    let backend = open(settings(db.url())).await;
    let own = backend.migrations(&namespaced("scheduler"), Family::Events).unwrap();
    let all = own.up().await.unwrap().len();
    let steps = u32::try_from(all).unwrap();
    assert_eq!(own.down(steps + 1, false).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(own.down(steps, false).await.unwrap().len(), all);
    store(&db).await.ready().await.unwrap();
}
