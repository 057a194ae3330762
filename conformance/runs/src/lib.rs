//! Our own backends under the suite: a harness for each set-up.
//!
//! Apart from the suite, which is a library that anyone can use and therefore pulls no driver.

mod another_process;
mod attempts;
mod memory;
mod moved;
mod mutants;
mod postgres;
mod postgres_audit;
mod postgres_playbooks;
mod sqlite;

use changeover_conformance::Subject;

pub use another_process::serve;
pub use memory::MemoryHarness;
pub use mutants::mutants;
pub use postgres::{PostgresDirect, PostgresMoved, PostgresPooled, PostgresShared, PostgresSmallDisk};
pub use sqlite::{SqliteAdopted, SqliteNative};

/// Every set-up of ours: the columns of the matrix.
pub fn subjects() -> Vec<Subject> {
    vec![
        Subject::of::<MemoryHarness>(),
        Subject::of::<SqliteNative>(),
        Subject::of::<SqliteAdopted>(),
        Subject::of::<PostgresShared>(),
        Subject::of::<PostgresDirect>(),
        Subject::of::<PostgresMoved>(),
    ]
}

/// Set-ups that are run only where they are named, for the time they take.
pub fn on_request() -> Vec<Subject> {
    vec![Subject::of::<PostgresPooled>()]
}
