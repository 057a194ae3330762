//! The audit trail and the playbooks of modules, and audit events in a user's transaction (A22).

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod common;

use std::collections::HashSet;
use std::time::Duration;

use changeover::audit::{ActorType, AuditOrder, AuditQuery, AuditRepositoryExt, NewAuditEvent, Outcome};
use changeover::playbooks::{HashingEmbedder, NewPlaybook, PlaybookVersion, Put, Query, Search, Status};
use changeover::{
    Audit, Db, ErrorKind, Json, TenantId, Text, TxError, Uuid, Version, connect_with, registry,
};
use changeover_testkit::TestDatabase;
use common::{Order, OrderEvent, Place, Shipment, Sql, insert, options, place, placed, rows};
use rstest::rstest;

fn event(number: u128) -> NewAuditEvent {
    let mut event = NewAuditEvent::new(
        "order.placed",
        "workflow",
        Outcome::Success,
        "shop",
        ActorType::User,
        "order",
        "7",
    )
    .unwrap();
    event.event_id = Uuid::from_u128(number);
    event.correlation_id = Some(Text::new("correlation_id", "c").unwrap());
    event.event_timestamp = changeover::Timestamp::parse("2024-01-31T23:59:59.999999Z").unwrap();
    event.event_data = Json::parse(r#"{"n":1.5}"#).unwrap();
    event
}

async fn recorded(audit: &Audit) -> Vec<Uuid> {
    let query = AuditQuery { order: AuditOrder::Recorded, ..AuditQuery::default() };
    let page = audit.repository().await.unwrap().query(query).await.unwrap();
    page.events.iter().map(|event| event.event.event_id).collect()
}

/// What is there: rows, the version of the stream, audit events.
async fn left(db: &Db, id: Uuid) -> (usize, Option<i64>, usize) {
    let orders = db.events("orders").unwrap().typed::<OrderEvent>();
    let version = orders.load(id, Order::apply).await.unwrap().version.map(Version::get);
    (rows(db).await.len(), version, recorded(&db.audit("orders").unwrap()).await.len())
}

/// The module `orders` with an audit trail of its own.
async fn audited(sql: Sql) -> Place {
    let place = place(sql).await;
    place.db.audit("orders").unwrap().repository().await.unwrap();
    place
}

// A22, design section 2: a row of the user's own, an event and an audit event.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_row_an_event_and_audit_events_are_stored_together(#[case] sql: Sql) -> Result<(), TxError> {
    let place = audited(sql).await;
    let db = &place.db;
    let (orders, id) = (db.events("orders")?.typed::<OrderEvent>(), Uuid::now_v7());
    let mut child = event(2);
    child.parent_event_id = Some(Uuid::from_u128(1));
    db.module("orders")?
        .transaction(async |tx| {
            tx.record(event(1));
            insert(tx.conn(), &Shipment::of(id)).await?;
            tx.append(&orders, id, None, [placed("lamp")]);
            tx.record(child);
            Ok(())
        })
        .await?;
    assert_eq!(left(db, id).await, (1, Some(1), 2));
    // Recorded as by the repository: found again as the same, chained.
    let audit = db.audit("orders")?;
    assert_eq!(audit.record(event(1)).await?.repeated, 1);
    let repository = audit.repository().await?;
    let chain = changeover::audit::VerifyChain { correlation_id: Text::new("correlation_id", "c")? };
    let report = repository.verify(chain).await?;
    assert_eq!((report.events, report.broken), (2, None));
    Ok(())
}

// A22: neither half, whichever of them is refused.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_takes_everything_back(#[case] sql: Sql) {
    let place = audited(sql).await;
    let db = &place.db;
    let (orders, audit) = (db.events("orders").unwrap().typed::<OrderEvent>(), db.audit("orders").unwrap());
    audit.record(event(1)).await.unwrap();
    let mut other = event(1);
    other.event_data = Json::parse(r#"{"n":2}"#).unwrap();
    let mut orphan = event(2);
    orphan.parent_event_id = Some(Uuid::from_u128(99));
    let mut ahead = event(3);
    ahead.event_timestamp = changeover::Timestamp::MAX;
    let module = db.module("orders").unwrap();
    let twice = vec![event(4), event(4)];
    for (records, kind) in [
        (vec![event(5), other], ErrorKind::AlreadyExists),
        (vec![event(6), orphan], ErrorKind::NotFound),
        (vec![event(7), ahead], ErrorKind::Invalid),
        (twice, ErrorKind::Invalid),
    ] {
        let id = Uuid::now_v7();
        let refused = module.transaction(async |tx| {
            insert(tx.conn(), &Shipment::of(id)).await?;
            tx.append(&orders, id, None, [placed("lamp")]);
            for event in records {
                tx.record(event);
            }
            Ok(())
        });
        let error = refused.await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(left(db, id).await, (0, None, 1), "{error}");
    }

    // A conflict of the append, and an error of the work.
    let id = Uuid::now_v7();
    orders.append(id, None, [placed("lamp")]).await.unwrap();
    let conflict = module.transaction(async |tx| {
        insert(tx.conn(), &Shipment::of(id)).await?;
        tx.record(event(8));
        tx.append(&orders, id, None, [placed("shade")]);
        Ok(())
    });
    assert_eq!(conflict.await.unwrap_err().kind(), ErrorKind::VersionConflict);
    let refused = module.transaction(async |tx| {
        insert(tx.conn(), &Shipment::of(id)).await?;
        tx.record(event(9));
        Err::<(), _>(TxError::refused("no lamps today"))
    });
    refused.await.unwrap_err();
    let hanging = module.transaction(async |tx| {
        insert(tx.conn(), &Shipment::of(id)).await?;
        tx.record(event(10));
        std::future::pending::<()>().await;
        Ok(())
    });
    tokio::time::timeout(Duration::from_millis(200), hanging).await.unwrap_err();
    assert_eq!(left(db, id).await, (0, Some(1), 1));
}

// A module that keeps an audit trail and nothing else.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_module_of_audit_alone_has_transactions(#[case] sql: Sql) {
    let place = place(sql).await;
    let module = place.db.module("audit").unwrap();
    let id = Uuid::now_v7();
    let stored = module.transaction(async |tx| {
        insert(tx.conn(), &Shipment::of(id)).await?;
        tx.record(event(1));
        Ok(())
    });
    stored.await.unwrap();
    assert_eq!((rows(&place.db).await.len(), recorded(&module.audit()).await), (1, vec![Uuid::from_u128(1)]));
}

// One trail for the whole service, beside modules of the user's own.
#[rstest]
#[case(Sql::Sqlite)]
#[case(Sql::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_records_in_the_trail_of_another_module(#[case] sql: Sql) {
    let place = audited(sql).await;
    let db = &place.db;
    let (audit, module) = (db.audit("audit").unwrap(), db.module("orders").unwrap());
    audit.repository().await.unwrap();
    let id = Uuid::now_v7();
    let stored = module.transaction(async |tx| {
        insert(tx.conn(), &Shipment::of(id)).await?;
        tx.record_in(&audit, event(1));
        tx.record(event(2));
        Ok(())
    });
    stored.await.unwrap();
    assert_eq!(recorded(&audit).await, [Uuid::from_u128(1)]);
    assert_eq!(recorded(&db.audit("orders").unwrap()).await, [Uuid::from_u128(2)]);

    let strangers = [
        db.for_tenant(TenantId::new("other").unwrap()).audit("audit").unwrap(),
        Audit::from(audit.repository().await.unwrap()),
    ];
    for stranger in strangers {
        let refused = module.transaction(async |tx| {
            insert(tx.conn(), &Shipment::of(Uuid::now_v7())).await?;
            tx.record_in(&stranger, event(3));
            Ok(())
        });
        let error = refused.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("cannot be part of a transaction of module orders"), "{error}");
    }
    assert_eq!(rows(db).await.len(), 1);
}

fn version(id: &str, name: &str) -> NewPlaybook {
    let text = |text: &str| Text::new("text", text).unwrap();
    NewPlaybook {
        playbook_id: text(id),
        version: PlaybookVersion::new("v1.0.0").unwrap(),
        name: text(name),
        description: format!("What to do about {name}"),
        owner: None,
        maintainer: None,
        content: "# é\r\n".to_owned(),
        content_hash: None,
        labels: [("team".to_owned(), "x".to_owned())].into(),
        embedding: None,
        status: Status::Active,
        is_latest: true,
        previous_version: None,
        version_notes: None,
        change_summary: None,
        approved_by: None,
        approved_at: None,
        expected_success_rate: None,
        expected_duration_seconds: None,
        created_at: None,
        created_by: None,
    }
}

/// A program over both stores of a module, and what it was answered.
async fn program(db: &Db, module: &str) -> Vec<String> {
    let audit = db.audit(module).unwrap();
    for number in 1..=5 {
        assert_eq!(audit.record(event(number)).await.unwrap().stored, 1);
    }
    let repository = audit.repository().await.unwrap();
    let mut told = Vec::new();
    let query = AuditQuery { limit: changeover::Limit::new(2).unwrap(), ..AuditQuery::default() };
    let mut pages = repository.pages(AuditQuery { offset: 1, ..query });
    while let Some(page) = pages.next().await.unwrap() {
        let ids: Vec<_> = page.events.iter().map(|event| event.event.to_json().to_string()).collect();
        told.push(format!("{ids:?}"));
    }
    let catalog = db.playbooks(module).unwrap().catalog().await.unwrap();
    let versions = vec![version("a", "disk full"), version("b", "pods crash"), version("c", "node lost")];
    catalog.put(Put { versions }).await.unwrap();
    let search = Search {
        query: Query::Text("pods that crash".to_owned()),
        embedder: std::sync::Arc::new(HashingEmbedder),
        labels: [("team".to_owned(), "x".to_owned())].into(),
        min_confidence: 0.0,
        max_results: changeover::Limit::new(2).unwrap(),
    };
    for found in catalog.search(search).await.unwrap().matches {
        told.push(format!("{} {:.5}", found.playbook.playbook.playbook_id, found.confidence));
    }
    told
}

// S2-CFG-010: one word of the settings, no code; all families of a module of the user's own.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_program_runs_on_every_backend_with_one_word_changed() {
    let (dir, server) = (tempfile::tempdir().unwrap(), TestDatabase::empty().await.unwrap());
    let options = options(&dir, Some(&server)).with("backends.memory.kind", "memory");
    let mut told = HashSet::new();
    for word in ["memory", "sqlite", "postgres"] {
        let db = connect_with(options.clone().with("persistence.default", word), registry()).await.unwrap();
        told.insert(program(&db, &format!("orders_{word}")).await);
        db.close().await;
    }
    assert_eq!(told.len(), 1, "{told:#?}");
    let told = told.into_iter().next().unwrap();
    assert_eq!(told.len(), 4, "{told:#?}");
    assert!(told[2].starts_with("b 0."), "{told:#?}");
}

// Design section 4: the built-in modules go where the settings say, and the stores say who owns them.
#[tokio::test(flavor = "multi_thread")]
async fn built_in_modules_go_where_the_settings_say_and_are_followed() {
    let (dir, server) = (tempfile::tempdir().unwrap(), TestDatabase::empty().await.unwrap());
    let options = options(&dir, Some(&server)).with("persistence.default", "sqlite");
    let before = connect_with(options.clone(), registry()).await.unwrap();
    before
        .playbooks("playbooks")
        .unwrap()
        .catalog()
        .await
        .unwrap()
        .put(Put { versions: vec![version("a", "a")] })
        .await
        .unwrap();
    before.close().await;

    let words = options.with("persistence.audit", "postgres").with("persistence.playbooks", "postgres");
    let db = connect_with(words, registry()).await.unwrap();
    db.audit("audit").unwrap().record(event(1)).await.unwrap();
    let count = server.query("SELECT count(*) FROM audit_store.audit_event_id", &[]).await.unwrap()[0]
        .get::<_, i64>(0);
    assert_eq!(count, 1);
    // Nobody moved the playbooks out of the file.
    let playbooks = db.module("playbooks").unwrap();
    let catalog = playbooks.playbooks().catalog().await.unwrap();
    assert_eq!(
        catalog.list(changeover::playbooks::ListPlaybooks::default()).await.unwrap().playbooks.len(),
        1
    );
    assert_eq!(playbooks.owner().await.unwrap().0, "sqlite");
    let owners =
        server.query("SELECT module, owner FROM changeover.module ORDER BY module", &[]).await.unwrap();
    let owners: Vec<(String, String)> = owners.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(owners, [("audit".into(), "postgres".into()), ("playbooks".into(), "none".into())]);
}

// S3-AUD-010, S3-AUD-011: the months of a trail, where a backend keeps it by month.
#[tokio::test(flavor = "multi_thread")]
async fn the_months_of_a_trail_are_told_and_made() {
    let place = place(Sql::Postgres).await;
    let audit = place.db.audit("orders").unwrap();
    let months = audit.months().await.unwrap();
    assert_eq!((months.there.len(), months.missing.len()), (4, 0));
    assert!(months.there.iter().all(|month| month.bytes > 0 && month.month.len() == 7), "{months:?}");
    assert_eq!(audit.create_months().await.unwrap(), [""; 0]);
    let last = months.there.last().unwrap().month.replace('-', "_");
    let server = place.server.as_ref().unwrap();
    server.execute(&format!("DROP TABLE orders_audit_store.audit_events_{last}")).await.unwrap();
    let last = last.replace('_', "-");
    assert_eq!(audit.months().await.unwrap().missing, [last.as_str()]);
    assert_eq!(audit.create_months().await.unwrap(), [last]);
    assert_eq!(audit.months().await.unwrap().there.len(), 4);

    let file = common::place(Sql::Sqlite).await;
    let error = file.db.audit("audit").unwrap().months().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Unsupported, "sqlite does not keep audit records by month")
    );
}
