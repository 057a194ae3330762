//! The data root of the old store alone, and a look at both stores while a run is under way.

use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::cutover::TargetWitness;
use changeover_core::{Error, Result};

use super::Cutover;
use super::prove::can_compare;
use super::terms::Kept;
use crate::phase::Phase;
use crate::verify::{Mode, Verified, Verifier};

/// A new store that holds nothing: for what is to be known of the old one.
struct Nothing;

#[async_trait]
impl TargetWitness for Nothing {
    async fn rows(
        &self,
        _: &str,
        _: &[String],
        _: &[String],
        _: Option<&[String]>,
        _: Option<&[String]>,
        _: u32,
    ) -> Result<Vec<Vec<Option<String>>>> {
        Ok(Vec::new())
    }

    async fn by_keys(
        &self,
        _: &str,
        _: &[String],
        _: &[String],
        of: &[Vec<String>],
    ) -> Result<Vec<Option<Vec<Option<String>>>>> {
        Ok(vec![None; of.len()])
    }

    async fn count(&self, _: &str) -> Result<u64> {
        Ok(0)
    }
}

impl Cutover {
    /// Rows and roots of the old store, without the rows in quarantine: what a third person computes from the frozen file. The
    /// other side of the answer means nothing.
    ///
    /// # Errors
    ///
    /// Those of the stores; `NotFound` if there is no run.
    pub async fn source_root(&self) -> Result<Verified> {
        let run = self.last_run().await?;
        let world = Self::world(&run, &Kept::read(&run.terms)?);
        let witness = Arc::clone(&self.source_witness);
        let verifier = Verifier::new(&self.tables, &world, witness, Arc::new(Nothing))?;
        let excused = self.excused().await?;
        verifier.run(Mode::Frozen, None, &excused, &mut |_, _| ControlFlow::Continue(())).await
    }

    /// Compares both stores as they are. While writers are on, what differs may be on its way: `suspects` are looked at once
    /// more, and what differs still is among the mismatches.
    ///
    /// # Errors
    ///
    /// `Invalid` in a phase in which there is nothing to compare; those of the stores.
    pub async fn verify(&self) -> Result<Verified> {
        let run = self.last_run().await?;
        let phase = Phase::parse(&run.phase)?;
        if !can_compare(phase) || phase == Phase::Switched {
            return Err(Error::invalid(format!(
                "the run is in the phase {phase}; both stores hold the same between catching_up and sealed only"
            )));
        }
        let verifier = self.verifier(&run, &Kept::read(&run.terms)?)?;
        let excused = self.excused().await?;
        let mode = if phase.sqlite_takes_writes() { Mode::Online } else { Mode::Frozen };
        let mut found = verifier.run(mode, None, &excused, &mut |_, _| ControlFlow::Continue(())).await?;
        let excused = self.excused().await?;
        found.mismatches.extend(verifier.recheck(&found.suspects, &excused).await?);
        found.suspects.clear();
        Ok(found)
    }
}
