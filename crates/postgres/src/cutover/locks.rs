//! What a call has locked before it changes anything.

use std::time::Duration;

use changeover_core::{ErrorKind, Result};

use super::connections::{Tx, literal};

/// How long a table is waited for at the first try; at each further one twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Together some six seconds. The last ones are longer than a server waits before it sends its own vacuum away (1 s).
const TRIES: u32 = 7;

/// Nobody writes, claims, begins or switches the module at the same time.
pub(super) async fn lock_module(tx: &Tx<'_>, module: &str) -> Result<()> {
    tx.query("SELECT pg_advisory_xact_lock(changeover.lock_key($1, 'module'))", &[&module]).await.map(drop)
}

/// Locks tables with their partitions against everybody, readers too, until the end of the transaction.
///
/// Readers take their tables in any order, so one of them may have what is wanted here and want what is had here. All locks
/// are therefore taken at once, for a moment first, and given up again where one cannot be had: the reader goes on, long
/// before the server looks for deadlocks. Of a partitioned table the parent comes first, as it does for readers.
///
/// # Errors
/// `Contention` if somebody keeps one of them for longer.
pub(super) async fn lock_tables(tx: &Tx<'_>, tables: &[String]) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let before: String = tx.one("SELECT current_setting('lock_timeout')", &[]).await?.get(0);
    let (before, tables) = (literal(&before), tables.join(", "));
    let mut wait = FIRST_WAIT;
    for left in (0..TRIES).rev() {
        let locked = tx
            .batch(&format!(
                "SAVEPOINT locking; SET LOCAL lock_timeout = {}; LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE; \
                 SET LOCAL lock_timeout = {before}; RELEASE SAVEPOINT locking",
                wait.as_millis()
            ))
            .await;
        match locked {
            Err(error) if error.kind() == ErrorKind::Contention && left > 0 => {
                tx.batch("ROLLBACK TO SAVEPOINT locking").await?;
                wait *= 2;
            }
            done => return done,
        }
    }
    Ok(())
}
