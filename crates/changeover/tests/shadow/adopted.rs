//! Files of legacy programs, whose schema lacks columns and capabilities of ours: what both stores hold is no difference,
//! whatever is read, and what somebody changed in the new store is found by each read that shows it.

use crate::legacy::{event_name, events, notification, playbook, record, record_id};
use crate::reads::{self, of};
use crate::stage::{Stage, stream};

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_legacy_file() {
    // The last stream has no events yet, as old programs leave it.
    let stage =
        Stage::legacy("events", &(events(1, &[1, 2, 4, 6]) + &events(2, &[3, 5]) + &events(3, &[]))).await;
    let db = stage.service(&[]).await;
    stage.verified().await;
    let read = async || reads::events(&stage, &db, &[stream(1), stream(2), stream(3)]).await;
    assert_eq!(read().await, []);
    stage
        .tamper("UPDATE event_store.domain_event SET occurred_at = '2024-01-02 03:04:06Z' WHERE position = 4")
        .await;
    let found = read().await;
    let key = event_name(1, 3, 4);
    for operation in ["events.read_stream", "events.read_all"] {
        let found = of(&found, operation);
        assert!(found.len() >= 4, "{operation}: {found:?}");
        assert!(found.iter().all(|it| *it == (&key, "occurred_at")), "{operation}: {found:?}");
    }
    stage.tamper("UPDATE event_store.event_stream SET version = 3 WHERE version = 2").await;
    let found = read().await;
    assert_eq!(of(&found, "events.head"), [(&*stream(2).to_string(), "version")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_trail_of_a_legacy_file() {
    let rows: String = (1..=5).map(record).collect();
    let stage = Stage::legacy("audit", &rows).await;
    let db = stage.service(&[]).await;
    let repository = db.audit("audit").unwrap().repository().await.unwrap();
    assert!(repository.capabilities().hash_chain.require("a chain").is_err());
    stage.verified().await;
    let ids: Vec<_> = (1..=5).map(record_id).collect();
    let read = async || reads::audit(&stage, &db, &ids).await;
    assert_eq!(read().await, []);
    let key = record_id(2).to_string();
    stage
        .tamper(&format!(
            "UPDATE audit_store.audit_events SET metadata = '{{\"a\":1}}' WHERE event_id = '{key}'"
        ))
        .await;
    let found = read().await;
    assert_eq!(of(&found, "audit.get"), [(&*key, "metadata")]);
    let pages = of(&found, "audit.query");
    assert!(pages.len() >= 20 && pages.iter().all(|it| *it == (&key, "metadata")), "{pages:?}");
    assert!(of(&found, "audit.count").is_empty(), "{found:?}");
    stage.tamper(&format!("DELETE FROM audit_store.audit_events WHERE event_id = '{key}'")).await;
    let found = read().await;
    assert_eq!(of(&found, "audit.get"), [(&*key, "missing")]);
    // Of all that are counted.
    assert_eq!(of(&found, "audit.count"), [("the count", "count"); 4]);
}

// Old notifications are beside what the file shows; a missing record is found all the same.
#[tokio::test(flavor = "multi_thread")]
async fn old_notifications_are_no_difference() {
    let rows: String = (1..=5).map(|number| record(number) + &notification(number)).collect();
    let stage = Stage::legacy("audit", &rows).await;
    let db = stage.service(&[]).await;
    stage.verified().await;
    let held = stage.server.query("SELECT 1 FROM audit_store.audit_events", &[]).await.unwrap();
    assert_eq!(held.len(), 10);
    let ids: Vec<_> = (1..=5).map(record_id).collect();
    let read = async || reads::audit(&stage, &db, &ids).await;
    assert_eq!(read().await, []);
    let key = record_id(2).to_string();
    stage.tamper(&format!("DELETE FROM audit_store.audit_events WHERE event_id = '{key}'")).await;
    let found = read().await;
    assert_eq!(of(&found, "audit.get"), [(&*key, "missing")]);
    let pages = of(&found, "audit.query");
    assert!(pages.len() >= 6 && pages.iter().all(|it| *it == (&key, "missing")), "{pages:?}");
    // One that has no notifications in it, and one that is below the owner's.
    assert_eq!(of(&found, "audit.count"), [("the count", "count"); 2]);
    let change =
        "UPDATE audit_store.audit_events SET event_category = 'c' WHERE resource_id IN ('n-1', 'n-2')";
    stage.tamper(change).await;
    let found = read().await;
    assert_eq!(of(&found, "audit.count"), [("the count", "count"); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_playbooks_of_a_legacy_file() {
    let rows = playbook("restart", "1.0.0", "restart the pod", false)
        + &playbook("restart", "1.1.0", "restart the pod twice", true)
        + &playbook("scale", "2.0.0", "add replicas", true);
    let stage = Stage::legacy("playbooks", &rows).await;
    let db = stage.service(&[]).await;
    stage.verified().await;
    let read = async || reads::playbooks(&stage, &db, &["restart", "scale"]).await;
    assert_eq!(read().await, []);
    let table = "playbook_store.playbook_catalog";
    stage
        .tamper(&format!("UPDATE {table} SET updated_at = '2024-01-02 03:04:06Z' WHERE version = '1.1.0'"))
        .await;
    let found = read().await;
    for operation in ["playbooks.get", "playbooks.list", "playbooks.versions", "playbooks.search"] {
        let found = of(&found, operation);
        assert!(found.len() >= 2, "{operation}: {found:?}");
        assert!(found.iter().all(|it| *it == ("restart 1.1.0", "updated_at")), "{operation}: {found:?}");
    }
    // A vector where the file has none: nothing that is shown is as it was.
    let vector = vec!["0.5"; 384].join(",");
    stage.tamper(&format!("UPDATE {table} SET embedding = '[{vector}]' WHERE version = '2.0.0'")).await;
    let found = read().await;
    let found: Vec<_> =
        of(&found, "playbooks.search").into_iter().filter(|it| it.0 == "scale 2.0.0").collect();
    assert!(
        found.contains(&("scale 2.0.0", "embedding")) && found.contains(&("scale 2.0.0", "confidence")),
        "{found:?}"
    );
}
