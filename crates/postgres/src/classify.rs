//! From SQLSTATE to the kinds of the contract, in one place. Never from message text: texts are translated, change
//! between versions and may hold data, which is also why none of them is passed on.

use changeover_core::{Applied, Error, ErrorKind};
use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// The kind for a SQLSTATE.
pub(crate) fn kind_of(state: &str) -> ErrorKind {
    match state {
        "CO400" => ErrorKind::Invalid,
        "CO409" => ErrorKind::VersionConflict,
        "CO410" | "23505" => ErrorKind::AlreadyExists,
        "COMVD" => ErrorKind::Moved,
        "COIMM" | "0A000" => ErrorKind::Unsupported,
        // deadlock, serialization, lock not available
        "40P01" | "40001" | "55P03" => ErrorKind::Contention,
        // query cancelled, idle in transaction, transaction time-out
        "57014" | "25P03" | "25P04" => ErrorKind::Timeout,
        "25006" => ErrorKind::ReadOnly,
        // out of memory, disk full, too many connections, administrator or crash shutdown, starting up, idle session
        "53000" | "53100" | "53200" | "53300" | "53400" | "57P01" | "57P02" | "57P03" | "57P05" | "58030" => {
            ErrorKind::Unavailable
        }
        // password, no such database, rights
        "28000" | "28P01" | "3D000" | "42501" => ErrorKind::Config,
        // no such table, column, function, schema, object; one that is there already
        "42P01" | "42703" | "42883" | "3F000" | "42704" | "42P07" | "42701" | "42723" | "42P06" => {
            ErrorKind::SchemaMismatch
        }
        "XX001" | "XX002" => ErrorKind::Corrupt,
        _ => match state.get(..2) {
            Some("08") => ErrorKind::Unavailable,
            Some("22" | "23") => ErrorKind::Invalid,
            Some("54") => ErrorKind::TooLarge,
            _ => ErrorKind::Unexpected,
        },
    }
}

/// Whether a statement that failed with a SQLSTATE may have been committed.
fn applied(state: &str) -> Applied {
    match state {
        "40003" | "57P01" | "57P02" => Applied::Unknown,
        _ if state.starts_with("08") => Applied::Unknown,
        _ => Applied::No,
    }
}

fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "the database refused a value",
        ErrorKind::AlreadyExists => "a key is already stored",
        ErrorKind::Moved => "another backend owns the module now",
        ErrorKind::Unsupported => "the database refuses this operation",
        ErrorKind::Contention => "other transactions were in the way; the same call may succeed",
        ErrorKind::Timeout => "the statement ran longer than command_timeout allows",
        ErrorKind::ReadOnly => "the database takes no writes at the moment",
        ErrorKind::Unavailable => "the database cannot serve at the moment",
        ErrorKind::Config => {
            "the login, its password, its rights or the database is not as the settings say; check url and migrate_url"
        }
        ErrorKind::SchemaMismatch => "the schema is not the one this program needs; run migrate up",
        ErrorKind::Corrupt => "the database reports damaged data; look at its log",
        ErrorKind::TooLarge => "the statement is larger than the database allows",
        _ => "the database answered with an error that is not expected here; look at its log",
    }
}

/// An error for a SQLSTATE. `applied` is left to writes.
pub(crate) fn from_state(state: &str) -> Error {
    let kind = kind_of(state);
    let message = match state {
        "53300" => {
            "the server has no connection left: for this login, for this database, or at all; lower pool.max_size of \
             its clients, or raise the limit there"
        }
        _ => advice(kind),
    };
    Error::new(kind, message).with("sqlstate", state)
}

/// The error of a read.
pub(crate) fn read_error(error: &tokio_postgres::Error) -> Error {
    match error.code() {
        Some(code) => {
            let mut made = from_state(code.code());
            if let Some(name) = error.as_db_error().and_then(|db| db.constraint().or_else(|| db.table())) {
                made = made.with("object", name);
            }
            made
        }
        None => lost(),
    }
}

/// The error of a write: as of a read, and whether it may have been stored.
pub(crate) fn write_error(error: &tokio_postgres::Error) -> Error {
    let outcome = error.code().map_or(Applied::Unknown, |code| applied(code.code()));
    read_error(error).applied(outcome)
}

/// The connection broke while an answer was awaited.
pub(crate) fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection to the database was lost; the same call may succeed")
}

/// The error of a statement that went through diesel, which keeps SQLSTATE to itself: the few classes it tells apart.
pub(crate) fn diesel_error(error: &DieselError) -> Error {
    let state = match error {
        DieselError::DatabaseError(kind, _) => match kind {
            DatabaseErrorKind::UniqueViolation => "23505",
            DatabaseErrorKind::ForeignKeyViolation => "23503",
            DatabaseErrorKind::NotNullViolation => "23502",
            DatabaseErrorKind::CheckViolation => "23514",
            DatabaseErrorKind::SerializationFailure => "40001",
            DatabaseErrorKind::ReadOnlyTransaction => "25006",
            DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => return lost(),
            _ => return Error::new(ErrorKind::Unexpected, advice(ErrorKind::Unexpected)),
        },
        _ => return Error::new(ErrorKind::Unexpected, "a statement of the transaction failed in the client"),
    };
    from_state(state)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // S3-ERR-001 to 005, X-EDGE-105: one row a class.
    #[rstest]
    #[case("CO400", ErrorKind::Invalid, Applied::No)]
    #[case("CO409", ErrorKind::VersionConflict, Applied::No)]
    #[case("CO410", ErrorKind::AlreadyExists, Applied::No)]
    #[case("COMVD", ErrorKind::Moved, Applied::No)]
    #[case("COIMM", ErrorKind::Unsupported, Applied::No)]
    #[case("40P01", ErrorKind::Contention, Applied::No)]
    #[case("40001", ErrorKind::Contention, Applied::No)]
    #[case("55P03", ErrorKind::Contention, Applied::No)]
    #[case("40003", ErrorKind::Unexpected, Applied::Unknown)]
    #[case("57014", ErrorKind::Timeout, Applied::No)]
    #[case("57P01", ErrorKind::Unavailable, Applied::Unknown)]
    #[case("57P02", ErrorKind::Unavailable, Applied::Unknown)]
    #[case("57P03", ErrorKind::Unavailable, Applied::No)]
    #[case("53300", ErrorKind::Unavailable, Applied::No)]
    #[case("53200", ErrorKind::Unavailable, Applied::No)]
    #[case("53100", ErrorKind::Unavailable, Applied::No)]
    #[case("08000", ErrorKind::Unavailable, Applied::Unknown)]
    #[case("08001", ErrorKind::Unavailable, Applied::Unknown)]
    #[case("08003", ErrorKind::Unavailable, Applied::Unknown)]
    #[case("08004", ErrorKind::Unavailable, Applied::Unknown)]
    #[case("08006", ErrorKind::Unavailable, Applied::Unknown)]
    #[case("08P01", ErrorKind::Unavailable, Applied::Unknown)]
    #[case("25006", ErrorKind::ReadOnly, Applied::No)]
    #[case("23505", ErrorKind::AlreadyExists, Applied::No)]
    #[case("23503", ErrorKind::Invalid, Applied::No)]
    #[case("23514", ErrorKind::Invalid, Applied::No)]
    #[case("23502", ErrorKind::Invalid, Applied::No)]
    #[case("22P02", ErrorKind::Invalid, Applied::No)]
    #[case("22001", ErrorKind::Invalid, Applied::No)]
    #[case("22003", ErrorKind::Invalid, Applied::No)]
    #[case("22P05", ErrorKind::Invalid, Applied::No)]
    #[case("22021", ErrorKind::Invalid, Applied::No)]
    #[case("54000", ErrorKind::TooLarge, Applied::No)]
    #[case("42P01", ErrorKind::SchemaMismatch, Applied::No)]
    #[case("42P07", ErrorKind::SchemaMismatch, Applied::No)]
    #[case("42703", ErrorKind::SchemaMismatch, Applied::No)]
    #[case("42883", ErrorKind::SchemaMismatch, Applied::No)]
    #[case("28P01", ErrorKind::Config, Applied::No)]
    #[case("42501", ErrorKind::Config, Applied::No)]
    #[case("42601", ErrorKind::Unexpected, Applied::No)]
    #[case("XX000", ErrorKind::Unexpected, Applied::No)]
    #[case("XX001", ErrorKind::Corrupt, Applied::No)]
    #[case("ZZ999", ErrorKind::Unexpected, Applied::No)]
    fn every_class_has_its_kind(#[case] state: &str, #[case] kind: ErrorKind, #[case] outcome: Applied) {
        assert_eq!(kind_of(state), kind);
        assert_eq!(applied(state), outcome);
        assert!(from_state(state).to_string().contains(state));
    }
}
