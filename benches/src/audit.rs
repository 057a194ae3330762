//! Audit events: recording them one by one and in batches, and asking for them.

use std::sync::Arc;
use std::time::Instant;

use changeover::audit::{ActorType, AuditFilter, AuditQuery, Create, EventContext, NewAuditEvent, Outcome};
use changeover::{AuditRepository, Json, Limit, Text, Uuid};
use futures::future::try_join_all;
use tokio_postgres::Client;

use crate::measure::{Goal, Plan, Round, point, timed};
use crate::target::{Target, durable_database};
use crate::{AnyError, pgbench, raw_sqlite};

const TASKS: [usize; 3] = [1, 32, 100];
const BATCHES: [usize; 2] = [1, 100];
/// How many correlation ids the events of a filled trail share.
const CORRELATIONS: usize = 2_000;

/// On PostgreSQL, beside pgbench and the raw driver.
pub async fn postgres(plan: Plan, count: usize) -> Result<(), AnyError> {
    let database = durable_database().await?;
    let target = Target::postgres(database.url(), true).await?;
    let repository = target.audit().await?;
    pgbench::prepare_audit(&database).await?;

    println!("audit create, records/s, beside pgbench inserting the same rows, one transaction a call");
    for tasks in TASKS {
        for batch in BATCHES {
            let script = pgbench::audit_insert(batch);
            let goal = if (tasks, batch) == (100, 1) { Goal::AtLeast(5.0) } else { Goal::None };
            let raw = || pgbench::events_a_second(&database, &script, tasks, batch, plan);
            let ours = || creates(&repository, tasks, batch, plan);
            point(plan, &format!("  PostgreSQL, {tasks} tasks x {batch}"), "rec/s", goal, raw, ours).await?;
        }
    }

    println!("audit query over {count} records, p50 in ms, beside the raw driver");
    fill(&repository, count).await?;
    let client = database.client().await?;
    for (name, filter, condition) in questions()? {
        let raw = || ask_raw(&client, plan, condition);
        point(plan, name, "ms", Goal::None, raw, || ask(&repository, plan, &filter)).await?;
    }
    Ok(())
}

/// On SQLite, beside diesel on a bare connection.
pub async fn sqlite(plan: Plan, count: usize) -> Result<(), AnyError> {
    let folder = tempfile::tempdir()?;
    let target = Target::sqlite(&folder.path().join("ours.db"), true).await?;
    let repository = target.audit().await?;
    let file = folder.path().join("raw.db");
    drop(Target::sqlite(&file, true).await?.audit().await?);

    println!("audit create, records/s, beside diesel on a bare connection, one transaction a call");
    for tasks in TASKS {
        for batch in BATCHES {
            let raw = || {
                let file = file.clone();
                async move { tokio::task::spawn_blocking(move || raw_sqlite::records(&file, batch, plan)).await? }
            };
            let ours = || creates(&repository, tasks, batch, plan);
            point(plan, &format!("  SQLite, {tasks} tasks x {batch}"), "rec/s", Goal::None, raw, ours)
                .await?;
        }
    }

    println!(
        "audit query over {count} records, p50 in ms, both ours: newest first beside a page of one record"
    );
    fill(&repository, count).await?;
    let one = AuditQuery { limit: Limit::new(1)?, ..AuditQuery::default() };
    for (name, filter, _) in questions()? {
        let raw = || timed(plan, async || Ok(repository.query(one.clone()).await?.events.len()));
        point(plan, name, "ms", Goal::None, raw, || ask(&repository, plan, &filter)).await?;
    }
    Ok(())
}

/// What is asked: a name, our filter, and the condition of the raw statement.
fn questions() -> Result<[(&'static str, AuditFilter, &'static str); 3], AnyError> {
    let none = AuditFilter::default();
    Ok([
        ("  100 newest", none.clone(), "true"),
        (
            "  100 newest of a correlation id",
            AuditFilter { correlation_id: Some(Text::new("correlation_id", "order-17")?), ..none.clone() },
            "correlation_id = 'order-17'",
        ),
        (
            "  100 newest failures of a service",
            AuditFilter {
                service_name: Some(Text::new("service_name", "orders")?),
                event_outcome: Some(Outcome::Failure),
                ..none
            },
            "service_name = 'orders' AND event_outcome = 'failure'",
        ),
    ])
}

async fn ask(
    repository: &Arc<dyn AuditRepository>,
    plan: Plan,
    filter: &AuditFilter,
) -> Result<Round, AnyError> {
    let query = AuditQuery { filter: filter.clone(), limit: Limit::new(100)?, ..AuditQuery::default() };
    timed(plan, async || Ok(repository.query(query.clone()).await?.events.len())).await
}

async fn ask_raw(client: &Client, plan: Plan, condition: &str) -> Result<Round, AnyError> {
    let columns = "event_id::text, event_type, event_category, event_outcome, event_timestamp::text, event_date::text, \
                   service_name, service_version, actor_type, actor_id, actor_name, resource_type, resource_id, \
                   resource_name, event_data::text, correlation_id, parent_event_id::text, trace_id, span_id, \
                   metadata::text, recorded_at::text, sequence";
    let sql = format!(
        "SELECT {columns} FROM audit_store.audit_events WHERE tenant_id = 'default' AND {condition} \
         ORDER BY event_timestamp DESC, event_id LIMIT 100"
    );
    let statement = client.prepare(&sql).await?;
    timed(plan, async || Ok(client.query(&statement, &[]).await?.len())).await
}

/// Records for a round.
async fn creates(
    repository: &Arc<dyn AuditRepository>,
    tasks: usize,
    batch: usize,
    plan: Plan,
) -> Result<Round, AnyError> {
    let begin = Instant::now();
    let work = (0..tasks).map(|_| {
        let repository = Arc::clone(repository);
        let round = plan.round();
        tokio::spawn(async move {
            let (mut stored, mut errors) = (0, 0);
            while begin.elapsed() < round {
                let events = (0..batch).map(record).collect::<Result<_, _>>()?;
                match repository.create(Create { events }).await {
                    Ok(created) => stored += created.stored,
                    Err(_) => errors += 1,
                }
            }
            Ok::<_, AnyError>((stored, errors))
        })
    });
    let (mut stored, mut errors) = (0, 0);
    for result in try_join_all(work).await? {
        let (own, failed) = result?;
        stored += own;
        errors += failed;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of records")]
    let figure = stored as f64 / begin.elapsed().as_secs_f64();
    Ok(Round { figure, errors })
}

async fn fill(repository: &Arc<dyn AuditRepository>, count: usize) -> Result<(), AnyError> {
    for first in (0..count).step_by(Create::MAX_EVENTS) {
        let events = (first..count.min(first + Create::MAX_EVENTS)).map(record).collect::<Result<_, _>>()?;
        repository.create(Create { events }).await?;
    }
    Ok(())
}

/// A record of about 500 bytes.
pub fn record(number: usize) -> Result<NewAuditEvent, changeover::Error> {
    let outcome = if number.is_multiple_of(10) { Outcome::Failure } else { Outcome::Success };
    let event = NewAuditEvent::new(
        "workflow.step",
        "workflow",
        outcome,
        if number.is_multiple_of(3) { "orders" } else { "shipping" },
        ActorType::Service,
        "order",
        Uuid::new_v4().to_string(),
    )?;
    let extra = format!(r#"{{"n":"{}","pad":"{}"}}"#, Uuid::new_v4(), "x".repeat(240));
    event.within(EventContext {
        actor_id: Some(format!("worker-{}", number % 50)),
        correlation_id: Some(format!("order-{}", number % CORRELATIONS)),
        extra: Some(Json::parse(&extra)?),
        ..EventContext::default()
    })
}
