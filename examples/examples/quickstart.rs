//! An order in a stream, and a shipment in a table of one's own, stored together. Runs on SQLite with nothing installed;
//! `CHANGEOVER_BACKENDS__LOCAL__KIND=postgres CHANGEOVER_BACKENDS__LOCAL__URL=postgres://... CHANGEOVER_PERSISTENCE__DEFAULT=local`
//! runs the same program on PostgreSQL.

use changeover::{Error, Result, RunQueryDsl, StreamEvent, TxError, Uuid};
use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use schema::shipments;

mod schema {
    diesel::table! {
        shipments (order_id) {
            order_id -> Text,
            carrier -> Text,
        }
    }
}

#[derive(Serialize, Deserialize)]
enum OrderEvent {
    Placed { item: String },
    Shipped { carrier: String },
}

impl StreamEvent for OrderEvent {
    const AGGREGATE_TYPE: &'static str = "Order";
}

#[derive(Default)]
struct Order {
    item: String,
    carrier: Option<String>,
}

impl Order {
    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed { item } => self.item = item,
            OrderEvent::Shipped { carrier } => self.carrier = Some(carrier),
        }
    }

    fn ship(&self, carrier: &str) -> Result<OrderEvent> {
        match &self.carrier {
            Some(carrier) => Err(Error::invalid(format!("the order was shipped with {carrier} before"))),
            None => Ok(OrderEvent::Shipped { carrier: carrier.to_owned() }),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), TxError> {
    let db = changeover::connect().await?;
    let orders = db.events("orders")?.typed::<OrderEvent>();
    let id = Uuid::now_v7();
    orders.append(id, None, [OrderEvent::Placed { item: "lamp".to_owned() }]).await?;

    let module = db.module("orders")?;
    module
        .transaction(async |tx| {
            diesel::sql_query(
                "CREATE TABLE IF NOT EXISTS shipments (order_id TEXT PRIMARY KEY, carrier TEXT NOT NULL)",
            )
            .execute(tx.conn())
            .await?;
            Ok(())
        })
        .await?;

    let order = orders.load(id, Order::apply).await?;
    let shipped = order.ship("by bicycle")?;
    module
        .transaction(async |tx| {
            diesel::insert_into(shipments::table)
                .values((shipments::order_id.eq(id.to_string()), shipments::carrier.eq("by bicycle")))
                .execute(tx.conn())
                .await?;
            tx.append(&orders, id, order.version, [shipped]);
            Ok(())
        })
        .await?;

    let order = orders.load(id, Order::apply).await?;
    println!("order {id}: {}, shipped {}", order.item, order.carrier.as_deref().unwrap_or("not yet"));
    let again: Result<_> = orders.execute(id, Order::apply, |order| Ok([order.ship("by ship")?])).await;
    match again {
        Ok(_) => println!("shipped twice"),
        Err(error) => println!("shipping it again: {error}"),
    }
    Ok(())
}
