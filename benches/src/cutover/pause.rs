//! How long writers stand still at the switch, as they see it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use changeover::AuditRepository;
use changeover::audit::Create;
use changeover_cutover::{Goal, Step};
use changeover_testkit::TestDatabase;
use tokio::time::{MissedTickBehavior, interval};

use super::{Stage, WRITES_A_SECOND, file, lock, terms};
use crate::AnyError;
use crate::audit::record;
use crate::measure::percentile;

const WRITERS: u32 = 20;

/// What a writer saw of one write.
struct Write {
    began: Instant,
    took: Duration,
}

/// Moves a file of so many rows while writers record a thousand events a second, and prints their longest write.
pub async fn run(legacy: &Path, rows: usize) -> Result<(), AnyError> {
    file::fill(legacy, rows)?;
    let db = TestDatabase::empty().await?;
    let stage = Stage::open(legacy, db.url()).await?;
    let repository = stage.db.audit("audit")?.repository().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (0..WRITERS).map(|_| tokio::spawn(write(Arc::clone(&repository), Arc::clone(&stop)))).collect();
    let pauses: Arc<std::sync::Mutex<Vec<(Instant, Duration)>>> = Arc::default();
    let stood = Arc::clone(&pauses);

    let cutover = stage.cutover().await?.watching(move |step| {
        if let Step::Paused(pause) = step {
            lock(&stood).push((Instant::now(), pause.took));
        }
    });
    cutover.run(&terms()?, Goal::Switched).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::Relaxed);
    let mut done = Vec::new();
    for writer in writers {
        done.extend(writer.await??);
    }
    stage.close().await;

    let pauses = lock(&pauses).clone();
    let is_of_pause = |write: &Write| {
        pauses.iter().any(|(end, took)| write.began < *end && write.began + write.took + *took > *end)
    };
    let milliseconds = |it: &Write| it.took.as_secs_f64() * 1_000.0;
    let longest = done.iter().filter(|it| is_of_pause(it)).map(milliseconds).fold(0.0, f64::max);
    let mut ordinary: Vec<f64> = done.iter().filter(|it| !is_of_pause(it)).map(milliseconds).collect();
    let (p50, p99) = (percentile(&mut ordinary, 0.5), percentile(&mut ordinary, 0.99));
    let ratio = longest / p99;
    let seen = done.iter().map(|it| it.began + it.took).max().zip(done.iter().map(|it| it.began).min());
    let seconds = seen.map_or(0.0, |(end, begin)| (end - begin).as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let reached = done.len() as f64 / seconds.max(0.001);
    println!(
        "  pause: {rows} rows moved under {reached:.0} writes/s (wanted {WRITES_A_SECOND}); longest write {longest:.1} ms, \
         of others p50 {p50:.2} ms, p99 {p99:.2} ms; ratio {ratio:.1} (goal <= 20: {})",
        if ratio <= 20.0 { "met" } else { "missed" }
    );
    for (_, took) in pauses {
        println!("  pause: the coordinator kept the fence closed for {:.1} ms", took.as_secs_f64() * 1_000.0);
    }
    Ok(())
}

/// One of the writers, which waits for each answer and does not make up for what it missed.
async fn write(
    repository: Arc<dyn AuditRepository>,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Write>, changeover::Error> {
    let mut due = interval(Duration::from_secs(1) * WRITERS / WRITES_A_SECOND);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut writes = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        due.tick().await;
        let event = record(writes.len())?;
        let began = Instant::now();
        repository.create(Create { events: vec![event] }).await?;
        writes.push(Write { began, took: began.elapsed() });
    }
    Ok(writes)
}
