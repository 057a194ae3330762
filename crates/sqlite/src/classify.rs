//! What SQLite says, as the kind of error that decides what a caller does.
//!
//! Diesel tells constraint violations apart by their extended code and hides every other code; what is left in safe
//! code is SQLite's own message. These texts are part of SQLite's source, unchanged for many years, and each is provoked
//! for real by a test of this module's table.

use changeover_core::{Error, ErrorKind};
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::cutover::gate;

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
    let (kind, information) = match error {
        DieselError::DatabaseError(kind, information) => (kind, information),
        DieselError::RollbackErrorOnCommit { commit_error, .. } => return classify(commit_error),
        other => return Error::new(ErrorKind::Unexpected, format!("diesel: {other}")),
    };
    let message = information.message();
    // In front of a table of an archived file SQLite says that there is none.
    let fenced = message.strip_prefix("no such table: main.").unwrap_or(message);
    if fenced.starts_with(gate::FENCED) {
        return gate::moved(fenced);
    }
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

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::{Connection, SqliteConnection};
    use rstest::rstest;
    use tempfile::TempDir;

    use super::*;

    fn open(folder: &TempDir, options: &str) -> SqliteConnection {
        let url = format!("file:{}{options}", folder.path().join("t.db").display());
        SqliteConnection::establish(&url).unwrap()
    }

    // E114, E115, E116, E121, E125, X12: each class provoked for real, by what SQLite itself says.
    #[rstest]
    #[case::busy("BEGIN IMMEDIATE", "", "INSERT INTO t VALUES (1)", ErrorKind::Contention)]
    #[case::busy_snapshot(
        "INSERT INTO t VALUES (1)",
        "BEGIN; SELECT * FROM t",
        "INSERT INTO t VALUES (1)",
        ErrorKind::Contention
    )]
    #[case::read_only("", "PRAGMA query_only = ON", "INSERT INTO t VALUES (1)", ErrorKind::ReadOnly)]
    #[case::full(
        "",
        "PRAGMA max_page_count = 3",
        "INSERT INTO t VALUES (zeroblob(99999))",
        ErrorKind::Unavailable
    )]
    #[case::too_big("", "", "INSERT INTO t VALUES (zeroblob(2000000000))", ErrorKind::TooLarge)]
    #[case::cannot_open("", "", "ATTACH '/absent/absent.db' AS other", ErrorKind::Unavailable)]
    #[case::damaged(
        "",
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = 77; PRAGMA writable_schema = RESET",
        "SELECT * FROM t",
        ErrorKind::Corrupt
    )]
    #[case::fenced(
        "",
        "CREATE TRIGGER f BEFORE INSERT ON t BEGIN SELECT RAISE(ABORT, 'E_FENCED module=t epoch=2 moved_to=x: '); END",
        "INSERT INTO t VALUES (1)",
        ErrorKind::Moved
    )]
    #[case::archived(
        "",
        "CREATE VIEW archived AS SELECT * FROM \"E_FENCED module=t epoch=2 moved_to=x: \"",
        "SELECT * FROM archived",
        ErrorKind::Moved
    )]
    #[case::no_table("", "", "SELECT * FROM absent", ErrorKind::SchemaMismatch)]
    #[case::no_column("", "", "SELECT absent FROM t", ErrorKind::SchemaMismatch)]
    #[case::no_column_to_insert("", "", "INSERT INTO t (absent) VALUES (1)", ErrorKind::SchemaMismatch)]
    #[case::constraint("", "", "INSERT INTO t VALUES (NULL)", ErrorKind::Unexpected)]
    #[case::twice("", "INSERT INTO t VALUES (7)", "INSERT INTO t VALUES (7)", ErrorKind::Unexpected)]
    #[case::syntax("", "", "SELEC", ErrorKind::Unexpected)]
    fn what_sqlite_says_has_its_kind(
        #[case] by_other: &str,
        #[case] before: &str,
        #[case] sql: &str,
        #[case] kind: ErrorKind,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut ours, mut other) = (open(&folder, ""), open(&folder, ""));
        ours.batch_execute("PRAGMA journal_mode = WAL; CREATE TABLE t (x UNIQUE NOT NULL)").unwrap();
        // `before` may fail where it is what damages the file.
        let began = ours.batch_execute(before);
        other.batch_execute(by_other).unwrap();
        let error = began.and_then(|()| ours.batch_execute(sql)).unwrap_err();
        assert_eq!(classify(&error).kind(), kind, "{error}");
    }

    // X-EDGE-084: opened read-only, as a file without write permission is.
    #[test]
    fn a_read_only_file_is_read_only() {
        let folder = tempfile::tempdir().unwrap();
        open(&folder, "").batch_execute("CREATE TABLE t (x)").unwrap();
        let error = open(&folder, "?mode=ro").batch_execute("INSERT INTO t VALUES (1)").unwrap_err();
        assert_eq!(classify(&error).kind(), ErrorKind::ReadOnly, "{error}");
    }

    // X-EDGE-084
    #[test]
    fn a_file_that_is_no_database_is_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.db"), "no database ".repeat(500)).unwrap();
        let error = open(&folder, "").batch_execute("SELECT * FROM sqlite_master").unwrap_err();
        assert_eq!(classify(&error).kind(), ErrorKind::Corrupt, "{error}");
    }
}
