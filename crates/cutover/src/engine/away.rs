//! The end of the old store: put away with the last of its modules.

use changeover_core::Result;
use changeover_core::cutover::{Archive, Archiving, Run};
use serde_json::json;

use super::fail;
use super::terms::Terms;
use super::{Cutover, Step};

/// The word of it in the record.
const ARCHIVED: &str = "archived";

impl Cutover {
    /// Has the old store put away, and records that once.
    pub(super) async fn put_away(&self, run: &Run, terms: &Terms) -> Result<()> {
        fail::point("archive.before").await;
        let archiving = if terms.keep_file && self.source.archived().await?.is_none() {
            Archiving::Kept("it was asked to stay".to_owned())
        } else {
            self.source.archive().await?
        };
        fail::point("archive.file").await;
        if let Archiving::Done(archive) | Archiving::Before(archive) = &archiving {
            self.record_archive(run, archive, terms).await?;
            fail::point("archive.recorded").await;
        }
        (self.watch)(&Step::Archive(archiving));
        Ok(())
    }

    async fn record_archive(&self, run: &Run, archive: &Archive, terms: &Terms) -> Result<()> {
        if self.is_archived(run).await? {
            return Ok(());
        }
        // Two who finalize at once: the second one finds the entry.
        let lease = self.take(run, terms).await?;
        if !self.is_archived(run).await? {
            let facts = json!({
                "file": run.place,
                "archive": archive.place.display().to_string(),
                "bytes": archive.bytes,
            });
            self.target.record(run.run, self.entry(ARCHIVED, &facts)?).await?;
        }
        self.release(&lease).await;
        Ok(())
    }

    async fn is_archived(&self, run: &Run) -> Result<bool> {
        let record = self.record(Some(run.run)).await?;
        Ok(record.iter().any(|it| it.entry.what == ARCHIVED))
    }
}
