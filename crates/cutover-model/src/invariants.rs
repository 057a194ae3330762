//! The invariants of the protocol, and what a search must have seen to mean anything.

use changeover_cutover::phase::{Owner, Phase};
use stateright::Property;

use crate::protocol::Protocol;
use crate::state::{KEYS, Quarantine, Row, State};

pub const I1: &str = "I1 never two writable stores";
pub const I2: &str = "I2 every acknowledged write is in the open store";
pub const I3: &str = "I3 no position is given twice";
pub const I4: &str = "I4 a deleted row never comes back";
pub const I5: &str = "I5 epochs never decrease";
pub const I6: &str = "I6 PostgreSQL owns only what was drained, verified and settled";
pub const I7: &str = "I7 an old token changes nothing in PostgreSQL";
pub const I8: &str = "I8 a closed file takes writes through the gate alone";
pub const I9: &str = "I9 abort and switch never both succeed";
pub const I11: &str = "I11 rows of the source = rows of the target + approved";
pub const I12: &str = "I12 whoever wrote last reads it in the open store";
pub const I13: &str = "I13 a revert loses no write of the PostgreSQL era";

pub const WORDS: &str = "the phase says who may write, as the stores do";

pub const SWITCHED: &str = "switched";
pub const REVERTED: &str = "reverted";
pub const SECOND: &str = "second cutover after a revert";
pub const STAYED: &str = "a revert taken back";
pub const STAYED_AND_REVERTED: &str = "reverted after one was taken back";
pub const FINALIZED: &str = "finalized";
pub const ABORTED: &str = "abort after the fence";
pub const SETTLED: &str = "switched with a settled quarantine";
pub const SWAPPED: &str = "switched with swapped unique values";

/// The properties that hold in the correct protocol, and the `sometimes` that its configuration can reach.
pub fn all(model: &Protocol) -> Vec<Property<Protocol>> {
    let mut properties = vec![
        Property::<Protocol>::always(I1, |_, state| {
            !(state.sqlite.open && state.postgres.owner == Owner::Postgres)
        }),
        Property::<Protocol>::always(I2, |_, state| (0..KEYS).all(|key| is_kept(state, key))),
        Property::<Protocol>::always(I3, |_, state| !state.ledger.broken.i3_position_reused),
        Property::<Protocol>::always(I4, |_, state| (0..KEYS).all(|key| stays_deleted(state, key))),
        Property::<Protocol>::always(I5, |_, state| {
            state.sqlite.epoch == state.ledger.highest_se && state.postgres.epoch == state.ledger.highest_pe
        }),
        Property::<Protocol>::always(I6, |_, state| owned_after_the_seal(state)),
        Property::<Protocol>::always(I7, |_, state| !state.ledger.broken.i7_old_token),
        Property::<Protocol>::always(I8, |_, state| !state.ledger.broken.i8_closed_file),
        Property::<Protocol>::always(I9, |_, state| !state.ledger.broken.i9_abort_and_switch),
        Property::<Protocol>::always(I11, |_, state| !state.ledger.broken.i11_miscounted),
        Property::<Protocol>::always(I12, |_, state| is_kept(state, state.ledger.last)),
        Property::<Protocol>::always(I13, |_, state| {
            (0..KEYS).all(|key| !state.ledger.by_postgres[key] || !state.sqlite.open || is_kept(state, key))
        }),
        Property::<Protocol>::always(WORDS, |_, state| {
            let phase = state.postgres.phase;
            phase.postgres_takes_writes() == (state.postgres.owner == Owner::Postgres)
                && (phase.sqlite_takes_writes() || !state.sqlite.open)
        }),
    ];
    if model.mutant.is_none() {
        properties.extend([
            Property::<Protocol>::sometimes(SWITCHED, |_, state| state.postgres.phase == Phase::Switched),
            Property::<Protocol>::sometimes(REVERTED, |_, state| reverted(state) && state.sqlite.open),
            Property::<Protocol>::sometimes(STAYED, |_, state| {
                state.ledger.stays == 1 && state.postgres.owner == Owner::Postgres
            }),
            Property::<Protocol>::sometimes(STAYED_AND_REVERTED, |_, state| {
                state.ledger.stays == 1 && state.postgres.phase == Phase::Idle && state.sqlite.open
            }),
            Property::<Protocol>::sometimes(FINALIZED, |_, state| state.postgres.phase == Phase::Finalized),
            Property::<Protocol>::sometimes(ABORTED, |_, state| {
                state.postgres.epoch == 2 && state.postgres.owner == Owner::Sqlite && !state.sqlite.open
            }),
        ]);
        if model.runs > 1 {
            properties.push(Property::<Protocol>::sometimes(SECOND, |_, state| {
                state.postgres.phase == Phase::Switched && state.postgres.epoch == 4
            }));
        }
        if model.swaps {
            properties.push(Property::<Protocol>::sometimes(SETTLED, |_, state| {
                state.postgres.phase == Phase::Switched
                    && state.postgres.quarantine.iter().any(|held| matches!(held, Quarantine::Approved(_)))
            }));
            properties.push(Property::<Protocol>::sometimes(SWAPPED, |_, state| {
                state.postgres.phase == Phase::Switched
                    && state.postgres.rows[0].is_some_and(|row| row.unique == 1)
            }));
        }
    }
    properties
}

/// An abort adds two to the epoch of PostgreSQL, a switch and its revert three, a revert that was taken back two: 3 is a revert
/// of the first run that went through at once.
fn reverted(state: &State) -> bool {
    state.postgres.epoch == 3 && state.postgres.phase == Phase::Idle
}

/// Whether every store that the service may write to has the acknowledged content of the key.
fn is_kept(state: &State, key: usize) -> bool {
    let truth = state.ledger.truth[key];
    let in_sqlite = !state.sqlite.open || state.sqlite.rows[key] == truth;
    let in_postgres = state.postgres.owner != Owner::Postgres || state.postgres.keeps(key, truth);
    in_sqlite && in_postgres
}

fn stays_deleted(state: &State, key: usize) -> bool {
    let back = |row: Option<Row>, open: bool| open && row.is_some();
    state.ledger.truth[key].is_some()
        || !(back(state.sqlite.rows[key], state.sqlite.open)
            || back(state.postgres.rows[key], state.postgres.owner == Owner::Postgres))
}

fn owned_after_the_seal(state: &State) -> bool {
    let postgres = &state.postgres;
    postgres.owner != Owner::Postgres
        || postgres.applied == state.ledger.fenced_at && postgres.verified && postgres.is_settled()
}
