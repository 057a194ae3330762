//! Reads of a module on its way, compared with the store that it is moved to: a cutover's last doubt, taken by the service
//! itself with the questions that it really asks.
//!
//! The caller has the owner's answer before anything of this begins, and nothing of it can reach the caller: comparisons run
//! in tasks of their own, at most so many at once, each for at most so long, and end when the store or the [`Db`](crate::Db)
//! is closed. What is compared is a share of the reads while a run follows (`catching_up`, `verifying`).
//!
//! Not after the switch: the file does not follow PostgreSQL. What is written there reaches it in a revert, when there is
//! no owner to compare it with, so a difference would say nothing.

mod audit;
mod compare;
mod events;
mod follower;
mod pages;
mod playbooks;
mod report;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use changeover_core::cutover::CutoverSource;
use changeover_core::{ErrorKind, ModuleScope, OpenBackend, Result, Uuid};
use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub(crate) use self::audit::Get;
pub(crate) use self::compare::Read;
use self::compare::{Comparison, Outcome};
use self::follower::Follower;
use self::report::Tally;
pub use self::report::{ShadowDifference, ShadowReport};
use crate::home::FILE;
use crate::module::Module;
use crate::routed::{Current, Kept};
use crate::settings::ShadowPlan;

/// How long a close waits for comparisons, which end at once but for a store that does not let go.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// The comparisons of a module.
pub(crate) struct Shadow {
    scope: ModuleScope,
    plan: ShadowPlan,
    /// Reads that could have been compared.
    reads: AtomicU64,
    permits: Arc<Semaphore>,
    tally: Mutex<Tally>,
    sides: Mutex<Option<Sides>>,
}

/// The doors of a cutover, kept for the connections that are behind them.
struct Sides {
    /// Name of the owner's backend.
    owner: String,
    source: Arc<dyn CutoverSource>,
    follower: Option<Arc<Follower>>,
}

/// The store that a handle compares with, and the run that it was opened in.
pub(crate) struct Beside<S: ?Sized>(tokio::sync::Mutex<Option<(Uuid, Arc<S>)>>);

impl<S: ?Sized> Default for Beside<S> {
    fn default() -> Self {
        Self(tokio::sync::Mutex::new(None))
    }
}

impl Shadow {
    pub(crate) fn new(scope: &ModuleScope, plan: &ShadowPlan) -> Self {
        let permits = Arc::new(Semaphore::new(plan.at_once));
        let (reads, tally, sides) = Default::default();
        Self { scope: scope.clone(), plan: plan.clone(), reads, permits, tally, sides }
    }

    pub(crate) fn report(&self) -> ShadowReport {
        self.tally().report(self.plan.at_once - self.permits.available_permits())
    }

    /// Whether this answer is to be compared: by the share of reads, and if there is room.
    pub(crate) fn wants<S: ?Sized>(&self, owner: &Current<S>) -> Option<OwnedSemaphorePermit> {
        if owner.backend.kind() != FILE || !is_in(self.plan.share, self.reads.fetch_add(1, Ordering::Relaxed))
        {
            return None;
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok();
        if permit.is_none() {
            self.tally().skip();
        }
        permit
    }

    /// Compares in the background, until `closed`.
    pub(crate) fn compare<S: Kept + ?Sized, R: Read<Store = S>>(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        compared: Compared<R>,
        closed: impl Future<Output = ()> + Send + 'static,
    ) {
        let this = Arc::clone(self);
        let tenant = compared.module.tenant().to_string();
        tokio::spawn(async move {
            // That it panics is nobody's affair but the report's.
            let work = AssertUnwindSafe(this.outcome(compared)).catch_unwind();
            let outcome = tokio::select! {
                biased;
                () = closed => return,
                ended = timeout(this.plan.within, work) => match ended {
                    Ok(Ok(Ok(outcome))) => outcome,
                    Ok(Ok(Err(error))) => {
                        tracing::debug!(module = %this.scope.module, operation = R::NAME, %error, "a read was not compared");
                        Outcome::Failed(error.kind())
                    }
                    Ok(Err(_)) => Outcome::Failed(ErrorKind::Unexpected),
                    Err(_) => Outcome::Failed(ErrorKind::Timeout),
                },
            };
            this.warn(&outcome, R::NAME);
            this.tally().count(outcome, R::NAME, &tenant);
            drop(permit);
        });
    }

    async fn outcome<S: Kept + ?Sized, R: Read<Store = S>>(&self, compared: Compared<R>) -> Result<Outcome> {
        let Compared { module, owner, read, answer, beside } = compared;
        let source = self.source(&owner)?;
        // A look at the file; the new store is not asked for anything before a run captures.
        let Some(position) = follower::position(&*source).await? else { return Ok(Outcome::Idle) };
        let new = module.backend(&self.plan.with).await?;
        let follower = self.follower(source, &*new)?;
        if !follower.is_about(position.run).await? {
            return Ok(Outcome::Idle);
        }
        let shadow = beside.store(&module, position.run, &*new).await?;
        let comparison = Comparison {
            read,
            owner: &owner.store,
            shadow: &shadow,
            follower: &follower,
            tenant: module.tenant(),
            patience: self.plan.within / 2,
        };
        Ok(comparison.run(answer, position).await)
    }

    fn source<S: ?Sized>(&self, owner: &Current<S>) -> Result<Arc<dyn CutoverSource>> {
        let mut sides = self.sides();
        if let Some(known) = sides.as_ref().filter(|known| known.owner == owner.name) {
            return Ok(Arc::clone(&known.source));
        }
        let source = follower::source(&*owner.backend, &self.scope)?;
        *sides = Some(Sides { owner: owner.name.clone(), source: Arc::clone(&source), follower: None });
        Ok(source)
    }

    fn follower(&self, source: Arc<dyn CutoverSource>, new: &dyn OpenBackend) -> Result<Arc<Follower>> {
        let mut sides = self.sides();
        let known = sides.as_mut().filter(|known| Arc::ptr_eq(&known.source, &source));
        if let Some(follower) = known.as_ref().and_then(|known| known.follower.clone()) {
            return Ok(follower);
        }
        let follower = Arc::new(Follower::new(source, new, &self.scope)?);
        if let Some(known) = known {
            known.follower = Some(Arc::clone(&follower));
        }
        Ok(follower)
    }

    fn sides(&self) -> MutexGuard<'_, Option<Sides>> {
        self.sides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Values stay in the report: they may be anybody's data.
    fn warn(&self, outcome: &Outcome, operation: &str) {
        let Outcome::Different(found) = outcome else { return };
        for found in found {
            tracing::warn!(
                module = %self.scope.module,
                with = self.plan.with,
                operation,
                key = found.key,
                field = found.field,
                "the new store answers otherwise than the owner"
            );
        }
    }

    /// Waits until no comparison is under way; those of a closed Db end at once.
    pub(crate) async fn ended(&self) {
        // The setting has a maximum.
        let all = u32::try_from(self.plan.at_once).unwrap_or(u32::MAX);
        if timeout(ENDED_WITHIN, self.permits.acquire_many(all)).await.is_err() {
            tracing::warn!(module = %self.scope.module, "a comparison of reads goes on after the close");
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read that was answered, and who answered it.
pub(crate) struct Compared<R: Read> {
    pub(crate) module: Module,
    pub(crate) owner: Current<R::Store>,
    pub(crate) read: R,
    pub(crate) answer: R::Answer,
    pub(crate) beside: Arc<Beside<R::Store>>,
}

impl<S: Kept + ?Sized> Beside<S> {
    /// Opened anew with each run: what a store remembers of a module, the id of its log say, is fixed when a run begins.
    async fn store(&self, module: &Module, run: Uuid, new: &dyn OpenBackend) -> Result<Arc<S>> {
        let mut known = self.0.lock().await;
        if let Some((of, store)) = &*known
            && *of == run
        {
            return Ok(Arc::clone(store));
        }
        *known = None;
        let beside = new.beside();
        let store = S::open(beside.as_deref().unwrap_or(new), module.scope(), module.tenant()).await?;
        *known = Some((run, Arc::clone(&store)));
        Ok(store)
    }
}

/// Whether the read of this number is among the share: spread evenly, whatever the rhythm in which reads come.
fn is_in(share: f64, number: u64) -> bool {
    // The finisher of SplitMix64.
    let mut hash = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let high = u32::try_from((hash ^ (hash >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(high) < share * f64::from(u32::MAX) || share >= 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_reads_is_compared_whatever_their_rhythm() {
        for (share, low, high) in [(0.0, 0, 0), (0.1, 900, 1_100), (0.5, 4_800, 5_200), (1.0, 10_000, 10_000)]
        {
            for rhythm in [1, 2, 10] {
                let taken = (0..10_000).filter(|number| is_in(share, number * rhythm)).count();
                assert!((low..=high).contains(&taken), "{share} {rhythm}: {taken}");
            }
        }
    }
}
