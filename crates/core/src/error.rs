//! One error for all stores: its kind decides what a caller does, its text tells an operator what to do.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::Uuid;
use crate::checkpoint::Checkpoint;
use crate::events::{Expected, StreamId, Version};

/// The result of every operation of a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, seen from the caller. The set is public: each kind asks for a reaction of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The stream is not at the expected version. Load again and decide anew; a blind retry cannot succeed.
    VersionConflict,
    /// The id is taken by other content, or this progress is already recorded.
    AlreadyExists,
    /// What was named does not exist.
    NotFound,
    /// The request can never succeed as it is.
    Invalid,
    /// A value or a request is larger than the contract allows.
    TooLarge,
    /// This backend, or this set-up of it, does not offer the operation; its capabilities say why.
    Unsupported,
    /// A setting is wrong.
    Config,
    /// The database is not at the schema this program needs.
    SchemaMismatch,
    /// The database takes no writes at the moment.
    ReadOnly,
    /// Others were in the way (lock, deadlock, serialization). The same call may succeed.
    Contention,
    /// The database or a connection to it cannot be had, or the store was closed.
    Unavailable,
    /// A time limit passed.
    Timeout,
    /// The module is owned by another backend now.
    Moved,
    /// Stored data break the contract; the row is named, its content is not shown.
    Corrupt,
    /// Anything else: a defect.
    Unexpected,
}

impl ErrorKind {
    /// The stable name, as in logs and JSON: `version_conflict`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VersionConflict => "version_conflict",
            Self::AlreadyExists => "already_exists",
            Self::NotFound => "not_found",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::Config => "config",
            Self::SchemaMismatch => "schema_mismatch",
            Self::ReadOnly => "read_only",
            Self::Contention => "contention",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Moved => "moved",
            Self::Corrupt => "corrupt",
            Self::Unexpected => "unexpected",
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Contention | Self::Unavailable | Self::Timeout)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a failed write may have been stored all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Applied {
    /// Nothing was stored.
    No,
    /// The answer was lost: stored whole or not at all. Repeat only with the same ids.
    Unknown,
}

/// The part of an error that programs read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detail {
    /// Of [`ErrorKind::VersionConflict`].
    Conflict {
        /// The stream that was not as expected.
        stream: StreamId,
        /// What the caller expected.
        expected: Expected,
        /// The version the stream has, `None` if it does not exist.
        actual: Option<Version>,
    },
    /// Of [`ErrorKind::AlreadyExists`]: the id that is taken.
    Exists {
        /// The taken id.
        id: Uuid,
    },
    /// Of [`ErrorKind::AlreadyExists`]: a consumer's progress is already at or after this point.
    Tracked {
        /// What is recorded.
        recorded: Checkpoint,
    },
    /// Of [`ErrorKind::TooLarge`].
    TooLarge {
        /// What was found, in the unit of `allowed`.
        found: u64,
        /// The largest that is allowed.
        allowed: u64,
    },
    /// Of [`ErrorKind::Moved`]: who owns the module now (`sqlite`, `postgres`, `none`).
    Moved {
        /// The recorded owner.
        owner: String,
    },
    /// Of [`ErrorKind::Corrupt`]: where the bad value stands.
    Row {
        /// The table.
        table: String,
        /// The key of the row, as text.
        key: String,
        /// The column.
        column: String,
    },
    /// A subscription ended; it can go on after this checkpoint.
    Resume {
        /// The last checkpoint that was delivered.
        after: Checkpoint,
    },
}

/// The error of every store. Never holds a URL, a password or a payload.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    applied: Option<Applied>,
    message: String,
    context: Vec<(&'static str, String)>,
    detail: Option<Detail>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A new error. `message` says what was found, what is allowed and what to do; it holds no secret and no payload.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation: "",
            applied: None,
            message: message.into(),
            context: Vec::new(),
            detail: None,
            source: None,
        }))
    }

    /// A request that can never succeed.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A value larger than allowed; `unit` is what `found` and `allowed` count.
    pub fn too_large(what: &str, found: u64, allowed: u64, unit: &str) -> Self {
        Self::new(ErrorKind::TooLarge, format!("{what} has {found} {unit}, at most {allowed} are allowed"))
            .with_detail(Detail::TooLarge { found, allowed })
    }

    /// A stream that is not as the caller expected.
    pub fn conflict(stream: StreamId, expected: Expected, actual: Option<Version>) -> Self {
        let found = actual.map_or_else(|| "does not exist".to_owned(), |v| format!("is at version {v}"));
        let message = format!("stream {stream} {found}, expected {expected}; load it again and decide anew");
        Self::new(ErrorKind::VersionConflict, message).with_detail(Detail::Conflict {
            stream,
            expected,
            actual,
        })
    }

    /// An id that other content holds.
    pub fn exists(what: &str, id: Uuid) -> Self {
        Self::new(ErrorKind::AlreadyExists, format!("{what} {id} is already stored with other content"))
            .with_detail(Detail::Exists { id })
    }

    /// A stored value that breaks the contract. `problem` names the rule, never the value.
    pub fn corrupt(table: &str, key: impl Into<String>, column: &str, problem: &str) -> Self {
        let key = key.into();
        Self::new(ErrorKind::Corrupt, format!("table {table}, key {key}, column {column}: {problem}"))
            .with_detail(Detail::Row { table: table.to_owned(), key, column: column.to_owned() })
    }

    /// Names the operation, `events.append`. The innermost name stays.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        if self.0.operation.is_empty() {
            self.0.operation = operation;
        }
        self
    }

    /// Says whether the write may have happened.
    #[must_use]
    pub fn applied(mut self, applied: Applied) -> Self {
        self.0.applied = Some(applied);
        self
    }

    /// Adds what programs read.
    #[must_use]
    pub fn with_detail(mut self, detail: Detail) -> Self {
        self.0.detail = Some(detail);
        self
    }

    /// Adds where it happened (`backend`, `module`, `sqlstate`, ...); no secrets, no payload.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.context.push((key, value.into()));
        self
    }

    /// Adds the cause. Only causes whose text holds no URL, password or payload may be given.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation, empty if none was named.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// What was found, allowed, and what to do, without operation and context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Of a write: whether it may have been stored; `None` for reads.
    pub fn was_applied(&self) -> Option<Applied> {
        self.0.applied
    }

    /// What programs read.
    pub fn detail(&self) -> Option<&Detail> {
        self.0.detail.as_ref()
    }

    /// Where it happened.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// Whether repeating the same call is useful and safe. `ids_given` says that the caller's ids make a repeated
    /// write harmless; without them a write whose outcome is unknown is never repeated.
    pub fn may_retry(&self, ids_given: bool) -> bool {
        self.kind().is_transient() && (ids_given || self.0.applied != Some(Applied::Unknown))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.operation.is_empty() {
            write!(f, "{}: ", self.0.operation)?;
        }
        write!(f, "{}: {}", self.0.kind, self.0.message)?;
        for (index, (key, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{key}={value}", if index == 0 { " (" } else { ", " })?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        match self.0.applied {
            Some(Applied::No) => f.write_str("; nothing was stored"),
            Some(Applied::Unknown) => {
                f.write_str("; whether it was stored is unknown, repeat it only with the same ids")
            }
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_operation_kind_context_and_outcome() {
        let error = Error::new(ErrorKind::Unavailable, "the connection was lost")
            .during("events.append")
            .during("outer")
            .with("backend", "main")
            .applied(Applied::Unknown);
        assert_eq!(
            error.to_string(),
            "events.append: unavailable: the connection was lost (backend=main); \
             whether it was stored is unknown, repeat it only with the same ids"
        );
    }

    // E36: a write of unknown outcome is repeated only when ids make that harmless.
    #[test]
    fn unknown_outcome_is_retried_only_with_ids() {
        let unknown = Error::new(ErrorKind::Unavailable, "x").applied(Applied::Unknown);
        assert!(unknown.may_retry(true));
        assert!(!unknown.may_retry(false));
        assert!(Error::new(ErrorKind::Contention, "x").applied(Applied::No).may_retry(false));
    }

    // X-ES-026: conflicts are never retried.
    #[test]
    fn conflicts_are_never_retried() {
        let stream = StreamId::new("Order", Uuid::nil()).unwrap();
        let error = Error::conflict(stream, Expected::NoStream, None);
        assert!(!error.may_retry(true));
    }
}
