//! Moves while several writers go on, and a checker of what they were told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use changeover_core::backend::Family;
use changeover_core::events::ReadAll;
use changeover_core::{ErrorKind, EventStore, Uuid};
use changeover_cutover::phase::Owner;
use changeover_cutover::{Goal, Step};

use crate::stage::{Stage, append, event, history, stream, terms};

/// A service with several writers: each write is tried in the file, and in the database when the file says it moved.
pub struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<BTreeMap<Uuid, u64>>>,
}

impl Writers {
    /// Writers that go on, and leave the processor to what is tested.
    pub async fn start(stage: &Stage, count: u64) -> Self {
        Self::with_pause(stage, count, Duration::from_millis(10)).await
    }

    /// With so long a pause after each write, so that the load is the same however fast the disk is.
    pub async fn with_pause(stage: &Stage, count: u64, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (old, new) = (stage.old_events().await, stage.new_events().await);
        let task = |writer: u64| {
            let (stop, old, new) = (Arc::clone(&stop), Arc::clone(&old), Arc::clone(&new));
            tokio::spawn(async move {
                let mut acknowledged = BTreeMap::new();
                let mut number = writer << 32;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let id = Uuid::now_v7();
                    if write(&*old, &*new, u128::from(writer), id, number, &stop).await {
                        acknowledged.insert(id, number);
                    }
                    tokio::time::sleep(pause).await;
                }
                acknowledged
            })
        };
        Self { tasks: (1..=count).map(task).collect(), stop }
    }

    /// Every write that was acknowledged.
    pub async fn stop(self) -> BTreeMap<Uuid, u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for task in self.tasks {
            all.extend(task.await.unwrap());
        }
        all
    }
}

/// The id of a write by its number: the same for whoever does it.
pub fn id_of(number: u64) -> Uuid {
    Uuid::from_u128(0x00c0_ffee_0000_4000_8000_0000_0000_0000 + u128::from(number))
}

/// The same write, until a store takes it; `false` if the test ended meanwhile.
pub async fn write(
    old: &dyn EventStore,
    new: &dyn EventStore,
    to: u128,
    id: Uuid,
    number: u64,
    stop: &AtomicBool,
) -> bool {
    loop {
        for store in [old, new] {
            match append(store, stream(to), event(id, number)).await {
                Ok(()) => return true,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Moved
                            | ErrorKind::Contention
                            | ErrorKind::Unavailable
                            | ErrorKind::Timeout
                    ) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Every acknowledged write is in the store that is open, once, and the store holds `before` others. Writes whose end was not
/// awaited may be there too.
pub async fn check(store: &dyn EventStore, acknowledged: &BTreeMap<Uuid, u64>, before: usize) {
    let mut found: BTreeMap<Uuid, u64> = BTreeMap::new();
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    let (mut others, mut after, mut last) = (0, None, None);
    loop {
        let page = store.read_all(ReadAll { after, ..ReadAll::default() }).await.unwrap();
        for it in &page.events {
            assert!(last.is_none_or(|last| last < it.checkpoint.position()), "the global order");
            last = Some(it.checkpoint.position());
            let next = versions.entry(it.stream.to_string()).or_default();
            *next += 1;
            assert_eq!(
                u64::try_from(it.version.get()).unwrap(),
                *next,
                "{}: no version twice, none missing",
                it.stream
            );
            let number: serde_json::Value = it.data.to().unwrap();
            if it.stream.to_string().contains("abc0") {
                assert!(found.insert(it.id, number["n"].as_u64().unwrap()).is_none(), "an id twice");
            } else {
                others += 1;
            }
        }
        if page.events.is_empty() {
            break;
        }
        after = Some(page.checkpoint);
    }
    assert_eq!(others, before);
    for (id, number) in acknowledged {
        assert_eq!(found.get(id), Some(number), "an acknowledged write is lost");
    }
}

/// How long each of the four parts of the soak goes on: short, unless a recipe asks for more.
pub fn part() -> Duration {
    let seconds = std::env::var("CHANGEOVER_SOAK_SECONDS").ok().and_then(|text| text.parse::<f64>().ok());
    seconds.map_or(Duration::from_millis(200), |seconds| Duration::from_secs_f64(seconds / 4.0))
}

// Fault 12: hot streams that are written to all the time, through a cutover, a revert and a second cutover.
#[tokio::test(flavor = "multi_thread")]
async fn writers_lose_nothing_while_the_module_moves_comes_back_and_moves_again() {
    let stage = Stage::legacy(Family::Events, &history(10, 100)).await;
    let writers = Writers::start(&stage, 3).await;
    let (pauses, begin) = (Arc::new(Mutex::new(Vec::new())), std::time::Instant::now());
    let seen = Arc::clone(&pauses);
    let cutover = stage.cutover().await.watching(move |step| {
        if let Step::Paused(pause) = step {
            seen.lock().unwrap().push(*pause);
        }
    });
    tokio::time::sleep(part()).await;
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    tokio::time::sleep(part()).await;
    assert_eq!(cutover.revert(&terms()).await.unwrap().owner, Owner::Sqlite);
    tokio::time::sleep(part()).await;
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    tokio::time::sleep(part()).await;
    let acknowledged = writers.stop().await;
    println!(
        "{} writes in {:?}; pauses of the writers: {:?}",
        acknowledged.len(),
        begin.elapsed(),
        pauses.lock().unwrap()
    );
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    check(&*stage.new_events().await, &acknowledged, 1_000).await;
}
