//! What canonical JSON would drop of a text: names given twice, and negative zeros.

use std::collections::HashSet;

/// What a conversion to canonical text loses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct JsonLosses {
    pub(super) duplicate_keys: bool,
    pub(super) negative_zero: bool,
}

/// Looks through a text that is known to be valid JSON.
pub(super) fn of_json(text: &str) -> JsonLosses {
    let bytes = text.as_bytes();
    let mut found = JsonLosses::default();
    // The names of each object that is open; `None` for an array.
    let mut open: Vec<Option<HashSet<String>>> = Vec::new();
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
                let is_name = bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                if let (true, Some(Some(names))) = (is_name, open.last_mut()) {
                    // Two spellings of one name are the same name.
                    let name = serde_json::from_str(&text[at..end]).unwrap_or_default();
                    found.duplicate_keys |= !names.insert(name);
                }
                at = end;
                continue;
            }
            b'-' => {
                let end = bytes[at + 1..]
                    .iter()
                    .position(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
                    .map_or(bytes.len(), |length| at + 1 + length);
                let digits = bytes[at + 1..end].split(|byte| matches!(byte, b'e' | b'E')).next();
                let zero = digits.is_some_and(|digits| digits.iter().all(|byte| matches!(byte, b'0' | b'.')));
                found.negative_zero |= zero;
                at = end;
                continue;
            }
            // An exponent's sign never comes here: a number is passed over whole.
            b'0'..=b'9' => {
                at += 1;
                while bytes
                    .get(at)
                    .is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
                {
                    at += 1;
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Behind the closing quote of the string that begins at `at`.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // Hazards 10 and 19.
    #[rstest]
    #[case(r#"{"a":1,"b":{"a":2},"c":[{"a":1},{"a":2}]}"#, false, false)]
    #[case(r#"{"a":1,"a":1}"#, true, false)]
    #[case(r#"{"a":1,"\u0061" : 2}"#, true, false)]
    #[case(r#"[{"x":{"b":1,"c":"b","b":2}}]"#, true, false)]
    #[case(r#"["a","a"]"#, false, false)]
    #[case(r#"{"a":"a","b":"a:b \" :"}"#, false, false)]
    #[case("[-0]", false, true)]
    #[case("-0.00e-7", false, true)]
    #[case("[1e-0, -0.01, -10, 0, \"-0\"]", false, false)]
    fn what_canonical_text_would_drop_is_seen(#[case] text: &str, #[case] twice: bool, #[case] zero: bool) {
        assert_eq!(of_json(text), JsonLosses { duplicate_keys: twice, negative_zero: zero });
    }
}
