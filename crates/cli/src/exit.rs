//! How a command ends: one status for each kind of ending, and the text that goes with it.

use std::fmt;
use std::io;
use std::process::ExitCode;

use changeover::{Error, ErrorKind};

/// The exit status of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Done = 0,
    Failed = 1,
    /// Wrong usage or settings.
    Usage = 2,
    /// The data say no.
    Refused = 3,
    /// A backend cannot be reached.
    Unreachable = 4,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

impl From<ErrorKind> for Status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Config | ErrorKind::Unsupported => Self::Usage,
            ErrorKind::VersionConflict
            | ErrorKind::AlreadyExists
            | ErrorKind::NotFound
            | ErrorKind::Invalid
            | ErrorKind::TooLarge
            | ErrorKind::SchemaMismatch
            | ErrorKind::ReadOnly
            | ErrorKind::Moved
            | ErrorKind::Corrupt => Self::Refused,
            ErrorKind::Unavailable | ErrorKind::Timeout => Self::Unreachable,
            // Contention, defects, and kinds of a later version.
            _ => Self::Failed,
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    pub status: Status,
    message: String,
}

impl Failure {
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Status::Usage, message)
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Status::Failed, message)
    }

    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Status::Refused, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut message = error.to_string();
        if let Some(advice) = advice(error.kind()) {
            message.push_str("\n  ");
            message.push_str(advice);
        }
        Self::new(Status::from(error.kind()), message)
    }
}

/// Of standard output. A reader that has gone (`… | head`) has all it wanted.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Status::Done, "");
        }
        Self::failed(format!("standard output cannot be written: {error}"))
    }
}

/// The command that helps, where there is one.
pub fn advice(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::SchemaMismatch => {
            Some("`changeover migrate status` shows what is missing, `changeover migrate up` applies it")
        }
        ErrorKind::Unavailable | ErrorKind::Timeout => {
            Some("`changeover doctor` shows which backends can be reached")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Section 10 of the design: every kind has its status.
    #[test]
    fn every_kind_of_error_has_its_exit_status() {
        use ErrorKind as K;
        let expected = [
            (K::VersionConflict, 3),
            (K::AlreadyExists, 3),
            (K::NotFound, 3),
            (K::Invalid, 3),
            (K::TooLarge, 3),
            (K::Unsupported, 2),
            (K::Config, 2),
            (K::SchemaMismatch, 3),
            (K::ReadOnly, 3),
            (K::Contention, 1),
            (K::Unavailable, 4),
            (K::Timeout, 4),
            (K::Moved, 3),
            (K::Corrupt, 3),
            (K::Unexpected, 1),
        ];
        for (kind, status) in expected {
            assert_eq!(Status::from(kind) as u8, status, "{kind}");
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let gone = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((gone.status, gone.to_string().as_str()), (Status::Done, ""));
        assert_eq!(Failure::from(io::Error::other("full")).status, Status::Failed);
    }
}
