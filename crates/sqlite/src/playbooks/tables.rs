//! The catalog of one module in one file.

use changeover_core::backend::Family;
use changeover_core::playbooks::{Playbook, PlaybookId, PlaybookVersion};
use changeover_core::{ModuleScope, Result, TenantId};
use diesel::SqliteConnection;

use super::decode;
use super::statements::Statements;
use crate::classify::Failure;
use crate::place::Place;
use crate::settings::Options;
use crate::sql::{self, Bind};

/// The tables, asked for one tenant.
#[derive(Debug)]
pub(crate) struct PlaybookTables {
    place: Place,
    native: Statements,
    adopted: Statements,
}

impl PlaybookTables {
    pub(crate) fn new(scope: &ModuleScope, tenant: &TenantId, options: &Options) -> Self {
        let place = Place::new(scope, Family::Playbooks, tenant, options);
        Self { native: Statements::native(&place.prefix), adopted: Statements::adopted(&place.prefix), place }
    }

    /// The tables as found; errors as of [`Place::is_adopted`].
    pub(super) fn open(&self, conn: &mut SqliteConnection) -> Result<Catalog<'_>, Failure> {
        let adopted = self.place.is_adopted(conn)?;
        let sql = if adopted { &self.adopted } else { &self.native };
        Ok(Catalog { tenant: self.place.tenant.as_str(), sql })
    }

    /// Looks at the schema anew.
    pub(super) fn verify(&self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        self.place.verify(conn).map(|_| ())
    }
}

/// The catalog in one transaction.
pub(super) struct Catalog<'a> {
    pub(super) tenant: &'a str,
    pub(super) sql: &'a Statements,
}

impl Catalog<'_> {
    pub(super) fn exact(
        &self,
        conn: &mut SqliteConnection,
        playbook: &PlaybookId,
        version: &PlaybookVersion,
    ) -> Result<Option<Playbook>, Failure> {
        let binds = [Bind::Text(self.tenant), Bind::Text(playbook.as_str()), Bind::Text(version.as_str())];
        let row = sql::first(conn, &self.sql.exact, &binds)?;
        Ok(row.map(|row| decode::playbook(&row)).transpose()?)
    }

    /// The version by its place, if it is there.
    pub(super) fn at(&self, conn: &mut SqliteConnection, place: i64) -> Result<Option<Playbook>, Failure> {
        let row = sql::first(conn, &self.sql.at, &[Bind::Text(self.tenant), Bind::Int(place)])?;
        Ok(row.map(|row| decode::playbook(&row)).transpose()?)
    }

    /// The version that is marked latest. Several, or marks that are none, are `Corrupt`.
    pub(super) fn latest(
        &self,
        conn: &mut SqliteConnection,
        playbook: &PlaybookId,
    ) -> Result<Option<Playbook>, Failure> {
        let binds = [Bind::Text(self.tenant), Bind::Text(playbook.as_str())];
        let row = sql::first(conn, &self.sql.latest, &binds)?;
        Ok(row.map(|row| decode::playbook(&row)).transpose()?)
    }

    /// Of the version that is marked latest what is needed to take the mark from it. Errors as of [`Catalog::latest`].
    pub(super) fn marked(
        &self,
        conn: &mut SqliteConnection,
        playbook: &PlaybookId,
    ) -> Result<Option<decode::Marked>, Failure> {
        let binds = [Bind::Text(self.tenant), Bind::Text(playbook.as_str())];
        let row = sql::first(conn, &self.sql.latest, &binds)?;
        Ok(row.map(|row| decode::marked(&row)).transpose()?)
    }
}
