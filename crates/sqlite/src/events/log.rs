//! A module's log in one file, as found at the beginning of each transaction: its identity, whether the file is
//! adopted, and for an adopted one whether positions still mean what they meant.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use changeover_core::backend::Family;
use changeover_core::events::StreamId;
use changeover_core::{Checkpoint, ConsumerName, Error, LogId, ModuleScope, Result, TenantId, Uuid};
use diesel::SqliteConnection;

use super::decode::{self, FoundStream};
use super::statements::Statements;
use crate::classify::Failure;
use crate::migrate::Schema;
use crate::place::other_tenant;
use crate::schema::{prefix_of, render};
use crate::settings::Options;
use crate::sql::{self, Bind, Cell};
use crate::values::spellings;

/// The tables of one module, asked for one tenant.
#[derive(Debug)]
pub(crate) struct Tables {
    tenant: TenantId,
    /// The one tenant of an adopted file.
    adopted_tenant: TenantId,
    schema: Schema,
    native: Statements,
    adopted: Statements,
    own: OwnStatements,
    /// Whether the schema was found to be the one this program knows; it is not asked again.
    verified: AtomicBool,
    /// The highest position of an adopted file that was shown to anybody.
    shown: Mutex<Option<HighWater>>,
}

/// The SQL of the tables that are the same in every file.
#[derive(Debug)]
struct OwnStatements {
    log: String,
    high_water: String,
    position: String,
    consumer: String,
    track: String,
}

/// A position, and the id of the event that has it, as its text.
#[derive(Clone, Debug, PartialEq)]
struct HighWater {
    log: LogId,
    position: i64,
    event: Option<String>,
}

impl Tables {
    pub(crate) fn new(scope: &ModuleScope, tenant: &TenantId, options: &Options) -> Self {
        let prefix = prefix_of(scope);
        let own = |sql: &str| render(sql, &prefix);
        Self {
            tenant: tenant.clone(),
            adopted_tenant: options.tenant.clone(),
            schema: Schema::new(scope, Family::Events, &options.name),
            native: Statements::native(&prefix),
            adopted: Statements::adopted(&prefix),
            own: OwnStatements {
                log: own("SELECT log_id, adopted, high_water, high_water_event FROM changeover_log"),
                high_water: own("UPDATE changeover_log SET high_water = ?1, high_water_event = ?2"),
                position: own("SELECT event_id FROM domain_event WHERE rowid = ?1"),
                consumer: own(
                    "SELECT position FROM changeover_consumer WHERE tenant_id = ?1 AND consumer = ?2",
                ),
                track: own(
                    "INSERT INTO changeover_consumer (tenant_id, consumer, position) VALUES (?1, ?2, ?3)
                     ON CONFLICT (tenant_id, consumer) DO UPDATE SET position = excluded.position",
                ),
            },
            verified: AtomicBool::new(false),
            shown: Mutex::new(None),
        }
    }

    /// Looks at the schema anew, then as [`Tables::log`].
    pub(crate) fn verify(&self, conn: &mut SqliteConnection) -> Result<Log<'_>, Failure> {
        self.verified.store(false, Ordering::Relaxed);
        self.log(conn)
    }

    /// The log. `SchemaMismatch` without the schema, `Unsupported` for a tenant that an adopted file does not serve,
    /// `Corrupt` when positions of an adopted file were given out anew.
    pub(crate) fn log(&self, conn: &mut SqliteConnection) -> Result<Log<'_>, Failure> {
        // Before the first statement, for a later mark may lie beyond what this transaction sees.
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !self.verified.load(Ordering::Relaxed) {
            self.schema.verify(conn)?;
            self.verified.store(true, Ordering::Relaxed);
        }
        let row = sql::first(conn, &self.own.log, &[])?;
        let row = row.ok_or_else(|| Error::corrupt("changeover_log", "1", "log_id", "the row is missing"))?;
        let id = row.cell(0).as_str().and_then(|text| Uuid::try_parse(text).ok());
        let id = LogId(id.ok_or_else(|| Error::corrupt("changeover_log", "1", "log_id", "is not a UUID"))?);
        let adopted = *row.cell(1) == Cell::Int(1);
        let log = Log { tables: self, sql: if adopted { &self.adopted } else { &self.native }, id, adopted };
        if adopted {
            if self.tenant != self.adopted_tenant {
                return Err(other_tenant(&self.adopted_tenant, &self.tenant).into());
            }
            let event = row.cell(3).as_str().map(str::to_owned);
            let recorded = HighWater { log: id, position: row.cell(2).as_int().unwrap_or(0), event };
            log.check_high_water(conn, &recorded)?;
            if let Some(shown) = shown.filter(|shown| shown.log == id && *shown != recorded) {
                log.check_high_water(conn, &shown)?;
            }
        }
        Ok(log)
    }
}

/// The log in one transaction.
pub(crate) struct Log<'a> {
    tables: &'a Tables,
    pub(super) sql: &'a Statements,
    pub(super) id: LogId,
    pub(super) adopted: bool,
}

impl Log<'_> {
    pub(super) fn tenant(&self) -> &str {
        self.tables.tenant.as_str()
    }

    /// The stream, if it is there; it may have no event yet in an adopted file.
    pub(super) fn stream(
        &self,
        conn: &mut SqliteConnection,
        stream: &StreamId,
    ) -> Result<Option<FoundStream>, Failure> {
        let [lower, upper] = spellings(stream.aggregate_id);
        let binds = [
            Bind::Text(self.tenant()),
            Bind::Text(stream.aggregate_type.as_str()),
            Bind::Text(&lower),
            Bind::Text(&upper),
        ];
        Ok(decode::stream(&sql::rows(conn, &self.sql.stream, &binds)?, stream)?)
    }

    /// Position of the last event, 0 if there is none.
    pub(super) fn end(&self, conn: &mut SqliteConnection) -> Result<i64, Failure> {
        let Some(row) = sql::first(conn, &self.sql.log_end, &[Bind::Text(self.tenant())])? else {
            return Ok(0);
        };
        let position = row.cell(0).as_int().unwrap_or(0);
        self.show(position, row.cell(1).as_str());
        Ok(position)
    }

    /// What the consumer recorded.
    pub(crate) fn tracked(
        &self,
        conn: &mut SqliteConnection,
        consumer: &ConsumerName,
    ) -> Result<Option<Checkpoint>, Failure> {
        let binds = [Bind::Text(self.tenant()), Bind::Text(consumer.as_str())];
        let row = sql::first(conn, &self.tables.own.consumer, &binds)?;
        let position = row.and_then(|row| row.cell(0).as_int());
        Ok(position.map(|position| Checkpoint::new(self.id, position)).transpose()?)
    }

    pub(super) fn track(
        &self,
        conn: &mut SqliteConnection,
        consumer: &ConsumerName,
        position: i64,
    ) -> Result<(), Failure> {
        let binds = [Bind::Text(self.tenant()), Bind::Text(consumer.as_str()), Bind::Int(position)];
        sql::execute(conn, &self.tables.own.track, &binds)?;
        Ok(())
    }

    /// Remembers that `position` of an adopted file was shown.
    pub(super) fn show(&self, position: i64, event: Option<&str>) {
        let mut shown = self.tables.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if self.adopted
            && shown.as_ref().is_none_or(|known| known.log != self.id || known.position < position)
        {
            *shown = Some(HighWater { log: self.id, position, event: event.map(str::to_owned) });
        }
    }

    /// Records the highest position of an adopted file, in the transaction that gives it out.
    pub(super) fn record_high_water(
        &self,
        conn: &mut SqliteConnection,
        position: i64,
        event: &str,
    ) -> Result<(), Failure> {
        if self.adopted {
            sql::execute(conn, &self.tables.own.high_water, &[Bind::Int(position), Bind::Text(event)])?;
        }
        Ok(())
    }

    /// A rowid is given anew after the last row was deleted, and others move in a VACUUM: then the event that had the
    /// highest position does not have it any more.
    fn check_high_water(&self, conn: &mut SqliteConnection, mark: &HighWater) -> Result<(), Failure> {
        if mark.position == 0 {
            return Ok(());
        }
        let row = sql::first(conn, &self.tables.own.position, &[Bind::Int(mark.position)])?;
        if row.is_some_and(|row| row.cell(0).as_str() == mark.event.as_deref()) {
            return Ok(());
        }
        let problem = format!(
            "position {} was given to another event, which is gone from it: events were deleted or the file was \
             vacuumed, and checkpoints do not hold any more; restore the file from a backup",
            mark.position
        );
        let key = mark.event.clone().unwrap_or_else(|| format!("rowid {}", mark.position));
        Err(Error::corrupt("domain_event", key, "rowid", &problem).into())
    }
}
