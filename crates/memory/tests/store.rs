//! What the handles add to the log: sharing, closing, subscriptions.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::time::Duration;

use changeover_core::audit::{ActorType, Create, EventContext, NewAuditEvent, Outcome, VerifyChain};
use changeover_core::backend::Family;
use changeover_core::events::{Append, Expected, HeadOf, NewEvent, StreamId, Subscribe};
use changeover_core::{
    Applied, Backend, BackendSettings, ErrorKind, EventStore, Json, Message, ModuleName, ModuleScope,
    OpenBackend, TenantId, Text, Uuid,
};
use changeover_memory::Memory;

fn scope() -> ModuleScope {
    ModuleScope { module: ModuleName::new("events").unwrap(), namespace: None }
}

async fn opened(memory: &Memory) -> (Arc<dyn OpenBackend>, Arc<dyn EventStore>) {
    let backend = memory.open(&BackendSettings::new("main")).await.unwrap();
    let store = backend.events(&scope(), &TenantId::new("acme").unwrap()).await.unwrap();
    (backend, store)
}

fn one_event() -> Append {
    let event = NewEvent::new("Opened", Json::empty()).unwrap();
    Append::one(StreamId::new("Order", Uuid::new_v4()).unwrap(), Expected::NoStream, vec![event])
}

// E117: the handle is closed, others are not; the backend closes all of its own.
#[tokio::test]
async fn closing_ends_a_handle_or_a_backend_and_keeps_the_records() {
    let memory = Memory::new();
    let (backend, store) = opened(&memory).await;
    let stored = store.append(one_event()).await.unwrap();
    store.close().await.unwrap();
    store.close().await.unwrap();
    let error = store.append(one_event()).await.unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Unavailable, Some(Applied::No)));
    let again = backend.events(&scope(), &TenantId::new("acme").unwrap()).await.unwrap();
    assert_eq!(again.head(HeadOf::Log).await.unwrap().checkpoint, Some(stored.checkpoint));
    backend.close().await;
    assert_eq!(again.ready().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let (_, reopened) = opened(&memory).await;
    assert_eq!(reopened.head(HeadOf::Log).await.unwrap().checkpoint, Some(stored.checkpoint));
}

// E68, E69: catch-up, then live, also for an append of another client.
#[tokio::test]
async fn a_subscription_goes_from_catch_up_to_live() {
    let memory = Memory::new();
    let (_, reader) = opened(&memory).await;
    let (_, writer) = opened(&memory).await;
    let mut written = vec![writer.append(one_event()).await.unwrap().checkpoint];
    let mut subscription = reader.subscribe(Subscribe::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let next = tokio::time::timeout(Duration::from_secs(5), subscription.next());
        match next.await.expect("a message in time").expect("no end").unwrap() {
            Message::Event(event) => seen.push(event.checkpoint),
            Message::Progress { caught_up: true, .. } => {
                written.push(writer.append(one_event()).await.unwrap().checkpoint);
            }
            Message::Progress { .. } => {}
        }
    }
    assert_eq!(seen, written[..3]);
}

// E123: what is not offered refuses.
#[tokio::test]
async fn migrations_are_unsupported() {
    let (backend, _) = opened(&Memory::new()).await;
    let unsupported = Some(ErrorKind::Unsupported);
    assert_eq!(backend.migrations(&scope(), Family::Events).err().map(|e| e.kind()), unsupported);
}

fn audit_events(count: usize) -> Create {
    let event = || {
        let (outcome, actor) = (Outcome::Success, ActorType::User);
        let new =
            NewAuditEvent::new("order.placed", "gateway", outcome, "shop", actor, "order", "o-1").unwrap();
        new.within(EventContext { correlation_id: Some("c-1".into()), ..EventContext::default() }).unwrap()
    };
    Create { events: (0..count).map(|_| event()).collect() }
}

// A24, A73: without the setting nothing is chained and verifying is refused; what was recorded so is found out by who
// chains.
#[tokio::test]
async fn audit_records_are_chained_unless_the_setting_says_otherwise() {
    let memory = Memory::new();
    let tenant = TenantId::new("acme").unwrap();
    let verify = || VerifyChain { correlation_id: Text::new("correlation_id", "c-1").unwrap() };
    let (chained, _) = opened(&memory).await;
    let chained = chained.audit(&scope(), &tenant).await.unwrap();
    chained.create(audit_events(2)).await.unwrap();
    assert_eq!(chained.verify(verify()).await.unwrap().broken, None);

    let settings = BackendSettings::new("main").with("hash_chain", "false");
    let plain = memory.open(&settings).await.unwrap().audit(&scope(), &tenant).await.unwrap();
    assert!(!plain.capabilities().hash_chain.is_yes());
    assert_eq!(plain.verify(verify()).await.unwrap_err().kind(), ErrorKind::Unsupported);
    let unlinked = audit_events(1);
    plain.create(unlinked.clone()).await.unwrap();

    let report = chained.verify(verify()).await.unwrap();
    assert_eq!((report.events, report.broken.unwrap().event_id), (3, unlinked.events[0].event_id));
    let bad = BackendSettings::new("main").with("hash_chain", "perhaps");
    assert_eq!(memory.open(&bad).await.err().map(|error| error.kind()), Some(ErrorKind::Config));
}
