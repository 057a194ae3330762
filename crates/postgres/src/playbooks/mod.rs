//! The playbook catalog of one module and tenant.

mod codec;
mod read;
mod search;
mod write;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use changeover_core::backend::Family;
use changeover_core::events::Readiness;
use changeover_core::playbooks::{
    Change, GetPlaybook, ListPlaybooks, Playbook, PlaybookPage, Put, PutReport, Search, SearchResult,
    VersionsOf,
};
use changeover_core::{
    Applied, Capabilities, Error, ErrorKind, ModuleScope, PlaybookCatalog, Result, TenantId,
};
use tokio::sync::OnceCell;

use crate::client::PgClient;
use crate::gate::Gate;
use crate::module::{applied_ids, capabilities, check_schema, facts, no_module, soon, unreadable};
use crate::pool::{Pooled, Pools, closed};
use crate::shipped::plain_schema;
use crate::statements::{ready, schema};

/// The columns of a version, in the order `read.rs` takes them.
const PLAYBOOK: &str = "playbook_id, version, name, description, owner, maintainer, content, content_hash, labels, embedding, \
    status, is_latest_version, previous_version, version_notes, change_summary, approved_by, approved_at, \
    (expected_success_rate * 1000)::integer, expected_duration_seconds, created_at, created_by, disabled_at, disabled_by, \
    disabled_reason, deprecation_notice, (actual_success_rate * 1000)::integer, total_executions, successful_executions, \
    updated_at, updated_by";

/// What a catalog asks of the database.
struct Statements {
    put: Arc<str>,
    change: Arc<str>,
    get: Arc<str>,
    list: Arc<str>,
    versions: Arc<str>,
    is_known: Arc<str>,
    scan: Arc<str>,
    candidates: Arc<str>,
    found: Arc<str>,
    ready: Arc<str>,
}

impl Statements {
    fn of(scope: &ModuleScope, prepared: bool) -> Self {
        let schema = schema(scope, plain_schema(Family::Playbooks));
        // For a type that it does not know the driver prepares a statement of its own, also when ours are not prepared.
        let embedding = if prepared { "embedding" } else { "embedding::pg_catalog.float4[]" };
        let playbook = PLAYBOOK.replacen("embedding", embedding, 1);
        let candidate = format!("playbook_id, version, {embedding}, name, description, labels");
        Self {
            put: format!(
                "SELECT stored, repeated, taken FROM {schema}.put($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
                    $14, $15, $16, $17, $18, $19, $20, $21, $22)"
            )
            .into(),
            change: format!("SELECT {playbook} FROM {schema}.change($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)").into(),
            get: format!("SELECT {playbook} FROM {schema}.get($1, $2, $3, $4)").into(),
            list: format!("SELECT {playbook} FROM {schema}.list($1, $2, $3, $4, $5)").into(),
            versions: format!("SELECT {playbook} FROM {schema}.versions($1, $2, $3, $4)").into(),
            is_known: format!("SELECT {schema}.is_known($1, $2)").into(),
            scan: format!("SELECT {candidate} FROM {schema}.scan($1, $2, $3, $4, $5)").into(),
            candidates: format!("SELECT {candidate}, by_index FROM {schema}.candidates($1, $2, $3, $4, $5, $6)").into(),
            found: format!("SELECT {playbook} FROM {schema}.found($1, $2, $3)").into(),
            ready: ready(Family::Playbooks),
        }
    }
}

/// A module's catalogue as one tenant sees it.
struct Catalog {
    scope: ModuleScope,
    tenant: TenantId,
    statements: Statements,
    pools: Arc<Pools>,
    gate: Gate,
    checked: OnceCell<()>,
    /// Until when so many rows are taken to be active and latest that they need not be counted.
    many_until: Mutex<Option<Instant>>,
}

impl Catalog {
    /// A connection to a database with the schema this program needs, which is looked at once.
    async fn connection(&self) -> Result<Pooled<PgClient>> {
        let mut conn = self.pools.get().await?;
        let check = async || {
            let module = self.scope.module.as_str();
            let rows = conn.read(&self.statements.ready, &[&module]).await.map_err(|error| {
                // Without any schema of ours there is no table to ask.
                if error.kind() == ErrorKind::SchemaMismatch { no_module(module) } else { error }
            })?;
            let applied = applied_ids(rows.first().ok_or_else(unreadable)?)?;
            check_schema(Family::Playbooks, module, applied.as_deref()).map(drop)
        };
        self.checked.get_or_try_init(check).await?;
        Ok(conn)
    }

    async fn ready(&self) -> Result<Readiness> {
        let mut conn = self.pools.get().await?;
        let mut notes = facts(&mut conn, &self.scope, Family::Playbooks).await?;
        notes.push(self.pools.note());
        Ok(Readiness { notes })
    }
}

/// A handle.
pub(crate) struct PostgresPlaybooks {
    catalog: Arc<Catalog>,
    chained: bool,
    closed: AtomicBool,
}

impl PostgresPlaybooks {
    pub(crate) fn new(
        scope: &ModuleScope,
        tenant: &TenantId,
        pools: Arc<Pools>,
        chained: bool,
        looks: bool,
    ) -> Self {
        let catalog = Catalog {
            scope: scope.clone(),
            tenant: tenant.clone(),
            statements: Statements::of(scope, pools.around().is_none()),
            pools,
            gate: Gate::new(scope, looks),
            checked: OnceCell::new(),
            many_until: Mutex::new(None),
        };
        Self { catalog: Arc::new(catalog), chained, closed: AtomicBool::new(false) }
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) || self.catalog.pools.is_closed() {
            return Err(closed());
        }
        Ok(())
    }

    /// Runs a write in a task of its own, so that a caller who goes away leaves nothing half done.
    async fn write<T, W>(&self, work: impl FnOnce(Arc<Catalog>) -> W) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        self.check_open().map_err(|error| error.applied(Applied::No))?;
        tokio::spawn(work(Arc::clone(&self.catalog))).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unexpected, "the task that writes has ended").applied(Applied::Unknown))
        })
    }
}

#[async_trait]
impl PlaybookCatalog for PostgresPlaybooks {
    fn capabilities(&self) -> Capabilities {
        capabilities(self.chained)
    }

    async fn put(&self, request: Put) -> Result<PutReport> {
        let put = self.write(|catalog| async move { catalog.put(&request).await });
        put.await.map_err(|error| error.during("playbooks.put"))
    }

    async fn change(&self, request: Change) -> Result<Playbook> {
        let change = self.write(|catalog| async move { catalog.change(&request).await });
        change.await.map_err(|error| error.during("playbooks.change"))
    }

    async fn get(&self, request: GetPlaybook) -> Result<Option<Playbook>> {
        self.check_open()?;
        self.catalog.get(&request).await.map_err(|error| error.during("playbooks.get"))
    }

    async fn list(&self, request: ListPlaybooks) -> Result<PlaybookPage> {
        self.check_open()?;
        self.catalog.list(&request).await.map_err(|error| error.during("playbooks.list"))
    }

    async fn versions(&self, request: VersionsOf) -> Result<PlaybookPage> {
        self.check_open()?;
        self.catalog.versions(&request).await.map_err(|error| error.during("playbooks.versions"))
    }

    async fn search(&self, request: Search) -> Result<SearchResult> {
        self.check_open()?;
        self.catalog.search(&request).await.map_err(|error| error.during("playbooks.search"))
    }

    async fn ready(&self) -> Result<Readiness> {
        self.check_open()?;
        soon(self.catalog.ready(), "playbooks.ready").await
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Relaxed);
        Ok(())
    }
}
