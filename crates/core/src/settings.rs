//! What a backend can be told, as data: one description serves reading, checking, printing and documenting settings.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// One key that a backend understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingKey {
    /// The key below the backend's own, levels joined by a dot: `pool.max_size`. `session.NAME` stands for every key below
    /// `session`.
    pub key: &'static str,
    /// What may stand there.
    pub value: ValueKind,
    /// What holds if nothing is given; `None`: nothing.
    pub default: Option<&'static str>,
    /// Whether the backend cannot do without it.
    pub required: bool,
    /// Whether its value is never shown.
    pub secret: bool,
    /// One sentence for people.
    pub doc: &'static str,
}

impl SettingKey {
    /// Whether `key` is this key, or one of those it stands for.
    pub fn names(&self, key: &str) -> bool {
        match self.key.strip_suffix("NAME") {
            Some(before) => key.strip_prefix(before).is_some_and(|name| !name.is_empty()),
            None => self.key == key,
        }
    }
}

/// What may stand at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Any text but the empty one.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number within these bounds.
    Integer {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// A number and a unit, `250ms`, `30s`, `10m`, `1h`, above zero.
    Duration,
    /// A number from 0 to 1.
    Share,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text that is not empty"),
            Self::Bool => f.write_str("true or false"),
            Self::Integer { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Duration => f.write_str("a number and a unit like 250ms, 30s, 10m or 1h, above zero"),
            Self::Share => f.write_str("a number from 0 to 1"),
            Self::OneOf(words) => write!(f, "one of {}", words.join(", ")),
        }
    }
}

impl ValueKind {
    /// Whether `value` may stand there.
    pub fn allows(self, value: &str) -> bool {
        match self {
            Self::Text => !value.is_empty() && !value.contains('\0'),
            Self::Bool => matches!(value, "true" | "false"),
            Self::Integer { min, max } => value.parse::<i64>().is_ok_and(|n| (min..=max).contains(&n)),
            Self::Duration => parse_duration(value).is_some(),
            Self::Share => value.parse::<f64>().is_ok_and(|share| (0.0..=1.0).contains(&share)),
            Self::OneOf(words) => words.contains(&value),
        }
    }
}

/// The settings of one backend: text by key, already without source and level. Shown with every value hidden.
#[derive(Clone, Default)]
pub struct BackendSettings {
    name: String,
    values: BTreeMap<String, String>,
}

impl BackendSettings {
    /// Settings of the backend `name`, none yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), values: BTreeMap::new() }
    }

    /// The name of the backend, as in `[backends.NAME]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same with `key` set.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.values.insert(key.to_owned(), value.into());
        self
    }

    /// Every mistake against `keys`: unknown, missing and bad ones, each with key, found (if no secret) and allowed.
    pub fn problems(&self, keys: &[SettingKey]) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, value) in &self.values {
            let Some(known) = keys.iter().find(|known| known.names(key)) else {
                let names: Vec<_> = keys.iter().map(|known| known.key).collect();
                problems.push(format!("{key}: unknown key; allowed are {}", names.join(", ")));
                continue;
            };
            if !known.value.allows(value) {
                let found = if known.secret { "a hidden value".to_owned() } else { format!("{value:?}") };
                problems.push(format!("{key}: found {found}, allowed is {}", known.value));
            }
        }
        for known in keys {
            if known.required && known.default.is_none() && !self.values.contains_key(known.key) {
                problems.push(format!("{}: missing; {}", known.key, known.doc));
            }
        }
        problems
    }

    /// All of [`BackendSettings::problems`] as one `Config` error.
    pub fn check(&self, keys: &[SettingKey]) -> Result<()> {
        let problems = self.problems(keys);
        if problems.is_empty() {
            return Ok(());
        }
        let lines: Vec<_> =
            problems.iter().map(|problem| format!("backends.{}.{problem}", self.name)).collect();
        Err(Error::new(ErrorKind::Config, lines.join("\n")))
    }

    /// The text at `key`, else the default of `keys`.
    pub fn text<'a>(&'a self, keys: &'a [SettingKey], key: &str) -> Option<&'a str> {
        let given = self.values.get(key).map(String::as_str);
        given.or_else(|| keys.iter().find(|known| known.key == key)?.default)
    }

    /// What is given below `section`, by name: of `session.lock_timeout` below `session`, `lock_timeout`.
    pub fn below<'a>(&'a self, section: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let entries = self.values.iter();
        entries.filter_map(move |(key, value)| {
            Some((key.strip_prefix(section)?.strip_prefix('.')?, value.as_str()))
        })
    }

    /// The number at `key`. `Config` if there is none or it is not a number.
    pub fn integer(&self, keys: &[SettingKey], key: &str) -> Result<i64> {
        self.text(keys, key).and_then(|text| text.parse().ok()).ok_or_else(|| self.bad(key, "a whole number"))
    }

    /// The truth value at `key`. `Config` if there is none.
    pub fn bool(&self, keys: &[SettingKey], key: &str) -> Result<bool> {
        self.text(keys, key).and_then(|text| text.parse().ok()).ok_or_else(|| self.bad(key, "true or false"))
    }

    /// The duration at `key`. `Config` if there is none.
    pub fn duration(&self, keys: &[SettingKey], key: &str) -> Result<Duration> {
        self.text(keys, key)
            .and_then(parse_duration)
            .ok_or_else(|| self.bad(key, "a number and a unit like 30s"))
    }

    /// The share at `key`. `Config` if there is none.
    pub fn share(&self, keys: &[SettingKey], key: &str) -> Result<f64> {
        self.text(keys, key)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.bad(key, "a number from 0 to 1"))
    }

    /// A `Config` error that names `key` of this backend.
    pub fn bad(&self, key: &str, problem: &str) -> Error {
        Error::new(ErrorKind::Config, format!("backends.{}.{key}: {problem}", self.name))
    }
}

impl fmt::Debug for BackendSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.values.keys().collect();
        f.debug_struct("BackendSettings").field("name", &self.name).field("keys", &keys).finish()
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..unit].parse().ok()?;
    let millis = match &text[unit..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let total = number.checked_mul(millis)?;
    (total > 0).then(|| Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[SettingKey] = &[
        SettingKey {
            key: "url",
            value: ValueKind::Text,
            default: None,
            required: true,
            secret: true,
            doc: "where the server is",
        },
        SettingKey {
            key: "pool.max_size",
            value: ValueKind::Integer { min: 1, max: 100 },
            default: Some("10"),
            required: false,
            secret: false,
            doc: "most connections",
        },
    ];

    // S2-CFG-004, X8: all mistakes at once, each with key, found, allowed; secrets hidden (S0-SEC-003).
    #[test]
    fn all_mistakes_are_reported_at_once_and_secrets_stay_hidden() {
        let settings =
            BackendSettings::new("main").with("pool.max_size", "many").with("ulr", "x").with("url", "");
        let error = settings.check(KEYS).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(
            error.message(),
            "backends.main.pool.max_size: found \"many\", allowed is a whole number from 1 to 100\n\
             backends.main.ulr: unknown key; allowed are url, pool.max_size\n\
             backends.main.url: found a hidden value, allowed is text that is not empty"
        );
        assert_eq!(BackendSettings::new("main").integer(KEYS, "pool.max_size").unwrap(), 10);
        let shown = format!("{:?}", BackendSettings::new("main").with("url", "postgres://u:secret@h/d"));
        assert!(!shown.contains("secret"), "{shown}");
    }

    // S2-TEN-007: one key that stands for many.
    #[test]
    fn a_key_may_stand_for_every_name_below_it() {
        let key = SettingKey { key: "session.NAME", required: false, secret: false, ..KEYS[0] };
        assert!(key.names("session.lock_timeout") && key.names("session.app.unit"));
        assert!(!key.names("session.") && !key.names("session") && !key.names("sessions.x"));
        let settings =
            BackendSettings::new("main").with("session.b", "2").with("session.a", "").with("url", "x");
        assert_eq!(settings.below("session").collect::<Vec<_>>(), [("a", ""), ("b", "2")]);
        assert_eq!(
            settings.problems(&[key, KEYS[0]]),
            ["session.a: found \"\", allowed is text that is not empty"]
        );
    }

    #[test]
    fn shares_are_of_one() {
        for (text, allowed) in
            [("0", true), ("0.25", true), ("1", true), ("1.01", false), ("-0.1", false), ("NaN", false)]
        {
            assert_eq!(ValueKind::Share.allows(text), allowed, "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_are_above_zero() {
        for (text, expected) in
            [("250ms", Some(250)), ("30s", Some(30_000)), ("10m", Some(600_000)), ("1h", Some(3_600_000))]
        {
            assert_eq!(parse_duration(text).map(|d| d.as_millis()), expected);
        }
        for bad in
            ["", "0s", "30", "s", "-1s", "1d", "1.5s", "99999999999999999999s", "18446744073709551615h"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
