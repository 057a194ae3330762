//! A disk of PostgreSQL that is really full: one of its tables, or that of its log, which stops the server.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::{Goal, Step, Terms};
use changeover_testkit::{Halt, OnDisk, OwnServer};
use diesel::connection::SimpleConnection as _;
use rstest::rstest;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::roots::one_root;
use crate::stage::{Stage, history, terms, words};
use crate::support::program;
use crate::under_writers::{Writers, check};

/// Megabytes: room for everything, but not for much more.
const SIZE: u32 = 64;

/// How often a full disk is met before there is room again.
const MET: u32 = 3;

/// Rows of some kilobytes that cannot be made smaller: they need room wherever they go.
const LARGE: &str = "UPDATE domain_event SET event_data = json_object('n', rowid, 'x', hex(randomblob(4000))) \
    WHERE event_id LIKE '00000000-0000-4000-a000-%'";

/// What is full, and what of the run has met it.
struct Disk {
    server: Arc<OwnServer>,
    what: OnDisk,
    /// Waits since it is full; above [`MET`] while there is room.
    waits: AtomicU32,
    /// Steps at which it came to be full.
    filled: AtomicUsize,
    /// Why it was waited.
    why: Mutex<Vec<String>>,
}

impl Disk {
    fn of(server: &Arc<OwnServer>, what: OnDisk) -> Self {
        let (server, waits) = (Arc::clone(server), AtomicU32::new(MET));
        Self { server, what, waits, filled: AtomicUsize::new(0), why: Mutex::default() }
    }

    fn is_full(&self) -> bool {
        self.waits.load(Ordering::SeqCst) < MET
    }

    fn fill(&self) {
        self.server.disk().unwrap().fill().unwrap();
        self.waits.store(0, Ordering::SeqCst);
        self.filled.fetch_add(1, Ordering::SeqCst);
    }

    /// With every wait it comes nearer to having room.
    fn waits(&self, why: &str) {
        self.why.lock().unwrap().push(why.to_owned());
        if !self.is_full() || self.waits.fetch_add(1, Ordering::SeqCst) + 1 < MET {
            return;
        }
        self.server.disk().unwrap().make_room().unwrap();
        if self.what == OnDisk::Log {
            // A server that cannot write its log ends; it may have come back by itself.
            block_in_place(|| {
                Handle::current().block_on(async {
                    let _ = self.server.halt(Halt::Immediate).await;
                    self.server.resume().await.unwrap();
                });
            });
        }
    }
}

// Fault 6: PostgreSQL has no room while the run copies, while it catches up and behind the fence. It is waited for, no row is
// parked for it, and nothing is lost or doubled.
#[rstest]
#[case::of_its_tables(OnDisk::Databases)]
#[case::of_its_log(OnDisk::Log)]
#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_when_the_full_disk_has_room(#[case] what: OnDisk) {
    let server = Arc::new(OwnServer::with_disk(SIZE, what).await.unwrap());
    let history = history(5, 60) + LARGE;
    let stage = match what {
        OnDisk::Databases => Stage::on_disk(&server, &history).await,
        OnDisk::Log => Stage::on(&server, &history).await,
    };
    let writers = Writers::start(&stage, 1).await;
    let disk = Arc::new(Disk::of(&server, what));
    let (seen, path, verifying) = (Arc::clone(&disk), stage.file.path(), Mutex::new(false));
    let cutover = stage.cutover().await.watching(move |step| {
        let mut verifying = verifying.lock().unwrap();
        let change = || program(&path).batch_execute(LARGE).unwrap();
        match (seen.filled.load(Ordering::SeqCst), step) {
            (_, Step::Waiting { why }) => seen.waits(why),
            (0, Step::Copied(_)) | (2, Step::Phase(Phase::Fenced)) => seen.fill(),
            (1, Step::Phase(Phase::CatchingUp)) => {
                change();
                seen.fill();
            }
            (2, Step::Phase(phase @ (Phase::Verifying | Phase::CatchingUp))) => {
                *verifying = *phase == Phase::Verifying;
            }
            // What is left for the other side of the fence.
            (2, Step::Followed { .. }) if *verifying => change(),
            _ => {}
        }
    });
    let patient = Terms { patience: Duration::from_mins(2), ..terms() };
    assert_eq!(cutover.run(&patient, Goal::Switched).await.unwrap().owner, Owner::Postgres);
    let why = disk.why.lock().unwrap().clone();
    assert_eq!(disk.filled.load(Ordering::SeqCst), 3, "{why:?}");
    assert!(!disk.is_full(), "{why:?}");
    let acknowledged = writers.stop().await;
    assert!(!acknowledged.is_empty());
    check(&*stage.new_events().await, &acknowledged, 300).await;
    one_root(&stage).await;
    assert_eq!(stage.number("SELECT count(*) FROM cutover.quarantine").await, 0);
    let record = cutover.record(None).await.unwrap();
    for word in ["copying", "switched"] {
        assert_eq!(words(&record).iter().filter(|it| **it == word).count(), 1, "{word}");
    }
}
