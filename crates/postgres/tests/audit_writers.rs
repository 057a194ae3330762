//! The audit repository under many writers: what they store together, and what becomes of callers that go away.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use changeover_core::audit::NewAuditEvent;
use changeover_core::{ErrorKind, Uuid};
use changeover_testkit::TestDatabase;
use changeover_testkit::tokio_postgres::Client;
use common::audit::{
    all, chain, child, event, event_at, linked, migrated, numbers, one, recorded, scope, text, trail,
};
use common::{open, settings, tenant};
use rstest::rstest;

/// Holds the position lock of the module, so that writers gather.
async fn hold_positions(db: &TestDatabase) -> Client {
    let client = db.client().await.unwrap();
    client
        .batch_execute("BEGIN; SELECT pg_advisory_xact_lock(changeover.lock_key('audit', 'position'))")
        .await
        .unwrap();
    client
}

// A26, S3-EDGE-009, S3-PERF-002: a hundred writers: all is there once, in a gap-safe order, with chains that hold.
#[rstest]
#[case("true")]
#[case("false")]
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_writers_lose_and_double_nothing(#[case] shared: &str) {
    let db = migrated().await;
    let backend = open(settings(db.url()).with("shared_commits", shared)).await;
    let trail = backend.audit(&scope(), &tenant("acme")).await.unwrap();
    let tasks: Vec<_> = (0..100)
        .map(|task: i64| {
            let trail = trail.clone();
            let correlation = format!("c{}", task % 3);
            tokio::spawn(async move {
                let events = [linked(task * 3, &correlation), linked(task * 3 + 1, &correlation)];
                trail.create(all(&events)).await.unwrap();
                trail.create(one(linked(task * 3 + 2, &correlation))).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let events = recorded(&*trail).await;
    let found: BTreeSet<_> = numbers(&events).into_iter().collect();
    assert_eq!((events.len(), found.len()), (300, 300));
    assert!(events.iter().map(|event| event.sequence).eq(1..=300));
    assert!(events.is_sorted_by_key(|event| event.recorded_at));
    for correlation in ["c0", "c1", "c2"] {
        let report = trail.verify(chain(correlation)).await.unwrap();
        assert!(report.events >= 99, "{report:?}");
        assert_eq!(report.broken, None);
    }
}

// Each caller keeps its own outcome when creates are committed together; a poisoned one fails alone.
#[tokio::test(flavor = "multi_thread")]
async fn creates_that_are_committed_together_keep_their_own_outcomes() {
    let db = migrated().await;
    db.execute(
        "ALTER TABLE audit_store.audit_events ADD CONSTRAINT no_poison CHECK (event_type <> 'poison')",
    )
    .await
    .unwrap();
    let trail = trail(&db).await;
    let known = event(0);
    trail.create(one(known.clone())).await.unwrap();
    let requests = [
        one(event(1)),
        one(NewAuditEvent { service_name: text("else"), ..known.clone() }),
        one(known.clone()),
        one(child(4, Uuid::now_v7())),
        one(NewAuditEvent { event_type: text("poison"), ..event(5) }),
        one(child(6, known.event_id)),
        one(event_at(7, "1969-01-01T00:00:00Z")),
        one(event(8)),
    ];
    let held = hold_positions(&db).await;
    let mut tasks = Vec::new();
    for request in requests {
        let trail = trail.clone();
        tasks.push(tokio::spawn(async move { trail.create(request).await }));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    drop(held);
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes
            .push(task.await.unwrap().map(|made| (made.stored, made.repeated)).map_err(|error| error.kind()));
    }
    assert_eq!(
        outcomes,
        [
            Ok((1, 0)),
            Err(ErrorKind::AlreadyExists),
            Ok((0, 1)),
            Err(ErrorKind::NotFound),
            Err(ErrorKind::Invalid),
            Ok((1, 0)),
            Err(ErrorKind::Invalid),
            Ok((1, 0)),
        ]
    );
    let mut stored = numbers(&recorded(&*trail).await);
    stored.sort_unstable();
    assert_eq!(stored, [0, 1, 6, 8]);
}

// A38: callers that go away harm nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_caller_harms_nobody() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let held = hold_positions(&db).await;
    let mut tasks: Vec<_> = (0..8)
        .map(|number| {
            let trail = trail.clone();
            tokio::spawn(
                async move { trail.create(all(&[linked(number, "c"), linked(100 + number, "c")])).await },
            )
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    for task in tasks.drain(..4) {
        task.abort();
    }
    drop(held);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let stored = recorded(&*trail).await.len();
    assert!((8..=16).contains(&stored) && stored % 2 == 0, "{stored}");
    assert_eq!(trail.verify(chain("c")).await.unwrap().broken, None);
}
