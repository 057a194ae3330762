//! What the columns of the old store really hold.

use std::collections::BTreeMap;

use changeover_core::cutover::{Raw, Type};
use serde::Serialize;

/// What was found in a column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Histogram {
    /// The column of the old store.
    pub column: String,
    /// Rows by storage class.
    pub classes: BTreeMap<&'static str, u64>,
    /// Rows by form: how large numbers are, how times and ids are written.
    pub forms: BTreeMap<&'static str, u64>,
    /// The fewest and the most bytes of texts and blobs; `None` without any.
    pub bytes: Option<(u64, u64)>,
}

impl Histogram {
    pub(super) fn new(column: &str) -> Self {
        Self { column: column.to_owned(), ..Self::default() }
    }

    pub(super) fn add(&mut self, raw: &Raw, to: Option<&Type>) {
        *self.classes.entry(raw.class()).or_default() += 1;
        if let Some(form) = form(raw, to) {
            *self.forms.entry(form).or_default() += 1;
        }
        if let Raw::Text(bytes) | Raw::Blob(bytes) = raw {
            let found = bytes.len() as u64;
            let (least, most) = self.bytes.unwrap_or((found, found));
            self.bytes = Some((least.min(found), most.max(found)));
        }
    }
}

/// Names of sizes, by the number of digits.
const SIZES: [&str; 20] = [
    "0",
    "1 digit",
    "2 digits",
    "3 digits",
    "4 digits",
    "5 digits",
    "6 digits",
    "7 digits",
    "8 digits",
    "9 digits",
    "10 digits: seconds since 1970?",
    "11 digits",
    "12 digits",
    "13 digits: milliseconds since 1970?",
    "14 digits",
    "15 digits",
    "16 digits: microseconds since 1970?",
    "17 digits",
    "18 digits",
    "19 digits",
];

fn form(raw: &Raw, to: Option<&Type>) -> Option<&'static str> {
    match (raw, to) {
        (Raw::Integer(number), Some(Type::Bool)) => Some(match number {
            0 => "0",
            1 => "1",
            _ => "other numbers",
        }),
        (Raw::Integer(number), _) => {
            Some(SIZES[number.unsigned_abs().checked_ilog10().map_or(0, |digits| digits as usize + 1)])
        }
        (Raw::Real(number), _) => Some(if number.is_infinite() {
            "infinite"
        } else if number.fract() == 0.0 {
            "whole"
        } else {
            "with a fraction"
        }),
        (Raw::Text(bytes), Some(Type::Timestamp(_) | Type::Date)) => Some(time_form(bytes)),
        (Raw::Text(bytes), Some(Type::Uuid)) => Some(uuid_form(bytes)),
        (Raw::Text(bytes), _) if bytes.is_empty() => Some("empty"),
        (Raw::Null | Raw::Text(_) | Raw::Blob(_), _) => None,
    }
}

fn time_form(bytes: &[u8]) -> &'static str {
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    if !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit) {
        return "digits";
    }
    let dated = (0..4).all(digit) && bytes.get(4) == Some(&b'-');
    match (dated, bytes.len(), bytes.last()) {
        (true, 10, _) => "YYYY-MM-DD",
        (true, 20.., Some(b'Z' | b'z')) => "RFC 3339 in UTC",
        (true, 25.., _) if matches!(bytes[bytes.len() - 6], b'+' | b'-') => "RFC 3339 with an offset",
        (true, 19, _) if bytes[10] == b' ' => "YYYY-MM-DD HH:MM:SS",
        (true, 19.., _) => "without an offset",
        _ => "other text",
    }
}

fn uuid_form(bytes: &[u8]) -> &'static str {
    let lower = bytes.iter().any(u8::is_ascii_lowercase);
    let upper = bytes.iter().any(u8::is_ascii_uppercase);
    match (bytes.len(), lower, upper) {
        (36, true, true) => "in mixed case",
        (36, false, true) => "in upper case",
        (36, ..) => "in lower case",
        _ => "other text",
    }
}
