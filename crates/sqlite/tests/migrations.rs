//! The schema: applied once, wholly or not at all, and never guessed at.

mod common;

use changeover_core::backend::Family;
use changeover_core::events::{Expected, ReadAll};
use changeover_core::{ErrorKind, ModuleName, ModuleScope, Namespace, OpenBackend};
use common::{File, everything, migrations, one, scope, store, stream, tenant, text};
use rstest::rstest;

const TABLES: &str = "SELECT coalesce(group_concat(name), '') FROM
    (SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name)";
const RECORDED: &str = "SELECT count(*) || '' FROM _migrations";

// S2-MIG-001 to S2-MIG-003, X-EDGE-089: up, again, down, up again.
#[tokio::test(flavor = "multi_thread")]
async fn up_applies_what_is_missing_once_and_down_takes_it_back() {
    let file = File::new();
    let open = file.open_unmigrated().await;
    let migrations = migrations(&open);
    assert!(migrations.status().await.unwrap().iter().all(|one| one.applied_at.is_none()));
    let applied: Vec<_> = migrations.up().await.unwrap().into_iter().map(|one| one.id).collect();
    assert_eq!(applied, ["base/0001_base", "events/0001_log", "events/0002_streams_and_events"]);
    assert_eq!(migrations.up().await.unwrap(), []);
    for one in migrations.status().await.unwrap() {
        assert!(one.applied_at.is_some() && one.problem.is_none() && one.checksum.len() == 64, "{one:?}");
        assert!(!one.description.is_empty() && !one.description.starts_with("--"), "{one:?}");
    }
    let down = migrations.down(5, false).await.unwrap();
    assert_eq!(down.len(), 3);
    assert_eq!(text(&file, TABLES), "");
    migrations.up().await.unwrap();
    store(&open).await.ready().await.unwrap();
}

// S2-MIG-006, DEF-41: two runners at once, on one backend each.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_runners_one_works_and_the_other_finds_nothing_to_do() {
    let file = File::new();
    let (a, b) = (file.open_unmigrated().await, file.open_unmigrated().await);
    let (a, b) = (migrations(&a), migrations(&b));
    let (a, b) = tokio::join!(a.up(), b.up());
    assert_eq!(a.unwrap().len() + b.unwrap().len(), 3);
    assert_eq!(text(&file, RECORDED), "3");
}

// S2-MIG-002, E122, X-EDGE-084, X-EDGE-089: what this program does not know, it does not touch.
#[rstest]
#[case::changed("UPDATE _migrations SET checksum = 'x' WHERE id = 'events/0001_log'", "changed")]
#[case::newer(
    "INSERT INTO _migrations VALUES ('events/9999_later', 'later', 'x', '2030-01-01T00:00:00Z', 'native')",
    "newer"
)]
#[case::newer_base(
    "INSERT INTO _migrations VALUES ('base/9999_later', 'later', 'x', '2030-01-01T00:00:00Z', 'native')",
    "newer"
)]
#[case::missing_earlier("DELETE FROM _migrations WHERE id = 'events/0001_log'", "missing")]
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_this_program_does_not_know_is_refused(#[case] sql: &str, #[case] why: &str) {
    let file = File::new();
    file.store().await;
    file.raw(sql);
    let recorded = text(&file, RECORDED);
    let open = file.open_unmigrated().await;
    let runner = migrations(&open);
    assert!(runner.status().await.unwrap().iter().any(|one| one.problem.is_some()));
    let events = store(&open).await;
    let refusals = [
        runner.up().await.map(|_| ()).unwrap_err(),
        runner.down(1, true).await.map(|_| ()).unwrap_err(),
        events.ready().await.map(|_| ()).unwrap_err(),
        events.append(one(&stream(), Expected::Any, 1)).await.map(|_| ()).unwrap_err(),
        events.read_all(ReadAll::default()).await.map(|_| ()).unwrap_err(),
        file.open().await.events(&scope(), &tenant()).await.map(|_| ()).unwrap_err(),
    ];
    for refused in refusals {
        assert_eq!(refused.kind(), ErrorKind::SchemaMismatch, "{refused}");
        assert!(refused.message().contains(why), "{refused}");
    }
    assert_eq!(text(&file, RECORDED), recorded);
    assert_eq!(text(&file, "SELECT count(*) || '' FROM domain_event"), "0");
}

// S2-MIG-004: a failed migration leaves nothing, and is not recorded; what was applied before it stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_migration_is_rolled_back_wholly() {
    let file = File::new();
    // A table that stands in the way of the second one that the migration makes.
    file.raw("CREATE TABLE changeover_consumer (x)");
    let open = file.open_unmigrated().await;
    migrations(&open).up().await.unwrap_err();
    assert_eq!(text(&file, TABLES), "_migrations,changeover_consumer");
    assert_eq!(text(&file, RECORDED), "1");
    file.raw("DROP TABLE changeover_consumer");
    assert_eq!(migrations(&open).up().await.unwrap().len(), 2);
}

// E121: not migrated, a store says what to run.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_its_schema_says_what_to_run() {
    let file = File::new();
    let open = file.open_unmigrated().await;
    let events = store(&open).await;
    let refused = events.ready().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SchemaMismatch);
    assert!(refused.message().contains("changeover migrate up --backend legacy"), "{refused}");
    let append = events.append(one(&stream(), Expected::Any, 1)).await.unwrap_err();
    assert_eq!(append.kind(), ErrorKind::SchemaMismatch, "{append}");
    migrations(&open).up().await.unwrap();
    events.append(one(&stream(), Expected::Any, 1)).await.unwrap();
}

// S2-MIG-001: records are not lost by taking a migration back, unless the caller accepts it.
#[tokio::test(flavor = "multi_thread")]
async fn down_refuses_to_lose_records() {
    let file = File::new();
    let open = file.open().await;
    let events = store(&open).await;
    events.append(one(&stream(), Expected::Any, 1)).await.unwrap();
    let refused = migrations(&open).down(2, false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    assert_eq!(everything(&*events).await.len(), 1);
    assert_eq!(migrations(&open).down(2, true).await.unwrap().len(), 2);
    assert_eq!(events.read_all(ReadAll::default()).await.unwrap_err().kind(), ErrorKind::SchemaMismatch);
}

// Section 4 of the design: modules of the user's own have tables of their own in the same file, a legacy one too.
#[rstest]
#[case::native(File::new())]
#[case::legacy(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_keeps_the_tables_of_a_module_apart(#[case] file: File) {
    let open = file.open().await;
    let module = ModuleName::new("scheduler").unwrap();
    let scheduler = ModuleScope { module, namespace: Some(Namespace::new("scheduler").unwrap()) };
    let (plain, own) = (store(&open).await, open.events(&scheduler, &tenant()).await.unwrap());
    let request = one(&stream(), Expected::NoStream, 1);
    plain.append(request.clone()).await.unwrap();
    let stored = own.append(request).await.unwrap();
    assert!(!stored.repeated);
    assert_eq!(text(&file, "SELECT count(*) || '' FROM scheduler_domain_event"), "1");
    assert!(own.capabilities().tenants.is_yes());
    let foreign = ReadAll { after: Some(stored.checkpoint), ..ReadAll::default() };
    assert_eq!(plain.read_all(foreign).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(open.migrations(&scheduler, Family::Events).unwrap().down(9, true).await.unwrap().len(), 2);
    assert_eq!(everything(&*plain).await.len(), 1);
}

// X-ES-022, DEF-9: nobody changes or removes an event of a native file.
#[rstest]
#[case("UPDATE domain_event SET event_data = '{}'")]
#[case("DELETE FROM domain_event")]
#[case("DELETE FROM event_stream")]
#[case("UPDATE event_stream SET aggregate_type = 'Other'")]
#[case(
    "INSERT OR REPLACE INTO domain_event SELECT position, tenant_id, event_id, stream_id, 'Other', event_version,
     aggregate_version, event_data, metadata, occurred_at, recorded_at, causation_id, correlation_id FROM domain_event"
)]
#[tokio::test(flavor = "multi_thread")]
async fn stored_events_cannot_be_changed_by_sql(#[case] sql: &str) {
    use diesel::connection::SimpleConnection;
    let file = File::new();
    let events = file.store().await;
    events.append(one(&stream(), Expected::Any, 2)).await.unwrap();
    let before = everything(&*events).await;
    let refused = file.other_program().batch_execute(sql).unwrap_err();
    assert!(refused.to_string().contains("append-only") || refused.to_string().contains("only the version"));
    assert_eq!(everything(&*events).await, before);
}
