//! Which rows a constraint refused: a second look, in a transaction that is taken back.

use changeover_core::Result;
use changeover_core::cutover::{RefusedRow, Value};

use super::connections::Tx;
use super::load::{Refused, store};
use super::shape::TableShape;

/// The rows that a constraint of the table refuses, each for itself. Halves that are refused are looked at half by half.
pub(super) async fn find(tx: &Tx<'_>, table: &TableShape, rows: &[&[Value]]) -> Result<Vec<RefusedRow>> {
    let mut found = Vec::new();
    let mut ranges = vec![0..rows.len()];
    while let Some(range) = ranges.pop() {
        if range.is_empty() {
            continue;
        }
        tx.batch("SAVEPOINT look").await?;
        let stored = store(tx, table, &rows[range.clone()]).await;
        match stored {
            Ok(()) => {}
            Err(Refused::Other(error)) => return Err(error),
            Err(Refused::Row(by)) if range.len() == 1 => found.push(RefusedRow { row: range.start, by }),
            // Not by itself: what is in the way is found by the key.
            Err(Refused::Taken) if range.len() == 1 => {}
            Err(Refused::Row(_) | Refused::Taken) => {
                let middle = range.start + range.len() / 2;
                ranges.extend([middle..range.end, range.start..middle]);
            }
        }
        tx.batch("ROLLBACK TO SAVEPOINT look; RELEASE SAVEPOINT look").await?;
    }
    Ok(found)
}
