//! A module's records on SQLite or PostgreSQL, chosen by settings, behind one contract.
//!
//! With no settings at all everything is kept in SQLite at `var/changeover.db`. One word in `changeover.toml` moves a
//! module to another backend; the program stays as it is:
//!
//! ```toml
//! [persistence]
//! default = "local"
//! orders  = "main"
//!
//! [backends.local]
//! kind = "sqlite"
//! path = "var/app.db"
//!
//! [backends.main]
//! kind = "postgres"
//! url  = "postgres://app@localhost/app"   # CHANGEOVER_BACKENDS__MAIN__URL wins
//! ```
//!
//! A stream is loaded into a state of your own, and appended to at the version that was loaded:
//!
//! ```
//! use changeover::{PersistenceOptions, Result, StreamEvent, Uuid};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! enum OrderEvent {
//!     Placed { item: String },
//!     Shipped,
//! }
//!
//! impl StreamEvent for OrderEvent {
//!     const AGGREGATE_TYPE: &'static str = "Order";
//! }
//!
//! #[derive(Default)]
//! struct Order {
//!     item: String,
//!     shipped: bool,
//! }
//!
//! impl Order {
//!     fn apply(&mut self, event: OrderEvent) {
//!         match event {
//!             OrderEvent::Placed { item } => self.item = item,
//!             OrderEvent::Shipped => self.shipped = true,
//!         }
//!     }
//!
//!     fn ship(&self) -> Result<OrderEvent> {
//!         if self.shipped {
//!             return Err(changeover::Error::invalid("the order was shipped before"));
//!         }
//!         Ok(OrderEvent::Shipped)
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<()> {
//! # /*
//! let db = changeover::connect().await?;
//! # */
//! # let options = PersistenceOptions::new().with("persistence.default", "m").with("backends.m.kind", "memory");
//! # let db = changeover::connect_with(options, changeover::registry()).await?;
//! let orders = db.events("orders")?.typed::<OrderEvent>();
//!
//! let id = Uuid::now_v7();
//! orders.append(id, None, [OrderEvent::Placed { item: "lamp".into() }]).await?;
//!
//! let order = orders.load(id, Order::apply).await?;
//! orders.append(id, order.version, [order.ship()?]).await?;
//!
//! // Or all in one, decided anew when somebody else was faster:
//! let again = orders.execute(id, Order::apply, |order| order.ship().map(|event| [event])).await;
//! assert_eq!(again.err().map(|error| error.kind()), Some(changeover::ErrorKind::Invalid));
//! # Ok(())
//! # }
//! ```
//!
//! Beside its events a module may keep an audit trail and playbooks, on the same backend: [`Db::audit`] and
//! [`Db::playbooks`]. The modules `events`, `audit` and `playbooks` are built in; one of your own has the stores it asks
//! for. [`Module::transaction`] stores rows of your own, events and audit events together or not at all.
//!
//! While an operator moves a module from SQLite to PostgreSQL, or back, the program goes on: its stores, transactions and
//! subscriptions find the new owner by themselves and repeat what they were about there, with the same ids. Calls wait for
//! the moment in which nobody takes writes.
//!
//! Under this lie the raw traits of [`changeover_core`]: [`Events::store`] gives the [`EventStore`],
//! [`Audit::repository`] the [`AuditRepository`], [`Playbooks::catalog`] the [`PlaybookCatalog`].

mod db;
pub mod drill;
mod home;
mod module;
mod moving;
mod partitions;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod projection;
mod retry;
mod routed;
mod settings;
mod shadow;
mod stores;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod transaction;
mod typed;

pub use changeover_core::events::{Expected, RecordedEvent, StreamId, Version};
pub use changeover_core::*;
pub use changeover_cutover as cutover;
pub use db::{Db, connect_lazily, connect_to_look, connect_with};
pub use module::Module;
pub use moving::Move;
pub use partitions::{AuditMonth, AuditMonths};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use projection::{Projection, Projector};
#[cfg(feature = "settings")]
pub use settings::Layers;
pub use settings::{EffectiveSetting, PersistenceOptions, Source};
pub use shadow::{ShadowDifference, ShadowReport};
pub use stores::{Audit, Events, Playbooks};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use transaction::{RunQueryDsl, Tx, TxError};
pub use typed::{Loaded, StreamEvent, TypedStreams};

/// Connects with the settings of this process: [`PersistenceOptions::load`] and the kinds of [`registry`].
///
/// `Config` with every mistake in the settings; `Unavailable` if a backend that some module is on cannot be reached.
#[cfg(feature = "settings")]
pub async fn connect() -> Result<Db> {
    connect_with(PersistenceOptions::load(), registry()).await
}

/// The kinds of backends built into this program: `memory`, and by the features of this crate `sqlite`, `postgres`.
pub fn registry() -> Registry {
    let registry = Registry::new().with(changeover_memory::Memory::new());
    #[cfg(feature = "sqlite")]
    let registry = registry.with(changeover_sqlite::Sqlite);
    #[cfg(feature = "postgres")]
    let registry = registry.with(changeover_postgres::Postgres);
    registry
}
