//! `cutover run`, `abort`, `revert`, `finalize`: what moves something.

use changeover::Db;
use changeover::cutover::convert::Accepted;
use changeover::cutover::phase::Phase;
use changeover::cutover::{Status as Stand, Terms};

use super::steps::follow;
use super::{fingerprint, open, status};
use crate::args::{CutoverRun, CutoverTerms, Of};
use crate::exit::{Failure, Status};
use crate::output::Out;

pub async fn run(options: CutoverRun, db: &Db, out: &mut Out) -> Result<Status, Failure> {
    let terms = Terms { drill_within: db.drill_within(), ..terms(&options.terms, db)? };
    let cutover = open(db, &options.of).await?;
    let goal = options.to.into();
    let again = format!("changeover cutover run {}", options.of);
    let looked = cutover.clone();
    let done = follow(cutover, out, &again, |cutover| async move { cutover.run(&terms, goal).await }).await;
    match done {
        Ok(stand) => end(&stand, &options.of, out),
        Err(failure) => Err(with_quarantine(failure, &looked, &options.of).await),
    }
}

/// The terms that were given.
pub(super) fn terms(given: &CutoverTerms, db: &Db) -> Result<Terms, Failure> {
    Ok(Terms {
        accepted: Accepted::of(&given.accept.losses),
        max_quarantined: given.accept.max_quarantined,
        plan: given.plan.as_deref().map(fingerprint).transpose()?,
        chunk_rows: given.chunk_rows,
        busy: given.busy,
        max_replica_lag: given.max_replica_lag,
        max_pause: given.max_pause,
        attempts: given.attempts,
        lease: given.lease,
        ..Terms::new(db.tenant().clone())
    })
}

/// Rows that nobody decided about are what a run stops for most often.
async fn with_quarantine(failure: Failure, cutover: &changeover::cutover::Cutover, of: &Of) -> Failure {
    let open = match cutover.status().await {
        Ok(stand) => stand.progress.map_or(0, |progress| progress.quarantined.1),
        Err(_) => 0,
    };
    if failure.status != Status::Refused || open == 0 {
        return failure;
    }
    Failure::refused(format!(
        "{failure}\n  `changeover cutover quarantine list {of} --decision undecided` shows them"
    ))
}

pub async fn abort(of: &Of, db: &Db, out: &mut Out) -> Result<Status, Failure> {
    let terms = Terms::new(db.tenant().clone());
    let again = format!("changeover cutover abort {of}");
    let cutover = open(db, of).await?;
    let stand = follow(cutover, out, &again, |cutover| async move { cutover.abort(&terms).await }).await?;
    end(&stand, of, out)
}

pub async fn revert(of: &Of, db: &Db, out: &mut Out) -> Result<Status, Failure> {
    let terms = Terms::new(db.tenant().clone());
    let again = format!("changeover cutover revert {of}");
    let cutover = open(db, of).await?;
    let stand = follow(cutover, out, &again, |cutover| async move { cutover.revert(&terms).await }).await?;
    end(&stand, of, out)
}

pub async fn finalize(of: &Of, keep_file: bool, db: &Db, out: &mut Out) -> Result<Status, Failure> {
    let terms = Terms { keep_file, ..Terms::new(db.tenant().clone()) };
    let again = format!("changeover cutover finalize {of}");
    let cutover = open(db, of).await?;
    let stand = follow(cutover, out, &again, |cutover| async move { cutover.finalize(&terms).await }).await?;
    end(&stand, of, out)
}

/// Where the module stands now, and what to do next.
fn end(stand: &Stand, of: &Of, out: &mut Out) -> Result<Status, Failure> {
    let module = &of.module;
    status::print(stand, module.as_str(), out)?;
    let next = match stand.phase {
        Phase::Switched => format!(
            "set persistence.{module} to the new backend; then `changeover cutover report {of} --out DIR` for the evidence, \
             and `changeover cutover finalize {of}` to close the way back, or `changeover cutover revert {of}` to go it"
        ),
        Phase::Verifying | Phase::CatchingUp => {
            format!("the file is the owner; to switch: changeover cutover run {of}")
        }
        Phase::Idle => format!("the file is the owner; to move it: changeover cutover run {of}"),
        Phase::Finalized => {
            format!("the new store owns it for good; the evidence: changeover cutover report {of} --out DIR")
        }
        _ => format!("to go on: changeover cutover run {of}"),
    };
    out.note(&next)?;
    Ok(Status::Done)
}
