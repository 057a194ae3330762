//! Raw values of the old store as JSON: exact, in one spelling each, and readable where they can be.

use changeover_core::cutover::{Raw, Reason};
use changeover_core::{Error, ErrorKind, Result, hex};
use serde_json::{Value as Document, json};

/// A key or a row.
pub(super) fn to_json(values: &[Raw]) -> Document {
    values.iter().map(one).collect()
}

fn one(raw: &Raw) -> Document {
    match raw {
        Raw::Null => Document::Null,
        Raw::Integer(number) => json!({ "integer": number }),
        Raw::Real(number) => json!({ "real": format!("{:016x}", number.to_bits()) }),
        Raw::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => json!({ "text": text }),
            _ => json!({ "text_hex": hex(bytes) }),
        },
        Raw::Blob(bytes) => json!({ "blob": hex(bytes) }),
    }
}

pub(super) fn from_json(document: &Document) -> Result<Vec<Raw>> {
    document.as_array().and_then(|values| values.iter().map(back).collect()).ok_or_else(unreadable)
}

fn back(value: &Document) -> Option<Raw> {
    if value.is_null() {
        return Some(Raw::Null);
    }
    let (class, value) = value.as_object()?.iter().next()?;
    Some(match &**class {
        "integer" => Raw::Integer(value.as_i64()?),
        "real" => Raw::Real(f64::from_bits(u64::from_str_radix(value.as_str()?, 16).ok()?)),
        "text" => Raw::Text(value.as_str()?.as_bytes().to_vec()),
        "text_hex" => Raw::Text(unhex(value.as_str()?)?),
        "blob" => Raw::Blob(unhex(value.as_str()?)?),
        _ => return None,
    })
}

pub(super) fn reasons_to_json(reasons: &[Reason]) -> Document {
    reasons
        .iter()
        .map(|it| json!({ "column": it.column, "hazard": it.hazard, "problem": it.problem }))
        .collect()
}

pub(super) fn reasons_from_json(document: &Document) -> Result<Vec<Reason>> {
    let one = |it: &Document| {
        Some(Reason {
            column: it.get("column")?.as_str()?.to_owned(),
            hazard: it.get("hazard")?.as_u64()?.try_into().ok()?,
            problem: it.get("problem")?.as_str()?.to_owned(),
        })
    };
    document.as_array().and_then(|all| all.iter().map(one).collect()).ok_or_else(unreadable)
}

pub(super) fn unreadable() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "what the schema cutover holds of the run is not in the form that this program knows; use the program that made it",
    )
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|it| it.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_raw_value_comes_back_as_it_was() {
        let values = vec![
            Raw::Null,
            Raw::Integer(i64::MIN),
            Raw::Integer(i64::MAX),
            Raw::Real(-0.0),
            Raw::Real(f64::INFINITY),
            Raw::Text("é \"\\ \u{10ffff}".into()),
            Raw::Text(b"a\0b".to_vec()),
            Raw::Text(vec![0xff, 0x61]),
            Raw::Blob(vec![0, 255, 16]),
            Raw::Blob(Vec::new()),
        ];
        let text = to_json(&values).to_string();
        let back = from_json(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(to_json(&back).to_string(), text);
        assert!(back.iter().zip(&values).all(|(a, b)| a.class() == b.class()));
        assert!(matches!(back[3], Raw::Real(zero) if zero.is_sign_negative()));
        assert_eq!(back[5..], values[5..]);
        for bad in ["1", "[1]", "[{\"blob\":\"0\"}]", "[{\"x\":1}]"] {
            assert!(from_json(&serde_json::from_str(bad).unwrap()).is_err(), "{bad}");
        }
    }
}
