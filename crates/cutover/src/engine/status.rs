//! Where a module stands, from the two stores alone.

use changeover_core::cutover::{Archive, Authority, Meta, Progress, Run};
use changeover_core::{Result, Timestamp};
use serde_json::{Value as Document, json};

use super::Cutover;
use crate::phase::{Owner, Phase};

/// Where a module stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The phase of the last run; `idle` without one.
    pub phase: Phase,
    /// Who owns it, as the new store says.
    pub owner: Owner,
    /// The authority's epoch.
    pub epoch: i64,
    /// What the file says of the cutover; `None` if it never had one.
    pub file: Option<Meta>,
    /// Where the file was put, if it was archived.
    pub archive: Option<Archive>,
    /// The last run.
    pub run: Option<Run>,
    /// How far it has come.
    pub progress: Option<Progress>,
    /// Names of the tables, in the order of [`Progress::tables`].
    pub tables: Vec<String>,
}

impl Status {
    /// Captured changes that are not applied yet; `None` where nothing is followed.
    pub fn left(&self) -> Option<u64> {
        let (file, progress) = (self.file.as_ref()?, self.progress.as_ref()?);
        if !file.captures || matches!(self.phase, Phase::Idle | Phase::Switched | Phase::Finalized) {
            return None;
        }
        let applied = progress.applied.max(progress.first_seq.unwrap_or(0));
        u64::try_from(file.seq - applied).ok()
    }

    /// Who has the lease, and until when.
    pub fn holder(&self) -> Option<&(String, Timestamp)> {
        self.run.as_ref()?.holder.as_ref()
    }

    /// As one object for programs.
    pub fn to_json(&self) -> Document {
        let tables = self.progress.iter().flat_map(|progress| &progress.tables).zip(&self.tables);
        json!({
            "phase": self.phase.as_str(),
            "owner": self.owner.as_str(),
            "epoch": self.epoch,
            "file": self.file.as_ref().map(|file| json!({
                "epoch": file.epoch, "open": file.open, "captures": file.captures, "nonce": file.nonce.to_string(),
                "seq": file.seq, "back_applied": file.back_applied,
            })),
            "archive": self.archive.as_ref().map(|archive| json!({
                "place": archive.place.display().to_string(), "bytes": archive.bytes, "is_there": archive.is_there,
            })),
            "run": self.run.as_ref().map(|run| json!({
                "id": run.run.to_string(), "place": run.place, "tenant": run.tenant.as_str(),
                "started_at": run.started_at.to_string(),
                "holder": run.holder.as_ref().map(|(who, until)| json!({ "who": who, "until": until.to_string() })),
            })),
            "left": self.left(),
            "quarantined": self.progress.as_ref().map(|it| json!({ "all": it.quarantined.0, "undecided": it.quarantined.1 })),
            "tables": tables.map(|(done, name)| json!({
                "name": name, "rows": done.rows, "bytes": done.bytes, "chunks": done.chunks, "copied": done.end,
            })).collect::<Vec<_>>(),
        })
    }
}

impl Cutover {
    /// Where the module stands. Changes nothing.
    ///
    /// # Errors
    ///
    /// Those of the stores.
    pub async fn status(&self) -> Result<Status> {
        let authority = self.target.authority().await?;
        let run = self.target.run().await?;
        let progress = match &run {
            Some(run) => Some(self.target.progress(run.run).await?),
            None => None,
        };
        Ok(Status {
            phase: run.as_ref().map_or(Ok(Phase::Idle), |run| Phase::parse(&run.phase))?,
            owner: authority.as_ref().map_or(Ok(Owner::None), |it| Owner::parse(&it.owner))?,
            epoch: authority.as_ref().map_or(0, |it| it.epoch),
            file: self.file().await?,
            archive: self.source.archived().await?,
            run,
            progress,
            tables: self.tables.iter().map(|table| table.name.clone()).collect(),
        })
    }

    /// The authority; that of a module which the new store does not know is nobody at epoch 0.
    pub(super) async fn authority(&self) -> Result<Authority> {
        let known = self.target.authority().await?;
        Ok(known.unwrap_or(Authority {
            owner: Owner::None.as_str().to_owned(),
            epoch: 0,
            log: changeover_core::LogId(changeover_core::Uuid::nil()),
        }))
    }

    pub(super) async fn file(&self) -> Result<Option<Meta>> {
        self.source.meta().await
    }
}
