//! JSON as a value, and what of it would be lost.

use std::borrow::Cow;
use std::collections::HashSet;

use changeover_core::{ErrorKind, Json};

use super::accepted::Loss;
use super::notes::At;
use crate::hazards::number;

/// The value of a text.
pub(super) fn convert(text: &str, at: &mut At<'_>) -> Option<Json> {
    let value = match Json::parse(text) {
        Ok(value) => value,
        Err(error) => {
            let problem = error.message();
            let hazard = match error.kind() {
                ErrorKind::TooLarge => number::TOO_LARGE,
                _ if text.contains('\0') => number::NUL,
                _ if problem.contains("a NUL character") => number::JSON_NUL,
                _ if problem.contains("a lone surrogate") => number::JSON_SURROGATE,
                _ if problem.contains("digits written out") => number::JSON_NUMBER,
                _ => number::NOT_JSON,
            };
            return at.bad(hazard, problem);
        }
    };
    // Canonical text has lost nothing.
    if value.as_str() == text {
        return Some(value);
    }
    let lost = Losses::of(text);
    let keys =
        !lost.duplicate_keys || at.loses(Loss::JsonDuplicateKeys, "is JSON with a key twice in an object");
    let zeros = !lost.negative_zero || at.loses(Loss::JsonNegativeZero, "is JSON with a negative zero");
    (keys && zeros).then_some(value)
}

/// What canonical text does not keep of a valid one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Losses {
    duplicate_keys: bool,
    negative_zero: bool,
}

impl Losses {
    /// Of text that was parsed before.
    fn of(text: &str) -> Self {
        let mut lost = Self::default();
        let bytes = text.as_bytes();
        // Keys of each object that is open; `None` for an array.
        let mut open: Vec<Option<HashSet<Cow<'_, str>>>> = Vec::new();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'{' => open.push(Some(HashSet::new())),
                b'[' => open.push(None),
                b'}' | b']' => {
                    open.pop();
                }
                b'"' => {
                    let end = end_of_string(bytes, at);
                    let is_key = bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                    if is_key && let Some(Some(keys)) = open.last_mut() {
                        lost.duplicate_keys |= !keys.insert(unescaped(&text[at..end]));
                    }
                    at = end;
                    continue;
                }
                b'-' => {
                    let mut digits =
                        bytes[at + 1..].iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'.'));
                    lost.negative_zero |= digits.all(|byte| !matches!(byte, b'1'..=b'9'));
                    // The sign of an exponent is not that of a number.
                    let number = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                    at += bytes[at..].iter().take_while(number).count();
                    continue;
                }
                b'0'..=b'9' => {
                    let number = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                    at += bytes[at..].iter().take_while(number).count();
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        lost
    }
}

/// Behind the quote that ends the string that begins at `at`.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while let Some(byte) = bytes.get(end) {
        match byte {
            b'"' => return end + 1,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    bytes.len()
}

/// A string with its quotes as what it means.
fn unescaped(quoted: &str) -> Cow<'_, str> {
    if quoted.contains('\\') {
        return Cow::Owned(serde_json::from_str(quoted).unwrap_or_else(|_| quoted.to_owned()));
    }
    Cow::Borrowed(quoted.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // Hazards 10 and 19.
    #[rstest]
    #[case(r#"{ "a": 1, "b": {"a": 2}, "c": ["a", "a"] }"#, false, false)]
    #[case(r#"{"a": 1, "a": 1}"#, true, false)]
    #[case(r#"[{"x": {"a": 1, "\u0061": 2}}]"#, true, false)]
    #[case(r#"{"a\"": 1, "a\\": ":", "a": "}"}"#, false, false)]
    #[case(r"[-0]", false, true)]
    #[case(r"[-0.00e7, 1]", false, true)]
    #[case(r#"["-0", -1, 1e-0, -0.1, -10]"#, false, false)]
    fn only_what_is_lost_is_told(
        #[case] text: &str,
        #[case] duplicate_keys: bool,
        #[case] negative_zero: bool,
    ) {
        Json::parse(text).unwrap();
        assert_eq!(Losses::of(text), Losses { duplicate_keys, negative_zero });
    }
}
