//! JSON as a value in one canonical text, so that two databases cannot disagree about it.
//!
//! Canonical: no white space, keys sorted by their bytes, the last of duplicate keys wins, strings with the shortest
//! escapes, numbers as exact decimals without exponent, trailing zeros or a negative zero. The parser is our own since
//! no library keeps numbers exact without changing how the whole program reads JSON, and since this text is what
//! digests and hash chains are over.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// A JSON value in canonical text. It is ordered as that text is, by bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json(Box<str>);

impl Json {
    /// The largest canonical text, in bytes.
    pub const MAX_BYTES: usize = 4 * 1024 * 1024;
    /// The deepest nesting of arrays and objects.
    pub const MAX_DEPTH: usize = 128;
    /// The most digits of a number written out.
    pub const MAX_DIGITS: usize = 1_000;

    /// The value written by `text`. `Invalid` for anything but RFC 8259 JSON, NUL and lone surrogates in strings,
    /// numbers of more than [`Json::MAX_DIGITS`] digits and nesting beyond [`Json::MAX_DEPTH`]; `TooLarge` for a
    /// canonical text above [`Json::MAX_BYTES`].
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser { bytes: text.as_bytes(), text, at: 0, depth: 0 };
        let mut out = String::with_capacity(text.len().min(Self::MAX_BYTES));
        parser.skip_space();
        parser.value(&mut out)?;
        parser.skip_space();
        if parser.at < parser.bytes.len() {
            return Err(parser.refuse("text after the end of the value"));
        }
        Ok(Self(out.into()))
    }

    /// As [`Json::parse`], of bytes that must be UTF-8.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            Error::invalid(format!("JSON is not UTF-8 from byte {}", error.valid_up_to()))
        })?;
        Self::parse(text)
    }

    /// The value that serde makes of `value`. NaN and infinities become null there and are refused by the types that
    /// demand objects.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let text = serde_json::to_string(value)
            .map_err(|error| Error::invalid(format!("the value cannot be written as JSON: {error}")))?;
        Self::parse(&text)
    }

    /// `{}`.
    pub fn empty() -> Self {
        Self("{}".into())
    }

    /// An object of members whose values are canonical already. What is in it was checked, so neither size nor depth
    /// is bounded again.
    pub(crate) fn object(members: &BTreeMap<&str, String>) -> Self {
        let mut out = String::from("{");
        for (key, value) in members {
            if out.len() > 1 {
                out.push(',');
            }
            write_string(key, &mut out);
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
        Self(out.into())
    }

    /// The canonical text of a string.
    pub(crate) fn quoted(text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 2);
        write_string(text, &mut out);
        out
    }

    /// Reads the value into a type.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.0).map_err(|error| {
            // Serde's message may quote a value; its place in the text does not.
            Error::invalid(format!(
                "the JSON does not fit the type ({:?} at line {} column {})",
                error.classify(),
                error.line(),
                error.column()
            ))
        })
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }

    /// Whether the value is null.
    pub fn is_null(&self) -> bool {
        &*self.0 == "null"
    }

    /// SHA-256 of the canonical text.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl AsRef<str> for Json {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Shows the size only: payloads do not belong in logs.
impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Through `RawValue`, so that numbers stay exact.
        let raw: &serde_json::value::RawValue =
            serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get()).map_err(serde::de::Error::custom)
    }
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn refuse(&self, what: &str) -> Error {
        Error::invalid(format!("JSON: {what} at byte {}", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.refuse(what))
    }

    fn value(&mut self, out: &mut String) -> Result<()> {
        match self.peek() {
            Some(b'{') => self.nested(out, Self::object)?,
            Some(b'[') => self.nested(out, Self::array)?,
            Some(b'"') => {
                let string = self.string()?;
                write_string(&string, out);
            }
            Some(b'-' | b'0'..=b'9') => self.number(out)?,
            _ => {
                let rest = &self.bytes[self.at..];
                let word =
                    ["null", "true", "false"].into_iter().find(|word| rest.starts_with(word.as_bytes()));
                let word = word.ok_or_else(|| self.refuse("expected a value"))?;
                self.at += word.len();
                out.push_str(word);
            }
        }
        if out.len() > Json::MAX_BYTES {
            return Err(too_large(out.len()));
        }
        Ok(())
    }

    fn nested(&mut self, out: &mut String, inner: fn(&mut Self, &mut String) -> Result<()>) -> Result<()> {
        if self.depth == Json::MAX_DEPTH {
            return Err(self.refuse(&format!("nesting deeper than {} levels", Json::MAX_DEPTH)));
        }
        self.depth += 1;
        self.at += 1;
        inner(self, out)?;
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self, out: &mut String) -> Result<()> {
        out.push('[');
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            out.push(']');
            return Ok(());
        }
        loop {
            self.skip_space();
            self.value(out)?;
            self.skip_space();
            if self.peek() == Some(b',') {
                self.at += 1;
                out.push(',');
            } else {
                self.expect(b']', "expected ',' or ']'")?;
                out.push(']');
                return Ok(());
            }
        }
    }

    fn object(&mut self, out: &mut String) -> Result<()> {
        let mut members: Vec<(String, String)> = Vec::new();
        let mut size = out.len();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                self.skip_space();
                let key = self.string()?;
                self.skip_space();
                self.expect(b':', "expected ':'")?;
                self.skip_space();
                let mut value = String::new();
                self.value(&mut value)?;
                size += key.len() + value.len();
                if size > 2 * Json::MAX_BYTES {
                    // Duplicates may still fall away below this bound; above it the text is refused early.
                    return Err(too_large(size));
                }
                members.push((key, value));
                self.skip_space();
                if self.peek() == Some(b',') {
                    self.at += 1;
                } else {
                    self.expect(b'}', "expected ',' or '}'")?;
                    break;
                }
            }
        }
        // Stable, so of equal keys the last written stands last and wins.
        members.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        out.push('{');
        let mut first = true;
        for (index, (key, value)) in members.iter().enumerate() {
            if members.get(index + 1).is_some_and(|next| next.0 == *key) {
                continue;
            }
            if !first {
                out.push(',');
            }
            first = false;
            write_string(key, out);
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
        Ok(())
    }

    fn string(&mut self) -> Result<String> {
        self.expect(b'"', "expected '\"'")?;
        let mut out = String::new();
        loop {
            let plain = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            out.push_str(&self.text[plain..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                Some(_) => return Err(self.refuse("a control character in a string; write it as an escape")),
                None => return Err(self.refuse("a string without its end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let byte = self.peek().ok_or_else(|| self.refuse("a string without its end"))?;
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(self.refuse("an unknown escape")),
        })
    }

    fn unicode_escape(&mut self) -> Result<char> {
        let high = self.hex4()?;
        let code = match high {
            0 => return Err(self.refuse("a NUL character, which cannot be stored")),
            0xd800..=0xdbff => {
                if !self.bytes[self.at..].starts_with(b"\\u") {
                    return Err(self.refuse("a lone surrogate"));
                }
                self.at += 2;
                let low = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return Err(self.refuse("a lone surrogate"));
                }
                0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)
            }
            other => other,
        };
        char::from_u32(code).ok_or_else(|| self.refuse("a lone surrogate"))
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits =
            self.bytes.get(self.at..self.at + 4).ok_or_else(|| self.refuse("a string without its end"))?;
        let mut code = 0;
        for digit in digits {
            let value =
                char::from(*digit).to_digit(16).ok_or_else(|| self.refuse("four hex digits expected"))?;
            code = code * 16 + value;
        }
        self.at += 4;
        Ok(code)
    }

    fn digits(&mut self) -> Result<&str> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if start == self.at {
            return Err(self.refuse("expected a digit"));
        }
        Ok(&self.text[start..self.at])
    }

    fn number(&mut self, out: &mut String) -> Result<()> {
        let negative = self.peek() == Some(b'-');
        if negative {
            self.at += 1;
        }
        let whole = self.digits()?.to_owned();
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(self.refuse("a number with a leading zero"));
        }
        let mut fraction = String::new();
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?.clone_into(&mut fraction);
        }
        let mut exponent: i64 = 0;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let minus = self.peek() == Some(b'-');
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            // An exponent beyond this is out of range whatever it is, unless the number is zero.
            let size = self.digits()?.parse::<i64>().unwrap_or(i64::MAX / 2).min(i64::MAX / 2);
            exponent = if minus { -size } else { size };
        }
        let digits = format!("{whole}{fraction}");
        let leading = digits.len() - digits.trim_start_matches('0').len();
        let significant = digits.trim_matches('0');
        if significant.is_empty() {
            out.push('0');
            return Ok(());
        }
        // The value is 0.<significant> times ten to the power of `point`.
        let point = i64::try_from(whole.len()).unwrap_or(i64::MAX / 4) - i64::try_from(leading).unwrap_or(0)
            + exponent;
        let length = i64::try_from(significant.len()).unwrap_or(i64::MAX / 4);
        let expanded = if point <= 0 { length - point } else { length.max(point) };
        let Some(expanded) = usize::try_from(expanded).ok().filter(|found| *found <= Json::MAX_DIGITS) else {
            return Err(
                self.refuse(&format!("a number of more than {} digits written out", Json::MAX_DIGITS))
            );
        };
        out.reserve(expanded + 3);
        if negative {
            out.push('-');
        }
        match usize::try_from(point) {
            Ok(point) if point >= significant.len() => {
                out.push_str(significant);
                out.extend(std::iter::repeat_n('0', point - significant.len()));
            }
            Ok(point) if point > 0 => {
                out.push_str(&significant[..point]);
                out.push('.');
                out.push_str(&significant[point..]);
            }
            _ => {
                out.push_str("0.");
                out.extend(std::iter::repeat_n('0', expanded - significant.len()));
                out.push_str(significant);
            }
        }
        Ok(())
    }
}

fn too_large(found: usize) -> Error {
    Error::too_large("JSON", found as u64, Json::MAX_BYTES as u64, "bytes of canonical text")
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            0x0c => "\\f",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        if escape.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
        plain = at + 1;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}
