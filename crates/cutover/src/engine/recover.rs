//! Where a module stands before anything is done, and the step of an earlier run that was lost, done again.

use changeover_core::cutover::{Meta, Run};
use changeover_core::{Error, ErrorKind, Result};

use super::Cutover;
use crate::phase::{Owner, Phase};

/// Where a module stands.
pub(super) enum Place {
    /// The old store owns it, or nobody; no run is under way.
    Idle {
        /// The epoch that both agree on.
        epoch: i64,
        /// The file's word, if it had a cutover.
        file: Option<Meta>,
    },
    /// A run is under way, before its switch.
    Moving(Run),
    /// The new store owns it, and the way back is open.
    Switched(Run),
    /// A revert is under way.
    Reverting(Run),
    /// The new store owns it for good; without a run it always did.
    Moved,
}

impl Cutover {
    /// Reads both stores, refuses what cannot be, and brings the file to where the authority is.
    pub(super) async fn recover(&self) -> Result<Place> {
        let (authority, run, file) = (self.authority().await?, self.target.run().await?, self.file().await?);
        let phase = run.as_ref().map_or(Ok(Phase::Idle), |run| Phase::parse(&run.phase))?;
        match Owner::parse(&authority.owner)? {
            Owner::Postgres => {
                let Some(run) = run else { return Ok(Place::Moved) };
                let file = self.same_file(&run, file.as_ref())?;
                if file.open {
                    return Err(self.torn(&format!(
                        "the file takes writes (epoch {}) while the new store is the owner (epoch {}): an older copy of the file \
                         was put back. Stop every writer of it; find the file that was fenced",
                        file.epoch, authority.epoch
                    )));
                }
                Ok(if phase == Phase::Finalized { Place::Moved } else { Place::Switched(run) })
            }
            Owner::None => match run {
                Some(run) if phase == Phase::RevertFenced => {
                    self.same_file(&run, file.as_ref())?;
                    Ok(Place::Reverting(run))
                }
                _ => Ok(Place::Idle { epoch: file.as_ref().map_or(0, |it| it.epoch), file }),
            },
            Owner::Sqlite => match run {
                Some(run) if phase != Phase::Idle && phase != Phase::Finalized => {
                    let file = self.same_file(&run, file.as_ref())?;
                    if file.run != run.run {
                        return Err(self.torn(&format!(
                            "the file was prepared by run {}, under way is {}: an older copy of the file was put back, or another \
                             database has the other run. Find out which, and abort this run",
                            file.run, run.run
                        )));
                    }
                    if file.epoch < authority.epoch {
                        self.source.reopen(authority.epoch, true).await?;
                    } else if file.epoch > authority.epoch + 1 {
                        return Err(self.torn(&format!(
                            "the file is at epoch {}, the database at {}: an older copy of the database was put back",
                            file.epoch, authority.epoch
                        )));
                    }
                    Ok(Place::Moving(run))
                }
                run => {
                    self.catch_up_file(run.as_ref(), file.as_ref(), authority.epoch).await?;
                    let file = self.file().await?;
                    Ok(Place::Idle { epoch: authority.epoch, file })
                }
            },
        }
    }

    /// The last step of an abort or a revert may have been lost.
    async fn catch_up_file(&self, run: Option<&Run>, file: Option<&Meta>, epoch: i64) -> Result<()> {
        let Some(run) = run else { return Ok(()) };
        let file = self.same_file(run, file)?;
        if file.epoch >= epoch {
            return Ok(());
        }
        if file.back_applied < run.back_seq {
            return Err(self.torn(&format!(
                "changes up to {} went back into the file, it has them up to {}: an older copy of it was put back. Find the newest",
                run.back_seq, file.back_applied
            )));
        }
        self.source.reopen(epoch, false).await.map(drop)
    }

    /// The file that the run was made with.
    fn same_file<'a>(&self, run: &Run, file: Option<&'a Meta>) -> Result<&'a Meta> {
        match file {
            Some(file) if file.nonce == run.nonce => Ok(file),
            Some(file) => Err(self.torn(&format!(
                "run {} was made with the file {} (nonce {}), this one is another (nonce {}); correct the path",
                run.run, run.place, run.nonce, file.nonce
            ))),
            None => Err(self.torn(&format!(
                "run {} was made with the file {}, and this one has no mark of it: it is another, or a copy from before. Find the \
                 file, or correct the path",
                run.run, run.place
            ))),
        }
    }

    fn torn(&self, what: &str) -> Error {
        Error::new(ErrorKind::Corrupt, format!("module {}: {what}; nothing was changed", self.module))
    }
}
