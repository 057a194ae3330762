//! Writes of the catalogue: several at once, beside people who write SQL, and where they are refused.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod catalog;

use std::sync::Arc;
use std::time::Duration;

use changeover_core::backend::Family;
use changeover_core::events::HeadOf;
use changeover_core::playbooks::{
    Change, Edit, Embedding, GetPlaybook, ListPlaybooks, Lookup, NewPlaybook, Playbook, Rate, Status,
    VersionsOf,
};
use changeover_core::{
    Applied, Detail, ErrorKind, Limit, ModuleName, ModuleScope, Namespace, PlaybookCatalog, TenantId, Text,
    Timestamp,
};
use changeover_testkit::TestDatabase;

use catalog::{catalog, catalog_of, code, id, labels, migrated, open, playbook, put, scope, version};

async fn get(catalog: &Arc<dyn PlaybookCatalog>, which: Lookup) -> Option<Playbook> {
    catalog.get(GetPlaybook { playbook_id: id("a"), which }).await.unwrap()
}

fn change(number: &str, edit: Edit) -> Change {
    Change { playbook_id: id("a"), version: version(number), edit, by: Some(Text::new("by", "me").unwrap()) }
}

/// Every column differs from its default.
fn full() -> NewPlaybook {
    let text = |text: &str| Some(Text::new("text", text).unwrap());
    NewPlaybook {
        owner: text("owner"),
        maintainer: text("maintainer"),
        content: format!("\u{feff}crlf\r\n\ttab 🦀 {} end \n", "x".repeat(NewPlaybook::MAX_CONTENT - 40)),
        labels: labels([("a.b/c\"d", ""), ("é", "🦀"), ("k", "v'\\")]),
        embedding: Some(
            Embedding::new((0_u8..128).cycle().take(384).map(|n| f32::from(n) / -3.0).collect::<Vec<_>>())
                .unwrap(),
        ),
        status: Status::Deprecated,
        previous_version: Some(version("0.9.0-rc.1+b")),
        version_notes: Some(String::new()),
        change_summary: Some("summary".to_owned()),
        approved_by: text("boss"),
        approved_at: Some(Timestamp::from_micros(1).unwrap()),
        expected_success_rate: Some(Rate::from_thousandths(987).unwrap()),
        expected_duration_seconds: Some(u32::MAX),
        created_at: Some(Timestamp::MAX),
        created_by: text("maker"),
        ..playbook("a", "v1.0.0")
    }
}

// S3-PB-001, S3-PB-010, P19, P20, P42: every column comes back as it was given.
#[tokio::test(flavor = "multi_thread")]
async fn every_column_makes_the_round_trip() {
    let db = migrated().await;
    let catalog = catalog(&db).await;
    let report = catalog.put(put([full()])).await.unwrap();
    assert_eq!((report.stored, report.repeated), (1, 0));
    let stored = get(&catalog, Lookup::Latest).await.unwrap();
    assert_eq!(stored, full().stored(stored.updated_at));
    let hash = full().hash();
    assert_eq!(get(&catalog, Lookup::Hash(hash)).await, Some(stored.clone()));
    assert_eq!(get(&catalog, Lookup::Exact(version("v1.0.0"))).await, Some(stored.clone()));
    assert_eq!(get(&catalog, Lookup::Exact(version("1.0.0"))).await, None);

    // As core makes it of them, step by step.
    let mut expected = stored;
    for edit in [
        Edit::Figures {
            total: Edit::MAX_COUNT,
            successful: 3,
            rate: Some(Rate::from_thousandths(1).unwrap()),
        },
        Edit::Status(Status::Disabled, Some("why".to_owned())),
        Edit::Status(Status::Deprecated, Some("use b".to_owned())),
        Edit::Status(Status::Archived, None),
        Edit::Embedding(None),
        Edit::MakeLatest,
        Edit::Status(Status::Disabled, None),
        Edit::Status(Status::Active, None),
        Edit::Figures { total: 0, successful: 0, rate: None },
    ] {
        let request = change("v1.0.0", edit.clone());
        let found = catalog.change(request.clone()).await.unwrap();
        assert!(found.updated_at > expected.updated_at, "{edit:?}");
        expected.apply(edit, request.by, found.updated_at);
        assert_eq!(found, expected);
    }
    let error = catalog.change(change("v9.0.0", Edit::MakeLatest)).await.unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::NotFound, Some(Applied::No)));
}

// S3-PB-004, DEF-22, P5: eight make a version of their own the latest at once, eight store one version with other content.
#[tokio::test(flavor = "multi_thread")]
async fn writers_at_once_leave_one_latest_and_one_content() {
    let db = migrated().await;
    let catalog = catalog(&db).await;
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let mut new = playbook("a", &if n < 8 { format!("v1.{n}.0") } else { "v2.0.0".to_owned() });
            new.content = format!("content {n}");
            new.is_latest = n < 8;
            let catalog = Arc::clone(&catalog);
            tokio::spawn(async move { catalog.put(put([new])).await })
        })
        .collect();
    let mut kinds = Vec::new();
    for task in tasks {
        kinds.push(task.await.unwrap().err().map(|error| (error.kind(), error.was_applied())));
    }
    assert_eq!(kinds[..8], [None; 8]);
    assert_eq!(kinds[8..].iter().filter(|kind| kind.is_none()).count(), 1);
    let taken = Some((ErrorKind::AlreadyExists, Some(Applied::No)));
    assert_eq!(kinds[8..].iter().filter(|kind| **kind == taken).count(), 7);
    let all = VersionsOf { playbook_id: id("a"), below: None, limit: Limit::default() };
    let all = catalog.versions(all).await.unwrap().playbooks;
    assert_eq!((all.len(), all.iter().filter(|it| it.playbook.is_latest).count()), (9, 1));

    let makers: Vec<_> = (0..8)
        .map(|n| {
            let (catalog, request) = (Arc::clone(&catalog), change(&format!("v1.{n}.0"), Edit::MakeLatest));
            tokio::spawn(async move { catalog.change(request).await })
        })
        .collect();
    for maker in makers {
        assert!(maker.await.unwrap().unwrap().playbook.is_latest);
    }
    let all = VersionsOf { playbook_id: id("a"), below: None, limit: Limit::default() };
    let all = catalog.versions(all).await.unwrap().playbooks;
    assert_eq!(all.iter().filter(|it| it.playbook.is_latest).count(), 1);
}

// P28, P29, S3-PB-006: a batch with one version that is stored with other content stores nothing of itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_stored_whole_or_not_at_all() {
    let db = migrated().await;
    let catalog = catalog(&db).await;
    catalog.put(put([playbook("a", "v1.0.0"), playbook("b", "v1.0.0")])).await.unwrap();
    let mut other = playbook("b", "v1.0.0");
    other.labels = labels([("a", "b")]);
    let error = catalog
        .put(put([playbook("a", "v2.0.0"), other.clone(), playbook("c", "v1.0.0")]))
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::AlreadyExists, Some(Applied::No)));
    assert_eq!(error.message(), other.taken().message());
    assert_eq!(get(&catalog, Lookup::Latest).await.unwrap().playbook.version, version("v1.0.0"));
    assert_eq!(catalog.list(ListPlaybooks::default()).await.unwrap().playbooks.len(), 2);

    catalog.put(put([playbook("a", "v2.0.0")])).await.unwrap();
    let report = catalog
        .put(put([playbook("a", "v1.0.0"), playbook("a", "v2.0.0").clone()].map(|mut new| {
            new.is_latest = new.version == version("v1.0.0");
            new
        })))
        .await
        .unwrap();
    assert_eq!((report.stored, report.repeated), (0, 2));
    assert_eq!(
        get(&catalog, Lookup::Latest).await.unwrap().playbook.version,
        version("v2.0.0"),
        "nothing changed"
    );
}

// S3-PB-022: somebody's open transaction by hand makes a write wait, and then say that it may be tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_meets_one_by_hand_may_be_tried_again() {
    let db = migrated().await;
    let catalog = catalog(&db).await;
    let hand = db.client().await.unwrap();
    hand.batch_execute(
        "SET ROLE changeover_owner; SET changeover.tenant_id = 'acme'; BEGIN;
         INSERT INTO playbook_store.playbook_catalog (playbook_id, version, name, description, content, is_latest_version)
         VALUES ('a', 'v1.0.0', 'by hand', '', '', true)",
    )
    .await
    .unwrap();
    let request = put([playbook("a", "v2.0.0")]);
    let writer = tokio::spawn({
        let (catalog, request) = (Arc::clone(&catalog), request.clone());
        async move { catalog.put(request).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!writer.is_finished());
    hand.batch_execute("COMMIT").await.unwrap();
    let error = writer.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Contention, Some(Applied::No)), "{error}");
    catalog.put(request).await.unwrap();
    assert_eq!(get(&catalog, Lookup::Latest).await.unwrap().playbook.version, version("v2.0.0"));
    assert!(!get(&catalog, Lookup::Exact(version("v1.0.0"))).await.unwrap().playbook.is_latest);
}

// P21, S3-PB-005: a row that was damaged past all guards is reported, not shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_row_is_corrupt() {
    let db = migrated().await;
    let catalog = catalog(&db).await;
    catalog.put(put([playbook("a", "v1.0.0")])).await.unwrap();
    db.execute(
        "ALTER TABLE playbook_store.playbook_catalog DROP CONSTRAINT playbook_catalog_content_hash_check;
         SET session_replication_role = replica;
         UPDATE playbook_store.playbook_catalog SET content = 'something else'",
    )
    .await
    .unwrap();
    let error = catalog.get(GetPlaybook { playbook_id: id("a"), which: Lookup::Latest }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let row = Detail::Row {
        table: "playbook_catalog".to_owned(),
        key: "a v1.0.0".to_owned(),
        column: "content_hash".to_owned(),
    };
    assert_eq!(error.detail(), Some(&row));
    assert_eq!(catalog.list(ListPlaybooks::default()).await.unwrap_err().kind(), ErrorKind::Corrupt);
    let found = catalog.search(catalog::search(full().embedding.unwrap(), 1)).await;
    assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(!error.to_string().contains("something"));
}

// Design, section 5: nobody writes while another backend owns the module, people neither; nor from an old snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_while_another_backend_owns_the_module() {
    let db = migrated().await;
    let catalog = catalog(&db).await;
    catalog.put(put([playbook("a", "v1.0.0")])).await.unwrap();
    let hand = db.client().await.unwrap();
    let insert =
        "INSERT INTO playbook_store.playbook_catalog (playbook_id, version, name, description, content)
                  VALUES ('b', 'v1.0.0', 'by hand', '', '')";
    hand.batch_execute("SET ROLE changeover_owner; SET changeover.tenant_id = 'acme'").await.unwrap();
    hand.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    assert_eq!(code(&hand, insert).await, "0A000");
    hand.batch_execute("ROLLBACK").await.unwrap();

    db.execute("UPDATE changeover.module SET owner = 'sqlite' WHERE module = 'playbooks'").await.unwrap();
    for error in [
        catalog.put(put([playbook("b", "v1.0.0")])).await.unwrap_err(),
        catalog.change(change("v1.0.0", Edit::Embedding(None))).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Moved, Some(Applied::No)), "{error}");
        assert_eq!(error.detail(), Some(&Detail::Moved { owner: "sqlite".to_owned() }));
    }
    assert_eq!(catalog.ready().await.unwrap_err().kind(), ErrorKind::Moved);
    assert_eq!(code(&hand, insert).await, "COMVD");
    assert_eq!(code(&hand, "UPDATE playbook_store.playbook_catalog SET status = 'archived'").await, "COMVD");
    let read = GetPlaybook { playbook_id: id("a"), which: Lookup::Latest };
    assert_eq!(catalog.get(read).await.unwrap_err().kind(), ErrorKind::Moved);
    db.execute("UPDATE changeover.module SET owner = 'postgres' WHERE module = 'playbooks'").await.unwrap();
    assert_eq!(get(&catalog, Lookup::Latest).await.unwrap().playbook.status, Status::Active);
}

/// How many migrations are the family's own: all but what the modules share.
async fn own_steps(migrations: &dyn changeover_core::backend::Migrations) -> u32 {
    let all = migrations.status().await.unwrap();
    u32::try_from(all.iter().filter(|it| !it.id.starts_with("base/")).count()).unwrap()
}

// P44: a module of the user's own has tables of its own, with several families side by side.
#[tokio::test(flavor = "multi_thread")]
async fn modules_with_a_namespace_have_tables_of_their_own() {
    let db = migrated().await;
    let backend = open(&db).await;
    let own = ModuleScope {
        module: ModuleName::new("scheduler").unwrap(),
        namespace: Some(Namespace::new("scheduler").unwrap()),
    };
    let tenant = TenantId::new("acme").unwrap();
    let unready = backend.playbooks(&own, &tenant).await.unwrap();
    assert_eq!(unready.ready().await.unwrap_err().kind(), ErrorKind::SchemaMismatch);
    let error = unready.put(put([playbook("a", "v1.0.0")])).await.unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::SchemaMismatch, Some(Applied::No)));
    for family in [Family::Events, Family::Playbooks] {
        backend.migrations(&own, family).unwrap().up().await.unwrap();
    }
    assert!(backend.claim(&own).await.unwrap());
    unready.put(put([playbook("a", "v1.0.0")])).await.unwrap();
    assert!(unready.ready().await.unwrap().notes.iter().any(|note| note.contains("playbooks/0003")));
    let events = backend.events(&own, &tenant).await.unwrap();
    events.ready().await.unwrap();
    assert_eq!(events.head(HeadOf::Log).await.unwrap().version, None);
    assert!(catalog_of(&db, "acme").await.list(ListPlaybooks::default()).await.unwrap().playbooks.is_empty());

    let migrations = backend.migrations(&own, Family::Playbooks).unwrap();
    let steps = own_steps(&*migrations).await;
    assert_eq!(migrations.down(steps, false).await.unwrap_err().kind(), ErrorKind::Invalid);
    migrations.down(steps, true).await.unwrap();
    assert_eq!(unready.list(ListPlaybooks::default()).await.unwrap_err().kind(), ErrorKind::SchemaMismatch);
    events.ready().await.unwrap();
    catalog(&db).await.ready().await.unwrap();
}

// P44, DEF-40: with the tables of its events a module does not lose its owner while it has playbooks; with the last it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_keeps_its_owner_as_long_as_it_has_tables() {
    let db = TestDatabase::empty().await.unwrap();
    let backend = open(&db).await;
    let own = ModuleScope {
        module: ModuleName::new("scheduler").unwrap(),
        namespace: Some(Namespace::new("scheduler").unwrap()),
    };
    let [events, playbooks] =
        [Family::Events, Family::Playbooks].map(|family| backend.migrations(&own, family).unwrap());
    playbooks.up().await.unwrap();
    events.up().await.unwrap();
    assert!(backend.claim(&own).await.unwrap());
    let catalog = backend.playbooks(&own, &TenantId::new("acme").unwrap()).await.unwrap();
    catalog.put(put([playbook("a", "v1.0.0")])).await.unwrap();

    let steps = own_steps(&*events).await;
    events.down(steps, false).await.unwrap();
    assert_eq!(backend.owner(&own).await.unwrap().as_deref(), Some("postgres"));
    let tables = "SELECT array_to_string(tables, ',') FROM changeover.module";
    let left: String = db.query(tables, &[]).await.unwrap()[0].get(0);
    assert_eq!(left, "scheduler_playbook_store.playbook_catalog");
    catalog.put(put([playbook("b", "v1.0.0")])).await.unwrap();

    let steps = own_steps(&*playbooks).await;
    playbooks.down(steps, true).await.unwrap();
    assert_eq!(backend.owner(&own).await.unwrap(), None);
}

// X-EDGE-089, S2-MIG-003: up, down, up.
#[tokio::test(flavor = "multi_thread")]
async fn the_migrations_go_down_and_up_again() {
    let db = TestDatabase::empty().await.unwrap();
    let backend = open(&db).await;
    let migrations = backend.migrations(&scope(), Family::Playbooks).unwrap();
    let applied = migrations.up().await.unwrap();
    let ids: Vec<_> = applied.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "base/0001_roles_and_modules",
            "base/0002_cutover",
            "base/0003_claim_beside_a_run",
            "playbooks/0001_catalog",
            "playbooks/0002_writes",
            "playbooks/0003_reads",
            "playbooks/0004_nothing_rounded",
            "playbooks/0005_candidates",
            "playbooks/0006_cutover",
        ]
    );
    assert!(migrations.up().await.unwrap().is_empty());
    for steps in [1, 2, 3, 4, 5, 6] {
        migrations.down(steps, false).await.unwrap();
        assert_eq!(migrations.up().await.unwrap().len(), steps as usize);
    }
    let left =
        "SELECT count(*) FROM changeover.module WHERE module = 'playbooks' AND cardinality(tables) = 1";
    assert_eq!(db.query(left, &[]).await.unwrap()[0].get::<_, i64>(0), 1);
}
