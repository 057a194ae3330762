//! The write lane of a file: writes that arrive while another one commits share the next transaction.
//!
//! Waiting for the disk is nearly all of a write's cost, and it is the same for one as for a hundred. A lane that is
//! idle lets a write straight through; nothing ever waits for company. Each write keeps its own outcome: a refusal was
//! judged before anything was written, and when the database itself fails the writes of that transaction are repeated
//! one by one. A write whose caller has gone before it began is left out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use changeover_core::{Applied, Error, ErrorKind, Result};
use diesel::SqliteConnection;
use tokio::sync::oneshot;

use crate::classify::Failure;
use crate::database::Database;
use crate::sql;

/// The most records that share a transaction; one write may have more.
const SHARED_RECORDS: usize = 1_000;

/// A write: what it does inside of the transaction, judging first, and for whom.
struct Work<R, F> {
    records: usize,
    run: F,
    /// Whether followers of a log are to be woken.
    is_news: fn(&R) -> bool,
    outcome: Option<Result<R>>,
    answer: Option<oneshot::Sender<Result<R>>>,
}

/// A write that waits, whatever it answers.
trait Job: Send {
    fn records(&self) -> usize;
    fn is_abandoned(&self) -> bool;
    /// Keeps what came out; an error means that the database failed.
    fn run(&mut self, conn: &mut SqliteConnection) -> Result<(), Failure>;
    /// After the commit: answers with what came out, and says whether it is news.
    fn settle(&mut self) -> bool;
    fn fail(&mut self, error: Error);
}

impl<R, F> Job for Work<R, F>
where
    R: Send,
    F: FnMut(&mut SqliteConnection) -> Result<R, Failure> + Send,
{
    fn records(&self) -> usize {
        self.records
    }

    fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn run(&mut self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        self.outcome = Some(match (self.run)(conn) {
            Ok(done) => Ok(done),
            Err(Failure::Refused(error)) => Err(error.applied(Applied::No)),
            Err(broken) => return Err(broken),
        });
        Ok(())
    }

    fn settle(&mut self) -> bool {
        let news = self.outcome.as_ref().is_some_and(|done| done.as_ref().is_ok_and(self.is_news));
        if let (Some(answer), Some(outcome)) = (self.answer.take(), self.outcome.take()) {
            // A caller who has gone wants no answer.
            let _ = answer.send(outcome);
        }
        news
    }

    fn fail(&mut self, error: Error) {
        if let Some(answer) = self.answer.take() {
            let _ = answer.send(Err(error));
        }
    }
}

/// The writes that wait, and whether somebody is at work on them.
#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
    driven: bool,
}

/// The lane of one opened backend.
#[derive(Default)]
pub(crate) struct Lane(Mutex<Queue>);

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

/// Writes through the lane of `database`. `run` judges before it writes, and may be called again after the database
/// failed; its `records` count towards what may share a transaction.
pub(crate) async fn submit<R: Send + 'static>(
    database: &Arc<Database>,
    records: usize,
    is_news: fn(&R) -> bool,
    run: impl FnMut(&mut SqliteConnection) -> Result<R, Failure> + Send + 'static,
) -> Result<R> {
    let (answer, answered) = oneshot::channel();
    let work = Work { records, run, is_news, outcome: None, answer: Some(answer) };
    let idle = {
        let mut queue = database.lane.lock();
        queue.jobs.push_back(Box::new(work));
        !std::mem::replace(&mut queue.driven, true)
    };
    if idle {
        // Made here: a runtime that is shutting down drops the task before it begins.
        tokio::spawn(drive(Driver { database: Arc::clone(database), done: false }));
    }
    answered.await.unwrap_or_else(|_| {
        let message = "the write was given up before its outcome was known: a defect, or the runtime stopped";
        Err(Error::new(ErrorKind::Unavailable, message).applied(Applied::Unknown))
    })
}

impl Lane {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next jobs: those that share a transaction, or one. Empty: the lane is idle from now on.
    fn take(&self, shared: bool) -> Vec<Box<dyn Job>> {
        let mut queue = self.lock();
        let (mut jobs, mut records) = (Vec::new(), 0);
        while let Some(next) = queue.jobs.front() {
            let size = next.records();
            if !jobs.is_empty() && (!shared || records + size > SHARED_RECORDS) {
                break;
            }
            records += size;
            jobs.extend(queue.jobs.pop_front().filter(|job| !job.is_abandoned()));
        }
        queue.driven = !jobs.is_empty();
        jobs
    }
}

/// Works until nothing waits; gives way to whoever waits for the turn to write between two transactions.
async fn drive(mut driver: Driver) {
    let database = Arc::clone(&driver.database);
    loop {
        let turn = database.write_turn().await;
        let jobs = database.lane.take(database.options.shared_commits);
        if jobs.is_empty() {
            driver.done = true;
            return;
        }
        let turn = match turn {
            Ok(turn) => turn,
            Err(error) => {
                refuse(jobs, &error);
                continue;
            }
        };
        // Jobs stay reachable, for the case that no connection can be had.
        let jobs = Arc::new(Mutex::new(jobs));
        let (mine, news) = (Arc::clone(&jobs), Arc::clone(&database));
        let work = move |conn: &mut SqliteConnection| {
            let jobs = std::mem::take(&mut *mine.lock().unwrap_or_else(PoisonError::into_inner));
            commit(conn, &news, jobs);
            Ok(())
        };
        if let Err(error) = database.write_in(turn, work).await {
            let left = std::mem::take(&mut *jobs.lock().unwrap_or_else(PoisonError::into_inner));
            refuse(left, &error);
        }
    }
}

/// Frees the lane when its driver is dropped with its runtime: another runtime may use the backend.
struct Driver {
    database: Arc<Database>,
    done: bool,
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !self.done {
            *self.database.lane.lock() = Queue::default();
        }
    }
}

fn refuse(jobs: Vec<Box<dyn Job>>, error: &Error) {
    for mut job in jobs {
        job.fail(error.clone().applied(Applied::No));
    }
}

/// One transaction for all jobs; if the database fails, one for each.
fn commit(conn: &mut SqliteConnection, database: &Database, mut jobs: Vec<Box<dyn Job>>) {
    match attempt(conn, &mut jobs) {
        Ok(()) => {
            // Every job is settled, so this is no `any`.
            let news = jobs.iter_mut().filter_map(|job| job.settle().then_some(())).count();
            if news > 0 {
                database.announce();
            }
        }
        // Worth a try one by one only if one of them may have been the reason.
        Err((Stage::Writes, _)) if jobs.len() > 1 => {
            for job in jobs {
                commit(conn, database, vec![job]);
            }
        }
        Err((stage, failure)) => {
            let error = failure.into_error();
            let unknown = stage == Stage::Commit
                && !matches!(error.kind(), ErrorKind::Contention | ErrorKind::ReadOnly);
            let applied = if unknown { Applied::Unknown } else { Applied::No };
            for mut job in jobs {
                job.fail(error.clone().applied(applied));
            }
        }
    }
}

/// How far a transaction came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    Writes,
    Commit,
}

fn attempt(conn: &mut SqliteConnection, jobs: &mut [Box<dyn Job>]) -> Result<(), (Stage, Failure)> {
    let mut stage = Stage::Begin;
    let done = sql::write(conn, |conn| {
        stage = Stage::Writes;
        for job in jobs {
            job.run(conn)?;
        }
        stage = Stage::Commit;
        Ok(())
    });
    done.map_err(|failure| (stage, failure))
}
