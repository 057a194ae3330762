//! Appends: one task and many, single events and batches, with and without shared commits.

use std::sync::Arc;
use std::time::Instant;

use changeover::EventStore;
use futures::future::try_join_all;

use crate::measure::{Goal, Plan, Round, percentile, point};
use crate::target::{Target, durable_database, new_stream};
use crate::{AnyError, pgbench, raw_sqlite};

const TASKS: [usize; 3] = [1, 8, 32];
const BATCHES: [usize; 3] = [1, 10, 100];

/// Appends for a round; the latencies of all of them in milliseconds.
async fn appends(
    store: &Arc<dyn EventStore>,
    tasks: usize,
    batch: usize,
    plan: Plan,
) -> Result<(Round, Vec<f64>), AnyError> {
    let begin = Instant::now();
    let work = (0..tasks).map(|_| {
        let store = Arc::clone(store);
        let round = plan.round();
        tokio::spawn(async move {
            let (mut latencies, mut errors) = (Vec::new(), 0);
            while begin.elapsed() < round {
                let append = new_stream(batch)?;
                let sent = Instant::now();
                match store.append(append).await {
                    Ok(_) => latencies.push(sent.elapsed().as_secs_f64() * 1_000.0),
                    Err(_) => errors += 1,
                }
            }
            Ok::<_, AnyError>((latencies, errors))
        })
    });
    let (mut latencies, mut errors) = (Vec::new(), 0);
    for result in try_join_all(work).await? {
        let (own, failed) = result?;
        latencies.extend(own);
        errors += failed;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of events")]
    let figure = (latencies.len() * batch) as f64 / begin.elapsed().as_secs_f64();
    Ok((Round { figure, errors }, latencies))
}

/// Appends for a round, in events a second.
pub async fn rate(
    store: &Arc<dyn EventStore>,
    tasks: usize,
    batch: usize,
    plan: Plan,
) -> Result<Round, AnyError> {
    Ok(appends(store, tasks, batch, plan).await?.0)
}

/// On PostgreSQL.
pub async fn postgres(plan: Plan) -> Result<(), AnyError> {
    let database = durable_database().await?;
    let shared = Target::postgres(database.url(), true).await?;
    let direct = Target::postgres(database.url(), false).await?;
    pgbench::prepare(&database).await?;

    println!("append, events/s, beside pgbench calling a looping function without a position lock");
    for tasks in TASKS {
        for batch in BATCHES {
            let script = pgbench::looping_function(batch);
            let goal = match (tasks, batch) {
                (32, 1) => Goal::AtLeast(5.0),
                (8, 1) => Goal::AtLeast(2.0),
                _ => Goal::None,
            };
            let name = format!("  {tasks} tasks x {batch}, shared commits");
            let raw = || pgbench::events_a_second(&database, &script, tasks, batch, plan);
            point(plan, &name, "ev/s", goal, raw, || rate(&shared.store, tasks, batch, plan)).await?;
        }
    }

    println!("append, events/s, beside a plain multi-row insert by pgbench");
    let script = pgbench::plain_insert(100);
    let raw = || pgbench::events_a_second(&database, &script, 8, 100, plan);
    let ours = || rate(&shared.store, 8, 100, plan);
    point(plan, "  8 tasks x 100, shared commits", "ev/s", Goal::AtLeast(0.8), raw, ours).await?;

    println!("append without shared commits, events/s, beside pgbench calling the same function");
    for tasks in TASKS {
        let script = pgbench::own_function(1);
        let goal = if tasks == 1 { Goal::None } else { Goal::AtLeast(0.95) };
        let raw = || pgbench::events_a_second(&database, &script, tasks, 1, plan);
        let name = format!("  {tasks} tasks x 1");
        point(plan, &name, "ev/s", goal, raw, || rate(&direct.store, tasks, 1, plan)).await?;
    }

    println!("append, latency in ms, beside pgbench calling the looping function");
    let script = pgbench::looping_function(1);
    for (tasks, share, name, goal) in
        [(1, 0.5, "  1 task, p50", Goal::AtMost(1.25)), (32, 0.99, "  32 tasks, p99", Goal::AtMost(0.5))]
    {
        let raw = || async {
            let mut found = pgbench::run(&database, &script, tasks, plan, true).await?;
            Ok(Round { figure: percentile(&mut found.latencies, share), errors: 0 })
        };
        let ours = || async {
            let (round, mut latencies) = appends(&shared.store, tasks, 1, plan).await?;
            Ok(Round { figure: percentile(&mut latencies, share), ..round })
        };
        point(plan, name, "ms", goal, raw, ours).await?;
    }
    Ok(())
}

/// On SQLite.
pub async fn sqlite(plan: Plan) -> Result<(), AnyError> {
    let folder = tempfile::tempdir()?;
    let shared = Target::sqlite(&folder.path().join("shared.db"), true).await?;
    let direct = Target::sqlite(&folder.path().join("direct.db"), false).await?;
    let file = folder.path().join("raw.db");
    drop(Target::sqlite(&file, true).await?);
    println!("SQLite {}, synchronous=FULL", raw_sqlite::version(&file)?);

    println!("append, events/s, beside diesel on a bare connection, one transaction an append");
    for (tasks, batch, goal) in [
        (1, 1, Goal::AtLeast(0.8)),
        (1, 10, Goal::None),
        (1, 100, Goal::AtLeast(0.9)),
        (8, 1, Goal::None),
        (32, 1, Goal::AtLeast(5.0)),
    ] {
        for (store, how) in [(&shared.store, "shared commits"), (&direct.store, "without shared commits")] {
            let goal = if how == "shared commits" { goal } else { Goal::None };
            let raw = || {
                let file = file.clone();
                async move { tokio::task::spawn_blocking(move || raw_sqlite::appends(&file, batch, plan)).await? }
            };
            let name = format!("  {tasks} tasks x {batch}, {how}");
            point(plan, &name, "ev/s", goal, raw, || rate(store, tasks, batch, plan)).await?;
        }
    }

    println!("append, latency in ms: 8 writers' p99 beside 8 times the p99 of 1 writer, both ours");
    let one = || async {
        let (round, mut latencies) = appends(&shared.store, 1, 1, plan).await?;
        Ok(Round { figure: 8.0 * percentile(&mut latencies, 0.99), ..round })
    };
    let eight = || async {
        let (round, mut latencies) = appends(&shared.store, 8, 1, plan).await?;
        Ok(Round { figure: percentile(&mut latencies, 0.99), ..round })
    };
    point(plan, "  8 writers", "ms", Goal::AtMost(1.0), one, eight).await
}
