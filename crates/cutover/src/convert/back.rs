//! Values of the new store as the old one writes them.

use changeover_core::cutover::{Raw, TimeUnit, Type, Value};
use changeover_core::{Error, Result};

/// The most digits of which a number of double precision keeps each.
const EXACT_DIGITS: usize = 15;

/// How a value is written in a column that is declared as `to`; ids as bytes if `blob_uuid`.
pub(super) fn raw(value: &Value, to: &Type, blob_uuid: bool, column: &str) -> Result<Raw> {
    let text = |text: String| Raw::Text(text.into_bytes());
    Ok(match (value, to) {
        (Value::Null, _) => Raw::Null,
        (Value::Bool(flag), Type::Bool) => Raw::Integer(i64::from(*flag)),
        (Value::Int(number), Type::Int { .. }) => Raw::Integer(*number),
        (Value::Double(number), Type::Double) => Raw::Real(*number),
        (Value::Decimal(digits), Type::Decimal { .. }) => decimal(digits),
        (Value::Text(found), Type::Text { .. }) => text(found.clone()),
        (Value::Uuid(id), Type::Uuid) if blob_uuid => Raw::Blob(id.as_bytes().to_vec()),
        (Value::Uuid(id), Type::Uuid) => text(id.hyphenated().to_string()),
        (Value::Json(json), Type::Json { .. }) => text(json.as_str().to_owned()),
        (Value::Timestamp(at), Type::Timestamp(TimeUnit::Text { .. })) => text(at.to_string()),
        (Value::Timestamp(at), Type::Timestamp(unit)) => {
            let size = match unit {
                TimeUnit::Seconds => 1_000_000,
                TimeUnit::Millis => 1_000,
                TimeUnit::Micros | TimeUnit::Text { .. } => 1,
            };
            if at.as_micros() % size != 0 {
                return Err(Error::invalid(format!(
                    "column {column}: the time does not fit the unit of the old store, parts of it would be lost"
                )));
            }
            Raw::Integer(at.as_micros() / size)
        }
        (Value::Date(date), Type::Date) => text(date.to_string()),
        (Value::Bytes(bytes), Type::Bytes { .. }) => Raw::Blob(bytes.clone()),
        (Value::Vector(numbers), Type::Vector { .. }) => {
            Raw::Blob(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
        }
        (value, _) => {
            return Err(Error::invalid(format!(
                "column {column}: a value of kind {value:?} is not of its type"
            )));
        }
    })
}

/// As a number where that keeps every digit, else as text.
fn decimal(digits: &str) -> Raw {
    let significant = digits.bytes().filter(u8::is_ascii_digit).count();
    match digits.parse() {
        Ok(number) if significant <= EXACT_DIGITS => Raw::Real(number),
        _ => Raw::Text(digits.as_bytes().to_vec()),
    }
}
