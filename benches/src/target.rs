//! Stores to measure, opened through the facade as a service would.

use std::path::Path;
use std::sync::Arc;

use changeover::events::{Append, Expected, NewEvent, StreamId};
use changeover::{
    AuditRepository, Db, EventStore, Json, PersistenceOptions, PlaybookCatalog, Uuid, connect_with, registry,
};
use changeover_testkit::TestDatabase;

use crate::AnyError;

/// A store and the backend behind it.
pub struct Target {
    /// The store of the module `events`.
    pub store: Arc<dyn EventStore>,
    db: Db,
}

impl Target {
    async fn open(options: PersistenceOptions) -> Result<Self, AnyError> {
        let db = connect_with(options.with("persistence.default", "m"), registry()).await?;
        let store = db.events("events")?.store().await?;
        Ok(Self { store, db })
    }

    /// The audit trail.
    pub async fn audit(&self) -> Result<Arc<dyn AuditRepository>, AnyError> {
        Ok(self.db.audit("audit")?.repository().await?)
    }

    /// The playbooks.
    pub async fn playbooks(&self) -> Result<Arc<dyn PlaybookCatalog>, AnyError> {
        Ok(self.db.playbooks("playbooks")?.catalog().await?)
    }

    /// Stores in the process.
    pub async fn memory() -> Result<Self, AnyError> {
        Self::open(PersistenceOptions::new().with("backends.m.kind", "memory")).await
    }

    /// A store on PostgreSQL.
    pub async fn postgres(url: &str, shared_commits: bool) -> Result<Self, AnyError> {
        let options = PersistenceOptions::new()
            .with("backends.m.kind", "postgres")
            .with("backends.m.url", url)
            .with("backends.m.pool.max_size", "32")
            .with("backends.m.migrate_on_start", "true")
            .with("backends.m.shared_commits", shared_commits.to_string());
        Self::open(options).await
    }

    /// A store on PostgreSQL through a pooler; `direct` leads past it.
    pub async fn pooled(url: &str, direct: &str, shared_commits: bool) -> Result<Self, AnyError> {
        let options = PersistenceOptions::new()
            .with("backends.m.kind", "postgres")
            .with("backends.m.url", url)
            .with("backends.m.pooler", "transaction")
            .with("backends.m.migrate_url", direct)
            .with("backends.m.pool.max_size", "32")
            .with("backends.m.shared_commits", shared_commits.to_string());
        Self::open(options).await
    }

    /// A store in a SQLite file, `synchronous=FULL`.
    pub async fn sqlite(path: &Path, shared_commits: bool) -> Result<Self, AnyError> {
        let options = PersistenceOptions::new()
            .with("backends.m.kind", "sqlite")
            .with("backends.m.path", path.display().to_string())
            .with("backends.m.shared_commits", shared_commits.to_string());
        Self::open(options).await
    }
}

/// A database on the server of the testkit, with the durability that figures are about.
pub async fn durable_database() -> Result<TestDatabase, AnyError> {
    let server = changeover_testkit::shared().await?;
    println!("PostgreSQL {} ({} rung)", server.version(), server.rung().name());
    let admin = server.connect("postgres").await?;
    admin.batch_execute("ALTER SYSTEM SET fsync = on").await?;
    admin.batch_execute("ALTER SYSTEM SET synchronous_commit = on").await?;
    admin.batch_execute("ALTER SYSTEM SET full_page_writes = on").await?;
    admin.batch_execute("SELECT pg_reload_conf()").await?;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let found: String = admin.query_one(&format!("SHOW {setting}"), &[]).await?.get(0);
        println!("  {setting} = {found}");
        if found != "on" {
            return Err(format!("{setting} is {found}: figures without durability say nothing").into());
        }
    }
    Ok(TestDatabase::empty().await?)
}

/// An append of `batch` events of about 300 bytes to a new stream.
pub fn new_stream(batch: usize) -> Result<Append, AnyError> {
    let stream = StreamId::new("Order", Uuid::now_v7())?;
    Ok(Append::one(stream, Expected::NoStream, events(batch)?))
}

/// Events of about 300 bytes, no two alike.
pub fn events(count: usize) -> Result<Vec<NewEvent>, AnyError> {
    let mut events = Vec::with_capacity(count);
    for _ in 0..count {
        let text = format!(r#"{{"n":"{}","pad":"{}"}}"#, Uuid::new_v4(), "x".repeat(240));
        events.push(NewEvent::new("OrderPlaced", Json::parse(&text)?)?);
    }
    Ok(events)
}
