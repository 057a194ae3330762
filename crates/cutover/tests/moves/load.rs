//! Ten times the usual load, and one row that is changed all the time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use changeover_core::backend::Family;
use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::{Goal, Pause, Step, Terms};
use diesel::connection::SimpleConnection as _;

use crate::roots::root;
use crate::stage::{Stage, history, terms};
use crate::support::program;
use crate::under_writers::{Writers, check, part};

/// Ten times those of the other tests; together some 600 writes a second.
const WRITERS: u64 = 30;
const PAUSE: Duration = Duration::from_millis(50);

/// The row, by its rowid in the file.
const HOT: u32 = 7;

/// An old program that changes one row all the time; the number of changes that were taken.
struct HotRow {
    stop: Arc<AtomicBool>,
    program: JoinHandle<u64>,
}

impl HotRow {
    fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let work = move || {
            let (mut program, mut taken) = (program(&path), 0);
            while !until.load(Ordering::Relaxed) {
                let next = taken + 1;
                let sql =
                    format!("UPDATE domain_event SET event_data = '{{\"n\":{next}}}' WHERE rowid = {HOT}");
                // It is refused behind the fence, and after the switch for good.
                match program.batch_execute(&sql) {
                    Ok(()) => {
                        taken = next;
                        std::thread::sleep(Duration::from_millis(3));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
            taken
        };
        Self { stop, program: std::thread::spawn(work) }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.program.join().unwrap()
    }
}

// Fault 12: the comparison comes to its end, and the fence either switches within its limit or is opened again; then the old
// store goes on, and later, with less to do, the same run is finished. Whatever was acknowledged is there, once.
#[tokio::test(flavor = "multi_thread")]
async fn writers_lose_nothing_under_ten_times_the_load() {
    let stage = Stage::legacy(Family::Events, &history(10, 100)).await;
    let writers = Writers::with_pause(&stage, WRITERS, PAUSE).await;
    let hot = HotRow::start(stage.file.path());
    let (pauses, compared) = (Arc::new(Mutex::new(Vec::<Pause>::new())), Arc::new(AtomicBool::new(false)));
    let (seen, done) = (Arc::clone(&pauses), Arc::clone(&compared));
    let cutover = stage.cutover().await.watching(move |step| match step {
        Step::Paused(pause) => seen.lock().unwrap().push(*pause),
        Step::Phase(Phase::Fenced) => done.store(true, Ordering::SeqCst),
        _ => {}
    });
    tokio::time::sleep(part()).await;
    let begin = Instant::now();
    // The limit that a run has if nobody asks for another one.
    let usual = Terms { max_pause: Terms::new(terms().tenant).max_pause, ..terms() };
    let ended = cutover.run(&usual, Goal::Switched).await;
    let took = begin.elapsed();
    let pauses = pauses.lock().unwrap().clone();
    let within = usual.max_pause + Duration::from_secs(5);
    assert!(!pauses.is_empty() && pauses.iter().all(|pause| pause.took < within), "{pauses:?} {ended:?}");
    assert!(compared.load(Ordering::SeqCst), "{ended:?}");
    let file = cutover.status().await.unwrap().file.unwrap();
    match &ended {
        Ok(status) => assert_eq!((status.owner, file.open), (Owner::Postgres, false)),
        Err(error) => {
            assert!(file.open, "{error}");
            assert_eq!(cutover.status().await.unwrap().owner, Owner::Sqlite);
        }
    }
    let (acknowledged, changes) = (writers.stop().await, hot.stop());
    println!(
        "{} writes, {changes} changes of one row; {took:?}, pauses {pauses:?}, {ended:?}",
        acknowledged.len()
    );
    assert!(acknowledged.len() > 100 && changes > 20, "{} {changes}", acknowledged.len());
    if ended.is_err() {
        assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    }
    check(&*stage.new_events().await, &acknowledged, 1_000).await;
    root(&stage).await;
    let last =
        format!("SELECT (event_data ->> 'n')::bigint FROM event_store.domain_event WHERE position = {HOT}");
    assert_eq!(stage.number(&last).await, i64::try_from(changes).unwrap(), "the last change of the row");
}
