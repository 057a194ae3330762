//! A service goes on while its module moves from SQLite to PostgreSQL and back: the same handles, the same ids.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod following;
mod moving;
mod places;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use changeover::events::{Append, Expected, NewEvent, ReadAll, StreamId};
use changeover::{Db, EventStore, Json, TxError, Uuid};

use common::{Shipment, insert};

/// Long enough to see that a call waits.
const WHILE: Duration = Duration::from_millis(300);

/// Long enough for anything that is to happen.
const LONG: Duration = Duration::from_secs(30);

async fn store(db: &Db) -> Arc<dyn EventStore> {
    db.events("events").unwrap().store().await.unwrap()
}

fn stream(number: u128) -> StreamId {
    StreamId::new("Order", Uuid::from_u128(number)).unwrap()
}

/// An event for a stream, and its id.
fn event(number: u128) -> (Append, Uuid) {
    let event = NewEvent::new("Placed", Json::empty()).unwrap();
    let id = event.id;
    (Append::one(stream(number), Expected::Any, vec![event]), id)
}

async fn write(store: &Arc<dyn EventStore>) -> Uuid {
    let (append, id) = event(1);
    store.append(append).await.unwrap();
    id
}

/// The ids of all events, in their order.
async fn ids(store: &Arc<dyn EventStore>) -> Vec<Uuid> {
    let (mut request, mut ids) = (ReadAll::default(), Vec::new());
    loop {
        let page = store.read_all(request.clone()).await.unwrap();
        ids.extend(page.events.iter().map(|event| event.id));
        request.after = Some(page.checkpoint);
        if page.caught_up {
            return ids;
        }
    }
}

async fn owner(db: &Db) -> String {
    db.module("events").unwrap().owner().await.unwrap().0
}

fn sorted(mut ids: Vec<Uuid>) -> Vec<Uuid> {
    ids.sort_unstable();
    ids
}

async fn ship(db: &Db) -> Result<(), TxError> {
    db.module("events")?.transaction(async |tx| insert(tx.conn(), &Shipment::of(Uuid::now_v7())).await).await
}
