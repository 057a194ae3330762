//! Verification: a chain is read page by page and recomputed here, from what is stored.

use changeover_core::audit::{ChainHead, ChainReport, ChainWalk, Link, VerifyChain};
use changeover_core::{Result, Uuid};
use tokio_postgres::Row;

use super::Trail;
use super::read::{event, get};
use crate::module::unreadable;

/// Records and anchors of one page.
const PAGE: i64 = 500;
/// The columns before those of the event.
const BEFORE: usize = 6;

impl Trail {
    pub(super) async fn verify(&self, request: &VerifyChain) -> Result<ChainReport> {
        let (tenant, correlation) = (self.tenant.as_str(), request.correlation_id.as_str());
        let mut walk = ChainWalk::new();
        let mut after = 0_i64;
        loop {
            let mut conn = self.conn().await?;
            let rows = conn
                .read_owned(&self.gate, &self.statements.read_chain, &[&tenant, &correlation, &after, &PAGE])
                .await?;
            drop(conn);
            let mut found = 0;
            for row in &rows {
                let Some(place) = get::<Option<i64>>(row, 2)? else { break };
                after = place;
                found += 1;
                if let Some(anchor) = digest(row, 3)? {
                    walk.anchor(anchor);
                    continue;
                }
                let kept = match (digest(row, 4)?, digest(row, 5)?) {
                    (Some(content), Some(link)) => Some(Link { content, link }),
                    _ => None,
                };
                walk.record(&event(row, BEFORE)?.event, kept.as_ref());
            }
            if found < PAGE {
                // The head is of the same snapshot as the last records.
                let row = rows.first().ok_or_else(unreadable)?;
                let head = match (digest(row, 0)?, get::<Option<Uuid>>(row, 1)?) {
                    (Some(link), Some(event_id)) => Some(ChainHead { event_id, link }),
                    _ => None,
                };
                return Ok(walk.end(head.as_ref()));
            }
        }
    }
}

/// A digest, whose length the table holds.
fn digest(row: &Row, index: usize) -> Result<Option<[u8; 32]>> {
    get::<Option<&[u8]>>(row, index)?.map(|bytes| bytes.try_into().map_err(|_| unreadable())).transpose()
}
