//! The operator: makes both schemas, and moves one module after the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use changeover::backend::Family;
use changeover::cutover::contract::CutoverSide;
use changeover::{Db, Error, ErrorKind, Result};
use changeover_cutover::phase::Owner;
use changeover_cutover::{Cutover, Goal, Step, Terms, declare};

use crate::say;

/// A module that has moved.
pub struct Move {
    pub began: Instant,
    pub ended: Instant,
    /// How long nobody could write, as the coordinator saw it.
    pub pause: Duration,
}

/// Brings the schemas of both modules up, in the file and in PostgreSQL; each module then belongs to the file.
pub async fn migrate(db: &Db) -> Result<()> {
    for family in [Family::Events, Family::Audit] {
        let module = db.module(family.as_str())?;
        for backend in ["new", "old"] {
            db.backend(backend).await?.migrations(module.scope(), family)?.up().await?;
        }
        let (owner, _) = module.owner().await?;
        if owner != "old" {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "module {} belongs to backend {owner} before the move; name an empty database",
                    module.name()
                ),
            ));
        }
    }
    Ok(())
}

/// Moves a built-in module from the file to PostgreSQL, and tells what happens.
pub async fn move_module(db: &Db, family: Family) -> Result<Move> {
    let name = family.as_str();
    let scope = db.module(name)?.scope().clone();
    let (old, new) = (db.backend("old").await?.cutover(&scope)?, db.backend("new").await?.cutover(&scope)?);
    let tables = match &old {
        CutoverSide::Old { source, .. } => {
            declare::present(declare::ours(family, false, &scope), &source.facts().await?)
        }
        CutoverSide::New { .. } => Vec::new(),
    };
    let pause = Arc::new(Mutex::new(Duration::ZERO));
    let seen = Arc::clone(&pause);
    let began = Instant::now();
    let cutover = Cutover::new(&scope, tables, old, new, "the example")?.watching(move |step| match step {
        Step::Phase(phase) => say(&format!("{name}: {:>5} ms  {phase}", began.elapsed().as_millis())),
        Step::Paused(it) => *seen.lock().unwrap_or_else(PoisonError::into_inner) += it.took,
        Step::WentBack { why } => say(&format!("{name}: the file was opened again: {why}")),
        Step::Waiting { why } => say(&format!("{name}: waiting: {why}")),
        Step::Copied(_)
        | Step::Indexing
        | Step::Followed { .. }
        | Step::Compared { .. }
        | Step::WroteBack { .. }
        | Step::Archive(_) => {}
    });
    let status = cutover.run(&Terms::new(db.tenant().clone()), Goal::Switched).await?;
    if status.owner != Owner::Postgres {
        let message = format!("the owner of {name} is {} after the move, postgres was to be", status.owner);
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    let pause = *pause.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Move { began, ended: Instant::now(), pause })
}
