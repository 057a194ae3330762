//! The cut: fence, drain, last comparison, seal, switch - or back to following before the pause gets too long.

use std::time::{Duration, Instant};

use changeover_core::cutover::{Seal, Switch};
use changeover_core::{Applied, Error, ErrorKind, Result};
use serde_json::{Value as Document, json};

use super::fail;
use super::session::{Session, nothing};
use super::{MOVED_TO, Pause, Step};
use crate::phase::{Owner, Phase};

/// How long the fence waits for a writer in flight.
const FENCE_WAITS: Duration = Duration::from_secs(2);

/// What became of one try.
pub(super) enum Cut {
    /// The new store is the owner.
    Switched,
    /// The old store goes on; it can be tried again.
    WentBack(Error),
}

impl Session<'_> {
    /// One try. The writers stand still from its fence to the switch, or until it goes back.
    pub(super) async fn cut(&mut self, links_early: bool) -> Result<Cut> {
        // Whoever has the lease by now is named before anything else is wondered about.
        self.target().renew(&self.lease).await?;
        if links_early {
            self.link().await?;
        }
        self.prove_recent().await?;
        self.catch_up(self.terms.max_lag).await?;
        self.target().renew(&self.lease).await?;
        self.cutover.check_captured(&self.run).await?;
        self.cutover.check_unchanged(&self.run).await?;
        fail::point("fence.before").await;
        let begin = Instant::now();
        let within = FENCE_WAITS.min(self.terms.max_pause / 2);
        let fenced_at = match self.source().fence(self.epoch, MOVED_TO, within).await {
            Ok(Some(fenced_at)) => fenced_at,
            Ok(None) => {
                // Who has the lease by now is named.
                self.target().renew(&self.lease).await?;
                return Err(Error::new(
                    ErrorKind::Contention,
                    "the file is at another epoch than the database says, or fenced by another coordinator",
                ));
            }
            // A writer held the file for longer than it may: nothing was changed.
            Err(error)
                if error.was_applied() == Some(Applied::No) && error.kind() == ErrorKind::Contention =>
            {
                return self.go_back(error, begin).await;
            }
            Err(error) => return Err(error),
        };
        fail::point("fence.sqlite").await;
        match tokio::time::timeout(self.terms.max_pause, self.behind_the_fence(fenced_at, !links_early)).await
        {
            Ok(Ok(facts)) => self.switch(begin, facts).await,
            Ok(Err(error)) if is_lost(&error) => Err(error),
            Ok(Err(error)) => self.go_back(error, begin).await,
            Err(_) => {
                let message = format!(
                    "the pause of the writers came to its limit of {:?}; it begins again when there is less to do, or allow more",
                    self.terms.max_pause
                );
                self.go_back(Error::new(ErrorKind::Timeout, message), begin).await
            }
        }
    }

    async fn link(&self) -> Result<()> {
        self.target().link(&self.lease, self.entry("linked", &nothing())?).await?;
        fail::point("link.after").await;
        Ok(())
    }

    /// From the fence to what can be switched.
    async fn behind_the_fence(&mut self, fenced_at: i64, links: bool) -> Result<Document> {
        self.enter(&[Phase::Verifying], Phase::Fenced, &json!({ "fenced_at": fenced_at })).await?;
        fail::point("fence.recorded").await;
        while self.applied < fenced_at {
            // In one batch, so that no row is stored before what it refers to.
            self.follow_by(u32::try_from(fenced_at - self.applied).unwrap_or(u32::MAX).saturating_add(1))
                .await?;
        }
        if links {
            let open = self.settle().await?;
            if open > 0 {
                return Err(undecided(open));
            }
        }
        self.enter(&[Phase::Fenced], Phase::Drained, &json!({ "applied": self.applied })).await?;
        fail::point("drain.after").await;
        let open = self.target().progress(self.run.run).await?.quarantined.1;
        if open > 0 {
            return Err(undecided(open));
        }
        if links {
            self.link().await?;
        }
        let facts = self.prove_frozen().await?;
        self.cutover.check_target(&self.run).await?;
        fail::point("prove.after").await;
        self.seal().await?;
        fail::point("seal.after").await;
        self.enter(&[Phase::Drained], Phase::Sealed, &facts).await?;
        fail::point("sealed.after").await;
        Ok(facts)
    }

    async fn seal(&self) -> Result<()> {
        let facts = self.source().facts().await?;
        let high = |name: &str| {
            let found = facts.tables.iter().find(|it| it.name.eq_ignore_ascii_case(name))?;
            found.max_rowid.max(found.sequence)
        };
        let high_water: Vec<_> = self.tables().iter().map(|table| high(&table.source)).collect();
        let seal = Seal {
            high_water: high_water.clone(),
            log_high_water: facts.high_water,
            tenants: vec![self.run.tenant.clone()],
        };
        let entry = self.entry(
            "high_waters",
            &json!({
                "tables": self.tables().iter().map(|it| &it.name).zip(&high_water).collect::<Vec<_>>(),
                "log": facts.high_water,
            }),
        )?;
        self.target().seal(&self.lease, &seal, entry).await
    }

    /// The switch, whose lost reply is asked for.
    pub(super) async fn switch(&mut self, begin: Instant, mut facts: Document) -> Result<Cut> {
        fail::point("switch.before").await;
        let terms = Switch { epoch: self.epoch, applied: self.applied };
        if let Some(facts) = facts.as_object_mut() {
            facts.insert("epoch".to_owned(), json!(self.epoch + 1));
            facts.insert(
                "pause_ms".to_owned(),
                json!(u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX)),
            );
        }
        let entry = self.entry("switched", &facts)?;
        let done = match self.target().switch(&self.lease, &terms, entry).await {
            Ok(done) => done,
            Err(error) if error.was_applied() == Some(Applied::No) && !is_lost(&error) => {
                return self.go_back(error, begin).await;
            }
            Err(error) => return Err(error),
        };
        fail::point("switch.after").await;
        if !done {
            return Err(Error::new(
                ErrorKind::Contention,
                "the switch found another owner or epoch: the run was given up, or another coordinator switched",
            ));
        }
        self.phase = Phase::Switched;
        self.epoch += 1;
        self.say(&Step::Phase(Phase::Switched));
        self.say(&Step::Paused(Pause { took: begin.elapsed(), ended: Owner::Postgres }));
        Ok(Cut::Switched)
    }

    /// Opens the file again: first the authority's epoch goes on, so that a switch under way fails.
    pub(super) async fn go_back(&mut self, why: Error, begin: Instant) -> Result<Cut> {
        let facts = json!({ "why": why.message(), "kind": why.kind().as_str() });
        let entry = self.entry("unfenced", &facts)?;
        let Some(epoch) = self.target().unfence(&self.lease, self.epoch, entry).await? else {
            return Err(Error::new(
                ErrorKind::Contention,
                "the authority changed while the fence was closed: another coordinator switched or gave the run up",
            ));
        };
        fail::point("unfence.postgres").await;
        self.epoch = epoch;
        self.phase = Phase::CatchingUp;
        if why.kind() == ErrorKind::Corrupt {
            self.proof = None;
        }
        self.source().reopen(epoch, true).await?;
        self.fenced = false;
        fail::point("unfence.sqlite").await;
        self.say(&Step::WentBack { why: why.message().to_owned() });
        self.say(&Step::Paused(Pause { took: begin.elapsed(), ended: Owner::Sqlite }));
        Ok(Cut::WentBack(why))
    }
}

pub(super) fn undecided(open: u64) -> Error {
    Error::invalid(format!(
        "{open} quarantined rows are undecided; decide about them (list, approve, repair or reject), or correct them in the old \
         store, and run again"
    ))
}

/// Whether it is not known what became of a transaction, or the lease is gone: the stores have to be asked.
pub(super) fn is_lost(error: &Error) -> bool {
    error.was_applied() == Some(Applied::Unknown)
        || matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Contention)
}
