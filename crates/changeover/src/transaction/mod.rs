//! The user's own tables, a module's events and audit events in one transaction, the same code on both SQL backends.

mod connection;
mod error;
mod owner;
mod query;
#[cfg_attr(
    not(all(feature = "sqlite", feature = "postgres")),
    allow(
        clippy::unnecessary_wraps,
        clippy::unused_async,
        unused_variables,
        reason = "with one backend there is nothing to choose"
    )
)]
#[expect(missing_docs, reason = "diesel's derive makes public items without any")]
mod sides;

use std::fmt;

use changeover_core::audit::{Create, NewAuditEvent};
use changeover_core::events::{Append, Expected};
use changeover_core::{Checkpoint, ConsumerName, Error, ErrorKind, ModuleScope, Result, Uuid};

pub use connection::{Connection, backend};
pub use error::TxError;
pub use query::RunQueryDsl;
#[cfg(feature = "postgres")]
use sides::PostgresConn;
#[cfg(feature = "sqlite")]
use sides::SqliteConn;

use crate::module::Module;
use crate::stores::Audit;
use crate::typed::{StreamEvent, TypedStreams};

impl Module {
    /// Runs `work` in a transaction of the database that owns the module: what it writes to tables of your own, the
    /// events it gives to [`Tx::append`] and the audit events it gives to [`Tx::record`] are stored together or not at
    /// all.
    ///
    /// The events are appended after `work`, just before the commit, and then the audit events. A conflict there, an error of `work` and a dropped
    /// future take everything back. `Unsupported` where there is no database; `Config` on a current-thread runtime.
    ///
    /// On SQLite other writers of the file wait for the transaction, so do nothing slow in it.
    ///
    /// It begins where the module is, and waits while a cutover lets nobody write. `Moved` if the module was moved while it
    /// ran: nothing was stored, and who repeats it begins at the new owner.
    ///
    /// ```no_run
    /// use changeover::{Result, RunQueryDsl, StreamEvent, Uuid};
    /// use diesel::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    ///
    /// diesel::table! {
    ///     shipments (id) {
    ///         id -> Text,
    ///         parcels -> Integer,
    ///     }
    /// }
    ///
    /// #[derive(Insertable)]
    /// #[diesel(table_name = shipments)]
    /// struct Shipment {
    ///     id: String,
    ///     parcels: i32,
    /// }
    /// # #[derive(Serialize, Deserialize)]
    /// # enum OrderEvent { Shipped }
    /// # impl StreamEvent for OrderEvent { const AGGREGATE_TYPE: &'static str = "Order"; }
    /// # #[derive(Default)]
    /// # struct Order;
    /// # impl Order {
    /// #     fn apply(&mut self, _event: OrderEvent) {}
    /// #     fn ship(&self) -> Result<OrderEvent> { Ok(OrderEvent::Shipped) }
    /// # }
    ///
    /// # async fn example(id: Uuid) -> Result<()> {
    /// let db = changeover::connect().await?;
    /// let orders = db.events("orders")?.typed::<OrderEvent>();
    /// let order = orders.load(id, Order::apply).await?;
    /// let shipped = order.ship()?;
    /// let row = Shipment { id: id.to_string(), parcels: 2 };
    ///
    /// db.module("orders")?.transaction(async |tx| {
    ///     diesel::insert_into(shipments::table).values(&row).execute(tx.conn()).await?;
    ///     tx.append(&orders, id, order.version, [shipped]);
    ///     Ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn transaction<T, F>(&self, work: F) -> Result<T, TxError>
    where
        F: AsyncFnOnce(&mut Tx) -> Result<T, TxError>,
    {
        Connection::check_runtime()?;
        let (owner, sides) = self.begin().await?;
        let (module, name) = (self.clone(), owner.name.clone());
        let (appends, records, audits) = Default::default();
        let mut tx = Tx { conn: Connection { sides }, appends, records, audits, module, backend: name };
        let failed = match work(&mut tx).await {
            Ok(value) => match tx.commit().await {
                Ok(()) => return Ok(value),
                Err(error) => error,
            },
            Err(error) => {
                // What went wrong first is told; a connection that cannot roll back is given up.
                if let Err(second) = tx.conn.sides.rollback().await {
                    tracing::warn!(error = %second, "the transaction was ended by closing its connection");
                }
                error
            }
        };
        Err(self.judge(failed, &owner).await)
    }
}

/// An open transaction of a module. Ended by [`Module::transaction`].
pub struct Tx {
    conn: Connection,
    appends: Vec<Result<Append>>,
    /// In their order, those of one module together.
    records: Vec<Result<(ModuleScope, Create)>>,
    /// The other modules whose audit trails are written.
    audits: Vec<Module>,
    module: Module,
    /// The name of the backend.
    backend: String,
}

impl Tx {
    /// The connection, for statements of your own by [`RunQueryDsl`], written once for both databases.
    ///
    /// It knows what diesel's `MultiConnection` knows: the types both databases have, no `ON CONFLICT`. For the rest
    /// there are [`Tx::sqlite`] and [`Tx::postgres`].
    pub fn conn(&mut self) -> &mut Connection {
        &mut self.conn
    }

    /// The SQLite connection, if that is the database.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(&mut self) -> Option<&mut SqliteConn> {
        self.conn.sides.sqlite()
    }

    /// The PostgreSQL connection, if that is the database.
    #[cfg(feature = "postgres")]
    pub fn postgres(&mut self) -> Option<&mut PostgresConn> {
        self.conn.sides.postgres()
    }

    /// Keeps events for the end of the transaction, where they are appended if the stream is as expected then. The
    /// streams must be of the transaction's module and tenant; that they are not, and every other error, ends the
    /// transaction.
    pub fn append<E: StreamEvent>(
        &mut self,
        streams: &TypedStreams<E>,
        id: Uuid,
        expected: impl Into<Expected>,
        events: impl IntoIterator<Item = E>,
    ) {
        let append = self.check(streams).and_then(|()| streams.request(id, expected, events));
        self.appends.push(append);
    }

    /// Takes the turn of a consumer until the end of the transaction, and says how far it has come.
    pub(crate) async fn turn(&mut self, consumer: &ConsumerName) -> Result<Option<Checkpoint>> {
        self.conn.sides.turn(consumer).await
    }

    /// Keeps an append for the end of the transaction.
    pub(crate) fn flush_last(&mut self, append: Append) {
        self.appends.push(Ok(append));
    }

    fn check<E: StreamEvent>(&self, streams: &TypedStreams<E>) -> Result<()> {
        let other = match streams.events().module() {
            Some(other) if other.is_same(&self.module) => return Ok(()),
            Some(other) => format!("of module {} and tenant {}", other.name(), other.tenant()),
            None => "of a store that was given".to_owned(),
        };
        let (module, tenant) = (self.module.name(), self.module.tenant());
        let message =
            format!("streams {other} cannot be part of a transaction of module {module} and tenant {tenant}");
        Err(Error::new(ErrorKind::Invalid, message).during("transaction.append"))
    }

    /// Keeps an audit event of the module for the end of the transaction, where it is recorded. What is wrong with it
    /// (`AlreadyExists`, a parent that is missing) ends the transaction.
    ///
    /// A module of your own has its audit tables once `db.audit("orders")` was asked for, or by `changeover migrate up`.
    pub fn record(&mut self, event: NewAuditEvent) {
        let scope = self.module.scope().clone();
        self.keep(scope, event);
    }

    /// As [`Tx::record`], to the audit trail of another module, which must be on the same backend and have its tables.
    pub fn record_in(&mut self, audit: &Audit, event: NewAuditEvent) {
        match self.check_audit(audit) {
            Ok(scope) => self.keep(scope, event),
            Err(error) => self.records.push(Err(error)),
        }
    }

    fn keep(&mut self, scope: ModuleScope, event: NewAuditEvent) {
        match self.records.last_mut() {
            Some(Ok((last, create))) if *last == scope && create.events.len() < Create::MAX_EVENTS => {
                create.events.push(event);
            }
            _ => self.records.push(Ok((scope, Create { events: vec![event] }))),
        }
    }

    fn check_audit(&mut self, audit: &Audit) -> Result<ModuleScope> {
        match audit.module() {
            Some(other) if other.tenant() == self.module.tenant() => {
                self.audits.push(other.clone());
                Ok(other.scope().clone())
            }
            Some(other) => {
                Err(self.foreign(&format!("of module {} for tenant {}", other.name(), other.tenant())))
            }
            None => Err(self.foreign("that was given")),
        }
    }

    fn foreign(&self, audit: &str) -> Error {
        let message = format!(
            "an audit trail {audit} cannot be part of a transaction of module {} on {} for tenant {}",
            self.module.name(),
            self.backend,
            self.module.tenant()
        );
        Error::new(ErrorKind::Invalid, message).during("transaction.record")
    }

    /// That the other modules are where the transaction is.
    async fn check_owners(&self) -> Result<()> {
        for other in &self.audits {
            other.look_again().await;
            let (owner, _) = other.owner().await?;
            if owner != self.backend {
                return Err(self.foreign(&format!("of module {} on {owner}", other.name())));
            }
        }
        Ok(())
    }

    async fn commit(mut self) -> Result<(), TxError> {
        let owners = self.check_owners().await;
        let appends = self.appends.into_iter().collect::<Result<Vec<_>>>();
        let records = self.records.into_iter().collect::<Result<Vec<_>>>();
        let flush = owners.and(appends).and_then(|appends| Ok((appends, records?)));
        let (appends, records) = match flush {
            Ok(flush) => flush,
            Err(error) => {
                self.conn.sides.rollback().await?;
                return Err(error.into());
            }
        };
        // A write of events or audit events finds it out by itself.
        if appends.is_empty()
            && records.is_empty()
            && let Err(error) = self.conn.sides.check_owner(self.module.scope()).await
        {
            self.conn.sides.rollback().await?;
            return Err(error.into());
        }
        Ok(self.conn.sides.commit(appends, records).await?)
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("module", &self.module)
            .field("appends", &self.appends.len())
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}
