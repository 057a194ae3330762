//! A migrated database for each test, and clients on it.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

pub mod audit;

use std::sync::Arc;

use changeover_core::backend::Family;
use changeover_core::events::{Append, Expected, NewEvent, StreamId};
use changeover_core::{
    Backend, BackendSettings, EventStore, Json, ModuleName, ModuleScope, Namespace, OpenBackend, TenantId,
    Uuid,
};
use changeover_postgres::{Postgres, migrations_key};
use changeover_testkit::{TestDatabase, database};

pub fn scope() -> ModuleScope {
    ModuleScope { module: ModuleName::new("events").unwrap(), namespace: None }
}

pub fn namespaced(name: &str) -> ModuleScope {
    ModuleScope { module: ModuleName::new(name).unwrap(), namespace: Some(Namespace::new(name).unwrap()) }
}

pub fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

pub fn settings(url: &str) -> BackendSettings {
    BackendSettings::new("main").with("url", url).with("pool.min_idle", "0")
}

pub async fn open(settings: BackendSettings) -> Arc<dyn OpenBackend> {
    Postgres.open(&settings).await.unwrap()
}

/// A database with the module `events`, owned by PostgreSQL.
pub async fn migrated() -> TestDatabase {
    database(&migrations_key(), |url: String| async move {
        let backend = Postgres.open(&settings(&url)).await?;
        backend.migrations(&scope(), Family::Events)?.up().await?;
        assert!(backend.claim(&scope()).await?);
        backend.close().await;
        Ok::<_, changeover_core::Error>(())
    })
    .await
    .unwrap()
}

pub async fn store(db: &TestDatabase) -> Arc<dyn EventStore> {
    open(settings(db.url())).await.events(&scope(), &tenant("acme")).await.unwrap()
}

pub fn stream(name: &str) -> StreamId {
    StreamId::new(name, Uuid::now_v7()).unwrap()
}

pub fn event(number: i64) -> NewEvent {
    NewEvent::new("Counted", Json::parse(&format!("{{\"n\":{number}}}")).unwrap()).unwrap()
}

pub fn one(stream: &StreamId, expected: Expected, number: i64) -> Append {
    Append::one(stream.clone(), expected, vec![event(number)])
}
