//! What was planted in the new store is found and named; what it need not hold is not.

use changeover::Limit;
use changeover::audit::{ActorType, AuditFilter, AuditOrder, AuditQuery, NewAuditEvent, Outcome};
use changeover::events::{Direction, HeadOf, ReadAll, ReadStream};
use changeover::playbooks::{
    Change, Edit, GetPlaybook, HashingEmbedder, ListPlaybooks, Lookup, NewPlaybook, Put, Query, Search,
    Status, VersionsOf,
};
use rstest::rstest;

use crate::stage::{Stage, append, found, store, stream};

const EVENTS: &str = "event_store.domain_event";

// X19: a changed field, a missing event and an extra one, by key and field, whatever is read; the caller has the owner's answer.
#[rstest]
#[case::changed(
    "UPDATE event_store.domain_event SET event_data = '{\"n\":9}' WHERE position = 2",
    "data",
    "{\"n\":1}",
    "{\"n\":9}"
)]
#[case::missing("DELETE FROM event_store.domain_event WHERE position = 2", "missing", "position 2", "")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_among_events_is_found(
    #[case] sql: &str,
    #[case] field: &str,
    #[case] owner: &str,
    #[case] shadow: &str,
) {
    let stage = Stage::new("events").await;
    let db = stage.service(&[]).await;
    let store = store(&db).await;
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(append(&*store, 1, number).await);
    }
    stage.verified().await;
    stage.tamper(sql).await;
    let key = format!("{} 2 ({})", stream(1), ids[1]);
    let page = ReadStream { limit: Limit::new(3).unwrap(), ..ReadStream::all(stream(1)) };
    let back = ReadStream { direction: Direction::Backward, ..page.clone() };
    let before = db.shadow("events").unwrap().unwrap();
    for (number, read) in (1..).zip([page, back]) {
        let answer = store.read_stream(read).await.unwrap();
        assert_eq!((answer.events.len(), answer.head.unwrap().get()), (3, 4));
        let report = stage.report(&db, before.idle + number).await;
        assert_eq!((report.different, report.equal), (number, 0), "{report:#?}");
        assert_eq!(report.differences.len() as u64, number, "{report:#?}");
        assert_eq!(found(&report)[0], (&*key, field, owner, shadow));
        assert_eq!(report.differences[0].operation, "events.read_stream");
    }
    store.read_all(ReadAll::default()).await.unwrap();
    let report = stage.report(&db, before.idle + 3).await;
    let last = report.differences.last().unwrap();
    assert_eq!(
        (last.operation, &*last.key, &*last.field, &*last.tenant),
        ("events.read_all", &*key, field, "default")
    );
    // The rest is equal.
    store.head(HeadOf::Log).await.unwrap();
    assert_eq!(stage.report(&db, before.idle + 4).await.equal, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extra_event_and_a_head_that_ran_on_are_found() {
    let stage = Stage::new("events").await;
    let db = stage.service(&[]).await;
    let store = store(&db).await;
    append(&*store, 1, 0).await;
    let second = append(&*store, 1, 1).await;
    stage.verified().await;
    let columns = "tenant_id, event_id, stream_id, event_type, event_version, event_data, metadata, occurred_at, recorded_at";
    stage
        .tamper(&format!(
            "INSERT INTO {EVENTS} (position, aggregate_version, {columns}) \
             SELECT position + 5, 3, tenant_id, '00000000-0000-4000-8000-000000000007', stream_id, event_type, event_version, \
                    event_data, metadata, occurred_at, recorded_at FROM {EVENTS} WHERE event_id = '{second}'; \
             UPDATE event_store.event_stream SET version = 3"
        ))
        .await;
    let before = db.shadow("events").unwrap().unwrap().idle;
    store.read_stream(ReadStream::all(stream(1))).await.unwrap();
    let report = stage.report(&db, before + 1).await;
    let extra = format!("{} 3 (00000000-0000-4000-8000-000000000007)", stream(1));
    let name = stream(1).to_string();
    assert_eq!(found(&report), [(&*extra, "extra", "", "position 7"), (&*name, "head", "2", "3")]);
    store.head(HeadOf::Log).await.unwrap();
    let report = stage.report(&db, before + 2).await;
    assert_eq!(found(&report)[2], ("the log", "position", "2", "7"));
}

// Rows in quarantine are no difference: neither they, nor the gap of their stream, nor the ends of pages; a row beside them
// that was changed is one.
#[tokio::test(flavor = "multi_thread")]
async fn rows_in_quarantine_are_no_difference() {
    let stage = Stage::new("events").await;
    let db = stage.service(&[]).await;
    let store = store(&db).await;
    for number in 0..6 {
        append(&*store, 1, number).await;
    }
    // A time that our stores read and the declarations do not.
    stage.in_file(
        "DROP TRIGGER IF EXISTS domain_event_no_update; \
         UPDATE domain_event SET metadata = '{\"a\":1,\"a\":2}' WHERE position IN (3, 6)",
    );
    stage.verified().await;
    assert_eq!(stage.server.query(&format!("SELECT 1 FROM {EVENTS}"), &[]).await.unwrap().len(), 4);
    let before = db.shadow("events").unwrap().unwrap().idle;
    let limited = ReadStream { limit: Limit::new(3).unwrap(), ..ReadStream::all(stream(1)) };
    store.read_stream(ReadStream::all(stream(1))).await.unwrap();
    store.read_stream(limited.clone()).await.unwrap();
    stage.report(&db, before + 2).await;
    store.read_all(ReadAll::default()).await.unwrap();
    store.head(HeadOf::Log).await.unwrap();
    let report = stage.report(&db, before + 4).await;
    assert_eq!((report.equal, report.different), (4, 0), "{report:#?}");
    stage.tamper(&format!("UPDATE {EVENTS} SET event_type = 'Other' WHERE position = 2")).await;
    store.read_stream(limited).await.unwrap();
    let report = stage.report(&db, before + 5).await;
    assert_eq!(
        report.differences.iter().map(|it| &*it.field).collect::<Vec<_>>(),
        ["event_type"],
        "{report:#?}"
    );
}

// The audit trail: one event, a page in each order, a count.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_in_the_audit_trail_is_found() {
    let stage = Stage::new("audit").await;
    let db = stage.service(&[]).await;
    let audit = db.audit("audit").unwrap();
    let repository = audit.repository().await.unwrap();
    let mut ids = Vec::new();
    for number in 0..4 {
        let resource = number.to_string();
        let event =
            NewAuditEvent::new("t", "c", Outcome::Success, "s", ActorType::System, "r", resource).unwrap();
        ids.push(event.event_id);
        audit.record(event).await.unwrap();
    }
    stage.verified().await;
    let before = db.shadow("audit").unwrap().unwrap().idle;
    let reads = async |ended: u64| {
        repository.get(ids[2]).await.unwrap();
        stage.report(&db, ended + 1).await;
        for (order, number) in
            [AuditOrder::NewestFirst, AuditOrder::OldestFirst, AuditOrder::Recorded].into_iter().zip(2..)
        {
            let limit = Limit::new(3).unwrap();
            repository.query(AuditQuery { order, limit, ..AuditQuery::default() }).await.unwrap();
            stage.report(&db, ended + number).await;
        }
        repository.count(AuditFilter::default()).await.unwrap();
        stage.report(&db, ended + 5).await
    };
    let report = reads(before).await;
    assert_eq!((report.equal, report.different), (5, 0), "{report:#?}");
    stage
        .tamper(&format!(
            "UPDATE audit_store.audit_events SET resource_name = 'x' WHERE event_id = '{}'",
            ids[2]
        ))
        .await;
    let report = reads(before + 5).await;
    let key = ids[2].to_string();
    assert_eq!(found(&report), [(&*key, "resource_name", "null", "\"x\""); 4], "{report:#?}");
    stage.tamper(&format!("DELETE FROM audit_store.audit_events WHERE event_id = '{}'", ids[2])).await;
    let report = reads(before + 10).await;
    assert_eq!(found(&report)[4..8], [(&*key, "missing", "sequence 3", ""); 4], "{report:#?}");
    assert_eq!(found(&report)[8], ("the count", "count", "4", "3"));
}

fn playbook(id: &str, version: &str, content: &str) -> NewPlaybook {
    let new = format!(
        r#"{{"playbook_id":"{id}","version":"{version}","name":"{id}","description":"","content":"{content}","is_latest_version":true}}"#
    );
    NewPlaybook::from_json(new).unwrap()
}

// The playbooks: versions, pages and a search, whose confidences and order are compared.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_among_playbooks_is_found() {
    let stage = Stage::new("playbooks").await;
    let db = stage.service(&[]).await;
    let catalog = db.playbooks("playbooks").unwrap().catalog().await.unwrap();
    let restart = playbook("restart", "1.0.0", "restart the pod");
    let id = restart.playbook_id.clone();
    for new in [
        restart,
        playbook("restart", "1.1.0", "restart the pod twice"),
        playbook("scale", "2.0.0", "add replicas"),
    ] {
        catalog.put(Put { versions: vec![new] }).await.unwrap();
    }
    let edit = Edit::Status(Status::Deprecated, Some("old".to_owned()));
    let version = changeover::playbooks::PlaybookVersion::new("1.0.0").unwrap();
    catalog
        .change(Change { playbook_id: id.clone(), version: version.clone(), edit, by: None })
        .await
        .unwrap();
    stage.verified().await;
    let before = db.shadow("playbooks").unwrap().unwrap().idle;
    let reads = async |ended: u64| {
        catalog
            .get(GetPlaybook { playbook_id: id.clone(), which: Lookup::Exact(version.clone()) })
            .await
            .unwrap();
        stage.report(&db, ended + 1).await;
        catalog
            .versions(VersionsOf { playbook_id: id.clone(), below: None, limit: Limit::default() })
            .await
            .unwrap();
        stage.report(&db, ended + 2).await;
        catalog
            .list(ListPlaybooks { status: Some(Status::Active), ..ListPlaybooks::default() })
            .await
            .unwrap();
        stage.report(&db, ended + 3).await;
        let search = Search {
            query: Query::Text("restart a pod".to_owned()),
            embedder: std::sync::Arc::new(HashingEmbedder),
            labels: std::collections::BTreeMap::new(),
            min_confidence: 0.0,
            max_results: Limit::new(5).unwrap(),
        };
        assert_eq!(catalog.search(search).await.unwrap().matches.len(), 2);
        stage.report(&db, ended + 4).await
    };
    let report = reads(before).await;
    assert_eq!((report.equal, report.different), (4, 0), "{report:#?}");
    let catalog_table = "playbook_store.playbook_catalog";
    stage.tamper(&format!("UPDATE {catalog_table} SET total_executions = 3 WHERE version = '1.0.0'")).await;
    let report = reads(before + 4).await;
    assert_eq!(found(&report), [("restart 1.0.0", "total_executions", "0", "3"); 2], "{report:#?}");
    stage.tamper(&format!("DELETE FROM {catalog_table} WHERE playbook_id = 'restart'")).await;
    let report = reads(before + 8).await;
    let rest: Vec<_> =
        report.differences[2..].iter().map(|it| (it.operation, &*it.key, &*it.field)).collect();
    let expected = [
        ("playbooks.get", "restart 1.0.0", "missing"),
        ("playbooks.versions", "restart 1.1.0", "missing"),
        ("playbooks.versions", "restart 1.0.0", "missing"),
        ("playbooks.list", "restart 1.1.0", "missing"),
        ("playbooks.search", "restart 1.1.0", "missing"),
    ];
    assert_eq!(rest, expected, "{report:#?}");
}
