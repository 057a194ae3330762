//! Playbooks, their versions and vectors.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::sha256_hex;
use crate::error::{Error, Result};
use crate::text::Text;
use crate::time::Timestamp;
use crate::words::words;

/// The id of a playbook, 1 to 255 characters.
pub type PlaybookId = Text<255>;

words!(
    /// Where a version stands in its life.
    Status, "status" {
        /// Offered.
        Active = "active",
        /// Not offered for now.
        Disabled = "disabled",
        /// Replaced by something better.
        Deprecated = "deprecated",
        /// Kept for the record only.
        Archived = "archived",
    }
);

/// A semantic version, kept as written (`v1.10.0`, `1.10.0`), ordered by meaning; spellings of one version (with and
/// without `v`, other build part) are ordered by their text behind that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlaybookVersion {
    text: Box<str>,
    parsed: semver::Version,
}

impl PlaybookVersion {
    /// Parses `1.2.3` or `v1.2.3`, with pre-release and build parts; at most 255 characters. Else `Invalid`.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text: String = text.into();
        let parsed = semver::Version::parse(text.strip_prefix('v').unwrap_or(&text));
        match parsed {
            Ok(parsed) if text.len() <= 255 => Ok(Self { text: text.into(), parsed }),
            _ => Err(Error::invalid(
                "version is not a semantic version of at most 255 characters, like v1.10.0",
            )),
        }
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Ord for PlaybookVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parsed.cmp_precedence(&other.parsed).then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for PlaybookVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for PlaybookVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for PlaybookVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for PlaybookVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A share of 0 to 1 with three decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u16);

impl Rate {
    /// From thousandths. `Invalid` above 1000.
    pub fn from_thousandths(thousandths: u16) -> Result<Self> {
        if thousandths <= 1_000 {
            return Ok(Self(thousandths));
        }
        Err(Error::invalid(format!("rate is {thousandths} thousandths, 0 to 1000 are allowed")))
    }

    /// In thousandths.
    pub fn thousandths(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse =
            || Error::invalid(format!("rate is {text:?}, allowed is 0 to 1 with at most three decimals"));
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() != 1 || decimals.len() > 3 || !plain(whole) || !plain(decimals) {
            return Err(refuse());
        }
        let thousandths = format!("{whole}{decimals:0<3}").parse().map_err(|_| refuse())?;
        Self::from_thousandths(thousandths).map_err(|_| refuse())
    }
}

/// A vector of 384 finite numbers.
#[derive(Clone, PartialEq)]
pub struct Embedding(Box<[f32]>);

impl Embedding {
    /// The length of every vector.
    pub const LEN: usize = 384;

    /// `Invalid` for another length, NaN or infinities. A zero vector is allowed: it is near to nothing.
    pub fn new(numbers: impl Into<Box<[f32]>>) -> Result<Self> {
        let numbers = numbers.into();
        if numbers.len() != Self::LEN {
            return Err(Error::invalid(format!(
                "the vector has {} numbers, {} are needed",
                numbers.len(),
                Self::LEN
            )));
        }
        if let Some(at) = numbers.iter().position(|number| !number.is_finite()) {
            return Err(Error::invalid(format!("number {at} of the vector is not finite")));
        }
        Ok(Self(numbers))
    }

    /// The numbers.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// Cosine similarity held to 0..=1, computed in double precision; 0 if either vector is zero.
    pub fn confidence(&self, other: &Self) -> f64 {
        let (mut dot, mut own, mut others) = (0.0, 0.0, 0.0);
        for (a, b) in self.0.iter().zip(&other.0) {
            let (a, b) = (f64::from(*a), f64::from(*b));
            dot += a * b;
            own += a * a;
            others += b * b;
        }
        if own == 0.0 || others == 0.0 {
            return 0.0;
        }
        // One root of the product: equal vectors give exactly 1.
        (dot / (own * others).sqrt()).clamp(0.0, 1.0)
    }
}

impl fmt::Debug for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Embedding(384)")
    }
}

/// A version of a playbook to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPlaybook {
    /// The playbook.
    pub playbook_id: PlaybookId,
    /// The version.
    pub version: PlaybookVersion,
    /// What it is called.
    pub name: Text<255>,
    /// What it is for.
    pub description: String,
    /// Who owns it.
    pub owner: Option<Text<255>>,
    /// Who maintains it.
    pub maintainer: Option<Text<255>>,
    /// The text itself; every byte is kept.
    pub content: String,
    /// SHA-256 of the content in hex; `None`: computed.
    pub content_hash: Option<String>,
    /// Labels by key.
    pub labels: BTreeMap<String, String>,
    /// Its vector; `None`: made when it is searched for.
    pub embedding: Option<Embedding>,
    /// Where it stands.
    pub status: Status,
    /// Whether it is the latest from now on.
    pub is_latest: bool,
    /// The version before.
    pub previous_version: Option<PlaybookVersion>,
    /// Notes on this version.
    pub version_notes: Option<String>,
    /// What changed.
    pub change_summary: Option<String>,
    /// Who approved it.
    pub approved_by: Option<Text<255>>,
    /// When.
    pub approved_at: Option<Timestamp>,
    /// What success is expected.
    pub expected_success_rate: Option<Rate>,
    /// How long it is expected to take, in seconds.
    pub expected_duration_seconds: Option<u32>,
    /// When it was made; `None`: when the store records it.
    pub created_at: Option<Timestamp>,
    /// By whom.
    pub created_by: Option<Text<255>>,
}

impl NewPlaybook {
    /// The longest content, in bytes.
    pub const MAX_CONTENT: usize = 4 * 1024 * 1024;
    /// The longest description and notes, in characters.
    pub const MAX_TEXT: usize = 65_536;
    /// The most labels.
    pub const MAX_LABELS: usize = 100;

    /// SHA-256 of the content, in hex.
    pub fn hash(&self) -> String {
        sha256_hex(self.content.as_bytes())
    }

    /// The rules every backend applies first: no NUL anywhere, lengths (`TooLarge` for content), label keys not empty,
    /// a given hash right.
    pub fn validate(&self) -> Result<()> {
        if self.content.len() > Self::MAX_CONTENT {
            let (found, allowed) = (self.content.len() as u64, Self::MAX_CONTENT as u64);
            return Err(Error::too_large("content", found, allowed, "bytes"));
        }
        check_nul("content", &self.content)?;
        check_text("description", &self.description)?;
        for (field, text) in
            [("version_notes", &self.version_notes), ("change_summary", &self.change_summary)]
        {
            text.as_ref().map_or(Ok(()), |text| check_text(field, text))?;
        }
        check_labels(&self.labels)?;
        if self.content_hash.as_ref().is_some_and(|given| *given != self.hash()) {
            return Err(Error::invalid("content_hash is not the SHA-256 (hex, lower case) of the content"));
        }
        Ok(())
    }
}

fn check_nul(field: &str, text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(Error::invalid(format!("{field} holds a NUL character, which cannot be stored")));
    }
    Ok(())
}

/// No NUL, at most [`NewPlaybook::MAX_TEXT`] characters.
pub(super) fn check_text(field: &str, text: &str) -> Result<()> {
    check_nul(field, text)?;
    let found = text.chars().count();
    if found > NewPlaybook::MAX_TEXT {
        let allowed = NewPlaybook::MAX_TEXT;
        return Err(Error::invalid(format!("{field} has {found} characters, at most {allowed} are allowed")));
    }
    Ok(())
}

/// Labels that a version can have.
pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<()> {
    if labels.len() > NewPlaybook::MAX_LABELS {
        let (found, allowed) = (labels.len() as u64, NewPlaybook::MAX_LABELS as u64);
        return Err(Error::too_large("the playbook", found, allowed, "labels"));
    }
    for (key, value) in labels {
        Text::<255>::new("label key", key.as_str())?;
        if value.contains('\0') || value.chars().count() > 255 {
            return Err(Error::invalid(format!(
                "label {key:?}: a value has at most 255 characters and no NUL"
            )));
        }
    }
    Ok(())
}

/// A version of a playbook as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Playbook {
    /// What never changes, and the lifecycle as it stands now. Its `content_hash` and `created_at` are always there.
    pub playbook: NewPlaybook,
    /// When, by whom and why it was disabled.
    pub disabled: Option<(Timestamp, Option<Text<255>>, Option<String>)>,
    /// Why it is deprecated.
    pub deprecation_notice: Option<String>,
    /// What success was seen.
    pub actual_success_rate: Option<Rate>,
    /// How often it ran.
    pub total_executions: u64,
    /// How often with success.
    pub successful_executions: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When lifecycle or figures changed last; at first, when the store stored it.
    pub updated_at: Timestamp,
    /// By whom; nobody yet at first.
    pub updated_by: Option<Text<255>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    // S3-PB-011, X-EDGE-071, DEF-24
    #[test]
    fn versions_are_ordered_by_meaning_and_keep_their_spelling() {
        let mut versions: Vec<_> = ["v1.10.0", "1.2.0", "v1.9.0", "v1.10.0-rc.1"]
            .map(|text| PlaybookVersion::new(text).unwrap())
            .into();
        versions.sort();
        let texts: Vec<_> = versions.iter().map(PlaybookVersion::as_str).collect();
        assert_eq!(texts, ["1.2.0", "v1.9.0", "v1.10.0-rc.1", "v1.10.0"]);
        for bad in ["", "v", "1.2", "vv1.2.3", "01.2.3", "latest"] {
            assert_eq!(PlaybookVersion::new(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    // S3-PB-003
    #[test]
    fn rates_have_three_decimals_within_zero_and_one() {
        for (text, shown) in [("0", "0.000"), ("1", "1.000"), ("0.5", "0.500"), ("0.987", "0.987")] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), shown);
        }
        for bad in ["1.001", "2", "-0.1", "0.1234", "", ".5", "1e-1", "+1"] {
            assert_eq!(bad.parse::<Rate>().unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    // S3-PB-019, X-EDGE-076: opposite and zero vectors give 0, not a negative number or NaN.
    #[test]
    fn confidence_is_held_to_zero_and_one() {
        let vector = |first: f32| {
            let mut numbers = vec![0.0; Embedding::LEN];
            numbers[0] = first;
            Embedding::new(numbers).unwrap()
        };
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(close(vector(2.0).confidence(&vector(3.0)), 1.0));
        assert!(close(vector(2.0).confidence(&vector(-3.0)), 0.0));
        assert!(close(vector(0.0).confidence(&vector(1.0)), 0.0));
        assert_eq!(Embedding::new(vec![0.0; 383]).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(Embedding::new(vec![f32::NAN; 384]).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
