//! Where a reader of a log stands, as text that can be kept anywhere and outlives a cutover.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::error::{Error, Result};

/// The identity of a module's log. It travels with a cutover; a restore from backup makes a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId(pub Uuid);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// A point in a log. Its text, `c1.<log id>.<position>`, names its format, so that a later one can be told apart.
///
/// Positions rise in commit order and are not contiguous. Checkpoints of one log are ordered; those of two logs are
/// not comparable. Position 0 is before the first record.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    log: LogId,
    position: i64,
}

impl Checkpoint {
    /// A point in `log`. `Invalid` if the position is negative.
    pub fn new(log: LogId, position: i64) -> Result<Self> {
        if position < 0 {
            return Err(Error::invalid(format!("position {position} of a checkpoint is negative")));
        }
        Ok(Self { log, position })
    }

    /// Before the first record of `log`.
    pub fn start(log: LogId) -> Self {
        Self { log, position: 0 }
    }

    /// The log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// The position in the log.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The position, if the checkpoint is of this log; else `Invalid`.
    pub fn position_in(&self, log: LogId) -> Result<i64> {
        if self.log == log {
            return Ok(self.position);
        }
        Err(Error::invalid(format!(
            "the checkpoint is of log {}, this store's log is {log}; start again from the beginning or give a \
             checkpoint of this store",
            self.log
        )))
    }
}

impl Checkpoint {
    /// The position to read on after, if this log may have returned the checkpoint: it is of this log and not beyond the
    /// last position given to any tenant; else `Invalid`.
    pub fn position_within(&self, log: LogId, end: i64) -> Result<i64> {
        let position = self.position_in(log)?;
        if position <= end {
            return Ok(position);
        }
        Err(Error::invalid(format!(
            "the checkpoint is at position {position}, the log ends at {end} and never returned it; if the database was \
             restored from an older copy, start again from the beginning or from a checkpoint of that time"
        )))
    }
}

impl PartialOrd for Checkpoint {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.log == other.log).then(|| self.position.cmp(&other.position))
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c1.{}.{}", self.log, self.position)
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Checkpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || {
            Error::invalid("not a checkpoint; allowed is text that this store returned, c1.<log>.<position>")
        };
        let mut parts = text.split('.');
        let (format, log, position) = (parts.next(), parts.next(), parts.next());
        let (Some("c1"), Some(log), Some(position), None) = (format, log, position, parts.next()) else {
            return Err(refuse());
        };
        let log = Uuid::try_parse(log).map_err(|_| refuse())?;
        let made = Self::new(LogId(log), position.parse().map_err(|_| refuse())?)?;
        // One spelling only, so that equal checkpoints are equal text.
        if made.to_string() == text { Ok(made) } else { Err(refuse()) }
    }
}

impl Serialize for Checkpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checkpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    // E62: text and back, order kept, unknown formats refused.
    #[test]
    fn checkpoints_survive_their_text_and_keep_their_order() {
        let log = LogId(Uuid::from_u128(7));
        let (a, b) = (Checkpoint::new(log, 9).unwrap(), Checkpoint::new(log, 10).unwrap());
        assert!(a < b);
        assert_eq!(a.to_string().parse::<Checkpoint>().unwrap(), a);
        let other = Checkpoint::start(LogId(Uuid::from_u128(8)));
        assert_eq!(a.partial_cmp(&other), None);
        assert_eq!(other.position_in(log).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn other_text_is_not_a_checkpoint() {
        let log = "00000000000000000000000000000007";
        for bad in [
            "",
            "c1",
            "c2.{}.1",
            "c1.{}.-1",
            "c1.{}.01",
            "c1.{}.+1",
            "c1.{}.1.1",
            "c1.{}.",
            "C1.{}.1",
            "c1.x.1",
        ] {
            let text = bad.replace("{}", log);
            assert_eq!(text.parse::<Checkpoint>().unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }
}
