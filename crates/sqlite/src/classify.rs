//! What SQLite says, as the kind of error that decides what a caller does.
//!
//! Diesel tells constraint violations apart by their extended code and hides every other code; what is left in safe
//! code is SQLite's own message. These texts are part of SQLite's source, unchanged for many years, and each is provoked
//! for real by a test of this module's table.

use changeover_core::{Error, ErrorKind};
use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// How an operation inside of a transaction failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request was judged and refused; nothing was written, the transaction can go on.
    Refused(Error),
    /// The database failed; the transaction has to go.
    Broken(DieselError),
}

impl Failure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Broken(error) => classify(&error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<DieselError> for Failure {
    fn from(error: DieselError) -> Self {
        Self::Broken(error)
    }
}

/// The beginning of SQLite's message, the kind, and what to say and do.
const MESSAGES: &[(&str, ErrorKind, &str)] = &[
    (
        "database is locked",
        ErrorKind::Contention,
        "another writer held the file beyond busy_timeout; try again",
    ),
    ("database table is locked", ErrorKind::Contention, "another statement holds the table; try again"),
    ("database schema is locked", ErrorKind::Contention, "the schema is being changed; try again"),
    ("database schema has changed", ErrorKind::Contention, "the schema was changed meanwhile; try again"),
    ("locking protocol", ErrorKind::Contention, "the file could not be locked; try again"),
    (
        "attempt to write a readonly database",
        ErrorKind::ReadOnly,
        "the file takes no writes; look at its permissions",
    ),
    (
        "database or disk is full",
        ErrorKind::Unavailable,
        "the disk or the file's page limit is full; make room",
    ),
    ("disk I/O error", ErrorKind::Unavailable, "the disk failed to read or write"),
    (
        "unable to open database",
        ErrorKind::Unavailable,
        "the file cannot be opened; look at its path and permissions, and those of its folder",
    ),
    ("out of memory", ErrorKind::Unavailable, "SQLite ran out of memory"),
    ("interrupted", ErrorKind::Timeout, "the statement was interrupted"),
    ("database disk image is malformed", ErrorKind::Corrupt, "the file is damaged; restore it from a backup"),
    (
        "malformed database schema",
        ErrorKind::Corrupt,
        "the schema in the file is damaged or from a newer SQLite",
    ),
    ("file is not a database", ErrorKind::Corrupt, "the file is no SQLite database; look at the path"),
    ("string or blob too big", ErrorKind::TooLarge, "a value is larger than SQLite can store"),
    ("no such table", ErrorKind::SchemaMismatch, "a table is missing; run `changeover migrate up`"),
    ("no such column", ErrorKind::SchemaMismatch, "a column is missing; run `changeover migrate status`"),
];

/// The error for the caller. Messages of SQLite name tables and columns, never values.
pub(crate) fn classify(error: &DieselError) -> Error {
    let DieselError::DatabaseError(kind, information) = error else {
        return Error::new(ErrorKind::Unexpected, format!("diesel: {error}"));
    };
    let message = information.message();
    if matches!(kind, DatabaseErrorKind::Unknown) {
        return by_message(message);
    }
    Error::new(ErrorKind::Unexpected, format!("a constraint refused the statement: {message}"))
}

/// As [`classify`], of a bare message: what opening a connection gives.
pub(crate) fn by_message(message: &str) -> Error {
    let known = MESSAGES.iter().find(|(start, ..)| message.starts_with(start));
    match known {
        Some((_, kind, advice)) => Error::new(*kind, format!("SQLite: {message}: {advice}")),
        // `table x has no column named y`
        None if message.contains(" has no column named ") => Error::new(
            ErrorKind::SchemaMismatch,
            format!("SQLite: {message}; run `changeover migrate status`"),
        ),
        None => Error::new(ErrorKind::Unexpected, format!("SQLite: {message}")),
    }
}
