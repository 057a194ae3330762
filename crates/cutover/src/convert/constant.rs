//! Values written in declarations.

use changeover_core::cutover::{Type, Value};
use changeover_core::{Json, Timestamp, Uuid};

use super::decimal;

/// The value that a text in a declaration means in a column of a type; `None` if it is none of that type.
pub(crate) fn constant(text: &str, to: &Type) -> Option<Value> {
    Some(match to {
        Type::Text { max, not_empty, words } => {
            let fits = text.chars().count() <= *max
                && !(text.is_empty() && *not_empty)
                && !text.contains('\0')
                && (words.is_empty() || words.iter().any(|word| word == text));
            Value::Text(fits.then(|| text.to_owned())?)
        }
        Type::Uuid => Value::Uuid(Uuid::try_parse(text).ok()?),
        Type::Int { min, max } => Value::Int(text.parse().ok().filter(|found| (min..=max).contains(&found))?),
        Type::Bool => Value::Bool(text.parse().ok()?),
        Type::Double => Value::Double(text.parse().ok().filter(|found: &f64| found.is_finite())?),
        Type::Decimal { precision, scale } => {
            let (whole, fraction) = decimal::digits(text);
            let fits = fraction <= *scale as usize && whole + *scale as usize <= *precision as usize;
            Value::Decimal((decimal::is_plain(text) && fits).then(|| text.to_owned())?)
        }
        Type::Json { object } => {
            Value::Json(Json::parse(text).ok().filter(|json| json.is_object() || !object)?)
        }
        Type::Timestamp(_) => Value::Timestamp(Timestamp::parse(text).ok()?),
        Type::Date => Value::Date(text.parse().ok()?),
        // Nobody has needed one.
        Type::Bytes { .. } | Type::Vector { .. } => return None,
    })
}

/// The text of a constant; `None` for what none can be.
pub(crate) fn shown(value: &Value) -> Option<String> {
    Some(match value {
        Value::Text(text) | Value::Decimal(text) => text.clone(),
        Value::Uuid(id) => id.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Double(number) => format!("{number:?}"),
        Value::Json(json) => json.as_str().to_owned(),
        Value::Timestamp(at) => at.to_string(),
        Value::Date(date) => date.to_string(),
        Value::Null | Value::Bytes(_) | Value::Vector(_) => return None,
    })
}
