//! The audit tables of one module in one file.

use changeover_core::audit::AuditEvent;
use changeover_core::backend::Family;
use changeover_core::{ModuleScope, Result, TenantId, Timestamp, Uuid};
use diesel::SqliteConnection;

use super::chain::ChainStatements;
use super::decode;
use super::statements::Statements;
use crate::classify::Failure;
use crate::place::Place;
use crate::settings::{Epoch, Options};
use crate::sql::{self, Bind};
use crate::values::spellings;

/// The tables, asked for one tenant.
#[derive(Debug)]
pub(crate) struct AuditTables {
    place: Place,
    native: Statements,
    adopted: Statements,
    pub(super) chain: ChainStatements,
    epoch: Epoch,
    chained: bool,
}

impl AuditTables {
    pub(crate) fn new(scope: &ModuleScope, tenant: &TenantId, options: &Options) -> Self {
        let place = Place::new(scope, Family::Audit, tenant, options);
        Self {
            native: Statements::native(&place.prefix),
            adopted: Statements::adopted(&place.prefix),
            chain: ChainStatements::new(&place.prefix),
            epoch: options.epoch_times,
            chained: options.hash_chain,
            place,
        }
    }

    /// The tables as found; errors as of [`Place::is_adopted`].
    pub(super) fn open(&self, conn: &mut SqliteConnection) -> Result<Audit<'_>, Failure> {
        let adopted = self.place.is_adopted(conn)?;
        Ok(self.audit(adopted))
    }

    /// Looks at the schema anew.
    pub(super) fn verify(&self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        self.place.verify(conn).map(|_| ())
    }

    fn audit(&self, adopted: bool) -> Audit<'_> {
        let sql = if adopted { &self.adopted } else { &self.native };
        Audit { tables: self, sql, adopted, chained: self.chained && !adopted }
    }
}

/// The audit events in one transaction.
pub(super) struct Audit<'a> {
    tables: &'a AuditTables,
    pub(super) sql: &'a Statements,
    pub(super) adopted: bool,
    /// Whether new records are linked.
    pub(super) chained: bool,
}

impl Audit<'_> {
    pub(super) fn tenant(&self) -> &str {
        self.tables.place.tenant.as_str()
    }

    pub(super) fn prefix(&self) -> &str {
        &self.tables.place.prefix
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.tables.epoch
    }

    pub(super) fn chain(&self) -> &ChainStatements {
        &self.tables.chain
    }

    /// One event by its id.
    pub(super) fn event(&self, conn: &mut SqliteConnection, id: Uuid) -> Result<Option<AuditEvent>, Failure> {
        let [lower, upper] = spellings(id);
        let binds = [Bind::Text(self.tenant()), Bind::Text(&lower), Bind::Text(&upper)];
        let row = sql::first(conn, &self.sql.event, &binds)?;
        Ok(row.map(|row| decode::event(&row, self.epoch())).transpose()?)
    }

    /// One event by its place, if it is there.
    pub(super) fn event_at(
        &self,
        conn: &mut SqliteConnection,
        place: i64,
    ) -> Result<Option<AuditEvent>, Failure> {
        let row = sql::first(conn, &self.sql.at, &[Bind::Text(self.tenant()), Bind::Int(place)])?;
        Ok(row.map(|row| decode::event(&row, self.epoch())).transpose()?)
    }

    /// An id as it is stored, if it is.
    pub(super) fn stored_id(&self, conn: &mut SqliteConnection, id: Uuid) -> Result<Option<String>, Failure> {
        let [lower, upper] = spellings(id);
        let binds = [Bind::Text(self.tenant()), Bind::Text(&lower), Bind::Text(&upper)];
        let row = sql::first(conn, &self.sql.stored_id, &binds)?;
        Ok(row.and_then(|row| row.cell(0).as_str().map(str::to_owned)))
    }

    /// The time of recording: never before that of an earlier event, even when the clock goes back.
    pub(super) fn now(&self, conn: &mut SqliteConnection) -> Result<Timestamp, Failure> {
        let last = sql::first(conn, &self.sql.last_recorded, &[])?;
        let last = last.and_then(|row| row.cell(0).as_str().and_then(|text| Timestamp::parse(text).ok()));
        let now = Timestamp::now();
        Ok(last.map_or(now, |last| last.max(now)))
    }
}
