//! Which rows a constraint refused: a second look, in a transaction that is taken back.

use changeover_core::Result;
use changeover_core::cutover::{RefusedRow, Value};

use super::connections::Tx;
use super::load::{Refused, store};
use super::shape::TableShape;

/// The rows that a constraint of the table refuses, each for itself. Halves that are refused are looked at half by half.
pub(super) async fn find(tx: &Tx<'_>, table: &TableShape, rows: &[&[Value]]) -> Result<Vec<RefusedRow>> {
    let mut found = Vec::new();
    // Begin and end of each part that is still to be looked at.
    let mut parts = vec![(0, rows.len())];
    while let Some((begin, end)) = parts.pop() {
        if begin == end {
            continue;
        }
        tx.batch("SAVEPOINT look").await?;
        let stored = store(tx, table, &rows[begin..end]).await;
        match stored {
            Ok(()) => {}
            Err(Refused::Other(error)) => return Err(error),
            Err(Refused::Row(by)) if end - begin == 1 => found.push(RefusedRow { row: begin, by }),
            // Not by itself: what is in the way is found by the key.
            Err(Refused::Taken) if end - begin == 1 => {}
            Err(Refused::Row(_) | Refused::Taken) => {
                let middle = begin.midpoint(end);
                parts.extend([(middle, end), (begin, middle)]);
            }
        }
        tx.batch("ROLLBACK TO SAVEPOINT look; RELEASE SAVEPOINT look").await?;
    }
    Ok(found)
}
