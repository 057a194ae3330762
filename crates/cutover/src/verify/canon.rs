//! Values as the digests see them: one typed form for both sides, and its bytes.
//!
//! The bytes are a tag, the length in four bytes (most significant first), and the content; the guide
//! `docs/guides/cutover-digests.md` says so for other programs.

use std::fmt;

use changeover_core::Json;
use changeover_core::cutover::Value;
use serde::{Deserialize, Serialize};

use super::calendar;

/// A value. The order within a kind is the one the new store sorts by.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Canon {
    Null,
    Bool(bool),
    Int(i64),
    /// The bits of a double.
    Double(u64),
    /// Digits with an optional sign and point, no zeros that say nothing.
    Decimal(String),
    Text(String),
    Uuid([u8; 16]),
    Json(Json),
    /// Microseconds since 1970.
    Timestamp(i64),
    /// Days since 1970.
    Date(i32),
    Bytes(Vec<u8>),
    /// The bits of each number.
    Vector(Vec<u32>),
    /// What the declaration does not allow, with the side that it was found on: never equal to anything of the other side.
    Bad(Vec<u8>),
}

/// Shows the kind only: a value is never in a log.
impl fmt::Debug for Canon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Canon({})", self.tag())
    }
}

impl Canon {
    fn tag(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 2,
            Self::Double(_) => 3,
            Self::Decimal(_) => 4,
            Self::Text(_) => 5,
            Self::Uuid(_) => 6,
            Self::Json(_) => 7,
            Self::Timestamp(_) => 8,
            Self::Date(_) => 9,
            Self::Bytes(_) => 10,
            Self::Vector(_) => 11,
            Self::Bad(_) => 255,
        }
    }

    /// Appends tag, length and content.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.tag());
        match self {
            Self::Null => put(out, &[]),
            Self::Bool(value) => put(out, &[u8::from(*value)]),
            Self::Int(value) | Self::Timestamp(value) => put(out, &value.to_be_bytes()),
            Self::Double(bits) => put(out, &bits.to_be_bytes()),
            Self::Decimal(text) | Self::Text(text) => put(out, text.as_bytes()),
            Self::Json(json) => put(out, json.as_str().as_bytes()),
            Self::Uuid(bytes) => put(out, bytes),
            Self::Date(days) => put(out, &days.to_be_bytes()),
            Self::Bytes(bytes) | Self::Bad(bytes) => put(out, bytes),
            Self::Vector(numbers) => {
                put(out, &numbers.iter().flat_map(|bits| bits.to_be_bytes()).collect::<Vec<_>>());
            }
        }
    }

    /// A value of the declaration itself.
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Double(value) => Self::Double(value.to_bits()),
            Value::Decimal(text) => {
                decimal(text).map_or_else(|| Self::Bad(b"declared".to_vec()), Self::Decimal)
            }
            Value::Text(text) => Self::Text(text.clone()),
            Value::Uuid(id) => Self::Uuid(*id.as_bytes()),
            Value::Json(json) => Self::Json(json.clone()),
            Value::Timestamp(at) => Self::Timestamp(at.as_micros()),
            Value::Date(date) => {
                let days = date.signed_duration_since(chrono::NaiveDate::default()).num_days();
                i32::try_from(days).map_or_else(|_| Self::Bad(b"declared".to_vec()), Self::Date)
            }
            Value::Bytes(bytes) => Self::Bytes(bytes.clone()),
            Value::Vector(numbers) => Self::Vector(numbers.iter().map(|number| number.to_bits()).collect()),
        }
    }

    pub(super) fn is_bad(&self) -> bool {
        matches!(self, Self::Bad(_))
    }

    /// How the new store reads it, for a key; `None` for what cannot be part of one.
    pub(super) fn as_key(&self) -> Option<String> {
        Some(match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Text(text) => text.clone(),
            Self::Uuid(bytes) => uuid::Uuid::from_bytes(*bytes).hyphenated().to_string(),
            Self::Timestamp(micros) => calendar::rfc3339(*micros),
            Self::Date(days) => calendar::date_text(i64::from(*days)),
            Self::Bytes(bytes) => format!("\\x{}", changeover_core::hex(bytes)),
            Self::Null
            | Self::Double(_)
            | Self::Decimal(_)
            | Self::Json(_)
            | Self::Vector(_)
            | Self::Bad(_) => {
                return None;
            }
        })
    }
}

/// Content that is longer than a length can say keeps its rest: two such contents still differ in the digest, for what
/// follows is hashed as well.
fn put(out: &mut Vec<u8>, content: &[u8]) {
    out.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(content);
}

/// Plain digits in their one form: no plus, no leading zeros, no zeros after the last digit behind the point, no negative
/// zero. `None` for what is no plain number.
pub(super) fn decimal(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    Some(match (whole, fraction) {
        ("", "") => "0".to_owned(),
        (whole, "") => format!("{sign}{whole}"),
        ("", fraction) => format!("{sign}0.{fraction}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0.500", Some("0.5"))]
    #[case("-0.0", Some("0"))]
    #[case("-007.10", Some("-7.1"))]
    #[case("100", Some("100"))]
    #[case("1e3", None)]
    #[case(".5", None)]
    #[case("5.", None)]
    #[case("", None)]
    #[case("-", None)]
    #[case("NaN", None)]
    fn a_decimal_has_one_form(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(decimal(text).as_deref(), expected);
    }

    // Two rows that differ only in where one value ends and the next begins have different bytes.
    #[test]
    fn the_length_keeps_neighbours_apart() {
        let row = |values: [&str; 2]| {
            let mut out = Vec::new();
            for value in values {
                Canon::Text(value.to_owned()).encode(&mut out);
            }
            out
        };
        assert_ne!(row(["ab", "c"]), row(["a", "bc"]));
        let mut out = Vec::new();
        Canon::Int(-2).encode(&mut out);
        assert_eq!(out, [2, 0, 0, 0, 8, 255, 255, 255, 255, 255, 255, 255, 254]);
    }
}
