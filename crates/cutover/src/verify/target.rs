//! What a witness of the new store saw, as a value of the declared type.
//!
//! Texts are those that PostgreSQL prints in UTC, with ISO dates, hex bytes and shortest numbers. What a column may hold is
//! not judged again: a value is right if it is the one of the old store.

use changeover_core::Json;
use changeover_core::cutover::Type;

use super::calendar;
use super::canon::{Canon, decimal};

/// The value, or [`Canon::Bad`] where the text is none of the type.
pub(super) fn decode(to: &Type, text: Option<String>) -> Canon {
    match (to, text) {
        (_, None) => Canon::Null,
        (Type::Text { .. }, Some(text)) => Canon::Text(text),
        (_, Some(text)) => {
            typed(to, &text).unwrap_or_else(|| Canon::Bad([b"new ", text.as_bytes()].concat()))
        }
    }
}

fn typed(to: &Type, text: &str) -> Option<Canon> {
    Some(match to {
        Type::Text { .. } => Canon::Text(text.to_owned()),
        Type::Uuid => {
            Canon::Uuid(uuid::Uuid::try_parse(text).ok().filter(|_| text.len() == 36)?.into_bytes())
        }
        Type::Int { .. } => Canon::Int(text.parse().ok()?),
        Type::Bool => match text {
            "t" | "true" => Canon::Bool(true),
            "f" | "false" => Canon::Bool(false),
            _ => return None,
        },
        Type::Double => {
            Canon::Double(text.parse::<f64>().ok().filter(|number| number.is_finite())?.to_bits())
        }
        Type::Decimal { .. } => Canon::Decimal(decimal(text)?),
        Type::Json { .. } => Canon::Json(Json::parse(text).ok()?),
        Type::Timestamp(_) => Canon::Timestamp(timestamp(text)?),
        Type::Date => Canon::Date(i32::try_from(calendar::date(text.as_bytes())?).ok()?),
        Type::Bytes { .. } => Canon::Bytes(bytes(text)?),
        Type::Vector { .. } => {
            let inside = text.strip_prefix('[')?.strip_suffix(']')?;
            let bits = inside.split(',').map(|number| number.trim().parse().map(f32::to_bits).ok());
            Canon::Vector(bits.collect::<Option<_>>()?)
        }
    })
}

/// `2024-01-31 12:00:00.5+00`.
fn timestamp(text: &str) -> Option<i64> {
    let seconds = calendar::date_and_time(text.as_bytes())?;
    if text.as_bytes().get(10) != Some(&b' ') {
        return None;
    }
    let rest = text.get(19..)?.strip_suffix("+00")?;
    let fraction = if rest.is_empty() { "" } else { rest.strip_prefix('.')? };
    if fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    calendar::in_range(seconds * 1_000_000 + micros)
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.chunks(2).map(|pair| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect()
}
