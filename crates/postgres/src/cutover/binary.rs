//! Values in PostgreSQL's binary form, for COPY, for arguments and back.

use changeover_core::cutover::Value;
use changeover_core::{Json, Timestamp, Uuid};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::codec::JSONB;

/// 2000-01-01, from where PostgreSQL counts, in microseconds since 1970, and in days.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i64 = 10_957;

/// How a column holds its values; domains as what they are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Bool,
    Int2,
    Int4,
    Int8,
    Float8,
    Numeric,
    Text,
    Uuid,
    Json,
    Jsonb,
    Timestamptz,
    Date,
    Bytea,
    Vector,
}

impl Form {
    /// By `pg_type.typname` and `typtype`; `None` where no declared type fits.
    pub(super) fn of(name: &str, kind: &str) -> Option<Self> {
        Some(match name {
            _ if kind == "e" => Self::Text,
            "bool" => Self::Bool,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" => Self::Int8,
            "float8" => Self::Float8,
            "numeric" => Self::Numeric,
            "text" | "varchar" | "citext" | "name" => Self::Text,
            "uuid" => Self::Uuid,
            "json" => Self::Json,
            "jsonb" => Self::Jsonb,
            "timestamptz" => Self::Timestamptz,
            "date" => Self::Date,
            "bytea" => Self::Bytea,
            "vector" => Self::Vector,
            _ => return None,
        })
    }
}

/// Appends a value in the form of its column. The error says why it does not fit.
pub(super) fn put(out: &mut Vec<u8>, value: &Value, form: Form) -> Result<(), String> {
    match (value, form) {
        (Value::Bool(it), Form::Bool) => out.push(u8::from(*it)),
        (Value::Int(it), Form::Int8) => out.extend_from_slice(&it.to_be_bytes()),
        (Value::Int(it), Form::Int4) => {
            out.extend_from_slice(
                &i32::try_from(*it).map_err(|_| "a number is beyond integer")?.to_be_bytes(),
            );
        }
        (Value::Int(it), Form::Int2) => {
            out.extend_from_slice(
                &i16::try_from(*it).map_err(|_| "a number is beyond smallint")?.to_be_bytes(),
            );
        }
        (Value::Int(it), Form::Numeric) => put_numeric(out, &it.to_string())?,
        (Value::Double(it), Form::Float8) => out.extend_from_slice(&it.to_be_bytes()),
        (Value::Decimal(it), Form::Numeric) => put_numeric(out, it)?,
        (Value::Text(it), Form::Text) => out.extend_from_slice(it.as_bytes()),
        (Value::Uuid(it), Form::Uuid) => out.extend_from_slice(it.as_bytes()),
        (Value::Json(it), Form::Json) => out.extend_from_slice(it.as_str().as_bytes()),
        (Value::Json(it), Form::Jsonb) => {
            out.push(JSONB);
            out.extend_from_slice(it.as_str().as_bytes());
        }
        (Value::Timestamp(it), Form::Timestamptz) => {
            out.extend_from_slice(&it.as_micros().saturating_sub(EPOCH_MICROS).to_be_bytes());
        }
        (Value::Date(it), Form::Date) => {
            let days = i64::from(it.to_epoch_days()) - EPOCH_DAYS;
            out.extend_from_slice(&i32::try_from(days).map_err(|_| "a date is out of range")?.to_be_bytes());
        }
        (Value::Bytes(it), Form::Bytea) => out.extend_from_slice(it),
        (Value::Vector(it), Form::Vector) => {
            let dims = i16::try_from(it.len()).map_err(|_| "a vector has too many dimensions")?;
            out.extend_from_slice(&dims.to_be_bytes());
            out.extend_from_slice(&[0, 0]);
            for number in it {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        (value, form) => return Err(format!("{value:?} was given for a column of the form {form:?}")),
    }
    Ok(())
}

/// Digits in groups of four around the point, as `numeric_recv` takes them; none is rounded away.
fn put_numeric(out: &mut Vec<u8>, text: &str) -> Result<(), String> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty())
        || !whole.bytes().chain(fraction.bytes()).all(|it| it.is_ascii_digit())
    {
        return Err("a decimal is not plain digits".to_owned());
    }
    let scale = i16::try_from(fraction.len()).map_err(|_| "a decimal has too many digits")?;
    let whole = whole.trim_start_matches('0');
    let padded =
        format!("{}{whole}{fraction}{}", "0".repeat(pad(whole.len())), "0".repeat(pad(fraction.len())));
    let mut groups: Vec<i16> = padded
        .as_bytes()
        .chunks(4)
        .map(|four| four.iter().fold(0, |sum, it| sum * 10 + i16::from(it - b'0')))
        .collect();
    let mut weight = i16::try_from(whole.len().div_ceil(4)).map_err(|_| "a decimal has too many digits")? - 1;
    while groups.first() == Some(&0) {
        groups.remove(0);
        weight -= 1;
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let negative = negative && !groups.is_empty();
    let weight = if groups.is_empty() { 0 } else { weight };
    let count = i16::try_from(groups.len()).map_err(|_| "a decimal has too many digits")?;
    for word in [count, weight, if negative { 0x4000 } else { 0 }, scale].into_iter().chain(groups) {
        out.extend_from_slice(&word.to_be_bytes());
    }
    Ok(())
}

/// What is missing to whole groups of four.
fn pad(len: usize) -> usize {
    (4 - len % 4) % 4
}

/// A value out of its column's binary form. The error says what is wrong, without the value.
pub(super) fn take(raw: &[u8], form: Form) -> Result<Value, String> {
    fn fixed<const N: usize>(raw: &[u8]) -> Result<[u8; N], String> {
        raw.try_into().map_err(|_| "a value has an unknown length".to_owned())
    }
    let text = |raw: &[u8]| String::from_utf8(raw.to_vec()).map_err(|_| "a text is not UTF-8".to_owned());
    Ok(match form {
        Form::Bool => Value::Bool(fixed::<1>(raw)?[0] != 0),
        Form::Int2 => Value::Int(i16::from_be_bytes(fixed(raw)?).into()),
        Form::Int4 => Value::Int(i32::from_be_bytes(fixed(raw)?).into()),
        Form::Int8 => Value::Int(i64::from_be_bytes(fixed(raw)?)),
        Form::Float8 => Value::Double(f64::from_be_bytes(fixed(raw)?)),
        Form::Numeric => Value::Decimal(take_numeric(raw)?),
        Form::Text => Value::Text(text(raw)?),
        Form::Uuid => Value::Uuid(Uuid::from_bytes(fixed(raw)?)),
        Form::Json => Value::Json(Json::from_bytes(raw).map_err(|error| error.message().to_owned())?),
        Form::Jsonb => match raw.split_first() {
            Some((&JSONB, rest)) => {
                Value::Json(Json::from_bytes(rest).map_err(|error| error.message().to_owned())?)
            }
            _ => return Err("unknown version of jsonb".to_owned()),
        },
        Form::Timestamptz => {
            let micros = i64::from_be_bytes(fixed(raw)?).saturating_add(EPOCH_MICROS);
            Value::Timestamp(Timestamp::from_micros(micros).map_err(|error| error.message().to_owned())?)
        }
        Form::Date => {
            let days = i64::from(i32::from_be_bytes(fixed(raw)?)) + EPOCH_DAYS;
            let micros = days.saturating_mul(86_400_000_000);
            Value::Date(Timestamp::from_micros(micros).map_err(|error| error.message().to_owned())?.date())
        }
        Form::Bytea => Value::Bytes(raw.to_vec()),
        Form::Vector => {
            let numbers = raw.get(4..).ok_or("a vector is too short")?;
            Value::Vector(
                numbers
                    .chunks_exact(4)
                    .map(|four| f32::from_be_bytes([four[0], four[1], four[2], four[3]]))
                    .collect(),
            )
        }
    })
}

fn take_numeric(raw: &[u8]) -> Result<String, String> {
    let words: Vec<i16> = raw.chunks_exact(2).map(|two| i16::from_be_bytes([two[0], two[1]])).collect();
    let [count, weight, sign, scale, groups @ ..] = &words[..] else {
        return Err("a decimal is too short".to_owned());
    };
    if (*sign != 0 && *sign != 0x4000) || usize::try_from(*count) != Ok(groups.len()) {
        return Err("a decimal is not a finite number".to_owned());
    }
    let group = |place: i32| {
        usize::try_from(place).ok().and_then(|place| groups.get(place)).copied().unwrap_or_default()
    };
    let weight = i32::from(*weight);
    let whole = digits((0..=weight).map(group));
    let whole = whole.trim_start_matches('0');
    let scale = usize::try_from(*scale).map_err(|_| "a decimal has a negative scale")?;
    let mut fraction = digits((weight + 1..).take(scale.div_ceil(4)).map(group));
    fraction.truncate(scale);
    Ok(format!(
        "{}{}{}{fraction}",
        if *sign == 0 { "" } else { "-" },
        if whole.is_empty() { "0" } else { whole },
        if scale == 0 { "" } else { "." }
    ))
}

/// Four digits a group.
fn digits(groups: impl Iterator<Item = i16>) -> String {
    groups.map(|group| format!("{group:04}")).collect::<Vec<_>>().concat()
}

/// A value as an argument of a statement.
#[derive(Debug)]
pub(super) struct Argument<'a>(pub &'a Value, pub Form);

impl ToSql for Argument<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        if *self.0 == Value::Null {
            return Ok(IsNull::Yes);
        }
        let mut bytes = Vec::new();
        put(&mut bytes, self.0, self.1)?;
        out.extend_from_slice(&bytes);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The bytes of a column as they came.
pub(super) struct Bytes<'a>(pub Option<&'a [u8]>);

impl<'a> FromSql<'a> for Bytes<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_keep_their_digits() {
        for text in [
            "0",
            "0.000",
            "1",
            "-1.50",
            "0.0001",
            "12345678.00012345",
            "10000",
            "0.3",
            "-0.030",
            "99999.9",
            "100000000",
        ] {
            let mut out = Vec::new();
            put_numeric(&mut out, text).unwrap();
            assert_eq!(take_numeric(&out).unwrap(), text);
        }
        for bad in ["", "1e5", "-", "NaN", "."] {
            assert!(put_numeric(&mut Vec::new(), bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_decimal_survives_its_binary_form(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?") {
            let mut out = Vec::new();
            put_numeric(&mut out, &text).unwrap();
            let back = take_numeric(&out).unwrap();
            let zero = text.bytes().all(|it| matches!(it, b'-' | b'0' | b'.'));
            prop_assert_eq!(back, if zero { text.trim_start_matches('-').to_owned() } else { text });
        }
    }
}
