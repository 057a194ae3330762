//! Losses accepted by name: what such a value became is no difference, nor is a row that the file's store does not show
//! because of it; what differs beside it is.

use changeover::audit::{AuditFilter, AuditQuery};
use changeover::cutover::convert::Loss;
use changeover::events::{HeadOf, ReadStream};
use changeover::{ErrorKind, Limit, Timestamp};

use crate::legacy::{event_name, events, playbook, record, record_id};
use crate::reads::{self, of};
use crate::stage::{Stage, store, stream};

/// JSON with two losses.
const JSON: &str = r#"{"a": 1, "a": 2, "z": -0}"#;

/// What the file's store reads as it arrives.
const READ_ALIKE: [Loss; 3] = [Loss::SubMicroseconds, Loss::JsonDuplicateKeys, Loss::JsonNegativeZero];

#[tokio::test(flavor = "multi_thread")]
async fn values_of_events_that_are_read_as_they_arrive() {
    let stage = Stage::legacy("events", &events(1, &[1, 2, 3])).await;
    stage.in_file(&format!(
        "UPDATE domain_event SET event_data = '{JSON}', metadata = '{JSON}', occurred_at = '2024-01-02T03:04:05.123456789Z'"
    ));
    let db = stage.service(&[]).await;
    stage.verified_with(&READ_ALIKE).await;
    let read = async || reads::events(&stage, &db, &[stream(1)]).await;
    assert_eq!(read().await, []);
    let held = stage.server.query("SELECT 1 FROM event_store.domain_event", &[]).await.unwrap();
    assert_eq!(held.len(), 3);
    // The other of the two values, and the time rounded up.
    let change = "event_data = '{\"a\": 1, \"z\": 0}', occurred_at = '2024-01-02T03:04:05.123457Z'";
    stage.tamper(&format!("UPDATE event_store.domain_event SET {change} WHERE position = 2")).await;
    let found = read().await;
    let key = event_name(1, 2, 2);
    for operation in ["events.read_stream", "events.read_all"] {
        let found = of(&found, operation);
        for field in ["data", "occurred_at"] {
            assert!(
                found.iter().filter(|it| **it == (&key, field)).count() >= 4,
                "{operation} {field}: {found:?}"
            );
        }
        assert!(found.iter().all(|it| it.0 == key && it.1 != "missing"), "{operation}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_audit_records_that_are_read_as_they_arrive() {
    let stage = Stage::legacy("audit", &(record(1) + &record(2) + &record(3))).await;
    stage.in_file(&format!(
        "UPDATE audit_events SET event_data = '{JSON}', metadata = '{JSON}', \
             event_timestamp = replace(event_timestamp, ':00+', ':00.0000019+')"
    ));
    let db = stage.service(&[]).await;
    stage.verified_with(&READ_ALIKE).await;
    let read = async || reads::audit(&stage, &db, &[1, 2, 3].map(record_id)).await;
    assert_eq!(read().await, []);
    let key = record_id(2).to_string();
    stage.tamper(&format!("UPDATE audit_store.audit_events SET event_data = '{{\"a\": 1, \"z\": 0}}' WHERE event_id = '{key}'")).await;
    let found = read().await;
    assert_eq!(of(&found, "audit.get"), [(&*key, "event_data")]);
    let pages = of(&found, "audit.query");
    assert!(pages.len() >= 12 && pages.iter().all(|it| *it == (&key, "event_data")), "{pages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_playbooks_that_are_read_as_they_arrive() {
    let rows = playbook("restart", "1.0.0", "restart the pod", true)
        + &playbook("scale", "1.0.0", "add replicas", true);
    let stage = Stage::legacy("playbooks", &rows).await;
    stage.in_file(
        "UPDATE playbook_catalog SET labels = '{\"team\": \"b\", \"team\": \"a\"}', \
             updated_at = '2024-01-02T03:04:05.123456789Z'",
    );
    let db = stage.service(&[]).await;
    stage.verified_with(&READ_ALIKE).await;
    let read = async || reads::playbooks(&stage, &db, &["restart", "scale"]).await;
    assert_eq!(read().await, []);
    stage.tamper("UPDATE playbook_store.playbook_catalog SET labels = '{\"team\": \"b\"}' WHERE playbook_id = 'scale'").await;
    let found = read().await;
    for operation in ["playbooks.get", "playbooks.list", "playbooks.versions", "playbooks.search"] {
        let found = of(&found, operation);
        assert!(found.len() >= 2, "{operation}: {found:?}");
        // A filter of labels shows it in one store only.
        let known = |it: &(&str, &str)| it.0 == "scale 1.0.0" && ["labels", "missing"].contains(&it.1);
        assert!(found.iter().all(known), "{operation}: {found:?}");
    }
}

// Times that the file's store cannot read: such a record has no place in its pages by time and passes no filter of times,
// while the new store shows it where it belongs.
#[tokio::test(flavor = "multi_thread")]
async fn audit_records_whose_time_only_the_new_store_can_read() {
    let rows: String = (1..=7).map(record).collect();
    let stage = Stage::legacy("audit", &rows).await;
    stage.in_file(
        "UPDATE audit_events SET event_timestamp = '2024-01-03 01:00:00' WHERE rowid = 3; \
         UPDATE audit_events SET event_timestamp = '1704502800' WHERE rowid = 6; \
         UPDATE audit_events SET event_timestamp = '2024-01-01 00:00:00' WHERE rowid = 1",
    );
    let db = stage.service(&[]).await;
    stage.verified_with(&[Loss::ZonelessTimes, Loss::EpochTimes]).await;
    let held = stage.server.query("SELECT 1 FROM audit_store.audit_events", &[]).await.unwrap();
    assert_eq!(held.len(), 7);
    let read = async || reads::audit_readable(&stage, &db, &[2, 4, 5, 7].map(record_id)).await;
    let (found, refused) = read().await;
    assert_eq!(found, []);
    // Pages that would hold one of them, and only those.
    assert!((4..20).contains(&refused), "{refused}");
    let repository = db.audit("audit").unwrap().repository().await.unwrap();
    let refused = repository.get(record_id(3)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    // One of them is all that is behind the page.
    let [.., days] = reads::audit_filters();
    let start = Some(Timestamp::parse("2024-01-03T00:00:00Z").unwrap());
    let query = AuditQuery {
        filter: AuditFilter { start, ..days },
        limit: Limit::new(1).unwrap(),
        ..AuditQuery::default()
    };
    assert_eq!(stage.compared(&db, repository.query(query)).await, []);
    let key = record_id(5).to_string();
    stage.tamper(&format!("DELETE FROM audit_store.audit_events WHERE event_id = '{key}'")).await;
    let (found, _) = read().await;
    assert_eq!(of(&found, "audit.get"), [(&*key, "missing")]);
    assert!(of(&found, "audit.query").len() >= 2, "{found:?}");
    assert!(found.iter().all(|it| it.1 == key || it.1 == "the count"), "{found:?}");
    // One that the file has not at all, on a day of those.
    stage
        .tamper(
            "INSERT INTO audit_store.audit_events (tenant_id, sequence, event_id, event_type, event_category, event_outcome, \
                 event_timestamp, event_date, service_name, actor_type, resource_type, resource_id, event_data, metadata, \
                 recorded_at, content_digest) \
             SELECT tenant_id, 8, '00000000-0000-4000-8000-000000000008', event_type, event_category, event_outcome, \
                 event_timestamp, event_date, service_name, actor_type, resource_type, resource_id, event_data, metadata, \
                 recorded_at, content_digest FROM audit_store.audit_events WHERE sequence = 2",
        )
        .await;
    let (found, _) = read().await;
    let extra = found.iter().filter(|it| it.1 == "00000000-0000-4000-8000-000000000008" && it.2 == "extra");
    assert!(extra.count() >= 2, "{found:?}");
}

// Ids that the file's store does not find: the stream, and the record, are there for the new store only.
#[tokio::test(flavor = "multi_thread")]
async fn ids_that_only_the_new_store_can_read() {
    let stage = Stage::legacy("events", &(events(1, &[1, 2]) + &events(2, &[3, 4]))).await;
    stage.in_file(&format!(
        "UPDATE event_stream SET aggregate_id = '{{' || aggregate_id || '}}' WHERE aggregate_id = '{}'",
        stream(2).aggregate_id
    ));
    let db = stage.service(&[]).await;
    stage.verified_with(&[Loss::UuidSpellings]).await;
    let store = store(&db).await;
    for number in [1, 2] {
        let page = stage.compared(&db, store.read_stream(ReadStream::all(stream(number)))).await;
        let head = stage.compared(&db, store.head(HeadOf::Stream(stream(number)))).await;
        assert_eq!((page, head), (vec![], vec![]), "{number}");
    }
    // The stream itself under another name is nothing that the file has.
    stage.tamper("UPDATE event_store.event_stream SET version = 3 WHERE version = 2").await;
    let head = stage.compared(&db, store.head(HeadOf::Stream(stream(1)))).await;
    assert_eq!(head, [("events.head", stream(1).to_string(), "version".to_owned())]);

    let stage = Stage::legacy("audit", &(record(1) + &record(2))).await;
    stage.in_file("UPDATE audit_events SET event_id = '{' || event_id || '}' WHERE rowid = 2");
    let db = stage.service(&[]).await;
    stage.verified_with(&[Loss::UuidSpellings]).await;
    let repository = db.audit("audit").unwrap().repository().await.unwrap();
    for number in [1, 2] {
        let found = stage.compared(&db, repository.get(record_id(number))).await;
        assert_eq!(found, [], "{number}");
    }
}
