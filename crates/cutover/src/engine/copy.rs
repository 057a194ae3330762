//! The copy: chunk after chunk, each stored together with its checkpoint; while one is stored the next is read.

use std::time::{Duration, Instant};

use changeover_core::cutover::{ChunkDone, ChunkRead, Progress, Raw, TableProgress};
use changeover_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::batch::{Batch, ChunkEnd, Destination, Identity, Row, send};
use super::fail;
use super::session::{Session, nothing};
use super::{Copied, Step};
use crate::phase::Phase;

/// How long replicas are left alone before they are looked at again.
const REPLICAS_CATCH_UP: Duration = Duration::from_millis(500);

impl Session<'_> {
    pub(super) async fn copy(&mut self) -> Result<()> {
        if self.phase == Phase::Prepared {
            self.enter(&[Phase::Prepared], Phase::Copying, &nothing()).await?;
        }
        let progress = self.target().progress(self.run.run).await?;
        let begun = Begun { at: Instant::now(), rows: rows_of(&progress) };
        for (table, done) in progress.tables.iter().enumerate() {
            if !done.end {
                self.copy_table(table, done.clone(), &begun).await?;
            }
        }
        let progress = self.target().progress(self.run.run).await?;
        self.applied = self.applied.max(progress.applied).max(progress.first_seq.unwrap_or(0));
        fail::point("copy.end").await;
        let facts = json!({
            "rows": rows_of(&progress),
            "bytes": progress.tables.iter().map(|it| it.bytes).sum::<u64>(),
            "quarantined": progress.quarantined.0,
            "milliseconds": u64::try_from(begun.at.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        self.index().await?;
        self.enter(&[Phase::Copying], Phase::CatchingUp, &facts).await
    }

    /// The lease outlives this: nobody else can take it while the run's row is locked.
    async fn index(&self) -> Result<()> {
        self.say(&Step::Indexing);
        self.target().index(&self.lease, self.entry("indexed", &nothing())?).await?;
        fail::point("index.after").await;
        Ok(())
    }

    /// A copy writes faster than anything else, and replicas have other work.
    async fn wait_for_replicas(&self) -> Result<()> {
        let Some(allowed) = self.terms.max_replica_lag else { return Ok(()) };
        loop {
            let behind = self.target().replicas_behind().await?;
            if behind <= allowed {
                return Ok(());
            }
            let why = format!(
                "a replica of the new store is {behind} bytes of its log behind, {allowed} are allowed"
            );
            self.say(&Step::Waiting { why });
            tokio::time::sleep(REPLICAS_CATCH_UP).await;
        }
    }

    async fn copy_table(&mut self, table: usize, mut done: TableProgress, begun: &Begun) -> Result<()> {
        let mut next = Some(self.read_chunk(table, done.last.clone()).await?);
        while let Some((end, batch)) = next.take() {
            let ahead = if end.end { None } else { end.last.clone() };
            let read = async {
                match ahead {
                    Some(after) => self.read_chunk(table, Some(after)).await.map(Some),
                    None => Ok(None),
                }
            };
            self.wait_for_replicas().await?;
            let (stored, read) = tokio::join!(self.store_chunk(table, done.chunks + 1, &end, batch), read);
            self.twins.extend(stored?);
            next = read?;
            done.chunks += 1;
            done.rows += end.rows;
            done.bytes += end.bytes;
            self.tell(table, &done, begun);
            fail::point("copy.stored").await;
        }
        Ok(())
    }

    /// The next chunk of a table, converted.
    async fn read_chunk(&self, table: usize, after: Option<Vec<Raw>>) -> Result<(ChunkEnd, Batch)> {
        let declared = &self.tables()[table];
        let begin = Instant::now();
        let read = ChunkRead {
            table: declared.source.clone(),
            columns: declared.source_columns(),
            key: declared.source_key(),
            after,
            rows: self.terms.chunk_rows,
            bytes: self.terms.chunk_bytes,
        };
        let chunk = self.source().chunk(&read).await?;
        fail::point("copy.read").await;
        if chunk.schema_cookie != self.facts.schema_cookie {
            return Err(Error::new(
                ErrorKind::SchemaMismatch,
                "the schema of the old store changed while it was copied, or VACUUM ran, which may give rows other numbers; \
                 run again to see the difference, and abort if the change is to stay",
            ));
        }
        if self.terms.busy < 1.0 {
            let pause = begin.elapsed().mul_f64((1.0 - self.terms.busy) / self.terms.busy);
            tokio::time::sleep(pause.min(Duration::from_secs(10))).await;
        }
        let end = ChunkEnd {
            last: chunk.rows.last().map(|(key, _)| key.clone()),
            end: chunk.end,
            rows: chunk.rows.len() as u64,
            bytes: chunk.rows.iter().flat_map(|(_, row)| row).map(|raw| raw.size() as u64).sum(),
            seq: chunk.seq,
        };
        let rows = chunk.rows.into_iter().map(|(key, raw)| Row { table, key, raw: Some(raw) });
        Ok((end, Batch::converted(self, rows.collect())))
    }

    /// What its rows in quarantine share with others.
    async fn store_chunk(
        &self,
        table: usize,
        number: i64,
        end: &ChunkEnd,
        mut batch: Batch,
    ) -> Result<Vec<Identity>> {
        batch.part_twins(self, &self.twins);
        match send(self, &mut batch, Destination::Chunk { table, number, of: end }).await? {
            ChunkDone::Repeated => Err(Error::new(
                ErrorKind::Contention,
                "a chunk was stored before: its reply was lost, or another coordinator is at work",
            )),
            _ => Ok(batch.twins(self)),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn tell(&self, table: usize, done: &TableProgress, begun: &Begun) {
        let declared = &self.tables()[table];
        let rows_in = |name: &str| {
            let found = self.facts.tables.iter().find(|it| it.name.eq_ignore_ascii_case(name));
            found.map_or(0, |it| it.rows)
        };
        let before: u64 = self.tables()[..table].iter().map(|it| rows_in(&it.source)).sum();
        let all: u64 = self.tables().iter().map(|it| rows_in(&it.source)).sum();
        let seconds = begun.at.elapsed().as_secs_f64().max(0.001);
        let rate = (before + done.rows).saturating_sub(begun.rows) as f64 / seconds;
        let left = all.saturating_sub(before + done.rows) as f64;
        self.say(&Step::Copied(Copied {
            table: declared.name.clone(),
            rows: done.rows,
            of: rows_in(&declared.source).max(done.rows),
            bytes: done.bytes,
            rows_per_second: rate,
            left: (rate > 0.0).then(|| Duration::from_secs_f64((left / rate).min(1e9))),
        }));
    }
}

/// When the copy began, or was gone on with, and what was there already.
struct Begun {
    at: Instant,
    rows: u64,
}

fn rows_of(progress: &Progress) -> u64 {
    progress.tables.iter().map(|it| it.rows).sum()
}
