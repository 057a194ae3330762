//! The transactions: each checks again what its decision relied on, and changes one store or nothing.

use changeover_cutover::phase::{Owner, Phase};

use crate::decide::applies_in;
use crate::mutants::Mutant;
use crate::protocol::Protocol;
use crate::state::{Intent, KEYS, Keys, Postgres, Quarantine, Rows, State};

/// Commits `intent` for the holder of `token`; answers the transaction that follows at once, if there is one.
pub fn commit(model: &Protocol, state: &mut State, token: u8, intent: &Intent) -> Option<Intent> {
    match intent {
        Intent::PrepareSqlite { .. }
        | Intent::Fence { .. }
        | Intent::Unfence { .. }
        | Intent::GateWrite { .. } => in_sqlite(model, state, token, intent),
        _ => {
            let current = token == state.postgres.token;
            if (current || model.ignores_lease()) && in_postgres(model, state, intent) {
                state.ledger.broken.i7_old_token |= !current;
            }
            None
        }
    }
}

/// SQLite cannot see the lease: its epoch alone tells a decision of now from one of long ago.
fn in_sqlite(model: &Protocol, state: &mut State, token: u8, intent: &Intent) -> Option<Intent> {
    let sqlite = &mut state.sqlite;
    match *intent {
        Intent::PrepareSqlite { epoch } if sqlite.open && sqlite.epoch == epoch => {
            // An epoch sees one run at most: its successor serves as the run's id, which is never 0.
            let run = match model.mutant {
                Some(Mutant::RunIsTheLease) => token,
                Some(Mutant::NoLeaseNorRun) => 1,
                _ => epoch + 1,
            };
            sqlite.run = run;
            return Some(Intent::PreparePostgres { epoch, run, base: sqlite.dirty.len });
        }
        Intent::Fence { epoch, run } if sqlite.open && sqlite.run == run => {
            let blind = model.has(Mutant::BlindFence);
            if sqlite.epoch == epoch || blind || model.has(Mutant::NoSqliteEpochCheck) {
                sqlite.epoch = if blind { epoch + 1 } else { sqlite.epoch + 1 };
                sqlite.open = false;
                state.ledger.fenced_at = sqlite.dirty.len;
            }
        }
        Intent::Unfence { epoch } if sqlite.epoch < epoch => {
            sqlite.epoch = epoch;
            sqlite.open = true;
            state.ledger.fenced_at = 0;
        }
        Intent::GateWrite { epoch, from, upto, keys, rows, position } => {
            let expected = !sqlite.open && sqlite.epoch == epoch && sqlite.reversed == from;
            if expected || model.has(Mutant::GateWithoutCheck) {
                state.ledger.broken.i8_closed_file |= !expected;
                for key in (0..KEYS).filter(|key| keys[*key]) {
                    sqlite.rows[key] = rows[key];
                }
                sqlite.reversed = upto;
                sqlite.position = sqlite.position.max(position);
            }
        }
        _ => {}
    }
    None
}

fn in_postgres(model: &Protocol, state: &mut State, intent: &Intent) -> bool {
    let postgres = &mut state.postgres;
    let at = |postgres: &Postgres, owner: Owner, epoch: u8| {
        postgres.owner == owner && (postgres.epoch == epoch || model.has(Mutant::NoPostgresEpochCheck))
    };
    match *intent {
        Intent::PreparePostgres { epoch, run, base }
            if at(postgres, Owner::Sqlite, epoch) && postgres.phase == Phase::Idle =>
        {
            postgres.empty_target();
            (postgres.phase, postgres.run, postgres.applied) = (Phase::Prepared, run, base);
            state.ledger.runs += 1;
        }
        Intent::CopyWrite { run, key, row }
            if postgres.run == run
                && matches!(postgres.phase, Phase::Prepared | Phase::Copying)
                && !postgres.copied[key] =>
        {
            let mut keys = [false; KEYS];
            keys[key] = true;
            // The mutant's ON CONFLICT DO NOTHING.
            if postgres.rows[key].is_none() {
                insert(model, postgres, keys, std::array::from_fn(|at| row.filter(|_| at == key)));
            }
            postgres.copied[key] = true;
            let complete = postgres.copied[..model.keys].iter().all(|copied| *copied);
            postgres.phase = if complete { Phase::CatchingUp } else { Phase::Copying };
        }
        Intent::ApplyWrite { run, from, upto, keys, rows }
            if postgres.run == run && applies_in(model, postgres.phase) && postgres.applied == from =>
        {
            insert(model, postgres, keys, rows);
            postgres.applied = upto;
        }
        Intent::RecordFence { epoch }
            if at(postgres, Owner::Sqlite, epoch) && postgres.phase == Phase::Verifying =>
        {
            postgres.phase = Phase::Fenced;
        }
        Intent::RecordDrain { epoch, last }
            if at(postgres, Owner::Sqlite, epoch)
                && postgres.phase == Phase::Fenced
                && (postgres.applied == last || model.has(Mutant::NoDrainCheck)) =>
        {
            postgres.phase = Phase::Drained;
        }
        Intent::Seal { epoch, position }
            if at(postgres, Owner::Sqlite, epoch)
                && postgres.phase == Phase::Drained
                && (postgres.is_settled() || model.has(Mutant::UnsettledQuarantine)) =>
        {
            (postgres.phase, postgres.verified) = (Phase::Sealed, true);
            if !model.has(Mutant::SequenceNotCarried) {
                postgres.position = position;
            }
        }
        Intent::Switch { epoch }
            if at(postgres, Owner::Sqlite, epoch)
                && (postgres.phase == Phase::Sealed || model.has(Mutant::SwitchBeforeFence))
                || model.has(Mutant::SwitchTrustsItsReading) =>
        {
            (postgres.phase, postgres.owner) = (Phase::Switched, Owner::Postgres);
            postgres.epoch += 1;
            let settled = postgres.quarantine.iter().filter(|held| matches!(held, Quarantine::Approved(_)));
            let kept = count(postgres.rows) + settled.count();
            state.ledger.broken.i11_miscounted |= kept != count(state.sqlite.rows);
            decided(state, epoch, true);
        }
        Intent::Abort { epoch } if at(postgres, Owner::Sqlite, epoch) && postgres.phase != Phase::Idle => {
            postgres.epoch += 2;
            postgres.phase = Phase::Idle;
            postgres.empty_target();
            decided(state, epoch, false);
        }
        Intent::RevertFence { epoch }
            if at(postgres, Owner::Postgres, epoch) && postgres.phase == Phase::Switched =>
        {
            (postgres.phase, postgres.owner) = (Phase::RevertFenced, Owner::None);
            postgres.epoch += 1;
        }
        Intent::Stay { epoch }
            if at(postgres, Owner::None, epoch) || model.has(Mutant::StayTrustsItsReading) =>
        {
            (postgres.phase, postgres.owner) = (Phase::Switched, Owner::Postgres);
            postgres.epoch += 1;
            state.ledger.stays += 1;
        }
        Intent::RevertOwn { epoch } if at(postgres, Owner::None, epoch) => {
            (postgres.phase, postgres.owner) = (Phase::Idle, Owner::Sqlite);
            postgres.epoch += 1;
            postgres.empty_target();
        }
        Intent::Finalize { epoch }
            if at(postgres, Owner::Postgres, epoch) && postgres.phase == Phase::Switched =>
        {
            postgres.phase = Phase::Finalized;
        }
        _ => return false,
    }
    true
}

/// Writes the rows of `keys` as they were read: all out, then all in, so that a swap of unique values is no conflict.
/// What the target cannot hold beside the others is quarantined, and read again until it is decided.
fn insert(model: &Protocol, postgres: &mut Postgres, keys: Keys, rows: Rows) {
    let before = postgres.quarantine;
    for key in (0..KEYS).filter(|key| keys[*key]) {
        postgres.rows[key] = None;
        postgres.quarantine[key] = Quarantine::Nothing;
    }
    for key in (0..KEYS).filter(|key| keys[*key]) {
        let Some(row) = rows[key] else { continue };
        let conflict = postgres.rows.iter().flatten().any(|other| other.unique == row.unique);
        if !row.bad && !conflict {
            postgres.rows[key] = Some(row);
        } else if !model.has(Mutant::SilentConflict) {
            let approved = before[key] == Quarantine::Approved(row);
            postgres.quarantine[key] =
                if approved { Quarantine::Approved(row) } else { Quarantine::Undecided(row) };
        }
    }
}

fn decided(state: &mut State, epoch: u8, switched: bool) {
    let ledger = &mut state.ledger;
    ledger.broken.i9_abort_and_switch |= ledger.decided == Some((epoch, !switched));
    ledger.decided = Some((epoch, switched));
}

fn count(rows: Rows) -> usize {
    rows.iter().flatten().count()
}
