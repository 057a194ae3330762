//! Faults built into the protocol, one at a time: the search must find each, or say why it is harmless.

use rstest::rstest;
use stateright::{Checker, HasDiscoveries, Model};

use crate::invariants::{I1, I2, I3, I4, I5, I6, I7, I8, I9, I11, I12, I13};
use crate::liveness;
use crate::protocol::{Action, Protocol};

/// A rule of the protocol left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The triggers do not look at `open`: only settings keep writers away.
    NoFence,
    /// The switch does not wait for the fence.
    SwitchBeforeFence,
    /// The switch does not wait until the last captured change is applied.
    NoDrainCheck,
    /// Changes are applied while chunks are still copied, and a chunk is written ON CONFLICT DO NOTHING.
    InterleavedCopy,
    /// Transactions in PostgreSQL do not look at the lease.
    NoLeaseToken,
    /// They look neither at the lease nor at the run.
    NoLeaseNorRun,
    /// Chunks and applies check the lease, but not that the run is still the same one.
    RunIsTheLease,
    /// An abort opens SQLite without its step in PostgreSQL.
    AbortKeepsEpoch,
    /// A revert opens SQLite before it closes PostgreSQL.
    RevertOpensFirst,
    /// The fence does not compare Se.
    NoSqliteEpochCheck,
    /// The fence writes the epoch that its decision was made for, whatever is there.
    BlindFence,
    /// The switch checks the lease alone: neither Pe nor owner nor phase.
    SwitchTrustsItsReading,
    /// Transactions in PostgreSQL do not compare Pe.
    NoPostgresEpochCheck,
    /// A row that conflicts, or that the target cannot hold, is left out in silence.
    SilentConflict,
    /// The seal does not ask whether quarantined rows are decided.
    UnsettledQuarantine,
    /// The reverse applier compares neither Se nor how far it came.
    GateWithoutCheck,
    /// A revert makes SQLite the owner before all changes came back.
    RevertWithoutDrain,
    /// What takes a revert back checks the lease alone: neither Pe nor owner.
    StayTrustsItsReading,
    /// The sequence of positions starts anew in PostgreSQL.
    SequenceNotCarried,
}

/// The shortest way to break `invariant`. The checker reports one of the first it meets, not the very first: hence the
/// narrowing.
fn shortest(model: &Protocol, invariant: &'static str) -> Option<Vec<Action>> {
    let find = |depth: usize| {
        let checker = model.clone().checker().target_max_depth(depth);
        let checker = checker.finish_when(HasDiscoveries::AnyOf([invariant].into())).spawn_bfs().join();
        checker.discovery(invariant).map(stateright::Path::into_actions)
    };
    let mut found = find(usize::MAX)?;
    while let Some(shorter) = find(found.len() + 1) {
        found = shorter;
    }
    Some(found)
}

// I1 to I9 and I11 to I13: each is broken by a mutant.
#[rstest]
#[case::no_fence_in_the_file(Mutant::NoFence, &[I2, I8])]
#[case::switch_before_fence(Mutant::SwitchBeforeFence, &[I1, I6])]
#[case::no_drain_check(Mutant::NoDrainCheck, &[I2, I6])]
#[case::no_lease_token_and_no_run(Mutant::NoLeaseNorRun, &[I7, I2])]
#[case::abort_without_epoch(Mutant::AbortKeepsEpoch, &[I1, I2])]
#[case::revert_opens_sqlite_first(Mutant::RevertOpensFirst, &[I1, I13])]
#[case::fence_writes_its_epoch_blindly(Mutant::BlindFence, &[I5])]
#[case::gate_without_check(Mutant::GateWithoutCheck, &[I8, I4, I13])]
#[case::revert_without_drain(Mutant::RevertWithoutDrain, &[I12, I13])]
#[case::sequence_not_carried(Mutant::SequenceNotCarried, &[I3])]
fn a_mutant_is_found(#[case] mutant: Mutant, #[case] broken: &[&'static str]) {
    found(&Protocol { mutant: Some(mutant), ..Protocol::one_key() }, broken);
}

// I4, I9: these strike only when a commit takes effect after its reply was given up.
#[rstest]
#[case::interleaved_copy(Mutant::InterleavedCopy, &[I4])]
#[case::run_is_the_lease(Mutant::RunIsTheLease, &[I2, I4])]
#[case::switch_trusts_its_reading(Mutant::SwitchTrustsItsReading, &[I9, I1])]
#[case::stay_trusts_its_reading(Mutant::StayTrustsItsReading, &[I1, I13])]
#[case::no_postgres_epoch_check(Mutant::NoPostgresEpochCheck, &[I2, I9])]
fn a_mutant_is_found_by_a_lost_reply(#[case] mutant: Mutant, #[case] broken: &[&'static str]) {
    let model = Protocol { mutant: Some(mutant), writes: 1, ..Protocol::one_key() };
    found(&Protocol { lost_reply: true, ..model.clone() }, broken);
    for invariant in broken {
        assert_eq!(shortest(&model, invariant), None);
    }
}

// I11.
#[rstest]
#[case::conflict_left_out_in_silence(Mutant::SilentConflict, &[I2, I11])]
#[case::unsettled_quarantine(Mutant::UnsettledQuarantine, &[I6, I11])]
fn a_mutant_of_the_quarantine_is_found(#[case] mutant: Mutant, #[case] broken: &[&'static str]) {
    found(&Protocol { mutant: Some(mutant), ..Protocol::two_keys() }, broken);
}

fn found(model: &Protocol, broken: &[&'static str]) {
    for invariant in broken {
        let path =
            shortest(model, invariant).unwrap_or_else(|| panic!("{:?} keeps {invariant}", model.mutant));
        println!("{:?} breaks {invariant} in {} steps", model.mutant, path.len());
    }
}

// I7. Where every transaction names its run and compares Pe or its place, the lease is a second line: old tokens do
// change PostgreSQL, and nothing is lost by it.
#[test]
fn without_the_lease_an_old_token_writes_but_the_run_keeps_it_harmless() {
    let model = Protocol { mutant: Some(Mutant::NoLeaseToken), ..Protocol::one_key() };
    let checker = model.checker().spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    assert_eq!(checker.discoveries().into_keys().collect::<Vec<_>>(), [I7]);
}

// I10. Nothing is lost when the fence does not compare Se, but a late fence closes a store that an abort has just
// reopened, and no rule of recovery opens it.
#[test]
fn without_the_check_of_se_a_late_fence_locks_everybody_out() {
    let model = Protocol { mutant: Some(Mutant::NoSqliteEpochCheck), ..Protocol::one_key() };
    let checker = model.clone().checker().spawn_bfs().join();
    assert!(checker.discoveries().is_empty(), "{:?}", checker.discoveries().keys());
    let reachable = liveness::search(&model);
    println!("{} states, {} stuck", reachable.states, reachable.stuck);
    assert!(reachable.stuck > 0);
}

// Pe is redundant with lease and phase as long as every commit takes effect before its coordinator reads again: the
// same states are reached. See `a_mutant_is_found_by_a_lost_reply` for when it is not.
#[test]
fn without_lost_replies_the_check_of_pe_is_a_second_line() {
    let model = Protocol { mutant: Some(Mutant::NoPostgresEpochCheck), ..Protocol::one_key() };
    let checker = model.checker().spawn_bfs().join();
    assert!(checker.discoveries().is_empty(), "{:?}", checker.discoveries().keys());
    let correct = Protocol::one_key().checker().spawn_bfs().join();
    assert_eq!(checker.unique_state_count(), correct.unique_state_count());
}

// S4-MIG-013: what the drain check would have stopped is stopped by the final verification too.
#[test]
fn the_final_verification_catches_what_a_missing_drain_check_lets_through() {
    let mutant = Protocol { mutant: Some(Mutant::NoDrainCheck), ..Protocol::one_key() };
    assert!(shortest(&mutant, I2).is_some());
    assert_eq!(shortest(&Protocol { verification: true, ..mutant }, I2), None);
}
