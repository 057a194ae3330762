//! Numbers as decimals, never rounded.

use changeover_core::cutover::Raw;

use super::accepted::Loss;
use super::cell::{class, is_odd_number, utf8};
use super::notes::At;
use crate::hazards::number;

pub(super) fn convert(raw: &Raw, precision: u32, scale: u32, at: &mut At<'_>) -> Option<String> {
    let text = match raw {
        Raw::Integer(found) => found.to_string(),
        Raw::Real(found) if found.is_infinite() => return at.bad(number::INFINITE, "is infinite"),
        Raw::Real(found) => {
            if *found == 0.0
                && found.is_sign_negative()
                && !at.loses(Loss::NegativeZero, "is a negative zero")
            {
                return None;
            }
            // The shortest digits that are read as this very number, without an exponent.
            format!("{}", if *found == 0.0 { 0.0 } else { *found })
        }
        Raw::Text(bytes) => {
            let text = utf8(bytes, at)?;
            if !is_plain(text) {
                let hazard = if is_odd_number(bytes) { number::ODD_NUMBER } else { number::CLASS };
                return at.bad(hazard, "is text that is no plain decimal number");
            }
            let zero = text.starts_with('-') && text.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.'));
            if !zero {
                text.to_owned()
            } else if at.loses(Loss::NegativeZero, "is a negative zero") {
                text[1..].to_owned()
            } else {
                return None;
            }
        }
        Raw::Blob(_) | Raw::Null => return class(raw, number::CLASS, "a number", at),
    };
    let (whole, fraction) = digits(&text);
    if fraction > scale as usize || whole + (scale as usize) > precision as usize {
        let problem = format!("has more digits than decimal({precision}, {scale}) keeps");
        return at.bad(number::DIGITS, problem);
    }
    Some(text)
}

/// Digits with an optional sign and point, no padding, no exponent.
pub(super) fn is_plain(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').map_or((unsigned, None), |(a, b)| (a, Some(b)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && (whole == "0" || !whole.starts_with('0')) && fraction.is_none_or(digits)
}

/// How many digits count before and behind the point.
pub(super) fn digits(text: &str) -> (usize, usize) {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let whole = if whole == "0" { 0 } else { whole.len() };
    (whole, fraction.trim_end_matches('0').len())
}
