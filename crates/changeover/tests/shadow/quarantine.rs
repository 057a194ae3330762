//! Rows in quarantine, whatever is read of them and around them: they are no difference, and what differs beside them is.

use changeover::cutover::Goal;
use changeover::cutover::contract::Raw;
use changeover::playbooks::{GetPlaybook, Lookup, NewPlaybook, PlaybookVersion, Put};
use changeover::{TenantId, Text};

use crate::legacy::{event_name, events, notification, playbook, record, record_id};
use crate::reads::{self, of};
use crate::stage::{Stage, stream, terms};

impl Stage {
    /// The tables of the rows in quarantine, by number.
    async fn quarantined(&self) -> Vec<(i64, String)> {
        let cutover = self.cutover().await;
        let mut found = Vec::new();
        for table in ["event_stream", "domain_event", "audit_events", "playbook_catalog"] {
            // A module has the tables of its kind only.
            if let Ok(rows) = cutover.quarantined(Some(table), None, 0, 100).await {
                found.extend(rows.into_iter().map(|row| (row.id, table.to_owned())));
            }
        }
        found
    }

    /// Other values for the only row in quarantine.
    async fn repaired(&self, column: &str, value: &str) {
        let [(id, _)] = &self.quarantined().await[..] else { panic!("one row is in quarantine") };
        let value = (column.to_owned(), Raw::Text(value.as_bytes().to_vec()));
        self.cutover().await.repair(*id, &[value]).await.unwrap();
        self.verified().await;
    }
}

/// JSON that the stores read and the declarations do not.
const TWICE: &str = r#"{"team": "a", "team": "a"}"#;

// The end of a stream, behind the page; a stream as a whole; the end of the log.
#[tokio::test(flavor = "multi_thread")]
async fn events_in_quarantine() {
    let stage = Stage::legacy(
        "events",
        &(events(1, &[1, 2, 4]) + &events(2, &[3, 5]) + &events(3, &[6]) + &events(4, &[7, 8, 9, 10, 11])),
    )
    .await;
    stage.in_file(&format!(
        "UPDATE domain_event SET metadata = '{TWICE}' WHERE rowid IN (4, 6, 7, 8, 11); \
         UPDATE event_stream SET created_at = 'yesterday' WHERE aggregate_id = '{}'",
        stream(2).aggregate_id
    ));
    let db = stage.service(&[]).await;
    stage.verified().await;
    // The stream, its two events, and five others.
    assert_eq!(stage.quarantined().await.len(), 8);
    let streams = [1, 2, 3, 4].map(stream);
    let read = async || reads::events(&stage, &db, &streams).await;
    assert_eq!(read().await, []);
    stage.tamper("UPDATE event_store.domain_event SET event_type = 'Placed2' WHERE position = 2").await;
    let found = read().await;
    let key = event_name(1, 2, 2);
    for operation in ["events.read_stream", "events.read_all"] {
        let found = of(&found, operation);
        // A filter of types shows it in one store only.
        let known = |it: &(&str, &str)| *it == (&key, "event_type") || *it == (&key, "missing");
        assert!(found.len() >= 4 && found.iter().all(known), "{operation}: {found:?}");
    }
    stage.tamper("DELETE FROM event_store.domain_event WHERE position = 9").await;
    let key = event_name(4, 3, 9);
    let found = read().await;
    let missing = found.iter().filter(|it| it.1 == key && it.2 == "missing").count();
    assert!(missing >= 8, "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_records_in_quarantine() {
    let rows: String = (1..=6).map(|number| record(number) + &notification(number)).collect();
    let stage = Stage::legacy("audit", &rows).await;
    stage.in_file(&format!(
        "DROP TABLE notification_audit; UPDATE audit_events SET metadata = '{TWICE}' WHERE rowid IN (3, 6)"
    ));
    let db = stage.service(&[]).await;
    stage.verified().await;
    assert_eq!(stage.quarantined().await.len(), 2);
    let ids: Vec<_> = (1..=6).map(record_id).collect();
    let read = async || reads::audit(&stage, &db, &ids).await;
    assert_eq!(read().await, []);
    let key = record_id(4).to_string();
    let table = "audit_store.audit_events";
    stage.tamper(&format!("UPDATE {table} SET actor_id = 'x' WHERE event_id = '{key}'")).await;
    let found = read().await;
    assert_eq!(of(&found, "audit.get"), [(&*key, "actor_id")]);
    let pages = of(&found, "audit.query");
    assert!(pages.len() >= 10 && pages.iter().all(|it| *it == (&key, "actor_id")), "{pages:?}");
    // Two may be missing, and no more.
    stage.tamper(&format!("DELETE FROM {table} WHERE event_id = '{key}'")).await;
    let found = read().await;
    assert_eq!(of(&found, "audit.get"), [(&*key, "missing")]);
    assert_eq!(of(&found, "audit.count"), [("the count", "count"); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn playbooks_in_quarantine() {
    let rows = playbook("restart", "1.0.0", "restart the pod", false)
        + &playbook("restart", "1.1.0", "restart the pod twice", true)
        + &playbook("rollout", "1.0.0", "restart the rollout", true)
        + &playbook("scale", "2.0.0", "add replicas", true)
        + &playbook("scale", "1.0.0", "add a replica", false);
    let stage = Stage::legacy("playbooks", &rows).await;
    stage.in_file(&format!("UPDATE playbook_catalog SET labels = '{TWICE}' WHERE version IN ('1.1.0')"));
    let db = stage.service(&[]).await;
    stage.verified().await;
    assert_eq!(stage.quarantined().await.len(), 1);
    let read = async || reads::playbooks(&stage, &db, &["restart", "rollout", "scale"]).await;
    assert_eq!(read().await, []);
    let table = "playbook_store.playbook_catalog";
    stage.tamper(&format!("UPDATE {table} SET maintainer = 'x' WHERE version = '2.0.0'")).await;
    let found = read().await;
    for operation in ["playbooks.get", "playbooks.list", "playbooks.versions", "playbooks.search"] {
        let found = of(&found, operation);
        assert!(found.len() >= 2, "{operation}: {found:?}");
        assert!(found.iter().all(|it| *it == ("scale 2.0.0", "maintainer")), "{operation}: {found:?}");
    }
    // The last of what a search finds.
    stage.tamper(&format!("DELETE FROM {table} WHERE version = '2.0.0'")).await;
    let found = read().await;
    for (operation, times) in
        [("playbooks.get", 4), ("playbooks.list", 3), ("playbooks.versions", 2), ("playbooks.search", 3)]
    {
        let found = of(&found, operation);
        assert_eq!(found, vec![("scale 2.0.0", "missing"); times], "{operation}");
    }
}

// What is repaired is stored otherwise on purpose.
#[tokio::test(flavor = "multi_thread")]
async fn repaired_rows() {
    let events = Stage::legacy("events", &events(1, &[1, 2, 3])).await;
    events.in_file(&format!("UPDATE domain_event SET event_data = '{TWICE}' WHERE rowid = 3"));
    events.verified().await;
    events.repaired("event_data", r#"{"team": "b"}"#).await;
    let db = events.service(&[]).await;
    assert_eq!(reads::events(&events, &db, &[stream(1)]).await, []);

    let audit = Stage::legacy("audit", &(record(1) + &record(2) + &record(3))).await;
    audit.in_file(&format!("UPDATE audit_events SET event_data = '{TWICE}' WHERE rowid = 2"));
    audit.verified().await;
    audit.repaired("event_data", r#"{"team": "b"}"#).await;
    let db = audit.service(&[]).await;
    assert_eq!(reads::audit(&audit, &db, &[1, 2, 3].map(record_id)).await, []);

    let rows = playbook("restart", "1.0.0", "restart the pod", true)
        + &playbook("scale", "1.0.0", "add replicas", true);
    let playbooks = Stage::legacy("playbooks", &rows).await;
    playbooks
        .in_file(&format!("UPDATE playbook_catalog SET labels = '{TWICE}' WHERE playbook_id = 'restart'"));
    playbooks.verified().await;
    playbooks.repaired("labels", r#"{"team": "b"}"#).await;
    let db = playbooks.service(&[]).await;
    assert_eq!(reads::playbooks(&playbooks, &db, &["restart", "scale"]).await, []);
}

// Corrected in the file: it is compared like any other again.
#[tokio::test(flavor = "multi_thread")]
async fn a_corrected_row_is_compared_again() {
    let stage = Stage::legacy("audit", &(record(1) + &record(2) + &record(3))).await;
    stage.in_file(&format!("UPDATE audit_events SET metadata = '{TWICE}' WHERE rowid = 2"));
    let db = stage.service(&[]).await;
    stage.verified().await;
    assert_eq!(stage.quarantined().await.len(), 1);
    stage.in_file("UPDATE audit_events SET metadata = '{}' WHERE rowid = 2");
    stage.cutover().await.run(&terms(), Goal::Verified).await.unwrap();
    assert_eq!(stage.quarantined().await, []);
    let key = record_id(2).to_string();
    stage.tamper(&format!("DELETE FROM audit_store.audit_events WHERE event_id = '{key}'")).await;
    let found = reads::audit(&stage, &db, &[record_id(2)]).await;
    assert_eq!(of(&found, "audit.get"), [(&*key, "missing")]);
    assert_eq!(of(&found, "audit.count").len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_of_another_tenant_in_quarantine_hides_nothing() {
    let stage = Stage::new("playbooks").await;
    let db = stage.service(&[]).await;
    let new = r#"{"playbook_id":"restart","version":"1.0.0","name":"restart","description":"","content":"restart the pod"}"#;
    let mut catalogs = Vec::new();
    for tenant in ["default", "other"] {
        let db = db.for_tenant(TenantId::new(tenant).unwrap());
        let catalog = db.playbooks("playbooks").unwrap().catalog().await.unwrap();
        catalog.put(Put { versions: vec![NewPlaybook::from_json(new).unwrap()] }).await.unwrap();
        catalogs.push(catalog);
    }
    stage.in_file(&format!(
        "DROP TRIGGER playbook_catalog_keeps_its_content; \
         UPDATE playbook_catalog SET labels = '{TWICE}' WHERE tenant_id = 'other'"
    ));
    stage.verified().await;
    assert_eq!(stage.quarantined().await.len(), 1);
    stage.tamper("UPDATE playbook_store.playbook_catalog SET maintainer = 'x'").await;
    let (id, version) =
        (Text::new("playbook_id", "restart").unwrap(), PlaybookVersion::new("1.0.0").unwrap());
    let get = GetPlaybook { playbook_id: id, which: Lookup::Exact(version) };
    let found = stage.compared(&db, catalogs[0].get(get.clone())).await;
    assert_eq!(found, [("playbooks.get", "restart 1.0.0".to_owned(), "maintainer".to_owned())]);
    assert_eq!(stage.compared(&db, catalogs[1].get(get)).await, []);
}
