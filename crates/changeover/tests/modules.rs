//! Settings decide which backend serves a module, and the stores say who owns it.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod common;

use std::collections::HashSet;
use std::sync::Arc;

use changeover::backend::Family;
use changeover::events::{HeadOf, ReadAll};
use changeover::{
    Db, ErrorKind, PersistenceOptions, StreamId, TenantId, Uuid, Version, connect_with, registry,
};
use changeover_testkit::TestDatabase;
use common::{Order, OrderEvent, Sql, options, place, placed};
use rstest::rstest;

async fn connect(options: PersistenceOptions) -> Db {
    connect_with(options, registry()).await.unwrap()
}

/// The program of the design's example, and what it leaves in the store.
async fn program(db: &Db, module: &str, id: Uuid) -> Vec<String> {
    let orders = db.events(module).unwrap().typed::<OrderEvent>();
    orders.append(id, None, [placed("lamp"), OrderEvent::Renamed("é".to_owned())]).await.unwrap();
    let order = orders.load(id, Order::apply).await.unwrap();
    orders.append(id, order.version, [order.ship().unwrap()]).await.unwrap();
    let stale = orders.append(id, order.version, [OrderEvent::Shipped]).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::VersionConflict);
    let store = db.events(module).unwrap().store().await.unwrap();
    let page = store.read_all(ReadAll::default()).await.unwrap();
    let line =
        |e: &changeover::RecordedEvent| format!("{} {} {} {}", e.stream, e.version, e.event_type, e.data);
    page.events.iter().map(line).collect()
}

// S2-CFG-010: one word of the settings, no code.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_program_runs_on_every_backend_with_one_word_changed() {
    let (dir, server) = (tempfile::tempdir().unwrap(), TestDatabase::empty().await.unwrap());
    let options = options(&dir, Some(&server)).with("backends.memory.kind", "memory");
    let id = Uuid::now_v7();
    let mut left = HashSet::new();
    for word in ["memory", "sqlite", "postgres"] {
        let db = connect(options.clone().with("persistence.default", word)).await;
        left.insert(program(&db, &format!("orders_{word}"), id).await);
        db.close().await;
    }
    assert_eq!(left.len(), 1, "{left:#?}");
    assert_eq!(left.into_iter().next().unwrap().len(), 3);
}

// X9: each module really is where the settings say, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn modules_on_two_backends_do_not_share_records() {
    let (dir, server) = (tempfile::tempdir().unwrap(), TestDatabase::empty().await.unwrap());
    let options =
        options(&dir, Some(&server)).with("persistence.a", "sqlite").with("persistence.b", "postgres");
    let db = connect(options).await;
    let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
    program(&db, "a", a).await;
    program(&db, "b", b).await;
    let rows = server.query("SELECT aggregate_id::text FROM b_event_store.event_stream", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), [b.to_string()]);
    for (module, own, other) in [("a", a, b), ("b", b, a)] {
        let store = db.events(module).unwrap().store().await.unwrap();
        let head = |id| store.head(HeadOf::Stream(StreamId::new("Order", id).unwrap()));
        assert_eq!(head(own).await.unwrap().version.map(Version::get), Some(3));
        assert_eq!(head(other).await.unwrap().version, None);
    }
}

// S2-CFG-001, DEF-49: modules of the user's own, by the names of the source; each is served by the backend it names, and
// one that names none by the default. S2-CFG-002, DEF-49: the keys are those of the design.
#[tokio::test(flavor = "multi_thread")]
async fn modules_of_the_users_own_are_served_by_the_backend_each_names() {
    let (dir, server) = (tempfile::tempdir().unwrap(), TestDatabase::empty().await.unwrap());
    let named = [
        ("authority", "postgres"),
        ("scheduler", "postgres"),
        ("concelier", "sqlite"),
        ("excititor", "memory"),
        ("notify", "postgres"),
    ];
    let given = options(&dir, Some(&server))
        .with("backends.memory.kind", "memory")
        .with("backends.postgres.command_timeout", "30s")
        .with("backends.postgres.pool.connect_timeout", "15s")
        .with("persistence.default", "sqlite");
    let given = named
        .iter()
        .fold(given, |all, (module, backend)| all.with(format!("persistence.{module}"), *backend));
    let db = connect(given).await;
    let mut on_postgres = Vec::new();
    for (module, backend) in named.into_iter().chain([("policy", "sqlite")]) {
        assert_eq!(program(&db, module, Uuid::now_v7()).await.len(), 3, "{module}");
        assert_eq!(db.module(module).unwrap().owner().await.unwrap().0, backend, "{module}");
        if backend == "postgres" {
            on_postgres.push(format!("{module}_event_store"));
        }
    }
    on_postgres.sort_unstable();
    let sql = "SELECT schemaname::text FROM pg_stat_user_tables WHERE relname = 'domain_event' ORDER BY 1";
    let rows = server.query(sql, &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), on_postgres);
    let wrong = PersistenceOptions::new()
        .with("persistence.default", "legacy")
        .with("persistence.Authority", "legacy")
        .with("backends.legacy.kind", "memory");
    let error = wrong.check(&registry()).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains("Authority"), "{error}");
}

// X10: one pool for the modules of one backend, and records apart all the same.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn modules_on_one_backend_share_its_pool(#[case] sql: Sql) {
    let place = place(sql).await;
    let (one, two) = (place.db.module("orders").unwrap(), place.db.module("invoices").unwrap());
    let (one_on, two_on) = (one.owner().await.unwrap(), two.owner().await.unwrap());
    assert_eq!(one_on.0, two_on.0);
    assert!(Arc::ptr_eq(&one_on.1, &two_on.1));
    let id = Uuid::now_v7();
    assert_eq!(program(&place.db, "orders", id).await.len(), 3);
    assert_eq!(program(&place.db, "invoices", id).await.len(), 3);
    let work = (0..24).map(|n| {
        let db = place.db.clone();
        tokio::spawn(async move { program(&db, ["orders", "invoices"][n % 2], Uuid::now_v7()).await })
    });
    for task in work.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    if let Some(server) = &place.server {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND \
                   backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let open: i64 = server.query(sql, &[]).await.unwrap()[0].get(0);
        assert!(open <= 4, "{open} connections of a pool of 4");
    }
}

#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn tenants_share_backends_and_see_their_own_only(#[case] sql: Sql) {
    let place = place(sql).await;
    let other = place.db.for_tenant(TenantId::new("other' OR 1=1 --").unwrap());
    let id = Uuid::now_v7();
    assert_eq!(program(&place.db, "orders", id).await.len(), 3);
    assert_eq!(program(&other, "orders", id).await.len(), 3);
}

// Design section 4: the stores say who owns a module; a file that holds it keeps PostgreSQL from claiming it.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_a_file_holds_is_followed_there() {
    let (dir, server) = (tempfile::tempdir().unwrap(), TestDatabase::empty().await.unwrap());
    let options = options(&dir, Some(&server));
    let id = Uuid::now_v7();
    let before = connect(options.clone().with("persistence.default", "sqlite")).await;
    program(&before, "orders", id).await;
    before.close().await;

    let db = connect(options.with("persistence.default", "postgres")).await;
    assert_eq!(db.module("orders").unwrap().configured_backend(), "postgres");
    let order = db.events("orders").unwrap().typed::<OrderEvent>().load(id, Order::apply).await.unwrap();
    assert!(order.shipped);
    assert_eq!(db.module("orders").unwrap().owner().await.unwrap().0, "sqlite");
    // A module that nobody holds goes where the settings say.
    assert_eq!(program(&db, "invoices", id).await.len(), 3);
    assert_eq!(db.module("invoices").unwrap().owner().await.unwrap().0, "postgres");
    let owners =
        server.query("SELECT module, owner FROM changeover.module ORDER BY module", &[]).await.unwrap();
    let owners: Vec<(String, String)> = owners.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(owners, [("invoices".into(), "postgres".into()), ("orders".into(), "none".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_not_configured_is_refused() {
    let (dir, server) = (tempfile::tempdir().unwrap(), TestDatabase::empty().await.unwrap());
    let options = PersistenceOptions::new()
        .with("backends.postgres.kind", "postgres")
        .with("backends.postgres.url", server.url())
        .with("backends.postgres.migrate_on_start", "true")
        .with("persistence.default", "postgres");
    let db = connect(options.clone()).await;
    program(&db, "orders", Uuid::now_v7()).await;
    db.close().await;
    server.execute("UPDATE changeover.module SET owner = 'sqlite'").await.unwrap();

    let db = connect(options).await;
    let error = db.events("orders").unwrap().store().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("module orders is owned by sqlite"), "{error}");
    drop(dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connection_is_unavailable_and_unknown_names_are_told() {
    let place = place(Sql::Sqlite).await;
    let error = place.db.backend("mian").await.err().unwrap();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Config, "there is no backend \"mian\"; configured are sqlite")
    );
    assert_eq!(place.db.events("Orders").unwrap_err().kind(), ErrorKind::Invalid);
    let orders = place.db.events("orders").unwrap().typed::<OrderEvent>();
    place.db.close().await;
    place.db.close().await;
    let store = place.db.events("orders").unwrap().store().await;
    let error = match store {
        Ok(store) => store.ready().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    drop(orders);
}

// Design section 4: without settings everything is in one file, and the first line says so.
#[tokio::test(flavor = "multi_thread")]
async fn without_settings_everything_is_in_one_file() {
    let options = PersistenceOptions::new();
    let shown = options.effective(&registry()).unwrap();
    let of = |key: &str| shown.iter().find(|s| s.key == key).map(|s| s.value.clone());
    assert_eq!(of("persistence.default").as_deref(), Some("local"));
    assert_eq!(of("backends.local.path").as_deref(), Some("var/changeover.db"));

    let dir = tempfile::tempdir().unwrap();
    std::env::set_current_dir(dir.path()).unwrap();
    let db = connect(options).await;
    assert!(db.notice().unwrap().contains("var/changeover.db"));
    assert_eq!(program(&db, "orders", Uuid::now_v7()).await.len(), 3);
    assert!(dir.path().join("var/changeover.db").exists());
    assert_eq!(
        connect(PersistenceOptions::new().with("persistence.default", "m").with("backends.m.kind", "memory"))
            .await
            .notice(),
        None
    );
}

// A database without the schema says so, and serves once it is migrated: nothing of the first answer is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_is_claimed_after_somebody_migrated() {
    let (dir, server) = (tempfile::tempdir().unwrap(), TestDatabase::empty().await.unwrap());
    let options = options(&dir, Some(&server))
        .with("persistence.default", "postgres")
        .with("backends.postgres.migrate_on_start", "false");
    let db = connect(options).await;
    let orders = db.events("orders").unwrap();
    let error = orders.store().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
    let module = db.module("orders").unwrap();
    let backend = db.backend("postgres").await.unwrap();
    backend.migrations(module.scope(), Family::Events).unwrap().up().await.unwrap();
    let id = Uuid::now_v7();
    orders.typed::<OrderEvent>().append(id, None, [placed("lamp")]).await.unwrap();
    assert_eq!(backend.owner(module.scope()).await.unwrap().as_deref(), Some("postgres"));
}
