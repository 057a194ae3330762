//! The words of the protocol: how far a run has come, and which store owns the module.
//!
//! They are stored in PostgreSQL (`cutover.run.phase`, `cutover.authority.owner`), shown by `cutover status`, and used
//! by the checked model as they are, so that code, tables and model cannot drift apart.
//!
//! ```
//! use changeover_cutover::phase::{Owner, Phase};
//!
//! assert_eq!(Phase::parse("catching_up")?, Phase::CatchingUp);
//! assert!(Phase::Copying.sqlite_takes_writes() && !Phase::Sealed.sqlite_takes_writes());
//! assert_eq!(Owner::Postgres.as_str(), "postgres");
//! # Ok::<(), changeover_core::Error>(())
//! ```

use std::fmt;

use changeover_core::{Error, Result};

/// How far a run has come. Each change is one transaction in one store.
///
/// The phase tells people and coordinators where to resume. It is never what stops a writer: that is the fence in the
/// SQLite file and [`Owner`] in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// No run: the service writes to SQLite. A run that was aborted, or reverted to its end, comes back to here.
    Idle,
    /// SQLite has meta row, dirty log and open fence; PostgreSQL has the run. The service writes to SQLite, captured.
    Prepared,
    /// The coordinator copies chunks. The service writes to SQLite, captured.
    Copying,
    /// All chunks are there; the coordinator applies dirty keys. The service writes to SQLite, captured.
    CatchingUp,
    /// The coordinator compares all rows while it goes on applying. The service writes to SQLite, captured.
    Verifying,
    /// The fence in the SQLite file is closed. The service writes nowhere; the coordinator applies what is left.
    Fenced,
    /// Everything that was captured is applied. The service writes nowhere.
    Drained,
    /// The final verification passed and every quarantined row is settled. The service writes nowhere.
    Sealed,
    /// PostgreSQL owns the module: the service writes there, captured. A revert is possible.
    Switched,
    /// A revert runs, no store is owner: the service writes nowhere, the coordinator writes to SQLite through the gate.
    RevertFenced,
    /// The way back is closed for good. The service writes to PostgreSQL.
    Finalized,
}

impl Phase {
    /// All of them, in the order of a run.
    pub const ALL: &'static [Self] = &[
        Self::Idle,
        Self::Prepared,
        Self::Copying,
        Self::CatchingUp,
        Self::Verifying,
        Self::Fenced,
        Self::Drained,
        Self::Sealed,
        Self::Switched,
        Self::RevertFenced,
        Self::Finalized,
    ];

    /// The word in tables and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Prepared => "prepared",
            Self::Copying => "copying",
            Self::CatchingUp => "catching_up",
            Self::Verifying => "verifying",
            Self::Fenced => "fenced",
            Self::Drained => "drained",
            Self::Sealed => "sealed",
            Self::Switched => "switched",
            Self::RevertFenced => "revert_fenced",
            Self::Finalized => "finalized",
        }
    }

    /// Reads the word.
    ///
    /// # Errors
    ///
    /// `Invalid` for any other word; the message names those allowed.
    pub fn parse(text: &str) -> Result<Self> {
        parse("phase", text, Self::ALL, Self::as_str)
    }

    /// Whether the service writes to SQLite in this phase.
    pub fn sqlite_takes_writes(self) -> bool {
        matches!(self, Self::Idle | Self::Prepared | Self::Copying | Self::CatchingUp | Self::Verifying)
    }

    /// Whether the service writes to PostgreSQL in this phase.
    pub fn postgres_takes_writes(self) -> bool {
        matches!(self, Self::Switched | Self::Finalized)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The store that owns a module, as the authority row in PostgreSQL says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// Nobody: not claimed yet, or a revert runs. PostgreSQL refuses writes of the service.
    None,
    /// SQLite: PostgreSQL refuses writes of the service; whether SQLite takes them is said by the fence in its file.
    Sqlite,
    /// PostgreSQL takes the writes of the service; the fence in the SQLite file is closed.
    Postgres,
}

impl Owner {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::None, Self::Sqlite, Self::Postgres];

    /// The word in tables and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// Reads the word.
    ///
    /// # Errors
    ///
    /// `Invalid` for any other word; the message names those allowed.
    pub fn parse(text: &str) -> Result<Self> {
        parse("owner", text, Self::ALL, Self::as_str)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn parse<T: Copy>(field: &str, text: &str, all: &[T], word: fn(T) -> &'static str) -> Result<T> {
    all.iter().copied().find(|known| word(*known) == text).ok_or_else(|| {
        let allowed: Vec<_> = all.iter().map(|known| word(*known)).collect();
        Error::invalid(format!("{field} is {text:?}, allowed are {}", allowed.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_and_an_unknown_one_is_refused_with_those_allowed() {
        assert!(Phase::ALL.iter().all(|phase| Phase::parse(phase.as_str()).unwrap() == *phase));
        assert!(Owner::ALL.iter().all(|owner| Owner::parse(owner.as_str()).unwrap() == *owner));
        let refused = Owner::parse("mysql").unwrap_err();
        assert_eq!(refused.kind(), changeover_core::ErrorKind::Invalid);
        assert_eq!(refused.message(), r#"owner is "mysql", allowed are none, sqlite, postgres"#);
        assert!(Phase::parse("Idle").is_err());
    }

    // I1.
    #[test]
    fn no_phase_lets_both_stores_take_writes() {
        assert!(
            Phase::ALL.iter().all(|phase| !(phase.sqlite_takes_writes() && phase.postgres_takes_writes()))
        );
    }
}
