//! The write lane of a file: appends that arrive while another one commits share the next transaction.
//!
//! Waiting for the disk is nearly all of an append's cost, and it is the same for one append as for a hundred. A lane
//! that is idle lets an append straight through; nothing ever waits for company. Each append keeps its own outcome: a
//! refusal was judged before anything was written, and when the database itself fails the appends of that transaction
//! are repeated one by one. An append whose caller has gone before it began is left out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use changeover_core::events::{Append, Appended};
use changeover_core::{Applied, Error, ErrorKind, Result};
use diesel::SqliteConnection;
use tokio::sync::oneshot;

use super::append::append;
use super::log::Tables;
use crate::classify::Failure;
use crate::database::Database;
use crate::sql;

/// The most events that share a transaction; one append may have more.
const SHARED_EVENTS: usize = 1_000;

/// An append that waits.
struct Job {
    tables: Arc<Tables>,
    request: Append,
    answer: oneshot::Sender<Result<Appended>>,
}

/// The appends that wait, and whether somebody is at work on them.
#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
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

/// Appends through the lane of `database`.
pub(crate) async fn submit(
    database: &Arc<Database>,
    tables: &Arc<Tables>,
    request: Append,
) -> Result<Appended> {
    let (answer, answered) = oneshot::channel();
    let idle = {
        let mut queue = database.lane.lock();
        queue.jobs.push_back(Job { tables: Arc::clone(tables), request, answer });
        !std::mem::replace(&mut queue.driven, true)
    };
    if idle {
        // Made here: a runtime that is shutting down drops the task before it begins.
        tokio::spawn(drive(Driver { database: Arc::clone(database), done: false }));
    }
    answered.await.unwrap_or_else(|_| {
        let message =
            "the append was given up before its outcome was known: a defect, or the runtime stopped";
        Err(Error::new(ErrorKind::Unavailable, message).applied(Applied::Unknown))
    })
}

impl Lane {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next jobs: those that share a transaction, or one. Empty: the lane is idle from now on.
    fn take(&self, shared: bool) -> Vec<Job> {
        let mut queue = self.lock();
        let (mut jobs, mut events) = (Vec::new(), 0);
        while let Some(next) = queue.jobs.front() {
            let size = next.request.streams.iter().map(|part| part.events.len()).sum::<usize>();
            if !jobs.is_empty() && (!shared || events + size > SHARED_EVENTS) {
                break;
            }
            events += size;
            jobs.extend(queue.jobs.pop_front().filter(|job| !job.answer.is_closed()));
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

fn refuse(jobs: Vec<Job>, error: &Error) {
    for job in jobs {
        // A caller who has gone wants no answer.
        let _ = job.answer.send(Err(error.clone().applied(Applied::No)));
    }
}

/// One transaction for all jobs; if the database fails, one for each.
fn commit(conn: &mut SqliteConnection, database: &Database, jobs: Vec<Job>) {
    match attempt(conn, &jobs) {
        Ok(outcomes) => {
            if outcomes.iter().any(|outcome| outcome.as_ref().is_ok_and(|appended| !appended.repeated)) {
                database.announce();
            }
            for (job, outcome) in jobs.into_iter().zip(outcomes) {
                let _ = job.answer.send(outcome.map_err(|error| error.applied(Applied::No)));
            }
        }
        // Worth a try one by one only if one of them may have been the reason.
        Err((Stage::Appends, _)) if jobs.len() > 1 => {
            for job in jobs {
                commit(conn, database, vec![job]);
            }
        }
        Err((stage, failure)) => {
            let error = failure.into_error();
            let unknown = stage == Stage::Commit
                && !matches!(error.kind(), ErrorKind::Contention | ErrorKind::ReadOnly);
            let applied = if unknown { Applied::Unknown } else { Applied::No };
            for job in jobs {
                let _ = job.answer.send(Err(error.clone().applied(applied)));
            }
        }
    }
}

/// How far a transaction came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    Appends,
    Commit,
}

fn attempt(conn: &mut SqliteConnection, jobs: &[Job]) -> Result<Vec<Result<Appended>>, (Stage, Failure)> {
    let mut stage = Stage::Begin;
    let done = sql::write(conn, |conn| {
        stage = Stage::Appends;
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            outcomes.push(match append(conn, &job.tables, &job.request) {
                Ok(appended) => Ok(appended),
                Err(Failure::Refused(error)) => Err(error),
                Err(broken) => return Err(broken),
            });
        }
        stage = Stage::Commit;
        Ok(outcomes)
    });
    done.map_err(|failure| (stage, failure))
}
