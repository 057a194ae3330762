//! The searches: each configuration, to the end of its states.

use crate::liveness;
use crate::protocol::Protocol;
use changeover_cutover::phase::Phase;
use stateright::{Checker, Model};

// I1 to I9, I11 to I13. Faults 9, 10, 11, 14.
#[test]
fn one_row_over_two_cutovers_with_crashes_and_zombies_keeps_every_invariant() {
    holds(Protocol { leases: 3, ..Protocol::one_key() });
}

// Fault 27.
#[test]
fn one_row_with_more_writes_over_two_cutovers_keeps_every_invariant() {
    holds(Protocol { writes: 3, ..Protocol::one_key() });
}

// Fault 5.
#[test]
fn a_lost_reply_at_any_step_keeps_every_invariant() {
    holds(Protocol { lost_reply: true, leases: if is_large() { 3 } else { 2 }, ..Protocol::one_key() });
}

// I11. Fault 21.
#[test]
fn a_swap_of_unique_values_and_quarantine_keep_every_invariant() {
    holds(Protocol { writes: if is_large() { 3 } else { 2 }, ..Protocol::two_keys() });
}

// I11. Fault 21.
#[test]
fn a_swap_applied_in_one_batch_keeps_every_invariant() {
    holds(Protocol { writes: 3, leases: 1, batch: 8, ..Protocol::two_keys() });
}

// I11. Faults 5, 21.
#[test]
fn a_swap_with_a_lost_reply_keeps_every_invariant() {
    holds(Protocol { lost_reply: true, leases: if is_large() { 2 } else { 1 }, ..Protocol::two_keys() });
}

fn is_large() -> bool {
    std::env::var("CHANGEOVER_MODEL").is_ok_and(|size| size == "large")
}

/// Every invariant holds in every reachable state, every milestone and every phase is reached, and some store can
/// become open again from everywhere (I10).
fn holds(model: Protocol) {
    let reachable = liveness::search(&model);
    println!(
        "{} states, in {} no store is open, {} stuck: {model:?}",
        reachable.states, reachable.closed, reachable.stuck
    );
    // A single chunk is the last one: there is nothing between `Prepared` and `CatchingUp`.
    let phases = Phase::ALL.iter().filter(|phase| model.keys > 1 || **phase != Phase::Copying);
    assert!(reachable.phases.iter().eq(phases), "not every phase is reached: {:?}", reachable.phases);
    assert!(reachable.closed > 0);
    assert_eq!(reachable.stuck, 0, "no store can become open again from some states");
    let checker = model.checker().spawn_bfs().join();
    for (name, path) in checker.discoveries() {
        if name.starts_with('I') {
            println!("broken: {name}, by {:#?}", path.into_actions());
        }
    }
    checker.assert_properties();
    assert_eq!(checker.unique_state_count(), reachable.states);
}
