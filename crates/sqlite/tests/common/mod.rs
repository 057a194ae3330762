//! A file for each test, native or as legacy programs made it, and the shortest way to use it.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

pub mod cutover;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use changeover_core::audit::{
    ActorType, AuditEvent, AuditQuery, AuditRepository, Create, NewAuditEvent, Outcome,
};
use changeover_core::backend::{Family, Migrations};
use changeover_core::events::{Append, EventStore, Expected, NewEvent, ReadAll, RecordedEvent, StreamId};
use changeover_core::playbooks::PlaybookCatalog;
use changeover_core::{
    BackendSettings, Json, Limit, ModuleName, ModuleScope, OpenBackend, TenantId, Text, Timestamp, Uuid,
};
use changeover_sqlite::OpenSqlite;
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use tempfile::TempDir;

/// The schema of legacy programs, as they made it.
pub const LEGACY: &str = include_str!("../legacy.sql");

/// A folder with a database file in it.
pub struct File {
    folder: TempDir,
}

impl File {
    /// No file yet.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A file made by legacy programs.
    pub fn legacy() -> Self {
        let file = Self::new();
        file.raw(LEGACY);
        file
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A connection of another program.
    pub fn other_program(&self) -> SqliteConnection {
        let mut conn = SqliteConnection::establish(&self.path().to_string_lossy()).unwrap();
        conn.batch_execute("PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = OFF").unwrap();
        conn
    }

    /// What another program does to the file.
    pub fn raw(&self, sql: &str) {
        self.other_program().batch_execute(sql).unwrap();
    }

    pub fn settings(&self) -> BackendSettings {
        BackendSettings::new("legacy").with("path", self.path().to_string_lossy())
    }

    pub async fn open(&self) -> OpenSqlite {
        OpenSqlite::open(&self.settings()).await.unwrap()
    }

    /// Opened without its schema being touched.
    pub async fn open_unmigrated(&self) -> OpenSqlite {
        OpenSqlite::open(&self.settings().with("migrate_on_start", "false")).await.unwrap()
    }

    pub async fn store(&self) -> Arc<dyn EventStore> {
        store(&self.open().await).await
    }
}

pub fn scope() -> ModuleScope {
    ModuleScope { module: ModuleName::new("events").unwrap(), namespace: None }
}

/// The scope of a built-in module.
pub fn module(name: &str) -> ModuleScope {
    ModuleScope { module: ModuleName::new(name).unwrap(), namespace: None }
}

pub async fn audit(open: &OpenSqlite) -> Arc<dyn AuditRepository> {
    open.audit(&module("audit"), &tenant()).await.unwrap()
}

pub async fn playbooks(open: &OpenSqlite) -> Arc<dyn PlaybookCatalog> {
    open.playbooks(&module("playbooks"), &tenant()).await.unwrap()
}

/// An audit event with everything that it needs.
pub fn audit_event(at: &str) -> NewAuditEvent {
    let text = |value: &str| Text::new("field", value).unwrap();
    NewAuditEvent {
        event_id: Uuid::now_v7(),
        event_type: Text::new("event_type", "workflow.started").unwrap(),
        event_category: Text::new("event_category", "workflow").unwrap(),
        event_outcome: Outcome::Success,
        event_timestamp: Timestamp::parse(at).unwrap(),
        service_name: Text::new("service_name", "svc").unwrap(),
        service_version: None,
        actor_type: ActorType::Service,
        actor_id: None,
        actor_name: None,
        resource_type: Text::new("resource_type", "Pod").unwrap(),
        resource_id: text("pod-1"),
        resource_name: None,
        event_data: Json::parse(r#"{"a":{"b":[1,2.50,null]}}"#).unwrap(),
        correlation_id: None,
        parent_event_id: None,
        trace_id: None,
        span_id: None,
        metadata: Json::empty(),
    }
}

pub fn correlated(at: &str, correlation: &str) -> NewAuditEvent {
    let correlation_id = Text::new("correlation_id", correlation).ok();
    NewAuditEvent { correlation_id, ..audit_event(at) }
}

pub fn create(events: &[NewAuditEvent]) -> Create {
    Create { events: events.to_vec() }
}

/// All events of a query, in pages of `limit`.
pub async fn pages(audit: &dyn AuditRepository, query: &AuditQuery, limit: i64) -> Vec<AuditEvent> {
    let mut query = AuditQuery { limit: Limit::new(limit).unwrap(), ..query.clone() };
    let mut all = Vec::new();
    loop {
        let page = audit.query(query.clone()).await.unwrap();
        all.extend(page.events);
        match page.next {
            Some(next) => (query.page, query.offset) = (Some(next), 0),
            None => return all,
        }
    }
}

pub fn tenant() -> TenantId {
    TenantId::new("default").unwrap()
}

pub async fn store(open: &OpenSqlite) -> Arc<dyn EventStore> {
    open.events(&scope(), &tenant()).await.unwrap()
}

pub fn migrations(open: &OpenSqlite) -> Arc<dyn Migrations> {
    open.migrations(&scope(), Family::Events).unwrap()
}

pub fn stream() -> StreamId {
    StreamId::new("Order", Uuid::now_v7()).unwrap()
}

pub fn event(event_type: &str) -> NewEvent {
    NewEvent::new(event_type, Json::parse(r#"{"total": 1.10}"#).unwrap()).unwrap()
}

pub fn one(stream: &StreamId, expected: Expected, count: usize) -> Append {
    Append::one(stream.clone(), expected, (0..count).map(|_| event("Placed")).collect())
}

/// Everything in the log.
pub async fn everything(store: &dyn EventStore) -> Vec<RecordedEvent> {
    let mut all = Vec::new();
    let mut request = ReadAll::default();
    loop {
        let page = store.read_all(request.clone()).await.unwrap();
        all.extend(page.events);
        if page.caught_up {
            return all;
        }
        request.after = Some(page.checkpoint);
    }
}

/// The one text that a query of another program gives.
pub fn text(file: &File, sql: &str) -> String {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Text)]
        value: String,
    }
    let sql = format!("SELECT value FROM (WITH answer (value) AS ({sql}) SELECT value FROM answer)");
    let rows: Vec<Row> =
        diesel::RunQueryDsl::load(diesel::sql_query(sql), &mut file.other_program()).unwrap();
    rows.into_iter().next().unwrap().value
}
