//! The same answers everywhere: random scripts against a model, and the same mistakes met with the same errors.

use changeover_core::audit::{AuditFilter, AuditOrder, AuditQuery, Create, NewAuditEvent};
use changeover_core::{Applied, ErrorKind, Json, Uuid};

use crate::harness::AnyHarness;
use crate::model::audit::{Player, random_script};
use crate::support::audit::{at, chained, create, event, look, open};
use crate::support::{Must, json, limit, refused};

/// Random operations answer as the model does: 10 scripts of 100 steps in memory, 4 where records are durable.
/// (A80, E131, X12)
pub async fn random_operations_answer_as_the_model_does(h: &dyn AnyHarness) {
    let store = open(h).await;
    let mut player = Player::new(&*store);
    let scripts = if store.capabilities().durable.is_yes() { 4 } else { 10 };
    for seed in 0..scripts {
        player.play(seed, &random_script(seed, 100)).await;
    }
}

/// One script meets every outcome that there is, the same on every backend. (A81, X13)
pub async fn one_script_meets_every_outcome(h: &dyn AnyHarness) {
    let store = open(h).await;
    let mut player = Player::new(&*store);
    player.play(13, &random_script(13, 150)).await;
    for outcome in ["stored", "repeated", "invalid", "taken", "orphan", "got", "queried", "counted"] {
        assert!(player.transcript.contains(&outcome), "the script never met {outcome:?}");
    }
}

/// The same cause is the same kind of error on every backend; a refused write says that nothing was stored. (A82, E125)
pub async fn same_cause_is_the_same_kind(h: &dyn AnyHarness) {
    let store = open(h).await;
    let first = event(1);
    create(&*store, std::slice::from_ref(&first)).await;
    let before = look(h, &*store).await;
    let twice = event(2);
    let own = event(3);
    let writes = [
        (vec![], ErrorKind::Invalid),
        (vec![twice.clone(), twice], ErrorKind::Invalid),
        (
            vec![NewAuditEvent { event_data: Json::parse("null").must("JSON"), ..event(4) }],
            ErrorKind::Invalid,
        ),
        (vec![NewAuditEvent { metadata: json("[]"), ..event(4) }], ErrorKind::Invalid),
        (vec![NewAuditEvent { parent_event_id: Some(own.event_id), ..own }], ErrorKind::Invalid),
        (vec![NewAuditEvent { event_timestamp: at("1969-01-01T00:00:00Z"), ..event(4) }], ErrorKind::Invalid),
        (vec![NewAuditEvent { event_id: first.event_id, ..event(5) }], ErrorKind::AlreadyExists),
        (vec![NewAuditEvent { parent_event_id: Some(Uuid::now_v7()), ..event(5) }], ErrorKind::NotFound),
        ((0..=Create::MAX_EVENTS).map(event).collect(), ErrorKind::TooLarge),
    ];
    for (events, kind) in writes {
        let error = refused(store.create(Create { events }).await, kind);
        assert_eq!(error.was_applied(), Some(Applied::No), "{error}");
    }
    let inverted = AuditFilter {
        start: Some(at("2024-01-02T00:00:00Z")),
        end: Some(at("2024-01-01T00:00:00Z")),
        ..AuditFilter::default()
    };
    let error = refused(store.count(inverted.clone()).await, ErrorKind::Invalid);
    assert_eq!(error.was_applied(), None, "a read is not applied: {error}");
    refused(store.query(AuditQuery { filter: inverted, ..AuditQuery::default() }).await, ErrorKind::Invalid);
    assert_eq!(look(h, &*store).await, before);
    create(&*store, &chained(2, "c-1")).await;
    let base = AuditQuery { limit: limit(1), ..AuditQuery::default() };
    let page = store.query(base.clone()).await.must("a page").next;
    refused(store.query(AuditQuery { page, order: AuditOrder::Recorded, ..base }).await, ErrorKind::Invalid);
}
