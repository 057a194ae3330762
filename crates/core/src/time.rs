//! Instants that every database stores alike: UTC, microseconds, years 1 to 9999.

use std::fmt;
use std::time::SystemTime;

use chrono::{DateTime, NaiveDate, SecondsFormat, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// An instant in UTC, cut (not rounded) to microseconds when it is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self(-62_135_596_800_000_000);
    /// 9999-12-31T23:59:59.999999Z.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// From microseconds since 1970-01-01T00:00:00Z.
    pub fn from_micros(micros: i64) -> Result<Self> {
        if (Self::MIN.0..=Self::MAX.0).contains(&micros) {
            return Ok(Self(micros));
        }
        Err(Error::invalid("time is outside of the years 1 to 9999".to_owned()))
    }

    /// The clock of this machine.
    pub fn now() -> Self {
        let micros = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(Self::MAX.0),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(Self::MIN.0, |micros| -micros),
        };
        Self(micros.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// Parses RFC 3339 text; the offset is applied, digits below a microsecond are cut. Leap seconds, year 0, years
    /// above 9999, text without an offset and `infinity` are `Invalid`.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Error::invalid(format!(
                "{text:?} is not a time: {why}; allowed is RFC 3339, like 2024-01-31T12:00:00.5Z"
            ))
        };
        if text.len() > 64 {
            return Err(Error::invalid("a time of more than 64 characters; allowed is RFC 3339"));
        }
        let parsed = DateTime::parse_from_rfc3339(text).map_err(|error| refuse(&error.to_string()))?;
        if parsed.nanosecond() >= 1_000_000_000 {
            return Err(refuse("a leap second cannot be stored"));
        }
        Self::from_micros(parsed.timestamp_micros())
            .map_err(|_| refuse("it is outside of the years 1 to 9999"))
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// The date in UTC.
    pub fn date(self) -> NaiveDate {
        self.to_chrono().date_naive()
    }

    /// The same instant as chrono's.
    pub fn to_chrono(self) -> DateTime<Utc> {
        // Cannot fail: the range of `Timestamp` lies within chrono's; the default is never taken.
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

impl TryFrom<DateTime<Utc>> for Timestamp {
    type Error = Error;

    fn try_from(value: DateTime<Utc>) -> Result<Self> {
        if value.nanosecond() >= 1_000_000_000 {
            return Err(Error::invalid("a leap second cannot be stored"));
        }
        Self::from_micros(value.timestamp_micros())
    }
}

/// RFC 3339 in UTC with six digits: `2024-01-31T12:00:00.500000Z`. Text order is time order.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_chrono().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::ErrorKind;

    // E93, E94, X-EDGE-053, X-EDGE-054, X-EDGE-055
    #[rstest]
    #[case("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z")]
    #[case("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z")]
    #[case("2024-03-31T23:30:00.123456789-02:00", "2024-04-01T01:30:00.123456Z")]
    #[case("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999Z")]
    #[case("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z")]
    fn rfc3339_is_cut_to_microseconds_in_utc(#[case] text: &str, #[case] expected: &str) {
        let made = Timestamp::parse(text).unwrap();
        assert_eq!(made.to_string(), expected);
        assert_eq!(Timestamp::parse(expected).unwrap(), made);
    }

    #[rstest]
    #[case("infinity")]
    #[case("0000-01-01T00:00:00Z")]
    #[case("10000-01-01T00:00:00Z")]
    #[case("2016-12-31T23:59:60Z")]
    #[case("2024-02-30T00:00:00Z")]
    #[case("2024-01-01T24:00:00Z")]
    #[case("2024-01-01T00:00:00")]
    #[case("0001-01-01T00:00:00+01:00")]
    #[case("")]
    fn what_cannot_be_stored_exactly_is_refused(#[case] text: &str) {
        assert_eq!(Timestamp::parse(text).unwrap_err().kind(), ErrorKind::Invalid);
    }

    proptest! {
        #[test]
        fn every_instant_survives_its_text(micros in Timestamp::MIN.0..=Timestamp::MAX.0) {
            let made = Timestamp::from_micros(micros).unwrap();
            prop_assert_eq!(Timestamp::parse(&made.to_string()).unwrap(), made);
            prop_assert_eq!(Timestamp::try_from(made.to_chrono()).unwrap(), made);
        }

        #[test]
        fn text_order_is_time_order(a in Timestamp::MIN.0..=Timestamp::MAX.0, b in Timestamp::MIN.0..=Timestamp::MAX.0) {
            let (x, y) = (Timestamp(a), Timestamp(b));
            prop_assert_eq!(x.cmp(&y), x.to_string().cmp(&y.to_string()));
        }
    }
}
