//! The SQLite backend of Changeover: files that legacy programs made, as they are, and native ones.
//!
//! ```no_run
//! use changeover_core::{Backend, BackendSettings, ModuleName, ModuleScope, TenantId};
//! use changeover_sqlite::Sqlite;
//!
//! # async fn example() -> changeover_core::Result<()> {
//! let settings = BackendSettings::new("legacy").with("path", "var/app.db");
//! let backend = Sqlite.open(&settings).await?;
//! let orders = ModuleScope { module: ModuleName::new("events")?, namespace: None };
//! let events = backend.events(&orders, &TenantId::new("default")?).await?;
//! events.ready().await?;
//! # Ok(())
//! # }
//! ```

mod audit;
mod check;
mod classify;
mod connect;
mod cutover;
mod database;
mod events;
mod handle;
mod lane;
mod migrate;
mod owner;
mod place;
mod playbooks;
mod schema;
mod settings;
mod sql;
mod transaction;
mod values;

use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::backend::{Check, Family, Migrations};
use changeover_core::cutover::CutoverSide;
use changeover_core::{
    AuditRepository, Backend, BackendSettings, Error, ErrorKind, EventStore, ModuleScope, OpenBackend,
    PlaybookCatalog, Result, SettingKey, TenantId,
};
use diesel::SqliteConnection;
use tokio::runtime::{Handle as Runtime, RuntimeFlavor};

use crate::audit::SqliteAudit;
use crate::audit::tables::AuditTables;
use crate::classify::Failure;
use crate::cutover::gate;
use crate::database::Database;
use crate::events::SqliteEvents;
use crate::events::log::Tables;
use crate::handle::Handle;
use crate::migrate::{Schema, SqliteMigrations};
use crate::place::other_tenant;
use crate::playbooks::SqlitePlaybooks;
use crate::playbooks::tables::PlaybookTables;
use crate::settings::{KEYS, Options};

pub use crate::transaction::Transaction;

/// The kind `sqlite`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sqlite;

#[async_trait]
impl Backend for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn keys(&self) -> &'static [SettingKey] {
        KEYS
    }

    async fn open(&self, settings: &BackendSettings) -> Result<Arc<dyn OpenBackend>> {
        Ok(Arc::new(OpenSqlite::open(settings).await?))
    }

    fn elsewhere(&self, settings: &BackendSettings, place: &str) -> Result<BackendSettings> {
        let there = settings.clone().with("path", place);
        Ok(there.with("create", "false").with("migrate_on_start", "false"))
    }
}

/// An opened file.
#[derive(Debug)]
pub struct OpenSqlite {
    database: Arc<Database>,
}

impl OpenSqlite {
    /// Opens a file, as [`Backend::open`] does.
    ///
    /// # Errors
    /// `Config` for mistakes in the settings, a path that cannot be a database, and a current-thread runtime, where
    /// waiting for SQLite would stop everything else; `Corrupt` for a file that is no database; `Unavailable` for one
    /// that cannot be opened; `ReadOnly` for one that has to be turned to WAL and takes no writes. With neither `create` nor
    /// `migrate_on_start` it is not turned to WAL here, but by the first write.
    pub async fn open(settings: &BackendSettings) -> Result<Self> {
        let options = Options::read(settings)?;
        let name = options.name.clone();
        let place = |error: Error| error.during("backend.open").with("backend", &name);
        let flavor = Runtime::try_current().map(|handle| handle.runtime_flavor());
        if !matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
            let message = "SQLite needs tokio's multi-thread runtime; write #[tokio::main], or \
                           #[tokio::test(flavor = \"multi_thread\")]";
            return Err(place(Error::new(ErrorKind::Config, message)));
        }
        // The first connection that writes turns the file to WAL, which is not for who only looks.
        let only_looks = !options.create && !options.migrate_on_start;
        let database = Database::new(options);
        let all_moved = if only_looks {
            let look = |conn: &mut SqliteConnection| Ok(look_at(conn)?);
            database.read(look).await.map_err(place)?
        } else {
            let turn = database.write_turn().await?;
            database.write_in(turn, look_at).await.map_err(place)?
        };
        // Whoever has it in its settings opens it, and may never ask for more.
        if all_moved {
            database.let_go();
        }
        Ok(Self { database: Arc::new(database) })
    }

    /// Begins a transaction in which the user's own tables, the events of a module and audit events are written
    /// together.
    ///
    /// # Errors
    /// As [`OpenBackend::events`]; `Contention` if another process writes for longer than `busy_timeout`,
    /// `Unavailable` if the turn to write does not come within `pool.connect_timeout`.
    pub async fn begin(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Transaction> {
        let events = self.open_events(scope, tenant).await?;
        let (database, module) = (Arc::clone(&self.database), scope.module.clone());
        let begun = Transaction::begin(database, events.0.reader.tables, module, tenant.clone()).await;
        self.database.let_go_if_moved(&begun);
        begun
    }

    async fn open_events(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<SqliteEvents> {
        let adopted = self.prepare(scope, Family::Events, tenant).await?;
        let tables = Tables::new(scope, tenant, &self.database.options);
        Ok(SqliteEvents(Handle::new(&self.database, scope, tables, adopted)))
    }

    /// Brings the schema up to date if the settings say so; returns whether the tables are those of legacy programs.
    async fn prepare(&self, scope: &ModuleScope, family: Family, tenant: &TenantId) -> Result<bool> {
        let options = &self.database.options;
        if options.migrate_on_start {
            match self.migrations(scope, family)?.up().await {
                // The store of a module that was moved away says so at each call, whatever is left of the file.
                Err(error)
                    if error.kind() == ErrorKind::Moved
                        && self.database.read(cutover::tombstone::is_one).await? => {}
                done => drop(done?),
            }
        }
        let schema = Schema::new(scope, family, &options.name);
        let adopted = self.database.read(move |conn| schema.is_adopted(conn)).await?;
        if adopted && *tenant != options.tenant {
            return Err(other_tenant(&options.tenant, tenant));
        }
        Ok(adopted)
    }

    fn place(&self, error: Error, operation: &'static str) -> Error {
        error.during(operation).with("backend", &self.database.options.name)
    }
}

#[async_trait]
impl OpenBackend for OpenSqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    async fn events(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn EventStore>> {
        let events = self.open_events(scope, tenant).await;
        Ok(Arc::new(events.map_err(|error| self.place(error, "backend.events"))?))
    }

    async fn audit(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn AuditRepository>> {
        let adopted = self.prepare(scope, Family::Audit, tenant).await;
        let adopted = adopted.map_err(|error| self.place(error, "backend.audit"))?;
        let tables = AuditTables::new(scope, tenant, &self.database.options);
        Ok(Arc::new(SqliteAudit(Handle::new(&self.database, scope, tables, adopted))))
    }

    async fn playbooks(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<dyn PlaybookCatalog>> {
        let adopted = self.prepare(scope, Family::Playbooks, tenant).await;
        let adopted = adopted.map_err(|error| self.place(error, "backend.playbooks"))?;
        let tables = PlaybookTables::new(scope, tenant, &self.database.options);
        Ok(Arc::new(SqlitePlaybooks(Handle::new(&self.database, scope, tables, adopted))))
    }

    fn migrations(&self, scope: &ModuleScope, family: Family) -> Result<Arc<dyn Migrations>> {
        let schema = Schema::new(scope, family, &self.database.options.name);
        Ok(Arc::new(SqliteMigrations { database: Arc::clone(&self.database), schema }))
    }

    /// A file keeps no record of owners before a cutover: it owns what it holds. From then on its gate says it.
    async fn owner(&self, scope: &ModuleScope) -> Result<Option<String>> {
        let scope = scope.clone();
        let owner = self.database.read(move |conn| match gate::owner(conn, scope.module.as_str())? {
            Some(owner) => Ok(Some(owner)),
            None => Ok(owner::holds_rows(conn, &scope)?.then(|| "sqlite".to_owned())),
        });
        let owner = owner.await.map_err(|error| self.place(error, "backend.owner"))?;
        if owner.as_deref().is_some_and(|owner| owner != self.kind()) {
            self.database.let_go();
        }
        Ok(owner)
    }

    async fn claim(&self, scope: &ModuleScope) -> Result<bool> {
        let module = scope.module.clone();
        let owner = self.database.read(move |conn| gate::owner(conn, module.as_str())).await;
        let owner = owner.map_err(|error| self.place(error, "backend.claim"))?;
        Ok(owner.is_none_or(|owner| owner == self.kind()))
    }

    fn cutover(&self, scope: &ModuleScope) -> Result<CutoverSide> {
        Ok(cutover::side(&self.database, scope))
    }

    async fn check(&self) -> Vec<Check> {
        check::check(&self.database).await
    }

    async fn close(&self) {
        self.database.close();
    }
}

/// Refuses what is no database, and text that would have to be converted to be compared. Whether every module that it had was
/// moved away.
fn look_at(conn: &mut SqliteConnection) -> Result<bool> {
    let sql = "SELECT encoding FROM pragma_encoding WHERE (SELECT count(*) FROM sqlite_master) >= 0";
    let row = sql::first(conn, sql, &[]).map_err(|error| classify::classify(&error))?;
    if row.is_some_and(|row| row.cell(0).as_str() == Some("UTF-8")) {
        return gate::all_moved(conn).map_err(Failure::into_error);
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "the file keeps its text in UTF-16, allowed is UTF-8; make a copy with `sqlite3 OLD .dump | sqlite3 NEW`",
    ))
}
