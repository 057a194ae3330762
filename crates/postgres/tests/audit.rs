//! The audit repository: what is stored, refused, repeated, chained, and read back. Many writers are in `audit_writers`.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use std::time::Duration;

use changeover_core::audit::{
    ActorType, AuditFilter, AuditOrder, AuditQuery, Create, NewAuditEvent, Outcome,
};
use changeover_core::{Applied, Detail, ErrorKind, Limit, Timestamp, Uuid};
use common::audit::{
    all, at, chain, child, event, event_at, linked, migrated, numbers, one, recorded, scope, text, trail,
    trail_of,
};
use common::{namespaced, open, settings, tenant};
use rstest::rstest;

fn full() -> NewAuditEvent {
    NewAuditEvent {
        event_outcome: Outcome::Pending,
        event_timestamp: at("2024-02-29T23:59:59.123456Z"),
        service_version: Some(text("v1.2.3")),
        actor_type: ActorType::Controller,
        actor_id: Some(text("u-17")),
        actor_name: Some(text("Ada \u{1f980} \u{202e}x")),
        resource_name: Some(text("it's; -- \"the\" %_\\ order")),
        event_data: changeover_core::Json::parse(r#"{"zz":1.10,"a":[1e2,9007199254740993,{"b":null}]}"#)
            .unwrap(),
        correlation_id: Some(text("c-1")),
        trace_id: Some(text("t")),
        span_id: Some(text("s")),
        metadata: changeover_core::Json::parse(r#"{"source":"suite"}"#).unwrap(),
        ..event(1)
    }
}

// S3-AUD-001, S3-AUD-020, A1: all columns come back as they were given, in a month of their own.
#[tokio::test(flavor = "multi_thread")]
async fn every_column_comes_back_as_it_was_given() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let bare = event(2);
    let nested = NewAuditEvent { parent_event_id: Some(bare.event_id), ..full() };
    let created = trail.create(all(&[bare.clone(), nested.clone()])).await.unwrap();
    assert_eq!((created.stored, created.repeated), (2, 0));
    let found = trail.get(nested.event_id).await.unwrap().unwrap();
    assert_eq!((found.event, found.sequence), (nested, 2));
    assert_eq!(trail.get(bare.event_id).await.unwrap().unwrap().event, bare);
    assert!(trail.get(Uuid::now_v7()).await.unwrap().is_none());
    let stored =
        db.query("SELECT event_date::text FROM audit_store.audit_events_2024_02", &[]).await.unwrap();
    assert_eq!(stored[0].get::<_, String>(0), "2024-02-29");
}

// S3-AUD-027, X-EDGE-061, DEF-13, A2: once over all months; another content is refused with the id; nothing is stored.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_stands_once_over_all_months() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let first = linked(1, "c");
    trail.create(one(first.clone())).await.unwrap();
    let again = trail.create(all(&[event(2), first.clone(), event(3)])).await.unwrap();
    assert_eq!((again.stored, again.repeated), (2, 1));
    let moved = NewAuditEvent { event_timestamp: at("2020-01-01T00:00:00Z"), ..first.clone() };
    let refused = trail.create(all(&[event(4), moved])).await.unwrap_err();
    assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::AlreadyExists, Some(Applied::No)));
    assert_eq!(refused.detail(), Some(&Detail::Exists { id: first.event_id }));
    assert_eq!(numbers(&recorded(&*trail).await), [1, 2, 3]);
    let report = trail.verify(chain("c")).await.unwrap();
    assert_eq!((report.events, report.broken), (1, None), "a repeated record is not linked again");
    assert_eq!(trail_of(&db, "other").await.create(one(first)).await.unwrap().stored, 1);
}

// S3-AUD-028, X-EDGE-062, DEF-16: a parent is stored or stands earlier; all ids are judged before all parents.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_is_stored_or_stands_earlier_in_the_batch() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let parent = event_at(1, "2021-05-31T23:59:59Z");
    let kid = child(2, parent.event_id);
    let missing = trail.create(one(kid.clone())).await.unwrap_err();
    assert_eq!((missing.kind(), missing.was_applied()), (ErrorKind::NotFound, Some(Applied::No)));
    assert!(missing.message().contains(&parent.event_id.to_string()), "{missing}");
    let late = trail.create(all(&[kid.clone(), parent.clone()])).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::NotFound);
    assert_eq!(trail_of(&db, "other").await.create(one(parent.clone())).await.unwrap().stored, 1);
    assert_eq!(
        trail.create(one(kid.clone())).await.unwrap_err().kind(),
        ErrorKind::NotFound,
        "of another tenant"
    );
    assert!(recorded(&*trail).await.is_empty());
    trail.create(all(&[parent.clone(), kid.clone()])).await.unwrap();
    trail.create(one(child(3, kid.event_id))).await.unwrap();

    let taken = NewAuditEvent { service_name: text("else"), ..parent };
    let both = trail.create(all(&[child(4, Uuid::now_v7()), taken])).await.unwrap_err();
    assert_eq!(both.kind(), ErrorKind::AlreadyExists);
}

// S3-EDGE-007, S3-EDGE-008, S3-EDGE-012: from 1970 until the skew ahead of the database's clock.
#[tokio::test(flavor = "multi_thread")]
async fn times_from_1970_until_a_little_ahead_are_stored() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let ahead = |by: Duration| {
        let now = Timestamp::now().as_micros() + i64::try_from(by.as_micros()).unwrap();
        NewAuditEvent { event_timestamp: Timestamp::from_micros(now).unwrap(), ..event(1) }
    };
    for good in [
        event_at(1, "1970-01-01T00:00:00Z"),
        event_at(1, "1999-12-31T23:59:59.999999Z"),
        ahead(Create::FUTURE_SKEW.checked_sub(Duration::from_secs(20)).unwrap()),
    ] {
        assert_eq!(trail.create(one(good)).await.unwrap().stored, 1);
    }
    for bad in [
        event_at(2, "1969-12-31T23:59:59.999999Z"),
        ahead(Create::FUTURE_SKEW + Duration::from_secs(20)),
        event_at(2, "9999-12-31T23:59:59Z"),
    ] {
        let refused = trail.create(all(&[event(3), bad.clone()])).await.unwrap_err();
        assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::Invalid, Some(Applied::No)));
        assert!(refused.message().contains(&bad.event_id.to_string()), "{refused}");
        assert!(refused.message().contains("event_timestamp"), "{refused}");
    }
    assert_eq!(recorded(&*trail).await.len(), 3);
}

// S3-AUD-024, X-AUD-030, A24: chains are in recorded order; switched off they are not offered.
#[tokio::test(flavor = "multi_thread")]
async fn chains_are_by_recorded_order_and_can_be_switched_off() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let events = [
        linked(1, "c"),
        event(2),
        NewAuditEvent { event_timestamp: at("2021-01-01T00:00:00Z"), ..linked(3, "c") },
    ];
    trail.create(all(&events)).await.unwrap();
    let report = trail.verify(chain("c")).await.unwrap();
    let first = changeover_core::audit::Link::of(None, &events[0]);
    let second = changeover_core::audit::Link::of(Some(&first.link), &events[2]);
    assert_eq!((report.events, report.head, report.broken), (2, Some(second.link), None));
    let none = trail.verify(chain("nobody")).await.unwrap();
    assert_eq!((none.events, none.head, none.broken), (0, None, None));

    let off = open(settings(db.url()).with("hash_chain", "false")).await;
    let off = off.audit(&scope(), &tenant("acme")).await.unwrap();
    assert!(!off.capabilities().hash_chain.is_yes());
    assert_eq!(off.verify(chain("c")).await.unwrap_err().kind(), ErrorKind::Unsupported);
    let unlinked = linked(4, "c");
    off.create(one(unlinked.clone())).await.unwrap();
    let report = trail.verify(chain("c")).await.unwrap();
    assert_eq!(report.broken.unwrap().event_id, unlinked.event_id);
}

// A25: whoever gets past the triggers leaves a place that does not fit.
#[rstest]
#[case("UPDATE audit_store.audit_events SET event_data = '{\"n\":9}' WHERE event_data = '{\"n\":700}'", 700)]
#[case("DELETE FROM audit_store.audit_events WHERE event_data = '{\"n\":1}'", 2)]
#[case("DELETE FROM audit_store.audit_events WHERE event_data = '{\"n\":1199}'", 1199)]
#[case("DELETE FROM audit_store.audit_events WHERE event_data = '{\"n\":0}'", 1)]
#[case("UPDATE audit_store.audit_events SET sequence = 5000 WHERE event_data = '{\"n\":3}'", 4)]
#[case("UPDATE audit_store.audit_events SET chain_link = NULL WHERE event_data = '{\"n\":600}'", 600)]
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_chain_is_found_where_it_was_changed(#[case] tampering: &str, #[case] place: usize) {
    let db = migrated().await;
    let trail = trail(&db).await;
    let events: Vec<_> = (0..1200).map(|number| linked(number, "c")).collect();
    for some in events.chunks(400) {
        trail.create(all(some)).await.unwrap();
    }
    assert_eq!(trail.verify(chain("c")).await.unwrap().events, 1200);
    let client = db.client().await.unwrap();
    client.batch_execute("SET session_replication_role = replica").await.unwrap();
    client.batch_execute(tampering).await.unwrap();
    let broken = trail.verify(chain("c")).await.unwrap().broken.unwrap();
    assert_eq!(broken.event_id, events[place].event_id, "{}", broken.problem);
}

// X-EDGE-118, X-AUD-029, DEF-9, A3: nobody changes what is recorded, in a partition as little as in the table.
#[tokio::test(flavor = "multi_thread")]
async fn recorded_events_cannot_be_changed_by_anybody() {
    let db = migrated().await;
    let trail = trail(&db).await;
    trail
        .create(one(NewAuditEvent { event_timestamp: at("2024-01-01T00:00:00Z"), ..linked(1, "c") }))
        .await
        .unwrap();
    for (role, expected) in
        [("postgres", "COIMM"), ("changeover_owner", "COIMM"), ("changeover_app", "42501")]
    {
        for sql in [
            "UPDATE audit_store.audit_events SET event_type = 'x'",
            "DELETE FROM audit_store.audit_events",
            "TRUNCATE audit_store.audit_events",
            "UPDATE audit_store.audit_events_2024_01 SET event_type = 'x'",
            "DELETE FROM audit_store.audit_events_2024_01",
            "TRUNCATE audit_store.audit_events_2024_01",
            "DELETE FROM audit_store.audit_event_id",
            "UPDATE audit_store.audit_event_id SET digest = digest",
            "TRUNCATE audit_store.audit_event_id CASCADE",
            "UPDATE audit_store.audit_chain SET link = link",
            "DELETE FROM audit_store.audit_chain",
            "DELETE FROM audit_store.audit_anchor",
            "UPDATE audit_store.audit_head SET sequence = 0",
            "DELETE FROM audit_store.audit_head",
        ] {
            let client = db.client().await.unwrap();
            if role != "postgres" {
                client.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
            }
            client
                .batch_execute(
                    "SELECT set_config('changeover.tenant_id', 'acme', false), \
                            set_config('changeover.retention', 'on', false)",
                )
                .await
                .unwrap();
            let error = client.batch_execute(sql).await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), expected, "{role}: {sql}");
        }
    }
    assert_eq!(recorded(&*trail).await.len(), 1);
}

// S2-TEN-004, S2-TEN-008, X-EDGE-086, X-EDGE-087, DEF-38: hostile names, and two tenants in turn on one connection.
#[tokio::test(flavor = "multi_thread")]
async fn tenants_do_not_see_each_other_on_one_connection() {
    let db = migrated().await;
    let backend = open(settings(db.url()).with("pool.max_size", "1")).await;
    let long = "t".repeat(255);
    let names = ["acme", "'; DROP SCHEMA audit_store CASCADE; --", "a\"b\\c%_", "\u{1f980}\n", "ACME", &long];
    let same = linked(1, "c");
    for round in 0..2 {
        for (name, number) in names.iter().zip(10..) {
            let trail = backend.audit(&scope(), &tenant(name)).await.unwrap();
            let own = NewAuditEvent { event_id: Uuid::from_u128(7), ..event(number) };
            let own = NewAuditEvent { event_timestamp: at("2024-01-01T00:00:00Z"), ..own };
            let created = trail.create(all(&[own, same.clone()])).await.unwrap();
            assert_eq!((created.stored, created.repeated), if round == 0 { (2, 0) } else { (0, 2) });
        }
    }
    for (name, number) in names.iter().zip(10..) {
        let trail = backend.audit(&scope(), &tenant(name)).await.unwrap();
        assert_eq!(numbers(&recorded(&*trail).await), [number, 1]);
        assert_eq!(trail.count(AuditFilter::default()).await.unwrap(), 2);
        let found = trail.get(Uuid::from_u128(7)).await.unwrap().unwrap();
        assert_eq!(numbers(&[found]), [number]);
        let report = trail.verify(chain("c")).await.unwrap();
        assert_eq!((report.events, report.broken), (1, None));
    }
    let client = db.client().await.unwrap();
    client.batch_execute("SET ROLE changeover_app").await.unwrap();
    for (set, seen) in
        [("", 0), ("SET changeover.tenant_id = ''", 0), ("SET changeover.tenant_id = 'acme'", 2)]
    {
        client.batch_execute(set).await.unwrap();
        for table in ["audit_events", "audit_event_id", "audit_events_2024_01"] {
            let sql = format!("SELECT count(*) FROM audit_store.{table}");
            let found: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
            assert_eq!(
                found,
                if table == "audit_events_2024_01" { seen / 2 } else { seen },
                "{set}: {table}"
            );
        }
    }
}

// S3-AUD-021, DEF-17, X-EDGE-068, A12, A36: every filter, alone and in pairs, compares literally.
#[tokio::test(flavor = "multi_thread")]
async fn every_filter_holds_and_values_are_literal() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let odd = "%_\\'\"; é";
    let mut events = vec![event_at(0, "2024-01-31T23:59:59.999999Z"), event_at(1, "2024-02-01T00:00:00Z")];
    let changes: [fn(&mut NewAuditEvent); 9] = [
        |it| it.event_type = text("%_\\'\"; é"),
        |it| it.event_category = text("%_\\'\"; é"),
        |it| it.event_outcome = Outcome::Skipped,
        |it| it.service_name = text("%_\\'\"; é"),
        |it| it.actor_type = ActorType::System,
        |it| it.actor_id = Some(text("%_\\'\"; é")),
        |it| it.resource_type = text("%_\\'\"; é"),
        |it| it.resource_id = text("%_\\'\"; é"),
        |it| it.correlation_id = Some(text("%_\\'\"; é")),
    ];
    for (change, number) in changes.iter().zip(2..) {
        let mut event = event_at(number, "2024-03-01T00:00:00Z");
        change(&mut event);
        events.push(event);
    }
    let mut last = event_at(11, "2024-04-01T00:00:00Z");
    for change in changes {
        change(&mut last);
    }
    events.push(last);
    trail.create(all(&events)).await.unwrap();

    let none = AuditFilter::default;
    let filters = [
        AuditFilter { event_type: Some(text(odd)), ..none() },
        AuditFilter { event_category: Some(text(odd)), ..none() },
        AuditFilter { event_outcome: Some(Outcome::Skipped), ..none() },
        AuditFilter { service_name: Some(text(odd)), ..none() },
        AuditFilter { actor_type: Some(ActorType::System), ..none() },
        AuditFilter { actor_id: Some(text(odd)), ..none() },
        AuditFilter { resource_type: Some(text(odd)), ..none() },
        AuditFilter { resource_id: Some(text(odd)), ..none() },
        AuditFilter { correlation_id: Some(text(odd)), ..none() },
    ];
    for (filter, number) in filters.into_iter().zip(2..) {
        for (order, expected) in [
            (AuditOrder::NewestFirst, [11, number]),
            (AuditOrder::OldestFirst, [number, 11]),
            (AuditOrder::Recorded, [number, 11]),
        ] {
            let query = AuditQuery { filter: filter.clone(), order, ..AuditQuery::default() };
            assert_eq!(numbers(&trail.query(query).await.unwrap().events), expected, "{filter:?}");
        }
        assert_eq!(trail.count(filter.clone()).await.unwrap(), 2);
        let later = AuditFilter { start: Some(at("2024-03-01T00:00:00.000001Z")), ..filter };
        assert_eq!(trail.count(later).await.unwrap(), 1);
    }
    let january = AuditFilter {
        start: Some(at("2024-01-31T23:59:59.999999Z")),
        end: Some(at("2024-02-01T00:00:00Z")),
        ..none()
    };
    let query = AuditQuery { filter: january, ..AuditQuery::default() };
    assert_eq!(numbers(&trail.query(query).await.unwrap().events), [0]);
}

// S3-AUD-022, S3-EDGE-014, X-EDGE-064 to 066, A9 to A11, A16: pages over equal times and several months.
#[tokio::test(flavor = "multi_thread")]
async fn pages_joined_are_what_one_read_gives() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let times = ["2023-12-31T23:59:59Z", "2024-01-01T00:00:01Z", "2024-02-29T12:00:00Z"];
    let events: Vec<_> = (0..50)
        .zip(times.iter().cycle())
        .map(|(number, time)| NewAuditEvent { event_id: Uuid::new_v4(), ..event_at(number, time) })
        .collect();
    trail.create(all(&events)).await.unwrap();
    let whole = |order| AuditQuery { order, ..AuditQuery::default() };
    let newest = numbers(&trail.query(whole(AuditOrder::NewestFirst)).await.unwrap().events);
    let mut mirrored = numbers(&trail.query(whole(AuditOrder::OldestFirst)).await.unwrap().events);
    mirrored.reverse();
    assert_eq!(newest, mirrored);
    for order in [AuditOrder::NewestFirst, AuditOrder::OldestFirst, AuditOrder::Recorded] {
        let all_at_once = numbers(&trail.query(whole(order)).await.unwrap().events);
        for size in [1, 7, 49, 50, 51] {
            let mut query = AuditQuery { limit: Limit::new(size).unwrap(), ..whole(order) };
            let mut joined = Vec::new();
            loop {
                let page = trail.query(query.clone()).await.unwrap();
                joined.extend(numbers(&page.events));
                let Some(next) = page.next else { break };
                query.page = Some(next);
            }
            assert_eq!(joined, all_at_once, "{order:?} by {size}");
        }
        let passed = AuditQuery { offset: 48, ..whole(order) };
        assert_eq!(numbers(&trail.query(passed).await.unwrap().events), all_at_once[48..]);
        let beyond = AuditQuery { offset: u64::MAX, ..whole(order) };
        assert!(trail.query(beyond).await.unwrap().events.is_empty());
    }
}

// A switch of the owner stops writers: Moved, with the owner, nothing stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_owned_elsewhere_is_moved() {
    let db = migrated().await;
    let trail = trail(&db).await;
    db.execute("UPDATE changeover.module SET owner = 'sqlite', epoch = epoch + 1 WHERE module = 'audit'")
        .await
        .unwrap();
    let error = trail.create(one(event(1))).await.unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Moved, Some(Applied::No)));
    assert_eq!(error.detail(), Some(&Detail::Moved { owner: "sqlite".to_owned() }));
    assert_eq!(trail.ready().await.unwrap_err().kind(), ErrorKind::Moved);
    assert_eq!(trail.query(AuditQuery::default()).await.unwrap_err().kind(), ErrorKind::Moved);
    db.execute("UPDATE changeover.module SET owner = 'postgres' WHERE module = 'audit'").await.unwrap();
    assert!(recorded(&*trail).await.is_empty());
}

// P44, X9: a module of the user's own has a trail of its own, beside its events.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespaced_module_has_events_and_a_trail_of_its_own() {
    use changeover_core::backend::Family;
    let db = migrated().await;
    let backend = open(settings(db.url())).await;
    let own = namespaced("scheduler");
    let theirs = backend.audit(&own, &tenant("acme")).await.unwrap();
    assert_eq!(theirs.ready().await.unwrap_err().kind(), ErrorKind::SchemaMismatch);
    assert_eq!(theirs.create(one(event(1))).await.unwrap_err().kind(), ErrorKind::SchemaMismatch);
    let (audit, events) =
        (backend.migrations(&own, Family::Audit).unwrap(), backend.migrations(&own, Family::Events).unwrap());
    events.up().await.unwrap();
    assert_eq!(audit.up().await.unwrap().len(), 5);
    assert!(backend.claim(&own).await.unwrap());
    theirs.create(all(&[linked(1, "c"), event_at(2, "2020-01-01T00:00:00Z")])).await.unwrap();
    theirs.ready().await.unwrap();
    backend.events(&own, &tenant("acme")).await.unwrap().ready().await.unwrap();
    assert!(recorded(&*trail(&db).await).await.is_empty());
    assert_eq!(theirs.verify(chain("c")).await.unwrap().events, 1);

    assert_eq!(audit.down(5, false).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(audit.down(5, true).await.unwrap().len(), 5);
    assert_eq!(backend.owner(&own).await.unwrap().as_deref(), Some("postgres"), "its events are still here");
    backend.events(&own, &tenant("acme")).await.unwrap().ready().await.unwrap();
    trail(&db).await.ready().await.unwrap();
}

async fn begin(
    backend: &std::sync::Arc<dyn changeover_core::OpenBackend>,
    of: &changeover_core::ModuleScope,
) -> changeover_core::Result<changeover_postgres::Transaction> {
    let any: &dyn std::any::Any = &**backend;
    let postgres: &changeover_postgres::OpenPostgres = any.downcast_ref().unwrap();
    postgres.begin(of, &tenant("acme")).await
}

// A22, S3-AUD-014: the user's rows, events and audit events on one connection, all or none, also where a month is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_keeps_the_rows_the_events_and_the_audit_events_or_none() {
    use diesel_async::SimpleAsyncConnection as _;
    let db = migrated().await;
    db.execute("CREATE TABLE note (x int); GRANT ALL ON note TO changeover_app").await.unwrap();
    let backend =
        open(settings(db.url()).with("pool.max_size", "2").with("pool.connect_timeout", "5s")).await;
    let trail = backend.audit(&scope(), &tenant("acme")).await.unwrap();
    let store = backend.events(&common::scope(), &tenant("acme")).await.unwrap();
    let old = NewAuditEvent { event_timestamp: at("2018-02-28T23:59:59Z"), ..linked(1, "c") };

    // Rolled back with its month, dropped, then committed.
    for end in 0..3 {
        let mut tx = begin(&backend, &common::scope()).await.unwrap();
        tx.conn()
            .batch_execute("INSERT INTO note VALUES (1); SELECT count(*) FROM audit_store.audit_events")
            .await
            .unwrap();
        tx.append(&common::one(&common::stream("Order"), changeover_core::events::Expected::NoStream, 1))
            .await
            .unwrap();
        let made = tx.record(&scope(), all(&[old.clone(), linked(2, "c")])).await.unwrap();
        assert_eq!((made.stored, made.repeated), (2, 0));
        let more = tx.record(&scope(), all(&[child(3, old.event_id), old.clone()])).await.unwrap();
        assert_eq!((more.stored, more.repeated), (1, 1));
        match end {
            0 => tx.rollback().await.unwrap(),
            1 => drop(tx),
            _ => tx.commit().await.unwrap(),
        }
        let stored = if end == 2 { 3 } else { 0 };
        assert_eq!(recorded(&*trail).await.len(), stored);
        let notes: i64 = db.query("SELECT count(*) FROM note", &[]).await.unwrap()[0].get(0);
        assert_eq!(notes, i64::from(end == 2));
        let all = store.read_all(changeover_core::events::ReadAll::default()).await.unwrap();
        assert_eq!(all.events.len(), usize::from(end == 2));
    }
    assert_eq!(trail.verify(chain("c")).await.unwrap().events, 2);

    // What is refused is told by its kind, and the rows go with it.
    let mut tx = begin(&backend, &common::scope()).await.unwrap();
    tx.conn().batch_execute("INSERT INTO note VALUES (2)").await.unwrap();
    let other = NewAuditEvent { service_name: text("else"), ..old.clone() };
    for (request, kind) in [
        (one(other), ErrorKind::AlreadyExists),
        (one(child(4, Uuid::now_v7())), ErrorKind::NotFound),
        (one(event_at(5, "1969-01-01T00:00:00Z")), ErrorKind::Invalid),
        (Create { events: vec![] }, ErrorKind::Invalid),
    ] {
        let refused = tx.record(&scope(), request).await.unwrap_err();
        assert_eq!((refused.kind(), refused.was_applied()), (kind, Some(Applied::No)));
    }
    assert_eq!(
        tx.record(&namespaced("nowhere"), one(event(6))).await.unwrap_err().kind(),
        ErrorKind::SchemaMismatch
    );
    tx.rollback().await.unwrap();
    let mut tx = begin(&backend, &scope()).await.unwrap();
    db.execute("UPDATE changeover.module SET owner = 'sqlite' WHERE module = 'audit'").await.unwrap();
    assert_eq!(tx.record(&scope(), one(event(7))).await.unwrap_err().kind(), ErrorKind::Moved);
    assert!(tx.commit().await.is_err(), "a failed statement ends the transaction");
    assert_eq!(begin(&backend, &namespaced("nowhere")).await.unwrap_err().kind(), ErrorKind::SchemaMismatch);
}
