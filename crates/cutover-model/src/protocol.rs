//! What may happen next: the service writes, a coordinator reads and decides, a transaction commits.

use changeover_cutover::phase::{Owner, Phase};
use stateright::{Model, Property};

use crate::mutants::Mutant;
use crate::state::{Coordinator, Ghost, Intent, KEYS, Quarantine, Row, State};
use crate::{commit, decide, invariants};

/// A configuration of the model: how much may happen.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub keys: usize,
    /// Writes of the service, in both stores together.
    pub writes: u8,
    /// Leases, in all: a coordinator that crashes comes back with a new one.
    pub leases: u8,
    /// Cutovers begun, one after the other.
    pub runs: u8,
    /// Reverts that the file refuses a row of, at any place behind the fence, so that they are taken back.
    pub refusals: u8,
    /// Whether one commit may lose its reply.
    pub lost_reply: bool,
    /// Dirty entries taken by one apply.
    pub batch: u8,
    /// Whether the service swaps unique values and writes rows the target cannot hold.
    pub swaps: bool,
    /// Whether the final verification looks. Without it the protocol must be right by itself; with it holes hide.
    pub verification: bool,
    /// The fault built into the protocol.
    pub mutant: Option<Mutant>,
}

/// A write of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Put(usize),
    PutBad(usize),
    Delete(usize),
    Swap,
}

/// One step. Coordinators are named by their place in the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A process writes to SQLite, perhaps by settings long out of date.
    WriteSqlite(Write),
    /// A process writes to PostgreSQL.
    WritePostgres(Write),
    /// A coordinator, new or back from a crash, takes the lease; the other one is a zombie from now on.
    Lease(usize),
    /// A coordinator has read what it needs and is about to commit.
    Decide(usize, Intent),
    Commit(usize),
    /// The commit is sent and the reply is lost; the coordinator goes on by reading again.
    LoseReply(usize),
    /// The lost commit takes effect.
    Deliver,
    /// `VERIFYING`, a change of PostgreSQL alone.
    Verify(usize),
    /// The operator approves a quarantined row.
    Approve(usize),
}

impl Protocol {
    /// One row, put and deleted, over two cutovers.
    pub fn one_key() -> Self {
        Self {
            keys: 1,
            writes: 2,
            leases: 2,
            runs: 2,
            refusals: 1,
            lost_reply: false,
            batch: 1,
            swaps: false,
            verification: false,
            mutant: None,
        }
    }

    /// Two rows under a UNIQUE index whose values are swapped, and rows that must be quarantined; one cutover.
    pub fn two_keys() -> Self {
        Self { keys: KEYS, runs: 1, swaps: true, ..Self::one_key() }
    }

    pub fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Whether an old token is as good as the current one.
    pub fn ignores_lease(&self) -> bool {
        self.has(Mutant::NoLeaseToken) || self.has(Mutant::NoLeaseNorRun)
    }

    fn writes(&self, state: &State, actions: &mut Vec<Action>) {
        if state.ledger.writes >= self.writes {
            return;
        }
        let mut add = |allowed: bool, write: fn(Write) -> Action, rows: &[Option<Row>; KEYS], bad: bool| {
            if !allowed {
                return;
            }
            for (key, row) in rows.iter().enumerate().take(self.keys) {
                actions.push(write(Write::Put(key)));
                if row.is_some() {
                    actions.push(write(Write::Delete(key)));
                }
            }
            if self.swaps && bad {
                actions.push(write(Write::PutBad(1)));
            }
            if self.swaps && rows.iter().all(Option::is_some) {
                actions.push(write(Write::Swap));
            }
        };
        let unfenced = state.sqlite.open || self.has(Mutant::NoFence);
        add(unfenced, Action::WriteSqlite, &state.sqlite.rows, true);
        add(state.postgres.owner == Owner::Postgres, Action::WritePostgres, &state.postgres.rows, false);
    }

    fn write(state: &mut State, write: Write, to_postgres: bool) -> bool {
        let ledger = &mut state.ledger;
        ledger.writes += 1;
        let id = ledger.writes;
        let (rows, position) = if to_postgres {
            (&mut state.postgres.rows, &mut state.postgres.position)
        } else {
            ledger.broken.i8_closed_file |= !state.sqlite.open;
            (&mut state.sqlite.rows, &mut state.sqlite.position)
        };
        let changed: &[usize] = match write {
            Write::Put(key) | Write::PutBad(key) => {
                let taken = rows[1 - key].map(|row| row.unique);
                let unique = rows[key].map_or_else(|| u8::from(taken == Some(0)), |row| row.unique);
                if rows[key].is_none() {
                    *position += 1;
                    ledger.broken.i3_position_reused |= *position <= ledger.position;
                    ledger.position = ledger.position.max(*position);
                }
                rows[key] = Some(Row { write: id, unique, bad: matches!(write, Write::PutBad(_)) });
                if key == 0 { &[0] } else { &[1] }
            }
            Write::Delete(key) => {
                rows[key] = None;
                if key == 0 { &[0] } else { &[1] }
            }
            Write::Swap => {
                let [Some(first), Some(second)] = rows else { return false };
                std::mem::swap(&mut first.unique, &mut second.unique);
                (first.write, second.write) = (id, id);
                &[0, 1]
            }
        };
        for &key in changed {
            ledger.truth[key] = rows[key];
            ledger.by_postgres[key] = to_postgres;
            ledger.last = key;
            if to_postgres {
                state.postgres.changed.push(key);
            } else if state.sqlite.run != 0 {
                state.sqlite.dirty.push(key);
            }
        }
        true
    }

    fn tidy(&self, state: &mut State) {
        // A zombie with nothing in hand does nothing before its next lease.
        for coordinator in &mut state.coordinators {
            let zombie = coordinator.token != state.postgres.token && !self.ignores_lease();
            if zombie && coordinator.intent.is_none() {
                coordinator.token = 0;
            }
        }
        state.coordinators.sort_by_key(|coordinator| coordinator.token);
        let ledger = &mut state.ledger;
        ledger.highest_se = ledger.highest_se.max(state.sqlite.epoch);
        ledger.highest_pe = ledger.highest_pe.max(state.postgres.epoch);
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::start(self.keys)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.writes(state, actions);
        for (at, Coordinator { token, intent }) in state.coordinators.iter().enumerate() {
            if state.postgres.token < self.leases {
                actions.push(Action::Lease(at));
            }
            if intent.is_some() {
                actions.push(Action::Commit(at));
                if self.lost_reply && state.ghost == Ghost::NotYet {
                    actions.push(Action::LoseReply(at));
                }
            } else if *token != 0 && (*token == state.postgres.token || self.ignores_lease()) {
                decide::all(self, state, |intent| actions.push(Action::Decide(at, intent)));
                if state.postgres.phase == Phase::CatchingUp {
                    actions.push(Action::Verify(at));
                }
            }
        }
        if matches!(state.ghost, Ghost::InFlight(..)) {
            actions.push(Action::Deliver);
        }
        let undecided = state.postgres.undecided();
        actions.extend((0..self.keys).filter(|key| undecided[*key]).map(Action::Approve));
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::WriteSqlite(write) => Self::write(&mut state, write, false).then_some(())?,
            Action::WritePostgres(write) => Self::write(&mut state, write, true).then_some(())?,
            Action::Lease(at) => {
                state.postgres.token += 1;
                state.coordinators[at] = Coordinator { token: state.postgres.token, intent: None };
            }
            Action::Decide(at, intent) => state.coordinators[at].intent = Some(intent),
            Action::Commit(at) => {
                let Coordinator { token, intent } = state.coordinators[at].clone();
                state.coordinators[at].intent = commit::commit(self, &mut state, token, &intent?);
            }
            Action::LoseReply(at) => {
                let Coordinator { token, intent } = &mut state.coordinators[at];
                state.ghost = Ghost::InFlight(*token, intent.take()?);
            }
            Action::Deliver => {
                if let Ghost::InFlight(token, intent) = std::mem::replace(&mut state.ghost, Ghost::Spent) {
                    commit::commit(self, &mut state, token, &intent);
                }
            }
            Action::Verify(_) => state.postgres.phase = Phase::Verifying,
            Action::Approve(key) => {
                if let Quarantine::Undecided(row) = state.postgres.quarantine[key] {
                    state.postgres.quarantine[key] = Quarantine::Approved(row);
                }
            }
        }
        self.tidy(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::all(self)
    }
}
