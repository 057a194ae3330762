//! Text and numbers that are checked when they are made, so that every database is given the same.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};

/// Checks one text value: not empty, no NUL, at most `max` characters (characters, not bytes).
fn check(field: &str, value: &str, max: usize) -> Result<()> {
    if value.is_empty() {
        return Err(Error::invalid(format!("{field} is empty, 1 to {max} characters are allowed")));
    }
    if let Some(at) = value.find('\0') {
        return Err(Error::invalid(format!(
            "{field} holds a NUL character at byte {at}, which cannot be stored"
        )));
    }
    let found = value.chars().count();
    if found > max {
        return Err(Error::invalid(format!("{field} has {found} characters, at most {max} are allowed")));
    }
    Ok(())
}

/// Text of 1 to `MAX` characters without NUL. The bytes are kept as given: no trimming, no normalisation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Text<const MAX: usize>(Box<str>);

impl<const MAX: usize> Text<MAX> {
    /// Checks and takes `value`; `field` names it in the error.
    pub fn new(field: &str, value: impl Into<String>) -> Result<Self> {
        let value = value.into();
        check(field, &value, MAX)?;
        Ok(Self(value.into()))
    }

    /// As [`Text::new`], where an empty string means absent.
    pub fn optional(field: &str, value: Option<impl Into<String>>) -> Result<Option<Self>> {
        match value.map(Into::into) {
            Some(value) if !value.is_empty() => Self::new(field, value).map(Some),
            _ => Ok(None),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new("text", String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A name with a type of its own: [`Text`] plus what only that name demands.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:literal, $field:literal, $extra:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Text<$max>);

        impl $name {
            #[doc = concat!("Checks and takes a name of 1 to ", $max, " characters.")]
            pub fn new(value: impl Into<String>) -> Result<Self> {
                let text = Text::new($field, value)?;
                $extra($field, text.as_str())?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// The kind of aggregate a stream belongs to, also its category.
    AggregateType, 255, "aggregate_type", any
);
name!(
    /// The type of an event.
    EventType, 255, "event_type", any
);
name!(
    /// Whose records these are. Bound as a value in every statement, never spliced into one.
    TenantId, 255, "tenant", any
);
name!(
    /// A consumer whose progress is tracked.
    ConsumerName, 255, "consumer", any
);
name!(
    /// A module of the service, as in the settings: `events`, `scheduler`.
    ModuleName, 40, "module", identifier
);
name!(
    /// What keeps the tables of a user's own module apart: a schema prefix or a table prefix.
    Namespace, 40, "namespace", identifier
);

#[expect(clippy::unnecessary_wraps, reason = "stands where `identifier` stands")]
fn any(_field: &str, _value: &str) -> Result<()> {
    Ok(())
}

/// Lower-case letters, digits and underscores, a letter first: valid unquoted in both databases.
fn identifier(field: &str, value: &str) -> Result<()> {
    let first = value.starts_with(|c: char| c.is_ascii_lowercase());
    let rest = value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if first && rest {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{field} {value:?} is not allowed: use a-z, 0-9 and _, beginning with a letter"
    )))
}

/// How many records a page may hold: 1 to [`Limit::MAX`]. Never clamped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(u32);

impl Limit {
    /// The largest page.
    pub const MAX: u32 = 10_000;

    /// Checks `limit`.
    pub fn new(limit: i64) -> Result<Self> {
        match u32::try_from(limit) {
            Ok(found @ 1..=Self::MAX) => Ok(Self(found)),
            _ => Err(Error::invalid(format!("limit is {limit}, 1 to {} are allowed", Self::MAX))),
        }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for Limit {
    /// 500 records.
    fn default() -> Self {
        Self(500)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    // E85, E87: empty, maximum, one above, NUL.
    #[test]
    fn text_is_checked_when_it_is_made() {
        for (value, ok) in [
            (String::new(), false),
            ("a".into(), true),
            ("é".repeat(255), true),
            ("é".repeat(256), false),
            ("a\0b".into(), false),
        ] {
            match EventType::new(value.clone()) {
                Ok(made) => assert!(ok && made.as_str() == value),
                Err(error) => assert!(!ok && error.kind() == ErrorKind::Invalid, "{error}"),
            }
        }
    }

    #[test]
    fn modules_are_identifiers_in_both_databases() {
        assert!(ModuleName::new("events_2").is_ok());
        for bad in ["Events", "2events", "a-b", "a b", "a\"b", "é"] {
            assert_eq!(ModuleName::new(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    // X-EDGE-063
    #[test]
    fn limits_are_refused_outside_of_their_range() {
        for bad in [0, -1, i64::from(Limit::MAX) + 1, i64::MAX, i64::MIN] {
            assert_eq!(Limit::new(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
        assert_eq!(Limit::new(1).unwrap().get(), 1);
        assert_eq!(Limit::new(i64::from(Limit::MAX)).unwrap().get(), Limit::MAX);
    }

    proptest! {
        #[test]
        fn text_keeps_its_bytes_or_is_refused(value in ".*") {
            let fits = !value.is_empty() && !value.contains('\0') && value.chars().count() <= 20;
            match Text::<20>::new("field", value.clone()) {
                Ok(made) => prop_assert!(fits && made.as_str() == value),
                Err(_) => prop_assert!(!fits),
            }
        }
    }
}
