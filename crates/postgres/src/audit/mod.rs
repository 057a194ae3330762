//! The audit repository of one module and tenant.

mod check;
mod create;
mod partitions;
mod read;
mod retain;
mod transaction;
mod verify;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use changeover_core::audit::{
    AuditEvent, AuditFilter, AuditPage, AuditQuery, ChainReport, Create, Created, Retain, Retained,
    VerifyChain,
};
use changeover_core::backend::Family;
use changeover_core::events::Readiness;
use changeover_core::{
    Applied, AuditRepository, Capabilities, Error, ErrorKind, ModuleScope, Result, TenantId, Uuid,
};

pub(crate) use check::check;
pub(crate) use create::Batch;

use crate::client::PgClient;
use crate::gate::Gate;
use crate::lane::{Key, Lane, Writes};
use crate::module::{applied_ids, capabilities, check_schema, facts, soon, unreadable};
use crate::pool::{Pools, closed};
use crate::statements::{Audit, ready};

/// A module's audit trail as one tenant sees it; shared by the handles of that tenant.
pub(crate) struct Trail {
    pub scope: ModuleScope,
    pub tenant: TenantId,
    pub statements: Audit,
    /// Whether records are chained by hash.
    pub chained: bool,
    pools: Arc<Pools>,
    gate: Gate,
    checked: AtomicBool,
}

impl Trail {
    pub(crate) fn new(
        scope: &ModuleScope,
        tenant: &TenantId,
        pools: Arc<Pools>,
        chained: bool,
        looks: bool,
    ) -> Self {
        Self {
            scope: scope.clone(),
            tenant: tenant.clone(),
            statements: Audit::of(scope),
            chained,
            pools,
            gate: Gate::new(scope, looks),
            checked: AtomicBool::new(false),
        }
    }

    /// Whether the schema is the one of this program.
    pub(crate) async fn check(&self) -> Result<()> {
        self.conn().await.map(drop)
    }

    /// A connection to a schema of this program, which is asked for once.
    async fn conn(&self) -> Result<crate::pool::Pooled<PgClient>> {
        let mut conn = self.pools.get().await?;
        if !self.is_checked() {
            let rows = conn.read(&ready(Family::Audit), &[&self.scope.module.as_str()]).await?;
            self.checked_as(applied_ids(rows.first().ok_or_else(unreadable)?)?.as_deref())?;
        }
        Ok(conn)
    }

    /// Whether the schema was found to be the one of this program.
    fn is_checked(&self) -> bool {
        self.checked.load(Ordering::Relaxed)
    }

    /// Judges the applied migrations; those that are right are not asked for again.
    fn checked_as(&self, applied: Option<&str>) -> Result<()> {
        check_schema(Family::Audit, self.scope.module.as_str(), applied)?;
        self.checked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The names of tables and schemas differ by module, the columns do not.
    fn corrupt(id: Uuid, column: &'static str) -> impl Fn(Error) -> Error {
        move |error| Error::corrupt("audit_events", id.to_string(), column, error.message())
    }

    async fn ready(&self) -> Result<Readiness> {
        let mut conn = self.pools.get().await?;
        let mut notes = facts(&mut conn, &self.scope, Family::Audit).await?;
        let rows = conn.read(&self.statements.missing_months, &[]).await?;
        let missing: Vec<String> =
            rows.first().ok_or_else(unreadable)?.try_get(0).map_err(|_| unreadable())?;
        let partitions = if missing.is_empty() {
            "partitions are there for this month and the next three".to_owned()
        } else {
            format!(
                "no partition yet for {}: made when first written to; run create_audit_events_partition() monthly",
                missing.join(", ")
            )
        };
        notes.extend([partitions, self.pools.note()]);
        Ok(Readiness { notes })
    }
}

impl Writes for Trail {
    type Request = Batch;
    type Answer = Created;

    fn size(batch: &Batch) -> (usize, usize) {
        let bytes = |event: &changeover_core::audit::NewAuditEvent| {
            event.event_data.as_str().len() + event.metadata.as_str().len()
        };
        (batch.events().len(), batch.events().iter().map(bytes).sum())
    }

    /// An event and one that names it as its parent are stored one after the other.
    fn keys(batch: &Batch, hasher: &RandomState) -> Vec<Key> {
        let events = batch.events();
        let ids = events.iter().map(|event| Key { hash: hasher.hash_one(event.event_id), refers: false });
        let parents = events.iter().filter_map(|event| event.parent_event_id);
        ids.chain(parents.map(|id| Key { hash: hasher.hash_one(id), refers: true })).collect()
    }

    async fn store(&self, batches: &[&Batch]) -> Result<Vec<Result<Created>>> {
        self.create_all(batches).await
    }

    fn stored(&self, _: &[Result<Created>]) {}
}

/// The trails that are in use, each with what its handles share.
pub(crate) struct Trails {
    pools: Arc<Pools>,
    chained: bool,
    looks: bool,
    open: Mutex<HashMap<(ModuleScope, TenantId), Shared>>,
}

type Shared = (Weak<Trail>, Weak<Lane<Trail>>);

impl Trails {
    pub(crate) fn new(pools: &Arc<Pools>, chained: bool, looks: bool) -> Self {
        Self { pools: Arc::clone(pools), chained, looks, open: Mutex::default() }
    }

    pub(crate) fn get(&self, scope: &ModuleScope, tenant: &TenantId) -> (Arc<Trail>, Arc<Lane<Trail>>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (scope.clone(), tenant.clone());
        if let Some((trail, lane)) =
            open.get(&key).and_then(|(trail, lane)| Some((trail.upgrade()?, lane.upgrade()?)))
        {
            return (trail, lane);
        }
        open.retain(|_, (trail, _)| trail.strong_count() > 0);
        let trail = Arc::new(Trail::new(scope, tenant, Arc::clone(&self.pools), self.chained, self.looks));
        let lane = Arc::new(Lane::new(Arc::clone(&trail)));
        open.insert(key, (Arc::downgrade(&trail), Arc::downgrade(&lane)));
        (trail, lane)
    }
}

/// A handle.
pub(crate) struct PostgresAudit {
    trail: Arc<Trail>,
    /// `None`: every create commits on its own.
    lane: Option<Arc<Lane<Trail>>>,
    closed: AtomicBool,
}

impl PostgresAudit {
    pub(crate) fn new(trail: Arc<Trail>, lane: Option<Arc<Lane<Trail>>>) -> Self {
        Self { trail, lane, closed: AtomicBool::new(false) }
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) || self.trail.pools.is_closed() {
            Err(closed())
        } else {
            Ok(())
        }
    }

    async fn create_one(&self, request: Create) -> Result<Created> {
        let checked = self.check_open().and_then(|()| Batch::new(request));
        let batch = checked.map_err(|error| error.applied(Applied::No))?;
        if let Some(lane) = &self.lane {
            return lane.write(batch).await;
        }
        let trail = Arc::clone(&self.trail);
        in_task(async move { trail.create_all(&[&batch]).await?.pop().unwrap_or_else(|| Err(unreadable())) })
            .await
    }
}

/// Writes run in a task of their own, so that a caller who goes away leaves nothing half done.
async fn in_task<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Unexpected, "the task that writes has ended").applied(Applied::Unknown))
    })
}

#[async_trait]
impl AuditRepository for PostgresAudit {
    fn capabilities(&self) -> Capabilities {
        capabilities(self.trail.chained)
    }

    async fn create(&self, request: Create) -> Result<Created> {
        self.create_one(request).await.map_err(|error| error.during("audit.create"))
    }

    async fn get(&self, event_id: Uuid) -> Result<Option<AuditEvent>> {
        self.check_open()?;
        self.trail.get(event_id).await.map_err(|error| error.during("audit.get"))
    }

    async fn query(&self, request: AuditQuery) -> Result<AuditPage> {
        self.check_open()?;
        self.trail.query(&request).await.map_err(|error| error.during("audit.query"))
    }

    async fn count(&self, filter: AuditFilter) -> Result<u64> {
        self.check_open()?;
        self.trail.count(&filter).await.map_err(|error| error.during("audit.count"))
    }

    async fn verify(&self, request: VerifyChain) -> Result<ChainReport> {
        self.check_open()?;
        self.capabilities()
            .hash_chain
            .require("a hash chain")
            .map_err(|error| error.during("audit.verify"))?;
        self.trail.verify(&request).await.map_err(|error| error.during("audit.verify"))
    }

    async fn retain(&self, request: Retain) -> Result<Retained> {
        let checked = self.check_open().and_then(|()| request.validate());
        checked.map_err(|error| error.applied(Applied::No).during("audit.retain"))?;
        let trail = Arc::clone(&self.trail);
        let retained = in_task(async move { trail.retain(&request).await }).await;
        retained.map_err(|error| error.during("audit.retain"))
    }

    async fn ready(&self) -> Result<Readiness> {
        self.check_open()?;
        soon(self.trail.ready(), "audit.ready").await
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Relaxed);
        Ok(())
    }
}
