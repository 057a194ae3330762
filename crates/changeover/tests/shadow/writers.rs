//! Writers that never pause: what both stores hold is never told to differ.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use changeover::audit::{ActorType, AuditFilter, AuditOrder, AuditQuery, Create, NewAuditEvent, Outcome};
use changeover::cutover::Goal;
use changeover::events::{Direction, EventFilter, HeadOf, ReadAll, ReadStream};
use changeover::playbooks::{
    Change, Edit, GetPlaybook, HashingEmbedder, ListPlaybooks, Lookup, NewPlaybook, PlaybookVersion, Put,
    Query, Search, Status, VersionsOf,
};
use changeover::{Db, EventStore, EventType, Limit, Text, Timestamp, Uuid};
use tokio::task::JoinHandle;

use crate::stage::{Stage, append, store, stream, terms, wait};

const STREAMS: u128 = 2;

/// Every read of the store, over and over.
async fn read(store: Arc<dyn EventStore>, stop: Arc<AtomicBool>) {
    let mut turn: u32 = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let limit = Limit::new(i64::from(1 + turn % 40)).unwrap();
        // Half of the streams are written to.
        let stream = stream(u128::from(turn) % (2 * STREAMS));
        let mut page = ReadStream { limit, ..ReadStream::all(stream.clone()) };
        if turn.is_multiple_of(2) {
            page.direction = Direction::Backward;
        }
        let first = store.read_stream(page.clone()).await.unwrap();
        if first.next.is_some() {
            store.read_stream(ReadStream { page: first.next, ..page }).await.unwrap();
        }
        let mut all = ReadAll { limit, ..ReadAll::default() };
        if turn.is_multiple_of(3) {
            all.filter =
                EventFilter { event_types: Some(vec![EventType::new("Placed").unwrap()]), ..all.filter };
        }
        all.after = Some(store.read_all(all.clone()).await.unwrap().checkpoint);
        store.read_all(all).await.unwrap();
        store.head(HeadOf::Log).await.unwrap();
        store.head(HeadOf::Stream(stream)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

// X19: from before the copy to the end of the comparison, with writers on half of the streams and readers of all: no difference, and reads
// that were compared and equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_whole_run_under_writers_has_no_difference() {
    let stage = Stage::new("events").await;
    let db = stage.service(&[("at_once", "3")]).await;
    let store = store(&db).await;
    for number in 0..200 {
        append(&*store, u128::from(number) % (2 * STREAMS), number).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = vec![tokio::spawn(read(Arc::clone(&store), Arc::clone(&stop)))];
    for to in 0..STREAMS {
        let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                append(&*store, to, number).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }));
    }
    judged(&stage, &db, &stop, tasks).await;
}

/// Follows while these tasks read and write, until much was compared: no difference.
async fn judged(stage: &Stage, db: &Db, stop: &AtomicBool, tasks: Vec<JoinHandle<()>>) {
    let cutover = stage.cutover().await;
    // Nobody follows when a run is verified; so again, until much was compared.
    for _ in 0..20 {
        cutover.run(&terms(), Goal::Verified).await.unwrap();
        if db.shadow(stage.module).unwrap().unwrap().equal >= 10 {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let report = wait(db, stage.module, |report| report.running == 0).await;
    assert_eq!((report.different, report.failed.len()), (0, 0), "{report:#?}");
    assert!(report.equal >= 10 && report.skipped > 0, "{report:#?}");
    db.close().await;
}

/// Calls again and again, with the number of the call, until `stop`.
fn again<F>(
    stop: &Arc<AtomicBool>,
    pause: u64,
    call: impl Fn(u32) -> F + Send + Sync + 'static,
) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send,
{
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            turn += 1;
            call(turn).await;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    })
}

// The same of audit records, half of which are of an hour before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_audit_trail_under_writers_has_no_difference() {
    let stage = Stage::new("audit").await;
    let db = stage.service(&[("at_once", "3")]).await;
    let repository = db.audit("audit").unwrap().repository().await.unwrap();
    let new = |number: u32| {
        let event = NewAuditEvent::new(
            "t",
            "c",
            Outcome::Success,
            "s",
            ActorType::System,
            "r",
            (number % 5).to_string(),
        );
        let mut event = event.unwrap();
        event.event_id = Uuid::from_u128(u128::from(number) + 1);
        let past = event.event_timestamp.as_micros() - 3_600_000_000 * i64::from(number % 2);
        event.event_timestamp = Timestamp::from_micros(past).unwrap();
        event
    };
    for number in 0..50 {
        repository.create(Create { events: vec![new(number)] }).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (writing, reads) = (Arc::clone(&repository), repository);
    let writer = again(&stop, 3, move |turn| {
        let (store, event) = (Arc::clone(&writing), new(50 + turn));
        async move {
            store.create(Create { events: vec![event] }).await.unwrap();
        }
    });
    let reader = again(&stop, 1, move |turn| {
        let reads = Arc::clone(&reads);
        async move {
            let orders = [AuditOrder::NewestFirst, AuditOrder::OldestFirst, AuditOrder::Recorded];
            let order = orders[turn as usize % 3];
            let resource = Some(Text::new("resource_id", (turn % 5).to_string()).unwrap());
            let filter =
                AuditFilter { resource_id: resource.filter(|_| turn % 2 == 0), ..AuditFilter::default() };
            let limit = Limit::new(i64::from(1 + turn % 20)).unwrap();
            let query = AuditQuery { filter: filter.clone(), order, limit, ..AuditQuery::default() };
            let next = reads.query(query.clone()).await.unwrap().next;
            reads.query(AuditQuery { page: next, ..query.clone() }).await.unwrap();
            reads.query(AuditQuery { offset: u64::from(turn % 7), ..query }).await.unwrap();
            reads.count(filter).await.unwrap();
            reads.get(Uuid::from_u128(u128::from(turn))).await.unwrap();
        }
    });
    judged(&stage, &db, &stop, vec![writer, reader]).await;
}

// The same of playbooks, whose versions come, lose their mark, and change their status to and fro.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn playbooks_under_writers_have_no_difference() {
    let stage = Stage::new("playbooks").await;
    let db = stage.service(&[("at_once", "3")]).await;
    let catalog = db.playbooks("playbooks").unwrap().catalog().await.unwrap();
    let version = |number: u32| PlaybookVersion::new(format!("1.{number}.0")).unwrap();
    let id = |number: u32| Text::new("playbook_id", format!("p{}", number % 6)).unwrap();
    let put = move |number: u32| {
        let new = format!(
            r#"{{"playbook_id":"{}","version":"{}","name":"n","description":"","content":"pod {number}","is_latest_version":true}}"#,
            id(number).as_str(),
            version(number).as_str()
        );
        Put { versions: vec![NewPlaybook::from_json(new).unwrap()] }
    };
    for number in 0..6 {
        catalog.put(put(number)).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (writing, reads) = (Arc::clone(&catalog), catalog);
    let writer = again(&stop, 3, move |turn| {
        let store = Arc::clone(&writing);
        async move {
            // Half of the playbooks are written to; one of them gets new versions.
            if turn % 7 == 0 {
                store.put(put(6 * turn)).await.unwrap();
            }
            let of = 1 + turn % 2;
            let status = if turn % 4 < 2 { Status::Disabled } else { Status::Active };
            let edit = Edit::Status(status, None);
            let change = Change { playbook_id: id(of), version: version(of), edit, by: None };
            store.change(change).await.unwrap();
        }
    });
    let reader = again(&stop, 1, move |turn| {
        let reads = Arc::clone(&reads);
        async move {
            let which = if turn % 2 == 0 { Lookup::Latest } else { Lookup::LatestActive };
            reads.get(GetPlaybook { playbook_id: id(turn), which }).await.unwrap();
            let limit = Limit::new(i64::from(1 + turn % 6)).unwrap();
            let status = Some(Status::Active).filter(|_| turn % 3 > 0);
            reads.list(ListPlaybooks { status, limit, ..ListPlaybooks::default() }).await.unwrap();
            reads.versions(VersionsOf { playbook_id: id(turn), below: None, limit }).await.unwrap();
            let search = Search {
                query: Query::Text("a pod".to_owned()),
                embedder: Arc::new(HashingEmbedder),
                labels: BTreeMap::new(),
                min_confidence: 0.0,
                max_results: limit,
            };
            reads.search(search).await.unwrap();
        }
    });
    judged(&stage, &db, &stop, vec![writer, reader]).await;
}
