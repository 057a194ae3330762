//! What may be lost, because somebody said so by name.

use std::fmt;

use changeover_core::{Error, ErrorKind, Result};

use crate::hazards::number;

/// A loss that can be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Loss {
    /// Of a key that stands twice in a JSON object the last value is kept.
    JsonDuplicateKeys,
    /// `-0` in JSON becomes `0`.
    JsonNegativeZero,
    /// `-0.0` in a decimal column becomes `0`.
    NegativeZero,
    /// Digits below a microsecond are cut.
    SubMicroseconds,
    /// `YYYY-MM-DD HH:MM:SS` without an offset is UTC.
    ZonelessTimes,
    /// A number in a column of times as text is seconds since 1970 below 10^11, else milliseconds.
    EpochTimes,
    /// Seconds, milliseconds or microseconds that are so small or so large that they look like another unit are what the
    /// declaration says.
    EpochMagnitudes,
    /// A number in a text column becomes its digits.
    NumbersAsText,
    /// Ids in braces, without hyphens, as URN or in mixed case are what they spell.
    UuidSpellings,
    /// Columns of an old table that no declaration names stay behind.
    UndeclaredColumns,
}

impl Loss {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::JsonDuplicateKeys,
        Self::JsonNegativeZero,
        Self::NegativeZero,
        Self::SubMicroseconds,
        Self::ZonelessTimes,
        Self::EpochTimes,
        Self::EpochMagnitudes,
        Self::NumbersAsText,
        Self::UuidSpellings,
        Self::UndeclaredColumns,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JsonDuplicateKeys => "json_duplicate_keys",
            Self::JsonNegativeZero => "json_negative_zero",
            Self::NegativeZero => "negative_zero",
            Self::SubMicroseconds => "sub_microseconds",
            Self::ZonelessTimes => "zoneless_times",
            Self::EpochTimes => "epoch_times",
            Self::EpochMagnitudes => "epoch_magnitudes",
            Self::NumbersAsText => "numbers_as_text",
            Self::UuidSpellings => "uuid_spellings",
            Self::UndeclaredColumns => "undeclared_columns",
        }
    }

    /// Number of the hazard that it is about.
    pub fn hazard(self) -> u16 {
        match self {
            Self::JsonDuplicateKeys => number::DUPLICATE_KEY,
            Self::JsonNegativeZero | Self::NegativeZero => number::NEGATIVE_ZERO,
            Self::SubMicroseconds => number::SUB_MICROSECOND,
            Self::ZonelessTimes => number::ZONELESS,
            Self::EpochTimes | Self::EpochMagnitudes => number::TIME_UNIT,
            Self::NumbersAsText => number::NUMBER_AS_TEXT,
            Self::UuidSpellings => number::UUID_SPELLING,
            Self::UndeclaredColumns => number::COLUMNS,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The losses that are accepted; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted(u16);

impl Accepted {
    /// Those losses and no others.
    pub fn of(losses: &[Loss]) -> Self {
        Self(losses.iter().fold(0, |bits, loss| bits | 1 << *loss as u16))
    }

    /// By their names.
    ///
    /// # Errors
    ///
    /// `Config` names every unknown name and those allowed.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self> {
        let find = |name: &str| Loss::ALL.iter().copied().find(|loss| loss.as_str() == name);
        let unknown: Vec<_> = names
            .iter()
            .map(AsRef::as_ref)
            .filter(|name| find(name).is_none())
            .map(|name| format!("{name:?}"))
            .collect();
        if !unknown.is_empty() {
            let allowed: Vec<_> = Loss::ALL.iter().map(|loss| loss.as_str()).collect();
            return Err(Error::new(
                ErrorKind::Config,
                format!("{} cannot be accepted; allowed are {}", unknown.join(", "), allowed.join(", ")),
            ));
        }
        Ok(Self::of(&names.iter().filter_map(|name| find(name.as_ref())).collect::<Vec<_>>()))
    }

    /// Whether a loss is accepted.
    pub fn has(self, loss: Loss) -> bool {
        self.0 & (1 << loss as u16) != 0
    }

    /// The names, in the order of [`Loss::ALL`].
    pub fn names(self) -> Vec<&'static str> {
        Loss::ALL.iter().filter(|loss| self.has(**loss)).map(|loss| loss.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_is_accepted_by_its_name_and_an_unknown_name_is_refused_with_those_allowed() {
        for loss in Loss::ALL {
            let accepted = Accepted::parse(&[loss.as_str()]).unwrap();
            assert_eq!(accepted.names(), [loss.as_str()]);
            assert_eq!(Loss::ALL.iter().filter(|other| accepted.has(**other)).count(), 1);
        }
        let refused = Accepted::parse(&["rounding", "zoneless_times", "truncation"]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config);
        assert!(
            refused
                .message()
                .starts_with(r#""rounding", "truncation" cannot be accepted; allowed are json_"#)
        );
    }
}
