//! What a task is held against before it does anything: the run that was meant, both stores as they were, the terms.

use changeover_core::cutover::Run;
use changeover_core::{Applied, Error, ErrorKind, Result, Uuid};

use super::Cutover;
use super::drive::ANOTHER;
use super::terms::{Kept, Terms};
use crate::plan;

/// The run that a task is for, once it is known.
pub(super) struct Meant(pub(super) Option<Uuid>);

impl Cutover {
    /// The run is the one that was meant from the beginning: one that somebody else began meanwhile is none of this task's.
    pub(super) async fn still(&self, meant: &mut Meant, run: &Run) -> Result<()> {
        match meant.0 {
            Some(known) if known != run.run => Err(self.ended(known).await),
            _ => {
                meant.0 = Some(run.run);
                Ok(())
            }
        }
    }

    /// The run that was meant was not given up or brought back by somebody else meanwhile; it may never have been made.
    pub(super) async fn none_was_ended(&self, meant: &Meant) -> Result<()> {
        let (Some(known), Some(last)) = (meant.0, self.target.run().await?) else { return Ok(()) };
        if known == last.run { Err(self.ended(known).await) } else { Ok(()) }
    }

    async fn ended(&self, run: Uuid) -> Error {
        let record = self.record(Some(run)).await.unwrap_or_default();
        let last =
            record.last().map_or_else(String::new, |it| format!(": {} by {:?}", it.entry.what, it.entry.who));
        let message = format!(
            "run {run} was ended meanwhile{last}; nothing more is done. Look at the status, and ask anew"
        );
        Error::new(ErrorKind::Contention, message).with(ANOTHER, "another coordinator").applied(Applied::No)
    }

    /// Changes of the file are captured for this run, and always were since it began: the capture never comes back by itself.
    pub(super) async fn check_captured(&self, run: &Run) -> Result<()> {
        let file = self.file().await?.ok_or_else(no_mark)?;
        if file.captures && file.run == run.run {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "the file does not capture its changes for run {} any more, so that some may be missing in the new store: somebody \
                 took the capture off; abort the run and begin anew",
                run.run
            ),
        ))
    }

    /// Stores that are not what the run was begun with are not gone on with.
    pub(super) async fn check_unchanged(&self, run: &Run) -> Result<()> {
        let facts = self.source.facts().await?;
        let now = plan::fingerprint(&self.tables, &facts)?;
        let differ = plan::differences(&run.fingerprint, &now)?;
        if differ.is_empty() {
            return self.check_target(run).await;
        }
        Err(Error::invalid(format!(
            "the old store or its declarations are not what run {} was begun with: {}; put it back as it was, or abort the run",
            run.run,
            differ.join("; ")
        )))
    }

    /// As [`Cutover::check_unchanged`], of the new store alone.
    pub(super) async fn check_target(&self, run: &Run) -> Result<()> {
        let was = Kept::read(&run.terms)?.target;
        let now = plan::of_target(&self.target.facts(&self.tables).await?);
        let gone = was.iter().filter(|it| !now.contains(it)).map(|it| format!("there was {it}"));
        let new = now.iter().filter(|it| !was.contains(it)).map(|it| format!("there is {it}"));
        let differ: Vec<_> = gone.chain(new).collect();
        if differ.is_empty() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the tables of the new store are not what run {} was begun with: {}; put them back as they were, or abort the run",
            run.run,
            differ.join("; ")
        )))
    }
}

/// What is lost is decided once for all rows of a run.
pub(super) fn check_accepted(run: &Run, terms: &Terms) -> Result<()> {
    let kept = Kept::read(&run.terms)?;
    let wanted = terms.accepted.names();
    let new: Vec<_> = wanted.into_iter().filter(|name| !kept.accepted.iter().any(|it| it == name)).collect();
    if new.is_empty() {
        return Ok(());
    }
    let had = if kept.accepted.is_empty() { "none".to_owned() } else { kept.accepted.join(", ") };
    Err(Error::invalid(format!(
        "run {} accepts {had} of the losses, and cannot accept {} any more; go on without, or abort it and begin anew",
        run.run,
        new.join(", ")
    )))
}

pub(super) fn no_mark() -> Error {
    Error::new(ErrorKind::Corrupt, "the file has no mark of a cutover any more; find out who replaced it")
}
