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

mod classify;
mod connect;
mod database;
mod events;
mod migrate;
mod owner;
mod schema;
mod settings;
mod sql;
mod transaction;

use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::backend::{Check, Family, Migrations};
use changeover_core::{
    AuditRepository, Backend, BackendSettings, Closing, Error, ErrorKind, EventStore, ModuleScope,
    OpenBackend, PlaybookCatalog, Result, SettingKey, TenantId,
};
use diesel::SqliteConnection;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::database::Database;
use crate::events::SqliteEvents;
use crate::events::log::Tables;
use crate::migrate::{Schema, SqliteMigrations};
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
    /// that cannot be opened; `ReadOnly` for one that has to be turned to WAL and takes no writes.
    pub async fn open(settings: &BackendSettings) -> Result<Self> {
        let options = Options::read(settings)?;
        let name = options.name.clone();
        let place = |error: Error| error.during("backend.open").with("backend", &name);
        let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
        if !matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
            let message = "SQLite needs tokio's multi-thread runtime; write #[tokio::main], or \
                           #[tokio::test(flavor = \"multi_thread\")]";
            return Err(place(Error::new(ErrorKind::Config, message)));
        }
        let database = Database::new(options);
        let turn = database.write_turn().await?;
        database.write_in(turn, look_at).await.map_err(place)?;
        Ok(Self { database: Arc::new(database) })
    }

    /// Begins a transaction in which the user's own tables and the events of a module are written together.
    ///
    /// # Errors
    /// As [`OpenBackend::events`]; `Contention` if another process writes for longer than `busy_timeout`,
    /// `Unavailable` if the turn to write does not come within `pool.connect_timeout`.
    pub async fn begin(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<Transaction> {
        let events = self.open_events(scope, tenant).await?;
        Transaction::begin(Arc::clone(&self.database), events.tables).await
    }

    async fn open_events(&self, scope: &ModuleScope, tenant: &TenantId) -> Result<SqliteEvents> {
        let options = &self.database.options;
        if options.migrate_on_start {
            self.migrations(scope, Family::Events)?.up().await?;
        }
        let tables = Arc::new(Tables::new(scope, tenant, options));
        let schema = Schema::events(scope, &options.name);
        let adopted = self.database.read(move |conn| schema.is_adopted(conn)).await?;
        if adopted && *tenant != options.tenant {
            return Err(tables.other_tenant());
        }
        Ok(SqliteEvents { database: Arc::clone(&self.database), tables, adopted, closed: Closing::default() })
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

    async fn audit(&self, _scope: &ModuleScope, _tenant: &TenantId) -> Result<Arc<dyn AuditRepository>> {
        Err(self.place(events_only(Family::Audit), "backend.audit"))
    }

    async fn playbooks(&self, _scope: &ModuleScope, _tenant: &TenantId) -> Result<Arc<dyn PlaybookCatalog>> {
        Err(self.place(events_only(Family::Playbooks), "backend.playbooks"))
    }

    fn migrations(&self, scope: &ModuleScope, family: Family) -> Result<Arc<dyn Migrations>> {
        if family != Family::Events {
            return Err(self.place(events_only(family), "backend.migrations"));
        }
        let schema = Schema::events(scope, &self.database.options.name);
        Ok(Arc::new(SqliteMigrations { database: Arc::clone(&self.database), schema }))
    }

    /// A file keeps no record of owners before a cutover: it owns what it holds.
    async fn owner(&self, scope: &ModuleScope) -> Result<Option<String>> {
        let scope = scope.clone();
        let held = self.database.read(move |conn| owner::holds_rows(conn, &scope)).await;
        let held = held.map_err(|error| self.place(error, "backend.owner"))?;
        Ok(held.then(|| self.kind().to_owned()))
    }

    async fn claim(&self, _scope: &ModuleScope) -> Result<bool> {
        Ok(true)
    }

    async fn check(&self) -> Vec<Check> {
        let checked = self.database.read(|conn| Ok(sql::first(conn, "PRAGMA quick_check(1)", &[])?)).await;
        let (ok, detail) = match checked {
            Ok(row) => {
                let found = row.and_then(|row| row.cell(0).as_str().map(str::to_owned)).unwrap_or_default();
                if found == "ok" {
                    (true, "opened, and its pages are in order".to_owned())
                } else {
                    (false, "its pages are damaged; restore the file from a backup".to_owned())
                }
            }
            Err(error) => (false, error.to_string()),
        };
        vec![Check { name: format!("SQLite file {}", self.database.options.path.display()), ok, detail }]
    }

    async fn close(&self) {
        self.database.close();
    }
}

/// Refuses what is no database, and text that would have to be converted to be compared.
fn look_at(conn: &mut SqliteConnection) -> Result<()> {
    let sql = "SELECT encoding FROM pragma_encoding WHERE (SELECT count(*) FROM sqlite_master) >= 0";
    let row = sql::first(conn, sql, &[]).map_err(|error| classify::classify(&error))?;
    if row.is_some_and(|row| row.cell(0).as_str() == Some("UTF-8")) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "the file keeps its text in UTF-16, allowed is UTF-8; make a copy with `sqlite3 OLD .dump | sqlite3 NEW`",
    ))
}

fn events_only(family: Family) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("this version of the SQLite backend serves events only, not {}", family.as_str()),
    )
}
