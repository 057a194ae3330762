//! Rules of a row beside the types of its columns.

use std::collections::BTreeMap;

use changeover_core::cutover::{From, Raw, SourceColumn, Table, Type, Value};
use changeover_core::playbooks::{NewPlaybook, PlaybookVersion};
use changeover_core::{Timestamp, sha256_hex};

use super::notes::Notes;
use crate::hazards::number;

/// A rule; columns by their index in the declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    NotJsonNull(usize),
    /// The column of the old store, by its place in the raw row, and the times in raw row and declaration.
    DateOf(usize, usize, usize),
    From1970(usize),
    Differs(usize, usize),
    SemanticVersion(usize),
    MaxBytes(usize, usize),
    Sha256Of(usize, usize),
    Texts(usize),
    Share(usize),
    Needs(usize, usize),
    NotAbove(usize, usize),
    /// Ids are stored as 16 bytes. Of the type of the column rather than of the row.
    BlobUuid(usize),
}

const ALLOWED: &str = "not_json_null:COLUMN, date_of:OLD_COLUMN:TIME, from_1970:TIME, differs:COLUMN:OTHER, \
     semantic_version:COLUMN, max_bytes:COLUMN:NUMBER, sha256_of:HASH:COLUMN, texts:COLUMN, share:COLUMN, \
     needs:COLUMN:OTHER, not_above:COLUMN:OTHER or blob_uuid:COLUMN, with columns of the table of the right type";

impl Rule {
    /// What is allowed, where it is none of that.
    pub(crate) fn parse(text: &str, table: &Table) -> Result<Self, String> {
        Self::read(text, table).ok_or_else(|| ALLOWED.to_owned())
    }

    fn read(text: &str, table: &Table) -> Option<Self> {
        let parts: Vec<_> = text.split(':').collect();
        let column = |name: &str, fits: fn(&Type) -> bool| {
            table.index_of(name).filter(|index| fits(&table.columns[*index].to))
        };
        let any = |_: &Type| true;
        let is_text = |to: &Type| matches!(to, Type::Text { .. });
        let is_time = |to: &Type| matches!(to, Type::Timestamp(_));
        let is_json = |to: &Type| matches!(to, Type::Json { .. });
        Some(match parts[..] {
            ["not_json_null", name] => Self::NotJsonNull(column(name, is_json)?),
            ["date_of", old, time] => {
                let sources = table.source_columns();
                let place = |wanted: &SourceColumn| sources.iter().position(|source| source == wanted);
                let time = column(time, is_time)?;
                let From::Source(written) = &table.columns[time].from else { return None };
                Self::DateOf(place(&SourceColumn::Named(old.to_owned()))?, place(written)?, time)
            }
            ["from_1970", name] => Self::From1970(column(name, is_time)?),
            ["differs", name, other] => Self::Differs(column(name, any)?, column(other, any)?),
            ["semantic_version", name] => Self::SemanticVersion(column(name, is_text)?),
            ["max_bytes", name, bytes] => Self::MaxBytes(column(name, is_text)?, bytes.parse().ok()?),
            ["sha256_of", hash, name] => Self::Sha256Of(column(hash, is_text)?, column(name, is_text)?),
            ["texts", name] => Self::Texts(column(name, is_json)?),
            ["share", name] => Self::Share(column(name, |to| matches!(to, Type::Decimal { .. }))?),
            ["needs", name, other] => Self::Needs(column(name, any)?, column(other, any)?),
            ["not_above", name, other] => {
                let is_int = |to: &Type| matches!(to, Type::Int { .. });
                Self::NotAbove(column(name, is_int)?, column(other, is_int)?)
            }
            ["blob_uuid", name] => Self::BlobUuid(column(name, |to| *to == Type::Uuid)?),
            _ => return None,
        })
    }

    /// Holds a row to the rule, as far as its columns could be converted. `labels` are the columns' names in the old store.
    pub(super) fn check(
        &self,
        raw: &[Raw],
        row: &[Option<Value>],
        sources: &[String],
        labels: &[String],
        notes: &mut Notes,
    ) {
        let get = |at: usize| row[at].as_ref();
        let broken: Option<(usize, u16, String)> = match *self {
            Self::NotJsonNull(at) => matches!(get(at), Some(Value::Json(json)) if json.is_null())
                .then(|| (at, number::NOT_JSON, "is JSON null".into())),
            Self::DateOf(date, written, time) => {
                if let Some(Value::Timestamp(time)) = get(time) {
                    check_date(raw, (date, written), *time, sources, notes);
                }
                None
            }
            Self::From1970(at) => matches!(get(at), Some(Value::Timestamp(time)) if time.as_micros() < 0)
                .then(|| (at, number::YEAR, "is before 1970".into())),
            Self::Differs(at, other) => match (get(at), get(other)) {
                (Some(a), Some(b)) if *a != Value::Null && a == b => {
                    Some((at, number::ORPHAN, format!("is the same as {}", labels[other])))
                }
                _ => None,
            },
            Self::SemanticVersion(at) => match get(at) {
                Some(Value::Text(text)) => PlaybookVersion::new(text.as_str())
                    .err()
                    .map(|error| (at, number::LIMIT, error.message().to_owned())),
                _ => None,
            },
            Self::MaxBytes(at, max) => match get(at) {
                Some(Value::Text(text)) if text.len() > max => Some((
                    at,
                    number::TOO_LARGE,
                    format!("has {} bytes, at most {max} are allowed", text.len()),
                )),
                _ => None,
            },
            Self::Sha256Of(hash, at) => match (get(hash), get(at)) {
                (Some(Value::Text(hash_found)), Some(Value::Text(text)))
                    if *hash_found != sha256_hex(text.as_bytes()) =>
                {
                    let problem = format!("is not the SHA-256 (hex, lower case) of {}", labels[at]);
                    Some((hash, number::DIGEST, problem))
                }
                _ => None,
            },
            Self::Texts(at) => match get(at) {
                Some(Value::Json(json))
                    if json.to::<BTreeMap<String, String>>().is_ok_and(|it| are_labels(&it)) =>
                {
                    None
                }
                Some(Value::Json(_)) => Some((
                    at,
                    number::NOT_JSON,
                    "is not a JSON object of at most 100 texts of at most 255 characters each".into(),
                )),
                _ => None,
            },
            Self::Share(at) => match get(at) {
                Some(Value::Decimal(text)) if !is_share(text) => {
                    Some((at, number::LIMIT, "is outside of 0 to 1".into()))
                }
                _ => None,
            },
            Self::Needs(at, other) => match (get(at), get(other)) {
                (Some(a), Some(Value::Null)) if *a != Value::Null => {
                    Some((at, number::LIMIT, format!("is there, but {} is not", labels[other])))
                }
                _ => None,
            },
            Self::NotAbove(at, other) => match (get(at), get(other)) {
                (Some(Value::Int(a)), Some(Value::Int(b))) if a > b => {
                    Some((at, number::LIMIT, format!("is above {}", labels[other])))
                }
                _ => None,
            },
            Self::BlobUuid(_) => None,
        };
        if let Some((at, hazard, problem)) = broken {
            notes.at(&labels[at]).bad::<()>(hazard, problem);
        }
    }
}

/// The date is that of the time, in UTC or as the time is written: programs that wrote the time with an offset took the
/// date from there.
fn check_date(raw: &[Raw], places: (usize, usize), time: Timestamp, sources: &[String], notes: &mut Notes) {
    let mut at = notes.at(&sources[places.0]);
    let Raw::Text(found) = &raw[places.0] else {
        at.bad::<()>(number::NO_DATE, format!("is {}, allowed is a date as text", raw[places.0].class()));
        return;
    };
    if *found == time.date().to_string().into_bytes() {
        return;
    }
    let as_written = matches!(&raw[places.1], Raw::Text(text) if text.get(..10) == Some(found.as_slice()));
    if as_written {
        at.converted(number::OFFSET, "is the date at the offset of the time; it becomes that in UTC");
    } else {
        at.bad::<()>(number::NO_DATE, "is not the date of its time");
    }
}

fn are_labels(labels: &BTreeMap<String, String>) -> bool {
    let short = |text: &str| text.chars().count() <= 255;
    labels.len() <= NewPlaybook::MAX_LABELS
        && labels.iter().all(|(key, value)| !key.is_empty() && short(key) && short(value))
}

fn is_share(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    whole == "0" || (whole == "1" && fraction.bytes().all(|digit| digit == b'0'))
}
