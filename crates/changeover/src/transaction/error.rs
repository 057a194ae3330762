//! What ends a transaction.

use std::error::Error as StdError;
use std::fmt;

use changeover_core::{Error, ErrorKind};
use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// Why a transaction was taken back. Within it `?` works on errors of the stores and of diesel; an error of your own
/// is given by [`TxError::refused`]. Outside of it `?` turns it into an [`Error`].
pub enum TxError {
    /// A store refused: a conflict, a module that moved, a database that cannot be had.
    Store(Error),
    /// A statement of your own failed. Its text, which may quote values, is shown by this variant's content only.
    Statement(DieselError),
    /// You refused.
    Refused(Box<dyn StdError + Send + Sync>),
}

impl TxError {
    /// Ends the transaction for a reason of your own.
    pub fn refused(reason: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Refused(reason.into())
    }

    /// The kind, as far as it is known: that of the store's error; of a statement's by what diesel tells; `Invalid`
    /// for a refusal of your own.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Statement(error) => kind(error),
            Self::Refused(_) => ErrorKind::Invalid,
        }
    }
}

fn kind(error: &DieselError) -> ErrorKind {
    match error {
        DieselError::NotFound => ErrorKind::NotFound,
        DieselError::DatabaseError(kind, _) => match kind {
            DatabaseErrorKind::UniqueViolation => ErrorKind::AlreadyExists,
            DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::NotNullViolation
            | DatabaseErrorKind::CheckViolation
            | DatabaseErrorKind::RestrictViolation
            | DatabaseErrorKind::ExclusionViolation => ErrorKind::Invalid,
            DatabaseErrorKind::SerializationFailure => ErrorKind::Contention,
            DatabaseErrorKind::ReadOnlyTransaction => ErrorKind::ReadOnly,
            DatabaseErrorKind::ClosedConnection => ErrorKind::Unavailable,
            _ => ErrorKind::Unexpected,
        },
        _ => ErrorKind::Unexpected,
    }
}

impl From<Error> for TxError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<DieselError> for TxError {
    fn from(error: DieselError) -> Self {
        Self::Statement(error)
    }
}

impl From<TxError> for Error {
    fn from(error: TxError) -> Self {
        let kind = error.kind();
        match error {
            TxError::Store(error) => error,
            TxError::Refused(reason) => Self::new(kind, "the transaction was refused").caused_by(reason),
            // Without its text as the cause: that may quote values.
            statement @ TxError::Statement(_) => Self::new(kind, statement.to_string()),
        }
    }
}

impl fmt::Display for TxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Statement(DieselError::DatabaseError(kind, _)) => {
                write!(f, "a statement of the transaction failed ({kind:?}); nothing was stored")
            }
            Self::Statement(DieselError::NotFound) => {
                f.write_str("a statement of the transaction found no row; nothing was stored")
            }
            Self::Statement(_) => f.write_str("a statement of the transaction failed; nothing was stored"),
            Self::Refused(reason) => write!(f, "the transaction was refused: {reason}"),
        }
    }
}

impl fmt::Debug for TxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for TxError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            Self::Statement(_) => None,
            Self::Refused(reason) => Some(&**reason),
        }
    }
}
