//! What an operator asks for: a run, giving it up, going back, closing the way back.

use std::time::{Duration, Instant};

use changeover_core::cutover::{CaptureTable, Entry, Lease, Meta, NewRun, Run};
use changeover_core::{Applied, Error, ErrorKind, Json, Result, Uuid, hex};
use serde_json::json;

use super::batch::Batch;
use super::cut::{Cut, is_lost, undecided};
use super::fail;
use super::guard::{Meant, check_accepted};
use super::recover::Place;
use super::session::{Session, nothing};
use super::terms::{Kept, Terms};
use super::{Cutover, Status, Step};
use crate::convert::notifications_from;
use crate::declare;
use crate::phase::Phase;
use crate::plan;

/// How far a run is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Everything is copied, followed and compared; the old store stays the owner.
    Verified,
    /// The new store is the owner.
    Switched,
}

/// What was asked for.
#[derive(Clone, Copy)]
enum Task {
    Run(Goal),
    Abort,
    Revert,
    Finalize,
}

/// How long `prepare` waits for a writer in flight.
const PREPARE_WAITS: Duration = Duration::from_secs(10);

/// A run that went on for so long before it failed begins its patience anew.
const WENT_WELL: Duration = Duration::from_secs(10);

impl Cutover {
    /// Begins a run, or goes on with the one under way, up to the goal. Stores that cannot be had are waited for.
    ///
    /// # Errors
    ///
    /// - `Config` for terms that are not allowed.
    /// - `Invalid`: the plan's fingerprint or the run's is not that of the file, the declarations do not fit, a drill is demanded
    ///   and there was none, rows in quarantine are undecided, the fence could not be closed within the attempts. `AlreadyExists`: the new store holds rows.
    /// - `Corrupt`: the file is damaged or not the one of the run, or the stores differ.
    /// - `Contention`: another coordinator has the lease. `Unavailable`: a store could not be had for as long as the patience.
    ///
    /// After every error the old store or the new one is as it was, and a run can be gone on with or given up.
    pub async fn run(&self, terms: &Terms, goal: Goal) -> Result<Status> {
        terms.check()?;
        self.patiently(Task::Run(goal), terms).await?;
        self.status().await
    }

    /// Gives a run up before its switch: the new store is emptied, the old one goes on without capture.
    ///
    /// # Errors
    ///
    /// `Invalid` if there is no run to give up, or it has switched. Those of the stores.
    pub async fn abort(&self, terms: &Terms) -> Result<Status> {
        self.patiently(Task::Abort, terms).await?;
        self.status().await
    }

    /// Goes back after a switch: what was written to the new store since goes into the file, which is the owner again.
    ///
    /// # Errors
    ///
    /// `Invalid` unless the run has switched, and where the file refuses a row, which is named. `Corrupt` if the file does not hold
    /// afterwards what the new store does. The new store owns the module then as before. Those of the stores: what became of the
    /// module then is to be seen in its status; reverted again, it is gone on with.
    pub async fn revert(&self, terms: &Terms) -> Result<Status> {
        terms.check()?;
        self.patiently(Task::Revert, terms).await?;
        self.status().await
    }

    /// Closes the way back for good, and has the old store put away, if this was the last module in it, nobody has it open, and
    /// [`Terms::keep_file`] does not say otherwise. That it stays is no error: [`Step::Archive`] says why. Asked for again, it is
    /// tried again.
    ///
    /// # Errors
    ///
    /// `Invalid` unless the run has switched. Those of the stores.
    pub async fn finalize(&self, terms: &Terms) -> Result<Status> {
        self.patiently(Task::Finalize, terms).await?;
        self.status().await
    }

    async fn run_once(&self, terms: &Terms, goal: Goal, meant: &mut Meant) -> Result<()> {
        let (run, lease) = match self.recover().await? {
            Place::Idle { epoch, file } => {
                self.none_was_ended(meant).await?;
                self.begin(terms, epoch, file, meant).await?
            }
            Place::Moving(run) => {
                self.still(meant, &run).await?;
                self.check_unchanged(&run).await?;
                check_accepted(&run, terms)?;
                let lease = self.take(&run, terms).await?;
                (self.last_run().await?, lease)
            }
            Place::Switched(run) => {
                self.still(meant, &run).await?;
                return self.record_root_once(&run).await;
            }
            Place::Reverting(run) => {
                return Err(Error::invalid(format!(
                    "a revert of run {} is under way; finish it first",
                    run.run
                )));
            }
            Place::Moved => {
                return Err(Error::invalid(format!(
                    "module {} is owned by the new store already; there is nothing to move",
                    self.module
                )));
            }
        };
        let mut session = Session::open(self, terms, run, lease).await?;
        session.say(&Step::Phase(session.phase));
        let done = session.move_on(goal).await;
        self.release(&session.lease).await;
        done
    }

    async fn abort_once(&self, meant: &mut Meant) -> Result<()> {
        match self.recover().await? {
            Place::Moving(run) => {
                self.still(meant, &run).await?;
                fail::point("abort.before").await;
                let epoch = self.authority().await?.epoch;
                let entry = self.entry("aborted", &json!({ "phase": run.phase }))?;
                let Some(epoch) = self.target.abort(run.run, epoch, entry).await? else {
                    return Err(Error::new(
                        ErrorKind::Contention,
                        "the authority is another than it was: the run switched or was given up by another coordinator",
                    ));
                };
                fail::point("abort.postgres").await;
                self.source.reopen(epoch, false).await?;
                fail::point("abort.sqlite").await;
                (self.watch)(&Step::Phase(Phase::Idle));
                Ok(())
            }
            Place::Idle { file: Some(file), .. } if file.captures => self.source.stop_capture().await,
            // The reply to an earlier try was lost.
            Place::Idle { .. } if self.was_aborted().await? => Ok(()),
            Place::Idle { .. } => {
                Err(Error::invalid(format!("module {} has no run to give up", self.module)))
            }
            Place::Switched(_) => {
                Err(Error::invalid("the run has switched: it cannot be given up any more, only reverted"))
            }
            Place::Reverting(_) => Err(Error::invalid("a revert is under way: finish it")),
            Place::Moved => Err(Error::invalid("the new store owns the module for good")),
        }
    }

    async fn revert_once(&self, terms: &Terms, meant: &mut Meant) -> Result<()> {
        let run = match self.recover().await? {
            Place::Switched(run) | Place::Reverting(run) => run,
            Place::Idle { .. } if self.was_reverted().await? => return Ok(()),
            Place::Idle { .. } | Place::Moving(_) => {
                return Err(Error::invalid("the module has not switched; there is nothing to go back from"));
            }
            Place::Moved => {
                return Err(Error::invalid("the way back was closed by finalize, or there never was one"));
            }
        };
        self.still(meant, &run).await?;
        let lease = self.take(&run, terms).await?;
        let mut session = Session::open(self, terms, run, lease).await?;
        let done = session.revert().await;
        if done.is_err() {
            self.release(&session.lease).await;
        }
        done
    }

    async fn finalize_once(&self, terms: &Terms, meant: &mut Meant) -> Result<()> {
        match self.recover().await? {
            Place::Switched(run) => {
                self.still(meant, &run).await?;
                fail::point("finalize.before").await;
                let lease = self.take(&run, terms).await?;
                self.target.finalize(&lease, self.entry("finalized", &nothing())?).await?;
                self.release(&lease).await;
                fail::point("finalize.postgres").await;
                self.source.stop_capture().await?;
                fail::point("finalize.sqlite").await;
                (self.watch)(&Step::Phase(Phase::Finalized));
                self.put_away(&run, terms).await
            }
            Place::Moved if let Some(run) = self.target.run().await? => {
                self.still(meant, &run).await?;
                if self.file().await?.is_some_and(|file| file.captures) {
                    self.source.stop_capture().await?;
                }
                self.put_away(&run, terms).await
            }
            _ => Err(Error::invalid("the module has not switched; there is nothing to close")),
        }
    }

    /// Does it again while a store cannot be had or a reply was lost; whoever does it reads the stores first.
    async fn patiently(&self, task: Task, terms: &Terms) -> Result<()> {
        let mut failing = Instant::now();
        let mut pause = Duration::from_millis(50);
        let mut meant = Meant(None);
        loop {
            let begin = Instant::now();
            let done = match task {
                Task::Run(goal) => self.run_once(terms, goal, &mut meant).await,
                Task::Abort => self.abort_once(&mut meant).await,
                Task::Revert => self.revert_once(terms, &mut meant).await,
                Task::Finalize => self.finalize_once(terms, &mut meant).await,
            };
            let error = match done {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if begin.elapsed() > WENT_WELL {
                (failing, pause) = (Instant::now(), Duration::from_millis(50));
            }
            if !is_lost(&error) || is_anothers(&error) || failing.elapsed() > terms.patience {
                return Err(error);
            }
            tracing::warn!(%error, "trying again");
            (self.watch)(&Step::Waiting { why: error.message().to_owned() });
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// The lease; a dead coordinator's is waited for to its end, that of a living one is not to be had.
    pub(super) async fn take(&self, run: &Run, terms: &Terms) -> Result<Lease> {
        let until = Instant::now() + terms.lease + Duration::from_secs(1);
        loop {
            match self.target.lease(run.run, &self.holder, terms.lease).await {
                Err(error) if error.kind() == ErrorKind::Contention && Instant::now() < until => {
                    (self.watch)(&Step::Waiting { why: error.message().to_owned() });
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) if error.kind() == ErrorKind::Contention => {
                    return Err(error.with(ANOTHER, "another coordinator"));
                }
                taken => return taken,
            }
        }
    }

    pub(super) async fn release(&self, lease: &Lease) {
        if let Err(error) = self.target.release(lease).await {
            tracing::debug!(%error, "the lease was not given up; it runs out by itself");
        }
    }

    async fn was_aborted(&self) -> Result<bool> {
        self.last_entry_is("aborted").await
    }

    async fn was_reverted(&self) -> Result<bool> {
        self.last_entry_is("reverted").await
    }

    /// Whether this process did it a moment ago.
    async fn last_entry_is(&self, what: &str) -> Result<bool> {
        let Some(run) = self.target.run().await? else { return Ok(false) };
        let record = self.record(Some(run.run)).await?;
        Ok(record.last().is_some_and(|it| it.entry.what == what && it.entry.who == self.who))
    }

    /// A new run: everything is looked at before anything is touched.
    async fn begin(
        &self,
        terms: &Terms,
        epoch: i64,
        file: Option<Meta>,
        meant: &mut Meant,
    ) -> Result<(Run, Lease)> {
        plan::refuse_archived(&*self.source).await?;
        let facts = self.source.facts().await?;
        let fingerprint = plan::fingerprint(&self.tables, &facts)?;
        if let Some(plan) = &terms.plan {
            let differ = plan::differences(plan, &fingerprint)?;
            if !differ.is_empty() {
                return Err(Error::invalid(format!(
                    "the old store is not what was planned with: {}; plan again, nothing was touched",
                    differ.join("; ")
                )));
            }
        }
        let target = self.target.facts(&self.tables).await?;
        let refused = plan::refusals(&self.tables, &facts, &target, terms.accepted);
        if !refused.is_empty() {
            return Err(Error::invalid(format!("nothing was touched, since {}", refused.join("; "))));
        }
        let damage = self.source.check().await?;
        if !damage.is_empty() {
            let message = format!("the file is damaged, nothing was touched: {}", damage.join("; "));
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        // A run that stopped between the two stores is gone on with under its own id.
        let unfinished = file.as_ref().filter(|file| file.captures && file.open);
        if unfinished.is_none() {
            self.demand_drill(terms, &fingerprint).await?;
        }
        fail::point("prepare.before").await;
        let run = unfinished.map_or_else(Uuid::new_v4, |file| file.run);
        let epoch = epoch.max(file.as_ref().map_or(0, |file| file.epoch));
        let captured: Vec<_> = self
            .tables
            .iter()
            .map(|table| CaptureTable {
                name: table.name.clone(),
                table: table.source.clone(),
                key: table.source_key(),
            })
            .collect();
        let meta = self.source.prepare(run, epoch, &captured, PREPARE_WAITS).await?;
        fail::point("prepare.sqlite").await;
        let kept = Kept {
            accepted: terms.accepted.names().into_iter().map(str::to_owned).collect(),
            max_quarantined: terms.max_quarantined,
            notifications_from: notifications_from(plan::highest_audit_place(&self.tables, &facts))?,
            target: plan::of_target(&target),
        };
        meant.0 = Some(run);
        let new = NewRun {
            run,
            tables: self.tables.clone(),
            declarations: declare::to_json(&self.tables)?,
            tenant: terms.tenant.clone(),
            nonce: meta.nonce,
            place: facts.place.clone(),
            epoch: meta.epoch,
            log: facts.log,
            fingerprint: fingerprint.clone(),
            terms: Json::of(&kept)?,
            holder: self.holder.clone(),
            ttl: terms.lease,
        };
        let lease = match self.target.begin(&new, self.begun(&new, &kept, &facts)?).await {
            Ok(lease) => lease,
            Err(error) => {
                // Another coordinator may have found the file prepared, and made the run: then the capture is its.
                let is_made = self.target.run().await?.is_some_and(|it| it.run == run);
                if error.was_applied() == Some(Applied::No)
                    && error.kind() != ErrorKind::Unavailable
                    && !is_made
                {
                    self.source.stop_capture().await?;
                }
                return Err(error);
            }
        };
        fail::point("prepare.postgres").await;
        Ok((self.last_run().await?, lease))
    }

    fn begun(
        &self,
        new: &NewRun,
        kept: &Kept,
        facts: &changeover_core::cutover::SourceFacts,
    ) -> Result<Entry> {
        let tables = self.tables.iter().map(|table| {
            let found = facts.tables.iter().find(|it| it.name.eq_ignore_ascii_case(&table.source));
            json!({ "name": table.name, "source": table.source, "target": table.target, "rows": found.map(|it| it.rows) })
        });
        self.entry(
            "prepared",
            &json!({
                "file": new.place,
                "nonce": new.nonce.to_string(),
                "tenant": new.tenant.as_str(),
                "epoch": new.epoch,
                "fingerprint": new.fingerprint,
                "accepted": kept.accepted,
                "max_quarantined": kept.max_quarantined,
                "notifications_from": kept.notifications_from,
                "sqlite": facts.version,
                "tables": tables.collect::<Vec<_>>(),
            }),
        )
    }
}

impl Session<'_> {
    /// From wherever the run is to the goal.
    async fn move_on(&mut self, goal: Goal) -> Result<()> {
        let mut attempt = 0;
        // What was read of the run may be old by now; nothing is done for a lease that is gone.
        self.target().renew(&self.lease).await?;
        self.cutover.check_captured(&self.run).await?;
        loop {
            match self.phase {
                Phase::Prepared | Phase::Copying => self.copy().await?,
                Phase::CatchingUp => {
                    // What every chunk contains counts as applied, also if nothing was captured since.
                    self.apply(&mut Batch::empty(), self.applied).await?;
                    self.catch_up(self.terms.max_lag).await?;
                    let open = self.settle().await?;
                    if open > 0 && goal == Goal::Switched {
                        return Err(undecided(open));
                    }
                    self.enter(&[Phase::CatchingUp], Phase::Verifying, &nothing()).await?;
                }
                Phase::Verifying | Phase::Fenced | Phase::Drained if self.fenced => {
                    let why = Error::new(
                        ErrorKind::Unavailable,
                        "an earlier coordinator stopped behind the fence; the old store goes on until it is tried again",
                    );
                    self.go_back(why, Instant::now()).await?;
                }
                Phase::Verifying => {
                    if self.proof.is_none() {
                        self.prove_online().await?;
                    }
                    let open = self.target().progress(self.run.run).await?.quarantined.1;
                    if goal == Goal::Verified {
                        let facts = json!({ "undecided": open, "applied": self.applied });
                        return self.target().record(self.run.run, self.entry("verified", &facts)?).await;
                    }
                    attempt += 1;
                    if open > 0 {
                        // They came while it was compared: looked at once more before anybody is asked.
                        self.proof = None;
                        self.enter(&[Phase::Verifying], Phase::CatchingUp, &json!({ "undecided": open }))
                            .await?;
                    } else if let Cut::WentBack(why) = self.cut(attempt == 1).await? {
                        if !may_be_tried_again(&why) || attempt >= self.terms.attempts {
                            return Err(why);
                        }
                        tokio::time::sleep(Duration::from_millis(200) * attempt.min(10)).await;
                    }
                }
                Phase::Sealed => {
                    if let Cut::WentBack(why) =
                        self.switch(Instant::now(), json!({ "resumed": true })).await?
                    {
                        return Err(why);
                    }
                }
                Phase::Switched => {
                    self.target().renew(&self.lease).await?;
                    return self.cutover.record_root_once(&self.run).await;
                }
                Phase::Fenced | Phase::Drained => {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        format!(
                            "the run is in the phase {}, and its file takes writes: somebody opened it by hand; abort the run",
                            self.phase
                        ),
                    ));
                }
                Phase::Idle | Phase::RevertFenced | Phase::Finalized => return Ok(()),
            }
        }
    }
}

impl Cutover {
    /// As [`Cutover::record_root`], if whoever switched did not come to it.
    async fn record_root_once(&self, run: &Run) -> Result<()> {
        let record = self.record(Some(run.run)).await?;
        let last = |what: &str| record.iter().rposition(|it| it.entry.what == what);
        if last("frozen") >= last("switched") {
            return Ok(());
        }
        self.record_root(run).await
    }

    /// The data root of the file, which does not change any more: for whoever checks the run later.
    async fn record_root(&self, run: &Run) -> Result<()> {
        let verified = self.source_root().await?;
        let tables = verified.tables.iter().map(|table| {
            json!({
                "target": table.target,
                "source_rows": table.source_rows,
                "quarantined": table.quarantined,
                "repaired": table.repaired,
                "source_root": hex(&table.source_root),
            })
        });
        let facts =
            json!({ "source_root": hex(&verified.source_root()), "tables": tables.collect::<Vec<_>>() });
        self.target.record(run.run, self.entry("frozen", &facts)?).await
    }
}

/// Marks an error that waiting does not help.
pub(super) const ANOTHER: &str = "lease";

fn is_anothers(error: &Error) -> bool {
    error.context().iter().any(|(key, _)| *key == ANOTHER)
}

/// Whether another try may go better: a pause that was too long, a writer that held the file, changes that came in an order
/// that the foreign keys did not like.
fn may_be_tried_again(error: &Error) -> bool {
    error.kind() != ErrorKind::Corrupt && !error.message().contains("quarantined rows are undecided")
}
