//! Columns that are computed out of others.

use std::str::FromStr;

use changeover_core::audit::NewAuditEvent;
use changeover_core::cutover::{Column, From, Table, Type, Value};
use changeover_core::{Json, Text, Timestamp, Uuid};

use super::constant::constant;

/// A computation by its name in declarations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Computed {
    SameAs(String),
    DateOf(String),
    AuditDigest,
    Constant(String),
    /// By the transformation of the table.
    Transform,
}

impl Computed {
    /// What is allowed, where it is none of that.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("same_as", column)) if !column.is_empty() => Ok(Self::SameAs(column.to_owned())),
            Some(("date_of", column)) if !column.is_empty() => Ok(Self::DateOf(column.to_owned())),
            Some(("constant", value)) => Ok(Self::Constant(value.to_owned())),
            None if text == "audit_digest" => Ok(Self::AuditDigest),
            None if text == "transform" => Ok(Self::Transform),
            _ => Err("same_as:COLUMN, date_of:COLUMN, constant:VALUE, audit_digest or transform".to_owned()),
        }
    }

    /// Whether it makes a value of the column; else what is allowed.
    pub(crate) fn fits(&self, table: &Table, column: &Column) -> Result<(), String> {
        let read = |name: &str| {
            let found = table.column(name).filter(|other| !matches!(other.from, From::Computed(_)));
            found.ok_or_else(|| format!("a column that is not computed, which {name:?} is not"))
        };
        match self {
            Self::SameAs(name) if read(name)?.to != column.to && !both_times(&read(name)?.to, &column.to) => {
                Err(format!("a column of the same type, which {name:?} is not"))
            }
            Self::DateOf(name)
                if !matches!(read(name)?.to, Type::Timestamp(_)) || column.to != Type::Date =>
            {
                Err(format!("a time for a date, which {name:?} is not"))
            }
            Self::Constant(value) if constant(value, &column.to).is_none() => {
                Err("a value of the column's type".to_owned())
            }
            Self::AuditDigest if column.to != (Type::Bytes { len: Some(32) }) => {
                Err("32 bytes for a digest".to_owned())
            }
            Self::AuditDigest => AuditColumns::of(table).map(|_| ()),
            Self::Transform if table.transform.is_none() => {
                Err("only in a table with a transform".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn both_times(a: &Type, b: &Type) -> bool {
    matches!((a, b), (Type::Timestamp(_), Type::Timestamp(_)))
}

/// The columns that the digest of an audit event is over, in their order there.
const DIGESTED: [&str; 19] = [
    "event_id",
    "event_type",
    "event_category",
    "event_outcome",
    "event_timestamp",
    "service_name",
    "service_version",
    "actor_type",
    "actor_id",
    "actor_name",
    "resource_type",
    "resource_id",
    "resource_name",
    "event_data",
    "correlation_id",
    "parent_event_id",
    "trace_id",
    "span_id",
    "metadata",
];

/// Where the columns of an audit event stand.
#[derive(Clone, Debug)]
pub(super) struct AuditColumns([usize; 19]);

impl AuditColumns {
    pub(super) fn of(table: &Table) -> Result<Self, String> {
        let mut at = [0; 19];
        for (place, name) in at.iter_mut().zip(DIGESTED) {
            let allowed = || format!("a table of audit events, with a column {name:?}");
            *place = table.index_of(name).ok_or_else(allowed)?;
        }
        Ok(Self(at))
    }

    /// The digest of a row; `None` if it is not an audit event, which the types of the columns exclude.
    pub(super) fn digest(&self, row: &[Option<Value>]) -> Option<[u8; 32]> {
        self.event(row).ok().map(|event| event.content_digest())
    }

    fn event(&self, row: &[Option<Value>]) -> Result<NewAuditEvent, NotOne> {
        let cell = |place: usize| row.get(self.0[place]).and_then(Option::as_ref).ok_or(NotOne);
        Ok(NewAuditEvent {
            event_id: id(cell(0)?)?.ok_or(NotOne)?,
            event_type: text(cell(1)?)?.ok_or(NotOne)?,
            event_category: text(cell(2)?)?.ok_or(NotOne)?,
            event_outcome: word(cell(3)?)?,
            event_timestamp: time(cell(4)?)?,
            service_name: text(cell(5)?)?.ok_or(NotOne)?,
            service_version: text(cell(6)?)?,
            actor_type: word(cell(7)?)?,
            actor_id: text(cell(8)?)?,
            actor_name: text(cell(9)?)?,
            resource_type: text(cell(10)?)?.ok_or(NotOne)?,
            resource_id: text(cell(11)?)?.ok_or(NotOne)?,
            resource_name: text(cell(12)?)?,
            event_data: json(cell(13)?)?,
            correlation_id: text(cell(14)?)?,
            parent_event_id: id(cell(15)?)?,
            trace_id: text(cell(16)?)?,
            span_id: text(cell(17)?)?,
            metadata: json(cell(18)?)?,
        })
    }
}

/// A value that no audit event has.
struct NotOne;

fn text<const MAX: usize>(value: &Value) -> Result<Option<Text<MAX>>, NotOne> {
    match value {
        Value::Null => Ok(None),
        Value::Text(text) => Text::new("", text.as_str()).map(Some).map_err(|_| NotOne),
        _ => Err(NotOne),
    }
}

fn id(value: &Value) -> Result<Option<Uuid>, NotOne> {
    match value {
        Value::Null => Ok(None),
        Value::Uuid(id) => Ok(Some(*id)),
        _ => Err(NotOne),
    }
}

fn word<T: FromStr>(value: &Value) -> Result<T, NotOne> {
    if let Value::Text(text) = value { text.parse().map_err(|_| NotOne) } else { Err(NotOne) }
}

fn time(value: &Value) -> Result<Timestamp, NotOne> {
    if let Value::Timestamp(at) = value { Ok(*at) } else { Err(NotOne) }
}

fn json(value: &Value) -> Result<Json, NotOne> {
    if let Value::Json(json) = value { Ok(json.clone()) } else { Err(NotOne) }
}
