//! The service: it takes orders, ships them, and keeps a record of who did what. It knows nothing of the move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use changeover::audit::{ActorType, NewAuditEvent, Outcome};
use changeover::events::Appended;
use changeover::{Db, Error, Result, StreamEvent, StreamId, Uuid, Version};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::operator::Move;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OrderEvent {
    Placed { item: String, price: f64 },
    Shipped { carrier: String },
}

impl StreamEvent for OrderEvent {
    const AGGREGATE_TYPE: &'static str = "Order";
}

#[derive(Default)]
struct Order {
    item: String,
    shipped: bool,
}

impl Order {
    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed { item, .. } => self.item = item,
            OrderEvent::Shipped { .. } => self.shipped = true,
        }
    }

    fn ship(&self) -> Result<OrderEvent> {
        if self.shipped || self.item.is_empty() {
            return Err(Error::invalid("only an order that was placed can be shipped, and once"));
        }
        Ok(OrderEvent::Shipped { carrier: format!("by bicycle, the {}", self.item) })
    }
}

/// A write that the service was told is stored: which one, and what it wrote.
pub struct Acknowledged<K, V> {
    pub key: K,
    pub value: V,
    began: Instant,
    took: Duration,
}

/// An event is found by its stream and version, an audit record by its id.
pub type Event = Acknowledged<(StreamId, Version), OrderEvent>;
pub type Record = Acknowledged<Uuid, NewAuditEvent>;

/// Everything that was acknowledged.
#[derive(Default)]
pub struct Written {
    pub events: Vec<Event>,
    pub audit: Vec<Record>,
}

/// The longest that a write took which was under way in the time of the move.
pub fn slowest<K, V>(written: &[Acknowledged<K, V>], moved: &Move) -> Duration {
    let of_the_time = written.iter().filter(|it| it.began < moved.ended && it.began + it.took > moved.began);
    of_the_time.map(|it| it.took).max().unwrap_or_default()
}

/// How many writes began after the move.
pub fn after<K, V>(written: &[Acknowledged<K, V>], moved: &Move) -> usize {
    written.iter().filter(|it| it.began > moved.ended).count()
}

/// Writers at work.
#[derive(Default)]
pub struct Service {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Result<Written>>>,
}

impl Service {
    /// Starts writers on one host.
    pub fn start(&mut self, db: &Db, count: usize) {
        for _ in 0..count {
            self.writers.push(tokio::spawn(work(db.clone(), Arc::clone(&self.stop))));
        }
    }

    /// Lets every writer end what it is about.
    ///
    /// # Errors
    ///
    /// That of a write that failed. None may: a move is no reason to.
    pub async fn stop(self) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for writer in self.writers {
            let written =
                writer.await.map_err(|error| Error::invalid(format!("a writer broke: {error}")))??;
            all.events.extend(written.events);
            all.audit.extend(written.audit);
        }
        Ok(all)
    }
}

async fn work(db: Db, stop: Arc<AtomicBool>) -> Result<Written> {
    let (orders, audit) = (db.events("events")?.typed::<OrderEvent>(), db.audit("audit")?);
    let mut written = Written::default();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let id = Uuid::now_v7();
        let placed =
            OrderEvent::Placed { item: format!("lamp {number} \u{1F4A1}"), price: f64::from(number) / 8.0 };
        let began = Instant::now();
        let appended = orders.append(id, None, [placed.clone()]).await?;
        written.events.push(acknowledged(place(&appended)?, placed, began));

        let order = orders.load(id, Order::apply).await?;
        let shipped = order.ship()?;
        let began = Instant::now();
        let appended = orders.append(id, order.version, [shipped.clone()]).await?;
        written.events.push(acknowledged(place(&appended)?, shipped, began));

        let record = NewAuditEvent::new(
            "order.shipped",
            "orders",
            Outcome::Success,
            "orders",
            ActorType::Service,
            "Order",
            id.to_string(),
        )?;
        let began = Instant::now();
        audit.record(record.clone()).await?;
        written.audit.push(acknowledged(record.event_id, record, began));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(written)
}

/// A write that ends now.
pub fn acknowledged<K, V>(key: K, value: V, began: Instant) -> Acknowledged<K, V> {
    Acknowledged { key, value, began, took: began.elapsed() }
}

fn place(appended: &Appended) -> Result<(StreamId, Version)> {
    let of = appended.streams.first().ok_or_else(|| Error::invalid("an append without a stream"))?;
    Ok((of.stream.clone(), of.last))
}
