//! Recording audit events: whole batches, repeated ids, parents, many writers.

use changeover_core::audit::{ActorType, Create, Created, NewAuditEvent, Outcome};
use changeover_core::{Applied, Detail, Error, ErrorKind, Uuid};
use futures::future::join_all;

use crate::harness::AnyHarness;
use crate::support::audit::{
    at, chained, create, event, event_at, full, get, ids, look, new_ids, open, recorded, text,
};
use crate::support::{Must, json, or_note, refused};

fn batch(events: &[NewAuditEvent]) -> Create {
    Create { events: events.to_vec() }
}

/// A refused create says that nothing was stored, and names the taken id if there is one.
fn nothing_stored(error: &Error, taken: Option<Uuid>) {
    assert_eq!(error.was_applied(), Some(Applied::No), "{error}");
    if let Some(id) = taken {
        assert_eq!(error.detail(), Some(&Detail::Exists { id }), "{error}");
    }
}

/// An event that was recorded is found by its id, equal in every field; what is absent stays absent.
/// (A1, S3-AUD-001, S3-AUD-008, S3-AUD-020)
pub async fn recorded_event_is_read_back_equal_in_every_field(h: &dyn AnyHarness) {
    let store = open(h).await;
    let (bare, mut full) = (event(1), full(2));
    full.parent_event_id = Some(bare.event_id);
    for new in [&bare, &full] {
        assert_eq!(create(&*store, std::slice::from_ref(new)).await, Created { stored: 1, repeated: 0 });
        let stored = get(&*open(h).await, new.event_id).await.must("the event");
        assert_eq!(&stored.event, new);
    }
    for (outcome, actor) in Outcome::ALL.iter().zip(ActorType::ALL) {
        let new = NewAuditEvent { event_outcome: *outcome, actor_type: *actor, ..event(3) };
        create(&*store, std::slice::from_ref(&new)).await;
        assert_eq!(get(&*store, new.event_id).await.must("the event").event, new);
    }
}

/// An id stored already with equal content is a success without a second record, alone and within a batch.
/// (A2, S3-AUD-027, X-EDGE-061)
pub async fn repeated_event_is_stored_once(h: &dyn AnyHarness) {
    let store = open(h).await;
    let (first, second) = (full(1), event(2));
    create(&*store, std::slice::from_ref(&first)).await;
    let before = look(h, &*store).await;
    assert_eq!(create(&*store, std::slice::from_ref(&first)).await, Created { stored: 0, repeated: 1 });
    assert_eq!(look(h, &*store).await, before);
    let both = [second.clone(), first.clone()];
    assert_eq!(create(&*open(h).await, &both).await, Created { stored: 1, repeated: 1 });
    assert_eq!(create(&*store, &both).await, Created { stored: 0, repeated: 2 });
    assert_eq!(ids(&recorded(&*store).await), new_ids(&[first, second]));
}

/// An id stored already with other content, whatever differs, is refused with the id, and nothing of the batch is stored.
/// (A46, S3-AUD-027, X-EDGE-061)
pub async fn stored_id_with_other_content_is_refused(h: &dyn AnyHarness) {
    let store = open(h).await;
    let first = full(1);
    create(&*store, std::slice::from_ref(&first)).await;
    let before = look(h, &*store).await;
    let changes: [fn(&mut NewAuditEvent); 18] = [
        |event| event.event_type = text("other"),
        |event| event.event_category = text("other"),
        |event| event.event_outcome = Outcome::Skipped,
        |event| event.service_name = text("other"),
        |event| event.service_version = None,
        |event| event.actor_type = ActorType::System,
        |event| event.actor_id = None,
        |event| event.actor_name = Some(text("ada")),
        |event| event.resource_type = text("other"),
        |event| event.resource_id = text("other"),
        |event| event.resource_name = None,
        |event| event.event_data = json(r#"{"a":{"b":[1,2.5,null,true,"x"]},"n":9007199254740992}"#),
        |event| event.correlation_id = None,
        |event| event.parent_event_id = Some(Uuid::now_v7()),
        |event| event.trace_id = None,
        |event| event.span_id = Some(text("other")),
        |event| event.metadata = json("{}"),
        |event| event.event_timestamp = at("2024-05-06T07:08:09.123457Z"),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut other = first.clone();
        change(&mut other);
        let request = batch(&[event(2), other, event(3)]);
        let error = refused(store.create(request).await, ErrorKind::AlreadyExists);
        nothing_stored(&error, Some(first.event_id));
        assert_eq!(look(h, &*store).await, before, "change {number}");
    }
}

/// An id is taken in every month, not only in that of its event. (A47, S3-AUD-027, DEF-13, X-EDGE-061)
pub async fn id_is_taken_in_every_month(h: &dyn AnyHarness) {
    let store = open(h).await;
    let first = event_at(1, "2023-01-31T12:00:00Z");
    create(&*store, std::slice::from_ref(&first)).await;
    for time in ["2023-02-01T12:00:00Z", "1999-12-31T12:00:00Z", "2023-01-01T00:00:00Z"] {
        let other = NewAuditEvent { event_id: first.event_id, ..event_at(1, time) };
        let error = refused(store.create(batch(&[other])).await, ErrorKind::AlreadyExists);
        nothing_stored(&error, Some(first.event_id));
    }
    assert_eq!(ids(&recorded(&*store).await), [first.event_id]);
}

/// A batch is stored whole, in the order given, and up to its largest size; an empty one, one with an id twice and one
/// above the size are refused. (A48, S3-AUD-026, X-EDGE-079)
pub async fn batch_is_stored_whole_or_not_at_all(h: &dyn AnyHarness) {
    let store = open(h).await;
    let most: Vec<_> = (0..Create::MAX_EVENTS).map(event).collect();
    assert_eq!(create(&*store, &most).await.stored, Create::MAX_EVENTS);
    assert_eq!(ids(&recorded(&*store).await), new_ids(&most));
    let before = look(h, &*store).await;
    let twice = event(1);
    for bad in [vec![], vec![twice.clone(), event(2), twice]] {
        nothing_stored(&refused(store.create(batch(&bad)).await, ErrorKind::Invalid), None);
    }
    let too_many: Vec<_> = (0..=Create::MAX_EVENTS).map(event).collect();
    nothing_stored(&refused(store.create(batch(&too_many)).await, ErrorKind::TooLarge), None);
    let mut last_bad: Vec<_> = (0..50).map(event).collect();
    last_bad[49].parent_event_id = Some(Uuid::now_v7());
    nothing_stored(&refused(store.create(batch(&last_bad)).await, ErrorKind::NotFound), None);
    assert_eq!(look(h, &*store).await, before);
}

/// A parent must be stored or stand earlier in the batch, whatever its month; else the event is refused and the missing id
/// named. (A49, S3-AUD-028, DEF-16, X-EDGE-062)
pub async fn parent_must_be_there_first(h: &dyn AnyHarness) {
    let store = open(h).await;
    let old = event_at(1, "2020-02-29T23:59:59Z");
    let child = |of: &NewAuditEvent| NewAuditEvent { parent_event_id: Some(of.event_id), ..event(2) };
    let orphan = child(&old);
    let error = refused(store.create(batch(std::slice::from_ref(&orphan))).await, ErrorKind::NotFound);
    nothing_stored(&error, None);
    assert!(error.message().contains(&old.event_id.to_string()), "the missing parent is not named: {error}");
    let later = refused(store.create(batch(&[orphan.clone(), old.clone()])).await, ErrorKind::NotFound);
    assert!(later.message().contains(&old.event_id.to_string()), "{later}");
    let own = NewAuditEvent { parent_event_id: Some(orphan.event_id), ..orphan.clone() };
    refused(store.create(batch(&[own])).await, ErrorKind::Invalid);
    assert!(recorded(&*store).await.is_empty());

    let grandchild = child(&orphan);
    create(&*store, &[old.clone(), orphan.clone(), grandchild.clone()]).await;
    create(&*open(h).await, &[child(&old)]).await;
    let stored = get(&*store, grandchild.event_id).await.must("the event");
    assert_eq!(stored.event.parent_event_id, Some(orphan.event_id));
    // Parents that are repeated within the batch count as stored.
    let repeated = create(&*store, &[old.clone(), child(&old)]).await;
    assert_eq!(repeated, Created { stored: 1, repeated: 1 });
}

/// Of a batch with several mistakes the first taken id is told, then the first missing parent. (A50)
pub async fn taken_ids_are_told_before_missing_parents(h: &dyn AnyHarness) {
    let store = open(h).await;
    let taken = [event(1), event(2)];
    create(&*store, &taken).await;
    let missing = [Uuid::now_v7(), Uuid::now_v7()];
    let orphan = |parent| NewAuditEvent { parent_event_id: Some(parent), ..event(3) };
    let other = |of: &NewAuditEvent| NewAuditEvent { event_id: of.event_id, ..event(4) };
    let request = batch(&[orphan(missing[0]), other(&taken[1]), other(&taken[0])]);
    let error = refused(store.create(request).await, ErrorKind::AlreadyExists);
    nothing_stored(&error, Some(taken[1].event_id));
    let error =
        refused(store.create(batch(&[orphan(missing[0]), orphan(missing[1])])).await, ErrorKind::NotFound);
    assert!(error.message().contains(&missing[0].to_string()), "{error}");
    assert_eq!(recorded(&*store).await.len(), 2);
}

/// What 16 clients record at once is all there, each event once. (A21, S3-EDGE-009, S3-PERF-002)
pub async fn concurrent_writers_lose_nothing(h: &dyn AnyHarness) {
    let shared = [open(h).await, open(h).await];
    let batches: Vec<_> = (0..64).map(|number| chained(3, &format!("c-{}", number % 5))).collect();
    let writers = (0..16).map(|writer| {
        let (store, mine) = (&shared[writer % 2], batches.iter().skip(writer).step_by(16));
        async move {
            for batch in mine {
                assert_eq!(create(&**store, batch).await.stored, 3);
            }
        }
    });
    join_all(writers).await;
    let stored = ids(&recorded(&*shared[0]).await);
    assert_eq!(stored.len(), 64 * 3);
    for batch in &batches {
        let at = stored.iter().position(|id| *id == batch[0].event_id).must("the batch");
        assert_eq!(stored[at..at + 3], new_ids(batch), "a batch is mixed with another");
    }
}

/// Of several clients who record one id at once with equal content each succeeds and one record is stored; with other
/// content one succeeds and the others are told. (A51, S3-AUD-027, X-EDGE-061)
pub async fn same_id_at_once_is_stored_once(h: &dyn AnyHarness) {
    let stores = [open(h).await, open(h).await];
    let same = full(1);
    let answers =
        join_all((0..8).map(|number| create(&*stores[number % 2], std::slice::from_ref(&same)))).await;
    assert_eq!(answers.iter().map(|answer| answer.stored).sum::<usize>(), 1);
    assert_eq!(answers.iter().map(|answer| answer.repeated).sum::<usize>(), 7);
    let id = Uuid::now_v7();
    let different = |number: usize| batch(&[NewAuditEvent { event_id: id, ..event(number) }]);
    let answers = join_all((0..8).map(|number| stores[number % 2].create(different(number)))).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for answer in lost {
        nothing_stored(&refused(answer, ErrorKind::AlreadyExists), Some(id));
    }
    assert_eq!(recorded(&*stores[0]).await.len(), 2);
}

/// A create that failed surfaces its error and counts as not stored: the caller decides whether to go on without it, and
/// the same ids can be recorded later. (A23)
pub async fn failed_create_counts_as_not_stored(h: &dyn AnyHarness) {
    let store = open(h).await;
    let parent = event(1);
    let child = NewAuditEvent { parent_event_id: Some(parent.event_id), ..event(2) };
    for _ in 0..2 {
        refused(store.create(batch(std::slice::from_ref(&child))).await, ErrorKind::NotFound);
        assert_eq!(get(&*store, child.event_id).await, None);
    }
    assert_eq!(create(&*store, &[parent, child.clone()]).await, Created { stored: 2, repeated: 0 });
    assert!(get(&*store, child.event_id).await.is_some());
}

/// A record and a row of the user's own table in one transaction are stored both or neither. (A22)
pub async fn record_and_business_write_are_stored_together(h: &dyn AnyHarness) {
    let store = open(h).await;
    let door = h.faults();
    let new = chained(2, "c-1");
    let Some((committed, rows)) =
        or_note("a transaction of the user's own", door.business_write(batch(&new), true).await)
    else {
        assert!(!store.capabilities().transactions.is_yes() || h.faults().row_counts().await.is_err());
        create(&*store, &new).await;
        return assert_eq!(recorded(&*store).await.len(), 2);
    };
    assert!(store.capabilities().transactions.is_yes(), "transactions work, but are not declared");
    committed.must("commit");
    assert_eq!((rows, ids(&recorded(&*store).await)), (1, new_ids(&new)));
    let (rolled_back, rows) = door.business_write(batch(&[event(3)]), false).await.must("the door");
    rolled_back.must("roll back");
    assert_eq!((rows, recorded(&*store).await.len()), (1, 2), "what was rolled back is not there");
    let other = NewAuditEvent { event_id: new[0].event_id, ..event(4) };
    let (failed, rows) = door.business_write(batch(&[event(5), other]), true).await.must("the door");
    refused(failed, ErrorKind::AlreadyExists);
    assert_eq!(
        (rows, recorded(&*store).await.len()),
        (1, 2),
        "a refused record takes the business write with it"
    );
}
