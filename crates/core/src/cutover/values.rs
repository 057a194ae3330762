//! Values on both sides of a cutover.

use std::fmt;

use chrono::NaiveDate;

use crate::{Json, Timestamp, Uuid};

/// A value as the old store holds it: its storage class and its bytes, unjudged.
#[derive(Clone, PartialEq)]
pub enum Raw {
    /// Nothing.
    Null,
    /// Storage class `integer`.
    Integer(i64),
    /// Storage class `real`.
    Real(f64),
    /// Storage class `text`: bytes that claim to be UTF-8 (the driver converts UTF-16 files).
    Text(Vec<u8>),
    /// Storage class `blob`.
    Blob(Vec<u8>),
}

impl Raw {
    /// As in SQLite's `typeof()`.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Integer(_) => "integer",
            Self::Real(_) => "real",
            Self::Text(_) => "text",
            Self::Blob(_) => "blob",
        }
    }

    /// What a row costs in memory and on the wire, roughly: bytes of its content.
    pub fn size(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Integer(_) | Self::Real(_) => 8,
            Self::Text(bytes) | Self::Blob(bytes) => bytes.len(),
        }
    }
}

/// Shows the class and the length only: a value is never in a log.
impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.class(), self.size())
    }
}

/// The values of a key, in the order of the declaration.
pub type RawKey = Vec<Raw>;

/// The values of a row, in the order that was asked for.
pub type RawRow = Vec<Raw>;

/// A value as the new store takes it.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// `boolean`.
    Bool(bool),
    /// `integer` or `bigint`, as the declared type says.
    Int(i64),
    /// `double precision`; finite.
    Double(f64),
    /// `numeric`: plain digits with an optional sign and point, no exponent.
    Decimal(String),
    /// `text`; holds no NUL.
    Text(String),
    /// `uuid`.
    Uuid(Uuid),
    /// `jsonb`.
    Json(Json),
    /// `timestamptz`.
    Timestamp(Timestamp),
    /// `date`.
    Date(NaiveDate),
    /// `bytea`.
    Bytes(Vec<u8>),
    /// `vector(n)` of pgvector.
    Vector(Vec<f32>),
}

/// Shows the kind only: a value is never in a log.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Double(_) => "double",
            Self::Decimal(_) => "decimal",
            Self::Text(_) => "text",
            Self::Uuid(_) => "uuid",
            Self::Json(_) => "json",
            Self::Timestamp(_) => "timestamp",
            Self::Date(_) => "date",
            Self::Bytes(_) => "bytes",
            Self::Vector(_) => "vector",
        })
    }
}

/// What became of the row with a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<V> {
    /// Index of the table in the list of declarations.
    pub table: usize,
    /// Its key, in the order of [`Table::key`](super::Table::key).
    pub key: Vec<V>,
    /// The row as it is now, in the order of [`Table::columns`](super::Table::columns); `None`: it is not there.
    pub row: Option<Vec<V>>,
}
