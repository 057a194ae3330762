//! What a witness of the old store saw, as a value of the declared type.

use std::collections::BTreeSet;
use std::ops::RangeBounds;

use changeover_core::Json;
use changeover_core::cutover::{Column, Raw, TimeUnit, Type};

use super::calendar;
use super::canon::{Canon, decimal};
use super::losses;

/// Storage class and bytes; `None` for null.
pub(super) type Seen = Option<(&'static str, Vec<u8>)>;

/// Losses that were accepted by name; each that was not makes the value one that the declaration does not allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted(BTreeSet<String>);

impl Accepted {
    pub(super) fn of(names: &BTreeSet<String>) -> Self {
        Self(names.clone())
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// The value, or [`Canon::Bad`] where the declaration does not allow what is there.
pub(super) fn decode(column: &Column, seen: &Seen, accepted: &Accepted) -> Canon {
    let Some((class, bytes)) = seen else {
        return match &column.null_becomes {
            Some(value) => Canon::of(value),
            None if column.nullable => Canon::Null,
            None => bad("null", &[]),
        };
    };
    typed(&column.to, class, bytes, accepted).unwrap_or_else(|| bad(class, bytes))
}

/// A value that the declaration does not allow.
pub(super) fn bad(class: &str, bytes: &[u8]) -> Canon {
    Canon::Bad([b"old ", class.as_bytes(), b" ", bytes].concat())
}

/// The same as a key is given to the source; `None` for what no witness says.
pub(super) fn raw(seen: &Seen) -> Option<Raw> {
    let Some((class, bytes)) = seen else { return Some(Raw::Null) };
    let text = || std::str::from_utf8(bytes).ok();
    Some(match *class {
        "null" => Raw::Null,
        "integer" => Raw::Integer(text()?.parse().ok()?),
        "real" => Raw::Real(text()?.parse().ok()?),
        "text" => Raw::Text(bytes.clone()),
        "blob" => Raw::Blob(bytes.clone()),
        _ => return None,
    })
}

/// What a witness would say of a raw value.
pub(super) fn seen(raw: &Raw) -> Seen {
    let bytes = match raw {
        Raw::Null => return None,
        Raw::Integer(number) => number.to_string().into_bytes(),
        Raw::Real(number) => format!("{number:?}").into_bytes(),
        Raw::Text(bytes) | Raw::Blob(bytes) => bytes.clone(),
    };
    Some((raw.class(), bytes))
}

fn typed(to: &Type, class: &str, bytes: &[u8], accepted: &Accepted) -> Option<Canon> {
    let text = || (class == "text").then(|| std::str::from_utf8(bytes).ok())?;
    let blob = || (class == "blob").then_some(bytes);
    let integer = || (class == "integer").then(|| std::str::from_utf8(bytes).ok()?.parse::<i64>().ok())?;
    let real = || {
        let number: f64 = (class == "real").then(|| std::str::from_utf8(bytes).ok()?.parse().ok())??;
        number.is_finite().then_some(number)
    };
    Some(match to {
        Type::Text { max, not_empty, words } => {
            let number = if accepted.has("numbers_as_text") {
                let whole = integer().map(|number| number.to_string());
                whole.or_else(|| real().map(|number| format!("{number:?}")))
            } else {
                None
            };
            let text = number.as_deref().or_else(text)?;
            let fits = !text.contains('\0')
                && (text.len() <= *max || text.chars().count() <= *max)
                && !(*not_empty && text.is_empty())
                && (words.is_empty() || words.iter().any(|word| word == text));
            Canon::Text(fits.then(|| text.to_owned())?)
        }
        Type::Uuid => match class {
            "blob" => Canon::Uuid(bytes.try_into().ok()?),
            _ if accepted.has("uuid_spellings") => {
                Canon::Uuid(uuid::Uuid::try_parse(text()?).ok()?.into_bytes())
            }
            _ => Canon::Uuid(uuid_in_one_case(text()?)?),
        },
        Type::Int { min, max } => Canon::Int(integer().filter(|found| (min..=max).contains(&found))?),
        Type::Bool => match integer()? {
            0 => Canon::Bool(false),
            1 => Canon::Bool(true),
            _ => return None,
        },
        Type::Double => match class {
            "integer" => Canon::Double(whole(integer()?)?.to_bits()),
            _ => Canon::Double(real()?.to_bits()),
        },
        Type::Decimal { precision, scale } => {
            let digits = match class {
                "integer" => integer()?.to_string(),
                // The shortest digits that read back to the same number, and no exponent.
                "real" => format!("{}", real()?),
                _ => text().filter(|text| !is_padded(text))?.to_owned(),
            };
            let zero = decimal(&digits).is_some_and(|digits| digits == "0");
            if zero && digits.starts_with('-') && !accepted.has("negative_zero") {
                return None;
            }
            Canon::Decimal(decimal(&digits).filter(|digits| decimal_fits(digits, *precision, *scale))?)
        }
        Type::Json { object } => json(text()?, *object, accepted)?,
        Type::Timestamp(unit) => Canon::Timestamp(match unit {
            TimeUnit::Text { zoneless, epoch_digits } => {
                let number = (class == "integer" && accepted.has("epoch_times")).then(&integer).flatten();
                match number {
                    Some(number) => epoch_digits_of(number)?,
                    None => text_time(text()?, *zoneless, *epoch_digits, accepted)?,
                }
            }
            TimeUnit::Seconds => epoch(integer()?, 1_000_000, ..100_000_000_000, accepted)?,
            TimeUnit::Millis => epoch(integer()?, 1_000, 100_000_000_000..100_000_000_000_000, accepted)?,
            TimeUnit::Micros => epoch(integer()?, 1, 100_000_000_000_000.., accepted)?,
        }),
        Type::Date => {
            let text = text()?;
            let days = calendar::date(text.as_bytes()).filter(|_| !text.starts_with("0000"))?;
            Canon::Date(i32::try_from(days).ok()?)
        }
        Type::Bytes { len } => {
            let bytes = blob().filter(|bytes| len.is_none_or(|len| len == bytes.len()))?;
            Canon::Bytes(bytes.to_vec())
        }
        Type::Vector { dims } => {
            let bytes = blob().filter(|bytes| dims.checked_mul(4) == Some(bytes.len()))?;
            let bits: Vec<_> =
                bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            let finite = bits.iter().all(|bits| f32::from_bits(*bits).is_finite());
            Canon::Vector(finite.then_some(bits)?)
        }
    })
}

/// Hyphenated, all in lower or all in upper case.
fn uuid_in_one_case(text: &str) -> Option<[u8; 16]> {
    let id = uuid::Uuid::try_parse(text).ok()?.hyphenated();
    let mut buffer = uuid::Uuid::encode_buffer();
    let is_one = *text == *id.encode_lower(&mut buffer) || *text == *id.encode_upper(&mut buffer);
    is_one.then(|| id.into_uuid().into_bytes())
}

/// A whole number that a double holds exactly.
fn whole(number: i64) -> Option<f64> {
    (number.unsigned_abs() <= 1 << 53).then(|| number.to_string().parse().ok())?
}

fn decimal_fits(digits: &str, precision: u32, scale: u32) -> bool {
    let digits = digits.trim_start_matches('-');
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = if whole == "0" { 0 } else { whole.len() };
    let (precision, scale) = (precision as usize, scale as usize);
    fraction.len() <= scale && whole <= precision.saturating_sub(scale)
}

fn json(text: &str, object: bool, accepted: &Accepted) -> Option<Canon> {
    let json = Json::parse(text).ok()?;
    if object && !json.is_object() {
        return None;
    }
    // What is canonical already has lost nothing.
    if json.as_str() != text {
        let lost = losses::of_json(text);
        if (lost.duplicate_keys && !accepted.has("json_duplicate_keys"))
            || (lost.negative_zero && !accepted.has("json_negative_zero"))
        {
            return None;
        }
    }
    Some(Canon::Json(json))
}

/// A number with zeros before it that say nothing.
fn is_padded(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    matches!(digits, [b'0', b'0'..=b'9', ..])
}

/// A number of a declared unit. One of a size that is usual for another unit is none, unless that was accepted.
fn epoch(number: i64, unit: i64, usual: impl RangeBounds<i64>, accepted: &Accepted) -> Option<i64> {
    let size = number.checked_abs()?;
    if !usual.contains(&size) && !accepted.has("epoch_magnitudes") {
        return None;
    }
    calendar::in_range(number.checked_mul(unit)?)
}

/// A number of seconds, or of milliseconds if it is that large.
fn epoch_digits_of(number: i64) -> Option<i64> {
    let unit = if number < 100_000_000_000 { 1_000_000 } else { 1_000 };
    calendar::in_range(number.checked_mul(unit).filter(|_| number >= 0)?)
}

/// RFC 3339; `YYYY-MM-DD HH:MM:SS` in UTC and digits alone where those are declared.
fn text_time(text: &str, zoneless: bool, epoch_digits: bool, accepted: &Accepted) -> Option<i64> {
    let bytes = text.as_bytes();
    if !bytes.is_empty() && bytes.len() <= 15 && bytes.iter().all(u8::is_ascii_digit) {
        let declared = epoch_digits || accepted.has("epoch_times");
        return epoch_digits_of(text.parse().ok().filter(|_| declared)?);
    }
    let seconds = calendar::date_and_time(bytes)?;
    if (zoneless || accepted.has("zoneless_times")) && bytes.len() == 19 && bytes[10] == b' ' {
        return calendar::in_range(seconds * 1_000_000);
    }
    if bytes.len() > 64 || !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    let (fraction, offset) = match bytes[19..].split_first() {
        Some((b'.', rest)) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            rest.split_at(digits)
        }
        _ => (&[][..], &bytes[19..]),
    };
    if !accepted.has("sub_microseconds") && fraction.iter().skip(6).any(|digit| *digit != b'0') {
        return None;
    }
    let micros = (0..6)
        .fold(0, |sum, place| sum * 10 + fraction.get(place).map_or(0, |digit| i64::from(digit - b'0')));
    calendar::in_range((seconds - offset_seconds(offset)?) * 1_000_000 + micros)
}

/// `Z`, or hours and minutes with their sign.
fn offset_seconds(offset: &[u8]) -> Option<i64> {
    let (sign, rest) = match offset {
        b"Z" | b"z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        // A minus of the typographers is one as well, as core reads it.
        [b'-', rest @ ..] | [0xe2, 0x88, 0x92, rest @ ..] => (-1, rest),
        _ => return None,
    };
    let [h0, h1, b':', m0, m1] = *rest else { return None };
    if ![h0, h1, m0, m1].iter().all(u8::is_ascii_digit) || h0 > b'2' || (h0 == b'2' && h1 > b'3') || m0 > b'5'
    {
        return None;
    }
    let two = |high: u8, low: u8| i64::from(high - b'0') * 10 + i64::from(low - b'0');
    Some(sign * (two(h0, h1) * 3_600 + two(m0, m1) * 60))
}
