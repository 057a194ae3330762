//! What a coordinator may do next, decided by reading both stores. Between this reading and the commit anything may
//! happen, so whatever the commit relies on is checked again by the transaction itself (see `commit`).

use changeover_cutover::phase::{Owner, Phase};

use crate::mutants::Mutant;
use crate::protocol::Protocol;
use crate::state::{Intent, Keys, Postgres, Rows, State};

/// Every transaction that a coordinator may decide upon.
pub fn all(model: &Protocol, state: &State, mut add: impl FnMut(Intent)) {
    let postgres = &state.postgres;
    match postgres.owner {
        Owner::Sqlite if postgres.phase == Phase::Idle => idle(model, state, &mut add),
        Owner::Sqlite => before_the_switch(model, state, &mut add),
        Owner::Postgres => after_the_switch(model, state, &mut add),
        Owner::None => reverting(model, state, &mut add),
    }
}

fn idle(model: &Protocol, state: &State, add: &mut impl FnMut(Intent)) {
    let (sqlite, postgres) = (&state.sqlite, &state.postgres);
    let epoch = postgres.epoch;
    // Of the recovery table: a step of an abort or a revert was lost.
    if sqlite.epoch < epoch {
        add(Intent::Unfence { epoch });
    } else if sqlite.epoch == epoch && sqlite.open && state.ledger.runs < model.runs {
        add(Intent::PrepareSqlite { epoch });
    }
}

fn before_the_switch(model: &Protocol, state: &State, add: &mut impl FnMut(Intent)) {
    let (sqlite, postgres) = (&state.sqlite, &state.postgres);
    let (epoch, run) = (postgres.epoch, postgres.run);
    let fenced = !sqlite.open && sqlite.epoch == epoch + 1;
    if matches!(postgres.phase, Phase::Prepared | Phase::Copying) {
        for key in (0..model.keys).filter(|key| !postgres.copied[*key]) {
            add(Intent::CopyWrite { run, key, row: sqlite.rows[key] });
        }
    }
    if applies_in(model, postgres.phase) {
        apply(model, state, add);
    }
    match postgres.phase {
        Phase::Verifying if sqlite.epoch == epoch && sqlite.open => {
            add(Intent::Fence { epoch, run });
            if model.has(Mutant::SwitchBeforeFence) {
                add(Intent::Switch { epoch });
            }
        }
        Phase::Verifying if fenced => add(Intent::RecordFence { epoch }),
        Phase::Fenced if fenced => add(Intent::RecordDrain { epoch, last: sqlite.dirty.len }),
        Phase::Drained if fenced && (!model.verification || verifies(model, state)) => {
            add(Intent::Seal { epoch, position: sqlite.position });
        }
        Phase::Sealed => add(Intent::Switch { epoch }),
        _ => {}
    }
    if model.has(Mutant::AbortKeepsEpoch) {
        if fenced {
            add(Intent::Unfence { epoch: epoch + 2 });
        }
    } else {
        add(Intent::Abort { epoch });
    }
}

/// Dirty keys are applied when every chunk is there, until nothing is left behind a closed fence.
pub fn applies_in(model: &Protocol, phase: Phase) -> bool {
    matches!(phase, Phase::CatchingUp | Phase::Verifying | Phase::Fenced)
        || model.has(Mutant::InterleavedCopy) && matches!(phase, Phase::Prepared | Phase::Copying)
}

/// The next entries of the dirty log, and with them the quarantined rows not yet decided: their reason may be gone.
fn apply(model: &Protocol, state: &State, add: &mut impl FnMut(Intent)) {
    let (sqlite, postgres) = (&state.sqlite, &state.postgres);
    let from = postgres.applied;
    let upto = sqlite.dirty.len.min(from + model.batch);
    let keys = union(sqlite.dirty.between(from, upto), postgres.undecided());
    if keys != Keys::default() {
        add(Intent::ApplyWrite { run: postgres.run, from, upto, keys, rows: only(keys, sqlite.rows) });
    }
}

/// The final verification: every row of the closed source is in the target or quarantined and settled, and none besides.
fn verifies(model: &Protocol, state: &State) -> bool {
    (0..model.keys).all(|key| state.postgres.keeps(key, state.sqlite.rows[key]))
}

fn after_the_switch(model: &Protocol, state: &State, add: &mut impl FnMut(Intent)) {
    if state.postgres.phase != Phase::Switched {
        return;
    }
    let epoch = state.postgres.epoch;
    gate(model, state, add);
    add(Intent::RevertFence { epoch });
    add(Intent::Finalize { epoch });
    if model.has(Mutant::RevertOpensFirst) {
        add(Intent::Unfence { epoch: epoch + 1 });
    }
}

fn reverting(model: &Protocol, state: &State, add: &mut impl FnMut(Intent)) {
    gate(model, state, add);
    let epoch = state.postgres.epoch;
    if state.ledger.stays < model.refusals {
        add(Intent::Stay { epoch });
    }
    let drained = state.sqlite.reversed == state.postgres.changed.len;
    if drained || model.has(Mutant::RevertWithoutDrain) {
        add(Intent::RevertOwn { epoch });
    }
}

/// The next change of the service in PostgreSQL, to be written to SQLite through the gate.
fn gate(model: &Protocol, state: &State, add: &mut impl FnMut(Intent)) {
    let Postgres { changed, rows, position, .. } = &state.postgres;
    let (epoch, from) = (state.sqlite.epoch, state.sqlite.reversed);
    let upto = changed.len.min(from + model.batch);
    if from < upto {
        let keys = changed.between(from, upto);
        add(Intent::GateWrite { epoch, from, upto, keys, rows: only(keys, *rows), position: *position });
    }
}

fn union(left: Keys, right: Keys) -> Keys {
    std::array::from_fn(|key| left[key] || right[key])
}

fn only(keys: Keys, rows: Rows) -> Rows {
    std::array::from_fn(|key| rows[key].filter(|_| keys[key]))
}
