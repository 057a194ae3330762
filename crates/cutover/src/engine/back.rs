//! The way back: what was written to the new store since the switch goes into the file, through the gate.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use changeover_core::cutover::{BackBatch, BackChange, BackKey, Raw, SourceColumn};
use changeover_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::cut::is_lost;
use super::fail;
use super::follow::name_of;
use super::rounds::Rounds;
use super::session::{PAGE, Session, nothing};
use super::{Cutover, Pause, Step};
use crate::phase::{Owner, Phase};
use crate::verify::{ChangedKey, Verifier};

/// Rows that may be left to compare when the writers stand still, if they leave time for no fewer: a page.
const FEW: usize = PAGE as usize;

/// How far what was written to the new store is compared with the file.
#[derive(Default)]
struct Compared {
    /// Captured changes up to this one.
    upto: i64,
    /// Rows that differed.
    left: Vec<ChangedKey>,
    /// How many rows were compared, each as often as it was.
    rows: u64,
}

impl Session<'_> {
    /// From `switched`, or from wherever an earlier revert was left, to the old store as the owner.
    pub(super) async fn revert(&mut self) -> Result<()> {
        let mut begin = std::time::Instant::now();
        let mut compared = Compared::default();
        fail::point("revert.before").await;
        if self.phase == Phase::Switched {
            // Most of it while the writers go on; a change that the file refuses is found out before they are stopped.
            let mut rounds = Rounds::until(FEW);
            loop {
                while self.write_back().await? > self.terms.max_lag {}
                let rows = self.compare_back(&mut compared).await?;
                if !rounds.another(rows) {
                    break;
                }
            }
            begin = std::time::Instant::now();
            let entry = self.entry("revert_fenced", &nothing())?;
            if self.target().fence(&self.lease, self.epoch, entry).await?.is_none() {
                return Err(Error::new(
                    ErrorKind::Contention,
                    "the authority is another than it was: another coordinator is at work",
                ));
            }
            self.epoch += 1;
            self.phase = Phase::RevertFenced;
            self.say(&Step::Phase(Phase::RevertFenced));
            fail::point("revert.fenced").await;
        }
        let count = match self.drain_back(compared).await {
            Ok(count) => count,
            Err(error) if is_lost(&error) => return Err(error),
            Err(error) => return Err(self.stay(&error, begin).await?),
        };
        let back_seq = self.meta().await?.back_applied;
        let entry = self.entry("reverted", &json!({ "back_seq": back_seq, "rows": count }))?;
        let Some(epoch) = self.target().give_back(&self.lease, self.epoch, entry).await? else {
            return Err(Error::new(
                ErrorKind::Contention,
                "the authority is another than it was: another coordinator is at work",
            ));
        };
        fail::point("revert.postgres").await;
        self.source().reopen(epoch, false).await?;
        fail::point("revert.sqlite").await;
        self.epoch = epoch;
        self.phase = Phase::Idle;
        self.say(&Step::Phase(Phase::Idle));
        self.say(&Step::Paused(Pause { took: begin.elapsed(), ended: Owner::Sqlite }));
        Ok(())
    }

    /// Everything that is left goes back and is compared; how many comparisons of a row there were, the earlier ones included.
    async fn drain_back(&mut self, compared: Compared) -> Result<u64> {
        while self.write_back().await? > 0 {}
        fail::point("revert.drained").await;
        self.prove_back(compared).await
    }

    /// The file did not take what it had to. It was not opened, and the new store has every row: that goes on as the owner,
    /// and a later revert with what is left.
    async fn stay(&mut self, why: &Error, begin: std::time::Instant) -> Result<Error> {
        let facts = json!({ "why": why.message(), "kind": why.kind().as_str() });
        let entry = self.entry("stayed", &facts)?;
        let Some(epoch) = self.target().stay(&self.lease, self.epoch, entry).await? else {
            return Err(Error::new(
                ErrorKind::Contention,
                "the authority is another than it was: another coordinator is at work",
            ));
        };
        fail::point("revert.stayed").await;
        self.epoch = epoch;
        self.phase = Phase::Switched;
        self.say(&Step::Phase(Phase::Switched));
        self.say(&Step::Paused(Pause { took: begin.elapsed(), ended: Owner::Postgres }));
        let message = format!(
            "{}; the new store is the owner as before, with every record: correct what was found, and revert again",
            why.message()
        );
        Ok(Error::new(why.kind(), message))
    }

    async fn meta(&self) -> Result<changeover_core::cutover::Meta> {
        self.cutover.file().await?.ok_or_else(super::guard::no_mark)
    }

    /// One batch; how many changes are left.
    async fn write_back(&mut self) -> Result<u64> {
        let after = self.meta().await?.back_applied;
        let found = self.target().changes(after, PAGE).await?;
        if found.upto > after {
            let changes = self.back_changes(&found.keys).await?;
            fail::point("revert.read").await;
            self.source().write_back(&BackBatch { epoch: self.file_epoch, seq: found.upto, changes }).await?;
            fail::point("revert.written").await;
        }
        let left = u64::try_from(found.last_seq - found.upto).unwrap_or(0);
        self.say(&Step::WroteBack { rows: found.keys.len() as u64, left });
        Ok(left)
    }

    /// The rows of the file behind rows of the new store, all that are there, by table and key.
    async fn there(&self, keys: &[BackKey]) -> Result<HashSet<Vec<u8>>> {
        let mut wanted: BTreeMap<usize, Vec<Vec<Raw>>> = BTreeMap::new();
        for it in keys {
            let spelled = self.converter.spellings(it.change.table, &it.change.key)?;
            wanted.entry(it.change.table).or_default().extend(spelled);
        }
        let mut there = HashSet::new();
        for (table, keys) in wanted {
            let rows = self.read(table, keys).await?.into_iter().filter(|row| row.raw.is_some());
            there.extend(rows.map(|row| name_of(&self.tables()[table].name, &row.key)));
        }
        Ok(there)
    }

    async fn back_changes(&self, keys: &[BackKey]) -> Result<Vec<BackChange>> {
        let mut there = self.there(keys).await?;
        let mut changes = Vec::with_capacity(keys.len());
        for it in keys {
            let (table, key) = (it.change.table, &it.change.key);
            let mut change = self.converter.back(table, key, it.change.row.as_deref())?;
            // The file may spell the ids of the row in another way, and goes on to.
            for spelled in self.converter.spellings(table, key)? {
                if there.remove(&name_of(&self.tables()[table].name, &spelled)) {
                    respell(&mut change, spelled);
                    break;
                }
            }
            changes.push(change);
        }
        Ok(changes)
    }

    /// Compares what went back already, while the writers go on; how many rows that were.
    async fn compare_back(&self, compared: &mut Compared) -> Result<usize> {
        let written = self.meta().await?.back_applied;
        let (verifier, excused) = (self.verifier_of_way_back()?, self.excused().await?);
        let mut rows = 0;
        loop {
            let found = self.target().changes(compared.upto, PAGE).await?;
            if found.upto == compared.upto || found.upto > written {
                return Ok(rows);
            }
            let changed = self.in_file(&found.keys).await?;
            // What differs was changed once more, or is wrong: the last comparison tells.
            let differing = verifier.differing_of(&changed, &excused).await?;
            rows += changed.len();
            compared.left.extend(differing.into_iter().map(|(key, _)| key));
            compared.rows += changed.len() as u64;
            compared.upto = found.upto;
        }
    }

    /// Nobody writes any more: what is left of the rows that were written to the new store since the switch is compared with
    /// the file. How many comparisons of a row that were in all.
    async fn prove_back(&self, mut compared: Compared) -> Result<u64> {
        // What somebody else's run captures is not for this file.
        self.target().renew(&self.lease).await?;
        let (verifier, excused) = (self.verifier_of_way_back()?, self.excused().await?);
        let mut changed = std::mem::take(&mut compared.left);
        loop {
            let wrong = verifier.changed(&changed, &excused).await?;
            if let Some(first) = wrong.first() {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!(
                        "{} rows that were written to the new store are not in the file as they should be, the first in {} with \
                         the key {:?}: somebody else writes to the file",
                        wrong.len(),
                        first.target,
                        first.key
                    ),
                ));
            }
            compared.rows += changed.len() as u64;
            let found = self.target().changes(compared.upto, PAGE).await?;
            if found.upto == compared.upto {
                return Ok(compared.rows);
            }
            compared.upto = found.upto;
            changed = self.in_file(&found.keys).await?;
        }
    }

    fn verifier_of_way_back(&self) -> Result<Verifier> {
        let world = Cutover::world(&self.run, &self.kept);
        let witnesses = (&self.cutover.source_witness, &self.cutover.target_witness);
        Verifier::of_way_back(self.tables(), &world, Arc::clone(witnesses.0), Arc::clone(witnesses.1))
    }

    /// The keys under which the file has, or had, these rows.
    async fn in_file(&self, keys: &[BackKey]) -> Result<Vec<ChangedKey>> {
        let there = self.there(keys).await?;
        let mut found = Vec::with_capacity(keys.len());
        for it in keys {
            let (table, key) = (it.change.table, &it.change.key);
            let name = &self.tables()[table].name;
            let spelled = self.converter.spellings(table, key)?;
            let is_there = |key: &&Vec<Raw>| there.contains(&name_of(name, key));
            let Some(raw) = spelled.iter().find(is_there).or(spelled.first()) else { continue };
            found.push(ChangedKey { table: name.clone(), key: raw.clone() });
        }
        Ok(found)
    }
}

/// Writes a row under the key that it has in the file.
fn respell(change: &mut BackChange, key: Vec<Raw>) {
    let names: Vec<SourceColumn> = change.key.iter().map(|(name, _)| name.clone()).collect();
    let spelled: HashMap<SourceColumn, Raw> = names.into_iter().zip(key).collect();
    let row = change.row.iter_mut().flatten();
    for (name, value) in change.key.iter_mut().chain(row) {
        if let Some(spelled) = spelled.get(name) {
            *value = spelled.clone();
        }
    }
}
