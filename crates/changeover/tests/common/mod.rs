//! The same program on each database: an order, its events, and a table of the user's own.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test program uses a part of it; a failure here fails the test"
)]

use changeover::transaction::Connection;
use changeover::{Db, Error, PersistenceOptions, Result, RunQueryDsl, StreamEvent, TxError, Uuid};
use changeover_testkit::{Pooler, TestDatabase, with_user};
use diesel::prelude::*;
use diesel_async::SimpleAsyncConnection;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OrderEvent {
    Placed { item: String, price: f64 },
    Renamed(String),
    Shipped,
}

impl StreamEvent for OrderEvent {
    const AGGREGATE_TYPE: &'static str = "Order";
}

#[derive(Debug, Default, PartialEq)]
pub struct Order {
    pub item: String,
    pub shipped: bool,
}

impl Order {
    pub fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed { item, .. } | OrderEvent::Renamed(item) => self.item = item,
            OrderEvent::Shipped => self.shipped = true,
        }
    }

    pub fn ship(&self) -> Result<OrderEvent> {
        if self.shipped { Err(Error::invalid("shipped before")) } else { Ok(OrderEvent::Shipped) }
    }
}

pub fn placed(item: &str) -> OrderEvent {
    OrderEvent::Placed { item: item.to_owned(), price: 9.5 }
}

diesel::table! {
    shipments (id) {
        id -> Text,
        parcels -> Integer,
        note -> Nullable<Text>,
    }
}

#[derive(Clone, Debug, PartialEq, Insertable, Queryable, Selectable)]
#[diesel(table_name = shipments)]
pub struct Shipment {
    pub id: String,
    pub parcels: i32,
    pub note: Option<String>,
}

impl Shipment {
    pub fn of(id: Uuid) -> Self {
        Self { id: id.to_string(), parcels: 2, note: Some("é \u{1F4E6}".to_owned()) }
    }
}

pub async fn insert(conn: &mut Connection, row: &Shipment) -> Result<(), TxError> {
    diesel::insert_into(shipments::table).values(row).execute(conn).await?;
    Ok(())
}

/// What is stored, read by a transaction of its own.
pub async fn rows(db: &Db) -> Vec<Shipment> {
    let module = db.module("orders").unwrap();
    let read = module.transaction(async |tx| {
        Ok(shipments::table.order(shipments::id).load::<Shipment>(tx.conn()).await?)
    });
    read.await.unwrap()
}

pub const TABLE: &str =
    "CREATE TABLE shipments (id text PRIMARY KEY, parcels integer NOT NULL CHECK (parcels > 0), note text)";

#[derive(Clone, Copy, Debug)]
pub enum Sql {
    Sqlite,
    Postgres,
    /// PostgreSQL behind a pooler in transaction mode.
    Pooled,
}

/// A database of a kind, and what keeps it there.
pub struct Place {
    pub db: Db,
    pub dir: TempDir,
    pub server: Option<TestDatabase>,
    pub pooler: Option<Pooler>,
}

/// Settings with a backend of each kind, `sqlite` and `postgres`; the caller names the modules.
pub fn options(dir: &TempDir, server: Option<&TestDatabase>) -> PersistenceOptions {
    let file = dir.path().join("a.db");
    let options = PersistenceOptions::new()
        .with("backends.sqlite.kind", "sqlite")
        .with("backends.sqlite.path", file.to_str().unwrap());
    match server {
        Some(server) => options
            .with("backends.postgres.kind", "postgres")
            .with("backends.postgres.url", server.url())
            .with("backends.postgres.pool.max_size", "4")
            .with("backends.postgres.pool.min_idle", "1")
            .with("backends.postgres.migrate_on_start", "true"),
        None => options,
    }
}

/// The module `orders` on a database of this kind, with the table `shipments` in it. One word differs.
pub async fn place(sql: Sql) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let server = match sql {
        Sql::Sqlite => None,
        Sql::Postgres | Sql::Pooled => Some(TestDatabase::empty().await.unwrap()),
    };
    let word = match sql {
        Sql::Sqlite => "sqlite",
        Sql::Postgres | Sql::Pooled => "postgres",
    };
    let mut options = options(&dir, server.as_ref()).with("persistence.default", word);
    let mut pooler = None;
    if let (Sql::Pooled, Some(server)) = (sql, &server) {
        let before = pooler.insert(pooled(server).await);
        options = options
            .with("backends.postgres.url", before.url(&with_user(server.url(), LOGIN, None)))
            .with("backends.postgres.pooler", "transaction")
            .with("backends.postgres.migrate_url", server.url());
    }
    let db = changeover::connect_with(options, changeover::registry()).await.unwrap();
    db.events("orders").unwrap().store().await.unwrap();
    if let Some(server) = &server {
        server.execute(&format!("{TABLE}; GRANT ALL ON shipments TO changeover_app")).await.unwrap();
    } else {
        let module = db.module("orders").unwrap();
        let make = module.transaction(async |tx| Ok(tx.conn().batch_execute(TABLE).await?));
        make.await.unwrap();
    }
    Place { db, dir, server, pooler }
}

/// What the service logs in as through a pooler; the migration makes it a member of the application's role.
const LOGIN: &str = "changeover_test_facade";

async fn pooled(server: &TestDatabase) -> Pooler {
    // Roles belong to the whole server, and another test may be making it at this moment.
    let login = format!(
        "DO $$ BEGIN CREATE ROLE {LOGIN} LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    );
    server.execute(&login).await.unwrap();
    Pooler::start(server.url(), &[LOGIN], 3).await.unwrap()
}
