//! What retention removes, in which order, and what it leaves behind.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use changeover_core::audit::{Keep, NewAuditEvent, Retain, Retained};
use changeover_core::{AuditRepository, ErrorKind, Limit};
use changeover_testkit::TestDatabase;
use common::audit::{
    all, at, chain, child, event_at, linked, migrated, numbers, one, recorded, text, trail, trail_of,
};

/// Rules of days, counted from a day of 2024.
fn rules(of: &[(&str, u32)], limit: i64) -> Retain {
    Retain {
        rules: of.iter().map(|(category, days)| Keep { category: text(category), days: *days }).collect(),
        now: at("2024-06-30T12:00:00Z"),
        dry_run: false,
        limit: Limit::new(limit).unwrap(),
    }
}

fn of(category: &str, number: i64, time: &str) -> NewAuditEvent {
    NewAuditEvent { event_category: text(category), ..event_at(number, time) }
}

fn counts(retained: &Retained) -> Vec<u64> {
    retained.removed.iter().map(|(_, count)| *count).collect()
}

async fn months(db: &TestDatabase) -> Vec<String> {
    let sql = "SELECT right(c.relname, 7) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'audit_store.audit_events'::regclass AND c.relname < 'audit_events_2025' ORDER BY 1";
    db.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// A dry run says what the same call does then.
async fn retain(trail: &dyn AuditRepository, request: Retain) -> Retained {
    let before = recorded(trail).await;
    let dry = trail.retain(Retain { dry_run: true, ..request.clone() }).await.unwrap();
    assert_eq!(recorded(trail).await, before, "a dry run removes nothing");
    let done = trail.retain(request).await.unwrap();
    assert_eq!(dry, done);
    done
}

// X-AUD-031, X-EDGE-119, A28, A30: only what is due goes, whole months at once; again: nothing.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_due_goes_and_whole_months_at_once() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let events = [
        of("a", 1, "2024-01-10T00:00:00Z"),
        of("b", 2, "2024-01-20T23:59:59Z"),
        of("a", 3, "2024-02-10T00:00:00Z"),
        of("kept", 4, "2024-02-10T00:00:00Z"),
        of("a", 5, "2024-05-31T00:00:00Z"),
        of("a", 6, "2024-06-01T00:00:00Z"),
        of("b", 7, "2024-06-30T00:00:00Z"),
    ];
    trail.create(all(&events)).await.unwrap();
    let retained = retain(&*trail, rules(&[("b", 90), ("a", 30)], 100)).await;
    assert_eq!(counts(&retained), [1, 3]);
    assert_eq!(retained.months, ["2024-01", "2024-05"]);
    assert!(retained.done);
    assert_eq!(numbers(&recorded(&*trail).await), [4, 6, 7]);
    assert_eq!(months(&db).await, ["2024_02", "2024_06"]);
    let ids = db.query("SELECT count(*) FROM audit_store.audit_event_id", &[]).await.unwrap();
    assert_eq!(ids[0].get::<_, i64>(0), 3);

    let again = retain(&*trail, rules(&[("b", 90), ("a", 30)], 100)).await;
    assert_eq!((counts(&again), again.months.len(), again.done), (vec![0, 0], 0, true));
    let far = retain(&*trail, rules(&[("a", u32::MAX)], 100)).await;
    assert_eq!((counts(&far), far.done), (vec![0], true));
    // A removed id is free again, in a month that is made again.
    assert_eq!(trail.create(one(events[0].clone())).await.unwrap().stored, 1);
    let bad = Retain { rules: vec![], ..rules(&[], 1) };
    assert_eq!(trail.retain(bad).await.unwrap_err().kind(), ErrorKind::Invalid);
}

// A28: at most `limit` a call, months that fit first, then the oldest one by one, until it is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_removes_no_more_than_its_limit() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let mut events: Vec<_> = (0..5).map(|n| of("a", n, &format!("2024-01-0{}T00:00:00Z", 5 - n))).collect();
    events.extend((5..7).map(|n| of("a", n, "2024-03-01T00:00:00Z")));
    trail.create(all(&events)).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let retained = retain(&*trail, rules(&[("a", 1)], 3)).await;
        seen.push((counts(&retained)[0], retained.months.clone(), numbers(&recorded(&*trail).await)));
        if retained.done {
            break;
        }
    }
    let month = |name: &str| vec![name.to_owned()];
    assert_eq!(
        seen,
        [(3, month("2024-03"), vec![0, 1, 2, 3]), (3, vec![], vec![0]), (1, month("2024-01"), vec![]),]
    );
}

// Parents of kept events stay; children go before their parents, over months and within a limit.
#[tokio::test(flavor = "multi_thread")]
async fn parents_stay_as_long_as_a_child_does() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let root = of("a", 1, "2024-01-01T00:00:00Z");
    let middle = NewAuditEvent { parent_event_id: Some(root.event_id), ..of("a", 2, "2024-02-01T00:00:00Z") };
    let kept =
        NewAuditEvent { parent_event_id: Some(middle.event_id), ..of("kept", 3, "2024-02-02T00:00:00Z") };
    let early_child =
        NewAuditEvent { parent_event_id: Some(root.event_id), ..of("a", 4, "2023-12-01T00:00:00Z") };
    let single = of("a", 5, "2024-03-01T00:00:00Z");
    trail.create(all(&[root, middle, kept.clone(), early_child, single])).await.unwrap();
    let retained = retain(&*trail, rules(&[("a", 1)], 100)).await;
    assert_eq!((counts(&retained), retained.done), (vec![2], true));
    assert_eq!(numbers(&recorded(&*trail).await), [1, 2, 3]);

    // With the last child gone the parents go in turn, one a call.
    let mut left = Vec::new();
    for _ in 0..4 {
        let retained = retain(&*trail, rules(&[("kept", 1), ("a", 1)], 1)).await;
        left.push((numbers(&recorded(&*trail).await), retained.done));
    }
    assert_eq!(left, [(vec![1, 2], false), (vec![1], false), (vec![], true), (vec![], true)]);
    assert_eq!(trail.create(one(child(9, kept.event_id))).await.unwrap_err().kind(), ErrorKind::NotFound);
}

// Of equal calls the same goes: oldest first, a parent as soon as it has no child, also one that is newer than its child.
#[tokio::test(flavor = "multi_thread")]
async fn single_events_go_oldest_first_and_parents_as_they_become_free() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let day = |day: i64| format!("2024-01-{day:02}T00:00:00Z");
    let newer_parent = of("a", 7, &day(7));
    let older_parent = of("a", 1, &day(1));
    let events = [
        newer_parent.clone(),
        older_parent.clone(),
        NewAuditEvent { parent_event_id: Some(newer_parent.event_id), ..of("a", 2, &day(2)) },
        NewAuditEvent { parent_event_id: Some(older_parent.event_id), ..of("a", 4, &day(4)) },
        of("a", 3, &day(3)),
        of("a", 6, &day(6)),
        of("a", 8, &day(8)),
        of("kept", 0, &day(9)),
    ];
    trail.create(all(&events)).await.unwrap();
    let mut order = Vec::new();
    let mut before = numbers(&recorded(&*trail).await);
    for _ in 0..7 {
        trail.retain(rules(&[("a", 1)], 1)).await.unwrap();
        let after = numbers(&recorded(&*trail).await);
        order.extend(before.iter().filter(|number| !after.contains(number)).copied());
        before = after;
    }
    assert_eq!(order, [2, 3, 4, 1, 6, 7, 8]);
    // The same in two calls.
    let other = trail_of(&db, "other").await;
    other.create(all(&events)).await.unwrap();
    retain(&*other, rules(&[("a", 1)], 4)).await;
    assert_eq!(numbers(&recorded(&*other).await), [7, 6, 8, 0]);
}

// X-AUD-030, A31: gaps at the beginning, in between and at the end are anchored; chains go on and tampering still shows.
#[tokio::test(flavor = "multi_thread")]
async fn chains_hold_over_what_retention_removed() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let categories = ["a", "a", "kept", "a", "b", "kept", "a"];
    let events: Vec<_> = (0..7)
        .zip(categories)
        .map(|(number, category)| NewAuditEvent {
            event_category: text(category),
            event_timestamp: at("2024-01-01T00:00:00Z"),
            ..linked(number, "c")
        })
        .collect();
    trail.create(all(&events)).await.unwrap();
    let whole = trail.verify(chain("c")).await.unwrap();
    for rule in [[("a", 1)], [("b", 1)]] {
        retain(&*trail, rules(&rule, 100)).await;
        let report = trail.verify(chain("c")).await.unwrap();
        assert_eq!((report.broken, report.head), (None, whole.head), "{rule:?}");
    }
    assert_eq!(numbers(&recorded(&*trail).await), [2, 5]);
    let anchors = db.query("SELECT sequence FROM audit_store.audit_anchor ORDER BY 1", &[]).await.unwrap();
    assert_eq!(anchors.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [2, 5, 7]);

    trail.create(one(linked(8, "c"))).await.unwrap();
    assert_eq!(trail.verify(chain("c")).await.unwrap().events, 3);
    retain(&*trail, rules(&[("kept", 1)], 100)).await;
    let report = trail.verify(chain("c")).await.unwrap();
    assert_eq!((report.events, report.broken), (1, None));
    let anchors = db.query("SELECT sequence FROM audit_store.audit_anchor", &[]).await.unwrap();
    assert_eq!(anchors.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [7]);

    let client = db.client().await.unwrap();
    client.batch_execute("SET session_replication_role = replica").await.unwrap();
    client.batch_execute("DELETE FROM audit_store.audit_anchor").await.unwrap();
    assert!(trail.verify(chain("c")).await.unwrap().broken.is_some());
}

// Other tenants' events stay; a month that holds some is emptied and not dropped, and the last tenant drops it.
#[tokio::test(flavor = "multi_thread")]
async fn other_tenants_keep_their_events() {
    let db = migrated().await;
    let (mine, theirs) = (trail(&db).await, trail_of(&db, "other").await);
    for trail in [&mine, &theirs] {
        trail
            .create(all(&[of("a", 1, "2024-01-10T00:00:00Z"), of("a", 2, "2024-01-11T00:00:00Z")]))
            .await
            .unwrap();
    }
    let retained = retain(&*mine, rules(&[("a", 1)], 100)).await;
    assert_eq!((counts(&retained), retained.months.len(), retained.done), (vec![2], 0, true));
    assert!(recorded(&*mine).await.is_empty());
    assert_eq!(recorded(&*theirs).await.len(), 2);
    let retained = retain(&*theirs, rules(&[("a", 1)], 100)).await;
    assert_eq!((counts(&retained), retained.months), (vec![2], vec!["2024-01".to_owned()]));
    assert!(months(&db).await.is_empty());
}

// DEF-15: a reader who has a month open is not waited for; the events go one by one then.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_does_not_stop_retention() {
    let db = migrated().await;
    let trail = trail(&db).await;
    trail.create(one(of("a", 1, "2024-01-10T00:00:00Z"))).await.unwrap();
    let reader = db.client().await.unwrap();
    reader.batch_execute("BEGIN; SELECT count(*) FROM audit_store.audit_events").await.unwrap();
    let retained = trail.retain(rules(&[("a", 1)], 100)).await.unwrap();
    assert_eq!((counts(&retained), retained.months.len(), retained.done), (vec![1], 0, true));
    reader.batch_execute("COMMIT").await.unwrap();
    assert!(recorded(&*trail).await.is_empty());
    assert_eq!(months(&db).await, ["2024_01"]);
}

// X-AUD-029: the key of retention is its transaction; what it opened is closed behind it.
#[tokio::test(flavor = "multi_thread")]
async fn retention_opens_nothing_for_others() {
    let db = migrated().await;
    let trail = trail(&db).await;
    trail
        .create(all(&[of("a", 1, "2024-01-10T00:00:00Z"), of("b", 2, "2024-01-10T00:00:00Z")]))
        .await
        .unwrap();
    let client = db.client().await.unwrap();
    for dry in ["false", "true"] {
        client.batch_execute("BEGIN").await.unwrap();
        let call = format!("SELECT * FROM audit_store.retain('acme', '{{a}}', '{{19900}}', 10, {dry})");
        client.batch_execute(&call).await.unwrap();
        let error = client.batch_execute("DELETE FROM audit_store.audit_events").await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "COIMM");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    // By SQL without a limit, and only counted unless asked otherwise.
    let row = client
        .query_one(
            "SELECT removed, months, done FROM audit_store.retain('acme', '{a,b}', '{19900,19900}')",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, Vec<i64>>(0), [1, 1]);
    assert_eq!(recorded(&*trail).await.len(), 2);
}
