//! Writers that never pause: what both stores hold is never told to differ.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use changeover::EventStore;
use changeover::cutover::Goal;
use changeover::events::{Direction, EventFilter, HeadOf, ReadAll, ReadStream};
use changeover::{EventType, Limit};

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
    let cutover = stage.cutover().await;
    // Nobody follows when a run is verified; so again, until much was compared.
    for _ in 0..20 {
        cutover.run(&terms(), Goal::Verified).await.unwrap();
        if db.shadow("events").unwrap().unwrap().equal >= 10 {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let report = wait(&db, "events", |report| report.running == 0).await;
    assert_eq!((report.different, report.failed.len()), (0, 0), "{report:#?}");
    assert!(report.equal >= 10 && report.skipped > 0, "{report:#?}");
    db.close().await;
}
