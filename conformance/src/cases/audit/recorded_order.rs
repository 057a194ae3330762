//! The recorded order: what was seen of it never changes, whatever clocks and slow writers do.

use std::sync::Arc;
use std::time::Duration;

use changeover_core::audit::{AuditFilter, AuditOrder, AuditQuery, Create, Created, NewAuditEvent};
use changeover_core::{AuditRepository, Timestamp, Uuid};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::harness::{AnyHarness, Held};
use crate::support::audit::{
    at, chained, create, event, event_at, ids, new_ids, open, open_on, query, recorded,
};
use crate::support::{Must, limit, or_note};

/// How long a writer may be held up by another one that has ended meanwhile.
const BOUND: Duration = Duration::from_secs(10);

/// A reader that goes on from the last event it was shown.
#[derive(Default)]
struct Tail {
    request: AuditQuery,
    seen: Vec<Uuid>,
}

impl Tail {
    async fn catch_up(&mut self, store: &dyn AuditRepository) {
        (self.request.order, self.request.limit) = (AuditOrder::Recorded, limit(3));
        loop {
            let page = store.query(self.request.clone()).await.must("a page");
            let Some(last) = page.events.last() else { return };
            self.request.page = Some(self.request.token_after(last));
            self.seen.extend(ids(&page.events));
        }
    }
}

/// Creates in the background, since the writer may have to wait for another one.
fn write(
    store: &Arc<dyn AuditRepository>,
    events: Vec<NewAuditEvent>,
) -> JoinHandle<changeover_core::Result<Created>> {
    let store = Arc::clone(store);
    tokio::spawn(async move { store.create(Create { events }).await })
}

async fn finish(writing: JoinHandle<changeover_core::Result<Created>>) {
    timeout(BOUND, writing).await.must("a writer within the bound").must("a writer").must("a create");
}

async fn hold(h: &dyn AnyHarness, events: Vec<NewAuditEvent>) -> Option<Box<dyn Held>> {
    or_note("hold a create open", h.faults().hold_create(Create { events }).await)
}

/// What was shown in recorded order never changes: a writer that commits late comes after it. (A8)
pub async fn what_was_shown_in_recorded_order_never_changes(h: &dyn AnyHarness) {
    let (store, reader) = (open(h).await, open(h).await);
    create(&*store, &[event(0)]).await;
    let mut tail = Tail::default();
    let late = chained(2, "c-1");
    let held = hold(h, late.clone()).await;
    let other = write(&store, chained(2, "c-1"));
    for _ in 0..5 {
        tail.catch_up(&*reader).await;
        assert!(!tail.seen.contains(&late[0].event_id), "what is not committed is not shown");
        sleep(Duration::from_millis(40)).await;
    }
    match held {
        Some(held) => held.commit().await,
        None => finish(write(&store, late.clone())).await,
    }
    finish(other).await;
    tail.catch_up(&*reader).await;
    assert_eq!(tail.seen.len(), 5, "the late commit was skipped");
    assert_eq!(tail.seen, ids(&recorded(&*reader).await));
}

/// A writer that rolls back late leaves nothing and holds up no reader. (A60)
pub async fn late_roll_back_leaves_nothing(h: &dyn AnyHarness) {
    let (store, reader) = (open(h).await, open(h).await);
    let mut tail = Tail::default();
    let never = chained(2, "c-1");
    let held = hold(h, never).await;
    let batch = chained(2, "c-1");
    let other = write(&store, batch.clone());
    sleep(Duration::from_millis(40)).await;
    tail.catch_up(&*reader).await;
    if let Some(held) = held {
        held.roll_back().await;
    }
    finish(other).await;
    tail.catch_up(&*reader).await;
    assert_eq!(tail.seen, new_ids(&batch));
}

/// The recorded order rises strictly, is that of the batch within one, and the same to every client; `recorded_at` never
/// goes backwards along it, also when a clock does. (A33, X-EDGE-112)
pub async fn recorded_order_is_that_of_the_commits(h: &dyn AnyHarness) {
    const HOUR: i64 = 3_600_000_000;
    let usual = open(h).await;
    let slow = match or_note("a clock of its own", h.faults().client_with_clock_off_by(-HOUR).await) {
        Some(backend) => open_on(h, &*backend).await,
        None => open(h).await,
    };
    let before = Timestamp::now().as_micros();
    let mut given = Vec::new();
    for (number, writer) in [&usual, &slow, &usual, &slow].into_iter().enumerate() {
        let batch = [2021, 2019, 2020].map(|year| event_at(number, &format!("{year}-06-01T00:00:00Z")));
        create(&**writer, &batch).await;
        given.extend(new_ids(&batch));
    }
    let log = recorded(&*usual).await;
    let after = Timestamp::now().as_micros();
    assert_eq!(ids(&log), given);
    assert!(log.windows(2).all(|pair| pair[0].sequence < pair[1].sequence), "the order does not rise");
    assert_eq!(recorded(&*slow).await, log);
    for stored in &log {
        if usual.capabilities().recorded_time.is_yes() {
            // A minute of tolerance: the clock may be the database's.
            let found = stored.recorded_at.as_micros();
            assert!((before - 60_000_000..after + 60_000_000).contains(&found), "{}", stored.recorded_at);
        } else {
            assert_eq!(stored.recorded_at, stored.event.event_timestamp);
        }
    }
    let kept = usual.capabilities().recorded_time.is_yes();
    assert!(!kept || log.is_sorted_by_key(|stored| stored.recorded_at), "recorded time went backwards");
}

/// Events of any allowed time, ancient or ahead of the clock, are recorded as they come; only the order by time goes by
/// their times. (A44, S3-EDGE-007, S3-EDGE-008)
pub async fn ancient_and_future_events_are_recorded_as_they_come(h: &dyn AnyHarness) {
    let store = open(h).await;
    let ahead = Timestamp::from_micros(Timestamp::now().as_micros() + 240_000_000).must("a time");
    let times =
        [at("2024-01-01T00:00:00Z"), ahead, at("1970-01-01T00:00:00Z"), at("1999-12-31T23:59:59.999999Z")];
    let events = times.map(|time| NewAuditEvent { event_timestamp: time, ..event(1) });
    for event in &events {
        create(&*store, std::slice::from_ref(event)).await;
    }
    let given = new_ids(&events);
    assert_eq!(ids(&recorded(&*store).await), given);
    let by_time = query(&*store, AuditFilter::default(), AuditOrder::OldestFirst).await;
    assert_eq!(ids(&by_time), [given[2], given[3], given[0], given[1]]);
}
