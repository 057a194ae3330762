//! Canonical JSON: what is equal, what is refused, and that nothing else changes.

use changeover_core::{ErrorKind, Json};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::Value;

// X-MIG-016, X-EDGE-056, X-EDGE-057, E98: one text for one value.
#[rstest]
#[case(" { } ", "{}")]
#[case("[ 1 , 2 ]", "[1,2]")]
#[case(r#"{"b":1,"a":2,"B":3}"#, r#"{"B":3,"a":2,"b":1}"#)]
#[case(r#"{"a":1,"a":2,"a":3}"#, r#"{"a":3}"#)]
#[case(r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#)]
#[case("-0", "0")]
#[case("-0.0e5", "0")]
#[case("1.10", "1.1")]
#[case("1e2", "100")]
#[case("1.5e-3", "0.0015")]
#[case("100e-2", "1")]
#[case("-12.50", "-12.5")]
#[case("9007199254740993", "9007199254740993")]
#[case("123456789012345678901234567890.5", "123456789012345678901234567890.5")]
#[case("0e999999999999999999999999", "0")]
#[case(r#""\u00e9\ud83d\ude00\/""#, r#""é😀/""#)]
#[case(r#""\b\f\n\r\t\u001f\"\\""#, r#""\b\f\n\r\t\u001f\"\\""#)]
fn one_value_has_one_text(#[case] given: &str, #[case] canonical: &str) {
    let made = Json::parse(given).unwrap();
    assert_eq!(made.as_str(), canonical);
    assert_eq!(Json::parse(canonical).unwrap(), made);
}

// X-MIG-016, X-EDGE-051, X-EDGE-052, X-EDGE-108, E87: what cannot be stored alike everywhere.
#[rstest]
#[case(r#""\u0000""#)]
#[case(r#""\ud800""#)]
#[case(r#""\ud800x""#)]
#[case(r#""\ud800\u0041""#)]
#[case(r#""\udc00""#)]
#[case("")]
#[case("{")]
#[case("[1,]")]
#[case(r#"{"a":1,}"#)]
#[case("{'a':1}")]
#[case("01")]
#[case("+1")]
#[case(".5")]
#[case("1.")]
#[case("1e")]
#[case("NaN")]
#[case("Infinity")]
#[case("1 2")]
#[case("nul")]
#[case("\"a\nb\"")]
#[case("\u{feff}{}")]
#[case("1e1001")]
#[case("1e-1001")]
#[case("1e99999999999999999999999999")]
fn what_is_not_json_or_cannot_be_kept_is_refused(#[case] given: &str) {
    assert_eq!(Json::parse(given).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    assert_eq!(Json::from_bytes(b"\"\xff\"").unwrap_err().kind(), ErrorKind::Invalid);
}

// X-EDGE-058: nesting at the limit and one above.
#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Json::parse(&nested(Json::MAX_DEPTH)).is_ok());
    assert_eq!(Json::parse(&nested(Json::MAX_DEPTH + 1)).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(Json::parse(&"[".repeat(1_000_000)).unwrap_err().kind(), ErrorKind::Invalid);
}

// E83: the limit and one above, also when the text is short and the value long.
#[test]
fn size_is_bounded() {
    let text = |bytes: usize| format!("\"{}\"", "a".repeat(bytes - 2));
    assert!(Json::parse(&text(Json::MAX_BYTES)).is_ok());
    assert_eq!(Json::parse(&text(Json::MAX_BYTES + 1)).unwrap_err().kind(), ErrorKind::TooLarge);
    let numbers = format!("[{}1]", "1e999,".repeat(5_000));
    assert_eq!(Json::parse(&numbers).unwrap_err().kind(), ErrorKind::TooLarge);
}

// X-EDGE-056: the digits at the limit.
#[test]
fn numbers_are_exact_up_to_the_digit_limit() {
    for text in ["1e999", "-1e-1000"] {
        let made = Json::parse(text).unwrap();
        let digits = made.as_str().bytes().filter(u8::is_ascii_digit).count();
        assert!((Json::MAX_DIGITS..=Json::MAX_DIGITS + 1).contains(&digits), "{digits}");
    }
}

#[test]
fn debug_shows_no_payload() {
    assert_eq!(format!("{:?}", Json::parse(r#"{"password":"x"}"#).unwrap()), "Json(16 bytes)");
}

// The exact text survives serde, numbers included.
#[test]
fn serde_keeps_the_text() {
    let made = Json::parse(r#"{"n":123456789012345678901234567890.25,"s":"é"}"#).unwrap();
    let line = serde_json::to_string(&made).unwrap();
    assert_eq!(line, made.as_str());
    assert_eq!(serde_json::from_str::<Json>(&line).unwrap(), made);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |n| n.is_finite() && *n != 0.0).prop_map(Value::from),
        "[^\u{0}]*".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map("[^\u{0}]{0,6}", inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    // The value is the one another parser reads, and its text is a fixed point.
    #[test]
    fn canonical_text_keeps_the_value_and_is_stable(value in any_json()) {
        let made = Json::of(&value).unwrap();
        prop_assert_eq!(same(&made.to::<Value>().unwrap()), same(&value));
        prop_assert_eq!(Json::parse(made.as_str()).unwrap(), made.clone());
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(Json::parse(&pretty).unwrap(), made);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*") {
        let _ = Json::parse(&text);
    }

    #[test]
    fn json_like_text_makes_no_panic_and_agrees_with_another_parser(text in r#"[\[\]{}",:0-9eE.+\-\\u d8a-f ]{0,40}"#) {
        if let Ok(made) = Json::parse(&text) {
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{}", made);
        }
    }
}

/// Whole floats and integers are one value: `1.0` is written `1`.
fn same(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::from(number.as_f64()),
        Value::Array(items) => items.iter().map(same).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), same(value))).collect())
        }
        other => other.clone(),
    }
}
