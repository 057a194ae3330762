//! A migrated database with an audit trail, and events for it.

use std::sync::Arc;

use changeover_core::audit::{
    ActorType, AuditEvent, AuditOrder, AuditQuery, Create, NewAuditEvent, Outcome, VerifyChain,
};
use changeover_core::backend::Family;
use changeover_core::{AuditRepository, Json, Limit, ModuleName, ModuleScope, Text, Timestamp, Uuid};
use changeover_postgres::migrations_key;
use changeover_testkit::{TestDatabase, database};

use super::{open, settings, tenant};

pub fn scope() -> ModuleScope {
    ModuleScope { module: ModuleName::new("audit").unwrap(), namespace: None }
}

/// A database with the modules `events` and `audit`, owned by PostgreSQL.
pub async fn migrated() -> TestDatabase {
    // The months that a migration makes are those of its day.
    let month = &Timestamp::now().to_string()[..7];
    database(&format!("{}-with-audit-{month}", migrations_key()), |url: String| async move {
        let backend = open(settings(&url)).await;
        for (scope, family) in [(super::scope(), Family::Events), (scope(), Family::Audit)] {
            backend.migrations(&scope, family)?.up().await?;
            assert!(backend.claim(&scope).await?);
        }
        backend.close().await;
        Ok::<_, changeover_core::Error>(())
    })
    .await
    .unwrap()
}

pub async fn trail(db: &TestDatabase) -> Arc<dyn AuditRepository> {
    trail_of(db, "acme").await
}

pub async fn trail_of(db: &TestDatabase, name: &str) -> Arc<dyn AuditRepository> {
    open(settings(db.url())).await.audit(&scope(), &tenant(name)).await.unwrap()
}

pub fn text<const MAX: usize>(value: &str) -> Text<MAX> {
    Text::new("text", value).unwrap()
}

pub fn at(value: &str) -> Timestamp {
    Timestamp::parse(value).unwrap()
}

/// An event of now.
pub fn event(number: i64) -> NewAuditEvent {
    let mut event =
        NewAuditEvent::new("placed", "gateway", Outcome::Success, "shop", ActorType::User, "order", "o-1")
            .unwrap();
    event.event_data = Json::parse(&format!("{{\"n\":{number}}}")).unwrap();
    event
}

pub fn event_at(number: i64, time: &str) -> NewAuditEvent {
    NewAuditEvent { event_timestamp: at(time), ..event(number) }
}

pub fn linked(number: i64, correlation: &str) -> NewAuditEvent {
    NewAuditEvent { correlation_id: Some(text(correlation)), ..event(number) }
}

pub fn child(number: i64, parent: Uuid) -> NewAuditEvent {
    NewAuditEvent { parent_event_id: Some(parent), ..event(number) }
}

pub fn one(event: NewAuditEvent) -> Create {
    Create { events: vec![event] }
}

pub fn all(events: &[NewAuditEvent]) -> Create {
    Create { events: events.to_vec() }
}

pub fn chain(correlation: &str) -> VerifyChain {
    VerifyChain { correlation_id: text(correlation) }
}

/// Everything, in recorded order.
pub async fn recorded(trail: &dyn AuditRepository) -> Vec<AuditEvent> {
    let query = AuditQuery {
        order: AuditOrder::Recorded,
        limit: Limit::new(10_000).unwrap(),
        ..AuditQuery::default()
    };
    trail.query(query).await.unwrap().events
}

pub fn numbers(events: &[AuditEvent]) -> Vec<i64> {
    let number = |event: &AuditEvent| {
        let text = event.event.event_data.as_str();
        text.trim_start_matches("{\"n\":").trim_end_matches('}').parse().unwrap()
    };
    events.iter().map(number).collect()
}
