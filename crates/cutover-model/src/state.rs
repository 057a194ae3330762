//! What the two stores, the coordinators and the outside world remember.

use changeover_cutover::phase::{Owner, Phase};

/// Keys of the one modelled table; smaller configurations use the first alone.
pub const KEYS: usize = 2;

/// The content of a row: the write that made it, its value under the UNIQUE index, and whether the target can hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub write: u8,
    pub unique: u8,
    pub bad: bool,
}

pub type Rows = [Option<Row>; KEYS];

/// A set of keys.
pub type Keys = [bool; KEYS];

/// A log of changed keys; the sequence number of an entry is its place, from 1. Never emptied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Log {
    keys: u16,
    pub len: u8,
}

impl Log {
    pub fn push(&mut self, key: usize) {
        self.keys |= u16::from(key == 1) << self.len;
        self.len += 1;
    }

    /// The keys of the entries after `from` up to `upto`.
    pub fn between(self, from: u8, upto: u8) -> Keys {
        let mut keys = [false; KEYS];
        (from..upto).for_each(|place| keys[usize::from(self.keys >> place & 1)] = true);
        keys
    }
}

/// The SQLite file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sqlite {
    /// `__cut_meta`: the run that prepared the file last, 0 before the first, when nothing is captured.
    pub run: u8,
    /// `__cut_meta.epoch`, Se.
    pub epoch: u8,
    /// `__cut_meta.open`.
    pub open: bool,
    /// `__cut_dirty`.
    pub dirty: Log,
    /// How much of PostgreSQL's log of changes came back through the gate; written with the rows.
    pub reversed: u8,
    pub rows: Rows,
    /// The last position given to an inserted row.
    pub position: u8,
}

/// The PostgreSQL side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Postgres {
    /// `cutover.authority`.
    pub owner: Owner,
    /// `cutover.authority.epoch`, Pe.
    pub epoch: u8,
    /// The lease token that is good now; each lease raises it.
    pub token: u8,
    pub phase: Phase,
    pub run: u8,
    /// `cutover.chunk`: one chunk a key.
    pub copied: Keys,
    /// `cutover.applied`.
    pub applied: u8,
    pub verified: bool,
    /// `cutover.quarantine`.
    pub quarantine: [Quarantine; KEYS],
    pub rows: Rows,
    /// The keys changed by the service while it wrote here.
    pub changed: Log,
    /// The sequence of positions.
    pub position: u8,
}

impl Postgres {
    /// What abort, revert and prepare leave of a run's target: nothing.
    pub fn empty_target(&mut self) {
        self.run = 0;
        self.copied = [false; KEYS];
        self.applied = 0;
        self.verified = false;
        self.quarantine = [Quarantine::Nothing; KEYS];
        self.rows = [None; KEYS];
        self.position = 0;
    }

    pub fn undecided(&self) -> Keys {
        self.quarantine.map(|held| matches!(held, Quarantine::Undecided(_)))
    }

    pub fn is_settled(&self) -> bool {
        self.undecided() == [false; KEYS]
    }

    /// Whether the row of `key` is here, or kept by an approved decision.
    pub fn keeps(&self, key: usize, row: Option<Row>) -> bool {
        self.rows[key] == row || row.is_some_and(|row| self.quarantine[key] == Quarantine::Approved(row))
    }
}

/// The quarantine row of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quarantine {
    Nothing,
    Undecided(Row),
    Approved(Row),
}

/// A coordinator, alive or a zombie: all it has in memory is its token and the transaction it is about to commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Coordinator {
    pub token: u8,
    pub intent: Option<Intent>,
}

/// One transaction in one store, with everything that was read before it to decide upon it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Intent {
    PrepareSqlite { epoch: u8 },
    PreparePostgres { epoch: u8, run: u8, base: u8 },
    CopyWrite { run: u8, key: usize, row: Option<Row> },
    ApplyWrite { run: u8, from: u8, upto: u8, keys: Keys, rows: Rows },
    Fence { epoch: u8, run: u8 },
    RecordFence { epoch: u8 },
    RecordDrain { epoch: u8, last: u8 },
    Seal { epoch: u8, position: u8 },
    Switch { epoch: u8 },
    Abort { epoch: u8 },
    Unfence { epoch: u8 },
    RevertFence { epoch: u8 },
    GateWrite { epoch: u8, from: u8, upto: u8, keys: Keys, rows: Rows, position: u8 },
    Stay { epoch: u8 },
    RevertOwn { epoch: u8 },
    Finalize { epoch: u8 },
}

/// A commit whose reply was lost: it may take effect at any later time, or never.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ghost {
    NotYet,
    InFlight(u8, Intent),
    Spent,
}

/// What the service was told, and what only an observer of the whole can know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// The acknowledged content of every key.
    pub truth: Rows,
    /// Whether that content was acknowledged by PostgreSQL.
    pub by_postgres: Keys,
    /// The key written last.
    pub last: usize,
    pub writes: u8,
    pub runs: u8,
    /// Reverts that were taken back.
    pub stays: u8,
    /// The highest position ever given.
    pub position: u8,
    /// The length of the dirty log when the fence closed.
    pub fenced_at: u8,
    pub highest_se: u8,
    pub highest_pe: u8,
    /// The last epoch that ended by a switch (`true`) or an abort.
    pub decided: Option<(u8, bool)>,
    /// The invariants that a single step broke.
    pub broken: Broken,
}

/// Invariants about steps rather than about states.
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Broken {
    pub i3_position_reused: bool,
    pub i7_old_token: bool,
    pub i8_closed_file: bool,
    pub i9_abort_and_switch: bool,
    pub i11_miscounted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub sqlite: Sqlite,
    pub postgres: Postgres,
    /// The older token first: which of the two has which name makes no difference.
    pub coordinators: [Coordinator; 2],
    pub ghost: Ghost,
    pub ledger: Ledger,
}

impl State {
    /// A service on SQLite with a row in every key; no run yet.
    pub fn start(keys: usize) -> Self {
        let rows = std::array::from_fn(|key| {
            (key < keys).then(|| Row { write: 0, unique: u8::from(key == 1), bad: false })
        });
        let position = if keys == 1 { 1 } else { 2 };
        let mut postgres = Postgres {
            owner: Owner::Sqlite,
            epoch: 0,
            token: 0,
            phase: Phase::Idle,
            run: 0,
            copied: [false; KEYS],
            applied: 0,
            verified: false,
            quarantine: [Quarantine::Nothing; KEYS],
            rows,
            changed: Log::default(),
            position,
        };
        postgres.empty_target();
        Self {
            sqlite: Sqlite {
                run: 0,
                epoch: 0,
                open: true,
                dirty: Log::default(),
                reversed: 0,
                rows,
                position,
            },
            postgres,
            coordinators: [Coordinator::default(), Coordinator::default()],
            ghost: Ghost::NotYet,
            ledger: Ledger {
                truth: rows,
                by_postgres: [false; KEYS],
                last: 0,
                writes: 0,
                runs: 0,
                stays: 0,
                position,
                fenced_at: 0,
                highest_se: 0,
                highest_pe: 0,
                decided: None,
                broken: Broken::default(),
            },
        }
    }

    /// Whether some store takes writes of the service.
    pub fn is_open(&self) -> bool {
        self.sqlite.open || self.postgres.owner == Owner::Postgres
    }
}
