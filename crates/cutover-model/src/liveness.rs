//! I10, by a search over the whole reachable graph: the checker's own `eventually` sees ends of paths only and takes a
//! loop for none.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use changeover_cutover::phase::Phase;
use stateright::Model;

use crate::protocol::Protocol;
use crate::state::State;

/// What the search saw.
pub struct Reachable {
    pub states: usize,
    /// States from which no store can ever become open again.
    pub stuck: usize,
    /// States in which no store is open: were there none, the search would mean nothing.
    pub closed: usize,
    pub phases: BTreeSet<Phase>,
}

/// Walks every reachable state forwards, then from the open ones backwards.
pub fn search(model: &Protocol) -> Reachable {
    let mut known: HashMap<u64, u32> = HashMap::new();
    let (mut open, mut phases) = (Vec::new(), BTreeSet::new());
    let mut edges = Vec::<(u32, u32)>::new();
    let mut waiting = VecDeque::new();
    let mut meet = |state: State, waiting: &mut VecDeque<(u32, State)>| {
        let next = u32::try_from(known.len()).expect("fewer states than 2^32");
        let place = *known.entry(fingerprint(&state)).or_insert(next);
        if place == next {
            open.push(state.is_open());
            phases.insert(state.postgres.phase);
            waiting.push_back((place, state));
        }
        place
    };
    for state in model.init_states() {
        meet(state, &mut waiting);
    }
    let mut actions = Vec::new();
    while let Some((from, state)) = waiting.pop_front() {
        model.actions(&state, &mut actions);
        for action in actions.drain(..) {
            if let Some(next) = model.next_state(&state, action) {
                edges.push((from, meet(next, &mut waiting)));
            }
        }
    }
    let free = backwards(&open, &mut edges);
    Reachable {
        states: open.len(),
        stuck: (0..open.len()).filter(|place| !free[*place]).count(),
        closed: open.iter().filter(|open| !**open).count(),
        phases,
    }
}

/// Marks every state from which a marked one can be reached.
fn backwards(marked: &[bool], edges: &mut [(u32, u32)]) -> Vec<bool> {
    edges.sort_unstable_by_key(|(_, to)| *to);
    let mut reaches = marked.to_vec();
    let place = |at: usize| u32::try_from(at).expect("fewer states than 2^32");
    let mut waiting: Vec<u32> = (0..marked.len()).filter(|at| marked[*at]).map(place).collect();
    while let Some(to) = waiting.pop() {
        let first = edges.partition_point(|(_, other)| *other < to);
        for (from, _) in edges[first..].iter().take_while(|(_, other)| *other == to) {
            if !std::mem::replace(&mut reaches[*from as usize], true) {
                waiting.push(*from);
            }
        }
    }
    reaches
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
