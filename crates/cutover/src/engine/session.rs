//! A run in the hands of one coordinator: its lease, and everything that its steps need.

use std::collections::HashSet;
use std::sync::Arc;

use changeover_core::cutover::{
    CutoverSource, CutoverTarget, Entry, Lease, QuarantineFilter, Run, SourceFacts, Table,
};
use changeover_core::{Json, Result};
use serde_json::{Value as Document, json};

use super::batch::{Identity, is_twin};
use super::terms::{Kept, Terms};
use super::{Cutover, Step};
use crate::convert::Converter;
use crate::phase::Phase;
use crate::verify::{ChangedKey, Excuse, ExcusedKeys, Suspect, Verifier, World};

/// Rows asked for at once where they are looked at one by one.
pub(super) const PAGE: u32 = 1_000;

pub(super) struct Session<'a> {
    pub cutover: &'a Cutover,
    pub terms: &'a Terms,
    pub run: Run,
    pub kept: Kept,
    pub lease: Lease,
    pub converter: Converter,
    pub phase: Phase,
    /// The authority's epoch.
    pub epoch: i64,
    /// Captured changes that are applied.
    pub applied: i64,
    /// The file's epoch when the session began.
    pub file_epoch: i64,
    /// Whether the file was fenced by an earlier coordinator, which may not have come to record it.
    pub fenced: bool,
    /// The schema of the file.
    pub facts: SourceFacts,
    /// What rows in quarantine share with others.
    pub twins: HashSet<Identity>,
    /// What was compared while writers were on; not kept over a restart.
    pub proof: Option<Proof>,
    _renewal: Renewal,
}

/// What a comparison under writes left for the last one.
pub(super) struct Proof {
    /// Captured changes after this one were not compared.
    pub since: i64,
    /// What was written to so often that it could not be compared.
    pub suspects: Vec<Suspect>,
    /// The same of rows changed since the walk.
    pub left: Vec<ChangedKey>,
    /// How long the walk over all rows took.
    pub took: std::time::Duration,
}

/// Keeps the lease while something takes long; ends with the session.
struct Renewal(tokio::task::JoinHandle<()>);

impl Renewal {
    fn of(target: Arc<dyn CutoverTarget>, lease: Lease) -> Self {
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(lease.ttl / 3).await;
                // Whether it is lost is found out by the next step, which changes nothing then.
                if let Err(error) = target.renew(&lease).await {
                    tracing::warn!(%error, "the lease was not renewed");
                }
            }
        }))
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<'a> Session<'a> {
    /// With a lease that was just taken.
    pub(super) async fn open(cutover: &'a Cutover, terms: &'a Terms, run: Run, lease: Lease) -> Result<Self> {
        let kept = Kept::read(&run.terms)?;
        let converter = cutover.converter(&run, &kept)?;
        let progress = cutover.target.progress(run.run).await?;
        let facts = cutover.source.facts().await?;
        let authority = cutover.authority().await?;
        let file = cutover.file().await?.ok_or_else(super::guard::no_mark)?;
        let mut session = Self {
            cutover,
            terms,
            phase: Phase::parse(&run.phase)?,
            kept,
            converter,
            epoch: authority.epoch,
            applied: progress.applied.max(progress.first_seq.unwrap_or(0)),
            file_epoch: file.epoch,
            fenced: !file.open,
            facts,
            twins: HashSet::new(),
            proof: None,
            _renewal: Renewal::of(Arc::clone(&cutover.target), lease.clone()),
            lease,
            run,
        };
        session.find_twins().await?;
        Ok(session)
    }

    pub(super) fn tables(&self) -> &'a [Table] {
        &self.cutover.tables
    }

    pub(super) fn source(&self) -> &'a dyn CutoverSource {
        &*self.cutover.source
    }

    pub(super) fn target(&self) -> &'a dyn CutoverTarget {
        &*self.cutover.target
    }

    pub(super) fn say(&self, step: &Step) {
        (self.cutover.watch)(step);
    }

    pub(super) fn entry(&self, what: &str, facts: &Document) -> Result<Entry> {
        self.cutover.entry(what, facts)
    }

    /// Enters a phase.
    pub(super) async fn enter(&mut self, from: &[Phase], to: Phase, facts: &Document) -> Result<()> {
        let from: Vec<_> = from.iter().map(|phase| phase.as_str()).collect();
        let entry = self.entry(to.as_str(), facts)?;
        self.target().enter(&self.lease, &from, to.as_str(), entry).await?;
        self.phase = to;
        self.say(&Step::Phase(to));
        Ok(())
    }

    /// What the verifier has to know of the run.
    pub(super) fn verifier(&self) -> Result<Verifier> {
        self.cutover.verifier(&self.run, &self.kept)
    }

    /// Which rows stay out, as of now.
    pub(super) async fn excused(&self) -> Result<ExcusedKeys> {
        self.cutover.excused().await
    }

    async fn find_twins(&mut self) -> Result<()> {
        let mut found = HashSet::new();
        let mut filter = QuarantineFilter { limit: PAGE, ..QuarantineFilter::default() };
        loop {
            let page = self.target().quarantined(&filter).await?;
            for row in page.iter().filter(|row| row.reasons.iter().any(is_twin)) {
                found.extend(self.identities_of(row.table, &row.key, &row.row));
            }
            match page.last() {
                Some(last) => filter.after = last.id,
                None => break,
            }
        }
        self.twins = found;
        Ok(())
    }
}

impl Cutover {
    pub(super) fn entry(&self, what: &str, facts: &Document) -> Result<Entry> {
        Ok(Entry { what: what.to_owned(), who: self.who.clone(), facts: Json::of(facts)? })
    }

    /// A converter as the run needs it.
    pub(super) fn converter(&self, run: &Run, kept: &Kept) -> Result<Converter> {
        Converter::new(&self.tables, &run.tenant, run.nonce)?
            .accepting(kept.accepted()?)
            .above(kept.notifications_from - 1)
    }

    pub(super) fn world(run: &Run, kept: &Kept) -> World {
        World {
            tenant: run.tenant.clone(),
            nonce: run.nonce,
            notifications_from: kept.notifications_from,
            accepted: kept.accepted.iter().cloned().collect(),
        }
    }

    pub(super) fn verifier(&self, run: &Run, kept: &Kept) -> Result<Verifier> {
        let witnesses = (Arc::clone(&self.source_witness), Arc::clone(&self.target_witness));
        Verifier::new(&self.tables, &Self::world(run, kept), witnesses.0, witnesses.1)
    }

    pub(super) async fn excused(&self) -> Result<ExcusedKeys> {
        let mut keys = ExcusedKeys::default();
        let mut filter = QuarantineFilter { limit: PAGE, ..QuarantineFilter::default() };
        loop {
            let page = self.target.quarantined(&filter).await?;
            for row in &page {
                let excuse = if row.decision == "repaired" { Excuse::Repaired } else { Excuse::Out };
                keys.insert(&self.tables[row.table].name, &row.key, excuse);
            }
            match page.last() {
                Some(last) => filter.after = last.id,
                None => return Ok(keys),
            }
        }
    }
}

/// Facts of an entry that has none.
pub(super) fn nothing() -> Document {
    json!({})
}
