//! The comparison: once with writers on, and once more of what was changed since, when they are stopped.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use changeover_core::{Error, ErrorKind, Result, hex};
use serde_json::{Value as Document, json};

use super::fail;
use super::rounds::Rounds;
use super::session::{Proof, Session};
use super::{Cutover, Step};
use crate::phase::Phase;
use crate::verify::{
    ChangedKey, ChunkVerified, Kind, Limits, Mismatch, Mode, Suspect, Verified, Verifier, VerifyCursor,
};

/// How often rows that differ under writes are looked at again.
const LOOKS: usize = 4;

/// Rows that may differ under writes and are looked at again: beyond that something is wrong, or the follower far behind.
const LISTED: usize = 20_000;

/// Changed rows that may be left to compare when the writers stand still, if they leave time for fewer.
const FEW: usize = 500;

/// Mismatches that an error and the record name.
const NAMED: usize = 20;

impl Session<'_> {
    /// Compares everything while the writers go on and the follower follows.
    pub(super) async fn prove_online(&mut self) -> Result<()> {
        fail::point("verify.before").await;
        let begin = Instant::now();
        let since = self.applied;
        self.proof = Some(Proof { since, suspects: Vec::new(), left: Vec::new(), took: begin.elapsed() });
        // Beside the follower, which must not be stopped in the middle of what it does.
        let verifier = Arc::new(self.verifier()?.within(Limits { listed: LISTED, ..Limits::default() }));
        let excused = self.excused().await?;
        let walk = tokio::spawn({
            let (verifier, watch) = (Arc::clone(&verifier), Arc::clone(&self.cutover.watch));
            async move {
                let mut rows = 0;
                let mut see = |chunk: &ChunkVerified, _: &VerifyCursor| {
                    rows += chunk.rows;
                    watch(&Step::Compared { table: chunk.target.clone(), rows });
                    ControlFlow::Continue(())
                };
                verifier.run(Mode::Online, None, &excused, &mut see).await
            }
        });
        let walk = Walk(walk);
        while !walk.0.is_finished() {
            self.follow_slowly().await?;
        }
        let seen = walk.end().await?;
        let took = begin.elapsed();
        if seen.unlisted > 0 {
            let count = seen.unlisted + seen.suspects.len() as u64;
            return self.refuse(&seen.mismatches, count).await;
        }
        let suspects = self.look_again(&verifier, seen.suspects).await?;
        self.proof = Some(Proof { since, suspects, left: Vec::new(), took });
        fail::point("verify.after").await;
        Ok(())
    }

    async fn follow_slowly(&mut self) -> Result<()> {
        if self.follow().await? == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Rows that differed are looked at again when what was captured is applied. Those that nobody writes to any more are
    /// equal or wrong; what is left is looked at when the writers are stopped.
    async fn look_again(&mut self, verifier: &Verifier, mut suspects: Vec<Suspect>) -> Result<Vec<Suspect>> {
        for _ in 0..LOOKS {
            if suspects.is_empty() {
                break;
            }
            self.catch_up(0).await?;
            let before = self.applied;
            let excused = self.excused().await?;
            let (left, wrong): (Vec<_>, Vec<_>) =
                verifier.differing(&suspects, &excused).await?.into_iter().unzip();
            if !wrong.is_empty() && self.source().dirty(before, 1).await?.last_seq == before {
                self.refuse(&wrong, wrong.len() as u64).await?;
            }
            suspects = left;
        }
        Ok(suspects)
    }

    /// Compares what was changed since, so that little is left for when nobody writes any more.
    pub(super) async fn prove_recent(&mut self) -> Result<()> {
        let verifier = self.verifier()?;
        let mut rounds = Rounds::until(FEW);
        loop {
            self.catch_up(self.terms.max_lag).await?;
            let Some(proof) = &self.proof else { return Ok(()) };
            let changed = self.changed_since(proof).await?;
            if !rounds.another(changed.len()) {
                return Ok(());
            }
            let upto = self.applied;
            let excused = self.excused().await?;
            let left: Vec<_> =
                verifier.differing_of(&changed, &excused).await?.into_iter().map(|(key, _)| key).collect();
            // What differs was changed once more, or is wrong; the last comparison tells.
            if let Some(proof) = &mut self.proof {
                (proof.since, proof.left) = (upto, left);
            }
        }
    }

    /// Nobody writes any more: what was changed since the comparison, and the number of rows, or everything if there is time.
    pub(super) async fn prove_frozen(&mut self) -> Result<Document> {
        let verifier = self.verifier()?;
        let excused = self.excused().await?;
        let proof = self.proof.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "nothing was compared yet while the writers were on; begin again")
        })?;
        if proof.took < self.terms.max_pause / 5 {
            let whole =
                verifier.run(Mode::Frozen, None, &excused, &mut |_, _| ControlFlow::Continue(())).await?;
            if !whole.is_sound() {
                let count = whole.unlisted + whole.mismatches.len() as u64;
                self.refuse(&whole.mismatches, count.max(1)).await?;
            }
            return Ok(Cutover::facts_of(&whole));
        }
        let mut wrong = verifier.recheck(&proof.suspects, &excused).await?;
        let changed = self.changed_since(proof).await?;
        wrong.extend(verifier.changed(&changed, &excused).await?);
        if !wrong.is_empty() {
            self.refuse(&wrong, wrong.len() as u64).await?;
        }
        let mut facts = self.balance().await?;
        facts["compared_again"] = json!(changed.len() + proof.suspects.len());
        Ok(facts)
    }

    async fn changed_since(&self, proof: &Proof) -> Result<Vec<ChangedKey>> {
        let mut seen: HashSet<_> =
            proof.left.iter().map(|it| super::follow::name_of(&it.table, &it.key)).collect();
        let mut changed = proof.left.clone();
        let mut after = proof.since;
        loop {
            let dirty = self.source().dirty(after, super::session::PAGE).await?;
            let Some(last) = dirty.keys.last() else { return Ok(changed) };
            after = last.seq;
            for key in dirty.keys {
                let changed_key = ChangedKey { table: key.table, key: key.key };
                if seen.insert(super::follow::name_of(&changed_key.table, &changed_key.key)) {
                    changed.push(changed_key);
                }
            }
        }
    }

    /// Rows of the old store = rows of the new one + rows that stay out, table by table.
    async fn balance(&self) -> Result<Document> {
        let mut out: BTreeMap<&str, u64> = BTreeMap::new();
        let mut filter =
            changeover_core::cutover::QuarantineFilter { limit: super::session::PAGE, ..Default::default() };
        loop {
            let page = self.target().quarantined(&filter).await?;
            for row in page.iter().filter(|row| row.decision != "repaired") {
                *out.entry(&self.tables()[row.table].target).or_default() += 1;
            }
            match page.last() {
                Some(last) => filter.after = last.id,
                None => break,
            }
        }
        let mut tables = Vec::new();
        for (target, (source_rows, target_rows)) in self.counted().await? {
            let quarantined = out.get(target).copied().unwrap_or(0);
            if source_rows != target_rows + quarantined {
                self.target().renew(&self.lease).await?;
                let facts = json!({
                    "target": target, "source_rows": source_rows, "target_rows": target_rows, "quarantined": quarantined,
                });
                self.target().record(self.run.run, self.entry("mismatched", &facts)?).await?;
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!(
                        "table {target}: the old store has {source_rows} rows, the new one {target_rows} and {quarantined} are in \
                         quarantine, which is not the same; find out who else writes there, or abort the run"
                    ),
                ));
            }
            tables.push(json!({
                "target": target, "source_rows": source_rows, "target_rows": target_rows, "quarantined": quarantined,
            }));
        }
        Ok(json!({ "whole": false, "tables": tables }))
    }

    /// Rows of each table of the new store, on both sides.
    async fn counted(&self) -> Result<BTreeMap<&str, (u64, u64)>> {
        let targets: BTreeSet<&str> = self.tables().iter().map(|table| &*table.target).collect();
        let old = async {
            let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
            for table in self.tables() {
                *rows.entry(&table.target).or_default() +=
                    self.cutover.source_witness.count(&table.source).await?;
            }
            Ok::<_, Error>(rows)
        };
        let new = async {
            let mut rows = Vec::new();
            for target in &targets {
                rows.push(self.cutover.target_witness.count(target).await?);
            }
            Ok(rows)
        };
        // The writers wait: both stores count at once.
        let (old, new) = tokio::try_join!(old, new)?;
        let pairs = old.into_iter().zip(new).map(|((target, old), new)| (target, (old, new)));
        Ok(pairs.collect())
    }

    /// Records what is wrong and says so. Stores that another coordinator has moved on by now are not what was compared.
    async fn refuse(&self, wrong: &[Mismatch], count: u64) -> Result<()> {
        self.target().renew(&self.lease).await?;
        let facts = json!({ "count": count, "rows": &wrong[..wrong.len().min(NAMED)] });
        self.target().record(self.run.run, self.entry("mismatched", &facts)?).await?;
        Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "{count} rows of the new store are not those of the old one{}; the run goes no further: find out who else writes \
                 there, then abort it and begin anew",
                named(wrong)
            ),
        ))
    }
}

/// A comparison under way, which ends with whoever waits for it.
struct Walk(tokio::task::JoinHandle<Result<Verified>>);

impl Walk {
    async fn end(mut self) -> Result<Verified> {
        let ended = (&mut self.0).await;
        ended.map_err(|error| Error::new(ErrorKind::Unexpected, "the comparison stopped").caused_by(error))?
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Cutover {
    /// What a whole comparison came to, for the record.
    pub(super) fn facts_of(verified: &Verified) -> Document {
        let tables = verified.tables.iter().map(|table| {
            json!({
                "target": table.target,
                "source_rows": table.source_rows,
                "target_rows": table.target_rows,
                "quarantined": table.quarantined,
                "repaired": table.repaired,
                "source_root": hex(&table.source_root),
                "target_root": hex(&table.target_root),
            })
        });
        json!({
            "whole": true,
            "source_root": hex(&verified.source_root()),
            "target_root": hex(&verified.target_root()),
            "tables": tables.collect::<Vec<_>>(),
        })
    }
}

/// The first of what is wrong, in words.
fn named(wrong: &[Mismatch]) -> String {
    let one = |it: &Mismatch| {
        let key: Vec<_> = it.key.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let what = match it.kind {
            Kind::Missing => "is missing".to_owned(),
            Kind::Extra => "is in the new store only".to_owned(),
            Kind::Changed => format!("differs in {}", it.fields.join(", ")),
            Kind::NotOut => "is in quarantine, and in the new store as well".to_owned(),
            Kind::RepairMissing => "was repaired, and is missing".to_owned(),
            Kind::Twice => "is there twice".to_owned(),
            Kind::NoKey => "has no key".to_owned(),
        };
        format!("{} ({}) {what}", it.target, key.join(", "))
    };
    let few: Vec<_> = wrong.iter().take(3).map(one).collect();
    if few.is_empty() { String::new() } else { format!(": {}", few.join("; ")) }
}

/// The phases in which a comparison makes sense.
pub(super) fn can_compare(phase: Phase) -> bool {
    !matches!(phase, Phase::Idle | Phase::Prepared | Phase::Copying | Phase::Finalized)
}
