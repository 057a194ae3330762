//! The owner changes hands: switch, abort, and the first and last step of a revert. Each holds the module's lock exclusively
//! and changes the authority by compare-and-set, so of two that race one succeeds.

use changeover_core::cutover::{Entry, Lease, Switch};
use changeover_core::{Applied, Error, Result, Uuid};

use super::connections::Tx;
use super::lease::{Held, append, hold, hold_leased, keep, open_tables};
use super::locks::{lock_module, lock_tables};
use super::shape::Shape;
use super::structure::{TakenOff, capture_off, capture_on};

/// Changes owner and epoch, if they are as expected.
async fn change_owner(tx: &Tx<'_>, module: &str, from: (&str, i64), to: (&str, i64)) -> Result<bool> {
    let sql =
        "UPDATE changeover.module SET owner = $4, epoch = $5 WHERE module = $1 AND owner = $2 AND epoch = $3";
    Ok(tx.execute(sql, &[&module, &from.0, &from.1, &to.0, &to.1]).await? == 1)
}

async fn set_phase(tx: &Tx<'_>, run: Uuid, phase: &str) -> Result<()> {
    tx.execute("UPDATE cutover.run SET phase = $2 WHERE run = $1", &[&run, &phase]).await.map(drop)
}

/// The run is at its end: nobody has its lease, and the token of whoever had it opens nothing.
async fn end(tx: &Tx<'_>, module: &str, run: Uuid) -> Result<()> {
    tx.execute(
        "UPDATE cutover.run SET phase = 'idle', holder = NULL, until = NULL, linked = false, \
                token = 1 + (SELECT max(r.token) FROM cutover.run AS r WHERE r.module = $2) WHERE run = $1",
        &[&run, &module],
    )
    .await
    .map(drop)
}

fn refused(held: &Held, what: &str) -> Error {
    Error::invalid(format!("run {} cannot do this: {what}; nothing was changed", held.run))
        .applied(Applied::No)
}

async fn shape_of(tx: &Tx<'_>, held: &Held) -> Result<Shape> {
    Shape::load(tx, &held.tables, &held.tenant).await
}

pub(super) async fn switch(
    tx: &Tx<'_>,
    module: &str,
    lease: &Lease,
    switch: &Switch,
    entry: &Entry,
) -> Result<bool> {
    lock_module(tx, module).await?;
    let held = hold_leased(tx, module, lease).await?;
    let sql =
        "SELECT EXISTS (SELECT FROM changeover.module WHERE module = $1 AND owner = 'sqlite' AND epoch = $2)";
    if !tx.one(sql, &[&module, &switch.epoch]).await?.get::<_, bool>(0) {
        return Ok(false);
    }
    if held.phase != "sealed" {
        return Err(refused(&held, &format!("it is in the phase {}, it has to be sealed", held.phase)));
    }
    if held.applied != switch.applied {
        return Err(refused(
            &held,
            &format!("changes up to {} are applied, up to {} are needed", held.applied, switch.applied),
        ));
    }
    let sql =
        "SELECT count(*) FROM cutover.quarantine WHERE run = $1 AND decision IN ('undecided', 'rejected')";
    let open: i64 = tx.one(sql, &[&held.run]).await?.get(0);
    if open > 0 {
        return Err(refused(
            &held,
            &format!(
                "{open} quarantined rows are undecided or rejected; decide about them, or correct them in the old store"
            ),
        ));
    }
    if !held.linked {
        return Err(refused(&held, "the foreign keys are not back; link first"));
    }
    let shape = shape_of(tx, &held).await?;
    TakenOff::from_json(&held.taken_off)?.put_back(tx, true).await?;
    capture_on(tx, module, held.run, &shape).await?;
    if !change_owner(tx, module, ("sqlite", switch.epoch), ("postgres", switch.epoch + 1)).await? {
        return Ok(false);
    }
    set_phase(tx, held.run, "switched").await?;
    append(tx, module, held.run, entry).await?;
    Ok(true)
}

pub(super) async fn unfence(
    tx: &Tx<'_>,
    module: &str,
    lease: &Lease,
    epoch: i64,
    entry: &Entry,
) -> Result<Option<i64>> {
    lock_module(tx, module).await?;
    let held = hold_leased(tx, module, lease).await?;
    if !matches!(&*held.phase, "verifying" | "fenced" | "drained" | "sealed") {
        return Err(refused(
            &held,
            &format!("it is in the phase {}, there is nothing to go back from", held.phase),
        ));
    }
    if !change_owner(tx, module, ("sqlite", epoch), ("sqlite", epoch + 2)).await? {
        return Ok(None);
    }
    if held.linked {
        TakenOff::from_json(&held.taken_off)?.unlink(tx).await?;
    }
    tx.execute(
        "UPDATE cutover.run SET phase = 'catching_up', linked = false, fenced_at = NULL WHERE run = $1",
        &[&held.run],
    )
    .await?;
    append(tx, module, held.run, entry).await?;
    keep(tx, lease).await?;
    Ok(Some(epoch + 2))
}

pub(super) async fn abort(
    tx: &Tx<'_>,
    module: &str,
    run: Uuid,
    epoch: i64,
    entry: &Entry,
) -> Result<Option<i64>> {
    lock_module(tx, module).await?;
    let held = hold(tx, module, run).await?;
    if matches!(&*held.phase, "idle" | "finalized")
        || !change_owner(tx, module, ("sqlite", epoch), ("sqlite", epoch + 2)).await?
    {
        return Ok(None);
    }
    open_tables(tx, &held).await?;
    let mut taken = TakenOff::from_json(&held.taken_off)?;
    lock_tables(tx, &taken.tables).await?;
    taken.empty(tx).await?;
    taken.put_back(tx, held.linked).await?;
    taken.remove_guards(tx).await?;
    end(tx, module, run).await?;
    append(tx, module, run, entry).await?;
    Ok(Some(epoch + 2))
}

pub(super) async fn fence(
    tx: &Tx<'_>,
    module: &str,
    lease: &Lease,
    epoch: i64,
    entry: &Entry,
) -> Result<Option<i64>> {
    lock_module(tx, module).await?;
    let held = hold_leased(tx, module, lease).await?;
    if held.phase != "switched" || !change_owner(tx, module, ("postgres", epoch), ("none", epoch + 1)).await?
    {
        return Ok(None);
    }
    set_phase(tx, held.run, "revert_fenced").await?;
    append(tx, module, held.run, entry).await?;
    super::back::last(tx, module).await.map(Some)
}

pub(super) async fn stay(
    tx: &Tx<'_>,
    module: &str,
    lease: &Lease,
    epoch: i64,
    entry: &Entry,
) -> Result<Option<i64>> {
    lock_module(tx, module).await?;
    let held = hold_leased(tx, module, lease).await?;
    if held.phase != "revert_fenced"
        || !change_owner(tx, module, ("none", epoch), ("postgres", epoch + 1)).await?
    {
        return Ok(None);
    }
    set_phase(tx, held.run, "switched").await?;
    append(tx, module, held.run, entry).await?;
    Ok(Some(epoch + 1))
}

pub(super) async fn give_back(
    tx: &Tx<'_>,
    module: &str,
    lease: &Lease,
    epoch: i64,
    entry: &Entry,
) -> Result<Option<i64>> {
    lock_module(tx, module).await?;
    let held = hold_leased(tx, module, lease).await?;
    if held.phase != "revert_fenced"
        || !change_owner(tx, module, ("none", epoch), ("sqlite", epoch + 1)).await?
    {
        return Ok(None);
    }
    let taken = TakenOff::from_json(&held.taken_off)?;
    lock_tables(tx, &taken.tables).await?;
    // Before it is emptied, which is not to be captured.
    capture_off(tx, module, held.run, &shape_of(tx, &held).await?).await?;
    taken.empty(tx).await?;
    taken.remove_guards(tx).await?;
    end(tx, module, held.run).await?;
    append(tx, module, held.run, entry).await?;
    Ok(Some(epoch + 1))
}

pub(super) async fn finalize(tx: &Tx<'_>, module: &str, lease: &Lease, entry: &Entry) -> Result<()> {
    lock_module(tx, module).await?;
    let held = hold_leased(tx, module, lease).await?;
    if held.phase != "switched" {
        return Err(refused(&held, &format!("it is in the phase {}, it has to be switched", held.phase)));
    }
    let taken = TakenOff::from_json(&held.taken_off)?;
    lock_tables(tx, &taken.tables).await?;
    capture_off(tx, module, held.run, &shape_of(tx, &held).await?).await?;
    taken.remove_guards(tx).await?;
    set_phase(tx, held.run, "finalized").await?;
    append(tx, module, held.run, entry).await
}
