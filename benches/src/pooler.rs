//! The same store through a pgbouncer in transaction mode, beside itself without one.

use changeover::events::HeadOf;
use changeover_testkit::{Pooler, with_user};

use crate::AnyError;
use crate::append::rate;
use crate::measure::{Goal, Plan, Round, point};
use crate::target::{Target, durable_database};

/// What the service logs in as.
const LOGIN: &str = "changeover_bench_service";

/// Appends and small reads.
pub async fn postgres(plan: Plan) -> Result<(), AnyError> {
    let database = durable_database().await?;
    // Migrates.
    drop(Target::postgres(database.url(), true).await?);
    database
        .execute(&format!("DROP ROLE IF EXISTS {LOGIN}; CREATE ROLE {LOGIN} LOGIN IN ROLE changeover_app"))
        .await?;
    let pooler = Pooler::start(database.url(), &[LOGIN], 10).await?;
    let login = with_user(database.url(), LOGIN, None);
    println!("through a pooler in transaction mode, beside the same without one");
    for shared_commits in [true, false] {
        let direct = Target::postgres(&login, shared_commits).await?;
        let through = Target::pooled(&pooler.url(&login), database.url(), shared_commits).await?;
        let kind = if shared_commits { "shared commits" } else { "each a commit" };
        for (tasks, batch) in [(1, 1), (8, 1), (32, 1), (8, 100)] {
            let name = format!("  append, {tasks} tasks x {batch}, {kind}");
            let (raw, ours) =
                (|| rate(&direct.store, tasks, batch, plan), || rate(&through.store, tasks, batch, plan));
            point(plan, &name, "ev/s", Goal::None, raw, ours).await?;
        }
        if shared_commits {
            let (raw, ours) = (|| heads(&direct, plan), || heads(&through, plan));
            point(plan, "  head, 1 task", "1/s", Goal::None, raw, ours).await?;
        }
    }
    Ok(())
}

/// The cheapest read there is, again and again.
async fn heads(target: &Target, plan: Plan) -> Result<Round, AnyError> {
    let begin = std::time::Instant::now();
    let mut count = 0_u32;
    while begin.elapsed() < plan.round() {
        target.store.head(HeadOf::Log).await?;
        count += 1;
    }
    Ok(Round { figure: f64::from(count) / begin.elapsed().as_secs_f64(), errors: 0 })
}
