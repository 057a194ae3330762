//! Times and dates, in the one form that is declared.

use changeover_core::Timestamp;
use changeover_core::cutover::{Raw, TimeUnit};
use chrono::NaiveDate;

use super::accepted::Loss;
use super::cell::{class, utf8};
use super::notes::At;
use crate::hazards::number;

/// Below this a number is seconds, from this on milliseconds: 1973 in one unit, 5138 in the other.
const SECONDS_BELOW: i64 = 100_000_000_000;
const YEARS: &str = "is outside of the years 1 to 9999";

pub(super) fn timestamp(raw: &Raw, unit: TimeUnit, at: &mut At<'_>) -> Option<Timestamp> {
    match (unit, raw) {
        (TimeUnit::Text { zoneless, epoch_digits }, Raw::Text(bytes)) => {
            let text = utf8(bytes, at)?;
            if is_digits(text) {
                return digits(text.parse().unwrap_or(i64::MAX), epoch_digits, at);
            }
            rfc3339(text, zoneless, at)
        }
        (TimeUnit::Text { .. }, Raw::Integer(found)) if *found >= 0 => digits(*found, false, at),
        (TimeUnit::Text { .. }, _) => class(raw, number::TIME_UNIT, "RFC 3339 as text", at),
        (TimeUnit::Seconds, Raw::Integer(found)) => epoch(*found, 1_000_000, i64::MIN + 1..SECONDS_BELOW, at),
        (TimeUnit::Millis, Raw::Integer(found)) => {
            epoch(*found, 1_000, SECONDS_BELOW..SECONDS_BELOW * 1_000, at)
        }
        (TimeUnit::Micros, Raw::Integer(found)) => epoch(*found, 1, SECONDS_BELOW * 1_000..i64::MAX, at),
        (TimeUnit::Seconds | TimeUnit::Millis | TimeUnit::Micros, _) => {
            class(raw, number::TIME_UNIT, "an integer", at)
        }
    }
}

/// Digits as a program writes a number of seconds or milliseconds since 1970.
fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn digits(found: i64, declared: bool, at: &mut At<'_>) -> Option<Timestamp> {
    let problem = "is a number where RFC 3339 as text is declared";
    if declared {
        at.converted(number::TIME_UNIT, "is digits, read as seconds or milliseconds since 1970");
    } else if !at.loses(Loss::EpochTimes, problem) {
        return None;
    }
    let unit = if found < SECONDS_BELOW { 1_000_000 } else { 1_000 };
    let made = found.checked_mul(unit).and_then(|micros| Timestamp::from_micros(micros).ok());
    made.or_else(|| at.bad(number::YEAR, YEARS))
}

fn epoch(found: i64, unit: i64, usual: std::ops::Range<i64>, at: &mut At<'_>) -> Option<Timestamp> {
    let magnitude = found.checked_abs().unwrap_or(i64::MAX);
    let problem = "is a number of a size that is usual for another unit of time";
    if !usual.contains(&magnitude) && !at.loses(Loss::EpochMagnitudes, problem) {
        return None;
    }
    let made = found.checked_mul(unit).and_then(|micros| Timestamp::from_micros(micros).ok());
    made.or_else(|| at.bad(number::YEAR, YEARS))
}

/// RFC 3339; without an offset only as `CURRENT_TIMESTAMP` writes it, where that was declared or accepted.
fn rfc3339(text: &str, zoneless: bool, at: &mut At<'_>) -> Option<Timestamp> {
    if is_zoneless(text) {
        let utc = format!("{}Z", text.replacen(' ', "T", 1));
        let Ok(made) = Timestamp::parse(&utc) else { return refused(&utc, at) };
        // Only what CURRENT_TIMESTAMP writes is known to be UTC.
        let current_timestamp = text.len() == 19 && text.as_bytes()[10] == b' ';
        if current_timestamp && zoneless {
            at.converted(number::ZONELESS, "has no offset, which is declared to be UTC");
            return Some(made);
        }
        let problem = "is a time without an offset";
        if !current_timestamp {
            return at.bad(number::ZONELESS, problem);
        }
        return at.loses(Loss::ZonelessTimes, problem).then_some(made);
    }
    let Ok(made) = Timestamp::parse(text) else { return refused(text, at) };
    let rest = text.get(19..).unwrap_or_default();
    let fraction = rest
        .strip_prefix('.')
        .map_or("", |rest| rest.split_once(|c: char| !c.is_ascii_digit()).map_or(rest, |(digits, _)| digits));
    if fraction.len() > 6
        && fraction.as_bytes()[6..].iter().any(|digit| *digit != b'0')
        && !at.loses(Loss::SubMicroseconds, "has digits below a microsecond")
    {
        return None;
    }
    let offset = text.get(text.len().saturating_sub(6)..).unwrap_or_default();
    if offset.starts_with(['+', '-']) && &offset[1..] != "00:00" {
        at.converted(number::OFFSET, "has an offset, which is applied");
    }
    Some(made)
}

/// `YYYY-MM-DD`, a T or a space, `HH:MM:SS`, perhaps a fraction, and nothing more.
fn is_zoneless(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shaped = |at: usize, shape: &[u8]| {
        bytes.get(at..at + shape.len()).is_some_and(|found| {
            found.iter().zip(shape).all(|(byte, shape)| {
                if *shape == b'0' { byte.is_ascii_digit() } else { byte.eq_ignore_ascii_case(shape) }
            })
        })
    };
    let fraction = bytes.get(19..).unwrap_or_default();
    shaped(0, b"0000-00-00")
        && (shaped(10, b"T") || shaped(10, b" "))
        && shaped(11, b"00:00:00")
        && (fraction.is_empty() || (fraction[0] == b'.' && fraction[1..].iter().all(u8::is_ascii_digit)))
}

/// Why a text is no time that is stored.
fn refused<T>(text: &str, at: &mut At<'_>) -> Option<T> {
    let clock = text.get(11..19).unwrap_or_default();
    let year = text.find('-').map(|end| &text[..end]).unwrap_or_default();
    if text.starts_with(['-', '+']) || text.starts_with("0000-") || (year.len() > 4 && is_digits(year)) {
        return at.bad(number::YEAR, YEARS);
    }
    if clock.starts_with("24:") {
        return at.bad(number::HOUR_24, "has the hour 24");
    }
    if clock.ends_with(":60") {
        return at.bad(number::NO_DATE, "has a leap second");
    }
    let dated = text.get(..10).is_some_and(|date| is_date(date) && date.parse::<NaiveDate>().is_err());
    if dated {
        return at.bad(number::NO_DATE, "has a date that is not in the calendar");
    }
    let years = text.len() >= 20 && (text.starts_with("0001-01-01") || text.starts_with("9999-12-31"));
    if years && chrono::DateTime::parse_from_rfc3339(text).is_ok() {
        return at.bad(number::YEAR, YEARS);
    }
    if text.parse::<f64>().is_ok() {
        return at.bad(number::TIME_UNIT, "is a number where RFC 3339 is declared");
    }
    at.bad(number::NO_DATE, "is not a time; allowed is RFC 3339, like 2024-01-31T12:00:00.5Z")
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

pub(super) fn date(raw: &Raw, at: &mut At<'_>) -> Option<NaiveDate> {
    let Raw::Text(bytes) = raw else { return class(raw, number::TIME_UNIT, "YYYY-MM-DD as text", at) };
    let text = utf8(bytes, at)?;
    if !is_date(text) {
        return at.bad(number::NO_DATE, "is not a date; allowed is YYYY-MM-DD");
    }
    if text.starts_with("0000") {
        return at.bad(number::YEAR, YEARS);
    }
    let date = text.parse().ok();
    date.or_else(|| at.bad(number::NO_DATE, "is a date that is not in the calendar"))
}
