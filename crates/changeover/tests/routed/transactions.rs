//! Transactions through a switch and the way back.

use changeover::{Db, ErrorKind, RunQueryDsl, Uuid};
use diesel::prelude::*;
use diesel_async::SimpleAsyncConnection;

use crate::common::{Shipment, TABLE, insert, shipments};
use crate::moving::{Moving, Places};
use crate::{WHILE, owner, ship, store, write};

/// The table `shipments` in both databases: it does not move here, so each shows what was written where.
async fn own_table(places: &Places, db: &Db) {
    let module = db.module("events").unwrap();
    let make = module.transaction(async |tx| Ok(tx.conn().batch_execute(TABLE).await?));
    make.await.unwrap();
    places.server.execute(TABLE).await.unwrap();
}

async fn grant(places: &Places) {
    places.server.execute("GRANT ALL ON shipments TO changeover_app").await.unwrap();
}

async fn shipments_on_server(places: &Places) -> i64 {
    places.server.query("SELECT count(*) FROM shipments", &[]).await.unwrap()[0].get(0)
}

// A transaction begins where the module is; while nobody takes writes it waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_begins_where_the_module_is() {
    let places = Places::new().await;
    let db = places.process("sqlite").await;
    write(&store(&db).await).await;
    own_table(&places, &db).await;
    let mut moving = Moving::begin(&places).await;
    grant(&places).await;
    ship(&db).await.unwrap();
    moving.fence().await;
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { ship(&db).await }
    });
    tokio::time::sleep(WHILE).await;
    assert!(!waiting.is_finished());
    moving.drain().await;
    moving.seal().await;
    moving.switch().await;
    waiting.await.unwrap().unwrap();
    assert_eq!(shipments_on_server(&places).await, 1);
    ship(&db).await.unwrap();
    assert_eq!(shipments_on_server(&places).await, 2);
}

// I2: what a transaction wrote to tables of one's own is not stored where the module is no more; the next one begins at the
// new owner.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_module_left_is_taken_back() {
    let places = Places::new().await;
    let db = places.process("sqlite").await;
    write(&store(&db).await).await;
    own_table(&places, &db).await;
    let mut moving = Moving::begin(&places).await;
    grant(&places).await;
    moving.cut().await;
    ship(&db).await.unwrap();
    let module = db.module("events").unwrap();
    let left = module.transaction(async |tx| {
        insert(tx.conn(), &Shipment::of(Uuid::now_v7())).await?;
        moving.take_back().await;
        Ok(())
    });
    let left = left.await.unwrap_err();
    assert_eq!(left.kind(), ErrorKind::Moved, "{left}");
    assert_eq!(shipments_on_server(&places).await, 1);
    moving.give_back().await;
    ship(&db).await.unwrap();
    assert_eq!((owner(&db).await, shipments_on_server(&places).await), ("sqlite".to_owned(), 1));
    let counted = module.transaction(async |tx| {
        let rows = shipments::table.select(shipments::id).load::<String>(tx.conn()).await?;
        Ok(rows.len())
    });
    assert_eq!(counted.await.unwrap(), 1);
}
