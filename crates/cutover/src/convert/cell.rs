//! One value of the old store as a declared type, or what speaks against it.

use changeover_core::cutover::{Raw, Type, Value};
use changeover_core::{Json, Uuid};

use super::accepted::Loss;
use super::notes::At;
use super::{decimal, json, time};
use crate::hazards::number;

/// The largest value of one field in the new store, bytes.
const MAX_FIELD: usize = 1 << 30;

/// What `raw` is as `to`; `blob_uuid` if ids are stored as bytes. `None`: the notes say why.
pub(super) fn convert(raw: &Raw, to: &Type, blob_uuid: bool, at: &mut At<'_>) -> Option<Value> {
    match to {
        Type::Text { max, not_empty, words } => text(raw, *max, *not_empty, words, at).map(Value::Text),
        Type::Uuid => uuid(raw, blob_uuid, at).map(Value::Uuid),
        Type::Int { min, max } => int(raw, *min, *max, at).map(Value::Int),
        Type::Bool => boolean(raw, at).map(Value::Bool),
        Type::Double => double(raw, at).map(Value::Double),
        Type::Decimal { precision, scale } => {
            decimal::convert(raw, *precision, *scale, at).map(Value::Decimal)
        }
        Type::Json { object } => json_value(raw, *object, at).map(Value::Json),
        Type::Timestamp(unit) => time::timestamp(raw, *unit, at).map(Value::Timestamp),
        Type::Date => time::date(raw, at).map(Value::Date),
        Type::Bytes { len } => bytes(raw, *len, at).map(Value::Bytes),
        Type::Vector { dims } => vector(raw, *dims, at).map(Value::Vector),
    }
}

/// Text as it stands, for types that are text in the old store.
pub(super) fn utf8<'a>(bytes: &'a [u8], at: &mut At<'_>) -> Option<&'a str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => at.bad(number::NOT_UTF8, format!("is not UTF-8 from byte {}", error.valid_up_to())),
    }
}

/// A class that is not the declared one.
pub(super) fn class<T>(raw: &Raw, hazard: u16, allowed: &str, at: &mut At<'_>) -> Option<T> {
    at.bad(hazard, format!("is {}, allowed is {allowed}", raw.class()))
}

fn text(raw: &Raw, max: usize, not_empty: bool, words: &[String], at: &mut At<'_>) -> Option<String> {
    let number;
    let text = match raw {
        Raw::Text(bytes) => utf8(bytes, at)?,
        Raw::Integer(found) => {
            number = found.to_string();
            at.loses(Loss::NumbersAsText, "is integer where text is declared").then_some(number.as_str())?
        }
        Raw::Real(found) => {
            number = format!("{found:?}");
            at.loses(Loss::NumbersAsText, "is real where text is declared").then_some(number.as_str())?
        }
        Raw::Blob(_) | Raw::Null => return class(raw, number::TEXT_OR_BYTES, "text", at),
    };
    if let Some(byte) = text.bytes().position(|byte| byte == 0) {
        return at.bad(number::NUL, format!("holds a NUL character at byte {byte}"));
    }
    if text.is_empty() && not_empty {
        return at.bad(number::EMPTY, "is empty");
    }
    // No character is less than a byte.
    if text.len() > max {
        let found = text.chars().count();
        if found > max {
            return at.bad(number::LIMIT, format!("has {found} characters, at most {max} are allowed"));
        }
    }
    if text.len() >= MAX_FIELD {
        return at
            .bad(number::TOO_LARGE, format!("has {} bytes, less than {MAX_FIELD} are allowed", text.len()));
    }
    if !words.is_empty() && !words.iter().any(|word| word == text) {
        return at.bad(number::LIMIT, format!("is none of the words allowed there: {}", words.join(", ")));
    }
    Some(text.to_owned())
}

fn uuid(raw: &Raw, blob_uuid: bool, at: &mut At<'_>) -> Option<Uuid> {
    let bytes = match raw {
        Raw::Text(bytes) if !blob_uuid => bytes,
        Raw::Blob(bytes) if blob_uuid => {
            let id = Uuid::from_slice(bytes).ok();
            return id
                .or_else(|| at.bad(number::UUID_FORM, format!("has {} bytes, 16 are allowed", bytes.len())));
        }
        Raw::Blob(_) => return class(raw, number::UUID_FORM, "a hyphenated UUID as text", at),
        Raw::Text(_) => return class(raw, number::UUID_FORM, "a blob of 16 bytes", at),
        _ => return class(raw, number::CLASS, if blob_uuid { "a blob of 16 bytes" } else { "text" }, at),
    };
    let text = utf8(bytes, at)?;
    let Ok(id) = Uuid::try_parse(text) else {
        return at.bad(number::UUID_SPELLING, "is not a UUID");
    };
    let mut spelled = [0; 36];
    let lower = id.hyphenated().encode_lower(&mut spelled);
    if lower == text {
        return Some(id);
    }
    if lower.eq_ignore_ascii_case(text) && !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        at.converted(number::UUID_SPELLING, "is in upper case");
        return Some(id);
    }
    let problem = "is a UUID, but not hyphenated text in one case";
    at.loses(Loss::UuidSpellings, problem).then_some(id)
}

fn int(raw: &Raw, min: i64, max: i64, at: &mut At<'_>) -> Option<i64> {
    match raw {
        Raw::Integer(found) if (min..=max).contains(found) => Some(*found),
        Raw::Integer(_) => at.bad(number::RANGE, format!("is outside of {min} to {max}")),
        Raw::Real(_) => class(raw, number::NOT_WHOLE, "an integer", at),
        Raw::Text(bytes) if is_odd_number(bytes) => class(raw, number::ODD_NUMBER, "an integer", at),
        _ => class(raw, number::CLASS, "an integer", at),
    }
}

/// Text that means a number to people: hexadecimal, padded, with an exponent.
pub(super) fn is_odd_number(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => digits.starts_with(|c: char| c.is_ascii_digit()) && digits.parse::<f64>().is_ok(),
    }
}

fn boolean(raw: &Raw, at: &mut At<'_>) -> Option<bool> {
    match raw {
        Raw::Integer(0) => Some(false),
        Raw::Integer(1) => Some(true),
        Raw::Integer(_) => at.bad(number::BOOLEAN, "is neither 0 nor 1"),
        _ => class(raw, number::BOOLEAN, "0 or 1", at),
    }
}

fn double(raw: &Raw, at: &mut At<'_>) -> Option<f64> {
    match raw {
        Raw::Real(found) if found.is_finite() => Some(*found),
        Raw::Real(_) => at.bad(number::INFINITE, "is infinite"),
        Raw::Integer(found) => {
            // A column of no or numeric affinity keeps whole numbers as integers.
            #[expect(clippy::cast_precision_loss, reason = "guarded by the bound")]
            let exact = (found.unsigned_abs() <= 1 << 53).then_some(*found as f64);
            exact.or_else(|| at.bad(number::DIGITS, "has more digits than double precision keeps"))
        }
        Raw::Text(bytes) if is_odd_number(bytes) => class(raw, number::ODD_NUMBER, "a number", at),
        _ => class(raw, number::CLASS, "a number", at),
    }
}

fn json_value(raw: &Raw, object: bool, at: &mut At<'_>) -> Option<Json> {
    let Raw::Text(bytes) = raw else { return class(raw, number::NOT_JSON, "JSON as text", at) };
    let value = json::convert(utf8(bytes, at)?, at)?;
    if object && !value.is_object() {
        return at.bad(number::NOT_JSON, "is not a JSON object");
    }
    Some(value)
}

fn bytes(raw: &Raw, len: Option<usize>, at: &mut At<'_>) -> Option<Vec<u8>> {
    let Raw::Blob(found) = raw else { return class(raw, number::TEXT_OR_BYTES, "a blob", at) };
    match len {
        Some(len) if found.len() != len => {
            at.bad(number::LIMIT, format!("has {} bytes, {len} are allowed", found.len()))
        }
        _ if found.len() >= MAX_FIELD => {
            at.bad(number::TOO_LARGE, format!("has {} bytes, less than {MAX_FIELD} are allowed", found.len()))
        }
        _ => Some(found.clone()),
    }
}

fn vector(raw: &Raw, dims: usize, at: &mut At<'_>) -> Option<Vec<f32>> {
    let Raw::Blob(found) = raw else { return class(raw, number::TEXT_OR_BYTES, "a blob", at) };
    if found.len() != dims * 4 {
        return at
            .bad(number::LIMIT, format!("has {} bytes, {dims} numbers of 4 bytes are allowed", found.len()));
    }
    let numbers = found.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    let numbers: Vec<_> = numbers.collect();
    match numbers.iter().position(|number| !number.is_finite()) {
        Some(place) => at.bad(number::INFINITE, format!("number {place} of the vector is not finite")),
        None => Some(numbers),
    }
}
