//! Making a run.

use changeover_core::cutover::{Entry, Lease, NewRun};
use changeover_core::{Applied, Error, ErrorKind, LogId, Result, Uuid};

use super::connections::{Tx, relation};
use super::lease::{append, micros, out, to_json};
use super::locks::lock_module;
use super::shape::{self, Shape};
use super::structure::TakenOff;

pub(super) async fn begin(tx: &Tx<'_>, module: &str, new: &NewRun, entry: &Entry) -> Result<Lease> {
    let invalid = |message: String| Error::invalid(message).applied(Applied::No);
    lock_module(tx, module).await?;
    let under_way =
        "SELECT run, phase FROM cutover.run WHERE module = $1 AND phase NOT IN ('idle', 'finalized')";
    if let Some(row) = tx.optional(under_way, &[&module]).await? {
        let (run, phase): (Uuid, String) = (row.get(0), row.get(1));
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("run {run} of module {module} is under way, in the phase {phase}; go on with it, or abort it first"),
        )
        .applied(Applied::No));
    }
    let authority = "SELECT owner, epoch FROM changeover.module WHERE module = $1";
    if let Some(row) = tx.optional(authority, &[&module]).await? {
        let (owner, epoch): (String, i64) = (row.get(0), row.get(1));
        if owner == "postgres" {
            return Err(invalid(format!(
                "module {module} is owned by this database already; there is nothing to move"
            )));
        }
        if new.epoch < epoch {
            return Err(invalid(format!(
                "the epoch {} of the old store is behind {epoch}, which this database has seen: an older copy of the file was \
                 put back; find the newest",
                new.epoch
            )));
        }
    }
    if new.tables.is_empty() {
        return Err(invalid("a run needs at least one table".to_owned()));
    }

    let kept = shape::to_json(&new.tables);
    let shape = Shape::load(tx, &kept, &new.tenant).await?;
    let mut taken = TakenOff::take(tx, module, &shape).await.map_err(|error| error.applied(Applied::No))?;
    if let Some(table) = taken.filled(tx).await? {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("table {table} holds rows; a cutover begins with empty tables: empty it, or find out who writes there"),
        )
        .applied(Applied::No));
    }
    taken.take_indexes(tx, &shape).await?;

    let targets: Vec<String> = shape.targets().iter().map(|it| relation(it)).collect();
    let log = new.log.unwrap_or_else(|| LogId(Uuid::new_v4()));
    tx.execute(
        "INSERT INTO changeover.module AS m (module, log_id, owner, epoch, tables) VALUES ($1, $2, 'sqlite', $3, $4) \
         ON CONFLICT (module) DO UPDATE SET owner = 'sqlite', epoch = EXCLUDED.epoch, \
             log_id = CASE WHEN $5 THEN EXCLUDED.log_id ELSE m.log_id END",
        &[&module, &log.0, &new.epoch, &targets, &new.log.is_some()],
    )
    .await?;
    let row = tx
        .one(
            "INSERT INTO cutover.run (run, module, phase, declarations, tables, tenant, nonce, place, fingerprint, terms, \
                                      token, holder, until, taken_off) \
             VALUES ($1, $2, 'prepared', $3, $4, $5, $6, $7, $8, $9, \
                     1 + coalesce((SELECT max(r.token) FROM cutover.run AS r WHERE r.module = $2), 0), \
                     $10, clock_timestamp() + $11 * interval '1 microsecond', $12) RETURNING token",
            &[
                &new.run,
                &module,
                &out(&new.declarations),
                &out(&to_json(&kept)?),
                &new.tenant.as_str(),
                &new.nonce,
                &new.place,
                &out(&new.fingerprint),
                &out(&new.terms),
                &new.holder,
                &micros(new.ttl),
                &out(&to_json(&taken.to_json())?),
            ],
        )
        .await?;
    append(tx, module, new.run, entry).await?;
    Ok(Lease { run: new.run, token: row.get(0), ttl: new.ttl })
}
