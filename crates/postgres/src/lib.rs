//! The PostgreSQL backend: modules whose records several processes share.
//!
//! ```no_run
//! use changeover_core::{Backend, BackendSettings, ModuleName, ModuleScope, TenantId};
//! use changeover_core::backend::Family;
//!
//! # async fn example() -> changeover_core::Result<()> {
//! let settings = BackendSettings::new("main").with("url", "postgres://app@localhost/app");
//! let backend = changeover_postgres::Postgres.open(&settings).await?;
//! let module = ModuleScope { module: ModuleName::new("events")?, namespace: None };
//! backend.migrations(&module, Family::Events)?.up().await?;
//! assert!(backend.claim(&module).await?);
//! let events = backend.events(&module, &TenantId::new("acme")?).await?;
//! # Ok(())
//! # }
//! ```
//!
//! All writes and reads go through functions of the schema (see `migrations/`), one round trip each; the tenant is an
//! argument of every one, and row security holds it there.

mod audit;
mod classify;
mod client;
mod codec;
mod connect;
mod cutover;
mod events;
mod gate;
mod lane;
mod migrate;
mod module;
mod params;
mod playbooks;
mod pool;
mod pooler;
mod settings;
mod shipped;
mod statements;
mod tls;
mod transaction;
mod url;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use changeover_core::backend::{Check, Family, Migrations};
use changeover_core::cutover::CutoverSide;
use changeover_core::{
    AuditRepository, Backend, BackendSettings, EventStore, ModuleScope, OpenBackend, PlaybookCatalog, Result,
    SettingKey, TenantId,
};
use tokio::sync::Mutex;

use audit::{PostgresAudit, Trails};
use events::{Log, PostgresEvents, Wakes};
use lane::Lane;
use migrate::PostgresMigrations;
use module::owner_by;
use playbooks::PostgresPlaybooks;
use pool::Pools;
use settings::{KEYS, Pooler, Settings};
pub use shipped::{init_scripts, migrations_key};
pub use transaction::Transaction;

/// The kind `postgres`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Postgres;

#[async_trait]
impl Backend for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn keys(&self) -> &'static [SettingKey] {
        KEYS
    }

    async fn open(&self, settings: &BackendSettings) -> Result<Arc<dyn OpenBackend>> {
        let opened = OpenPostgres::open(settings).await.map_err(|error| error.during("open"))?;
        Ok(Arc::new(opened))
    }

    fn elsewhere(&self, settings: &BackendSettings, place: &str) -> Result<BackendSettings> {
        settings::elsewhere(settings, place)
    }
}

/// An opened PostgreSQL database with its pool. What the traits of the core do not offer is [`OpenPostgres::begin`]; a
/// `dyn OpenBackend` is downcast to this type for it.
pub struct OpenPostgres {
    settings: Arc<Settings>,
    pools: Arc<Pools>,
    wakes: Arc<Wakes>,
    /// What the handles of one module and tenant share, for as long as there is one.
    shared: Mutex<HashMap<(ModuleScope, TenantId), Shared>>,
    trails: Arc<Trails>,
    /// Modules that were migrated at start.
    migrated: Mutex<HashSet<(ModuleScope, Family)>>,
    /// Whether reads look at who owns the module.
    looks: bool,
}

type Shared = (Weak<Log>, Weak<Lane<Log>>);

impl std::fmt::Debug for OpenPostgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenPostgres").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

impl OpenPostgres {
    async fn open(given: &BackendSettings) -> Result<Self> {
        let settings = Arc::new(Settings::read(given)?);
        let connector = Arc::new(connect::Connector::new(&settings)?);
        let pools = Pools::new(&settings, &connector);
        // A server that cannot be reached is told of now and not at the first use.
        drop(pools.get().await?);
        let listener = connect::Connector::for_listening(&settings)?.map(Arc::new);
        if let (Pooler::Transaction, Some(listener)) = (settings.pooler, &listener) {
            // It may be deaf without failing.
            drop(listener.client().await?);
        }
        let wakes = Wakes::new(Arc::clone(&pools), listener);
        Ok(Self::of(settings, pools, wakes, true))
    }

    fn of(settings: Arc<Settings>, pools: Arc<Pools>, wakes: Arc<Wakes>, looks: bool) -> Self {
        let trails = Arc::new(Trails::new(&pools, settings.hash_chain, looks));
        Self { settings, pools, wakes, shared: Mutex::default(), trails, migrated: Mutex::default(), looks }
    }

    /// Begins a transaction for a module and tenant: the user's own tables, the module's events and audit events, together.
    pub async fn begin(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Transaction> {
        let (log, _) = self.shared(scope, tenant).await;
        Transaction::begin(&self.pools, log, Arc::clone(&self.trails))
            .await
            .map_err(|error| error.during("transaction.begin"))
    }

    /// What stands between, for `doctor`.
    fn pooler(&self) -> String {
        let said = match (self.settings.pooler, &self.settings.listen_target) {
            (Pooler::None, _) => "none",
            (Pooler::Session, _) => "gives each client a connection of its own, as the settings say",
            (Pooler::Transaction, Some(_)) => {
                "every statement is a transaction of its own; word of appends comes past it, by listen_url"
            }
            (Pooler::Transaction, None) => {
                "every statement is a transaction of its own; of appends by other processes a subscription hears within a \
                 second, at once with listen_url"
            }
        };
        said.to_owned()
    }

    async fn shared(&self, scope: &ModuleScope, tenant: &TenantId) -> (Arc<Log>, Arc<Lane<Log>>) {
        let mut shared = self.shared.lock().await;
        let key = (scope.clone(), tenant.clone());
        if let Some((log, lane)) =
            shared.get(&key).and_then(|(log, lane)| Some((log.upgrade()?, lane.upgrade()?)))
        {
            return (log, lane);
        }
        shared.retain(|_, (log, _)| log.strong_count() > 0);
        let (pools, wakes) = (Arc::clone(&self.pools), Arc::clone(&self.wakes));
        let log = Arc::new(Log::new(scope, tenant, pools, wakes, self.settings.hash_chain, self.looks));
        let lane = Arc::new(Lane::new(Arc::clone(&log)));
        shared.insert(key, (Arc::downgrade(&log), Arc::downgrade(&lane)));
        (log, lane)
    }

    fn migrations_of(&self, scope: &ModuleScope, family: Family) -> PostgresMigrations {
        PostgresMigrations {
            settings: Arc::clone(&self.settings),
            scope: scope.clone(),
            family,
            known: shipped::SHIPPED,
        }
    }

    async fn migrate_once(&self, scope: &ModuleScope, family: Family) -> Result<()> {
        let mut migrated = self.migrated.lock().await;
        if self.settings.migrate_on_start && !migrated.contains(&(scope.clone(), family)) {
            for applied in self.migrations_of(scope, family).up().await? {
                tracing::info!(module = %scope.module, id = applied.id, "migration applied");
            }
            migrated.insert((scope.clone(), family));
        }
        Ok(())
    }
}

#[async_trait]
impl OpenBackend for OpenPostgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    async fn events(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn EventStore>> {
        self.migrate_once(scope, Family::Events).await?;
        let (log, lane) = self.shared(scope, tenant).await;
        let lane = self.settings.shared_commits.then_some(lane);
        Ok(Arc::new(PostgresEvents::new(log, lane)))
    }

    async fn audit(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn AuditRepository>> {
        self.migrate_once(scope, Family::Audit).await?;
        let (trail, lane) = self.trails.get(scope, tenant);
        let lane = self.settings.shared_commits.then_some(lane);
        Ok(Arc::new(PostgresAudit::new(trail, lane)))
    }

    async fn playbooks(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn PlaybookCatalog>> {
        self.migrate_once(scope, Family::Playbooks).await?;
        let (pools, chained) = (Arc::clone(&self.pools), self.settings.hash_chain);
        Ok(Arc::new(PostgresPlaybooks::new(scope, tenant, pools, chained, self.looks)))
    }

    fn migrations(&self, scope: &ModuleScope, family: Family) -> Result<Arc<dyn Migrations>> {
        Ok(Arc::new(self.migrations_of(scope, family)))
    }

    async fn owner(&self, scope: &ModuleScope) -> Result<Option<String>> {
        let mut conn = self.pools.get().await?;
        owner_by(&mut conn, scope).await.map_err(|error| error.during("owner"))
    }

    async fn claim(&self, scope: &ModuleScope) -> Result<bool> {
        let mut conn = self.pools.get().await?;
        let rows = conn
            .write(&"SELECT owner FROM changeover.claim($1)".into(), &[&scope.module.as_str()])
            .await
            .map_err(|error| error.during("claim"))?;
        Ok(rows.first().and_then(|row| row.try_get::<_, String>(0).ok()).as_deref() == Some("postgres"))
    }

    fn cutover(&self, scope: &ModuleScope) -> Result<CutoverSide> {
        Ok(cutover::side(&self.settings, scope))
    }

    fn beside(&self) -> Option<Arc<dyn OpenBackend>> {
        let (settings, pools) = (Arc::clone(&self.settings), Arc::clone(&self.pools));
        Some(Arc::new(Self::of(settings, pools, Arc::clone(&self.wakes), false)))
    }

    async fn check(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let facts = async {
            let mut conn = self.pools.get().await?;
            let sql = "SELECT current_setting('server_version'), session_user::text, current_user::text, \
                         (SELECT r.rolsuper OR r.rolbypassrls FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user), \
                         coalesce((SELECT s.ssl FROM pg_catalog.pg_stat_ssl AS s WHERE s.pid = pg_catalog.pg_backend_pid()), false), \
                         to_regclass('changeover._migrations') IS NOT NULL, \
                         (SELECT a.default_version FROM pg_catalog.pg_available_extensions AS a WHERE a.name = 'vector'), \
                         (SELECT e.extversion FROM pg_catalog.pg_extension AS e WHERE e.extname = 'vector')";
            conn.read(&sql.into(), &[]).await
        };
        let rows = match facts.await {
            Ok(rows) => rows,
            Err(error) => {
                checks.push(Check { name: "connection".to_owned(), ok: false, detail: error.to_string() });
                return checks;
            }
        };
        let mut add = |name: &str, ok: bool, detail: String| {
            checks.push(Check { name: name.to_owned(), ok, detail });
        };
        for row in &rows {
            add("connection", true, self.pools.note());
            // An older one was refused as the connection was made.
            let version: String = row.get(0);
            add("server", true, format!("PostgreSQL {version}; {} or later is needed", connect::OLDEST));
            let (login, acts_as): (String, String) = (row.get(1), row.get(2));
            let bypasses: bool = row.get::<_, Option<bool>>(3).unwrap_or(true);
            let detail = if bypasses {
                format!(
                    "{acts_as} may bypass row security; migrate, or use a login of the role {}",
                    self.settings.roles.app
                )
            } else if login == acts_as {
                format!("the login {login} is under row security")
            } else {
                format!(
                    "the login {login} could bypass row security, every connection steps down to {acts_as}"
                )
            };
            add("row security", !bypasses, detail);
            add("pooler", true, self.pooler());
            let encrypted: bool = row.get(4);
            add("encryption", true, if encrypted { "TLS" } else { "none on this connection" }.to_owned());
            let there: bool = row.get(5);
            add(
                "schema",
                there,
                if there { "migrations are recorded" } else { "none yet; run migrate up" }.to_owned(),
            );
            // Only playbooks need it, and their migrations refuse to run without.
            let detail = match (row.get::<_, Option<String>>(7), row.get::<_, Option<String>>(6)) {
                (Some(installed), _) => format!("{installed}; playbooks need 0.8 or later"),
                (None, Some(offered)) => {
                    format!("{offered} is offered, not installed; the migrations of playbooks install it")
                }
                (None, None) => "not offered by the server; playbooks cannot be kept here".to_owned(),
            };
            add("pgvector", true, detail);
        }
        let of_trails = async { audit::check(&mut *self.pools.get().await?, &self.settings.roles).await };
        match of_trails.await {
            Ok(lines) => checks.extend(lines),
            Err(error) => {
                checks.push(Check { name: "audit".to_owned(), ok: false, detail: error.to_string() });
            }
        }
        checks
    }

    async fn close(&self) {
        self.pools.close();
    }
}
