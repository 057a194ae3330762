//! What can go wrong while a test gets its database.

use std::error::Error as StdError;

/// Why a test could not have its database. Never holds an address with a password in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No rung could serve. The text lists each rung that was tried, why it could not, and what to do.
    #[error("{0}")]
    NoServer(String),
    /// PostgreSQL refused a statement or a connection.
    #[error("{doing}: {}", describe(.source))]
    Postgres {
        /// What the testkit was doing.
        doing: String,
        /// What the driver said.
        source: tokio_postgres::Error,
    },
    /// A file or socket could not be used.
    #[error("{doing}: {source}")]
    Io {
        /// What the testkit was doing.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The caller's own migration failed; no template was left behind.
    #[error("migrating the template database for key {key:?}: {source}")]
    Migration {
        /// The key the caller gave.
        key: String,
        /// What the migration said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A value given to the testkit is not usable.
    #[error("{0}")]
    Invalid(String),
}

/// The driver's own text is "db error"; the server's message and code are one level below.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db.message(), db.code().code());
    }
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

pub(crate) trait Doing<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, tokio_postgres::Error> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|source| Error::Postgres { doing: what.into(), source })
    }
}

impl<T> Doing<T> for Result<T, std::io::Error> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing: what.into(), source })
    }
}
