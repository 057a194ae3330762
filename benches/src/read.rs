//! Reads: loading a stream, and reading the whole log.

use std::sync::Arc;
use std::time::Instant;

use changeover::events::{Append, Expected, ReadAll, ReadStream, StreamId};
use changeover::{EventStore, Limit, Uuid};
use futures::TryStreamExt;
use tokio_postgres::Client;

use crate::AnyError;
use crate::measure::{Goal, Plan, Round, point, timed};
use crate::target::{Target, durable_database, events};

const COLUMNS: &str = "aggregate_version, position, event_id::text, event_type, event_version, event_data::text, \
                       metadata::text, occurred_at::text, recorded_at::text, causation_id::text, correlation_id::text";

/// On PostgreSQL beside the raw driver, and the log on SQLite for comparison.
pub async fn all(plan: Plan, count: usize) -> Result<(), AnyError> {
    let database = durable_database().await?;
    let target = Target::postgres(database.url(), true).await?;
    let client = database.client().await?;
    let store = &target.store;

    println!("load a stream, p50 in ms, beside the raw driver");
    for (length, goal) in [(100_usize, 1.3), (1_000, 1.1)] {
        let stream = StreamId::new("Order", Uuid::now_v7())?;
        store.append(Append::one(stream.clone(), Expected::NoStream, events(length)?)).await?;
        let id: String = client
            .query_one(
                "SELECT stream_id::text FROM event_store.event_stream WHERE aggregate_id::text = $1",
                &[&stream.aggregate_id.to_string()],
            )
            .await?
            .get(0);
        let sql = format!(
            "SELECT {COLUMNS} FROM event_store.domain_event WHERE tenant_id = 'default' AND stream_id = '{id}' \
             ORDER BY aggregate_version"
        );
        let statement = client.prepare(&sql).await?;
        let raw = || timed(plan, async || Ok(client.query(&statement, &[]).await?.len()));
        let ours = || timed(plan, async || load(store, &stream).await);
        point(plan, &format!("  {length} events"), "ms", Goal::AtMost(goal), raw, ours).await?;
    }

    println!("read the whole log of {count} events, events/s, beside one binary COPY stream");
    let stream = StreamId::new("Order", Uuid::now_v7())?;
    for _ in 0..count.div_ceil(1_000) {
        store.append(Append::one(stream.clone(), Expected::Any, events(1_000)?)).await?;
    }
    let raw = || copy_out(&client);
    point(plan, "  PostgreSQL", "ev/s", Goal::AtLeast(0.8), raw, || read_log(store)).await?;

    let folder = tempfile::tempdir()?;
    let sqlite = Target::sqlite(&folder.path().join("log.db"), true).await?;
    for _ in 0..count.div_ceil(1_000) {
        sqlite.store.append(Append::one(stream.clone(), Expected::Any, events(1_000)?)).await?;
    }
    let raw = || copy_out(&client);
    point(plan, "  SQLite (raw: PostgreSQL's COPY)", "ev/s", Goal::None, raw, || read_log(&sqlite.store))
        .await
}

async fn load(store: &Arc<dyn EventStore>, stream: &StreamId) -> Result<usize, AnyError> {
    let request = ReadStream { limit: Limit::new(1_000)?, ..ReadStream::all(stream.clone()) };
    Ok(store.read_stream(request).await?.events.len())
}

async fn copy_out(client: &Client) -> Result<Round, AnyError> {
    let begin = Instant::now();
    let sql = "COPY (SELECT * FROM event_store.domain_event ORDER BY tenant_id, position) TO STDOUT (FORMAT binary)";
    let bytes: usize =
        client.copy_out(sql).await?.try_fold(0, |sum, part| async move { Ok(sum + part.len()) }).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let count: i64 = client.query_one("SELECT count(*) FROM event_store.domain_event", &[]).await?.get(0);
    if bytes == 0 {
        return Err("the log is empty".into());
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of events")]
    let figure = count as f64 / seconds;
    Ok(Round { figure, errors: 0 })
}

async fn read_log(store: &Arc<dyn EventStore>) -> Result<Round, AnyError> {
    let begin = Instant::now();
    let mut request = ReadAll { limit: Limit::new(5_000)?, ..ReadAll::default() };
    let mut count = 0_usize;
    loop {
        let page = store.read_all(request.clone()).await?;
        count += page.events.len();
        request.after = Some(page.checkpoint);
        if page.caught_up {
            break;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of events")]
    let figure = count as f64 / begin.elapsed().as_secs_f64();
    Ok(Round { figure, errors: 0 })
}
